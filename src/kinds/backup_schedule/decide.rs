//! The decision about a schedule. Pure.
//!
//! First comes the current state: which runs are active, which succeeded last, which are too old.
//! Then comes what is due, and what that means under the policy. The status records each tick that
//! is settled. A run that was created before a crash and is not recorded there is recognized by
//! `spec.scheduledBy`, which only the operator may write.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    decision::{Decision, Observed, active, origin_tick},
    limits::OverQuota,
    retain::retain,
    ticks::{count_anew, fire, run_now},
};
use crate::{
    api::{
        BackupSchedule, BackupScheduleStatus, ObjectReference, OperationRun, Outcome, Phase, Reason,
        backup_schedule::{LastSuccessful, MAX_ACTIVE},
        conditions::{self, Wanted},
        operation_run::Trigger,
        result::truncate,
    },
    kernel::{refusal::Refusal, whole::too_large},
    runs::waiting::waits,
    schedule::{Timetable, timetable::Unreadable},
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

/// Decides about a schedule.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let schedule = &observed.schedule;
    if schedule.metadata.deletion_timestamp.is_some() || observed.terminating {
        return Decision::default();
    }
    let mut next = schedule.status.clone().unwrap_or_default();
    next.observed_generation = schedule.metadata.generation;
    let mut decision = Decision::default();
    follow(&mut next, observed);
    count_anew(&mut decision, &mut next, observed, now);
    if observed.workspace.is_some() && observed.over_quota.is_none() && too_large(&**schedule).is_none() {
        run_now(&mut decision, &mut next, observed);
    }
    let (wanted, reason, message) = match timetable(observed) {
        Err(Refusal { reason, message }) => {
            next.next_scheduled_for = None;
            (stalled(), reason, message)
        }
        Ok(timetable) if schedule.spec.suspend => {
            retain(&mut decision, &mut next, observed, &timetable);
            next.next_scheduled_for = None;
            let message = "suspended: ticks are left out and do not count as missed".to_owned();
            (vec![wanted(conditions::READY, "True")], Reason::ScheduleSuspended, message)
        }
        Ok(timetable) => {
            retain(&mut decision, &mut next, observed, &timetable);
            if let Some(OverQuota { refusal, again }) = &observed.over_quota {
                next.next_scheduled_for = None;
                decision.requeue = Some(*again);
                (stalled(), refusal.reason, refusal.message.clone())
            } else {
                fire(&mut decision, &mut next, observed, &timetable, now);
                let message = match waiting(observed) {
                    Some(waiting) => format!("{STARTS}; {waiting}"),
                    None => STARTS.to_owned(),
                };
                (vec![wanted(conditions::READY, "True")], Reason::Scheduled, message)
            }
        }
    };
    decision.delete = beyond_history(observed, &next);
    if !(reason == Reason::Scheduled && decision.start.is_empty() && is_refused(schedule)) {
        let message = truncate(&message, 1000);
        let generation = schedule.metadata.generation;
        next.conditions = conditions::merge(&next.conditions, &wanted, reason.as_str(), &message, generation, now);
    }
    if schedule.status.as_ref() != Some(&next) || !decision.start.is_empty() {
        decision.status = Some(next);
    }
    decision
}

const STARTS: &str = "starts a run at each tick";

/// What the oldest active run waits for, leaving out runs that wait only for a slot.
fn waiting(observed: &Observed) -> Option<String> {
    let mut waiting: Vec<_> = active(observed)
        .filter_map(|run| Some((waits(run)?, run.metadata.creation_timestamp.clone())))
        .filter(|((reason, _), _)| reason != Reason::ConcurrencyLimit.as_str())
        .collect();
    waiting.sort_by(|one, other| one.1.cmp(&other.1));
    waiting.into_iter().next().map(|((_, message), _)| message)
}

/// Whether a schedule reports that this run waits.
#[must_use]
pub fn says_of(schedule: &BackupSchedule, run: &OperationRun) -> bool {
    let says = format!("run {} waits: ", run.name_any());
    let mut conditions = schedule.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|condition| condition.message.contains(&says))
}

/// Reasons of a schedule whose run the API server rejected.
const REFUSALS: [Reason; 2] = [Reason::RunRefused, Reason::QuotaExceeded];

/// Whether the schedule, in its current generation, reports that its run is refused. The report is
/// kept until a run is created: a tick that was given up meanwhile is no sign that the next one
/// will be accepted.
fn is_refused(schedule: &BackupSchedule) -> bool {
    let conditions = schedule.status.iter().flat_map(|status| &status.conditions);
    let mut stalled =
        conditions.filter(|condition| condition.type_ == conditions::STALLED && condition.status == "True");
    stalled.any(|condition| {
        condition.observed_generation == schedule.metadata.generation
            && REFUSALS.iter().any(|reason| reason.as_str() == condition.reason)
    })
}

/// The status after the API server rejected these runs of a decision. What they are for is not
/// settled: it is retried, a tick until its deadline.
#[must_use]
pub fn refused(
    schedule: &BackupSchedule,
    mut next: BackupScheduleStatus,
    not_made: &[&OperationRun],
    refusal: &Refusal,
    now: Timestamp,
) -> BackupScheduleStatus {
    let before = schedule.status.clone().unwrap_or_default();
    for run in not_made {
        if run.spec.trigger == Trigger::RunNow {
            next.last_run_now.clone_from(&before.last_run_now);
        } else {
            next.last_scheduled_for = before.last_scheduled_for;
            next.missed.clone_from(&before.missed);
        }
    }
    let (generation, message) = (schedule.metadata.generation, truncate(&refusal.message, 1000));
    let reason = refusal.reason.as_str();
    next.conditions = conditions::merge(&before.conditions, &stalled(), reason, &message, generation, now);
    next
}

/// When to retry what was refused: after half a minute, and a few times before the deadline if that
/// is short.
#[must_use]
pub fn retry_after(schedule: &BackupSchedule) -> SignedDuration {
    let quarter = schedule.spec.starting_deadline_seconds.map_or(i64::MAX, |deadline| deadline / 4);
    SignedDuration::from_secs(quarter.clamp(2, 30))
}

fn stalled() -> Vec<Wanted> {
    vec![wanted(conditions::READY, "False"), wanted(conditions::STALLED, "True")]
}

fn wanted(type_: &'static str, status: &'static str) -> Wanted {
    Wanted { type_, status }
}

/// Updates the status from the runs.
fn follow(next: &mut BackupScheduleStatus, observed: &Observed) {
    next.active = active(observed).map(ObjectReference::of).take(MAX_ACTIVE).collect();
    let ends = observed.runs.iter().filter_map(|run| {
        let status = run.status.as_ref().filter(|status| status.phase == Phase::Completed)?;
        let completed_at = status.completed_at.filter(|_| status.outcome == Outcome::Succeeded)?;
        Some(LastSuccessful { run: run.name_any(), completed_at })
    });
    let newest = ends.chain(next.last_successful.take());
    next.last_successful =
        newest.max_by(|one, other| (one.completed_at, &one.run).cmp(&(other.completed_at, &other.run)));
}

/// Completed runs that exceed the history limit of their kind. A run is kept if its tick is not in
/// the status yet, because its name is the only record of it. A run is also kept if other runs have
/// yet to copy its end, because they would start over.
fn beyond_history(observed: &Observed, next: &BackupScheduleStatus) -> Vec<ObjectReference> {
    let spec = &observed.schedule.spec;
    let since = next.timetable.as_ref().map(|counted| counted.since);
    let settled = next.last_scheduled_for.max(since);
    let may_go = |run: &OperationRun| {
        origin_tick(run).is_none_or(|tick| Some(tick) <= settled)
            && !run.metadata.uid.as_ref().is_some_and(|uid| observed.awaited.contains(uid))
    };
    let mut ended: Vec<_> = observed
        .runs
        .iter()
        .filter(|run| run.metadata.deletion_timestamp.is_none())
        .filter_map(|run| {
            let status = run.status.as_ref().filter(|status| status.phase == Phase::Completed)?;
            Some((status.completed_at, run.name_any(), status.outcome == Outcome::Succeeded, run))
        })
        .collect();
    ended.sort_by(|one, other| (other.0, &other.1).cmp(&(one.0, &one.1)));
    let beyond = |succeeded: bool, limit: i32| {
        let of_sort = ended.iter().filter(move |(_, _, of_run, _)| *of_run == succeeded);
        let old = of_sort.skip(usize::try_from(limit).unwrap_or(1)).map(|(_, _, _, run)| run);
        old.filter(|run| may_go(run)).map(|run| ObjectReference::of(&***run))
    };
    let succeeded = beyond(true, spec.successful_runs_history_limit);
    succeeded.chain(beyond(false, spec.failed_runs_history_limit)).collect()
}

/// The timetable of the schedule, or why there is none.
fn timetable(observed: &Observed) -> Result<Timetable, Refusal> {
    let spec = &observed.schedule.spec;
    if observed.workspace.is_none() {
        return Err(Refusal::not_a_tenant(&observed.schedule.namespace().unwrap_or_default()));
    }
    if let Some(refusal) = too_large(&*observed.schedule) {
        return Err(refusal);
    }
    Timetable::read(&spec.schedule, &spec.time_zone).map_err(|unreadable| match unreadable {
        Unreadable::Expression(mistake) => {
            Refusal::new(Reason::InvalidSchedule, format!("spec.schedule {:?}, {mistake}", spec.schedule))
        }
        Unreadable::Zone => Refusal::new(
            Reason::UnknownTimeZone,
            format!(
                "spec.timeZone: there is no zone {:?} in the IANA database: names are such as UTC or Europe/Berlin",
                spec.time_zone
            ),
        ),
    })
}
