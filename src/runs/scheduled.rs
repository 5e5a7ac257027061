//! Objects that the operator creates for others, and names them in `spec.scheduledBy`: runs, and the
//! bulk operations and restores of workspace runs.
//!
//! Only the operator writes that field, so it proves whose such an object is. No label does.

use super::{
    children::{Child, Detail},
    context::Context,
};
use crate::{
    api::{
        BulkOperationRun, ObjectReference, OperationRun, Outcome, Phase, Reason, RestoreRun, WorkspaceRun,
        operation_run::{ScheduledBy, SchedulerKind},
    },
    kernel::{Error, status::read},
};
use kube::{Api, Resource, ResourceExt};

/// A kind with a `spec.scheduledBy`.
pub trait Scheduled: Resource {
    /// For what the object was created.
    fn scheduled_by(&self) -> Option<&ScheduledBy>;

    /// What a workspace run needs to know of the object.
    fn child(&self) -> Child;
}

/// The workspace run that an object was created for.
#[must_use]
pub fn parent<K: Scheduled>(object: &K) -> Option<&ScheduledBy> {
    object.scheduled_by().filter(|by| by.kind == SchedulerKind::WorkspaceRun)
}

/// The workspace run that an object is for, if that is completed or gone. It completes only when all
/// of its objects are, so this one was created by a leader that stalled between its decision and its
/// request. The first object of the tenant may be deleted by now. The answer is final, so it is
/// confirmed with the API server.
pub async fn created_late<K: Scheduled>(context: &Context, object: &K) -> Result<Option<String>, Error> {
    let Some(by) = parent(object).filter(|by| !context.children.is_open(&by.uid)) else { return Ok(None) };
    let there = read(&Api::<WorkspaceRun>::all(context.client.clone()), &by.name).await?;
    let is_open = there.is_some_and(|there| there.uid().as_deref() == Some(&by.uid) && !there.is_completed());
    Ok((!is_open).then(|| by.name.clone()))
}

/// Whether a workspace run still counts the object: it was created for one that is not completed, or
/// for one that such a workspace run repeats, applies or undoes. Without the object, its tenant would
/// be done again.
pub fn is_counted<K: Scheduled>(context: &Context, object: &K) -> bool {
    parent(object).is_some_and(|by| context.children.are_counted(&by.uid))
}

/// What a workspace run counts an object as. One that is being deleted and is not completed never will
/// be: it has ended, whatever finalizers a tenant lets it wait for.
pub fn counted_as<K: Scheduled>(object: &K) -> Child {
    let child = object.child();
    if object.meta().deletion_timestamp.is_none() || child.phase == Phase::Completed {
        return child;
    }
    let reason = Some(Reason::RunDeleted.as_str().to_owned());
    Child { phase: Phase::Completed, outcome: Outcome::Failed, reason, ..child }
}

impl Scheduled for OperationRun {
    fn scheduled_by(&self) -> Option<&ScheduledBy> {
        self.spec.scheduled_by.as_ref()
    }

    fn child(&self) -> Child {
        let status = self.status_or_default();
        let completed = status.phase == Phase::Completed;
        Child {
            run: ObjectReference::of(self),
            phase: status.phase,
            outcome: status.outcome,
            cancelled: self.spec.cancel,
            reason: status.reason.filter(|_| completed),
            counts: status.summary_counts.filter(|_| completed),
            detail: None,
        }
    }
}

impl Scheduled for BulkOperationRun {
    fn scheduled_by(&self) -> Option<&ScheduledBy> {
        self.spec.scheduled_by.as_ref()
    }

    fn child(&self) -> Child {
        let status = self.status_or_default();
        let completed = status.phase == Phase::Completed;
        let detail = Detail {
            plan_digest: status.plan_digest,
            preview: status.preview,
            undo: status.undo_backup_set,
            backup_set: None,
        };
        let waits = status.reason.as_deref() == Some(Reason::AwaitingApproval.as_str());
        Child {
            run: ObjectReference::of(self),
            phase: status.phase,
            outcome: status.outcome,
            cancelled: self.spec.cancel,
            reason: status.reason.filter(|_| completed || waits),
            counts: status.counts.filter(|_| completed),
            detail: completed.then(|| Box::new(detail)),
        }
    }
}

impl Scheduled for RestoreRun {
    fn scheduled_by(&self) -> Option<&ScheduledBy> {
        self.spec.scheduled_by.as_ref()
    }

    fn child(&self) -> Child {
        let status = self.status_or_default();
        let completed = status.phase == Phase::Completed;
        // It has the plan that is to be approved, and no run yet. Its conditions say so, too, but a cache
        // may hold it without them.
        let awaits = Reason::AwaitingApproval.as_str();
        let waits = !completed && status.operation_run.is_none() && status.plan_digest.is_some();
        let detail = Detail {
            plan_digest: status.plan_digest,
            preview: status.preview,
            undo: status.undo_backup_set,
            backup_set: self.spec.backup_set.clone().map(|set| set.name),
        };
        Child {
            run: ObjectReference::of(self),
            phase: status.phase,
            outcome: status.outcome,
            cancelled: self.spec.cancel,
            reason: status.failure_reason.filter(|_| completed).or(waits.then(|| awaits.to_owned())),
            counts: status.results.filter(|_| completed),
            detail: completed.then(|| Box::new(detail)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn reason_of<K: Scheduled<DynamicType = ()> + serde::de::DeserializeOwned>(
        spec: &Value,
        status: &Value,
    ) -> Option<String> {
        let object = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": K::kind(&()),
            "metadata": { "name": "a" }, "spec": spec, "status": status });
        serde_json::from_value::<K>(object).expect("an object").child().reason
    }

    #[test]
    fn what_is_deleted_before_its_end_counts_as_ended_whatever_finalizer_keeps_it() {
        let of = |phase: &str, outcome: &str| -> Child {
            let object = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
                "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["example.com/stays"] },
                "spec": { "type": "t" }, "status": { "phase": phase, "outcome": outcome } });
            counted_as(&serde_json::from_value::<OperationRun>(object).expect("an object"))
        };
        for phase in ["queued", "running"] {
            let gone = of(phase, "pending");
            assert_eq!((gone.phase, gone.outcome), (Phase::Completed, Outcome::Failed));
            assert_eq!(gone.reason.as_deref(), Some("RunDeleted"));
        }
        assert_eq!(of("completed", "succeeded").outcome, Outcome::Succeeded, "what it did stays");
    }

    #[test]
    fn what_waits_for_an_approval_says_so_and_what_is_under_way_says_nothing() {
        let digest = "d".repeat(64);
        let restore = json!({ "backupSet": { "name": "set" } });
        let of = |status: Value| reason_of::<RestoreRun>(&restore, &status);
        assert_eq!(of(json!({ "phase": "queued", "planDigest": digest })).as_deref(), Some("AwaitingApproval"));
        let run = json!({ "name": "r", "uid": "u" });
        assert_eq!(of(json!({ "phase": "running", "planDigest": digest, "operationRun": run })), None);
        assert_eq!(of(json!({ "phase": "queued" })), None);
        let failed = json!({ "phase": "completed", "planDigest": digest, "failureReason": "Cancelled" });
        assert_eq!(of(failed).as_deref(), Some("Cancelled"));
        let bulk = json!({ "resource": { "kind": "Pod" }, "action": "restart", "items": ["a"] });
        let of = |status: Value| reason_of::<BulkOperationRun>(&bulk, &status);
        assert_eq!(of(json!({ "reason": "AwaitingApproval" })).as_deref(), Some("AwaitingApproval"));
        assert_eq!(of(json!({ "phase": "running", "reason": "Running" })), None);
    }
}
