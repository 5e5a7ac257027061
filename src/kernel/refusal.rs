//! Refusals: why a request is not carried out, and whether a failed create is final or worth a
//! retry. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{Reason, result::truncate},
    items::redact::redact,
};

/// Why a request is not carried out. Final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason code.
    pub reason: Reason,
    /// What is wrong, where, and what to do.
    pub message: String,
}

impl Refusal {
    /// Creates a refusal.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// The run's schedule has already started another run for the same tick.
    #[must_use]
    pub fn tick_repeated(schedule: &str) -> Self {
        Self::new(
            Reason::TickRepeated,
            format!(
                "nothing is to be done: schedule {schedule} had started another run for this tick, and a process of the operator that had been stopped created this one late"
            ),
        )
    }

    /// The run's workspace run had ended when the run was created.
    #[must_use]
    pub fn created_late(workspace_run: &str) -> Self {
        Self::new(
            Reason::CreatedLate,
            format!(
                "nothing is to be done: workspace run {workspace_run} had ended or was deleted before this run started"
            ),
        )
    }

    /// The namespace is not a tenant.
    #[must_use]
    pub fn not_a_tenant(namespace: &str) -> Self {
        Self::new(
            Reason::NotATenant,
            format!(
                "namespace {namespace} is not a tenant: an administrator makes it one with `kubectl label namespace {namespace} tenantatlas.io/workspace=<workspace>`"
            ),
        )
    }
}

/// Why an object was not created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateFailure {
    /// An object of this name exists.
    Taken,
    /// The namespace is terminating or gone: nothing can be created in it.
    NamespaceTerminating,
    /// A quota has no room for the object. Holds the API server's message, redacted.
    OverQuota(String),
    /// The API server rejects the same request until a user changes something. Holds its message,
    /// redacted.
    Refused(String),
    /// The failure may pass: too many requests, a server error, no response.
    Fault,
}

impl CreateFailure {
    /// Classifies the error of a create.
    #[must_use]
    pub fn of(error: &kube::Error) -> Self {
        let kube::Error::Api(status) = error else { return Self::Fault };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        if causes.iter().any(|cause| cause.reason == "NamespaceTerminating") || status.is_not_found() {
            return Self::NamespaceTerminating;
        }
        if status.is_already_exists() {
            return Self::Taken;
        }
        let says = || truncate(&redact(&status.message), 1000);
        match status.code {
            403 if of_quota(&status.message) => Self::OverQuota(says()),
            400 | 403 | 422 => Self::Refused(says()),
            _ => Self::Fault,
        }
    }
}

/// Why the API server rejects a run that is due, as a message for the object that the run is for.
/// `None` if the failure may pass by itself. `meanwhile` says what happens to the run.
#[must_use]
pub fn of_due_run(error: &kube::Error, meanwhile: &str) -> Option<Refusal> {
    let (reason, who, says) = match CreateFailure::of(error) {
        CreateFailure::OverQuota(says) => (Reason::QuotaExceeded, "a quota", says),
        CreateFailure::Refused(says) => (Reason::RunRefused, "the API server", says),
        CreateFailure::Taken | CreateFailure::NamespaceTerminating | CreateFailure::Fault => return None,
    };
    // A long message of the API server must not push out what to do.
    let says = truncate(&says, 600);
    Some(Refusal::new(reason, format!("{who} refuses the run that is due: {says}; fix what refuses it: {meanwhile}")))
}

/// Whether a quota rejects the object: the quota is full, is not counted yet, or is of a kind that
/// the cluster's quota controller does not know.
fn of_quota(message: &str) -> bool {
    ["exceeded quota", "status unknown for quota"].iter().any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn error(code: u16, reason: &str, message: &str, details: &Value) -> kube::Error {
        let status =
            json!({ "status": "Failure", "code": code, "reason": reason, "message": message, "details": details });
        let status: kube::core::Status = serde_json::from_value(status).expect("a status");
        kube::Error::Api(status.boxed())
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn of(code: u16, reason: &str, message: &str, details: Value) -> CreateFailure {
        CreateFailure::of(&error(code, reason, message, &details))
    }

    #[test]
    fn a_run_that_is_due_and_refused_has_a_reason_and_one_that_may_pass_has_none() {
        let refusal = |code, message| of_due_run(&error(code, "Why", message, &json!({})), "it is tried again");
        let quota = refusal(403, "exceeded quota: full").expect("a refusal");
        assert_eq!(quota.reason, Reason::QuotaExceeded);
        assert!(quota.message.contains("full") && quota.message.ends_with("it is tried again"), "{}", quota.message);
        assert_eq!(refusal(422, "denied").map(|refusal| refusal.reason), Some(Reason::RunRefused));
        assert_eq!(refusal(503, "later"), None);
    }

    #[test]
    fn a_refusal_is_final_and_what_may_pass_is_tried_again() {
        let none = || json!({});
        assert_eq!(of(409, "AlreadyExists", "there", none()), CreateFailure::Taken);
        let going = json!({ "causes": [{ "reason": "NamespaceTerminating", "message": "being terminated" }] });
        assert_eq!(of(403, "Forbidden", "being terminated", going), CreateFailure::NamespaceTerminating);
        assert_eq!(of(404, "NotFound", "no namespace", none()), CreateFailure::NamespaceTerminating);
        for words in ["exceeded quota: full, used: 1, limited: 1", "status unknown for quota: full"] {
            assert_eq!(of(403, "Forbidden", words, none()), CreateFailure::OverQuota(words.to_owned()));
        }
        for code in [400, 403, 422] {
            assert_eq!(of(code, "Why", "denied", none()), CreateFailure::Refused("denied".to_owned()), "{code}");
        }
        for (code, reason) in [
            (401, "Unauthorized"),
            (409, "Conflict"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
            (504, "Timeout"),
        ] {
            assert_eq!(of(code, reason, "later", none()), CreateFailure::Fault, "{code}");
        }
        assert_eq!(CreateFailure::of(&kube::Error::LinesCodecMaxLineLengthExceeded), CreateFailure::Fault);
    }
}
