//! `tenantatlas worker inventory`: records what a tenant holds, as a snapshot of identities and
//! digests, without content.
//!
//! The namespace is read as by a capture, with the same rules ([`crate::operations::capture`]), and
//! a crash leaves the same behind. Only the form of what is stored differs.
//!
//! ```text
//! layout    where the records are in the snapshot
//! form      the records of the objects that are listed
//! read      what a backup set holds, be it an inventory or the objects
//! coverage  which of the objects no backup set of the last days holds
//! ```

pub mod coverage;
pub mod form;
pub mod layout;
pub mod read;
mod records;

use crate::{
    api::{
        OperationRun, backup_set::Content, operations::InventoryInputs, reason::worker as reason,
        result::TerminationResult,
    },
    clock::Clock,
    items::inventory::Collection,
    operations::{
        capture::{Counted, catalog, find_earlier, kind_of, of_an_earlier_attempt, options, scope::Scope, take, tell},
        inventory::{form::Records, read::digest_key},
    },
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::{Item, Repository, WriterPermit},
    worker::{
        environment::Environment,
        failure::Failure,
        progress::Progress,
        report::Contents,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::Client;
use std::{collections::BTreeMap, ops::RangeInclusive};

/// Records what a tenant holds.
pub struct Inventory;

impl Work for Inventory {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Writes, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        Asked::read(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let permit = site.permit()?;
                sync(site.client, site.environment, site.repository()?, site.run, site.clock, permit).await
            })
        }))
    }
}

/// Records the scope given by the environment in a repository. `run` is the run as read by the
/// fence.
pub async fn sync(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    sync_from(&provider, client, environment, repository, run, clock, permit).await
}

/// The same from any provider. `client` reaches the run and its records.
pub async fn sync_from(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let provider = Bounded::new(provider);
    let Asked { scope, coverage_days } = Asked::read(environment)?;
    let tags = vec![layout::TAG.to_owned(), format!("{}{}", layout::SCOPE_TAG, scope.names.scope_key())];
    let options = options(client, environment, tags, clock, permit).await?;
    let mut recorded = if let Some(snapshot) = find_earlier(repository, &options).await? {
        let items = repository.list(&snapshot.id).await?;
        let counted = counted(repository, &snapshot.id, &items).await?;
        let earlier = of_an_earlier_attempt(repository, snapshot, &items, counted, run).await?;
        Progress::of(client.clone(), &environment.identity).finish(earlier.counts).await;
        earlier
    } else {
        let catalog = catalog(&provider, &scope).await?;
        let mut form = Records::new(digest_key(repository), catalog.without_status.clone());
        take(&provider, client, environment, (&scope, &mut form, None), &catalog, repository, &options).await?
    };
    let covered = match coverage_days {
        None => None,
        Some(days) => {
            let asked = coverage::Asked { snapshot: &recorded.snapshot, days, selected: !scope.names.is_everything() };
            Some(coverage::look(client, environment, repository, asked).await?)
        }
    };
    recorded.remarks.extend(covered.as_ref().map(coverage::Found::sentence));
    let mut result = recorded.to_result(Content::Inventory);
    recorded.write_reports(client, &environment.identity, &result).await?;
    if let Some(covered) = covered {
        tell(client, &environment.identity, Contents::Uncovered(covered.rows())).await?;
        result.context.coverage = Some(Box::new(covered.coverage().clone()));
    }
    Ok(result)
}

/// The days that may be looked at.
const DAYS: RangeInclusive<u16> = 1..=365;

/// What is asked for.
struct Asked {
    scope: Scope,
    /// Of how many days backup sets are looked at, if they are.
    coverage_days: Option<u16>,
}

impl Asked {
    /// Reads the inputs. Call this before anything is opened, so that bad inputs fail fast.
    fn read(environment: &Environment) -> Result<Self, Failure> {
        let inputs: InventoryInputs = environment.inputs()?;
        environment.expect_repository(&inputs.repository)?;
        if let Some(days) = inputs.coverage_days.filter(|days| !DAYS.contains(days)) {
            let message = format!("inputs.coverageDays: write a number from 1 to 365, not {days}, in a new run");
            return Err(Failure::permanent(reason::INVALID_INPUTS, message));
        }
        let scope = Scope::new(inputs.selection, environment.target.as_ref())?;
        Ok(Self { scope, coverage_days: inputs.coverage_days })
    }
}

/// Counts what an inventory records.
async fn counted(repository: &impl Repository, snapshot: &str, items: &[Item]) -> Result<Counted, Failure> {
    let described: Vec<_> = items.iter().map(|item| &item.path).filter(|path| layout::is_collection(path)).collect();
    let contents = repository.read(snapshot, described.iter().map(|path| (*path).clone()).collect()).await?;
    let mut by_kind = BTreeMap::new();
    for (path, content) in described.into_iter().zip(contents) {
        let count = Collection::from_bytes(&content).map_or(0, |collection| collection.items);
        if count > 0 {
            let kind = kind_of(path).replacen(layout::SUFFIX, "", 1);
            *by_kind.entry(kind).or_default() += i64::try_from(count).unwrap_or(i64::MAX);
        }
    }
    let bytes = items.iter().filter(|item| layout::is_record(&item.path)).map(|item| item.size).sum::<u64>();
    Ok((by_kind, i64::try_from(bytes).unwrap_or(i64::MAX)))
}
