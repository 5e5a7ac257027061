//! The work queue: round robin over namespaces, FIFO within one ([`RoundRobin`]). One reconcile per
//! object, at most `concurrency` in flight, with delayed requeue. ADR 34 says why it is our own.
//!
//! The order matters when there is more to do than the API server takes: an object must not wait
//! for all that came after it, and no tenant for everything that another one touched. Two
//! exceptions: a reconcile knows whether others wait, and may leave what is not urgent for later
//! ([`Requeue::WhenIdle`]); and one queue may take precedence over another ([`Precedence`]): when
//! thousands of schedules are due at once, all their runs are created before any of them is
//! reconciled.

use super::{error::RetryClass, round_robin::RoundRobin};
use backon::{BackoffBuilder, ExponentialBackoff};
use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    future::Future,
    hash::Hash,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// When an object is reconciled again though nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Not at all.
    No,
    /// After a delay.
    After(Duration),
    /// When no other object waits.
    WhenIdle,
    /// After a failure: with the backoff of its class, and no sooner than this delay.
    Retry(RetryClass, Duration),
}

impl From<Option<Duration>> for Requeue {
    fn from(after: Option<Duration>) -> Self {
        after.map_or(Self::No, Self::After)
    }
}

/// Whether other objects wait in the queue when a reconcile begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// None does.
    None,
    /// Some do: what is not urgent may be left for [`Requeue::WhenIdle`].
    Waiting,
}

/// The longest time that a queue waits for the one which takes precedence over it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Since when a queue has had a backlog; none: it has none.
#[derive(Debug, Default)]
pub struct Backlog(watch::Sender<Option<Instant>>);

/// The precedence between two queues.
#[derive(Clone, Copy, Debug)]
pub enum Precedence<'a> {
    /// None.
    None,
    /// This queue goes first, and publishes its backlog.
    First(&'a Backlog),
    /// This queue starts nothing while the other one has a backlog, for [`PATIENCE`] at most.
    Second(&'a Backlog),
}

impl Precedence<'_> {
    fn publish(self, waiting: bool) {
        if let Self::First(Backlog(since)) = self {
            since.send_if_modified(|since| {
                let changes = since.is_some() != waiting;
                if changes {
                    *since = waiting.then(Instant::now);
                }
                changes
            });
        }
    }

    fn subscribe(self) -> Option<watch::Receiver<Option<Instant>>> {
        match self {
            Self::Second(Backlog(since)) => Some(since.subscribe()),
            Self::None | Self::First(_) => None,
        }
    }
}

/// Until when nothing is started, if nothing changes.
fn held_until(backlog: &mut Option<watch::Receiver<Option<Instant>>>) -> Option<Instant> {
    let since = (*backlog.as_mut()?.borrow_and_update())?;
    Some(since + PATIENCE).filter(|until| Instant::now() < *until)
}

/// Ends when the backlog may have changed since it was looked at.
async fn changed(backlog: &mut Option<watch::Receiver<Option<Instant>>>) {
    // An error means that the other queue is gone, and the process with it.
    if let Some(backlog) = backlog
        && backlog.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Reconciles everything that is added, until told to end; then waits for what is in flight.
///
/// `reconcile` starts one, or says that there is nothing to do; it ends with when to requeue the
/// object. An object that is added while it is in flight is reconciled once more afterwards. One
/// that is added twice before it starts is reconciled once.
pub async fn run<T, P>(
    mut added: mpsc::UnboundedReceiver<T>,
    concurrency: usize,
    precedence: Precedence<'_>,
    mut ended: watch::Receiver<bool>,
    namespace_of: fn(&T) -> String,
    mut reconcile: impl FnMut(T, Others) -> Option<P>,
) where
    T: Clone + Eq + Hash,
    P: Future<Output = Requeue>,
{
    let mut queue = Queue::new(namespace_of);
    let mut in_flight = FuturesUnordered::new();
    let mut backlog = precedence.subscribe();
    loop {
        // Drained before anything starts: a burst of events about one object is one reconcile.
        while let Ok(object) = added.try_recv() {
            queue.add(object);
        }
        let held_until = held_until(&mut backlog);
        while held_until.is_none()
            && in_flight.len() < concurrency
            && let Some((next, others)) = queue.start()
        {
            match reconcile(next.clone(), others) {
                Some(pass) => in_flight.push(async move { (next, pass.await) }),
                None => queue.done(next, Requeue::No),
            }
        }
        precedence.publish(queue.is_waiting());
        let due = queue.due();
        tokio::select! {
            biased;
            // An error means that the sender is gone, and the process with it.
            _ = ended.wait_for(|ended| *ended) => break,
            Some((object, requeue)) = in_flight.next(), if !in_flight.is_empty() => queue.done(object, requeue),
            Some(object) = added.recv() => queue.add(object),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => queue.add_due(Instant::now()),
            () = changed(&mut backlog), if held_until.is_some() => {}
            () = sleep_until(held_until.unwrap_or_else(Instant::now)), if held_until.is_some() => {}
        }
    }
    precedence.publish(false);
    while in_flight.next().await.is_some() {}
}

/// What waits, what is in flight, and what is delayed.
struct Queue<T> {
    namespace_of: fn(&T) -> String,
    waiting: RoundRobin<T>,
    /// Objects that are started when `waiting` is empty.
    idle: RoundRobin<T>,
    /// Objects in `waiting` or `idle`.
    queued: HashSet<T>,
    /// Objects in flight, and whether they were added again meanwhile.
    in_flight: HashMap<T, bool>,
    /// The backoff of objects whose last reconcile failed.
    backoff: HashMap<T, (RetryClass, ExponentialBackoff)>,
    /// Delayed objects, by the time at which they are added; the number settles ties.
    delayed: BTreeMap<(Instant, u64), T>,
    /// The key in `delayed` of each.
    due_at: HashMap<T, (Instant, u64)>,
    number: u64,
}

impl<T: Clone + Eq + Hash> Queue<T> {
    fn new(namespace_of: fn(&T) -> String) -> Self {
        Self {
            namespace_of,
            waiting: RoundRobin::default(),
            idle: RoundRobin::default(),
            queued: HashSet::new(),
            in_flight: HashMap::new(),
            backoff: HashMap::new(),
            delayed: BTreeMap::new(),
            due_at: HashMap::new(),
            number: 0,
        }
    }

    fn add(&mut self, object: T) {
        if let Some(again) = self.in_flight.get_mut(&object) {
            *again = true;
            return;
        }
        if let Some(due) = self.due_at.remove(&object) {
            self.delayed.remove(&due);
        }
        if self.queued.insert(object.clone()) {
            self.waiting.push((self.namespace_of)(&object), object);
        }
    }

    /// Takes the next object, which is in flight from then on.
    fn start(&mut self) -> Option<(T, Others)> {
        let object = self.waiting.pop().or_else(|| self.idle.pop())?;
        self.queued.remove(&object);
        self.in_flight.insert(object.clone(), false);
        let others = if self.waiting.is_empty() { Others::None } else { Others::Waiting };
        Some((object, others))
    }

    /// Whether an object waits that is not deferred until the queue is idle.
    fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Ends a reconcile. If the object was added meanwhile it waits at once, and the next reconcile
    /// says when to requeue it.
    fn done(&mut self, object: T, requeue: Requeue) {
        let added = self.in_flight.remove(&object) == Some(true);
        let delay = match requeue {
            Requeue::Retry(class, least) => Some(self.next_backoff(&object, class).max(least)),
            Requeue::After(delay) => Some(delay),
            Requeue::No | Requeue::WhenIdle => None,
        };
        if !matches!(requeue, Requeue::Retry(..)) {
            self.backoff.remove(&object);
        }
        if requeue == Requeue::WhenIdle {
            // Also if it was added meanwhile: it left something to do.
            self.queued.insert(object.clone());
            self.idle.push((self.namespace_of)(&object), object);
        } else if added {
            self.add(object);
        } else if let Some(delay) = delay {
            let at = Instant::now() + delay;
            self.number += 1;
            self.due_at.insert(object.clone(), (at, self.number));
            self.delayed.insert((at, self.number), object);
        }
    }

    /// How long an object waits that failed: longer each time that it failed in the same way.
    fn next_backoff(&mut self, object: &T, class: RetryClass) -> Duration {
        let (before, backoff) = self.backoff.entry(object.clone()).or_insert_with(|| (class, class.backoff().build()));
        if *before != class {
            (*before, *backoff) = (class, class.backoff().build());
        }
        backoff.next().unwrap_or_default()
    }

    /// When the next delayed object is to be added.
    fn due(&self) -> Option<Instant> {
        self.delayed.keys().next().map(|(at, _)| *at)
    }

    fn add_due(&mut self, now: Instant) {
        while let Some(first) = self.delayed.first_entry().filter(|first| first.key().0 <= now) {
            let object = first.remove();
            self.due_at.remove(&object);
            self.add(object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, PoisonError};

    /// Queues these objects and runs the queue for a minute. Returns the log of starts and ends, in
    /// order.
    async fn worked(
        line: &[&'static str],
        concurrency: usize,
        again: impl Fn(usize) -> Option<Duration>,
    ) -> Vec<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for one in line {
            sender.send(*one).expect("a receiver");
        }
        let (end, ended) = watch::channel(false);
        let log = Arc::new(Mutex::new(Vec::new()));
        let note = |text: String| log.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        let mut begun = 0;
        let work = run(receiver, concurrency, Precedence::None, ended, first_letter, |one, _| {
            begun += 1;
            note(format!("{one}("));
            let (after, log) = (again(begun), log.clone());
            Some(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("){one}"));
                Requeue::from(after)
            })
        });
        let stop = async {
            tokio::time::sleep(Duration::from_mins(1)).await;
            end.send(true).expect("a receiver");
        };
        tokio::join!(work, stop);
        log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_is_added_twice_is_reconciled_once() {
        assert_eq!(worked(&["a", "a"], 4, |_| None).await, ["a(", ")a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_are_in_flight_than_are_allowed() {
        let log = worked(&["a", "b", "c"], 1, |_| None).await;
        let balanced = log.chunks(2).all(|pair| pair[0].trim_end_matches('(') == pair[1].trim_start_matches(')'));
        assert!(balanced && log.len() == 6, "{log:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_asks_to_be_requeued_is() {
        let log = worked(&["a"], 4, |begun| (begun < 3).then_some(Duration::from_secs(10))).await;
        assert_eq!(log, ["a(", ")a", "a(", ")a", "a(", ")a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_added_first_is_reconciled_first_however_much_is_added_after() {
        let names: Vec<&'static str> = (0..50).map(|number| &*format!("a{number}").leak()).collect();
        let log = worked(&names, 1, |_| None).await;
        let begun: Vec<&str> = log.iter().filter_map(|entry| entry.strip_suffix('(')).collect();
        assert_eq!(begun, names[..begun.len()]);
        assert!(begun.len() > 40, "{}", begun.len());
    }

    #[test]
    fn what_is_added_while_it_is_in_flight_is_reconciled_once_more() {
        let mut queue = Queue::new(first_letter);
        queue.add("a");
        assert_eq!(begun(&mut queue), Some("a"));
        queue.add("a");
        queue.add("a");
        assert_eq!(begun(&mut queue), None, "never two passes of one at once");
        queue.done("a", Requeue::After(Duration::ZERO));
        assert_eq!(begun(&mut queue), Some("a"));
        queue.done("a", Requeue::No);
        assert_eq!((begun(&mut queue), queue.due()), (None, None), "it was not to come again by itself");
    }

    #[test]
    fn backoff_grows_with_each_failure_and_begins_anew_after_a_success() {
        let mut queue = Queue::new(first_letter);
        let mut fail = |again: Requeue| {
            queue.add("a");
            assert_eq!(begun(&mut queue), Some("a"));
            let now = Instant::now();
            queue.done("a", again);
            queue.due().map(|due| due - now)
        };
        let fault = |least: u64| Requeue::Retry(RetryClass::Fault, Duration::from_secs(least));
        for seconds in [1, 2, 4, 8] {
            let wait = fail(fault(0)).expect("it comes again");
            assert!(wait.as_secs() >= seconds && wait.as_secs() <= 2 * seconds, "{wait:?}, {seconds}");
        }
        assert_eq!(fail(fault(100)).map(|wait| wait.as_secs()), Some(100), "what the API server asks for");
        assert!(
            fail(Requeue::Retry(RetryClass::Stale, Duration::ZERO)) < Some(Duration::from_secs(1)),
            "another class"
        );
        assert_eq!(fail(Requeue::No), None);
        assert!(fail(fault(0)) <= Some(Duration::from_secs(2)), "it had succeeded");
    }

    #[test]
    fn what_is_added_before_its_delay_is_over_is_not_added_by_the_delay() {
        let mut queue = Queue::new(first_letter);
        queue.add("a");
        queue.start();
        queue.done("a", Requeue::After(Duration::from_secs(9)));
        queue.add("a");
        assert_eq!((begun(&mut queue), queue.due()), (Some("a"), None));
        queue.done("a", Requeue::After(Duration::from_secs(9)));
        queue.add_due(Instant::now() + Duration::from_secs(9));
        assert_eq!(begun(&mut queue), Some("a"));
    }

    /// Namespace of an object in these tests.
    fn first_letter(one: &&'static str) -> String {
        one[..1].to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_touches_all_its_objects_delays_another_by_one_reconcile() {
        let mut names: Vec<&'static str> = (0..5000).map(|number| &*format!("a{number}").leak()).collect();
        names.push("b");
        let log = worked(&names, 1, |_| None).await;
        assert_eq!(log[..4], ["a0(", ")a0", "b(", ")b"]);
    }

    fn begun(queue: &mut Queue<&'static str>) -> Option<&'static str> {
        queue.start().map(|(one, _)| one)
    }

    #[test]
    fn what_is_deferred_until_the_queue_is_idle_waits_for_that_even_if_it_is_added() {
        let mut queue = Queue::new(first_letter);
        for one in ["a", "b"] {
            queue.add(one);
        }
        assert_eq!(queue.start(), Some(("a", Others::Waiting)));
        queue.add("a");
        queue.done("a", Requeue::WhenIdle);
        queue.add("a");
        queue.add("c");
        assert_eq!(queue.start(), Some(("b", Others::Waiting)));
        assert!(queue.is_waiting());
        assert_eq!(queue.start(), Some(("c", Others::None)));
        assert!(!queue.is_waiting());
        assert_eq!(queue.start(), Some(("a", Others::None)));
        queue.done("a", Requeue::No);
        assert_eq!(queue.start(), None, "one turn for all that it came for");
    }

    /// Two queues with one slot each: the second holds one object, the first `before` objects, and
    /// each reconcile takes a second. Returns when the second queue started its object.
    async fn ended_behind(before: usize) -> Duration {
        let backlog = Backlog::default();
        let (end, ended) = watch::channel(false);
        let (first, first_line) = mpsc::unbounded_channel();
        let (second, second_line) = mpsc::unbounded_channel();
        for number in 0..before {
            first.send(number).expect("a receiver");
        }
        second.send(0).expect("a receiver");
        let begun = Instant::now();
        let second_begun = Mutex::new(None);
        let a_second = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Requeue::No
        };
        let before =
            run(first_line, 1, Precedence::First(&backlog), ended.clone(), usize::to_string, |_, _| Some(a_second()));
        let behind = run(second_line, 1, Precedence::Second(&backlog), ended, usize::to_string, |_, _| {
            second_begun.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(begun.elapsed());
            Some(a_second())
        });
        let stop = async {
            tokio::time::sleep(Duration::from_mins(3)).await;
            end.send(true).expect("a receiver");
        };
        tokio::join!(before, behind, stop);
        second_begun.into_inner().unwrap_or_else(PoisonError::into_inner).expect("it has its turn")
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_waits_for_the_one_that_takes_precedence_but_not_for_ever() {
        assert_eq!(ended_behind(1).await.as_secs(), 0, "nobody waits there");
        assert_eq!(ended_behind(11).await.as_secs(), 10, "the last one has its pass");
        assert_eq!(ended_behind(500).await, PATIENCE);
    }
}
