//! A run that is queued or does not move says why, within seconds and with what to do.

use crate::support::cluster::environment;
use crate::support::run::assert_ended;
use crate::support::types::{FOREVER, container};
use crate::support::{SOON, Tenant, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{OperationRun, Outcome, Phase, Reason};

/// The promise: what holds a pod is shown within ten seconds of the Job's start. Tests share two cores, so the wait is
/// longer; what is held to the promise is the time that the status itself records.
const PROMISE: Duration = Duration::from_secs(10);

/// The pod's part of a script type's spec.
fn pod(spec: &mut Value) -> &mut Value {
    &mut spec["executor"]["jobTemplate"]["spec"]["template"]["spec"]
}

/// Starts a run of a type and waits until it says this; returns the message. The promise is held.
async fn shows(tenant: &Tenant, operation: &str, reason: Reason, words: &[&str]) -> String {
    tenant.start("held", json!({ "type": operation })).await;
    // That it waits is shown in time. Which reason it is may take the kubelet longer: a pull fails after tries of its own.
    let first = tenant.run_when("held", "waiting", SOON, |run| run.status_or_default().waiting.is_some()).await;
    let first = first.status_or_default();
    let shown_after = first.waiting.expect("waiting").since.duration_since(first.started_at.expect("startedAt"));
    assert!(shown_after.unsigned_abs() <= PROMISE, "seen after {shown_after}");
    let status = tenant.waiting("held", reason, SOON).await;
    assert_eq!(status.phase, Phase::Running, "it has its Job");
    assert_eq!(status.outcome, Outcome::Pending);
    let message = status.message.unwrap_or_default();
    for word in words {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
    message
}

#[tokio::test]
async fn a_pod_that_no_node_takes() {
    let tenant = Tenant::new("unschedulable").await;
    let operation = tenant
        .script_type("huge", "true", |spec| {
            container(spec)["resources"] = json!({ "requests": { "cpu": "900" } });
        })
        .await;
    shows(&tenant, &operation, Reason::Unschedulable, &["cpu"]).await;
}

#[tokio::test]
async fn a_missing_secret_that_is_mounted_is_named_too() {
    let tenant = Tenant::new("mount").await;
    let operation = tenant
        .script_type("needy", "true", |spec| {
            container(spec)["volumeMounts"] = json!([{ "name": "token", "mountPath": "/token" }]);
            pod(spec)["volumes"] = json!([{ "name": "token", "secret": { "secretName": "mounted-token" } }]);
        })
        .await;
    shows(&tenant, &operation, Reason::MissingDependency, &["mounted-token"]).await;
}

#[tokio::test]
async fn a_job_whose_pod_is_refused_by_pod_security_says_where_to_look() {
    let tenant = Tenant::new("security").await;
    let operation = tenant
        .script_type("privileged", "true", |spec| {
            container(spec)["securityContext"] = json!({ "privileged": true, "allowPrivilegeEscalation": true });
        })
        .await;
    shows(&tenant, &operation, Reason::PodNotCreated, &["kubectl describe job"]).await;
}

#[tokio::test]
async fn a_pod_that_is_tried_again() {
    let tenant = Tenant::new("retrying").await;
    let operation = tenant.script_type("flaky", "exit 1", |spec| spec["retries"] = json!(5)).await;
    tenant.start("held", json!({ "type": operation })).await;
    tenant.waiting("held", Reason::Retrying, SOON).await;
}

#[tokio::test]
async fn a_job_that_a_queue_suspends_waits_and_goes_on_when_the_queue_admits_it() {
    let tenant = Tenant::new("queue").await;
    let operation = tenant
        .script_type("queued", "true", |spec| {
            // What a queue's webhook does at creation.
            spec["executor"]["jobTemplate"]["metadata"] = json!({ "labels": { "kueue.x-k8s.io/queue-name": "batch" } });
            spec["executor"]["jobTemplate"]["spec"]["suspend"] = json!(true);
        })
        .await;
    let message = shows(&tenant, &operation, Reason::Suspended, &[]).await;
    assert!(message.contains("queue"), "{message}");
    let name = tenant.status("held").await.job.expect("a Job").name;
    let job = tenant.api::<Job>().get(&name).await.expect("the Job");
    let label = job.metadata.labels.as_ref().and_then(|labels| labels.get("kueue.x-k8s.io/queue-name"));
    assert_eq!(label.map(String::as_str), Some("batch"), "the queue's label passes through");
    assert_eq!(job.spec.and_then(|spec| spec.suspend), Some(true), "nobody forces it");
    let queue = tenant.cluster.as_user(&environment("ATLAS_QUEUE_CONTROLLER"), &["system:masters"]);
    let jobs: Api<Job> = Api::namespaced(queue, &tenant.name);
    let admit = Patch::Merge(json!({ "spec": { "suspend": false } }));
    jobs.patch(&name, &PatchParams::default(), &admit).await.expect("the queue may");
    assert_ended(&tenant.completed("held", SOON).await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn runs_beyond_a_types_limit_for_each_tenant_wait_their_turn_oldest_first() {
    let tenant = Tenant::new("limit").await;
    let operation = tenant.script_type("one", "true", |spec| spec["concurrency"] = json!({ "perTenant": 1 })).await;
    let names: Vec<String> = (1..=4).map(|number| format!("run-{number}")).collect();
    for (number, name) in names.iter().enumerate() {
        tenant.start(name, json!({ "type": operation, "inputs": { "number": number } })).await;
    }
    // Creation times have whole seconds; within one, the smaller uid counts as the older.
    let mut ages = Vec::new();
    for name in &names {
        let metadata = tenant.run(name).await.metadata;
        ages.push((metadata.creation_timestamp.map(|time| time.0), metadata.uid, name.clone()));
    }
    ages.sort();
    let mut ends = Vec::new();
    for (.., name) in &ages {
        let status = tenant.completed(name, SOON * 2).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
        ends.push((status.started_at.expect("startedAt"), status.completed_at.expect("completedAt"), name.clone()));
    }
    // The first to come found the slot free; the others stood in line.
    let by_age = ends.clone();
    ends.sort();
    let in_line: Vec<_> = by_age.iter().filter(|end| **end != ends[0]).collect();
    assert!(in_line.is_sorted(), "the oldest goes first: {by_age:#?}");
    for pair in ends.windows(2) {
        assert!(pair[1].0 >= pair[0].1, "one at a time: {pair:#?}");
    }
}

#[tokio::test]
async fn a_queued_run_says_which_limit_holds_it() {
    let tenant = Tenant::new("queued").await;
    let operation = tenant.script_type("one", FOREVER, |spec| spec["concurrency"] = json!({ "perTenant": 1 })).await;
    tenant.start("first", json!({ "type": operation, "inputs": { "number": 1 } })).await;
    tenant.running("first", SOON).await;
    tenant.start("second", json!({ "type": operation, "inputs": { "number": 2 } })).await;
    let status = tenant.waiting("second", Reason::ConcurrencyLimit, SOON).await;
    assert_eq!((status.phase, status.outcome), (Phase::Queued, Outcome::Pending));
    let message = status.message.unwrap_or_default();
    assert!(message.contains('1') && message.contains("tenant"), "{message}");
    // The slot comes free, and it goes on.
    tenant.merge::<OperationRun>("first", json!({ "spec": { "cancel": true } })).await;
    tenant.running("second", SOON).await;
}

/// How long the run was queued, by the API server's and the operator's clocks, which are one here.
async fn queued_for(tenant: &Tenant, name: &str, until: Option<Timestamp>) -> i64 {
    let created = tenant.run(name).await.metadata.creation_timestamp.expect("creationTimestamp").0;
    until.unwrap_or_else(Timestamp::now).duration_since(created).as_secs()
}

#[tokio::test]
async fn a_run_that_waits_longer_than_its_queue_timeout_is_blocked_and_says_for_what_it_waited() {
    let tenant = Tenant::new("queue-timeout").await;
    let operation = tenant.script_type("one", FOREVER, |spec| spec["concurrency"] = json!({ "perTenant": 1 })).await;
    tenant.start("first", json!({ "type": operation, "inputs": { "number": 1 } })).await;
    let first = tenant.running("first", SOON).await;
    tenant.start("second", json!({ "type": operation, "inputs": { "number": 2 }, "queueTimeoutSeconds": 3 })).await;
    let words = ["ConcurrencyLimit", "1 active of this type in this tenant", "queueTimeoutSeconds is 3"];
    let second = tenant.blocked("second", Reason::QueueTimeout, &words).await;
    assert_eq!((second.started_at, &second.waiting), (None, &None));
    let waited = queued_for(&tenant, "second", second.completed_at).await;
    // Nothing else wakes it before a minute has passed.
    assert!((3..30).contains(&waited), "it waited {waited} s");
    let still = tenant.status("first").await;
    assert_eq!((still.phase, still.job), (Phase::Running, first.job), "the run that holds the slot goes on");
    assert_eq!(tenant.jobs().await.len(), 1);
}

#[tokio::test]
async fn time_in_the_queue_counts_against_the_queue_timeout_alone() {
    let tenant = Tenant::new("queue-time").await;
    let script = format!("case \"$ATLAS_INPUTS\" in *hold*) {FOREVER};; esac");
    let operation = tenant.script_type("one", &script, |spec| spec["concurrency"] = json!({ "perTenant": 1 })).await;
    tenant.start("first", json!({ "type": operation, "inputs": { "how": "hold" } })).await;
    tenant.running("first", SOON).await;
    // Long enough for its pod on a busy machine.
    let timeout = 25;
    tenant.start("second", json!({ "type": operation, "timeoutSeconds": timeout, "queueTimeoutSeconds": 600 })).await;
    tenant.waiting("second", Reason::ConcurrencyLimit, SOON).await;
    wait_for("it is queued for longer than it may run", SOON, async || {
        let waited = queued_for(&tenant, "second", None).await;
        if waited > timeout { Ok(()) } else { Err(format!("{waited} s")) }
    })
    .await;
    assert_eq!(tenant.status("second").await.phase, Phase::Queued);
    tenant.merge::<OperationRun>("first", json!({ "spec": { "cancel": true } })).await;
    let second = tenant.completed("second", SOON).await;
    assert_ended(&second, Outcome::Succeeded, Reason::Succeeded);
    assert!(queued_for(&tenant, "second", second.started_at).await > timeout);
}

#[tokio::test]
async fn a_run_in_a_namespace_that_was_onboarded_this_very_moment_is_carried_out() {
    let tenant = Tenant::fresh("fresh").await;
    let operation = tenant.script_type("greet", "true", |_| {}).await;
    tenant.start("early", json!({ "type": operation })).await;
    let completed = |run: &OperationRun| run.is_completed();
    let status = tenant.run_when("early", "completed", SOON, completed).await.status_or_default();
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    wait_for("nothing else is left to do", SOON, async || {
        let pods = tenant.operation_pods().await;
        let active = pods
            .iter()
            .filter(|pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running")));
        if active.count() == 0 { Ok(()) } else { Err("a pod still runs") }
    })
    .await;
}

/// No other story runs beside these.
mod alone {
    use super::*;

    #[tokio::test]
    async fn an_image_that_cannot_be_pulled() {
        // Alone: beside other stories, the machine is slower than the promise.
        let tenant = Tenant::alone("image").await;
        let operation = tenant
            .script_type("unpullable", "true", |spec| {
                container(spec)["image"] = json!("localhost/no-such-image:1");
                container(spec)["imagePullPolicy"] = json!("IfNotPresent");
            })
            .await;
        shows(&tenant, &operation, Reason::ImagePull, &["localhost/no-such-image:1"]).await;
    }

    #[tokio::test]
    async fn a_missing_secret_is_named_and_once_it_is_there_the_run_goes_on() {
        let tenant = Tenant::alone("secret").await;
        let operation = tenant
            .script_type("needy", "true", |spec| {
                container(spec)["env"] =
                    json!([{ "name": "TOKEN", "valueFrom": { "secretKeyRef": { "name": "api-token", "key": "token" } } }]);
            })
            .await;
        shows(&tenant, &operation, Reason::MissingDependency, &["api-token"]).await;
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "api-token" },
            "stringData": { "token": "t" } });
        tenant.apply(&secret.to_string());
        let status = tenant.completed("held", SOON).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
        assert_eq!(status.waiting, None);
    }
}
