//! `tenantatlas worker rehearse`: tests whether a backup set could be restored now, by default the
//! newest.
//!
//! The whole set is read back, and every write that a restore would make is tried as a dry run. The
//! plan goes into the run's reports, like that of a preview.

mod records;

use crate::{
    api::{OperationRun, result::TerminationResult},
    operations::restore::{
        made::make,
        order::{self, Order},
        survey::Survey,
        walk::Ask,
    },
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::Repository,
    worker::{
        environment::Environment,
        failure::Failure,
        progress::Progress,
        report,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::{Client, ResourceExt};

/// Tries whether a backup set could be restored.
pub struct Rehearse;

impl Work for Rehearse {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        order::read_rehearsal(environment)?;
        Ok(begun(|site: Site<'_>| Box::pin(rehearse(site.client, site.environment, site.repository, site.run))))
    }
}

/// Rehearses a restore. `run` names the requester: what they may not write is not restorable for
/// them.
pub async fn rehearse(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    rehearse_with(&provider, client, environment, repository, run).await
}

/// The same with any provider. `client` reaches the run and its records.
pub async fn rehearse_with(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
) -> Result<TerminationResult, Failure> {
    let provider = Bounded::new(provider);
    let set = order::rehearsed_set(client, environment).await?;
    let name = set.name_any();
    let order = order::rehearsal(environment, &set, run)?;
    let mut ended = try_out(&provider, client, environment, repository, order).await;
    // The operator records the result on the set, even if the run did not name one.
    match &mut ended {
        Ok(result) => result.context.backup_set = Some(name),
        Err(failure) => failure.made.backup_set = Some(name),
    }
    ended
}

async fn try_out(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    order: Order,
) -> Result<TerminationResult, Failure> {
    let set = order.backup_set.name.clone();
    let survey = Survey::take(provider, environment, repository, order).await?;
    let made = make(&survey, Ask::Server).await?;
    // An item that the store failed to return is not damaged. Report nothing about the set, and
    // retry.
    if let Some(fault) = survey.reader.fault().filter(|fault| !fault.is_of_the_content()) {
        return Err(fault.into());
    }
    let mut result = made.to_result();
    result.message = result.message.map(|message| format!("a restore of {set} {message}"));
    report::write(client, &environment.identity, made.contents()).await?;
    let counts = result.summary_counts.unwrap_or_default();
    Progress::of(client.clone(), &environment.identity).finish(counts).await;
    Ok(result)
}
