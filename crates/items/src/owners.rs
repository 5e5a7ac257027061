//! Owner references of restored objects: owners are found by name, because their uids are new.
//!
//! The garbage collector deletes an object if none of its owners' uids exists. A uid from a backup
//! is therefore never written: a reference gets the uid that its owner has now, or is removed. An
//! object that a controller made is left to that controller if the controller's object is restored
//! too.
//!
//! A cluster-scoped owner can seldom be read with a tenant's rights. An owner reference on the live
//! object shows that such an owner exists: otherwise the garbage collector would have deleted the
//! live object.

use crate::api::item::{GroupKind, ItemId};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Prefix of a stand-in for the uid of an owner that has none yet. Used in plans, and never
/// written.
const PENDING: &str = "pending:";

/// The possible owners of an object: the items of a restore, and the live objects of the namespace.
///
/// Deleted and recreated objects must be recorded before the objects that they own are decided.
/// Otherwise a child would get an owner that is deleted, and be garbage-collected with that owner.
#[derive(Clone, Debug, Default)]
pub struct Family {
    restored: BTreeSet<ItemId>,
    live: BTreeMap<ItemId, String>,
    renewed: BTreeSet<ItemId>,
    namespaced: BTreeSet<GroupKind>,
    remade: BTreeSet<ItemId>,
    gone: BTreeSet<ItemId>,
}

impl Family {
    /// Starts with the namespaced kinds. Owners of other kinds are not among the items of a
    /// restore.
    #[must_use]
    pub fn of(namespaced: impl IntoIterator<Item = GroupKind>) -> Self {
        Self { namespaced: namespaced.into_iter().collect(), ..Self::default() }
    }

    /// Whether the kind of an owner is namespaced.
    #[must_use]
    pub fn is_namespaced(&self, owner: &ItemId) -> bool {
        self.namespaced.contains(&owner.kind)
    }

    /// Records an item that is part of this restore.
    pub fn add_restored(&mut self, item: ItemId) {
        self.restored.insert(item);
    }

    /// Records a live object, with its uid. The uid is then no longer pending.
    pub fn add_live(&mut self, item: ItemId, uid: impl Into<String>) {
        self.renewed.remove(&item);
        self.live.insert(item, uid.into());
    }

    /// Records an object that gets another uid before its children are written.
    pub fn add_renewed(&mut self, item: ItemId) {
        self.renewed.insert(item);
    }

    /// Records an item of this restore that is left as it is, whether it exists or not.
    pub fn add_left(&mut self, item: &ItemId) {
        self.restored.remove(item);
    }

    /// Records an item of this restore that is left to its controller, which recreates it.
    pub fn add_left_to_owner(&mut self, item: &ItemId) {
        self.restored.remove(item);
        self.remade.insert(item.clone());
    }

    /// Reverts [`Self::add_left_to_owner`] for an item that is decided again: whether its
    /// controller recreates it is open.
    pub fn add_again(&mut self, item: &ItemId) {
        if self.remade.remove(item) {
            self.restored.insert(item.clone());
        }
    }

    /// Records an object that keeps its uid after all.
    pub fn add_kept(&mut self, item: &ItemId) {
        self.renewed.remove(item);
    }

    /// Sets the objects that are deleted for good, or garbage-collected with those: they no longer
    /// own anything.
    pub fn set_gone(&mut self, gone: BTreeSet<ItemId>) {
        self.gone = gone;
    }

    /// Whether an item is part of this restore, and not left as it is.
    #[must_use]
    pub fn is_restored(&self, item: &ItemId) -> bool {
        self.restored.contains(item)
    }

    /// The uid to write for an owner that exists or will exist.
    fn uid(&self, owner: &ItemId) -> Option<String> {
        match self.live.get(owner) {
            _ if self.gone.contains(owner) => None,
            Some(uid) if !self.renewed.contains(owner) => Some(uid.clone()),
            _ if self.restored.contains(owner) || self.renewed.contains(owner) => Some(format!("{PENDING}{owner}")),
            _ => None,
        }
    }

    /// A hash of what a decision about a child assumes about its owners. If two hashes are equal,
    /// no assumption has changed.
    #[must_use]
    pub fn standing(&self, owners: &[ItemId]) -> u64 {
        let mut hasher = DefaultHasher::new();
        for owner in owners {
            (self.uid(owner), self.comes(owner)).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Whether this restore or a controller creates an item.
    fn comes(&self, item: &ItemId) -> bool {
        self.restored.contains(item) || self.remade.contains(item)
    }

    /// The controller that a child is left to: its object is restored too, so it recreates the
    /// child. Only kinds that a capture leaves to controllers are considered, because for other
    /// kinds it is unknown whether their controller recreates them.
    #[must_use]
    pub fn left_to(&self, kind: &GroupKind, object: &Value) -> Option<ItemId> {
        controller(object).filter(|owner| is_made_by_controllers(kind) && self.comes(owner))
    }

    /// Gives each reference the uid that its owner has now; `live` is the live version of the
    /// object. References to owners that do not exist are removed, and those owners are returned.
    pub fn adopt(&self, object: &mut Value, live: Option<&Value>) -> Vec<ItemId> {
        let mut missing = Vec::new();
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return missing };
        let Some(references) = metadata.get_mut("ownerReferences") else { return missing };
        if let Some(references) = references.as_array_mut() {
            references.retain_mut(|reference| {
                let owner = owner(reference);
                let borne =
                    |owner: &ItemId| live.filter(|_| !self.is_namespaced(owner)).and_then(|live| borne(live, owner));
                let uid = owner.as_ref().and_then(|owner| self.uid(owner).or_else(|| borne(owner)));
                if let (Some(uid), Some(reference)) = (uid, reference.as_object_mut()) {
                    reference.insert("uid".to_owned(), uid.into());
                    return true;
                }
                missing.extend(owner);
                false
            });
        }
        if references.as_array().is_none_or(Vec::is_empty) {
            metadata.remove("ownerReferences");
        }
        missing
    }
}

/// The uid of an owner in the object's own reference.
fn borne(object: &Value, of: &ItemId) -> Option<String> {
    let same = references(object).find(|reference| owner(reference).as_ref() == Some(of))?;
    same["uid"].as_str().map(str::to_owned)
}

/// Whether the cluster's controllers create objects of a kind, and recreate those that they
/// control.
#[must_use]
pub fn is_made_by_controllers(kind: &GroupKind) -> bool {
    matches!((kind.group.as_str(), kind.kind.as_str()), ("", "Pod") | ("apps", "ReplicaSet") | ("batch", "Job"))
}

/// The owners of an object, by kind and name.
#[must_use]
pub fn owners(object: &Value) -> Vec<ItemId> {
    references(object).filter_map(owner).collect()
}

/// The owner that controls an object.
#[must_use]
pub fn controller(object: &Value) -> Option<ItemId> {
    references(object).find(|reference| reference["controller"] == true).and_then(owner)
}

/// Removes the references to owners whose uid is not known yet.
pub fn remove_pending(object: &mut Value) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let Some(references) = metadata.get_mut("ownerReferences").and_then(Value::as_array_mut) else { return };
    references.retain(|reference| !is_pending(reference));
    if references.is_empty() {
        metadata.remove("ownerReferences");
    }
}

fn is_pending(reference: &Value) -> bool {
    reference["uid"].as_str().is_some_and(|uid| uid.starts_with(PENDING))
}

/// Owners whose uid is not known yet. Until it is known, the object cannot be written.
#[must_use]
pub fn pending(object: &Value) -> Vec<ItemId> {
    references(object).filter(|reference| is_pending(reference)).filter_map(owner).collect()
}

fn references(object: &Value) -> impl Iterator<Item = &Value> {
    object["metadata"]["ownerReferences"].as_array().into_iter().flatten()
}

fn owner(reference: &Value) -> Option<ItemId> {
    let api_version = reference["apiVersion"].as_str()?;
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Some(ItemId::new(GroupKind::new(group, reference["kind"].as_str()?), reference["name"].as_str()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(kind: &str, name: &str) -> ItemId {
        ItemId::new(GroupKind::new("example.com", kind), name)
    }

    fn reference(kind: &str, name: &str, uid: &str, controller: bool) -> Value {
        json!({"apiVersion": "example.com/v1", "kind": kind, "name": name, "uid": uid, "controller": controller})
    }

    fn owned_by(references: &[Value]) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child", "ownerReferences": references}})
    }

    #[test]
    fn a_reference_gets_the_uid_its_owner_has_now_and_one_to_nobody_goes() {
        let mut family = Family::default();
        family.add_live(item("Widget", "there"), "new");
        let mut child =
            owned_by(&[reference("Widget", "there", "old", true), reference("Widget", "gone", "old", false)]);
        assert_eq!(family.adopt(&mut child, None), [item("Widget", "gone")]);
        assert_eq!(child, owned_by(&[reference("Widget", "there", "new", true)]));
        let mut orphan = owned_by(&[reference("Widget", "gone", "old", true)]);
        family.adopt(&mut orphan, None);
        assert_eq!(orphan["metadata"], json!({"name": "child"}), "an empty list would differ from none");
    }

    #[test]
    fn an_owner_that_is_made_first_gives_its_uid_when_it_has_one() {
        let mut family = Family::default();
        family.add_restored(item("Widget", "w"));
        let stored = owned_by(&[reference("Widget", "w", "old", false)]);
        let mut child = stored.clone();
        assert_eq!(family.adopt(&mut child, None), []);
        assert_eq!(pending(&child), [item("Widget", "w")]);
        family.add_live(item("Widget", "w"), "new");
        let mut child = stored;
        family.adopt(&mut child, None);
        assert_eq!(pending(&child), []);
        assert_eq!(child["metadata"]["ownerReferences"][0]["uid"], "new");
    }

    #[test]
    fn the_uid_of_an_owner_that_is_recreated_is_not_the_one_it_has_now() {
        let mut family = Family::default();
        family.add_live(item("Widget", "w"), "old");
        family.add_renewed(item("Widget", "w"));
        let mut child = owned_by(&[reference("Widget", "w", "old", false)]);
        family.adopt(&mut child, None);
        assert_eq!(pending(&child), [item("Widget", "w")]);
    }

    #[test]
    fn a_child_is_left_to_its_controller_only_if_that_is_restored_too_and_makes_the_like() {
        let mut family = Family::default();
        let pod = GroupKind::new("", "Pod");
        let child = owned_by(&[reference("Widget", "w", "u", true)]);
        family.add_live(item("Widget", "w"), "u");
        assert_eq!(family.left_to(&pod, &child), None);
        family.add_restored(item("Widget", "w"));
        assert_eq!(family.left_to(&pod, &child), Some(item("Widget", "w")));
        assert_eq!(family.left_to(&pod, &owned_by(&[reference("Widget", "w", "u", false)])), None);
        for kind in ["Secret", "ConfigMap", "PersistentVolumeClaim", "Service"] {
            assert_eq!(family.left_to(&GroupKind::new("", kind), &child), None, "a password that was made up is gone");
        }
        family.add_left(&item("Widget", "w"));
        assert_eq!(family.left_to(&pod, &child), None, "a controller that is not restored makes nothing");
    }

    #[test]
    fn what_is_written_before_its_owner_bears_no_reference_to_it_yet() {
        let mut family = Family::default();
        family.add_restored(item("Widget", "w"));
        family.add_live(item("Widget", "there"), "u");
        let mut child = owned_by(&[reference("Widget", "w", "old", true), reference("Widget", "there", "old", false)]);
        family.adopt(&mut child, None);
        remove_pending(&mut child);
        assert_eq!(child, owned_by(&[reference("Widget", "there", "u", false)]));
        let mut orphan = owned_by(&[reference("Widget", "w", "old", true)]);
        family.adopt(&mut orphan, None);
        remove_pending(&mut orphan);
        assert_eq!(orphan["metadata"], json!({"name": "child"}));
    }

    #[test]
    fn an_owner_that_lives_in_no_namespace_is_there_if_the_live_object_bears_it() {
        let family = Family::of([GroupKind::new("example.com", "Widget")]);
        let stored = owned_by(&[reference("Node", "n1", "old", true)]);
        let mut child = stored.clone();
        assert_eq!(family.adopt(&mut child, Some(&owned_by(&[reference("Node", "n1", "now", false)]))), []);
        assert_eq!(child, owned_by(&[reference("Node", "n1", "now", true)]));
        for live in [None, Some(owned_by(&[reference("Node", "n2", "now", true)])), Some(owned_by(&[]))] {
            let mut child = stored.clone();
            assert_eq!(family.adopt(&mut child, live.as_ref()), [item("Node", "n1")], "its uid may be of nobody");
            assert_eq!(child["metadata"], json!({"name": "child"}));
        }
        let mut child = owned_by(&[reference("Widget", "w", "old", true)]);
        let live = child.clone();
        assert_eq!(family.adopt(&mut child, Some(&live)), [item("Widget", "w")], "it would have been found");
    }

    #[test]
    fn references_of_any_shape_are_dealt_with() {
        for odd in [json!(null), json!({}), json!([1, null, {"kind": "X"}]), json!([])] {
            let mut child = json!({"metadata": {"name": "a", "ownerReferences": odd}});
            assert_eq!(Family::default().adopt(&mut child, None), []);
            assert_eq!(child, json!({"metadata": {"name": "a"}}));
        }
        Family::default().adopt(&mut json!(3), None);
    }

    #[test]
    fn what_is_left_to_its_controller_is_not_restored_but_comes_until_it_is_decided_again() {
        let (mut family, child) = (Family::default(), item("Widget", "w"));
        let pod = owned_by(&[reference("Widget", "w", "u", true)]);
        let left_to = |family: &Family| family.left_to(&GroupKind::new("", "Pod"), &pod);
        family.add_restored(child.clone());
        family.add_left_to_owner(&child);
        assert!(!family.is_restored(&child));
        assert_eq!(left_to(&family), Some(child.clone()), "its controller makes it, and it makes the Pod");
        family.add_again(&child);
        assert!(family.is_restored(&child));
        family.add_left(&child);
        assert_eq!(left_to(&family), None);
        family.add_again(&child);
        assert!(!family.is_restored(&child), "it was not left to a controller");
    }

    #[test]
    fn what_a_decision_assumes_of_owners_stands_until_a_uid_or_a_restore_changes() {
        let (mut family, owner) = (Family::default(), item("Widget", "w"));
        let owners = [owner.clone()];
        let mut seen = vec![family.standing(&owners)];
        family.add_restored(owner.clone());
        seen.push(family.standing(&owners));
        family.add_live(owner.clone(), "old");
        let known = family.standing(&owners);
        seen.push(known);
        family.add_renewed(owner.clone());
        assert_ne!(family.standing(&owners), known, "it gets another uid");
        family.add_kept(&owner);
        assert_eq!(family.standing(&owners), known, "it keeps its uid after all");
        family.set_gone(BTreeSet::from([owner]));
        seen.push(family.standing(&owners));
        let different: BTreeSet<u64> = seen.iter().copied().collect();
        assert_eq!(different.len(), seen.len());
    }
}
