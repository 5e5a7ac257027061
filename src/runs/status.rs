//! The contents of a run's status in each state: phase, times, messages, and conditions for
//! machines. Pure. [`super::decide`] decides when it is written.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{observed::Observed, prepare::repository_name};
use crate::{
    api::{
        ObjectReference, Outcome, Phase, Reason,
        backup_schedule::origin,
        conditions,
        operation_run::{OperationRunStatus, Transition},
        operation_type::Scope,
        reference::is_object_name,
        result::truncate,
    },
    operations::{self, MadeFor},
    runs::duration::human,
};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;

/// The status of a run that has a Job, its own or another run's.
pub(super) fn running(
    observed: &Observed,
    status: &OperationRunStatus,
    job: Option<&Job>,
    now: Timestamp,
) -> OperationRunStatus {
    let mut next = status.clone();
    describe(&mut next, observed);
    next.waiting = None;
    next.job = job.map(ObjectReference::of);
    // If a Job is adopted after a crash, the run started when that Job was created.
    let made = job.and_then(|job| job.metadata.creation_timestamp.as_ref()).map_or(now, |time| time.0.min(now));
    next.started_at = next.started_at.or(Some(made));
    transition(&mut next, Phase::Running, Outcome::Pending, now);
    let name = job
        .and_then(|job| job.metadata.name.clone())
        .or_else(|| observed.prepared.as_ref().ok().map(|prepared| prepared.identity.job_name()));
    settle(&mut next, observed, Reason::Running, running_message(&name.unwrap_or_default()), now);
    next
}

/// Sets what is known about a run as soon as it is observed.
pub(super) fn describe(next: &mut OperationRunStatus, observed: &Observed) {
    if let Ok(prepared) = &observed.prepared {
        next.identity_hash = Some(prepared.identity.as_str().to_owned());
        next.context.selection =
            prepared.inputs.get("selection").map(|selection| truncate(&selection.to_string(), 1000));
    }
    next.context.bulk_operation_run = bulk_of(observed);
    next.context.workspace =
        observed.tenant.as_ref().map(|tenant| tenant.workspace.clone()).or_else(|| next.context.workspace.take());
    next.context.target_scope = Some(format!("{:?}", Scope::Tenant));
    // The run's own origin, even if the run ends as another run: the origin of that one says
    // nothing about this one.
    let origin = origin(&observed.run);
    next.context.scheduled_for = origin.as_ref().and_then(|origin| origin.scheduled_for);
    next.context.backup_schedule = origin.map(|origin| origin.schedule);
    next.context.repository = repository_of(observed).or_else(|| next.context.repository.take());
}

/// The bulk operation that a run belongs to. Only the operator creates runs of this type.
fn bulk_of(observed: &Observed) -> Option<String> {
    let spec = &observed.run.spec;
    let made_for = operations::of_type(&spec.operation_type)?.made_for()?;
    let input = spec.inputs.get("bulkOperationRun").filter(|_| made_for == MadeFor::BulkOperationRun)?;
    input["name"].as_str().filter(|name| is_object_name(name)).map(str::to_owned)
}

/// Completes the run.
pub(super) fn end(
    next: &mut OperationRunStatus,
    observed: &Observed,
    outcome: Outcome,
    reason: &str,
    message: String,
    now: Timestamp,
) {
    describe(next, observed);
    next.waiting = None;
    next.worker_result = None;
    next.completed_at = Some(now);
    next.duration = next.started_at.map(|started| human(now.duration_since(started)));
    transition(next, Phase::Completed, outcome, now);
    settle_text(next, observed, reason, message, now);
}

fn transition(next: &mut OperationRunStatus, phase: Phase, outcome: Outcome, now: Timestamp) {
    if (next.phase, next.outcome) != (phase, outcome) || next.transitions.is_empty() {
        next.transitions.push(Transition { phase, outcome, at: now });
    }
    next.phase = phase;
    next.outcome = outcome;
}

/// Sets the reason and the message of the current state.
pub(super) fn settle(
    next: &mut OperationRunStatus,
    observed: &Observed,
    reason: Reason,
    message: String,
    now: Timestamp,
) {
    settle_text(next, observed, reason.as_str(), message, now);
}

/// Sets reason, message, and the conditions that say the same to machines.
fn settle_text(next: &mut OperationRunStatus, observed: &Observed, reason: &str, message: String, now: Timestamp) {
    let generation = observed.run.metadata.generation;
    let wanted = conditions::of_run(next.phase, next.outcome);
    next.conditions = conditions::merge(&next.conditions, &wanted, reason, &truncate(&message, 1000), generation, now);
    next.reason = Some(reason.to_owned());
    next.message = Some(message);
    next.observed_generation = generation.unwrap_or(0);
}

/// The repository that the run names, if the name is valid.
pub(super) fn repository_of(observed: &Observed) -> Option<String> {
    let executor = observed.operation_type.as_ref().map(|operation_type| &operation_type.spec.executor)?;
    let inputs = observed.prepared.as_ref().map_or(&observed.run.spec.inputs, |prepared| &prepared.inputs);
    repository_name(executor, inputs).filter(|name| is_object_name(name))
}

/// The message while the run's Job runs.
pub(super) fn running_message(job: &str) -> String {
    format!("Job {job} runs")
}
