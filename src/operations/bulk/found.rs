//! What became of the objects of a bulk operation: counts, failures, and the result of the run. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::carry::Fate;
use crate::{
    api::reason::bulk as reason,
    api::{
        Outcome, Reason,
        item::{GroupKind, ItemId},
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        result::TerminationResult,
    },
    items::{bulk::Left, plan::Remark},
};

/// What became of the objects so far.
#[derive(Debug)]
pub struct Found<'a> {
    kind: GroupKind,
    names: &'a [String],
    /// By place of the name. An object that was left has its reason here.
    fates: Vec<Option<Fate>>,
    changed: i64,
    unchanged: i64,
    skipped: i64,
    failed: i64,
}

impl<'a> Found<'a> {
    /// Nothing was done yet with these objects.
    #[must_use]
    pub fn new(kind: GroupKind, names: &'a [String]) -> Self {
        Self { kind, names, fates: vec![None; names.len()], changed: 0, unchanged: 0, skipped: 0, failed: 0 }
    }

    /// The names of the objects.
    #[must_use]
    pub fn names(&self) -> &'a [String] {
        self.names
    }

    /// Records what became of the object at a place, once for each.
    pub fn record(&mut self, place: usize, fate: Fate) {
        let count = match &fate {
            Fate::Done => &mut self.changed,
            Fate::Unchanged => &mut self.unchanged,
            Fate::Left(Left { skipped: true, .. }) => &mut self.skipped,
            Fate::Left(Left { skipped: false, .. }) => &mut self.failed,
        };
        *count += 1;
        self.fates[place] = Some(fate);
    }

    /// Leaves all objects that nothing was done with, for this reason.
    pub fn leave_rest(&mut self, left: &Left) {
        for place in 0..self.fates.len() {
            if self.fates[place].is_none() {
                self.record(place, Fate::Left(left.clone()));
            }
        }
    }

    /// Number of objects that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        usize::try_from(self.failed).unwrap_or(usize::MAX)
    }

    /// Number of objects by result. One that was as wanted has succeeded.
    #[must_use]
    pub fn counts(&self) -> SummaryCounts {
        let succeeded = self.changed + self.unchanged;
        SummaryCounts {
            total: i64::try_from(self.names.len()).unwrap_or(i64::MAX),
            processed: succeeded + self.failed + self.skipped,
            succeeded,
            failed: self.failed,
            skipped: self.skipped,
        }
    }

    /// The objects that failed, then those that were skipped, each in the order of their names.
    #[must_use]
    pub fn failures(&self) -> Vec<ItemFailure> {
        let left = self.fates.iter().zip(self.names).filter_map(|(fate, name)| match fate {
            Some(Fate::Left(left)) => Some((name, left)),
            _ => None,
        });
        let mut failures: Vec<ItemFailure> = left.map(|(name, left)| self.failure(name, left)).collect();
        failures.sort_by_key(|failure| failure.failure_type == FailureType::Skipped);
        failures
    }

    fn failure(&self, name: &str, Left { skipped, remark: Remark { code, message } }: &Left) -> ItemFailure {
        ItemFailure {
            item_id: ItemId::new(self.kind.clone(), name).to_string(),
            reason_code: code.clone(),
            message: message.clone(),
            failure_type: if *skipped { FailureType::Skipped } else { FailureType::Failure },
        }
    }

    /// The result of the run.
    #[must_use]
    pub fn to_result(&self) -> TerminationResult {
        let counts = self.counts();
        let (outcome, reason) = match (counts.failed, counts.succeeded) {
            (0, _) => (Outcome::Succeeded, Reason::Succeeded.as_str()),
            (_, 0) => (Outcome::Failed, reason::NOTHING_CHANGED),
            _ => (Outcome::PartiallySucceeded, Reason::PartiallySucceeded.as_str()),
        };
        let mut failures = self.failures();
        let failures_truncated = failures.len() > MAX_FAILURES;
        failures.truncate(MAX_FAILURES);
        let Self { changed, unchanged, skipped, failed, .. } = self;
        TerminationResult {
            outcome: Some(outcome),
            reason: Some(reason.to_owned()),
            message: Some(format!(
                "{changed} objects changed, {unchanged} were as wanted, {skipped} skipped, {failed} failed"
            )),
            summary_counts: Some(counts),
            failures,
            failures_truncated,
            ..TerminationResult::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(skipped: bool, code: &str) -> Left {
        Left { skipped, remark: Remark::new(code, "why") }
    }

    fn ended(fates: &[Fate]) -> TerminationResult {
        let names: Vec<String> = (0..fates.len()).map(|number| format!("item-{number:03}")).collect();
        let mut found = Found::new(GroupKind::new("apps", "Deployment"), &names);
        for (place, fate) in fates.iter().enumerate() {
            found.record(place, fate.clone());
        }
        found.to_result()
    }

    #[test]
    fn a_run_succeeds_if_nothing_failed_and_fails_if_nothing_succeeded() {
        let (failed, skipped) = (Fate::Left(left(false, "Moved")), Fate::Left(left(true, "Vanished")));
        for (fates, outcome, reason) in [
            (vec![Fate::Done, Fate::Unchanged, skipped.clone()], Outcome::Succeeded, "Succeeded"),
            (vec![skipped.clone()], Outcome::Succeeded, "Succeeded"),
            (vec![Fate::Unchanged, failed.clone()], Outcome::PartiallySucceeded, "PartiallySucceeded"),
            (vec![skipped, failed], Outcome::Failed, "NothingChanged"),
        ] {
            let result = ended(&fates);
            assert_eq!((result.outcome, result.reason.as_deref()), (Some(outcome), Some(reason)), "{fates:?}");
            assert!(result.summary_counts.is_some_and(|counts| counts.add_up()));
        }
    }

    #[test]
    fn a_status_names_twenty_objects_and_those_that_failed_first() {
        let mut fates = vec![Fate::Left(left(true, "Vanished")); 19];
        fates.extend([Fate::Left(left(false, "Moved")), Fate::Left(left(false, "Moved"))]);
        let result = ended(&fates);
        assert_eq!((result.failures.len(), result.failures_truncated), (20, true));
        let first = &result.failures[0];
        assert_eq!((first.item_id.as_str(), first.reason_code.as_str()), ("apps/Deployment/item-019", "Moved"));
        assert_eq!((first.failure_type, result.failures[2].failure_type), (FailureType::Failure, FailureType::Skipped));
    }

    #[test]
    fn objects_that_nothing_was_done_with_are_left_for_one_reason() {
        let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut found = Found::new(GroupKind::new("", "Pod"), &names);
        found.record(1, Fate::Done);
        found.leave_rest(&left(true, "Stopped"));
        let counts = found.counts();
        assert_eq!((counts.total, counts.processed, counts.succeeded, counts.skipped), (3, 3, 1, 2));
        let ids: Vec<String> = found.failures().into_iter().map(|failure| failure.item_id).collect();
        assert_eq!(ids, ["core/Pod/a", "core/Pod/c"]);
    }
}
