//! A namespace, or its whole cluster, is lost: what is left is a store and a password.

use crate::restore::SHOP;
use crate::support::repository::PASSWORD;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::json;
use tenantatlas::api::{BackupRepository, BackupSet, Outcome, backup_set::Coverage};

#[tokio::test]
async fn a_lost_tenant_is_restored_from_its_store_and_password_alone_once_somebody_adopts_it() {
    let lost = Tenant::new("lost").await;
    lost.apply(SHOP);
    let restic = lost.repository("main").await;
    lost.captured_whole("nightly").await;
    let whole = lost.seen();
    let namespaces: Api<Namespace> = Api::all(lost.cluster.client.clone());
    namespaces.delete(&lost.name, &DeleteParams::default()).await.expect("it can be deleted");
    wait_for("the namespace is gone, with every record in it", SOON, async || {
        let found = namespaces.get_opt(&lost.name).await.expect("namespaces can be read");
        if found.is_none() { Ok(()) } else { Err("it is still there") }
    })
    .await;

    // Another namespace, as in another cluster: a volume with the store, the password, and the consent to adopt.
    let found = lost.beside("found").await;
    found.volume_at("main", restic.volume()).await;
    found.password("main", PASSWORD);
    let repository = json!({ "metadata": { "name": "main" }, "spec": {
        "storage": { "persistentVolumeClaim": { "claimName": "main" } },
        "passwordSecret": { "name": "main" },
        "adopt": { "namespaceUids": [lost.uid] },
    }});
    let made: Result<BackupRepository, _> = found.create(repository).await;
    made.expect("an administrator may adopt");
    found.ready("main").await;
    let sets: Api<BackupSet> = found.api();
    let sets = sets.list(&ListParams::default()).await.expect("sets can be listed").items;
    assert_eq!(sets.len(), 1, "{sets:#?}");
    let set = &sets[0];
    assert_eq!((&set.spec.namespace_uid, set.spec.coverage), (&lost.uid, Coverage::Partial));
    let status = set.status.clone().expect("a status");
    assert!(status.items.is_some_and(|items| items > 10), "{status:?}");
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));

    let name = set.metadata.name.clone().expect("a name");
    found.restore("look", &name, json!({ "dryRun": true })).await;
    assert_eq!(found.restored("look").await.outcome, Outcome::Succeeded);
    found.restore("put-back", &name, json!({ "preview": { "name": "look" } })).await;
    let status = found.restored("put-back").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    let back = found.seen();
    let gone: Vec<_> = whole.keys().filter(|item| !back.contains_key(*item)).collect();
    assert_eq!(gone, ["ConfigMap/never-captured"], "everything that was captured is back");
    let settings: ConfigMap = found.api().get("shop-settings").await.expect("it is back");
    assert_eq!(settings.data.expect("data")["currency"], "EUR");

    // What is not adopted any more cannot be restored, though its record is there.
    found.merge::<BackupRepository>("main", json!({ "spec": { "adopt": null } })).await;
    found.restore("again", &name, json!({ "dryRun": true })).await;
    assert_eq!(found.restored("again").await.failure_reason.as_deref(), Some("ForeignBackupSet"));
}
