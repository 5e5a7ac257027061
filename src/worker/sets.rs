//! What the records of a tenant say about the snapshots in its repository.

use crate::{
    api::{BackupSet, OperationRun, backup_set},
    cluster::retry::retry,
    repository::{Snapshot, forget::Needed},
    worker::{
        environment::{Environment, NAMESPACE_TAG},
        failure::{Failure, api_failure},
    },
};
use jiff::SignedDuration;
use kube::{Api, Client, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::{collections::BTreeSet, fmt::Debug};

/// The most snapshots that a result names as damaged: as many as fit.
const MAX_DAMAGED: usize = 150;

/// Objects in a page of a list, which is held in full while it is read.
const PAGE: u32 = 200;

/// So much of a snapshot's id tells it from the others.
const DAMAGED_DIGITS: usize = 12;

/// The backup sets of a namespace. Not those of one repository alone: another of its repositories may be the same store.
pub async fn list(client: &Client, environment: &Environment) -> Result<Vec<BackupSet>, Failure> {
    let mut sets = Vec::new();
    each(client, environment, "list the backup sets", |mut set: BackupSet| {
        // Megabytes, in the worst case, of what is not asked about.
        set.spec.absent.clear();
        sets.push(set);
    })
    .await?;
    Ok(sets)
}

/// What the snapshots of a tenant are needed for.
///
/// The runs are read first: one that is completed by then has its backup set, and one that is not keeps its snapshot.
pub async fn needed(client: &Client, environment: &Environment, grace: SignedDuration) -> Result<Needed, Failure> {
    let mut running = BTreeSet::new();
    each(client, environment, "list the runs that may yet report a snapshot", |run: OperationRun| {
        running.extend(run.metadata.uid.clone().filter(|_| !run.is_completed()));
    })
    .await?;
    let adopted = environment.repository_spec.adopt.iter().flat_map(|adopt| &adopt.namespace_uids);
    Ok(Needed {
        running,
        named: list(client, environment).await?.into_iter().map(|set| set.spec.snapshot).collect(),
        own_tags: adopted.chain([&environment.namespace_uid]).map(|uid| format!("{NAMESPACE_TAG}{uid}")).collect(),
        grace,
    })
}

/// Visits all objects of a kind in the namespace, as they were when the first page was read.
async fn each<K>(
    client: &Client,
    environment: &Environment,
    doing: &str,
    mut visit: impl FnMut(K),
) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(client.clone(), &environment.identity.namespace);
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let listed = retry(|| objects.list(&page)).await.map_err(|error| api_failure(doing, &error))?;
        let next = listed.metadata.continue_.filter(|next| !next.is_empty());
        listed.items.into_iter().for_each(&mut visit);
        let Some(next) = next else { return Ok(()) };
        page = page.continue_token(&next);
    }
}

/// The sets that name a repository.
pub fn of_repository<'a>(sets: &'a [BackupSet], repository: &'a str) -> impl Iterator<Item = &'a BackupSet> {
    sets.iter().filter(move |set| set.spec.repository.name == repository)
}

/// The sets of a repository whose snapshots are not there.
///
/// The sets must have been listed first: a set is recorded after its snapshot was, and while whoever asks holds a Lease nothing is
/// forgotten. In the other order a capture that ends in between would count as lost.
#[must_use]
pub fn without_snapshot<'a>(sets: &'a [BackupSet], repository: &'a str, snapshots: &[Snapshot]) -> Vec<&'a BackupSet> {
    let there: BTreeSet<&str> = snapshots.iter().map(|snapshot| snapshot.id.as_str()).collect();
    let is_lost = |set: &&BackupSet| !there.contains(set.spec.snapshot.as_str());
    of_repository(sets, repository).filter(is_lost).collect()
}

/// Whether a check is to read everything back: a set that an earlier one found damaged counts as whole only after that.
#[must_use]
pub fn any_damaged(sets: &[BackupSet], repository: &str) -> bool {
    of_repository(sets, repository).any(backup_set::is_damaged)
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
