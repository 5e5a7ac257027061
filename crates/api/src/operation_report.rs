//! `OperationReport`: per-item results too large for a status, in chunks, owned by their run.

use crate::{ObjectReference, outcome::ItemFailure};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most items in one report.
pub const MAX_ITEMS: usize = 500;

/// The most bytes of one report as JSON.
pub const MAX_BYTES: usize = 256 * 1024;

/// The most bytes of items that all reports of a run hold of one thing: its failures, its plan, or its results.
pub const MAX_OF_ALL: usize = 240 * 1024;

/// One chunk of a run's per-item results. Immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "OperationReport",
    plural = "operationreports",
    shortname = "oprep",
    category = "atlas",
    namespaced,
    derive = "PartialEq",
    doc = "One chunk of a run's per-item results: at most 500 items, and 256 KiB in all chunks. It belongs to its run and goes with it.",
    selectable = ".spec.run.name",
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run.name"),
    printcolumn(name = "Chunk", type_ = "integer", json_path = ".spec.chunk"),
    printcolumn(name = "Chunks", type_ = "integer", json_path = ".spec.chunks"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a report is immutable"))]
#[serde(rename_all = "camelCase")]
pub struct OperationReportSpec {
    /// The run it belongs to.
    pub run: ObjectReference,
    /// Its place in the run's reports, from 0.
    #[schemars(range(min = 0))]
    pub chunk: i32,
    /// How many reports the run has.
    #[schemars(range(min = 1))]
    pub chunks: i32,
    /// How many of the run's items none of its reports names, where not all fit: first those that succeeded go unnamed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<i64>,
    /// Items that failed or were skipped, in the order of their ids.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub items: Vec<ItemFailure>,
    /// Of a restore: the digest of the plan that this shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// Of a restore: what would happen to each item, in the order of writing; where not all fit, to those that differ, warn or
    /// fail.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub plan: Vec<PlannedObject>,
    /// Of a restore: what became of each item, in the order of the plan; where not all fit, of those that failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub results: Vec<ItemResult>,
}

/// What happens to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Made, because it is not there.
    Create,
    /// Replaced whole.
    Update,
    /// Deleted and made anew.
    Recreate,
    /// Deleted.
    Delete,
    /// Nothing: it is as it should be.
    Unchanged,
    /// Nothing, on purpose.
    Skip,
    /// Nothing: not possible as things are.
    Conflict,
    /// Nothing: not allowed.
    Forbidden,
    /// Nothing: not an object that the API server takes.
    Invalid,
}

impl Action {
    /// Whether something is written.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Recreate | Self::Delete)
    }

    /// Whether the item fails: it was asked for and cannot be had.
    #[must_use]
    pub fn fails(self) -> bool {
        matches!(self, Self::Conflict | Self::Forbidden | Self::Invalid)
    }
}

/// A code and words, about an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// A stable code.
    #[schemars(length(max = 128))]
    pub code: String,
    /// What it means here, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl Remark {
    /// A remark.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// One item of a restore's plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// `group/kind/name`, with `core` for the core group; before it `provider:` where that is not `kubernetes`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// API version it is written in.
    #[schemars(length(max = 317))]
    pub api_version: String,
    /// What happens to it.
    pub action: Action,
    /// Why, where that is not plain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
    /// What else there is to know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub warnings: Vec<Remark>,
    /// What changes, for people; secrets as digests. One that is long ends with how much was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub diff: Option<String>,
}

/// What became of one item of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemResult {
    /// `group/kind/name`, with `core` for the core group; before it `provider:` where that is not `kubernetes`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// What was to happen.
    pub action: Action,
    /// What became of it.
    pub outcome: ItemOutcome,
    /// Why, where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemOutcome {
    /// Written.
    Done,
    /// Nothing had to be written.
    Unchanged,
    /// Left alone on purpose.
    Skipped,
    /// Not done.
    Failed,
}
