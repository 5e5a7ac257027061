//! The result contract: what a Job's container may write to its termination message.
//!
//! At most 4 KiB of JSON, `{"outcome"?, "summaryCounts"?, "failures"?, "context"?, "message"?}`.
//! Without a result the exit code decides. A result can come from any image, so the controller does
//! not trust it: the content is bounded and checked.

use crate::{
    backup_set::Content,
    comparison::Compared,
    coverage::BackupCoverage,
    drift::Drift,
    history::ItemHistory,
    inventory::{IncompleteKind, MAX_INCOMPLETE},
    outcome::{ItemFailure, MAX_FAILURES, Outcome, SummaryCounts},
    provenance::{AuditReferences, MadePlan},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Maximum size of a termination message that the kubelet keeps, in bytes.
pub const MAX_TERMINATION_MESSAGE: usize = 4096;

/// Permanent exit codes: the pod is never retried.
pub const PERMANENT_EXIT_CODES: std::ops::RangeInclusive<i32> = 40..=49;

/// The worker must not work: its run is completed, cancelled, or not its own. It had no effect.
pub const EXIT_FENCED: i32 = 49;

/// The worker failed, and a retry cannot help.
pub const EXIT_PERMANENT: i32 = 40;

/// The worker failed, and a retry may succeed.
pub const EXIT_TRANSIENT: i32 = 1;

/// What a container reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TerminationResult {
    /// Outcome, as the container sees it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Stable code for the outcome, in CamelCase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Human-readable outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Number of items by result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary_counts: Option<SummaryCounts>,
    /// Items that failed or were skipped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ItemFailure>,
    /// Whether there were more failures.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failures_truncated: bool,
    /// What the operation produced.
    #[serde(skip_serializing_if = "ResultContext::is_empty")]
    pub context: ResultContext,
}

/// What the operation produced, for the controller to record. Read only from the built-in worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ResultContext {
    /// Captured snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<CapturedSnapshot>,
    /// Checked repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<CheckedRepository>,
    /// Name of the backup set that was rehearsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<String>,
    /// Name of the backup set that undoes a restore. The worker created it before its first write,
    /// and `snapshot` is its snapshot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undo_set: Option<String>,
    /// Name of the ConfigMap with the objects of an export.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<String>,
    /// SHA-256 of the objects in that ConfigMap, in hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map_digest: Option<String>,
    /// Planned restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<MadePlan>,
    /// What a comparison found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// What the history of an item shows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub history: Option<Box<ItemHistory>>,
    /// What a comparison with a baseline found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<Drift>,
    /// What the backup sets hold of the objects of an inventory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Box<BackupCoverage>>,
    /// What maintenance removed from a repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maintained: Option<Maintained>,
    /// First digits of the ids of snapshots of which some part cannot be restored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub damaged_snapshots: Vec<String>,
    /// Whether more snapshots are damaged than are named.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub damaged_truncated: bool,
    /// AuditEntries that a restore wrote.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
}

impl ResultContext {
    /// Whether no field is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Number of kinds with counts of their own.
    fn kinds(&self) -> usize {
        let captured = self.snapshot.as_ref().map_or(0, |snapshot| snapshot.items_by_kind.len());
        let drifted = self.drift.as_ref().map_or(0, |drift| drift.kinds.len());
        captured + drifted + self.compared.as_ref().map_or(0, |compared| compared.kinds.len())
    }

    /// Drops the counts of the kind with the fewest items.
    fn drop_rarest_kind(&mut self) {
        if let Some(compared) = &mut self.compared {
            compared.kinds.pop();
        }
        if let Some(drift) = &mut self.drift {
            drift.kinds.pop();
        }
        let Some(snapshot) = &mut self.snapshot else { return };
        let rarest = snapshot.items_by_kind.iter().min_by_key(|(_, count)| **count).map(|(kind, _)| kind.clone());
        rarest.and_then(|kind| snapshot.items_by_kind.remove(&kind));
    }

    /// Drops the counts of all kinds.
    fn drop_kinds(&mut self) {
        if let Some(compared) = &mut self.compared {
            compared.kinds.clear();
        }
        if let Some(drift) = &mut self.drift {
            drift.kinds.clear();
        }
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.items_by_kind.clear();
        }
    }
}

/// A captured snapshot, from which a `BackupSet` is created.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CapturedSnapshot {
    /// Id of the snapshot, 64 hex digits.
    pub id: String,
    /// What it holds.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub content: Content,
    /// Number of items in the snapshot.
    pub items: i64,
    /// Size of the items as JSON, in bytes.
    pub bytes: i64,
    /// Number of bytes added to the store.
    pub added_bytes: i64,
    /// Number of items by kind, for as many kinds as the message has room for.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub items_by_kind: BTreeMap<String, i64>,
    /// Kinds of which not all items are recorded, for as many kinds as the message has room for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub incomplete: Vec<IncompleteKind>,
    /// Whether there are more such kinds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete_truncated: bool,
}

/// Figures of a repository after a check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CheckedRepository {
    /// Number of snapshots in the repository.
    pub snapshots: i64,
    /// Size of the store, in bytes.
    pub bytes: i64,
    /// Number of backup sets for snapshots of adopted namespaces.
    #[serde(skip_serializing_if = "crate::is_default")]
    pub adopted: i64,
    /// Captured bytes per stored byte.
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
    /// Number of snapshots forgotten because no backup set names them.
    pub forgotten: i64,
    /// Bytes deleted from the store.
    pub deleted_bytes: i64,
    /// Bytes that nothing needs, which a later maintenance deletes.
    pub marked_bytes: i64,
}

impl TerminationResult {
    /// Returns the result as text of at most [`MAX_TERMINATION_MESSAGE`] bytes. The least needed
    /// parts are dropped first (messages of failures, incomplete
    /// kinds, kinds, failures), and the counts stay
    /// correct.
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
        if let Some(snapshot) = &mut result.context.snapshot
            && snapshot.incomplete.len() > MAX_INCOMPLETE
        {
            snapshot.incomplete.truncate(MAX_INCOMPLETE);
            snapshot.incomplete_truncated = true;
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
            } else if let Some(snapshot) =
                result.context.snapshot.as_mut().filter(|snapshot| !snapshot.incomplete.is_empty())
            {
                snapshot.incomplete.pop();
                snapshot.incomplete_truncated = true;
            } else if result.context.kinds() > 20 {
                result.context.drop_rarest_kind();
            } else if result.failures.pop().is_some() {
                result.failures_truncated = true;
            } else if result.context.kinds() > 0 {
                result.context.drop_kinds();
            } else if result.context.history.as_mut().is_some_and(|history| history.drop_initiators()) {
                // The reports still name them.
            } else {
                result.message = None;
                result.reason = result.reason.map(|reason| truncate(&reason, 128));
                return serde_json::to_string(&result).unwrap_or_default();
            }
        }
    }
}

/// Cuts a text to at most `limit` bytes at a character boundary. If something was cut, the result
/// ends with an ellipsis.
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
    use crate::{
        comparison::KindCounts, coverage::ReasonCount, drift::KindDrift, history::Sighting, outcome::FailureType,
        reason::coverage,
    };
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
                    items_by_kind: (0..kinds).map(|n| (format!("Kind{n}.some.group.example.com"), 1)).collect(),
                    incomplete: (0..kinds).map(|n| IncompleteKind { kind: format!("Kind{n}"), ..Default::default() }).collect(), ..Default::default() }),
                    coverage: Some(Box::new(BackupCoverage { reasons: coverage::ALL.iter().map(|code| ReasonCount { reason: (*code).to_owned(), count: i64::MAX }).collect(), ..Default::default() })),
                    ..Default::default() },
                ..Default::default()
            };
            let text = result.to_message();
            prop_assert!(text.len() <= MAX_TERMINATION_MESSAGE, "{} bytes", text.len());
            let read: TerminationResult = serde_json::from_str(&text).expect("the message is JSON");
            prop_assert_eq!(read.summary_counts, result.summary_counts);
            prop_assert_eq!(&read.context.coverage, &result.context.coverage);
            let snapshot = read.context.snapshot.expect("a snapshot");
            prop_assert_eq!(snapshot.id, "a".repeat(64));
            prop_assert_eq!(snapshot.incomplete_truncated, snapshot.incomplete.len() < kinds);
            prop_assert_eq!(read.failures_truncated, read.failures.len() < failures);
        }
    }

    fn failures(count: usize, length: usize) -> Vec<ItemFailure> {
        let failure = |number| ItemFailure {
            item_id: format!("core/ConfigMap/{number}"),
            reason_code: "Unlistable".into(),
            message: "x".repeat(length),
            failure_type: FailureType::Failure,
        };
        (0..count).map(failure).collect()
    }

    fn read(result: &TerminationResult) -> TerminationResult {
        serde_json::from_str(&result.to_message()).expect("the message is JSON")
    }

    #[test]
    fn a_result_that_fits_is_told_as_it_is() {
        let counts = BTreeMap::from([("ConfigMap".to_owned(), 1)]);
        let snapshot = CapturedSnapshot { id: "a".into(), items_by_kind: counts, ..CapturedSnapshot::default() };
        let result = TerminationResult {
            outcome: Some(Outcome::Succeeded),
            message: Some("m".repeat(800)),
            failures: failures(MAX_FAILURES, 20),
            context: ResultContext { snapshot: Some(snapshot), ..ResultContext::default() },
            ..TerminationResult::default()
        };
        assert_eq!(read(&result), result);
        assert!(!TerminationResult::default().to_message().contains("context"));
        let checked =
            |adopted| serde_json::to_value(CheckedRepository { adopted, ..Default::default() }).expect("JSON");
        assert_eq!((checked(0).get("adopted"), &checked(2)["adopted"]), (None, &serde_json::json!(2)));
    }

    #[test]
    fn what_does_not_fit_goes_in_order_long_messages_then_rare_kinds_then_failures() {
        let kinds = |count: i64| (0..count).map(|n| (format!("Kind{n:03}.some.group.example.com"), n)).collect();
        let with = |failures, kinds| TerminationResult {
            failures,
            context: ResultContext {
                snapshot: Some(CapturedSnapshot { items_by_kind: kinds, ..CapturedSnapshot::default() }),
                ..ResultContext::default()
            },
            ..TerminationResult::default()
        };
        let told = read(&with(failures(MAX_FAILURES, 200), kinds(3)));
        assert_eq!((told.failures.len(), told.failures_truncated), (MAX_FAILURES, false), "shorter messages suffice");
        assert!(told.failures.iter().any(|failure| failure.message.len() <= 80), "the long ones are cut");
        let all = BTreeMap::from_iter(kinds(150));
        let told = read(&with(failures(2, 10), all));
        let kept = told.context.snapshot.expect("a snapshot").items_by_kind;
        assert_eq!(told.failures.len(), 2, "kinds go before failures");
        assert!(kept.len() > 20 && kept.values().all(|count| *count >= 150 - i64::try_from(kept.len()).expect("few")));
        let told = read(&with(failures(MAX_FAILURES, 80), kinds(60)));
        assert_eq!(told.context.snapshot.expect("a snapshot").items_by_kind.len(), 20, "twenty kinds go last");
        assert!(told.failures_truncated && !told.failures.is_empty());
        assert!(told.failures.iter().all(|failure| failure.message.len() == 80), "80 bytes are not too long");
    }

    #[test]
    fn kinds_whose_names_alone_are_too_long_are_left_out_together() {
        let long: BTreeMap<String, i64> = (0..20).map(|n| (format!("{n:0300}"), 1)).collect();
        let told = read(&TerminationResult {
            message: Some("why".into()),
            context: ResultContext {
                snapshot: Some(CapturedSnapshot { id: "a".into(), items_by_kind: long, ..CapturedSnapshot::default() }),
                ..ResultContext::default()
            },
            ..TerminationResult::default()
        });
        let snapshot = told.context.snapshot.expect("a snapshot");
        assert_eq!((told.message.as_deref(), snapshot.id.as_str()), (Some("why"), "a"));
        assert!(snapshot.items_by_kind.is_empty());
    }

    #[test]
    fn what_was_compared_keeps_its_counts_and_the_kinds_with_most_items() {
        let kind = |number: i64| KindCounts {
            kind: format!("Kind{number:03}.some.group.example.com"),
            changed: 1000 - number,
            ..KindCounts::default()
        };
        let compared = Compared { added: 7, same: 9, kinds: (0..150).map(kind).collect(), ..Compared::default() };
        let result = TerminationResult {
            failures: failures(2, 10),
            context: ResultContext { compared: Some(compared.clone()), ..ResultContext::default() },
            ..TerminationResult::default()
        };
        let told = read(&result);
        let kept = told.context.compared.expect("counts");
        assert_eq!((kept.added, kept.same, told.failures.len()), (7, 9, 2));
        assert!(kept.kinds.len() > 20 && compared.kinds.starts_with(&kept.kinds), "{}", kept.kinds.len());
        let drift = Drift {
            new: 3,
            kinds: vec![KindDrift { kind: "k".repeat(5000), ..KindDrift::default() }],
            ..Drift::default()
        };
        let context = ResultContext { drift: Some(drift), ..ResultContext::default() };
        let kept = read(&TerminationResult { context, ..result.clone() }).context.drift.expect("counts");
        assert_eq!((kept.new, kept.kinds), (3, Vec::new()));
        let long = KindCounts { kind: "k".repeat(5000), ..KindCounts::default() };
        let compared = Compared { kinds: vec![long], ..compared };
        let context = ResultContext { compared: Some(compared), ..ResultContext::default() };
        let kept = read(&TerminationResult { context, ..result }).context.compared.expect("counts");
        assert_eq!((kept.added, kept.kinds), (7, Vec::new()));
    }

    #[test]
    fn the_longest_history_fits_and_loses_only_who_started_the_runs() {
        let seen = Sighting {
            set: "s".repeat(253),
            time: jiff::Timestamp::UNIX_EPOCH,
            run: "r".repeat(253),
            initiator: Some("u".repeat(1024)),
        };
        let history = ItemHistory {
            item: "i".repeat(600),
            path: Some("\"".repeat(256)),
            versions: 3,
            first: Some(seen.clone()),
            last: Some(seen.clone()),
            since: Some(seen),
            ..ItemHistory::default()
        };
        let context = ResultContext { history: Some(Box::new(history.clone())), ..ResultContext::default() };
        let result = TerminationResult { message: Some("m".repeat(2000)), context, ..TerminationResult::default() };
        assert!(result.to_message().len() <= MAX_TERMINATION_MESSAGE);
        let kept = read(&result).context.history.expect("a history");
        assert_eq!((kept.versions, &kept.item, &kept.path), (3, &history.item, &history.path));
        assert!(kept.since.is_some_and(|since| since.initiator.is_none() && since.set.len() == 253));
    }

    #[test]
    fn a_text_is_cut_to_the_bytes_that_it_may_have_and_between_characters() {
        assert_eq!((truncate("abcdef", 6).as_str(), truncate("abcdefg", 6).as_str()), ("abcdef", "abc…"));
        assert_eq!((truncate("éééé", 7).as_str(), truncate("éééé", 6).as_str()), ("éé…", "é…"));
        assert_eq!(truncate("abcdef", 0), "…");
    }
}
