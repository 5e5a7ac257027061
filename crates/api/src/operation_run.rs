//! `OperationRun`: the canonical record of one operation. One record, one Job, one outcome.
//!
//! Writers, one for each field: the author writes `spec`; admission writes `spec.initiator`; the worker
//! writes `status.progress` and `status.summaryCounts` while its Job runs; the controller writes the rest,
//! and everything once the run completes.

use crate::{
    Inputs, LocalReference, ObjectReference,
    item::KIND_PATTERN,
    outcome::{ItemFailure, Outcome, Phase, SummaryCounts},
    provenance::{AuditReferences, MadePlan},
    subject::Initiator,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The longest name of a run: names are carried into other objects with a suffix.
pub const MAX_NAME_LENGTH: usize = 200;

/// The most that `spec.inputs` may take as JSON, in bytes: the kernel refuses an environment variable of 128 KiB.
pub const MAX_INPUTS_BYTES: usize = 64 * 1024;

/// What to run, asked for by whom. Immutable but for `cancel`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "OperationRun",
    plural = "operationruns",
    shortname = "opr",
    category = "atlas",
    namespaced,
    status = "OperationRunStatus",
    derive = "PartialEq",
    doc = "One run of an operation on a tenant: one record, one Job, one outcome. `kubectl get operationruns` shows where it is, `status.reason` and `status.message` say why.",
    selectable = ".spec.type",
    selectable = ".spec.trigger",
    selectable = ".status.phase",
    selectable = ".status.outcome",
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Progress", type_ = "string", json_path = ".status.progress"),
    printcolumn(name = "Initiator", type_ = "string", json_path = ".spec.initiator.username"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Trigger", type_ = "string", json_path = ".spec.trigger", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = "1"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".status.duration", priority = "1"),
    printcolumn(name = "Job", type_ = "string", json_path = ".status.job.name", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 200").message("the name of a run is at most 200 characters: shorten it, or use a shorter generateName").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || (has(self.status) && has(self.status.phase) && has(self.status.outcome) && self.status.phase == oldSelf.status.phase && self.status.outcome == oldSelf.status.outcome)").message("a completed run never changes its phase or outcome: create a new run, with spec.rerunOf if it is to be the same work again"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || !has(self.status) || (has(self.status.completedAt) == has(oldSelf.status.completedAt) && (!has(self.status.completedAt) || self.status.completedAt == oldSelf.status.completedAt) && has(self.status.reason) == has(oldSelf.status.reason) && (!has(self.status.reason) || self.status.reason == oldSelf.status.reason))").message("a completed run keeps its reason and completedAt: its end was recorded before"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || self.spec.cancel == oldSelf.spec.cancel").message("the run is completed: there is nothing left to cancel"),
)]
#[x_kube(
    validation = Rule::new("self.type == oldSelf.type && self.trigger == oldSelf.trigger && self.onDuplicate == oldSelf.onDuplicate && self.inputs == oldSelf.inputs").message("the spec of a run is immutable but for cancel: create a new run"),
    validation = Rule::new("has(self.target) == has(oldSelf.target) && (!has(self.target) || self.target == oldSelf.target)").message("target is immutable: create a new run"),
    validation = Rule::new("has(self.rerunOf) == has(oldSelf.rerunOf) && (!has(self.rerunOf) || self.rerunOf == oldSelf.rerunOf)").message("rerunOf is immutable: create a new run"),
    validation = Rule::new("has(self.timeoutSeconds) == has(oldSelf.timeoutSeconds) && (!has(self.timeoutSeconds) || self.timeoutSeconds == oldSelf.timeoutSeconds)").message("timeoutSeconds is immutable: cancel this run and create a new one"),
    validation = Rule::new("has(self.initiator) == has(oldSelf.initiator) && (!has(self.initiator) || self.initiator == oldSelf.initiator)").message("initiator is set by the API server when the run is created and never changes"),
    validation = Rule::new("has(self.scheduledBy) == has(oldSelf.scheduledBy) && (!has(self.scheduledBy) || self.scheduledBy == oldSelf.scheduledBy)").message("scheduledBy is set by the operator when it creates the run and never changes"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("a cancellation cannot be withdrawn: create a new run"),
)]
#[serde(rename_all = "camelCase")]
pub struct OperationRunSpec {
    /// Name of the OperationType to run, such as `backup.capture`.
    #[serde(rename = "type")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub operation_type: String,
    /// What started the run: `manual`, or `retry` where `rerunOf` is given. The others are the operator's to say.
    #[serde(default)]
    pub trigger: Trigger,
    /// The authenticated user who asked. Set by the API server's admission, whatever the author writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<Initiator>,
    /// The schedule or repository that the run was made for, by its uid. The operator's to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_by: Option<ScheduledBy>,
    /// The one object of the tenant the run is about, where the type takes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Inputs of the type, checked against its `inputsSchema`; at most 64 KiB as JSON.
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub inputs: Inputs,
    /// When the same work is already running: `Join` it and take its outcome, or be refused (`Reject`).
    #[serde(default)]
    pub on_duplicate: OnDuplicate,
    /// A completed run of the same type to run again. Inputs left empty here are taken from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalReference>,
    /// Seconds the run may take from the start of its Job; default, and the most: the type's `timeoutSeconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub timeout_seconds: Option<i64>,
    /// Set to true to stop the run. Refused once it is completed.
    #[serde(default)]
    pub cancel: bool,
}

/// What a run was made for. A name or an owner reference anybody may write; this, nobody but the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBy {
    /// Its kind.
    #[serde(default)]
    pub kind: SchedulerKind,
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its uid.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// The minute that was due, UTC, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub tick: Option<Timestamp>,
}

/// A kind that has runs made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SchedulerKind {
    /// At its ticks, or because it was asked to.
    #[default]
    BackupSchedule,
    /// Its checks and its maintenance.
    BackupRepository,
}

/// What started a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Trigger {
    /// A person or a pipeline created the record.
    #[default]
    Manual,
    /// A schedule's tick.
    Scheduled,
    /// A schedule's run-now annotation.
    RunNow,
    /// The same as an earlier one once more, by `rerunOf`.
    Retry,
}

impl Trigger {
    /// The word as it stands in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What to do when the same work is already running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnDuplicate {
    /// Join it: this run ends as that one ends.
    #[default]
    Join,
    /// Complete as `blocked`.
    Reject,
}

/// One object of the tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// API version, such as `v1` or `apps/v1`.
    #[schemars(length(min = 1, max = 317), regex(pattern = r"^([a-z0-9.-]+/)?[a-z]([-a-z0-9]*[a-z0-9])?$"))]
    pub api_version: String,
    /// Kind, such as `Deployment`.
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND_PATTERN))]
    pub kind: String,
    /// Name, in the run's namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/%]+$"))]
    pub name: String,
}

/// Where the run is, and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationRunStatus {
    /// `queued`, `running` or `completed`.
    pub phase: Phase,
    /// `pending` until completed, then how it ended.
    pub outcome: Outcome,
    /// Generation of the spec this status speaks of; -1 before the controller has seen the run.
    pub observed_generation: i64,
    /// A stable code that says why the run is where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// The same for people, with what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// SHA-256 (64 hex digits) over what makes two runs the same work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub identity_hash: Option<String>,
    /// The run whose Job does this run's work too; progress is read there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<ObjectReference>,
    /// Why the run is queued, or not moving.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// The Job that does the work; only this uid counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<ObjectReference>,
    /// Items counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_counts: Option<SummaryCounts>,
    /// Progress as text, `done/total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// Items that failed or were skipped, at most 20; all of them stand in the run's OperationReports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<ItemFailure>,
    /// Whether there were more failures than `failures` holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failures_truncated: bool,
    /// Provenance and links.
    #[serde(skip_serializing_if = "RunContext::is_empty")]
    pub context: RunContext,
    /// When the Job was made (or joined).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub started_at: Option<Timestamp>,
    /// When the run was recorded completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// From `startedAt` to `completedAt`, such as `1m12s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub duration: Option<String>,
    /// Every change of phase or outcome, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub transitions: Vec<Transition>,
    /// Pods that were tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Conditions for kstatus, Flux, Argo CD and `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for OperationRunStatus {
    /// What the API server fills in at birth.
    fn default() -> Self {
        Self {
            phase: Phase::Queued,
            outcome: Outcome::Pending,
            observed_generation: -1,
            reason: None,
            message: None,
            identity_hash: None,
            joined: None,
            waiting: None,
            job: None,
            summary_counts: None,
            progress: None,
            failures: Vec::new(),
            failures_truncated: false,
            context: RunContext::default(),
            started_at: None,
            completed_at: None,
            duration: None,
            transitions: Vec::new(),
            attempts: None,
            conditions: Vec::new(),
        }
    }
}

/// Why a run is queued or not moving, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// A stable code, such as `ConcurrencyLimit` or `ImagePull`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// When the controller first saw it.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub since: Timestamp,
}

/// Provenance and links of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RunContext {
    /// The tenant's workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub workspace: Option<String>,
    /// `Tenant` or `Workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub target_scope: Option<String>,
    /// What was selected, as text; empty means everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selection: Option<String>,
    /// The schedule that made the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_schedule: Option<String>,
    /// The minute it was due, UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub scheduled_for: Option<Timestamp>,
    /// The backup set it made or used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_set: Option<String>,
    /// The repository it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub repository: Option<String>,
    /// The restore it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub restore_run: Option<String>,
    /// The plan it made, of a restore or its preview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<MadePlan>,
    /// What the audit chain was told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
}

impl RunContext {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One change of phase or outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// The phase from then on.
    pub phase: Phase,
    /// The outcome from then on.
    pub outcome: Outcome,
    /// When.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub at: Timestamp,
}

impl OperationRun {
    /// The status, or what the API server would fill in.
    #[must_use]
    pub fn status_or_default(&self) -> OperationRunStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether the run is at its end.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase == Phase::Completed)
    }
}
