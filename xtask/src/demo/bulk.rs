//! The part of the demo in which one order changes or deletes several objects.

use anyhow::{Result, ensure};
use serde_json::json;

use super::{Demo, Tenant};

const RESTARTED: [&str; 3] = ["orders", "search", "web"];

const DELETED: [&str; 2] = ["orders", "search"];

/// These, and one that stays.
const OBJECTS: [&str; 3] = ["deployment/orders", "deployment/search", "deployment/web"];

/// What a deletion would do, or did, and what brings it back.
const KEPT: &str = "custom-columns=NAME:.metadata.name,MESSAGE:.status.message,UNDO:.status.undoBackupSet";

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

    /// Has the tenant's administrator delete objects, and bring them back.
    pub(super) fn bulk_delete(&self, tenant: &Tenant) -> Result<()> {
        let namespace = &tenant.namespace;
        self.screen.heading(
            "Ada deletes two services: she sees what would go, and what goes is kept in a backup set of its own",
        );
        let whole = self.specs(namespace, &OBJECTS)?;
        let kind = json!({ "group": "apps", "kind": "Deployment" });
        let look = json!({ "resource": kind, "action": "delete", "items": DELETED, "dryRun": true,
            "options": { "repository": "main" } });
        let seen = self.carried_out(tenant, "bulkoperationrun", &tenant.parent("BulkOperationRun", "look-", &look))?;
        let spec = json!({ "resource": kind, "action": "delete", "preview": { "name": seen } });
        let gone = self.carried_out(tenant, "bulkoperationrun", &tenant.parent("BulkOperationRun", "clear-", &spec))?;
        let both = [format!("bulkoperationrun/{seen}"), format!("bulkoperationrun/{gone}")];
        self.type_out(&["get", &both[0], &both[1], "--namespace", namespace, "--output", KEPT])?;
        ensure!(self.specs(namespace, &OBJECTS)? != whole, "nothing was deleted");
        self.screen.heading("A restore of that set brings them back");
        let undo = self.field(namespace, &both[1], "{.status.undoBackupSet}")?;
        self.restore_run(tenant, "bring-back-", &json!({ "backupSet": { "name": undo } }))?;
        ensure!(self.specs(namespace, &OBJECTS)? == whole, "the objects are not as they were");
        self.screen.line("  Every object is as it was.");
        Ok(())
    }
}
