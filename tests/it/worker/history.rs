//! Histories of items over backup sets that were captured into a real repository.

use super::{
    api::{Api, NAMESPACE, object, objects, refusal},
    compare::{Tenant, rotten},
    restore::{counts, deployment},
    support::{environment, inputs_with},
};
use crate::repository::support::faults::{Fault, Request};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{Arc, Mutex},
};
use tenantatlas::{
    api::{OperationRun, Outcome, history::ItemHistory, result::TerminationResult},
    operations::history,
    repository::RusticRepository,
    worker::failure::Failure,
};

const MAP: &str = "core/ConfigMap/item-00001";

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
impl Tenant {
    /// Five days. The ConfigMap `item-00001` changes on Tuesday, is gone on Thursday and another one on Friday.
    async fn of_a_week() -> Self {
        let mut tenant = Self::on_tuesday().await;
        tenant.capture("wednesday", json!({}), "full").await;
        tenant.api.serve_config_maps(vec![object("item-00002")]);
        tenant.capture("thursday", json!({}), "full").await;
        tenant.api.serve_config_maps(vec![object("item-00001"), object("item-00002")]);
        tenant.api.change("ConfigMap", "item-00001", |object| object["metadata"]["uid"] = json!("another"));
        tenant.capture("friday", json!({}), "full").await;
        let bob = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": {"name": "r", "namespace": NAMESPACE, "uid": "u"},
            "spec": {"type": "backup.capture", "initiator": {"username": "bob"}}});
        tenant.api.list("OperationRun", vec![bob]);
        tenant
    }

    async fn history(&self, inputs: Value) -> Result<TerminationResult, Failure> {
        let repository = self.pod.repository().await?;
        self.history_in(&repository, "ada", inputs).await
    }

    async fn history_in(
        &self,
        repository: &RusticRepository,
        user: &str,
        inputs: Value,
    ) -> Result<TerminationResult, Failure> {
        self.api.forget_reports();
        let mut run: OperationRun = serde_json::from_value(self.api.run()).unwrap();
        run.spec.initiator = (!user.is_empty()).then(|| serde_json::from_value(json!({"username": user})).unwrap());
        history::history(&self.api.client(), &environment(inputs_with(inputs), None), repository, &run).await
    }

    fn versions(&self) -> Vec<Value> {
        let rows = |report: &Value| report["spec"]["versions"].as_array().cloned().unwrap_or_default();
        self.api.reports().values().flat_map(rows).collect()
    }

    /// `set change sets reason` of each row, earliest first.
    fn told(&self) -> Vec<String> {
        let text = |row: &Value| {
            let reason = row["reason"]["code"].as_str().map(|code| format!(" {code}")).unwrap_or_default();
            format!("{} {} {}{reason}", row["set"].as_str().unwrap(), row["change"].as_str().unwrap(), row["sets"])
        };
        self.versions().iter().rev().map(text).collect()
    }
}

fn found(result: &TerminationResult) -> ItemHistory {
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
    let history = *result.context.history.clone().unwrap();
    assert_eq!((counts(result).total, counts(result).skipped), (history.sets, history.unknown));
    history
}

#[tokio::test]
async fn each_version_is_told_with_the_set_that_first_had_it_who_asked_for_that_set_and_a_diff() {
    let tenant = Tenant::of_a_week().await;
    let result = tenant.history(json!({"item": MAP})).await.unwrap();
    assert_eq!(tenant.told(), ["monday earliest 1", "tuesday changed 2", "thursday deleted 1", "friday created 1"]);
    let history = found(&result);
    assert_eq!((history.versions, history.deletions, history.sets, history.unknown), (3, 1, 5, 0));
    let since = history.since.clone().unwrap();
    assert_eq!((since.set.as_str(), since.run.as_str(), since.initiator.as_deref()), ("friday", "friday", Some("bob")));
    assert_eq!((history.first.unwrap().set.as_str(), history.last.unwrap().set.as_str()), ("monday", "friday"));
    let rows = tenant.versions();
    assert_eq!(rows[2]["diff"], "+ data.key: \"changed\"\n- data.of: \"item-00001\"\n");
    assert_eq!(
        (&rows[2]["after"], &rows[2]["initiator"], &rows[2]["apiVersion"]),
        (&json!("monday"), &json!("bob"), &json!("v1"))
    );
    assert_eq!((&rows[1]["after"], &rows[1]["apiVersion"]), (&json!("wednesday"), &Value::Null));
    let message = result.message.unwrap();
    assert!(
        message.starts_with(&format!("{MAP}: 3 versions and 1 deletion in 5 backup sets; as it is since friday (")),
        "{message}"
    );
    assert_eq!(tenant.api.writes(), Vec::<String>::new());
}

#[tokio::test]
async fn an_item_that_never_changed_has_one_version_and_one_that_no_set_holds_has_none() {
    let tenant = Tenant::of_a_week().await;
    let history = found(&tenant.history(json!({"item": "core/ConfigMap/item-00002"})).await.unwrap());
    assert_eq!(tenant.told(), ["monday earliest 5"], "the status does not count");
    assert_eq!((history.versions, history.since.unwrap().set.as_str()), (1, "monday"));
    let result = tenant.history(json!({"item": "core/ConfigMap/none"})).await.unwrap();
    assert_eq!((found(&result).versions, tenant.told()), (0, Vec::new()));
    assert!(result.message.unwrap().contains("no backup set of 5 backup sets is known to hold core/ConfigMap/none"));
}

#[tokio::test]
async fn only_sets_of_the_asked_time_are_looked_at() {
    let tenant = Tenant::of_a_week().await;
    tenant.history(json!({"item": MAP})).await.unwrap();
    let time = |set: &str| {
        let rows = tenant.versions();
        rows.iter().find(|row| row["set"] == set).unwrap()["time"].as_str().unwrap().to_owned()
    };
    let (tuesday, thursday) = (time("tuesday"), time("thursday"));
    let history = found(&tenant.history(json!({"item": MAP, "from": tuesday, "to": thursday})).await.unwrap());
    assert_eq!(tenant.told(), ["tuesday earliest 2", "thursday deleted 1"]);
    assert_eq!((history.sets, history.since), (3, None));
    let history = found(&tenant.history(json!({"item": MAP, "to": "2000-01-01T00:00:00Z"})).await.unwrap());
    assert_eq!((history.sets, tenant.told()), (0, Vec::new()));
}

#[tokio::test]
async fn of_a_field_it_is_told_since_when_it_has_its_value_and_when_it_changed() {
    let mut tenant = Tenant::on_tuesday().await;
    tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(5));
    tenant.capture("wednesday", json!({}), "full").await;
    let of = async |path: &str| {
        let result = tenant.history(json!({"item": "apps/Deployment/web", "path": path})).await.unwrap();
        let since = found(&result).since.map(|since| since.set);
        (tenant.told(), since, result.message.unwrap())
    };
    let image = "/spec/template/spec/containers/0/image";
    let (rows, since, message) = of(image).await;
    assert_eq!(
        (rows, since.as_deref()),
        (vec!["monday earliest 1".to_owned(), "tuesday changed 2".into()], Some("tuesday"))
    );
    assert!(message.starts_with(&format!("{image} of apps/Deployment/web: 2 versions")), "{message}");
    let (rows, since, _) = of("/spec/replicas").await;
    assert_eq!(
        (rows, since.as_deref()),
        (vec!["monday earliest 2".to_owned(), "wednesday changed 1".into()], Some("wednesday"))
    );
    assert_eq!(tenant.versions()[0]["diff"], "~ spec.replicas: 2 -> 5\n");
    for nothing in ["/spec/none", "/status/replicas", "/metadata/uid"] {
        let (rows, since, message) = of(nothing).await;
        assert_eq!((rows, since), (vec!["monday earliest 3".to_owned()], None), "{nothing}");
        assert!(message.contains("no version has the field"), "{message}");
    }
}

#[tokio::test]
async fn values_of_a_secret_are_hashes_everywhere_and_of_kinds_that_are_not_shown_there_are_none() {
    let tenant = Tenant::on_tuesday().await;
    for inputs in [json!({"item": "core/Secret/a"}), json!({"item": "core/Secret/a", "path": "/data/password"})] {
        let result = tenant.history(inputs).await.unwrap();
        assert_eq!(tenant.told(), ["monday earliest 1", "tuesday changed 1"]);
        let diff = tenant.versions()[0]["diff"].as_str().unwrap().to_owned();
        assert!(diff.starts_with("~ data.password: hmac:"), "{diff}");
        let everything = format!("{:?}{}", tenant.api.reports(), serde_json::to_string(&result).unwrap());
        for secret in ["aHVudGVyMg", "c2VjcmV0", "hunter2"] {
            assert!(!everything.contains(secret), "{secret} in {everything}");
        }
    }
    tenant.api.let_readers_read(&json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]));
    let deployment = "apps/Deployment/web";
    let deep = json!({"item": deployment, "path": "/spec/replicas"});
    let history = found(&tenant.history(deep).await.unwrap());
    assert_eq!(history.path.as_deref(), Some("/spec"), "which field within changed is not shown, either");
    assert_eq!(tenant.told(), ["monday earliest 1", "tuesday changed 1"]);
    let diff = tenant.versions()[0]["diff"].as_str().unwrap().to_owned();
    assert!(diff.starts_with("~ spec: hmac:") && !diff.contains("web:"), "{diff}");
}

#[tokio::test]
async fn who_may_not_get_the_kind_now_is_told_nothing_and_no_item_is_read() {
    let tenant = Tenant::on_tuesday().await;
    tenant.api.deny("eve", "get", "secrets");
    let reads = Arc::new(Mutex::new(0));
    let counted = reads.clone();
    let count = move |request, path: &str| {
        if request == Request::Get && path.starts_with("data/") {
            *counted.lock().unwrap() += 1;
        }
        None
    };
    let repository = tenant.pod.repository_behind(count).await;
    let secret = json!({"item": "core/Secret/a"});
    let failure = tenant.history_in(&repository, "eve", secret.clone()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.to_result().outcome), ("RequesterForbidden", Some(Outcome::Blocked)));
    assert!(failure.message.starts_with("eve may not get secrets in "), "{failure}");
    assert!(failure.to_result().context.is_empty() && tenant.versions().is_empty());
    assert_eq!(*reads.lock().unwrap(), 0);
    let failure = tenant.history_in(&repository, "", secret.clone()).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.to_result().outcome), ("NoRequester", Some(Outcome::Blocked)));
    tenant.history_in(&repository, "eve", json!({"item": MAP})).await.unwrap();
    tenant.history_in(&repository, "ada", secret).await.unwrap();
    assert!(*reads.lock().unwrap() > 0);
    let gone = tenant.history(json!({"item": "example.com/Widget/a"})).await.unwrap_err();
    assert_eq!((gone.reason.as_str(), gone.to_result().outcome), ("KindNotServed", Some(Outcome::Blocked)));
}

#[tokio::test]
async fn a_set_that_cannot_tell_is_neither_a_version_nor_a_deletion_and_says_why() {
    let mut tenant = Tenant::on_monday().await;
    tenant.api.serve("example.com", "v1", "Widget", "widgets", vec![object("w")]);
    tenant.capture("with", json!({}), "full").await;
    tenant.capture("maps", json!({"includeKinds": ["ConfigMap"]}), "partial").await;
    tenant.api.fail(|uri, _| uri.path().ends_with("/widgets").then(|| refusal(403, "Forbidden")));
    tenant.capture("without", json!({}), "full").await;
    tenant.api.fail(|_, _| None);
    tenant.capture("again", json!({}), "full").await;
    tenant.change_set("monday", |set| set["spec"]["content"] = json!("Inventory"));
    let history = found(&tenant.history(json!({"item": "example.com/Widget/w"})).await.unwrap());
    assert_eq!(tenant.told(), ["with earliest 2", "maps unknown 1 OutsideSelection", "without unknown 1 NotCaptured"]);
    assert_eq!((history.versions, history.deletions, history.sets, history.unknown), (1, 0, 4, 2));
    // A set that undoes a restore names what did not exist.
    let snapshot = tenant.sets[2]["spec"]["snapshot"].as_str().unwrap().to_owned();
    let undo = json!({"coverage": "partial", "absent": ["core/Secret/x", "example.com/Widget/w"]});
    tenant.sets.remove(2);
    tenant.add_set("undo", &snapshot, undo);
    tenant.history(json!({"item": "example.com/Widget/w"})).await.unwrap();
    assert_eq!(
        tenant.told(),
        ["with earliest 1", "undo deleted 1", "without unknown 1 NotCaptured", "again created 1"]
    );
}

#[tokio::test]
async fn sets_of_another_repository_or_namespace_are_not_looked_at_and_one_without_its_snapshot_cannot_tell() {
    let mut tenant = Tenant::of_a_week().await;
    tenant.change_set("tuesday", |set| set["spec"]["repository"]["name"] = json!("another"));
    tenant.change_set("wednesday", |set| set["spec"]["namespaceUid"] = json!("another"));
    tenant.change_set("friday", |set| set["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
    let history = found(&tenant.history(json!({"item": MAP})).await.unwrap());
    assert_eq!((history.sets, tenant.told()), (2, vec!["monday earliest 1".to_owned(), "thursday deleted 1".into()]));
    tenant.change_set("thursday", |set| {
        set["spec"]["snapshot"] = json!("0".repeat(64));
        set["metadata"]["creationTimestamp"] = json!("2126-01-01T00:00:00Z");
    });
    let history = found(&tenant.history(json!({"item": MAP})).await.unwrap());
    assert_eq!(
        (history.unknown, tenant.told()),
        (1, vec!["monday earliest 1".to_owned(), "thursday unknown 1 Unreadable".into()])
    );
}

#[tokio::test]
async fn an_item_in_another_version_of_its_kind_is_said_to_be_and_is_no_change() {
    let mut tenant = Tenant::on_monday().await;
    let serve = |api: &Api, version: &str| {
        api.serve("autoscaling", version, "HorizontalPodAutoscaler", "horizontalpodautoscalers", vec![object("a")]);
    };
    serve(&tenant.api, "v1");
    tenant.capture("old", json!({}), "full").await;
    let upgraded = Api::new();
    upgraded.serve_config_maps(objects(3));
    upgraded.serve("apps", "v1", "Deployment", "deployments", vec![deployment("web", "web:1")]);
    serve(&upgraded, "v2");
    tenant.api = upgraded;
    tenant.capture("new", json!({}), "full").await;
    let history = found(&tenant.history(json!({"item": "autoscaling/HorizontalPodAutoscaler/a"})).await.unwrap());
    assert_eq!(tenant.told(), ["old created 1", "new converted 1"]);
    assert_eq!((history.versions, history.since.unwrap().set.as_str()), (1, "old"));
    assert_eq!(tenant.versions()[0]["apiVersion"], "autoscaling/v2");
}

#[tokio::test]
async fn a_tree_that_several_sets_have_is_read_once_and_so_is_equal_content() {
    let mut tenant = Tenant::on_monday().await;
    // The packs that are kept in memory are fewer than these captures make.
    for day in 0..12 {
        tenant.api.change("Deployment", "web", |object| object["spec"]["replicas"] = json!(100 + day));
        tenant.api.change("ConfigMap", "item-00000", |object| object["data"] = json!({"day": day}));
        tenant.capture(&format!("day-{day:02}"), json!({}), "full").await;
    }
    let packs = tenant.pod.packs().len();
    assert!(packs > 20, "{packs}");
    let reads: Arc<Mutex<BTreeMap<String, usize>>> = Arc::default();
    let counted = reads.clone();
    let count = move |request, path: &str| {
        if request == Request::Get && path.starts_with("data/") {
            *counted.lock().unwrap().entry(path.to_owned()).or_default() += 1;
        }
        None
    };
    let repository = tenant.pod.repository_behind(count).await;
    let history = found(&tenant.history_in(&repository, "ada", json!({"item": MAP})).await.unwrap());
    assert_eq!((history.versions, history.sets, tenant.told()), (1, 13, vec!["monday earliest 13".to_owned()]));
    let of_map = std::mem::take(&mut *reads.lock().unwrap());
    assert!(of_map.values().all(|times| *times == 1), "{of_map:?}");
    // Nothing of Secrets changed: beside the roots of the snapshots, which are in a pack each, two packs are read.
    let secret = found(&tenant.history_in(&repository, "ada", json!({"item": "core/Secret/b"})).await.unwrap());
    assert_eq!((secret.versions, secret.sets), (1, 13));
    let of_secret = reads.lock().unwrap().clone();
    assert!(of_secret.values().all(|times| *times == 1) && of_secret.len() <= 14, "{of_secret:?}");
}

#[tokio::test]
async fn damage_is_that_of_a_set_and_a_store_that_fails_is_tried_again() {
    let tenant = Tenant::of_a_week().await;
    let whole = found(&tenant.history(json!({"item": MAP})).await.unwrap());
    let mut unknown = 0;
    for pack in tenant.pod.packs() {
        let good = std::fs::read(&pack).unwrap();
        std::fs::write(&pack, rotten(&good)).unwrap();
        let history = found(&tenant.history(json!({"item": MAP})).await.unwrap());
        assert!(history.versions <= whole.versions && history.deletions <= whole.deletions, "{history:?}");
        assert_eq!(tenant.told().iter().filter(|row| row.ends_with("Unreadable")).count() > 0, history.unknown > 0);
        unknown += history.unknown;
        std::fs::write(&pack, good).unwrap();
    }
    assert!(unknown > 0);
    let times_out = |request, path: &str| {
        (request == Request::Get && path.starts_with("data/")).then_some(Fault::Io(ErrorKind::TimedOut))
    };
    let repository = tenant.pod.repository_behind(times_out).await;
    let failure = tenant.history_in(&repository, "ada", json!({"item": MAP})).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("StoreFailed", 1), "{failure}");
    assert!(tenant.versions().is_empty());
}

#[tokio::test]
async fn inputs_that_name_no_object_no_time_and_no_field_are_refused() {
    let tenant = Tenant::on_monday().await;
    for (inputs, words) in [
        (json!({"item": "ConfigMap/a"}), "inputs.item"),
        (json!({"item": "core/ConfigMap/"}), "inputs.item"),
        (json!({"item": "graph:core/ConfigMap/a"}), "inputs.item"),
        (json!({"item": "core/../a"}), "inputs.item"),
        (json!({"item": MAP, "from": "monday"}), "inputs.from"),
        (json!({"item": MAP, "from": "2026-02-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}), "inputs.from"),
        (json!({"item": MAP, "path": "spec.replicas"}), "inputs.path"),
        (json!({"item": MAP, "pth": "/spec"}), "pth"),
    ] {
        let failure = tenant.history(inputs.clone()).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40), "{inputs}");
        assert!(failure.message.contains(words), "{failure}");
    }
}
