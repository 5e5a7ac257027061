//! A platform team sets limits for a group of tenants: they hold from then on, without a restart, and the workspace
//! says which of its tenants need attention.

use crate::support::run::assert_ended;
use crate::support::tenant::of_story;
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, ValidationDirective};
use serde_json::{Value, json};
use tenantatlas::api::{
    BackupScheduleStatus, OperationRun, Outcome, Phase, Reason, Workspace, WorkspaceStatus, labels,
};

/// How long the status of a workspace may take: its tenants are counted once a minute.
const COUNTED: std::time::Duration = std::time::Duration::from_mins(3);

impl Tenant {
    pub(crate) fn workspaces(&self) -> Api<Workspace> {
        Api::all(self.cluster.client.clone())
    }

    /// Creates a workspace of the tenant's name, and moves the tenant into it.
    pub(crate) async fn join_workspace(&self, spec: Value) {
        let metadata = json!({ "name": self.name, "labels": of_story(self) });
        let workspace = serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).expect("a workspace");
        self.workspaces().create(&PostParams::default(), &workspace).await.expect("it is created");
        self.move_to(&json!(self.name)).await;
        self.workspace_when("counts its tenant", |status| status.tenants.total == 1).await;
    }

    /// Moves the tenant into a workspace, or out of all.
    pub(crate) async fn move_to(&self, workspace: &Value) {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let label = Patch::Merge(json!({ "metadata": { "labels": { (labels::WORKSPACE): workspace } } }));
        namespaces.patch(&self.name, &PatchParams::default(), &label).await.expect("the namespace is moved");
    }

    pub(crate) async fn change_workspace(&self, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.workspaces().patch(&self.name, &PatchParams::default(), &patch).await.expect("the workspace is changed");
    }

    pub(crate) async fn workspace_when(&self, what: &str, is_so: impl Fn(&WorkspaceStatus) -> bool) -> WorkspaceStatus {
        wait_for(&format!("workspace {} {what}", self.name), COUNTED, async || {
            let workspace = self.workspaces().get(&self.name).await.map_err(|error| error.to_string())?;
            let status = workspace.status.unwrap_or_default();
            if is_so(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    /// Starts runs until one is not refused, or is: the operator sees a change of the workspace a moment later.
    async fn until_decided(&self, spec: &Value, wanted: Option<Reason>) -> String {
        wait_for(&format!("a run that ends with {wanted:?}"), SOON, async || {
            let name = format!("try-{}", jiff::Timestamp::now().as_millisecond());
            self.start(&name, spec.clone()).await;
            let decided = |run: &OperationRun| run.status_or_default().phase == Phase::Completed;
            let status = self.run_when(&name, "completed", SOON, decided).await.status_or_default();
            let reason = (status.outcome == Outcome::Blocked).then(|| status.reason.unwrap_or_default());
            let is_so = reason.as_deref() == wanted.map(Reason::as_str);
            if is_so { Ok(status.message.unwrap_or_default()) } else { Err(format!("{reason:?}")) }
        })
        .await
    }
}

#[tokio::test]
async fn only_allowed_types_are_run_in_the_tenants_of_a_workspace_and_a_change_holds_at_once() {
    let tenant = Tenant::new("ws-types").await;
    let operation = tenant.script_type("say", "true", |_| {}).await;
    tenant.join_workspace(json!({ "allowedTypes": ["backup.*", "restore.preview"] })).await;
    let run = json!({ "type": operation });
    let said = tenant.until_decided(&run, Some(Reason::NotAllowedByWorkspace)).await;
    assert!(
        said.contains(&format!("workspace {}", tenant.name)) && said.contains("backup.*, restore.preview"),
        "{said}"
    );
    // The operator's own check of a repository needs no permission, and what is allowed is done.
    tenant.repository("main").await;
    let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
    tenant.until_decided(&capture, None).await;
    tenant.workspace_when("has a tenant with a backup", |status| status.tenants.with_backup == 1).await;
    tenant.change_workspace(json!({ "allowedTypes": [operation] })).await;
    tenant.until_decided(&run, None).await;
    tenant.until_decided(&capture, Some(Reason::NotAllowedByWorkspace)).await;
    // Without the workspace there are no limits.
    tenant.workspaces().delete(&tenant.name, &DeleteParams::default()).await.expect("it is deleted");
    tenant.until_decided(&capture, None).await;
}

#[tokio::test]
async fn a_tenant_that_has_reached_a_quota_is_blocked_by_name_and_named_in_the_status() {
    let tenant = Tenant::new("ws-quota").await;
    tenant.repository("main").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.join_workspace(json!({ "quotas": { "openRuns": 2 } })).await;
    for number in 0..2 {
        tenant.start(&format!("open-{number}"), json!({ "type": operation, "inputs": { "n": number } })).await;
        tenant.running(&format!("open-{number}"), SOON).await;
    }
    let third = json!({ "type": operation, "inputs": { "n": 2 } });
    tenant.start("third", third.clone()).await;
    let words = ["allows 2 runs", "spec.quotas.openRuns", &*tenant.name];
    tenant.blocked("third", Reason::WorkspaceQuota, &words).await;
    let status = tenant.workspace_when("names the tenant", |status| status.tenants.over_quota == 1).await;
    let named = status.attention.iter().find(|tenant| tenant.reason == "WorkspaceQuota").expect("it is named");
    assert_eq!(named.namespace, tenant.name);
    // Lowered below what there is, nothing that runs is touched.
    tenant.change_workspace(json!({ "quotas": { "openRuns": 1 } })).await;
    tenant.until_decided(&third, Some(Reason::WorkspaceQuota)).await;
    for number in 0..2 {
        assert_eq!(tenant.status(&format!("open-{number}")).await.phase, Phase::Running);
        tenant.merge::<OperationRun>(&format!("open-{number}"), json!({ "spec": { "cancel": true } })).await;
        assert_ended(&tenant.completed(&format!("open-{number}"), SOON).await, Outcome::Failed, Reason::Cancelled);
    }
    // A full repository takes nothing more, and is still checked.
    let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
    tenant.until_decided(&capture, None).await;
    let check = json!({ "type": "repository.check", "inputs": { "repository": "main" } });
    tenant.until_decided(&check, None).await;
    tenant.change_workspace(json!({ "quotas": { "openRuns": null, "repositoryBytes": 1 } })).await;
    let said = tenant.until_decided(&capture, Some(Reason::WorkspaceQuota)).await;
    assert!(said.contains("repository main has"), "{said}");
    tenant.until_decided(&check, None).await;
}

#[tokio::test]
async fn schedules_beyond_the_quota_start_nothing_and_the_floor_keeps_what_a_schedule_would_let_expire() {
    let tenant = Tenant::new("ws-schedules").await;
    tenant.repository("main").await;
    tenant.join_workspace(json!({ "quotas": { "schedules": 1 } })).await;
    let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
    let kept = json!({ "schedule": "@yearly", "operation": capture, "retention": { "keepLast": 1, "dryRun": true } });
    tenant.schedule("a-first", kept).await;
    tenant.schedule("b-second", json!({ "schedule": "@yearly", "immediate": true, "operation": capture })).await;
    let ready = |wanted: &'static str| {
        move |status: &BackupScheduleStatus| {
            status.conditions.iter().any(|of| of.type_ == "Ready" && of.reason == wanted)
        }
    };
    let beyond = tenant.scheduled_when("b-second", "has no room", ready("WorkspaceQuota")).await;
    let message = &beyond.conditions[0].message;
    assert!(message.contains("allows 1 schedules") && message.contains("suspend or delete one"), "{message}");
    assert_eq!(beyond.next_scheduled_for, None);
    for token in ["one", "two", "three"] {
        assert_eq!(tenant.ran_now("a-first", token).await.outcome, Outcome::Succeeded);
    }
    let would_expire = |count: usize| {
        move |status: &BackupScheduleStatus| {
            status.retention.as_ref().is_some_and(|retained| retained.would_expire.len() == count)
        }
    };
    tenant.scheduled_when("a-first", "would let two expire", would_expire(2)).await;
    tenant.workspace_when("names the tenant", |status| status.tenants.over_quota == 1).await;
    tenant.change_workspace(json!({ "quotas": { "schedules": 2 }, "retentionFloor": { "keepLast": 3 } })).await;
    assert_eq!(tenant.ran_now("a-first", "four").await.outcome, Outcome::Succeeded);
    tenant.scheduled_when("a-first", "would let one expire", would_expire(1)).await;
    tenant.scheduled_when("b-second", "has room", ready("Scheduled")).await;
    let floor = Patch::Merge(json!({ "spec": { "retentionFloor": { "dryRun": true } } }));
    let answer = tenant.workspaces().patch(&tenant.name, &PatchParams::default(), &floor).await;
    assert!(answer.expect_err("refused").to_string().contains("leave dryRun out"));
}

#[tokio::test]
async fn a_tenant_without_a_backup_is_named_with_what_to_do() {
    let tenant = Tenant::new("ws-bare").await;
    tenant.join_workspace(json!({})).await;
    let status = tenant.workspace_when("names the tenant", |status| !status.attention.is_empty()).await;
    let of: Vec<_> = status.attention.iter().map(|of| (of.namespace.as_str(), of.reason.as_str())).collect();
    assert_eq!((of, status.tenants.with_backup), (vec![(tenant.name.as_str(), "NoRepository")], 0));
    assert!(status.attention[0].message.contains("create a BackupRepository"), "{status:#?}");
    let strict = PatchParams { field_validation: Some(ValidationDirective::Strict), ..PatchParams::default() };
    for (spec, words) in [
        (json!({ "allowedTypes": [] }), "allowedTypes"),
        (json!({ "allowedTypes": ["Backup"] }), "allowedTypes"),
        (json!({ "allowedTypes": ["a*"] }), "allowedTypes"),
        (json!({ "quotas": { "openRuns": 0 } }), "openRuns"),
        (json!({ "quotas": { "openruns": 1 } }), "openruns"),
    ] {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let answer = tenant.workspaces().patch(&tenant.name, &strict, &patch).await;
        let refused = answer.expect_err("refused").to_string();
        assert!(refused.contains(words), "{spec}: {refused}");
    }
}
