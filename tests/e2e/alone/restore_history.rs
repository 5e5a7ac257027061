//! Restores that are over: what goes, and what stays.

use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tenantatlas::api::{
    AuditEntry, BackupSet, BulkOperationRun, OperationReport, OperationRun, Outcome, Phase, RestoreRun,
};

/// The history limit of a built-in type, which is everybody's: as it was when the story is over, however it ends.
struct HistoryLimit<'t>(&'t Tenant, &'static str);

impl<'t> HistoryLimit<'t> {
    fn one(tenant: &'t Tenant, operation_type: &'static str) -> Self {
        let limit = Self(tenant, operation_type);
        limit.set(&json!(1));
        limit
    }

    fn set(&self, limit: &Value) {
        let patch = json!({ "spec": { "historyLimit": limit } }).to_string();
        self.0.cluster.kubectl(&["patch", "operationtype", self.1, "--type=merge", "--patch", &patch]);
    }
}

impl Drop for HistoryLimit<'_> {
    fn drop(&mut self) {
        self.set(&json!(20));
    }
}

impl Tenant {
    async fn capture_into(&self, repository: &str, name: &str) {
        self.start(name, json!({ "type": "backup.capture", "inputs": { "repository": repository } })).await;
        assert_eq!(self.completed(name, SOON).await.outcome, Outcome::Succeeded);
    }

    async fn looked_at(&self, name: &str, set: &str) {
        self.restore(name, set, json!({ "dryRun": true })).await;
        assert_eq!(self.restored(name).await.outcome, Outcome::Succeeded);
    }

    /// Waits until these restores are left, and of the runs that restore just theirs.
    async fn left(&self, expected: &[(&str, &str)]) {
        wait_for("the restores that are left, with their runs", SOON, async || {
            let restores = self.api::<RestoreRun>().list_metadata(&ListParams::default()).await.expect("a list").items;
            let runs = self.api::<OperationRun>().list(&ListParams::default()).await.expect("a list").items;
            let runs = runs.iter().filter(|run| run.spec.operation_type.starts_with("restore."));
            let restores: Vec<_> = restores.iter().map(ResourceExt::name_any).collect();
            let runs: Vec<_> = runs.map(ResourceExt::name_any).collect();
            let are_left = restores.iter().map(String::as_str).eq(expected.iter().map(|(restore, _)| *restore));
            let are_theirs = runs.iter().map(String::as_str).eq(expected.iter().map(|(_, run)| *run));
            if are_left && are_theirs { Ok(()) } else { Err(format!("{restores:?}, {runs:?}")) }
        })
        .await;
    }

    fn lose(&self, kind: &str, name: &str) {
        self.cluster.kubectl_prints(&["delete", kind, name, "--namespace", &self.name]);
    }
}

#[tokio::test]
async fn restores_go_with_their_runs_unless_they_are_needed_and_what_undoes_them_and_the_audit_chain_stay() {
    // Alone: other stories look at restores long after these have ended.
    let tenant = Tenant::alone("history").await;
    let made: Result<ConfigMap, _> = tenant.create(json!({ "metadata": { "name": "there" } })).await;
    made.expect("a ConfigMap");
    for (repository, set) in [("main", "nightly"), ("other", "weekly")] {
        tenant.repository(repository).await;
        tenant.capture_into(repository, set).await;
    }
    let _limits = ["restore.preview", "restore.apply"].map(|name| HistoryLimit::one(&tenant, name));

    tenant.looked_at("look-1", "weekly").await;
    // What applies it cannot begin: its pod waits for the password.
    tenant.lose("secret", "other");
    tenant.lose("configmap", "there");
    tenant.restore("put-back-1", "weekly", json!({ "preview": { "name": "look-1" } })).await;
    tenant.restore_when("put-back-1", "running", |status| status.phase == Phase::Running).await;
    tenant.looked_at("look-2", "nightly").await;
    tenant.looked_at("look-3", "nightly").await;
    tenant.password("other", crate::support::repository::PASSWORD);
    let status = tenant.restored("put-back-1").await;
    assert_eq!(
        status.failure_reason.as_deref(),
        Some("PreviewStale"),
        "look-1 was the oldest of three, and it is there to be compared with: {status:#?}"
    );
    tenant.left(&[("look-3", "look-3-preview"), ("put-back-1", "put-back-1-restore")]).await;
    wait_for("the reports of what went go", SOON, async || {
        let reports = tenant.api::<OperationReport>().list(&ListParams::default()).await.expect("a list").items;
        let runs: Vec<_> = reports.into_iter().map(|report| report.spec.run.name).collect();
        let gone = |run: &String| run == "look-1-preview" || run == "look-2-preview";
        if runs.iter().any(gone) { Err(format!("{runs:?}")) } else { Ok(()) }
    })
    .await;

    for name in ["put-back-2", "put-back-3"] {
        tenant.restore(name, "nightly", json!({ "items": [{ "kind": "ConfigMap", "name": "there" }] })).await;
        assert_eq!(tenant.restored(name).await.outcome, Outcome::Succeeded);
        tenant.lose("configmap", "there");
    }
    // The last of each outcome stays, and put-back-1 was blocked.
    let last = [("put-back-1", "put-back-1-restore"), ("put-back-3", "put-back-3-restore")];
    tenant.left(&[("look-3", "look-3-preview"), last[0], last[1]]).await;
    tenant.api::<BackupSet>().get("put-back-2-restore").await.expect("the set that undoes it stays");
    let chain = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("a list").items;
    let told = chain.iter().filter(|entry| entry.spec.run.name == "put-back-2-restore").count();
    assert_eq!(told, 2, "its intent and its outcome");
}

#[tokio::test]
async fn a_bulk_operation_goes_with_its_run_and_its_audit_entries_stay() {
    let tenant = Tenant::alone("bulk-history").await;
    let made: Result<ConfigMap, _> = tenant.create(json!({ "metadata": { "name": "there" } })).await;
    made.expect("a ConfigMap");
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let _limit = HistoryLimit::one(&tenant, "bulk.apply");
    for (name, value) in [("first", "1"), ("second", "2")] {
        let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "items": ["there"],
            "options": { "set": { "number": value } }, "requestedBy": { "username": "ada" } });
        let bulk = json!({ "metadata": { "name": name }, "spec": spec });
        tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect("a bulk operation");
        assert_eq!(tenant.bulk_end(name).await.outcome, Outcome::Succeeded);
    }
    wait_for("the second bulk operation is left, with its run", SOON, async || {
        let bulks = tenant.api::<BulkOperationRun>().list_metadata(&ListParams::default()).await.expect("a list").items;
        let runs = tenant.api::<OperationRun>().list_metadata(&ListParams::default()).await.expect("a list").items;
        let bulks: Vec<_> = bulks.iter().map(ResourceExt::name_any).collect();
        let runs: Vec<_> = runs.iter().map(ResourceExt::name_any).collect();
        if bulks == ["second"] && runs == ["second-bulk"] { Ok(()) } else { Err(format!("{bulks:?}, {runs:?}")) }
    })
    .await;
    let chain = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("a list").items;
    assert_eq!(chain.len(), 4, "an intent and an outcome of each");
}
