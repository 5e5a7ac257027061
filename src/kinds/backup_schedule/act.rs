//! All writes of a schedule's reconcile, in the order of the decision: runs are created, the runs
//! that they replace are cancelled, backup sets expire, the status records all of it, and runs
//! beyond the history limits are deleted.

use super::{
    decide::{refused, retry_after},
    decision::{Decision, Observed},
};
use crate::{
    api::{
        BackupSchedule, BackupScheduleStatus, BackupSet, ObjectReference, OperationRun, Reason,
        backup_schedule::{MAX_ACTIVE, Missed, origin, run_names},
        conditions,
        operation_run::Trigger,
    },
    kernel::{
        Error,
        delete::delete,
        events::Severity,
        refusal::{Refusal, of_due_run},
        status,
    },
    runs::context::Context,
};
use jiff::SignedDuration;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

/// Most names of backup sets in one event, which holds 1 KiB.
const NAMES: usize = 12;

fn runs(context: &Context, schedule: &BackupSchedule) -> Api<OperationRun> {
    Api::namespaced(context.client.clone(), &schedule.namespace().unwrap_or_default())
}

/// Carries out what cannot wait: creates the runs that are due, then cancels the runs that they
/// replace. If one run is refused, the others are still created, and the runs to be replaced
/// continue.
pub async fn start_due<'d>(
    context: &Context,
    observed: &Observed,
    decision: &'d Decision,
) -> Result<Started<'d>, Error> {
    let runs = runs(context, &observed.schedule);
    let mut started = Started::default();
    for run in &decision.start {
        match start(context, &runs, run).await {
            Ok(Some(reference)) => started.made.push((run, reference)),
            Ok(None) => started.taken.push(run),
            Err(error) => match refusal(&error) {
                Some(refusal) => started.refused.push((run, refusal)),
                None => return Err(error),
            },
        }
    }
    if started.refused.is_empty() {
        for run in &decision.cancel {
            cancel(context, &runs, run).await?;
        }
    }
    Ok(started)
}

/// What became of the runs that were due.
#[derive(Default)]
pub struct Started<'d> {
    made: Vec<(&'d OperationRun, ObjectReference)>,
    /// Runs whose names are taken by runs that are not ours.
    taken: Vec<&'d OperationRun>,
    /// Runs that the API server rejects.
    refused: Vec<(&'d OperationRun, Refusal)>,
}

impl Started<'_> {
    fn is_refused(&self) -> bool {
        !self.refused.is_empty()
    }

    /// The status that was decided, adjusted to what became of the runs.
    fn told(
        &self,
        context: &Context,
        schedule: &BackupSchedule,
        mut status: BackupScheduleStatus,
    ) -> BackupScheduleStatus {
        for (wanted, run) in &self.made {
            if let Some(answer) = status.last_run_now.as_mut().filter(|answer| answer.run == wanted.name_any()) {
                answer.run.clone_from(&run.name);
            }
            // The next reconcile counts the rest.
            if status.active.len() < MAX_ACTIVE && !status.active.iter().any(|active| active.uid == run.uid) {
                status.active.push(run.clone());
            }
        }
        for last in self.taken.iter().filter_map(|run| origin(run)?.scheduled_for) {
            let count = status.missed.as_ref().map_or(0, |missed| missed.count).saturating_add(1);
            status.missed = Some(Missed { count, last });
        }
        let Some((_, why)) = self.refused.first() else { return status };
        let not_made: Vec<_> = self.refused.iter().map(|(run, _)| *run).collect();
        refused(schedule, status, &not_made, why, context.clock.now())
    }
}

/// Carries out a decision. Returns when to requeue because a run was refused.
pub async fn act(context: &Context, observed: &Observed, decision: &Decision) -> Result<Option<SignedDuration>, Error> {
    let schedule = &observed.schedule;
    let started = start_due(context, observed, decision).await?;
    let expired = expire(context, schedule, &decision.expire).await;
    if let Some(mut status) = decision.status.clone() {
        if expired.is_err() {
            // Retention is retried, and ticks do not wait for it.
            status.retention = schedule.status.as_ref().and_then(|status| status.retention.clone());
        }
        write_status(context, schedule, &started.told(context, schedule, status)).await?;
    }
    announce(context, schedule, &started, decision);
    if started.is_refused() {
        // No new run was created that could push out old ones.
        return expired.map(|()| Some(retry_after(schedule)));
    }
    let runs = runs(context, schedule);
    for run in &decision.delete {
        delete(&runs, run).await?;
    }
    expired.map(|()| None)
}

/// Publishes events about what was started, what was not, and why.
fn announce(context: &Context, schedule: &BackupSchedule, started: &Started<'_>, decision: &Decision) {
    let publish = |severity, reason: Reason, note: &str| {
        context.events.publish(schedule, severity, reason.as_str(), "Start", note);
    };
    for (run, reference) in &started.made {
        let note = format!("run {}, {}", reference.name, run.spec.trigger.as_str());
        publish(Severity::Normal, Reason::RunCreated, &note);
    }
    for run in &started.taken {
        let note = format!("{} was made by somebody else: delete it, or rename the schedule", run.name_any());
        publish(Severity::Warning, Reason::RunNameTaken, &note);
    }
    // If a tick was refused, the missed ticks are still to be settled.
    if !started.refused.iter().any(|(run, _)| run.spec.trigger == Trigger::Scheduled) {
        for miss in &decision.missed {
            publish(Severity::Warning, Reason::TicksMissed, &miss.note());
        }
    }
}

/// Why the API server rejects a run, as a message for its schedule; `None` if the failure may pass
/// by itself.
fn refusal(error: &Error) -> Option<Refusal> {
    let Error::Api(error) = error else { return None };
    of_due_run(error, "it is tried again, a tick until its deadline or the next one; those then count as missed")
}

/// Creates a run, under its second name if a run that is not ours has the first. Returns `None` if
/// both names are taken.
async fn start(
    context: &Context,
    runs: &Api<OperationRun>,
    run: &OperationRun,
) -> Result<Option<ObjectReference>, Error> {
    let by = run.spec.scheduled_by.as_ref();
    for name in run_names(&run.name_any(), by.map(|by| by.uid.as_str()).unwrap_or_default()) {
        let mut run = run.clone();
        run.metadata.name = Some(name.clone());
        let made = match runs.create(&PostParams::default(), &run).await {
            Ok(made) => made,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                // Ours, from before a crash or from another leader; or not ours, whatever it looks
                // like.
                let there = runs.get_opt(&name).await?.ok_or(Error::Again("a run came and went"))?;
                if there.spec.scheduled_by.as_ref() != by {
                    continue;
                }
                there
            }
            Err(error) => return Err(error.into()),
        };
        let reference = ObjectReference::of(&made);
        context.wrote(made);
        return Ok(Some(reference));
    }
    Ok(None)
}

async fn cancel(context: &Context, runs: &Api<OperationRun>, run: &ObjectReference) -> Result<(), Error> {
    let body = json!({ "metadata": { "uid": run.uid }, "spec": { "cancel": true } });
    match runs.patch(&run.name, &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(run) => context.wrote(run),
        // Completed, replaced or gone since: it is no longer in the way.
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_invalid() || status.is_conflict() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// Deletes backup sets, each in the version that was observed: a set that was put on hold since is
/// kept. A set that cannot be deleted does not keep the others from being deleted. Returns the
/// first error.
async fn expire(context: &Context, schedule: &BackupSchedule, sets: &[BackupSet]) -> Result<(), Error> {
    let api: Api<BackupSet> = Api::namespaced(context.client.clone(), &schedule.namespace().unwrap_or_default());
    let (mut gone, mut fault) = (Vec::new(), Ok(()));
    for set in sets {
        let as_seen = Preconditions { uid: set.uid(), resource_version: set.resource_version() };
        let parameters = DeleteParams { preconditions: Some(as_seen), ..DeleteParams::default() };
        let failed = match api.delete(&set.name_any(), &parameters).await {
            Ok(_) => {
                gone.push(set.name_any());
                continue;
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => continue,
            Err(kube::Error::Api(status)) if status.is_conflict() => Error::Again("a backup set changed meanwhile"),
            Err(error) => error.into(),
        };
        fault = fault.and(Err(failed));
    }
    // One event holds only some of the names.
    for names in gone.chunks(NAMES) {
        let sets = if names.len() == 1 { "1 backup set".to_owned() } else { format!("{} backup sets", names.len()) };
        let note = format!("{sets} expired: {}", names.join(", "));
        context.events.publish(schedule, Severity::Normal, Reason::BackupSetsExpired.as_str(), "Expire", &note);
    }
    fault
}

/// Writes what differs from the observed status. The status holds only for the version of the
/// schedule that was decided about.
async fn write_status(
    context: &Context,
    schedule: &BackupSchedule,
    status: &BackupScheduleStatus,
) -> Result<(), Error> {
    let before = schedule.status.clone().unwrap_or_default();
    let api = Api::namespaced(context.client.clone(), &schedule.namespace().unwrap_or_default());
    let remember = |written| context.schedules.wrote(written);
    if status::write(&api, schedule, &before, status, remember).await? {
        tell(context, schedule, &before, status);
    }
    Ok(())
}

/// Publishes an event when the schedule becomes Stalled, or is Stalled for another reason. Never
/// waits, never fails.
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
