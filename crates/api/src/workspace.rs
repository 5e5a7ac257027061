//! `Workspace`: limits of a group of tenants, and the state of the group.
//!
//! Each field has one writer: the platform team writes `spec`, and the controller writes `status`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of tenants in `status.attention`.
pub const MAX_ATTENTION: usize = 20;

/// Limits of the tenants of a workspace: the namespaces with the label
/// `tenantatlas.io/workspace: <name>`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "Workspace",
    plural = "workspaces",
    shortname = "wspace",
    category = "atlas",
    status = "WorkspaceStatus",
    derive = "PartialEq",
    doc = "A group of tenants run by one team: the namespaces with the label `tenantatlas.io/workspace: <name>`. Limits what they may run and hold, and says which of them need attention. A workspace without this object has no limits.",
    printcolumn(name = "Tenants", type_ = "integer", json_path = ".status.tenants.total"),
    printcolumn(name = "Protected", type_ = "integer", json_path = ".status.tenants.withBackup", description = "Tenants with a backup in a repository that is Ready"),
    printcolumn(name = "Over-Quota", type_ = "integer", json_path = ".status.tenants.overQuota"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Open-Runs", type_ = "integer", json_path = ".spec.quotas.openRuns", priority = "1"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".spec.quotas.repositoryBytes", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of a workspace is at most 63 characters: it is the value of a label").reason(Reason::FieldValueInvalid),
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceSpec {
    /// Operation types that may be run in the tenants: names, or beginnings of names such as
    /// `backup.*`. A run of another type is `blocked` (NotAllowedByWorkspace), unless it is a check or
    /// maintenance that the operator starts for a repository. If unset, all types may be run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 100),
        inner(length(min = 1, max = 63), regex(pattern = r"^(\*|[a-z0-9]([-a-z0-9.]*[a-z0-9])?(\.\*)?)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allowed_types: Option<Vec<String>>,
    /// What each tenant may have. A run beyond a quota is `blocked` (WorkspaceQuota).
    #[serde(default)]
    pub quotas: WorkspaceQuotas,
}

/// What each tenant of a workspace may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceQuotas {
    /// Runs that are not completed: those that have started, then those that wait, the oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub open_runs: Option<i32>,
    /// Bytes in the store of a repository, as its last check or maintenance found them. Once a
    /// repository has more, nothing is captured into it. Restores and maintenance go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub repository_bytes: Option<i64>,
}

/// State of a workspace. Written by the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkspaceStatus {
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// workspace.
    pub observed_generation: i64,
    /// Number of tenants by state. Counted again at least once a minute.
    pub tenants: TenantCounts,
    /// Tenants that need attention, in the order of their names; at most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub attention: Vec<TenantAttention>,
    /// Number of tenants that need attention and that `attention` does not name.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(range(min = 0))]
    pub attention_left_out: i64,
    /// `Ready` is True if the spec can be applied.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for WorkspaceStatus {
    fn default() -> Self {
        Self {
            observed_generation: -1,
            tenants: TenantCounts::default(),
            attention: Vec::new(),
            attention_left_out: 0,
            conditions: Vec::new(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Number of tenants by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantCounts {
    /// Namespaces with the label of the workspace that are not being deleted.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Of these, those with a backup in a repository that is Ready.
    #[schemars(range(min = 0))]
    pub with_backup: i64,
    /// Of these, those that have reached a quota.
    #[schemars(range(min = 0))]
    pub over_quota: i64,
}

/// A tenant that needs attention.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantAttention {
    /// The namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Stable code: `NoRepository`, `RepositoryNotReady`, `NoBackup` or `WorkspaceQuota`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What is wrong, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl WorkspaceSpec {
    /// Whether runs of this type are allowed.
    #[must_use]
    pub fn allows(&self, operation_type: &str) -> bool {
        let Some(allowed) = &self.allowed_types else { return true };
        allowed.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(beginning) => operation_type.starts_with(beginning),
            None => operation_type == pattern,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_allowed_by_its_name_or_by_its_beginning() {
        let of = |allowed: &[&str]| WorkspaceSpec {
            allowed_types: Some(allowed.iter().map(|pattern| (*pattern).to_owned()).collect()),
            ..WorkspaceSpec::default()
        };
        let spec = of(&["backup.*", "restore.preview"]);
        for (name, allowed) in [
            ("backup.capture", true),
            ("restore.preview", true),
            ("restore.preview.mine", false),
            ("restore.apply", false),
            ("backup", false),
            ("backups.capture", false),
        ] {
            assert_eq!(spec.allows(name), allowed, "{name}");
        }
        assert!(of(&["*"]).allows("anything"));
        assert!(WorkspaceSpec::default().allows("anything"));
    }
}
