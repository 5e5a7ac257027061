//! Putting things back: looked at first, applied exactly so, undone.

use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::{
    AuditEntry, BackupSchedule, BackupSet, OperationReport, Outcome, Phase, RestoreRun, RestoreRunStatus,
    audit_entry::AuditEvent, operation_report::ItemOutcome, provenance::PlanSummary,
};

/// Objects of most kinds.
pub(crate) const SHOP: &str = include_str!("data/shop.yaml");

/// Kinds that a tenant cares about, as kubectl lists them.
const KINDS: &str = "configmaps,secrets,services,serviceaccounts,deployments,statefulsets,cronjobs,ingresses,networkpolicies,\
                     roles,rolebindings,horizontalpodautoscalers,poddisruptionbudgets,resourcequotas,limitranges,persistentvolumeclaims";

impl Tenant {
    /// A tenant with a shop that was captured as `nightly`.
    pub(crate) async fn with_a_captured_shop(story: &str) -> Self {
        let tenant = Self::new(story).await;
        tenant.apply(SHOP);
        tenant.repository("main").await;
        tenant.captured_whole("nightly").await;
        tenant
    }

    pub(crate) async fn captured_whole(&self, name: &str) {
        self.start(name, json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
        let status = self.completed(name, SOON).await;
        assert_eq!(status.outcome, Outcome::Succeeded, "{status:?}");
    }

    /// Creates a restore of a set.
    pub(crate) async fn restore(&self, name: &str, set: &str, mut spec: Value) {
        spec["backupSet"] = json!({ "name": set });
        let made: Result<RestoreRun, _> = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        made.unwrap_or_else(|error| panic!("restore {name} is refused: {error}"));
    }

    /// Waits for a restore to be as described.
    pub(crate) async fn restore_when(
        &self,
        name: &str,
        described: &str,
        condition: impl Fn(&RestoreRunStatus) -> bool,
    ) -> RestoreRunStatus {
        let restores: Api<RestoreRun> = self.api();
        wait_for(&format!("restore {}/{name} {described}", self.name), SOON, async || {
            let status = restores.get(name).await.map_err(|error| error.to_string())?.status_or_default();
            if condition(&status) { Ok(status) } else { Err(serde_json::to_string_pretty(&status).unwrap_or_default()) }
        })
        .await
    }

    /// A restore at its end.
    pub(crate) async fn restored(&self, name: &str) -> RestoreRunStatus {
        self.restore_when(name, "completed", |status| status.phase == Phase::Completed).await
    }

    /// The plan or the results of a restore: `item: action` or `item: outcome`, what is unchanged or left alone aside.
    pub(crate) async fn reported(&self, status: &RestoreRunStatus) -> Vec<String> {
        let run = status.operation_run.as_ref().expect("status.operationRun");
        let reports: Api<OperationReport> = self.api();
        let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name));
        let mut reports = reports.list(&of_run).await.expect("reports can be listed").items;
        reports.sort_by_key(|report| report.spec.chunk);
        let has_results = reports.iter().any(|report| !report.spec.results.is_empty());
        let mut lines = Vec::new();
        for report in reports {
            if has_results {
                let written = |result: &&tenantatlas::api::operation_report::ItemResult| {
                    !matches!(result.outcome, ItemOutcome::Unchanged | ItemOutcome::Skipped)
                };
                lines.extend(report.spec.results.iter().filter(written).map(|result| {
                    format!("{}: {} {}", result.item_id, as_text(&result.action), as_text(&result.outcome))
                }));
            } else {
                let changes = report.spec.plan.iter().filter(|item| item.action.writes() || item.action.fails());
                lines.extend(changes.map(|item| format!("{}: {}", item.item_id, as_text(&item.action))));
            }
        }
        lines
    }

    /// What a user sees of the tenant's objects: all but what the server numbers and counts.
    pub(crate) fn seen(&self) -> BTreeMap<String, Value> {
        self.objects(|object| {
            object.as_object_mut().expect("an object").remove("status");
            let metadata = object["metadata"].as_object_mut().expect("metadata");
            for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
                metadata.remove(field);
            }
            if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
                annotations.remove("deployment.kubernetes.io/revision");
            }
            if object["kind"] == "Service" {
                for field in ["clusterIP", "clusterIPs"] {
                    object["spec"].as_object_mut().expect("a spec").remove(field);
                }
            }
        })
    }

    /// Each object's version; not of kinds whose status the cluster itself writes now and then.
    fn object_versions(&self) -> BTreeMap<String, Value> {
        let mut versions = self.objects(|object| *object = object["metadata"]["resourceVersion"].clone());
        versions.retain(|item, _| !item.starts_with("ResourceQuota/") && !item.starts_with("HorizontalPodAutoscaler/"));
        versions
    }

    fn objects(&self, change: impl Fn(&mut Value)) -> BTreeMap<String, Value> {
        let shown = self.cluster.kubectl_prints(&["get", KINDS, "--namespace", &self.name, "--output", "json"]);
        let list: Value = serde_json::from_str(&shown).expect("kubectl prints JSON");
        let of = |object: &Value| {
            let mut changed = object.clone();
            change(&mut changed);
            (format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap()), changed)
        };
        list["items"].as_array().expect("a list").iter().map(of).collect()
    }

    /// What a bad day does to a shop.
    pub(crate) async fn damage(&self) {
        for (kind, name) in
            [("configmap", "shop-settings"), ("secret", "shop-payment"), ("service", "shop"), ("role", "shop:reader")]
        {
            self.cluster.kubectl_prints(&["delete", kind, name, "--namespace", &self.name]);
        }
        let image = ["set", "image", "deployment/shop", "web=example.com/shop:broken", "--namespace", &self.name];
        self.cluster.kubectl_prints(&image);
        let created: Result<ConfigMap, _> = self.create(json!({ "metadata": { "name": "left-over" } })).await;
        created.expect("a ConfigMap");
    }
}

fn as_text(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

#[tokio::test]
async fn a_damaged_namespace_is_previewed_restored_exactly_so_and_the_restore_undone() {
    let tenant = Tenant::new("restore").await;
    tenant.apply(SHOP);
    tenant.apply(&many(190));
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    let whole = tenant.seen();
    assert!(whole.len() > 200, "{}", whole.len());
    tenant.damage().await;
    let damaged = tenant.seen();
    assert_ne!(damaged, whole);
    let versions = tenant.object_versions();

    tenant
        .restore("look", "nightly", json!({ "dryRun": true, "existingResourcePolicy": "update", "prune": true }))
        .await;
    let look = tenant.restored("look").await;
    assert_eq!(look.outcome, Outcome::Succeeded, "{look:#?}");
    let summary = look.preview.expect("status.preview");
    assert_eq!((summary.create, summary.update, summary.delete), (4, 1, 1), "{look:#?}");
    let planned = [
        "core/ConfigMap/shop-settings: create",
        "core/Secret/shop-payment: create",
        "rbac.authorization.k8s.io/Role/shop:reader: create",
        "core/Service/shop: create",
        "apps/Deployment/shop: update",
        "core/ConfigMap/left-over: delete",
    ];
    assert_same(&tenant.reported(&look).await, &planned);
    assert_eq!(tenant.object_versions(), versions, "a preview writes nothing");

    tenant.restore("put-back", "nightly", json!({ "preview": { "name": "look" } })).await;
    let done = tenant.restored("put-back").await;
    assert_eq!(done.outcome, Outcome::Succeeded, "{done:#?}");
    assert_eq!(done.plan_digest, look.plan_digest);
    let as_planned: Vec<String> = planned.iter().map(|line| format!("{line} done")).collect();
    assert_same(&tenant.reported(&done).await, &as_planned);
    assert_eq!(tenant.seen(), whole);
    let now = tenant.object_versions();
    for (item, version) in &versions {
        let touched = planned.iter().any(|line| {
            let (kind, name) = item.split_once('/').expect("kind/name");
            line.contains(&format!("/{kind}/{name}:"))
        });
        if !touched {
            assert_eq!(now.get(item), Some(version), "{item} was none of the restore's business");
        }
    }

    let undo = done.undo_backup_set.expect("status.undoBackupSet");
    let set: BackupSet = tenant.api().get(&undo).await.expect("the set that undoes it");
    assert_eq!(set.spec.absent.len(), 4, "{set:#?}");
    assert_eq!(set.status.expect("its status").items, Some(2), "the Deployment, and what was left over");
    tenant
        .restore("look-back", &undo, json!({ "dryRun": true, "existingResourcePolicy": "update", "prune": true }))
        .await;
    let look = tenant.restored("look-back").await;
    let summary = look.preview.expect("status.preview");
    assert_eq!((summary.create, summary.update, summary.delete), (1, 1, 4), "{look:#?}");
    tenant.restore("undo", &undo, json!({ "preview": { "name": "look-back" } })).await;
    let undone = tenant.restored("undo").await;
    assert_eq!(undone.outcome, Outcome::Succeeded, "{undone:#?}");
    assert_eq!(tenant.seen(), damaged);
}

fn assert_same(found: &[String], expected: &[impl AsRef<str>]) {
    let mut found = found.to_vec();
    let mut expected: Vec<String> = expected.iter().map(|line| line.as_ref().to_owned()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_preview_that_is_stale_blocks_the_restore_which_names_what_moved_and_writes_nothing() {
    let tenant = Tenant::with_a_captured_shop("stale").await;
    tenant.damage().await;
    tenant.restore("look", "nightly", json!({ "dryRun": true, "existingResourcePolicy": "update" })).await;
    assert_eq!(tenant.restored("look").await.outcome, Outcome::Succeeded);
    tenant.cluster.kubectl_prints(&[
        "label",
        "statefulset/shop-database",
        "changed=since",
        "--namespace",
        &tenant.name,
    ]);
    let versions = tenant.object_versions();
    tenant.restore("put-back", "nightly", json!({ "preview": { "name": "look" } })).await;
    let status = tenant.restored("put-back").await;
    assert_eq!(
        (status.outcome, status.failure_reason.as_deref()),
        (Outcome::Blocked, Some("PreviewStale")),
        "{status:#?}"
    );
    assert!(status.message.as_deref().unwrap_or_default().contains("apps/StatefulSet/shop-database"), "{status:#?}");
    assert_eq!(tenant.object_versions(), versions);
    let run = status.operation_run.expect("its run");
    assert_eq!(tenant.status(&run.name).await.outcome, Outcome::Blocked);
}

#[tokio::test]
async fn a_restore_of_what_is_there_as_it_was_writes_nothing() {
    let tenant = Tenant::with_a_captured_shop("identical").await;
    let versions = tenant.object_versions();
    tenant.restore("again", "nightly", json!({ "existingResourcePolicy": "update" })).await;
    let status = tenant.restored("again").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(tenant.reported(&status).await, Vec::<String>::new());
    assert_eq!(status.undo_backup_set, None, "there is nothing to undo");
    let results = status.results.expect("status.results");
    assert!(results.succeeded > 10 && results.failed == 0, "{results:?}");
    let now = tenant.object_versions();
    assert_eq!(now, versions);
}

#[tokio::test]
async fn what_is_asked_for_wrongly_is_blocked_before_there_is_a_job() {
    let tenant = Tenant::with_a_captured_shop("refused").await;
    for (name, set, spec, reason) in [
        ("unknown-set", "no-such-set", json!({}), "BackupSetNotFound"),
        ("unknown-preview", "nightly", json!({ "preview": { "name": "no-such-preview" } }), "PreviewNotUsable"),
        ("unknown-rerun", "nightly", json!({ "rerunOf": { "name": "no-such-restore" } }), "RerunNotPossible"),
        ("bad-selector", "nightly", json!({ "items": [{ "labelSelector": "a in (" }] }), "InvalidRestore"),
    ] {
        tenant.restore(name, set, spec).await;
        let status = tenant.restored(name).await;
        assert_eq!((status.outcome, status.failure_reason.as_deref()), (Outcome::Blocked, Some(reason)), "{name}");
        assert!(status.operation_run.is_none(), "{name}: no run was made");
    }
    // What only the worker can know.
    tenant
        .restore("matches-nothing", "nightly", json!({ "dryRun": true, "items": [{ "name": "no-such-object" }] }))
        .await;
    let status = tenant.restored("matches-nothing").await;
    assert_eq!(status.failure_reason.as_deref(), Some("NothingSelected"), "{status:#?}");
}

#[tokio::test]
async fn a_restore_whose_run_is_refused_is_blocked_in_the_api_servers_words() {
    let tenant = Tenant::with_a_captured_shop("refused-run").await;
    let blockade = tenant.blockade_runs().await;
    tenant.restore("look", "nightly", json!({ "dryRun": true })).await;
    let status = tenant.restored("look").await;
    let ended = (status.outcome, status.failure_reason.as_deref());
    assert_eq!(ended, (Outcome::Blocked, Some("RunRefused")), "{status:#?}");
    let message = status.message.unwrap_or_default();
    for words in ["a blockade of the tests", &tenant.name, "create a new restore"] {
        assert!(message.contains(words), "{message}");
    }
    assert!(status.operation_run.is_none());
    blockade.lift();
}

#[tokio::test]
async fn a_rehearsal_writes_nothing_and_is_recorded_on_the_set() {
    let tenant = Tenant::with_a_captured_shop("rehearsal").await;
    tenant.damage().await;
    let versions = tenant.object_versions();
    // By a schedule, which names no set: there will be another one each time.
    let operation = json!({ "type": "restore.rehearse", "inputs": { "repository": "main" } });
    let spec = json!({ "schedule": "@yearly", "immediate": true, "operation": operation });
    let schedule: BackupSchedule =
        tenant.create(json!({ "metadata": { "name": "rehearsal" }, "spec": spec })).await.expect("a schedule");
    let minute = schedule.metadata.creation_timestamp.expect("a time").0.as_second() / 60;
    let status = tenant.completed(&format!("rehearsal-{minute}"), SOON).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(status.context.backup_set.as_deref(), Some("nightly"));
    assert_eq!(tenant.object_versions(), versions);
    let set: BackupSet = tenant.api().get("nightly").await.expect("the set");
    assert_eq!(
        set.status.and_then(|status| status.verified).map(|verified| verified.outcome),
        Some(Outcome::Succeeded)
    );
}

#[tokio::test]
async fn only_what_failed_is_done_again() {
    let tenant = Tenant::with_a_captured_shop("rerun").await;
    tenant.damage().await;
    // A quota that has no room for the Secret.
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "full" },
        "spec": { "hard": { "count/secrets": "1" } } });
    tenant.apply(&quota.to_string());
    let room = "jsonpath={.status.used.count/secrets}";
    tenant.cluster.kubectl_prints(&[
        "wait",
        &format!("--for={room}"),
        "resourcequota/full",
        "--namespace",
        &tenant.name,
        "--timeout=60s",
    ]);
    let spec = json!({ "items": [{ "kind": "ConfigMap" }, { "kind": "Secret" }] });
    tenant.restore("first", "nightly", spec.clone()).await;
    let first = tenant.restored("first").await;
    assert_eq!(first.outcome, Outcome::PartiallySucceeded, "{first:#?}");
    assert_same(
        &tenant.reported(&first).await,
        &["core/ConfigMap/shop-settings: create done", "core/Secret/shop-payment: create failed"],
    );
    tenant.cluster.kubectl_prints(&["delete", "resourcequota/full", "--namespace", &tenant.name]);
    tenant.cluster.kubectl_prints(&["delete", "configmap/shop-settings", "--namespace", &tenant.name]);
    tenant.restore("second", "nightly", json!({ "rerunOf": { "name": "first" } })).await;
    let second = tenant.restored("second").await;
    assert_eq!(second.outcome, Outcome::Succeeded, "{second:#?}");
    assert_eq!(tenant.reported(&second).await, ["core/Secret/shop-payment: create done"]);
}

#[tokio::test]
async fn transforms_and_selections_do_what_they_say() {
    let tenant = Tenant::with_a_captured_shop("transforms").await;
    tenant.damage().await;
    let transforms = json!([{ "select": { "kind": "ConfigMap", "name": "shop-*" }, "patch": [
        { "op": "test", "path": "/data/currency", "value": "EUR" },
        { "op": "replace", "path": "/data/currency", "value": "CHF" },
    ] }]);
    let spec = json!({ "items": [{ "kind": "ConfigMap", "labelSelector": "app=shop" }], "only": "missing", "transforms": transforms });
    tenant.restore("one", "nightly", spec).await;
    let status = tenant.restored("one").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(tenant.reported(&status).await, ["core/ConfigMap/shop-settings: create done"]);
    let restored: ConfigMap = tenant.api().get("shop-settings").await.expect("it is back");
    assert_eq!(restored.data.expect("data")["currency"], "CHF");
    // One that does not apply fails its item, and says which.
    let transforms =
        json!([{ "select": { "kind": "Secret" }, "patch": [{ "op": "remove", "path": "/data/nothing" }] }]);
    let spec = json!({ "items": [{ "kind": "Secret", "name": "shop-payment" }], "transforms": transforms });
    tenant.restore("two", "nightly", spec).await;
    let status = tenant.restored("two").await;
    assert_eq!((status.outcome, status.failure_reason.as_deref()), (Outcome::Failed, Some("NothingRestored")));
    assert_eq!(tenant.reported(&status).await, ["core/Secret/shop-payment: invalid failed"]);
    assert!(tenant.api::<Secret>().get_opt("shop-payment").await.expect("Secrets can be read").is_none());
}

/// So many that a restore of them takes a while.
const MANY: usize = 400;

/// Manifests of so many small objects.
fn many(count: usize) -> String {
    let map = |number: usize| {
        json!({ "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": format!("many-{number:04}"), "labels": { "many": "yes" } },
            "data": { "number": number.to_string() } })
    };
    json!({ "apiVersion": "v1", "kind": "List", "items": (0..count).map(map).collect::<Vec<_>>() }).to_string()
}

async fn with_many_lost(story: &str) -> Tenant {
    let tenant = Tenant::new(story).await;
    tenant.apply(&many(MANY));
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    let maps: Api<ConfigMap> = tenant.api();
    let many = ListParams::default().labels("many=yes");
    maps.delete_collection(&DeleteParams::default(), &many).await.expect("they can be deleted");
    tenant
}

async fn there(tenant: &Tenant) -> usize {
    let maps: Api<ConfigMap> = tenant.api();
    maps.list_metadata(&ListParams::default().labels("many=yes")).await.expect("ConfigMaps can be listed").items.len()
}

/// Waits until some of the many are back.
async fn begun(tenant: &Tenant) {
    wait_for("the restore has written something", SOON, async || {
        if there(tenant).await > 0 { Ok(()) } else { Err("nothing is back") }
    })
    .await;
}

/// The pod of a restore's run.
async fn worker(tenant: &Tenant) -> Pod {
    let mut pods = tenant.operation_pods().await;
    pods.retain(|pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running")));
    pods.pop().expect("a worker's pod")
}

#[tokio::test]
async fn a_worker_that_is_killed_in_the_middle_is_followed_by_one_that_does_the_rest() {
    let tenant = with_many_lost("killed").await;
    tenant.restore("put-back", "nightly", json!({ "items": [{ "kind": "ConfigMap", "name": "many-*" }] })).await;
    begun(&tenant).await;
    let pod = worker(&tenant).await;
    crate::support::operator::kill(&pod);
    let status = tenant.restored("put-back").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(there(&tenant).await, MANY);
    let reported = tenant.reported(&status).await;
    assert_eq!(reported.len(), MANY, "the report is complete");
    let undo = status.undo_backup_set.expect("status.undoBackupSet");
    let set: BackupSet = tenant.api().get(&undo).await.expect("the set that undoes it");
    assert_eq!(set.spec.absent.len(), MANY);
}

#[tokio::test]
async fn a_restore_that_is_cancelled_in_the_middle_stops_says_what_it_did_and_can_be_undone() {
    let tenant = with_many_lost("halfway").await;
    tenant.restore("put-back", "nightly", json!({ "items": [{ "kind": "ConfigMap", "name": "many-*" }] })).await;
    begun(&tenant).await;
    tenant.merge::<RestoreRun>("put-back", json!({ "spec": { "cancel": true } })).await;
    let status = tenant.restored("put-back").await;
    let done = there(&tenant).await;
    assert_eq!((status.outcome, status.failure_reason.as_deref()), (Outcome::Failed, Some("Cancelled")), "{status:#?}");
    let reported = tenant.reported(&status).await;
    let written = reported.iter().filter(|line| line.ends_with("done")).count();
    assert_eq!((reported.len(), written), (MANY, done), "each is named, done or not");
    let audit = status.audit.expect("status.audit");
    for (name, event) in [(Some(&audit.intent), AuditEvent::Intent), (audit.outcome.as_ref(), AuditEvent::Outcome)] {
        let entry: AuditEntry = tenant.api().get(name.expect("a name")).await.expect("an entry of the chain");
        let record = entry.spec.record().expect("its text");
        assert_eq!((record.event, Some(record.run)), (event, status.operation_run.clone()));
        assert_eq!(Some(record.plan_digest), status.plan_digest);
    }
    let undo = status.undo_backup_set.expect("status.undoBackupSet");
    tenant.restore("look-back", &undo, json!({ "dryRun": true, "prune": true })).await;
    let look = tenant.restored("look-back").await;
    let deletions = PlanSummary { delete: i64::try_from(done).unwrap(), ..look.preview.unwrap_or_default() };
    assert_eq!(look.preview, Some(deletions), "{look:#?}");
    tenant.restore("undo", &undo, json!({ "preview": { "name": "look-back" } })).await;
    assert_eq!(tenant.restored("undo").await.outcome, Outcome::Succeeded);
    assert_eq!(there(&tenant).await, 0);
}

#[tokio::test]
async fn a_damaged_item_fails_alone_and_a_lost_snapshot_or_a_wrong_password_fails_all_and_each_says_so() {
    let tenant = Tenant::new("damaged-set").await;
    // As large as an object can be, with a name as long as one can have; and nothing that compresses.
    let mut state = 7_u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap_or(0))
    };
    let large: String = (0..900_000).map(|_| noise()).collect();
    let name = "n".repeat(253);
    for (name, data) in [(name.as_str(), "small"), ("large", large.as_str())] {
        let made: Result<ConfigMap, _> =
            tenant.create(json!({ "metadata": { "name": name }, "data": { "value": data } })).await;
        made.expect("a ConfigMap");
    }
    let restic = tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    let maps: Api<ConfigMap> = tenant.api();
    for name in [name.as_str(), "large"] {
        maps.delete(name, &DeleteParams::default()).await.expect("it can be deleted");
    }
    tenant.restore("whole", "nightly", json!({})).await;
    let whole = tenant.restored("whole").await;
    assert_eq!(whole.outcome, Outcome::Succeeded, "{whole:#?}");
    assert_eq!(maps.get("large").await.expect("it is back").data.expect("data")["value"], large);

    // A bit of the large item's content.
    for name in [name.as_str(), "large"] {
        maps.delete(name, &DeleteParams::default()).await.expect("it can be deleted");
    }
    let pack = crate::repository::largest(&restic.folder().join("data"));
    let good = std::fs::read(&pack).expect("a pack");
    let mut bytes = good.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&pack, &bytes).expect("the pack can be written");
    tenant.restore("damaged", "nightly", json!({})).await;
    let damaged = tenant.restored("damaged").await;
    assert_eq!(damaged.outcome, Outcome::PartiallySucceeded, "{damaged:#?}");
    let reported = tenant.reported(&damaged).await;
    assert_same(
        &reported,
        &[format!("core/ConfigMap/{name}: create done"), "core/ConfigMap/large: invalid failed".to_owned()],
    );
    let inputs = json!({ "repository": "main", "backupSet": "nightly" });
    tenant.start("rehearsal", json!({ "type": "restore.rehearse", "inputs": inputs })).await;
    assert_eq!(tenant.completed("rehearsal", SOON).await.outcome, Outcome::PartiallySucceeded);
    let set: BackupSet = tenant.api().get("nightly").await.expect("the set");
    let verified = set.status.as_ref().and_then(|status| status.verified.as_ref()).map(|verified| verified.outcome);
    assert_eq!(verified, Some(Outcome::PartiallySucceeded));
    std::fs::write(&pack, &good).expect("the pack can be put back");

    tenant.password("main", "another password");
    tenant.restore("locked", "nightly", json!({ "dryRun": true })).await;
    let locked = tenant.restored("locked").await;
    assert_eq!(
        (locked.outcome, locked.failure_reason.as_deref()),
        (Outcome::Failed, Some("WrongPassword")),
        "{locked:#?}"
    );
    let inputs = json!({ "repository": "main", "backupSet": "nightly" });
    tenant.start("rehearsal-locked", json!({ "type": "restore.rehearse", "inputs": inputs })).await;
    assert_eq!(tenant.completed("rehearsal-locked", SOON).await.reason.as_deref(), Some("WrongPassword"));
    let now: BackupSet = tenant.api().get("nightly").await.expect("the set");
    assert_eq!(now.status, set.status, "a store that could not be opened says nothing of the set");
    tenant.password("main", crate::support::repository::PASSWORD);

    let snapshot = restic.folder().join("snapshots").join(&set.spec.snapshot);
    std::fs::remove_file(snapshot).expect("the snapshot's file can be removed");
    tenant.restore("gone", "nightly", json!({ "dryRun": true })).await;
    let gone = tenant.restored("gone").await;
    assert_eq!(
        (gone.outcome, gone.failure_reason.as_deref()),
        (Outcome::Failed, Some("SnapshotNotFound")),
        "{gone:#?}"
    );
}
