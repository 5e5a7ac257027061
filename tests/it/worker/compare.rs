//! Comparisons of backup sets that were captured into a real repository.

use super::{
    api::{Api, NAMESPACE, object, objects, refusal},
    restore::{counts, deployment},
    support::{Pod, environment},
};
use crate::repository::support::faults::{Fault, Request};
use serde_json::{Value, json};
use std::{collections::BTreeSet, io::ErrorKind};
use tenantatlas::{
    api::{Outcome, comparison::Compared, result::TerminationResult},
    operations::compare,
    worker::failure::Failure,
};

/// A tenant, and the backup sets that were captured of it.
pub struct Tenant {
    pub api: Api,
    pub pod: Pod,
    pub sets: Vec<Value>,
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
impl Tenant {
    /// Three ConfigMaps, two Secrets and a Deployment, captured as `monday`.
    pub async fn on_monday() -> Self {
        let api = Api::new();
        api.serve_config_maps(objects(3));
        let secret = |name: &str| json!({"metadata": object(name)["metadata"], "type": "Opaque", "data": {"password": "aHVudGVyMg=="}});
        api.serve("", "v1", "Secret", "secrets", vec![secret("a"), secret("b")]);
        api.serve("apps", "v1", "Deployment", "deployments", vec![deployment("web", "web:1")]);
        let mut tenant = Self { api, pod: Pod::new(), sets: Vec::new() };
        tenant.capture("monday", json!({}), "full").await;
        tenant
    }

    /// Captures a selection as a set.
    pub async fn capture(&mut self, name: &str, selection: Value, coverage: &str) {
        let mut environment = environment(json!({"repository": "main", "selection": selection}), None);
        environment.identity.run_uid = format!("run-of-{name}");
        let captured = self.pod.capture_in(&self.api, environment).await.unwrap().context.snapshot.unwrap();
        self.add_set(name, &captured.id, json!({"selection": selection, "coverage": coverage}));
    }

    pub fn add_set(&mut self, name: &str, snapshot: &str, spec: Value) {
        let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"repository": {"name": "main"}, "snapshot": snapshot, "run": {"name": name, "uid": "u"}, "namespaceUid": "namespace-uid"}});
        for (field, value) in spec.as_object().cloned().unwrap() {
            set["spec"][field] = value;
        }
        self.sets.push(set);
        self.api.list("BackupSet", self.sets.clone());
    }

    pub fn change_set(&mut self, name: &str, change: impl FnOnce(&mut Value)) {
        change(self.sets.iter_mut().find(|set| set["metadata"]["name"] == name).unwrap());
        self.api.list("BackupSet", self.sets.clone());
    }

    /// Tuesday: a ConfigMap is gone, one changed, one is new, the Secret `a` and the Deployment changed, and of the
    /// ConfigMap `item-00002` only the status.
    pub async fn on_tuesday() -> Self {
        let mut tenant = Self::on_monday().await;
        tenant.api.serve_config_maps(vec![object("item-00001"), object("item-00002"), object("new")]);
        tenant.api.change("ConfigMap", "item-00001", |object| object["data"] = json!({"key": "changed"}));
        tenant.api.change("ConfigMap", "item-00002", |object| object["status"] = json!({"seen": true}));
        tenant.api.change("Secret", "a", |object| object["data"]["password"] = json!("c2VjcmV0"));
        tenant.api.change("Deployment", "web", |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("web:2");
        });
        tenant.capture("tuesday", json!({}), "full").await;
        tenant
    }

    async fn compare(&self, from: &str, to: Option<&str>) -> Result<TerminationResult, Failure> {
        self.api.forget_reports();
        let mut inputs = json!({"repository": "main", "from": from});
        if let Some(to) = to {
            inputs["to"] = json!(to);
        }
        let repository = self.pod.repository().await?;
        compare::compare(&self.api.client(), &environment(inputs, None), &repository).await
    }

    /// The rows of the reports.
    fn rows(&self) -> Vec<Value> {
        let reports = self.api.reports();
        reports
            .values()
            .flat_map(|report| report["spec"]["differences"].as_array().cloned().unwrap_or_default())
            .collect()
    }

    /// `item: change reason` of each row.
    fn differences(&self) -> Vec<String> {
        let text = |row: &Value| {
            let reason = row["reason"]["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{}: {}{reason}", row["itemId"].as_str().unwrap(), row["change"].as_str().unwrap())
        };
        self.rows().iter().map(text).collect()
    }
}

fn compared(result: &TerminationResult) -> Compared {
    counts(result);
    result.context.compared.clone().unwrap()
}

#[tokio::test]
async fn what_was_added_removed_and_changed_is_reported_with_diffs_and_no_secret_value() {
    let tenant = Tenant::on_tuesday().await;
    let result = tenant.compare("monday", Some("tuesday")).await.unwrap();
    assert_eq!(
        tenant.differences(),
        [
            "apps/Deployment/web: changed",
            "core/ConfigMap/item-00000: removed",
            "core/ConfigMap/item-00001: changed",
            "core/ConfigMap/new: added",
            "core/Secret/a: changed",
        ]
    );
    let found = compared(&result);
    assert_eq!((found.added, found.removed, found.changed), (1, 1, 3));
    assert_eq!((found.status_only, found.same, found.not_compared), (1, 1, 0));
    assert_eq!(counts(&result).total, 7);
    assert_eq!(found.kinds[0].kind, "ConfigMap");
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    let diffs: Vec<Value> = tenant.rows().iter().map(|row| row["diff"].clone()).collect();
    assert_eq!(diffs[0], "~ spec.template.spec.containers[web].image: \"web:1\" -> \"web:2\"\n");
    assert!(diffs[4].as_str().unwrap().starts_with("~ data.password: hmac:"), "{}", diffs[4]);
    assert_eq!(diffs[1], Value::Null);
    let everything = format!("{:?}{}", tenant.api.reports(), serde_json::to_string(&result).unwrap());
    for secret in ["aHVudGVyMg", "c2VjcmV0", "hunter2"] {
        assert!(!everything.contains(secret), "{secret} in {everything}");
    }
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
    let read = tenant.api.requests();
    assert!(read.iter().all(|request| !request.contains("/configmaps") || request.starts_with("GET")), "{read:?}");
}

#[tokio::test]
async fn the_other_way_round_the_same_items_differ_the_other_way() {
    let tenant = Tenant::on_tuesday().await;
    let there = compared(&tenant.compare("monday", Some("tuesday")).await.unwrap());
    let rows: BTreeSet<String> = tenant.differences().into_iter().collect();
    let back = compared(&tenant.compare("tuesday", Some("monday")).await.unwrap());
    assert_eq!((there.added, there.removed, there.changed), (back.removed, back.added, back.changed));
    assert_eq!((there.same, there.status_only), (back.same, back.status_only));
    let mirror = |row: &String| match row.rsplit_once(": ").unwrap() {
        (item, "added") => format!("{item}: removed"),
        (item, "removed") => format!("{item}: added"),
        _ => row.clone(),
    };
    assert_eq!(tenant.differences().iter().map(mirror).collect::<BTreeSet<_>>(), rows);
}

#[tokio::test]
async fn two_sets_of_the_same_state_do_not_differ_and_nothing_of_their_items_is_read() {
    let mut tenant = Tenant::on_monday().await;
    tenant.capture("again", json!({}), "full").await;
    // The first blob of a pack is the content of an item, or the files of a kind.
    for pack in tenant.pod.packs() {
        let good = std::fs::read(&pack).unwrap();
        std::fs::write(&pack, rotten(&good)).unwrap();
        let result = tenant.compare("monday", Some("again")).await.unwrap();
        let found = compared(&result);
        assert_eq!((found.same, counts(&result).total, found.kinds.len()), (6, 6, 0));
        assert_eq!(tenant.differences(), Vec::<String>::new());
        std::fs::write(&pack, good).unwrap();
    }
    let failure = tenant.compare("monday", Some("monday")).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40));
}

#[tokio::test]
async fn without_a_second_set_the_items_of_the_first_are_listed() {
    let tenant = Tenant::on_tuesday().await;
    let result = tenant.compare("monday", None).await.unwrap();
    let found = compared(&result);
    assert_eq!((found.listed, found.same, counts(&result).succeeded), (6, 0, 6));
    let listed = tenant.differences();
    assert_eq!((listed.len(), listed[0].as_str()), (6, "apps/Deployment/web: listed"));
    assert_eq!(result.message.as_deref(), Some("monday holds 6 items of 3 kinds"));
}

#[tokio::test]
async fn what_a_partial_set_does_not_select_is_neither_added_nor_removed() {
    let mut tenant = Tenant::on_tuesday().await;
    tenant.capture("maps", json!({"includeKinds": ["ConfigMap"]}), "partial").await;
    let result = tenant.compare("tuesday", Some("maps")).await.unwrap();
    assert_eq!((compared(&result).not_compared, compared(&result).same), (3, 3));
    tenant.api.serve_config_maps(vec![object("item-00001"), object("item-00002")]);
    tenant.capture("later", json!({"includeKinds": ["ConfigMap"]}), "partial").await;
    let result = tenant.compare("monday", Some("later")).await.unwrap();
    assert_eq!(
        tenant.differences(),
        [
            "apps/Deployment/web: not_compared OutsideSelection",
            "core/ConfigMap/item-00000: removed",
            "core/Secret/a: not_compared OutsideSelection",
            "core/Secret/b: not_compared OutsideSelection",
        ]
    );
    assert_eq!((compared(&result).not_compared, counts(&result).skipped), (3, 3));
    let message = result.message.unwrap();
    assert!(
        message.contains("3 not compared") && message.ends_with("later does not hold the whole tenant"),
        "{message}"
    );
    // A set of which items failed says of nothing that it did not exist.
    tenant.change_set("tuesday", |set| set["spec"]["coverage"] = json!("partial"));
    let result = tenant.compare("monday", Some("tuesday")).await.unwrap();
    assert_eq!((compared(&result).removed, compared(&result).added, compared(&result).not_compared), (0, 1, 1));
}

#[tokio::test]
async fn a_kind_that_could_not_be_captured_was_not_removed() {
    let mut tenant = Tenant::on_monday().await;
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![object("w")]);
    tenant.capture("with", json!({}), "full").await;
    tenant.api.fail(|uri, _| uri.path().ends_with("/widgets").then(|| refusal(403, "Forbidden")));
    tenant.capture("without", json!({}), "full").await;
    let result = tenant.compare("with", Some("without")).await.unwrap();
    assert_eq!(tenant.differences(), ["example.com/Widget/w: not_compared NotCaptured"]);
    assert_eq!((compared(&result).same, counts(&result).total), (6, 7));
    tenant.compare("without", Some("with")).await.unwrap();
    assert_eq!(tenant.differences(), ["example.com/Widget/w: not_compared NotCaptured"]);
}

#[tokio::test]
async fn an_item_in_another_version_of_its_kind_is_not_compared() {
    let mut tenant = Tenant::on_monday().await;
    let serve = |api: &Api, version: &str, names: [&str; 2]| {
        let objects = names.map(object).into();
        api.serve("autoscaling", version, "HorizontalPodAutoscaler", "horizontalpodautoscalers", objects);
    };
    serve(&tenant.api, "v1", ["a", "gone"]);
    tenant.capture("old", json!({}), "full").await;
    // After an upgrade of the cluster.
    let upgraded = Api::new();
    upgraded.serve_config_maps(objects(3));
    serve(&upgraded, "v2", ["a", "b"]);
    for (group, kind, plural) in [("", "Secret", "secrets"), ("apps", "Deployment", "deployments")] {
        upgraded.serve(group, "v1", kind, plural, tenant.api.objects_of(kind));
    }
    tenant.api = upgraded;
    tenant.capture("new", json!({}), "full").await;
    tenant.compare("old", Some("new")).await.unwrap();
    let scaler = "autoscaling/HorizontalPodAutoscaler";
    assert_eq!(
        tenant.differences(),
        [
            format!("{scaler}/a: not_compared OtherVersion"),
            format!("{scaler}/b: added"),
            format!("{scaler}/gone: removed"),
        ]
    );
}

#[tokio::test]
async fn values_of_a_kind_that_readers_of_reports_may_not_read_are_withheld() {
    let tenant = Tenant::on_tuesday().await;
    tenant.api.let_readers_read(&json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]));
    tenant.compare("monday", Some("tuesday")).await.unwrap();
    let rows = tenant.rows();
    let diff = |item: &str| rows.iter().find(|row| row["itemId"] == item).unwrap()["diff"].as_str().unwrap().to_owned();
    assert!(diff("core/ConfigMap/item-00001").contains("changed"));
    let hidden = diff("apps/Deployment/web");
    assert!(hidden.starts_with("~ spec: hmac:") && !hidden.contains("web:"), "{hidden}");
}

#[tokio::test]
async fn a_set_that_cannot_be_compared_says_why() {
    let mut tenant = Tenant::on_tuesday().await;
    let failed = async |tenant: &Tenant| {
        let failure = tenant.compare("monday", Some("tuesday")).await.unwrap_err();
        assert!(tenant.rows().is_empty(), "nothing is reported");
        (failure.reason.clone(), failure.to_result().outcome.unwrap(), failure.message)
    };
    let good = tenant.sets.clone();
    let code = |failed: (String, Outcome, String)| (failed.0, failed.1);
    let blocked = |code: &str| (code.to_owned(), Outcome::Blocked);
    tenant.change_set("tuesday", |set| set["metadata"]["name"] = json!("wednesday"));
    assert_eq!(code(failed(&tenant).await), blocked("BackupSetNotFound"));
    for (field, value, expected) in [
        ("/spec/repository/name", json!("another"), "ForeignBackupSet"),
        ("/spec/namespaceUid", json!("another"), "ForeignBackupSet"),
        ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), "BackupSetTerminating"),
        ("/spec/content", json!("Inventory"), "BackupSetIsInventory"),
    ] {
        tenant.sets.clone_from(&good);
        tenant.change_set("tuesday", |set| {
            set["metadata"]["deletionTimestamp"] = Value::Null;
            set["spec"]["content"] = json!("Objects");
            *set.pointer_mut(field).unwrap() = value;
        });
        assert_eq!(code(failed(&tenant).await), blocked(expected), "{field}");
    }
    tenant.sets.clone_from(&good);
    tenant.change_set("tuesday", |set| set["spec"]["snapshot"] = json!("0".repeat(64)));
    let (reason, outcome, message) = failed(&tenant).await;
    assert_eq!((reason.as_str(), outcome), ("SnapshotNotFound", Outcome::Failed));
    assert!(message.starts_with("backup set tuesday: "), "{message}");
}

#[tokio::test]
async fn a_set_of_an_adopted_namespace_is_compared_as_it_is_restored() {
    let mut tenant = Tenant::on_tuesday().await;
    tenant.change_set("monday", |set| set["spec"]["namespaceUid"] = json!("lost"));
    let mut environment = environment(json!({"repository": "main", "from": "monday", "to": "tuesday"}), None);
    environment.repository_spec.adopt = serde_json::from_value(json!({"namespaceUids": ["lost"]})).unwrap();
    let repository = tenant.pod.repository().await.unwrap();
    let result = compare::compare(&tenant.api.client(), &environment, &repository).await.unwrap();
    assert_eq!(compared(&result).changed, 3);
}

#[tokio::test]
async fn damage_is_told_of_an_item_or_of_a_set_and_a_store_that_fails_is_tried_again() {
    let tenant = Tenant::on_tuesday().await;
    let (mut sets, mut items) = (0, 0);
    for pack in tenant.pod.packs() {
        let good = std::fs::read(&pack).unwrap();
        std::fs::write(&pack, rotten(&good)).unwrap();
        match tenant.compare("monday", Some("tuesday")).await {
            Err(failure) => {
                assert_eq!((failure.reason.as_str(), failure.exit_code()), ("Damaged", 40));
                assert!(failure.message.starts_with("backup set "), "{failure}");
                sets += 1;
            }
            Ok(result) if compared(&result).unreadable > 0 => {
                assert_eq!(result.outcome, Some(Outcome::PartiallySucceeded));
                assert_eq!(result.failures[0].reason_code, "Unreadable");
                assert!(tenant.differences().iter().any(|row| row.ends_with(": unreadable Unreadable")));
                items += 1;
            }
            Ok(_) => {}
        }
        std::fs::write(&pack, good).unwrap();
    }
    assert!(sets > 0 && items > 0, "{sets} and {items}");
    let times_out = |request, path: &str| {
        (request == Request::Get && path.starts_with("data/")).then_some(Fault::Io(ErrorKind::TimedOut))
    };
    let repository = tenant.pod.repository_behind(times_out).await;
    let inputs = json!({"repository": "main", "from": "monday", "to": "tuesday"});
    let failure = compare::compare(&tenant.api.client(), &environment(inputs, None), &repository).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("StoreFailed", 1), "{failure}");
}

/// A pack of which a bit is another.
pub fn rotten(pack: &[u8]) -> Vec<u8> {
    let mut rotten = pack.to_vec();
    rotten[3] ^= 1;
    rotten
}
