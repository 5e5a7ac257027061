//! Stopping a run, wherever it is.

use crate::support::run::assert_ended;
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use tenantatlas::api::{OperationRun, Outcome, Reason};

impl Tenant {
    pub(crate) async fn cancel(&self, name: &str) {
        self.merge::<OperationRun>(name, json!({ "spec": { "cancel": true } })).await;
    }

    async fn try_merge(&self, name: &str, patch: Value) -> Result<OperationRun, kube::Error> {
        let runs: Api<OperationRun> = self.api();
        runs.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await
    }
}

#[tokio::test]
async fn a_running_run_is_cancelled_and_its_pod_goes() {
    let tenant = Tenant::new("cancel-running").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("run", json!({ "type": operation })).await;
    wait_for("its pod runs", SOON, async || {
        let pods = tenant.operation_pods().await;
        let running =
            pods.iter().any(|pod| pod.status.as_ref().is_some_and(|status| status.phase.as_deref() == Some("Running")));
        if running { Ok(()) } else { Err(tenant.look()) }
    })
    .await;
    tenant.cancel("run").await;
    let status = tenant.completed("run", SOON).await;
    assert_ended(&status, Outcome::Failed, Reason::Cancelled);
    assert!(tenant.operation_pods().await.is_empty(), "completed as cancelled only once nothing of it runs");
}

#[tokio::test]
async fn a_queued_run_is_cancelled_and_never_starts() {
    let tenant = Tenant::new("cancel-queued").await;
    let operation = tenant.script_type("slow", FOREVER, |spec| spec["concurrency"] = json!({ "perTenant": 1 })).await;
    tenant.start("first", json!({ "type": operation, "inputs": { "n": 1 } })).await;
    tenant.running("first", SOON).await;
    tenant.start("second", json!({ "type": operation, "inputs": { "n": 2 } })).await;
    tenant.waiting("second", Reason::ConcurrencyLimit, SOON).await;
    tenant.cancel("second").await;
    let status = tenant.completed("second", SOON).await;
    assert_ended(&status, Outcome::Failed, Reason::Cancelled);
    assert_eq!((status.job, status.started_at), (None, None));
    assert_eq!(tenant.jobs().await.len(), 1);
}

#[tokio::test]
async fn a_run_cancelled_from_birth_never_starts() {
    let tenant = Tenant::new("cancel-born").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("run", json!({ "type": operation, "cancel": true })).await;
    assert_ended(&tenant.completed("run", SOON).await, Outcome::Failed, Reason::Cancelled);
    assert!(tenant.jobs().await.is_empty());
}

#[tokio::test]
async fn cancelling_a_joiner_leaves_the_work_going() {
    let tenant = Tenant::new("cancel-joiner").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    for name in ["first", "second"] {
        tenant.start(name, json!({ "type": operation })).await;
        tenant.running(name, SOON).await;
    }
    let job = tenant.status("first").await.job;
    tenant.cancel("second").await;
    assert_ended(&tenant.completed("second", SOON).await, Outcome::Failed, Reason::Cancelled);
    let first = tenant.running("first", SOON).await;
    assert_eq!(first.job, job, "the Job is untouched");
    assert_eq!(tenant.operation_pods().await.len(), 1);
}

#[tokio::test]
async fn a_cancellation_cannot_be_withdrawn_and_a_completed_run_cannot_be_cancelled() {
    let tenant = Tenant::new("cancel-final").await;
    let slow = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("cancelled", json!({ "type": slow })).await;
    tenant.cancel("cancelled").await;
    let refused = tenant.try_merge("cancelled", json!({ "spec": { "cancel": false } })).await.unwrap_err().to_string();
    assert!(refused.contains("cannot be withdrawn") || refused.contains("is completed"), "{refused}");

    let quick = tenant.script_type("quick", "true", |_| {}).await;
    tenant.start("done", json!({ "type": quick })).await;
    tenant.completed("done", SOON).await;
    let refused = tenant.try_merge("done", json!({ "spec": { "cancel": true } })).await.unwrap_err().to_string();
    assert!(refused.contains("nothing left to cancel"), "{refused}");
}

#[tokio::test]
async fn the_rest_of_a_spec_is_immutable_and_the_refusal_says_to_create_a_new_run() {
    let tenant = Tenant::new("immutable").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("run", json!({ "type": operation, "inputs": { "a": 1 } })).await;
    for patch in [
        json!({ "type": "backup.capture" }),
        json!({ "inputs": { "a": 2 } }),
        json!({ "onDuplicate": "Reject" }),
        json!({ "timeoutSeconds": 5 }),
        json!({ "queueTimeoutSeconds": 5 }),
        json!({ "rerunOf": { "name": "other" } }),
        json!({ "target": { "apiVersion": "v1", "kind": "ConfigMap", "name": "x" } }),
    ] {
        let refused = tenant.try_merge("run", json!({ "spec": patch })).await;
        let refused = refused.map(drop).expect_err(&format!("{patch} must be refused")).to_string();
        assert!(refused.contains("new run") || refused.contains("new one"), "{patch}: {refused}");
    }
}
