//! The decision about a repository, by example.

use super::decide::*;
use crate::{
    api::{
        BackupRepository, OperationRun, Reason, backup_repository::Maintenance, backup_schedule::origin,
        operation_run::Trigger,
    },
    kernel::refusal::Refusal,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use serde_json::{Value, json};
use std::sync::Arc;

fn repository(generation: i64, checked: Option<i64>) -> BackupRepository {
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
        "metadata": {"name": "main", "namespace": "acme", "uid": "01234567-89ab", "generation": generation},
        "spec": {"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p", "key": "password"}},
        "status": {"observedGeneration": checked}
    }))
    .expect("a repository")
}

fn none(_: &str) -> Option<Arc<OperationRun>> {
    None
}

fn due(
    repository: &BackupRepository,
    in_tenant: bool,
    runs: impl Fn(&str) -> Option<Arc<OperationRun>>,
) -> Option<OperationRun> {
    match decide(repository, in_tenant, runs) {
        Check::Due(run) => Some(*run),
        Check::None | Check::Made(_) | Check::Refused(_) => None,
    }
}

#[test]
fn each_generation_is_checked_once() {
    let run = due(&repository(1, None), true, none).expect("a check");
    assert_eq!(run.name_any(), "main-check-01234-1");
    assert_eq!(due(&repository(1, None), true, |name| (name == run.name_any()).then(|| Arc::new(run.clone()))), None);
    assert_eq!(due(&repository(1, Some(1)), true, none), None);
    assert_eq!(
        due(&repository(2, Some(1)), true, none).map(|run| run.name_any()).as_deref(),
        Some("main-check-01234-2")
    );
}

#[test]
fn a_repository_that_is_too_large_to_read_is_refused_whether_it_was_checked_or_not() {
    for checked in [None, Some(1)] {
        let mut large = repository(1, checked);
        large.metadata.annotations = Some([("tenantatlas.io/left-out".to_owned(), "spec.adopt".to_owned())].into());
        let Check::Refused(refusal) = decide(&large, true, none) else { panic!("it is not read as it is") };
        assert_eq!(refusal.reason, Reason::TooLarge);
        assert!(refusal.message.starts_with("make spec.adopt smaller"), "{}", refusal.message);
        let status = refused(&large, &refusal, at("2026-01-02T03:00:00Z"));
        let stalled = |of: &[Condition]| of.iter().any(|one| one.type_ == "Stalled" && one.reason == "TooLarge");
        assert!(stalled(&status.conditions), "{status:?}");
        let mut smaller = repository(1, None);
        smaller.status = Some(status);
        let status = checking(&smaller, None, at("2026-01-02T03:01:00Z")).expect("it is checked");
        assert!(!stalled(&status.conditions), "{status:?}");
    }
}

#[test]
fn a_run_that_somebody_made_under_the_name_of_one_of_the_repository_does_not_count() {
    let mut theirs = due(&repository(1, None), true, none).expect("a check");
    theirs.spec.scheduled_by = None;
    let mut ours = due(&repository(1, None), true, |_| Some(Arc::new(theirs.clone()))).expect("a check all the same");
    ours.metadata.name = Some("main-check-01234-1-01234567".to_owned());
    let there = |name: &str| match name {
        "main-check-01234-1" => Some(Arc::new(theirs.clone())),
        name if name == ours.name_any() => Some(Arc::new(ours.clone())),
        _ => None,
    };
    assert_eq!(due(&repository(1, None), true, there), None, "it was made under the second name");

    assert!(is_of(&ours, &ours) && !is_of(&theirs, &ours));
    let mut other = ours.clone();
    other.spec.operation_type = crate::api::operations::MAINTAIN.to_owned();
    assert!(!is_of(&ours, &other), "it does something else");
    other = ours.clone();
    other.spec.scheduled_by.as_mut().expect("a repository").uid = "of-one-before".to_owned();
    assert!(!is_of(&other, &ours), "a repository of the same name that is gone made it");
}

#[test]
fn the_second_name_of_a_run_is_a_name_too() {
    let mut repository = repository(1, None);
    assert_eq!(run_names(&repository, "main-29455380-maintain")[1], "main-29455380-maintain-01234567");
    repository.metadata.name = Some(format!("{}.{}", "n".repeat(169), "m".repeat(10)));
    let name = format!("{}-29455380-maintain", repository.name_any());
    let [first, second] = run_names(&repository, &name);
    assert_eq!(first, name);
    assert!(second.len() <= LONGEST_NAME && second.ends_with("n.mmm-29455380-maintain-01234567"), "{second}");
}

fn refusal() -> Refusal {
    Refusal::new(Reason::QuotaExceeded, "full")
}

fn said(repository: &BackupRepository) -> Vec<(String, String, String)> {
    let conditions = repository.status.clone().unwrap_or_default().conditions;
    conditions.into_iter().map(|condition| (condition.type_, condition.status, condition.reason)).collect()
}

fn three(type_: &str, status: &str, reason: &str) -> (String, String, String) {
    (type_.to_owned(), status.to_owned(), reason.to_owned())
}

#[test]
fn maintenance_that_is_refused_is_told_leaves_the_store_ready_and_keeps_its_tick() {
    let seen = pass(&kept(json!({"schedule": "0 3 * * *"}), Value::Null), "2026-01-01T12:00:00Z").1;
    let mut told = seen.clone();
    told.status = Some(refused(&seen, &refusal(), at("2026-01-02T03:00:00Z")));
    assert_eq!(said(&told), [three("Ready", "True", "CheckPassed"), three("Stalled", "True", "QuotaExceeded")]);
    assert!(told.is_ready());
    assert_eq!(told.status, Some(refused(&told, &refusal(), at("2026-01-02T03:00:30Z"))), "once");
    let (started, made) = pass(&told, "2026-01-02T03:00:30Z");
    assert_eq!(started.as_deref(), Some("repository.maintain main-29455380-maintain"));
    assert_eq!(said(&made), [three("Ready", "True", "CheckPassed")], "it was made");
}

#[test]
fn a_first_check_that_is_refused_is_told_until_it_is_made() {
    let mut new = repository(1, None);
    new.status = Some(refused(&new, &refusal(), at("2026-01-02T03:00:00Z")));
    assert_eq!(said(&new), [three("Ready", "False", "QuotaExceeded"), three("Stalled", "True", "QuotaExceeded")]);
    assert!(due(&new, true, none).is_some(), "it is tried again");
    assert_eq!(new.status, Some(refused(&new, &refusal(), at("2026-01-02T03:00:30Z"))), "once");
    new.status = checking(&new, None, at("2026-01-02T03:01:00Z"));
    assert_eq!(said(&new), [three("Ready", "Unknown", "Checking"), three("Reconciling", "True", "Checking")]);

    let mut check = due(&repository(1, None), true, none).expect("a check");
    check.status = serde_json::from_value(json!({"phase": "running", "message": "no node has room",
        "waiting": {"reason": "Unschedulable", "since": "2026-01-02T03:01:00Z"}}))
    .expect("a status");
    new.status = checking(&new, Some(&check), at("2026-01-02T03:02:00Z"));
    let ready = new.status.as_ref().expect("a status").conditions[0].clone();
    assert_eq!(
        (ready.reason.as_str(), ready.message.as_str()),
        ("Unschedulable", "run main-check-01234-1 waits: no node has room")
    );
    assert_eq!(ready.last_transition_time.0, at("2026-01-02T03:01:00Z"));
    assert_eq!(new.status, checking(&new, Some(&check), at("2026-01-02T03:03:00Z")), "once");
}

#[test]
fn a_refused_check_of_a_repository_that_is_not_ready_leaves_why_it_is_not() {
    let mut unready = kept(json!({}), Value::Null);
    let condition = &mut unready.status.as_mut().expect("a status").conditions[0];
    (condition.status, condition.reason) = ("False".to_owned(), "Damaged".to_owned());
    unready.status = Some(refused(&unready, &refusal(), at("2026-01-02T03:00:00Z")));
    assert_eq!(said(&unready), [three("Ready", "False", "Damaged"), three("Stalled", "True", "QuotaExceeded")]);
    let made = pass(&unready, "2026-01-02T03:00:30Z").1;
    assert_eq!(said(&made), [three("Ready", "False", "Damaged"), three("Stalled", "True", "Damaged")]);
}

#[test]
fn a_repository_that_left_its_tenant_says_so_stays_ready_and_goes_on_when_it_is_back() {
    let now = at("2026-01-02T03:00:00Z");
    let mut ready = kept(json!({}), Value::Null);
    ready.status = Some(refused(&ready, &left_alone(&ready), now));
    let said = |repository: &BackupRepository| {
        let conditions = &repository.status.as_ref().expect("a status").conditions;
        conditions.iter().map(|one| (one.type_.clone(), one.reason.clone())).collect::<Vec<_>>()
    };
    let stalled = [("Ready".to_owned(), "CheckPassed".to_owned()), ("Stalled".to_owned(), "NotATenant".to_owned())];
    assert_eq!(said(&ready), stalled);
    assert_eq!(Some(refused(&ready, &left_alone(&ready), now)), ready.status, "a second pass changes nothing");
    let message = left_alone(&ready).message;
    assert!(
        message.contains("the password Secret stay") && message.contains("kubectl label namespace acme"),
        "{message}"
    );
    ready.status = upkeep(&ready, true, now).status.or(ready.status);
    assert_eq!(said(&ready), stalled[..1]);
    // One that was never checked says that it is not ready, until its check is made.
    let mut new = repository(1, None);
    new.status = Some(refused(&new, &left_alone(&new), now));
    assert_eq!(said(&new).len(), 2);
    let checking = checking(&new, None, now).expect("its check is told");
    assert!(checking.conditions.iter().all(|one| one.reason == "Checking"), "{checking:?}");
}

#[test]
fn a_repository_outside_a_tenant_waits() {
    assert_eq!(due(&repository(1, None), false, none), None);
}

#[test]
fn the_check_reads_back_as_much_as_maintenance_says() {
    let mut repository = repository(1, None);
    repository.spec.maintenance = Some(Maintenance { read_data_percent: Some(7), ..Default::default() });
    let run = due(&repository, true, none).expect("a check");
    assert_eq!(run.spec.inputs.get("readDataPercent"), Some(json!(7)));
}

#[test]
fn a_repository_says_that_it_is_being_checked_until_it_has_been() {
    let now = Timestamp::UNIX_EPOCH;
    let mut new = repository(1, None);
    let status = checking(&new, None, now).expect("a status");
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Reconciling" && condition.status == "True"));
    new.status = Some(status);
    assert_eq!(checking(&new, None, now), new.status, "once");
    let ready = &mut new.status.as_mut().expect("a status").conditions[0];
    (ready.status, ready.reason) = ("False".to_owned(), "WrongPassword".to_owned());
    assert_eq!(checking(&new, None, now), None, "what a check found stands");
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

/// What is started at this time, and the repository afterwards.
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
    assert_eq!(pass(&dealt, "2026-01-03T03:00:00Z").0.as_deref(), Some("repository.maintain main-29456820-maintain"));
    let run = upkeep(&seen, true, at("2026-01-02T03:00:00Z")).start.expect("a run");
    assert_eq!(run.spec.inputs.get("readDataPercent"), Some(json!(7)));
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
    let stalled = Condition { type_: "Stalled".to_owned(), status: "True".to_owned(), ..ready.clone() };
    status.conditions.push(stalled);

    let waits = upkeep(&seen, true, at("2026-01-03T03:01:00Z"));
    assert_eq!((waits.start, waits.status), (None, None));
    assert_eq!(waits.requeue, Some(SignedDuration::from_secs(9 * 60 + 20)));
    let (started, dealt) = pass(&seen, "2026-01-03T03:10:20Z");
    assert_eq!(started.as_deref(), Some("repository.check main-29456830-recheck"));
    // As after a crash between the run and the status, some time later.
    assert_eq!(pass(&seen, "2026-01-03T03:20:05Z").0, started);
    assert_eq!(pass(&dealt, "2026-01-03T03:10:21Z").0, None);
    // The check came to no conclusive end; the next one is due all the same.
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
fn an_edit_of_maintenance_alone_leaves_the_store_ready_and_needs_no_check() {
    let mut edited = kept(json!({"schedule": "@daily"}), Value::Null);
    edited.metadata.generation = Some(2);
    assert!(!edited.is_ready(), "it is not known what was checked");
    assert!(due(&edited, true, none).is_some());
    edited.status.as_mut().expect("a status").checked_spec = Some(edited.spec.checked_hash());
    assert!(edited.is_ready());
    assert_eq!(due(&edited, true, none), None);
    let (started, followed) = pass(&edited, "2026-01-01T12:00:00Z");
    assert_eq!(started, None);
    let status = followed.status.as_ref().expect("a status");
    assert_eq!((status.observed_generation, status.conditions[0].observed_generation), (Some(2), Some(2)));
    assert_eq!(upkeep(&followed, true, at("2026-01-01T12:00:01Z")).status, None, "nothing is written twice");

    let refused = refused(&edited, &refusal(), at("2026-01-01T12:00:00Z"));
    assert_eq!(refused.observed_generation, Some(2), "also while its maintenance is refused");

    let mut moved = followed;
    moved.metadata.generation = Some(3);
    moved.spec.password_secret.name = "another".to_owned();
    assert!(!moved.is_ready());
    assert!(due(&moved, true, none).is_some());
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
    let (started, mut corrected) = pass(&told, "2026-02-01T11:00:00Z");
    assert!(started.is_some(), "the other one still counts");
    corrected.spec.maintenance = None;
    assert_eq!(said(&pass(&corrected, "2026-02-01T11:00:01Z").1), [three("Ready", "True", "CheckPassed")]);
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

#[test]
fn a_run_of_a_repository_says_the_minute_that_it_was_due_in() {
    let due = |recheck: &str, now: &str| {
        let mut failed = kept(json!({"schedule": "0 3 * * *"}), Value::Null);
        failed = pass(&failed, "2026-01-01T12:00:00Z").1;
        let status = failed.status.as_mut().expect("a status");
        status.maintenance.as_mut().expect("maintenance").recheck = Some(at(recheck));
        upkeep(&failed, true, at(now)).start.and_then(|run| run.spec.scheduled_by?.tick)
    };
    assert_eq!(due("2026-01-05T00:00:00Z", "2026-01-02T03:00:20Z"), Some(at("2026-01-02T03:00:00Z")));
}
