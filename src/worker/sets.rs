//! What the records of a tenant say about the snapshots in its repository.

use crate::{
    api::{BackupSet, OperationRun, backup_set},
    cluster::retry::retry,
    repository::forget::Needed,
    worker::{
        environment::{Environment, NAMESPACE_TAG},
        failure::{Failure, api_failure},
    },
};
use jiff::SignedDuration;
use kube::{Api, Client, ResourceExt, api::ListParams};
use std::collections::BTreeSet;

/// The most snapshots that a result names as damaged: as many as fit.
const MAX_DAMAGED: usize = 150;

/// So much of a snapshot's id tells it from the others.
const DAMAGED_DIGITS: usize = 12;

/// The backup sets of a namespace. Not those of one repository alone: another of its repositories may be the same store.
pub async fn list(client: &Client, environment: &Environment) -> Result<Vec<BackupSet>, Failure> {
    let sets: Api<BackupSet> = Api::namespaced(client.clone(), &environment.identity.namespace);
    let all = ListParams::default();
    let listed = retry(|| sets.list(&all)).await;
    Ok(listed.map_err(|error| api_failure("list the backup sets", &error))?.items)
}

/// What the snapshots of a tenant are needed for.
///
/// The runs are read first: one that is completed by then has its backup set, and one that is not keeps its snapshot.
pub async fn needed(client: &Client, environment: &Environment, grace: SignedDuration) -> Result<Needed, Failure> {
    let runs: Api<OperationRun> = Api::namespaced(client.clone(), &environment.identity.namespace);
    let all = ListParams::default();
    let listed = retry(|| runs.list(&all)).await;
    let runs = listed.map_err(|error| api_failure("list the runs that may yet report a snapshot", &error))?.items;
    let running = runs.into_iter().filter(|run| !run.is_completed()).filter_map(|run| run.metadata.uid);
    let adopted = environment.repository_spec.adopt.iter().flat_map(|adopt| &adopt.namespace_uids);
    Ok(Needed {
        running: running.collect(),
        named: list(client, environment).await?.into_iter().map(|set| set.spec.snapshot).collect(),
        own_tags: adopted.chain([&environment.namespace_uid]).map(|uid| format!("{NAMESPACE_TAG}{uid}")).collect(),
        grace,
    })
}

/// Whether a check is to read everything back: a set that an earlier one found damaged counts as whole only after that.
#[must_use]
pub fn any_damaged(sets: &[BackupSet], repository: &str) -> bool {
    sets.iter().any(|set| set.spec.repository.name == repository && backup_set::is_damaged(set))
}

/// Names of the sets of damaged snapshots, and the snapshots as a result names them.
#[must_use]
pub fn of_damaged(sets: &[BackupSet], damaged: &[String]) -> (Vec<String>, Vec<String>) {
    let damaged: BTreeSet<&String> = damaged.iter().collect();
    let affected = sets.iter().filter(|set| damaged.contains(&set.spec.snapshot));
    let (names, snapshots): (Vec<_>, Vec<_>) = affected
        .map(|set| (set.name_any(), set.spec.snapshot.chars().take(DAMAGED_DIGITS).collect::<String>()))
        .unzip();
    (names, snapshots.into_iter().take(MAX_DAMAGED).collect())
}
