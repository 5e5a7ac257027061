//! `Workspace`: what a group of tenants gets, its limits, and the state of the group.
//!
//! Each field has one writer: the platform team writes `spec`, and the controller writes `status`.

use crate::{
    LocalReference,
    approval::ApprovalRule,
    backup_repository::{Maintenance, Recovery, Storage},
    backup_schedule::{Retention, ScheduledOperation},
    cron_rules::{cron_rule, day_rule},
    operations::{IgnoreInput, SeverityInput},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of tenants in `status.attention`.
pub const MAX_ATTENTION: usize = 20;

/// What the tenants of a workspace get, and their limits. Its tenants are the namespaces with the
/// label `tenantatlas.io/workspace: <name>`.
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
    doc = "A group of tenants run by one team: the namespaces with the label `tenantatlas.io/workspace: <name>`. Gives them a repository and schedules, limits what they may run and hold, and says which of them need attention. A workspace without this object has no limits.",
    printcolumn(name = "Tenants", type_ = "integer", json_path = ".status.tenants.total"),
    printcolumn(name = "Protected", type_ = "integer", json_path = ".status.tenants.withBackup", description = "Tenants with a backup in a repository that is Ready"),
    printcolumn(name = "Too-Old", type_ = "integer", json_path = ".status.tenants.backupTooOld", description = "Of these, those whose last backup is older than spec.maxBackupAgeHours"),
    printcolumn(name = "Over-Quota", type_ = "integer", json_path = ".status.tenants.overQuota"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Open-Runs", type_ = "integer", json_path = ".spec.quotas.openRuns", priority = "1"),
    printcolumn(name = "Schedules", type_ = "integer", json_path = ".spec.quotas.schedules", priority = "1"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".spec.quotas.repositoryBytes", priority = "1"),
    validation = Rule::new("!has(self.spec.repository) || !has(oldSelf.spec.repository) || self.spec.repository.name != oldSelf.spec.repository.name || self.spec.repository.storage == oldSelf.spec.repository.storage").message("spec.repository.storage: backups are not moved; for another location give the template another name, and each tenant gets a second repository").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(self.spec.retentionFloor) || !has(self.spec.retentionFloor.dryRun) || !self.spec.retentionFloor.dryRun").message("spec.retentionFloor: a floor deletes nothing: leave dryRun out").reason(Reason::FieldValueInvalid),
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
    /// A BackupRepository that each tenant gets. Of one that exists, the location and the password
    /// Secret are never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<RepositoryTemplate>,
    /// BackupSchedules that each tenant gets as soon as its repository of `spec.repository` is Ready.
    /// Changes that others make to their specs are reverted. A schedule that is removed from this
    /// list is suspended in the tenants, not deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 10),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub schedules: Vec<ScheduleTemplate>,
    /// What each tenant may have. A run beyond a quota is `blocked` (WorkspaceQuota).
    #[serde(default)]
    pub quotas: WorkspaceQuotas,
    /// Hours after which the last backup of a tenant is too old: the status then names the tenant. If
    /// unset, no backup is too old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 87_600))]
    pub max_backup_age_hours: Option<i32>,
    /// Backup sets that no schedule of a tenant lets expire, whatever its own `retention` says. The
    /// rules are applied to the sets of each schedule, by the clock of its `timeZone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_floor: Option<Retention>,
    /// What every `drift.generate` in the tenants applies in addition to its own inputs.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub drift: DriftDefaults,
    /// Which restores and bulk operations of the tenants wait until somebody else approves their plan.
    /// One that a rule applies to and that applies no preview is `blocked` (ApprovalNeedsPreview).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub approvals: Vec<ApprovalRule>,
}

/// Rules for drift that come after those in the inputs of a run. Together with these inputs they have at
/// most 64 KiB as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DriftDefaults {
    /// Differences that do not count. Each is still counted as ignored.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub ignore: Vec<IgnoreInput>,
    /// How much differences matter. The first that fits counts, and those of a run's inputs come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub severities: Vec<SeverityInput>,
}

/// The repository that each tenant of a workspace gets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[self.storage.?s3.?prefix.orValue(''), self.storage.?gcs.?prefix.orValue(''), self.storage.?azure.?prefix.orValue('')].all(prefix, prefix.size() <= 448)").message("storage: prefix has at most 448 characters: the names of the namespaces follow it"),
    validation = Rule::new("self.storage.?s3.?caBundle.orValue('').size() <= 32768").message("storage.s3.caBundle has at most 32768 characters in a template"),
)]
pub struct RepositoryTemplate {
    /// Name of the BackupRepository. Defaults to `main`.
    #[serde(default = "main_repository")]
    #[schemars(length(min = 1, max = 180), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Location of the stores. Each tenant's store is in a bucket below `prefix`, at the name of its
    /// namespace. A `persistentVolumeClaim` is the claim of that name in each tenant.
    pub storage: Storage,
    /// Secret with the store's credentials, which must exist in each tenant. If unset, workers use
    /// their own cloud identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret: Option<LocalReference>,
    /// Secret with the repository's password in each tenant. If there is none, the first check creates
    /// it with a random password. Defaults to the name of the repository and `-password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<LocalReference>,
    /// Who can open the stores of all tenants if their Secrets are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<Recovery>,
    /// When the repository is maintained and checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance: Option<Maintenance>,
}

fn main_repository() -> String {
    "main".to_owned()
}

/// A schedule that each tenant of a workspace gets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(cron_rule!("self.schedule")).message("schedule takes five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT) such as '15 2 * * *', or an alias: @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly; the time zone goes into timeZone"),
    validation = Rule::new(day_rule!("self.schedule")).message("schedule names a day that its month never has"),
    validation = Rule::new("timestamp('2020-01-01T00:00:00Z').getHours(self.timeZone) >= 0 && !(self.timeZone in ['Local', 'localtime', 'posixrules']) && !self.timeZone.startsWith('right/') && !self.timeZone.startsWith('posix/')").message("timeZone is none of the IANA database: names are such as UTC or Europe/Berlin"),
    validation = Rule::new("!(self.operation.type in ['restore.preview', 'restore.apply', 'restore.rehearse', 'bulk.preview', 'bulk.apply', 'bulk.delete.preview', 'bulk.delete', 'bulk.capture', 'bulk.export'])").message("operation.type: restores, rehearsals and bulk operations do what their requester may, and a template has none: create a BackupSchedule in the tenant for a rehearsal"),
)]
pub struct ScheduleTemplate {
    /// Name of the BackupSchedule.
    #[schemars(length(min = 1, max = 52), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Cron expression with five fields, or an alias such as `@daily`.
    #[schemars(length(min = 1, max = 100))]
    pub schedule: String,
    /// IANA time zone in which `schedule` is evaluated. Defaults to `UTC`.
    #[serde(default = "crate::backup_schedule::utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: String,
    /// Delays the ticks of each tenant by up to this many seconds, so that the tenants do not all
    /// start at once. Defaults to 600.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 0, max = 86_400))]
    pub jitter_seconds: i64,
    /// Seconds after which a tick that could not start in time counts as missed. If unset, the last
    /// such tick is caught up however late it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
    /// `queueTimeoutSeconds` of each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub queue_timeout_seconds: Option<i64>,
    /// Whether a tenant starts one run as soon as it gets the schedule. Defaults to true.
    #[serde(default = "yes")]
    pub immediate: bool,
    /// Whether to skip ticks. Defaults to false.
    #[serde(default)]
    pub suspend: bool,
    /// Operation to start. Defaults to `backup.capture`. The input `repository` of a built-in
    /// operation defaults to the repository of `spec.repository`.
    #[serde(default)]
    pub operation: ScheduledOperation,
    /// Which backup sets of the schedule to keep. If unset, all sets are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
}

fn ten_minutes() -> i64 {
    600
}

fn yes() -> bool {
    true
}

/// What each tenant of a workspace may have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceQuotas {
    /// Runs that are not completed: those that have started, then those that wait, the oldest first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub open_runs: Option<i32>,
    /// Schedules that are not suspended: those of the templates first, then the oldest. Each further
    /// one starts nothing (WorkspaceQuota).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub schedules: Option<i32>,
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
    /// Of these, those whose last backup is older than `spec.maxBackupAgeHours`.
    #[schemars(range(min = 0))]
    pub backup_too_old: i64,
    /// Those that have reached a quota.
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
    /// Stable code: `NoRepository`, `RepositoryNotReady`, `NoBackup`, `BackupTooOld`, `WorkspaceQuota`,
    /// `NameTaken` or `LocationDiffers`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What is wrong, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl RepositoryTemplate {
    /// Name of the Secret with the password.
    #[must_use]
    pub fn password_secret(&self) -> String {
        self.password_secret.as_ref().map_or_else(|| format!("{}-password", self.name), |secret| secret.name.clone())
    }

    /// Where the store of a tenant is: below the prefix, at the name of its namespace.
    #[must_use]
    pub fn storage_of(&self, namespace: &str) -> Storage {
        let mut storage = self.storage.clone();
        let prefixes = [
            storage.s3.as_mut().map(|s3| &mut s3.prefix),
            storage.gcs.as_mut().map(|gcs| &mut gcs.prefix),
            storage.azure.as_mut().map(|azure| &mut azure.prefix),
        ];
        for prefix in prefixes.into_iter().flatten() {
            *prefix = if prefix.is_empty() { namespace.to_owned() } else { format!("{prefix}/{namespace}") };
        }
        storage
    }
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
