//! The decision about one run. Pure and total: production, property tests and the model call the
//! same function.
//!
//! From any state, the decision is one of three: nothing to do; something to wait for (a watch
//! event or `requeue`); or actions, whose result is the input of the next decision. Nothing here
//! reads a clock or a cluster.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    expiry,
    finish::{Finish, attempts, finish, is_told, is_unexplained, job_end, reported, succeeded},
    joined,
    observed::{JobView, Observed, Slot},
    prepare::Prepared,
    queue,
    status::{describe, end, repository_of, running, running_message, settle},
    waiting::{PATIENCE, is_ended, stuck},
};
use crate::{
    api::{
        ObjectReference, Outcome, Phase, Reason, labels,
        operation_run::{OnDuplicate, OperationRunStatus, Waiting},
        reference::{is_object_name, is_sha256},
    },
    kernel::refusal::Refusal,
    operations::{
        self, MadeFor,
        record::{Ended, Ran, Record},
    },
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use std::collections::BTreeMap;

/// What to do, in this order, and when to requeue without an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Writes, in order. A crash between two of them leaves a state from which the next decision
    /// continues.
    pub actions: Vec<Action>,
    /// When to decide again without an event.
    pub requeue: Option<SignedDuration>,
    /// Whether the run queues for a slot.
    pub in_line: bool,
}

/// A Job to create, and what to record once it is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Start {
    /// What the Job is built from.
    pub prepared: Prepared,
    /// The status that records the Job.
    pub status: OperationRunStatus,
}

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the Job of the run's identity, then record it in this status. The response provides
    /// the Job's uid.
    Start(Box<Start>),
    /// Delete a Job after its pods (foreground deletion), if it still has this uid.
    DeleteJob(ObjectReference),
    /// Record something on another object. A set that is created or found is named in the status
    /// that follows.
    Record(Record),
    /// Write the status.
    WriteStatus(Box<OperationRunStatus>),
    /// Set these labels; `None` removes one.
    WriteLabels(BTreeMap<String, Option<String>>),
    /// Delete the run, if it still has this uid.
    DeleteRun,
    /// Delete the object that the run was made for, if it still has this uid. The run is then
    /// garbage-collected.
    DeleteParent(MadeFor, ObjectReference),
}

impl Decision {
    pub(super) fn none() -> Self {
        Self::default()
    }

    pub(super) fn act(action: Action) -> Self {
        Self { actions: vec![action], ..Self::default() }
    }

    fn look_again(seconds: i64) -> Self {
        Self { requeue: Some(SignedDuration::from_secs(seconds)), ..Self::default() }
    }

    fn or_look_again(mut self, seconds: i64) -> Self {
        self.requeue = Some(SignedDuration::from_secs(seconds));
        self
    }
}

/// Decides about a run.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    if observed.run.metadata.deletion_timestamp.is_some()
        || observed.tenant.as_ref().is_some_and(|tenant| tenant.terminating)
    {
        // The Job is garbage-collected. In a terminating namespace nothing can be created.
        return Decision::none();
    }
    let status = observed.status();
    match status.phase {
        Phase::Completed => expiry::after_the_end(observed, &status, now),
        Phase::Queued | Phase::Running => match (&status.job, &status.joined) {
            (Some(job), _) => executing(observed, &status, job, now),
            (None, Some(_)) => joined::joined(observed, &status, now),
            (None, None) => not_started(observed, &status, now),
        },
    }
}

/// A run without a Job: adopt its own Job, be cancelled, or take the next step if it has not waited
/// too long.
fn not_started(observed: &Observed, status: &OperationRunStatus, now: Timestamp) -> Decision {
    if let JobView::Own(job) = &observed.job {
        // Made before a crash, or by an answer that was lost.
        if job.metadata.deletion_timestamp.is_none() {
            return Decision::act(Action::WriteStatus(Box::new(running(observed, status, Some(job), now))));
        }
    }
    if observed.run.spec.cancel {
        return complete(
            observed,
            status,
            Finish::plain(Outcome::Failed, Reason::Cancelled, "cancelled before it started"),
            now,
        );
    }
    queue::limited(observed, status, next_step(observed, status, now), now)
}

/// The next step of a run without a Job: wait until another run's Job is gone, join, be refused, or
/// start.
fn next_step(observed: &Observed, status: &OperationRunStatus, now: Timestamp) -> Decision {
    let prepared = match &observed.prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return blocked(observed, status, refusal, now),
    };
    let reject = observed.run.spec.on_duplicate == OnDuplicate::Reject;
    match &observed.job {
        JobView::Others { owner, .. } if owner.leaving => {
            wait(observed, status, Reason::PreviousJobTerminating, leaving_message(&owner.name), now)
        }
        JobView::Others { owner, .. } if reject => blocked(observed, status, &duplicate(&owner.name), now),
        JobView::Others { owner, .. } => {
            let mut next = running(observed, status, None, now);
            next.joined = Some(ObjectReference { name: owner.name.clone(), uid: owner.uid.clone() });
            settle(
                &mut next,
                observed,
                Reason::Joined,
                format!("run {} does the same work: this run ends as that one ends", owner.name),
                now,
            );
            Decision::act(Action::WriteStatus(Box::new(next)))
        }
        JobView::Foreign(job) => {
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let refusal = Refusal::new(
                Reason::JobNameTaken,
                format!(
                    "a Job {name} that is not the operator's stands where this run's Job must be: find out who made it, delete it with `kubectl delete job {name}`, then create a new run"
                ),
            );
            blocked(observed, status, &refusal, now)
        }
        JobView::Own(job) | JobView::Orphan(job) => {
            if job.metadata.deletion_timestamp.is_some() {
                // A finished Job is gone in a moment, which is not worth a write.
                if observed.waiting_since.is_some_and(|since| now.duration_since(since) < PATIENCE) {
                    return Decision::look_again(PATIENCE.as_secs() + 1);
                }
                return wait(observed, status, Reason::PreviousJobTerminating, leaving_message("an earlier run"), now);
            }
            // The Job was kept for its logs until now; its run is recorded as completed, or gone.
            Decision::act(Action::DeleteJob(ObjectReference::of(&**job))).or_look_again(10)
        }
        JobView::Absent => {
            if let Some(first) = observed.older.iter().find(|sibling| !sibling.leaving) {
                if reject {
                    return blocked(observed, status, &duplicate(&first.name), now);
                }
                // The oldest starts; its Job wakes this run, which then joins.
                return Decision::look_again(30);
            }
            if observed.pods.iter().any(|pod| !is_ended(pod)) {
                return wait(observed, status, Reason::PreviousJobTerminating, leaving_message("an earlier run"), now);
            }
            match &observed.slot {
                Slot::Waiting { limit, others } => {
                    let message = format!("waits for a slot ({limit}); others that wait: {others}");
                    let mut decision = wait(observed, status, Reason::ConcurrencyLimit, message, now);
                    decision.in_line = true;
                    decision
                }
                Slot::Free => {
                    let mut next = running(observed, status, None, now);
                    next.identity_hash = Some(prepared.identity.as_str().to_owned());
                    let start = Start { prepared: prepared.clone(), status: next };
                    Decision { actions: vec![Action::Start(Box::new(start))], in_line: true, ..Decision::default() }
                }
            }
        }
    }
}

/// A run whose Job is recorded: only that uid counts.
fn executing(observed: &Observed, status: &OperationRunStatus, recorded: &ObjectReference, now: Timestamp) -> Decision {
    let job = match &observed.job {
        JobView::Own(job) if job.metadata.uid.as_deref() == Some(recorded.uid.as_str()) => job,
        _ => {
            if observed.pods.iter().any(|pod| !is_ended(pod) && is_of(pod, &recorded.uid)) {
                return Decision::look_again(2);
            }
            let finish = if observed.run.spec.cancel {
                Finish::plain(Outcome::Failed, Reason::Cancelled, "cancelled")
            } else {
                Finish::plain(
                    Outcome::Failed,
                    Reason::JobDeleted,
                    format!(
                        "Job {} was deleted while the run was going, not by the operator: create a new run with spec.rerunOf",
                        recorded.name
                    ),
                )
            };
            return complete(observed, status, finish, now);
        }
    };
    // Our own worker's word goes first, so that the end does not depend on what else is seen by
    // now: it may be told to stop after it has reported its result.
    let result = status.worker_result.as_ref().filter(|result| is_ours(job) && result.job_uid == recorded.uid);
    if let Some(finish) = result.and_then(reported) {
        return ended_by(observed, status, finish, job, now);
    }
    if let Some(end) = job_end(job) {
        if !is_told(job, &observed.pods)
            && observed.waiting_since.is_none_or(|since| now.duration_since(since) < SignedDuration::from_secs(5))
        {
            // The final status of the pod may still be on its way.
            return Decision::look_again(1);
        }
        let timeout = job.spec.as_ref().and_then(|spec| spec.active_deadline_seconds);
        let finish = if observed.run.spec.cancel && is_unexplained(job, &end, &observed.pods) {
            // Perhaps the fence prevented all work. Runs that joined this one must not copy that
            // end.
            Finish::plain(
                Outcome::Failed,
                Reason::Cancelled,
                "cancelled; its Job failed, and no pod is left to tell why",
            )
        } else {
            finish(job, &end, &observed.pods, is_ours(job), timeout)
        };
        return ended_by(observed, status, finish, job, now);
    }
    if job.metadata.deletion_timestamp.is_some() {
        return Decision::look_again(2);
    }
    if let Some(finish) = succeeded(job, &observed.pods, is_ours(job)) {
        return ended_by(observed, status, finish, job, now);
    }
    let mut next = status.clone();
    if observed.run.spec.cancel {
        next.waiting = Some(Waiting { reason: Reason::Cancelling.as_str().to_owned(), since: now });
        settle(&mut next, observed, Reason::Cancelling, "cancelled; waits until its pod has ended".to_owned(), now);
        let actions = vec![Action::DeleteJob(recorded.clone()), Action::WriteStatus(Box::new(next))];
        return Decision { actions, ..Decision::look_again(2) };
    }
    match stuck(job, &observed.pods) {
        Some(stuck) => {
            let since = observed.waiting_since.unwrap_or(now);
            if !stuck.is_due(since, now) {
                return Decision::look_again(PATIENCE.as_secs() + 1);
            }
            let since = status
                .waiting
                .as_ref()
                .filter(|waiting| waiting.reason == stuck.reason.as_str())
                .map_or(now, |waiting| waiting.since);
            next.waiting = Some(Waiting { reason: stuck.reason.as_str().to_owned(), since });
            settle(&mut next, observed, stuck.reason, stuck.message, now);
        }
        None if status.waiting.is_some() => {
            next.waiting = None;
            settle(&mut next, observed, Reason::Running, running_message(&recorded.name), now);
        }
        None => {}
    }
    next.attempts = Some(attempts(job)).filter(|count| *count > 1).or(status.attempts);
    // An attempt count that grows is not worth a write of its own.
    if next.waiting == status.waiting && next.message == status.message {
        return Decision::none();
    }
    Decision::act(Action::WriteStatus(Box::new(next)))
}

/// The last writes of a run whose work has ended.
fn ended_by(observed: &Observed, status: &OperationRunStatus, finish: Finish, job: &Job, now: Timestamp) -> Decision {
    let mut next = status.clone();
    // The Job controller counts a pod a moment after it was created.
    next.attempts = Some(attempts(job).max(1));
    let ran = if is_ours(job) {
        let given = |annotation: &str| job.metadata.annotations.as_ref()?.get(annotation).map(String::as_str);
        let generation = given(labels::REPOSITORY_GENERATION).and_then(|generation| generation.parse().ok());
        Ran::Worker { generation, spec: given(labels::REPOSITORY_CHECKED) }
    } else {
        Ran::Another
    };
    ended(observed, &next, finish, ran, now)
}

pub(super) fn blocked(observed: &Observed, status: &OperationRunStatus, refusal: &Refusal, now: Timestamp) -> Decision {
    complete(observed, status, Finish::plain(Outcome::Blocked, refusal.reason, refusal.message.clone()), now)
}

/// The decision after the API server rejected the Job.
#[must_use]
pub fn refused(observed: &Observed, refusal: &Refusal, now: Timestamp) -> Decision {
    blocked(observed, &observed.status(), refusal, now)
}

pub(super) fn complete(observed: &Observed, status: &OperationRunStatus, finish: Finish, now: Timestamp) -> Decision {
    ended(observed, status, finish, Ran::Nothing, now)
}

/// The last writes of a run: first its records, then its end. After a crash in between, the records
/// are written again, which is idempotent.
fn ended(observed: &Observed, status: &OperationRunStatus, finish: Finish, ran: Ran<'_>, now: Timestamp) -> Decision {
    let Finish { outcome, reason, message, counts, failures, failures_truncated, made } = finish;
    let repository = repository_of(observed);
    let end_of_work = Ended {
        ran,
        outcome,
        reason: &reason,
        message: &message,
        failures: &failures,
        made: &made,
        inputs: observed.prepared.as_ref().map_or(&observed.run.spec.inputs, |prepared| &prepared.inputs),
        repository: repository.as_deref(),
    };
    let operation_type = observed.operation_type.as_ref();
    let operation = operation_type.and_then(|found| operations::of_executor(&found.spec.executor));
    let records = operations::records(operation, &end_of_work);
    let about_set = operation.and_then(|operation| operation.about_set(&end_of_work));
    let mut actions: Vec<Action> = records.into_iter().map(Action::Record).collect();
    let mut next = status.clone();
    next.context.repository = repository.or(next.context.repository);
    next.context.backup_set = about_set.or(next.context.backup_set);
    next.context.plan = made.plan.or(next.context.plan);
    next.context.compared = made.compared.or(next.context.compared);
    next.context.history = made.history.or(next.context.history);
    next.context.audit = made.audit.or(next.context.audit);
    next.context.drift = made.drift.or(next.context.drift);
    next.context.coverage = made.coverage.or(next.context.coverage);
    if let Some(name) = made.config_map.filter(|name| is_object_name(name)) {
        next.context.config_map = Some(name);
        next.context.config_map_digest = made.config_map_digest.filter(|digest| is_sha256(digest));
    }
    next.summary_counts = counts.or(next.summary_counts);
    if let Some(counts) = counts {
        next.progress = Some(format!("{}/{}", counts.processed, counts.total));
    }
    next.failures = failures;
    next.failures_truncated = failures_truncated;
    end(&mut next, observed, outcome, &reason, message, now);
    actions.push(Action::WriteStatus(Box::new(next)));
    Decision { actions, ..Decision::default() }
}

/// The status of a run that waits before it has a Job; nothing where it says so already.
fn wait(observed: &Observed, status: &OperationRunStatus, reason: Reason, message: String, now: Timestamp) -> Decision {
    let again = Decision::look_again(if reason == Reason::ConcurrencyLimit { 60 } else { 2 });
    if status.waiting.as_ref().is_some_and(|waiting| waiting.reason == reason.as_str()) {
        return again;
    }
    let mut next = status.clone();
    describe(&mut next, observed);
    next.waiting = Some(Waiting { reason: reason.as_str().to_owned(), since: now });
    settle(&mut next, observed, reason, message, now);
    Decision { actions: vec![Action::WriteStatus(Box::new(next))], ..again }
}

/// Whether the Job runs our own worker. Such a Job is the only kind to which the operator adds no
/// fence.
fn is_ours(job: &Job) -> bool {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let fenced = pod.and_then(|pod| pod.init_containers.as_ref()).into_iter().flatten();
    pod.is_some() && fenced.into_iter().all(|container| container.name != crate::api::execution::FENCE_CONTAINER)
}

fn is_of(pod: &k8s_openapi::api::core::v1::Pod, job_uid: &str) -> bool {
    pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == job_uid)
}

fn duplicate(name: &str) -> Refusal {
    Refusal::new(
        Reason::DuplicateRun,
        format!(
            "run {name} does the same work, and onDuplicate is Reject: wait for it, or create this run with onDuplicate: Join"
        ),
    )
}

fn leaving_message(of: &str) -> String {
    format!("waits until the Job of {of} is gone")
}
