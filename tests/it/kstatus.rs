//! What Flux, `kubectl` plugins and others see by kstatus, of statuses as the controller makes them; and that Argo CD sees the same.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tenantatlas::api::{
    BackupRepository, BackupSchedule, BackupSet, BulkOperationRun, Finding, ObjectReference, OperationRun,
    OperationType, Outcome, Phase, Reason, RestoreRun, Workspace, WorkspaceRun, conditions,
    schema::custom_resource_definitions,
};
use tenantatlas::{
    kernel::refusal::Refusal,
    kinds::{
        backup_repository::decide as repository,
        backup_schedule::{decide as schedule, decision::Observed as ObservedSchedule},
        finding::decide as finding,
        operation_type::decide as operation_type,
        restore_run::decide as restore,
        workspace::decide as workspace,
    },
    operations::record::RepositoryCheck,
    runs::records::{
        backup_set::{Ready, marked},
        repository as repository_record,
    },
};

use crate::argo_cd::health;

/// What kstatus (sigs.k8s.io/cli-utils) says of a kind that it does not know.
fn kstatus(object: &Value) -> &'static str {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return "Terminating";
    }
    let status = &object["status"];
    let observed = &status["observedGeneration"];
    if !observed.is_null() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    let conditions = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    for condition in conditions {
        match (condition["type"].as_str(), condition["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return "InProgress",
            (Some("Stalled"), Some("True")) => return "Failed",
            _ => {}
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] != "True" => "InProgress",
        _ => "Current",
    }
}

/// kstatus' word for what Argo CD shows.
fn as_kstatus(health: &str) -> &'static str {
    match health {
        // Nothing is wrong with what somebody suspended.
        "Healthy" | "Suspended" => "Current",
        "Progressing" => "InProgress",
        "Degraded" => "Failed",
        other => panic!("Argo CD has no {other}"),
    }
}

#[track_caller]
fn assert_seen<K: Serialize>(object: &K, expected: &str, what: &str) {
    let object = serde_json::to_value(object).expect("JSON");
    assert_eq!(kstatus(&object), expected, "{what}: {object:#}");
    assert_eq!(as_kstatus(&health(&object).status), expected, "Argo CD, {what}: {object:#}");
}

fn now() -> Timestamp {
    "2026-01-01T12:00:00Z".parse().expect("a time")
}

/// An object as the API server first hands it out: with what the definition puts into its status.
fn born<K: serde::de::DeserializeOwned>(kind: &str, spec: &Value) -> K {
    let definitions = custom_resource_definitions();
    let definition = definitions.iter().find(|definition| definition.spec.names.kind == kind).expect("its definition");
    let schema = serde_json::to_value(&definition.spec.versions[0].schema).expect("JSON");
    let mut object = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": "it", "namespace": "acme", "uid": "0123456789", "generation": 1, "creationTimestamp": "2026-01-01T05:30:00Z"}});
    let status = &schema["openAPIV3Schema"]["properties"]["status"]["default"];
    if !status.is_null() {
        object["status"] = status.clone();
    }
    serde_json::from_value(object).expect("an object")
}

fn new_repository() -> BackupRepository {
    let maintenance = json!({"schedule": "@daily"});
    let storage = json!({"persistentVolumeClaim": {"claimName": "backups"}});
    born("BackupRepository", &json!({"storage": storage, "passwordSecret": {"name": "p"}, "maintenance": maintenance}))
}

fn new_schedule(spec: &Value) -> BackupSchedule {
    let mut whole = json!({"operation": {"inputs": {"repository": "main"}}, "requestedBy": {"username": "ada"}});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    born("BackupSchedule", &whole)
}

#[test]
fn what_nobody_has_looked_at_yet_is_in_progress() {
    assert_seen(&new_repository(), "InProgress", "a repository");
    assert_seen(&new_schedule(&json!({"schedule": "@daily"})), "InProgress", "a schedule");
    let run: OperationRun = born("OperationRun", &json!({"type": "backup.capture"}));
    assert_seen(&run, "InProgress", "a run");
    let restore: RestoreRun = born("RestoreRun", &json!({"backupSet": {"name": "nightly"}}));
    assert_seen(&restore, "InProgress", "a restore");
    let bulk: BulkOperationRun = born("BulkOperationRun", &json!({"resource": {"kind": "Pod"}, "action": "label"}));
    assert_seen(&bulk, "InProgress", "a bulk operation");
    let over_all: WorkspaceRun =
        born("WorkspaceRun", &json!({"workspace": {"name": "shop"}, "operation": {"type": "backup.capture"}}));
    assert_seen(&over_all, "InProgress", "a workspace run");
}

#[test]
fn a_workspace_is_current_once_its_tenants_are_counted() {
    let mut new: Workspace = born("Workspace", &json!({}));
    assert_seen(&new, "InProgress", "one that was not looked at yet");
    let observed = workspace::Observed { workspace: Arc::new(new.clone()), tenants: Vec::new() };
    new.status = Some(workspace::status(&observed, now()));
    assert_seen(&new, "Current", "one without tenants");
}

#[test]
fn an_operation_type_is_current_where_runs_of_it_can_be_started_and_failed_where_not() {
    for (spec, expected) in [
        (json!({"executor": {"worker": {"command": ["capture"]}}}), "Current"),
        (json!({"executor": {"worker": {"command": ["capture"]}}, "suspend": true}), "Current"),
        (json!({"executor": {"jobTemplate": {}}}), "Failed"),
    ] {
        let mut new: OperationType = born("OperationType", &spec);
        if expected == "Failed" {
            assert_seen(&new, "InProgress", "a type that was not looked at yet");
        }
        new.status = Some(operation_type::status(&new, now()));
        assert_seen(&new, expected, &spec.to_string());
    }
}

#[test]
fn a_repository_is_in_progress_until_its_first_check_and_failed_while_something_is_wrong() {
    let checked = |before: &BackupRepository, reason: &str| {
        let check = RepositoryCheck {
            repository: "it".to_owned(),
            generation: before.metadata.generation,
            spec: Some(before.spec.checked_hash()),
            passed: reason == "CheckPassed",
            reason: reason.to_owned(),
            message: "words".to_owned(),
            figures: None,
            maintained: None,
            damaged: Vec::new(),
            damaged_truncated: false,
        };
        let run = ObjectReference { name: "check".to_owned(), uid: "u".to_owned() };
        let status = repository_record::after(&check, before, run, now()).expect("it says something");
        BackupRepository { status: Some(status), ..before.clone() }
    };
    let kept = |before: &BackupRepository| {
        let status = repository::upkeep(before, true, now()).status.expect("ticks are counted");
        BackupRepository { status: Some(status), ..before.clone() }
    };
    let mut new = new_repository();
    new.status = repository::checking(&new, None, now());
    assert_seen(&new, "InProgress", "its first check runs");
    let ready = checked(&new, "CheckPassed");
    assert_seen(&ready, "Current", "it passed");
    assert_seen(&kept(&ready), "Current", "and is maintained");
    assert_seen(&checked(&new, "WrongPassword"), "Failed", "it did not pass");
    assert_seen(&kept(&checked(&ready, "Damaged")), "Failed", "damage");
    let full = Refusal::new(Reason::QuotaExceeded, "full");
    let refused = BackupRepository { status: Some(repository::refused(&ready, &full, now())), ..ready.clone() };
    assert_seen(&refused, "Failed", "its maintenance is refused");
    let mut wrong = ready.clone();
    wrong.spec.maintenance.as_mut().expect("maintenance").schedule = Some("0 25 * * *".to_owned());
    assert_seen(&kept(&wrong), "Failed", "an expression does not read");
    let mut edited = ready;
    edited.metadata.generation = Some(2);
    assert_seen(&edited, "InProgress", "an edit was not looked at");
    assert_seen(&kept(&edited), "Current", "it was, and needs no check");
}

#[test]
fn a_schedule_that_starts_runs_is_current_and_one_that_cannot_has_failed() {
    for (spec, expected) in [
        (json!({"schedule": "@daily"}), "Current"),
        (json!({"schedule": "@daily", "suspend": true}), "Current"),
        (json!({"schedule": "0 25 * * *"}), "Failed"),
        (json!({"schedule": "@daily", "timeZone": "Mars/Olympus"}), "Failed"),
    ] {
        let mut schedule = new_schedule(&spec);
        let observed = ObservedSchedule {
            schedule: Arc::new(schedule.clone()),
            workspace: Some("acme".to_owned()),
            over_quota: None,
            retention_floor: None,
            terminating: false,
            runs: Vec::new(),
            awaited: std::collections::BTreeSet::new(),
            sets: None,
            retention_waits: false,
        };
        schedule.status = schedule::decide(&observed, now()).status;
        assert_seen(&schedule, expected, &spec.to_string());
    }
}

#[test]
fn a_restore_is_in_progress_until_its_end_and_what_is_lost_has_failed() {
    let mut restore: RestoreRun = born("RestoreRun", &json!({"backupSet": {"name": "nightly"}}));
    let run: OperationRun = born("OperationRun", &json!({"type": "restore.apply"}));
    restore.status = Some(restore::started(&restore, &run, now()));
    assert_seen(&restore, "InProgress", "its run was made");
    for (expected, outcome) in [
        ("Current", Outcome::Succeeded),
        ("Failed", Outcome::PartiallySucceeded),
        ("Failed", Outcome::Failed),
        ("Failed", Outcome::Blocked),
    ] {
        let mut ended = restore.clone();
        let status = ended.status.as_mut().expect("a status");
        let wanted = conditions::of_run(Phase::Completed, outcome);
        status.conditions = conditions::merge(&status.conditions, &wanted, "Reason", "words", Some(1), now());
        assert_seen(&ended, expected, &format!("{outcome:?}"));
    }
}

#[test]
fn a_finding_has_failed_until_somebody_accepts_it_or_it_is_gone() {
    let windows = finding::Windows {
        stale_after: jiff::SignedDuration::from_hours(1),
        resolved_ttl: jiff::SignedDuration::from_hours(1),
    };
    let accepted = json!({"note": "planned", "digest": "0".repeat(64)});
    let seen = json!({"firstSeen": now(), "lastSeen": now(), "run": {"name": "drift", "uid": "u"}});
    let resolved =
        json!({"firstSeen": now(), "lastSeen": now(), "resolvedAt": now(), "run": {"name": "drift", "uid": "u"}});
    for (acknowledged, observed, expected) in
        [(Value::Null, &seen, "Failed"), (accepted, &seen, "Current"), (Value::Null, &resolved, "Current")]
    {
        let mut new: Finding = born(
            "Finding",
            &json!({"scopeKey": "a".repeat(64), "baseline": {"backupSet": {"name": "nightly", "uid": "u"}, "snapshot": "b".repeat(64)},
                "current": {"run": {"name": "drift", "uid": "u"}}, "subject": {"kind": "ConfigMap", "name": "web"},
                "change": "modified", "severity": "medium", "digest": "0".repeat(64), "acknowledged": acknowledged}),
        );
        assert_seen(&new, "InProgress", "a finding that was not looked at yet");
        new.status.as_mut().expect("a status").observed =
            serde_json::from_value(observed.clone()).expect("what was seen");
        let finding::Decision::Keep(kept) = finding::decide(&new, false, windows, now()) else { panic!("it stays") };
        new.status = Some(kept.status);
        assert_seen(&new, expected, &observed.to_string());
    }
}

#[test]
fn a_backup_set_is_current_until_it_is_found_damaged() {
    let snapshot = "a".repeat(64);
    let mut set: BackupSet = born(
        "BackupSet",
        &json!({"repository": {"name": "main"}, "snapshot": snapshot, "run": {"name": "nightly", "uid": "u"}, "namespaceUid": "n", "coverage": "full"}),
    );
    for (ready, reason, expected) in
        [(Ready::Yes, "ReadBack", "Current"), (Ready::No, "Damaged", "Failed"), (Ready::Yes, "CheckPassed", "Current")]
    {
        set.status = Some(marked(&set, set.status.clone().unwrap_or_default(), ready, reason, "words", now()));
        assert_seen(&set, expected, reason);
    }
}
