//! Exports of many objects: no more than their author may read, once, and never a Secret.

use super::{
    api::{Api, NAMESPACE, RUN, RUN_UID, object, refusal},
    bulk::{codes, counts, labelled},
    support::environment,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use tenantatlas::{
    api::{Outcome, operations::BulkInputs, result::TerminationResult},
    operations::bulk_export::export_from,
    providers::kubernetes::Kubernetes,
    worker::failure::Failure,
};

/// Orders an export of the labelled ConfigMaps, or of what the fields say.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn order(api: &Api, fields: Value) {
    let mut spec = json!({"resource": {"kind": "ConfigMap"}, "action": "export", "labelSelector": "app=web",
        "parallelism": 4, "requestedBy": {"username": "ada"}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let bulk = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun",
        "metadata": {"name": "many", "namespace": NAMESPACE, "uid": "bulk-uid", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec, "status": {"phase": "running", "operationRun": {"name": RUN, "uid": RUN_UID}}});
    api.record("bulkoperationruns", "many", bulk);
}

/// One attempt of a worker.
async fn attempt(api: &Api) -> Result<TerminationResult, Failure> {
    let inputs: BulkInputs =
        serde_json::from_value(json!({"bulkOperationRun": {"name": "many", "uid": "bulk-uid"}})).unwrap();
    let client = api.client();
    export_from(&Kubernetes::new(&client, NAMESPACE), &client, &environment(json!({}), None), &inputs).await
}

/// A server with so many ConfigMaps that have the label, and one that has not.
fn server(count: usize) -> Api {
    let api = Api::new();
    let kinds = labelled(count).into_iter().chain([object("other")]).map(|mut map| {
        (map["apiVersion"], map["kind"]) = (json!("v1"), json!("ConfigMap"));
        map
    });
    api.serve_config_maps(kinds.collect());
    api
}

/// The ConfigMap that was written.
fn written(api: &Api) -> Option<Value> {
    api.objects_of("ConfigMap").into_iter().find(|map| map["metadata"]["name"] == RUN)
}

/// The objects in it.
fn documents(api: &Api) -> Vec<Value> {
    let map = written(api).expect("a ConfigMap");
    let text = map["data"]["objects.yaml"].as_str().unwrap().to_owned();
    serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn blocked(api: &Api) -> (String, String) {
    let failure = attempt(api).await.unwrap_err();
    assert_eq!(failure.to_result().outcome, Some(Outcome::Blocked), "{failure}");
    assert!(api.writes().is_empty(), "nothing is written");
    (failure.reason, failure.message)
}

#[tokio::test]
async fn an_export_is_one_immutable_config_map_of_the_objects_as_their_authors_wrote_them() {
    let api = server(3);
    order(&api, json!({}));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (3, 0, 0)));
    assert_eq!(result.context.config_map.as_deref(), Some(RUN));
    let digest = hex::encode(Sha256::digest(written(&api).unwrap()["data"]["objects.yaml"].as_str().unwrap()));
    assert_eq!(result.context.config_map_digest, Some(digest));
    let words = format!("3 objects exported to ConfigMap {RUN}, 0 skipped, 0 failed");
    assert_eq!(result.message, Some(words));
    let expected = |number: usize| {
        let name = format!("item-{number:05}");
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "web"}}, "data": {"of": name}})
    };
    assert_eq!(documents(&api), [expected(0), expected(1), expected(2)]);
    let map = written(&api).unwrap();
    assert_eq!((&map["immutable"], map["data"].as_object().unwrap().len()), (&json!(true), 2));
    assert_eq!(map["metadata"]["labels"], json!({"app.kubernetes.io/managed-by": "tenantatlas"}));
    let owner = json!([{"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun", "name": "many", "uid": "bulk-uid"}]);
    assert_eq!(map["metadata"]["ownerReferences"], owner);
    assert_eq!(api.writes(), [format!("POST /api/v1/namespaces/{NAMESPACE}/configmaps")]);
    assert!(api.audit().is_empty() && api.reports().is_empty() && api.dry_runs().is_empty());
}

#[tokio::test]
async fn what_is_not_there_or_of_the_cluster_is_left_out_by_name_and_the_rest_is_exported() {
    let api = server(2);
    api.change("ConfigMap", "item-00001", |map| {
        map["metadata"]["labels"]["app.kubernetes.io/managed-by"] = json!("tenantatlas");
    });
    order(&api, json!({"labelSelector": null, "items": ["item-00000", "item-00001", "gone"]}));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (1, 1, 1)));
    assert_eq!(
        (codes(&result)["gone"].as_str(), codes(&result)["item-00001"].as_str()),
        ("NotFound", "OperatorManaged")
    );
    assert_eq!(documents(&api).len(), 1);

    let api = server(1);
    order(&api, json!({"labelSelector": null, "items": ["gone"]}));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, result.reason.as_deref()), (Some(Outcome::Failed), Some("NothingExported")));
    assert_eq!((result.context.config_map, result.context.config_map_digest), (None, None));
    assert_eq!(written(&api), None);
}

#[tokio::test]
async fn who_may_not_read_the_objects_or_may_not_write_a_config_map_exports_nothing() {
    for user in ["ada", "system:serviceaccount:acme:tenantatlas-preview"] {
        let api = server(2);
        order(&api, json!({"labelSelector": null, "items": ["item-00000", "item-00001"]}));
        api.deny(user, "get", "configmaps");
        let result = attempt(&api).await.unwrap();
        assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Failed), (0, 2, 0)));
        assert!(codes(&result).values().all(|code| code == "Forbidden"), "{result:?}");
        assert!(result.failures[0].message.contains(&format!("{user} may not get configmaps")), "{result:?}");
        let read = api.requests().into_iter().any(|request| request.contains("/configmaps/item"));
        assert!(!read && written(&api).is_none(), "nothing was read");
        // Not even the names, by labels.
        order(&api, json!({}));
        assert_eq!(blocked(&api).await.0, "Forbidden");

        let api = server(2);
        order(&api, json!({}));
        api.deny(user, "create", "configmaps");
        let (code, message) = blocked(&api).await;
        assert!(code == "Forbidden" && message.contains(&format!("{user} may not create configmaps")), "{message}");
    }
}

#[tokio::test]
async fn who_may_not_list_a_kind_exports_no_objects_by_label_but_those_that_they_name() {
    for user in ["ada", "system:serviceaccount:acme:tenantatlas-preview"] {
        let api = server(2);
        order(&api, json!({}));
        api.deny(user, "list", "configmaps");
        let (code, message) = blocked(&api).await;
        assert!(code == "Forbidden" && message.contains(&format!("{user} may not list configmaps")), "{message}");
        assert!(!api.requests().iter().any(|request| request.contains("/configmaps?")), "nothing is listed");
        order(&api, json!({"labelSelector": null, "items": ["item-00000", "item-00001"]}));
        assert_eq!(attempt(&api).await.unwrap().outcome, Some(Outcome::Succeeded), "{user}");
    }
}

#[tokio::test]
async fn secrets_and_more_than_an_export_takes_are_refused_and_nothing_is_written() {
    let api = server(1);
    api.serve("", "v1", "Secret", "secrets", vec![object("vault")]);
    order(&api, json!({"resource": {"kind": "Secret"}, "labelSelector": null, "items": ["vault"]}));
    let (code, message) = blocked(&api).await;
    assert!(code == "InvalidBulkOperation" && message.contains("use action: capture"), "{message}");
    assert!(!api.requests().iter().any(|request| request.contains("/secrets")), "{:?}", api.requests());

    let api = server(6);
    for name in ["item-00000", "item-00001", "item-00002", "item-00003", "item-00004", "item-00005"] {
        api.change("ConfigMap", name, |map| map["data"]["large"] = json!("a".repeat(100 * 1024)));
    }
    order(&api, json!({}));
    let (code, message) = blocked(&api).await;
    assert!(code == "ExportTooLarge" && message.contains("use action: capture"), "{message}");
    order(&api, json!({"labelSelector": null, "items": ["item-00000", "item-00001", "item-00002", "item-00003"]}));
    assert_eq!(attempt(&api).await.unwrap().outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn an_attempt_after_a_crash_reports_what_the_one_before_it_has_written() {
    let api = server(3);
    order(&api, json!({"labelSelector": null, "items": ["item-00000", "item-00001", "gone"]}));
    let first = attempt(&api).await.unwrap();
    let before = written(&api);
    // What is there by now does not count.
    api.change("ConfigMap", "item-00001", |map| map["data"]["of"] = json!("other"));
    let again = attempt(&api).await.unwrap();
    assert_eq!(again, first);
    assert_eq!((written(&api), api.writes().len()), (before, 1));
}

#[tokio::test]
async fn a_config_map_of_somebody_else_that_has_the_name_is_left_as_it_is() {
    let its = json!([{"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun", "name": "many", "uid": "bulk-uid"}]);
    let result = r#"{"summaryCounts": {"total": 1, "processed": 1, "succeeded": 1, "failed": 0, "skipped": 0}, "failures": [], "failuresTruncated": false}"#;
    let sound = json!({"immutable": true, "metadata": {"ownerReferences": its}, "data": {"objects.yaml": "---\n", "result.json": result}});
    let failed = |id: &str, code: &str| {
        let failure = json!({"itemId": id, "reasonCode": code, "message": "", "type": "failure"});
        json!(result.replace(r#""failures": []"#, &format!(r#""failures": [{failure}]"#)))
    };
    let changes: [(&str, Value); 8] = [
        ("/metadata/ownerReferences", json!([])),
        ("/metadata/ownerReferences/0/uid", json!("other")),
        ("/metadata/ownerReferences/0/apiVersion", json!("example.com/v1alpha1")),
        ("/data/result.json", failed(&"i".repeat(601), "Forbidden")),
        ("/data/result.json", failed("core/ConfigMap/a", &"c".repeat(129))),
        ("/immutable", json!(false)),
        ("/data/result.json", json!("{}")),
        ("/data", json!({"result.json": result})),
    ];
    for (path, value) in changes {
        let api = server(1);
        let mut map = object(RUN);
        let mut planted = sound.clone();
        *planted.pointer_mut(path).unwrap() = value;
        map["data"] = planted["data"].clone();
        map["immutable"] = planted["immutable"].clone();
        map["metadata"]["ownerReferences"] = planted["metadata"]["ownerReferences"].clone();
        api.serve_config_maps(labelled(1).into_iter().chain([map.clone()]).collect());
        order(&api, json!({}));
        let (code, message) = blocked(&api).await;
        assert!(code == "ExportNameTaken" && message.contains(RUN), "{path}: {message}");
        assert_eq!(written(&api).unwrap()["data"], map["data"]);
    }
}

#[tokio::test]
async fn an_export_that_is_cancelled_or_belongs_to_another_run_writes_nothing() {
    let api = server(2);
    order(&api, json!({"cancel": true}));
    assert!(attempt(&api).await.is_err() && written(&api).is_none());
    let api = server(2);
    order(&api, json!({}));
    // It is cancelled before its ConfigMap is created.
    api.change_run(|run| run["spec"]["cancel"] = json!(true));
    assert!(attempt(&api).await.is_err() && written(&api).is_none());
}

#[tokio::test]
async fn an_object_that_cannot_be_read_fails_alone() {
    let api = server(3);
    order(&api, json!({}));
    api.fail(|uri, _| uri.path().ends_with("/item-00001").then(|| refusal(403, "Forbidden")));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (2, 1, 0)));
    assert_eq!(codes(&result)["item-00001"], "Forbidden");
    let names: BTreeSet<String> =
        documents(&api).iter().map(|one| one["metadata"]["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(names, BTreeSet::from(["item-00000".to_owned(), "item-00002".to_owned()]));
}
