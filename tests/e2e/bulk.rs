//! A team changes many objects at once: each of them once, none that it may not change, and the same ones after a
//! worker was killed.

use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::{
    AuditEntry, BulkOperationRun, BulkOperationRunStatus, OperationReport, OperationRun, Outcome, Phase, labels,
};

impl Tenant {
    /// Has a person order a bulk operation.
    pub(crate) async fn order_bulk(&self, (user, client): (&str, &Client), name: &str, mut spec: Value) {
        spec["requestedBy"] = json!({ "username": user });
        let bulk = json!({ "metadata": { "name": name }, "spec": spec });
        let created = self.create_as::<BulkOperationRun>(client.clone(), bulk).await;
        created.unwrap_or_else(|error| panic!("bulk operation {name} is refused: {error}"));
    }

    /// Waits for the end of a bulk operation.
    pub(crate) async fn bulk_end(&self, name: &str) -> BulkOperationRunStatus {
        wait_for(&format!("the end of bulk operation {}/{name}", self.name), SOON, async || {
            let bulk = self.api::<BulkOperationRun>().get(name).await.map_err(|error| error.to_string())?;
            let status = bulk.status_or_default();
            if status.phase == Phase::Completed { Ok(status) } else { Err(format!("{status:#?}\n{}", self.look())) }
        })
        .await
    }

    pub(crate) async fn bulk_done(&self, who: (&str, &Client), name: &str, spec: Value) -> BulkOperationRunStatus {
        self.order_bulk(who, name, spec).await;
        self.bulk_end(name).await
    }

    /// Creates ConfigMaps, or Deployments without pods.
    pub(crate) fn create_many(&self, kind: &str, count: usize) {
        let labels = json!({ "app": "many" });
        let template =
            json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "a", "image": "none" }] } });
        let item = |number: usize| {
            let metadata = json!({ "name": format!("item-{number:03}"), "labels": labels });
            if kind == "ConfigMap" {
                json!({ "apiVersion": "v1", "kind": kind, "metadata": metadata, "data": { "number": number.to_string() } })
            } else {
                json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata,
                    "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": template } })
            }
        };
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": (0..count).map(item).collect::<Vec<_>>() });
        self.cluster.kubectl_reads(&["create", "--namespace", &self.name, "--filename", "-"], &list.to_string());
    }

    async fn deployments(&self) -> Vec<Deployment> {
        self.api::<Deployment>().list(&ListParams::default()).await.expect("Deployments can be listed").items
    }
}

pub(crate) fn counts(status: &BulkOperationRunStatus) -> (i64, i64, i64) {
    let counts = status.counts.unwrap_or_else(|| panic!("counts: {status:#?}"));
    (counts.succeeded, counts.failed, counts.skipped)
}

pub(crate) fn codes(status: &BulkOperationRunStatus) -> BTreeMap<String, String> {
    status.failures.iter().map(|failure| (failure.item_id.clone(), failure.reason_code.clone())).collect()
}

pub(crate) const ADMIN: &[&str] = &["tenantatlas-tenant-admin"];

#[tokio::test]
async fn a_team_labels_many_objects_without_a_repository_and_the_audit_chain_says_so() {
    let tenant = Tenant::new("bulk-label").await;
    tenant.create_many("ConfigMap", 20);
    let ada = tenant.person("ada", ADMIN).await;
    let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "labelSelector": "app=many",
        "options": { "set": { "team": "blue" }, "remove": ["none"] } });
    let status = tenant.bulk_done(("ada", &ada), "label", spec.clone()).await;
    assert_eq!((status.outcome, counts(&status)), (Outcome::Succeeded, (20, 0, 0)), "{status:#?}");
    let maps = tenant.api::<ConfigMap>().list(&ListParams::default().labels("team=blue")).await.expect("a list").items;
    assert_eq!(maps.len(), 20);
    assert!(maps.iter().all(|map| map.labels()["app"] == "many" && map.data.is_some()), "{maps:#?}");

    let run = tenant.api::<OperationRun>().get("label-bulk").await.expect("the run");
    let of_run = run.status_or_default();
    assert_eq!(status.operation_run.map(|run| run.uid), run.uid());
    assert_eq!((of_run.context.bulk_operation_run.as_deref(), of_run.outcome), (Some("label"), Outcome::Succeeded));
    assert_eq!(run.spec.initiator.map(|initiator| initiator.username).as_deref(), Some("ada"));
    let reports = tenant.api::<OperationReport>().list(&ListParams::default()).await.expect("reports").items;
    assert_eq!(reports.iter().map(|report| report.spec.selected.len()).sum::<usize>(), 20);
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    let records: Vec<_> = entries.iter().filter_map(|entry| entry.spec.record()).collect();
    assert_eq!(records.len(), 2, "{records:#?}");
    assert!(records.iter().all(|record| record.who.username == "ada"));
    assert_eq!(records[0].change.as_deref(), Some("label ConfigMap: team=blue, none-"));
    assert_eq!(status.audit.and_then(|audit| audit.outcome), Some(entries[1].name_any()));

    // Once more: everything is as wanted.
    let versions = |maps: &[ConfigMap]| maps.iter().map(ConfigMap::resource_version).collect::<Vec<_>>();
    let again = tenant.bulk_done(("ada", &ada), "again", spec).await;
    assert_eq!(counts(&again), (20, 0, 0), "{again:#?}");
    let after = tenant.api::<ConfigMap>().list(&ListParams::default().labels("team=blue")).await.expect("a list").items;
    assert_eq!(versions(&after), versions(&maps), "nothing is written");
}

#[tokio::test]
async fn workloads_are_scaled_and_a_name_that_does_not_exist_fails_alone() {
    let tenant = Tenant::new("bulk-scale").await;
    tenant.create_many("Deployment", 2);
    let ada = tenant.person("ada", ADMIN).await;
    let deployments = json!({ "group": "apps", "kind": "Deployment" });
    let items = ["item-000", "gone", "item-001"];
    let spec = json!({ "resource": deployments, "action": "scale", "options": { "replicas": 1 }, "items": items });
    let status = tenant.bulk_done(("ada", &ada), "up", spec).await;
    assert_eq!((status.outcome, counts(&status)), (Outcome::PartiallySucceeded, (2, 1, 0)), "{status:#?}");
    assert_eq!(codes(&status), BTreeMap::from([("apps/Deployment/gone".to_owned(), "NotFound".to_owned())]));
    let replicas = tenant.deployments().await.into_iter().map(|one| one.spec.and_then(|spec| spec.replicas));
    assert_eq!(replicas.collect::<Vec<_>>(), [Some(1), Some(1)]);
    // Names are a set, and there is either a list of them or a selector.
    for (fields, words) in [
        (json!({ "items": ["a", "a"] }), "Duplicate value"),
        (json!({ "items": ["a"], "labelSelector": "a" }), "either items, by name, or labelSelector"),
        (json!({}), "either items, by name, or labelSelector"),
        (json!({ "items": [".."] }), "spec.items[0]"),
        (json!({ "items": ["a"], "options": { "set": { "a": "b" } } }), "scale takes options.replicas"),
    ] {
        let mut spec = json!({ "resource": deployments, "action": "scale", "options": { "replicas": 1 }, "requestedBy": { "username": "ada" } });
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let bulk = json!({ "metadata": { "name": "wrong" }, "spec": spec });
        let refused = tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect_err("refused").to_string();
        assert!(refused.contains(words), "{fields}: {refused}");
    }
}

#[tokio::test]
async fn what_a_preview_showed_is_done_exactly_or_not_at_all() {
    let tenant = Tenant::new("bulk-preview").await;
    tenant.create_many("ConfigMap", 12);
    let ada = tenant.person("ada", ADMIN).await;
    let versions = async || {
        let maps = tenant.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list");
        maps.items.iter().map(|map| map.resource_version().unwrap_or_default()).collect::<Vec<_>>()
    };
    let before = versions().await;
    let kind = json!({ "kind": "ConfigMap" });
    let look = json!({ "resource": kind, "action": "label", "labelSelector": "app=many", "dryRun": true,
        "options": { "set": { "team": "blue" } } });
    let seen = tenant.bulk_done(("ada", &ada), "look", look.clone()).await;
    assert_eq!((seen.outcome, counts(&seen)), (Outcome::Succeeded, (12, 0, 0)), "{seen:#?}");
    assert_eq!(seen.preview.map(|summary| (summary.update, summary.unchanged)), Some((12, 0)));
    assert_eq!(versions().await, before, "nothing is written");
    let reports = tenant.api::<OperationReport>().list(&ListParams::default()).await.expect("reports").items;
    let rows: Vec<_> = reports.iter().flat_map(|report| &report.spec.plan).collect();
    assert_eq!(rows.len(), 12);
    let with_diff = |diff: Option<&str>| diff.is_some_and(|diff| diff.contains("team") && diff.contains("blue"));
    assert!(rows.iter().all(|row| with_diff(row.diff.as_deref())), "{rows:#?}");
    let run = tenant.api::<OperationRun>().get("look-bulk").await.expect("the run");
    assert_eq!(run.spec.operation_type, "bulk.preview");
    assert!(run.status_or_default().context.audit.is_none(), "nothing was intended");

    // What the action does not look at may change.
    let other = json!({ "data": { "theirs": "kept" } });
    tenant.api::<ConfigMap>().patch("item-003", &PatchParams::default(), &Patch::Merge(other)).await.expect("a change");
    let apply = json!({ "resource": kind, "action": "label", "preview": { "name": "look" } });
    let done = tenant.bulk_done(("ada", &ada), "apply", apply.clone()).await;
    assert_eq!((done.outcome, counts(&done)), (Outcome::Succeeded, (12, 0, 0)), "{done:#?}");
    assert_eq!(done.plan_digest, seen.plan_digest);
    let map = tenant.api::<ConfigMap>().get("item-003").await.expect("the ConfigMap");
    assert_eq!((map.labels()["team"].as_str(), map.data.as_ref().expect("data")["theirs"].as_str()), ("blue", "kept"));
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("entries").items;
    let digests: Vec<_> = entries.iter().filter_map(|entry| Some(entry.spec.record()?.plan_digest)).collect();
    assert_eq!(digests, vec![seen.plan_digest.clone().expect("a digest"); 2]);

    // Once more, nothing is as the preview showed it.
    let stale = tenant.bulk_done(("ada", &ada), "stale", apply).await;
    assert_eq!((stale.outcome, stale.reason.as_deref()), (Outcome::Blocked, Some("PreviewStale")), "{stale:#?}");
    for (fields, words) in [
        (json!({ "dryRun": true, "preview": { "name": "look" } }), "leave out dryRun and options"),
        (json!({ "options": { "set": { "a": "b" } }, "preview": { "name": "look" } }), "leave out dryRun and options"),
        (json!({ "items": ["a"], "preview": { "name": "look" } }), "or the preview that selected them"),
        (
            json!({ "items": ["a"], "options": { "set": { "a": "b" } }, "dryRun": true, "stopAfterFailures": 1 }),
            "looks at all",
        ),
    ] {
        let mut spec = json!({ "resource": kind, "action": "label", "requestedBy": { "username": "ada" } });
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let bulk = json!({ "metadata": { "name": "wrong" }, "spec": spec });
        let refused = tenant.create_as::<BulkOperationRun>(ada.clone(), bulk).await.expect_err("refused").to_string();
        assert!(refused.contains(words), "{fields}: {refused}");
    }
    let other = json!({ "resource": kind, "action": "annotate", "preview": { "name": "look" } });
    let other = tenant.bulk_done(("ada", &ada), "other", other).await;
    assert_eq!((other.outcome, other.reason.as_deref()), (Outcome::Blocked, Some("PreviewNotUsable")), "{other:#?}");
}

#[tokio::test]
async fn a_list_of_names_that_is_too_long_to_be_kept_in_memory_is_carried_out_to_its_end() {
    const ABSENT: usize = 60;
    let tenant = Tenant::new("bulk-long").await;
    tenant.create_many("ConfigMap", 1);
    let ada = tenant.person("ada", ADMIN).await;
    let absent = (0..ABSENT).map(|number| format!("absent-{number:03}-{}", "x".repeat(60)));
    let items: Vec<String> = absent.chain(["item-000".to_owned()]).collect();
    let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "options": { "set": { "a": "b" } },
        "items": items });
    let status = tenant.bulk_done(("ada", &ada), "long", spec).await;
    let absent = i64::try_from(ABSENT).expect("a number");
    assert_eq!((status.outcome, counts(&status)), (Outcome::PartiallySucceeded, (1, absent, 0)), "{status:#?}");
    assert!(status.failures_truncated, "{status:#?}");
    let reports = tenant.api::<OperationReport>().list(&ListParams::default()).await.expect("reports").items;
    assert_eq!(reports.iter().map(|report| report.spec.items.len()).sum::<usize>(), ABSENT);
}

#[tokio::test]
async fn who_may_not_change_objects_changes_none_in_bulk_and_who_may_not_start_it_is_refused() {
    let tenant = Tenant::new("bulk-forbidden").await;
    tenant.create_many("ConfigMap", 3);
    let (ola, vic) = (
        tenant.person("ola", &["tenantatlas-tenant-operator"]).await,
        tenant.person("vic", &["tenantatlas-tenant-viewer"]).await,
    );
    let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "annotate", "labelSelector": "app=many",
        "options": { "set": { "note": "x" } } });
    let status = tenant.bulk_done(("ola", &ola), "notes", spec.clone()).await;
    assert_eq!((status.outcome, counts(&status)), (Outcome::Failed, (0, 3, 0)), "{status:#?}");
    assert!(codes(&status).values().all(|code| code == "Forbidden"), "{status:#?}");
    assert!(status.failures[0].message.contains("ola may not update configmaps"), "{status:#?}");
    let maps = tenant.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list").items;
    assert!(maps.iter().all(|map| map.annotations().is_empty()), "nothing is written");

    let bulk = json!({ "metadata": { "name": "no" }, "spec": spec });
    let refused = tenant.create_as::<BulkOperationRun>(vic, bulk).await.expect_err("a viewer starts nothing");
    assert!(refused.to_string().contains("bulkoperationruns"), "{refused}");
    // Not by a run of one's own, nor in another's name.
    let run = json!({ "metadata": { "name": "own" }, "spec": { "type": "bulk.apply", "initiator": { "username": "ola" },
        "inputs": { "bulkOperationRun": { "name": "notes", "uid": "0" } } } });
    let refused = tenant.create_as::<OperationRun>(ola, run).await.expect_err("the operator alone makes these runs");
    assert!(refused.to_string().contains("create a BulkOperationRun"), "{refused}");
}

#[tokio::test]
async fn keys_of_the_operator_are_refused_and_the_spec_never_changes_but_for_cancel() {
    let tenant = Tenant::new("bulk-blocked").await;
    let ada = tenant.person("ada", ADMIN).await;
    let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "items": ["a"],
        "options": { "set": { "tenantatlas.io/exclude-from-backup": "true" } } });
    let status = tenant.bulk_done(("ada", &ada), "hide", spec).await;
    assert_eq!(
        (status.outcome, status.reason.as_deref()),
        (Outcome::Blocked, Some("InvalidBulkOperation")),
        "{status:#?}"
    );
    assert_eq!(status.operation_run, None, "it never had a run");
    for change in [
        json!({ "items": ["b"] }),
        json!({ "action": "annotate" }),
        json!({ "parallelism": 2 }),
        json!({ "stopAfterFailures": 2 }),
        json!({ "options": { "set": { "a": "b" } } }),
        json!({ "requestedBy": { "username": "eve" } }),
        json!({ "resource": { "kind": "Secret" } }),
        json!({ "dryRun": true }),
        json!({ "preview": { "name": "look" } }),
    ] {
        let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/bulkoperationruns/hide", tenant.name);
        let body = serde_json::to_vec(&json!({ "spec": change })).expect("JSON");
        let request = http::Request::patch(path).header("content-type", "application/merge-patch+json").body(body);
        let answer = ada.request::<Value>(request.expect("a request")).await;
        let refused = answer.expect_err("immutable").to_string();
        assert!(refused.contains("immutable") || refused.contains("never changes"), "{change}: {refused}");
    }
}

#[tokio::test]
async fn a_killed_worker_is_continued_and_nothing_is_restarted_twice() {
    const MANY: usize = 400;
    let tenant = Tenant::new("bulk-killed").await;
    tenant.create_many("Deployment", MANY);
    let ada = tenant.person("ada", ADMIN).await;
    let spec = json!({ "resource": { "group": "apps", "kind": "Deployment" }, "action": "restart",
        "labelSelector": "app=many", "parallelism": 1 });
    tenant.order_bulk(("ada", &ada), "restart", spec).await;
    let first = wait_for("the first restart", SOON, async || {
        let one = tenant.api::<Deployment>().get("item-000").await.map_err(|error| error.to_string())?;
        let pods = tenant.api::<Pod>().list(&ListParams::default().labels(labels::RUN_UID)).await;
        let pod = pods.map_err(|error| error.to_string())?.items.into_iter().next().map(|pod| pod.name_any());
        pod.filter(|_| one.metadata.generation == Some(2)).ok_or_else(|| tenant.look())
    })
    .await;
    tenant
        .api::<Pod>()
        .delete(&first, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() })
        .await
        .expect("it is killed");
    let status = tenant.bulk_end("restart").await;
    let all = i64::try_from(MANY).expect("a number");
    assert_eq!((status.outcome, counts(&status)), (Outcome::Succeeded, (all, 0, 0)), "{status:#?}");
    let run = tenant.api::<OperationRun>().get("restart-bulk").await.expect("the run").status_or_default();
    assert_eq!(run.attempts, Some(2), "the first worker was killed before its end: {run:#?}");
    let bulk = tenant.api::<BulkOperationRun>().get("restart").await.expect("the bulk operation");
    let asked = bulk.metadata.creation_timestamp.expect("a time").0.to_string();
    for deployment in tenant.deployments().await {
        // Each change of the spec counts one up.
        assert_eq!(deployment.metadata.generation, Some(2), "{}", deployment.name_any());
        let template = deployment.spec.expect("a spec").template.metadata.expect("metadata");
        assert_eq!(template.annotations.expect("annotations")["kubectl.kubernetes.io/restartedAt"], asked);
    }
}
