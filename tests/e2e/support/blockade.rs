//! A write that does not come through: the API server itself refuses it, in one tenant, until the blockade is lifted.
//! So the operator stands in the middle of its work, at a place of our choice, and nothing in it was switched.

use super::cluster::Cluster;
use super::tenant::Tenant;
use super::wait::{SOON, wait_for};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tenantatlas::api::{BackupSet, OperationRun};

/// What the API server says while one stands.
const MESSAGE: &str = "a blockade of the tests";

/// See the module's text. Lifted at the latest when it is dropped.
pub(crate) struct Blockade {
    cluster: Cluster,
    name: String,
}

impl Tenant {
    /// Refuses an operation (`CREATE`, `UPDATE`) on a resource of ours in the tenant. `probe` is such a request, a dry run
    /// as the operator: it is refused once the blockade stands.
    async fn blockade(
        &self,
        resource: &str,
        operation: &str,
        probe: impl AsyncFn(&Client) -> Result<(), kube::Error>,
    ) -> Blockade {
        let name = format!("{}-{}", self.name, resource.replace('/', "-"));
        let api = "admissionregistration.k8s.io/v1";
        let this_tenant = json!({ "matchLabels": { "kubernetes.io/metadata.name": self.name } });
        let rule = json!({ "apiGroups": ["tenantatlas.io"], "apiVersions": ["*"], "operations": [operation], "resources": [resource] });
        let policy = json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name }, "spec": {
            "matchConstraints": { "resourceRules": [rule] },
            "validations": [{ "expression": "false", "message": MESSAGE, "reason": "Forbidden" }],
        }});
        let binding = json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name }, "spec": {
            "policyName": name, "validationActions": ["Deny"], "matchResources": { "namespaceSelector": this_tenant },
        }});
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [policy, binding] });
        self.cluster.kubectl_reads(&["create", "--filename", "-"], &list.to_string());
        let blockade = Blockade { cluster: self.cluster.clone(), name };
        let operator = self.cluster.as_user(&self.cluster.operator_account().await, &["system:serviceaccounts"]);
        let operator = &operator;
        wait_for("the blockade stands", SOON, async || match probe(operator).await {
            Ok(()) => Err("it lets through".to_owned()),
            Err(error) if error.to_string().contains(MESSAGE) => Ok(()),
            Err(error) => Err(error.to_string()),
        })
        .await;
        blockade
    }

    /// No status of a run in the tenant can be written.
    pub(crate) async fn blockade_statuses(&self, run: &str) -> Blockade {
        let patch = Patch::Merge(json!({ "status": { "progress": "1/1" } }));
        self.blockade("operationruns/status", "UPDATE", async |operator| {
            let runs: Api<OperationRun> = Api::namespaced(operator.clone(), &self.name);
            runs.patch_status(run, &PatchParams { dry_run: true, ..PatchParams::default() }, &patch).await.map(drop)
        })
        .await
    }

    /// No spec of a run in the tenant can be changed, so none can be cancelled.
    pub(crate) async fn blockade_cancels(&self, run: &str) -> Blockade {
        let patch = Patch::Merge(json!({ "spec": { "cancel": true } }));
        self.blockade("operationruns", "UPDATE", async |operator| {
            let runs: Api<OperationRun> = Api::namespaced(operator.clone(), &self.name);
            runs.patch(run, &PatchParams { dry_run: true, ..PatchParams::default() }, &patch).await.map(drop)
        })
        .await
    }

    /// No run can be made in the tenant.
    pub(crate) async fn blockade_runs(&self) -> Blockade {
        let run = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": { "name": "probe" },
            "spec": { "type": "backup.capture", "initiator": { "username": "ada" } } });
        let run: OperationRun = serde_json::from_value(run).expect("a run");
        self.blockade("operationruns", "CREATE", async |operator| {
            let runs: Api<OperationRun> = Api::namespaced(operator.clone(), &self.name);
            runs.create(&PostParams { dry_run: true, ..PostParams::default() }, &run).await.map(drop)
        })
        .await
    }

    /// No backup set can be made in the tenant.
    pub(crate) async fn blockade_backup_sets(&self) -> Blockade {
        let set = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": { "name": "probe" },
            "spec": { "repository": { "name": "main" }, "snapshot": "0".repeat(64), "run": { "name": "probe", "uid": "probe" },
                "namespaceUid": "probe" } });
        let set: BackupSet = serde_json::from_value(set).expect("a backup set");
        self.blockade("backupsets", "CREATE", async |operator| {
            let sets: Api<BackupSet> = Api::namespaced(operator.clone(), &self.name);
            sets.create(&PostParams { dry_run: true, ..PostParams::default() }, &set).await.map(drop)
        })
        .await
    }
}

impl Blockade {
    pub(crate) fn lift(self) {
        drop(self);
    }
}

impl Drop for Blockade {
    fn drop(&mut self) {
        for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
            // Anything may have happened to the cluster by now; the story's own failure is what counts.
            self.cluster.kubectl(&["delete", kind, &self.name, "--ignore-not-found", "--wait=false"]);
        }
    }
}
