//! `tenantatlas worker bulk-export`: writes many objects of one kind into a ConfigMap of the tenant, as
//! clean YAML that can be applied elsewhere.
//!
//! ```text
//! map      the ConfigMap
//! records  what the controller knows of it
//! yaml     objects as text
//! ```
//!
//! Steps, and what a crash in each of them leaves behind:
//! 1. Look for the run's ConfigMap. If an earlier attempt created it, only its result is reported
//!    again.
//! 2. Read what the requester may do, and the objects: nothing.
//! 3. Check again that the export is still wanted, and create the ConfigMap, with the counts in it: the
//!    ConfigMap, which step 1 of the next attempt finds.
//!
//! What of an object is exported is decided in [`crate::items::bulk`]. Must not export Secrets: whoever
//! reads ConfigMaps reads an export. Must not use a client to reach an object: the client reaches the
//! run, the BulkOperationRun and the ConfigMap.

pub mod map;
mod records;
pub mod yaml;

use crate::{
    api::{
        ObjectReference, Outcome, Reason,
        execution::PREVIEW_ACCOUNT,
        item::ItemId,
        operations::BulkInputs,
        outcome::MAX_FAILURES,
        reason::bulk as reason,
        result::{ResultContext, TerminationResult},
        subject::Initiator,
    },
    items::{
        bulk::{self, Left},
        decide::Verb,
        excluded::ExclusionRules,
        semantic::Status,
        served::ServedKind,
    },
    operations::bulk::{
        READS,
        access::{hidden, may_not},
        begin_to_read, blocked,
        carry::Fate,
        claim,
        found::Found,
        order, pace,
        selected::find,
        survey::{not_there, served, unreadable},
    },
    providers::{Provider, Session, bounded::Bounded, call::Target},
    worker::{
        environment::Environment,
        failure::{Failure, call_failure},
        fence,
        progress::Progress,
        work::{Begun, Needs, Work},
    },
};
use futures::{StreamExt, stream};
use kube::Client;
use map::Ended;

/// Most that an export takes, in bytes. All tenants share etcd, which takes 1.5 MiB at once.
pub const MAX_EXPORT: usize = 500 * 1024;

/// Exports many objects.
pub struct BulkExport;

impl Work for BulkExport {
    fn needs(&self) -> Needs {
        READS
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        begin_to_read(environment, export_from)
    }
}

/// Exports from any provider. `client` reaches the run and its records.
pub async fn export_from(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    inputs: &BulkInputs,
) -> Result<TerminationResult, Failure> {
    let provider = &Bounded::new(provider);
    let own = &environment.identity;
    let order = order::read(client, own, inputs).await?;
    let asked = &order.bulk.spec;
    bulk::expect_exportable(asked).map_err(blocked)?;
    let requested_by = bulk::requester(asked).map_err(blocked)?;
    let owner = ObjectReference::of(&order.bulk);
    if let Some(written) = map::earlier(client, own, &owner).await? {
        return Ok(to_result(&own.run, written.ended, Some(written.digest)));
    }
    let catalog = provider.catalog().await;
    let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
    let kind = served(&catalog, asked)?;
    expect_may_export(provider, requested_by).await?;
    let named = asked.label_selector.is_none();
    let users = [requested_by, &provider.account(PREVIEW_ACCOUNT)];
    let hidden = hidden(provider, users, &kind, !named).await?;
    let names = find(provider, asked, &kind, hidden.as_deref()).await?;
    tracing::info!(items = names.len(), "selected");
    let mut found = Found::new(kind.group_kind(), &names);
    let progress = Progress::of(client.clone(), own);
    let mut objects = String::new();
    if let Some(why) = hidden {
        found.leave_rest(&Left::failed(reason::FORBIDDEN, why));
    } else {
        let readers = provider.readers(&catalog).await?;
        let reading = Reading {
            session: provider.session(readers),
            kind: &kind,
            named,
            status: if catalog.without_status.contains(&kind.group_kind()) { Status::Data } else { Status::Observed },
        };
        let read = stream::iter(&names).map(|name| reading.read(name)).buffered(pace(&order.bulk).parallelism);
        let mut read = std::pin::pin!(read.enumerate());
        while let Some((place, document)) = read.next().await {
            let fate = match document? {
                Ok(document) => {
                    objects.push_str(&document);
                    Fate::Done
                }
                Err(left) => Fate::Left(left),
            };
            expect_small(&objects)?;
            found.record(place, fate);
            progress.update(found.counts());
        }
    }
    progress.finish(found.counts()).await;
    let mut failures = found.failures();
    let failures_truncated = failures.len() > MAX_FAILURES;
    failures.truncate(MAX_FAILURES);
    let ended = Ended { summary_counts: found.counts(), failures, failures_truncated };
    if objects.is_empty() {
        return Ok(to_result(&own.run, ended, None));
    }
    fence::pass(client, own).await?;
    claim::take(client, own, inputs).await?;
    let written = map::create(client, own, &owner, objects, ended).await?;
    Ok(to_result(&own.run, written.ended, Some(written.digest)))
}

/// Fails unless the requester could write the ConfigMap, too: who may not shows nobody else what is not
/// theirs to show.
async fn expect_may_export(provider: &dyn Provider, requested_by: &Initiator) -> Result<(), Failure> {
    let maps = ServedKind {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        plural: "configmaps".to_owned(),
    };
    match may_not(provider, [requested_by, &provider.account(PREVIEW_ACCOUNT)], Verb::Create, &maps).await? {
        None => Ok(()),
        Some(why) => Err(Failure::blocked(reason::FORBIDDEN, format!("nothing was exported: {why}"))),
    }
}

fn expect_small(objects: &str) -> Result<(), Failure> {
    if objects.len() <= MAX_EXPORT { Ok(()) } else { Err(too_large()) }
}

fn too_large() -> Failure {
    let message = "export fewer objects, or use action: capture, which takes any number: these are more than 500 KiB as YAML, and nothing was exported";
    Failure::blocked(reason::EXPORT_TOO_LARGE, message)
}

/// How objects are read.
struct Reading<'a> {
    session: Box<dyn Session + 'a>,
    kind: &'a ServedKind,
    named: bool,
    status: Status,
}

impl Reading<'_> {
    /// An object as a document, or why it is left out.
    async fn read(&self, name: &str) -> Result<Result<String, Left>, Failure> {
        let item = ItemId::new(self.kind.group_kind(), name);
        Ok(match self.session.get(Target { kind: self.kind, name }).await {
            Ok(Some(live)) => {
                // No export holds a Secret.
                let rules = ExclusionRules::default();
                match bulk::exported(&rules, &item, live, self.status) {
                    Ok(object) => Ok(yaml::document(&object, MAX_EXPORT).map_err(|yaml::TooLong| too_large())?),
                    Err(left) => Err(left),
                }
            }
            Ok(None) => Err(not_there(self.named)),
            Err(fault) => Err(unreadable(&self.kind.kind, name, &fault)?),
        })
    }
}

/// The result of a run with what became of the objects. If some were exported, with the digest of what
/// was written of them.
fn to_result(run: &str, ended: Ended, digest: Option<String>) -> TerminationResult {
    let Ended { summary_counts: counts, failures, failures_truncated } = ended;
    let (outcome, reason) = match (counts.failed, counts.succeeded) {
        (_, 0) => (Outcome::Failed, reason::NOTHING_EXPORTED),
        (0, _) => (Outcome::Succeeded, Reason::Succeeded.as_str()),
        _ => (Outcome::PartiallySucceeded, Reason::PartiallySucceeded.as_str()),
    };
    let (exported, skipped, failed) = (counts.succeeded, counts.skipped, counts.failed);
    let config_map = (exported > 0).then(|| run.to_owned());
    let place = config_map.as_ref().map_or(String::new(), |name| format!(" to ConfigMap {name}"));
    TerminationResult {
        outcome: Some(outcome),
        reason: Some(reason.to_owned()),
        message: Some(format!("{exported} objects exported{place}, {skipped} skipped, {failed} failed")),
        summary_counts: Some(counts),
        failures,
        failures_truncated,
        context: ResultContext { config_map, config_map_digest: digest, ..ResultContext::default() },
    }
}
