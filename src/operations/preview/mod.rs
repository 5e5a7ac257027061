//! `tenantatlas worker preview`: reports what a restore would do to each item, and changes nothing.
//!
//! Every write is only a dry run, and there is none for an item that is already in its wanted
//! state. The plan is stored in the repository, the parts of it that matter to users in the run's
//! reports, its digest and summary in the result.

mod records;

use crate::{
    api::{
        operations::{PreviewInputs, RestoreInputs},
        result::TerminationResult,
    },
    operations::restore::{made::make, order, stored_plan, survey::Survey, walk::Ask},
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::Repository,
    worker::{
        environment::Environment,
        failure::Failure,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::Client;

/// Plans a restore.
pub struct Preview;

impl Work for Preview {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move { preview(site.client, site.environment, site.repository()?).await })
        }))
    }
}

/// Reads the inputs: those of a restore without an account. Call this before anything is opened.
fn read_inputs(environment: &Environment) -> Result<RestoreInputs, Failure> {
    let PreviewInputs { repository, restore_run, finding } = environment.inputs()?;
    environment.expect_repository(&repository)?;
    Ok(RestoreInputs {
        repository,
        restore_run,
        finding,
        plan_digest: None,
        approval: None,
        service_account_name: None,
    })
}

/// Plans a restore and stores the plan.
pub async fn preview(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
) -> Result<TerminationResult, Failure> {
    let provider = Kubernetes::new(client, environment.identity.namespace.clone());
    preview_of(&provider, client, environment, repository).await
}

/// The same for any provider. `client` reaches the run and its records.
pub async fn preview_of(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
) -> Result<TerminationResult, Failure> {
    tracing::info!("previewing");
    let provider = Bounded::new(provider);
    let inputs = read_inputs(environment)?;
    let order = order::read(client, environment, repository, &inputs, true).await?;
    let survey = Survey::take(&provider, environment, repository, order).await?;
    let made = make(&survey, Ask::Server).await?;
    let result = made.to_result();
    stored_plan::put(repository, &environment.identity.run_uid, made.plan()).await?;
    made.publish(client, &environment.identity, &result).await?;
    Ok(result)
}
