//! The decision about a schedule. Pure.
//!
//! First comes the current state: which runs are active, which succeeded last, which are too old.
//! Then comes what is due, and what that means under the policy. The status records each tick that
//! is settled. A run that was created before a crash and is not recorded there is recognized by
//! `spec.scheduledBy`, which only the operator may write.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        BackupSchedule, BackupScheduleStatus, BackupSet, ObjectReference, OperationRun, OperationRunSpec, Outcome,
        Phase, Reason,
        backup_schedule::{
            ConcurrencyPolicy, Counted, LastRunNow, LastSuccessful, MAX_ACTIVE, MAX_WOULD_EXPIRE, Missed, Retained,
            Retention, origin, run_names, run_now_name, tick_run_name,
        },
        backup_set::Coverage,
        conditions::{self, Wanted},
        labels,
        operation_run::{ScheduledBy, SchedulerKind, Trigger},
        result::truncate,
    },
    kernel::{refusal::Refusal, whole::too_large},
    runs::waiting::waits,
    schedule::{
        CLOCKS_DIFFER, Due, LONGEST_REST, Timetable, due, jitter,
        retention::{Backup, Rules, expired, span},
        timetable::Unreadable,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::{collections::BTreeSet, sync::Arc};

/// Longest step back of a clock across which settled ticks stay settled: their runs may be gone,
/// and with them the names that would prove it. A clock that was further ahead was wrong, and must
/// not silence a schedule until then.
const LONGEST_STEP: SignedDuration = SignedDuration::from_hours(24);

/// Most backup sets that one reconcile deletes; the next one continues. Ticks do not wait for
/// thousands of deletions.
const MAX_EXPIRE: usize = 100;

/// All that a decision depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The schedule.
    pub schedule: Arc<BackupSchedule>,
    /// The workspace of the tenant; `None` if the namespace is not a tenant.
    pub workspace: Option<String>,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
    /// Runs that were created for the schedule.
    pub runs: Vec<Arc<OperationRun>>,
    /// Uids of runs whose end has not been copied yet by runs that joined them.
    pub awaited: BTreeSet<String>,
    /// Backup sets of its runs, if retention may have something to do.
    pub sets: Option<Vec<BackupSet>>,
    /// Whether retention may have something to do, but the sets were not read because other
    /// schedules wait.
    pub retention_waits: bool,
}

/// What to do, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decision {
    /// Runs to create.
    pub start: Vec<OperationRun>,
    /// Active runs to cancel after those are created: a run that cannot be replaced continues.
    pub cancel: Vec<ObjectReference>,
    /// Backup sets to delete, in the version that was observed.
    pub expire: Vec<BackupSet>,
    /// The status after that; runs that were created are added to `active`.
    pub status: Option<BackupScheduleStatus>,
    /// Completed runs to delete.
    pub delete: Vec<ObjectReference>,
    /// Ticks that are newly missed, and why.
    pub missed: Vec<Miss>,
    /// When to requeue.
    pub requeue: Option<SignedDuration>,
}

/// Ticks that have passed and are not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Number of ticks.
    pub count: u64,
    /// Why they are not started.
    pub why: &'static str,
}

impl Miss {
    /// Formats a message for an event.
    #[must_use]
    pub fn note(&self) -> String {
        let ticks = if self.count == 1 { "1 tick was".to_owned() } else { format!("{} ticks were", self.count) };
        format!("{ticks} not started: {}", self.why)
    }
}

const FORBIDDEN: &str = "an earlier run is not completed, and concurrencyPolicy is Forbid";
const DOWN: &str = "they were due while the operator could not start them";
const EDITED: &str = "they were due before the schedule was changed, while the operator could not start them";

impl Decision {
    /// Whether there is anything to do.
    #[must_use]
    pub fn writes(&self) -> bool {
        let Self { cancel, start, expire, status, delete, missed, requeue: _ } = self;
        let lists = cancel.is_empty() && start.is_empty() && expire.is_empty() && delete.is_empty();
        !lists || status.is_some() || !missed.is_empty()
    }

    /// Number of ticks that are newly missed.
    #[must_use]
    pub fn missed_ticks(&self) -> u64 {
        self.missed.iter().map(|miss| miss.count).sum()
    }

    fn miss(&mut self, next: &mut BackupScheduleStatus, count: u64, last: Option<Timestamp>, why: &'static str) {
        let Some(last) = last.filter(|_| count > 0) else { return };
        let before = next.missed.as_ref();
        let total = before.map_or(0, |missed| missed.count).saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        let last = before.map_or(last, |missed| missed.last.max(last));
        next.missed = Some(Missed { count: total, last });
        self.missed.push(Miss { count, why });
    }
}

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
    if observed.workspace.is_some() && too_large(&**schedule).is_none() {
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
            fire(&mut decision, &mut next, observed, &timetable, now);
            let message = match waiting(observed) {
                Some(waiting) => format!("{STARTS}; {waiting}"),
                None => STARTS.to_owned(),
            };
            (vec![wanted(conditions::READY, "True")], Reason::Scheduled, message)
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

fn reference(run: &OperationRun) -> ObjectReference {
    ObjectReference { name: run.name_any(), uid: run.uid().unwrap_or_default() }
}

/// Runs that are not completed, without those that repeat a tick: they end as blocked, and nothing waits for them.
fn active(observed: &Observed) -> impl Iterator<Item = &OperationRun> {
    let runs = observed.runs.iter().map(|run| &**run).filter(|run| !run.is_completed());
    runs.filter(|run| !observed.schedule.is_repeated_by(run))
}

/// Updates the status from the runs.
fn follow(next: &mut BackupScheduleStatus, observed: &Observed) {
    next.active = active(observed).map(reference).take(MAX_ACTIVE).collect();
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
        old.filter(|run| may_go(run)).map(|run| reference(run))
    };
    let succeeded = beyond(true, spec.successful_runs_history_limit);
    succeeded.chain(beyond(false, spec.failed_runs_history_limit)).collect()
}

/// Mark of a retention that has more to delete.
const UNFINISHED: &str = "unfinished";

/// Identifies the run and the spec after which retention was applied. What is kept depends on
/// nothing else that changes by itself.
#[must_use]
pub fn retention_mark(schedule: &BackupSchedule, runs: &[Arc<OperationRun>]) -> String {
    let ended = runs.iter().filter_map(|run| Some((run.status.as_ref()?.completed_at?, run.name_any())));
    let newest = ended.max().map_or_else(|| "none".to_owned(), |(_, name)| name);
    format!("{}/{newest}", schedule.metadata.generation.unwrap_or_default())
}

/// Decides which of the schedule's backup sets expire.
fn retain(decision: &mut Decision, next: &mut BackupScheduleStatus, observed: &Observed, timetable: &Timetable) {
    let Some(retention) = &observed.schedule.spec.retention else {
        next.retention = None;
        return;
    };
    let Some(sets) = &observed.sets else { return };
    let name = observed.schedule.name_any();
    let of_name = sets.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).filter_map(|set| {
        set.spec.backup_schedule.as_ref().filter(|schedule| schedule.name == name).map(|schedule| (set, schedule))
    });
    // Sets of another schedule of this name are not for this one to delete, whatever its rules are.
    let uid = observed.schedule.metadata.uid.as_ref();
    let (own, earlier): (Vec<_>, Vec<_>) = of_name.partition(|(_, schedule)| Some(&schedule.uid) == uid);
    let own: Vec<&BackupSet> = own.into_iter().map(|(set, _)| set).collect();
    let backups: Vec<Backup> = own.iter().filter_map(|set| backup(set)).collect();
    let gone: BTreeSet<String> = expired(&rules(retention), &timetable.zone, &backups).into_iter().collect();
    let mut gone: Vec<&BackupSet> = own.iter().copied().filter(|set| gone.contains(&set.name_any())).collect();
    gone.sort_by_key(|set| (set.metadata.creation_timestamp.clone(), set.name_any()));
    let mut would_expire = Vec::new();
    let mut after = retention_mark(&observed.schedule, &observed.runs);
    if retention.dry_run {
        would_expire = gone.drain(..).take(MAX_WOULD_EXPIRE).map(ResourceExt::name_any).collect();
    } else if gone.len() > MAX_EXPIRE {
        // Writing this status triggers the next reconcile, which continues.
        UNFINISHED.clone_into(&mut after);
    }
    decision.expire = gone.into_iter().take(MAX_EXPIRE).cloned().collect();
    let count = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
    let expired = count(decision.expire.len());
    let (kept, of_earlier_schedules) = (count(own.len()) - expired, count(earlier.len()));
    next.retention = Some(Retained { after, kept, expired, of_earlier_schedules, would_expire });
}

fn backup(set: &BackupSet) -> Option<Backup> {
    let conditions = set.status.iter().flat_map(|status| &status.conditions);
    let mut ready = conditions.filter(|condition| condition.type_ == conditions::READY);
    Some(Backup {
        name: set.name_any(),
        at: set.metadata.creation_timestamp.as_ref()?.0,
        good: ready.any(|condition| condition.status == "True"),
        whole: set.spec.coverage == Coverage::Full,
        hold: set.spec.hold,
        asked: set.spec.trigger == Trigger::RunNow,
    })
}

fn rules(retention: &Retention) -> Rules {
    let Retention {
        keep_last,
        keep_hourly,
        keep_daily,
        keep_weekly,
        keep_monthly,
        keep_yearly,
        keep_within,
        dry_run: _,
    } = retention;
    let count = |number: &Option<i32>| number.and_then(|number| usize::try_from(number).ok()).unwrap_or(0);
    Rules {
        last: count(keep_last),
        hourly: count(keep_hourly),
        daily: count(keep_daily),
        weekly: count(keep_weekly),
        monthly: count(keep_monthly),
        yearly: count(keep_yearly),
        within: keep_within.as_deref().and_then(span),
    }
}

/// Restarts the count when the expression, the time zone or the pause changes: a tick that a new
/// expression would have had yesterday is not missed. A tick that the old expression had while the
/// operator was down is missed.
fn count_anew(decision: &mut Decision, next: &mut BackupScheduleStatus, observed: &Observed, now: Timestamp) {
    let schedule = &observed.schedule;
    let spec = &schedule.spec;
    let paused = spec.suspend || observed.workspace.is_none();
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

/// Answers the annotation, which requests one run now, regardless of policy and suspension.
/// Identical work is joined, not done twice.
fn run_now(decision: &mut Decision, next: &mut BackupScheduleStatus, observed: &Observed) {
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

/// Decides what is due now, and what comes next.
fn fire(
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
                    decision.cancel = others().filter(|run| !run.spec.cancel).map(reference).collect();
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

fn origin_tick(run: &OperationRun) -> Option<Timestamp> {
    origin(run)?.scheduled_for
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
            ..OperationRunSpec::default()
        },
    );
    let initiator = spec.requested_by.as_ref().map(|initiator| initiator.username.as_str());
    let workspace = observed.workspace.as_deref();
    run.metadata.namespace = schedule.namespace();
    run.metadata.labels = Some(labels::of_run(None, operation_type, trigger, workspace, initiator, Outcome::Pending));
    run
}
