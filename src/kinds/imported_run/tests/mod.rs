mod records;

use super::{
    decide::{Decision, Observed, RunView, decide},
    foreign::{Foreign, Kind},
    records::{Record, Wanted},
};
use crate::api::{
    ImportedRun, ImportedRunStatus, ObjectReference, Outcome, Phase,
    imported_run::{MAX_MESSAGE, MAX_NAMESPACES, MAX_WORD, System},
};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// A record of Velero about the namespace acme.
fn velero(name: &str, created: &str, status: &Value) -> Value {
    json!({
        "apiVersion": "velero.io/v1", "kind": "Backup",
        "metadata": {"name": name, "namespace": "velero", "uid": format!("uid-of-{name}"), "creationTimestamp": created},
        "spec": {"includedNamespaces": ["acme"]}, "status": status,
    })
}

fn foreign(object: &Value) -> Foreign {
    serde_json::from_str(&object.to_string()).expect("any object decodes")
}

fn read(kind: Kind, object: &Value) -> Option<(Record, Vec<String>)> {
    foreign(object).record(kind)
}

fn status_of(kind: Kind, status: &Value) -> ImportedRunStatus {
    let mut object = velero("one", "2026-01-01T00:00:00Z", status);
    object["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "u", "controller": true}]);
    read(kind, &object).expect("it is listed").0.status
}

/// Phase and outcome as they are printed; `-` where there is none.
fn state(status: &ImportedRunStatus) -> String {
    match (status.phase, status.outcome) {
        (Some(phase), Some(outcome)) => format!("{} {}", phase.as_str(), outcome.as_str()),
        (None, None) => "-".to_owned(),
        half => panic!("{half:?}"),
    }
}

#[test]
fn every_word_of_velero_has_one_meaning_and_a_word_that_is_not_known_has_none() {
    for kind in [Kind::VeleroBackup, Kind::VeleroRestore] {
        for (word, means) in [
            ("", "queued pending"),
            ("New", "queued pending"),
            ("Queued", "queued pending"),
            ("ReadyToStart", "queued pending"),
            ("InProgress", "running pending"),
            ("WaitingForPluginOperations", "running pending"),
            ("WaitingForPluginOperationsPartiallyFailed", "running pending"),
            ("Finalizing", "running pending"),
            ("FinalizingPartiallyFailed", "running pending"),
            ("Completed", "completed succeeded"),
            ("PartiallyFailed", "completed partially_succeeded"),
            ("Failed", "completed failed"),
            ("FailedValidation", "completed blocked"),
            ("Deleting", "-"),
            ("completed", "-"),
            ("Paused", "-"),
        ] {
            let status = status_of(kind, &json!({ "phase": word }));
            assert_eq!(state(&status), means, "{kind:?}: {word}");
            assert_eq!(status.source_phase.as_deref().unwrap_or_default(), word, "their word is told as it is");
            assert_eq!(status.message.is_some(), means == "-", "{word}: {:?}", status.message);
        }
    }
    let unknown = status_of(Kind::VeleroBackup, &json!({ "phase": "Paused" })).message.expect("a message");
    assert!(unknown.contains("\"Paused\"") && unknown.contains("look at the record"), "{unknown}");
    for (word, says) in [
        ("", "not looked at"),
        ("New", "not looked at"),
        ("Enabled", "a schedule: its Backups"),
        ("FailedValidation", "refuses"),
        ("Odd", "\"Odd\""),
    ] {
        let status = status_of(Kind::VeleroSchedule, &json!({ "phase": word }));
        let message = status.message.clone().expect("a message");
        assert!(state(&status) == "-" && message.contains(says), "{word}: {message}");
    }
}

#[test]
fn what_velero_says_about_a_record_is_told() {
    let status = status_of(Kind::VeleroBackup, &json!({"phase": "PartiallyFailed", "errors": 3, "warnings": 1}));
    assert_eq!(status.message.as_deref(), Some("3 errors, 1 warnings"));
    let status = status_of(Kind::VeleroBackup, &json!({"phase": "Failed", "failureReason": "no store"}));
    assert_eq!(status.message.as_deref(), Some("no store"));
    let invalid = json!({"phase": "FailedValidation", "validationErrors": ["no location", "no name"]});
    assert_eq!(status_of(Kind::VeleroRestore, &invalid).message.as_deref(), Some("no location; no name"));
    let mut paused = velero("one", "2026-01-01T00:00:00Z", &json!({"phase": "Enabled"}));
    paused["spec"] = json!({"paused": true, "template": {"includedNamespaces": ["acme"]}});
    let (record, about) = read(Kind::VeleroSchedule, &paused).expect("it is listed");
    assert_eq!(record.status.message.as_deref(), Some("a schedule that is paused"));
    assert_eq!(about, ["acme"]);
}

#[test]
fn every_condition_of_k8up_has_one_meaning_and_one_that_is_not_known_has_none() {
    let of = |kind: &str, status: &str, reason: &str| {
        json!({"conditions": [{"type": kind, "status": status, "reason": reason, "message": "as it says",
            "lastTransitionTime": "2026-01-01T02:00:00Z"}]})
    };
    for (status, means, word) in [
        (json!({}), "queued pending", ""),
        (json!({"started": true}), "running pending", "started"),
        (json!({"started": true, "finished": true}), "-", "finished"),
        (of("Ready", "True", "Ready"), "queued pending", ""),
        (of("PreBackupPodReady", "Unknown", "Waiting"), "queued pending", ""),
        (of("PreBackupPodReady", "False", "NoPreBackupPodsFound"), "queued pending", ""),
        (of("PreBackupPodReady", "False", "Failed"), "completed failed", "PreBackupPodReady: Failed"),
        (of("Progressing", "True", "Started"), "running pending", "Progressing: Started"),
        (of("Progressing", "False", "Finished"), "-", "Progressing: Finished"),
        (of("Progressing", "Unknown", "Odd"), "-", "Progressing: Odd"),
        (of("Completed", "True", "Succeeded"), "completed succeeded", "Completed: Succeeded"),
        (of("Completed", "True", "Failed"), "completed failed", "Completed: Failed"),
        (of("Completed", "True", "Odd"), "-", "Completed: Odd"),
        (of("Completed", "False", "Failed"), "queued pending", ""),
    ] {
        let said = status_of(Kind::K8upBackup, &status);
        assert_eq!(
            (state(&said).as_str(), said.source_phase.as_deref().unwrap_or_default()),
            (means, word),
            "{status}"
        );
        assert_eq!(said.completed_at.is_some(), word.starts_with("Completed: ") && means != "-", "{status}");
    }
    for (status, says) in [
        (json!({}), "not looked at"),
        (of("Ready", "True", "Ready"), "a schedule: its Backups"),
        (of("Ready", "False", "CreationFailed"), "could not set up"),
        (of("Ready", "Unknown", "Odd"), "\"Ready: Odd\""),
    ] {
        let said = status_of(Kind::K8upSchedule, &status);
        let message = said.message.clone().expect("a message");
        assert!(state(&said) == "-" && message.contains(says), "{status}: {message}");
    }
}

#[test]
fn every_state_of_a_job_has_one_meaning_and_only_those_of_a_cron_job_are_listed() {
    let of = |kind: &str, status: &str| json!({"startTime": "2026-01-01T01:00:00Z", "conditions": [{"type": kind, "status": status, "reason": "Because"}]});
    for (status, means) in [
        (json!({}), "queued pending"),
        (json!({"active": 1, "startTime": "2026-01-01T01:00:00Z"}), "running pending"),
        (of("Complete", "True"), "completed succeeded"),
        (of("Complete", "False"), "running pending"),
        (of("Failed", "True"), "completed failed"),
        (of("FailureTarget", "True"), "running pending"),
        (of("SuccessCriteriaMet", "True"), "running pending"),
        (of("Suspended", "True"), "queued pending"),
        (of("Suspended", "False"), "running pending"),
        (of("SomethingNew", "True"), "running pending"),
    ] {
        assert_eq!(state(&status_of(Kind::Job, &status)), means, "{status}");
    }
    let mut job = velero("one", "2026-01-01T00:00:00Z", &of("Complete", "True"));
    for owners in [
        json!(null),
        json!([{"apiVersion": "batch/v1", "kind": "CronJob", "name": "a", "uid": "u", "controller": false}]),
        json!([{"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "name": "a", "uid": "u", "controller": true}]),
        json!([{"apiVersion": "example.com/v1", "kind": "CronJob", "name": "a", "uid": "u", "controller": true}]),
    ] {
        job["metadata"]["ownerReferences"] = owners.clone();
        assert!(read(Kind::Job, &job).is_none(), "{owners}");
    }
}

#[test]
fn a_record_of_velero_is_about_the_namespaces_that_it_names_one_by_one() {
    let about = |included: Value, excluded: Value| {
        let mut object = velero("one", "2026-01-01T00:00:00Z", &json!({}));
        object["spec"] = json!({"includedNamespaces": included, "excludedNamespaces": excluded});
        read(Kind::VeleroBackup, &object).map(|(_, about)| about.join(" "))
    };
    let many = |count: usize| json!((0..count).map(|number| format!("tenant-{number}")).collect::<Vec<_>>());
    for (included, excluded, wanted) in [
        (json!(["acme"]), json!(null), Some("acme")),
        (json!(["beta", "acme", "acme"]), json!(["other"]), Some("acme beta")),
        (json!(["beta", "acme"]), json!(["beta"]), Some("acme")),
        (json!(["acme"]), json!(["acme"]), None),
        (json!(["*"]), json!(null), None),
        (json!(["acme*", "[a]", "acme"]), json!(null), Some("acme")),
        (json!([]), json!(null), None),
        (json!(null), json!(null), None),
        (json!({"not": "a list"}), json!(null), None),
        (many(MAX_NAMESPACES + 1), json!(null), None),
    ] {
        assert_eq!(about(included.clone(), excluded).as_deref(), wanted, "{included}");
    }
    assert_eq!(about(many(MAX_NAMESPACES), json!(null)).map(|all| all.split(' ').count()), Some(MAX_NAMESPACES));
}

#[test]
fn what_is_said_of_a_record_is_told_only_to_the_one_namespace_that_it_can_be_about() {
    let mut object =
        velero("one", "2026-01-01T00:00:00Z", &json!({"phase": "Failed", "failureReason": "beta's secret"}));
    for (included, excluded, mapping, is_told) in [
        (json!(["acme"]), json!(null), json!(null), true),
        (json!(["acme"]), json!(["beta"]), json!({}), true),
        (json!(["acme", "beta"]), json!(null), json!(null), false),
        (json!(["acme", "beta"]), json!(["beta"]), json!(null), false),
        (json!(["acme", "be*"]), json!(null), json!(null), false),
        (json!(["acme", "*"]), json!(null), json!(null), false),
        (json!(["acme", ""]), json!(null), json!(null), false),
        (json!(["acme"]), json!(null), json!({"acme": "beta"}), false),
        (json!(["acme"]), json!(null), json!("of another form"), false),
    ] {
        object["spec"] =
            json!({"includedNamespaces": included, "excludedNamespaces": excluded, "namespaceMapping": mapping});
        for kind in [Kind::VeleroBackup, Kind::VeleroRestore] {
            let status = read(kind, &object).expect("it is listed").0.status;
            assert_eq!(state(&status), "completed failed");
            let withheld = "it may be about other namespaces too: who runs velero.io has the details";
            let says = if is_told { "beta's secret" } else { withheld };
            assert_eq!(status.message.as_deref(), Some(says), "{}", object["spec"]);
        }
    }
}

#[test]
fn a_text_of_others_is_cut_put_on_one_line_and_holds_no_secret() {
    let reason = format!("a\u{1b}[31m\nb\u{202e}c password=hunter2hunter2 {}", "é".repeat(20_000));
    let status = status_of(Kind::VeleroBackup, &json!({"phase": "Failed", "failureReason": reason}));
    let message = status.message.expect("a message");
    assert!(message.starts_with("a [31m b c ") && message.len() <= MAX_MESSAGE, "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let status = status_of(Kind::VeleroBackup, &json!({ "phase": "x".repeat(5000) }));
    assert!(status.source_phase.expect("a word").len() <= MAX_WORD);
    assert!(status.message.expect("a message").len() <= MAX_MESSAGE);
}

#[test]
fn a_time_that_the_api_server_would_refuse_is_left_out() {
    for (text, is_told) in [
        ("2026-01-01T00:00:00Z", true),
        ("-009999-01-01T00:00:00Z", false),
        ("soon", false),
        ("1960-01-01T00:00:00Z", false),
    ] {
        let status = status_of(Kind::VeleroBackup, &json!({"phase": "InProgress", "startTimestamp": text}));
        assert_eq!(status.started_at.is_some(), is_told, "{text}");
    }
}

#[test]
fn a_status_that_cannot_be_read_is_not_taken_for_one_that_is_not_there() {
    for status in [json!({"phase": {}}), json!({"phase": 7}), json!({"conditions": "text"}), json!("text"), json!([1])]
    {
        for kind in Kind::ALL {
            let said = status_of(kind, &status);
            let message = said.message.clone().unwrap_or_default();
            assert!(state(&said) == "-" && message.contains("another form"), "{kind:?}: {status}: {said:?}");
        }
    }
    let mut cut = velero("one", "2026-01-01T00:00:00Z", &json!({}));
    cut["metadata"]["annotations"] = json!({"tenantatlas.io/left-out": "status.phase"});
    assert_eq!(state(&read(Kind::VeleroBackup, &cut).expect("it is listed").0.status), "-");
    for none in [json!(null), json!({}), json!({"phase": null, "conditions": null})] {
        assert_eq!(state(&status_of(Kind::VeleroBackup, &none)), "queued pending", "{none}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        Just(json!("acme")),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-zA-Z]{1,12}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_record_of_any_form_is_read_and_what_is_listed_of_it_is_what_the_kind_takes(
        values in proptest::collection::vec(json_value(), 12), name in any::<String>()
    ) {
        let mut values = values.into_iter();
        let mut next = || values.next().unwrap_or_default();
        let object = json!({
            "metadata": {"name": name, "namespace": "acme", "uid": name, "creationTimestamp": next(),
                "annotations": next(), "ownerReferences": next()},
            "spec": {"includedNamespaces": ["acme"], "excludedNamespaces": next(), "paused": next()},
            "status": {"phase": next(), "conditions": next(), "startTimestamp": next(), "errors": next(),
                "failureReason": next(), "validationErrors": next(), "started": next()},
        });
        for kind in Kind::ALL {
            let Some((record, about)) = read(kind, &object) else { continue };
            prop_assert!(about == ["acme"]);
            let status = record.status;
            prop_assert!(status.message.unwrap_or_default().len() <= MAX_MESSAGE);
            prop_assert!(status.source_phase.unwrap_or_default().len() <= MAX_WORD);
            prop_assert_eq!(status.phase.is_some(), status.outcome.is_some());
        }
        // Not even an object.
        for kind in Kind::ALL {
            let _ = read(kind, &next());
        }
    }
}

// Decisions.

fn imported(record: &Record) -> ImportedRun {
    let spec = crate::api::ImportedRunSpec { system: record.system, source: record.source.clone() };
    let mut imported = ImportedRun::new(&record.name(), spec);
    imported.status = Some(record.status.clone());
    imported
}

fn record() -> Arc<Record> {
    let mut object = velero(
        "one",
        "2026-01-01T02:00:00Z",
        &json!({"phase": "Completed",
        "completionTimestamp": "2026-01-01T03:00:00Z"}),
    );
    object["metadata"]["annotations"] = json!({"tenantatlas.io/operation-run": "nightly"});
    Arc::new(read(Kind::VeleroBackup, &object).expect("it is listed").0)
}

fn observed(existing: Option<ImportedRun>, wanted: Wanted) -> Observed {
    Observed {
        namespace: "acme".into(),
        name: record().name(),
        is_tenant: true,
        since: "2026-01-01T01:00:00Z".parse().ok(),
        terminating: false,
        existing: existing.map(Arc::new),
        wanted,
        run: None,
    }
}

#[test]
fn a_record_is_listed_once_and_what_is_as_it_was_is_not_written() {
    let record = record();
    let Decision::Create(new) = decide(&observed(None, Wanted::Record(record.clone()))) else { panic!("created") };
    assert_eq!(new.metadata.name, Some(record.name()));
    assert_eq!((new.spec.system, new.spec.source.name.as_str(), new.status.clone()), (System::Velero, "one", None));
    let Decision::Say(_, status) = decide(&observed(Some(*new), Wanted::Record(record.clone()))) else {
        panic!("told")
    };
    assert_eq!((status.phase, status.outcome), (Some(Phase::Completed), Some(Outcome::Succeeded)));
    let same = observed(Some(imported(&record)), Wanted::Record(record.clone()));
    assert_eq!(decide(&same), Decision::Nothing);
    // Whatever somebody without admission has written there.
    let mut forged = imported(&record);
    forged.status = Some(ImportedRunStatus { outcome: Some(Outcome::Failed), ..record.status.clone() });
    assert!(matches!(decide(&observed(Some(forged), Wanted::Record(record.clone()))), Decision::Say(..)));
    let mut forged = imported(&record);
    forged.spec.source.name = "other".into();
    assert!(matches!(decide(&observed(Some(forged), Wanted::Record(record))), Decision::Delete(_)));
}

#[test]
fn what_has_no_record_or_no_tenant_goes_and_what_is_not_known_stays() {
    let there = imported(&record());
    let wanted = || Wanted::Record(record());
    for (existing, wanted, is_tenant, deleted) in [
        (Some(&there), Wanted::None, true, true),
        (Some(&there), Wanted::Unknown, true, false),
        (Some(&there), Wanted::Unknown, false, true),
        (Some(&there), wanted(), false, true),
        (None, Wanted::None, true, false),
        (None, Wanted::Unknown, true, false),
        (None, wanted(), false, false),
    ] {
        let observed = Observed { is_tenant, ..observed(existing.cloned(), wanted) };
        let decision = decide(&observed);
        assert_eq!(matches!(decision, Decision::Delete(_)), deleted, "{observed:?}");
        assert!(deleted || decision == Decision::Nothing, "{decision:?}");
    }
    for existing in [None, Some(there)] {
        let going = Observed { terminating: true, ..observed(existing, Wanted::None) };
        assert_eq!(decide(&going), Decision::Nothing, "its namespace takes it along");
    }
}

#[test]
fn a_record_that_is_older_than_the_namespace_is_of_a_tenant_before() {
    // The record was created at 02:00.
    for (since, is_listed) in [
        (Some("2026-01-01T01:59:59Z"), true),
        (Some("2026-01-01T02:00:00Z"), true),
        (Some("2026-01-01T02:00:01Z"), false),
        (None, false),
    ] {
        let since = since.map(|text| text.parse().expect("a time"));
        let new = Observed { since, ..observed(None, Wanted::Record(record())) };
        assert_eq!(matches!(decide(&new), Decision::Create(_)), is_listed, "{since:?}");
        let there = Observed { since, ..observed(Some(imported(&record())), Wanted::Record(record())) };
        assert_eq!(matches!(decide(&there), Decision::Delete(_)), !is_listed, "{since:?}");
    }
    let mut undated = Record::clone(&record());
    undated.status.created_at = None;
    assert_eq!(decide(&observed(None, Wanted::Record(Arc::new(undated)))), Decision::Nothing);
}

#[test]
fn a_link_needs_the_run_that_is_named_and_that_both_were_under_way_at_once() {
    let time = |text: &str| Some(format!("2026-01-01T{text}:00Z").parse().expect("a time"));
    let reference = |name: &str| ObjectReference { name: name.into(), uid: "u".into() };
    // The record was under way from 02:00 to 03:00.
    for (name, created, completed, linked) in [
        ("nightly", time("02:10"), None, true),
        ("nightly", time("01:00"), None, true),
        ("nightly", time("01:00"), time("02:30"), true),
        ("nightly", time("01:00"), time("01:59"), false),
        ("nightly", time("03:01"), None, false),
        ("nightly", None, None, false),
        ("other", time("02:10"), None, false),
    ] {
        let run = RunView { reference: reference(name), created, completed };
        let existing = imported(&record());
        let observed = Observed { run: Some(run.clone()), ..observed(Some(existing), Wanted::Record(record())) };
        let link = match decide(&observed) {
            Decision::Say(_, status) => status.run,
            Decision::Nothing => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(link.is_some(), linked, "{run:?}");
    }
    // A run that is gone is linked no more.
    let mut linked = imported(&record());
    linked.status.as_mut().expect("a status").run = Some(reference("nightly"));
    let Decision::Say(_, status) = decide(&observed(Some(linked), Wanted::Record(record()))) else { panic!("told") };
    assert_eq!(status.run, None);
}
