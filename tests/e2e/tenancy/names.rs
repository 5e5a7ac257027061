//! Runs that somebody made under a name which the operator would give: none is taken for the operator's own.

use super::assert_refused;
use crate::support::{SOON, Tenant};
use kube::ResourceExt;
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, OperationReport, OperationRun, Outcome, RestoreRun};
use tenantatlas::kinds::backup_repository::decide::check_name;

/// A capture under a name.
fn capture(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": {
        "type": "backup.capture", "inputs": { "repository": "main" }, "initiator": { "username": "ada" } } })
}

#[tokio::test]
async fn a_run_made_under_the_name_of_a_restore_s_own_is_not_taken_for_it() {
    let tenant = Tenant::with_a_captured_shop("names-restore").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    tenant.ask("other", json!({ "backupSet": { "name": "none" } })).await;
    let other: RestoreRun = tenant.api().get("other").await.expect("the restore");
    let mut owned = capture("put-back-restore");
    owned["metadata"]["ownerReferences"] = json!([{ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun",
        "name": "put-back", "uid": other.uid() }]);
    assert_refused(tenant.create_as::<OperationRun>(ada.clone(), owned).await, 403, &["tenantatlas-"]);
    tenant.create_as::<OperationRun>(ada, capture("put-back-restore")).await.expect("a run of that name");
    tenant.completed("put-back-restore", SOON).await;
    tenant.damage().await;
    let before = tenant.seen();
    tenant.restore("put-back", "nightly", json!({ "existingResourcePolicy": "update" })).await;
    let status = tenant.restored("put-back").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:?}");
    let run = status.operation_run.expect("a run").name;
    assert_ne!(run, "put-back-restore");
    assert!(run.starts_with("put-back-restore-"), "{run}");
    assert_ne!(tenant.seen(), before, "it was carried out");
}

#[tokio::test]
async fn a_run_made_under_the_name_of_a_check_does_not_keep_the_repository_from_being_checked() {
    let tenant = Tenant::new("names-check").await;
    tenant.repository("main").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let mut next = tenant.ready("main").await;
    next.metadata.generation = next.metadata.generation.map(|generation| generation + 1);
    let taken = check_name(&next);
    tenant.create_as::<OperationRun>(ada, capture(&taken)).await.expect("a run of that name");
    tenant.completed(&taken, SOON).await;
    tenant
        .merge::<BackupRepository>(
            "main",
            json!({ "spec": { "adopt": { "namespaceUids": ["00000000-0000-4000-8000-000000000000"] } } }),
        )
        .await;
    let described = format!("is Ready at generation {:?}", next.metadata.generation);
    let repository = tenant
        .repository_when("main", &described, |repository| {
            repository.metadata.generation == next.metadata.generation && repository.is_ready()
        })
        .await;
    assert_eq!(check_name(&repository), taken, "the name that was taken is the one it would have had");
}

/// What a viewer finds in reports about a Role.
#[tokio::test]
async fn reports_show_a_viewer_that_a_role_changes_and_not_how() {
    let tenant = Tenant::new("names-report").await;
    let role = |resource: &str| {
        json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": { "name": "readers" },
            "rules": [{ "apiGroups": [""], "resources": [resource], "verbs": ["get"] }] })
    };
    let map = |value: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "mode": value } });
    tenant.apply(&role("pods").to_string());
    tenant.apply(&map("calm").to_string());
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    tenant.apply(&role("services").to_string());
    tenant.apply(&map("storm").to_string());
    tenant.restore("look", "nightly", json!({ "dryRun": true, "existingResourcePolicy": "update" })).await;
    assert_eq!(tenant.restored("look").await.outcome, Outcome::Succeeded);
    let viewer = tenant.person("vera", &["view"]).await;
    let reports: kube::Api<OperationReport> = kube::Api::namespaced(viewer, &tenant.name);
    let reports = reports.list(&kube::api::ListParams::default()).await.expect("a viewer reads reports").items;
    let text = serde_json::to_string(&reports).expect("JSON");
    assert!(text.contains("calm") && text.contains("storm"), "of what a viewer reads, what changes is said: {text}");
    assert!(text.contains("~ rules: hmac:"), "of a Role, that it changes: {text}");
    assert!(!text.contains("pods") && !text.contains("services"), "{text}");
}
