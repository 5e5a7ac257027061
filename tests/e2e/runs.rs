//! A run from its creation to its end, as its author and their tools see it.

use crate::support::run::{assert_ended, condition};
use crate::support::types::{FOREVER, container, reports};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use serde_json::json;
use std::time::Duration;
use tenantatlas::api::{OperationRun, Outcome, Phase, Reason, labels, operation_run::Trigger};

#[tokio::test]
async fn a_run_is_queued_from_birth_then_runs_then_is_completed() {
    let tenant = Tenant::new("lifecycle").await;
    let operation = tenant.script_type("greet", "echo hello", |_| {}).await;
    let born = tenant.start("hello", json!({ "type": operation })).await;
    let status = born.status.expect("a status at birth, by the schema's defaults");
    assert_eq!((status.phase, status.outcome), (Phase::Queued, Outcome::Pending));
    assert_eq!(status.observed_generation, -1, "the operator has not seen it yet");

    let status = tenant.completed("hello", SOON).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let phases: Vec<Phase> = status.transitions.iter().map(|transition| transition.phase).collect();
    assert_eq!(phases, [Phase::Running, Phase::Completed], "each change of phase is recorded once");
    let (started, ended) = (status.started_at.expect("startedAt"), status.completed_at.expect("completedAt"));
    assert!(started <= ended, "{started} to {ended}");
    assert!(status.duration.is_some());
    assert_eq!(status.attempts, Some(1));
    assert_eq!(status.identity_hash.expect("an identity").len(), 64);

    // The Job stays for its logs, and belongs to the run.
    let job = status.job.expect("a Job");
    let kept = tenant.api::<Job>().get(&job.name).await.expect("the finished Job is kept");
    assert_eq!(kept.metadata.uid, Some(job.uid));
    assert!(job.name.starts_with("op-") && job.name.len() == 23, "{}", job.name);
    let owner = &kept.metadata.owner_references.expect("an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.name.as_str()), ("OperationRun", "hello"));
    let log = tenant.cluster.kubectl_prints(&["logs", "--namespace", &tenant.name, &format!("job/{}", job.name)]);
    assert_eq!(log.trim(), "hello");
}

#[tokio::test]
async fn each_transition_is_an_event_on_the_run() {
    let tenant = Tenant::new("events").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    tenant.start("good", json!({ "type": operation })).await;
    tenant.completed("good", SOON).await;
    let words = ["Running", "Succeeded"];
    wait_for("an event for each transition", SOON, async || {
        let events = tenant.events_about("good").await;
        let all = words.iter().all(|word| events.iter().any(|event| event.starts_with(word)));
        if all { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn kubectl_wait_and_kstatus_read_a_run() {
    let tenant = Tenant::new("kstatus").await;
    let good = tenant.script_type("good", "true", |_| {}).await;
    let bad = tenant.script_type("bad", "exit 3", |_| {}).await;
    tenant.start("good", json!({ "type": good })).await;
    tenant.start("bad", json!({ "type": bad })).await;
    let wait = |run: &str, condition: &str| {
        let target = format!("operationrun/{run}");
        let condition = format!("--for=condition={condition}");
        tenant.cluster.kubectl_prints(&["wait", &condition, "--timeout=90s", "--namespace", &tenant.name, &target])
    };
    wait("good", "Complete");
    wait("good", "Ready");
    wait("bad", "Failed");
    wait("bad", "Finished");
    let status = tenant.status("bad").await;
    assert_eq!(condition(&status, "Stalled"), "True", "kstatus reads Stalled as Failed");
}

#[tokio::test]
async fn kubectl_get_shows_a_run_in_the_words_of_the_design() {
    let tenant = Tenant::new("columns").await;
    let counts = json!({ "summaryCounts": { "total": 3, "processed": 3, "succeeded": 3, "failed": 0, "skipped": 0 } });
    let operation = tenant.script_type("count", &reports(&counts), |_| {}).await;
    tenant.start("counted", json!({ "type": operation })).await;
    tenant.completed("counted", SOON).await;
    let table = tenant.cluster.kubectl_prints(&["get", "opr", "--namespace", &tenant.name]);
    let mut rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(rows.next().unwrap(), ["NAME", "TYPE", "STATUS", "OUTCOME", "PROGRESS", "INITIATOR", "AGE"]);
    let row = rows.next().expect("a row");
    assert_eq!(row[..5], ["counted", &operation, "completed", "succeeded", "3/3"]);
    let category = tenant.cluster.kubectl_prints(&["get", "atlas", "--namespace", &tenant.name, "--output", "name"]);
    assert!(category.contains("operationrun.tenantatlas.io/counted"), "{category}");
}

#[tokio::test]
async fn runs_are_selected_by_type_trigger_phase_and_outcome_on_the_server() {
    let tenant = Tenant::new("selectable").await;
    let good = tenant.script_type("good", "true", |_| {}).await;
    let bad = tenant.script_type("bad", "exit 3", |_| {}).await;
    tenant.start("one", json!({ "type": good })).await;
    tenant.start("two", json!({ "type": bad })).await;
    tenant.completed("one", SOON).await;
    tenant.completed("two", SOON).await;
    let select = async |field: &str| {
        let runs: Api<OperationRun> = tenant.api();
        let listed = runs.list(&ListParams::default().fields(field)).await.expect("a selectable field");
        listed.items.into_iter().filter_map(|run| run.metadata.name).collect::<Vec<_>>()
    };
    assert_eq!(select(&format!("spec.type={good}")).await, ["one"]);
    assert_eq!(select("spec.trigger=manual").await, ["one", "two"]);
    assert_eq!(select("status.phase=completed").await, ["one", "two"]);
    assert_eq!(select("status.outcome=failed").await, ["two"]);
}

#[tokio::test]
async fn forged_and_missing_labels_are_put_right() {
    let tenant = Tenant::new("labels").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    let manifest = json!({ "metadata": { "name": "forged", "labels": {
        (labels::IDENTITY): "0000000000000000000000000000000000000000",
        (labels::WORKSPACE): "somebody-elses",
        (labels::TYPE): "backup.capture",
        (labels::OUTCOME): "succeeded",
        "team": "checkout",
    }}, "spec": { "type": operation } });
    tenant.create::<OperationRun>(manifest).await.expect("labels are the author's to write, and ours to recompute");
    let status = tenant.completed("forged", SOON).await;
    let run = tenant.run("forged").await;
    let label = |key: &str| run.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    assert_eq!(label(labels::IDENTITY), status.identity_hash.as_deref().map(|hash| &hash[..40]));
    assert_eq!(label(labels::WORKSPACE), Some(tenant.workspace.as_str()));
    assert_eq!(label(labels::TYPE), Some(operation.as_str()));
    assert_eq!(label(labels::TRIGGER), Some("manual"));
    assert!(label(labels::INITIATOR).is_some_and(|hash| hash.len() == 40));
    assert_eq!(label("team"), Some("checkout"), "the author's own labels stay");
}

#[tokio::test]
async fn a_run_costs_the_operator_three_writes_and_a_label_patch_at_most() {
    let tenant = Tenant::new("writes").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    tenant.start("counted", json!({ "type": operation })).await;
    tenant.completed("counted", SOON).await;
    // A second run of another identity gives the operator time and reason to write again about the first one.
    tenant.start("later", json!({ "type": operation, "inputs": { "other": true } })).await;
    tenant.completed("later", SOON).await;
    let writes: Vec<_> =
        tenant.audit().into_iter().filter(|request| request.by_operator() && request.wrote()).collect();
    let job = tenant.status("counted").await.job.expect("a Job").name;
    let about = |name: &str| writes.iter().filter(|request| request.name == name).collect::<Vec<_>>();
    assert_eq!(about(&job).len(), 1, "the Job is created once and then left alone: {:#?}", about(&job));
    let about_run = about("counted");
    let statuses = about_run.iter().filter(|request| request.subresource == "status").count();
    assert_eq!(statuses, 2, "running, completed: {about_run:#?}");
    assert!(about_run.len() <= 3, "one label patch more at most: {about_run:#?}");
}

#[tokio::test]
async fn a_timeout_of_the_run_or_the_type_ends_it_as_failed() {
    let tenant = Tenant::new("timeout").await;
    let slow = tenant.script_type("slow", FOREVER, |spec| spec["timeoutSeconds"] = json!(600)).await;
    let short = tenant.script_type("short", FOREVER, |spec| spec["timeoutSeconds"] = json!(3)).await;
    tenant.start("by-run", json!({ "type": slow, "timeoutSeconds": 3 })).await;
    tenant.start("by-type", json!({ "type": short })).await;
    for name in ["by-run", "by-type"] {
        let status = tenant.completed(name, SOON).await;
        assert_ended(&status, Outcome::Failed, Reason::TimedOut);
        let message = status.message.unwrap_or_default();
        assert!(message.contains("3 s") && message.contains("timeout"), "{message}");
    }
}

#[tokio::test]
async fn runs_beyond_the_types_history_limit_are_deleted_oldest_first() {
    let tenant = Tenant::new("history").await;
    let operation = tenant.script_type("greet", "true", |spec| spec["historyLimit"] = json!(2)).await;
    for number in 1..=4 {
        let name = format!("run-{number}");
        tenant.start(&name, json!({ "type": operation, "inputs": { "number": number } })).await;
        tenant.completed(&name, SOON).await;
    }
    wait_for("two runs left", SOON, async || {
        let runs = tenant.api::<OperationRun>().list(&ListParams::default()).await.expect("runs can be listed");
        let names: Vec<_> = runs.items.into_iter().filter_map(|run| run.metadata.name).collect();
        if names == ["run-3", "run-4"] { Ok(()) } else { Err(format!("{names:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_completed_run_and_its_job_go_after_the_types_time_to_live() {
    let tenant = Tenant::new("ttl").await;
    let short = json!(60);
    let operation = tenant.script_type("greet", "true", |spec| spec["ttlSecondsAfterFinished"] = short).await;
    tenant.start("brief", json!({ "type": operation })).await;
    let ended = tenant.completed("brief", SOON).await.completed_at.expect("completedAt");
    let runs: Api<OperationRun> = tenant.api();
    let gone = wait_for("the run is deleted", Duration::from_secs(150), async || {
        match runs.get_opt("brief").await.expect("runs can be read") {
            None => Ok(jiff::Timestamp::now()),
            Some(run) => {
                Err(format!("still there, completed at {:?}", run.status.and_then(|status| status.completed_at)))
            }
        }
    })
    .await;
    let lived = gone.duration_since(ended).as_secs();
    assert!(lived >= 59, "it lived for {lived} s only");
    wait_for("its Job is deleted with it", SOON, async || {
        let jobs = tenant.jobs().await;
        if jobs.is_empty() { Ok(()) } else { Err(format!("{} Jobs", jobs.len())) }
    })
    .await;
}

#[tokio::test]
async fn the_container_is_told_what_the_contract_says_and_a_template_cannot_change_it() {
    let tenant = Tenant::new("contract").await;
    let script = r#"
        result() { printf '{"message":"%s"}' "$1" > /dev/termination-log; }
        [ "$ATLAS_RUN" = told ] || { result "ATLAS_RUN=$ATLAS_RUN"; exit 40; }
        [ -n "$ATLAS_RUN_UID" ] || { result "no ATLAS_RUN_UID"; exit 40; }
        [ "$ATLAS_NAMESPACE" = "$EXPECTED_NAMESPACE" ] || { result "ATLAS_NAMESPACE=$ATLAS_NAMESPACE"; exit 40; }
        case "$ATLAS_TYPE" in tell.*) ;; *) result "ATLAS_TYPE=$ATLAS_TYPE"; exit 40;; esac
        [ "$ATLAS_INPUTS" = '{"a":"$(HOME) ","b":[1,2]}' ] || { result "unexpected inputs"; exit 40; }
        [ ! -e /var/run/secrets/kubernetes.io/serviceaccount/token ] || { result "a token"; exit 40; }
        result told
    "#;
    let namespace = tenant.name.clone();
    let operation = tenant
        .script_type("tell", script, |spec| {
            container(spec)["env"] = json!([
                { "name": "EXPECTED_NAMESPACE", "value": namespace },
                { "name": "ATLAS_RUN", "value": "forged" },
            ]);
        })
        .await;
    tenant.start("told", json!({ "type": operation, "inputs": { "b": [1, 2], "a": "$(HOME) " } })).await;
    let status = tenant.completed("told", SOON).await;
    assert_eq!(status.message.as_deref(), Some("told"));
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_rerun_takes_the_inputs_of_the_run_it_repeats() {
    let tenant = Tenant::new("rerun").await;
    let script = r#"printf '{"message":"%s"}' "${ATLAS_INPUTS#*:}" > /dev/termination-log"#;
    let schema = json!({ "type": "object", "required": ["number"] });
    let operation = tenant.script_type("repeat", script, |spec| spec["inputsSchema"] = schema).await;
    tenant.start("first", json!({ "type": operation, "inputs": { "number": 7 } })).await;
    tenant.completed("first", SOON).await;
    tenant.start("again", json!({ "type": operation, "rerunOf": { "name": "first" } })).await;
    let status = tenant.completed("again", SOON).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    assert_eq!(status.message.as_deref(), Some("7}"), "the inputs were the first run's");
    let again = tenant.run("again").await;
    assert_eq!((again.spec.trigger, again.labels()[labels::TRIGGER].as_str()), (Trigger::Retry, "retry"));
}
