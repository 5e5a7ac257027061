//! What a restore was made of: its plan, and its places in the audit chain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Items by action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanSummary {
    /// Made, because they are not there.
    #[schemars(range(min = 0))]
    pub create: i64,
    /// Replaced.
    #[schemars(range(min = 0))]
    pub update: i64,
    /// Deleted and made anew.
    #[schemars(range(min = 0))]
    pub recreate: i64,
    /// Deleted.
    #[schemars(range(min = 0))]
    pub delete: i64,
    /// As they should be.
    #[schemars(range(min = 0))]
    pub unchanged: i64,
    /// Left alone on purpose.
    #[schemars(range(min = 0))]
    pub skip: i64,
    /// Not possible as things are.
    #[schemars(range(min = 0))]
    pub conflict: i64,
    /// Not allowed.
    #[schemars(range(min = 0))]
    pub forbidden: i64,
    /// Not an object that the API server takes.
    #[schemars(range(min = 0))]
    pub invalid: i64,
}

/// The plan of a restore; its items are in the run's reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MadePlan {
    /// SHA-256, 64 hex digits.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// Items by action.
    pub summary: PlanSummary,
}

/// Names of AuditEntries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditReferences {
    /// Written before the first write.
    #[schemars(length(max = 253))]
    pub intent: String,
    /// Written after the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub outcome: Option<String>,
}
