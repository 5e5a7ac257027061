//! A plan as a worker makes it: what a restore would do to each item, with what users are shown of
//! it. No item is written, even if the provider is asked.

use crate::{
    api::reason::restore as reason,
    api::{
        Outcome, Reason,
        item::ItemId,
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        provenance::MadePlan,
        result::{ResultContext, TerminationResult},
    },
    items::plan::{Action, Plan, PlannedItem, Terms},
    operations::restore::{
        survey::Survey,
        walk::{Ask, Decided},
    },
    worker::{
        environment::RunIdentity,
        failure::Failure,
        progress::Progress,
        report::{self, Contents},
    },
};
use kube::Client;
use std::collections::BTreeMap;

/// A plan, with further information for users.
pub struct Made {
    plan: Plan,
    diffs: BTreeMap<ItemId, String>,
    unmatched: Vec<usize>,
}

/// Makes a plan. Writes nothing, even if the provider is asked.
pub async fn make(survey: &Survey<'_>, ask: Ask) -> Result<Made, Failure> {
    let mut walk = survey.walk(ask);
    walk.prepare().await?;
    let order = &survey.order;
    let decided = walk.decide(order.full, &order.absent).await?;
    tracing::info!(items = decided.len(), "planned");
    Ok(Made::new(order.terms.clone(), decided, survey.inventory.unmatched.clone()))
}

impl Made {
    fn new(terms: Terms, decided: Vec<Decided>, unmatched: Vec<usize>) -> Self {
        let mut diffs = BTreeMap::new();
        let items = decided.into_iter().map(|Decided { planned, owners, diff }| {
            diffs.extend(diff.map(|diff| (planned.item.clone(), diff)));
            (planned, owners)
        });
        let items = items.collect();
        Self { plan: Plan::new(terms, items), diffs, unmatched }
    }

    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The plan, without the information for users.
    #[must_use]
    pub fn into_plan(self) -> Plan {
        self.plan
    }

    /// Shows users the plan and its result: in the run's reports, and as its progress.
    pub async fn publish(&self, client: &Client, run: &RunIdentity, result: &TerminationResult) -> Result<(), Failure> {
        report::write(client, run, Contents::Plan(&self.plan, &self.diffs)).await?;
        Progress::of(client.clone(), run).finish(result.summary_counts.unwrap_or_default()).await;
        Ok(())
    }

    fn failures(&self) -> impl Iterator<Item = ItemFailure> {
        let unmatched = self.unmatched.iter().map(|place| unmatched(*place));
        unmatched.chain(self.plan.items().iter().filter_map(failure))
    }

    /// The result of the run.
    #[must_use]
    pub fn to_result(&self) -> TerminationResult {
        let mut failures: Vec<ItemFailure> = self.failures().take(MAX_FAILURES + 1).collect();
        let count = |test: fn(Action) -> bool| {
            i64::try_from(self.plan.items().iter().filter(|planned| test(planned.action)).count()).unwrap_or(i64::MAX)
        };
        let failed = count(Action::fails) + i64::try_from(self.unmatched.len()).unwrap_or(i64::MAX);
        let skipped = count(|action| action == Action::Skip);
        let succeeded = count(|action| action.writes() || action == Action::Unchanged);
        let total = failed + skipped + succeeded;
        let (outcome, reason) = if failed == 0 {
            (Outcome::Succeeded, Reason::Succeeded)
        } else {
            (Outcome::PartiallySucceeded, Reason::PartiallySucceeded)
        };
        let failures_truncated = failures.len() > MAX_FAILURES;
        failures.truncate(MAX_FAILURES);
        let summary = self.plan.summary();
        TerminationResult {
            outcome: Some(outcome),
            reason: Some(reason.to_string()),
            message: Some(format!(
                "would create {}, update {}, recreate {}, delete {}; {} unchanged, {} left alone, {failed} not possible",
                summary.create, summary.update, summary.recreate, summary.delete, summary.unchanged, summary.skip
            )),
            summary_counts: Some(SummaryCounts { total, processed: total, succeeded, failed, skipped }),
            failures,
            failures_truncated,
            context: ResultContext {
                plan: Some(MadePlan { digest: self.plan.digest(), summary }),
                ..ResultContext::default()
            },
        }
    }
}

/// An entry of `items` that matches nothing, as a failed item.
#[must_use]
pub fn unmatched(place: usize) -> ItemFailure {
    ItemFailure {
        item_id: format!("items[{place}]"),
        reason_code: reason::MATCHES_NOTHING.to_owned(),
        message: format!("spec.items[{place}] matches nothing in the backup set: correct it, or leave it out"),
        failure_type: FailureType::Failure,
    }
}

fn failure(planned: &PlannedItem) -> Option<ItemFailure> {
    let reason = planned.reason.as_ref().filter(|_| planned.action.fails())?;
    Some(ItemFailure {
        item_id: planned.item.to_string(),
        reason_code: reason.code.clone(),
        message: reason.message.clone(),
        failure_type: FailureType::Failure,
    })
}
