//! `tenantatlas worker maintain`: removes data that no backup set needs from a repository, and
//! checks it.
//!
//! Steps, with exclusive use of the repository ([`crate::worker::lease`]), and what a crash in each of them
//! leaves behind:
//! 1. Verify that every backup set has its snapshot, and determine the snapshots that are not
//!    needed ([`crate::worker::sets`], [`crate::repository::forget`]): nothing.
//! 2. Forget those, and the documents of deleted runs: fewer of them for the next attempt.
//! 3. Prune: marks that the next attempt carries over, or duplicate content, of which it removes
//!    one copy.
//! 4. Check, and report the figures: nothing.
//!
//! Unneeded content is only marked here. The maintenance after the grace period deletes it.

mod records;

use crate::{
    api::{
        execution::GRACE_HOURS,
        operations::{CheckInputs, MaintainInputs},
        result::{Maintained, TerminationResult},
    },
    clock::Clock,
    operations::check,
    repository::{Pruning, Repository, WriterPermit, forget::forgettable},
    worker::{
        environment::Environment,
        failure::Failure,
        sets,
        work::{Begun, LeaseNeed, Needs, RepositoryNeed, Site, Work, begun},
    },
};
use jiff::SignedDuration;
use kube::Client;

/// Removes what no backup set needs.
pub struct Maintain;

impl Work for Maintain {
    fn needs(&self) -> Needs {
        Needs { repository: RepositoryNeed::Ready, lease: LeaseNeed::Excludes, last_words: false }
    }

    fn begin(&self, environment: &Environment) -> Result<Begun, Failure> {
        let inputs = read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move {
                let permit = site.permit()?;
                maintain(site.client, site.environment, site.repository()?, &inputs, site.clock, permit).await
            })
        }))
    }
}

/// Unneeded content is deleted this many hours before the grace period ends, so that the second of
/// two maintenances a day apart deletes what the first marked.
const EARLIER: u16 = 1;

/// Reads the inputs. Call this before anything is opened, so that bad inputs fail fast.
pub fn read_inputs(environment: &Environment) -> Result<MaintainInputs, Failure> {
    let inputs: MaintainInputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    check::expect_percentage(inputs.read_data_percent)?;
    Ok(inputs)
}

/// Maintains an opened repository, while the permit excludes all others.
pub async fn maintain(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    inputs: &MaintainInputs,
    clock: &dyn Clock,
    permit: WriterPermit,
) -> Result<TerminationResult, Failure> {
    let grace_hours = inputs.grace_hours.unwrap_or(GRACE_HOURS);
    let grace = SignedDuration::from_hours(grace_hours.into());
    let sets = sets::list(client, environment).await?;
    let snapshots = repository.snapshots().await?;
    check::expect_snapshots(environment, &sets, &snapshots)?;
    let needed = sets::needed(client, environment, grace).await?;
    let forgotten: Vec<String> =
        forgettable(&snapshots, &needed, clock.now()).iter().map(|snapshot| snapshot.id.clone()).collect();
    tracing::info!(snapshots = snapshots.len(), forgotten = forgotten.len(), "maintaining");
    let mut maintained =
        Maintained { forgotten: i64::try_from(forgotten.len()).unwrap_or(i64::MAX), ..Maintained::default() };
    repository.forget(forgotten, permit.clone()).await?;
    let documents = repository.forget_documents(needed.runs, permit.clone()).await?;
    tracing::info!(documents, "forgot the documents of runs that are gone");
    let keep_marked = SignedDuration::from_hours(grace_hours.saturating_sub(EARLIER).into());
    let damage = match repository.prune(Pruning { keep_marked, permit }).await {
        Ok(pruned) => {
            maintained.deleted_bytes = i64::try_from(pruned.deleted).unwrap_or(i64::MAX);
            maintained.marked_bytes = i64::try_from(pruned.marked).unwrap_or(i64::MAX);
            None
        }
        // The check reports what the damage affects.
        Err(error) if error.is_of_the_content() => Some(Failure::from(error)),
        Err(error) => return Err(error.into()),
    };
    let sets = sets::list(client, environment).await?;
    let inputs = CheckInputs { repository: inputs.repository.clone(), read_data_percent: inputs.read_data_percent };
    let mut result = check::check(repository, environment, &inputs, &sets, clock).await?;
    if let Some(damage) = damage {
        return Err(damage);
    }
    let says = result.message.take().unwrap_or_default();
    result.message = Some(format!(
        "{} snapshots forgotten, {} bytes deleted, {} more marked to be deleted later; {says}",
        maintained.forgotten, maintained.deleted_bytes, maintained.marked_bytes
    ));
    result.context.maintained = Some(maintained);
    Ok(result)
}
