//! The order of passes: one at a time for each object, so many in all, each again when it asked for that.

use futures::{Stream, StreamExt, stream, stream::FuturesUnordered};
use kube::runtime::scheduler::{ScheduleRequest, Scheduler, scheduler};
use std::{
    collections::HashSet,
    future::Future,
    hash::Hash,
    pin::{Pin, pin},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

/// Makes a pass for everything in line, until told to end; then waits for the passes that are under way.
///
/// `pass` begins one, or says that there is nothing to do; it ends with when to come again, if at all. What comes into line while a pass is under way gets another
/// one after it; what comes twice before gets one.
pub async fn work<T, P>(
    line: mpsc::UnboundedReceiver<T>,
    concurrency: usize,
    mut ended: watch::Receiver<bool>,
    mut pass: impl FnMut(T) -> Option<P>,
) where
    T: Clone + Eq + Hash,
    P: Future<Output = Option<Duration>>,
{
    let (again, again_line) = mpsc::unbounded_channel();
    let now = |message| ScheduleRequest { message, run_at: Instant::now() };
    let mut due = pin!(scheduler(stream::select(lined_up(line).map(now), lined_up(again_line))));
    let mut under_way = HashSet::new();
    let mut passes = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            // An error means that the sender is gone, and the process with it.
            _ = ended.wait_for(|ended| *ended) => break,
            Some((message, after)) = passes.next(), if !passes.is_empty() => {
                under_way.remove(&message);
                if let Some(after) = after {
                    // The receiver is above.
                    let _ = again.send(ScheduleRequest { message, run_at: Instant::now() + after });
                }
            }
            Some(message) = next(due.as_mut(), &under_way, concurrency) => {
                if let Some(pass) = pass(message.clone()) {
                    under_way.insert(message.clone());
                    passes.push(async move { (message, pass.await) });
                }
            }
        }
    }
    while passes.next().await.is_some() {}
}

/// The next one due that is not under way. When as many are as may be, none is; but what comes into line is still
/// sorted, so that what comes twice counts once.
async fn next<T, S>(due: Pin<&mut Scheduler<T, S>>, under_way: &HashSet<T>, concurrency: usize) -> Option<T>
where
    T: Clone + Eq + Hash,
    S: Stream<Item = ScheduleRequest<T>>,
{
    if under_way.len() < concurrency {
        due.hold_unless(|message| !under_way.contains(message)).next().await
    } else {
        due.hold().next().await
    }
}

fn lined_up<T>(line: mpsc::UnboundedReceiver<T>) -> impl Stream<Item = T> {
    stream::unfold(line, |mut line| async move { line.recv().await.map(|next| (next, line)) })
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
            tokio::time::sleep(Duration::from_secs(60)).await;
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
}
