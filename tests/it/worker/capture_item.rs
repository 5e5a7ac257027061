//! Captures of one object.

use super::{
    api::{Api, object, objects},
    support::{Pod, environment},
};
use serde_json::{Value, json};
use tenantatlas::{
    api::{OperationRun, Outcome, result::TerminationResult},
    clock::SystemClock,
    operations::{capture::capture_scope, capture_item::read_scope},
    providers::kubernetes::Kubernetes,
    repository::WriterPermit,
    worker::failure::Failure,
};

async fn captured(pod: &Pod, api: &Api, item: &str) -> Result<TerminationResult, Failure> {
    let environment = environment(json!({"repository": "main", "item": item}), None);
    let scope = read_scope(&environment)?;
    let repository = pod.repository().await?;
    let client = api.client();
    let provider = Kubernetes::new(&client, environment.identity.namespace.clone());
    let run: OperationRun = serde_json::from_value(api.run()).unwrap();
    let permit = WriterPermit::without_maintenance();
    capture_scope(&provider, &client, (&environment, &scope), &repository, &run, &SystemClock, permit).await
}

#[tokio::test]
async fn one_object_is_captured_and_nothing_else_is_listed() {
    let (pod, api) = (Pod::new(), Api::new());
    api.serve_config_maps(objects(3));
    api.serve("", "v1", "Secret", "secrets", vec![object("item-00001")]);
    let result = captured(&pod, &api, "core/ConfigMap/item-00001").await.unwrap();
    assert_eq!((result.outcome, result.summary_counts.unwrap().succeeded), (Some(Outcome::Succeeded), 1));
    assert_eq!(pod.paths().await, ["core/v1/ConfigMap/item-00001.json"]);
    assert!(!api.requests().iter().any(|request| request.contains("/secrets")), "{:?}", api.requests());
}

#[tokio::test]
async fn an_object_that_does_not_exist_fails_and_leaves_no_snapshot() {
    let (pod, api) = (Pod::new(), Api::new());
    api.serve_config_maps(objects(1));
    for (item, code, words) in [
        ("core/ConfigMap/none", "TargetNotFound", "core/ConfigMap/none does not exist"),
        ("example.com/Widget/a", "TargetNotCaptured", "KindNotServed"),
    ] {
        let failure = captured(&pod, &api, item).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), (code, 40), "{failure}");
        assert!(failure.message.contains(words), "{failure}");
    }
    assert_eq!(pod.snapshots().await, 0);
}

#[test]
fn what_is_no_object_that_can_be_captured_is_refused_before_anything_is_opened() {
    let refused = |inputs: Value, target: Option<Value>| {
        let failure = read_scope(&environment(inputs, target)).unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40), "{failure}");
        failure.message
    };
    for item in ["graph:core/ConfigMap/a", "core/ConfigMap/", "ConfigMap/a", "tenantatlas.io/BackupSet/a"] {
        let message = refused(json!({"repository": "main", "item": item}), None);
        assert!(message.contains("inputs.item"), "{message}");
    }
    let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "b"});
    let message = refused(json!({"repository": "main", "item": "core/ConfigMap/a"}), Some(target));
    assert!(message.contains("spec.target"), "{message}");
    assert!(refused(json!({"repository": "main"}), None).contains("item"));
}
