//! `tenantatlas worker rehearse`: tests whether a backup set could be restored now, by default the
//! newest.
//!
//! The whole set is read back, and every write that a restore would make is tried as a dry run. The
//! plan goes into the run's reports, like that of a preview.

mod records;

use crate::{
    api::reason::restore as reason,
    api::{
        BackupSet, LocalReference, OperationRun, RestoreRun, RestoreRunSpec,
        backup_set::{Content, Coverage},
        operations::RehearseInputs,
        restore_run::ExistingResourcePolicy,
        result::TerminationResult,
    },
    operations::restore::{
        made::make,
        order::{self, Order},
        survey::Survey,
        walk::Ask,
    },
    providers::{Provider, bounded::Bounded, kubernetes::Kubernetes},
    repository::{Repository, SnapshotReader},
    worker::{
        environment::Environment,
        failure::Failure,
        sets,
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
        read_inputs(environment)?;
        Ok(begun(|site: Site<'_>| {
            Box::pin(async move { rehearse(site.client, site.environment, site.repository()?, site.run).await })
        }))
    }
}

/// Reads the inputs of a rehearsal. Call this before anything is opened.
fn read_inputs(environment: &Environment) -> Result<RehearseInputs, Failure> {
    let inputs: RehearseInputs = environment.inputs()?;
    environment.expect_repository(&inputs.repository)?;
    Ok(inputs)
}

/// The set to rehearse.
async fn rehearsed_set(client: &Client, environment: &Environment) -> Result<BackupSet, Failure> {
    let inputs = read_inputs(environment)?;
    match inputs.backup_set {
        Some(name) => order::find_set(client, environment, &name).await,
        None => newest(sets::list(client, environment).await?, &inputs.repository).ok_or_else(|| {
            let message = format!(
                "repository {} has no backup set yet: rehearse again after the first capture",
                inputs.repository
            );
            Failure::blocked(reason::BACKUP_SET_NOT_FOUND, message)
        }),
    }
}

/// The newest set of a repository that holds the whole tenant. If there is none, the newest set: of
/// a selection, or one that undoes a restore.
fn newest(sets: Vec<BackupSet>, repository: &str) -> Option<BackupSet> {
    let there = |set: &BackupSet| {
        let holds_objects = set.spec.content == Content::Objects;
        set.spec.repository.name == repository && holds_objects && set.metadata.deletion_timestamp.is_none()
    };
    let age = |set: &BackupSet| {
        let whole = set.spec.coverage == Coverage::Full;
        (whole, set.metadata.creation_timestamp.clone(), set.metadata.name.clone())
    };
    sets.into_iter().filter(there).max_by_key(age)
}

/// The order that a rehearsal tests: restore a whole set and replace what differs.
fn rehearsal(environment: &Environment, set: &BackupSet, run: &OperationRun) -> Result<Order, Failure> {
    let spec = RestoreRunSpec {
        dry_run: true,
        existing_resource_policy: ExistingResourcePolicy::Update,
        requested_by: run.spec.initiator.clone(),
        ..RestoreRunSpec::of(LocalReference::new(set.name_any()))
    };
    let restore = RestoreRun::new("rehearsal", spec);
    order::decide(environment, &restore, None, set, None)
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
    let set = rehearsed_set(client, environment).await?;
    let name = set.name_any();
    let order = rehearsal(environment, &set, run)?;
    let mut ended = try_out(&provider, client, environment, repository, order, &name).await;
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
    set: &str,
) -> Result<TerminationResult, Failure> {
    let survey = Survey::take(provider, environment, repository, order).await?;
    let made = make(&survey, Ask::Server).await?;
    // An item that the store failed to return is not damaged. Report nothing about the set, and
    // retry.
    if let Some(fault) =
        survey.reader.as_ref().and_then(SnapshotReader::fault).filter(|fault| !fault.is_of_the_content())
    {
        return Err(fault.into());
    }
    let mut result = made.to_result();
    result.message = result.message.map(|message| format!("a restore of {set} {message}"));
    made.publish(client, &environment.identity, &result).await?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_set_is_the_newest_that_holds_the_whole_tenant() {
        let set = |name: &str, repository: &str, minute: u32, coverage: &str| -> BackupSet {
            serde_json::from_value(serde_json::json!({
                "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
                "metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:{minute:02}:00Z")},
                "spec": {"repository": {"name": repository}, "snapshot": "a", "run": {"name": "r", "uid": "u"}, "namespaceUid": "n", "coverage": coverage},
            }))
            .expect("a set")
        };
        let mut going = set("going", "main", 9, "full");
        going.metadata.deletion_timestamp = going.metadata.creation_timestamp.clone();
        let mut inventory = set("inventory", "main", 8, "full");
        inventory.spec.content = Content::Inventory;
        let all = [
            set("whole", "main", 1, "full"),
            set("older", "main", 0, "full"),
            set("undo", "main", 2, "partial"),
            set("elsewhere", "other", 3, "full"),
            going,
            inventory,
        ];
        let newest_of = |sets: &[BackupSet]| newest(sets.to_vec(), "main").map(|set| set.name_any());
        assert_eq!(newest_of(&all).as_deref(), Some("whole"));
        assert_eq!(newest_of(&all[2..]).as_deref(), Some("undo"));
        assert_eq!(newest_of(&all[3..]), None);
    }
}
