//! A team exports many objects as YAML: no more than it may read, never a Secret, and under an account that may write
//! nothing else.

use crate::bulk::{ADMIN, codes, counts};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use tenantatlas::api::{AuditEntry, BulkOperationRun, OperationRun, Outcome};

/// An export of ConfigMaps, or of what the fields say.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn export(fields: Value) -> Value {
    let mut spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "export" });
    spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    spec
}

#[tokio::test]
async fn selected_objects_are_exported_as_yaml_that_can_be_applied_and_the_config_map_goes_with_the_export() {
    let tenant = Tenant::new("bulk-export").await;
    tenant.create_many("ConfigMap", 6);
    // What readers of YAML disagree on.
    let odd = json!({ "data": { "yes": "no", "number": "1e3", "lines": "a: 1\n\n  b\n", "end": "x\n\n", "umlaut": "ä \u{1f600}" } });
    tenant.api::<ConfigMap>().patch("item-001", &PatchParams::default(), &Patch::Merge(odd)).await.expect("a change");
    let ada = tenant.person("ada", ADMIN).await;
    let done = tenant.bulk_done(("ada", &ada), "yaml", export(json!({ "labelSelector": "app=many" }))).await;
    assert_eq!((done.outcome, counts(&done)), (Outcome::Succeeded, (6, 0, 0)), "{done:#?}");
    assert_eq!((done.audit, done.plan_digest, done.backup_set), (None, None, None));
    assert_eq!(done.config_map.as_deref(), Some("yaml-bulk"));
    let run = tenant.api::<OperationRun>().get("yaml-bulk").await.expect("the run");
    assert_eq!(run.spec.operation_type, "bulk.export");
    assert_eq!(run.status_or_default().context.config_map.as_deref(), Some("yaml-bulk"));
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    assert!(entries.is_empty(), "nothing was changed: {entries:#?}");
    let map = tenant.api::<ConfigMap>().get("yaml-bulk").await.expect("the ConfigMap");
    assert_eq!(map.immutable, Some(true));
    let yaml = map.data.as_ref().expect("data")["objects.yaml"].clone();
    assert_eq!(done.config_map_digest, Some(hex::encode(Sha256::digest(&yaml))), "it can be compared");
    for field in ["uid:", "resourceVersion:", "managedFields:", "creationTimestamp:", "namespace:"] {
        assert!(!yaml.contains(field), "{field} is of the server: {yaml}");
    }

    let data = async || {
        let maps = tenant.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list");
        maps.items.into_iter().map(|map| (map.name_any(), map.data)).collect::<BTreeMap<_, _>>()
    };
    let before = data().await;
    for name in before.keys() {
        tenant.api::<ConfigMap>().delete(name, &DeleteParams::default()).await.expect("it can be deleted");
    }
    tenant.cluster.kubectl_reads(&["create", "--namespace", &tenant.name, "--filename", "-"], &yaml);
    assert_eq!(data().await, before, "{yaml}");

    tenant.api::<BulkOperationRun>().delete("yaml", &DeleteParams::default()).await.expect("it can be deleted");
    wait_for("the export is gone", SOON, async || {
        let found = tenant.api::<ConfigMap>().get_opt("yaml-bulk").await.map_err(|error| error.to_string())?;
        found.map_or(Ok(()), |map| Err(format!("{map:#?}")))
    })
    .await;
}

#[tokio::test]
async fn nobody_exports_a_secret_or_more_than_a_config_map_takes_or_what_they_may_not_read() {
    let tenant = Tenant::new("bulk-export-rights").await;
    tenant.create_many("ConfigMap", 2);
    let ada = tenant.person("ada", ADMIN).await;
    let secret = json!({ "kind": "Secret" });
    for (fields, words) in [
        (json!({ "resource": secret, "items": ["a"] }), "Secrets are not exported"),
        (json!({ "resource": { "group": "", "kind": "Secret" }, "items": ["a"] }), "Secrets are not exported"),
        (json!({ "items": ["a"], "options": { "repository": "main" } }), "export takes no options"),
        (json!({ "items": ["a"], "dryRun": true }), "leave out dryRun"),
        (json!({ "preview": { "name": "look" } }), "leave out dryRun, preview"),
        (json!({ "items": ["a"], "stopAfterFailures": 1 }), "stopAfterFailures"),
    ] {
        let mut spec = export(fields.clone());
        spec["requestedBy"] = json!({ "username": "ada" });
        let bulk = json!({ "metadata": { "name": "wrong" }, "spec": spec });
        let refused = tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect_err("refused").to_string();
        assert!(refused.contains(words), "{fields}: {refused}");
    }
    let ours = export(json!({ "resource": { "group": "tenantatlas.io", "kind": "BackupSet" }, "items": ["a"] }));
    let ours = tenant.bulk_done(("ada", &ada), "ours", ours).await;
    assert_eq!((ours.outcome, ours.reason.as_deref()), (Outcome::Blocked, Some("InvalidBulkOperation")), "{ours:#?}");
    for name in ["item-000", "item-001"] {
        let large = json!({ "data": { "large": "a".repeat(300 * 1024) } });
        tenant.api::<ConfigMap>().patch(name, &PatchParams::default(), &Patch::Merge(large)).await.expect("a change");
    }
    let large = tenant.bulk_done(("ada", &ada), "large", export(json!({ "labelSelector": "app=many" }))).await;
    assert_eq!((large.outcome, large.reason.as_deref()), (Outcome::Blocked, Some("ExportTooLarge")), "{large:#?}");
    assert_eq!(large.config_map, None);

    // An operator may not create ConfigMaps, and no tenant role reads Leases, so that no export shows them.
    let ola = tenant.person("ola", &["tenantatlas-tenant-operator"]).await;
    let refused = tenant.bulk_done(("ola", &ola), "no-map", export(json!({ "items": ["item-000"] }))).await;
    assert_eq!((refused.outcome, refused.reason.as_deref()), (Outcome::Blocked, Some("Forbidden")), "{refused:#?}");
    assert!(refused.message.expect("a message").contains("ola may not create configmaps"));
    let maps = json!({ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"] });
    let starts = json!([maps,
        { "apiGroups": ["tenantatlas.io"], "resources": ["bulkoperationruns"], "verbs": ["create"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": ["bulk.export"], "verbs": ["run"] }]);
    let eve = tenant.person_with("eve", starts.clone()).await;
    let unread = tenant.bulk_done(("eve", &eve), "unread", export(json!({ "items": ["item-000", "item-001"] }))).await;
    assert_eq!((unread.outcome, counts(&unread)), (Outcome::Failed, (0, 2, 0)), "{unread:#?}");
    assert!(codes(&unread).values().all(|code| code == "Forbidden"), "{unread:#?}");
    // Who may not list them learns no names by labels.
    let reads =
        json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"] }, starts[0], starts[1], starts[2]]);
    let fay = tenant.person_with("fay", reads).await;
    let by_label = tenant.bulk_done(("fay", &fay), "by-label", export(json!({ "labelSelector": "app=many" }))).await;
    assert_eq!((by_label.outcome, by_label.reason.as_deref()), (Outcome::Blocked, Some("Forbidden")), "{by_label:#?}");
    assert!(by_label.message.expect("a message").contains("fay may not list configmaps"));
    for name in ["ours-bulk", "large-bulk", "no-map-bulk", "unread-bulk", "by-label-bulk"] {
        assert!(tenant.api::<ConfigMap>().get_opt(name).await.expect("a read").is_none(), "{name}");
    }
    // Not by a run of one's own.
    let run = json!({ "metadata": { "name": "own" }, "spec": { "type": "bulk.export", "initiator": { "username": "ada" },
        "inputs": { "bulkOperationRun": { "name": "ours", "uid": "0" } } } });
    let refused = tenant.create_as::<OperationRun>(ada.clone(), run).await.expect_err("the operator makes them");
    assert!(refused.to_string().contains("create a BulkOperationRun"), "{refused}");
}

#[tokio::test]
async fn the_account_of_exports_creates_the_config_map_of_an_export_and_writes_nothing_else() {
    let tenant = Tenant::new("bulk-export-account").await;
    tenant.create_many("ConfigMap", 1);
    let account = format!("system:serviceaccount:{}:tenantatlas-preview", tenant.name);
    let (digits, words) = ("0123456789abcdef0123", "a preview writes nothing");
    let exports = tenant.cluster.as_user_in_pod(&account, &format!("op-{digits}-export-x7k2p"));
    let owner = |kind: &str, name: &str, group: &str| json!({ "apiVersion": format!("{group}/v1alpha1"), "kind": kind, "name": name, "uid": "0" });
    let own = owner("BulkOperationRun", "yaml", "tenantatlas.io");
    let map = |name: &str, immutable: bool, owners: Value| -> ConfigMap {
        let metadata = json!({ "name": name, "ownerReferences": owners });
        serde_json::from_value(json!({ "metadata": metadata, "immutable": immutable })).expect("a ConfigMap")
    };
    let create = async |client: &kube::Client, map: ConfigMap| {
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), &tenant.name);
        maps.create(&PostParams::default(), &map).await
    };
    // The garbage collector takes it at once: there is no such owner.
    wait_for("an export can be created", SOON, async || {
        let sound = map("yaml-bulk", true, json!([own]));
        create(&exports, sound).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    create(&exports, map("yaml-bulk-01234567", true, json!([own]))).await.expect("the second name of a run");
    for (why, wrong) in [
        ("it can be changed", map("yaml-bulk", false, json!([own]))),
        ("it is nobody's", map("yaml-bulk", true, json!([]))),
        ("it is of two", map("yaml-bulk", true, json!([own, owner("BulkOperationRun", "b", "tenantatlas.io")]))),
        ("it is of another kind", map("yaml-bulk", true, json!([owner("RestoreRun", "yaml", "tenantatlas.io")]))),
        ("it is of another group", map("yaml-bulk", true, json!([owner("BulkOperationRun", "yaml", "example.com")]))),
        ("it has another name", map("settings", true, json!([own]))),
        ("it has the name of another", map("yaml-bulky", true, json!([own]))),
    ] {
        let refused = create(&exports, wrong).await.expect_err(why).to_string();
        assert!(refused.contains(words), "{why}: {refused}");
    }
    let refused = |answer: Result<(), kube::Error>, why: &str| {
        let refused = answer.expect_err(why).to_string();
        assert!(refused.contains(words), "{why}: {refused}");
    };
    let maps: Api<ConfigMap> = Api::namespaced(exports.clone(), &tenant.name);
    let changed = Patch::Merge(json!({ "data": { "a": "b" } }));
    refused(maps.patch("item-000", &PatchParams::default(), &changed).await.map(drop), "a change");
    refused(maps.delete("item-000", &DeleteParams::default()).await.map(drop), "a deletion");
    // A preview writes none at all, nor does one elsewhere.
    let previews = tenant.cluster.as_user_in_pod(&account, &format!("op-{digits}-x7k2p"));
    let preview = create(&previews, map("yaml-bulk", true, json!([own]))).await.expect_err("a preview").to_string();
    // Two policies refuse it, and the API server answers with either.
    assert!([words, "name no BulkOperationRun"].iter().any(|words| preview.contains(words)), "{preview}");
    let secret = json!({ "metadata": { "name": "yaml-bulk", "ownerReferences": [own] }, "immutable": true });
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(exports, &tenant.name);
    let secret = serde_json::from_value(secret).expect("a Secret");
    refused(secrets.create(&PostParams::default(), &secret).await.map(drop), "a Secret");
}
