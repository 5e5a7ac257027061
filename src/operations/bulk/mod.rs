//! `tenantatlas worker bulk`: one action on many objects, as a BulkOperationRun says.
//!
//! ```text
//! claim     whether the BulkOperationRun belongs to this run
//! access    what the requester and the account that writes may do
//! selected  which objects, the same in each attempt
//! carry     the objects, so many at once
//! found     what became of them
//! ```
//!
//! Steps, and what a crash in each of them leaves behind:
//! 1. Read the BulkOperationRun and what the requester may do: nothing.
//! 2. Select the objects and store their names: reports that only count once an intent names them.
//! 3. Check again that the operation is still wanted, and record the intent in the audit chain: an
//!    entry that the next attempt finds, and with it the objects. If the intent cannot be recorded,
//!    nothing is written.
//! 4. Write object by object: written objects are as wanted, and the next attempt leaves them as they
//!    are.
//! 5. Report what failed, record the outcome in the audit chain, and report the result.
//!
//! What is done with one object is decided in [`crate::items::bulk`]. Must not use a client to reach
//! an object: the client reaches the run, the BulkOperationRun, reports and the audit chain.

mod access;
mod carry;
mod claim;
mod found;
mod records;
mod selected;

use crate::{
    api::reason::bulk as reason,
    api::{
        BulkOperationRun, ObjectReference,
        operations::BulkInputs,
        provenance::PlanSummary,
        result::{TerminationResult, truncate},
    },
    clock::Clock,
    items::{
        bulk::{self, Left},
        eligible::Ineligible,
        excluded::ExclusionRules,
        plan::Remark,
        served::ServedKind,
    },
    operations::intent::{Record, Subject},
    providers::{Provider, bounded::Bounded, catalog::Catalog, kubernetes::Kubernetes},
    worker::{
        environment::{Environment, RunIdentity},
        failure::{Failure, call_failure},
        fence,
        progress::Progress,
        report::{self, Contents},
        stop::Stop,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use carry::{Carrier, Pace};
use found::Found;
use jiff::Timestamp;
use kube::Client;
use selected::Selected;

/// Longest text of what is done in an audit entry, in bytes.
const MAX_CHANGE: usize = 1000;

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
    let order = claim::take(client, own, inputs).await?;
    let spec = &order.spec;
    let requested_by = bulk::requester(spec).map_err(blocked)?;
    let change = bulk::change(spec, created(&order)).map_err(blocked)?;
    let catalog = provider.catalog().await;
    let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
    let kind = served(&catalog, &order)?;
    let denied = access::denied(provider, requested_by, kind).await?;
    let selected = selected::select(provider, client, own, spec, kind, &denied).await?;
    tracing::info!(items = selected.names.len(), action = spec.action.as_str(), "selected");
    let run = fence::pass(client, own).await?;
    claim::take(client, own, inputs).await?;
    let record = Record::begin(client, own, clock, &run.spec.operation_type, subject(&order, &selected)).await?;
    let mut found = Found::new(kind.group_kind(), &selected.names);
    let progress = Progress::of(client.clone(), own);
    if let Some(why) = denied.any() {
        found.leave_rest(&Left { skipped: false, remark: Remark::new(reason::FORBIDDEN, why) });
    } else {
        let readers = provider.readers(&catalog).await?;
        let carrier = Carrier {
            shown: readers.may_read(&kind.group_kind()),
            session: provider.session(readers),
            guard: provider.guard(requested_by),
            rules: ExclusionRules { repository_secrets: provider.repository_secrets().await? },
            change: &change,
            kind,
            named: selected.named,
        };
        carrier.carry(&mut found, pace(&order), &progress, stop).await?;
    }
    progress.finish(found.counts()).await;
    if stop.is_set() {
        fence::expect_cancelled(client, own).await?;
    }
    found.leave_rest(&not_reached(stop));
    end(client, own, &found, record).await
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
    let remark = if stop.is_set() {
        Remark::new(reason::STOPPED, "the bulk operation was cancelled before its last attempt came to this")
    } else {
        let message =
            "so many others had failed that the bulk operation stopped before it came to this (spec.stopAfterFailures)";
        Remark::new(reason::STOPPED_AFTER_FAILURES, message)
    };
    Left { skipped: true, remark }
}

/// What both audit entries of a bulk operation say.
fn subject(order: &BulkOperationRun, selected: &Selected) -> Subject {
    let items = i64::try_from(selected.names.len()).unwrap_or(i64::MAX);
    Subject {
        who: order.spec.requested_by.clone().unwrap_or_default(),
        restore_run: None,
        bulk_operation_run: Some(ObjectReference::of(order)),
        change: Some(truncate(&bulk::in_words(&order.spec), MAX_CHANGE)),
        backup_set: None,
        plan_digest: selected.digest.clone(),
        summary: PlanSummary { update: items, ..PlanSummary::default() },
    }
}

fn pace(order: &BulkOperationRun) -> Pace {
    let number = |number: i32| usize::try_from(number).unwrap_or(1).max(1);
    Pace { parallelism: number(order.spec.parallelism), stop_after: order.spec.stop_after_failures.map(number) }
}

/// When the bulk operation was created: the same in each attempt.
fn created(order: &BulkOperationRun) -> Timestamp {
    order.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// The kind in the version that the cluster prefers.
fn served<'c>(catalog: &'c Catalog, order: &BulkOperationRun) -> Result<&'c ServedKind, Failure> {
    let wanted = order.spec.resource.group_kind();
    catalog.kinds.iter().find(|kind| kind.group_kind() == wanted).ok_or_else(|| {
        let message =
            format!("correct spec.resource in a new bulk operation: the cluster serves no {wanted} in namespaces");
        Failure::blocked(reason::KIND_NOT_SERVED, message)
    })
}

fn blocked(Ineligible { reason, message }: Ineligible) -> Failure {
    Failure::blocked(reason.as_str(), message)
}
