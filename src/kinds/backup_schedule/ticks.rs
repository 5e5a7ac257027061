//! Which runs a schedule starts: those that its ticks and its annotation ask for. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::decision::{Decision, Observed, active, origin_tick};
use crate::{
    api::{
        BackupSchedule, BackupScheduleStatus, ObjectReference, OperationRun, OperationRunSpec, Outcome,
        backup_schedule::{ConcurrencyPolicy, Counted, LastRunNow, run_names, run_now_name, tick_run_name},
        labels,
        operation_run::{ScheduledBy, SchedulerKind, Trigger},
        result::truncate,
    },
    schedule::{CLOCKS_DIFFER, Due, LONGEST_REST, Timetable, due, jitter},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

/// Longest step back of a clock across which settled ticks stay settled: their runs may be gone,
/// and with them the names that would prove it. A clock that was further ahead was wrong, and must
/// not silence a schedule until then.
const LONGEST_STEP: SignedDuration = SignedDuration::from_hours(24);

const FORBIDDEN: &str = "an earlier run is not completed, and concurrencyPolicy is Forbid";
const DOWN: &str = "they were due while the operator could not start them";
const EDITED: &str = "they were due before the schedule was changed, while the operator could not start them";

/// Restarts the count when the expression, the time zone or the pause changes: a tick that a new
/// expression would have had yesterday is not missed. A tick that the old expression had while the
/// operator was down is missed.
pub(super) fn count_anew(
    decision: &mut Decision,
    next: &mut BackupScheduleStatus,
    observed: &Observed,
    now: Timestamp,
) {
    let schedule = &observed.schedule;
    let spec = &schedule.spec;
    let paused = spec.suspend || observed.workspace.is_none() || observed.over_quota.is_some();
    let before = next.timetable.take();
    let same = before.as_ref().is_none_or(|before| {
        (&before.schedule, &before.time_zone, before.paused) == (&spec.schedule, &spec.time_zone, paused)
    });
    let since = match &before {
        Some(before) if same && !is_ahead(before.since, now) => before.since,
        Some(_) => now,
        // Not when it was first seen: the operator may have been down then.
        None => created(schedule, now),
    };
    if let Some(before) = before.filter(|before| !same && !before.paused)
        && let Ok(timetable) = Timetable::read(&before.schedule, &before.time_zone)
    {
        let settled = next.last_scheduled_for.map_or(before.since, |last| last.max(before.since));
        // As if the deadline of all of them had passed.
        let Due { missed, last_missed, .. } =
            due(&timetable, settled, shift(schedule), Some(SignedDuration::from_nanos(-1)), now);
        decision.miss(next, missed.saturating_sub(made_between(observed, settled, last_missed)), last_missed, EDITED);
        next.last_scheduled_for = last_missed.or(next.last_scheduled_for);
    }
    let (schedule, time_zone) = (spec.schedule.clone(), spec.time_zone.clone());
    next.timetable = Some(Counted { schedule, time_zone, paused, since });
}

/// Number of runs for ticks in `(settled, until]` that were created before a crash and are not
/// recorded yet.
fn made_between(observed: &Observed, settled: Timestamp, until: Option<Timestamp>) -> u64 {
    let made = observed.runs.iter().filter_map(|run| origin_tick(run));
    made.filter(|made| *made > settled && Some(*made) <= until).count() as u64
}

fn created(schedule: &BackupSchedule, now: Timestamp) -> Timestamp {
    schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0)
}

fn shift(schedule: &BackupSchedule) -> SignedDuration {
    jitter(&schedule.uid().unwrap_or_default(), schedule.spec.jitter_seconds)
}

/// Answers the annotation, which requests one run now, regardless of policy and suspension.
/// Identical work is joined, not done twice.
pub(super) fn run_now(decision: &mut Decision, next: &mut BackupScheduleStatus, observed: &Observed) {
    let schedule = &observed.schedule;
    let Some(token) = schedule.annotations().get(labels::RUN_NOW).filter(|token| !token.is_empty()) else { return };
    // The status holds a limited part of the token. Longer tokens are distinguished by the name of
    // the run.
    let names = run_names(&run_now_name(&schedule.name_any(), token), &schedule.uid().unwrap_or_default());
    let token = truncate(token, 250);
    let answered = next.last_run_now.as_ref();
    if answered.is_some_and(|answer| answer.token == token && names.contains(&answer.run)) {
        return;
    }
    let made = observed.runs.iter().map(|known| known.name_any()).find(|known| names.contains(known));
    let [first, _] = names;
    if made.is_none() {
        decision.start.push(of(observed, &first, Trigger::RunNow, None));
    }
    next.last_run_now = Some(LastRunNow { token, run: made.unwrap_or(first) });
}

/// Decides which tick is due now, and when the next one is.
pub(super) fn fire(
    decision: &mut Decision,
    next: &mut BackupScheduleStatus,
    observed: &Observed,
    timetable: &Timetable,
    now: Timestamp,
) {
    let schedule = &observed.schedule;
    let spec = &schedule.spec;
    let created = created(schedule, now);
    let since = next.timetable.as_ref().map_or(created, |counted| counted.since);
    if next.last_scheduled_for.is_some_and(|last| last.duration_since(now) > LONGEST_STEP) {
        // A tick that is due this very minute is left to the next reconcile: a run of a tick that
        // is already recorded is refused.
        next.last_scheduled_for = minute_of(now.checked_sub(SignedDuration::from_mins(1)).unwrap_or(now));
        decision.requeue = Some(SignedDuration::from_millis(1));
        return;
    }
    let settled = next.last_scheduled_for.map_or(since, |last| last.max(since));
    let shift = shift(schedule);
    let deadline = spec.starting_deadline_seconds.map(SignedDuration::from_secs);
    let Due { mut tick, missed, last_missed, next: upcoming } = due(timetable, settled, shift, deadline, now);
    // Runs that were created before a crash and are not recorded yet are neither missed nor created
    // again.
    decision.miss(next, missed.saturating_sub(made_between(observed, settled, last_missed)), last_missed, DOWN);

    let dealt_with = tick.or(last_missed);
    if dealt_with.is_none() && spec.immediate && next.last_scheduled_for.is_none() && since == created {
        // Only before the deadline. A schedule that was suspended meanwhile starts at its ticks.
        tick = minute_of(created).filter(|_| deadline.is_none_or(|deadline| now.duration_since(created) <= deadline));
    }
    if let Some(due) = tick {
        let is_of = |run: &OperationRun| origin_tick(run) == Some(due);
        let is_made = observed.runs.iter().any(|run| is_of(run));
        let others = || active(observed).filter(|run| !is_of(run));
        let forbidden = || others().next().is_some() || !decision.start.is_empty();
        match spec.concurrency_policy {
            ConcurrencyPolicy::Forbid if !is_made && forbidden() => decision.miss(next, 1, Some(due), FORBIDDEN),
            policy => {
                if policy == ConcurrencyPolicy::Replace {
                    // Also if the run was created before a crash.
                    decision.cancel = others().filter(|run| !run.spec.cancel).map(ObjectReference::of).collect();
                }
                // Otherwise the run is already active, or completed.
                if !is_made {
                    let name = tick_run_name(&schedule.name_any(), due);
                    decision.start.push(of(observed, &name, Trigger::Scheduled, Some(due)));
                }
            }
        }
    }
    next.last_scheduled_for = tick.or(dealt_with).or(next.last_scheduled_for);
    next.next_scheduled_for = upcoming;
    decision.requeue = upcoming.map(|upcoming| {
        let fires = upcoming.checked_add(shift).unwrap_or(upcoming);
        fires.duration_since(now).clamp(SignedDuration::from_millis(1), LONGEST_REST)
    });
}

/// Whether a time was written by a clock that has been set back since.
fn is_ahead(written: Timestamp, now: Timestamp) -> bool {
    written.duration_since(now) > CLOCKS_DIFFER
}

fn minute_of(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second().div_euclid(60) * 60).ok()
}

/// Builds a run of the schedule. The run has no owner: deleting the schedule must leave the run,
/// and what it created, as they are.
fn of(observed: &Observed, name: &str, trigger: Trigger, tick: Option<Timestamp>) -> OperationRun {
    let schedule = &observed.schedule;
    let spec = &schedule.spec;
    let operation_type = &spec.operation.operation_type;
    let mut run = OperationRun::new(
        name,
        OperationRunSpec {
            operation_type: operation_type.clone(),
            trigger,
            initiator: spec.requested_by.clone(),
            inputs: spec.operation.inputs.clone(),
            scheduled_by: Some(ScheduledBy {
                kind: SchedulerKind::BackupSchedule,
                name: schedule.name_any(),
                uid: schedule.uid().unwrap_or_default(),
                tick,
            }),
            queue_timeout_seconds: spec.queue_timeout_seconds,
            ..OperationRunSpec::default()
        },
    );
    let initiator = spec.requested_by.as_ref().map(|initiator| initiator.username.as_str());
    let workspace = observed.workspace.as_deref();
    run.metadata.namespace = schedule.namespace();
    run.metadata.labels = Some(labels::of_run(None, operation_type, trigger, workspace, initiator, Outcome::Pending));
    run
}
