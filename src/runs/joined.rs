//! The decision about a run that joined another run of its identity. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    decide::{Action, Decision, complete},
    finish::{Finish, OF_THE_RUN_ALONE},
    observed::{JoinedView, Observed},
    status::{end, settle},
};
use crate::{
    api::{
        OperationRun, Outcome, Reason,
        backup_schedule::origin,
        operation_run::{OperationRunStatus, RunContext},
        result::truncate,
    },
    operations::record::Record,
};
use jiff::Timestamp;

/// A run that joined another: copy its end, or continue alone if there will be none.
pub(super) fn joined(observed: &Observed, status: &OperationRunStatus, now: Timestamp) -> Decision {
    if observed.run.spec.cancel {
        return complete(
            observed,
            status,
            Finish::plain(Outcome::Failed, Reason::Cancelled, "cancelled; the run it had joined goes on"),
            now,
        );
    }
    match &observed.joined {
        JoinedView::Active | JoinedView::None => Decision::none(),
        JoinedView::Completed(winner) if is_real_end(winner) => {
            let theirs = winner.status_or_default();
            let name = winner.metadata.name.as_deref().unwrap_or_default();
            let mut next = status.clone();
            next.summary_counts = theirs.summary_counts;
            next.progress = theirs.progress;
            next.failures = theirs.failures;
            next.failures_truncated = theirs.failures_truncated;
            next.attempts = theirs.attempts;
            next.context = RunContext {
                workspace: next.context.workspace,
                target_scope: next.context.target_scope,
                ..theirs.context
            };
            let message = format!("as run {name}, which it had joined: {}", theirs.message.unwrap_or_default());
            end(&mut next, observed, theirs.outcome, &theirs.reason.unwrap_or_default(), truncate(&message, 2000), now);
            let mut actions = Vec::new();
            let schedule = |run| origin(run).map(|origin| origin.schedule);
            if let Some(set) = next.context.backup_set.clone()
                && schedule(&observed.run) != schedule(winner)
            {
                let captured_by = winner.metadata.uid.clone().unwrap_or_default();
                actions.push(Action::Record(Record::SharedSet { set, captured_by }));
            }
            actions.push(Action::WriteStatus(Box::new(next)));
            Decision { actions, ..Decision::default() }
        }
        JoinedView::Completed(_) | JoinedView::Gone => {
            let mut next = status.clone();
            next.joined = None;
            settle(
                &mut next,
                observed,
                Reason::Running,
                "the run it had joined was cancelled or deleted: it goes on by itself".to_owned(),
                now,
            );
            Decision::act(Action::WriteStatus(Box::new(next)))
        }
    }
}

/// Whether the end of a completed run is the end of the work, not of that run alone.
fn is_real_end(winner: &OperationRun) -> bool {
    let status = winner.status_or_default();
    status.outcome != Outcome::Blocked
        && OF_THE_RUN_ALONE.iter().all(|reason| status.reason.as_deref() != Some(reason.as_str()))
}
