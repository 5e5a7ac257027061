//! A team captures many objects: these alone, without a preview or an approval, and a restore brings them back.

use crate::bulk::{ADMIN, codes, counts};
use crate::support::Tenant;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::{AuditEntry, BackupSet, BulkOperationRun, OperationRun, Outcome, backup_set::Coverage};

/// A capture of these ConfigMaps.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn keep(fields: Value) -> Value {
    let mut spec =
        json!({ "resource": { "kind": "ConfigMap" }, "action": "capture", "options": { "repository": "main" } });
    spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
    spec
}

#[tokio::test]
async fn selected_objects_are_captured_as_a_set_of_their_own_and_a_restore_of_it_brings_them_back() {
    let tenant = Tenant::new("bulk-capture").await;
    tenant.repository("main").await;
    tenant.create_many("ConfigMap", 6);
    let ada = tenant.person("ada", ADMIN).await;
    let done = tenant.bulk_done(("ada", &ada), "keep", keep(json!({ "labelSelector": "app=many" }))).await;
    assert_eq!((done.outcome, counts(&done)), (Outcome::Succeeded, (6, 0, 0)), "{done:#?}");
    assert_eq!((done.undo_backup_set, done.audit, done.plan_digest), (None, None, None));
    let name = done.backup_set.expect("status.backupSet");
    let set = tenant.api::<BackupSet>().get(&name).await.expect("the set");
    assert_eq!((set.spec.coverage, set.spec.run.name.as_str()), (Coverage::Partial, "keep-bulk"));
    assert_eq!(set.spec.selection.include_kinds, ["ConfigMap"]);
    assert_eq!(set.spec.selection.label_selector.as_deref(), Some("app=many"));
    let run = tenant.api::<OperationRun>().get("keep-bulk").await.expect("the run");
    assert_eq!(run.spec.operation_type, "bulk.capture");
    assert_eq!(run.status_or_default().context.bulk_operation_run.as_deref(), Some("keep"));
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    assert!(entries.is_empty(), "nothing was changed: {entries:#?}");

    let data = async || {
        let maps = tenant.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list");
        maps.items.into_iter().map(|map| (map.name_any(), map.data)).collect::<BTreeMap<_, _>>()
    };
    let before = data().await;
    for name in before.keys() {
        tenant.api::<ConfigMap>().delete(name, &DeleteParams::default()).await.expect("it can be deleted");
    }
    tenant.restore("back", &name, json!({ "requestedBy": { "username": "kubernetes-admin" } })).await;
    let back = tenant.restored("back").await;
    assert_eq!(back.outcome, Outcome::Succeeded, "{back:#?}");
    assert_eq!(data().await, before);

    // By name, of which one does not exist.
    let named = tenant.bulk_done(("ada", &ada), "named", keep(json!({ "items": ["item-001", "gone"] }))).await;
    assert_eq!((named.outcome, counts(&named)), (Outcome::PartiallySucceeded, (1, 1, 0)), "{named:#?}");
    assert_eq!(codes(&named), BTreeMap::from([("core/ConfigMap/gone".to_owned(), "NotFound".to_owned())]));
    let set = tenant.api::<BackupSet>().get(&named.backup_set.expect("a set")).await.expect("the set");
    assert_eq!(set.spec.selection.include_names, ["item-001", "gone"]);
}

#[tokio::test]
async fn a_capture_takes_a_repository_and_the_right_to_capture_and_nothing_that_a_change_takes() {
    let tenant = Tenant::new("bulk-capture-rules").await;
    let ada = tenant.person("ada", ADMIN).await;
    for (fields, words) in [
        (json!({ "items": ["a"], "options": null }), "capture takes options.repository"),
        (
            json!({ "items": ["a"], "options": { "repository": "main", "replicas": 1 } }),
            "capture takes options.repository",
        ),
        (
            json!({ "items": ["a"], "options": { "repository": "main", "allowDataLoss": true } }),
            "capture takes options",
        ),
        (json!({ "items": ["a"], "options": { "repository": "main", "set": { "a": "b" } } }), "capture takes options"),
        (json!({ "items": ["a"], "options": { "repository": "main", "remove": ["a"] } }), "capture takes options"),
        (json!({ "items": ["a"], "dryRun": true }), "leave out dryRun"),
        (json!({ "preview": { "name": "look" }, "options": null }), "leave out dryRun, preview"),
        (json!({ "items": ["a"], "stopAfterFailures": 1 }), "stopAfterFailures"),
        (json!({ "items": ["a"], "parallelism": 2 }), "leave out parallelism"),
    ] {
        let mut spec = keep(fields.clone());
        spec["requestedBy"] = json!({ "username": "ada" });
        spec.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
        let bulk = json!({ "metadata": { "name": "wrong" }, "spec": spec });
        let refused = tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect_err("refused").to_string();
        assert!(refused.contains(words), "{fields}: {refused}");
    }
    // Not by a run of one's own.
    let run = json!({ "metadata": { "name": "own" }, "spec": { "type": "bulk.capture", "initiator": { "username": "ada" },
        "inputs": { "repository": "main", "bulkOperationRun": { "name": "look", "uid": "0" }, "selection": {} } } });
    let refused = tenant.create_as::<OperationRun>(ada.clone(), run).await.expect_err("the operator makes them");
    assert!(refused.to_string().contains("create a BulkOperationRun"), "{refused}");
    // Our own kinds are no objects of a bulk operation, and a repository that is not there stores nothing.
    let ours = keep(json!({ "resource": { "group": "tenantatlas.io", "kind": "BackupSet" }, "items": ["a"] }));
    let ours = tenant.bulk_done(("ada", &ada), "ours", ours).await;
    assert_eq!((ours.outcome, ours.reason.as_deref()), (Outcome::Blocked, Some("InvalidBulkOperation")), "{ours:#?}");
    let nowhere = tenant.bulk_done(("ada", &ada), "nowhere", keep(json!({ "items": ["a"] }))).await;
    assert_eq!((nowhere.outcome, nowhere.backup_set), (Outcome::Blocked, None), "{:?}", nowhere.message);
}
