//! Which objects of a tenant no backup set holds: counts for a run's status and its repository, and
//! the objects for the run's reports.

use crate::ObjectReference;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the backup sets of some days hold of the objects that an inventory lists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackupCoverage {
    /// When the inventory was taken.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub taken_at: Timestamp,
    /// Number of days before that. A backup set counts if its snapshot was taken in them, and if it
    /// was recorded before the inventory was taken.
    #[schemars(range(min = 1, max = 365))]
    pub days: i64,
    /// Number of these backup sets.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub sets: i64,
    /// Objects that were looked for.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub objects: i64,
    /// Those that no backup set holds. The reports of the run name them.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub uncovered: i64,
    /// Number of those by why no set holds them, the most frequent reason first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub reasons: Vec<ReasonCount>,
    /// Whether the inventory is of a selection, not of the whole tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub selected: bool,
}

/// Number of objects that no backup set holds for one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonCount {
    /// Why no set holds them: a reason code.
    #[schemars(length(max = 128))]
    pub reason: String,
    /// Number of objects.
    #[schemars(range(min = 0))]
    pub count: i64,
}

/// The coverage of a tenant in its repository, as the newest inventory of the whole tenant shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryCoverage {
    /// Run that took the inventory.
    pub run: ObjectReference,
    /// What it found.
    #[serde(flatten)]
    pub found: BackupCoverage,
}

/// An object that no backup set holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UncoveredItem {
    /// Id of the item: `group/kind/name`, with `core` for the core group.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// Why no set holds it: a reason code.
    #[schemars(length(max = 128))]
    pub reason: String,
}
