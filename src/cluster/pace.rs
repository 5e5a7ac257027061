//! Limits the number of calls in flight: fewer when the API server reports too many requests, more
//! again when it does not.
//!
//! A 429 is not a fault of the call, which the server never looked at. So the call is retried for
//! minutes, and the limit is halved. Each full round without a 429 raises the limit by one.

use crate::cluster::retry::{may_pass, waits};
use backon::BackoffBuilder;
use kube::Error;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};

/// How long a call is retried that the API server has no time for.
const PATIENCE: Duration = Duration::from_mins(3);

/// Backoff after a 429: the first wait is twice `SHORTEST`, and it doubles up to `LONGEST`.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// The pace of one worker's calls.
#[derive(Debug)]
pub struct Pace {
    most: usize,
    state: Mutex<State>,
    freed: Notify,
}

#[derive(Debug)]
struct State {
    limit: usize,
    under_way: usize,
    /// Calls in a row that were not answered with 429.
    taken: usize,
    /// How often the limit was lowered.
    round: usize,
}

/// The slot of one call, freed on drop.
struct Place<'a> {
    pace: &'a Pace,
    round: usize,
}

impl Pace {
    /// Creates a pace with at most this many calls in flight.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let most = most.max(1);
        let state = State { limit: most, under_way: 0, taken: 0, round: 0 };
        Self { most, state: Mutex::new(state), freed: Notify::new() }
    }

    /// How many calls may currently be in flight.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.state().limit
    }

    /// Makes a call when a slot is free, and retries it as long as that may help.
    pub async fn call<T, F, R>(&self, mut call: F) -> Result<T, Error>
    where
        F: FnMut() -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut waits = waits().build();
        let mut busy = SHORTEST;
        loop {
            let place = self.place().await;
            let result = call().await;
            let round = place.round;
            drop(place);
            let wait = match &result {
                Err(Error::Api(status)) if status.code == 429 && Instant::now() < deadline => {
                    self.slow_down(round);
                    let asked = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
                    busy = (busy * 2).min(LONGEST);
                    busy.max(Duration::from_secs(asked.into())).min(LONGEST)
                }
                Err(error) if may_pass(error) => match waits.next() {
                    Some(wait) => wait,
                    None => return result,
                },
                _ => {
                    self.speed_up();
                    return result;
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn place(&self) -> Place<'_> {
        loop {
            // Registered before the check, so that a slot freed in between is not missed.
            let freed = self.freed.notified();
            {
                let mut state = self.state();
                if state.under_way < state.limit {
                    state.under_way += 1;
                    return Place { pace: self, round: state.round };
                }
            }
            freed.await;
        }
    }

    fn slow_down(&self, round: usize) {
        let mut state = self.state();
        state.taken = 0;
        // Every call in flight may be answered with 429. The limit is halved once for all of them.
        if state.round == round {
            state.round += 1;
            state.limit = (state.limit / 2).max(1);
            tracing::debug!(limit = state.limit, "the API server has too many requests: fewer at once");
        }
    }

    fn speed_up(&self) {
        let mut state = self.state();
        state.taken += 1;
        if state.taken >= state.limit && state.limit < self.most {
            state.taken = 0;
            state.limit += 1;
            drop(state);
            self.freed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain numbers behind, which are still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pace.state().under_way -= 1;
        self.pace.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{StreamExt, stream};
    use kube::core::Status;
    use std::cell::Cell;

    fn failed(code: u16) -> Error {
        Error::Api(Status::failure("made up", "MadeUp").with_code(code).boxed())
    }

    /// A server that accepts `room` calls at once and answers 429 to the others.
    async fn server(under_way: &Cell<usize>, room: usize) -> Result<(), Error> {
        under_way.set(under_way.get() + 1);
        let fits = under_way.get() <= room;
        tokio::time::sleep(Duration::from_millis(10)).await;
        under_way.set(under_way.get() - 1);
        if fits { Ok(()) } else { Err(failed(429)) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_with_too_many_requests_gets_fewer_at_once_and_every_call_is_made() {
        let (pace, under_way) = (Pace::new(16), Cell::new(0));
        let calls = stream::iter(0..400).map(|_| pace.call(|| server(&under_way, 3))).buffer_unordered(16);
        let results: Vec<_> = calls.collect().await;
        assert!(results.iter().all(Result::is_ok));
        assert!(pace.limit() <= 6, "{}", pace.limit());
        let calls = stream::iter(0..400).map(|_| pace.call(|| server(&under_way, 16))).buffer_unordered(16);
        calls.collect::<Vec<_>>().await;
        assert_eq!(pace.limit(), 16, "it speeds up again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_has_time_is_given_up_and_a_refusal_is_not_repeated() {
        for (code, least, most) in [(429, 10, 100), (503, 6, 6), (403, 1, 1)] {
            let (pace, calls) = (Pace::new(4), Cell::new(0));
            let result: Result<(), _> = pace
                .call(|| {
                    calls.set(calls.get() + 1);
                    async { Err(failed(code)) }
                })
                .await;
            assert!(result.is_err());
            assert!((least..=most).contains(&calls.get()), "status {code}: {} calls", calls.get());
        }
    }
}
