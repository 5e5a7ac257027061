//! The kinds as the API server keeps them: defaults, columns, what never changes.

use super::{assert_refused, call};
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant};
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, OperationRun, RestoreRun};

const GROUP: &str = "tenantatlas.io/v1alpha1";

#[tokio::test]
async fn a_run_is_found_by_short_name_category_and_field_and_reads_well_in_a_table() {
    let tenant = Tenant::new("table").await;
    tenant.start("one", json!({ "type": "backup.capture", "inputs": { "repository": "none" } })).await;
    tenant.completed("one", SOON).await;
    let print = |arguments: &[&str]| {
        tenant.cluster.kubectl_prints(&[&["--namespace", tenant.name.as_str()], arguments].concat())
    };
    let table = print(&["get", "opr"]);
    let header: Vec<_> = table.lines().next().expect("a header").split_whitespace().collect();
    assert_eq!(header, ["NAME", "TYPE", "STATUS", "OUTCOME", "PROGRESS", "INITIATOR", "AGE"]);
    let wide = print(&["get", "operationruns", "--output", "wide"]);
    assert!(["TRIGGER", "REASON", "DURATION", "JOB"].iter().all(|column| wide.contains(column)), "{wide}");
    assert!(print(&["get", "atlas"]).contains("operationrun.tenantatlas.io/one"));
    for (selector, found) in [
        ("spec.type=backup.capture", true),
        ("spec.trigger=manual", true),
        ("status.phase=completed", true),
        ("status.outcome=blocked", true),
        ("status.outcome=succeeded", false),
    ] {
        let printed = print(&["get", "opr", "--field-selector", selector, "--output", "name"]);
        assert_eq!(printed.contains("/one"), found, "{selector}: {printed}");
    }
    let explained = print(&["explain", "operationrun.spec"]);
    assert!(explained.contains("Name of the OperationType to run"), "{explained}");
    for short in ["optype", "brepo", "bset", "bsched", "oprep", "rrun", "bulk", "audit", "wspace", "wrun", "appr"] {
        print(&["get", short]);
    }
}

#[tokio::test]
async fn the_spec_of_a_run_never_changes_but_for_cancel_and_that_only_once() {
    let tenant = Tenant::new("immutable").await;
    let operation = tenant.script_type("long", FOREVER, |_| {}).await;
    tenant.start("one", json!({ "type": operation, "inputs": { "a": { "b": 1 } } })).await;
    let path = tenant.path(GROUP, "operationruns/one");
    let client = &tenant.cluster.client;
    for change in [
        json!({ "type": "backup.capture" }),
        json!({ "trigger": "scheduled" }),
        json!({ "onDuplicate": "Reject" }),
        json!({ "inputs": { "a": { "b": 2 } } }),
        json!({ "inputs": { "a": { "c": 2 } } }),
        json!({ "target": { "apiVersion": "v1", "kind": "Secret", "name": "a" } }),
        json!({ "rerunOf": { "name": "other" } }),
        json!({ "timeoutSeconds": 5 }),
        json!({ "queueTimeoutSeconds": 5 }),
        json!({ "initiator": { "username": "eve" } }),
        json!({ "initiator": null }),
        json!({ "scheduledBy": { "name": "nightly", "uid": "u" } }),
    ] {
        let answer = call(client, "PATCH", &path, &json!({ "spec": change })).await;
        assert_refused(answer, 422, &[]);
    }
    call(client, "PATCH", &path, &json!({ "spec": { "cancel": true } })).await.expect("a run can be cancelled");
    let back = call(client, "PATCH", &path, &json!({ "spec": { "cancel": false } })).await;
    assert_refused(back, 422, &["cannot be withdrawn"]);
    tenant.completed("one", SOON).await;
}

#[tokio::test]
async fn a_completed_run_stays_so_even_for_the_operator() {
    let tenant = Tenant::new("terminal").await;
    tenant.start("one", json!({ "type": "backup.capture", "inputs": { "repository": "none" } })).await;
    tenant.completed("one", SOON).await;
    let operator = tenant.cluster.as_operator();
    let path = tenant.path(GROUP, "operationruns/one/status");
    for change in [
        json!({ "phase": "running" }),
        json!({ "outcome": "succeeded" }),
        json!({ "phase": null }),
        json!({ "outcome": null }),
        Value::Null,
    ] {
        let answer = call(&operator, "PATCH", &path, &json!({ "status": change })).await;
        assert_refused(answer, 422, &["never changes its phase or outcome"]);
    }
    // What a leader writes that does not know that another one has written the end.
    for change in [json!({ "completedAt": "2030-01-01T00:00:00Z" }), json!({ "reason": "Cancelled" })] {
        let answer = call(&operator, "PATCH", &path, &json!({ "status": change })).await;
        assert_refused(answer, 422, &["keeps its reason and completedAt"]);
    }
    let cancel = call(
        &tenant.cluster.client,
        "PATCH",
        &tenant.path(GROUP, "operationruns/one"),
        &json!({ "spec": { "cancel": true } }),
    )
    .await;
    assert_refused(cancel, 422, &["nothing left to cancel"]);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_what_to_do() {
    let tenant = Tenant::new("refused").await;
    let run = |name: &str, spec: Value| json!({ "metadata": { "name": name }, "spec": spec });
    let long = "a".repeat(201);
    let fits = json!({ "type": "backup.capture" });
    assert_refused(tenant.create::<OperationRun>(run(&long, fits.clone())).await, 422, &["200 characters"]);
    tenant.create::<OperationRun>(run(&long[..200], fits)).await.expect("200 characters");
    for spec in [
        json!({}),
        json!({ "type": "" }),
        json!({ "type": "Not A Type" }),
        json!({ "type": "a", "onDuplicate": "Perhaps" }),
        json!({ "type": "a", "timeoutSeconds": 0 }),
        json!({ "type": "a", "queueTimeoutSeconds": 0 }),
        json!({ "type": "a", "queueTimeoutSeconds": 31_536_001 }),
        json!({ "type": "a", "inputs": [] }),
        json!({ "type": "a", "target": { "apiVersion": "v1", "kind": "Secret", "name": "../other/secret" } }),
        json!({ "type": "a", "rerunOf": { "name": "../other" } }),
    ] {
        assert_refused(tenant.create::<OperationRun>(run("bad", spec)).await, 422, &["spec."]);
    }
    let storage = |storage: Value| json!({ "metadata": { "name": "main" }, "spec": { "storage": storage, "passwordSecret": { "name": "password" } } });
    let (claim, bucket) = (json!({ "claimName": "a" }), json!({ "bucket": "backups" }));
    for wrong in [json!({}), json!({ "s3": bucket, "persistentVolumeClaim": claim })] {
        assert_refused(tenant.create::<BackupRepository>(storage(wrong)).await, 422, &["exactly one of"]);
    }
    for executor in [json!({}), json!({ "worker": { "command": ["capture"] }, "jobTemplate": { "spec": {} } })] {
        let refused = tenant.try_operation_type(&tenant.type_name("wrong"), json!({ "executor": executor })).await;
        assert_refused(refused, 422, &["exactly one of worker and jobTemplate"]);
    }
}

#[tokio::test]
async fn the_spec_of_a_restore_never_changes_but_for_cancel() {
    let tenant = Tenant::new("immutable-restore").await;
    tenant.ask("one", json!({ "backupSet": { "name": "none" }, "dryRun": true })).await;
    tenant.ask("cancelled", json!({ "backupSet": { "name": "none" }, "dryRun": true, "cancel": true })).await;
    let client = &tenant.cluster.client;
    let path = tenant.path(GROUP, "restoreruns/one");
    for (change, word) in [
        (json!({ "backupSet": { "name": "other" } }), "backupSet is immutable"),
        (json!({ "backupSet": null, "finding": { "name": "drift-0" } }), "finding is immutable"),
        (json!({ "dryRun": false }), "immutable but for cancel"),
        (json!({ "existingResourcePolicy": "update" }), "immutable but for cancel"),
        (json!({ "prune": true }), "immutable but for cancel"),
        (json!({ "allowDataLoss": true }), "immutable but for cancel"),
        (json!({ "safetyCapture": false }), "immutable but for cancel"),
        (json!({ "items": [{ "kind": "Secret" }] }), "items is immutable"),
        (json!({ "excludeItems": [{ "kind": "Secret" }] }), "excludeItems is immutable"),
        (json!({ "only": "missing" }), "only is immutable"),
        (json!({ "preview": { "name": "other" } }), "preview is immutable"),
        (json!({ "rerunOf": { "name": "other" } }), "rerunOf is immutable"),
        (json!({ "serviceAccountName": "deployer" }), "serviceAccountName is immutable"),
        (json!({ "requestedBy": { "username": "eve" } }), "requestedBy is set by the API server"),
        (json!({ "requestedBy": null }), "requestedBy is set by the API server"),
        (
            json!({ "transforms": [{ "select": {}, "patch": [{ "op": "remove", "path": "/spec" }] }] }),
            "transforms is immutable",
        ),
    ] {
        assert_refused(call(client, "PATCH", &path, &json!({ "spec": change })).await, 422, &[word]);
    }
    let cancelled = tenant.path(GROUP, "restoreruns/cancelled");
    let back = call(client, "PATCH", &cancelled, &json!({ "spec": { "cancel": false } })).await;
    assert_refused(back, 422, &["cannot be withdrawn"]);
}

#[tokio::test]
async fn a_completed_restore_stays_so_even_for_the_operator() {
    let tenant = Tenant::new("terminal-restore").await;
    tenant.ask("one", json!({ "backupSet": { "name": "none" }, "dryRun": true })).await;
    let operator = tenant.cluster.as_operator();
    let status = tenant.path(GROUP, "restoreruns/one/status");
    let done = json!({ "status": { "phase": "completed", "outcome": "blocked" } });
    call(&operator, "PATCH", &status, &done).await.expect("the operator says how it ended");
    for change in [
        json!({ "phase": "running" }),
        json!({ "outcome": "succeeded" }),
        json!({ "phase": null }),
        json!({ "outcome": null }),
        Value::Null,
    ] {
        let answer = call(&operator, "PATCH", &status, &json!({ "status": change })).await;
        assert_refused(answer, 422, &["never changes its phase or outcome"]);
    }
    let path = tenant.path(GROUP, "restoreruns/one");
    let cancel = call(&tenant.cluster.client, "PATCH", &path, &json!({ "spec": { "cancel": true } })).await;
    assert_refused(cancel, 422, &["nothing left to cancel"]);
}

#[tokio::test]
async fn a_restore_that_cannot_be_meant_is_refused_with_what_to_do() {
    let tenant = Tenant::new("refused-restore").await;
    let attempt = async |name: &str, with: Value| -> Result<RestoreRun, kube::Error> {
        let mut spec = json!({ "backupSet": { "name": "none" } });
        spec.as_object_mut().expect("a spec").extend(with.as_object().cloned().into_iter().flatten());
        tenant.create(json!({ "metadata": { "name": name }, "spec": spec })).await
    };
    let long = "a".repeat(181);
    assert_refused(attempt(&long, json!({})).await, 422, &["180 characters"]);
    attempt(&long[..180], json!({})).await.expect("180 characters");
    let preview = |with: Value| {
        let mut spec = json!({ "preview": { "name": "look" } });
        spec.as_object_mut().expect("a spec").extend(with.as_object().cloned().into_iter().flatten());
        spec
    };
    attempt("applies", preview(json!({ "safetyCapture": false }))).await.expect("what a preview leaves open");
    for (with, word) in [
        (json!({ "prune": true }), "dryRun: true"),
        (preview(json!({ "prune": true })), "dryRun: true"),
        (preview(json!({ "dryRun": true })), "leave out dryRun or preview"),
        (preview(json!({ "items": [{ "kind": "Secret" }] })), "exactly what that run showed"),
        (preview(json!({ "excludeItems": [{ "kind": "Secret" }] })), "exactly what that run showed"),
        (preview(json!({ "only": "missing" })), "exactly what that run showed"),
        (preview(json!({ "rerunOf": { "name": "other" } })), "exactly what that run showed"),
        (preview(json!({ "existingResourcePolicy": "recreate" })), "exactly what that run showed"),
        (preview(json!({ "allowDataLoss": true })), "exactly what that run showed"),
        (
            preview(json!({ "transforms": [{ "select": {}, "patch": [{ "op": "remove", "path": "/spec" }] }] })),
            "exactly what that run showed",
        ),
        (json!({ "existingResourcePolicy": "perhaps" }), "spec.existingResourcePolicy"),
        (json!({ "items": [{ "kind": "not a kind" }] }), "spec.items"),
        (json!({ "transforms": [{ "select": {}, "patch": [] }] }), "spec.transforms"),
        (json!({ "serviceAccountName": "../other" }), "spec.serviceAccountName"),
        (json!({ "backupSet": { "name": "../other/set" } }), "spec.backupSet"),
    ] {
        assert_refused(attempt("bad", with).await, 422, &[word]);
    }
    attempt("prunes", json!({ "prune": true, "dryRun": true })).await.expect("looked at first");
}
