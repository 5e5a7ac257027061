//! The history of one item over the backup sets of a tenant: counts for a run's status, and a row
//! for each version in the run's reports.

use crate::operation_report::Remark;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A backup set in which something of an item was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// Name of the backup set.
    #[schemars(length(max = 253))]
    pub set: String,
    /// When its snapshot was taken.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub time: Timestamp,
    /// Run that recorded the set.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub run: String,
    /// User who requested that run, as long as the run exists. This is not who changed the item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub initiator: Option<String>,
}

/// What the backup sets of a tenant say of one item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ItemHistory {
    /// Id of the item: `group/kind/name`, with `core` for the core group.
    #[schemars(length(max = 600))]
    pub item: String,
    /// JSON pointer of the field that was followed, if only one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub path: Option<String>,
    /// Versions of the item, or of the followed field. An item that was recreated or came back has a
    /// new version.
    #[schemars(range(min = 0))]
    pub versions: i64,
    /// How often the item was gone.
    #[schemars(range(min = 0))]
    pub deletions: i64,
    /// Backup sets that were looked at.
    #[schemars(range(min = 0))]
    pub sets: i64,
    /// Those of them which cannot say whether the item existed, or as what.
    #[schemars(range(min = 0))]
    pub unknown: i64,
    /// The earliest set that holds the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<Sighting>,
    /// The latest set that holds the item.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Sighting>,
    /// The set since which the item is as the latest set holds it, or since which the followed field
    /// has its value. Unset if the item is gone by then, or the field.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Sighting>,
}

impl ItemHistory {
    /// Drops who started the runs of its sets, which are in the reports too. Returns whether there
    /// was anything to drop.
    pub(crate) fn drop_initiators(&mut self) -> bool {
        let sightings = [&mut self.first, &mut self.last, &mut self.since].into_iter().flatten();
        sightings.filter_map(|sighting| sighting.initiator.take()).count() > 0
    }
}

/// What a backup set shows of an item that the set before it did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ItemChange {
    /// The item is in the earliest set that can say so. It may be older.
    Earliest,
    /// The item is there, and was not before.
    Created,
    /// A field differs that a restore would write.
    Changed,
    /// The item is another object of the same name. A diff is shown if it also differs.
    Recreated,
    /// The item is stored in another version of its kind. Whether it changed is unknown.
    Converted,
    /// The item is gone.
    Deleted,
    /// Nothing is known; the reason says why.
    Unknown,
}

/// One version of an item, or its absence, from one backup set on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemVersion {
    /// What the set shows.
    pub change: ItemChange,
    /// The first set that shows it.
    #[serde(flatten)]
    pub seen: Sighting,
    /// The latest set before it that could tell. The item changed between the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub after: Option<String>,
    /// Number of sets that show it, up to the next row.
    #[schemars(range(min = 1))]
    pub sets: i64,
    /// The `apiVersion` in which the item is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 317))]
    pub api_version: Option<String>,
    /// Why nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Remark>,
    /// Human-readable diff from the version before; Secret values appear as digests. Left out if
    /// there is no room for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8192))]
    pub diff: Option<String>,
}
