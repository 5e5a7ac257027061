//! Previews of bulk operations: nothing is written by them, and what they showed is what is done, or nothing.

use super::{
    api::{Api, NAMESPACE, RUN, RUN_UID, refusal},
    bulk::{
        RESTARTED_AT, assert_each_written_once, attempt, attempt_approved, attempt_planned, codes, counts, deployments,
        events, labelled,
    },
    support::environment,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::{
    api::{Outcome, operations::BulkInputs, result::TerminationResult},
    operations::bulk_preview::preview_of,
    providers::kubernetes::Kubernetes,
    worker::failure::Failure,
};

const LOOK_RUN: &str = "look-bulk";
const LOOK_UID: &str = "22222222-2222-3333-4444-555555555555";

fn record(api: &Api, name: &str, spec: &Value, status: &Value) {
    let (uid, created) = match name {
        "look" => ("look-uid", "2026-01-01T00:00:00Z"),
        _ => ("bulk-uid", "2026-01-02T00:00:00Z"),
    };
    let metadata = json!({"name": name, "namespace": NAMESPACE, "uid": uid, "creationTimestamp": created});
    api.record(
        "bulkoperationruns",
        name,
        json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun", "metadata": metadata,
            "spec": spec, "status": status}),
    );
}

/// Orders a preview that labels ConfigMaps, or does what the fields say.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn order_preview(api: &Api, fields: Value) {
    let mut spec = json!({"resource": {"kind": "ConfigMap"}, "action": "label", "options": {"set": {"team": "blue"}},
        "labelSelector": "app=web", "dryRun": true, "parallelism": 4, "requestedBy": {"username": "ada"}});
    spec.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    spec.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    record(api, "look", &spec, &json!({"phase": "running", "operationRun": {"name": LOOK_RUN, "uid": LOOK_UID}}));
}

/// Has its worker make the preview, and the operator record what it made.
async fn preview(api: &Api) -> Result<TerminationResult, Failure> {
    let inputs: BulkInputs =
        serde_json::from_value(json!({"bulkOperationRun": {"name": "look", "uid": "look-uid"}})).unwrap();
    let (mut environment, client) = (environment(json!({}), None), api.client());
    (environment.identity.run, environment.identity.run_uid) = (LOOK_RUN.to_owned(), LOOK_UID.to_owned());
    let result = preview_of(&Kubernetes::new(&client, NAMESPACE), &client, &environment, &inputs).await?;
    let mut look = api.record_of("bulkoperationruns", "look");
    look["status"]["phase"] = json!("completed");
    look["status"]["outcome"] = json!(result.outcome);
    look["status"]["planDigest"] = json!(result.context.plan.as_ref().map(|plan| &plan.digest));
    api.record("bulkoperationruns", "look", look);
    Ok(result)
}

/// Orders what the preview showed.
fn order_applied(api: &Api) {
    let look = api.record_of("bulkoperationruns", "look");
    let spec = json!({"resource": look["spec"]["resource"], "action": look["spec"]["action"], "preview": {"name": "look"},
        "parallelism": 4, "requestedBy": {"username": "bob"}});
    record(api, "many", &spec, &json!({"phase": "running", "operationRun": {"name": RUN, "uid": RUN_UID}}));
}

async fn apply(api: &Api) -> Result<TerminationResult, Failure> {
    order_applied(api);
    attempt(api).await
}

async fn blocked(api: &Api) -> (String, String) {
    let before = api.writes().len();
    let failure = apply(api).await.unwrap_err();
    assert_eq!(failure.to_result().outcome, Some(Outcome::Blocked), "{failure}");
    assert!(api.writes().len() == before && api.audit().is_empty(), "nothing is written");
    (failure.reason, failure.message)
}

/// The rows of the plan in the reports, by name: action, code and diff.
fn rows(api: &Api) -> BTreeMap<String, (String, String, String)> {
    let reports = api.reports();
    let rows = reports.values().flat_map(|report| report["spec"]["plan"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.map(|row| {
        let name = text(&row["itemId"]).rsplit('/').next().unwrap().to_owned();
        (name, (text(&row["action"]), text(&row["reason"]["code"]), text(&row["diff"])))
    })
    .collect()
}

#[tokio::test]
async fn a_preview_writes_nothing_and_what_it_showed_is_what_is_done() {
    let api = Api::new();
    let mut all = labelled(12);
    all[3]["metadata"]["labels"]["team"] = json!("blue");
    all[5]["metadata"]["labels"]["team"] = json!("red");
    api.serve_config_maps(all);
    order_preview(&api, json!({}));
    let made = preview(&api).await.unwrap();
    assert_eq!((made.outcome, counts(&made)), (Some(Outcome::Succeeded), (12, 0, 0)));
    assert_eq!(made.message.as_deref(), Some("would change 11; 1 unchanged, 0 left alone, 0 not possible"));
    let plan = made.context.plan.unwrap();
    assert_eq!((plan.summary.update, plan.summary.unchanged, plan.digest.len()), (11, 1, 64));
    assert_eq!((api.writes().len(), api.dry_runs().len(), api.audit().len()), (0, 11, 0));
    let shown = rows(&api);
    assert_eq!((shown.len(), shown["item-00003"].0.as_str()), (12, "unchanged"));
    let (action, _, diff) = &shown["item-00005"];
    assert_eq!(action, "update");
    assert!(diff.contains("team") && diff.contains("red") && diff.contains("blue"), "{diff}");

    let result = apply(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Succeeded), (12, 0, 0)));
    assert_eq!(api.writes().len(), 11);
    assert_each_written_once(&api);
    assert_eq!(result.context.plan.unwrap().digest, plan.digest);
    let events = events(&api);
    let (_, intent) = &events[0];
    assert_eq!((&intent["planDigest"], &intent["summary"]["update"]), (&json!(plan.digest), &json!(11)));
    assert_eq!((&intent["who"]["username"], &intent["change"]), (&json!("bob"), &json!("label ConfigMap: team=blue")));
}

#[tokio::test]
async fn two_previews_of_the_same_state_have_the_same_digest() {
    let api = Api::new();
    api.serve_config_maps(labelled(3));
    let mut digests = Vec::new();
    for options in [json!({"set": {"team": "blue"}}), json!({"set": {"team": "blue"}}), json!({"set": {"team": "red"}})]
    {
        order_preview(&api, json!({"options": options}));
        digests.push(preview(&api).await.unwrap().context.plan.unwrap().digest);
    }
    assert_eq!(digests[0], digests[1]);
    assert_ne!(digests[0], digests[2]);
}

#[tokio::test]
async fn what_the_action_looks_at_and_what_has_changed_since_the_preview_blocks_all_of_it() {
    type Change = fn(&Api);
    let changes: [(&str, Change); 3] = [
        ("item-00002", |api| {
            api.change("ConfigMap", "item-00002", |object| object["metadata"]["labels"]["team"] = json!("green"));
        }),
        ("item-00001", |api| {
            api.change("ConfigMap", "item-00001", |object| object["metadata"]["uid"] = json!("made anew"));
        }),
        ("item-00004", |api| {
            let mut left = api.objects_of("ConfigMap");
            left.retain(|object| object["metadata"]["name"] != "item-00004");
            api.serve_config_maps(left);
        }),
    ];
    for (name, change) in changes {
        let api = Api::new();
        api.serve_config_maps(labelled(5));
        order_preview(&api, json!({}));
        preview(&api).await.unwrap();
        change(&api);
        let (reason, message) = blocked(&api).await;
        assert_eq!(reason, "PreviewStale");
        assert!(message.ends_with(&format!(": core/ConfigMap/{name}")), "{message}");
    }
}

#[tokio::test]
async fn a_change_that_the_action_does_not_look_at_is_kept_and_what_matches_by_now_is_left() {
    let api = Api::new();
    api.serve_config_maps(labelled(3));
    order_preview(&api, json!({}));
    preview(&api).await.unwrap();
    api.change("ConfigMap", "item-00001", |object| object["data"]["theirs"] = json!("kept"));
    let mut more = api.objects_of("ConfigMap");
    more.push(labelled(4).pop().unwrap());
    api.serve_config_maps(more);
    assert_eq!(counts(&apply(&api).await.unwrap()), (3, 0, 0));
    let objects = api.objects_of("ConfigMap");
    assert_eq!(objects[1]["data"]["theirs"], "kept");
    let labels: Vec<&Value> = objects.iter().map(|object| &object["metadata"]["labels"]["team"]).collect();
    assert_eq!(labels, [&json!("blue"), &json!("blue"), &json!("blue"), &Value::Null]);
}

#[tokio::test]
async fn a_restart_has_the_time_that_its_preview_showed() {
    let api = Api::new();
    api.serve("apps", "v1", "Deployment", "deployments", deployments(2));
    order_preview(
        &api,
        json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "restart", "options": null}),
    );
    preview(&api).await.unwrap();
    assert!(rows(&api)["item-00000"].2.contains("2026-01-01T00:00:00Z"));
    assert_eq!(counts(&apply(&api).await.unwrap()), (2, 0, 0));
    for object in api.objects_of("Deployment") {
        let annotations = &object["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations[RESTARTED_AT], "2026-01-01T00:00:00Z");
    }
}

#[tokio::test]
async fn what_the_api_server_refuses_is_in_the_preview_and_is_not_tried_for_good() {
    let api = Api::new();
    api.serve_config_maps(labelled(4));
    order_preview(&api, json!({"items": ["item-00000", "item-00001", "none"], "labelSelector": null}));
    api.refuse_writes_by_name(|_, _, name| (name == "item-00001").then(|| refusal(422, "Invalid")));
    let made = preview(&api).await.unwrap();
    assert_eq!((made.outcome, counts(&made)), (Some(Outcome::PartiallySucceeded), (1, 2, 0)));
    let wanted = [("item-00001", "Invalid"), ("none", "NotFound")];
    let wanted: BTreeMap<String, String> = wanted.map(|(name, code)| (name.to_owned(), code.to_owned())).into();
    assert_eq!(codes(&made), wanted);
    let shown = rows(&api);
    assert_eq!((shown["item-00001"].0.as_str(), shown["none"].0.as_str()), ("invalid", "conflict"));
    // By now it would be accepted. The preview did not show it.
    api.heal();
    let result = apply(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (1, 2, 0)));
    assert_eq!(codes(&result)["item-00001"], "NotPlanned");
    assert_eq!(api.writes(), ["PUT /api/v1/namespaces/acme/configmaps/item-00000"]);
}

#[tokio::test]
async fn a_worker_that_dies_while_it_applies_a_preview_is_continued_with_the_rest() {
    for dies_after in [0, 1, 4, 9] {
        let api = Api::new();
        api.serve_config_maps(labelled(10));
        order_preview(&api, json!({}));
        preview(&api).await.unwrap();
        order_applied(&api);
        api.break_after_writes(dies_after);
        let failure = attempt(&api).await.expect_err("it dies");
        assert_eq!(failure.exit_code(), 1, "another attempt follows: {failure}");
        api.heal();
        // What others change from now on is not overwritten, and does not hold up the rest.
        let is_left = |object: &&Value| object["metadata"]["labels"].get("team").is_none();
        let left = api.objects_of("ConfigMap");
        let name = left.iter().find(is_left).unwrap()["metadata"]["name"].as_str().unwrap().to_owned();
        api.change("ConfigMap", &name, |object| object["metadata"]["labels"]["team"] = json!("theirs"));
        let result = attempt(&api).await.unwrap();
        assert_eq!((result.outcome, counts(&result)), (Some(Outcome::PartiallySucceeded), (9, 1, 0)), "{result:?}");
        assert_eq!(codes(&result), BTreeMap::from([(name, "Moved".to_owned())]));
        assert_each_written_once(&api);
        assert_eq!(events(&api).len(), 2, "one operation, whatever its attempts");
    }
}

#[tokio::test]
async fn without_what_the_preview_found_nothing_is_written() {
    type Change = fn(&mut Value);
    let changes: [Option<Change>; 4] = [
        None,
        Some(|spec| spec["selected"][0] = json!("item-00000-other")),
        Some(|spec| spec["selectedStates"] = json!("0000000000000000w0000000000000000w")),
        Some(|spec| spec["selectedStates"] = Value::Null),
    ];
    for change in changes {
        let api = Api::new();
        api.serve_config_maps(labelled(2));
        order_preview(&api, json!({}));
        preview(&api).await.unwrap();
        match change {
            None => api.forget_reports(),
            Some(change) => api.change_reports(|report| {
                if report["spec"].get("selected").is_some() {
                    change(&mut report["spec"]);
                }
            }),
        }
        assert_eq!(blocked(&api).await.0, "PlanLost");
    }
}

#[tokio::test]
async fn an_approved_plan_is_carried_out_and_its_approver_recorded_and_no_other_plan_of_that_name() {
    let api = Api::new();
    api.serve_config_maps(labelled(2));
    order_preview(&api, json!({}));
    let digest = json!(preview(&api).await.unwrap().context.plan.unwrap().digest);
    order_applied(&api);
    let approval = |digest: &Value| json!({"name": "bulkoperationrun-many", "uid": "a", "planDigest": digest, "approvedBy": {"username": "eve"}});
    let before = api.writes().len();
    let other = json!("0".repeat(64));
    // The operator names the plan also where none had to be approved: a larger one must not take its place.
    for attempt in [attempt_approved(&api, approval(&other)).await, attempt_planned(&api, other).await] {
        let failure = attempt.unwrap_err();
        assert_eq!((failure.reason.as_str(), failure.to_result().outcome), ("PreviewStale", Some(Outcome::Blocked)));
    }
    assert!(api.writes().len() == before && api.audit().is_empty(), "nothing is written");
    attempt_approved(&api, approval(&digest)).await.unwrap();
    let entries = api.audit();
    assert_eq!(entries.len(), 2);
    for entry in entries {
        let record: Value = serde_json::from_str(entry["spec"]["entry"].as_str().unwrap()).unwrap();
        assert_eq!((&record["who"]["username"], &record["approval"]), (&json!("bob"), &approval(&digest)));
    }
    // Another preview has the name by now. An attempt that has begun must not say that nothing was done.
    let mut look = api.record_of("bulkoperationruns", "look");
    look["status"]["planDigest"] = json!("0".repeat(64));
    api.record("bulkoperationruns", "look", look);
    let failure = attempt_approved(&api, approval(&digest)).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.to_result().outcome), ("SelectionLost", Some(Outcome::Failed)));
}

#[tokio::test]
async fn a_preview_that_is_gone_or_of_something_else_is_not_applied() {
    let api = Api::new();
    api.serve_config_maps(labelled(2));
    order_preview(&api, json!({}));
    assert_eq!(blocked(&api).await.0, "PreviewNotUsable", "it is not completed");
    preview(&api).await.unwrap();
    order_applied(&api);
    let mut many = api.record_of("bulkoperationruns", "many");
    many["spec"]["action"] = json!("annotate");
    api.record("bulkoperationruns", "many", many);
    assert_eq!(attempt(&api).await.unwrap_err().reason, "PreviewNotUsable");
    // An attempt that has begun must not say that nothing was done.
    order_applied(&api);
    api.break_after_writes(1);
    attempt(&api).await.expect_err("it dies");
    api.heal();
    let mut look = api.record_of("bulkoperationruns", "look");
    look["spec"]["dryRun"] = json!(false);
    api.record("bulkoperationruns", "look", look);
    let failure = attempt(&api).await.unwrap_err();
    assert_eq!((failure.reason.as_str(), failure.to_result().outcome), ("SelectionLost", Some(Outcome::Failed)));
}

#[tokio::test]
async fn the_rights_that_count_are_those_of_who_applies_it_and_are_shown_in_a_preview_of_ones_own() {
    let api = Api::new();
    api.serve_config_maps(labelled(2));
    order_preview(&api, json!({}));
    preview(&api).await.unwrap();
    api.deny("bob", "update", "configmaps");
    // What ada's preview found is in its reports, so that bob finds nothing himself.
    api.deny("bob", "list", "configmaps");
    let result = apply(&api).await.unwrap();
    assert_eq!((result.outcome, counts(&result)), (Some(Outcome::Failed), (0, 2, 0)));
    assert!(result.failures[0].message.contains("bob may not update configmaps"), "{result:?}");
    api.forget_reports();
    order_preview(&api, json!({"requestedBy": {"username": "bob"}}));
    assert_eq!(preview(&api).await.unwrap_err().reason, "Forbidden");
    api.allow_all();
    api.deny("bob", "update", "configmaps");
    let made = preview(&api).await.unwrap();
    assert_eq!((made.outcome, counts(&made)), (Some(Outcome::PartiallySucceeded), (0, 2, 0)));
    assert_eq!(rows(&api)["item-00000"].0, "forbidden");
    assert_eq!((api.writes().len(), api.dry_runs().len()), (0, 2), "the dry runs are those of ada's preview");
}

/// Who may read reports may not read Secrets.
#[tokio::test]
async fn nothing_of_an_object_that_not_all_may_read_is_shown_or_can_be_guessed() {
    let api = Api::new();
    api.let_readers_read(&json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}]));
    let mut all = labelled(1);
    all[0]["data"] = json!({"password": "aHVudGVyMg=="});
    all[0]["metadata"]["annotations"] = json!({"note": "hunter2"});
    api.serve("", "v1", "Secret", "secrets", all);
    let note = json!({"set": {"note": "changed"}});
    order_preview(&api, json!({"resource": {"kind": "Secret"}, "action": "annotate", "options": note}));
    assert_eq!(counts(&preview(&api).await.unwrap()), (1, 0, 0));
    let told = serde_json::to_string(&api.reports()).unwrap();
    assert!(!told.contains("hunter2") && !told.contains("aHVudGVyMg"), "{told}");
    assert_eq!(counts(&apply(&api).await.unwrap()), (1, 0, 0));
}

#[tokio::test]
async fn five_thousand_objects_are_previewed_and_applied_and_their_reports_stay_within_bounds() {
    let api = Api::new();
    api.serve_config_maps(labelled(5000));
    order_preview(&api, json!({"parallelism": 16}));
    assert_eq!(counts(&preview(&api).await.unwrap()), (5000, 0, 0));
    let reports = api.reports();
    let of = |field: &str| -> Vec<usize> {
        let with = reports.values().filter(|report| report["spec"].get(field).is_some());
        with.map(|report| serde_json::to_vec(report).unwrap().len()).collect()
    };
    assert_eq!(of("selected").len(), 10);
    assert!(of("plan").iter().chain(&of("selected")).all(|size| *size <= 256 * 1024));
    assert!(of("plan").iter().sum::<usize>() <= 300 * 1024, "{:?}", of("plan"));
    assert_eq!(counts(&apply(&api).await.unwrap()), (5000, 0, 0));
}
