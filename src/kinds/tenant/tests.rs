//! What a tenant gets from the templates of its workspace.

#![allow(clippy::needless_pass_by_value, reason = "called with literals")]

use super::template::{Change, Changes, Observed, decide, mismatch};
use crate::api::{BackupSchedule, Workspace, labels};
use kube::ResourceExt;
use serde_json::{Value, json};
use std::sync::Arc;

/// A public key of age.
const KEY: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

fn workspace(spec: Value) -> Arc<Workspace> {
    let whole = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "shop"}, "spec": spec});
    Arc::new(serde_json::from_value(whole).expect("a workspace"))
}

fn templates() -> Value {
    json!({
        "repository": {"storage": {"s3": {"bucket": "backups", "prefix": "prod"}}, "maintenance": {"schedule": "@weekly"}},
        "schedules": [{"name": "nightly", "schedule": "15 2 * * *", "queueTimeoutSeconds": 90}],
    })
}

fn tenant(spec: Value) -> Observed {
    Observed {
        namespace: "acme".to_owned(),
        workspace: workspace(spec),
        repositories: Vec::new(),
        schedules: Vec::new(),
    }
}

/// As the API server does.
fn stored<K: serde::Serialize + serde::de::DeserializeOwned>(object: &K, patch: Option<&Value>) -> Arc<K> {
    let mut value = serde_json::to_value(object).expect("JSON");
    if let Some(patch) = patch {
        merge(&mut value, patch);
    }
    Arc::new(serde_json::from_value(value).expect("an object"))
}

fn merge(value: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else { return patch.clone_into(value) };
    if !value.is_object() {
        *value = json!({});
    }
    for (key, part) in patch {
        if part.is_null() {
            value.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut value[key], part);
        }
    }
}

fn written<K>(objects: &mut Vec<Arc<K>>, change: Change<K>)
where
    K: kube::Resource + serde::Serialize + serde::de::DeserializeOwned,
{
    match change {
        Change::Create(object) => objects.push(stored(&*object, None)),
        Change::Patch(object, patch) => {
            objects.retain(|other| other.meta().name != object.meta().name);
            objects.push(stored(&*object, Some(&patch)));
        }
    }
}

/// Carries out what is decided, and returns whether that was anything.
fn pass(observed: &mut Observed) -> bool {
    let Changes { repository, schedules } = decide(observed);
    let any = repository.is_some() || !schedules.is_empty();
    if let Some(change) = repository {
        written(&mut observed.repositories, change);
    }
    for change in schedules {
        written(&mut observed.schedules, change);
    }
    any
}

fn edit<K: serde::Serialize + serde::de::DeserializeOwned>(objects: &mut [Arc<K>], patch: Value) {
    objects[0] = stored(&*objects[0], Some(&patch));
}

fn becomes_ready(observed: &mut Observed) {
    let checked = observed.repositories[0].spec.checked_hash();
    edit(
        &mut observed.repositories,
        json!({"status": {"checkedSpec": checked, "conditions": [{"type": "Ready", "status": "True", "reason": "Ready",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
    );
}

/// A tenant that has all that the templates give.
fn settled() -> Observed {
    let mut observed = tenant(templates());
    pass(&mut observed);
    becomes_ready(&mut observed);
    pass(&mut observed);
    observed
}

#[test]
fn a_tenant_gets_its_repository_then_its_schedules_and_the_next_pass_writes_nothing() {
    let mut observed = tenant(templates());
    assert!(pass(&mut observed));
    let repository = observed.repositories[0].clone();
    assert_eq!((repository.name_any(), observed.schedules.len()), ("main".to_owned(), 0));
    assert_eq!(repository.spec.storage.s3.as_ref().map(|s3| s3.prefix.as_str()), Some("prod/acme"));
    assert_eq!(
        serde_json::to_value(&repository.spec.password_secret).expect("JSON"),
        json!({"name": "main-password", "key": "password", "generate": true})
    );
    assert_eq!(repository.labels()[labels::TEMPLATE], "shop");
    assert!(repository.metadata.owner_references.is_none(), "a workspace that is deleted takes nothing with it");
    assert!(!pass(&mut observed), "schedules wait for the repository");
    becomes_ready(&mut observed);
    assert!(pass(&mut observed));
    let schedule = &observed.schedules[0].spec;
    assert_eq!(schedule.operation.inputs.parse(), *json!({"repository": "main"}).as_object().expect("inputs"));
    assert!(schedule.immediate && schedule.jitter_seconds == 600 && !schedule.suspend);
    assert!(!pass(&mut observed));
    assert_eq!(mismatch(&observed), None);
    // A repository that is not Ready for a while takes no schedule away.
    edit(&mut observed.repositories, json!({"status": null}));
    assert!(!pass(&mut observed));
}

#[test]
fn a_change_of_a_template_or_of_its_object_is_applied_and_what_belongs_to_others_stays() {
    let mut observed = settled();
    let edits = json!({"spec": {"suspend": true, "schedule": "@yearly", "startingDeadlineSeconds": 60,
        "queueTimeoutSeconds": 5,
        "operation": {"inputs": {"selection": {"includeKinds": ["Secret"]}}}, "requestedBy": {"username": "ada"}}});
    edit(&mut observed.schedules, edits);
    edit(&mut observed.repositories, json!({"spec": {"maintenance": null, "adopt": {"namespaceUids": ["lost"]}}}));
    assert!(pass(&mut observed));
    let (repository, schedule) = (&observed.repositories[0].spec, &observed.schedules[0].spec);
    assert_eq!((schedule.suspend, schedule.starting_deadline_seconds), (false, None));
    assert_eq!(schedule.queue_timeout_seconds, Some(90));
    assert_eq!((schedule.schedule.as_str(), schedule.operation.inputs.get("selection")), ("15 2 * * *", None));
    assert_eq!(schedule.requested_by, None, "she did not ask for what it starts now");
    assert!(repository.maintenance.is_some() && repository.adopt.is_some());
    assert!(!pass(&mut observed));
    let mut changed = templates();
    changed["schedules"][0]["retention"] = json!({"keepLast": 7});
    changed["repository"]["credentialsSecret"] = json!({"name": "keys"});
    observed.workspace = workspace(changed);
    assert!(pass(&mut observed));
    assert!(observed.schedules[0].spec.retention.is_some());
    edit(&mut observed.schedules, json!({"spec": {"requestedBy": {"username": "ada"}}}));
    assert!(!pass(&mut observed), "who asked for a run now is admission's to record");
    assert!(observed.repositories[0].spec.credentials_secret.is_some());
    assert!(!pass(&mut observed));
}

#[test]
fn every_field_of_a_template_is_a_field_of_its_object() {
    let mut observed = tenant(json!({
        "repository": {"name": "store", "storage": {"persistentVolumeClaim": {"claimName": "claim"}},
            "passwordSecret": {"name": "word"}, "credentialsSecret": {"name": "keys"}, "maintenance": {"check": "@daily"},
            "recovery": {"recipients": [KEY]}},
        "schedules": [{"name": "own", "schedule": "@hourly", "timeZone": "Europe/Berlin", "jitterSeconds": 5,
            "startingDeadlineSeconds": 70, "immediate": false, "suspend": true, "retention": {"keepDaily": 3},
            "operation": {"type": "team.dump", "inputs": {"a": 1}}}],
    }));
    pass(&mut observed);
    becomes_ready(&mut observed);
    pass(&mut observed);
    let repository = serde_json::to_value(&observed.repositories[0].spec).expect("JSON");
    assert_eq!(
        repository,
        json!({"storage": {"persistentVolumeClaim": {"claimName": "claim"}}, "credentialsSecret": {"name": "keys"},
            "passwordSecret": {"name": "word", "key": "password", "generate": true}, "maintenance": {"check": "@daily"},
            "recovery": {"recipients": [KEY]}})
    );
    let schedule = serde_json::to_value(&observed.schedules[0].spec).expect("JSON");
    assert_eq!(
        schedule,
        json!({"schedule": "@hourly", "timeZone": "Europe/Berlin", "jitterSeconds": 5, "startingDeadlineSeconds": 70,
            "immediate": false, "suspend": true, "concurrencyPolicy": "Forbid", "retention": {"keepDaily": 3},
            "successfulRunsHistoryLimit": 10, "failedRunsHistoryLimit": 10,
            "operation": {"type": "team.dump", "inputs": {"a": 1}}}),
        "another image takes its own inputs"
    );
    let named = json!({"name": "main", "schedule": "@daily",
        "operation": {"type": "backup.capture", "inputs": {"repository": "mine"}}});
    let mut observed = tenant(json!({"schedules": [named]}));
    pass(&mut observed);
    assert_eq!(observed.schedules[0].spec.operation.inputs.text_of("repository").as_deref(), Some("mine"));
}

#[test]
fn a_store_is_never_moved_and_the_mismatch_says_what_to_do() {
    for (edits, reason) in [
        (json!({"spec": {"storage": {"s3": {"prefix": "elsewhere"}}}}), "LocationDiffers"),
        (json!({"spec": {"passwordSecret": {"name": "another"}}}), "LocationDiffers"),
        (
            json!({"metadata": {"labels": {"tenantatlas.io/template": null}}, "spec": {"maintenance": null}}),
            "NameTaken",
        ),
    ] {
        let mut observed = settled();
        edit(&mut observed.repositories, edits.clone());
        assert!(!pass(&mut observed), "{edits}");
        let mismatch = mismatch(&observed).expect("a mismatch");
        assert_eq!(mismatch.reason, reason);
        assert!(mismatch.message.contains("BackupRepository main in namespace acme"), "{}", mismatch.message);
    }
    let mut observed = settled();
    edit(&mut observed.schedules, json!({"metadata": {"labels": null}, "spec": {"suspend": true}}));
    assert!(!pass(&mut observed));
    assert!(mismatch(&observed).is_some_and(|mismatch| mismatch.message.contains("BackupSchedule nightly")));
}

#[test]
fn templates_that_were_not_read_in_full_or_name_no_key_change_nothing() {
    let mut cut = (*workspace(json!({}))).clone();
    cut.metadata.annotations = Some([(crate::cluster::trim::LEFT_OUT.to_owned(), "spec.schedules".to_owned())].into());
    let mut mistaken = templates();
    mistaken["repository"]["recovery"] = json!({"recipients": [KEY, format!("age1{}", "q".repeat(58))]});
    for workspace in [Arc::new(cut), workspace(mistaken)] {
        let mut observed = settled();
        observed.workspace = workspace;
        assert!(!pass(&mut observed), "no schedule is suspended");
    }
}

#[test]
fn a_repository_that_is_not_of_the_template_gets_no_schedules() {
    let mut observed = settled();
    observed.schedules.clear();
    edit(&mut observed.repositories, json!({"metadata": {"labels": null}}));
    assert!(!pass(&mut observed));
}

#[test]
fn a_schedule_that_the_template_no_longer_names_is_suspended_and_comes_back_with_it() {
    let mut observed = settled();
    let own: BackupSchedule = serde_json::from_value(json!({"apiVersion": "tenantatlas.io/v1alpha1",
        "kind": "BackupSchedule", "metadata": {"name": "own", "namespace": "acme"}, "spec": {"schedule": "@daily"}}))
    .expect("a schedule");
    observed.schedules.push(Arc::new(own));
    observed.workspace = workspace(json!({}));
    assert!(pass(&mut observed));
    let suspended = |observed: &Observed, name: &str| {
        observed.schedules.iter().find(|schedule| schedule.name_any() == name).map(|schedule| schedule.spec.suspend)
    };
    assert_eq!((suspended(&observed, "nightly"), suspended(&observed, "own")), (Some(true), Some(false)));
    assert!(!pass(&mut observed));
    observed.workspace = workspace(templates());
    assert!(pass(&mut observed));
    assert_eq!(suspended(&observed, "nightly"), Some(false));
}

#[test]
fn an_object_that_is_being_deleted_or_was_not_read_in_full_is_not_patched() {
    for mark in [
        json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}),
        json!({"annotations": {(crate::cluster::trim::LEFT_OUT): "spec.operation"}}),
    ] {
        let mut observed = settled();
        edit(&mut observed.schedules, json!({"metadata": mark, "spec": {"suspend": true}}));
        assert!(!pass(&mut observed), "{mark}");
    }
}
