//! Captures of many objects: those that a BulkOperationRun names, and nothing else.

use super::{
    api::{Api, NAMESPACE, object, objects},
    support::{Pod, environment},
};
use serde_json::{Value, json};
use tenantatlas::{
    api::{OperationRun, Outcome, result::TerminationResult},
    clock::SystemClock,
    operations::{bulk_capture::read_scope, capture::capture_scope},
    providers::kubernetes::Kubernetes,
    repository::WriterPermit,
    worker::failure::Failure,
};

/// The inputs that the operator gives a run of these objects.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn inputs(selection: Value) -> Value {
    let bulk = json!({"name": "keep", "uid": "keep-uid"});
    json!({"repository": "main", "bulkOperationRun": bulk, "selection": selection})
}

async fn captured(pod: &Pod, api: &Api, selection: Value) -> Result<TerminationResult, Failure> {
    let environment = environment(inputs(selection), None);
    let scope = read_scope(&environment)?;
    let (repository, client) = (pod.repository().await?, api.client());
    let provider = Kubernetes::new(&client, NAMESPACE);
    let run: OperationRun = serde_json::from_value(api.run()).unwrap();
    let permit = WriterPermit::without_maintenance();
    capture_scope(&provider, &client, (&environment, &scope), &repository, &run, &SystemClock, permit).await
}

fn counts(result: &TerminationResult) -> (i64, i64, i64) {
    let counts = result.summary_counts.unwrap();
    (counts.succeeded, counts.failed, counts.skipped)
}

#[tokio::test]
async fn the_named_objects_are_captured_and_a_name_that_does_not_exist_fails_alone() {
    let (pod, api) = (Pod::new(), Api::new());
    api.serve_config_maps(objects(4));
    api.serve("", "v1", "Secret", "secrets", vec![object("item-00001")]);
    let selection = json!({"includeKinds": ["ConfigMap"], "includeNames": ["item-00001", "item-00003", "gone"]});
    let result = captured(&pod, &api, selection).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (2, 1, 0)));
    let failure = &result.failures[0];
    assert_eq!((failure.item_id.as_str(), failure.reason_code.as_str()), ("core/ConfigMap/gone", "NotFound"));
    assert!(failure.message.contains("correct spec.items in a new bulk operation"), "{}", failure.message);
    let paths = pod.paths().await;
    let objects: Vec<&String> = paths.iter().filter(|path| path.contains("/item-")).collect();
    assert_eq!(objects, ["core/v1/ConfigMap/item-00001.json", "core/v1/ConfigMap/item-00003.json"]);
    assert!(!api.requests().iter().any(|request| request.contains("/secrets")), "{:?}", api.requests());
    assert!(api.audit().is_empty() && api.writes().is_empty(), "nothing of the tenant is written");
}

#[tokio::test]
async fn objects_with_the_labels_are_captured_and_labels_that_nothing_has_leave_no_snapshot() {
    let (pod, api) = (Pod::new(), Api::new());
    let mut labelled = object("labelled");
    labelled["metadata"]["labels"] = json!({"app": "web"});
    api.serve_config_maps(vec![labelled, object("other")]);
    let of = |labels: &str| json!({"includeKinds": ["ConfigMap"], "labelSelector": labels});
    let failure = captured(&pod, &api, of("app=none")).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("NothingSelected", 40), "{failure}");
    assert!(failure.message.starts_with("correct spec.labelSelector in a new bulk operation"), "{failure}");
    assert_eq!(pod.snapshots().await, 0);
    let result = captured(&pod, &api, of("app=web")).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (1, 0, 0)));
    assert_eq!(pod.paths().await, ["core/v1/ConfigMap/labelled.json"]);
}

#[test]
fn a_selection_that_means_more_than_objects_of_one_kind_is_refused_before_anything_is_opened() {
    for selection in [
        json!({}),
        json!({"includeKinds": ["ConfigMap"]}),
        json!({"includeNames": ["a"]}),
        json!({"includeKinds": ["ConfigMap", "Secret"], "includeNames": ["a"]}),
    ] {
        let failure = read_scope(&environment(inputs(selection.clone()), None)).unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("InvalidInputs", 40), "{failure}");
        assert!(failure.message.contains("objects of one kind"), "{selection}: {failure}");
    }
}
