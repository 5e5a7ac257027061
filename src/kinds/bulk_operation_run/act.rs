//! All writes of a bulk operation's reconcile, in the order of the decision.

use super::decide::{Action, Observed, refused, started};
use crate::{
    api::{BulkOperationRunStatus, OperationRun, Outcome, Phase, Reason},
    kernel::{Error, events::Severity, status},
    kinds::made_for::{self, Creation},
    runs::context::Context,
};
use kube::{Api, ResourceExt};

/// Carries out a decision.
pub async fn act(context: &Context, observed: &Observed, actions: Vec<Action>) -> Result<(), Error> {
    for action in actions {
        match action {
            Action::Start(run) => start(context, observed, &run).await?,
            Action::Cancel(run) => made_for::cancel(context, &namespace_of(observed), &run).await?,
            Action::SettleUndo(set) => made_for::settle_undo(context, &set).await?,
            Action::WriteStatus(status) => write_status(context, observed, &status).await?,
        }
    }
    Ok(())
}

fn namespace_of(observed: &Observed) -> String {
    observed.bulk.namespace().unwrap_or_default()
}

/// Creates the run, then records it.
async fn start(context: &Context, observed: &Observed, run: &OperationRun) -> Result<(), Error> {
    let now = || context.clock.now();
    match made_for::create(context, &namespace_of(observed), run, "bulk operation").await? {
        Creation::Created(run) => write_status(context, observed, &started(&observed.bulk, &run, now())).await,
        Creation::Refused(refusal) => Box::pin(act(context, observed, vec![refused(observed, &refusal, now())])).await,
        Creation::Terminating => Ok(()),
    }
}

/// Writes what differs from the observed status, if anything does, and publishes an event for each
/// change of the phase. The status holds only for the version of the bulk operation that was decided
/// about.
async fn write_status(context: &Context, observed: &Observed, status: &BulkOperationRunStatus) -> Result<(), Error> {
    let bulk = &observed.bulk;
    let before = bulk.status_or_default();
    let awaits = Reason::AwaitingApproval.as_str();
    let api = Api::namespaced(context.client.clone(), &namespace_of(observed));
    let wrote = status::write(&api, &**bulk, &before, status, |written| context.bulks.wrote(written)).await?;
    if wrote && before.phase != status.phase {
        let bad = status.phase == Phase::Completed && status.outcome != Outcome::Succeeded;
        let severity = if bad { Severity::Warning } else { Severity::Normal };
        let action = if status.phase == Phase::Completed { "Complete" } else { "Run" };
        let (reason, message) = (status.reason.as_deref(), status.message.as_deref());
        context.events.publish(&**bulk, severity, reason.unwrap_or_default(), action, message.unwrap_or_default());
    } else if wrote && before.reason != status.reason && status.reason.as_deref() == Some(awaits) {
        context.events.publish(
            &**bulk,
            Severity::Normal,
            awaits,
            "Wait",
            status.message.as_deref().unwrap_or_default(),
        );
    }
    Ok(())
}
