//! A team deletes many objects: exactly those that it saw, no more than it may, and a restore brings them back.

use crate::bulk::{ADMIN, codes, counts};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tenantatlas::api::{
    AuditEntry, BackupSet, BulkOperationRun, OperationReport, OperationRun, Outcome, backup_set::Coverage, labels,
};

/// A preview of the deletion of these objects.
fn look(resource: &Value, selected: &Value) -> Value {
    let mut spec =
        json!({ "resource": resource, "action": "delete", "options": { "repository": "main" }, "dryRun": true });
    spec.as_object_mut().expect("an object").extend(selected.as_object().expect("an object").clone());
    spec
}

fn clear(resource: &Value) -> Value {
    json!({ "resource": resource, "action": "delete", "preview": { "name": "look" } })
}

impl Tenant {
    async fn maps(&self) -> Vec<(String, Option<std::collections::BTreeMap<String, String>>)> {
        let maps = self.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list").items;
        maps.into_iter().map(|map| (map.name_any(), map.data)).collect()
    }
}

#[tokio::test]
async fn objects_are_deleted_as_a_preview_showed_and_a_restore_of_what_was_kept_brings_them_back() {
    let tenant = Tenant::new("bulk-delete").await;
    tenant.repository("main").await;
    tenant.create_many("ConfigMap", 12);
    let before = tenant.maps().await;
    let ada = tenant.person("ada", ADMIN).await;
    let kind = json!({ "kind": "ConfigMap" });
    let seen = tenant.bulk_done(("ada", &ada), "look", look(&kind, &json!({ "labelSelector": "app=many" }))).await;
    assert_eq!((seen.outcome, counts(&seen)), (Outcome::Succeeded, (12, 0, 0)), "{seen:#?}");
    assert_eq!(seen.preview.map(|summary| (summary.delete, summary.update)), Some((12, 0)));
    assert_eq!(tenant.maps().await, before, "nothing is deleted");
    let run = tenant.api::<OperationRun>().get("look-bulk").await.expect("the run");
    assert_eq!(run.spec.operation_type, "bulk.delete.preview");

    let done = tenant.bulk_done(("ada", &ada), "clear", clear(&kind)).await;
    assert_eq!((done.outcome, counts(&done)), (Outcome::Succeeded, (12, 0, 0)), "{done:#?}");
    assert_eq!(done.plan_digest, seen.plan_digest);
    assert_eq!(tenant.maps().await, []);
    let undo = done.undo_backup_set.expect("a backup set with what was deleted");
    let set = tenant.api::<BackupSet>().get(&undo).await.expect("the set");
    assert_eq!((set.spec.coverage, set.spec.run.name.as_str()), (Coverage::Partial, "clear-bulk"));
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    let records: Vec<_> = entries.iter().filter_map(|entry| entry.spec.record()).collect();
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().all(|record| record.change.as_deref() == Some("delete ConfigMap")), "{records:#?}");
    assert!(records.iter().all(|record| record.operation_type == "bulk.delete"), "{records:#?}");

    tenant.restore("back", &undo, json!({ "requestedBy": { "username": "kubernetes-admin" } })).await;
    let back = tenant.restored("back").await;
    assert_eq!(back.outcome, Outcome::Succeeded, "{back:#?}");
    assert_eq!(tenant.maps().await, before);

    // The same preview once more: its objects were made anew since, by another field manager.
    let stale = tenant.bulk_done(("ada", &ada), "stale", clear(&kind)).await;
    assert_eq!((stale.outcome, stale.reason.as_deref()), (Outcome::Blocked, Some("PreviewStale")), "{stale:#?}");
    assert_eq!(tenant.maps().await, before);
    for (fields, words) in [
        (json!({ "items": ["a"], "options": { "repository": "main" } }), "make one with dryRun: true"),
        (json!({ "items": ["a"], "dryRun": true }), "delete takes options.repository"),
        (
            json!({ "items": ["a"], "dryRun": true, "options": { "repository": "main", "set": { "a": "b" } } }),
            "delete takes options.repository",
        ),
        (json!({ "preview": { "name": "look" }, "stopAfterFailures": 1 }), "delete takes no stopAfterFailures"),
        (
            json!({ "action": "label", "items": ["a"], "options": { "set": { "a": "b" }, "repository": "main" } }),
            "label and annotate take",
        ),
        (
            json!({ "action": "scale", "items": ["a"], "options": { "replicas": 1, "allowDataLoss": true } }),
            "scale takes options.replicas",
        ),
    ] {
        let mut spec = json!({ "resource": kind, "action": "delete", "requestedBy": { "username": "ada" } });
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let bulk = json!({ "metadata": { "name": "wrong" }, "spec": spec });
        let refused = tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect_err("refused").to_string();
        assert!(refused.contains(words), "{fields}: {refused}");
    }
}

#[tokio::test]
async fn what_goes_with_a_deleted_owner_is_shown_and_kept_too_unless_nothing_would_bring_it_back() {
    let tenant = Tenant::new("bulk-delete-owner").await;
    tenant.repository("main").await;
    tenant.create_many("Deployment", 2);
    let ada = tenant.person("ada", ADMIN).await;
    // The Deployment controller writes an annotation first.
    wait_for("the Deployments are observed", SOON, async || {
        let listed =
            tenant.api::<Deployment>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let seen = |one: &Deployment| one.status.as_ref().is_some_and(|status| status.observed_generation == Some(1));
        if listed.items.iter().all(seen) { Ok(()) } else { Err(format!("{:#?}", listed.items)) }
    })
    .await;
    let owner = tenant.api::<Deployment>().get("item-000").await.expect("a Deployment").uid().expect("a uid");
    tenant.apply_all(&[json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "made-for-it",
        "ownerReferences": [{ "apiVersion": "apps/v1", "kind": "Deployment", "name": "item-000", "uid": owner }] } })]);
    let kind = json!({ "group": "apps", "kind": "Deployment" });
    let selected = json!({ "labelSelector": "app=many" });
    let seen = tenant.bulk_done(("ada", &ada), "look", look(&kind, &selected)).await;
    assert_eq!((seen.outcome, counts(&seen).1), (Outcome::PartiallySucceeded, 1), "{seen:#?}");
    assert_eq!(codes(&seen)["apps/Deployment/item-000"], "DataLossNotAllowed");
    let done = tenant.bulk_done(("ada", &ada), "clear", clear(&kind)).await;
    assert_eq!((done.outcome, counts(&done).1), (Outcome::PartiallySucceeded, 1), "{done:#?}");
    assert_eq!(tenant.api::<Deployment>().list(&ListParams::default()).await.expect("a list").items.len(), 1);
    tenant.api::<Secret>().get("made-for-it").await.expect("it stays with its owner");

    let mut both = look(&kind, &selected);
    both["options"]["allowDataLoss"] = json!(true);
    tenant.api::<BulkOperationRun>().delete("look", &DeleteParams::default()).await.expect("it can be deleted");
    let seen = tenant.bulk_done(("ada", &ada), "look-2", both).await;
    assert_eq!(seen.outcome, Outcome::Succeeded, "{seen:#?}");
    let reports = tenant.api::<OperationReport>().list(&ListParams::default()).await.expect("reports").items;
    let of_run = reports.iter().filter(|report| report.spec.run.name == "look-2-bulk");
    let rows: Vec<_> = of_run.flat_map(|report| &report.spec.plan).map(|row| row.item_id.clone()).collect();
    assert!(rows.contains(&"core/Secret/made-for-it".to_owned()), "{rows:?}");
    let mut apply = clear(&kind);
    apply["preview"]["name"] = json!("look-2");
    let done = tenant.bulk_done(("ada", &ada), "clear-2", apply).await;
    assert_eq!(done.outcome, Outcome::Succeeded, "{done:#?}");
    assert!(tenant.api::<Secret>().get_opt("made-for-it").await.expect("a read").is_none());
    let undo = done.undo_backup_set.expect("a set");
    tenant.restore("back", &undo, json!({ "requestedBy": { "username": "kubernetes-admin" } })).await;
    let back = tenant.restored("back").await;
    assert_eq!(back.outcome, Outcome::Succeeded, "{back:#?}");
    tenant.api::<Secret>().get("made-for-it").await.expect("it is back");
}

#[tokio::test]
async fn who_may_not_delete_deletes_nothing_in_bulk_and_a_deletion_takes_a_right_of_its_own() {
    let tenant = Tenant::new("bulk-delete-rights").await;
    tenant.repository("main").await;
    tenant.create_many("ConfigMap", 3);
    let before = tenant.maps().await;
    let kind = json!({ "kind": "ConfigMap" });
    let ola = tenant.person("ola", &["tenantatlas-tenant-operator"]).await;
    let selected = json!({ "labelSelector": "app=many" });
    let seen = tenant.bulk_done(("ola", &ola), "look", look(&kind, &selected)).await;
    assert_eq!((seen.outcome, counts(&seen)), (Outcome::PartiallySucceeded, (0, 3, 0)), "{seen:#?}");
    assert!(codes(&seen).values().all(|code| code == "Forbidden"), "{seen:#?}");
    let done = tenant.bulk_done(("ola", &ola), "clear", clear(&kind)).await;
    assert_eq!((done.outcome, done.undo_backup_set.clone()), (Outcome::Failed, None), "{done:#?}");
    assert_eq!(tenant.maps().await, before, "nothing is deleted");
    // Not by a run of one's own.
    for operation_type in ["bulk.delete", "bulk.delete.preview"] {
        let run = json!({ "metadata": { "name": "own" }, "spec": { "type": operation_type,
            "initiator": { "username": "ola" },
            "inputs": { "repository": "main", "bulkOperationRun": { "name": "look", "uid": "0" } } } });
        let refused = tenant.create_as::<OperationRun>(ola.clone(), run).await.expect_err("the operator makes them");
        assert!(refused.to_string().contains("create a BulkOperationRun"), "{refused}");
    }

    // The verb is that of the type which the action leads to.
    let starts = |name: &str, types: &[&str]| {
        let rules = json!([
            { "apiGroups": ["tenantatlas.io"], "resources": ["bulkoperationruns"], "verbs": ["create"] },
            { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": types, "verbs": ["run"] },
        ]);
        let subject = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name });
        let version = "rbac.authorization.k8s.io/v1";
        tenant.apply_all(&[
            json!({ "apiVersion": version, "kind": "Role", "metadata": { "name": name }, "rules": rules }),
            json!({ "apiVersion": version, "kind": "RoleBinding", "metadata": { "name": name }, "subjects": [subject],
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name } }),
        ]);
        tenant.cluster.as_user(name, &[])
    };
    let label =
        json!({ "resource": kind, "action": "label", "items": ["item-000"], "options": { "set": { "a": "b" } } });
    let mut label_preview = label.clone();
    label_preview["dryRun"] = json!(true);
    let all = [
        ("bulk.apply", label),
        ("bulk.preview", label_preview),
        ("bulk.delete", clear(&kind)),
        ("bulk.delete.preview", look(&kind, &selected)),
        ("bulk.export", json!({ "resource": kind, "action": "export", "items": ["item-000"] })),
        (
            "bulk.capture",
            json!({ "resource": kind, "action": "capture", "items": ["item-000"], "options": { "repository": "main" } }),
        ),
    ];
    for (own, _) in &all {
        let user = format!("only-{}", own.replace('.', "-"));
        let client = starts(&user, &[*own]);
        for (needed, spec) in &all {
            let mut spec = spec.clone();
            spec["requestedBy"] = json!({ "username": user });
            let bulk = json!({ "metadata": { "generateName": "tried-" }, "spec": spec });
            let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/bulkoperationruns?dryRun=All", tenant.name);
            wait_for(&format!("what {user} may start of {needed}"), SOON, async || {
                let body = serde_json::to_vec(&json!({ "apiVersion": "tenantatlas.io/v1alpha1",
                    "kind": "BulkOperationRun", "metadata": bulk["metadata"], "spec": bulk["spec"] }));
                let request = http::Request::post(&path).header("content-type", "application/json");
                let request = request.body(body.expect("JSON")).expect("a request");
                match (client.request::<Value>(request).await, own == needed) {
                    (Ok(_), true) => Ok(()),
                    (Err(error), false)
                        if error.to_string().contains(&format!("operationtypes.tenantatlas.io/{needed},")) =>
                    {
                        Ok(())
                    }
                    // The API server learns of the role a moment later.
                    (answer, _) => Err(format!("{answer:?}")),
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_killed_deletion_is_continued_and_everything_that_it_deleted_can_be_brought_back() {
    const MANY: usize = 100;
    let tenant = Tenant::new("bulk-delete-killed").await;
    tenant.repository("main").await;
    tenant.create_many("ConfigMap", MANY);
    let before = tenant.maps().await;
    let ada = tenant.person("ada", ADMIN).await;
    let kind = json!({ "kind": "ConfigMap" });
    tenant.bulk_done(("ada", &ada), "look", look(&kind, &json!({ "labelSelector": "app=many" }))).await;
    let mut slow = clear(&kind);
    slow["parallelism"] = json!(1);
    tenant.order_bulk(("ada", &ada), "clear", slow).await;
    let first = wait_for("the first deletion", SOON, async || {
        let maps = tenant.maps().await;
        let run = tenant.api::<OperationRun>().get("clear-bulk").await.map_err(|error| error.to_string())?;
        let of_run = format!("{}={}", labels::RUN_UID, run.uid().unwrap_or_default());
        let pods = tenant.api::<Pod>().list(&ListParams::default().labels(&of_run)).await;
        let pod = pods.map_err(|error| error.to_string())?.items.into_iter().next().map(|pod| pod.name_any());
        pod.filter(|_| maps.len() < MANY).ok_or_else(|| tenant.look())
    })
    .await;
    let at_once = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
    tenant.api::<Pod>().delete(&first, &at_once).await.expect("it is killed");
    let status = tenant.bulk_end("clear").await;
    let all = i64::try_from(MANY).expect("a number");
    assert_eq!((status.outcome, counts(&status)), (Outcome::Succeeded, (all, 0, 0)), "{status:#?}");
    let run = tenant.api::<OperationRun>().get("clear-bulk").await.expect("the run").status_or_default();
    assert_eq!(run.attempts, Some(2), "the first worker was killed before its end: {run:#?}");
    assert_eq!(tenant.maps().await, []);
    let undo = status.undo_backup_set.expect("a set");
    tenant.restore("back", &undo, json!({ "requestedBy": { "username": "kubernetes-admin" } })).await;
    assert_eq!(tenant.restored("back").await.outcome, Outcome::Succeeded);
    assert_eq!(tenant.maps().await, before);
    let other = json!({ "data": { "since": "then" } });
    tenant.api::<ConfigMap>().patch("item-003", &PatchParams::default(), &Patch::Merge(other)).await.expect("a change");
    let stale = tenant.bulk_done(("ada", &ada), "stale", clear(&kind)).await;
    assert_eq!((stale.outcome, stale.reason.as_deref()), (Outcome::Blocked, Some("PreviewStale")), "{stale:#?}");
    assert_eq!(tenant.maps().await.len(), MANY);
}
