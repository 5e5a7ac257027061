//! Why no backup set holds an object. Pure.
//!
//! The newest set that selects the object by its kind and name says it: what the notes of its capture
//! tell, else whether the object is newer. Another order would promise of an object whose kind is
//! never captured that the next backup holds it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::backups::Witness;
use crate::{
    api::{
        item::{GroupKind, ItemId},
        reason::coverage as reason,
    },
    operations::capture::omission::{Note, UNKNOWN},
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// An object to look for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the object.
    pub name: String,
    /// When it was created, if that is known. The API server tells the second.
    pub created: Option<Timestamp>,
    /// Whether a label excludes it from backups.
    pub is_excluded: bool,
}

/// What a set says of the objects of one kind that it does not hold.
#[derive(Debug)]
pub struct Testimony<'a> {
    /// The set.
    pub witness: &'a Witness,
    /// What its capture left out.
    pub left_out: LeftOut,
}

/// Reason codes that the notes of a capture have for the objects of one kind.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    all: Option<&'static str>,
    items: BTreeMap<String, &'static str>,
}

impl LeftOut {
    /// Adds a note of the kind or of its group. A code of another kind is dropped: a note comes from
    /// the repository.
    pub fn add(&mut self, kind: &GroupKind, note: &Note) {
        for item in &note.items {
            let (Some(code), Ok(id)) = (reason::known(&item.reason_code), ItemId::of_object(&item.item_id)) else {
                continue;
            };
            if id.kind == *kind && !id.name.is_empty() {
                self.items.insert(id.name, code);
            } else if id.kind == *kind || (id.kind.kind == UNKNOWN && id.kind.group == kind.group) {
                self.all = Some(code);
            }
        }
    }

    fn of(&self, name: &str) -> Option<&'static str> {
        self.items.get(name).copied().or(self.all)
    }
}

/// Whether a set selects a kind.
#[must_use]
pub fn selects(witness: &Witness, kind: &GroupKind) -> bool {
    witness.scope.lists(kind)
}

/// Why no set holds an object: a reason code. `said` is what the sets say that select its kind, the
/// newest first; `witnesses` is how many sets there are that could say something, and `sets` how many
/// there are at all.
#[must_use]
pub fn why(wanted: &Wanted, said: &[Testimony<'_>], witnesses: usize, sets: usize) -> &'static str {
    if sets == 0 {
        return reason::NO_BACKUP;
    }
    if wanted.is_excluded {
        return reason::EXCLUDED_BY_LABEL;
    }
    if said.is_empty() && witnesses > 0 {
        return reason::EXCLUDED_KIND;
    }
    let selecting = said.iter().find(|said| said.witness.scope.names.takes_name(&wanted.name));
    let Some(Testimony { witness, left_out }) = selecting else { return reason::OUTSIDE_SELECTION };
    if let Some(code) = left_out.of(&wanted.name) {
        return code;
    }
    if wanted.created.is_some_and(|created| created.as_second() >= witness.began.as_second()) {
        return reason::NEWER_THAN_LAST_BACKUP;
    }
    if witness.scope.names.label_selector.is_some() { reason::OUTSIDE_SELECTION } else { reason::NOT_IN_BACKUP }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{api::selection::Selection, items::skip::SkipReason, operations::capture::scope::Scope};
    use serde_json::json;

    const BEGAN: &str = "2026-01-02T03:04:05.5Z";

    fn witness(selection: serde_json::Value) -> Witness {
        let selection: Selection = serde_json::from_value(selection).expect("a selection");
        let scope = Scope::new(selection, None).expect("a scope");
        Witness { place: 1, began: BEGAN.parse().expect("a time"), scope }
    }

    fn note(items: &[(&str, &str)]) -> Note {
        let item =
            |(id, code): &(&str, &str)| json!({"itemId": id, "reasonCode": code, "message": "", "type": "failure"});
        let items: Vec<_> = items.iter().map(item).collect();
        serde_json::from_value(json!({"failed": items.len(), "items": items})).expect("a note")
    }

    fn wanted(created: &str) -> Wanted {
        Wanted { name: "a".to_owned(), created: created.parse().ok(), is_excluded: false }
    }

    /// Why the ConfigMap `a` is in none of these sets, which have these notes.
    fn judged(wanted: &Wanted, sets: &[(&Witness, &Note)]) -> &'static str {
        let kind = GroupKind::new("", "ConfigMap");
        let selecting = sets.iter().filter(|(witness, _)| selects(witness, &kind));
        let said: Vec<_> = selecting
            .map(|(witness, note)| {
                let mut left_out = LeftOut::default();
                left_out.add(&kind, note);
                Testimony { witness, left_out }
            })
            .collect();
        why(wanted, &said, sets.len(), sets.len())
    }

    #[test]
    fn the_newest_set_that_selects_an_object_says_why_it_is_not_there() {
        let (older, newer) = ("2026-01-02T03:04:04Z", "2026-01-02T03:04:05Z");
        let nothing = || note(&[]);
        for (why, created, selection, note) in [
            ("NotInBackup", older, json!({}), nothing()),
            ("NotInBackup", "", json!({}), nothing()),
            ("NewerThanLastBackup", newer, json!({}), nothing()),
            ("ExcludedKind", newer, json!({"excludeKinds": ["ConfigMap"]}), nothing()),
            ("ExcludedKind", older, json!({"includeKinds": ["Secret"]}), nothing()),
            ("OutsideSelection", newer, json!({"excludeNames": ["a"]}), nothing()),
            ("NotInBackup", older, json!({"excludeNames": ["b"]}), nothing()),
            ("OutsideSelection", older, json!({"labelSelector": "tier=web"}), nothing()),
            ("NewerThanLastBackup", newer, json!({"labelSelector": "tier=web"}), nothing()),
            ("Forbidden", newer, json!({}), note(&[("core/ConfigMap/", "Forbidden")])),
            ("KindNotReadable", older, json!({}), note(&[("core/ConfigMap/", "KindNotReadable")])),
            ("Unlistable", older, json!({}), note(&[("core/ConfigMap/", "Unlistable")])),
            ("Undiscovered", older, json!({}), note(&[("core/-/", "Undiscovered")])),
            ("NotInBackup", older, json!({}), note(&[("apps/-/", "Undiscovered")])),
            ("Unreadable", older, json!({}), note(&[("core/ConfigMap/a", "Unreadable")])),
            ("NotInBackup", older, json!({}), note(&[("core/ConfigMap/b", "Unreadable")])),
            ("ExcludedByLabel", older, json!({}), note(&[("core/ConfigMap/a", "ExcludedByLabel")])),
            (
                "UnsafeName",
                older,
                json!({}),
                note(&[("core/ConfigMap/", "Forbidden"), ("core/ConfigMap/a", "UnsafeName")]),
            ),
            ("NotInBackup", older, json!({}), note(&[("core/ConfigMap/a", "HeardOfNever")])),
            ("NotInBackup", older, json!({}), note(&[("core/Secret/a", "Unreadable"), ("no item", "Forbidden")])),
        ] {
            let witness = witness(selection.clone());
            assert_eq!(judged(&wanted(created), &[(&witness, &note)]), why, "{selection} {created} {note:?}");
        }
    }

    #[test]
    fn a_newer_set_of_other_kinds_or_names_says_nothing_of_an_object_that_an_older_one_selects() {
        let (secrets, others) = (witness(json!({"includeKinds": ["Secret"]})), witness(json!({"excludeNames": ["a"]})));
        let (everything, forbidden) = (witness(json!({})), note(&[("core/ConfigMap/", "Forbidden")]));
        let nothing = note(&[]);
        let sets = [(&secrets, &nothing), (&others, &nothing), (&everything, &forbidden)];
        assert_eq!(judged(&wanted(""), &sets), reason::FORBIDDEN);
        assert_eq!(judged(&wanted(""), &sets[..2]), reason::OUTSIDE_SELECTION);
        assert_eq!(judged(&wanted(""), &sets[..1]), reason::EXCLUDED_KIND);
    }

    #[test]
    fn without_a_set_there_is_no_backup_and_sets_of_single_objects_select_no_others() {
        let excluded = Wanted { is_excluded: true, ..wanted("") };
        assert_eq!((why(&wanted(""), &[], 0, 0), why(&excluded, &[], 0, 0)), (reason::NO_BACKUP, reason::NO_BACKUP));
        assert_eq!(why(&wanted(""), &[], 0, 3), reason::OUTSIDE_SELECTION);
        assert_eq!(why(&excluded, &[], 1, 1), reason::EXCLUDED_BY_LABEL);
        assert_eq!(reason::EXCLUDED_BY_LABEL, SkipReason::ExcludedByLabel.code());
    }
}
