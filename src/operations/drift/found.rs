//! What a comparison with a baseline has found: counts, rows for the reports, what may become a
//! finding, and the result of the run. Pure.
//!
//! In memory are the id of each item that differs, and the worst findings, as many as a tenant may
//! have.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        comparison::{Change as Row, ItemDifference},
        drift::{Drift, KindDrift, MAX_KINDS},
        finding::{Change, MAX_FINDINGS, Severity},
        item::{GroupKind, ItemId},
        operation_report::Remark,
        outcome::ItemFailure,
        reason::drift as reason,
        result::{ResultContext, TerminationResult},
    },
    items::drift,
    operations::compare::found::{result, summary, unreadable},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// An item that differs.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// How it differs.
    pub found: drift::Found,
    /// Uid of the current object.
    pub uid: Option<String>,
}

/// Place of an item among those that differ: the worst come first.
pub type Rank = (Reverse<Severity>, ItemId);

/// What was found so far.
#[derive(Debug, Default)]
pub struct Found {
    counts: Drift,
    kinds: BTreeMap<GroupKind, KindDrift>,
    rows: Vec<ItemDifference>,
    failures: Vec<ItemFailure>,
    candidates: BTreeMap<Rank, Candidate>,
    /// Kinds of which each item was compared.
    complete: BTreeSet<GroupKind>,
    /// Items of those kinds of which nothing is known.
    unknown: BTreeSet<ItemId>,
}

impl Found {
    /// Adds an item that does not differ.
    pub fn add_same(&mut self) {
        self.counts.same += 1;
    }

    /// Adds an item of which no difference counts.
    pub fn add_ignored(&mut self) {
        self.counts.ignored += 1;
    }

    /// Adds an item that differs.
    pub fn add(&mut self, item: ItemId, found: drift::Found, uid: Option<String>) {
        let of_kind = self.kinds.entry(item.kind.clone()).or_default();
        let (all, of_kind, row) = match found.change {
            Change::Added => (&mut self.counts.added, &mut of_kind.added, Row::Added),
            Change::Removed => (&mut self.counts.removed, &mut of_kind.removed, Row::Removed),
            Change::Modified => (&mut self.counts.modified, &mut of_kind.modified, Row::Changed),
            Change::Replaced => (&mut self.counts.replaced, &mut of_kind.replaced, Row::Changed),
        };
        *all += 1;
        *of_kind += 1;
        let replaced = || Remark::new(reason::REPLACED, "it was deleted and created again");
        let remark = (found.change == Change::Replaced).then(replaced);
        self.rows.push(ItemDifference { item_id: item.to_string(), change: row, reason: remark, diff: None });
        self.candidates.insert((Reverse(found.severity), item), Candidate { found, uid });
        if self.candidates.len() > MAX_FINDINGS {
            self.candidates.pop_last();
        }
    }

    /// Adds items of which it is unknown whether they differ: one, or those of a kind under the name
    /// of the kind alone.
    pub fn add_not_compared(&mut self, item: ItemId, count: usize, remark: Remark) {
        self.counts.not_compared += i64::try_from(count).unwrap_or(i64::MAX);
        let (item_id, reason) = (item.to_string(), Some(remark));
        self.rows.push(ItemDifference { item_id, change: Row::NotCompared, reason, diff: None });
        self.unknown.insert(item);
    }

    /// Adds an item that cannot be read, or a kind.
    pub fn add_unreadable(&mut self, item: ItemId, code: &str, message: &str) {
        self.counts.unreadable += 1;
        let failure = unreadable(&item, code, message);
        let reason = Some(Remark::new(code, &failure.message));
        self.failures.push(failure);
        self.rows.push(ItemDifference { item_id: item.to_string(), change: Row::Unreadable, reason, diff: None });
        self.unknown.insert(item);
    }

    /// Says that every item of a kind was compared, except those that were added as unknown.
    pub fn complete(&mut self, kind: GroupKind) {
        self.complete.insert(kind);
    }

    /// Whether the absence of an item from what differs means that it does not differ.
    #[must_use]
    pub fn is_settled(&self, item: &ItemId) -> bool {
        self.complete.contains(&item.kind) && !self.unknown.contains(item)
    }

    /// The worst items that differ, worst first, at most so many.
    pub fn take_worst(&mut self, room: usize) -> BTreeMap<Rank, Candidate> {
        while self.candidates.len() > room {
            self.candidates.pop_last();
        }
        let shown = i64::try_from(self.candidates.len()).unwrap_or(i64::MAX);
        self.counts.not_shown = self.counts.drifted() - shown;
        std::mem::take(&mut self.candidates)
    }

    /// Adds what became of the findings, and the baseline.
    pub fn finish(&mut self, baseline: &str, (new, reopened, resolved): (i64, i64, i64)) {
        self.counts.baseline = Some(baseline.to_owned());
        (self.counts.new, self.counts.reopened, self.counts.resolved) = (new, reopened, resolved);
        self.rows.sort_by(|one, other| one.item_id.cmp(&other.item_id));
    }

    /// The rows for the reports, in the order of the items' ids once it is finished.
    #[must_use]
    pub fn rows(&self) -> &[ItemDifference] {
        &self.rows
    }

    fn counts(&self) -> Drift {
        let kinds = self.kinds.iter().map(|(kind, counts)| KindDrift { kind: kind.to_string(), ..counts.clone() });
        let mut kinds: Vec<KindDrift> = kinds.collect();
        kinds.sort_by_key(|counts| Reverse(counts.total()));
        kinds.truncate(MAX_KINDS);
        Drift { kinds, ..self.counts.clone() }
    }

    /// The result of the run.
    #[must_use]
    pub fn to_result(&self) -> TerminationResult {
        let counts = &self.counts;
        let succeeded = counts.drifted() + counts.same + counts.ignored;
        let counts = summary(succeeded, counts.unreadable, counts.not_compared);
        let context = ResultContext { drift: Some(self.counts()), ..ResultContext::default() };
        result(self.message(), counts, &self.failures, context)
    }

    fn message(&self) -> String {
        let counts = &self.counts;
        let Drift { added, removed, modified, replaced, same, ignored, new, resolved, .. } = counts;
        let mut message = format!(
            "{} drifted from {} ({added} added, {removed} removed, {modified} modified, {replaced} replaced); {same} the same, {ignored} ignored; {new} new findings, {resolved} resolved",
            counts.drifted(),
            counts.baseline.as_deref().unwrap_or("the baseline"),
        );
        // Writing to a String cannot fail.
        if counts.reopened > 0 {
            let _ = write!(message, ", {} open again", counts.reopened);
        }
        if counts.not_shown > 0 {
            let _ = write!(
                message,
                "; {} have no finding, because a tenant has {MAX_FINDINGS} at most: the reports name them",
                counts.not_shown
            );
        }
        if counts.not_compared > 0 {
            let _ = write!(message, "; {} not compared: the reports say why", counts.not_compared);
        }
        if counts.unreadable > 0 {
            let _ = write!(message, "; {} cannot be read: see failures", counts.unreadable);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Outcome, result::MAX_TERMINATION_MESSAGE};

    fn differs(severity: Severity) -> drift::Found {
        let (change, evidence, digest) = (Change::Added, Vec::new(), "0".repeat(64));
        drift::Found { change, severity, evidence, left_out: 0, digest }
    }

    #[test]
    fn of_more_items_than_a_tenant_may_have_findings_the_worst_are_kept_and_the_rest_is_counted() {
        let mut found = Found::default();
        let item = |number: usize| ItemId::new(GroupKind::new("", "ConfigMap"), format!("{number:05}"));
        for number in 0..50_000 {
            let severity = if number >= 49_500 { Severity::High } else { Severity::Low };
            found.add(item(number), differs(severity), None);
            assert!(found.candidates.len() <= MAX_FINDINGS, "no more are kept in memory");
        }
        let worst = found.take_worst(MAX_FINDINGS - 100);
        assert_eq!((worst.len(), found.counts.not_shown, found.counts.added), (900, 49_100, 50_000));
        assert_eq!(worst.keys().filter(|(severity, _)| severity.0 == Severity::High).count(), 500);
        assert_eq!(worst.keys().next().map(|(_, first)| first.clone()), Some(item(49_500)), "the worst come first");
        let result = found.to_result();
        assert!(result.message.as_ref().is_some_and(|message| message.contains("49100 have no finding")));
        assert!(result.to_message().len() <= MAX_TERMINATION_MESSAGE, "{}", result.to_message());
    }

    #[test]
    fn an_item_is_settled_only_if_its_whole_kind_and_itself_were_compared() {
        let mut found = Found::default();
        let (map, secret) = (GroupKind::new("", "ConfigMap"), GroupKind::new("", "Secret"));
        found.add_unreadable(ItemId::new(map.clone(), "b"), reason::UNREADABLE, "not JSON");
        found.complete(map.clone());
        assert!(found.is_settled(&ItemId::new(map.clone(), "a")) && !found.is_settled(&ItemId::new(map, "b")));
        assert!(!found.is_settled(&ItemId::new(secret, "a")));
        assert_eq!(found.to_result().outcome, Some(Outcome::PartiallySucceeded));
    }
}
