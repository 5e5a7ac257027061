//! What an earlier release wrote is read by this one, loses nothing, and is not rewritten (docs/adr/0042).
//!
//! `upgrade/<release>/` has objects of every kind in every phase, as that release wrote them on a real
//! cluster. A release adds a folder; no folder is ever changed.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tenantatlas::{
    api::{
        Approval, AuditEntry, BackupRepository, BackupSchedule, BackupSet, BulkOperationRun, Finding, ImportedRun,
        OperationReport, OperationRun, OperationType, Phase, Reason, RestoreRun, Workspace, WorkspaceRun,
    },
    kernel::refusal::Refusal,
    kinds::operation_type,
    runs::{
        decide::decide,
        observed::{JobView, JoinedView, Observed, Slot, Tenant},
    },
};

/// The objects of all releases: the name of the file, and the object.
fn fixtures() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/upgrade");
    let mut found = Vec::new();
    for release in fs::read_dir(root).unwrap() {
        for file in fs::read_dir(release.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            found.push((path.display().to_string(), serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()));
        }
    }
    found
}

/// The schema of a kind, which refuses every field that it does not have.
fn schema(kind: &str) -> jsonschema::Validator {
    let file = format!("docs/api/schemas/{}_v1alpha1.json", kind.to_lowercase());
    let text = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    jsonschema::draft7::new(&serde_json::from_slice(&text).unwrap()).unwrap()
}

/// The object as its type writes it after reading it.
fn rewritten<K: DeserializeOwned + Serialize>(object: &Value) -> Value {
    let read: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    serde_json::to_value(read).unwrap()
}

/// Fields of `before` that `after` lacks or has with another value. A default may be left out.
fn lost(before: &Value, after: &Value, path: &str, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                lost(value, after.get(key).unwrap_or(&Value::Null), &format!("{path}/{key}"), found);
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (at, (before, after)) in before.iter().zip(after).enumerate() {
                lost(before, after, &format!("{path}/{at}"), found);
            }
        }
        (Value::Null, Value::Null) => {}
        (value, Value::Null) if is_default(path, value) => {}
        _ if before == after => {}
        _ => found.push(format!("{path}: {before} is {after}")),
    }
}

fn is_default(path: &str, value: &Value) -> bool {
    let empty = match value {
        Value::Bool(yes) => !yes,
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.iter().all(|(key, value)| is_default(&format!("{path}/{key}"), value)),
        _ => false,
    };
    empty || (path.ends_with("/provider") && value == "kubernetes")
}

#[test]
fn what_an_earlier_release_wrote_is_valid_and_read_without_loss() {
    for (file, object) in fixtures() {
        let kind = object["kind"].as_str().unwrap();
        let schema = schema(kind);
        let errors: Vec<_> = schema.iter_errors(&object).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(errors, Vec::<String>::new(), "{file}");
        let after = match kind {
            "Approval" => rewritten::<Approval>(&object),
            "AuditEntry" => rewritten::<AuditEntry>(&object),
            "BackupRepository" => rewritten::<BackupRepository>(&object),
            "BackupSchedule" => rewritten::<BackupSchedule>(&object),
            "BackupSet" => rewritten::<BackupSet>(&object),
            "BulkOperationRun" => rewritten::<BulkOperationRun>(&object),
            "Finding" => rewritten::<Finding>(&object),
            "ImportedRun" => rewritten::<ImportedRun>(&object),
            "OperationReport" => rewritten::<OperationReport>(&object),
            "OperationRun" => rewritten::<OperationRun>(&object),
            "OperationType" => rewritten::<OperationType>(&object),
            "RestoreRun" => rewritten::<RestoreRun>(&object),
            "Workspace" => rewritten::<Workspace>(&object),
            "WorkspaceRun" => rewritten::<WorkspaceRun>(&object),
            other => panic!("{file}: {other} is no kind of ours"),
        };
        let mut found = Vec::new();
        for part in ["spec", "status"] {
            lost(&object[part], &after[part], part, &mut found);
        }
        assert_eq!(found, Vec::<String>::new(), "{file}");
    }
}

#[test]
fn every_kind_is_there_in_every_phase_and_outcome() {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let there: BTreeSet<String> = fixtures()
        .iter()
        .map(|(_, object)| {
            let status = &object["status"];
            let outcome = if status["phase"] == "completed" { text(&status["outcome"]) } else { String::new() };
            format!("{} {} {outcome}", text(&object["kind"]), text(&status["phase"])).trim_end().to_owned()
        })
        .collect();
    let ends = ["succeeded", "partially_succeeded", "failed", "blocked"];
    let runs = ["OperationRun queued", "OperationRun running", "RestoreRun running"].map(str::to_owned);
    let ended =
        ["OperationRun", "RestoreRun"].into_iter().flat_map(|kind| ends.map(|end| format!("{kind} completed {end}")));
    let others = ["AuditEntry", "BackupRepository", "BackupSchedule", "BackupSet", "OperationReport", "OperationType"];
    let wanted: BTreeSet<String> = runs.into_iter().chain(ended).chain(others.map(str::to_owned)).collect();
    assert_eq!(there, wanted);
}

#[test]
fn a_completed_run_and_a_looked_at_type_of_an_earlier_release_are_not_rewritten() {
    for (file, object) in fixtures() {
        if object["kind"] == "OperationType" {
            let operation_type: OperationType = serde_json::from_value(object.clone()).unwrap();
            let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
            let status = operation_type::decide::status(&operation_type, now);
            assert_eq!(Some(status), operation_type.status, "{file}");
        }
        if object["kind"] != "OperationRun" || object["status"]["phase"] != "completed" {
            continue;
        }
        let run: OperationRun = serde_json::from_value(object).unwrap();
        assert_eq!(run.status_or_default().phase, Phase::Completed);
        let workspace = run.status_or_default().context.workspace.unwrap_or_default();
        let completed = run.status_or_default().completed_at.unwrap();
        let observed = Observed {
            run: Arc::new(run),
            tenant: Some(Tenant { uid: "tenant".into(), workspace, terminating: false }),
            operation_type: None,
            prepared: Err(Refusal::new(Reason::UnknownType, "a completed run asks for no type")),
            job: JobView::Absent,
            job_asked: false,
            pods: Vec::new(),
            joined: JoinedView::None,
            older: Vec::new(),
            slot: Slot::Free,
            waiting_since: None,
            beyond_history: false,
            awaited: false,
            parent: None,
        };
        assert_eq!(decide(&observed, completed).actions, [], "{file}");
    }
}
