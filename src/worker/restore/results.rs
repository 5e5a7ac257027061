//! What became of the items of a plan, in its order.
//!
//! A plan may be as large as a tenant, so of each item its outcome is held and no more: the rest is made when it is asked for.

use crate::{
    api::operation_report::{ItemOutcome, ItemResult, Remark},
    items::plan::Plan,
};

/// What became of one item, and why where it did not go well.
pub type Ended = (ItemOutcome, Option<Box<Remark>>);

/// What became of every item of a plan.
#[derive(Debug)]
pub struct Results<'a> {
    plan: &'a Plan,
    ended: Vec<Ended>,
}

impl<'a> Results<'a> {
    /// `ended` has as many entries as the plan has items.
    #[must_use]
    pub fn new(plan: &'a Plan, ended: Vec<Ended>) -> Self {
        Self { plan, ended }
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// How many items ended like this.
    #[must_use]
    pub fn count(&self, outcome: ItemOutcome) -> usize {
        self.ended.iter().filter(|(ended, _)| *ended == outcome).count()
    }

    /// How the item at a place ended.
    #[must_use]
    pub fn outcome(&self, place: usize) -> ItemOutcome {
        self.ended[place].0
    }

    /// The result of the item at a place.
    #[must_use]
    pub fn result(&self, place: usize) -> ItemResult {
        let (planned, (outcome, reason)) = (&self.plan.items()[place], &self.ended[place]);
        let reason = reason.as_deref().cloned();
        ItemResult { item_id: planned.item.to_string(), action: planned.action, outcome: *outcome, reason }
    }

    /// The results of the items that failed.
    pub fn failed(&self) -> impl Iterator<Item = ItemResult> {
        let places = 0..self.len();
        places.filter(|place| self.outcome(*place) == ItemOutcome::Failed).map(|place| self.result(place))
    }
}
