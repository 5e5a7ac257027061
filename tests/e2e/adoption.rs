//! A namespace is lost, with every record in it: what is left is a store and a password.

use crate::restore::SHOP;
use crate::support::repository::PASSWORD;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::{BackupRepository, BackupSet, Outcome, backup_set::Coverage};

impl Tenant {
    /// The one backup set that adopting a lost namespace has brought, once its repository `main` is Ready.
    pub(crate) async fn adopted_set(&self, lost_uid: &str) -> String {
        self.ready("main").await;
        let sets: Api<BackupSet> = self.api();
        let sets = sets.list(&ListParams::default()).await.expect("sets can be listed").items;
        assert_eq!(sets.len(), 1, "{sets:#?}");
        let set = &sets[0];
        assert_eq!((set.spec.namespace_uid.as_str(), set.spec.coverage), (lost_uid, Coverage::Partial));
        let status = set.status.clone().expect("a status");
        assert!(status.items.is_some_and(|items| items > 10), "{status:?}");
        assert!(status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"));
        set.metadata.name.clone().expect("a name")
    }

    /// Restores all of a set: looks, and applies what was seen.
    pub(crate) async fn put_back_all_of(&self, set: &str) {
        self.restore("look", set, json!({ "dryRun": true })).await;
        assert_eq!(self.restored("look").await.outcome, Outcome::Succeeded);
        self.restore("put-back", set, json!({ "preview": { "name": "look" } })).await;
        let status = self.restored("put-back").await;
        assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    }

    /// What a capture takes of what a user sees, with what it says.
    pub(crate) fn seen_by_a_capture(&self) -> BTreeMap<String, Value> {
        let mut seen = self.seen();
        // The cluster puts the second one into every namespace.
        seen.retain(|item, _| !["ConfigMap/never-captured", "ConfigMap/kube-root-ca.crt"].contains(&item.as_str()));
        assert!(seen.len() > 10, "{seen:?}");
        seen
    }
}

#[tokio::test]
async fn a_lost_namespace_is_restored_from_its_store_and_password_alone_once_somebody_adopts_it() {
    let lost = Tenant::new("lost").await;
    lost.apply(SHOP);
    let restic = lost.repository("main").await;
    lost.captured_whole("nightly").await;
    let whole = lost.seen_by_a_capture();
    let namespaces: Api<Namespace> = Api::all(lost.cluster.client.clone());
    namespaces.delete(&lost.name, &DeleteParams::default()).await.expect("it can be deleted");
    wait_for("the namespace is gone, with every record in it", SOON, async || {
        let found = namespaces.get_opt(&lost.name).await.expect("namespaces can be read");
        if found.is_none() { Ok(()) } else { Err("it is still there") }
    })
    .await;

    // Another namespace: a volume with the store, the password, and the consent to adopt.
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
    let set = found.adopted_set(&lost.uid).await;
    found.put_back_all_of(&set).await;
    let back = serde_json::to_string(&found.seen_by_a_capture()).expect("JSON");
    let back: BTreeMap<String, Value> =
        serde_json::from_str(&back.replace(&found.name, &lost.name)).expect("names are plain text");
    assert_eq!(back, whole, "everything that was captured is back");

    // What is not adopted any more cannot be restored, though its record is there.
    found.merge::<BackupRepository>("main", json!({ "spec": { "adopt": null } })).await;
    found.restore("again", &set, json!({ "dryRun": true })).await;
    assert_eq!(found.restored("again").await.failure_reason.as_deref(), Some("ForeignBackupSet"));
}
