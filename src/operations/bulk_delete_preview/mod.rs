//! `tenantatlas worker bulk-delete-preview`: reports what a deletion of many objects would do, and
//! changes nothing.
//!
//! Every deletion is only a dry run. The plan is stored in the repository, as that of a restore's
//! preview is, the parts of it that matter to users in the run's reports.

mod records;

use crate::{
    api::{
        operations::{BulkDeletePreviewInputs, BulkInputs},
        result::TerminationResult,
    },
    operations::{
        bulk,
        bulk_delete::order,
        restore::{made::make, stored_plan, survey::Survey, walk::Ask},
    },
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::Repository,
    worker::{
        environment::Environment,
        failure::Failure,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use kube::Client;

/// Plans a deletion of many objects.
pub struct BulkDeletePreview;

impl Work for BulkDeletePreview {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Reads, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let provider = Kubernetes::new(site.client, site.environment.identity.namespace.clone());
                preview_of(&provider, site.client, site.environment, site.repository()?).await
            })
        }))
    }
}

/// Reads the inputs: those of a bulk operation, and the repository. Call this before anything is
/// opened.
fn read_inputs(environment: &Environment) -> Result<BulkInputs, Failure> {
    let BulkDeletePreviewInputs { repository, bulk_operation_run } = environment.inputs()?;
    environment.expect_repository(&repository)?;
    Ok(BulkInputs { bulk_operation_run, plan_digest: None, approval: None })
}

/// Plans a deletion with any provider, and stores the plan. `client` reaches the run and its records.
pub async fn preview_of(
    provider: &dyn Provider,
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
) -> Result<TerminationResult, Failure> {
    let provider = &Bounded::new(provider);
    let asked = bulk::order::read(client, &environment.identity, &read_inputs(environment)?).await?;
    let terms = order::terms(environment, &asked)?;
    let objects = order::objects(provider, &asked).await?;
    tracing::info!(items = objects.len(), "selected");
    let order = order::deletion(&asked, terms, objects)?;
    let survey = Survey::take(provider, environment, repository, order).await?;
    let made = make(&survey, Ask::Server).await?;
    let mut result = made.to_result();
    let summary = made.plan().summary();
    let failed = result.summary_counts.map_or(0, |counts| counts.failed);
    result.message = Some(format!(
        "would delete {}; {} not there, {} left alone, {failed} not possible",
        summary.delete, summary.unchanged, summary.skip
    ));
    stored_plan::put(repository, &environment.identity.run_uid, made.plan()).await?;
    made.publish(client, &environment.identity, &result).await?;
    Ok(result)
}
