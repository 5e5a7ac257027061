//! Comparisons of a tenant with a baseline in a real repository, and the findings that they write.

use super::{
    api::{Api, NAMESPACE, RUN_UID, object, objects, refusal},
    restore::{counts, deployment},
    support::{Pod, environment, inputs_with},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::sync::Mutex;
use tenantatlas::{
    api::{Outcome, drift::Drift, result::TerminationResult},
    clock::Clock,
    operations::{drift, drift::Drift as Operation},
    worker::{failure::Failure, work::Work as _},
};

struct At(Mutex<Timestamp>);

impl Clock for At {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// A tenant, and its backup sets.
pub(super) struct Tenant {
    pub(super) api: Api,
    pub(super) pod: Pod,
    sets: Vec<Value>,
    clock: At,
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
impl Tenant {
    /// Three ConfigMaps, a Secret, a Deployment and an autoscaler of another, captured as `base`.
    pub(super) async fn new() -> Self {
        let api = Api::new();
        api.serve_config_maps(objects(3));
        let secret =
            json!({"metadata": object("key")["metadata"], "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
        api.serve("", "v1", "Secret", "secrets", vec![secret]);
        api.serve(
            "apps",
            "v1",
            "Deployment",
            "deployments",
            vec![deployment("scaled", "x:1"), deployment("web", "web:1")],
        );
        let mut scaler = object("scaler");
        scaler["spec"] = json!({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "scaled"}});
        api.serve("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", vec![scaler]);
        let clock = At(Mutex::new("2026-01-01T00:00:00Z".parse().unwrap()));
        let mut tenant = Self { api, pod: Pod::new(), sets: Vec::new(), clock };
        tenant.capture("base", json!({}), "full").await;
        tenant
    }

    pub(super) async fn capture(&mut self, name: &str, selection: Value, coverage: &str) {
        let mut environment = environment(json!({"repository": "main", "selection": selection}), None);
        environment.identity.run_uid = format!("run-of-{name}");
        let captured = self.pod.capture_in(&self.api, environment).await.unwrap().context.snapshot.unwrap();
        self.add_set(name, &captured.id, json!({"selection": selection, "coverage": coverage}));
    }

    pub(super) async fn inventory(&mut self, name: &str) {
        let taken = self.pod.inventory(&self.api, &format!("run-of-{name}"), json!({"repository": "main"})).await;
        let taken = taken.unwrap().context.snapshot.unwrap();
        let schedule = json!({"name": "hourly", "uid": "u"});
        self.add_set(name, &taken.id, json!({"coverage": "full", "content": "Inventory", "backupSchedule": schedule}));
    }

    fn add_set(&mut self, name: &str, snapshot: &str, spec: Value) {
        let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
            "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"repository": {"name": "main"}, "snapshot": snapshot, "run": {"name": name, "uid": "u"}, "namespaceUid": "namespace-uid"}});
        for (field, value) in spec.as_object().cloned().unwrap() {
            set["spec"][field] = value;
        }
        self.sets.push(set);
        self.api.list("BackupSet", self.sets.clone());
    }

    pub(super) fn change_set(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.sets[0]);
        self.api.list("BackupSet", self.sets.clone());
    }

    fn later(&self, minutes: i64) {
        let mut now = self.clock.0.lock().unwrap();
        *now = now.checked_add(SignedDuration::from_mins(minutes)).unwrap();
    }

    /// A ConfigMap is gone, one changed, a Secret is new, an image changed, and an autoscaler scaled.
    pub(super) fn drift(&self) {
        self.api.serve_config_maps(vec![object("item-00001"), object("item-00002")]);
        self.api.change("ConfigMap", "item-00001", |object| object["data"] = json!({"of": "somebody else"}));
        let mut secrets = self.api.objects_of("Secret");
        secrets.push(json!({"metadata": object("new")["metadata"], "data": {"token": "c2VjcmV0"}}));
        self.api.serve("", "v1", "Secret", "secrets", secrets);
        self.api.change("Secret", "key", |object| object["data"]["password"] = json!("c2VjcmV0"));
        self.api.change("Deployment", "scaled", |object| object["spec"]["replicas"] = json!(7));
        self.api.change("Deployment", "web", |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
            object["metadata"]["managedFields"] = json!([{"manager": "kubectl-edit", "operation": "Update", "time": "2026-01-01T01:00:00Z",
                "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {r#"k:{"name":"main"}"#: {"f:image": {}}, r#"k:{"name":"web"}"#: {"f:image": {}}}}}}}}]);
        });
    }

    /// A restore that ran for ten minutes from this time on, as the audit chain tells it.
    fn restored(&self, run: &str, at: &str) {
        let from: Timestamp = at.parse().unwrap();
        for (event, time) in [("intent", from), ("outcome", from + SignedDuration::from_mins(10))] {
            let name = format!("{:012}", self.api.audit().len() + 1);
            let record = json!({"name": name, "namespace": NAMESPACE, "previous": "", "event": event, "at": time.to_string(),
                "who": {"username": "eve"}, "operationType": "restore.apply", "run": {"name": run, "uid": run},
                "pod": "op-1-x", "planDigest": "0".repeat(64)});
            self.api.add_audit(
                json!({"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"entry": record.to_string(),
                "event": event, "who": "eve", "operationType": "restore.apply", "run": {"name": run, "uid": run},
                "pod": "op-1-x", "planDigest": "0".repeat(64)}}),
            );
        }
    }

    pub(super) async fn run(&self, inputs: Value) -> Result<TerminationResult, Failure> {
        self.run_of(RUN_UID, inputs).await
    }

    /// The same as a run of this uid.
    async fn run_of(&self, uid: &str, inputs: Value) -> Result<TerminationResult, Failure> {
        self.api.forget_reports();
        let repository = self.pod.repository().await?;
        self.api.change_run(|run| run["metadata"]["uid"] = json!(uid));
        let mut environment = environment(inputs_with(inputs), None);
        uid.clone_into(&mut environment.identity.run_uid);
        drift::generate(&self.api.client(), &environment, &repository, &self.clock).await
    }

    pub(super) async fn counts(&self, inputs: Value) -> Drift {
        let result = self.run(inputs).await.unwrap();
        counts(&result);
        result.context.drift.unwrap()
    }

    /// `Kind/name change severity`, and `gone` if it is resolved, of each finding.
    pub(super) fn findings(&self) -> Vec<String> {
        let text = |finding: &Value| {
            let spec = &finding["spec"];
            let gone = if finding["status"]["observed"]["resolvedAt"].is_null() { "" } else { " gone" };
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            format!(
                "{}/{} {} {}{gone}",
                text(&spec["subject"]["kind"]),
                text(&spec["subject"]["name"]),
                text(&spec["change"]),
                text(&spec["severity"])
            )
        };
        let mut all: Vec<String> = self.api.findings().values().map(text).collect();
        all.sort();
        all
    }

    pub(super) fn finding(&self, name: &str) -> Value {
        let found = self.api.findings().into_values().find(|finding| finding["spec"]["subject"]["name"] == name);
        found.unwrap()
    }

    /// `item: change reason` of each row of the reports.
    pub(super) fn rows(&self) -> Vec<String> {
        let reports = self.api.reports();
        let rows =
            reports.values().flat_map(|report| report["spec"]["differences"].as_array().cloned().unwrap_or_default());
        let text = |row: Value| {
            let reason = row["reason"]["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{}: {}{reason}", row["itemId"].as_str().unwrap(), row["change"].as_str().unwrap())
        };
        rows.map(text).collect()
    }
}

/// What [`Tenant::drift`] leads to.
pub(super) const DRIFTED: [&str; 5] = [
    "ConfigMap/item-00000 removed medium",
    "ConfigMap/item-00001 modified medium",
    "Deployment/web modified medium",
    "Secret/key modified high",
    "Secret/new added high",
];

#[tokio::test]
async fn what_drifted_has_a_finding_with_evidence_and_no_secret_value_and_a_second_run_writes_nothing() {
    let tenant = Tenant::new().await;
    assert_eq!(tenant.counts(json!({})).await.drifted(), 0);
    assert_eq!(tenant.findings(), Vec::<String>::new());
    tenant.drift();
    let result = tenant.run(json!({})).await.unwrap();
    let drift = result.context.drift.clone().unwrap();
    assert_eq!((drift.added, drift.removed, drift.modified, drift.replaced), (1, 1, 3, 0));
    assert_eq!((drift.same, drift.ignored, drift.not_compared, drift.new), (2, 1, 0, 5));
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    assert!(result.message.as_ref().unwrap().starts_with("5 drifted from base (1 added, 1 removed, 3 modified"));
    assert_eq!(tenant.findings(), DRIFTED);
    let evidence = &tenant.finding("web")["spec"]["evidence"];
    assert_eq!(evidence[0]["before"], json!("\"web:1\""), "{evidence}");
    assert_eq!((&evidence[0]["after"], &evidence[0]["manager"]), (&json!("\"web:2\""), &json!("kubectl-edit")));
    assert_eq!(tenant.finding("web")["spec"]["baseline"]["backupSet"], json!({"name": "base", "uid": "uid-of-base"}));
    let everything =
        format!("{:?}{:?}{}", tenant.api.findings(), tenant.api.reports(), serde_json::to_string(&result).unwrap());
    for secret in ["aHVudGVyMg", "c2VjcmV0", "hunter2"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
    tenant.api.take_finding_writes();
    tenant.later(59);
    assert_eq!(tenant.counts(json!({})).await.new, 0);
    assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new());
    tenant.later(2);
    tenant.run(json!({})).await.unwrap();
    let writes = tenant.api.take_finding_writes();
    assert!(writes.len() == 5 && writes.iter().all(|write| write.ends_with("/status")), "{writes:?}");
    assert_eq!(tenant.api.writes(), Vec::<String>::new(), "nothing else in the tenant is written");
}

#[tokio::test]
async fn what_is_put_back_is_resolved_and_what_changes_again_keeps_its_acknowledgement_and_gets_another_digest() {
    let tenant = Tenant::new().await;
    let before = tenant.api.objects_of("Deployment");
    tenant.drift();
    tenant.run(json!({})).await.unwrap();
    let first = tenant.finding("web");
    let acknowledged = json!({"note": "planned", "digest": first["spec"]["digest"]});
    tenant.api.change_finding(first["metadata"]["name"].as_str().unwrap(), |finding| {
        finding["spec"]["acknowledged"] = acknowledged.clone();
    });
    tenant.later(5);
    tenant.api.change("Deployment", "web", |object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:3");
    });
    tenant.run(json!({})).await.unwrap();
    let second = tenant.finding("web");
    assert_ne!(second["spec"]["digest"], first["spec"]["digest"]);
    assert_eq!(second["spec"]["acknowledged"], acknowledged);
    assert_eq!(second["spec"]["evidence"][0]["after"], json!("\"web:3\""));
    tenant.api.serve("apps", "v1", "Deployment", "deployments", before);
    tenant.later(5);
    assert_eq!(tenant.counts(json!({})).await.resolved, 1);
    let gone = tenant.finding("web");
    assert_eq!(gone["status"]["observed"]["resolvedAt"], json!("2026-01-01T00:10:00Z"));
    assert_eq!(gone["status"]["observed"]["firstSeen"], first["status"]["observed"]["firstSeen"]);
    assert_eq!((tenant.counts(json!({})).await.resolved, tenant.findings().len()), (0, 5));
    tenant.drift();
    let drift = tenant.counts(json!({})).await;
    assert_eq!((drift.reopened, drift.new), (1, 0));
    assert_eq!(tenant.findings(), DRIFTED);
    assert_eq!(tenant.finding("web")["status"]["observed"]["firstSeen"], first["status"]["observed"]["firstSeen"]);
}

#[tokio::test]
async fn after_a_crash_at_any_write_the_next_attempt_writes_the_rest_and_the_one_after_nothing() {
    let whole = Tenant::new().await;
    whole.drift();
    whole.run(json!({})).await.unwrap();
    let all = whole.api.take_finding_writes().len();
    assert_eq!(all, 10, "each is created and observed");
    for writes in 0..all {
        let tenant = Tenant::new().await;
        tenant.drift();
        tenant.api.break_after_finding_writes(writes);
        let failure = tenant.run(json!({})).await.unwrap_err();
        assert_eq!(failure.exit_code(), 1, "after {writes} writes: {failure:?}");
        tenant.api.heal();
        tenant.run(json!({})).await.unwrap();
        assert_eq!(tenant.findings(), DRIFTED, "after {writes} writes");
        assert_eq!(tenant.api.take_finding_writes().len(), all, "after {writes} writes");
        tenant.run(json!({})).await.unwrap();
        assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new());
        assert!(tenant.api.findings().values().all(|finding| !finding["status"]["observed"].is_null()));
    }
}

#[tokio::test]
async fn after_a_crash_between_a_change_and_its_status_the_next_attempt_says_that_it_was_seen() {
    let tenant = Tenant::new().await;
    tenant.drift();
    tenant.run_of("an-earlier-run", json!({})).await.unwrap();
    tenant.api.take_finding_writes();
    tenant.later(5);
    tenant.api.change("ConfigMap", "item-00001", |object| object["data"] = json!({"of": "yet another"}));
    tenant.api.break_after_finding_writes(1);
    tenant.run(json!({})).await.unwrap_err();
    tenant.api.heal();
    assert_eq!(tenant.api.take_finding_writes().len(), 1);
    tenant.run(json!({})).await.unwrap();
    let writes = tenant.api.take_finding_writes();
    assert!(writes.len() == 1 && writes[0].ends_with("/status"), "{writes:?}");
    let observed = &tenant.finding("item-00001")["status"]["observed"];
    assert_eq!((&observed["run"]["uid"], &observed["lastSeen"]), (&json!(RUN_UID), &json!("2026-01-01T00:05:00Z")));
    tenant.run(json!({})).await.unwrap();
    assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_kind_that_cannot_be_listed_is_neither_removed_nor_resolved() {
    let tenant = Tenant::new().await;
    tenant.drift();
    tenant.run(json!({})).await.unwrap();
    tenant.api.take_finding_writes();
    tenant.api.fail(|uri, _| uri.path().ends_with("/configmaps").then(|| refusal(403, "Forbidden")));
    let result = tenant.run(json!({})).await.unwrap();
    let drift = result.context.drift.clone().unwrap();
    assert_eq!((drift.removed, drift.resolved, drift.unreadable, drift.not_compared), (0, 0, 1, 3));
    assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
    assert_eq!(tenant.findings(), DRIFTED);
    assert_eq!(tenant.api.take_finding_writes(), Vec::<String>::new());
    assert!(tenant.rows().iter().any(|row| row == "core/ConfigMap/: not_compared NotListed"), "{:?}", tenant.rows());
}

#[tokio::test]
async fn what_a_partial_baseline_lacks_is_not_added_and_another_selection_resolves_nothing() {
    let mut tenant = Tenant::new().await;
    tenant.drift();
    tenant.run(json!({})).await.unwrap();
    tenant.change_set(|set| set["spec"]["coverage"] = json!("partial"));
    let drift = tenant.counts(json!({"baseline": {"backupSet": "base"}})).await;
    assert_eq!((drift.added, drift.removed, drift.not_compared, drift.resolved), (0, 1, 1, 0));
    assert!(tenant.rows().contains(&"core/Secret/new: not_compared BaselineOfAnotherScope".to_owned()));
    tenant.change_set(|set| set["spec"]["coverage"] = json!("full"));
    let maps = tenant.counts(json!({"selection": {"includeKinds": ["ConfigMap"]}})).await;
    assert_eq!((maps.removed, maps.modified, maps.added, maps.new, maps.resolved), (1, 1, 0, 2, 0));
    assert_eq!(tenant.findings().len(), 7, "another selection has findings of its own");
    let labelled = tenant.counts(json!({"selection": {"labelSelector": "a=b"}})).await;
    assert_eq!((labelled.drifted(), labelled.removed), (0, 0));
}

#[tokio::test]
async fn an_inventory_tells_that_items_differ_and_not_in_what() {
    let mut tenant = Tenant::new().await;
    tenant.inventory("inventory").await;
    tenant.drift();
    let drift = tenant.counts(json!({"baseline": {"schedule": "hourly"}})).await;
    assert_eq!(drift.baseline.as_deref(), Some("inventory"));
    // Of the scaled Deployment, it is unknown that only replicas differ.
    assert_eq!((drift.added, drift.removed, drift.modified, drift.same), (1, 1, 4, 2));
    assert_eq!(tenant.finding("web")["spec"]["evidence"], Value::Null);
}

#[tokio::test]
async fn two_recorded_states_are_compared_like_a_live_one_and_an_item_made_again_is_replaced() {
    let mut tenant = Tenant::new().await;
    tenant.drift();
    tenant.api.change("ConfigMap", "item-00002", |object| object["metadata"]["uid"] = json!("another"));
    tenant.capture("later", json!({}), "full").await;
    let inputs = json!({"baseline": {"backupSet": "base"}, "current": {"backupSet": "later"}});
    let drift = tenant.counts(inputs).await;
    assert_eq!((drift.added, drift.removed, drift.modified, drift.replaced, drift.ignored), (1, 1, 3, 1, 1));
    assert_eq!(tenant.finding("item-00002")["spec"]["change"], json!("replaced"));
    assert_eq!(tenant.finding("web")["spec"]["current"]["backupSet"], json!({"name": "later"}));
    assert!(tenant.rows().contains(&"core/ConfigMap/item-00002: changed Replaced".to_owned()));
}

#[tokio::test]
async fn what_a_restore_wrote_names_its_run_and_who_asked_for_it() {
    let tenant = Tenant::new().await;
    tenant.drift();
    tenant.restored("put-back", "2026-01-01T00:55:00Z");
    tenant.restored("../another", "2026-01-01T00:56:00Z");
    tenant.restored("later", "2026-01-01T02:00:00Z");
    tenant.run(json!({})).await.unwrap();
    let evidence = || tenant.finding("web")["spec"]["evidence"][0].clone();
    assert_eq!((&evidence()["manager"], &evidence()["run"]), (&json!("kubectl-edit"), &Value::Null));
    tenant.api.change("Deployment", "web", |object| {
        object["metadata"]["managedFields"][0]["manager"] = json!("tenantatlas-restore");
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:3");
    });
    tenant.run(json!({})).await.unwrap();
    assert_eq!((&evidence()["run"], &evidence()["initiator"]), (&json!({"name": "put-back"}), &json!("eve")));
}

#[tokio::test]
async fn what_is_ignored_by_request_has_no_finding_and_is_counted() {
    let tenant = Tenant::new().await;
    tenant.drift();
    let ignore = json!([{"kinds": ["Secret"]}, {"paths": ["/spec/template/spec/containers/*/image"]}]);
    let severities = json!([{"severity": "low", "kinds": ["ConfigMap"]}]);
    let drift = tenant.counts(json!({"ignore": ignore, "severities": severities})).await;
    assert_eq!((drift.drifted(), drift.ignored), (2, 4));
    assert_eq!(tenant.findings(), ["ConfigMap/item-00000 removed low", "ConfigMap/item-00001 modified low"]);
}

#[tokio::test]
async fn a_label_that_keeps_an_item_out_of_captures_does_not_hide_it_from_its_baseline() {
    let tenant = Tenant::new().await;
    tenant.api.change("ConfigMap", "item-00001", |object| {
        object["data"] = json!({"of": "somebody else"});
        object["metadata"]["labels"] = json!({"tenantatlas.io/exclude-from-backup": "true"});
    });
    let drift = tenant.counts(json!({})).await;
    assert_eq!((drift.modified, drift.removed, drift.not_compared), (1, 0, 0));
}

#[tokio::test]
async fn a_finding_that_another_run_makes_at_the_same_time_is_taken_over() {
    let tenant = Tenant::new().await;
    tenant.drift();
    tenant.run(json!({})).await.unwrap();
    let there = tenant.api.findings();
    // The list was read before the other run wrote.
    tenant.api.take_finding_writes();
    tenant.api.fail(|uri, asked| {
        let is_list = uri.path().ends_with("/findings") && uri.query().is_some_and(|query| query.contains("limit"));
        let empty =
            json!({"kind": "FindingList", "apiVersion": "tenantatlas.io/v1alpha1", "metadata": {}, "items": []});
        let _ = asked;
        is_list.then_some(super::api::Answer::Json(200, empty))
    });
    assert_eq!(tenant.counts(json!({})).await.new, 0);
    assert_eq!(tenant.api.findings(), there);
}

#[tokio::test]
async fn a_tenant_with_too_many_findings_has_those_of_the_worst_and_the_rest_is_counted() {
    let tenant = Tenant::new().await;
    tenant.drift();
    tenant.run(json!({})).await.unwrap();
    for number in 0..997 {
        let mut finding = tenant.finding("web");
        finding["metadata"]["name"] = json!(format!("drift-{number:032}"));
        finding["spec"]["scopeKey"] = json!("0".repeat(64));
        tenant.api.add_finding(finding);
    }
    let drift = tenant.counts(json!({})).await;
    assert_eq!((drift.drifted(), drift.not_shown, drift.resolved), (5, 2, 0));
    assert_eq!(tenant.api.findings().len(), 1000);
    let names: Vec<String> = tenant.findings();
    assert_eq!(names.iter().filter(|name| name.ends_with("high")).count(), 2, "the worst stay");
}

#[tokio::test]
async fn bad_inputs_and_a_baseline_that_cannot_be_used_say_why() {
    let mut tenant = Tenant::new().await;
    for (inputs, place) in [
        (json!({"ignore": [{"paths": ["spec"]}]}), "inputs.ignore[0].paths[0]: "),
        (json!({"severities": [{"severity": "low", "kinds": ["a b"]}]}), "inputs.severities[0].kinds[0]: "),
        (json!({"baseline": {}}), "inputs.baseline: "),
        (json!({"baseline": {"backupSet": "a", "schedule": "b"}}), "inputs.baseline: "),
        (json!({"baseline": {"backupSet": "a"}, "current": {"backupSet": "a"}}), "inputs.baseline and inputs.current"),
    ] {
        let mut all = inputs.clone();
        all["repository"] = json!("main");
        let failure = Operation.begin(&environment(all, None)).err().unwrap();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40));
        assert!(failure.message.starts_with(place), "{}", failure.message);
    }
    let good = tenant.sets.clone();
    for (field, value, by_name, by_default) in [
        ("/spec/namespaceUid", json!("another"), "ForeignBackupSet", "NoBaseline"),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), "BackupSetTerminating", "NoBaseline"),
        ("/metadata/name", json!("other"), "BackupSetNotFound", ""),
        ("/spec/repository/name", json!("other"), "ForeignBackupSet", "NoBaseline"),
        ("/spec/snapshot", json!("0".repeat(64)), "SnapshotNotFound", "SnapshotNotFound"),
    ] {
        tenant.sets.clone_from(&good);
        tenant.change_set(|set| {
            set["metadata"]["deletionTimestamp"] = Value::Null;
            *set.pointer_mut(field).unwrap() = value;
        });
        let failure = tenant.run(json!({"baseline": {"backupSet": "base"}})).await.unwrap_err();
        assert_eq!(failure.reason, by_name, "{field}");
        if !by_default.is_empty() {
            assert_eq!(tenant.run(json!({})).await.unwrap_err().reason, by_default, "{field}");
        }
    }
    assert_eq!(tenant.findings(), Vec::<String>::new());
}
