//! All writes of a schedule's reconcile, in the order of the decision: what is replaced is cancelled, runs are made, backup sets
//! expire, then all of it stands in the status, then runs that are too old go.

use super::decide::{Decision, Observed, refused};
use crate::{
    api::{
        BackupSchedule, BackupScheduleStatus, BackupSet, ObjectReference, OperationRun, Reason,
        backup_schedule::{Missed, origin},
        conditions,
    },
    controller::{
        Context, Error, delete::delete, events::Severity, operation_run::prepare::Refusal, patch, refusal::of_due_run,
    },
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

fn runs(context: &Context, schedule: &BackupSchedule) -> Api<OperationRun> {
    Api::namespaced(context.client.clone(), &schedule.namespace().unwrap_or_default())
}

/// What of a decision cannot wait: what is replaced is cancelled, and what is due is made.
pub async fn start_due<'d>(
    context: &Context,
    observed: &Observed,
    decision: &'d Decision,
) -> Result<Started<'d>, Error> {
    let schedule = &observed.schedule;
    let runs = runs(context, schedule);
    for run in &decision.cancel {
        cancel(context, &runs, run).await?;
    }
    let mut started = Started::default();
    for run in &decision.start {
        match start(context, &runs, run).await {
            Ok(Some(reference)) => started.made.push(reference),
            Ok(None) => started.taken.push(run),
            Err(error) => {
                if let Some(refusal) = refusal(&error) {
                    write_status(context, schedule, &refused(schedule, &refusal, context.clock.now())).await?;
                }
                // It is tried again, and the tick with it until its deadline.
                return Err(error);
            }
        }
    }
    Ok(started)
}

/// What became of the runs that were due.
#[derive(Default)]
pub struct Started<'d> {
    made: Vec<ObjectReference>,
    /// Those whose names somebody else's runs have.
    taken: Vec<&'d OperationRun>,
}

/// Carries a decision out.
pub async fn act(context: &Context, observed: &Observed, decision: &Decision) -> Result<(), Error> {
    let schedule = &observed.schedule;
    let Started { made, taken } = start_due(context, observed, decision).await?;
    let expired = expire(context, schedule, &decision.expire).await;
    if let Some(mut status) = decision.status.clone() {
        if expired.is_err() {
            // It is looked at again; and ticks do not wait for it.
            status.retention = schedule.status.as_ref().and_then(|status| status.retention.clone());
        }
        for run in made {
            if !status.active.iter().any(|active| active.uid == run.uid) {
                status.active.push(run);
            }
        }
        for last in taken.iter().filter_map(|run| origin(run)?.scheduled_for) {
            let count = status.missed.as_ref().map_or(0, |missed| missed.count).saturating_add(1);
            status.missed = Some(Missed { count, last });
            context.metrics.missed(&schedule.namespace().unwrap_or_default(), &schedule.name_any(), 1);
        }
        write_status(context, schedule, &status).await?;
    }
    expired?;
    for run in taken {
        let note = format!("{} was made by somebody else: delete it, or rename the schedule", run.name_any());
        context.events.publish(&**schedule, Severity::Warning, Reason::RunNameTaken.as_str(), "Start", &note);
    }
    if let Some((count, why)) = decision.missed {
        context.metrics.missed(&schedule.namespace().unwrap_or_default(), &schedule.name_any(), count);
        let note = format!("{count} ticks were not started: {why}");
        context.events.publish(&**schedule, Severity::Warning, Reason::TicksMissed.as_str(), "Start", &note);
    }
    let runs = runs(context, schedule);
    for run in &decision.delete {
        delete(&runs, run).await?;
    }
    Ok(())
}

/// Why the API server does not take a run, in words for its schedule; none where that may pass by itself.
fn refusal(error: &Error) -> Option<Refusal> {
    let Error::Api(error) = error else { return None };
    of_due_run(error, "until then it is tried again every half minute, and later ticks count as missed")
}

/// Creates a run; nothing where somebody else's has its name.
async fn start(
    context: &Context,
    runs: &Api<OperationRun>,
    run: &OperationRun,
) -> Result<Option<ObjectReference>, Error> {
    let made = match runs.create(&PostParams::default(), run).await {
        Ok(made) => made,
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            // Ours, from before a crash, from another leader, or of a schedule of this name before; or not ours.
            let there = runs.get_opt(&run.name_any()).await?.ok_or(Error::Again("a run came and went"))?;
            if there.spec.trigger != run.spec.trigger {
                return Ok(None);
            }
            there
        }
        Err(error) => return Err(error.into()),
    };
    let reference = ObjectReference { name: made.name_any(), uid: made.uid().unwrap_or_default() };
    context.wrote(made);
    Ok(Some(reference))
}

async fn cancel(context: &Context, runs: &Api<OperationRun>, run: &ObjectReference) -> Result<(), Error> {
    let body = json!({ "metadata": { "uid": run.uid }, "spec": { "cancel": true } });
    match runs.patch(&run.name, &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(run) => context.wrote(run),
        // Completed, replaced or gone since: nothing of it is in the way.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_invalid() || status.is_conflict() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Deletes backup sets, each as it was looked at: one that is held since then stays.
async fn expire(context: &Context, schedule: &BackupSchedule, sets: &[BackupSet]) -> Result<(), Error> {
    let api: Api<BackupSet> = Api::namespaced(context.client.clone(), &schedule.namespace().unwrap_or_default());
    for set in sets {
        let as_seen = Preconditions { uid: set.uid(), resource_version: set.resource_version() };
        let parameters = DeleteParams { preconditions: Some(as_seen), ..DeleteParams::default() };
        match api.delete(&set.name_any(), &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                return Err(Error::Again("a backup set changed meanwhile"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    if !sets.is_empty() {
        let names: Vec<_> = sets.iter().map(ResourceExt::name_any).collect();
        let note = format!("{} backup sets expired: {}", sets.len(), names.join(", "));
        context.events.publish(schedule, Severity::Normal, Reason::BackupSetsExpired.as_str(), "Expire", &note);
    }
    Ok(())
}

/// Writes what differs from the status as it was observed. It holds only for the version of the schedule that was decided about.
async fn write_status(
    context: &Context,
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
) -> Result<(), Error> {
    let before = schedule.status.clone().unwrap_or_default();
    let difference = patch::merge(&serde_json::to_value(&before)?, &serde_json::to_value(status)?);
    let Some(difference) = difference else { return Ok(()) };
    let metadata = json!({ "uid": schedule.uid(), "resourceVersion": schedule.resource_version() });
    let body = json!({ "metadata": metadata, "status": difference });
    let schedules: Api<BackupSchedule> =
        Api::namespaced(context.client.clone(), &schedule.namespace().unwrap_or_default());
    match schedules.patch_status(&schedule.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(written) => {
            context.schedules.wrote(written);
            tell(context, schedule, &before, status);
            Ok(())
        }
        Err(kube::Error::Api(error)) if error.is_not_found() => Ok(()),
        Err(kube::Error::Api(error)) if error.is_conflict() => Err(Error::Again("the schedule changed meanwhile")),
        Err(error) => Err(error.into()),
    }
}

/// An event where it stops being able to tell its ticks. Never waits, never fails.
fn tell(context: &Context, schedule: &BackupSchedule, before: &BackupScheduleStatus, now: &BackupScheduleStatus) {
    let stalled = |status: &BackupScheduleStatus| {
        status.conditions.iter().find(|condition| condition.type_ == conditions::STALLED).cloned()
    };
    if let Some(stall) = stalled(now)
        && stalled(before).is_none_or(|before| before.message != stall.message)
    {
        context.events.publish(schedule, Severity::Warning, &stall.reason, "Schedule", &stall.message);
    }
}
