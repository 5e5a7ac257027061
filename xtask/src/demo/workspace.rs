//! The part of the demo in which a platform team says what the tenants of a workspace get, and what they may run.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::{Demo, PATIENCE, Tenant};
use crate::operator::NAMESPACE;
use crate::shell;
use crate::target::Target;

/// Why a run was refused.
const WHY: &str = "custom-columns=NAME:.metadata.name,OUTCOME:.status.outcome,REASON:.status.reason";

/// What a preview of all tenants showed.
const SHOWED: &str = "custom-columns=NAME:.metadata.name,TENANTS:.status.counts.total,DELETES:.status.preview.delete,DIGEST:.status.planDigest";

/// The namespace that becomes a tenant, and its workspace.
pub(super) const NEW: (&str, &str) = ("demo-initech", "startups");

impl Demo {
    /// A namespace gets a label, and by that a repository, a schedule and a first backup.
    pub(super) fn onboarding(&self) -> Result<()> {
        let (namespace, workspace) = NEW;
        self.screen.heading("A namespace gets a label, and has a repository, a schedule and a first backup by itself");
        self.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))?;
        if let Target::Local(cluster) = &self.target {
            let uid = self.field(namespace, &format!("namespace/{namespace}"), "{.metadata.uid}")?;
            self.volumes(cluster, &uid, 1)?;
        }
        let claim = json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
        let of = |kind: &str, name: &str| json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name, "namespace": namespace } });
        let (mut volume, mut settings) = (of("PersistentVolumeClaim", "backups"), of("ConfigMap", "settings"));
        volume["spec"] = claim;
        settings["data"] = json!({ "welcome": "hello" });
        self.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": [volume, settings] }))?;
        let templates = json!({
            "repository": { "storage": { "persistentVolumeClaim": { "claimName": "backups" } } },
            "schedules": [{ "name": "nightly", "schedule": "15 2 * * *", "timeZone": "Europe/Berlin" }],
        });
        self.set_workspace(workspace, &templates)?;
        let label = format!("tenantatlas.io/workspace={workspace}");
        self.type_out(&["label", "namespace", namespace, &label, "--overwrite"])?;
        let deadline = Instant::now() + PATIENCE;
        let last = ["get", "backupschedule", "nightly", "--namespace", namespace, "--output"];
        let last = [&last[..], &["jsonpath={.status.lastSuccessful.run}", "--ignore-not-found"]].concat();
        while shell::output(self.kubectl()?.args(&last))?.is_empty() {
            ensure!(Instant::now() < deadline, "{namespace} has no backup after {} s", PATIENCE.as_secs());
            std::thread::sleep(std::time::Duration::from_millis(250));
        }
        self.type_out(&["get", "backuprepositories,backupschedules,backupsets", "--namespace", namespace])?;
        self.type_out(&["get", "secret", "main-password", "--namespace", namespace])?;
        self.screen.line("The password was made in the tenant. With recovery.recipients, a copy for the platform team is in the store.");
        Ok(())
    }

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

    /// Runs one operation in the tenants of a workspace, in waves.
    pub(super) fn over_all(&self, tenant: &Tenant) -> Result<()> {
        self.screen.heading("One record captures all tenants of a workspace, one of them first");
        let made = &self.done_over_all(
            tenant,
            "capture-all-",
            &json!({ "operation": { "type": "backup.capture", "inputs": { "repository": "main" } },
                "waves": [{ "tenants": 1 }] }),
        )?;
        self.type_out(&["get", made])?;
        self.screen.quote(&self.field("default", made, "{.status.message}")?);
        let uid = self.field("default", made, "{.metadata.uid}")?;
        let of = format!("spec.scheduledBy.uid={uid}");
        self.type_out(&["get", "operationruns", "--all-namespaces", "--field-selector", &of])
    }

    /// Deletes objects in the tenants of a workspace as one preview showed, and takes it back.
    pub(super) fn undone_over_all(&self, tenant: &Tenant) -> Result<()> {
        self.screen
            .heading("The platform team sees what it would delete in all tenants of a workspace, under one digest");
        let banner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "text": "sale" }, "metadata": {
            "name": "old-banner", "namespace": tenant.namespace, "labels": { "app": "old-banner" } } });
        self.apply(&banner)?;
        let mut bulk = json!({ "resource": { "kind": "ConfigMap" }, "action": "delete", "labelSelector": "app=old-banner",
            "options": { "repository": "main" } });
        let look = self.done_over_all(tenant, "look-all-", &json!({ "bulk": bulk, "dryRun": true }))?;
        self.type_out(&["get", &look, "--output", SHOWED])?;
        self.screen.heading("Somebody else approves that, once for all tenants, and then it does exactly that");
        let digest = self.field("default", &look, "{.status.planDigest}")?;
        bulk.as_object_mut()
            .into_iter()
            .for_each(|bulk| bulk.retain(|field, _| ["resource", "action"].contains(&field.as_str())));
        let preview = json!({ "name": name_of(&look), "planDigest": digest });
        let asked = json!({ "bulk": bulk, "preview": preview, "approval": { "required": true } });
        let clear = self.start_over_all(tenant, "clear-all-", &asked)?;
        self.wait_for("default", "jsonpath={.status.reason}=AwaitingApproval", &clear)?;
        let message = self.field("default", &clear, "{.status.message}")?;
        self.screen.quote(&message);
        self.approve(&message, "bob")?;
        self.end_over_all(&clear)?;
        self.screen.quote(&self.field("default", &clear, "{.status.message}")?);
        self.screen.heading("One undo for all tenants, which is looked at first, too");
        let undone = json!({ "name": name_of(&clear) });
        let look = self.done_over_all(tenant, "undo-look-", &json!({ "undoOf": undone, "dryRun": true }))?;
        let preview = json!({ "name": name_of(&look) });
        self.done_over_all(tenant, "undo-", &json!({ "undoOf": undone, "preview": preview }))?;
        self.type_out(&["get", "workspaceruns"])?;
        self.type_out(&["get", "configmap", "old-banner", "--namespace", &tenant.namespace])
    }

    /// Approves with the manifest in the message of what waits, as another administrator.
    fn approve(&self, message: &str, user: &str) -> Result<()> {
        let manifest = message.split_once("echo '").and_then(|(_, rest)| rest.split_once("' | kubectl create"));
        let (manifest, _) = manifest.context("the message has no manifest of an approval")?;
        let mut approval: Value = serde_json::from_str(manifest)?;
        // A cluster before Kubernetes 1.36 does not fill it in.
        approval["spec"]["approvedBy"] = json!({ "username": user });
        let approve =
            ["create", "--filename", "-", "--namespace", NAMESPACE, "--as", user, "--as-group", "system:masters"];
        shell::feed(self.kubectl()?.args(approve), approval.to_string().as_bytes())?;
        self.type_out(&["get", "approvals", "--namespace", NAMESPACE])
    }

    /// Creates a workspace run of a tenant's workspace, and waits for its end. Returns its kind and name.
    fn done_over_all(&self, tenant: &Tenant, prefix: &str, spec: &Value) -> Result<String> {
        let made = self.start_over_all(tenant, prefix, spec)?;
        self.end_over_all(&made)?;
        Ok(made)
    }

    /// Creates a workspace run of a tenant's workspace. Returns its kind and name.
    fn start_over_all(&self, tenant: &Tenant, prefix: &str, spec: &Value) -> Result<String> {
        let mut run = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "WorkspaceRun",
            "metadata": { "generateName": prefix }, "spec": spec });
        run["spec"]["workspace"] = json!({ "name": tenant.workspace });
        let mut create = self.kubectl()?;
        let made =
            shell::feed(create.args(["create", "--filename", "-", "--output", "name"]), run.to_string().as_bytes())?;
        Ok(made.trim().to_owned())
    }

    /// Waits until a workspace run has succeeded.
    fn end_over_all(&self, run: &str) -> Result<()> {
        self.wait_for("default", "jsonpath={.status.phase}=completed", run)?;
        let outcome = self.field("default", run, "{.status.outcome}")?;
        ensure!(outcome == "succeeded", "{run} ended {outcome}: {}", self.field("default", run, "{.status.message}")?);
        Ok(())
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

/// The name in what `kubectl create --output name` prints.
fn name_of(object: &str) -> &str {
    object.rsplit('/').next().unwrap_or(object)
}
