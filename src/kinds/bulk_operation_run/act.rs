//! All writes of a bulk operation's reconcile, in the order of the decision.

use super::decide::{Action, Observed, over_quota, refused, run_refused, started};
use crate::{
    api::{BulkOperationRunStatus, OperationRun, Outcome, Phase},
    kernel::{Error, events::Severity, refusal::CreateFailure, status},
    runs::context::Context,
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
            Action::WriteStatus(status) => write_status(context, observed, &status).await?,
        }
    }
    Ok(())
}

fn runs(context: &Context, observed: &Observed) -> Api<OperationRun> {
    Api::namespaced(context.client.clone(), &observed.bulk.namespace().unwrap_or_default())
}

/// Creates the run, then records it. After a crash in between, the run is recognized by what it was
/// created for. The name rules out a second run.
async fn start(context: &Context, observed: &Observed, run: &OperationRun) -> Result<(), Error> {
    match runs(context, observed).create(&PostParams::default(), run).await {
        Ok(run) => {
            let status = started(&observed.bulk, &run, context.clock.now());
            context.wrote(run);
            write_status(context, observed, &status).await
        }
        Err(error) => {
            let refusal = match CreateFailure::of(&error) {
                // Ours from before a crash, or not ours: the next reconcile knows, once the watch
                // has reported the run.
                CreateFailure::Taken => return Err(Error::Again("a run of this name exists")),
                CreateFailure::NamespaceTerminating => return Ok(()),
                CreateFailure::OverQuota(says) => over_quota(&says, &observed.bulk.namespace().unwrap_or_default()),
                CreateFailure::Refused(says) => run_refused(&says),
                CreateFailure::Fault => return Err(error.into()),
            };
            let end = refused(observed, &refusal, context.clock.now());
            Box::pin(act(context, observed, vec![end])).await
        }
    }
}

/// Writes what differs from the observed status, if anything does, and publishes an event for each
/// change of the phase. The status holds only for the version of the bulk operation that was decided
/// about.
async fn write_status(context: &Context, observed: &Observed, status: &BulkOperationRunStatus) -> Result<(), Error> {
    let bulk = &observed.bulk;
    let before = bulk.status_or_default();
    let api = Api::namespaced(context.client.clone(), &bulk.namespace().unwrap_or_default());
    let wrote = status::write(&api, &**bulk, &before, status, |written| context.bulks.wrote(written)).await?;
    if wrote && before.phase != status.phase {
        let bad = status.phase == Phase::Completed && status.outcome != Outcome::Succeeded;
        let severity = if bad { Severity::Warning } else { Severity::Normal };
        let action = if status.phase == Phase::Completed { "Complete" } else { "Run" };
        let (reason, message) = (status.reason.as_deref(), status.message.as_deref());
        context.events.publish(&**bulk, severity, reason.unwrap_or_default(), action, message.unwrap_or_default());
    }
    Ok(())
}
