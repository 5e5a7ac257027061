//! Objects that the garbage collector deletes together with deleted owners: reported in the plan,
//! or a reason to delete nothing.

#![deny(clippy::disallowed_types)]

use crate::{
    api::item::ItemId,
    api::reason::item as reason,
    items::{
        dependents::{Dependent, is_precious},
        owners,
        plan::{Action, Remark},
    },
    operations::restore::{
        join::live,
        unknown::not_listed,
        walk::{Decided, Walk},
    },
    providers::call::ListSelection,
    worker::failure::{Failure, call_failure},
};
use std::collections::{BTreeMap, BTreeSet};

/// Dependents of deleted owners: each as planned, or, if it cannot be read, the consequence for its
/// owner.
type Looked = BTreeMap<ItemId, Result<Decided, (Action, Remark)>>;

impl Walk<'_> {
    /// Plans the objects that the garbage collector deletes with their owners and that this restore
    /// does not recreate.
    pub(super) async fn decide_collected(&mut self, decided: &mut Vec<Decided>) -> Result<(), Failure> {
        self.spare_precious(decided);
        let mut looked = self.look_at_going(decided).await?;
        let unseen = looked.iter().filter_map(|(item, looked)| Some((item.clone(), looked.as_ref().err()?.clone())));
        self.spare_owners(decided, &unseen.collect());
        let going = self.going(decided);
        let names: BTreeSet<ItemId> = going.iter().map(|of| of.item.clone()).collect();
        // Replaces what was decided about them before, usually to leave them alone. The reason why
        // one cannot be recreated is still reported.
        let refused = |of: &Decided| of.planned.reason.clone().filter(|_| of.planned.action.fails());
        let mut refusals: BTreeMap<ItemId, Remark> = decided
            .iter()
            .filter(|of| names.contains(&of.planned.item))
            .filter_map(|of| Some((of.planned.item.clone(), refused(of)?)))
            .collect();
        decided.retain(|of| !names.contains(&of.planned.item));
        for item in names {
            let Some(Ok(mut collected)) = looked.remove(&item) else { continue };
            collected.planned.warnings.extend(refusals.remove(&item));
            decided.push(collected);
        }
        Ok(())
    }

    /// Reads the dependents of deleted owners: each as planned, or why it cannot be read.
    async fn look_at_going(&self, decided: &[Decided]) -> Result<Looked, Failure> {
        let mut looked = Looked::new();
        for dependent in self.going(decided) {
            let item = &dependent.item;
            if let Some(why) = self.planner.hides(&item.kind) {
                let message = format!("{why}, and the garbage collector would take one with it");
                looked.insert(item.clone(), Err((Action::Forbidden, Remark::new(reason::FORBIDDEN, message))));
                continue;
            }
            let Some(served) = self.preferred(&item.kind) else { continue };
            let selected = ListSelection { name: Some(item.name.clone()), ..ListSelection::default() };
            let mut listing = self.provider.list(served, &selected);
            let seen = match listing.next().await {
                Ok(Some(Ok(object))) => {
                    let live = live(self.rules, served, object);
                    let owners = owners::owners(&live.object);
                    Ok(Decided { planned: self.planner.collected(&dependent, &live), owners, diff: None })
                }
                Ok(_) => continue,
                Err(fault) if fault.is_refusal() => {
                    let so_that = format!("{item}, which the garbage collector would take with it, could not be kept");
                    Err(not_listed(&item.kind, &fault, &so_that))
                }
                Err(fault) => return Err(call_failure(&format!("look at {item}, which goes with its owner"), &fault)),
            };
            looked.insert(item.clone(), seen);
        }
        Ok(looked)
    }

    /// Dependents that are deleted with all deleted owners, except those that are written anyway.
    fn going(&self, decided: &[Decided]) -> Vec<Dependent> {
        let written: BTreeSet<&ItemId> =
            decided.iter().filter(|of| of.planned.action.writes()).map(|of| &of.planned.item).collect();
        let all = self.planner.dependents.going_with_all().into_iter();
        all.filter(|of| of.told && !written.contains(&of.item)).cloned().collect()
    }

    /// Keeps an owner if the garbage collector would delete a Secret, ConfigMap or claim with it
    /// that this restore does not recreate.
    fn spare_precious(&mut self, decided: &mut [Decided]) {
        if self.planner.terms.allow_data_loss {
            return;
        }
        let precious: BTreeSet<ItemId> =
            self.going(decided).into_iter().map(|of| of.item).filter(|item| is_precious(&item.kind)).collect();
        if precious.is_empty() {
            return;
        }
        let why = |item: ItemId| {
            let message = format!(
                "set allowDataLoss to do it all the same, or exclude the item: the garbage collector would take {item}, which cannot be made again"
            );
            (item, (Action::Conflict, Remark::new(reason::DATA_LOSS, message)))
        };
        self.spare_owners(decided, &precious.into_iter().map(why).collect());
    }

    /// Keeps objects that are to be deleted or recreated if one of `spared` would be deleted with
    /// them.
    fn spare_owners(&mut self, decided: &mut [Decided], spared: &BTreeMap<ItemId, (Action, Remark)>) {
        for one in decided {
            let planned = &mut one.planned;
            if spared.is_empty() || !matches!(planned.action, Action::Delete | Action::Recreate) {
                continue;
            }
            let going = self.planner.dependents.going_with(&planned.item);
            let Some((action, remark)) = going.into_iter().find_map(|of| spared.get(&of.item)) else { continue };
            planned.action = *action;
            planned.reason = Some(remark.clone());
            self.planner.dependents.add_staying(&planned.item);
        }
    }
}
