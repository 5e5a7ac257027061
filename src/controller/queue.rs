//! The order of passes: round robin over namespaces, first in, first out within one ([`Turns`]); one at a time for each object,
//! at most so many at once, each again when it asked for that. Why it is our own: ADR 34.
//!
//! The order matters when there is more to do than the API server takes: whoever came first must not wait for all who
//! came after, and no tenant for all that another one has touched. Two things come before others all the same. Of an object,
//! what cannot wait: a pass is told that others wait behind it, and may leave the rest for when they had their turn
//! ([`Again::Last`]). And one line may go before another ([`Rush`]): when thousands of schedules are due at once, their runs
//! are on record before any of them is worked on.

use super::{error::RetryClass, turns::Turns};
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

/// When an object comes again by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// Not at all.
    Never,
    /// So much later.
    After(Duration),
    /// When nobody else is in line.
    Last,
    /// After a failure: when the class says so, but not before so much later.
    Retry(RetryClass, Duration),
}

impl From<Option<Duration>> for Again {
    fn from(after: Option<Duration>) -> Self {
        after.map_or(Self::Never, Self::After)
    }
}

/// Whether somebody waits behind an object whose pass begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Nobody.
    Nobody,
    /// Others. What can wait may be left for [`Again::Last`].
    Others,
}

/// How long a line waits for one that goes before it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Since when more stand in a line than have their passes; none: they have.
#[derive(Debug, Default)]
pub struct Rush(watch::Sender<Option<Instant>>);

/// How a line stands to another one.
#[derive(Clone, Copy, Debug)]
pub enum Precedence<'a> {
    /// Not at all.
    None,
    /// It goes before those that wait for this.
    Before(&'a Rush),
    /// It begins nothing while that goes on, for [`PATIENCE`] at most.
    Behind(&'a Rush),
}

impl Precedence<'_> {
    fn tell(self, waiting: bool) {
        if let Self::Before(Rush(since)) = self {
            since.send_if_modified(|since| {
                let changes = since.is_some() != waiting;
                if changes {
                    *since = waiting.then(Instant::now);
                }
                changes
            });
        }
    }

    fn watch(self) -> Option<watch::Receiver<Option<Instant>>> {
        match self {
            Self::Behind(Rush(since)) => Some(since.subscribe()),
            Self::None | Self::Before(_) => None,
        }
    }
}

/// Until when nothing is begun, if nothing changes.
fn held_until(rush: &mut Option<watch::Receiver<Option<Instant>>>) -> Option<Instant> {
    let since = (*rush.as_mut()?.borrow_and_update())?;
    Some(since + PATIENCE).filter(|until| Instant::now() < *until)
}

/// Ends when that may have changed since it was looked at.
async fn changed(rush: &mut Option<watch::Receiver<Option<Instant>>>) {
    // An error means that the line before is gone, and the process with it.
    if let Some(rush) = rush
        && rush.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Makes a pass for everything in line, until told to end; then waits for the passes that are under way.
///
/// `pass` begins one, or says that there is nothing to do; it ends with when to come again, if at all. What comes into
/// line while a pass is under way gets another one after it; what comes twice before gets one.
pub async fn work<T, P>(
    mut line: mpsc::UnboundedReceiver<T>,
    concurrency: usize,
    precedence: Precedence<'_>,
    mut ended: watch::Receiver<bool>,
    namespace_of: fn(&T) -> String,
    mut pass: impl FnMut(T, Behind) -> Option<P>,
) where
    T: Clone + Eq + Hash,
    P: Future<Output = Again>,
{
    let mut order = Order::new(namespace_of);
    let mut passes = FuturesUnordered::new();
    let mut rush = precedence.watch();
    loop {
        // All that came, before anything begins: a burst of events about one object is one pass.
        while let Ok(arrived) = line.try_recv() {
            order.arrive(arrived);
        }
        let held_until = held_until(&mut rush);
        while held_until.is_none()
            && passes.len() < concurrency
            && let Some((next, behind)) = order.begin()
        {
            match pass(next.clone(), behind) {
                Some(pass) => passes.push(async move { (next, pass.await) }),
                None => order.end(next, Again::Never),
            }
        }
        precedence.tell(order.is_waiting());
        let due = order.due();
        tokio::select! {
            biased;
            // An error means that the sender is gone, and the process with it.
            _ = ended.wait_for(|ended| *ended) => break,
            Some((done, again)) = passes.next(), if !passes.is_empty() => order.end(done, again),
            Some(arrived) = line.recv() => order.arrive(arrived),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => order.wake(Instant::now()),
            () = changed(&mut rush), if held_until.is_some() => {}
            () = sleep_until(held_until.unwrap_or_else(Instant::now)), if held_until.is_some() => {}
        }
    }
    precedence.tell(false);
    while passes.next().await.is_some() {}
}

/// Who is next.
struct Order<T> {
    namespace_of: fn(&T) -> String,
    line: Turns<T>,
    /// Those whose turn is when nobody is in `line`.
    last: Turns<T>,
    /// Those in `line` or `last`.
    in_line: HashSet<T>,
    /// Those whose pass is under way, and whether they came again meanwhile.
    under_way: HashMap<T, bool>,
    /// Those whose last pass failed, and how long the next waits are.
    failed: HashMap<T, (RetryClass, ExponentialBackoff)>,
    /// Those that come again by themselves, by time; the number settles ties.
    later: BTreeMap<(Instant, u64), T>,
    /// The key in `later` of each.
    time: HashMap<T, (Instant, u64)>,
    number: u64,
}

impl<T: Clone + Eq + Hash> Order<T> {
    fn new(namespace_of: fn(&T) -> String) -> Self {
        Self {
            namespace_of,
            line: Turns::default(),
            last: Turns::default(),
            in_line: HashSet::new(),
            under_way: HashMap::new(),
            failed: HashMap::new(),
            later: BTreeMap::new(),
            time: HashMap::new(),
            number: 0,
        }
    }

    fn arrive(&mut self, one: T) {
        if let Some(again) = self.under_way.get_mut(&one) {
            *again = true;
            return;
        }
        if let Some(time) = self.time.remove(&one) {
            self.later.remove(&time);
        }
        if self.in_line.insert(one.clone()) {
            self.line.push((self.namespace_of)(&one), one);
        }
    }

    /// The first in line, whose pass is under way from now on.
    fn begin(&mut self) -> Option<(T, Behind)> {
        let one = self.line.pop().or_else(|| self.last.pop())?;
        self.in_line.remove(&one);
        self.under_way.insert(one.clone(), false);
        let behind = if self.line.is_empty() { Behind::Nobody } else { Behind::Others };
        Some((one, behind))
    }

    /// Whether somebody is in line who is not there to come last.
    fn is_waiting(&self) -> bool {
        !self.line.is_empty()
    }

    /// Its pass is at its end. If it came again meanwhile, the next pass says when to come again.
    fn end(&mut self, one: T, again: Again) {
        let came = self.under_way.remove(&one) == Some(true);
        let again = match again {
            Again::Retry(class, least) => Again::After(self.next_wait(&one, class).max(least)),
            again => {
                self.failed.remove(&one);
                again
            }
        };
        match again {
            // Also for what it came for meanwhile: it left something to do.
            Again::Last => {
                self.in_line.insert(one.clone());
                self.last.push((self.namespace_of)(&one), one);
            }
            _ if came => self.arrive(one),
            Again::Never | Again::Retry(..) => {}
            Again::After(after) => {
                let at = Instant::now() + after;
                self.number += 1;
                self.time.insert(one.clone(), (at, self.number));
                self.later.insert((at, self.number), one);
            }
        }
    }

    /// How long one waits that failed: longer each time that it failed in the same way.
    fn next_wait(&mut self, one: &T, class: RetryClass) -> Duration {
        let (before, waits) = self.failed.entry(one.clone()).or_insert_with(|| (class, class.waits().build()));
        if *before != class {
            (*before, *waits) = (class, class.waits().build());
        }
        waits.next().unwrap_or_default()
    }

    /// When somebody comes again.
    fn due(&self) -> Option<Instant> {
        self.later.keys().next().map(|(at, _)| *at)
    }

    fn wake(&mut self, now: Instant) {
        while let Some(first) = self.later.first_entry().filter(|first| first.key().0 <= now) {
            let one = first.remove();
            self.time.remove(&one);
            self.arrive(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex, PoisonError};

    /// Puts these into line, ends when it is empty; what was begun and what was ended, in order.
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
        let work = work(receiver, concurrency, Precedence::None, ended, first_letter, |one, _| {
            begun += 1;
            note(format!("{one}("));
            let (after, log) = (again(begun), log.clone());
            Some(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("){one}"));
                Again::from(after)
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
    async fn what_stands_in_line_twice_gets_one_pass() {
        assert_eq!(worked(&["a", "a"], 4, |_| None).await, ["a(", ")a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_passes_run_at_once_than_are_allowed() {
        let log = worked(&["a", "b", "c"], 1, |_| None).await;
        let balanced = log.chunks(2).all(|pair| pair[0].trim_end_matches('(') == pair[1].trim_start_matches(')'));
        assert!(balanced && log.len() == 6, "{log:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_that_asks_to_come_again_does() {
        let log = worked(&["a"], 4, |begun| (begun < 3).then_some(Duration::from_secs(10))).await;
        assert_eq!(log, ["a(", ")a", "a(", ")a", "a(", ")a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_came_first_is_served_first_however_many_come_after() {
        let names: Vec<&'static str> = (0..50).map(|number| &*format!("a{number}").leak()).collect();
        let log = worked(&names, 1, |_| None).await;
        let begun: Vec<&str> = log.iter().filter_map(|entry| entry.strip_suffix('(')).collect();
        assert_eq!(begun, names[..begun.len()]);
        assert!(begun.len() > 40, "{}", begun.len());
    }

    #[test]
    fn who_comes_while_its_pass_is_under_way_gets_another_and_one_only() {
        let mut order = Order::new(first_letter);
        order.arrive("a");
        assert_eq!(begun(&mut order), Some("a"));
        order.arrive("a");
        order.arrive("a");
        assert_eq!(begun(&mut order), None, "never two passes of one at once");
        order.end("a", Again::After(Duration::ZERO));
        assert_eq!(begun(&mut order), Some("a"));
        order.end("a", Again::Never);
        assert_eq!((begun(&mut order), order.due()), (None, None), "it was not to come again by itself");
    }

    #[test]
    fn what_fails_again_waits_longer_and_not_so_once_it_has_succeeded() {
        let mut order = Order::new(first_letter);
        let mut fail = |again: Again| {
            order.arrive("a");
            assert_eq!(begun(&mut order), Some("a"));
            let now = Instant::now();
            order.end("a", again);
            order.due().map(|due| due - now)
        };
        let fault = |least: u64| Again::Retry(RetryClass::Fault, Duration::from_secs(least));
        for seconds in [1, 2, 4, 8] {
            let wait = fail(fault(0)).expect("it comes again");
            assert!(wait.as_secs() >= seconds && wait.as_secs() <= 2 * seconds, "{wait:?}, {seconds}");
        }
        assert_eq!(fail(fault(100)).map(|wait| wait.as_secs()), Some(100), "what the API server asks for");
        assert!(fail(Again::Retry(RetryClass::Stale, Duration::ZERO)) < Some(Duration::from_secs(1)), "another class");
        assert_eq!(fail(Again::Never), None);
        assert!(fail(fault(0)) <= Some(Duration::from_secs(2)), "it had succeeded");
    }

    #[test]
    fn who_comes_before_its_time_does_not_come_again_at_its_time() {
        let mut order = Order::new(first_letter);
        order.arrive("a");
        order.begin();
        order.end("a", Again::After(Duration::from_secs(9)));
        order.arrive("a");
        assert_eq!((begun(&mut order), order.due()), (Some("a"), None));
        order.end("a", Again::After(Duration::from_secs(9)));
        order.wake(Instant::now() + Duration::from_secs(9));
        assert_eq!(begun(&mut order), Some("a"));
    }

    /// The namespace of a test's object.
    fn first_letter(one: &&'static str) -> String {
        one[..1].to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_tenant_that_touches_all_it_has_delays_another_s_first_by_one_pass() {
        let mut names: Vec<&'static str> = (0..5000).map(|number| &*format!("a{number}").leak()).collect();
        names.push("b");
        let log = worked(&names, 1, |_| None).await;
        assert_eq!(log[..4], ["a0(", ")a0", "b(", ")b"]);
    }

    fn begun(order: &mut Order<&'static str>) -> Option<&'static str> {
        order.begin().map(|(one, _)| one)
    }

    #[test]
    fn who_leaves_something_for_last_has_its_turn_when_nobody_is_in_line_whatever_comes_for_it() {
        let mut order = Order::new(first_letter);
        for one in ["a", "b"] {
            order.arrive(one);
        }
        assert_eq!(order.begin(), Some(("a", Behind::Others)));
        order.arrive("a");
        order.end("a", Again::Last);
        order.arrive("a");
        order.arrive("c");
        assert_eq!(order.begin(), Some(("b", Behind::Others)));
        assert!(order.is_waiting());
        assert_eq!(order.begin(), Some(("c", Behind::Nobody)));
        assert!(!order.is_waiting());
        assert_eq!(order.begin(), Some(("a", Behind::Nobody)));
        order.end("a", Again::Never);
        assert_eq!(order.begin(), None, "one turn for all that it came for");
    }

    /// Two lines with one place each: the one behind has so many, that before it so many, each of a second.
    async fn ended_behind(before: usize) -> Duration {
        let rush = Rush::default();
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
            Again::Never
        };
        let before =
            work(first_line, 1, Precedence::Before(&rush), ended.clone(), usize::to_string, |_, _| Some(a_second()));
        let behind = work(second_line, 1, Precedence::Behind(&rush), ended, usize::to_string, |_, _| {
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
    async fn a_line_waits_for_the_one_before_it_but_not_for_ever() {
        assert_eq!(ended_behind(1).await.as_secs(), 0, "nobody waits there");
        assert_eq!(ended_behind(11).await.as_secs(), 10, "the last one has its pass");
        assert_eq!(ended_behind(500).await, PATIENCE);
    }
}
