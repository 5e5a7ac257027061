//! What it means that a backup set does not hold an item: that the item did not exist, or nothing.
//! Pure.
//!
//! A full set holds everything that can be captured. A partial set holds a selection, or is a set of
//! which items failed, or was found in an adopted repository: only a selection by kinds and names
//! says which items it would hold. Labels do not, because an item that lost its labels still exists.
//! In every set, the capture's own notes name what it left out.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        BackupSet,
        backup_set::Coverage,
        item::{GroupKind, ItemId},
        reason::{compare as reason, item as item_reason},
        selection::{KindFilter, Selection},
    },
    operations::capture::omission::{Note, UNKNOWN},
};
use std::collections::BTreeSet;

/// What the absence of an item from a set means.
#[derive(Debug, Default)]
pub struct Absence {
    whole: bool,
    /// What a partial set would hold, if that is known.
    selected: Option<(KindFilter, Selection)>,
    /// Items that the set names as absent.
    named: BTreeSet<ItemId>,
    left_out: LeftOut,
}

/// What a capture left out, according to its notes.
#[derive(Debug, Default)]
struct LeftOut {
    groups: BTreeSet<String>,
    kinds: BTreeSet<GroupKind>,
    items: BTreeSet<ItemId>,
}

impl Absence {
    /// What the record of a set says.
    #[must_use]
    pub fn of(set: &BackupSet) -> Self {
        let spec = &set.spec;
        let whole = spec.coverage == Coverage::Full;
        let says_what = !spec.selection.is_everything() && spec.selection.label_selector.is_none();
        let kinds = spec.selection.parse().ok().filter(|_| !whole && says_what);
        Self {
            whole,
            selected: kinds.map(|kinds| (kinds, spec.selection.clone())),
            named: spec.absent.iter().filter_map(|text| ItemId::of_object(text).ok()).collect(),
            left_out: LeftOut::default(),
        }
    }

    /// Adds items that the snapshot names as absent.
    pub fn add_absent(&mut self, items: impl IntoIterator<Item = ItemId>) {
        self.named.extend(items);
    }

    /// Adds a note of the capture about a kind.
    pub fn add_note(&mut self, kind: &GroupKind, note: &Note) {
        if note.unnamed() > 0 {
            self.left_out.add(&ItemId::new(kind.clone(), ""));
        }
        for item in &note.items {
            // These did not exist, and neither did their kind.
            if [item_reason::NOT_FOUND, item_reason::KIND_NOT_SERVED].contains(&item.reason_code.as_str()) {
                continue;
            }
            match ItemId::of_object(&item.item_id) {
                Ok(item) => self.left_out.add(&item),
                Err(_) => self.left_out.add(&ItemId::new(kind.clone(), "")),
            }
        }
    }

    /// Whether the set holds the whole tenant.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// Whether an item that the set does not hold did not exist. If that is unknown, the error is
    /// the reason code.
    pub fn of_item(&self, item: &ItemId) -> Result<(), &'static str> {
        let is_selected =
            |(kinds, selection): &(KindFilter, Selection)| kinds.takes(&item.kind) && selection.takes_name(&item.name);
        if self.named.contains(item) {
            Ok(())
        } else if self.left_out.contains(item) {
            Err(reason::NOT_CAPTURED)
        } else if self.whole || self.selected.as_ref().is_some_and(is_selected) {
            Ok(())
        } else {
            Err(reason::OUTSIDE_SELECTION)
        }
    }
}

impl LeftOut {
    /// Adds an item, or all of a kind or group.
    fn add(&mut self, item: &ItemId) {
        if item.kind.kind == UNKNOWN {
            self.groups.insert(item.kind.group.clone());
        } else if item.name.is_empty() {
            self.kinds.insert(item.kind.clone());
        } else {
            self.items.insert(item.clone());
        }
    }

    fn contains(&self, item: &ItemId) -> bool {
        self.groups.contains(&item.kind.group) || self.kinds.contains(&item.kind) || self.items.contains(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn absence(spec: Value) -> Absence {
        let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": "a"},
            "spec": {"repository": {"name": "main"}, "snapshot": "0", "namespaceUid": "n", "run": {"name": "r", "uid": "u"}}});
        for (field, value) in spec.as_object().cloned().unwrap_or_default() {
            set["spec"][field] = value;
        }
        Absence::of(&serde_json::from_value(set).expect("a set"))
    }

    fn item(text: &str) -> ItemId {
        text.parse().expect("an item")
    }

    #[test]
    fn what_a_full_set_lacks_did_not_exist_and_of_what_a_partial_one_lacks_nothing_is_known() {
        assert_eq!(absence(json!({"coverage": "full"})).of_item(&item("core/Secret/a")), Ok(()));
        assert_eq!(absence(json!({})).of_item(&item("core/Secret/a")), Err(reason::OUTSIDE_SELECTION));
        let undo = absence(json!({"absent": ["core/Secret/a", "no item"]}));
        assert_eq!(undo.of_item(&item("core/Secret/a")), Ok(()));
        assert_eq!(undo.of_item(&item("core/Secret/b")), Err(reason::OUTSIDE_SELECTION));
    }

    #[test]
    fn a_partial_set_says_so_of_what_its_kinds_and_names_select_and_never_by_labels() {
        let by_kind = absence(json!({"selection": {"includeKinds": ["ConfigMap"], "excludeNames": ["x"]}}));
        assert_eq!(by_kind.of_item(&item("core/ConfigMap/a")), Ok(()));
        for outside in ["core/ConfigMap/x", "core/Secret/a", "apps/ConfigMap/a"] {
            assert_eq!(by_kind.of_item(&item(outside)), Err(reason::OUTSIDE_SELECTION), "{outside}");
        }
        let by_label = absence(json!({"selection": {"includeKinds": ["ConfigMap"], "labelSelector": "a=b"}}));
        assert_eq!(by_label.of_item(&item("core/ConfigMap/a")), Err(reason::OUTSIDE_SELECTION));
    }

    #[test]
    fn what_a_note_names_may_have_existed_even_if_the_set_is_full() {
        let note = |item: &str, code: &str| -> Note {
            let items = json!([{"itemId": item, "reasonCode": code, "message": "", "type": "skipped"}]);
            serde_json::from_value(json!({"skipped": 1, "items": items})).expect("a note")
        };
        let widget = GroupKind::new("example.com", "Widget");
        let whole = || absence(json!({"coverage": "full"}));
        for (of, code, unknown, known) in [
            ("core/Pod/a", "Unreadable", "core/Pod/a", "core/Pod/b"),
            ("example.com/Widget/", "KindNotReadable", "example.com/Widget/a", "example.com/Gadget/a"),
            ("example.com/-/", "Undiscovered", "example.com/Widget/a", "core/Pod/a"),
            ("no item", "Unreadable", "example.com/Widget/a", "core/Pod/a"),
        ] {
            let mut absence = whole();
            absence.add_note(&widget, &note(of, code));
            assert_eq!(absence.of_item(&item(unknown)), Err(reason::NOT_CAPTURED), "{of}");
            assert_eq!(absence.of_item(&item(known)), Ok(()), "{of}");
        }
        let mut absence = whole();
        absence.add_note(&widget, &note("example.com/Widget/a", item_reason::NOT_FOUND));
        absence.add_note(&widget, &note("example.com/Widget/", item_reason::KIND_NOT_SERVED));
        assert_eq!(absence.of_item(&item("example.com/Widget/a")), Ok(()));
        absence.add_note(&widget, &Note::from_content(b"not a note"));
        assert_eq!(absence.of_item(&item("example.com/Widget/a")), Err(reason::NOT_CAPTURED));
    }
}
