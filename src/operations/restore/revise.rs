//! Decides again about items whose owners turned out differently from what was assumed.
//!
//! Kinds are decided after the kinds of their owners. Still, an item can come before its owner:
//! kinds can own each other in a cycle, an owner can be of the same kind, and the dependents of a
//! deleted owner are known only after everything is decided.

#![deny(clippy::disallowed_types)]

use crate::{
    api::{item::ItemId, operation_report::Action},
    items::plan::PlannedItem,
    operations::restore::{
        inventory::StoredKind,
        walk::{Decided, Walk, tell_left},
    },
    worker::failure::Failure,
};
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of times that an item is decided. A plan that has not settled by then is executed
/// as far as it still applies.
const ROUNDS: usize = 16;

impl Walk<'_> {
    /// Records what a decision means for the item as an owner of others.
    pub(super) fn tell(&mut self, planned: &PlannedItem) {
        if !self.related.contains(&planned.item) {
            return;
        }
        if planned.action == Action::Recreate {
            self.planner.family.add_renewed(planned.item.clone());
            self.planner.dependents.add_leaving(planned.item.clone());
        } else if planned.action != Action::Delete {
            self.planner.family.add_kept(&planned.item);
            self.planner.dependents.add_staying(&planned.item);
        }
        tell_left(&mut self.planner.family, planned);
    }

    /// Records which objects are deleted for good, or deleted with their owners and not written
    /// themselves: they no longer own anything. Unrelated objects are skipped, because a plan may
    /// delete a whole tenant.
    pub(super) fn tell_gone<'p>(&mut self, planned: impl Iterator<Item = &'p PlannedItem>) {
        let (mut deleted, mut renewed, mut written) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for of in planned.filter(|of| self.related.contains(&of.item)) {
            let these = match of.action {
                Action::Delete => &mut deleted,
                Action::Recreate => &mut renewed,
                action if action.writes() => &mut written,
                _ => continue,
            };
            these.insert(&of.item);
        }
        let going = self.planner.dependents.going_with_these(deleted.union(&renewed).copied().collect());
        let collected = going.into_iter().map(|of| &of.item);
        let collected = collected.filter(|item| !written.contains(item) && !renewed.contains(item));
        let gone = collected.chain(deleted.iter().copied()).cloned().collect();
        self.planner.family.set_gone(gone);
    }

    /// Records what is assumed about the owners of items that are about to be decided.
    pub(super) fn assume(&mut self, kind: &StoredKind, takes: impl Fn(&str) -> bool) {
        let entries = self.inventory.kinds.get(kind).into_iter().flatten();
        for (name, entry) in entries.filter(|(name, entry)| !entry.owners.is_empty() && takes(name)) {
            let assumed = self.planner.family.standing(&entry.owners);
            self.assumed.insert(ItemId::new(kind.kind.clone(), name.as_str()), assumed);
        }
    }

    /// Decides again about items whose assumptions about their owners are stale. Returns false if
    /// there are none.
    pub(super) async fn revise(&mut self, decided: &mut Vec<Decided>) -> Result<bool, Failure> {
        if self.assumed.is_empty() {
            return Ok(false);
        }
        for round in 0..ROUNDS {
            for one in &*decided {
                self.tell(&one.planned);
            }
            self.tell_gone(decided.iter().map(|one| &one.planned));
            let is_stale = |one: &&Decided| {
                let open =
                    one.planned.action != Action::Delete && !one.planned.action.fails() && !one.owners.is_empty();
                let assumed = self.assumed.get(&one.planned.item);
                open && assumed.is_some_and(|assumed| *assumed != self.planner.family.standing(&one.owners))
            };
            let mut stale: BTreeMap<StoredKind, BTreeSet<String>> = BTreeMap::new();
            for one in decided.iter().filter(is_stale) {
                let item = &one.planned.item;
                let mut kinds = self.inventory.kinds.iter();
                let found = kinds.find(|(kind, entries)| kind.kind == item.kind && entries.contains_key(&item.name));
                if let Some((kind, _)) = found {
                    stale.entry(kind.clone()).or_default().insert(item.name.clone());
                }
            }
            if stale.is_empty() {
                return Ok(round > 0);
            }
            for (kind, names) in stale {
                decided.retain(|one| one.planned.item.kind != kind.kind || !names.contains(&one.planned.item.name));
                for name in &names {
                    self.planner.family.add_again(&ItemId::new(kind.kind.clone(), name.as_str()));
                }
                self.assume(&kind, |name| names.contains(name));
                decided.extend(self.settle_kind(&kind, |name| names.contains(name)).await?);
            }
        }
        Ok(true)
    }
}
