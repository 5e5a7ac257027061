//! The result contract: what a Job's container may write to its termination message.
//!
//! At most 4 KiB of JSON, `{"outcome"?, "summaryCounts"?, "failures"?, "context"?, "message"?}`. Without it the
//! exit code decides. It comes from any image, so nothing in it is trusted: it is bounded and checked here.

use crate::{
    outcome::{ItemFailure, MAX_FAILURES, Outcome, SummaryCounts},
    provenance::{AuditReferences, MadePlan},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most the kubelet keeps of a termination message, in bytes.
pub const MAX_TERMINATION_MESSAGE: usize = 4096;

/// Exit codes that are permanent: never tried again.
pub const PERMANENT_EXIT_CODES: std::ops::RangeInclusive<i32> = 40..=49;

/// The worker found that it is not to work: its run is completed, cancelled or not its own. It had no effect.
pub const EXIT_FENCED: i32 = 49;

/// The worker failed in a way that trying again cannot help.
pub const EXIT_PERMANENT: i32 = 40;

/// The worker failed in a way that may pass.
pub const EXIT_TRANSIENT: i32 = 1;

/// What a container reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TerminationResult {
    /// How it ended, in its own view.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// A stable code for the outcome, CamelCase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The outcome for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Items counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_counts: Option<SummaryCounts>,
    /// Items that failed or were skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ItemFailure>,
    /// Whether there were more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failures_truncated: bool,
    /// What the operation made.
    #[serde(skip_serializing_if = "ResultContext::is_empty")]
    pub context: ResultContext,
}

/// What the operation made, for the controller to record. Read only from our own worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResultContext {
    /// A snapshot captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<CapturedSnapshot>,
    /// A repository checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<CheckedRepository>,
    /// Name of the backup set that a rehearsal was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<String>,
    /// Name of the backup set that undoes a restore, which the worker made before its first write; `snapshot` is its.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_set: Option<String>,
    /// A restore planned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<MadePlan>,
    /// What maintenance removed from a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintained: Option<Maintained>,
    /// The first digits of the ids of snapshots of which something cannot be restored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged_snapshots: Vec<String>,
    /// Whether more are damaged than are named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub damaged_truncated: bool,
    /// What the audit chain was told about a restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
}

impl ResultContext {
    /// Whether nothing was made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A snapshot captured: what a `BackupSet` is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CapturedSnapshot {
    /// Id, 64 hex digits.
    pub id: String,
    /// Items in it.
    pub items: i64,
    /// Bytes of its items as JSON.
    pub bytes: i64,
    /// Bytes added to the store.
    pub added_bytes: i64,
    /// Items by kind, as many kinds as the message had room for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub items_by_kind: BTreeMap<String, i64>,
}

/// A repository's figures after a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckedRepository {
    /// Snapshots in it.
    pub snapshots: i64,
    /// Bytes in the store.
    pub bytes: i64,
    /// Backup sets that stand for snapshots of adopted namespaces.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub adopted: i64,
    /// Captured bytes for each stored byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dedup_ratio: Option<String>,
    /// Whether all data was read back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub read_all: bool,
}

/// What maintenance removed from a repository.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Maintained {
    /// Snapshots that no backup set named.
    pub forgotten: i64,
    /// Bytes deleted from the store.
    pub deleted_bytes: i64,
    /// Bytes that nothing needs, to be deleted later.
    pub marked_bytes: i64,
}

impl TerminationResult {
    /// As text of at most [`MAX_TERMINATION_MESSAGE`] bytes: what is least needed goes first (messages of failures,
    /// kinds, failures), and the counts stay true.
    #[must_use]
    pub fn to_message(&self) -> String {
        let mut result = self.clone();
        result.message = result.message.map(|message| truncate(&message, 800));
        if result.failures.len() > MAX_FAILURES {
            result.failures.truncate(MAX_FAILURES);
            result.failures_truncated = true;
        }
        for failure in &mut result.failures {
            failure.message = truncate(&failure.message, 300);
        }
        loop {
            let text = serde_json::to_string(&result).unwrap_or_default();
            if text.len() <= MAX_TERMINATION_MESSAGE {
                return text;
            }
            let longest = result
                .failures
                .iter_mut()
                .max_by_key(|failure| failure.message.len())
                .filter(|failure| failure.message.len() > 80);
            if let Some(failure) = longest {
                failure.message = truncate(&failure.message, 80);
            } else if result.context.snapshot.as_ref().is_some_and(|snapshot| snapshot.items_by_kind.len() > 20) {
                if let Some(snapshot) = &mut result.context.snapshot {
                    let smallest =
                        snapshot.items_by_kind.iter().min_by_key(|(_, count)| **count).map(|(kind, _)| kind.clone());
                    smallest.and_then(|kind| snapshot.items_by_kind.remove(&kind));
                }
            } else if result.failures.pop().is_some() {
                result.failures_truncated = true;
            } else if let Some(snapshot) =
                result.context.snapshot.as_mut().filter(|snapshot| !snapshot.items_by_kind.is_empty())
            {
                snapshot.items_by_kind.clear();
            } else {
                result.message = None;
                result.reason = result.reason.map(|reason| truncate(&reason, 128));
                return serde_json::to_string(&result).unwrap_or_default();
            }
        }
    }
}

/// At most `limit` bytes of a text, cut at a character, with an ellipsis where something was cut.
#[must_use]
pub fn truncate(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.char_indices().map(|(at, _)| at).take_while(|at| *at <= limit.saturating_sub(3)).last().unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::FailureType;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_result_of_any_size_fits_and_keeps_its_counts(failures in 0_usize..200, length in 0_usize..2000, kinds in 0_usize..150) {
            let result = TerminationResult {
                outcome: Some(Outcome::PartiallySucceeded),
                reason: Some("PartiallySucceeded".into()),
                message: Some("é".repeat(length)),
                summary_counts: Some(SummaryCounts { total: 9, processed: 9, succeeded: 8, failed: 1, skipped: 0 }),
                failures: (0..failures).map(|n| ItemFailure {
                    item_id: format!("core/ConfigMap/{n}"), reason_code: "Unlistable".into(),
                    message: "x".repeat(length), failure_type: FailureType::Failure }).collect(),
                context: ResultContext { snapshot: Some(CapturedSnapshot { id: "a".repeat(64),
                    items_by_kind: (0..kinds).map(|n| (format!("Kind{n}.some.group.example.com"), 1)).collect(), ..Default::default() }), ..Default::default() },
                ..Default::default()
            };
            let text = result.to_message();
            prop_assert!(text.len() <= MAX_TERMINATION_MESSAGE, "{} bytes", text.len());
            let read: TerminationResult = serde_json::from_str(&text).expect("the message is JSON");
            prop_assert_eq!(read.summary_counts, result.summary_counts);
            prop_assert_eq!(read.context.snapshot.map(|snapshot| snapshot.id), Some("a".repeat(64)));
            prop_assert_eq!(read.failures_truncated, read.failures.len() < failures);
        }
    }
}
