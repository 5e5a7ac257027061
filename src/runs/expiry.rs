//! The decision about a completed run: its labels, and when it is deleted. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    decide::{Action, Decision},
    observed::{Observed, Parent},
};
use crate::api::{labels, operation_run::OperationRunStatus};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

/// A completed run: labels, then its time to go.
pub(super) fn after_the_end(observed: &Observed, status: &OperationRunStatus, now: Timestamp) -> Decision {
    let operation_type = observed.operation_type.as_ref().map(|operation_type| &operation_type.spec);
    let ttl = operation_type
        .and_then(|spec| spec.ttl_seconds_after_finished)
        .map(|seconds| SignedDuration::from_secs(seconds.into()));
    let mut left = ttl.zip(status.completed_at).map(|(ttl, completed)| ttl - now.duration_since(completed));
    if observed.beyond_history || left.is_some_and(|left| left <= SignedDuration::ZERO) {
        match &observed.parent {
            // They would find it gone, and do its work again.
            _ if observed.awaited => left = Some(SignedDuration::from_mins(1)),
            None => return Decision::act(Action::DeleteRun),
            Some(Parent { kind, reference, needed: false }) => {
                return Decision::act(Action::DeleteParent(*kind, reference.clone()));
            }
            Some(Parent { needed: true, .. }) => left = Some(SignedDuration::from_mins(1)),
        }
    }
    let mut decision = Decision { requeue: left, ..Decision::default() };
    let patch = label_patch(observed, status);
    if !patch.is_empty() {
        decision.actions.push(Action::WriteLabels(patch));
    }
    decision
}

/// The labels to change. Labels are only written after the run has ended, in one patch.
fn label_patch(observed: &Observed, status: &OperationRunStatus) -> BTreeMap<String, Option<String>> {
    let spec = &observed.run.spec;
    let workspace =
        observed.tenant.as_ref().map(|tenant| tenant.workspace.as_str()).or(status.context.workspace.as_deref());
    let initiator = spec.initiator.as_ref().map(|initiator| initiator.username.as_str());
    let wanted = labels::of_run(
        status.identity_hash.as_deref(),
        &spec.operation_type,
        spec.trigger,
        workspace,
        initiator,
        status.outcome,
    );
    let present = observed.run.metadata.labels.clone().unwrap_or_default();
    labels::OF_RUN
        .iter()
        .filter(|key| present.get(**key) != wanted.get(**key))
        .map(|key| ((*key).to_owned(), wanted.get(*key).cloned()))
        .collect()
}
