//! Faults of a pass. Progress is never an error.

use backon::ExponentialBuilder;
use std::time::Duration;

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused or was not reached.
    #[error("API server: {0}")]
    Api(#[from] kube::Error),
    /// A value of ours does not serialize: a bug.
    #[error("not serializable: {0}")]
    Serialize(#[from] serde_json::Error),
    /// The world moved between reading and writing; the next pass sees it.
    #[error("{0}")]
    Again(&'static str),
}

/// Backoff class of a failed pass. Waits grow with each failure of the same class and are reset by a
/// success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
    /// The view was stale: as soon as the watch may have caught up.
    Stale,
    /// A fault that may pass.
    Fault,
    /// A refusal: an administrator or a tenant has to change something.
    Refused,
    /// A bug of ours.
    Bug,
}

impl RetryClass {
    /// The waits between failures, without end. Each is up to twice as long by chance: what failed
    /// together does not come back together.
    #[must_use]
    pub fn backoff(self) -> ExponentialBuilder {
        let (first, longest) = match self {
            Self::Stale => (Duration::from_millis(100), Duration::from_secs(1)),
            Self::Fault => (Duration::from_secs(1), Duration::from_secs(30)),
            Self::Refused => (Duration::from_secs(10), Duration::from_mins(1)),
            Self::Bug => (Duration::from_mins(5), Duration::from_mins(5)),
        };
        ExponentialBuilder::default()
            .with_min_delay(first)
            .with_factor(2.0)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter()
    }
}

impl Error {
    /// When the pass is tried again.
    #[must_use]
    pub fn class(&self) -> RetryClass {
        match self {
            Self::Again(_) => RetryClass::Stale,
            Self::Api(kube::Error::Api(status)) if status.is_conflict() => RetryClass::Stale,
            Self::Api(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => RetryClass::Refused,
            Self::Api(_) => RetryClass::Fault,
            Self::Serialize(_) => RetryClass::Bug,
        }
    }

    /// The shortest wait that the API server asks for (`retryAfterSeconds` of its answer), if any.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let Self::Api(kube::Error::Api(status)) = self else { return None };
        let seconds = status.details.as_ref()?.retry_after_seconds;
        (seconds > 0).then(|| Duration::from_secs(seconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backon::BackoffBuilder;

    #[test]
    fn waits_grow_with_each_failure_and_are_capped_and_differ_by_chance() {
        for (class, first, longest) in
            [(RetryClass::Stale, 0.1, 1.0), (RetryClass::Fault, 1.0, 30.0), (RetryClass::Refused, 10.0, 60.0)]
        {
            let waits: Vec<f64> = class.backoff().build().take(20).map(|wait| wait.as_secs_f64()).collect();
            assert!((first..=first * 2.0).contains(&waits[0]), "{class:?}: {waits:?}");
            assert!(waits.iter().all(|wait| *wait <= longest * 2.0), "{class:?}: {waits:?}");
            assert!(waits[10..].iter().all(|wait| *wait >= longest), "{class:?}: {waits:?}");
            let others: Vec<f64> = class.backoff().build().take(20).map(|wait| wait.as_secs_f64()).collect();
            assert_ne!(waits, others, "{class:?}");
        }
    }

    #[test]
    fn retry_after_is_the_api_servers_own() {
        let status = serde_json::json!({ "status": "Failure", "code": 429, "details": { "retryAfterSeconds": 7 } });
        let status: kube::core::Status = serde_json::from_value(status).expect("a status");
        let error = Error::Api(kube::Error::Api(status.boxed()));
        assert_eq!((error.class(), error.retry_after()), (RetryClass::Fault, Some(Duration::from_secs(7))));
        assert_eq!(Error::Again("stale").retry_after(), None);
    }
}
