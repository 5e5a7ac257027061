//! `Finding`: one item of a tenant that differs from a baseline, with evidence.
//!
//! Writers: the worker of `drift.generate` writes `spec` but for `acknowledged`, and
//! `status.observed`. Whoever may acknowledge writes `spec.acknowledged`. The controller writes the
//! rest of the status. Nothing here corrects anything.

use crate::{LocalReference, ObjectReference, provider::Provider, subject::Initiator};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Maximum number of changed paths that a finding shows.
pub const MAX_EVIDENCE: usize = 50;

/// Maximum size of a value in the evidence, as JSON, in bytes. A longer one is cut, and says so.
pub const MAX_VALUE: usize = 512;

/// Maximum number of findings of a tenant that are not resolved.
pub const MAX_FINDINGS: usize = 1000;

/// One item that differs from a baseline.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "Finding",
    plural = "findings",
    shortname = "find",
    category = "atlas",
    namespaced,
    status = "FindingStatus",
    derive = "PartialEq",
    doc = "One item of a tenant that differs from a baseline, with evidence. Nothing is corrected by itself.",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.subject.kind"),
    printcolumn(name = "Name", type_ = "string", json_path = ".spec.subject.name"),
    printcolumn(name = "Change", type_ = "string", json_path = ".spec.change"),
    printcolumn(name = "Severity", type_ = "string", json_path = ".spec.severity"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "First Seen", type_ = "date", json_path = ".status.observed.firstSeen"),
    printcolumn(name = "Last Seen", type_ = "date", json_path = ".status.observed.lastSeen"),
    printcolumn(name = "Path", type_ = "string", json_path = ".spec.evidence[0].path", priority = "1"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.evidence[0].manager", priority = "1"),
    printcolumn(name = "Baseline", type_ = "string", json_path = ".spec.baseline.backupSet.name", priority = "1")
)]
#[serde(rename_all = "camelCase")]
pub struct FindingSpec {
    /// What was looked for.
    #[serde(default)]
    pub finding_type: FindingType,
    /// Hash of the provider and the selection of the run, 64 hex digits. Findings of one scope are
    /// resolved only by a run of the same scope.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub scope_key: String,
    /// State that the item should have.
    pub baseline: Baseline,
    /// State in which the difference was found.
    pub current: Current,
    /// The item.
    pub subject: Subject,
    /// How the item differs.
    pub change: Change,
    /// How much it matters.
    pub severity: Severity,
    /// Changed paths, worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub evidence: Vec<Evidence>,
    /// Number of changed paths that are not in `evidence`, because there are too many.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub evidence_left_out: i64,
    /// Keyed hash over all changed paths and their values, 64 hex digits. It changes when the
    /// difference changes.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// That somebody has seen the finding and accepts it until it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Acknowledged>,
}

/// What was looked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FindingType {
    /// A difference between a baseline and a later state.
    #[default]
    Drift,
}

/// State that the item should have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Baseline {
    /// The backup set, with the objects or an inventory of them.
    pub backup_set: ObjectReference,
    /// Snapshot of the set, 64 hex digits.
    #[schemars(length(max = 64))]
    pub snapshot: String,
    /// When the snapshot was taken.
    pub taken_at: Option<Timestamp>,
}

/// State in which a difference was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Current {
    /// The backup set that was compared; absent if the live objects were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// Run that found the difference first, or as it is now.
    pub run: ObjectReference,
}

/// The item that a finding is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Provider of the item.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub provider: Provider,
    /// API group; empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, as in manifests.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Uid of the current object, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uid: Option<String>,
}

/// How an item differs from the baseline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Change {
    /// The baseline does not hold it.
    Added,
    /// Only the baseline holds it.
    Removed,
    /// Its fields differ.
    #[default]
    Modified,
    /// It was deleted and created again. Its fields may differ as well.
    Replaced,
}

/// How much a finding matters. Ordered from the least to the most.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Severity {
    /// Labels and annotations.
    Low,
    /// All else.
    #[default]
    Medium,
    /// Rights and secrets.
    High,
}

/// One changed path.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// The path, as in previews: `spec.containers[name=web].image`.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Value in the baseline, as JSON; `hmac:…` for a secret value. Absent if there was none, or if
    /// values of the kind are not shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub before: Option<String>,
    /// Value now, in the same form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub after: Option<String>,
    /// Field manager that wrote the path last, as `metadata.managedFields` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub manager: Option<String>,
    /// `Apply` or `Update`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub operation: Option<String>,
    /// When that manager wrote last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// The run of ours that wrote, if it was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<LocalReference>,
    /// User who requested that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub initiator: Option<String>,
}

/// That somebody accepts a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// Why.
    #[schemars(length(min = 1, max = 1024))]
    pub note: String,
    /// Digest of the finding that was seen. Another one is refused: the finding changed meanwhile.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub digest: String,
    /// Who, as the API server knows them. Admission sets it, or refuses another value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Initiator>,
}

/// State of a finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FindingStatus {
    /// What runs saw. Written by the worker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<Observed>,
    /// State of the finding. Written by the controller, as are the fields below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// When the acknowledgement in `spec` was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Timestamp>,
    /// Whether the verdict is older than its baseline's successor or its window.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub stale: bool,
    /// Conditions, as kstatus reads them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// Generation that the controller has judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

/// What runs saw of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// When the difference was first found. Kept when it goes and comes back.
    pub first_seen: Timestamp,
    /// When it was last found. Moves at most once an hour while nothing changes.
    pub last_seen: Timestamp,
    /// When a run found that the difference is gone. Absent while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<Timestamp>,
    /// Run that wrote this.
    pub run: ObjectReference,
}

/// State of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum State {
    /// Nobody has accepted it as it is now.
    #[default]
    New,
    /// Somebody has accepted it as it is now.
    Acknowledged,
    /// A run found that the difference is gone.
    Resolved,
}

/// Name of the finding of a fingerprint, 64 hex digits.
#[must_use]
pub fn name(fingerprint: &str) -> String {
    format!("drift-{}", fingerprint.get(..32).unwrap_or(fingerprint))
}
