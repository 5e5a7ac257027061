//! Only the pod of an export makes a ConfigMap that a BulkOperationRun owns: a worker reports what it finds in one.

use super::{assert_refused, assert_refused_by_either, call, ways::WAYS};
use crate::bulk::ADMIN;
use crate::support::Tenant;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::{BulkOperationRun, Outcome};

/// What the refusal says.
const WORDS: [&str; 2] = ["tenantatlas-exports", "name no BulkOperationRun"];

impl Tenant {
    /// A ConfigMap of these owners, as it would have to be for a worker to take it.
    fn forged(&self, name: &str, owners: &Value) -> Value {
        let result = json!({ "summaryCounts": { "total": 1, "processed": 1, "succeeded": 1, "failed": 0, "skipped": 0 },
            "failures": [], "failuresTruncated": false });
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "immutable": true,
            "metadata": { "name": name, "namespace": self.name, "ownerReferences": owners },
            "data": { "objects.yaml": "---\nforged: true\n", "result.json": result.to_string() } })
    }

    async fn config_maps(&self) -> BTreeMap<String, ConfigMap> {
        let maps = self.api::<ConfigMap>().list(&ListParams::default()).await.expect("a list").items;
        maps.into_iter().map(|map| (map.name_any(), map)).collect()
    }
}

fn owner(kind: &str, bulk: &BulkOperationRun) -> Value {
    json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": kind, "name": bulk.name_any(), "uid": bulk.uid() })
}

#[tokio::test]
async fn nobody_but_its_worker_makes_the_config_map_of_an_export_or_gives_one_its_owner() {
    let tenant = Tenant::new("forged-export").await;
    tenant.create_many("ConfigMap", 1);
    let eve = tenant.person("eve", &["edit", "tenantatlas-tenant-operator"]).await;
    // One that starts no run.
    let spec = json!({ "resource": { "group": "tenantatlas.io", "kind": "BackupSet" }, "action": "export", "items": ["a"],
        "requestedBy": { "username": "eve" } });
    let bulk = json!({ "metadata": { "name": "theirs" }, "spec": spec });
    let bulk = tenant.create_as::<BulkOperationRun>(eve.clone(), bulk).await.expect("a bulk operation");
    let own = json!([owner("BulkOperationRun", &bulk)]);
    let (maps, path) = (tenant.path("v1", "configmaps"), tenant.path("v1", "configmaps/own"));
    let mut plain = tenant.forged("own", &json!([]));
    plain.as_object_mut().expect("an object").remove("immutable");
    call(&eve, "POST", &maps, &plain).await.expect("a ConfigMap of one's own");
    let before = tenant.config_maps().await;
    let restore = format!("system:serviceaccount:{}:tenantatlas-restore", tenant.name);
    let restores = tenant.cluster.as_user_in_pod(&restore, "op-0123456789abcdef0123-restore-x7k2p");
    // Neither who has `edit`, nor an administrator, nor what a backup set holds makes one, or makes one anew.
    for client in [&eve, &tenant.cluster.client, &restores] {
        for name in ["theirs-bulk", "forged"] {
            assert_refused(call(client, "POST", &maps, &tenant.forged(name, &own)).await, 403, &WORDS);
        }
        let two = json!([owner("RestoreRun", &bulk), owner("BulkOperationRun", &bulk)]);
        assert_refused(call(client, "POST", &maps, &tenant.forged("theirs-bulk", &two)).await, 403, &WORDS);
        let mut generated = tenant.forged("", &own);
        generated["metadata"] =
            json!({ "generateName": "theirs-bulk-", "namespace": tenant.name, "ownerReferences": own });
        assert_refused(call(client, "POST", &maps, &generated).await, 403, &WORDS);
    }
    let applied = format!("{maps}/theirs-bulk?fieldManager=eve");
    let answer = super::ways::patch(&eve, &applied, "apply-patch", &tenant.forged("theirs-bulk", &own)).await;
    assert_refused(answer, 403, &WORDS);
    // Nor is one given such an owner, in whatever way.
    let there = call(&eve, "GET", &path, &Value::Null).await.expect("it is there");
    let mut given = there.clone();
    given["metadata"]["ownerReferences"] = own.clone();
    for way in WAYS {
        assert_refused(way.send(&eve, &path, &there, &given).await, 403, &WORDS);
    }
    // Not even the account of exports makes one from the pod of a preview, nor tries to.
    let preview = format!("system:serviceaccount:{}:tenantatlas-preview", tenant.name);
    let previews = tenant.cluster.as_user_in_pod(&preview, "op-0123456789abcdef0123-x7k2p");
    let answer = call(&previews, "POST", &maps, &tenant.forged("theirs-bulk", &own)).await;
    assert_refused_by_either(answer, [(403, &WORDS), (403, &["tenantatlas-preview", "writes nothing"])]);
    let answer = call(&previews, "POST", &format!("{maps}?dryRun=All"), &tenant.forged("theirs-bulk", &own)).await;
    assert_refused(answer, 403, &WORDS);
    assert_eq!(tenant.config_maps().await, before, "nothing happened");
    // Other owners are anybody's to name, and controllers of the cluster rewrite all of them.
    for other in [json!([owner("RestoreRun", &bulk)]), json!([])] {
        let dry = format!("{maps}?dryRun=All");
        call(&eve, "POST", &dry, &tenant.forged("other", &other)).await.expect("it is no export");
    }
    let collector =
        tenant.cluster.as_user("system:serviceaccount:kube-system:generic-garbage-collector", &["system:masters"]);
    let dry = format!("{path}?dryRun=All");
    let reference = json!({ "metadata": { "ownerReferences": own } });
    call(&collector, "PATCH", &dry, &reference).await.expect("the garbage collector may");
}

#[tokio::test]
async fn an_export_that_was_made_is_labelled_and_deleted_by_a_tenant_and_never_changed() {
    let tenant = Tenant::new("made-export").await;
    tenant.create_many("ConfigMap", 2);
    let ada = tenant.person("ada", ADMIN).await;
    let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "export", "labelSelector": "app=many" });
    let done = tenant.bulk_done(("ada", &ada), "yaml", spec).await;
    assert_eq!(done.outcome, Outcome::Succeeded, "{done:#?}");
    let eve = tenant.person("eve", &["edit"]).await;
    let path = tenant.path("v1", "configmaps/yaml-bulk");
    let there = call(&eve, "GET", &path, &Value::Null).await.expect("it is there");
    let changed = |pointer: &str, value: Value| {
        let mut changed = there.clone();
        *changed.pointer_mut(pointer).expect("a field") = value;
        changed
    };
    for way in WAYS {
        for after in [changed("/data/objects.yaml", json!("forged")), changed("/immutable", json!(false))] {
            assert_refused(way.send(&eve, &path, &there, &after).await, 422, &["immutable"]);
        }
        let after = changed("/metadata/ownerReferences/0/uid", json!("00000000-0000-0000-0000-000000000000"));
        assert_refused(way.send(&eve, &path, &there, &after).await, 403, &WORDS);
        let after = changed("/metadata/labels", json!({ "team": "blue" }));
        way.send(&eve, &path, &there, &after).await.expect("a label");
    }
    let after = call(&eve, "GET", &path, &Value::Null).await.expect("it is there");
    assert_eq!(after, there, "nothing happened");
    call(&eve, "DELETE", &path, &Value::Null).await.expect("it is theirs to delete");
    let mut again = there.clone();
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        again["metadata"].as_object_mut().expect("metadata").remove(field);
    }
    again["data"]["objects.yaml"] = json!("forged");
    assert_refused(call(&eve, "POST", &tenant.path("v1", "configmaps"), &again).await, 403, &WORDS);
    assert!(!tenant.config_maps().await.contains_key("yaml-bulk"), "it is not made anew");
}
