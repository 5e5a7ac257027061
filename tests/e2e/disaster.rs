//! The disaster case: a namespace with more objects than any object of ours has room for is empty, and comes back as the operator is shipped,
//! with an undo.

use crate::support::cluster::number;
use crate::support::{SOON, Tenant, wait_for};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tenantatlas::api::{BackupSet, OperationReport, Outcome, Phase, RestoreRun, RestoreRunStatus};

/// How many objects: more than a set can name, or as many as `ATLAS_OBJECTS` says.
fn objects() -> u64 {
    number("ATLAS_OBJECTS", 5200)
}

/// The test's image is not optimized: an item takes thirty times the processor time of a release.
fn patience() -> Duration {
    SOON.saturating_mul(2) + Duration::from_millis(50 * objects())
}

/// What the reports of one run take, in bytes: they lie in an etcd that all tenants share.
const REPORTS: usize = 512 * 1024;

async fn there(tenant: &Tenant) -> u64 {
    let maps: Api<ConfigMap> = tenant.api();
    let listed = maps.list_metadata(&ListParams::default().labels("many=yes")).await;
    listed.expect("ConfigMaps can be listed").items.len() as u64
}

/// A restore at its end, and what its run's reports take.
async fn restored(tenant: &Tenant, name: &str) -> (RestoreRunStatus, usize) {
    let begun = Instant::now();
    let restores: Api<RestoreRun> = tenant.api();
    let status = wait_for(&format!("restore {name} completed"), patience(), async || {
        let restore = restores.get(name).await.map_err(|error| error.to_string())?;
        let status = restore.status.unwrap_or_default();
        if status.phase == Phase::Completed { Ok(status) } else { Err(format!("{status:?}")) }
    })
    .await;
    let run = status.operation_run.clone().expect("status.operationRun");
    println!("{name} took {:?}", begun.elapsed());
    let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name));
    let reports = tenant.api::<OperationReport>().list(&of_run).await.expect("reports can be listed");
    let bytes = reports.items.iter().map(|report| serde_json::to_vec(report).expect("JSON").len()).sum();
    (status, bytes)
}

#[tokio::test]
async fn more_objects_than_a_set_can_name_come_back_into_an_empty_namespace_and_can_be_undone() {
    let objects = objects();
    let tenant = Tenant::new("disaster").await;
    let maps: Api<ConfigMap> = tenant.api();
    let create = async |number: u64| {
        let map: Value = json!({ "metadata": { "name": format!("many-{number:06}"), "labels": { "many": "yes" } },
            "data": { "number": number.to_string() } });
        let made: Result<ConfigMap, _> = tenant.create(map).await;
        made.expect("a ConfigMap");
    };
    stream::iter(0..objects).map(create).buffer_unordered(32).collect::<()>().await;
    tenant.repository("main").await;
    tenant.start("nightly", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    assert_eq!(tenant.completed("nightly", patience()).await.outcome, Outcome::Succeeded);
    let all = ListParams::default().labels("many=yes");
    wait_for("they are gone", patience(), async || {
        // One request for so many may take longer than the API server gives it.
        let deleted = maps.delete_collection(&DeleteParams::default(), &all).await;
        match there(&tenant).await {
            0 => Ok(()),
            left => Err(format!("{left} are there: {:?}", deleted.err())),
        }
    })
    .await;

    tenant.restore("put-back", "nightly", json!({ "items": [{ "kind": "ConfigMap", "name": "many-*" }] })).await;
    let (status, bytes) = restored(&tenant, "put-back").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(there(&tenant).await, objects);
    assert!(bytes < REPORTS, "its reports take {bytes} bytes");
    let undo = status.undo_backup_set.expect("status.undoBackupSet");
    let set: BackupSet = tenant.api().get(&undo).await.expect("the set that undoes it");
    assert_eq!((set.spec.absent.len(), set.spec.absent_in_snapshot), (0, i64::try_from(objects).ok()));

    tenant.restore("look-back", &undo, json!({ "dryRun": true, "prune": true })).await;
    let (look, bytes) = restored(&tenant, "look-back").await;
    let planned = look.preview.unwrap_or_default();
    assert_eq!(u64::try_from(planned.delete), Ok(objects), "{look:#?}");
    assert!(bytes < REPORTS, "its reports take {bytes} bytes");
    tenant.restore("undo", &undo, json!({ "preview": { "name": "look-back" }, "safetyCapture": false })).await;
    let (status, bytes) = restored(&tenant, "undo").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert!(bytes < REPORTS, "its reports take {bytes} bytes");
    assert_eq!(there(&tenant).await, 0, "as it was before the restore");
}
