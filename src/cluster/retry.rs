//! Bounded retries of calls that are safe to repeat.
//!
//! They are for reads and for idempotent writes. Every other call fails at once, and its caller
//! decides what to do.

use crate::cluster::client::timed_out;
use backon::{ExponentialBuilder, Retryable};
use kube::Error;
use std::time::Duration;

/// Backoff between attempts: 6 attempts within 5 to 10 s, which outlasts the restart of an API
/// server behind a load balancer. Jitter makes each wait up to twice as long, so that callers that
/// failed together do not retry together.
pub(super) fn waits() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_factor(2.5)
        .with_max_delay(Duration::from_millis(2500))
        .with_max_times(5)
        .with_jitter()
}

/// Whether a failed call may succeed when repeated unchanged.
#[must_use]
pub fn may_pass(error: &Error) -> bool {
    match error {
        // 410 is not included: an expired list is continued in another way.
        Error::Api(status) => matches!(status.code, 408 | 429 | 500 | 502 | 503 | 504),
        // Neither is a timeout: a retry would take just as long.
        Error::HyperError(_) | Error::Service(_) | Error::ReadEvents(_) => !timed_out(error),
        _ => false,
    }
}

/// Retries a call until it succeeds, fails permanently, or has failed six times.
pub async fn retry<T, F, R>(call: F) -> Result<T, Error>
where
    F: FnMut() -> R,
    R: Future<Output = Result<T, Error>>,
{
    let repeats = |error: &Error, after: Duration| {
        tracing::debug!(%error, ?after, "repeating a call to the API server");
    };
    call.retry(waits()).when(may_pass).notify(repeats).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;
    use std::cell::Cell;

    fn failed(code: u16) -> Error {
        Error::Api(Status::failure("made up", "MadeUp").with_code(code).boxed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_passes_is_outlasted() {
        let calls = Cell::new(0);
        let result = retry(|| {
            calls.set(calls.get() + 1);
            let result = if calls.get() < 4 { Err(failed(503)) } else { Ok(7) };
            async { result }
        })
        .await;
        assert_eq!((result.expect("the fourth call"), calls.get()), (7, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_that_stays_ends_after_six_calls_and_a_refusal_at_once() {
        for (code, expected) in [(500, 6), (403, 1), (404, 1), (409, 1), (410, 1), (422, 1)] {
            let calls = Cell::new(0);
            let result: Result<(), _> = retry(|| {
                calls.set(calls.get() + 1);
                async { Err(failed(code)) }
            })
            .await;
            assert!(result.is_err());
            assert_eq!(calls.get(), expected, "status {code}");
        }
    }
}
