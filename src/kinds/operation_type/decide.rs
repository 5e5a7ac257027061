//! The status of an operation type. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        OperationType, OperationTypeStatus, Reason,
        conditions::{self, READY, STALLED, Wanted},
    },
    runs::executable::check,
};
use jiff::Timestamp;

/// The status of an operation type.
#[must_use]
pub fn status(operation_type: &OperationType, now: Timestamp) -> OperationTypeStatus {
    let before = operation_type.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let (ready, stalled) = (|status| Wanted { type_: READY, status }, Wanted { type_: STALLED, status: "True" });
    let (wanted, reason, message) = match check(operation_type) {
        Err(refusal) => (vec![ready("False"), stalled], refusal.reason, refusal.message),
        Ok(()) if operation_type.spec.suspend => {
            let message = "new runs are refused while spec.suspend is true";
            (vec![ready("True")], Reason::TypeSuspended, message.to_owned())
        }
        Ok(()) => (vec![ready("True")], Reason::TypeReady, "runs of it can be started".to_owned()),
    };
    let generation = operation_type.metadata.generation;
    OperationTypeStatus {
        observed_generation: generation.unwrap_or_default(),
        conditions: conditions::merge(before, &wanted, reason.as_str(), &message, generation, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::execution::{FENCE_CONTAINER, FENCE_TOKEN_VOLUME};
    use serde_json::{Value, json};

    fn with(spec: &Value) -> OperationType {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType",
            "metadata": { "name": "database.dump", "generation": 2 }, "spec": spec,
        }))
        .expect("a type")
    }

    fn template(pod: &Value) -> OperationType {
        with(&json!({ "executor": { "jobTemplate": { "spec": { "template": { "spec": pod } } } } }))
    }

    /// Status and reason of `Ready`, whether it is stalled, and the message.
    fn said(operation_type: &OperationType) -> (String, String, bool, String) {
        let status = status(operation_type, Timestamp::UNIX_EPOCH);
        assert_eq!(status.observed_generation, 2);
        let ready = status.conditions.iter().find(|condition| condition.type_ == READY).expect("Ready").clone();
        let stalled = status.conditions.iter().any(|condition| condition.type_ == STALLED);
        (ready.status, ready.reason, stalled, ready.message)
    }

    #[track_caller]
    fn assert_invalid(operation_type: &OperationType, words: &str) {
        let (status, reason, stalled, message) = said(operation_type);
        assert_eq!((status.as_str(), reason.as_str(), stalled), ("False", "InvalidType", true));
        assert!(message.contains(words), "{message}");
    }

    #[test]
    fn a_type_is_ready_where_its_schema_compiles_and_its_executor_can_be_made_a_job() {
        let sound = with(
            &json!({ "executor": { "worker": { "command": ["capture"] } }, "inputsSchema": { "type": "object" } }),
        );
        assert_eq!(said(&sound), ("True".into(), "TypeReady".into(), false, "runs of it can be started".into()));
        let containers = json!({ "containers": [{ "name": "a" }, { "name": "b" }] });
        assert_eq!(said(&template(&containers)).0, "True");
    }

    #[test]
    fn a_suspended_type_is_ready_and_says_that_it_is_suspended() {
        let (status, reason, stalled, _) =
            said(&with(&json!({ "suspend": true, "executor": { "worker": { "command": ["capture"] } } })));
        assert_eq!((status.as_str(), reason.as_str(), stalled), ("True", "TypeSuspended", false));
    }

    #[test]
    fn a_type_that_cannot_be_executed_says_why() {
        let worker = json!({ "worker": { "command": ["capture"] } });
        assert_invalid(&with(&json!({ "executor": worker, "inputsSchema": { "type": "nothing" } })), "inputsSchema");
        assert_invalid(&with(&json!({ "executor": {} })), "exactly one");
        assert_invalid(&template(&json!({ "containers": [] })), "no containers");
        for pod in [
            json!({ "containers": [{ "name": "a" }, { "name": "a" }] }),
            json!({ "containers": [{ "name": "a" }], "initContainers": [{ "name": "a" }] }),
            json!({ "containers": [{ "name": FENCE_CONTAINER }] }),
            json!({ "containers": [{ "name": "a" }], "volumes": [{ "name": FENCE_TOKEN_VOLUME }] }),
        ] {
            assert_invalid(&template(&pod), "rename it");
        }
    }

    #[test]
    fn a_second_look_at_the_same_type_changes_nothing() {
        let mut operation_type = template(&json!({ "containers": [] }));
        let first = status(&operation_type, Timestamp::UNIX_EPOCH);
        operation_type.status = Some(first.clone());
        assert_eq!(status(&operation_type, "2026-01-01T00:00:00Z".parse().expect("a time")), first);
    }
}
