//! All writes of a restore's reconcile, in the order of the decision.

use super::decide::{Action, Observed, awaits_approval, refused, started};
use crate::{
    api::{FindingStatus, OperationRun, Phase, Reason, RestoreRun, RestoreRunStatus},
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
            Action::Resolve(status) => resolve(context, observed, &status).await?,
            Action::WriteStatus(status) => write_status(context, observed, &status).await?,
        }
    }
    Ok(())
}

fn namespace_of(observed: &Observed) -> String {
    observed.restore.namespace().unwrap_or_default()
}

/// Creates the run, then records it.
async fn start(context: &Context, observed: &Observed, run: &OperationRun) -> Result<(), Error> {
    let now = || context.clock.now();
    match made_for::create(context, &namespace_of(observed), run, "restore").await? {
        Creation::Created(run) => write_status(context, observed, &started(&observed.restore, &run, now())).await,
        Creation::Refused(refusal) => Box::pin(act(context, observed, vec![refused(observed, &refusal, now())])).await,
        Creation::Terminating => Ok(()),
    }
}

/// Writes what differs from the observed status, if anything does. The status holds only for the
/// version of the restore that was decided about.
async fn write_status(context: &Context, observed: &Observed, status: &RestoreRunStatus) -> Result<(), Error> {
    let restore = &observed.restore;
    let before = restore.status_or_default();
    let api = Api::namespaced(context.client.clone(), &namespace_of(observed));
    let remember = |written| context.restores.wrote(written);
    let wrote = status::write(&api, &**restore, &before, status, remember).await?;
    if wrote && before.phase != status.phase {
        tell(context, restore, status);
    } else if wrote && awaits_approval(status) && !awaits_approval(&before) {
        let (reason, message) = (Reason::AwaitingApproval.as_str(), status.message.as_deref());
        context.events.publish(&**restore, Severity::Normal, reason, "Wait", message.unwrap_or_default());
    }
    Ok(())
}

/// Reports on the finding that its item is put back. One that is gone needs no report.
async fn resolve(context: &Context, observed: &Observed, status: &FindingStatus) -> Result<(), Error> {
    let Some(finding) = &observed.finding else { return Ok(()) };
    let api = Api::namespaced(context.client.clone(), &namespace_of(observed));
    let before = finding.status.clone().unwrap_or_default();
    status::write(&api, finding, &before, status, |written| context.findings.wrote(written)).await.map(drop)
}

/// Publishes an event for each transition. Never waits, never fails.
fn tell(context: &Context, restore: &RestoreRun, status: &RestoreRunStatus) {
    let severity = if status.failure_reason.is_some() { Severity::Warning } else { Severity::Normal };
    let reason = status.failure_reason.clone().unwrap_or_else(|| match status.phase {
        Phase::Completed => "Succeeded".to_owned(),
        Phase::Queued | Phase::Running => "Running".to_owned(),
    });
    let action = if status.phase == Phase::Completed { "Complete" } else { "Run" };
    context.events.publish(restore, severity, &reason, action, status.message.as_deref().unwrap_or_default());
}
