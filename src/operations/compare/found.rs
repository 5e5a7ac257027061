//! What a comparison has found: counts, rows for the reports, and the result of the run. Pure.
//!
//! In memory are the name of each item that differs, and diffs of half of what reports hold.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Outcome, Reason,
        comparison::{Change, Compared, ItemDifference, KindCounts, MAX_KINDS},
        item::{GroupKind, ItemId},
        operation_report::{MAX_OF_ALL, Remark},
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        reason::compare as reason,
        result::{ResultContext, TerminationResult},
    },
    items::redact::redact,
};
use std::{collections::BTreeMap, fmt::Write as _};

/// Maximum size of all diffs together, in bytes. The rest of the reports is for names.
const MAX_DIFFS: usize = MAX_OF_ALL / 2;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Found {
    counts: Compared,
    kinds: BTreeMap<GroupKind, KindCounts>,
    rows: Vec<ItemDifference>,
    failures: Vec<ItemFailure>,
    diff_bytes: usize,
}

/// The compared sets, for the message.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Name of the first set.
    pub from: &'a str,
    /// Name of the second set, unless the first was listed.
    pub to: Option<&'a str>,
    /// Names of those that do not hold the whole tenant.
    pub partial: &'a [&'a str],
}

impl Found {
    /// Adds an item that is on one side alone, or listed.
    pub fn add(&mut self, item: &ItemId, change: Change) {
        self.put(item, change, None, None);
    }

    /// Adds an item that differs on both sides.
    pub fn add_changed(&mut self, item: &ItemId, diff: String) {
        let fits = self.diff_bytes + diff.len() <= MAX_DIFFS;
        self.diff_bytes += diff.len();
        self.put(item, Change::Changed, None, fits.then_some(diff));
    }

    /// Adds an item that differs only in what the cluster writes.
    pub fn add_status_only(&mut self) {
        self.counts.status_only += 1;
    }

    /// Adds an item of which it is unknown whether it differs.
    pub fn add_not_compared(&mut self, item: &ItemId, code: &str, message: String) {
        self.put(item, Change::NotCompared, Some(Remark::new(code, message)), None);
    }

    /// Adds an item that cannot be read.
    pub fn add_unreadable(&mut self, item: &ItemId, message: &str) {
        let failure = unreadable(item, reason::UNREADABLE, message);
        let remark = Remark::new(reason::UNREADABLE, &failure.message);
        self.failures.push(failure);
        self.put(item, Change::Unreadable, Some(remark), None);
    }

    /// Adds items that are equal on both sides.
    pub fn add_same(&mut self, count: u64) {
        self.counts.same += i64::try_from(count).unwrap_or(i64::MAX);
    }

    /// The rows for the reports, in the order of the items' ids.
    #[must_use]
    pub fn rows(&self) -> &[ItemDifference] {
        &self.rows
    }

    /// Puts the rows in order. Call this once everything was added.
    pub fn sort(&mut self) {
        self.rows.sort_by(|one, other| one.item_id.cmp(&other.item_id));
    }

    fn put(&mut self, item: &ItemId, change: Change, reason: Option<Remark>, diff: Option<String>) {
        let of_kind = self.kinds.entry(item.kind.clone()).or_default();
        let (all, of_kind) = match change {
            Change::Added => (&mut self.counts.added, Some(&mut of_kind.added)),
            Change::Removed => (&mut self.counts.removed, Some(&mut of_kind.removed)),
            Change::Changed => (&mut self.counts.changed, Some(&mut of_kind.changed)),
            Change::Listed => (&mut self.counts.listed, Some(&mut of_kind.listed)),
            Change::NotCompared => (&mut self.counts.not_compared, None),
            Change::Unreadable => (&mut self.counts.unreadable, None),
        };
        *all += 1;
        if let Some(of_kind) = of_kind {
            *of_kind += 1;
        }
        self.rows.push(ItemDifference { item_id: item.to_string(), change, reason, diff });
    }

    /// The counts, with the kinds that have most items.
    #[must_use]
    pub fn compared(&self) -> Compared {
        let counted = self.kinds.iter().filter(|(_, counts)| counts.total() > 0);
        let mut kinds: Vec<KindCounts> =
            counted.map(|(kind, counts)| KindCounts { kind: kind.to_string(), ..counts.clone() }).collect();
        kinds.sort_by_key(|counts| std::cmp::Reverse(counts.total()));
        kinds.truncate(MAX_KINDS);
        Compared { kinds, ..self.counts.clone() }
    }

    /// The result of the run.
    #[must_use]
    pub fn to_result(&self, names: Names<'_>) -> TerminationResult {
        let counts = &self.counts;
        let succeeded =
            counts.added + counts.removed + counts.changed + counts.status_only + counts.same + counts.listed;
        let counts = summary(succeeded, counts.unreadable, counts.not_compared);
        let context = ResultContext { compared: Some(self.compared()), ..ResultContext::default() };
        result(self.message(names), counts, &self.failures, context)
    }

    fn message(&self, Names { from, to, partial }: Names<'_>) -> String {
        let Compared { added, removed, changed, status_only, same, not_compared, unreadable, listed, .. } = self.counts;
        let mut message = match to {
            Some(to) => format!(
                "{from} to {to}: {added} added, {removed} removed, {changed} changed; {same} the same, {status_only} differ only in what the cluster writes"
            ),
            None => format!("{from} holds {listed} items of {} kinds", self.kinds.len()),
        };
        // Writing to a String cannot fail.
        if not_compared > 0 {
            let _ = write!(message, "; {not_compared} not compared: the reports say why");
        }
        if unreadable > 0 {
            let _ = write!(message, "; {unreadable} cannot be read: see failures");
        }
        if !partial.is_empty() {
            let holds = if partial.len() == 1 { "does" } else { "do" };
            let _ = write!(message, "; {} {holds} not hold the whole tenant", partial.join(" and "));
        }
        message
    }
}

/// An item that cannot be read, as a failure of the run.
#[must_use]
pub fn unreadable(item: &ItemId, code: &str, message: &str) -> ItemFailure {
    ItemFailure {
        item_id: item.to_string(),
        reason_code: code.to_owned(),
        message: redact(message).into_owned(),
        failure_type: FailureType::Failure,
    }
}

/// The counts of a comparison: what cannot be read has failed, what is not compared is skipped.
#[must_use]
pub fn summary(succeeded: i64, unreadable: i64, not_compared: i64) -> SummaryCounts {
    let total = succeeded + unreadable + not_compared;
    SummaryCounts { total, processed: total, succeeded, failed: unreadable, skipped: not_compared }
}

/// The result of a comparison. It succeeds, however much differs, unless something failed.
#[must_use]
pub fn result(
    message: String,
    counts: SummaryCounts,
    failures: &[ItemFailure],
    context: ResultContext,
) -> TerminationResult {
    let (outcome, reason) = if counts.failed == 0 {
        (Outcome::Succeeded, Reason::Succeeded)
    } else {
        (Outcome::PartiallySucceeded, Reason::PartiallySucceeded)
    };
    TerminationResult {
        outcome: Some(outcome),
        reason: Some(reason.to_string()),
        message: Some(message),
        summary_counts: Some(counts),
        failures: failures.iter().take(MAX_FAILURES).cloned().collect(),
        failures_truncated: failures.len() > MAX_FAILURES,
        context,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: &str, number: usize) -> ItemId {
        ItemId::new(GroupKind::new("", kind), format!("a-{number:05}"))
    }

    fn names<'a>(partial: &'a [&'a str]) -> Names<'a> {
        Names { from: "monday", to: Some("tuesday"), partial }
    }

    #[test]
    fn each_item_is_counted_once_and_what_cannot_be_read_makes_it_partial() {
        let mut found = Found::default();
        found.add(&item("Pod", 1), Change::Added);
        found.add(&item("Pod", 2), Change::Removed);
        found.add_changed(&item("Secret", 1), "~ a\n".to_owned());
        found.add_status_only();
        found.add_same(7);
        found.add_not_compared(&item("Pod", 3), reason::OUTSIDE_SELECTION, "why".to_owned());
        let result = found.to_result(names(&["tuesday"]));
        assert_eq!(result.outcome, Some(Outcome::Succeeded));
        assert_eq!(
            result.message.as_deref(),
            Some(
                "monday to tuesday: 1 added, 1 removed, 1 changed; 7 the same, 1 differ only in what the cluster writes; 1 not compared: the reports say why; tuesday does not hold the whole tenant"
            )
        );
        let counts = result.summary_counts.expect("counts");
        assert!(counts.add_up());
        assert_eq!((counts.total, counts.succeeded, counts.skipped), (12, 11, 1));
        let kinds = result.context.compared.expect("counts").kinds;
        assert_eq!(
            kinds.iter().map(|kind| (kind.kind.as_str(), kind.total())).collect::<Vec<_>>(),
            [("Pod", 2), ("Secret", 1)]
        );
        found.add_unreadable(&item("Pod", 4), "password=hunter2");
        let result = found.to_result(names(&[]));
        let counts = result.summary_counts.expect("counts");
        assert_eq!((result.outcome, counts.failed), (Some(Outcome::PartiallySucceeded), 1));
        assert!(counts.add_up() && !result.failures[0].message.contains("hunter2"), "{:?}", result.failures);
    }

    #[test]
    fn diffs_take_half_of_the_reports_and_every_item_keeps_its_name() {
        let mut found = Found::default();
        for number in 0..1000 {
            found.add_changed(&item("ConfigMap", number), "d".repeat(4096));
        }
        let kept: usize = found.rows().iter().filter_map(|row| row.diff.as_ref()).map(String::len).sum();
        assert!(kept <= MAX_DIFFS && kept + 4096 > MAX_DIFFS, "{kept}");
        assert_eq!(found.rows().len(), 1000);
    }

    #[test]
    fn a_list_says_how_much_a_set_holds() {
        let mut found = Found::default();
        (0..3).for_each(|number| found.add(&item("Pod", number), Change::Listed));
        let result = found.to_result(Names { from: "monday", to: None, partial: &[] });
        assert_eq!(result.message.as_deref(), Some("monday holds 3 items of 1 kinds"));
        assert_eq!(result.context.compared.map(|compared| (compared.listed, compared.kinds[0].listed)), Some((3, 3)));
    }
}
