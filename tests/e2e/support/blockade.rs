//! A write that does not come through: the API server itself refuses it, in one tenant, until the blockade is lifted.
//! So the operator stands in the middle of its work, at a place of our choice, and nothing in it was switched.

use super::cluster::Cluster;
use super::tenant::Tenant;
use super::wait::{SOON, wait_for};
use serde_json::{Value, json};

/// See the module's text. Lifted at the latest when it is dropped.
pub(crate) struct Blockade {
    cluster: Cluster,
    name: String,
}

impl Tenant {
    /// Refuses these operations (`CREATE`, `UPDATE`) on a resource (`operationruns/status`) in the tenant. `probe` is a
    /// dry-run request that must be refused once the blockade stands.
    pub(crate) async fn blockade(
        &self,
        group: &str,
        resource: &str,
        operation: &str,
        probe: impl Fn() -> bool,
    ) -> Blockade {
        let name = format!("{}-{}", self.name, resource.replace('/', "-"));
        let api = "admissionregistration.k8s.io/v1";
        let this_tenant = json!({ "matchLabels": { "kubernetes.io/metadata.name": self.name } });
        let rule =
            json!({ "apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": [resource] });
        let policy = json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicy", "metadata": { "name": name }, "spec": {
            "matchConstraints": { "resourceRules": [rule] },
            "validations": [{ "expression": "false", "message": "a blockade of the tests", "reason": "Forbidden" }],
        }});
        let binding = json!({ "apiVersion": api, "kind": "ValidatingAdmissionPolicyBinding", "metadata": { "name": name }, "spec": {
            "policyName": name, "validationActions": ["Deny"], "matchResources": { "namespaceSelector": this_tenant },
        }});
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": [policy, binding] });
        self.cluster.kubectl_reads(&["create", "--filename", "-"], &list.to_string());
        let blockade = Blockade { cluster: self.cluster.clone(), name };
        wait_for("the blockade stands", SOON, async || if probe() { Ok(()) } else { Err("it lets through") }).await;
        blockade
    }

    /// No status of a run in the tenant can be written.
    pub(crate) async fn blockade_statuses(&self, run: &str) -> Blockade {
        let patch = r#"{"status":{"progress":"1/1"}}"#;
        let probe = [
            "patch",
            "operationrun",
            run,
            "--namespace",
            &self.name,
            "--subresource=status",
            "--type=merge",
            "--patch",
        ];
        let probe = [&probe[..], &[patch, "--dry-run=server"]].concat();
        self.blockade("tenantatlas.io", "operationruns/status", "UPDATE", || {
            !self.cluster.kubectl(&probe).status.success()
        })
        .await
    }

    /// No backup set can be made in the tenant.
    pub(crate) async fn blockade_backup_sets(&self) -> Blockade {
        let set: Value = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
            "metadata": { "name": "probe", "namespace": self.name },
            "spec": { "repository": { "name": "main" }, "snapshot": "0".repeat(64), "run": { "name": "probe", "uid": "probe" },
                "namespaceUid": "probe" } });
        let file = std::env::temp_dir().join(format!("{}-probe.json", self.name));
        std::fs::write(&file, set.to_string()).expect("a temporary file");
        let path = file.to_string_lossy().into_owned();
        // Refused for the blockade: others may refuse it too.
        let refused = || {
            let output = self.cluster.kubectl(&["create", "--dry-run=server", "--filename", &path]);
            String::from_utf8_lossy(&output.stderr).contains("a blockade of the tests")
        };
        let blockade = self.blockade("tenantatlas.io", "backupsets", "CREATE", refused).await;
        std::fs::remove_file(&file).expect("a temporary file");
        blockade
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
