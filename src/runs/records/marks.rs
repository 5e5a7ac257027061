//! What a check of a repository says about the backup sets in it. Pure.
//!
//! A set is reported as damaged as soon as it may be. Only a check that has read back all data
//! reports the set as whole again: a partial check has not examined what another one found.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{BackupSet, backup_set::is_damaged},
    operations::record::RepositoryCheck,
};

/// What to report about one set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Part of the set cannot be restored.
    Damaged,
    /// More is damaged than was named, and this set may be affected.
    PerhapsDamaged,
    /// The set was damaged, and no longer is.
    Whole,
}

/// The sets of the checked repository about which there is something to report.
#[must_use]
pub fn marks<'a>(sets: &'a [BackupSet], check: &RepositoryCheck) -> Vec<(&'a BackupSet, Mark)> {
    sets.iter().filter_map(|set| Some((set, mark(set, check)?))).collect()
}

fn mark(set: &BackupSet, check: &RepositoryCheck) -> Option<Mark> {
    let is_named = |begin: &String| !begin.is_empty() && set.spec.snapshot.starts_with(begin.as_str());
    if check.damaged.iter().any(is_named) {
        return Some(Mark::Damaged);
    }
    if check.damaged_truncated {
        // A set that an earlier check named keeps that mark.
        return (!is_damaged(set)).then_some(Mark::PerhapsDamaged);
    }
    let read_all = check.passed && check.figures.as_ref().is_some_and(|figures| figures.read_all);
    (read_all && is_damaged(set)).then_some(Mark::Whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::result::CheckedRepository;
    use serde_json::json;

    fn set(name: &str, reason: &str) -> BackupSet {
        let status = if reason == "Damaged" { "False" } else { "True" };
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": name},
            "spec": {"repository": {"name": "main"}, "snapshot": format!("{name}-and-more"), "run": {"name": name, "uid": "u"}, "namespaceUid": "n"},
            "status": {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .expect("a set")
    }

    fn check(passed: bool, read_all: bool, damaged: &[&str]) -> RepositoryCheck {
        RepositoryCheck {
            repository: "main".to_owned(),
            generation: None,
            spec: None,
            passed,
            reason: String::new(),
            message: String::new(),
            figures: passed.then(|| CheckedRepository { read_all, ..CheckedRepository::default() }),
            maintained: None,
            damaged: damaged.iter().map(|begin| (*begin).to_owned()).collect(),
            damaged_truncated: false,
        }
    }

    fn said(check: &RepositoryCheck) -> Vec<(String, Mark)> {
        let sets = [set("whole", "ReadBack"), set("marked", "Damaged"), set("hit", "ReadBack")];
        marks(&sets, check)
            .into_iter()
            .map(|(set, mark)| (set.metadata.name.clone().unwrap_or_default(), mark))
            .collect()
    }

    #[test]
    fn what_a_check_names_is_damaged_and_what_another_found_stays_so() {
        assert_eq!(said(&check(false, false, &["hit"])), [("hit".to_owned(), Mark::Damaged)]);
        assert_eq!(said(&check(false, true, &["hit", "marked"])).len(), 2);
        assert_eq!(said(&check(false, false, &[""])), [], "what names nothing names not all");
    }

    #[test]
    fn only_a_check_that_has_read_everything_says_that_a_set_is_whole_again() {
        assert_eq!(said(&check(true, true, &[])), [("marked".to_owned(), Mark::Whole)]);
        assert_eq!(said(&check(true, false, &[])), []);
        assert_eq!(said(&RepositoryCheck { figures: None, ..check(true, true, &[]) }), []);
        assert_eq!(said(&check(false, false, &[])), []);
    }

    #[test]
    fn where_more_is_damaged_than_is_named_every_set_may_be() {
        let truncated = RepositoryCheck { damaged_truncated: true, ..check(false, false, &["hit"]) };
        assert_eq!(said(&truncated), [("whole".to_owned(), Mark::PerhapsDamaged), ("hit".to_owned(), Mark::Damaged)]);
    }
}
