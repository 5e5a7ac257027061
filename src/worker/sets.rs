//! What a tenant's records say about the snapshots in its repository.

use crate::{
    api::{BackupSet, OperationRun, backup_set},
    providers::kubernetes::list::field_is,
    repository::{Snapshot, forget::Needed},
    worker::{
        environment::{Environment, NAMESPACE_TAG},
        failure::Failure,
        pages,
    },
};
use jiff::SignedDuration;
use kube::{Client, Resource, ResourceExt, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

/// Maximum number of damaged snapshots that a result names: as many as fit.
const MAX_DAMAGED: usize = 150;

/// Objects per page of a list.
const PAGE: u32 = 200;

/// Length of the prefix that distinguishes a snapshot's id from the others.
const DAMAGED_DIGITS: usize = 12;

/// Lists the backup sets of a namespace. Sets of other repositories are included, because another
/// repository of the namespace may be the same store.
pub async fn list(client: &Client, environment: &Environment) -> Result<Vec<BackupSet>, Failure> {
    list_with_absent(client, environment, |_| false).await
}

/// The same. Of the items that sets name as absent, only those that are `wanted` are kept: all of
/// them take megabytes in the worst case.
pub async fn list_with_absent(
    client: &Client,
    environment: &Environment,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<BackupSet>, Failure> {
    let mut sets = Vec::new();
    each(client, environment, "list the backup sets", ListParams::default(), |mut set: BackupSet| {
        set.spec.absent.retain(|item| wanted(item));
        set.spec.absent.shrink_to_fit();
        sets.push(set);
    })
    .await?;
    Ok(sets)
}

/// Visits the backup sets of a namespace, and keeps what is made of them.
pub async fn gather<T>(
    client: &Client,
    environment: &Environment,
    mut made_of: impl FnMut(BackupSet) -> Option<T>,
) -> Result<Vec<T>, Failure> {
    let mut found = Vec::new();
    each(client, environment, "list the backup sets", ListParams::default(), |set| found.extend(made_of(set))).await?;
    Ok(found)
}

/// Who started these runs, by uid, as far as the runs still exist.
pub async fn initiators(
    client: &Client,
    environment: &Environment,
    runs: &BTreeSet<&str>,
) -> Result<BTreeMap<String, String>, Failure> {
    let mut found = BTreeMap::new();
    let doing = "list the runs that recorded the backup sets";
    each(client, environment, doing, ListParams::default(), |run: OperationRun| {
        if let (Some(uid), Some(initiator)) = (run.metadata.uid, run.spec.initiator)
            && runs.contains(uid.as_str())
        {
            found.insert(uid, initiator.username);
        }
    })
    .await?;
    Ok(found)
}

/// Finds a backup set of the namespace by its name. The worker's account may list sets, and get none.
pub async fn find(client: &Client, environment: &Environment, name: &str) -> Result<Option<BackupSet>, Failure> {
    let named = ListParams::default().fields(&field_is("metadata.name", name));
    let mut found = None;
    each(client, environment, &format!("look for the backup set {name}"), named, |set: BackupSet| found = Some(set))
        .await?;
    Ok(found)
}

/// Determines which snapshots of a tenant are needed.
///
/// The runs are read first: a run that is completed by then has its backup set, and a run that is
/// not keeps its snapshot.
pub async fn needed(client: &Client, environment: &Environment, grace: SignedDuration) -> Result<Needed, Failure> {
    let (mut running, mut runs) = (BTreeSet::new(), BTreeSet::new());
    let doing = "list the runs that may yet report a snapshot";
    each(client, environment, doing, ListParams::default(), |run: OperationRun| {
        let Some(uid) = run.metadata.uid.clone() else { return };
        if !run.is_completed() {
            running.insert(uid.clone());
        }
        runs.insert(uid);
    })
    .await?;
    let adopted = environment.repository_spec.adopt.iter().flat_map(|adopt| &adopt.namespace_uids);
    Ok(Needed {
        running,
        runs,
        named: list(client, environment).await?.into_iter().map(|set| set.spec.snapshot).collect(),
        own_tags: adopted.chain([&environment.namespace_uid]).map(|uid| format!("{NAMESPACE_TAG}{uid}")).collect(),
        grace,
    })
}

/// Visits the selected records of a kind in the namespace.
async fn each<K>(
    client: &Client,
    environment: &Environment,
    doing: &str,
    selected: ListParams,
    visit: impl FnMut(K),
) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    pages::each(client, &environment.identity.namespace, doing, selected.limit(PAGE), visit).await
}

/// The sets that name a repository.
pub fn of_repository<'a>(sets: &'a [BackupSet], repository: &'a str) -> impl Iterator<Item = &'a BackupSet> {
    sets.iter().filter(move |set| set.spec.repository.name == repository)
}

/// The sets of a repository whose snapshots are missing.
///
/// The sets must be listed before the snapshots. A set is recorded after its snapshot, and nothing
/// is forgotten while the caller holds a Lease. In the other order, a capture that ends in between
/// would count as lost.
#[must_use]
pub fn without_snapshot<'a>(sets: &'a [BackupSet], repository: &'a str, snapshots: &[Snapshot]) -> Vec<&'a BackupSet> {
    let there: BTreeSet<&str> = snapshots.iter().map(|snapshot| snapshot.id.as_str()).collect();
    let is_lost = |set: &&BackupSet| !there.contains(set.spec.snapshot.as_str());
    of_repository(sets, repository).filter(is_lost).collect()
}

/// Whether a check must read back all data. A set that an earlier check found damaged counts as
/// intact only after that.
#[must_use]
pub fn any_damaged(sets: &[BackupSet], repository: &str) -> bool {
    of_repository(sets, repository).any(backup_set::is_damaged)
}

/// Effect of damaged snapshots on a tenant.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Names of the affected sets, including those of another repository that may be the same
    /// store.
    pub sets: Vec<String>,
    /// The damaged snapshots of this repository's sets, each once, in the form that a result uses.
    pub snapshots: Vec<String>,
    /// Whether there are more than fit.
    pub truncated: bool,
}

/// Determines how the damage of these snapshots affects the sets.
#[must_use]
pub fn of_damaged(sets: &[BackupSet], repository: &str, damaged: &[String]) -> Damage {
    let damaged: BTreeSet<&String> = damaged.iter().collect();
    let is_affected = |set: &&BackupSet| damaged.contains(&set.spec.snapshot);
    let named = of_repository(sets, repository).filter(is_affected);
    let snapshots: BTreeSet<String> =
        named.map(|set| set.spec.snapshot.chars().take(DAMAGED_DIGITS).collect()).collect();
    Damage {
        sets: sets.iter().filter(is_affected).map(ResourceExt::name_any).collect(),
        truncated: snapshots.len() > MAX_DAMAGED,
        snapshots: snapshots.into_iter().take(MAX_DAMAGED).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::result::{MAX_TERMINATION_MESSAGE, ResultContext, TerminationResult};
    use serde_json::json;

    fn set(number: usize, repository: &str) -> BackupSet {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": format!("set-{number}")},
            "spec": {"repository": {"name": repository}, "snapshot": snapshot(number), "run": {"name": "r", "uid": "u"}, "namespaceUid": "n"},
        }))
        .expect("a set")
    }

    fn snapshot(number: usize) -> String {
        format!("{number:012}").repeat(5)
    }

    #[test]
    fn damage_names_each_snapshot_once_and_says_when_there_are_more_than_fit() {
        let mut sets: Vec<_> = (0..MAX_DAMAGED).map(|number| set(number, "main")).collect();
        // One snapshot with two sets, and one named by another repository of the namespace.
        sets.extend([set(0, "main"), set(900, "another")]);
        let damaged: Vec<_> = (0..1000).map(snapshot).collect();
        let damage = of_damaged(&sets, "main", &damaged);
        assert_eq!((damage.sets.len(), damage.snapshots.len(), damage.truncated), (152, MAX_DAMAGED, false));
        sets.push(set(901, "main"));
        let damage = of_damaged(&sets, "main", &damaged);
        assert_eq!((damage.snapshots.len(), damage.truncated), (MAX_DAMAGED, true));
        assert_eq!(of_damaged(&sets, "main", &[]), Damage::default());

        let context =
            ResultContext { damaged_snapshots: damage.snapshots, damaged_truncated: true, ..Default::default() };
        let result = TerminationResult { message: Some("m".repeat(800)), context, ..Default::default() };
        let text = result.to_message();
        assert!(text.len() <= MAX_TERMINATION_MESSAGE, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<TerminationResult>(&text).expect("JSON"), result);
    }
}
