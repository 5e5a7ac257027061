//! The status of a workspace run: what became of its tenants. Only the controller writes it.

use crate::{
    ObjectReference,
    approval::Consent,
    outcome::{Outcome, Phase, SummaryCounts},
    provenance::PlanSummary,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// Type of the runs that do the work in the tenants, such as `bulk.delete.preview`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub operation_type: Option<String>,
    /// Number of tenants by state, as of `countedAt`.
    pub counts: TenantRunCounts,
    /// Tenants that are done, of all, such as `12/200`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub progress: Option<String>,
    /// Sum of the `summaryCounts` of the completed runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<SummaryCounts>,
    /// Dry runs only: number of objects of all tenants, by what would be done with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<PlanSummary>,
    /// SHA-256 over the plans of all tenants, 64 hex digits: of a dry run that is completed, and of
    /// what applies it, or waits for an approval of it. A `spec.preview.planDigest` makes sure that it is the one that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// Number of tenants with a backup set of what was changed or deleted. A WorkspaceRun with
    /// `undoOf` restores these.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub undo_tenants: i64,
    /// The approval of the plans of all tenants, if one was needed. What is created in a tenant needs no
    /// other one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approval: Option<Consent>,
    /// The WorkspaceRun in `spec.preview`, or else in `spec.undoOf`, as it was at the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<ObjectReference>,
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
    /// spec.scheduledBy.uid=<uid of the workspace run>` lists the runs of all; for bulk operations and
    /// restores, `bulkoperationruns` and `restoreruns`.
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
            operation_type: None,
            counts: TenantRunCounts::default(),
            progress: None,
            items: None,
            preview: None,
            plan_digest: None,
            undo_tenants: 0,
            approval: None,
            source: None,
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
    /// Its OperationRun, BulkOperationRun or RestoreRun.
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
