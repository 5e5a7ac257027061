//! `tenantatlas worker bulk`: one action on many objects, as a BulkOperationRun says.
//!
//! ```text
//! claim     whether the BulkOperationRun belongs to this run
//! order     the BulkOperationRun, and the preview that it applies
//! access    what the requester and the account that writes may do
//! survey    what is known before the first object is read, and how one is looked at
//! selected  which objects, the same in each attempt
//! expected  whether they are still what a preview found
//! carry     the objects, so many at once
//! found     what became of them
//! ```
//!
//! Steps, and what a crash in each of them leaves behind:
//! 1. Read the BulkOperationRun and what the requester may do: nothing.
//! 2. Select the objects and store their names: reports that only count once an intent names them.
//!    What applies a preview takes its objects, and compares all of them with what the preview found.
//! 3. Check again that the operation is still wanted, and record the intent in the audit chain: an
//!    entry that the next attempt finds, and with it the objects. If the intent cannot be recorded,
//!    nothing is written.
//! 4. Write object by object: written objects are as wanted, and the next attempt leaves them as they
//!    are.
//! 5. Report what failed, record the outcome in the audit chain, and report the result.
//!
//! What is done with one object is decided in [`crate::items::bulk`]. Must not use a client to reach
//! an object: the client reaches the run, the BulkOperationRun, reports and the audit chain.

pub(super) mod access;
pub(super) mod carry;
pub(super) mod claim;
pub(super) mod expected;
pub(super) mod found;
pub(super) mod order;
mod records;
pub(super) mod selected;
pub(super) mod survey;

use crate::{
    api::reason::bulk as reason,
    api::{
        BulkOperationRun, ObjectReference,
        operations::{BulkInputs, BulkReadInputs},
        provenance::{MadePlan, PlanSummary},
        result::{TerminationResult, truncate},
    },
    clock::Clock,
    items::{
        bulk::{self, Left, State},
        eligible::Ineligible,
    },
    operations::intent::{Record, Subject},
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    worker::{
        environment::{Environment, RunIdentity},
        failure::Failure,
        fence,
        progress::Progress,
        report::{self, Contents},
        stop::Stop,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use carry::{Pace, carry};
use found::Found;
use kube::Client;
use order::Order;
use selected::Selected;
use survey::{Reach, Survey};

/// Longest text of what is done in an audit entry, in bytes.
pub(super) const MAX_CHANGE: usize = 1000;

/// What the pod of a bulk operation needs that only reads.
pub(super) const READS: Needs = Needs { repository: RepositoryNeed::None, lease: LeaseNeed::None, last_words: false };

/// Begins a bulk operation that only reads. `work` is given the provider, the client that reaches the
/// run and its records, what the pod was given, and the inputs.
pub(super) fn begin_to_read(
    environment: &Environment,
    work: impl AsyncFnOnce(&dyn Provider, &Client, &Environment, &BulkInputs) -> Result<TerminationResult, Failure>
    + 'static,
) -> Result<Begun, Failure> {
    let BulkReadInputs { bulk_operation_run } = environment.inputs()?;
    let inputs = BulkInputs { bulk_operation_run, ..BulkInputs::default() };
    Ok(begun(move |site: Site<'_>| {
        Box::pin(async move {
            let provider = Kubernetes::new(site.client, site.environment.identity.namespace.clone());
            work(&provider, site.client, site.environment, &inputs).await
        })
    }))
}

/// Does one thing with many objects.
pub struct Bulk;

impl Work for Bulk {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::None, lease: LeaseNeed::None, last_words: true }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        let inputs: BulkInputs = environment.inputs()?;
        Ok(begun(move |site: Site<'_>| {
            Box::pin(async move {
                let provider = Kubernetes::new(site.client, site.environment.identity.namespace.clone());
                apply_to(&provider, site.client, site.environment, &inputs, site.clock, site.stop).await
            })
        }))
    }
}

/// Carries a bulk operation out with any provider. `client` reaches the run and its records.
pub async fn apply_to(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    inputs: &BulkInputs,
    clock: &dyn Clock,
    stop: &Stop,
) -> Result<TerminationResult, Failure> {
    let provider = &Bounded::new(provider);
    let own = &environment.identity;
    let order = order::read(client, own, inputs).await?;
    let survey = Survey::take(provider, &order).await?;
    let selected = selected::select(provider, client, own, &order, &survey.kind, &survey.denied).await?;
    tracing::info!(items = selected.names.len(), action = order.asked.action.as_str(), "selected");
    let pace = pace(&order.bulk);
    let denied = survey.denied.any();
    let reach: Option<Reach<'_>> = if denied.is_none() { Some(survey.reach().await?) } else { None };
    // An attempt that may have written has changed objects itself. Those that others changed since
    // fail individually.
    if let (Some(reach), Some(states), false) = (&reach, &selected.expected, selected.begun) {
        expected::expect(reach, &selected, states, pace.parallelism).await?;
    }
    let run = fence::pass(client, own).await?;
    claim::take(client, own, inputs).await?;
    let record = Record::begin(client, own, clock, &run.spec.operation_type, subject(&order, &selected)).await?;
    let mut found = Found::new(survey.kind.group_kind(), &selected.names);
    let progress = Progress::of(client.clone(), own);
    match (&reach, denied) {
        (Some(reach), _) => carry(reach, &mut found, selected.expected.as_deref(), pace, &progress, stop).await?,
        (None, why) => found.leave_rest(&Left::failed(reason::FORBIDDEN, why.unwrap_or_default())),
    }
    progress.finish(found.counts()).await;
    if stop.is_set() {
        fence::expect_cancelled(client, own).await?;
    }
    found.leave_rest(&not_reached(stop));
    let mut result = end(client, own, &found, record).await?;
    result.context.plan = Some(MadePlan { digest: selected.digest.clone(), summary: summary(&selected) });
    Ok(result)
}

/// Writes the reports and the outcome, and returns the result.
async fn end(
    client: &Client,
    own: &RunIdentity,
    found: &Found<'_>,
    record: Record<'_>,
) -> Result<TerminationResult, Failure> {
    report::write(client, own, Contents::Failures(&found.failures())).await?;
    let mut result = found.to_result();
    result.context.audit = Some(record.end(&result).await?);
    Ok(result)
}

/// Why objects were not worked on.
fn not_reached(stop: &Stop) -> Left {
    if stop.is_set() {
        Left::skipped(reason::STOPPED, "the bulk operation was cancelled before its last attempt came to this")
    } else {
        let message =
            "so many others had failed that the bulk operation stopped before it came to this (spec.stopAfterFailures)";
        Left::skipped(reason::STOPPED_AFTER_FAILURES, message)
    }
}

/// What both audit entries of a bulk operation say.
fn subject(order: &Order, selected: &Selected) -> Subject {
    Subject {
        who: order.bulk.spec.requested_by.clone().unwrap_or_default(),
        restore_run: None,
        bulk_operation_run: Some(ObjectReference::of(&order.bulk)),
        approval: order.approval.clone(),
        change: Some(truncate(&bulk::in_words(&order.asked), MAX_CHANGE)),
        backup_set: None,
        plan_digest: selected.digest.clone(),
        summary: summary(selected),
    }
}

/// How many objects may be written: those that the preview would write, or all.
fn summary(selected: &Selected) -> PlanSummary {
    let updates = match &selected.expected {
        Some(states) => states.iter().filter(|State { writes, .. }| *writes).count(),
        None => selected.names.len(),
    };
    PlanSummary { update: i64::try_from(updates).unwrap_or(i64::MAX), ..PlanSummary::default() }
}

/// How the objects of a bulk operation are worked on, or looked at.
pub(super) fn pace(bulk: &BulkOperationRun) -> Pace {
    let number = |number: i32| usize::try_from(number).unwrap_or(1).max(1);
    Pace { parallelism: number(bulk.spec.parallelism), stop_after: bulk.spec.stop_after_failures.map(number) }
}

pub(super) fn blocked(Ineligible { reason, message }: Ineligible) -> Failure {
    Failure::blocked(reason.as_str(), message)
}
