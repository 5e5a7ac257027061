//! What is garbage-collected with a deleted object: dependents that have no owner left.
//!
//! Dependents are derived from the live objects' references alone, and owners are identified by
//! kind and name. Whether a reference has the uid of the live owner is left to the garbage
//! collector: if the uids differ, it has already collected the object.

use crate::{
    api::item::{GroupKind, ItemId},
    owners,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Whether the loss of an object of a kind matters: it may hold what no controller recreates.
#[must_use]
pub fn is_precious(kind: &GroupKind) -> bool {
    kind.group.is_empty() && matches!(kind.kind.as_str(), "Secret" | "ConfigMap" | "PersistentVolumeClaim")
}

/// A live object that has owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    /// The item.
    pub item: ItemId,
    /// The API version in which the object is read.
    pub api_version: String,
    /// Whether a capture would hold the object, or report that it skips the object. Neither is true
    /// of objects that controllers recreate.
    pub told: bool,
    owners: BTreeSet<ItemId>,
}

/// Live objects and their owners.
#[derive(Clone, Debug, Default)]
pub struct Dependents {
    all: Vec<Dependent>,
    places: BTreeMap<ItemId, usize>,
    by_owner: BTreeMap<ItemId, Vec<usize>>,
    leaving: BTreeSet<ItemId>,
    named: BTreeSet<ItemId>,
}

impl Dependents {
    /// Adds a live object. Objects without owners are ignored.
    pub fn add(&mut self, item: ItemId, api_version: &str, told: bool, object: &Value) {
        let owners: BTreeSet<ItemId> = owners::owners(object).into_iter().collect();
        for owner in &owners {
            self.by_owner.entry(owner.clone()).or_default().push(self.all.len());
        }
        if !owners.is_empty() {
            self.places.insert(item.clone(), self.all.len());
            self.all.push(Dependent { item, api_version: api_version.to_owned(), told, owners });
        }
    }

    /// All objects that own something, or are owned.
    pub fn related(&self) -> impl Iterator<Item = ItemId> {
        self.all.iter().map(|dependent| dependent.item.clone()).chain(self.by_owner.keys().cloned())
    }

    /// The owners of an object.
    #[must_use]
    pub fn owners_of(&self, item: &ItemId) -> BTreeSet<ItemId> {
        let dependent = self.places.get(item).and_then(|place| self.all.get(*place));
        dependent.map(|dependent| dependent.owners.clone()).unwrap_or_default()
    }

    /// Number of objects that own an object, also through others. What an object owns has more of them,
    /// unless they own one another in a circle.
    #[must_use]
    pub fn ancestors(&self, item: &ItemId) -> usize {
        let mut seen = BTreeSet::from([item.clone()]);
        let mut todo = vec![item.clone()];
        while let Some(next) = todo.pop() {
            todo.extend(self.owners_of(&next).into_iter().filter(|owner| seen.insert(owner.clone())));
        }
        seen.len() - 1
    }

    /// Records an object that is deleted, possibly to be recreated.
    pub fn add_leaving(&mut self, item: ItemId) {
        self.leaving.insert(item);
    }

    /// Records an object that is deleted because the backup set lists it as one that did not exist.
    /// If it is garbage-collected with its owner, nothing more is lost than intended.
    pub fn add_named(&mut self, item: ItemId) {
        self.named.insert(item);
    }

    /// Whether an object is deleted by its own name ([`Self::add_named`]).
    #[must_use]
    pub fn is_named(&self, item: &ItemId) -> bool {
        self.named.contains(item)
    }

    /// Records that an object is not deleted after all.
    pub fn add_staying(&mut self, item: &ItemId) {
        self.leaving.remove(item);
    }

    /// Returns what is garbage-collected if an object is deleted in addition to those recorded: its
    /// dependents, their dependents, and so on. A dependent with another owner that stays is not
    /// collected.
    #[must_use]
    pub fn going_with<'a>(&'a self, item: &'a ItemId) -> Vec<&'a Dependent> {
        self.going_with_these(BTreeSet::from([item]))
    }

    /// Returns what is garbage-collected with all objects recorded as deleted.
    #[must_use]
    pub fn going_with_all(&self) -> Vec<&Dependent> {
        self.going_with_these(self.leaving.iter().collect())
    }

    /// Returns the dependents that are garbage-collected if these objects are deleted, in addition
    /// to those recorded as deleted.
    #[must_use]
    pub fn going_with_these<'a>(&'a self, items: BTreeSet<&'a ItemId>) -> Vec<&'a Dependent> {
        let mut gone: BTreeSet<&ItemId> = self.leaving.iter().chain(items.iter().copied()).collect();
        let mut todo: Vec<&ItemId> = items.into_iter().collect();
        let mut going = Vec::new();
        while let Some(owner) = todo.pop() {
            for place in self.by_owner.get(owner).into_iter().flatten() {
                let dependent = &self.all[*place];
                if dependent.owners.iter().all(|owner| gone.contains(owner)) && gone.insert(&dependent.item) {
                    todo.push(&dependent.item);
                    going.push(dependent);
                }
            }
        }
        going
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(name: &str) -> ItemId {
        ItemId::new(GroupKind::new("", "Secret"), name)
    }

    /// Each name with the names of its owners.
    fn dependents(list: &[(&str, &[&str])]) -> Dependents {
        let mut dependents = Dependents::default();
        for (name, owners) in list {
            let reference = |name: &&str| json!({"apiVersion": "v1", "kind": "Secret", "name": name, "uid": "u"});
            let references: Vec<Value> = owners.iter().map(reference).collect();
            dependents.add(item(name), "v1", true, &json!({"metadata": {"ownerReferences": references}}));
        }
        dependents
    }

    fn names(going: &[&Dependent]) -> BTreeSet<String> {
        going.iter().map(|dependent| dependent.item.name.clone()).collect()
    }

    #[test]
    fn what_only_the_deleted_own_goes_and_what_that_owns() {
        let mut dependents = dependents(&[
            ("a", &["root"]),
            ("b", &["a"]),
            ("c", &["root", "other"]),
            ("d", &["c"]),
            ("e", &[]),
            ("f", &["b", "a"]),
        ]);
        assert_eq!(names(&dependents.going_with(&item("root"))), BTreeSet::from(["a", "b", "f"].map(str::to_owned)));
        assert_eq!(names(&dependents.going_with(&item("e"))), BTreeSet::new());
        dependents.add_leaving(item("other"));
        assert_eq!(
            names(&dependents.going_with(&item("root"))),
            BTreeSet::from(["a", "b", "c", "d", "f"].map(str::to_owned)),
            "nobody is left who owns it"
        );
        assert_eq!(names(&dependents.going_with_all()), BTreeSet::new());
        dependents.add_leaving(item("root"));
        assert_eq!(names(&dependents.going_with_all()).len(), 5);
    }

    #[test]
    fn objects_that_own_each_other_in_a_circle_go_once() {
        let dependents =
            dependents(&[("a", &["b"]), ("b", &["a", "root"]), ("c", &["c"]), ("d", &["root"]), ("e", &["d"])]);
        assert_eq!(names(&dependents.going_with(&item("root"))), BTreeSet::from(["d", "e"].map(str::to_owned)));
        assert_eq!(names(&dependents.going_with(&item("a"))), BTreeSet::new(), "somebody else owns the other one, too");
        assert_eq!(names(&dependents.going_with(&item("c"))), BTreeSet::new());
    }

    #[test]
    fn secrets_config_maps_and_claims_of_the_core_group_are_precious() {
        for kind in ["Secret", "ConfigMap", "PersistentVolumeClaim"] {
            assert!(is_precious(&GroupKind::new("", kind)), "{kind}");
            assert!(!is_precious(&GroupKind::new("example.com", kind)), "{kind} of another group");
        }
        assert!(!is_precious(&GroupKind::new("", "Service")));
    }

    #[test]
    fn owners_and_owned_are_related_and_an_object_knows_its_owners() {
        let dependents = dependents(&[("a", &["root", "other"]), ("free", &[])]);
        let related: BTreeSet<String> = dependents.related().map(|item| item.name).collect();
        assert_eq!(related, BTreeSet::from(["a", "root", "other"].map(str::to_owned)));
        assert_eq!(dependents.owners_of(&item("a")), BTreeSet::from([item("root"), item("other")]));
        assert_eq!(dependents.owners_of(&item("free")), BTreeSet::new());
    }

    #[test]
    fn what_is_owned_has_more_ancestors_than_its_owner_and_a_circle_ends() {
        let dependents = dependents(&[("b", &["a"]), ("c", &["b", "a"]), ("d", &["c"]), ("x", &["y"]), ("y", &["x"])]);
        let numbers = ["a", "b", "c", "d", "x"].map(|name| dependents.ancestors(&item(name)));
        assert_eq!(numbers, [0, 1, 2, 3, 1]);
    }

    #[test]
    fn what_stays_after_all_takes_nothing_along() {
        let mut dependents = dependents(&[("a", &["root"])]);
        dependents.add_leaving(item("root"));
        assert_eq!(names(&dependents.going_with_all()).len(), 1);
        dependents.add_staying(&item("root"));
        assert_eq!(names(&dependents.going_with_all()).len(), 0);
    }
}
