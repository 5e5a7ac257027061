//! What a preview of a bulk operation found, and the result of its run. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Outcome, Reason,
        item::ItemId,
        operation_report::Action,
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        provenance::MadePlan,
        result::{ResultContext, TerminationResult},
    },
    items::{
        bulk::State,
        plan::{PlannedItem, summary},
    },
};
use std::collections::BTreeMap;

/// Most bytes of diffs that are held for reports. Reports have room for few of them.
const MAX_DIFFS: usize = crate::api::operation_report::MAX_OF_ALL / 2;

/// What was found so far.
#[derive(Debug, Default)]
pub struct Made {
    counts: SummaryCounts,
    planned: Vec<PlannedItem>,
    states: Vec<State>,
    diffs: BTreeMap<ItemId, String>,
    bytes: usize,
}

impl Made {
    /// Nothing was found yet of so many objects.
    #[must_use]
    pub fn of(total: usize) -> Self {
        let total = i64::try_from(total).unwrap_or(i64::MAX);
        Self { counts: SummaryCounts { total, ..SummaryCounts::default() }, ..Self::default() }
    }

    /// Adds the next object. Once the diffs take too much room, objects have none.
    pub fn add(&mut self, planned: PlannedItem, state: State, diff: Option<String>) {
        if let Some(diff) = diff.filter(|diff| self.bytes + diff.len() <= MAX_DIFFS) {
            self.bytes += diff.len();
            self.diffs.insert(planned.item.clone(), diff);
        }
        self.counts.processed += 1;
        *match planned.action {
            Action::Skip => &mut self.counts.skipped,
            action if action.fails() => &mut self.counts.failed,
            _ => &mut self.counts.succeeded,
        } += 1;
        self.planned.push(planned);
        self.states.push(state);
    }

    /// What would be done, in the order of the names.
    #[must_use]
    pub fn planned(&self) -> &[PlannedItem] {
        &self.planned
    }

    /// What that depends on, in the same order.
    #[must_use]
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The diffs to show.
    #[must_use]
    pub fn diffs(&self) -> &BTreeMap<ItemId, String> {
        &self.diffs
    }

    /// Number of objects by what would become of them.
    #[must_use]
    pub fn counts(&self) -> SummaryCounts {
        self.counts
    }

    /// The result of the run.
    #[must_use]
    pub fn to_result(&self, digest: String) -> TerminationResult {
        let counts = self.counts;
        let summary = summary(self.planned.iter().map(|row| row.action));
        let (outcome, reason) = if counts.failed == 0 {
            (Outcome::Succeeded, Reason::Succeeded)
        } else {
            (Outcome::PartiallySucceeded, Reason::PartiallySucceeded)
        };
        let mut failures: Vec<ItemFailure> = self.planned.iter().filter_map(failure).collect();
        failures.sort_by_key(|failure| failure.failure_type == FailureType::Skipped);
        let failures_truncated = failures.len() > MAX_FAILURES;
        failures.truncate(MAX_FAILURES);
        TerminationResult {
            outcome: Some(outcome),
            reason: Some(reason.to_string()),
            message: Some(format!(
                "would change {}; {} unchanged, {} left alone, {} not possible",
                summary.update, summary.unchanged, summary.skip, counts.failed
            )),
            summary_counts: Some(counts),
            failures,
            failures_truncated,
            context: ResultContext { plan: Some(MadePlan { digest, summary }), ..ResultContext::default() },
        }
    }
}

/// An object that would fail or be skipped.
fn failure(planned: &PlannedItem) -> Option<ItemFailure> {
    let reason = planned.reason.as_ref().filter(|_| planned.action.fails() || planned.action == Action::Skip)?;
    Some(ItemFailure {
        item_id: planned.item.to_string(),
        reason_code: reason.code.clone(),
        message: reason.message.clone(),
        failure_type: if planned.action.fails() { FailureType::Failure } else { FailureType::Skipped },
    })
}
