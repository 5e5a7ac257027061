//! Provenance of a restore: its plan, and its entries in the audit chain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number of items by action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanSummary {
    /// Items to create, because they do not exist.
    #[schemars(range(min = 0))]
    pub create: i64,
    /// Items to replace.
    #[schemars(range(min = 0))]
    pub update: i64,
    /// Items to delete and recreate.
    #[schemars(range(min = 0))]
    pub recreate: i64,
    /// Items to delete.
    #[schemars(range(min = 0))]
    pub delete: i64,
    /// Items that are already as wanted.
    #[schemars(range(min = 0))]
    pub unchanged: i64,
    /// Items to skip on purpose.
    #[schemars(range(min = 0))]
    pub skip: i64,
    /// Items that cannot be restored in the current state.
    #[schemars(range(min = 0))]
    pub conflict: i64,
    /// Items that may not be written.
    #[schemars(range(min = 0))]
    pub forbidden: i64,
    /// Items that the API server does not accept.
    #[schemars(range(min = 0))]
    pub invalid: i64,
}

impl PlanSummary {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            create: self.create.saturating_add(other.create),
            update: self.update.saturating_add(other.update),
            recreate: self.recreate.saturating_add(other.recreate),
            delete: self.delete.saturating_add(other.delete),
            unchanged: self.unchanged.saturating_add(other.unchanged),
            skip: self.skip.saturating_add(other.skip),
            conflict: self.conflict.saturating_add(other.conflict),
            forbidden: self.forbidden.saturating_add(other.forbidden),
            invalid: self.invalid.saturating_add(other.invalid),
        }
    }

    /// Number of items that would be changed.
    #[must_use]
    pub fn changes(&self) -> i64 {
        [self.update, self.recreate, self.delete].iter().fold(self.create, |sum, more| sum.saturating_add(*more))
    }
}

/// Plan of a restore. OperationReports with the same digest show its items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MadePlan {
    /// SHA-256 over the plan, 64 hex digits.
    #[schemars(length(max = 64))]
    pub digest: String,
    /// Number of items by action.
    pub summary: PlanSummary,
}

/// Names of the AuditEntries of a restore.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuditReferences {
    /// Entry written before the first write.
    #[schemars(length(max = 253))]
    pub intent: String,
    /// Entry written after the last write.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub outcome: Option<String>,
}
