//! What was found: counts, rows for the reports, and a sentence for the run. Pure.
//!
//! In memory is the id of each object that no backup set holds.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::backups::Window;
use crate::api::{
    coverage::{BackupCoverage, ReasonCount, UncoveredItem},
    item::ItemId,
    result::truncate,
};
use std::cmp::Reverse;

/// Maximum length of an item's id in bytes (the schema's limit).
const MAX_ID: usize = 600;

/// How many reasons the sentence names.
const NAMED_REASONS: usize = 3;

/// What was found so far.
#[derive(Debug)]
pub struct Found {
    coverage: BackupCoverage,
    rows: Vec<UncoveredItem>,
    directories: u64,
}

impl Found {
    /// Starts with the number of sets that are looked at.
    pub(super) fn new(window: Window, sets: usize, selected: bool) -> Self {
        let coverage = BackupCoverage {
            taken_at: window.end,
            days: window.days.into(),
            sets: signed(sets),
            selected,
            ..BackupCoverage::default()
        };
        Self { coverage, rows: Vec::new(), directories: 0 }
    }

    /// Counts objects that were looked for.
    pub(super) fn looked_for(&mut self, count: usize) {
        self.coverage.objects += signed(count);
    }

    /// Counts a directory of a set that was read.
    pub(super) fn read_directory(&mut self) {
        self.directories += 1;
    }

    /// Adds an object that no set holds.
    pub(super) fn add(&mut self, item: &ItemId, reason: &str) {
        self.coverage.uncovered += 1;
        match self.coverage.reasons.iter_mut().find(|counted| counted.reason == reason) {
            Some(counted) => counted.count += 1,
            None => self.coverage.reasons.push(ReasonCount { reason: reason.to_owned(), count: 1 }),
        }
        let item_id = truncate(&item.to_string(), MAX_ID);
        self.rows.push(UncoveredItem { item_id, reason: reason.to_owned() });
    }

    /// Puts the rows and the reasons in order. Call this once everything was added.
    pub(super) fn sort(&mut self) {
        self.rows.sort_by(|one, other| one.item_id.cmp(&other.item_id));
        self.coverage.reasons.sort_by_key(|counted| (Reverse(counted.count), counted.reason.clone()));
    }

    /// The counts.
    #[must_use]
    pub fn coverage(&self) -> &BackupCoverage {
        &self.coverage
    }

    /// The rows for the reports, in the order of the objects' ids.
    #[must_use]
    pub fn rows(&self) -> &[UncoveredItem] {
        &self.rows
    }

    /// Number of directories of sets that were read.
    #[must_use]
    pub fn directories(&self) -> u64 {
        self.directories
    }

    /// A sentence for the message of the run.
    #[must_use]
    pub fn sentence(&self) -> String {
        let BackupCoverage { days, objects, uncovered, reasons, .. } = &self.coverage;
        let last = if *days == 1 { "the last day".to_owned() } else { format!("the last {days} days") };
        if *uncovered == 0 {
            return format!("a backup set of {last} holds each of {objects} objects");
        }
        let mut named: Vec<_> = reasons
            .iter()
            .take(NAMED_REASONS)
            .map(|ReasonCount { reason, count }| format!("{count} {reason}"))
            .collect();
        if reasons.len() > NAMED_REASONS {
            named.push("…".to_owned());
        }
        format!(
            "no backup set of {last} holds {uncovered} of {objects} objects ({}): the reports name them",
            named.join(", ")
        )
    }
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::item::GroupKind;

    #[test]
    fn a_run_says_how_many_objects_no_set_holds_and_the_most_frequent_reasons() {
        let end = "2026-01-02T00:00:00Z".parse().expect("a time");
        let mut found = Found::new(Window { end, days: 7 }, 3, false);
        found.looked_for(9);
        assert_eq!(found.sentence(), "a backup set of the last 7 days holds each of 9 objects");
        let item = |name: &str| ItemId::new(GroupKind::new("", "ConfigMap"), name);
        for (name, why) in [("e", "D"), ("a", "A"), ("d", "C"), ("b", "B"), ("c", "B")] {
            found.add(&item(name), why);
        }
        found.sort();
        assert_eq!(
            found.sentence(),
            "no backup set of the last 7 days holds 5 of 9 objects (2 B, 1 A, 1 C, …): the reports name them"
        );
        let rows: Vec<_> = found.rows().iter().map(|row| format!("{} {}", row.item_id, row.reason)).collect();
        assert_eq!(rows, ["a A", "b B", "c B", "d C", "e D"].map(|row| format!("core/ConfigMap/{row}")));
        let BackupCoverage { sets, uncovered, reasons, .. } = found.coverage();
        assert_eq!((*sets, *uncovered, reasons[0].count), (3, 5, 2));
        let found = Found::new(Window { end, days: 1 }, 0, false);
        assert_eq!(found.sentence(), "a backup set of the last day holds each of 0 objects");
    }
}
