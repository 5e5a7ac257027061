//! The part of the demo in which one order changes several objects.

use anyhow::Result;
use serde_json::json;

use super::{Demo, Tenant};

const RESTARTED: [&str; 3] = ["orders", "search", "web"];

/// When each Deployment was restarted last.
const COLUMNS: &str = r"custom-columns=NAME:.metadata.name,RESTARTED:.spec.template.metadata.annotations.kubectl\.kubernetes\.io/restartedAt";

/// What a preview showed.
const SEEN: &str = "custom-columns=NAME:.metadata.name,SHOWED:.status.message,DIGEST:.status.planDigest";

impl Demo {
    /// Has the tenant's administrator restart Deployments.
    pub(super) fn bulk(&self, tenant: &Tenant) -> Result<()> {
        let namespace = &tenant.namespace;
        self.screen.heading("Ada looks at what restarting three Deployments would do, then does just that: each once, whatever dies on the way");
        let kind = json!({ "group": "apps", "kind": "Deployment" });
        let look = json!({ "resource": kind, "action": "restart", "items": RESTARTED, "dryRun": true });
        let seen = self.carried_out(tenant, "bulkoperationrun", &tenant.parent("BulkOperationRun", "look-", &look))?;
        self.type_out(&["get", &format!("bulkoperationrun/{seen}"), "--namespace", namespace, "--output", SEEN])?;
        let spec = json!({ "resource": kind, "action": "restart", "preview": { "name": seen } });
        self.carried_out(tenant, "bulkoperationrun", &tenant.parent("BulkOperationRun", "restart-", &spec))?;
        self.type_out(&["get", "bulkoperationruns", "--namespace", namespace, "--output", "wide"])?;
        let list = ["get", "deployments", "--namespace", namespace, "--output", COLUMNS];
        self.type_out(&list.into_iter().chain(RESTARTED).collect::<Vec<_>>())
    }
}
