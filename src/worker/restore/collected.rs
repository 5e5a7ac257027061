//! What the garbage collector takes with what is deleted: told in the plan, or a reason to delete nothing.

use crate::{
    api::item::ItemId,
    cluster::list::{ListSelection, Listing},
    items::{
        dependents::{Dependent, is_precious},
        owners,
        plan::{Action, Remark, reason},
    },
    worker::{
        failure::{Failure, api_failure},
        restore::{
            unknown::not_listed,
            walk::{Decided, Walk, live},
        },
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// What goes with its owner: as it is planned, or what it makes of its owner that it may not be looked at.
type Looked = BTreeMap<ItemId, Result<Decided, (Action, Remark)>>;

impl Walk<'_> {
    /// What the garbage collector takes with what is deleted, and this restore does not make again.
    pub(super) async fn decide_collected(&mut self, decided: &mut Vec<Decided>) -> Result<(), Failure> {
        self.spare_precious(decided);
        let mut looked = self.look_at_going(decided).await?;
        let unseen = looked.iter().filter_map(|(item, looked)| Some((item.clone(), looked.as_ref().err()?.clone())));
        self.spare_owners(decided, &unseen.collect());
        let going = self.going(decided);
        let names: BTreeSet<ItemId> = going.iter().map(|of| of.item.clone()).collect();
        // Whatever was said of them before: that they are left alone, above all. Why one cannot be made again is told still.
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

    /// Looks at what goes with its owner: each as it is planned, or why it may not be looked at.
    async fn look_at_going(&self, decided: &[Decided]) -> Result<Looked, Failure> {
        let mut looked = Looked::new();
        for dependent in self.going(decided) {
            let item = &dependent.item;
            let Some(served) = self.preferred(&item.kind) else { continue };
            let selected = ListSelection { name: Some(item.name.clone()), ..ListSelection::default() };
            let mut listing = Listing::new(self.client, served, &self.planner.namespace, &selected);
            let seen = match listing.next().await {
                Ok(Some(Ok(object))) => {
                    let live = live(self.rules, served, object);
                    let owners = owners::owners(&live.object);
                    Ok(Decided { planned: self.planner.collected(&dependent, &live), owners, diff: None })
                }
                Ok(_) => continue,
                Err(error @ kube::Error::Api(_)) => {
                    let so_that = format!("{item}, which the garbage collector would take with it, could not be kept");
                    Err(not_listed(&item.kind, &error, &so_that))
                }
                Err(error) => return Err(api_failure(&format!("look at {item}, which goes with its owner"), &error)),
            };
            looked.insert(item.clone(), seen);
        }
        Ok(looked)
    }

    /// What goes with all that is deleted, and is not written anyway.
    fn going(&self, decided: &[Decided]) -> Vec<Dependent> {
        let written: BTreeSet<&ItemId> =
            decided.iter().filter(|of| of.planned.action.writes()).map(|of| &of.planned.item).collect();
        let all = self.planner.dependents.going_with_all().into_iter();
        all.filter(|of| of.told && !written.contains(&of.item)).cloned().collect()
    }

    /// An owner stays where what would go with it was to be made again, and cannot be.
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

    /// What is deleted, or made anew, stays where one of these would go with it.
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
