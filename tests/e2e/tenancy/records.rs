//! Backup sets and reports: made by those who did what they record.

use super::{assert_refused, assert_refused_by_either, call};
use crate::support::Tenant;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tenantatlas::api::{BackupSet, OperationReport};

const GROUP: &str = "tenantatlas.io/v1alpha1";

fn backup_set(tenant: &Tenant) -> Value {
    json!({ "metadata": { "name": "nightly" }, "spec": {
        "repository": { "name": "main" }, "snapshot": "a".repeat(64), "run": { "name": "nightly", "uid": "0" },
        "namespaceUid": tenant.uid, "coverage": "full",
    }})
}

fn report(name: &str, run: &Value, owner: &Value) -> Value {
    json!({
        "metadata": { "name": name, "ownerReferences": [owner] },
        "spec": { "run": run, "chunk": 0, "chunks": 1, "items": [] },
    })
}

#[tokio::test]
async fn backup_sets_are_recorded_by_the_operator_held_and_deleted_by_the_tenant() {
    let tenant = Tenant::new("sets").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let eve = tenant
        .person_with(
            "eve",
            json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["backupsets"], "verbs": ["create"] }]),
        )
        .await;
    let words = ["tenantatlas-backup-sets", "backup.capture"];
    assert_refused(tenant.create::<BackupSet>(backup_set(&tenant)).await, 403, &words);
    assert_refused(tenant.create_as::<BackupSet>(eve, backup_set(&tenant)).await, 403, &words);
    assert_refused(
        tenant.create_as::<BackupSet>(ada.clone(), backup_set(&tenant)).await,
        403,
        &["cannot create resource"],
    );

    tenant
        .create_as::<BackupSet>(tenant.cluster.as_operator(), backup_set(&tenant))
        .await
        .expect("the operator records");
    let path = tenant.path(GROUP, "backupsets/nightly");
    call(&ada, "PATCH", &path, &json!({ "spec": { "hold": true } })).await.expect("a set can be held");
    for change in [
        json!({ "snapshot": "b".repeat(64) }),
        json!({ "coverage": "partial" }),
        json!({ "absent": ["core/ConfigMap/a"] }),
        json!({ "backupSchedule": { "name": "nightly", "uid": "other" } }),
        json!({ "run": { "name": "other", "uid": "0" } }),
        json!({ "namespaceUid": "other" }),
        json!({ "repository": { "name": "other" } }),
        json!({ "selection": { "includeKinds": ["Secret"] } }),
    ] {
        assert_refused(call(&ada, "PATCH", &path, &json!({ "spec": change })).await, 422, &["immutable"]);
    }
    let sets: Api<BackupSet> = Api::namespaced(ada, &tenant.name);
    sets.delete("nightly", &DeleteParams::default()).await.expect("a set can be given up");
}

#[tokio::test]
async fn reports_are_written_by_workers_and_belong_to_their_run() {
    let tenant = Tenant::new("reports").await;
    let (_, pod) = tenant.operation_with_pod("mine").await;
    let uid = tenant.run("mine").await.metadata.uid.expect("a uid");
    let run = json!({ "name": "mine", "uid": uid });
    let owner = json!({ "apiVersion": GROUP, "kind": "OperationRun", "name": "mine", "uid": uid });
    let worker = tenant.worker(&pod).await;
    let created = tenant.create_as::<OperationReport>(worker.clone(), report("mine-0", &run, &owner)).await;
    created.expect("a worker reports");
    // Immutable, and nobody's to make but theirs.
    let path = tenant.path(GROUP, "operationreports/mine-0");
    let changed = call(&tenant.cluster.client, "PATCH", &path, &json!({ "spec": { "chunks": 2 } })).await;
    assert_refused(changed, 422, &["immutable"]);
    assert_refused(
        tenant.create::<OperationReport>(report("mine-1", &run, &owner)).await,
        403,
        &["tenantatlas-reports"],
    );
    let mut other = owner.clone();
    other["uid"] = "0".into();
    let stray = tenant.create_as::<OperationReport>(worker.clone(), report("mine-1", &run, &other)).await;
    let words = |policy| [policy, "ownerReferences"];
    let (reports, lifetime) = (words("tenantatlas-reports"), words("tenantatlas-lifetime"));
    assert_refused_by_either(stray, [(422, &reports), (403, &lifetime)]);
    let mut no_owner = report("mine-1", &run, &owner);
    no_owner["metadata"]["ownerReferences"] = json!([]);
    assert_refused(tenant.create_as::<OperationReport>(worker, no_owner).await, 422, &["ownerReferences"]);
}
