//! `OperationRun`: the canonical record of one operation. One record, one Job, one outcome.
//!
//! Each field has one writer: the author writes `spec`, and admission writes `spec.initiator`. The
//! worker writes `status.progress` and `status.summaryCounts` while its Job runs. The controller
//! writes the rest, and everything once the run completes.

use crate::{
    Inputs, LocalReference, ObjectReference,
    comparison::Compared,
    coverage::BackupCoverage,
    drift::Drift,
    history::ItemHistory,
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

/// Maximum length of a run's name. Other objects use the name with a suffix.
pub const MAX_NAME_LENGTH: usize = 200;

/// Maximum size of `spec.inputs` as JSON, in bytes. The kernel rejects an environment variable of
/// 128 KiB.
pub const MAX_INPUTS_BYTES: usize = 64 * 1024;

/// What to run, and for which user. Immutable except for `cancel`.
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
    doc = "One run of an operation on a tenant: one record, one Job, one outcome. `kubectl get operationruns` shows its state; `status.reason` and `status.message` explain it.",
    selectable = ".spec.type",
    selectable = ".spec.trigger",
    selectable = ".spec.scheduledBy.uid",
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
    validation = Rule::new("has(self.queueTimeoutSeconds) == has(oldSelf.queueTimeoutSeconds) && (!has(self.queueTimeoutSeconds) || self.queueTimeoutSeconds == oldSelf.queueTimeoutSeconds)").message("queueTimeoutSeconds is immutable: cancel this run and create a new one"),
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
    /// What started the run. Users may set `manual` (the default), or `retry` together with
    /// `rerunOf`. Only the operator sets the other values.
    #[serde(default)]
    pub trigger: Trigger,
    /// Authenticated user who requested the run. Admission sets it, whatever the author writes. On
    /// Kubernetes before 1.36 the author writes it, and admission rejects any other user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initiator: Option<Initiator>,
    /// Schedule, repository or workspace run that the run was created for, with its uid. Only the
    /// operator sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_by: Option<ScheduledBy>,
    /// The single object of the tenant that the run is about, for types that accept a target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Inputs of the type, checked against its `inputsSchema`. At most 64 KiB as JSON; a run with
    /// more is `blocked` (InputsTooLarge).
    #[serde(default)]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub inputs: Inputs,
    /// What to do if the same work is already running. `Join`, the default, takes the outcome of
    /// that run. `Reject` completes this run as `blocked` (DuplicateRun).
    #[serde(default)]
    pub on_duplicate: OnDuplicate,
    /// A completed run of the same type to run again. If `inputs` is empty, the inputs of that run
    /// are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalReference>,
    /// Seconds that the run may take from the start of its Job; time in the queue does not count.
    /// The type's `timeoutSeconds` is both the default and the maximum; a run with more is `blocked`
    /// (TimeoutTooLong).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub timeout_seconds: Option<i64>,
    /// Seconds that the run may wait in the queue, from its creation until it has a Job or joins
    /// another run. A run that has neither by then is `blocked` (QueueTimeout), and nothing is
    /// started. From then on only `timeoutSeconds` counts, also while the Job waits for its pod. If
    /// unset, there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub queue_timeout_seconds: Option<i64>,
    /// Set to true to stop the run. It cannot be set back to false, and is rejected once the run is
    /// completed.
    #[serde(default)]
    pub cancel: bool,
}

/// The object that a run was created for. Any user may write a name or an owner reference; only the
/// operator may write this field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScheduledBy {
    /// Kind of the object.
    #[serde(default)]
    pub kind: SchedulerKind,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Uid of the object.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// The minute that was due, in UTC. Unset if the run was not created for a tick.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub tick: Option<Timestamp>,
}

/// A kind for which the operator creates runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SchedulerKind {
    /// Runs for its ticks, and on request.
    #[default]
    BackupSchedule,
    /// Runs for its checks and its maintenance.
    BackupRepository,
    /// One run in each tenant.
    WorkspaceRun,
}

/// What started a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Trigger {
    /// A user or a pipeline created the run.
    #[default]
    Manual,
    /// A tick of a schedule.
    Scheduled,
    /// The run-now annotation of a schedule.
    RunNow,
    /// Repetition of an earlier run, with `rerunOf`.
    Retry,
    /// A WorkspaceRun.
    WorkspaceRun,
}

impl Trigger {
    /// Returns the value as written in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What to do if the same work is already running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum OnDuplicate {
    /// Join the active run, and take its outcome.
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
    /// Name of the object, in the run's namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/%]+$"))]
    pub name: String,
}

/// State of the run, and its outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationRunStatus {
    /// `queued`, `running` or `completed`.
    pub phase: Phase,
    /// `pending` until the run is completed, then its outcome.
    pub outcome: Outcome,
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// run.
    pub observed_generation: i64,
    /// Stable code for the current state of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`, with what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// SHA-256 (64 hex digits) over everything that makes two runs the same work.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub identity_hash: Option<String>,
    /// Run whose Job also does the work of this run. Progress is recorded there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joined: Option<ObjectReference>,
    /// Why the run is queued or makes no progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// Job that does the work. A Job of this name with another uid does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<ObjectReference>,
    /// Result that the worker reported before its container ended. The run ends by it, and then the
    /// field is removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_result: Option<WorkerResult>,
    /// Number of items by result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_counts: Option<SummaryCounts>,
    /// Progress as text, `done/total`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// Items that failed or were skipped; at most 20. If there are more, the worker lists them in
    /// the run's OperationReports, up to 240 KiB of items.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<ItemFailure>,
    /// Whether there are more failures than `failures` holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failures_truncated: bool,
    /// Provenance and links of the run.
    #[serde(skip_serializing_if = "RunContext::is_empty")]
    pub context: RunContext,
    /// When the Job was created or joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub started_at: Option<Timestamp>,
    /// When the run was recorded as completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// Time from `startedAt` to `completedAt`, such as `1m12s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub duration: Option<String>,
    /// All changes of phase or outcome, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub transitions: Vec<Transition>,
    /// Number of pods that the Job has tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// Conditions for kstatus, Flux, Argo CD and `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for OperationRunStatus {
    /// Returns the default that the API server fills in at creation.
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
            worker_result: None,
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

/// Why a run is queued or makes no progress, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// A stable code, such as `ConcurrencyLimit` or `ImagePull`.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// When the controller first observed this reason.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub since: Timestamp,
}

/// Result that a worker reports about its own run, as the last thing it does. It counts only if it
/// names the Job of `status.job`.
// A watch leaves out values that are large, so every field has a default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkerResult {
    /// Uid of the Job that the worker's pod belongs to.
    #[schemars(length(max = 64))]
    pub job_uid: String,
    /// Name of the worker's pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// Exit code with which the worker's container is about to end: 0, or that of a permanent
    /// failure. A worker whose pod may be retried reports nothing.
    #[schemars(range(min = 0, max = 255))]
    pub exit_code: i32,
    /// The same JSON as on the container's termination message.
    #[schemars(length(max = 4096))]
    pub message: String,
}

/// Provenance and links of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RunContext {
    /// Workspace of the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub workspace: Option<String>,
    /// `Tenant` or `Workspace`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub target_scope: Option<String>,
    /// The selection of the inputs, as text. Empty: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selection: Option<String>,
    /// Schedule that created the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_schedule: Option<String>,
    /// The minute that was due, in UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub scheduled_for: Option<Timestamp>,
    /// Backup set that the run created or used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_set: Option<String>,
    /// Repository that the run used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub repository: Option<String>,
    /// RestoreRun that the run belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub restore_run: Option<String>,
    /// BulkOperationRun that the run belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub bulk_operation_run: Option<String>,
    /// ConfigMap that the run wrote its objects to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub config_map: Option<String>,
    /// SHA-256 of `objects.yaml` in that ConfigMap, 64 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_map_digest: Option<String>,
    /// Plan that a restore or its preview made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<MadePlan>,
    /// What the run found that compares two states of the tenant, or lists one. OperationReports
    /// name the items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// What the backup sets say of the item whose history the run looked up. OperationReports have
    /// its versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Box<ItemHistory>>,
    /// What the run found that compares the tenant with a baseline. Findings name the items.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// What the backup sets hold of the objects of the run's inventory, if it looked. OperationReports
    /// name the objects that none holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Box<BackupCoverage>>,
    /// AuditEntries that the run wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
}

impl RunContext {
    /// Whether no field is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One change of phase or outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Transition {
    /// Phase after the change.
    pub phase: Phase,
    /// Outcome after the change.
    pub outcome: Outcome,
    /// Time of the change.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub at: Timestamp,
}

impl OperationRun {
    /// Returns the status, or the default that the API server would fill in.
    #[must_use]
    pub fn status_or_default(&self) -> OperationRunStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether the run is completed.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase == Phase::Completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(status: Option<OperationRunStatus>) -> OperationRun {
        OperationRun { status, ..OperationRun::new("r", OperationRunSpec::default()) }
    }

    #[test]
    fn a_run_is_completed_once_its_phase_says_so() {
        for (phase, completed) in [(Phase::Queued, false), (Phase::Running, false), (Phase::Completed, true)] {
            let status = OperationRunStatus { phase, attempts: Some(2), ..OperationRunStatus::default() };
            let run = run(Some(status.clone()));
            assert_eq!((run.is_completed(), run.status_or_default()), (completed, status));
        }
        assert!(!run(None).is_completed());
        assert_eq!(run(None).status_or_default(), OperationRunStatus::default());
    }

    #[test]
    fn a_context_is_written_if_there_is_anything_in_it() {
        let mut status = OperationRunStatus::default();
        let said = |status: &OperationRunStatus| serde_json::to_value(status).expect("JSON")["context"].clone();
        assert_eq!(said(&status), json!(null));
        status.context.repository = Some("main".to_owned());
        assert_eq!(said(&status), json!({"repository": "main"}));
    }

    #[test]
    fn a_trigger_reads_as_in_its_schema() {
        for trigger in [Trigger::Manual, Trigger::Scheduled, Trigger::RunNow, Trigger::Retry, Trigger::WorkspaceRun] {
            assert_eq!(serde_json::to_value(trigger).expect("JSON"), trigger.as_str());
        }
    }

    #[test]
    fn inputs_have_half_of_what_the_kernel_takes_as_one_variable() {
        assert_eq!(MAX_INPUTS_BYTES * 2, 131_072);
    }
}
