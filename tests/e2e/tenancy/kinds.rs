//! The kinds as the API server keeps them: defaults, columns, what never changes.

use super::{assert_refused, call};
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant};
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, OperationRun};

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
    for short in ["optype", "brepo", "bset", "oprep", "audit"] {
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
        json!({ "initiator": { "username": "eve" } }),
        json!({ "initiator": null }),
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
