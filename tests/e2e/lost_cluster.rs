//! A whole cluster is lost: its tenant is restored in another one, which has nothing but the operator, from the location and the
//! password of a repository. `cargo xtask test --only recovery` makes the second cluster for this.

use crate::bucket::Bucket;
use crate::restore::SHOP;
use crate::support::cluster::Cluster;
use crate::support::{SOON, Tenant};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, BackupSet, Outcome, Reason};

#[tokio::test]
async fn a_lost_cluster_s_tenant_is_restored_in_an_empty_one_once_somebody_adopts_it_there() {
    let lost = Tenant::new("acme").await;
    lost.apply(SHOP);
    let bucket = Bucket::new().await;
    bucket.opened_by(&lost).await;
    lost.ready("main").await;
    lost.captured_whole("nightly").await;
    let whole = lost.seen_by_a_capture();
    let marker = bucket.folder().join("tenantatlas/owner.json");
    let owner = std::fs::read(&marker).expect("an owner marker");

    let second = Cluster::second().await;
    assert_ne!(uid_of_cluster(&second).await, uid_of_cluster(&lost.cluster).await, "another cluster");
    let found = lost.namesake(second).await;
    assert_ne!(found.uid, lost.uid);
    bucket.opened_by(&found).await;
    // Location and password alone are no consent: the store stays whose it is, and the message says whose.
    found.not_ready("main", "OwnedByAnother", &[&lost.uid, "adopt"]).await;
    assert_eq!(std::fs::read(&marker).expect("an owner marker"), owner, "the store was not taken over");
    let sets: Api<BackupSet> = found.api();
    assert_eq!(sets.list(&ListParams::default()).await.expect("sets can be listed").items.len(), 0);
    found.restore("early", "nightly", json!({})).await;
    let early = found.restored("early").await;
    assert_eq!(
        (early.outcome, early.failure_reason.as_deref()),
        (Outcome::Blocked, Some("BackupSetNotFound")),
        "{early:#?}"
    );

    found.merge::<BackupRepository>("main", json!({ "spec": { "adopt": { "namespaceUids": [lost.uid] } } })).await;
    let set = found.adopted_set(&lost.uid).await;
    found.put_back_all_of(&set).await;
    assert_eq!(found.seen_by_a_capture(), whole, "everything that was captured is back");

    // From now on the store is the second cluster's. The first, should it come back, is told so and leaves it alone.
    let owner: Value = serde_json::from_slice(&std::fs::read(&marker).expect("an owner marker")).expect("JSON");
    assert_eq!(owner["namespaceUid"], found.uid);
    let status = lost.check("back-again", json!({})).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("OwnedByAnother")), "{status:#?}");
    lost.not_ready("main", "OwnedByAnother", &[&found.uid]).await;
    found.start("next", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    let next = found.completed("next", SOON).await;
    assert_eq!((next.outcome, next.reason.as_deref()), (Outcome::Succeeded, Some(Reason::Succeeded.as_str())));
}

#[tokio::test]
async fn a_key_that_no_cluster_holds_opens_the_store_of_a_tenant_whose_password_is_lost() {
    let identity = age::x25519::Identity::generate();
    let bucket = Bucket::new().await;
    let lost = Tenant::new("recover").await;
    lost.apply(SHOP);
    Bucket::keys(&lost);
    let recovery = json!({ "recipients": [identity.to_public().to_string()] });
    lost.join_workspace(json!({
        "repository": { "storage": bucket.storage("shop"), "credentialsSecret": { "name": "keys" }, "recovery": recovery },
    }))
    .await;
    lost.ready("main").await;
    lost.captured_whole("nightly").await;
    let mut whole = lost.seen_by_a_capture();
    assert!(whole.remove("Secret/main-password").is_some(), "{whole:#?}");

    // The platform team has the bucket, and its own key. The password was in the lost cluster alone.
    let copies = bucket.below(&format!("shop/{}/tenantatlas/recovery", lost.name));
    let copies: Vec<_> = std::fs::read_dir(copies).expect("a copy").flatten().map(|entry| entry.path()).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    let copy = std::fs::read(&copies[0]).expect("the copy");
    assert!(age::decrypt(&age::x25519::Identity::generate(), &copy).is_err(), "another key does not open it");
    let password = String::from_utf8(age::decrypt(&identity, &copy).expect("it opens")).expect("text");

    let found = lost.namesake(Cluster::second().await).await;
    found.password("main", &password);
    Bucket::keys(&found);
    let repository = json!({ "metadata": { "name": "main" }, "spec": {
        "storage": bucket.storage(&format!("shop/{}", lost.name)), "credentialsSecret": { "name": "keys" },
        "passwordSecret": { "name": "main" }, "adopt": { "namespaceUids": [lost.uid] } } });
    found.create::<BackupRepository>(repository).await.expect("a repository");
    let set = found.adopted_set(&lost.uid).await;
    found.put_back_all_of(&set).await;
    let mut seen = found.seen_by_a_capture();
    assert!(seen.remove("Secret/main").is_some(), "what the repository is opened with, as the other was: {seen:#?}");
    assert_eq!(seen, whole, "everything that was captured is back");
}

/// What tells clusters apart: the uid of the system's own namespace.
async fn uid_of_cluster(cluster: &Cluster) -> String {
    let namespaces: Api<Namespace> = Api::all(cluster.client.clone());
    namespaces.get("kube-system").await.expect("namespaces can be read").metadata.uid.expect("a uid")
}
