//! `tenantatlas worker maintain`: removes from a repository what no backup set needs, and checks it.
//!
//! In this order, alone with the repository ([`super::lease`]), and what a crash leaves behind in between:
//! 1. make sure that every backup set has its snapshot, and see which snapshots nobody needs ([`super::sets`],
//!    [`crate::repository::forget`]): nothing;
//! 2. forget them, and the documents of runs that are gone: fewer of them for the next attempt;
//! 3. prune: marks that the next attempt carries over, or content twice, of which it removes one;
//! 4. check, and tell the figures: nothing.
//!
//! Content that nothing needs is only marked here; the maintenance after the grace deletes it.

use crate::{
    api::execution::GRACE_HOURS,
    api::result::{Maintained, TerminationResult},
    clock::Clock,
    repository::{Pruning, Repository, WriterPermit, forget::forgettable},
    worker::{check, environment::Environment, failure::Failure, sets},
};
use jiff::SignedDuration;
use kube::Client;
use serde::Deserialize;

/// By so many hours content that nothing needs goes earlier than that, so that of two maintenances a day apart the second deletes what
/// the first has marked.
const EARLIER: u16 = 1;

/// The inputs of `repository.maintain`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Inputs {
    /// Name of the `BackupRepository`.
    repository: String,
    /// Percentage of the data to read back, 0 to 100. Left out: what the repository's `maintenance` says, or none.
    read_data_percent: Option<u8>,
    /// How old a snapshot that no backup set names must be to be forgotten, and how long, but for an hour, content stays that no
    /// snapshot needs. Left out: a day.
    grace_hours: Option<u16>,
}

impl Inputs {
    fn check(&self) -> check::Inputs {
        check::Inputs::new(&self.repository, self.read_data_percent)
    }
}

/// Reads the inputs; to be done before anything is opened, so that bad inputs fail fast.
pub fn read_inputs(environment: &Environment) -> Result<Inputs, Failure> {
    let inputs: Inputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    inputs.check().expect_percentage()?;
    Ok(inputs)
}

/// Maintains an opened repository, while the permit excludes all others.
pub async fn maintain(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    inputs: &Inputs,
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
        // The check says what it concerns.
        Err(error) if error.is_of_the_content() => Some(Failure::from(error)),
        Err(error) => return Err(error.into()),
    };
    let sets = sets::list(client, environment).await?;
    let mut result = check::check(repository, environment, &inputs.check(), &sets, clock).await?;
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
