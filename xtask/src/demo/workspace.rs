//! The part of the demo in which a platform team limits what the tenants of a workspace may run.

use anyhow::Result;
use serde_json::{Value, json};

use super::{Demo, Tenant};

/// Why a run was refused.
const WHY: &str = "custom-columns=NAME:.metadata.name,OUTCOME:.status.outcome,REASON:.status.reason";

impl Demo {
    /// Limits a workspace, shows a run that it refuses, and lifts the limit again, so that the demo can be repeated.
    pub(super) fn workspace(&self, tenant: &Tenant) -> Result<()> {
        let (namespace, name) = (&tenant.namespace, tenant.workspace);
        self.screen.heading(
            "The platform team limits what the tenants of a workspace may run, and sees which of them have no backup",
        );
        let limited = json!({ "allowedTypes": ["backup.*", "restore.*"], "quotas": { "openRuns": 50 } });
        self.set_workspace(name, &limited)?;
        let inputs = json!({ "repository": "main", "item": "apps/Deployment/cart" });
        let history = json!({ "type": "item.history", "inputs": inputs });
        let run = self.create(tenant, Some(&tenant.person), "history-", &history)?;
        let object = format!("operationrun/{}", run.name);
        self.wait_for(namespace, "jsonpath={.status.outcome}=blocked", &object)?;
        self.type_out(&["get", &object, "--namespace", namespace, "--output", WHY])?;
        self.screen.quote(&self.field(namespace, &object, "{.status.message}")?);
        self.set_workspace(name, &json!({ "quotas": { "openRuns": 50 } }))?;
        self.type_out(&["get", "workspaces"])
    }

    /// Applies a workspace, and waits until the operator has seen it and its tenants.
    fn set_workspace(&self, name: &str, spec: &Value) -> Result<()> {
        let workspace = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace", "metadata": { "name": name }, "spec": spec,
        });
        self.apply(&workspace)?;
        let object = format!("workspace/{name}");
        let generation = self.field("default", &object, "{.metadata.generation}")?;
        self.wait_for("default", &format!("jsonpath={{.status.observedGeneration}}={generation}"), &object)
    }
}
