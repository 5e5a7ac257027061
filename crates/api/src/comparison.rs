//! What a comparison of two states of a tenant found: counts for a run's status, and a row for each
//! item in the run's reports.

use crate::operation_report::Remark;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of kinds that a status counts.
pub const MAX_KINDS: usize = 100;

/// Number of items by what a comparison found. Every item is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Compared {
    /// Items in the second state alone.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub added: i64,
    /// Items in the first state alone.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub removed: i64,
    /// Items in both states that differ in a field that a restore would write.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub changed: i64,
    /// Items in both states that differ only in fields that the cluster writes, such as the status.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub status_only: i64,
    /// Items that are equal in both states.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub same: i64,
    /// Items that a state may or may not hold, or holds in another form.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub not_compared: i64,
    /// Items of which a state holds something that cannot be read.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub unreadable: i64,
    /// Items of a single state that was listed, and compared with no other.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub listed: i64,
    /// The kinds with items that differ or are listed, those with most items first. Kinds for which
    /// there was no room are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub kinds: Vec<KindCounts>,
}

/// Number of items of one kind by what a comparison found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KindCounts {
    /// The kind, as `Kind` or `Kind.group`.
    #[schemars(length(max = 317))]
    pub kind: String,
    /// Items in the second state alone.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub added: i64,
    /// Items in the first state alone.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub removed: i64,
    /// Items that differ in a field that a restore would write.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub changed: i64,
    /// Items of a single state that was listed.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub listed: i64,
}

impl KindCounts {
    /// Number of items.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.added + self.removed + self.changed + self.listed
    }
}

/// How an item differs between two states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It is in the second state alone.
    Added,
    /// It is in the first state alone.
    Removed,
    /// It is in both, and differs in a field that a restore would write.
    Changed,
    /// Whether it differs is unknown; the reason says why.
    NotCompared,
    /// What is stored of it in one of the states cannot be read.
    Unreadable,
    /// It is in the single state that was listed.
    Listed,
}

/// One item of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemDifference {
    /// Id of the item: `group/kind/name`, with `core` for the core group. An id of a provider other
    /// than `kubernetes` starts with `provider:`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// How it differs.
    pub change: Change,
    /// Why it cannot be compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
    /// Human-readable diff of a changed item, from the first state to the second; Secret values
    /// appear as digests. Left out if there is no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub diff: Option<String>,
}
