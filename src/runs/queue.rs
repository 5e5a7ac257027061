//! The limit for waiting before a run has a Job, `spec.queueTimeoutSeconds`. Pure.
//!
//! It is decided afresh in each pass, from the creation time and the clock, so nothing has to be
//! remembered over a crash. A run leaves the queue when it has a Job or joins another run, and
//! never returns to it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    decide::{Action, Decision, blocked},
    duration::human,
    observed::{JobView, Observed},
};
use crate::{
    api::{OperationRun, Phase, Reason, operation_run::OperationRunStatus, result::truncate},
    kernel::refusal::Refusal,
};
use jiff::{SignedDuration, Timestamp};

/// What is left of the limit; zero or less once it has passed. `None` for a run without a limit, or
/// that has left the queue.
#[must_use]
pub fn left(run: &OperationRun, now: Timestamp) -> Option<SignedDuration> {
    let limit = SignedDuration::from_secs(run.spec.queue_timeout_seconds?);
    let queued = run.status.as_ref().is_none_or(|status| status.phase == Phase::Queued);
    Some(limit.saturating_sub(waited(run, now)?)).filter(|_| queued)
}

/// Whether the limit has passed. "There is no Job" is then final, so the API server has to say it.
#[must_use]
pub fn has_passed(run: &OperationRun, now: Timestamp) -> bool {
    left(run, now).is_some_and(|left| left <= SignedDuration::ZERO)
}

/// Holds the next step of a run without a Job to the limit.
pub(super) fn limited(observed: &Observed, status: &OperationRunStatus, step: Decision, now: Timestamp) -> Decision {
    let Some(left) = left(&observed.run, now) else { return step };
    let ends = step
        .actions
        .iter()
        .any(|action| matches!(action, Action::WriteStatus(status) if status.phase == Phase::Completed));
    // A Job of the run that is being deleted was there: it may have done something.
    if ends || matches!(observed.job, JobView::Own(_)) {
        return step;
    }
    if left > SignedDuration::ZERO {
        return Decision { requeue: step.requeue.map(|requeue| requeue.min(left)), ..step };
    }
    if !observed.job_asked {
        // The limit has passed since the Job was looked for, and a cache may lack one that was
        // created a moment ago.
        return Decision { requeue: Some(SignedDuration::ZERO), in_line: step.in_line, ..Decision::none() };
    }
    let refusal = Refusal::new(Reason::QueueTimeout, message(observed, status, &step, now));
    blocked(observed, status, &refusal, now)
}

/// How long the run waited, for what, and what to do.
fn message(observed: &Observed, status: &OperationRunStatus, step: &Decision, now: Timestamp) -> String {
    let waited = human(waited(&observed.run, now).unwrap_or_default());
    let limit = observed.run.spec.queue_timeout_seconds.unwrap_or_default();
    let said = step.actions.iter().find_map(|action| match action {
        Action::WriteStatus(next) if next.waiting.is_some() => Some(&**next),
        _ => None,
    });
    let said = said.unwrap_or(status);
    let why = if let Some(waiting) = &said.waiting {
        format!("{}, {}", waiting.reason, truncate(said.message.as_deref().unwrap_or_default(), 1000))
    } else if let Some(first) = observed.older.iter().find(|sibling| !sibling.leaving) {
        format!("run {} does the same work, is older, and has not started either", first.name)
    } else {
        "the operator was away, or could not create the Job".to_owned()
    };
    format!(
        "nothing was started: the run waited {waited}, and its queueTimeoutSeconds is {limit}; last reason: {why}. Create a new run when that is over, or one with a higher queueTimeoutSeconds or none"
    )
}

fn waited(run: &OperationRun, now: Timestamp) -> Option<SignedDuration> {
    run.metadata.creation_timestamp.as_ref().map(|created| now.duration_since(created.0))
}
