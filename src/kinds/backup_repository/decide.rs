//! The decision about a repository. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::recheck;
use crate::{
    api::{
        BackupRepository, BackupRepositoryStatus, OperationRun, OperationRunSpec, Reason,
        backup_repository::{MaintenanceStatus, Ticked},
        conditions::{self, Wanted},
        operation_run::{ScheduledBy, SchedulerKind, Trigger},
        operations,
        result::truncate,
    },
    kernel::{refusal::Refusal, whole::too_large},
    runs::waiting::waits,
    schedule::{CLOCKS_DIFFER, Due, Expression, LONGEST_REST, Mistake, Timetable, due},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// Name of the run that checks this generation of this very repository.
#[must_use]
pub fn check_name(repository: &BackupRepository) -> String {
    let uid = repository.uid().unwrap_or_default();
    let generation = repository.metadata.generation.unwrap_or(1);
    format!("{}-check-{}-{generation}", repository.name_any(), uid.get(..5).unwrap_or_default())
}

/// Decides about the check of the current spec: whether it is to be started, or which run already
/// does it. `runs` returns a run by its name.
pub fn decide(
    repository: &BackupRepository,
    in_tenant: bool,
    runs: impl Fn(&str) -> Option<Arc<OperationRun>>,
) -> Check {
    if repository.metadata.deletion_timestamp.is_some() || !in_tenant {
        return Check::None;
    }
    if let Some(refusal) = too_large(repository) {
        return Check::Refused(refusal);
    }
    if repository.is_checked() {
        return Check::None;
    }
    let name = check_name(repository);
    let check = run(repository, &name, operations::CHECK, None);
    let there = run_names(repository, &name).iter().find_map(|name| runs(name).filter(|there| is_of(there, &check)));
    there.map_or_else(|| Check::Due(Box::new(check)), Check::Made)
}

/// The check of a repository's current spec.
#[derive(Clone, Debug)]
pub enum Check {
    /// The check is done, or there can be none.
    None,
    /// There can be no check, and the repository reports why: it is too large to be read in full.
    Refused(Refusal),
    /// The check is to be started.
    Due(Box<OperationRun>),
    /// The check was started.
    Made(Arc<OperationRun>),
}

/// Longest name of a run.
pub(super) const LONGEST_NAME: usize = 200;

/// The names that a run of a repository may have: the second one if a run that is not ours has the
/// first.
#[must_use]
pub fn run_names(repository: &BackupRepository, name: &str) -> [String; 2] {
    let uid = repository.uid().unwrap_or_default();
    let digits = uid.get(..8).unwrap_or(&uid);
    // The end of the name distinguishes the runs of one repository, so only the beginning is
    // shortened.
    let beyond = (name.len() + 1 + digits.len()).saturating_sub(LONGEST_NAME);
    let own = repository.name_any();
    let what = name.strip_prefix(own.as_str()).unwrap_or(name);
    let begin = own.get(..own.len().saturating_sub(beyond)).unwrap_or(&own).trim_end_matches(['-', '.']);
    [name.to_owned(), format!("{begin}{what}-{digits}")]
}

/// Whether a run found under the name of another run is that run. Any user can create a run of any
/// name with any owner; only the operator may set what a run was created for.
#[must_use]
pub fn is_of(there: &OperationRun, wanted: &OperationRun) -> bool {
    there.spec.operation_type == wanted.spec.operation_type
        && there.spec.scheduled_by.is_some()
        && there.spec.scheduled_by == wanted.spec.scheduled_by
}

/// Why no name is left for a run of a repository, as a message for the repository.
#[must_use]
pub fn names_taken(repository: &BackupRepository, name: &str) -> Refusal {
    let [first, second] = run_names(repository, name);
    let namespace = repository.namespace().unwrap_or_default();
    Refusal::new(
        Reason::RunNameTaken,
        format!(
            "runs that somebody else made have both names that the run which is due may have, {first} and {second}: delete one with `kubectl delete operationrun {first} -n {namespace}`"
        ),
    )
}

/// What a repository in a namespace that is no tenant says: nothing is checked, maintained or deleted.
#[must_use]
pub fn left_alone(repository: &BackupRepository) -> Refusal {
    let Refusal { reason, message } = Refusal::not_a_tenant(&repository.namespace().unwrap_or_default());
    Refusal::new(reason, format!("its backups and the password Secret stay, and nothing is started: {message}"))
}

/// The status of a repository whose run cannot be created. Its tick is not settled by that. Whether
/// the store can be used is a separate question, so Ready keeps the result of a check.
#[must_use]
pub fn refused(repository: &BackupRepository, refusal: &Refusal, now: Timestamp) -> BackupRepositoryStatus {
    let mut next = repository.status.clone().unwrap_or_default();
    let (generation, message) = (repository.metadata.generation, truncate(&refusal.message, 1000));
    if repository.is_checked() {
        follow(&mut next, generation);
    }
    let mut wanted = vec![Wanted { type_: conditions::STALLED, status: "True" }];
    let stays = |condition: &&Condition| condition.type_ == conditions::READY && condition.status != "Unknown";
    let ready = next.conditions.iter().find(stays).filter(|ready| !is_refusal(&ready.reason)).cloned();
    if ready.is_none() {
        wanted.insert(0, Wanted { type_: conditions::READY, status: "False" });
    }
    let said = conditions::merge(&next.conditions, &wanted, refusal.reason.as_str(), &message, generation, now);
    next.conditions = ready.into_iter().chain(said).collect();
    next
}

/// Whether a condition's reason is that a run could not be created, or that the repository is not
/// read, or in no tenant.
fn is_refusal(reason: &str) -> bool {
    [Reason::RunRefused, Reason::QuotaExceeded, Reason::RunNameTaken, Reason::TooLarge, Reason::NotATenant]
        .iter()
        .any(|refusal| refusal.as_str() == reason)
}

fn run(repository: &BackupRepository, name: &str, operation_type: &str, tick: Option<Timestamp>) -> OperationRun {
    let mut run = OperationRun::new(
        name,
        OperationRunSpec {
            operation_type: operation_type.to_owned(),
            trigger: Trigger::Scheduled,
            inputs: inputs(repository).into(),
            scheduled_by: Some(ScheduledBy {
                kind: SchedulerKind::BackupRepository,
                name: repository.name_any(),
                uid: repository.uid().unwrap_or_default(),
                tick,
            }),
            ..OperationRunSpec::default()
        },
    );
    run.metadata.namespace = repository.namespace();
    run.metadata.owner_references = repository.owner_ref(&()).map(|owner| vec![owner]);
    run
}

/// What `spec.maintenance` asks for, and what a repository that cannot be used needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upkeep {
    /// The run to create. It may already exist from before a crash.
    pub start: Option<OperationRun>,
    /// The status after that.
    pub status: Option<BackupRepositoryStatus>,
    /// When to requeue.
    pub requeue: Option<SignedDuration>,
}

/// What is due for a repository whose current spec has been checked.
///
/// Everything is derived from the status. If several ticks have passed, one run is created, named
/// after the last of them, so a crash leads to no second run. Maintenance includes a check, so it
/// also settles a check that is due at the same time. A repository that is not Ready is not
/// maintained, and its tick waits. It is rechecked automatically (`recheck.rs`), whether its spec
/// asks for checks or not.
#[must_use]
pub fn upkeep(repository: &BackupRepository, in_tenant: bool, now: Timestamp) -> Upkeep {
    if !repository.is_checked() || repository.metadata.deletion_timestamp.is_some() || !in_tenant {
        return Upkeep::default();
    }
    let before = repository.status.clone().unwrap_or_default();
    let counted = before.maintenance.clone().unwrap_or_default();
    let spec = repository.spec.maintenance.clone().unwrap_or_default();
    let schedule = Tick::of(spec.schedule.as_deref(), counted.schedule, now);
    let check = Tick::of(spec.check.as_deref(), counted.check, now);
    let mistakes = [("schedule", schedule.as_ref().err()), ("check", check.as_ref().err())];
    let mistake = mistakes.into_iter().find_map(|(field, mistake)| {
        let (text, mistake) = mistake?;
        Some(format!("spec.maintenance.{field} {text:?}, {mistake}"))
    });

    let (mut schedule, mut check) = (schedule.unwrap_or_default(), check.unwrap_or_default());
    let again = recheck::due(&before, now);
    let start = match (schedule.due.filter(|_| repository.is_ready()), check.due, again) {
        (Some(tick), _, _) => Some((tick, operations::MAINTAIN, "maintain")),
        (None, Some(tick), _) => Some((tick, operations::CHECK, "check")),
        (None, None, Some(again)) if again <= now => Some((again, operations::CHECK, "recheck")),
        (None, None, _) => None,
    };
    let mut rechecked = counted.recheck;
    if let Some((_, operation_type, _)) = start {
        // A check does not settle a maintenance tick that waits.
        if operation_type == operations::MAINTAIN {
            schedule.settle();
        }
        check.settle();
        // Any check counts. The time at which it was due may be long ago, and the next recheck
        // would then be due at once.
        rechecked = again.map(|_| now).or(rechecked);
    }
    let settled = MaintenanceStatus { schedule: schedule.counted, check: check.counted, recheck: rechecked };
    let mut next = before.clone();
    follow(&mut next, repository.metadata.generation);
    next.maintenance = (settled != MaintenanceStatus::default()).then_some(settled);
    say(&mut next, repository, mistake.as_deref(), now);
    let again = recheck::due(&next, now);
    let requeue = [schedule.next, check.next, again].into_iter().flatten().min();
    Upkeep {
        start: start.map(|(tick, operation_type, what)| {
            // Unlike the names of a schedule's runs, which end with the minute.
            let name = format!("{}-{}-{what}", repository.name_any(), tick.as_second().div_euclid(60));
            run(repository, &name, operation_type, minute_of(tick))
        }),
        status: (next != before).then_some(next),
        requeue: requeue.map(|next| next.duration_since(now).clamp(SignedDuration::from_millis(1), LONGEST_REST)),
    }
}

/// Carries a status over to a new generation that is the same in all that a check vouches for.
fn follow(next: &mut BackupRepositoryStatus, generation: Option<i64>) {
    if next.observed_generation == generation {
        return;
    }
    next.observed_generation = generation;
    // `kubectl wait` ignores conditions of an earlier generation.
    for condition in &mut next.conditions {
        condition.observed_generation = generation;
    }
}

/// State of one cron expression.
#[derive(Clone, Debug, Default)]
struct Tick {
    counted: Option<Ticked>,
    due: Option<Timestamp>,
    next: Option<Timestamp>,
}

impl Tick {
    /// Counts from the first time that an expression is seen: ticks that it would have had before
    /// are not due.
    fn of(expression: Option<&str>, counted: Option<Ticked>, now: Timestamp) -> Result<Self, (String, Mistake)> {
        let Some(text) = expression else { return Ok(Self::default()) };
        let expression = Expression::parse(text).map_err(|mistake| (text.to_owned(), mistake))?;
        let same = counted.filter(|counted| counted.expression == text);
        // A time written by a clock that has been set back since must not silence the expression
        // until then.
        let until = same.map(|counted| counted.until).filter(|until| until.duration_since(now) <= CLOCKS_DIFFER);
        let until = until.unwrap_or(now);
        let timetable = Timetable { expression, zone: TimeZone::UTC };
        let Due { tick, next, .. } = due(&timetable, until, SignedDuration::ZERO, None, now);
        Ok(Self { counted: Some(Ticked { expression: text.to_owned(), until }), due: tick, next })
    }

    /// Settles the tick that is due.
    fn settle(&mut self) {
        if let (Some(counted), Some(tick)) = (&mut self.counted, self.due) {
            counted.until = tick;
        }
    }
}

/// Reports in the conditions that an expression cannot be parsed, or that all can. Whether the
/// store can be used is a separate question, so Ready is kept. If that is why the repository is
/// Stalled, Stalled is kept as well.
fn say(next: &mut BackupRepositoryStatus, repository: &BackupRepository, mistake: Option<&str>, now: Timestamp) {
    let before = std::mem::take(&mut next.conditions);
    let unusable = before.iter().find(|condition| condition.type_ == conditions::READY && condition.status == "False");
    let stall = match (unusable, mistake) {
        (Some(ready), _) => Some((ready.reason.clone(), ready.message.clone(), ready.observed_generation)),
        (None, Some(mistake)) => {
            let reason = Reason::InvalidSchedule.as_str().to_owned();
            Some((reason, truncate(mistake, 1000), repository.metadata.generation))
        }
        (None, None) => None,
    };
    let wanted = [Wanted { type_: conditions::STALLED, status: "True" }];
    let stalled = stall
        .map(|(reason, message, generation)| conditions::merge(&before, &wanted, &reason, &message, generation, now));
    next.conditions = before.into_iter().filter(|condition| condition.type_ != conditions::STALLED).collect();
    next.conditions.extend(stalled.into_iter().flatten());
}

fn minute_of(time: Timestamp) -> Option<Timestamp> {
    Timestamp::from_second(time.as_second().div_euclid(60) * 60).ok()
}

fn inputs(repository: &BackupRepository) -> Map<String, Value> {
    let percent = repository.spec.maintenance.as_ref().and_then(|maintenance| maintenance.read_data_percent);
    let mut inputs = Map::from_iter([("repository".to_owned(), json!(repository.name_any()))]);
    inputs.extend(percent.map(|percent| ("readDataPercent".to_owned(), json!(percent))));
    inputs
}

/// The status of a repository whose first check is under way. Without this status, kstatus would
/// report the repository as current.
#[must_use]
pub fn checking(
    repository: &BackupRepository,
    check: Option<&OperationRun>,
    now: Timestamp,
) -> Option<BackupRepositoryStatus> {
    let before = repository.status.clone().unwrap_or_default();
    // What an earlier check found is kept until this one ends; that a check could not be created is
    // not.
    let stands = |condition: &Condition| condition.status != "Unknown" && condition.type_ != conditions::RECONCILING;
    if before.conditions.iter().any(|condition| stands(condition) && !is_refusal(&condition.reason)) {
        return None;
    }
    let (reason, message) = check
        .and_then(waits)
        .unwrap_or_else(|| (Reason::Checking.as_str().to_owned(), "its first check runs".to_owned()));
    let wanted = [
        Wanted { type_: conditions::READY, status: "Unknown" },
        Wanted { type_: conditions::RECONCILING, status: "True" },
    ];
    let generation = repository.metadata.generation;
    let conditions =
        conditions::merge(&before.conditions, &wanted, &reason, &truncate(&message, 1000), generation, now);
    Some(BackupRepositoryStatus { conditions, ..before })
}
