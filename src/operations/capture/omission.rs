//! Items that a capture left out, recorded in the snapshot itself.
//!
//! A kind with failed items, or with skipped items worth reporting, has a note next to its
//! directory: `group/version/Kind.not-captured/items.json`. So a snapshot records what it does not
//! hold. This is needed by a worker that finds the snapshot after a crash and must report the same
//! outcome; by a restore, which must not take a missing item for a deleted one; and by a user who
//! reads the snapshot with `restic` alone. A requested name that no kind has is recorded in the
//! note of the last kind.
//!
//! No kind's name contains a dot, so a note is never mistaken for an item. It sorts after its kind,
//! and after kinds whose names continue with a `-`.

use crate::{
    api::reason::item as item_reason,
    api::{
        canonical,
        inventory::{Completeness, IncompleteKind},
        item::{GroupKind, ItemId},
        outcome::{FailureType, ItemFailure},
    },
    repository::{self, Entry, ItemPath},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Suffix of the directory of a note.
const SUFFIX: &str = ".not-captured";

/// Name of a note.
const NAME: &str = "items";

/// Placeholder for an unknown version or kind.
pub const UNKNOWN: &str = "-";

/// More than any namespace holds, and small enough that sums do not overflow.
const MAX_COUNTED: i64 = 1 << 40;

/// How many items one note names. The rest is counted.
const MAX_NAMED: usize = 5000;

/// What the capture of one kind left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Number of failed items.
    pub failed: i64,
    /// Number of skipped items that are worth reporting.
    pub skipped: i64,
    /// Those items, up to a limit.
    pub items: Vec<ItemFailure>,
}

impl Note {
    /// Adds an item.
    pub fn add(&mut self, item: ItemFailure) {
        match item.failure_type {
            FailureType::Failure => self.failed += 1,
            FailureType::Skipped => self.skipped += 1,
        }
        if self.items.len() < MAX_NAMED {
            self.items.push(item);
        }
    }

    /// Adds the contents of another note.
    pub fn absorb(&mut self, other: Self) {
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.items.extend(other.items);
    }

    /// Whether the note counts no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.failed == 0 && self.skipped == 0
    }

    /// Number of items that are counted but not named.
    #[must_use]
    pub fn unnamed(&self) -> i64 {
        self.failed + self.skipped - i64::try_from(self.items.len()).unwrap_or(i64::MAX)
    }

    /// The note as a snapshot entry, next to the directory of a kind.
    pub fn to_entry(&self, group: &str, version: &str, kind: &str) -> Result<Entry, repository::Error> {
        let content = serde_json::to_value(self).map(|value| canonical::to_vec(&value)).unwrap_or_default();
        Ok(Entry {
            path: ItemPath::new(group, version, &format!("{kind}{SUFFIX}"), NAME)?,
            content: content.into(),
            mtime: Timestamp::UNIX_EPOCH,
        })
    }

    /// Parses a note. A repository is untrusted input, so a note that cannot be parsed, or cannot
    /// be true, counts as one failure.
    #[must_use]
    pub fn from_content(content: &[u8]) -> Self {
        let read = serde_json::from_slice(content).ok();
        read.filter(Self::can_be_true).unwrap_or_else(|| Self { failed: 1, ..Self::default() })
    }

    fn can_be_true(&self) -> bool {
        [self.failed, self.skipped].iter().all(|count| (0..MAX_COUNTED).contains(count)) && self.unnamed() >= 0
    }
}

/// The path of the note in a directory of a snapshot, if notes are what the directory holds.
#[must_use]
pub fn path_of_note(directory: &str) -> Option<ItemPath> {
    directory.ends_with(SUFFIX).then(|| ItemPath::parse(&format!("{directory}/{NAME}.json")).ok())?
}

/// How much is known of the kind that a note is of, with the reason code of the first item that is
/// missing. An item that is left out by rule is not missing, nor is one that does not exist.
#[must_use]
pub fn completeness(note: &Note) -> (Completeness, Option<String>) {
    let of = |item: &ItemFailure| match item.reason_code.as_str() {
        item_reason::UNDISCOVERED => Completeness::Undiscovered,
        item_reason::FORBIDDEN | item_reason::KIND_NOT_READABLE => Completeness::Forbidden,
        item_reason::NOT_FOUND => Completeness::Complete,
        _ if item.failure_type == FailureType::Skipped => Completeness::Complete,
        _ => Completeness::Partial,
    };
    let missing = note.items.iter().map(|item| (of(item), item)).filter(|(of, _)| *of != Completeness::Complete);
    // The first one, if several are equally bad.
    match missing.rev().max_by_key(|(of, _)| *of) {
        Some((of, item)) => (of, Some(item.reason_code.clone())),
        None if note.unnamed() > 0 && note.failed > 0 => {
            (Completeness::Partial, Some(item_reason::UNREADABLE.to_owned()))
        }
        None => (Completeness::Complete, None),
    }
}

/// The kinds of these items of which not all are recorded.
#[must_use]
pub fn incomplete(note: &Note) -> Vec<IncompleteKind> {
    let mut by_kind: BTreeMap<GroupKind, Note> = BTreeMap::new();
    for item in &note.items {
        if let Ok(id) = ItemId::of_object(&item.item_id) {
            by_kind.entry(id.kind).or_default().add(item.clone());
        }
    }
    let incomplete = by_kind.into_iter().filter_map(|(kind, note)| {
        let (completeness, reason) = completeness(&note);
        Some(IncompleteKind { kind: kind.to_string(), completeness, reason: reason? })
    });
    incomplete.collect()
}

/// Whether a path in a snapshot is a note rather than an item.
#[must_use]
pub fn is_note(path: &ItemPath) -> bool {
    path.directory().ends_with(SUFFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(name: &str) -> ItemFailure {
        ItemFailure {
            item_id: format!("core/Pod/{name}"),
            reason_code: "Unreadable".into(),
            message: String::new(),
            failure_type: FailureType::Failure,
        }
    }

    #[test]
    fn a_note_sorts_between_its_kind_and_any_other() {
        let mut note = Note::default();
        note.add(failed("a"));
        let note = note.to_entry("", "v1", "Pod").expect("a path").path;
        let item = |kind: &str, name: &str| ItemPath::new("", "v1", kind, name).expect("a path");
        assert!(item("Pod", "zzz") < note && note < item("PodTemplate", "a") && note < item("Pods", "a"));
        assert!(item("PersistentVolumeClaim", "zzz") < note);
        assert_eq!(note.as_str(), "core/v1/Pod.not-captured/items.json");
        assert!(is_note(&note));
        assert!(!is_note(&item("Pod", "a.not-captured")));
    }

    #[test]
    fn a_note_is_read_back_whole_and_counts_more_than_it_names() {
        let mut note = Note::default();
        for number in 0..=MAX_NAMED {
            note.add(failed(&number.to_string()));
        }
        let entry = note.to_entry("", UNKNOWN, UNKNOWN).expect("a path");
        assert_eq!(Note::from_content(&entry.content), note);
        assert_eq!((note.failed, note.unnamed()), (5001, 1));
    }

    #[test]
    fn a_note_says_how_much_is_known_of_its_kind() {
        let of = |items: &[(&str, &str, FailureType)]| {
            let mut note = Note::default();
            for (name, code, failure_type) in items {
                let (reason_code, failure_type) = ((*code).to_owned(), *failure_type);
                note.add(ItemFailure { reason_code, failure_type, ..failed(name) });
            }
            completeness(&note)
        };
        let (fails, skips) = (FailureType::Failure, FailureType::Skipped);
        let is = |completeness, reason: &str| (completeness, Some(reason.to_owned()));
        assert_eq!(of(&[]), (Completeness::Complete, None));
        assert_eq!(of(&[("a", "ExcludedByLabel", skips), ("b", "NotFound", fails)]), (Completeness::Complete, None));
        assert_eq!(of(&[("a", "Unreadable", fails)]), is(Completeness::Partial, "Unreadable"));
        assert_eq!(
            of(&[("a", "UnsafeName", fails), ("", "Unlistable", fails)]),
            is(Completeness::Partial, "UnsafeName")
        );
        assert_eq!(
            of(&[("a", "Unreadable", fails), ("", "Forbidden", fails)]),
            is(Completeness::Forbidden, "Forbidden")
        );
        assert_eq!(of(&[("", "KindNotReadable", skips)]), is(Completeness::Forbidden, "KindNotReadable"));
        assert_eq!(of(&[("", "Undiscovered", fails)]), is(Completeness::Undiscovered, "Undiscovered"));
        assert_eq!(completeness(&Note::from_content(b"{]")), is(Completeness::Partial, "Unreadable"));
        let mut all = Note::default();
        all.add(failed("a"));
        all.add(ItemFailure { item_id: "apps/Deployment/".into(), reason_code: "Forbidden".into(), ..failed("") });
        all.add(ItemFailure { item_id: "core/Secret/s".into(), failure_type: skips, ..failed("") });
        let told: Vec<_> = incomplete(&all).into_iter().map(|kind| (kind.kind, kind.completeness)).collect();
        let expected = [("Pod", Completeness::Partial), ("Deployment.apps", Completeness::Forbidden)];
        assert_eq!(told, expected.map(|(kind, of)| (kind.to_owned(), of)));
    }

    #[test]
    fn a_note_that_does_not_read_is_not_taken_for_success() {
        assert_eq!(Note::from_content(b"{]").failed, 1);
        for lie in [r#"{"failed":9223372036854775807}"#, r#"{"failed":-5}"#, r#"{"skipped":-1}"#] {
            assert_eq!(Note::from_content(lie.as_bytes()), Note { failed: 1, ..Note::default() }, "{lie}");
        }
    }
}
