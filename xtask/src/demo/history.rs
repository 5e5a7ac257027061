//! The part of the demo that looks back: what changed between two backups, and what a tenant holds.

use anyhow::Result;
use serde_json::json;

use super::{Demo, Started, Tenant};
use crate::shell;

/// What a comparison says of an item that differs, as a user would ask for it.
const DIFFERENCES: &str =
    r#"jsonpath={range .items[*].spec.differences[*]}{.change}{"  "}{.itemId}{"\n"}{.diff}{"\n"}{end}"#;

/// The versions of an item, as a user would ask for them.
const VERSIONS: &str =
    r#"jsonpath={range .items[*].spec.versions[*]}{.time}{"  "}{.set}{"  "}{.change}{"\n"}{.diff}{end}"#;

impl Demo {
    /// Changes a Deployment, has a backup taken, compares it with the first one, and looks the
    /// Deployment up in all backups.
    pub(super) fn history(&self, tenant: &Tenant, set: &str) -> Result<()> {
        let (namespace, person) = (&tenant.namespace, tenant.person.as_str());
        self.screen.heading("A new version is rolled out; another day, Ada asks what changed since the first backup");
        let image = "main=registry.example.com/cart:2027.01";
        self.as_person(person, &["set", "image", "deployment/cart", image, "--namespace", namespace])?;
        let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
        let later = self.create(tenant, Some(person), "backup-", &capture)?;
        self.follow(std::slice::from_ref(&later))?;
        let inputs = json!({ "repository": "main", "from": set, "to": later.name });
        let compare = json!({ "type": "sets.compare", "inputs": inputs });
        let compared = self.create(tenant, Some(person), "compare-", &compare)?;
        self.follow(std::slice::from_ref(&compared))?;
        let of_run = format!("--field-selector=spec.run.name={}", compared.name);
        let reports = ["get", "operationreports", "--namespace", namespace, &of_run, "--output"];
        self.screen.command(&format!("kubectl {} '{DIFFERENCES}'", reports.join(" ")));
        self.screen.table(&shell::output(self.kubectl()?.args(reports).arg(DIFFERENCES))?);
        self.message(&compared)?;

        self.screen.heading("Since when does the Deployment have its image? The history of one object tells it");
        let path = "/spec/template/spec/containers/0/image";
        let inputs = json!({ "repository": "main", "item": "apps/Deployment/cart", "path": path });
        let history = json!({ "type": "item.history", "inputs": inputs });
        let told = self.create(tenant, Some(person), "history-", &history)?;
        self.follow(std::slice::from_ref(&told))?;
        let of_run = format!("--field-selector=spec.run.name={}", told.name);
        let reports = ["get", "operationreports", "--namespace", namespace, &of_run, "--output"];
        self.screen.command(&format!("kubectl {} '{VERSIONS}'", reports.join(" ")));
        self.screen.table(&shell::output(self.kubectl()?.args(reports).arg(VERSIONS))?);
        self.message(&told)?;

        self.screen.heading("An inventory records which objects there are, and nothing of what they hold");
        let inventory = json!({ "type": "inventory.sync", "inputs": { "repository": "main" } });
        let recorded = self.create(tenant, Some(person), "inventory-", &inventory)?;
        self.follow(std::slice::from_ref(&recorded))?;
        self.type_out(&["get", "backupsets", "--namespace", namespace, "--output", "wide"])
    }

    /// Prints what a run says of its end.
    pub(super) fn message(&self, run: &Started) -> Result<()> {
        let get = ["get", "operationrun", &run.name, "--namespace", &run.namespace, "--output"];
        let path = "jsonpath={.status.message}";
        self.screen.command(&format!("kubectl {} '{path}'", get.join(" ")));
        self.screen.quote(&shell::output(self.kubectl()?.args(get).arg(path))?);
        Ok(())
    }
}
