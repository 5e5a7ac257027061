//! Deletions of many objects: they do what a preview showed, keep what brings it back, and are done to their end after
//! a worker has died.

use super::{
    api::{Api, NAMESPACE, RUN, RUN_UID, object, objects, refusal},
    bulk::events,
    restore::Tenant as Restored,
    support::{Pod, environment},
};
use http::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tenantatlas::{
    api::{Outcome, result::TerminationResult},
    clock::SystemClock,
    operations::{bulk_delete::delete_from, bulk_delete_preview::preview_of},
    providers::kubernetes::Kubernetes,
    repository::{Repository as _, WriterPermit},
    worker::{failure::Failure, stop::Stop},
};

const LOOK_RUN: &str = "look-bulk";
const LOOK_UID: &str = "22222222-2222-3333-4444-555555555555";

/// A tenant with ConfigMaps of which some are wanted gone.
struct Tenant {
    api: Api,
    pod: Pod,
    stop: Stop,
}

impl Tenant {
    fn new(count: usize) -> Self {
        let api = Api::new();
        let label = |mut object: Value| {
            object["metadata"]["labels"] = json!({"app": "web"});
            object
        };
        let maps = objects(count).into_iter().map(label).chain([object("other")]);
        api.serve_config_maps(maps.collect());
        Self { api, pod: Pod::new(), stop: Stop::default() }
    }

    fn record(&self, name: &str, spec: &Value, status: &Value) {
        let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": format!("{name}-uid"),
            "creationTimestamp": "2026-01-01T00:00:00Z"});
        let bulk = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun", "metadata": metadata,
            "spec": spec, "status": status});
        self.api.record("bulkoperationruns", name, bulk);
    }

    /// Has a worker preview a deletion of the labelled ConfigMaps, or of what the fields say, and the operator record
    /// what it made.
    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    async fn preview(&self, fields: Value) -> Result<TerminationResult, Failure> {
        let mut spec = json!({"resource": {"kind": "ConfigMap"}, "action": "delete", "labelSelector": "app=web",
            "options": {"repository": "main"}, "dryRun": true, "parallelism": 4, "requestedBy": {"username": "ada"}});
        spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        self.record("look", &spec, &json!({"phase": "running", "operationRun": {"name": LOOK_RUN, "uid": LOOK_UID}}));
        let inputs = json!({"repository": "main", "bulkOperationRun": {"name": "look", "uid": "look-uid"}});
        let (mut environment, client) = (environment(inputs, None), self.api.client());
        (environment.identity.run, environment.identity.run_uid) = (LOOK_RUN.to_owned(), LOOK_UID.to_owned());
        let repository = self.pod.repository().await?;
        let made = preview_of(&Kubernetes::new(&client, NAMESPACE), &client, &environment, &repository).await?;
        let mut look = self.api.record_of("bulkoperationruns", "look");
        look["status"]["phase"] = json!("completed");
        look["status"]["outcome"] = json!(made.outcome);
        look["status"]["planDigest"] = json!(made.context.plan.as_ref().map(|plan| &plan.digest));
        self.api.record("bulkoperationruns", "look", look);
        Ok(made)
    }

    /// Orders what the preview showed, and has a worker do it.
    async fn delete(&self) -> Result<TerminationResult, Failure> {
        let spec = json!({"resource": self.api.record_of("bulkoperationruns", "look")["spec"]["resource"],
            "action": "delete", "preview": {"name": "look"}, "parallelism": 2, "requestedBy": {"username": "bob"}});
        self.record("many", &spec, &json!({"phase": "running", "operationRun": {"name": RUN, "uid": RUN_UID}}));
        self.attempt().await
    }

    async fn attempt(&self) -> Result<TerminationResult, Failure> {
        let inputs = json!({"repository": "main", "bulkOperationRun": {"name": "many", "uid": "many-uid"}});
        let (environment, client) = (environment(inputs, None), self.api.client());
        let repository = self.pod.repository().await?;
        let permit = WriterPermit::without_maintenance();
        let provider = Kubernetes::new(&client, NAMESPACE);
        delete_from(&provider, &client, &environment, &repository, &SystemClock, &self.stop, permit).await
    }

    async fn blocked(&self) -> (String, String) {
        let failure = self.delete().await.unwrap_err();
        assert_eq!(failure.to_result().outcome, Some(Outcome::Blocked), "{failure}");
        assert!(self.api.writes().is_empty() && self.api.audit().is_empty(), "nothing is written");
        (failure.reason, failure.message)
    }

    fn names(&self, kind: &str) -> BTreeSet<String> {
        let objects = self.api.objects_of(kind);
        objects.iter().filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned)).collect()
    }

    /// The rows of the plan in the reports: item, action, code.
    fn rows(&self) -> Vec<String> {
        let reports = self.api.reports();
        let rows = reports.values().flat_map(|report| report["spec"]["plan"].as_array().cloned().unwrap_or_default());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let line =
            |row: Value| format!("{}: {} {}", text(&row["itemId"]), text(&row["action"]), text(&row["reason"]["code"]));
        rows.map(|row| line(row).trim_end().to_owned()).collect()
    }
}

fn counts(result: &TerminationResult) -> (i64, i64, i64) {
    let counts = result.summary_counts.unwrap();
    (counts.succeeded, counts.failed, counts.skipped)
}

#[tokio::test]
async fn a_deletion_does_what_its_preview_showed_and_a_restore_of_its_set_brings_everything_back() {
    let tenant = Tenant::new(12);
    let before = tenant.api.objects_of("ConfigMap");
    let made = tenant.preview(json!({})).await.unwrap();
    assert_eq!(made.message.as_deref(), Some("would delete 12; 0 not there, 0 left alone, 0 not possible"));
    assert_eq!((tenant.api.writes().len(), tenant.api.audit().len()), (0, 0));
    let tried = tenant.api.dry_runs();
    let of = |verb: &str| tried.iter().filter(|one| one.starts_with(verb)).count();
    assert_eq!((of("DELETE"), of("POST")), (12, 12), "also whether it can be made again: {tried:#?}");
    assert_eq!(tenant.rows().len(), 12);

    tenant.api.take_requests();
    let result = tenant.delete().await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (12, 0, 0)));
    assert_eq!(result.message.as_deref(), Some("12 items deleted, 0 were not there, 0 left alone, 0 failed"));
    assert_eq!(tenant.names("ConfigMap"), BTreeSet::from(["other".to_owned()]));
    let digest = &made.context.plan.as_ref().unwrap().digest;
    assert_eq!(&result.context.plan.as_ref().unwrap().digest, digest);
    let records = events(&tenant.api);
    assert_eq!(records.len(), 2);
    for (_, record) in &records {
        assert_eq!((&record["who"]["username"], &record["change"]), (&json!("bob"), &json!("delete ConfigMap")));
        assert_eq!((&record["planDigest"], &record["bulkOperationRun"]["name"]), (&json!(digest), &json!("many")));
    }
    assert_eq!(records[0].1["summary"]["delete"], json!(12), "what is intended");

    // The set was there before the first deletion.
    let requests = tenant.api.requests();
    let place = |words: [&str; 2]| requests.iter().position(|one| words.into_iter().all(|word| one.contains(word)));
    assert!(place(["POST", "/backupsets"]).unwrap() < place(["DELETE", "/configmaps/item-00000"]).unwrap());
    let snapshot = result.context.snapshot.as_ref().unwrap();
    assert_eq!((snapshot.items, result.context.undo_set.as_deref()), (12, Some(RUN)));
    let set = tenant.api.record_of("backupsets", RUN);
    assert_eq!((&set["spec"]["coverage"], &set["spec"]["absent"]), (&json!("partial"), &Value::Null));
    let id = snapshot.id.clone();
    let restored = Restored::with_set(tenant.api, tenant.pod, &id);
    let undone = restored.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(undone.outcome, Some(Outcome::Succeeded), "{undone:#?}");
    let after = restored.api.objects_of("ConfigMap");
    let content = |objects: &[Value]| -> BTreeSet<String> {
        let of = |object: &Value| {
            json!([object["metadata"]["name"], object["metadata"]["labels"], object["data"]]).to_string()
        };
        objects.iter().map(of).collect()
    };
    assert_eq!(content(&after), content(&before));
}

#[tokio::test]
async fn what_has_changed_since_the_preview_blocks_all_of_it_and_what_matches_by_now_is_left() {
    type Change = fn(&Api);
    let changes: [Change; 2] = [
        |api| api.change("ConfigMap", "item-00001", |object| object["data"] = json!({"since": "then"})),
        |api| {
            let mut left = api.objects_of("ConfigMap");
            left.retain(|object| object["metadata"]["name"] != "item-00001");
            api.serve_config_maps(left);
        },
    ];
    for change in changes {
        let tenant = Tenant::new(3);
        tenant.preview(json!({})).await.unwrap();
        change(&tenant.api);
        let (reason, message) = tenant.blocked().await;
        assert_eq!(reason, "PreviewStale");
        assert!(message.contains("core/ConfigMap/item-00001"), "{message}");
    }
    let tenant = Tenant::new(3);
    tenant.preview(json!({})).await.unwrap();
    let mut more = tenant.api.objects_of("ConfigMap");
    let mut late = object("late");
    late["metadata"]["labels"] = json!({"app": "web"});
    more.push(late);
    tenant.api.serve_config_maps(more);
    assert_eq!(counts(&tenant.delete().await.unwrap()), (3, 0, 0));
    assert_eq!(tenant.names("ConfigMap"), BTreeSet::from(["late".to_owned(), "other".to_owned()]));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_dies_anywhere_has_its_work_done_once_and_everything_of_it_can_be_brought_back() {
    for writes in 0..9 {
        let tenant = Tenant::new(6);
        tenant.preview(json!({})).await.unwrap();
        tenant.api.break_after_writes(writes);
        let first = tenant.delete().await;
        tenant.api.heal();
        let result = match first {
            Ok(result) => result,
            Err(failure) => {
                assert_eq!(failure.exit_code(), 1, "{writes}: {failure}");
                tenant.attempt().await.unwrap()
            }
        };
        assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (6, 0, 0)), "{writes}");
        assert_eq!(tenant.names("ConfigMap"), BTreeSet::from(["other".to_owned()]), "{writes}");
        assert_eq!(result.context.snapshot.as_ref().map(|snapshot| snapshot.items), Some(6), "{writes}");
        let deleted = tenant.api.writes().iter().filter(|one| one.contains("DELETE")).cloned().collect::<Vec<_>>();
        let once: BTreeSet<&String> = deleted.iter().collect();
        assert_eq!(once.len(), deleted.len(), "{writes}: {deleted:?}");
        assert_eq!(tenant.api.audit().len(), 2, "{writes}");
    }
}

#[tokio::test]
async fn nothing_is_deleted_that_the_requester_or_the_account_may_not_delete_or_that_is_not_shown_to_them() {
    for (user, verb) in
        [("bob", "delete"), ("bob", "get"), ("system:serviceaccount:acme:tenantatlas-restore", "delete")]
    {
        let tenant = Tenant::new(3);
        tenant.preview(json!({})).await.unwrap();
        tenant.api.deny(user, verb, "configmaps");
        let result = tenant.delete().await.unwrap();
        assert_eq!((result.outcome, result.reason.as_deref()), (Some(Outcome::Failed), Some("NothingChanged")));
        assert!(result.failures.iter().all(|failed| failed.reason_code == "Forbidden"), "{user} {verb}: {result:#?}");
        assert!(result.failures[0].message.contains(&format!("{user} may not {verb} configmaps")), "{result:#?}");
        assert_eq!((counts(&result), tenant.names("ConfigMap").len()), ((0, 3, 0), 4));
    }
    let tenant = Tenant::new(3);
    for verb in ["get", "list"] {
        tenant.api.deny("ada", verb, "configmaps");
        let failure = tenant.preview(json!({})).await.unwrap_err();
        assert_eq!(failure.reason, "Forbidden", "not even the names are told");
        tenant.api.allow_all();
    }
    tenant.api.deny("ada", "delete", "configmaps");
    let made = tenant.preview(json!({})).await.unwrap();
    assert_eq!((made.outcome, counts(&made)), (Some(Outcome::PartiallySucceeded), (0, 3, 0)));
    assert_eq!(tenant.rows()[0], "core/ConfigMap/item-00000: forbidden Forbidden");
}

#[tokio::test]
async fn what_no_backup_set_brings_back_is_deleted_only_if_that_is_allowed() {
    let claim = |name: &str, volume: Option<&str>| {
        let mut claim = object(name);
        claim["spec"] = json!({"volumeName": volume, "accessModes": ["ReadWriteOnce"]});
        claim
    };
    let fields = |allow: bool| {
        json!({"resource": {"kind": "PersistentVolumeClaim"}, "labelSelector": null, "items": ["bound", "free", "gone"],
            "options": {"repository": "main", "allowDataLoss": allow}})
    };
    let tenant = Tenant::new(1);
    let claims = vec![claim("bound", Some("pv-1")), claim("free", None)];
    tenant.api.serve("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", claims);
    let made = tenant.preview(fields(false)).await.unwrap();
    assert_eq!(made.message.as_deref(), Some("would delete 1; 1 not there, 0 left alone, 1 not possible"));
    let rows = tenant.rows();
    assert!(rows.contains(&"core/PersistentVolumeClaim/bound: conflict DataLossNotAllowed".to_owned()), "{rows:#?}");
    let result = tenant.delete().await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (2, 1, 0)));
    assert_eq!(tenant.names("PersistentVolumeClaim"), BTreeSet::from(["bound".to_owned()]));

    let tenant = Tenant::new(1);
    let claims = vec![claim("bound", Some("pv-1")), claim("free", None)];
    tenant.api.serve("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", claims);
    tenant.preview(fields(true)).await.unwrap();
    assert_eq!(counts(&tenant.delete().await.unwrap()), (3, 0, 0));
    assert!(tenant.names("PersistentVolumeClaim").is_empty());
}

#[tokio::test]
async fn what_captures_leave_out_and_what_controllers_make_again_is_left_alone() {
    let tenant = Tenant::new(1);
    let mut owned = object("web-1");
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true}]);
    let mut kept = object("kept");
    kept["metadata"]["labels"] = json!({"velero.io/exclude-from-backup": "true"});
    tenant.api.serve("", "v1", "Pod", "pods", vec![owned, kept]);
    let fields = json!({"resource": {"kind": "Pod"}, "labelSelector": null, "items": ["web-1", "kept"]});
    let made = tenant.preview(fields).await.unwrap();
    assert_eq!(counts(&made), (0, 0, 2), "{made:#?}");
    let result = tenant.delete().await.unwrap();
    assert_eq!((counts(&result), result.context.undo_set), ((0, 0, 2), None));
    assert_eq!(tenant.names("Pod").len(), 2);
}

#[tokio::test]
async fn what_has_ended_stays_because_a_restore_would_not_bring_it_back() {
    let tenant = Tenant::new(1);
    let job = |name: &str, status: Value| {
        let mut job = object(name);
        (job["spec"], job["status"]) = (json!({"template": {}}), status);
        job
    };
    let ended =
        json!({"conditions": [{"type": "Complete", "status": "True"}], "completionTime": "2026-01-01T00:00:00Z"});
    let jobs = vec![job("ended", ended), job("runs", json!({"active": 1}))];
    tenant.api.serve("batch", "v1", "Job", "jobs", jobs);
    let fields =
        json!({"resource": {"group": "batch", "kind": "Job"}, "labelSelector": null, "items": ["ended", "runs"]});
    let made = tenant.preview(fields).await.unwrap();
    assert!(tenant.rows().contains(&"batch/Job/ended: skip Finished".to_owned()), "{:#?}", tenant.rows());
    assert_eq!(counts(&made), (1, 0, 1));
    tenant.delete().await.unwrap();
    assert_eq!(tenant.names("Job"), BTreeSet::from(["ended".to_owned()]));
}

/// A Service that a Deployment owns, both to be deleted by a deletion of the Deployment.
fn owning() -> (Tenant, Value, Value) {
    let tenant = Tenant::new(1);
    let mut owner = object("web");
    owner["spec"] = json!({"replicas": 0});
    let mut owned = object("web");
    owned["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "web",
        "uid": owner["metadata"]["uid"]}]);
    tenant.api.serve("apps", "v1", "Deployment", "deployments", vec![owner]);
    let fields = json!({"resource": {"group": "apps", "kind": "Deployment"}, "labelSelector": null, "items": ["web"]});
    (tenant, owned, fields)
}

#[tokio::test]
async fn what_an_owner_has_gained_since_the_preview_blocks_its_deletion() {
    let (tenant, owned, fields) = owning();
    tenant.api.serve("", "v1", "Service", "services", vec![]);
    tenant.preview(fields).await.unwrap();
    tenant.api.serve("", "v1", "Service", "services", vec![owned]);
    let (reason, message) = tenant.blocked().await;
    assert_eq!(reason, "PreviewStale");
    assert!(message.contains("core/Service/web"), "{message}");
}

#[tokio::test]
async fn what_the_requester_may_not_read_is_neither_told_nor_deleted_with_its_owner() {
    let (tenant, owned, fields) = owning();
    let mut owned = owned;
    owned["metadata"]["name"] = json!("hidden-name");
    tenant.api.serve("", "v1", "Service", "services", vec![owned]);
    tenant.api.deny("ada", "get", "services");
    let made = tenant.preview(fields).await.unwrap();
    assert_eq!(tenant.rows(), ["apps/Deployment/web: forbidden Forbidden"]);
    assert!(!format!("{made:?} {:?}", tenant.api.reports()).contains("hidden-name"), "{made:#?}");
}

#[tokio::test]
async fn an_owner_stays_if_what_it_owns_of_the_same_kind_failed_to_go() {
    let tenant = Tenant::new(4);
    let owner = tenant.api.objects_of("ConfigMap")[0]["metadata"]["uid"].clone();
    tenant.api.change("ConfigMap", "item-00001", |object| {
        object["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "item-00000", "uid": owner}]);
    });
    tenant.preview(json!({})).await.unwrap();
    tenant.api.refuse_writes(|method, uri| {
        let is_its = *method == Method::DELETE && uri.path().ends_with("/item-00001");
        is_its.then(|| refusal(403, "Forbidden"))
    });
    let result = tenant.delete().await.unwrap();
    assert_eq!(counts(&result), (2, 2, 0), "{result:#?}");
    let left = ["item-00000", "item-00001", "other"].map(str::to_owned);
    assert_eq!(tenant.names("ConfigMap"), BTreeSet::from(left));
}

#[tokio::test]
async fn a_plan_in_which_what_the_garbage_collector_takes_is_deleted_by_itself_counts_as_changed() {
    let (tenant, owned, fields) = owning();
    tenant.api.serve("", "v1", "Service", "services", vec![owned]);
    let made = tenant.preview(fields).await.unwrap();
    assert!(tenant.rows().contains(&"core/Service/web: delete GarbageCollected".to_owned()), "{:#?}", tenant.rows());
    let digest = made.context.plan.unwrap().digest;
    let part = format!("plan-{}-00000", &digest[..16]);
    let repository = tenant.pod.repository().await.unwrap();
    let stored = repository.find_document(LOOK_UID, &part).await.unwrap().unwrap();
    let mut rows: Value = serde_json::from_slice(&stored).unwrap();
    for row in rows.as_array_mut().unwrap() {
        row.as_object_mut().unwrap().remove("reason");
    }
    repository.put_document(LOOK_UID, &part, rows.to_string().into_bytes()).await.unwrap();
    assert_eq!(tenant.blocked().await.0, "PlanLost");
    assert_eq!(tenant.names("Service").len(), 1);
}

#[tokio::test]
async fn a_deletion_that_is_cancelled_in_the_middle_skips_the_rest() {
    let tenant = Tenant::new(3);
    tenant.preview(json!({})).await.unwrap();
    tenant.stop.set();
    // The fence before the first deletion has let it pass.
    tenant.api.cancel_after_reads_of_the_run(1);
    let result = tenant.delete().await.unwrap();
    assert_eq!(counts(&result), (0, 0, 3), "{result:#?}");
    assert_eq!(result.message.as_deref(), Some("0 items deleted, 0 were not there, 3 left alone, 0 failed"));
    assert_eq!(tenant.names("ConfigMap").len(), 4);
}

#[tokio::test]
async fn a_deletion_without_its_preview_or_in_another_repository_is_blocked() {
    let tenant = Tenant::new(2);
    let nothing = tenant.preview(json!({"labelSelector": "app=none"})).await.unwrap_err();
    assert_eq!(nothing.reason, "NothingSelected");
    let other = tenant.preview(json!({"options": {"repository": "other"}})).await.unwrap_err();
    assert_eq!(other.reason, "InvalidBulkOperation");
    assert!(other.message.contains("spec.options.repository"), "{other}");

    tenant.preview(json!({})).await.unwrap();
    let spec = json!({"resource": {"kind": "ConfigMap"}, "action": "delete", "labelSelector": "app=web",
        "options": {"repository": "main"}, "requestedBy": {"username": "bob"}});
    tenant.record("many", &spec, &json!({"phase": "running", "operationRun": {"name": RUN, "uid": RUN_UID}}));
    let failure = tenant.attempt().await.unwrap_err();
    assert_eq!(failure.reason, "InvalidBulkOperation");
    assert!(failure.message.contains("spec.preview"), "{failure}");

    // The plan in the repository counts only with the digest that the preview reported.
    let mut look = tenant.api.record_of("bulkoperationruns", "look");
    look["status"]["planDigest"] = json!("0".repeat(64));
    tenant.api.record("bulkoperationruns", "look", look);
    assert_eq!(tenant.blocked().await.0, "PlanLost");
}
