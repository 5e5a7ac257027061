//! The decision about a repository. Pure.

use super::recheck;
use crate::{
    api::{
        BackupRepository, BackupRepositoryStatus, OperationRun, OperationRunSpec, Reason,
        backup_repository::{MaintenanceStatus, Ticked},
        conditions::{self, Wanted},
        operation_run::Trigger,
        result::truncate,
    },
    schedule::{Due, Expression, Mistake, Timetable, due},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kube::{Resource, ResourceExt};
use serde_json::{Map, Value, json};

/// The type of the run that checks a repository.
pub const CHECK_TYPE: &str = "repository.check";

/// The type of the run that maintains a repository.
pub const MAINTAIN_TYPE: &str = "repository.maintain";

/// The longest time until a repository with maintenance is looked at again: clocks step, and a timer does not see it.
const LONGEST_REST: SignedDuration = SignedDuration::from_mins(10);

/// By how much the clocks of two leaders may differ.
pub(super) const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

/// The name of the run that checks this generation of this very repository.
#[must_use]
pub fn check_name(repository: &BackupRepository) -> String {
    let uid = repository.uid().unwrap_or_default();
    let generation = repository.metadata.generation.unwrap_or(1);
    format!("{}-check-{}-{generation}", repository.name_any(), uid.get(..5).unwrap_or_default())
}

/// The check to start, where this generation has not been checked and none is under way.
#[must_use]
pub fn decide(repository: &BackupRepository, in_tenant: bool, check: Option<&OperationRun>) -> Option<OperationRun> {
    let checked = repository.status.as_ref().and_then(|status| status.observed_generation);
    let leaving = repository.metadata.deletion_timestamp.is_some();
    if checked == repository.metadata.generation || leaving || !in_tenant || check.is_some() {
        return None;
    }
    Some(run(repository, &check_name(repository), CHECK_TYPE, Trigger::Manual))
}

fn run(repository: &BackupRepository, name: &str, operation_type: &str, trigger: Trigger) -> OperationRun {
    let mut run = OperationRun::new(
        name,
        OperationRunSpec {
            operation_type: operation_type.to_owned(),
            trigger,
            inputs: inputs(repository),
            ..OperationRunSpec::default()
        },
    );
    run.metadata.namespace = repository.namespace();
    run.metadata.owner_references = repository.owner_ref(&()).map(|owner| vec![owner]);
    run
}

/// What `spec.maintenance` asks for, and what a repository needs that cannot be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Upkeep {
    /// The run to create. It may be there from before a crash.
    pub start: Option<OperationRun>,
    /// The status after that.
    pub status: Option<BackupRepositoryStatus>,
    /// When to look again.
    pub requeue: Option<SignedDuration>,
}

/// What is due of a repository that has been checked as it is now.
///
/// All is derived from the status: of ticks that came one run is made, named after the last of them, so that a crash makes no second
/// one. Maintenance checks too, so that a check which is due at the same time is done with it. A repository that is not Ready is not
/// maintained; its tick waits. It is checked again by itself (`recheck.rs`), whether its spec asks for checks or not.
#[must_use]
pub fn upkeep(repository: &BackupRepository, in_tenant: bool, now: Timestamp) -> Upkeep {
    let checked = repository.status.as_ref().and_then(|status| status.observed_generation);
    let leaving = repository.metadata.deletion_timestamp.is_some();
    if checked != repository.metadata.generation || leaving || !in_tenant {
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
        (Some(tick), _, _) => Some((tick, MAINTAIN_TYPE, "maintain")),
        (None, Some(tick), _) => Some((tick, CHECK_TYPE, "check")),
        (None, None, Some(again)) if again <= now => Some((again, CHECK_TYPE, "recheck")),
        (None, None, _) => None,
    };
    let mut rechecked = counted.recheck;
    if let Some((_, operation_type, _)) = start {
        // A maintenance whose tick waits is not dealt with by a check.
        if operation_type == MAINTAIN_TYPE {
            schedule.settle();
        }
        check.settle();
        // Whichever check it is. When it was due may be long ago, after which the next would be due at once.
        rechecked = again.map(|_| now).or(rechecked);
    }
    let settled = MaintenanceStatus { schedule: schedule.counted, check: check.counted, recheck: rechecked };
    let mut next = before.clone();
    next.maintenance = (settled != MaintenanceStatus::default()).then_some(settled);
    if let Some(mistake) = mistake {
        say(&mut next, repository, &mistake, now);
    }
    let again = recheck::due(&next, now);
    let requeue = [schedule.next, check.next, again].into_iter().flatten().min();
    Upkeep {
        start: start.map(|(tick, operation_type, what)| {
            // Not as the run of a schedule is named, whose minute comes last.
            let name = format!("{}-{}-{what}", repository.name_any(), tick.as_second().div_euclid(60));
            run(repository, &name, operation_type, Trigger::Scheduled)
        }),
        status: (next != before).then_some(next),
        requeue: requeue.map(|next| next.duration_since(now).clamp(SignedDuration::from_millis(1), LONGEST_REST)),
    }
}

/// What is to be known of one expression.
#[derive(Clone, Debug, Default)]
struct Tick {
    counted: Option<Ticked>,
    due: Option<Timestamp>,
    next: Option<Timestamp>,
}

impl Tick {
    /// Counts from the first time an expression is seen: what it would have named before is not due.
    fn of(expression: Option<&str>, counted: Option<Ticked>, now: Timestamp) -> Result<Self, (String, Mistake)> {
        let Some(text) = expression else { return Ok(Self::default()) };
        let expression = Expression::parse(text).map_err(|mistake| (text.to_owned(), mistake))?;
        let same = counted.filter(|counted| counted.expression == text);
        // What a clock wrote that has been set back since must not silence it until then.
        let until = same.map(|counted| counted.until).filter(|until| until.duration_since(now) <= CLOCKS_DIFFER);
        let until = until.unwrap_or(now);
        let timetable = Timetable { expression, zone: TimeZone::UTC };
        let Due { tick, next, .. } = due(&timetable, until, SignedDuration::ZERO, None, now);
        Ok(Self { counted: Some(Ticked { expression: text.to_owned(), until }), due: tick, next })
    }

    /// Its tick is dealt with.
    fn settle(&mut self) {
        if let (Some(counted), Some(tick)) = (&mut self.counted, self.due) {
            counted.until = tick;
        }
    }
}

/// Says in the conditions that an expression does not read. Whether the store can be used is another matter, so Ready stays.
fn say(next: &mut BackupRepositoryStatus, repository: &BackupRepository, mistake: &str, now: Timestamp) {
    if next.conditions.iter().any(|condition| condition.type_ == conditions::STALLED && condition.status == "True") {
        return;
    }
    let stalled = [Wanted { type_: conditions::STALLED, status: "True" }];
    let (reason, generation) = (Reason::InvalidSchedule.as_str(), repository.metadata.generation);
    next.conditions.extend(conditions::merge(&[], &stalled, reason, &truncate(mistake, 1000), generation, now));
}

fn inputs(repository: &BackupRepository) -> Map<String, Value> {
    let percent = repository.spec.maintenance.as_ref().and_then(|maintenance| maintenance.read_data_percent);
    let mut inputs = Map::from_iter([("repository".to_owned(), json!(repository.name_any()))]);
    inputs.extend(percent.map(|percent| ("readDataPercent".to_owned(), json!(percent))));
    inputs
}

/// The status of a repository whose first check is on its way; without it kstatus would call it current.
#[must_use]
pub fn checking(repository: &BackupRepository, now: Timestamp) -> Option<BackupRepositoryStatus> {
    let before = repository.status.clone().unwrap_or_default();
    if !before.conditions.is_empty() {
        return None;
    }
    let wanted = [
        Wanted { type_: conditions::READY, status: "Unknown" },
        Wanted { type_: conditions::RECONCILING, status: "True" },
    ];
    let generation = repository.metadata.generation;
    let conditions =
        conditions::merge(&[], &wanted, Reason::Checking.as_str(), "its first check runs", generation, now);
    Some(BackupRepositoryStatus { conditions, ..before })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::backup_schedule::origin;

    fn repository(generation: i64, checked: Option<i64>) -> BackupRepository {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": "acme", "uid": "01234567-89ab", "generation": generation},
            "spec": {"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p", "key": "password"}},
            "status": {"observedGeneration": checked}
        }))
        .expect("a repository")
    }

    #[test]
    fn each_generation_is_checked_once() {
        let run = decide(&repository(1, None), true, None).expect("a check");
        assert_eq!(run.name_any(), "main-check-01234-1");
        assert_eq!(decide(&repository(1, None), true, Some(&run)), None);
        assert_eq!(decide(&repository(1, Some(1)), true, None), None);
        assert_eq!(
            decide(&repository(2, Some(1)), true, None).map(|run| run.name_any()).as_deref(),
            Some("main-check-01234-2")
        );
    }

    #[test]
    fn a_repository_outside_a_tenant_waits() {
        assert_eq!(decide(&repository(1, None), false, None), None);
    }

    #[test]
    fn the_check_reads_back_as_much_as_maintenance_says() {
        let mut repository = repository(1, None);
        repository.spec.maintenance =
            Some(crate::api::backup_repository::Maintenance { read_data_percent: Some(7), ..Default::default() });
        let run = decide(&repository, true, None).expect("a check");
        assert_eq!(run.spec.inputs.get("readDataPercent"), Some(&json!(7)));
    }

    #[test]
    fn a_repository_says_that_it_is_being_checked_until_it_has_been() {
        let now = Timestamp::UNIX_EPOCH;
        let mut new = repository(1, None);
        let status = checking(&new, now).expect("a status");
        assert!(
            status.conditions.iter().any(|condition| condition.type_ == "Reconciling" && condition.status == "True")
        );
        new.status = Some(status);
        assert_eq!(checking(&new, now), None);
    }

    fn kept(spec: Value, status: Value) -> BackupRepository {
        let mut repository = repository(1, Some(1));
        repository.spec.maintenance = Some(serde_json::from_value(spec).expect("maintenance"));
        let mut whole = json!({"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True", "reason": "CheckPassed",
            "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        if !status.is_null() {
            whole["maintenance"] = status;
        }
        repository.status = Some(serde_json::from_value(whole).expect("a status"));
        repository
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    /// What is started at this time, and the repository after that.
    fn pass(repository: &BackupRepository, now: &str) -> (Option<String>, BackupRepository) {
        let upkeep = upkeep(repository, true, at(now));
        let mut after = repository.clone();
        after.status = upkeep.status.or(after.status);
        (upkeep.start.map(|run| format!("{} {}", run.spec.operation_type, run.name_any())), after)
    }

    #[test]
    fn maintenance_runs_at_its_ticks_and_each_tick_once() {
        let new = kept(json!({"schedule": "0 3 * * *", "readDataPercent": 7}), Value::Null);
        let (started, seen) = pass(&new, "2026-01-01T12:00:00Z");
        assert_eq!(started, None, "none of before it was there");
        assert_eq!(pass(&seen, "2026-01-02T02:59:59Z").0, None);
        let (started, dealt) = pass(&seen, "2026-01-02T03:00:00Z");
        assert_eq!(started.as_deref(), Some("repository.maintain main-29455380-maintain"));
        // As after a crash between the run and the status.
        assert_eq!(pass(&seen, "2026-01-02T03:00:05Z").0, started);
        assert_eq!(pass(&dealt, "2026-01-02T03:00:05Z").0, None);
        assert_eq!(
            pass(&dealt, "2026-01-03T03:00:00Z").0.as_deref(),
            Some("repository.maintain main-29456820-maintain")
        );
        let run = upkeep(&seen, true, at("2026-01-02T03:00:00Z")).start.expect("a run");
        assert_eq!(run.spec.inputs.get("readDataPercent"), Some(&json!(7)));
        assert_eq!(run.spec.trigger, Trigger::Scheduled);
        assert_eq!(origin(&run), None, "it is no schedule's");
        assert_eq!(run.metadata.owner_references.map(|owners| owners.len()), Some(1));
    }

    #[test]
    fn of_ticks_that_came_while_nobody_looked_one_is_made_up_for() {
        let counted = json!({"schedule": {"expression": "@hourly", "until": "2026-01-01T00:00:00Z"}});
        let (started, after) = pass(&kept(json!({"schedule": "@hourly"}), counted), "2026-02-01T10:20:00Z");
        assert_eq!(started.as_deref(), Some("repository.maintain main-29499000-maintain"));
        assert_eq!(pass(&after, "2026-02-01T10:59:00Z").0, None);
    }

    #[test]
    fn a_check_runs_at_its_own_ticks_and_maintenance_does_it_where_both_are_due() {
        let spec = json!({"schedule": "0 3 * * 0", "check": "0 3 * * *"});
        let seen = pass(&kept(spec, Value::Null), "2026-01-02T12:00:00Z").1;
        let (saturday, seen) = pass(&seen, "2026-01-03T03:00:00Z");
        assert_eq!(saturday.as_deref(), Some("repository.check main-29456820-check"));
        let (sunday, seen) = pass(&seen, "2026-01-04T03:00:00Z");
        assert_eq!(sunday.as_deref(), Some("repository.maintain main-29458260-maintain"));
        assert_eq!(pass(&seen, "2026-01-04T03:00:01Z").0, None);
    }

    #[test]
    fn a_repository_that_is_not_ready_is_checked_and_its_maintenance_waits() {
        let spec = json!({"schedule": "0 3 * * *", "check": "0 3 * * *"});
        let mut seen = pass(&kept(spec, Value::Null), "2026-01-02T12:00:00Z").1;
        let status = seen.status.as_mut().expect("a status");
        status.conditions[0].status = "False".to_owned();
        let (started, mut seen) = pass(&seen, "2026-01-03T03:00:00Z");
        assert_eq!(started.as_deref(), Some("repository.check main-29456820-check"));
        assert_eq!(pass(&seen, "2026-01-03T03:05:00Z").0, None);
        seen.status.as_mut().expect("a status").conditions[0].status = "True".to_owned();
        let (started, _) = pass(&seen, "2026-01-03T03:06:00Z");
        assert_eq!(started.as_deref(), Some("repository.maintain main-29456820-maintain"));
    }

    #[test]
    fn a_repository_that_is_not_ready_is_checked_again_by_itself_and_each_time_once() {
        let mut seen = kept(json!({}), Value::Null);
        assert_eq!(upkeep(&seen, true, at("2026-01-03T03:00:00Z")), Upkeep::default(), "nothing is wrong with it");
        seen.spec.maintenance = None;
        let status = seen.status.as_mut().expect("a status");
        status.last_check = Some(at("2026-01-03T03:00:20Z"));
        let ready = &mut status.conditions[0];
        (ready.status, ready.reason) = ("False".to_owned(), "StoreUnreachable".to_owned());
        ready.last_transition_time.0 = at("2026-01-03T03:00:20Z");

        let waits = upkeep(&seen, true, at("2026-01-03T03:01:00Z"));
        assert_eq!((waits.start, waits.status), (None, None));
        assert_eq!(waits.requeue, Some(SignedDuration::from_secs(9 * 60 + 20)));
        let (started, dealt) = pass(&seen, "2026-01-03T03:10:20Z");
        assert_eq!(started.as_deref(), Some("repository.check main-29456830-recheck"));
        // As after a crash between the run and the status, and a while.
        assert_eq!(pass(&seen, "2026-01-03T03:20:05Z").0, started);
        assert_eq!(pass(&dealt, "2026-01-03T03:10:21Z").0, None);
        // It came to no end that says something: the next one comes all the same.
        let (again, dealt) = pass(&dealt, "2026-01-03T04:00:00Z");
        assert_eq!(again.as_deref(), Some("repository.check main-29456840-recheck"));
        assert_eq!(
            pass(&dealt, "2026-01-03T04:00:01Z").0,
            None,
            "what an operator that was down left out is not made up for"
        );
        let run = upkeep(&seen, true, at("2026-01-03T03:10:20Z")).start.expect("a run");
        assert_eq!(run.spec.trigger, Trigger::Scheduled);
    }

    #[test]
    fn another_expression_is_counted_anew_and_none_is_forgotten() {
        let counted = json!({"schedule": {"expression": "@hourly", "until": "2026-01-01T00:00:00Z"}});
        let (started, after) = pass(&kept(json!({"schedule": "@daily"}), counted.clone()), "2026-02-01T10:20:00Z");
        assert_eq!(started, None);
        let until = after.status.and_then(|status| status.maintenance?.schedule).map(|ticked| ticked.until);
        assert_eq!(until, Some(at("2026-02-01T10:20:00Z")));
        let (_, after) = pass(&kept(json!({}), counted), "2026-02-01T10:20:00Z");
        assert_eq!(after.status.and_then(|status| status.maintenance), None);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_silence_maintenance() {
        let counted = json!({"schedule": {"expression": "@hourly", "until": "2030-01-01T00:00:00Z"}});
        let seen = pass(&kept(json!({"schedule": "@hourly"}), counted), "2026-02-01T10:20:00Z").1;
        assert!(pass(&seen, "2026-02-01T11:00:00Z").0.is_some());
    }

    #[test]
    fn a_mistake_in_an_expression_is_told_once_and_the_store_stays_ready() {
        let (started, told) =
            pass(&kept(json!({"schedule": "0 25 * * *", "check": "@hourly"}), Value::Null), "2026-02-01T10:20:00Z");
        assert_eq!(started, None);
        let conditions = &told.status.as_ref().expect("a status").conditions;
        let stalled = conditions.iter().find(|condition| condition.type_ == "Stalled").expect("it says so");
        assert_eq!(stalled.reason, "InvalidSchedule");
        assert!(stalled.message.contains("spec.maintenance.schedule \"0 25 * * *\""), "{}", stalled.message);
        assert!(told.is_ready());
        assert_eq!(upkeep(&told, true, at("2026-02-01T10:21:00Z")).status, None, "nothing is written twice");
        assert!(pass(&told, "2026-02-01T11:00:00Z").0.is_some(), "the other one still counts");
    }

    #[test]
    fn nothing_is_due_of_a_repository_without_maintenance_outside_a_tenant_or_not_yet_checked() {
        let mut repository = kept(
            json!({"schedule": "@hourly"}),
            json!({"schedule": {"expression": "@hourly", "until": "2026-01-01T00:00:00Z"}}),
        );
        let now = at("2026-02-01T10:20:00Z");
        assert!(upkeep(&repository, true, now).start.is_some());
        assert_eq!(upkeep(&repository, false, now), Upkeep::default());
        repository.metadata.generation = Some(2);
        assert_eq!(upkeep(&repository, true, now), Upkeep::default());
        assert_eq!(upkeep(&kept(json!({}), Value::Null), true, now), Upkeep::default());
    }
}
