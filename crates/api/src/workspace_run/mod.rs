//! `WorkspaceRun`: one operation over the tenants of a workspace.
//!
//! Each field has one writer: the author writes `spec`, admission writes `spec.requestedBy`, and the
//! controller writes `status`. What each tenant did is in its own `OperationRun`, `BulkOperationRun`
//! or `RestoreRun`, which names the workspace run in `spec.scheduledBy`.

mod status;
mod template;

pub use status::{RefusedTenant, TenantRun, TenantRunCounts, WaveStatus, WorkspaceRunStatus};
pub use template::{BulkTemplate, RestoreTemplate};

use crate::{
    Inputs, LocalReference, PreviewReference, approval::ApprovalTerms, operations, outcome::Phase, subject::Initiator,
};
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
    doc = "One operation over the tenants of a workspace: one OperationRun, BulkOperationRun or RestoreRun in each, some at a time, in waves if asked for, with summed counts. Bulk operations and restores can be previewed in all tenants, applied exactly as previewed, and undone. It takes the verb `run` on the workspace, and on the operation type in the whole cluster.",
    selectable = ".spec.workspace.name",
    selectable = ".status.phase",
    selectable = ".status.outcome",
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace.name"),
    printcolumn(name = "Type", type_ = "string", json_path = ".status.operationType"),
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
    validation = Rule::new("has(self.spec.operation) || self.metadata.name.size() <= 130").message("the name of a workspace run of bulk operations or restores is at most 130 characters: the names of these begin with it").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || (has(self.status) && has(self.status.phase) && has(self.status.outcome) && self.status.phase == oldSelf.status.phase && self.status.outcome == oldSelf.status.outcome)").message("a completed workspace run never changes its phase or outcome: create a new one, with spec.rerunOf for the tenants that did not succeed"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || self.spec.cancel == oldSelf.spec.cancel").message("the workspace run is completed: there is nothing left to cancel"),
)]
#[x_kube(
    validation = Rule::new("self.workspace == oldSelf.workspace && self.dryRun == oldSelf.dryRun && self.parallelism == oldSelf.parallelism && self.ttlSecondsAfterFinished == oldSelf.ttlSecondsAfterFinished").message("the spec of a workspace run is immutable but for cancel: create a new one"),
    validation = Rule::new("has(self.operation) == has(oldSelf.operation) && (!has(self.operation) || self.operation == oldSelf.operation)").message("operation is immutable: create a new workspace run"),
    validation = Rule::new("has(self.bulk) == has(oldSelf.bulk) && (!has(self.bulk) || self.bulk == oldSelf.bulk)").message("bulk is immutable: create a new workspace run"),
    validation = Rule::new("has(self.restore) == has(oldSelf.restore) && (!has(self.restore) || self.restore == oldSelf.restore)").message("restore is immutable: create a new workspace run"),
    validation = Rule::new("has(self.undoOf) == has(oldSelf.undoOf) && (!has(self.undoOf) || self.undoOf == oldSelf.undoOf)").message("undoOf is immutable: create a new workspace run"),
    validation = Rule::new("has(self.preview) == has(oldSelf.preview) && (!has(self.preview) || self.preview == oldSelf.preview)").message("preview is immutable: create a new workspace run"),
    validation = Rule::new("has(self.approval) == has(oldSelf.approval) && (!has(self.approval) || self.approval == oldSelf.approval)").message("approval is immutable: create a new workspace run"),
    validation = Rule::new("has(self.tenantSelector) == has(oldSelf.tenantSelector) && (!has(self.tenantSelector) || self.tenantSelector == oldSelf.tenantSelector)").message("tenantSelector is immutable: create a new workspace run"),
    validation = Rule::new("has(self.waves) == has(oldSelf.waves) && (!has(self.waves) || self.waves == oldSelf.waves)").message("waves is immutable: create a new workspace run"),
    validation = Rule::new("has(self.stopAfterFailures) == has(oldSelf.stopAfterFailures) && (!has(self.stopAfterFailures) || self.stopAfterFailures == oldSelf.stopAfterFailures)").message("stopAfterFailures is immutable: create a new workspace run"),
    validation = Rule::new("has(self.rerunOf) == has(oldSelf.rerunOf) && (!has(self.rerunOf) || self.rerunOf == oldSelf.rerunOf)").message("rerunOf is immutable: create a new workspace run"),
    validation = Rule::new("has(self.timeoutSeconds) == has(oldSelf.timeoutSeconds) && (!has(self.timeoutSeconds) || self.timeoutSeconds == oldSelf.timeoutSeconds)").message("timeoutSeconds is immutable: create a new workspace run"),
    validation = Rule::new("has(self.queueTimeoutSeconds) == has(oldSelf.queueTimeoutSeconds) && (!has(self.queueTimeoutSeconds) || self.queueTimeoutSeconds == oldSelf.queueTimeoutSeconds)").message("queueTimeoutSeconds is immutable: create a new workspace run"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)").message("requestedBy is set by the API server when the workspace run is created and never changes"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("a cancellation cannot be withdrawn: create a new workspace run"),
    validation = Rule::new("[has(self.operation), has(self.bulk), has(self.restore), has(self.undoOf)].exists_one(one, one)").message("say what is done in each tenant: exactly one of operation, bulk, restore and undoOf"),
    validation = Rule::new("!has(self.operation) || !(self.operation.type in ['restore.preview', 'restore.apply', 'bulk.preview', 'bulk.apply', 'bulk.delete.preview', 'bulk.delete', 'bulk.capture', 'bulk.export'])").message("operation.type: describe bulk operations in bulk, and restores in restore"),
    validation = Rule::new("!has(self.operation) || (!self.dryRun && !has(self.preview))").message("only bulk operations and restores are previewed: leave out dryRun and preview"),
    validation = Rule::new("has(self.operation) || !has(self.timeoutSeconds)").message("timeoutSeconds is for operation: the types of bulk operations and restores say how long these may take"),
    validation = Rule::new("!self.dryRun || !has(self.preview)").message("a preview is applied for good: leave out dryRun or preview"),
    validation = Rule::new("!has(self.approval) || has(self.preview)").message("what is approved are the plans of a preview: make one with dryRun: true, then name it in preview; or leave out approval"),
    validation = Rule::new("!has(self.preview) || !has(self.tenantSelector)").message("a preview is applied in all tenants that it showed: leave out tenantSelector"),
    validation = Rule::new("!has(self.undoOf) || self.dryRun || has(self.preview)").message("an undo is looked at first: create one with dryRun: true, then name it in preview"),
    validation = Rule::new("!has(self.restore) || !self.restore.prune || self.dryRun").message("prune deletes, so it is looked at first: set it in a workspace run with dryRun: true, then create one whose preview names that"),
    validation = Rule::new("!has(self.bulk) || self.bulk.action != 'delete' || self.dryRun || has(self.preview)").message("objects are deleted as a preview showed and no other way: make one with dryRun: true, then name it in preview"),
    validation = Rule::new("!has(self.bulk) || !(self.bulk.action in ['capture', 'export'])").message("a workspace run captures with operation, of the type backup.capture with a selection, and exports nothing: create a BulkOperationRun in the tenant for that"),
    validation = Rule::new("!has(self.bulk) || [has(self.bulk.items), has(self.bulk.labelSelector), has(self.preview)].exists_one(one, one)").message("say which objects: either bulk.items, by name, or bulk.labelSelector, or the preview that selected them"),
    validation = Rule::new("!has(self.bulk) || !has(self.preview) || !has(self.bulk.options)").message("a workspace run with preview does exactly what that showed: leave out bulk.options"),
    validation = Rule::new("!has(self.bulk) || !self.dryRun || !has(self.bulk.stopAfterFailures)").message("a dry run looks at all objects: leave out bulk.stopAfterFailures"),
    validation = Rule::new("!has(self.bulk) || has(self.preview) || !(self.bulk.action in ['label', 'annotate']) || (has(self.bulk.options) && (has(self.bulk.options.set) || has(self.bulk.options.remove)) && !has(self.bulk.options.replicas) && !has(self.bulk.options.repository) && !has(self.bulk.options.allowDataLoss))").message("label and annotate take bulk.options.set, bulk.options.remove, or both, and nothing else"),
    validation = Rule::new("!has(self.bulk) || has(self.preview) || self.bulk.action != 'scale' || (has(self.bulk.options) && has(self.bulk.options.replicas) && !has(self.bulk.options.set) && !has(self.bulk.options.remove) && !has(self.bulk.options.repository) && !has(self.bulk.options.allowDataLoss))").message("scale takes bulk.options.replicas and nothing else"),
    validation = Rule::new("!has(self.bulk) || has(self.preview) || self.bulk.action != 'delete' || !has(self.bulk.options) || (!has(self.bulk.options.set) && !has(self.bulk.options.remove) && !has(self.bulk.options.replicas))").message("delete takes bulk.options.repository and bulk.options.allowDataLoss, and nothing else"),
    validation = Rule::new("!has(self.bulk) || self.bulk.action != 'delete' || !has(self.bulk.stopAfterFailures)").message("delete takes no bulk.stopAfterFailures: its preview shows what would fail"),
    validation = Rule::new("!has(self.bulk) || !(self.bulk.action in ['restart', 'suspend', 'resume']) || !has(self.bulk.options)").message("restart, suspend and resume take no bulk.options"),
    validation = Rule::new("!has(self.restore) || !has(self.preview) || (!has(self.restore.items) && !has(self.restore.excludeItems) && !has(self.restore.transforms) && !has(self.restore.only) && self.restore.existingResourcePolicy == 'none' && !self.restore.allowDataLoss)").message("a workspace run with preview does exactly what that showed: leave out all of restore but backupSet"),
)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceRunSpec {
    /// The workspace. Its tenants are the namespaces with the label
    /// `tenantatlas.io/workspace: <name>`; a Workspace object is not needed.
    pub workspace: WorkspaceReference,
    /// A run of an operation type in each tenant. Exactly one of `operation`, `bulk`, `restore` and
    /// `undoOf` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<WorkspaceOperation>,
    /// A bulk operation in each tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk: Option<BulkTemplate>,
    /// A restore in each tenant, of its backup set of the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RestoreTemplate>,
    /// A completed WorkspaceRun whose changes are undone: in each tenant, the backup set with what it
    /// changed or deleted is restored. Accepted only with `dryRun` or `preview`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo_of: Option<LocalReference>,
    /// Changes nothing, and reports for each tenant what would be done to each object. A WorkspaceRun
    /// with `preview` then does exactly that. Accepted with `bulk`, `restore` and `undoOf`.
    #[serde(default)]
    pub dry_run: bool,
    /// A completed WorkspaceRun with `dryRun: true` that is otherwise the same. In each tenant, exactly
    /// what it showed is done, or nothing if a part of an object on which that depends has changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewReference>,
    /// Whether somebody else must approve the plans of `preview`, once for all tenants, before anything
    /// is written. Accepted only with `preview`. Until then the workspace run is `queued`
    /// (AwaitingApproval). A rule of the workspace may require it, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
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
    /// A completed WorkspaceRun of the same workspace that did the same. Only tenants that succeeded
    /// neither in it nor in those that it repeats are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalReference>,
    /// `timeoutSeconds` of each run. Accepted only with `operation`.
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
    /// Authenticated user who requested the operation, and for whom each tenant's run is. Admission
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

/// A run of an operation type in each tenant.
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

    /// What is done in each tenant; `None` if the spec says nothing, or more than one thing.
    #[must_use]
    pub fn what(&self) -> Option<What<'_>> {
        let WorkspaceRunSpec { operation, bulk, restore, undo_of, .. } = &self.spec;
        match (operation, bulk, restore, undo_of) {
            (Some(operation), None, None, None) => Some(What::Operation(operation)),
            (None, Some(bulk), None, None) => Some(What::Bulk(bulk)),
            (None, None, Some(restore), None) => Some(What::Restore(restore)),
            (None, None, None, Some(undone)) => Some(What::Undo(undone)),
            _ => None,
        }
    }

    /// Type of the runs that do the work in the tenants.
    #[must_use]
    pub fn operation_type(&self) -> &str {
        let restore = if self.spec.dry_run { operations::PREVIEW } else { operations::APPLY };
        match self.what() {
            Some(What::Operation(operation)) => &operation.operation_type,
            Some(What::Bulk(bulk)) => bulk.action.operation_type(self.spec.dry_run),
            Some(What::Restore(_) | What::Undo(_)) => restore,
            None => "",
        }
    }

    /// The workspace run whose tenants this one takes, in place of those that are selected: the
    /// preview, or the one that is undone.
    #[must_use]
    pub fn source(&self) -> Option<&str> {
        let undone = self.spec.undo_of.as_ref().map(|undone| undone.name.as_str());
        self.spec.preview.as_ref().map(|preview| preview.name.as_str()).or(undone)
    }

    /// Number of failures after which no more tenants are started.
    #[must_use]
    pub fn stops_after(&self) -> Option<i64> {
        let of_waves = (!self.spec.waves.is_empty()).then_some(1);
        self.spec.stop_after_failures.or(of_waves).map(i64::from)
    }
}

/// What is done in each tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum What<'s> {
    /// A run of an operation type.
    Operation(&'s WorkspaceOperation),
    /// A bulk operation.
    Bulk(&'s BulkTemplate),
    /// A restore.
    Restore(&'s RestoreTemplate),
    /// A restore of what another workspace run changed or deleted.
    Undo(&'s LocalReference),
}

/// Names that the run of a tenant may have. The second is used if another run has the first.
#[must_use]
pub fn run_names(workspace_run: &str, uid: &str) -> [String; 2] {
    [format!("{workspace_run}-{}", uid.get(..8).unwrap_or(uid)), format!("{workspace_run}-{uid}")]
}
