//! Results of the items of a plan, in its order.
//!
//! A plan may be as large as a tenant, so only the outcome of each item is kept, with its reason.
//! The rest is built on demand.

use crate::{
    api::operation_report::{ItemOutcome, ItemResult, Remark},
    items::plan::Plan,
};

/// Outcome of one item, with the reason if it was not successful.
pub type Ended = (ItemOutcome, Option<Box<Remark>>);

/// Results of all items of a plan.
#[derive(Debug)]
pub struct Results<'a> {
    plan: &'a Plan,
    ended: Vec<Ended>,
}

impl<'a> Results<'a> {
    /// Creates results. `ended` has as many entries as the plan has items.
    #[must_use]
    pub fn new(plan: &'a Plan, ended: Vec<Ended>) -> Self {
        Self { plan, ended }
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ended.len()
    }

    /// Whether there are no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ended.is_empty()
    }

    /// Number of items with this outcome.
    #[must_use]
    pub fn count(&self, outcome: ItemOutcome) -> usize {
        self.ended.iter().filter(|(ended, _)| *ended == outcome).count()
    }

    /// Outcome of the item at a place.
    #[must_use]
    pub fn outcome(&self, place: usize) -> ItemOutcome {
        self.ended[place].0
    }

    /// Result of the item at a place.
    #[must_use]
    pub fn result(&self, place: usize) -> ItemResult {
        let (planned, (outcome, reason)) = (&self.plan.items()[place], &self.ended[place]);
        let reason = reason.as_deref().cloned();
        ItemResult { item_id: planned.item.to_string(), action: planned.action, outcome: *outcome, reason }
    }

    /// Results of the failed items.
    pub fn failed(&self) -> impl Iterator<Item = ItemResult> {
        let places = 0..self.len();
        places.filter(|place| self.outcome(*place) == ItemOutcome::Failed).map(|place| self.result(place))
    }
}
