//! The end of a tenant: no policy is in the way of the namespace controller and the garbage collector.

use super::call;
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tenantatlas::api::{BackupSet, Finding, OperationReport, OperationRun};

#[tokio::test]
async fn deleting_a_tenant_ends_whatever_is_going_on_in_it() {
    let tenant = Tenant::new("end").await;
    // Running, waiting for a turn, completed, cancelled, and records of each kind.
    let (_, pod) = tenant.operation_with_pod("running").await;
    let one = tenant.script_type("one", FOREVER, |spec| spec["concurrency"] = json!({ "perTenant": 1 })).await;
    for (name, size) in [("first", 1), ("second", 2)] {
        tenant.start(name, json!({ "type": one, "inputs": { "size": size } })).await;
    }
    tenant.start("blocked", json!({ "type": "backup.capture", "inputs": { "repository": "none" } })).await;
    tenant.completed("blocked", SOON).await;
    tenant.start("cancelled", json!({ "type": one, "inputs": { "size": 3 } })).await;
    tenant.merge::<OperationRun>("cancelled", json!({ "spec": { "cancel": true } })).await;
    tenant.unready_repository();
    let uid = tenant.run("running").await.metadata.uid.expect("a uid");
    let run = json!({ "name": "running", "uid": uid });
    let owner =
        json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "name": "running", "uid": uid });
    let set = json!({ "metadata": { "name": "held" }, "spec": { "repository": { "name": "main" }, "snapshot": "a".repeat(64),
        "run": run, "namespaceUid": tenant.uid, "hold": true } });
    tenant.create_as::<BackupSet>(tenant.cluster.as_operator(), set).await.expect("a set");
    let report = json!({ "metadata": { "name": "report", "ownerReferences": [owner] },
        "spec": { "run": run, "chunk": 0, "chunks": 1, "items": [] } });
    let worker = tenant.worker(&pod).await;
    tenant.create_as::<OperationReport>(worker.clone(), report).await.expect("a report");
    let baseline = tenant.baseline("nightly").await;
    let found = crate::findings::finding("drift-1", &baseline);
    tenant.create_as::<Finding>(worker.clone(), found).await.expect("a finding");
    let lease =
        json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": pod.metadata.name } });
    call(&worker, "POST", &tenant.path("coordination.k8s.io/v1", "leases"), &lease).await.expect("its Lease");

    tenant.ends().await;
}

#[tokio::test]
async fn deleting_a_run_takes_its_job_pods_and_reports_along() {
    for (name, propagation) in [("background", DeleteParams::background()), ("foreground", DeleteParams::foreground())]
    {
        let tenant = Tenant::new(name).await;
        tenant.operation_with_pod("mine").await;
        tenant.api::<OperationRun>().delete("mine", &propagation).await.expect("a run can be deleted");
        wait_for("its Job and pods are gone", SOON, async || {
            let (jobs, pods) = (tenant.jobs().await.len(), tenant.operation_pods().await.len());
            if jobs + pods == 0 { Ok(()) } else { Err(format!("{jobs} Jobs, {pods} pods")) }
        })
        .await;
    }
}

#[tokio::test]
async fn a_namespace_that_is_no_tenant_any_more_can_still_be_cleared() {
    let tenant = Tenant::new("offboard").await;
    tenant.operation_with_pod("mine").await;
    let path = format!("/api/v1/namespaces/{}", tenant.name);
    let label = json!({ "metadata": { "labels": { "tenantatlas.io/workspace": null } } });
    call(&tenant.cluster.client, "PATCH", &path, &label).await.expect("an administrator may");
    tenant.ends().await;
}

impl Tenant {
    /// A repository that nobody can open.
    fn unready_repository(&self) {
        let repository = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository", "metadata": { "name": "main" },
            "spec": { "storage": { "persistentVolumeClaim": { "claimName": "none" } }, "passwordSecret": { "name": "none" } } });
        self.apply(&repository.to_string());
    }

    /// Deletes the namespace and waits until it is gone.
    pub(super) async fn ends(&self) {
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.cluster.client.clone());
        namespaces.delete(&self.name, &DeleteParams::default()).await.expect("a namespace can be deleted");
        let path = format!("/api/v1/namespaces/{}", self.name);
        wait_for("the namespace is gone", SOON, async || {
            match call(&self.cluster.client, "GET", &path, &Value::Null).await {
                Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
                Err(error) => Err(error.to_string()),
                Ok(left) => Err(left["status"].to_string()),
            }
        })
        .await;
    }
}
