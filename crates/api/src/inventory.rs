//! How completely the kinds of a tenant were listed, in an inventory or a backup.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of kinds that a result and a set name as incomplete.
pub const MAX_INCOMPLETE: usize = 20;

/// How much is known of the items of a kind. Only of a complete kind it is known that an item which
/// is not recorded did not exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Completeness {
    /// All items are recorded, except those that are left out by rule.
    Complete,
    /// The list broke off, or an item of it could not be recorded.
    #[default]
    Partial,
    /// The worker may not list the kind.
    Forbidden,
    /// The API server could not say which kinds the group has.
    Undiscovered,
}

/// A kind of which not all items are recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct IncompleteKind {
    /// The kind, as `Kind` or `Kind.group`; of a group that could not be discovered, `-.group`.
    #[schemars(length(max = 317))]
    pub kind: String,
    /// How much of it is known.
    pub completeness: Completeness,
    /// The reason code of the first item that is missing.
    #[schemars(length(max = 128))]
    pub reason: String,
}
