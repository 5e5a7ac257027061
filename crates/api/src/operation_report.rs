//! `OperationReport`: per-item results that are too large for a status, in chunks, owned by their
//! run.

use crate::{
    ObjectReference, comparison::ItemDifference, coverage::UncoveredItem, history::ItemVersion, outcome::ItemFailure,
};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of items in one report.
pub const MAX_ITEMS: usize = 500;

/// Maximum size of one report as JSON, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// Maximum size, in bytes, of the items in all reports of a run together, for each category:
/// failures, plan, results, differences, versions, uncovered and selected items.
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
    doc = "One chunk of a run's per-item results: at most 500 items. All chunks of a run hold at most 240 KiB each of failures, plan, results, differences, versions, uncovered and selected items. A report is owned by its run and garbage-collected with it.",
    selectable = ".spec.run.name",
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run.name"),
    printcolumn(name = "Chunk", type_ = "integer", json_path = ".spec.chunk"),
    printcolumn(name = "Chunks", type_ = "integer", json_path = ".spec.chunks"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a report is immutable"))]
#[serde(rename_all = "camelCase")]
pub struct OperationReportSpec {
    /// Run that the report belongs to.
    pub run: ObjectReference,
    /// Index of the report among the run's reports of the same category (failures, plan,
    /// results, differences, versions, uncovered or selected items), from 0.
    #[schemars(range(min = 0))]
    pub chunk: i32,
    /// Number of the run's reports of the same category.
    #[schemars(range(min = 1))]
    pub chunks: i32,
    /// Number of items that no report of this category names because not all fit. Items that
    /// succeeded are left out first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub omitted: Option<i64>,
    /// Items that failed or were skipped, in the order of their ids.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub items: Vec<ItemFailure>,
    /// Restores and bulk operations only: digest of the plan that this report shows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// Restores and bulk operations only: what would happen to each item, in write order. If not all items fit, only
    /// those that differ, warn or fail are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub plan: Vec<PlannedObject>,
    /// Restores only: the result of each item, in the order of the plan. If not all items fit, only
    /// those that failed are listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub results: Vec<ItemResult>,
    /// Comparisons only: the items that differ or cannot be compared, or all items of a single
    /// state that was listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub differences: Vec<ItemDifference>,
    /// Histories only: the versions of the item, latest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub versions: Vec<ItemVersion>,
    /// Inventories only: the objects that no backup set holds, in the order of their ids.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub uncovered: Vec<UncoveredItem>,
    /// Bulk operations only: the names of the objects that were selected by their labels, in
    /// ascending order, or of all objects of a dry run. A worker that continues after a crash works
    /// on these, and so does the bulk operation that applies the dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 253)))]
    pub selected: Vec<String>,
    /// Dry runs of bulk operations only, for each of `selected`: 16 hex digits over what the dry run
    /// depended on in that object, then `w` if it would be written, otherwise `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8500))]
    pub selected_states: Option<String>,
}

/// What a restore does with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Create it, because it does not exist.
    Create,
    /// Replace it as a whole.
    Update,
    /// Delete and recreate it.
    Recreate,
    /// Delete it.
    Delete,
    /// Nothing: the item is already as wanted.
    Unchanged,
    /// Nothing, on purpose.
    Skip,
    /// Nothing: not possible in the current state.
    Conflict,
    /// Nothing: not allowed.
    Forbidden,
    /// Nothing: the API server does not accept the object.
    Invalid,
}

impl Action {
    /// Whether the action writes.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Create | Self::Update | Self::Recreate | Self::Delete)
    }

    /// Whether the item fails: it was requested and cannot be restored.
    #[must_use]
    pub fn fails(self) -> bool {
        matches!(self, Self::Conflict | Self::Forbidden | Self::Invalid)
    }
}

/// A code and a message about an item.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Remark {
    /// A stable code.
    #[schemars(length(max = 128))]
    pub code: String,
    /// What the code means for this item, and what to do.
    #[schemars(length(max = 1024))]
    pub message: String,
}

impl Remark {
    /// Creates a remark.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into() }
    }
}

/// One item of the plan of a restore or a bulk operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedObject {
    /// Id of the item: `group/kind/name`, with `core` for the core group. An id of a provider other
    /// than `kubernetes` starts with `provider:`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// API version in which the item is written.
    #[schemars(length(max = 317))]
    pub api_version: String,
    /// Action planned for the item.
    pub action: Action,
    /// Why, if the action alone does not show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
    /// Warnings about the item; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub warnings: Vec<Remark>,
    /// Human-readable diff of the change; Secret values appear as digests. A long diff is cut, and
    /// its end says how much was cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub diff: Option<String>,
}

/// Result of one item of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemResult {
    /// Id of the item: `group/kind/name`, with `core` for the core group. An id of a provider other
    /// than `kubernetes` starts with `provider:`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// Action that was planned.
    pub action: Action,
    /// Result of the action.
    pub outcome: ItemOutcome,
    /// Why the action was not carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
}

/// Result of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemOutcome {
    /// Written.
    Done,
    /// Nothing had to be written.
    Unchanged,
    /// Skipped on purpose.
    Skipped,
    /// Not done.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_writes_or_fails_or_leaves_the_object_as_it_is() {
        for action in [Action::Create, Action::Update, Action::Recreate, Action::Delete] {
            assert!(action.writes() && !action.fails(), "{action:?}");
        }
        for action in [Action::Conflict, Action::Forbidden, Action::Invalid] {
            assert!(!action.writes() && action.fails(), "{action:?}");
        }
        for action in [Action::Skip, Action::Unchanged] {
            assert!(!action.writes() && !action.fails(), "{action:?}");
        }
    }

    #[test]
    fn a_report_and_all_reports_of_a_category_have_the_bytes_that_are_said() {
        assert_eq!((MAX_BYTES, MAX_OF_ALL), (262_144, 245_760));
    }
}
