//! Phase and outcome of a run, and the results of its items: vocabulary shared by every kind with
//! runs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// Maximum number of failures kept in a status. The run's reports can hold more.
pub const MAX_FAILURES: usize = 20;

/// Phase of a run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Not started; `status.waiting` gives the reason.
    #[default]
    Queued,
    /// A Job is running: the run's own, or a joined one.
    Running,
    /// Completed; this is final.
    Completed,
}

impl Phase {
    /// Returns the value as written in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Outcome of a run.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Not completed.
    #[default]
    Pending,
    /// Everything was done.
    Succeeded,
    /// Some items failed. This never counts as success.
    PartiallySucceeded,
    /// The run failed.
    Failed,
    /// Refused; nothing in the tenant was changed.
    Blocked,
}

impl Outcome {
    /// Returns the value as written in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Number of items by result. `processed = succeeded + failed + skipped ≤ total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SummaryCounts {
    /// Known items.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Items that were processed.
    #[schemars(range(min = 0))]
    pub processed: i64,
    /// Items that succeeded.
    #[schemars(range(min = 0))]
    pub succeeded: i64,
    /// Items that failed.
    #[schemars(range(min = 0))]
    pub failed: i64,
    /// Items that were skipped on purpose.
    #[schemars(range(min = 0))]
    pub skipped: i64,
}

impl SummaryCounts {
    /// Whether the counts are consistent.
    #[must_use]
    pub fn add_up(&self) -> bool {
        let parts = [self.succeeded, self.failed, self.skipped];
        parts.iter().all(|part| *part >= 0)
            && parts.iter().try_fold(0_i64, |sum, part| sum.checked_add(*part)) == Some(self.processed)
            && self.processed <= self.total
    }
}

/// An item that failed or was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ItemFailure {
    /// Id of the item: `group/kind/name`, with `core` for the core group. An id of a provider other
    /// than `kubernetes` starts with `provider:`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// A stable code.
    #[schemars(length(max = 128))]
    pub reason_code: String,
    /// What went wrong, and what to do.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// `failure` (the default) or `skipped`.
    #[serde(rename = "type", default)]
    pub failure_type: FailureType,
}

/// Whether an item failed or was skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureType {
    /// The item should have been processed, and was not.
    #[default]
    Failure,
    /// The item was skipped on purpose.
    Skipped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_outcomes_read_as_in_their_schemas() {
        for phase in [Phase::Queued, Phase::Running, Phase::Completed] {
            assert_eq!(serde_json::to_value(phase).expect("JSON"), phase.as_str());
        }
        let outcomes =
            [Outcome::Pending, Outcome::Succeeded, Outcome::PartiallySucceeded, Outcome::Failed, Outcome::Blocked];
        for outcome in outcomes {
            assert_eq!(serde_json::to_value(outcome).expect("JSON"), outcome.as_str());
        }
    }

    #[test]
    fn counts_add_up_if_none_is_negative_and_the_parts_are_what_was_processed_of_the_total() {
        let add_up = |total, processed, succeeded, failed, skipped| {
            SummaryCounts { total, processed, succeeded, failed, skipped }.add_up()
        };
        assert!(add_up(0, 0, 0, 0, 0) && add_up(6, 6, 1, 2, 3) && add_up(9, 6, 1, 2, 3));
        assert!(!add_up(5, 6, 1, 2, 3), "more are processed than there are");
        assert!(!add_up(9, 7, 1, 2, 3) && !add_up(9, 5, 1, 2, 3), "the parts are not what was processed");
        assert!(!add_up(9, 1, 2, -1, 0) && !add_up(9, 1, -1, 2, 0) && !add_up(9, 1, 2, 0, -1), "one is negative");
        assert!(!add_up(i64::MAX, i64::MAX, i64::MAX, 1, 0), "the sum is no number");
    }
}
