//! How a tenant differs from a baseline, as counts for a run's status. Each item that differs has a
//! [`Finding`](crate::Finding).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of kinds that a status counts.
pub const MAX_KINDS: usize = 100;

/// Number of items by how they differ from a baseline. Every item is counted once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drift {
    /// Name of the backup set that is the baseline.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub baseline: Option<String>,
    /// Items that the baseline does not hold.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub added: i64,
    /// Items that only the baseline holds.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub removed: i64,
    /// Items whose fields differ.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub modified: i64,
    /// Items that were deleted and created again.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub replaced: i64,
    /// Items that are as in the baseline.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub same: i64,
    /// Items that differ only in what is ignored.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub ignored: i64,
    /// Items, and kinds as one, of which it is unknown whether they differ. The reports say why.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub not_compared: i64,
    /// Items, and kinds as one, that cannot be read. They are among the failures.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub unreadable: i64,
    /// Items that differ and have no finding, because the tenant has too many.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub not_shown: i64,
    /// Findings that were created.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub new: i64,
    /// Findings that were resolved and are open again.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub reopened: i64,
    /// Findings whose difference is gone.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub resolved: i64,
    /// The kinds with items that differ, those with most items first. Kinds for which there was no
    /// room are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub kinds: Vec<KindDrift>,
}

impl Drift {
    /// Number of items that differ.
    #[must_use]
    pub fn drifted(&self) -> i64 {
        self.added + self.removed + self.modified + self.replaced
    }
}

/// Number of items of one kind by how they differ from a baseline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct KindDrift {
    /// The kind, as `Kind` or `Kind.group`.
    #[schemars(length(max = 317))]
    pub kind: String,
    /// Items that the baseline does not hold.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub added: i64,
    /// Items that only the baseline holds.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub removed: i64,
    /// Items whose fields differ.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub modified: i64,
    /// Items that were deleted and created again.
    #[serde(skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub replaced: i64,
}

impl KindDrift {
    /// Number of items.
    #[must_use]
    pub fn total(&self) -> i64 {
        self.added + self.removed + self.modified + self.replaced
    }
}
