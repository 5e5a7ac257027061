//! Bulk operations: each object once, whatever happens in between.

use super::{
    api::{AUDIT, Answer, Api, NAMESPACE, RUN, RUN_UID, object, objects, refusal},
    support::environment,
};
use http::Method;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tenantatlas::{
    api::{Outcome, operations::BulkInputs, result::TerminationResult},
    clock::SystemClock,
    operations::bulk::apply_to,
    providers::kubernetes::Kubernetes,
    worker::{failure::Failure, stop::Stop},
};

/// Orders a bulk operation of ConfigMaps, or of what the fields say.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn order(api: &Api, fields: Value) {
    let mut spec = json!({"resource": {"kind": "ConfigMap"}, "action": "label", "options": {"set": {"team": "blue"}},
        "parallelism": 4, "requestedBy": {"username": "ada", "groups": ["devs"]}});
    let fields = fields.as_object().unwrap().clone();
    spec.as_object_mut().unwrap().extend(fields);
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    api.record(
        "bulkoperationruns",
        "many",
        json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun",
            "metadata": {"name": "many", "namespace": NAMESPACE, "uid": "bulk-uid", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": spec, "status": {"phase": "running", "operationRun": {"name": RUN, "uid": RUN_UID}}}),
    );
}

/// One attempt of a worker.
pub async fn attempt(api: &Api) -> Result<TerminationResult, Failure> {
    attempt_until(api, &Stop::default()).await
}

/// One attempt of a worker whose run names an approval.
pub async fn attempt_approved(api: &Api, approval: Value) -> Result<TerminationResult, Failure> {
    let inputs = json!({"bulkOperationRun": {"name": "many", "uid": "bulk-uid"}, "approval": approval});
    attempt_with(api, inputs, &Stop::default()).await
}

/// One attempt of a worker whose run names a plan.
pub async fn attempt_planned(api: &Api, digest: Value) -> Result<TerminationResult, Failure> {
    let inputs = json!({"bulkOperationRun": {"name": "many", "uid": "bulk-uid"}, "planDigest": digest});
    attempt_with(api, inputs, &Stop::default()).await
}

async fn attempt_until(api: &Api, stop: &Stop) -> Result<TerminationResult, Failure> {
    attempt_with(api, json!({"bulkOperationRun": {"name": "many", "uid": "bulk-uid"}}), stop).await
}

async fn attempt_with(api: &Api, inputs: Value, stop: &Stop) -> Result<TerminationResult, Failure> {
    let inputs: BulkInputs = serde_json::from_value(inputs).unwrap();
    let (environment, client) = (environment(json!({}), None), api.client());
    let provider = Kubernetes::new(&client, NAMESPACE);
    apply_to(&provider, &client, &environment, &inputs, &SystemClock, stop).await
}

/// ConfigMaps with a label.
pub fn labelled(count: usize) -> Vec<Value> {
    let mut objects = objects(count);
    for object in &mut objects {
        object["metadata"]["labels"] = json!({"app": "web"});
    }
    objects
}

pub fn deployments(count: usize) -> Vec<Value> {
    let mut objects = labelled(count);
    for object in &mut objects {
        object["spec"] = json!({"replicas": 1, "template": {"metadata": {"labels": {"app": "web"}}}});
    }
    objects
}

fn serve_deployments(api: &Api, count: usize) {
    api.serve("apps", "v1", "Deployment", "deployments", deployments(count));
}

pub fn counts(result: &TerminationResult) -> (i64, i64, i64) {
    let counts = result.summary_counts.unwrap();
    assert!(counts.add_up() && counts.processed == counts.total, "{counts:?}");
    (counts.succeeded, counts.failed, counts.skipped)
}

/// The codes of what failed or was skipped, by name.
pub fn codes(result: &TerminationResult) -> BTreeMap<String, String> {
    let named = |id: &str| id.rsplit('/').next().unwrap().to_owned();
    result.failures.iter().map(|failure| (named(&failure.item_id), failure.reason_code.clone())).collect()
}

pub fn events(api: &Api) -> Vec<(String, Value)> {
    let record = |entry: Value| -> Value { serde_json::from_str(entry["spec"]["entry"].as_str().unwrap()).unwrap() };
    let records = api.audit().into_iter().map(record);
    records.map(|record| (record["event"].as_str().unwrap().to_owned(), record)).collect()
}

pub fn assert_each_written_once(api: &Api) {
    let writes = api.writes();
    assert_eq!(writes.iter().collect::<BTreeSet<_>>().len(), writes.len(), "nothing is written twice: {writes:?}");
}

#[tokio::test]
async fn all_objects_with_a_label_are_changed_once_and_the_audit_chain_says_who_asked_for_what() {
    let api = Api::new();
    let mut all = labelled(30);
    all[7]["metadata"]["labels"] = json!({"app": "other"});
    api.serve_config_maps(all);
    order(&api, json!({"labelSelector": "app=web"}));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (29, 0, 0)));
    assert_eq!(api.writes().len(), 29);
    assert_each_written_once(&api);
    let changed = api.objects_of("ConfigMap");
    let with_team = changed.iter().filter(|object| object["metadata"]["labels"]["team"] == "blue");
    assert!(with_team.clone().all(|object| object["metadata"]["labels"]["app"] == "web" && object["data"].is_object()));
    assert_eq!(with_team.count(), 29);
    let events = events(&api);
    let [(_, intent), (_, outcome)] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&intent["event"], &outcome["event"]), (&json!("intent"), &json!("outcome")));
    assert_eq!((&intent["who"]["username"], &intent["change"]), (&json!("ada"), &json!("label ConfigMap: team=blue")));
    assert_eq!((&intent["bulkOperationRun"]["name"], &intent["summary"]["update"]), (&json!("many"), &json!(29)));
    assert_eq!((&outcome["outcome"], &outcome["counts"]["succeeded"]), (&json!("succeeded"), &json!(29)));
    let audit = result.context.audit.unwrap();
    assert_eq!((audit.intent.as_str(), audit.outcome.as_deref()), ("000000000001", Some("000000000002")));
}

#[tokio::test]
async fn an_object_that_is_as_wanted_is_not_written() {
    let api = Api::new();
    serve_deployments(&api, 3);
    api.change("Deployment", "item-00001", |object| object["spec"]["replicas"] = json!(5));
    let deployments = json!({"group": "apps", "kind": "Deployment"});
    order(
        &api,
        json!({"resource": deployments, "action": "scale", "options": {"replicas": 5}, "labelSelector": "app=web"}),
    );
    let result = attempt(&api).await.unwrap();
    assert_eq!((counts(&result), api.writes().len()), ((3, 0, 0), 2));
    assert_eq!(result.message.as_deref(), Some("2 objects changed, 1 were as wanted, 0 skipped, 0 failed"));
    assert!(api.objects_of("Deployment").iter().all(|object| object["spec"]["replicas"] == 5));
}

#[tokio::test]
async fn an_attempt_after_a_crash_works_on_the_same_objects_and_changes_none_twice() {
    for dies_after in [0, 1, 5, 11] {
        let api = Api::new();
        serve_deployments(&api, 12);
        let deployments = json!({"group": "apps", "kind": "Deployment"});
        order(&api, json!({"resource": deployments, "action": "restart", "options": null, "labelSelector": "app=web"}));
        api.break_after_writes(dies_after);
        let failure = attempt(&api).await.expect_err("it dies");
        assert_eq!(failure.exit_code(), 1, "another attempt follows: {failure}");
        api.heal();
        // Meanwhile one matches that did not, one is gone, and somebody restarts one.
        let mut now = api.objects_of("Deployment");
        now.retain(|object| object["metadata"]["name"] != "item-00011");
        let mut late = deployments_named("late");
        late["metadata"]["labels"] = json!({"app": "web"});
        now.push(late);
        api.serve("apps", "v1", "Deployment", "deployments", now);
        api.change("Deployment", "item-00010", |object| {
            object["spec"]["template"]["metadata"]["annotations"] = json!({RESTARTED_AT: "2026-01-01T09:00:00Z"});
        });
        let result = attempt(&api).await.unwrap();
        assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (11, 0, 1)), "{result:?}");
        assert_eq!(codes(&result), BTreeMap::from([("item-00011".to_owned(), "Vanished".to_owned())]));
        assert_each_written_once(&api);
        for object in api.objects_of("Deployment") {
            let name = object["metadata"]["name"].as_str().unwrap();
            let wanted = match name {
                "late" => Value::Null,
                "item-00010" => json!("2026-01-01T09:00:00Z"),
                _ => json!("2026-01-01T00:00:00Z"),
            };
            assert_eq!(object["spec"]["template"]["metadata"]["annotations"][RESTARTED_AT], wanted, "{name}");
        }
        let events: Vec<String> = events(&api).into_iter().map(|(event, _)| event).collect();
        assert_eq!(events, ["intent", "outcome"], "one operation, whatever its attempts");
    }
}

pub const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

fn deployments_named(name: &str) -> Value {
    let mut one = object(name);
    one["spec"] = json!({"replicas": 1, "template": {"metadata": {}}});
    one
}

#[tokio::test]
async fn without_the_list_of_what_was_selected_or_with_another_nothing_more_is_written() {
    let api = Api::new();
    api.serve_config_maps(labelled(8));
    order(&api, json!({"labelSelector": "app=web"}));
    api.break_after_writes(3);
    attempt(&api).await.expect_err("it dies");
    api.heal();
    let before = api.writes().len();
    let other = |report: &mut Value| report["spec"]["selected"][0] = json!("item-00000-other");
    let lose: [&dyn Fn(); 2] = [&|| api.change_reports(other), &|| api.forget_reports()];
    for lose in lose {
        lose();
        let failure = attempt(&api).await.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.exit_code()), ("SelectionLost", 40), "{failure}");
        assert_eq!(api.writes().len(), before);
    }
}

#[tokio::test]
async fn before_the_intent_is_recorded_nothing_is_written_and_the_next_attempt_selects_anew() {
    let api = Api::new();
    api.serve_config_maps(labelled(3));
    order(&api, json!({"labelSelector": "app=web"}));
    api.fail(|uri, _| (uri.path() == AUDIT).then_some(()).map(|()| refusal(403, "Forbidden")));
    let failure = attempt(&api).await.unwrap_err();
    assert_eq!(failure.reason, "AuditNotWritten", "{failure}");
    assert_eq!(api.writes(), Vec::<String>::new());
    api.heal();
    api.serve_config_maps(labelled(5));
    assert_eq!(counts(&attempt(&api).await.unwrap()), (5, 0, 0));
}

#[tokio::test]
async fn who_may_not_change_objects_of_the_kind_changes_none_through_a_bulk_operation() {
    for (user, verb) in [
        ("ada", "update"),
        ("ada", "get"),
        ("system:serviceaccount:acme:tenantatlas-restore", "update"),
        ("system:serviceaccount:acme:tenantatlas-restore", "get"),
    ] {
        let api = Api::new();
        api.serve_config_maps(labelled(3));
        api.deny(user, verb, "configmaps");
        order(&api, json!({"items": ["item-00000", "item-00002", "none"]}));
        let result = attempt(&api).await.unwrap();
        assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Failed), (0, 3, 0)), "{user} {verb}");
        assert_eq!(result.reason.as_deref(), Some("NothingChanged"));
        assert!(codes(&result).values().all(|code| code == "Forbidden"), "{result:?}");
        assert!(result.failures[0].message.contains(&format!("{user} may not {verb} configmaps")), "{result:?}");
        assert_eq!(api.writes(), Vec::<String>::new());
        assert!(!api.requests().iter().any(|request| request.contains("/configmaps/")), "nothing is read");
    }
}

#[tokio::test]
async fn who_may_not_read_or_list_a_kind_does_not_learn_which_objects_have_a_label() {
    for verb in ["get", "list"] {
        let api = Api::new();
        api.serve_config_maps(labelled(3));
        api.deny("ada", verb, "configmaps");
        order(&api, json!({"labelSelector": "app=web"}));
        let failure = attempt(&api).await.unwrap_err();
        assert_eq!(
            (failure.reason.as_str(), failure.to_result().outcome),
            ("Forbidden", Some(Outcome::Blocked)),
            "{failure}"
        );
        assert!(failure.message.contains(&format!("ada may not {verb} configmaps")), "{failure}");
        assert!(api.reports().is_empty() && api.audit().is_empty());
        assert!(!api.requests().iter().any(|request| request.contains("/configmaps")), "nothing is listed");
    }
    // Names are no secret of who has them.
    let api = Api::new();
    api.serve_config_maps(labelled(3));
    api.deny("ada", "list", "configmaps");
    order(&api, json!({"items": ["item-00000"]}));
    assert_eq!(attempt(&api).await.unwrap().outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn one_review_is_sent_for_each_verb_and_user_however_many_objects_there_are() {
    let api = Api::new();
    api.serve_config_maps(labelled(40));
    order(&api, json!({"labelSelector": "app=web"}));
    attempt(&api).await.unwrap();
    let reviews = api.requests().iter().filter(|request| request.ends_with("localsubjectaccessreviews")).count();
    assert_eq!(reviews, 6, "get, list and update, of who asked and of the account");
}

#[tokio::test]
async fn a_name_that_does_not_exist_fails_and_the_others_are_changed() {
    let api = Api::new();
    api.serve_config_maps(objects(3));
    order(&api, json!({"items": ["none", "item-00001"]}));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (1, 1, 0)));
    assert_eq!(codes(&result), BTreeMap::from([("none".to_owned(), "NotFound".to_owned())]));
    assert_eq!(api.writes(), ["PUT /api/v1/namespaces/acme/configmaps/item-00001"]);
}

#[tokio::test]
async fn a_selector_that_matches_nothing_or_too_much_is_refused_and_so_is_a_kind_that_is_not_served() {
    let blocked = async |api: &Api| {
        let failure = attempt(api).await.unwrap_err();
        assert_eq!(failure.to_result().outcome, Some(Outcome::Blocked), "{failure}");
        assert!(api.writes().is_empty() && api.audit().is_empty());
        failure.reason
    };
    let api = Api::new();
    api.serve_config_maps(labelled(5001));
    order(&api, json!({"labelSelector": "app=none"}));
    assert_eq!(blocked(&api).await, "NothingSelected");
    order(&api, json!({"labelSelector": "app=web"}));
    assert_eq!(blocked(&api).await, "TooManySelected");
    order(&api, json!({"resource": {"group": "example.com", "kind": "Widget"}, "labelSelector": "app=web"}));
    assert_eq!(blocked(&api).await, "KindNotServed");
}

#[tokio::test]
async fn a_change_by_somebody_else_in_between_is_kept() {
    let api = Api::new();
    api.serve_config_maps(objects(1));
    order(&api, json!({"items": ["item-00000"]}));
    api.meanwhile("/item-00000", vec![("ConfigMap", "item-00000", |object| object["data"]["theirs"] = json!("kept"))]);
    assert_eq!(counts(&attempt(&api).await.unwrap()), (1, 0, 0));
    let object = &api.objects_of("ConfigMap")[0];
    assert_eq!((&object["data"]["theirs"], &object["metadata"]["labels"]["team"]), (&json!("kept"), &json!("blue")));
}

#[tokio::test]
async fn after_so_many_failures_the_rest_is_skipped_and_says_so() {
    let api = Api::new();
    api.serve_config_maps(labelled(20));
    order(&api, json!({"labelSelector": "app=web", "parallelism": 1, "stopAfterFailures": 3}));
    api.refuse_writes_by_name(|_, _, name| (name >= "item-00002").then(|| refusal(422, "Invalid")));
    let result = attempt(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (2, 3, 15)));
    let codes = codes(&result);
    assert_eq!(codes.values().filter(|code| *code == "StoppedAfterFailures").count(), 15);
    assert_eq!(codes["item-00004"], "Invalid");
    assert!(!api.requests().iter().any(|request| request.ends_with("/item-00005")), "nothing more is begun");
    // Without a limit, all are tried.
    order(&api, json!({"labelSelector": "app=web"}));
    api.forget_reports();
    api.cut_audit();
    api.cut_audit();
    assert_eq!(counts(&attempt(&api).await.unwrap()), (2, 18, 0));
}

#[tokio::test]
async fn no_more_objects_are_worked_on_at_once_than_was_asked_for() {
    let api = Api::new();
    api.serve_config_maps(labelled(30));
    order(&api, json!({"labelSelector": "app=web", "parallelism": 3}));
    let begun = Arc::new(AtomicUsize::new(0));
    let seen = begun.clone();
    api.refuse_writes(move |method, _| {
        (*method == Method::PUT).then(|| {
            seen.fetch_add(1, Ordering::SeqCst);
            Answer::Hangs
        })
    });
    let hangs = tokio::time::timeout(Duration::from_secs(1), attempt(&api)).await;
    assert!(hangs.is_err());
    assert_eq!(begun.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_cancelled_one_ends_what_it_has_begun_and_reports_the_rest_as_skipped() {
    let api = Api::new();
    api.serve_config_maps(labelled(20));
    order(&api, json!({"labelSelector": "app=web", "parallelism": 1}));
    let stop = Stop::default();
    let (told, ends) = (stop.clone(), api.clone());
    let writes = AtomicUsize::new(0);
    api.refuse_writes(move |_, _| {
        if writes.fetch_add(1, Ordering::SeqCst) == 4 {
            told.set();
        }
        None
    });
    // A pod that is told to stop for another reason leaves the rest to the next attempt.
    let failure = attempt_until(&api, &stop).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.exit_code()), ("Interrupted", 1), "{failure}");
    assert_eq!(api.writes().len(), 5);
    ends.heal();
    ends.cancel_after_reads_of_the_run(1);
    let result = attempt_until(&api, &stop).await.unwrap();
    assert_eq!((counts(&result), api.writes().len()), ((0, 0, 20), 5));
    assert!(codes(&result).values().all(|code| code == "Stopped"), "{result:?}");
}

#[tokio::test]
async fn a_run_that_is_not_recorded_as_its_own_changes_nothing() {
    let api = Api::new();
    api.serve_config_maps(objects(1));
    order(&api, json!({"items": ["item-00000"]}));
    let mut record = api.record_of("bulkoperationruns", "many");
    record["status"]["operationRun"]["uid"] = json!("another");
    api.record("bulkoperationruns", "many", record);
    assert_eq!(attempt(&api).await.unwrap_err().reason, "NotItsBulkOperationRun");
    let mut record = api.record_of("bulkoperationruns", "many");
    record["metadata"]["uid"] = json!("reborn");
    api.record("bulkoperationruns", "many", record);
    assert_eq!(attempt(&api).await.unwrap_err().reason, "BulkOperationRunNotFound");
    assert_eq!(api.writes(), Vec::<String>::new());
}
