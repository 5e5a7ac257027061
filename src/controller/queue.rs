//! The order of passes: first come, first served; one at a time for each object, so many in all, each again when it
//! asked for that.
//!
//! The order matters when there is more to do than the API server takes: whoever came first must not wait for all who
//! came after.

use futures::{StreamExt, stream::FuturesUnordered};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    future::Future,
    hash::Hash,
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// Makes a pass for everything in line, until told to end; then waits for the passes that are under way.
///
/// `pass` begins one, or says that there is nothing to do; it ends with when to come again, if at all. What comes into
/// line while a pass is under way gets another one after it; what comes twice before gets one.
pub async fn work<T, P>(
    mut line: mpsc::UnboundedReceiver<T>,
    concurrency: usize,
    mut ended: watch::Receiver<bool>,
    mut pass: impl FnMut(T) -> Option<P>,
) where
    T: Clone + Eq + Hash,
    P: Future<Output = Option<Duration>>,
{
    let mut order = Order::<T>::default();
    let mut passes = FuturesUnordered::new();
    loop {
        // All that came, before anything begins: a burst of events about one object is one pass.
        while let Ok(arrived) = line.try_recv() {
            order.arrive(arrived);
        }
        while passes.len() < concurrency
            && let Some(next) = order.begin()
        {
            match pass(next.clone()) {
                Some(pass) => passes.push(async move { (next, pass.await) }),
                None => order.end(next, None),
            }
        }
        let due = order.due();
        tokio::select! {
            biased;
            // An error means that the sender is gone, and the process with it.
            _ = ended.wait_for(|ended| *ended) => break,
            Some((done, after)) = passes.next(), if !passes.is_empty() => {
                order.end(done, after.map(|after| Instant::now() + after));
            }
            Some(arrived) = line.recv() => order.arrive(arrived),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => order.wake(Instant::now()),
        }
    }
    while passes.next().await.is_some() {}
}

/// Who is next.
struct Order<T> {
    line: VecDeque<T>,
    /// Those in `line`.
    in_line: HashSet<T>,
    /// Those whose pass is under way, and whether they came again meanwhile.
    under_way: HashMap<T, bool>,
    /// Those that come again by themselves, by time; the number settles ties.
    later: BTreeMap<(Instant, u64), T>,
    /// The key in `later` of each.
    time: HashMap<T, (Instant, u64)>,
    number: u64,
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self {
            line: VecDeque::new(),
            in_line: HashSet::new(),
            under_way: HashMap::new(),
            later: BTreeMap::new(),
            time: HashMap::new(),
            number: 0,
        }
    }
}

impl<T: Clone + Eq + Hash> Order<T> {
    fn arrive(&mut self, one: T) {
        if let Some(again) = self.under_way.get_mut(&one) {
            *again = true;
            return;
        }
        if let Some(time) = self.time.remove(&one) {
            self.later.remove(&time);
        }
        if self.in_line.insert(one.clone()) {
            self.line.push_back(one);
        }
    }

    /// The first in line, whose pass is under way from now on.
    fn begin(&mut self) -> Option<T> {
        let one = self.line.pop_front()?;
        self.in_line.remove(&one);
        self.under_way.insert(one.clone(), false);
        Some(one)
    }

    /// Its pass is at its end. If it came again meanwhile, the next pass says when to come again.
    fn end(&mut self, one: T, again_at: Option<Instant>) {
        if self.under_way.remove(&one) == Some(true) {
            self.arrive(one);
        } else if let Some(at) = again_at {
            self.number += 1;
            self.time.insert(one.clone(), (at, self.number));
            self.later.insert((at, self.number), one);
        }
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
        let work = work(receiver, concurrency, ended, |one| {
            begun += 1;
            note(format!("{one}("));
            let (after, log) = (again(begun), log.clone());
            Some(async move {
                tokio::time::sleep(Duration::from_secs(1)).await;
                log.lock().unwrap_or_else(PoisonError::into_inner).push(format!("){one}"));
                after
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
        let names: Vec<&'static str> = (0..50).map(|number| &*format!("{number}").leak()).collect();
        let log = worked(&names, 1, |_| None).await;
        let begun: Vec<&str> = log.iter().filter_map(|entry| entry.strip_suffix('(')).collect();
        assert_eq!(begun, names[..begun.len()]);
        assert!(begun.len() > 40, "{}", begun.len());
    }

    #[test]
    fn who_comes_while_its_pass_is_under_way_gets_another_and_one_only() {
        let mut order = Order::default();
        order.arrive("a");
        assert_eq!(order.begin(), Some("a"));
        order.arrive("a");
        order.arrive("a");
        assert_eq!(order.begin(), None, "never two passes of one at once");
        order.end("a", Some(Instant::now()));
        assert_eq!(order.begin(), Some("a"));
        order.end("a", None);
        assert_eq!((order.begin(), order.due()), (None, None), "it was not to come again by itself");
    }

    #[test]
    fn who_comes_before_its_time_does_not_come_again_at_its_time() {
        let mut order = Order::default();
        order.arrive("a");
        order.begin();
        let at = Instant::now() + Duration::from_secs(9);
        order.end("a", Some(at));
        order.arrive("a");
        assert_eq!((order.begin(), order.due()), (Some("a"), None));
        order.end("a", Some(at));
        order.wake(at);
        assert_eq!(order.begin(), Some("a"));
    }
}
