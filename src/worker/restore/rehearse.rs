//! `tenantatlas worker rehearse`: whether a backup set, the newest unless told otherwise, could be restored now. All of it is read back, and every write that a
//! restore would make is tried as a dry run. The plan goes into the run's reports, as that of a preview.

use crate::{
    api::{OperationRun, result::TerminationResult},
    repository::Repository,
    worker::{
        environment::Environment,
        failure::Failure,
        progress::Progress,
        report,
        restore::{
            order::{self, Order},
            preview::make,
            survey::Survey,
            walk::Ask,
        },
    },
};
use kube::{Client, ResourceExt};

/// Rehearses. `run` says who asked: what they may not write is not restorable for them.
pub async fn rehearse(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    run: &OperationRun,
) -> Result<TerminationResult, Failure> {
    let set = order::rehearsed_set(client, environment).await?;
    let name = set.name_any();
    let order = order::rehearsal(environment, &set, run)?;
    let mut ended = try_out(client, environment, repository, order).await;
    // The operator records the end on the set, also where the run did not name one.
    match &mut ended {
        Ok(result) => result.context.backup_set = Some(name),
        Err(failure) => failure.made.backup_set = Some(name),
    }
    ended
}

async fn try_out(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
    order: Order,
) -> Result<TerminationResult, Failure> {
    let set = order.backup_set.name.clone();
    let survey = Survey::take(client, environment, repository, order).await?;
    let made = make(&survey, client, Ask::Server).await?;
    // An item that the store did not give is not one that is damaged: nothing is said of the set, and it is tried again.
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
