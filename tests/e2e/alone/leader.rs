//! Two replicas: one works, the other is ready to.

use crate::support::cluster::environment;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tenantatlas::api::{Outcome, Reason};

/// The operator has a second replica for as long as this lives.
struct Replicas<'a> {
    tenant: &'a Tenant,
}

impl<'a> Replicas<'a> {
    async fn two(tenant: &'a Tenant) -> Self {
        let replicas = Self { tenant };
        replicas.scale(2);
        wait_for("two replicas are ready", SOON, async || {
            let ready = tenant.cluster.operator_pods().await.iter().filter(|pod| is_ready(pod)).count();
            if ready == 2 { Ok(()) } else { Err(format!("{ready} ready")) }
        })
        .await;
        replicas
    }

    fn scale(&self, replicas: usize) {
        let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
        let selector = "--selector=app.kubernetes.io/name=tenantatlas";
        let replicas = format!("--replicas={replicas}");
        self.tenant.cluster.kubectl_prints(&["scale", "deployment", selector, &replicas, "--namespace", &namespace]);
    }
}

impl Drop for Replicas<'_> {
    fn drop(&mut self) {
        self.scale(1);
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

#[tokio::test]
async fn when_the_leader_is_killed_the_other_goes_on_and_nothing_is_done_twice() {
    let tenant = Tenant::alone("leader-killed").await;
    let _replicas = Replicas::two(&tenant).await;
    let operation = tenant.script_type("slow", "sleep 4", |_| {}).await;
    let first = tenant.cluster.leader().await;
    for number in 0..4 {
        tenant.start(&format!("run-{number}"), json!({ "type": operation, "inputs": { "n": number } })).await;
    }
    tenant.running("run-0", SOON).await;
    tenant.cluster.kill_leader().await;
    for number in 0..4 {
        let status = tenant.completed(&format!("run-{number}"), SOON * 2).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    }
    let second = tenant.cluster.leader().await;
    assert_ne!(first.metadata.name, second.metadata.name);
    let jobs = tenant.audit().into_iter().filter(|request| {
        request.resource == "jobs" && request.verb == "create" && request.subresource.is_empty() && request.wrote()
    });
    assert_eq!(jobs.count(), 4, "one Job a run");
}

#[tokio::test]
async fn a_leader_that_is_told_to_stop_hands_over_at_once() {
    let tenant = Tenant::alone("leader-stopped").await;
    let _replicas = Replicas::two(&tenant).await;
    let operation = tenant.script_type("quick", "true", |_| {}).await;
    let leader = tenant.cluster.leader().await.metadata.name.expect("a name");
    let pods: Api<Pod> = Api::namespaced(tenant.cluster.client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"));
    pods.delete(&leader, &DeleteParams::default()).await.expect("a pod can be deleted");
    let stopped = Instant::now();
    tenant.start("run", json!({ "type": operation })).await;
    tenant.running("run", SOON).await;
    // A Lease that is not given back lasts 15 s.
    let taken_over = stopped.elapsed();
    assert!(taken_over < Duration::from_secs(12), "the next leader worked after {taken_over:?}");
    assert_ended(&tenant.completed("run", SOON).await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_rolling_update_ends_what_is_in_flight_once_and_rewrites_nothing_that_is_completed() {
    let tenant = Tenant::alone("rolling-update").await;
    let one = |spec: &mut Value| spec["concurrency"] = json!({ "perTenant": 1 });
    let operation = tenant.script_type("slow", "sleep 8", one).await;
    let start = async |name: &str, number: u32| {
        tenant.start(name, json!({ "type": operation, "inputs": { "n": number } })).await;
    };
    start("completed", 0).await;
    tenant.completed("completed", SOON).await;
    start("running", 1).await;
    tenant.running("running", SOON).await;
    start("queued", 2).await;
    tenant.run_when("queued", "it waits", SOON, |run| run.status_or_default().waiting.is_some()).await;
    let before = tenant.audit().len();
    // The new process starts beside the old one, which has the Lease until it ends.
    let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
    let selector = "--selector=app.kubernetes.io/name=tenantatlas";
    for action in [&["rollout", "restart"][..], &["rollout", "status", "--timeout=3m"]] {
        let rest = ["deployment", selector, "--namespace", &namespace];
        tenant.cluster.kubectl_prints(&[action, &rest].concat());
    }
    for name in ["running", "queued"] {
        assert_ended(&tenant.completed(name, SOON).await, Outcome::Succeeded, Reason::Succeeded);
    }
    assert_eq!(tenant.jobs().await.len(), 3, "each has the one Job");
    let rewritten: Vec<_> = tenant
        .audit()
        .into_iter()
        .skip(before)
        .filter(|request| request.by_operator() && request.wrote() && request.name == "completed")
        .collect();
    assert!(rewritten.is_empty(), "{rewritten:?}");
}

#[tokio::test]
async fn an_idle_operator_writes_nothing_but_its_lease() {
    let tenant = Tenant::alone("idle").await;
    let operation = tenant.script_type("quick", "true", |_| {}).await;
    tenant.start("run", json!({ "type": operation })).await;
    tenant.completed("run", SOON).await;
    let writes = || tenant.audit().into_iter().filter(|request| request.by_operator() && request.wrote()).count();
    // Settled: nothing for three seconds. Then the same for ten.
    let mut seen = (writes(), Instant::now());
    wait_for("the operator has nothing to do", SOON, async || {
        let now = writes();
        if now != seen.0 {
            seen = (now, Instant::now());
        }
        if seen.1.elapsed() > Duration::from_secs(3) { Ok(()) } else { Err(format!("{now} writes")) }
    })
    .await;
    let settled = writes();
    let since = Instant::now();
    wait_for("ten quiet seconds", SOON, async || {
        assert_eq!(writes(), settled, "a write though nothing changed");
        if since.elapsed() > Duration::from_secs(10) { Ok(()) } else { Err("not yet") }
    })
    .await;
}
