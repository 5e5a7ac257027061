//! `tenantatlas worker restore`: executes a plan.
//!
//! Steps, and what a crash in each of them leaves behind:
//! 1. Take the plan of the preview or of an earlier attempt, or make one and store it: documents
//!    that the next attempt finds.
//! 2. Compare the plan of a preview with the current state. If anything has changed, nothing is
//!    written.
//! 3. Capture the objects that are about to change or be deleted: a snapshot that the next attempt
//!    finds.
//! 4. Check again that the restore is still wanted, and record the intent in the audit chain: an
//!    entry that the next attempt finds. If the intent cannot be recorded, nothing is written.
//! 5. Write item by item: written items are in their wanted state, and the next attempt counts them
//!    as done.
//! 6. Write the results, record the outcome in the audit chain, and report the result.

use crate::{
    api::reason::restore as reason,
    api::{
        Outcome, Reason,
        item::ItemId,
        operation_report::ItemOutcome,
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        provenance::MadePlan,
        result::{ResultContext, TerminationResult},
    },
    clock::Clock,
    items::{
        eligible::PreviewedPlan,
        plan::{Moved, Plan, PlannedItem, Terms, first_of, moved},
    },
    operations::intent::{Record, Subject, not_begun},
    operations::restore::{
        carry::Carrier,
        claim,
        made::{self, make},
        order::{self, Cause, Order},
        safety::{self, Undo},
        stored_plan,
        survey::Survey,
        walk::Ask,
    },
    providers::{AT_ONCE, Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::{Repository, WriterPermit},
    worker::{
        audit,
        environment::{Environment, RunIdentity},
        failure::Failure,
        fence,
        progress::Progress,
        report::{self, Contents},
        results::Results,
        stop::Stop,
    },
};
use kube::Client;
use std::collections::BTreeMap;

/// Executes a restore.
pub async fn apply(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    clock: &dyn Clock,
    stop: &Stop,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    apply_to(&provider, client, environment, repository, clock, stop, permit).await
}

/// The same to any provider. `client` reaches the run and its records.
pub async fn apply_to(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    clock: &dyn Clock,
    stop: &Stop,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    tracing::info!("restoring");
    let provider = Bounded::new(provider);
    let inputs = order::read_inputs(environment)?;
    let order = order::read(client, environment, repository, &inputs, false).await?;
    let survey = Survey::take(&provider, environment, repository, order).await?;
    let identity = &environment.identity;
    let plan = match &survey.order.preview {
        Some(preview) => {
            let plan = stored(repository, preview, survey.order.terms.clone()).await?;
            let moved = moved_meanwhile(client, identity, &survey, &plan).await?;
            if !moved.is_empty() {
                return Err(Failure::blocked(
                    reason::PREVIEW_STALE,
                    format!(
                        "make another preview, with excludeItems for what changes by itself, such as by a heartbeat: nothing was written, because not everything is as the preview showed it: {}",
                        first_of(&moved)
                    ),
                ));
            }
            plan
        }
        None => own(client, identity, repository, &survey).await?,
    };
    let claim = async || claim::take(client, environment, &inputs, false).await.map(drop);
    let manner = Manner { at_once: AT_ONCE, words: &RESTORED, clock, stop, permit };
    carry_out(client, environment, repository, &survey, &plan, manner, claim).await
}

/// How a plan is carried out, and in which words its result is reported.
pub struct Manner<'a> {
    /// How many items are written at once.
    pub at_once: usize,
    /// The words of the result.
    pub words: &'a Words,
    /// The time, for the records.
    pub clock: &'a dyn Clock,
    /// Once it is set, nothing more is written.
    pub stop: &'a Stop,
    /// Excludes maintenance of the repository.
    pub permit: WriterPermit,
}

/// The words in which a result is reported.
pub struct Words {
    /// The reason if nothing succeeded.
    pub nothing: &'static str,
    /// What was done with an item.
    pub done: &'static str,
    /// What holds for an item with which nothing had to be done.
    pub unchanged: &'static str,
}

const RESTORED: Words =
    Words { nothing: reason::NOTHING_RESTORED, done: "written", unchanged: "were as they should be" };

/// Carries a plan out: captures what is about to change, records the intent once `claim` finds that
/// the work is still wanted, writes, and records the outcome.
pub async fn carry_out(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    survey: &Survey<'_>,
    plan: &Plan,
    manner: Manner<'_>,
    claim: impl AsyncFnOnce() -> Result<(), Failure>,
) -> Result<TerminationResult, Failure> {
    let Manner { at_once, words, clock, stop, permit } = manner;
    let identity = &environment.identity;
    let undo = if survey.order.safety_capture {
        safety::capture(client, environment, repository, survey, plan, clock, permit).await?
    } else {
        None
    };
    let run = fence::pass(client, identity).await?;
    claim().await?;
    let subject = subject(&survey.order, plan);
    let record = Record::begin(client, identity, clock, &run.spec.operation_type, subject).await?;
    let mut walk = survey.walk(Ask::Nobody);
    walk.prepare().await?;
    let progress = Progress::of(client.clone(), identity);
    let kept = undo.as_ref().map(|undo| (undo.set.clone(), undo.unkept.clone()));
    let results = Carrier::new(walk, plan, kept, at_once, progress, stop.clone()).carry().await?;
    if stop.is_set() {
        fence::expect_cancelled(client, identity).await?;
    }
    let mut result = to_result(plan, &results, &survey.inventory.unmatched, undo, words);
    report::write(client, identity, Contents::Results(&results)).await?;
    if !report::name_all_failed(&results) {
        let failed: Vec<String> = results.failed().map(|result| result.item_id).collect();
        stored_plan::put_failed(repository, &identity.run_uid, &failed).await?;
    }
    result.context.audit = Some(record.end(&result).await?);
    Ok(result)
}

/// What both audit entries say.
fn subject(order: &Order, plan: &Plan) -> Subject {
    let (restore_run, backup_set, bulk_operation_run, change) = match order.cause.clone() {
        Cause::Restore { restore_run, backup_set } => (Some(restore_run), Some(backup_set), None, None),
        Cause::Deletion { bulk_operation_run, change } => (None, None, Some(bulk_operation_run), Some(change)),
    };
    Subject {
        who: order.requested_by.clone(),
        restore_run,
        bulk_operation_run,
        approval: order.approval.clone(),
        change,
        backup_set,
        plan_digest: plan.digest(),
        summary: plan.summary(),
    }
}

/// The plan that a preview made.
pub async fn stored(repository: &impl Repository, preview: &PreviewedPlan, terms: Terms) -> Result<Plan, Failure> {
    let stored = stored_plan::read(repository, &preview.run.uid, &preview.digest, terms).await?;
    stored.ok_or_else(|| {
        let message = "make another preview: the plan of this one is not all there, or was changed";
        Failure::blocked(reason::PLAN_LOST, message)
    })
}

/// What has changed since a preview made the plan. If an earlier attempt of this run found nothing
/// changed, it may have written since: then what has changed by now fails by itself.
pub async fn moved_meanwhile(
    client: &Client,
    identity: &RunIdentity,
    survey: &Survey<'_>,
    plan: &Plan,
) -> Result<Vec<Moved>, Failure> {
    let now = make(survey, Ask::Nobody).await?;
    let moved = moved_since(plan, now.plan(), survey.order.terms.is_deletion());
    if moved.is_empty() || audit::has_intent(client, identity).await.map_err(|failure| not_begun(&failure))? {
        return Ok(Vec::new());
    }
    Ok(moved)
}

/// Items that differ from the preview, including changes by another restore of the same preview. A
/// second restore would record objects that the first one created as absent, and undoing it would
/// delete them.
fn moved_since(preview: &Plan, now: &Plan, is_deletion: bool) -> Vec<Moved> {
    let is_collected = |plan: &Plan, item: &ItemId| plan.find(item).is_some_and(PlannedItem::is_collected);
    // A preview knows better which owners are deleted: it has tested which recreations make a
    // difference. A deletion recreates nothing: what its owners have gained is new.
    let only_unasked =
        |moved: &Moved| !is_deletion && is_collected(now, &moved.item) && !is_collected(preview, &moved.item);
    moved(preview, now).into_iter().filter(|moved| !only_unasked(moved)).collect()
}

/// The plan of this run: that of an earlier attempt, or a new one, stored before the first write.
async fn own(
    client: &Client,
    identity: &RunIdentity,
    repository: &impl Repository,
    survey: &Survey<'_>,
) -> Result<Plan, Failure> {
    let terms = survey.order.terms.clone();
    let run_uid = &identity.run_uid;
    let plan = if let Some(digest) = stored_plan::digest(repository, run_uid).await? {
        stored_plan::read(repository, run_uid, &digest, terms).await?.ok_or_else(|| {
            let message = "restore again with a new run: the plan that an earlier attempt stored was changed";
            Failure::blocked(reason::PLAN_LOST, message)
        })?
    } else {
        let plan = make(survey, Ask::Nobody).await?.into_plan();
        stored_plan::put(repository, run_uid, &plan).await?;
        plan
    };
    // The API server was not asked, so there are no diffs to show.
    report::write(client, identity, Contents::Plan(&plan, &BTreeMap::new())).await?;
    Ok(plan)
}

fn to_result(
    plan: &Plan,
    results: &Results<'_>,
    unmatched: &[usize],
    undo: Option<Undo>,
    words: &Words,
) -> TerminationResult {
    let count = |outcome: ItemOutcome| i64::try_from(results.count(outcome)).unwrap_or(i64::MAX);
    let (done, unchanged) = (count(ItemOutcome::Done), count(ItemOutcome::Unchanged));
    let failed = count(ItemOutcome::Failed) + i64::try_from(unmatched.len()).unwrap_or(i64::MAX);
    let skipped = count(ItemOutcome::Skipped);
    let total = done + unchanged + failed + skipped;
    let (outcome, reason) = match (failed, done + unchanged) {
        (0, _) => (Outcome::Succeeded, Reason::Succeeded.to_string()),
        (_, 0) => (Outcome::Failed, words.nothing.to_owned()),
        _ => (Outcome::PartiallySucceeded, Reason::PartiallySucceeded.to_string()),
    };
    let of_items = results.failed().map(|result| {
        let (reason_code, message) =
            result.reason.map_or_else(Default::default, |reason| (reason.code, reason.message));
        ItemFailure { item_id: result.item_id, reason_code, message, failure_type: FailureType::Failure }
    });
    let all = unmatched.iter().map(|place| made::unmatched(*place)).chain(of_items);
    let mut failures: Vec<ItemFailure> = all.take(MAX_FAILURES + 1).collect();
    let failures_truncated = failures.len() > MAX_FAILURES;
    failures.truncate(MAX_FAILURES);
    TerminationResult {
        outcome: Some(outcome),
        reason: Some(reason),
        message: Some(format!(
            "{done} items {}, {unchanged} {}, {skipped} left alone, {failed} failed",
            words.done, words.unchanged
        )),
        summary_counts: Some(SummaryCounts { total, processed: total, succeeded: done + unchanged, failed, skipped }),
        failures,
        failures_truncated,
        context: ResultContext {
            undo_set: undo.as_ref().map(|undo| undo.set.clone()),
            snapshot: undo.map(|undo| undo.snapshot),
            plan: Some(MadePlan { digest: plan.digest(), summary: plan.summary() }),
            ..ResultContext::default()
        },
    }
}
