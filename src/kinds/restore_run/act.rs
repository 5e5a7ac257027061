//! All writes of a restore's reconcile, in the order of the decision.

use super::decide::{Action, Observed, over_quota, refused, run_refused, started};
use crate::{
    api::{FindingStatus, OperationRun, Phase, RestoreRun, RestoreRunStatus},
    kernel::{Error, events::Severity, refusal::CreateFailure, status},
    runs::{context::Context, records::backup_set::settle_new},
};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;

/// Carries out a decision.
pub async fn act(context: &Context, observed: &Observed, actions: Vec<Action>) -> Result<(), Error> {
    for action in actions {
        match action {
            Action::Start(run) => start(context, observed, &run).await?,
            Action::Cancel(run) => {
                let body = json!({ "metadata": { "uid": run.uid }, "spec": { "cancel": true } });
                match runs(context, observed).patch(&run.name, &PatchParams::default(), &Patch::Merge(body)).await {
                    Ok(run) => context.wrote(run),
                    // Completed or gone since: its end is what counts.
                    Err(kube::Error::Api(status)) if status.is_not_found() || status.is_invalid() => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Action::SettleUndo(set) => {
                let message = "the snapshot was read back after it was written, before the restore wrote anything";
                settle_new(context, &set, set.status.clone().unwrap_or_default(), "ReadBack", message).await?;
            }
            Action::Resolve(status) => resolve(context, observed, &status).await?,
            Action::WriteStatus(status) => write_status(context, observed, &status).await?,
        }
    }
    Ok(())
}

fn runs(context: &Context, observed: &Observed) -> Api<OperationRun> {
    Api::namespaced(context.client.clone(), &observed.restore.namespace().unwrap_or_default())
}

/// Creates the run, then records it. After a crash in between, the run is recognized by what it was
/// created for. The name rules out a second run.
async fn start(context: &Context, observed: &Observed, run: &OperationRun) -> Result<(), Error> {
    match runs(context, observed).create(&PostParams::default(), run).await {
        Ok(run) => {
            let status = started(&observed.restore, &run, context.clock.now());
            context.wrote(run);
            write_status(context, observed, &status).await
        }
        Err(error) => {
            let refusal = match CreateFailure::of(&error) {
                // Ours from before a crash, or not ours: the next reconcile knows, once the watch
                // has reported the run.
                CreateFailure::Taken => return Err(Error::Again("a run of this name exists")),
                CreateFailure::NamespaceTerminating => return Ok(()),
                CreateFailure::OverQuota(says) => over_quota(&says, &observed.restore.namespace().unwrap_or_default()),
                CreateFailure::Refused(says) => run_refused(&says),
                CreateFailure::Fault => return Err(error.into()),
            };
            let end = refused(observed, &refusal, context.clock.now());
            Box::pin(act(context, observed, vec![end])).await
        }
    }
}

/// Writes what differs from the observed status, if anything does. The status holds only for the
/// version of the restore that was decided about.
async fn write_status(context: &Context, observed: &Observed, status: &RestoreRunStatus) -> Result<(), Error> {
    let restore = &observed.restore;
    let before = restore.status_or_default();
    let api = Api::namespaced(context.client.clone(), &restore.namespace().unwrap_or_default());
    let remember = |written| context.restores.wrote(written);
    let wrote = status::write(&api, &**restore, &before, status, remember).await?;
    if wrote && before.phase != status.phase {
        tell(context, restore, status);
    }
    Ok(())
}

/// Reports on the finding that its item is put back. One that is gone needs no report.
async fn resolve(context: &Context, observed: &Observed, status: &FindingStatus) -> Result<(), Error> {
    let Some(finding) = &observed.finding else { return Ok(()) };
    let api = Api::namespaced(context.client.clone(), &observed.restore.namespace().unwrap_or_default());
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
