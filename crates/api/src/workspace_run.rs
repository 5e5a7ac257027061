//! `WorkspaceRun`: one operation over the tenants of a workspace.
//!
//! Each field has one writer: the author writes `spec`, admission writes `spec.requestedBy`, and the
//! controller writes `status`. What each tenant did is in its own `OperationRun`, which names the
//! workspace run in `spec.scheduledBy`.

use crate::{
    Inputs, LocalReference, ObjectReference,
    outcome::{Outcome, Phase, SummaryCounts},
    subject::Initiator,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of tenants in `status.tenants`.
pub const MAX_ROWS: usize = 100;

/// Maximum number of workspace runs in a chain of `spec.rerunOf`.
pub const MAX_REPEATS: usize = 20;

/// Maximum number of tenants in which no run could be created, after which no more are started.
pub const MAX_REFUSED: usize = 100;

/// Which operation to run, in which tenants, and in which order. Immutable except for `cancel`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "WorkspaceRun",
    plural = "workspaceruns",
    shortname = "wrun",
    category = "atlas",
    status = "WorkspaceRunStatus",
    derive = "PartialEq",
    doc = "One operation over the tenants of a workspace: one OperationRun in each, some at a time, in waves if asked for, with summed counts. It takes the verb `run` on the workspace, and on the operation type in the whole cluster.",
    selectable = ".spec.workspace.name",
    selectable = ".status.phase",
    selectable = ".status.outcome",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.operation.type"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress", description = "Tenants that are done, of all"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.counts.failed", description = "Tenants whose run did not succeed"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Wave", type_ = "integer", json_path = ".status.wave", priority = "1"),
    printcolumn(name = "Active", type_ = "integer", json_path = ".status.counts.active", priority = "1"),
    printcolumn(name = "RequestedBy", type_ = "string", json_path = ".spec.requestedBy.username", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 150").message("the name of a workspace run is at most 150 characters: the names of its runs begin with it").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || (has(self.status) && has(self.status.phase) && has(self.status.outcome) && self.status.phase == oldSelf.status.phase && self.status.outcome == oldSelf.status.outcome)").message("a completed workspace run never changes its phase or outcome: create a new one, with spec.rerunOf for the tenants that did not succeed"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || self.spec.cancel == oldSelf.spec.cancel").message("the workspace run is completed: there is nothing left to cancel"),
)]
#[x_kube(
    validation = Rule::new("self.workspace == oldSelf.workspace && self.operation == oldSelf.operation && self.parallelism == oldSelf.parallelism && self.ttlSecondsAfterFinished == oldSelf.ttlSecondsAfterFinished").message("the spec of a workspace run is immutable but for cancel: create a new one"),
    validation = Rule::new("has(self.tenantSelector) == has(oldSelf.tenantSelector) && (!has(self.tenantSelector) || self.tenantSelector == oldSelf.tenantSelector)").message("tenantSelector is immutable: create a new workspace run"),
    validation = Rule::new("has(self.waves) == has(oldSelf.waves) && (!has(self.waves) || self.waves == oldSelf.waves)").message("waves is immutable: create a new workspace run"),
    validation = Rule::new("has(self.stopAfterFailures) == has(oldSelf.stopAfterFailures) && (!has(self.stopAfterFailures) || self.stopAfterFailures == oldSelf.stopAfterFailures)").message("stopAfterFailures is immutable: create a new workspace run"),
    validation = Rule::new("has(self.rerunOf) == has(oldSelf.rerunOf) && (!has(self.rerunOf) || self.rerunOf == oldSelf.rerunOf)").message("rerunOf is immutable: create a new workspace run"),
    validation = Rule::new("has(self.timeoutSeconds) == has(oldSelf.timeoutSeconds) && (!has(self.timeoutSeconds) || self.timeoutSeconds == oldSelf.timeoutSeconds)").message("timeoutSeconds is immutable: create a new workspace run"),
    validation = Rule::new("has(self.queueTimeoutSeconds) == has(oldSelf.queueTimeoutSeconds) && (!has(self.queueTimeoutSeconds) || self.queueTimeoutSeconds == oldSelf.queueTimeoutSeconds)").message("queueTimeoutSeconds is immutable: create a new workspace run"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)").message("requestedBy is set by the API server when the workspace run is created and never changes"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("a cancellation cannot be withdrawn: create a new workspace run"),
    validation = Rule::new("!(self.operation.type in ['restore.preview', 'restore.apply', 'bulk.preview', 'bulk.apply', 'bulk.delete.preview', 'bulk.delete', 'bulk.capture', 'bulk.export'])").message("operation.type: restores and bulk operations are described by a RestoreRun or a BulkOperationRun in each tenant, which a workspace run does not create"),
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRunSpec {
    /// The workspace. Its tenants are the namespaces with the label
    /// `tenantatlas.io/workspace: <name>`; a Workspace object is not needed.
    pub workspace: WorkspaceReference,
    /// What to run in each tenant.
    pub operation: WorkspaceOperation,
    /// Selects the tenants by the labels of their namespaces, in the syntax of `kubectl -l`. If unset,
    /// all tenants are taken. Tenants whose namespace was created later are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub tenant_selector: Option<String>,
    /// Number of tenants with a run that is not completed, at most. The limits for active runs apply
    /// in addition. Defaults to 10.
    #[serde(default = "parallelism")]
    #[schemars(range(min = 1, max = 1000))]
    pub parallelism: i32,
    /// Groups of tenants that are done one after the other. Tenants that are in none of them are the
    /// last wave. If unset, all tenants are one wave.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 10))]
    pub waves: Vec<Wave>,
    /// Starts no more tenants once so many did not succeed: those that are under way go on, the others
    /// are skipped. Defaults to 1 with `waves`. If unset without `waves`, all tenants are tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub stop_after_failures: Option<i32>,
    /// A completed WorkspaceRun of the same workspace and operation type. Only tenants that succeeded
    /// neither in it nor in those that it repeats are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalReference>,
    /// `timeoutSeconds` of each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub timeout_seconds: Option<i64>,
    /// `queueTimeoutSeconds` of each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub queue_timeout_seconds: Option<i64>,
    /// Seconds after completion at which the workspace run is deleted. The runs of the tenants stay.
    /// Defaults to 30 days.
    #[serde(default = "a_month")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub ttl_seconds_after_finished: i64,
    /// Authenticated user who requested the operation, and who is the initiator of each run. Admission
    /// sets it, whatever the author writes. On Kubernetes before 1.36 the author writes it, and
    /// admission rejects any other user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Initiator>,
    /// Set to true to stop: the runs that are under way are cancelled, and no more are started. It
    /// cannot be set back to false, and is rejected once the workspace run is completed.
    #[serde(default)]
    pub cancel: bool,
}

fn parallelism() -> i32 {
    10
}

fn a_month() -> i64 {
    2_592_000
}

/// A workspace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WorkspaceReference {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// What is run in each tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceOperation {
    /// Name of the OperationType, of scope `Tenant`.
    #[serde(rename = "type")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub operation_type: String,
    /// Inputs of each run. The input `repository` of a built-in operation defaults to the repository
    /// that the workspace gives its tenants.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub inputs: Inputs,
}

/// A group of tenants. Tenants are taken in the order of their names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.tenants), has(self.percent), has(self.tenantSelector)].exists_one(one, one)").message("a wave takes exactly one of tenants, percent and tenantSelector"))]
pub struct Wave {
    /// Takes so many of the tenants that no other wave takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub tenants: Option<i32>,
    /// Takes this percentage of all tenants, rounded up, of those that no other wave takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub percent: Option<i32>,
    /// Takes the tenants with these labels of their namespaces, in the syntax of `kubectl -l`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub tenant_selector: Option<String>,
    /// Seconds to wait after the wave before the next one starts. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 604_800))]
    pub wait_seconds: i64,
}

/// State of the workspace run, and its outcome. Written by the controller. The runs of the tenants are
/// the records that count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkspaceRunStatus {
    /// `queued`, `running` or `completed`.
    pub phase: Phase,
    /// `pending` until it is completed. `succeeded` if all tenants succeeded, `partially_succeeded` if
    /// some did.
    pub outcome: Outcome,
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// workspace run.
    pub observed_generation: i64,
    /// Stable code for the current state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`, with what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Number of tenants by state, as of `countedAt`.
    pub counts: TenantRunCounts,
    /// Tenants that are done, of all, such as `12/200`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// Sum of the `summaryCounts` of the completed runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<SummaryCounts>,
    /// When the counts were last written. With many tenants they are not written at each change: two
    /// writes are at least two seconds apart, and a second more for each 20 tenants, up to 30 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub counted_at: Option<Timestamp>,
    /// Number of the last wave that has started, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub wave: Option<i64>,
    /// The waves that have started, in order. A wave without tenants has an entry, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 11))]
    pub waves: Vec<WaveStatus>,
    /// One row for each tenant, at most 100: first those that did not succeed, then those under way,
    /// then the others, each by name. `kubectl get operationruns -A --field-selector
    /// spec.scheduledBy.uid=<uid of the workspace run>` lists the runs of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace"])
    )]
    pub tenants: Vec<TenantRun>,
    /// Number of tenants without a row.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub tenants_left_out: i64,
    /// Tenants in which the API server refused the run, at most 100. They are not tried again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["namespace"])
    )]
    pub refused: Vec<RefusedTenant>,
    /// Uids of the workspace runs that it repeats: that of `spec.rerunOf`, and those which that repeated.
    /// They are recorded at the start, so that these may be deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(max = 64)), extend("x-kubernetes-list-type" = "set"))]
    pub repeats: Vec<String>,
    /// Number of tenants that were taken at the start. Namespaces that are deleted, or that leave the
    /// workspace before their turn, are not among `counts` any more.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub tenants_at_start: i64,
    /// When the first tenant could start.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub started_at: Option<Timestamp>,
    /// When the workspace run was recorded as completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// Conditions for kstatus, Flux, Argo CD and `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for WorkspaceRunStatus {
    /// Returns the default that the API server fills in at creation.
    fn default() -> Self {
        Self {
            phase: Phase::Queued,
            outcome: Outcome::Pending,
            observed_generation: -1,
            reason: None,
            message: None,
            counts: TenantRunCounts::default(),
            progress: None,
            items: None,
            counted_at: None,
            wave: None,
            waves: Vec::new(),
            tenants: Vec::new(),
            tenants_left_out: 0,
            refused: Vec::new(),
            repeats: Vec::new(),
            tenants_at_start: 0,
            started_at: None,
            completed_at: None,
            conditions: Vec::new(),
        }
    }
}

/// Number of tenants by state: `total` is the sum of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TenantRunCounts {
    /// All tenants that are taken, as long as their namespaces exist.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Not started yet.
    #[schemars(range(min = 0))]
    pub waiting: i64,
    /// Their runs are not completed.
    #[schemars(range(min = 0))]
    pub active: i64,
    /// Their runs succeeded.
    #[schemars(range(min = 0))]
    pub succeeded: i64,
    /// Their runs ended otherwise, a partial success included, or were refused or deleted.
    #[schemars(range(min = 0))]
    pub failed: i64,
    /// Never started, because the workspace run stopped before their turn.
    #[schemars(range(min = 0))]
    pub skipped: i64,
}

/// A wave that has started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WaveStatus {
    /// When it started.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub started_at: Timestamp,
    /// When all of its tenants were done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// Name of its last tenant, for a wave that takes a number of tenants. It stays when tenants come
    /// or go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub through: Option<String>,
    /// Last tenant, by name, whose run was created. A run of an earlier tenant that is gone is not
    /// created again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub started_through: Option<String>,
}

/// What became of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantRun {
    /// The namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its OperationRun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<ObjectReference>,
    /// Phase of that run.
    #[serde(default)]
    pub phase: Phase,
    /// Outcome of that run.
    #[serde(default)]
    pub outcome: Outcome,
    /// Stable code of the end of that run, or why there is none: that of `refused`, `RunDeleted`, or
    /// `Skipped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
}

/// A tenant in which no run could be created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RefusedTenant {
    /// The namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Stable code: `QuotaExceeded`, `RunRefused` or `RunNameTaken`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// What refused it, and what to do.
    #[schemars(length(max = 400))]
    pub message: String,
}

impl WorkspaceRun {
    /// The status, or the one that an object has at its creation.
    #[must_use]
    pub fn status_or_default(&self) -> WorkspaceRunStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether it is completed.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase == Phase::Completed)
    }

    /// Whether labels of namespaces say which tenants are taken, or in which wave.
    #[must_use]
    pub fn selects_by_labels(&self) -> bool {
        self.spec.tenant_selector.is_some() || self.spec.waves.iter().any(|wave| wave.tenant_selector.is_some())
    }

    /// Number of failures after which no more tenants are started.
    #[must_use]
    pub fn stops_after(&self) -> Option<i64> {
        let of_waves = (!self.spec.waves.is_empty()).then_some(1);
        self.spec.stop_after_failures.or(of_waves).map(i64::from)
    }
}

/// Names that the run of a tenant may have. The second is used if another run has the first.
#[must_use]
pub fn run_names(workspace_run: &str, uid: &str) -> [String; 2] {
    [format!("{workspace_run}-{}", uid.get(..8).unwrap_or(uid)), format!("{workspace_run}-{uid}")]
}
