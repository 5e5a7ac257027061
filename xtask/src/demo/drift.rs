//! The part of the demo that finds what was changed by hand: accepted, or put back by a restore.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::{Demo, Tenant};
use crate::shell;

/// The evidence of a finding, as a user would ask for it.
const EVIDENCE: &str =
    r#"jsonpath={range .spec.evidence[*]}{.path}{"\n  "}{.before}{" -> "}{.after}{"\n  by "}{.manager}{"\n"}{end}"#;

/// What a list of findings shows.
const COLUMNS: &str = "custom-columns=KIND:.spec.subject.kind,NAME:.spec.subject.name,CHANGE:.spec.change,SEVERITY:.spec.severity,STATE:.status.state,RESTORED:.status.restored.restoreRun.name";

const DEPLOYMENT: &str = "orders";
const CONFIG_MAP: &str = "search-features";
const SECRET: &str = "mail-credentials";

impl Demo {
    /// Changes three objects, finds them, accepts one change and has the others put back. The newest
    /// backup of the whole tenant is the baseline.
    pub(super) fn drift(&self, tenant: &Tenant) -> Result<()> {
        let namespace = &tenant.namespace;
        self.screen.heading("A busy week: three objects are changed by hand. What differs from the last backup?");
        self.set_image(tenant, "hotfix")?;
        self.patch(tenant, &format!("configmap/{CONFIG_MAP}"), &json!({ "data": { "beta": "true" } }))?;
        // Another value each time the demo is shown, or it would be accepted already. 16 digits are
        // valid base64.
        let moment = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let rotated = json!({ "data": { "password": format!("{moment:016}") } });
        self.patch(tenant, &format!("secret/{SECRET}"), &rotated)?;
        self.find_drift(tenant)?;
        let deployment = self.finding(namespace, "Deployment", DEPLOYMENT)?;
        let config_map = self.finding(namespace, "ConfigMap", CONFIG_MAP)?;
        let secret = self.finding(namespace, "Secret", SECRET)?;
        for finding in [&deployment, &config_map, &secret] {
            self.wait_for(namespace, "jsonpath={.status.state}=new", &format!("finding/{}", finding.name))?;
        }
        self.list_findings(namespace)?;
        for finding in [&deployment, &secret] {
            self.evidence(namespace, &finding.name)?;
        }

        self.screen.heading("The new password was planned, so Ada accepts it; the rest she has put back, after a look");
        let accepted = json!({ "note": "planned: passwords are rotated", "digest": secret.digest });
        self.patch(tenant, &format!("finding/{}", secret.name), &json!({ "spec": { "acknowledged": accepted } }))?;
        for finding in [&deployment, &config_map] {
            let named = json!({ "name": finding.name });
            let look = self.restore_run(tenant, "look-", &json!({ "finding": named, "dryRun": true }))?;
            self.restore_run(tenant, "put-back-", &json!({ "finding": named, "preview": { "name": look } }))?;
        }
        self.type_out(&["get", "restoreruns", "--namespace", namespace, "--output", "wide"])?;
        for (finding, state) in [(&deployment, "resolved"), (&config_map, "resolved"), (&secret, "acknowledged")] {
            let condition = format!("jsonpath={{.status.state}}={state}");
            self.wait_for(namespace, &condition, &format!("finding/{}", finding.name))?;
        }
        self.list_findings(namespace)
    }

    /// The findings, without their long names.
    fn list_findings(&self, namespace: &str) -> Result<()> {
        self.screen.line("");
        self.type_out(&["get", "findings", "--namespace", namespace, "--output", COLUMNS])
    }

    fn set_image(&self, tenant: &Tenant, version: &str) -> Result<()> {
        let (object, image) =
            (format!("deployment/{DEPLOYMENT}"), format!("main=registry.example.com/{DEPLOYMENT}:{version}"));
        self.as_person(&tenant.person, &["set", "image", &object, &image, "--namespace", &tenant.namespace])
    }

    /// Patches an object as the tenant's own administrator.
    fn patch(&self, tenant: &Tenant, object: &str, patch: &Value) -> Result<()> {
        let (person, patch) = (tenant.person.as_str(), patch.to_string());
        let arguments = ["patch", object, "--namespace", &tenant.namespace, "--type", "merge", "--patch"];
        self.screen.command(&format!("kubectl --as {person} {} '{patch}'", arguments.join(" ")));
        self.screen.table(&shell::output(self.kubectl_as(Some(person))?.args(arguments).arg(&patch))?);
        Ok(())
    }

    /// Has the tenant compared with its newest backup, and shows what the run says.
    fn find_drift(&self, tenant: &Tenant) -> Result<()> {
        let drift = json!({ "type": "drift.generate", "inputs": { "repository": "main" } });
        let run = self.create(tenant, Some(&tenant.person), "drift-", &drift)?;
        self.follow(std::slice::from_ref(&run))?;
        self.message(&run)
    }

    /// The finding of an object.
    fn finding(&self, namespace: &str, kind: &str, name: &str) -> Result<Found> {
        let get = ["get", "findings", "--namespace", namespace, "--output", "json"];
        let listed = shell::output(self.kubectl()?.args(get))?;
        let listed: Value = serde_json::from_str(&listed).context("kubectl did not print JSON")?;
        let is_of = |finding: &&Value| {
            let subject = &finding["spec"]["subject"];
            subject["kind"] == kind && subject["name"] == name
        };
        let finding = listed["items"].as_array().into_iter().flatten().find(is_of);
        let finding = finding.with_context(|| format!("the run has not found that {kind} {name} differs"))?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a finding lacks its name or digest");
        Ok(Found { name: text(&finding["metadata"]["name"])?, digest: text(&finding["spec"]["digest"])? })
    }

    /// Prints what a finding shows.
    fn evidence(&self, namespace: &str, finding: &str) -> Result<()> {
        let get = ["get", "finding", finding, "--namespace", namespace, "--output"];
        self.screen.command(&format!("kubectl {} '{EVIDENCE}'", get.join(" ")));
        self.screen.table(&shell::output(self.kubectl()?.args(get).arg(EVIDENCE))?);
        Ok(())
    }
}

/// A finding, by name, and the difference that it shows.
struct Found {
    name: String,
    digest: String,
}
