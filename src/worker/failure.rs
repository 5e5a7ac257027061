//! Why a worker ended without having done its work: a stable code, words with a remedy, and whether to try again.

use crate::{
    api::{
        Outcome,
        result::{EXIT_FENCED, EXIT_PERMANENT, EXIT_TRANSIENT, ResultContext, TerminationResult},
    },
    repository,
};

/// Stable codes of the worker itself; a repository's are those of [`repository::Error::reason`]. Never renamed.
pub mod reason {
    /// A variable of the execution contract is missing or cannot be read.
    pub const INVALID_ENVIRONMENT: &str = "InvalidEnvironment";
    /// The inputs are not those of the operation.
    pub const INVALID_INPUTS: &str = "InvalidInputs";
    /// The run is completed, gone or executed by another Job.
    pub const FENCED: &str = "Fenced";
    /// The run is cancelled. The operator's own code for the same.
    pub const CANCELLED: &str = "Cancelled";
    /// The API server does not answer.
    pub const API_UNREACHABLE: &str = "ApiUnreachable";
    /// The API server refuses what the worker cannot do without.
    pub const API_REFUSED: &str = "ApiRefused";
    /// The run's target does not exist.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    /// The run's target is of what is never captured.
    pub const TARGET_NOT_CAPTURED: &str = "TargetNotCaptured";
    /// Nothing is there of what was asked for by name or label.
    pub const NOTHING_SELECTED: &str = "NothingSelected";
    /// Not one item could be read.
    pub const NOTHING_CAPTURED: &str = "NothingCaptured";
    /// The pod was told to stop.
    pub const INTERRUPTED: &str = "Interrupted";
    /// Others use the repository, and what is to be done needs it alone; or its Lease cannot be had.
    pub const REPOSITORY_BUSY: &str = "RepositoryBusy";
    /// The Lease on the repository was lost. [`repository::Error::PermitLost`]'s code.
    pub const PERMIT_LOST: &str = "PermitLost";
    /// A fault of ours.
    pub const INTERNAL: &str = "Internal";
}

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Nothing but a change by somebody.
    Permanent,
    /// The same, and nothing was done yet: the run counts as blocked.
    Blocked,
    /// Time.
    Transient,
    /// It was not this worker's to do.
    Fenced,
}

/// Why the work was not done.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct Failure {
    /// Stable code.
    pub reason: String,
    /// What was wrong, where, and what to do.
    pub message: String,
    /// What may help.
    pub retry: Retry,
    /// What the operator is to know all the same.
    pub made: Box<ResultContext>,
}

impl Failure {
    /// A failure that only a change by somebody helps.
    pub fn permanent(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(reason, message, Retry::Permanent)
    }

    /// What could have been known beforehand: nothing was done.
    pub fn blocked(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(reason, message, Retry::Blocked)
    }

    /// A failure that may pass.
    pub fn transient(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(reason, message, Retry::Transient)
    }

    /// A failure that made nothing.
    pub fn new(reason: impl Into<String>, message: impl Into<String>, retry: Retry) -> Self {
        Self { reason: reason.into(), message: message.into(), retry, made: Box::default() }
    }

    /// The same, of work whose Lease on the repository had been lost by its end. Damage that was found then says nothing: maintenance may
    /// have been at work, and who reads while it replaces index files finds one gone.
    #[must_use]
    pub fn seen_without_lease(self) -> Self {
        if !repository::CODES_OF_THE_CONTENT.contains(&self.reason.as_str()) {
            return self;
        }
        Self::transient(
            reason::PERMIT_LOST,
            format!(
                "the Lease on the repository was lost, and what was found then may be the work of others: it is tried again ({})",
                self.message
            ),
        )
    }

    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.retry {
            Retry::Permanent | Retry::Blocked => EXIT_PERMANENT,
            Retry::Transient => EXIT_TRANSIENT,
            Retry::Fenced => EXIT_FENCED,
        }
    }

    /// What the pod reports.
    #[must_use]
    pub fn to_result(&self) -> TerminationResult {
        TerminationResult {
            outcome: Some(if self.retry == Retry::Blocked { Outcome::Blocked } else { Outcome::Failed }),
            reason: Some(self.reason.clone()),
            message: Some(self.message.clone()),
            context: (*self.made).clone(),
            ..TerminationResult::default()
        }
    }
}

impl From<repository::Error> for Failure {
    fn from(error: repository::Error) -> Self {
        let retry = match error.retry_class() {
            repository::RetryClass::Permanent => Retry::Permanent,
            repository::RetryClass::Transient => Retry::Transient,
        };
        Self::new(error.reason(), error.to_string(), retry)
    }
}

/// A failed call that the worker cannot do without. `doing` says what it was for, as in "cannot {doing}".
#[must_use]
pub fn api_failure(doing: &str, error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 404 | 405 | 409 | 422) => Failure::permanent(
            reason::API_REFUSED,
            format!(
                "cannot {doing}: the API server answers {} {}: check that the tenant's accounts and roles are as the chart makes them",
                status.code, status.message
            ),
        ),
        error => Failure::transient(
            reason::API_UNREACHABLE,
            format!(
                "cannot {doing}: {}: it is tried again; check the API server's health and the network policies of the namespace",
                describe(error)
            ),
        ),
    }
}

/// A failed call in a few words: the API server's own, or the fault's innermost cause.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("the API server answers {}", status.code),
        kube::Error::Api(status) => format!("the API server answers {} {}", status.code, status.message),
        // The parser's own words may quote content, which may be a Secret's.
        kube::Error::SerdeError(_) => "the API server's answer is not what it should be".to_owned(),
        error => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_codes_are_frozen() {
        use reason::*;
        let codes = [
            INVALID_ENVIRONMENT,
            INVALID_INPUTS,
            FENCED,
            CANCELLED,
            API_UNREACHABLE,
            API_REFUSED,
            TARGET_NOT_FOUND,
            TARGET_NOT_CAPTURED,
            NOTHING_SELECTED,
            NOTHING_CAPTURED,
            INTERRUPTED,
            INTERNAL,
            REPOSITORY_BUSY,
        ];
        insta::assert_snapshot!(codes.join("\n"));
        let guide = include_str!("../../docs/guides/operations.md");
        for code in codes {
            assert!(guide.contains(&format!("`{code}`")), "the guide does not say what to do about {code}");
        }
    }

    #[test]
    fn exit_codes_follow_the_contract() {
        assert_eq!(Failure::permanent("A", "b").exit_code(), 40);
        assert_eq!(Failure::transient("A", "b").exit_code(), 1);
        let fenced = Failure { retry: Retry::Fenced, ..Failure::permanent("A", "b") };
        assert_eq!(fenced.exit_code(), 49);
        assert_eq!(fenced.to_result().outcome, Some(Outcome::Failed));
    }

    #[test]
    fn damage_that_was_seen_without_a_lease_is_no_damage() {
        let seen = |reason: &str| Failure::permanent(reason, "what was seen").seen_without_lease();
        let lost = seen("Damaged");
        assert_eq!((lost.reason.as_str(), lost.exit_code()), ("PermitLost", 1));
        assert!(lost.message.contains("what was seen"), "{lost}");
        assert_eq!(seen("WrongPassword").reason, "WrongPassword");
    }

    #[test]
    fn a_refusal_is_permanent_and_an_outage_is_not() {
        let status = |code| kube::Error::Api(kube::core::Status::failure("why", "x").with_code(code).boxed());
        assert_eq!(api_failure("read x", &status(403)).retry, Retry::Permanent);
        for code in [401, 429, 500, 503] {
            assert_eq!(api_failure("read x", &status(code)).retry, Retry::Transient, "{code}");
        }
    }
}
