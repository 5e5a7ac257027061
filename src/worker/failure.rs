//! Why a worker failed: a stable code, a message with a remedy, and whether to retry.

use crate::{
    api::reason::worker as reason,
    api::{
        Outcome,
        result::{EXIT_FENCED, EXIT_PERMANENT, EXIT_TRANSIENT, ResultContext, TerminationResult},
    },
    providers::fault::{CallFailed, Fault},
    repository,
};

/// What a retry depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// A retry fails until a user or administrator changes something.
    Permanent,
    /// Like `Permanent`, but nothing was done yet: the run counts as blocked.
    Blocked,
    /// A retry may succeed.
    Transient,
    /// The work was not this worker's to do.
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
    /// What a retry depends on.
    pub retry: Retry,
    /// Results that the operator needs despite the failure.
    pub made: Box<ResultContext>,
}

impl Failure {
    /// A failure that only a change by a user or administrator can fix.
    pub fn permanent(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(reason, message, Retry::Permanent)
    }

    /// A failure that was detectable beforehand: nothing was done.
    pub fn blocked(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(reason, message, Retry::Blocked)
    }

    /// A failure that a retry may fix.
    pub fn transient(reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(reason, message, Retry::Transient)
    }

    /// A failure without results.
    pub fn new(reason: impl Into<String>, message: impl Into<String>, retry: Retry) -> Self {
        Self { reason: reason.into(), message: message.into(), retry, made: Box::default() }
    }

    /// Converts the failure of work that had lost its Lease on the repository by its end. Damage
    /// found then proves nothing: maintenance may have been running, and a reader finds an index
    /// file missing while maintenance replaces it.
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

    /// Exit code of the process.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self.retry {
            Retry::Permanent | Retry::Blocked => EXIT_PERMANENT,
            Retry::Transient => EXIT_TRANSIENT,
            Retry::Fenced => EXIT_FENCED,
        }
    }

    /// Result that the pod reports.
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

/// Failure of a call that the worker depends on. `doing` states its purpose, as in "cannot
/// {doing}".
#[must_use]
pub fn api_failure(doing: &str, error: &kube::Error) -> Failure {
    call_failure(doing, &Fault::from(error))
}

/// The same for a call to a provider.
#[must_use]
pub fn call_failure(doing: &str, fault: &Fault) -> Failure {
    match fault {
        Fault::Refused { code: code @ (400 | 403 | 404 | 405 | 409 | 422), message, .. } => Failure::permanent(
            reason::API_REFUSED,
            format!(
                "cannot {doing}: the API server answers {code} {message}: check that the tenant's accounts and roles are as the chart makes them"
            ),
        ),
        fault => Failure::transient(
            reason::API_UNREACHABLE,
            format!(
                "cannot {doing}: {fault}: it is tried again; check the API server's health and the network policies of the namespace"
            ),
        ),
    }
}

impl From<CallFailed> for Failure {
    fn from(CallFailed { doing, fault }: CallFailed) -> Self {
        call_failure(&doing, &fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
