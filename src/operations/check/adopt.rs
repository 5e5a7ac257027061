//! Backup sets for the snapshots of an adopted repository, left behind by a lost cluster or a
//! recreated namespace.
//!
//! The original selection of such a set is unknown, so the set counts as partial: a restore never
//! prunes by it. Snapshots that undo a restore are not listed, because the names of their absent
//! items are lost.

use crate::{
    api::{
        BackupSet, BackupSetSpec, LocalReference, ObjectReference,
        backup_set::{Content, Coverage, adopted_name, figures},
        operation_run::Trigger,
        selection::Selection,
    },
    cluster::retry::retry,
    operations::inventory::layout,
    repository::{Repository, Snapshot},
    worker::{
        environment::{Environment, NAMESPACE_TAG, UNDO_TAG},
        failure::{Failure, api_failure},
    },
};
use kube::{Api, Client, api::PostParams};

/// Creates the missing backup sets and returns how many exist now.
pub async fn record_sets(
    client: &Client,
    environment: &Environment,
    repository: &impl Repository,
) -> Result<i64, Failure> {
    let adopted = environment.repository_spec.adopt.as_ref().map(|adopt| adopt.namespace_uids.as_slice());
    let Some(adopted) = adopted.filter(|uids| !uids.is_empty()) else { return Ok(0) };
    let sets: Api<BackupSet> = Api::namespaced(client.clone(), &environment.identity.namespace);
    let parameters = PostParams::default();
    let mut there = 0;
    for snapshot in repository.snapshots().await? {
        let Some(set) = set(environment, adopted, &snapshot) else { continue };
        match retry(|| sets.create(&parameters, &set)).await {
            Ok(_) => {}
            // Created by an earlier check.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(api_failure("list the snapshots of an adopted namespace as backup sets", &error)),
        }
        there += 1;
    }
    Ok(there)
}

/// Backup set for a snapshot, if the snapshot is a capture of an adopted namespace.
fn set(environment: &Environment, adopted: &[String], snapshot: &Snapshot) -> Option<BackupSet> {
    let run_uid = snapshot.run_uid.clone()?;
    let namespace_uid = snapshot.tags.iter().find_map(|tag| tag.strip_prefix(NAMESPACE_TAG))?;
    let is_own = namespace_uid == environment.namespace_uid;
    if is_own || !adopted.iter().any(|uid| uid == namespace_uid) || snapshot.tags.iter().any(|tag| tag == UNDO_TAG) {
        return None;
    }
    let spec = BackupSetSpec {
        repository: LocalReference::new(&environment.repository),
        snapshot: snapshot.id.clone(),
        run: ObjectReference { name: environment.identity.run.clone(), uid: run_uid },
        selection: Selection::default(),
        namespace_uid: namespace_uid.to_owned(),
        coverage: Coverage::Partial,
        content: content(&snapshot.tags),
        absent: Vec::new(),
        absent_in_snapshot: None,
        backup_schedule: None,
        trigger: Trigger::Manual,
        hold: false,
    };
    let mut set = BackupSet::new(&adopted_name(&snapshot.id), spec);
    set.metadata.namespace = Some(environment.identity.namespace.clone());
    set.metadata.annotations = Some(figures(snapshot.time, snapshot.items, snapshot.bytes, snapshot.added_bytes));
    Some(set)
}

/// What a snapshot holds, as it says itself.
fn content(tags: &[String]) -> Content {
    if tags.iter().any(|tag| tag == layout::TAG) { Content::Inventory } else { Content::Objects }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::environment::tests::variables;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn snapshot(tags: &[&str], run_uid: Option<&str>) -> Snapshot {
        Snapshot {
            id: "0123456789abcdef".repeat(4),
            tree: String::new(),
            time: "2026-01-01T00:00:00Z".parse().expect("a time"),
            run_uid: run_uid.map(str::to_owned),
            audit: None,
            host: "acme".into(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            items: 7,
            bytes: 70,
            added_bytes: 17,
        }
    }

    #[test]
    fn a_capture_of_an_adopted_namespace_is_a_partial_set_and_nothing_else_is_one() {
        let variables = variables();
        let environment = Environment::read(&|name| variables.get(name).cloned()).expect("an environment");
        let adopted = ["lost".to_owned(), "namespace-uid".to_owned()];
        let of = |tags: &[&str], run: Option<&str>| set(&environment, &adopted, &snapshot(tags, run));
        let set = of(&["cluster=c", "namespace=lost"], Some("run")).expect("a set");
        assert_eq!(set.metadata.name.as_deref(), Some("adopted-0123456789abcdef"));
        assert_eq!((set.spec.namespace_uid.as_str(), set.spec.coverage), ("lost", Coverage::Partial));
        assert_eq!((set.spec.run.uid.as_str(), set.spec.content), ("run", Content::Objects));
        let inventory = of(&["namespace=lost", "inventory", "scope=0"], Some("run")).expect("a set");
        assert_eq!(inventory.spec.content, Content::Inventory);
        assert!(set.is_adopted(), "a later check finds what this one left without a status");
        let own = BackupSet { metadata: ObjectMeta { name: Some("nightly".into()), ..ObjectMeta::default() }, ..set };
        assert!(!own.is_adopted());
        assert_eq!(of(&["namespace=lost", "undo"], Some("run")), None);
        assert_eq!(of(&["namespace=lost"], None), None, "of another program");
        assert_eq!(of(&["namespace=another"], Some("run")), None);
        assert_eq!(of(&["namespace=namespace-uid"], Some("run")), None, "this namespace's own have records, or had");
    }
}
