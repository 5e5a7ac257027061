//! The part of the demo in which something goes wrong: looked at, put back exactly so, and seen to be back.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Demo, Tenant};
use crate::shell;

/// What is deleted, and what is broken.
const DELETED: [&str; 3] = ["configmap/web-settings", "configmap/texts-de", "secret/payments-credentials"];
const BROKEN: &str = "deployment/web";

/// With this heading begins what the README shows.
pub(super) const PREVIEW: &str = "Ada looks first: what would a restore do, item by item?";

/// What a plan says of an item that changes, as a user would ask for it.
const CHANGES: &str =
    r#"jsonpath={range .items[*].spec.plan[?(@.action!="unchanged")]}{.action}{"  "}{.itemId}{"\n"}{.diff}{end}"#;

impl Demo {
    /// Damages a tenant, and has its own administrator put it back.
    pub(super) fn restore(&self, tenant: &Tenant, set: &str) -> Result<()> {
        let (namespace, person) = (&tenant.namespace, tenant.person.as_str());
        self.screen
            .heading("A bad afternoon in Ada's tenant: three objects are deleted, and a wrong image is rolled out");
        let all: Vec<&str> = DELETED.into_iter().chain([BROKEN]).collect();
        let whole = self.specs(namespace, &all)?;
        for object in DELETED {
            self.as_person(person, &["delete", object, "--namespace", namespace])?;
        }
        let image = "main=registry.example.com/web:broken";
        self.as_person(person, &["set", "image", BROKEN, image, "--namespace", namespace])?;
        ensure!(self.specs(namespace, &all)? != whole, "the damage was not done");

        self.screen.heading(PREVIEW);
        let spec = json!({ "backupSet": { "name": set }, "dryRun": true, "existingResourcePolicy": "update" });
        let look = self.restore_run(tenant, "look-", &spec)?;
        self.type_out(&["get", "restoreruns", "--namespace", namespace])?;
        let run = self.field(namespace, &format!("restorerun/{look}"), "{.status.operationRun.name}")?;
        let of_run = format!("--field-selector=spec.run.name={run}");
        let plan = ["get", "operationreports", "--namespace", namespace, &of_run, "--output"];
        self.screen.command(&format!("kubectl {} '{CHANGES}'", plan.join(" ")));
        self.screen.table(&shell::output(self.kubectl()?.args(plan).arg(CHANGES))?);

        self.screen.heading("Then she has exactly that done, and nothing if anything has moved since");
        let spec = json!({ "backupSet": { "name": set }, "preview": { "name": look } });
        let put_back = self.restore_run(tenant, "put-back-", &spec)?;
        self.type_out(&["get", "restoreruns", "--namespace", namespace, "--output", "wide"])?;
        ensure!(self.specs(namespace, &all)? == whole, "the objects are not as they were");
        self.screen.line("  Every object is as it was.");
        let undo = self.field(namespace, &format!("restorerun/{put_back}"), "{.status.undoBackupSet}")?;
        self.screen
            .line(&format!("  To undo even that: preview a restore of backup set {undo} with prune, and apply it."));
        Ok(())
    }

    /// Creates a restore as the tenant's administrator and waits for its end; its name.
    pub(super) fn restore_run(&self, tenant: &Tenant, prefix: &str, spec: &Value) -> Result<String> {
        self.carried_out(tenant, "restorerun", &tenant.parent("RestoreRun", prefix, spec))
    }

    /// Creates what has a run of its own, as the tenant's administrator, and waits for its end; its name.
    pub(super) fn carried_out(&self, tenant: &Tenant, resource: &str, manifest: &Value) -> Result<String> {
        let mut create = self.kubectl_as(Some(&tenant.person))?;
        create.args([
            "create",
            "--namespace",
            &tenant.namespace,
            "--filename",
            "-",
            "--output",
            "jsonpath={.metadata.name}",
        ]);
        let name = shell::feed(&mut create, manifest.to_string().as_bytes())?;
        let object = format!("{resource}/{name}");
        self.wait_for(&tenant.namespace, "jsonpath={.status.phase}=completed", &object)?;
        let outcome = self.field(&tenant.namespace, &object, "{.status.outcome}")?;
        if outcome != "succeeded" {
            let message = self.field(&tenant.namespace, &object, "{.status.message}")?;
            anyhow::bail!("{object} ended {outcome}: {message}");
        }
        Ok(name)
    }

    pub(super) fn field(&self, namespace: &str, object: &str, path: &str) -> Result<String> {
        let output = format!("jsonpath={path}");
        shell::output(self.kubectl()?.args(["get", object, "--namespace", namespace, "--output", &output]))
    }

    pub(super) fn as_person(&self, person: &str, arguments: &[&str]) -> Result<()> {
        self.screen.command(&format!("kubectl --as {person} {}", arguments.join(" ")));
        self.screen.table(&shell::output(self.kubectl_as(Some(person))?.args(arguments))?);
        Ok(())
    }

    /// What these objects hold.
    pub(super) fn specs(&self, namespace: &str, objects: &[&str]) -> Result<Vec<Value>> {
        let mut get = self.kubectl()?;
        get.args(["get", "--namespace", namespace, "--ignore-not-found", "--output", "json"]);
        let text = shell::output(get.args(objects))?;
        let list: Value = serde_json::from_str(&text).context("kubectl did not print JSON")?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let content = |item: &Value| json!([item["kind"], item["metadata"]["name"], item["data"], item["spec"]]);
        Ok(items.iter().map(content).collect())
    }
}
