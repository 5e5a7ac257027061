//! Faults of a pass. Progress is never an error.

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

impl Error {
    /// How long to wait before the next pass.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Again(_) => Duration::from_millis(100),
            Self::Api(kube::Error::Api(status)) if status.is_conflict() => Duration::from_millis(200),
            Self::Api(kube::Error::Api(status)) if status.is_forbidden() || status.is_invalid() => {
                Duration::from_secs(30)
            }
            Self::Api(_) => Duration::from_secs(2),
            Self::Serialize(_) => Duration::from_mins(5),
        }
    }
}
