//! Where a run is, how it ended, and what became of its items: the words that every kind with runs shares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

/// The most failures kept in a status; all of them are in the run's reports.
pub const MAX_FAILURES: usize = 20;

/// Where a run is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Phase {
    /// Not started; `status.waiting` says what for.
    #[default]
    Queued,
    /// A Job runs, ours or a joined one.
    Running,
    /// At its end, for ever.
    Completed,
}

impl Phase {
    /// The word as it stands in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Outcome {
    /// Not completed.
    #[default]
    Pending,
    /// Everything was done.
    Succeeded,
    /// Some items failed; never called success.
    PartiallySucceeded,
    /// Not done.
    Failed,
    /// Refused before any Job was made.
    Blocked,
}

impl Outcome {
    /// The word as it stands in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Items counted. `processed = succeeded + failed + skipped ≤ total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SummaryCounts {
    /// Items known of.
    #[schemars(range(min = 0))]
    pub total: i64,
    /// Items dealt with.
    #[schemars(range(min = 0))]
    pub processed: i64,
    /// Items done.
    #[schemars(range(min = 0))]
    pub succeeded: i64,
    /// Items not done.
    #[schemars(range(min = 0))]
    pub failed: i64,
    /// Items left out on purpose.
    #[schemars(range(min = 0))]
    pub skipped: i64,
}

impl SummaryCounts {
    /// Whether the numbers can be true.
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
    /// `group/kind/name`, with `core` for the core group; before it `provider:` where that is not `kubernetes`.
    #[schemars(length(max = 600))]
    pub item_id: String,
    /// A stable code.
    #[schemars(length(max = 128))]
    pub reason_code: String,
    /// What went wrong, and what to do.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub message: String,
    /// `failure` or `skipped`.
    #[serde(rename = "type", default)]
    pub failure_type: FailureType,
}

/// Whether an item failed or was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureType {
    /// It should have been done and was not.
    #[default]
    Failure,
    /// It was left out on purpose.
    Skipped,
}
