//! Inventories: what a tenant holds is recorded without content, for next to nothing, and is never restored.

use crate::restore::SHOP;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use crate::tenancy::assert_refused;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;
use tenantatlas::api::{
    BackupRepository, BackupSet, OperationReport, OperationRun, OperationRunStatus, Outcome, Reason,
    backup_set::{Content, Coverage},
};

impl Tenant {
    /// Takes an inventory in `main` that looks which objects are in no backup set of a week, and waits
    /// for the end.
    pub(crate) async fn inventoried(&self, name: &str) -> OperationRunStatus {
        let inputs = json!({ "repository": "main", "coverageDays": 7 });
        self.start(name, json!({ "type": "inventory.sync", "inputs": inputs })).await;
        self.completed(name, SOON).await
    }

    /// `item reason` of each object that no backup set holds, as the reports of a run name them.
    async fn uncovered(&self, run: &str) -> Vec<String> {
        let of_run = ListParams::default().fields(&format!("spec.run.name={run}"));
        let reports = self.api::<OperationReport>().list(&of_run).await.expect("reports can be listed");
        let items = reports.items.into_iter().flat_map(|report| report.spec.uncovered);
        items.map(|item| format!("{} {}", item.item_id, item.reason)).collect()
    }

    /// The set that a run made.
    pub(crate) async fn set_of(&self, status: &OperationRunStatus) -> BackupSet {
        let name = status.context.backup_set.as_deref().expect("context.backupSet");
        self.api().get(name).await.unwrap_or_else(|error| panic!("BackupSet {name} cannot be read: {error}"))
    }
}

#[tokio::test]
async fn what_a_tenant_holds_is_recorded_without_content_and_is_never_restored() {
    let tenant = Tenant::new("inventory").await;
    tenant.apply(SHOP);
    let restic = tenant.repository("main").await;
    // Who may not start it, and who may.
    let other = tenant.beside("inventory").await;
    let eve = other.person("eve", &["tenantatlas-tenant-admin"]).await;
    let run = |name: &str| {
        json!({ "metadata": { "name": name },
        "spec": { "type": "inventory.sync", "inputs": { "repository": "main" }, "initiator": { "username": "ada" } } })
    };
    assert_refused(tenant.create_as::<OperationRun>(eve, run("theirs")).await, 403, &["cannot create resource"]);
    let edits = tenant.person("edits", &["edit"]).await;
    assert_refused(
        tenant.create_as::<OperationRun>(edits, run("theirs")).await,
        403,
        &["tenantatlas-start", "inventory.sync", "verb run"],
    );
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    // Only now: what makes people operators are objects of the tenant, too.
    tenant.captured_whole("nightly").await;
    tenant.create_as::<OperationRun>(ada, run("first")).await.expect("ada is an operator");

    let status = tenant.completed("first", SOON).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let first = tenant.set_of(&status).await;
    assert_eq!((first.spec.content, first.spec.coverage), (Content::Inventory, Coverage::Full));
    let figures = first.status.clone().expect("a status");
    assert_eq!(figures.items_by_kind.get("Deployment.apps"), Some(&1));
    assert_eq!(figures.items_by_kind.values().sum::<i64>(), status.summary_counts.expect("counts").succeeded);
    let captured: BackupSet = tenant.api().get("nightly").await.expect("the set of the capture");
    assert_eq!(figures.items_by_kind, captured.status.expect("a status").items_by_kind, "the same objects");
    let shown = tenant.cluster.kubectl_prints(&["get", "backupsets", "--namespace", &tenant.name]);
    assert!(shown.contains("CONTENT") && shown.contains("Inventory") && shown.contains("Objects"), "{shown}");

    // Names and digests, and no value.
    let files = restic.all_files(&first.spec.snapshot);
    assert!(files.iter().all(|file| file.contains(".inventory/") || file.contains(".not-captured/")), "{files:#?}");
    let secrets = restic.dump(&first.spec.snapshot, "/core/v1/Secret.inventory/00000.json").to_string();
    assert!(secrets.contains("shop-payment") && !secrets.contains("czNjcjN0LXQwa2Vu"), "{secrets}");

    // It is immutable, and never restored.
    let path = format!("backupset/{}", first.name_any());
    let change =
        ["patch", &path, "--namespace", &tenant.name, "--type=merge", "-p", r#"{"spec":{"content":"Objects"}}"#];
    let refused = tenant.cluster.kubectl(&change);
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("immutable"), "{refused:?}");
    for (name, spec) in [("look", json!({ "dryRun": true })), ("put-back", json!({}))] {
        tenant.restore(name, &first.name_any(), spec).await;
        let status = tenant.restored(name).await;
        let code = status.failure_reason.as_deref();
        assert_eq!((status.outcome, code), (Outcome::Blocked, Some("BackupSetIsInventory")), "{status:?}");
        assert_eq!(status.operation_run, None, "there is no run");
    }
    let inputs = json!({ "repository": "main", "backupSet": first.name_any() });
    tenant.start("rehearse", json!({ "type": "restore.rehearse", "inputs": inputs })).await;
    let status = tenant.blocked("rehearse", Reason::BackupSetIsInventory, &["is an inventory"]).await;
    assert_eq!(status.job, None);

    // Nothing changed: what the second adds is a snapshot.
    let status = tenant.inventoried("second").await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let second = tenant.set_of(&status).await.status.expect("a status");
    let added = second.added_bytes.expect("a figure");
    assert!(added < 4096, "an unchanged inventory adds {added} bytes");

    // A backup holds all of it but what is labelled, until there is something new.
    let labelled = "core/ConfigMap/never-captured ExcludedByLabel";
    let coverage = *status.context.coverage.clone().expect("status.context.coverage");
    let recorded = status.summary_counts.expect("counts").succeeded;
    assert_eq!((coverage.objects, coverage.uncovered, coverage.sets), (recorded + 1, 1, 1), "{status:#?}");
    assert_eq!(tenant.uncovered("second").await, [labelled]);
    tenant.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "new" } }).to_string());
    let status = tenant.inventoried("third").await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    assert_eq!(tenant.uncovered("third").await, [labelled, "core/ConfigMap/new NewerThanLastBackup"]);
    let found = *status.context.coverage.expect("status.context.coverage");
    assert_eq!((found.objects, found.uncovered), (coverage.objects + 1, 2), "{found:?}");
    let repository: BackupRepository = tenant.api().get("main").await.expect("the repository");
    let told = repository.status.and_then(|status| status.coverage).expect("status.coverage of the repository");
    assert_eq!((told.run.name.as_str(), told.found), ("third", found));
    restic.prints(&["check", "--read-data"]);
}

#[tokio::test]
async fn a_schedule_takes_inventories_and_keeps_them_by_its_own_rules() {
    let tenant = Tenant::new("inventories").await;
    tenant.repository("main").await;
    let operation = json!({ "type": "inventory.sync", "inputs": { "repository": "main" } });
    let spec = json!({ "schedule": "@yearly", "operation": operation, "retention": { "keepLast": 1 } });
    tenant.schedule("inventories", spec).await;
    let mut sets = Vec::new();
    for token in ["one", "two"] {
        let status = tenant.ran_now("inventories", token).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
        sets.push(status.context.backup_set.expect("a set"));
    }
    wait_for("the older inventory expires", SOON, async || {
        let there = tenant.api::<BackupSet>().get_opt(&sets[0]).await.map_err(|error| error.to_string())?;
        if there.is_none() { Ok(()) } else { Err("still there".to_owned()) }
    })
    .await;
    let newest: BackupSet = tenant.api().get(&sets[1]).await.expect("the newest stays");
    assert_eq!(newest.spec.backup_schedule.map(|schedule| schedule.name).as_deref(), Some("inventories"));
}
