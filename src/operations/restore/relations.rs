//! Finds which objects own others, before anything is decided: the owners of stored items, and what
//! is garbage-collected with a deleted owner.

#![deny(clippy::disallowed_types)]

use crate::{
    api::{
        item::{GroupKind, ItemId},
        restore_run::ExistingResourcePolicy,
    },
    items::dependents::is_precious,
    operations::{
        capture::scope::{Scope, Work},
        restore::{
            unknown::{NOT_KNOWN, not_listed},
            walk::Walk,
        },
    },
    providers::call::{ListSelection, Object},
    worker::failure::{Failure, call_failure},
};
use serde_json::Value;
use std::collections::BTreeSet;

impl Walk<'_> {
    /// Finds the possible owners, and the objects that are deleted along with others.
    pub async fn prepare(&mut self) -> Result<(), Failure> {
        let owners: BTreeSet<ItemId> =
            self.inventory.items().flat_map(|(_, entry)| entry.owners.iter().cloned()).collect();
        let kinds: BTreeSet<GroupKind> = owners.iter().map(|owner| owner.kind.clone()).collect();
        for kind in kinds {
            let Some(served) = self.preferred(&kind) else {
                self.find_cluster_wide(&owners, &kind).await?;
                continue;
            };
            let everything = ListSelection::default();
            let mut listing = self.provider.list(served, &everything);
            let doing = format!("list {kind}, which own items of the backup set");
            loop {
                let object = match listing.next().await {
                    Ok(Some(object)) => object,
                    Ok(None) => break,
                    // Each item owned by this kind fails by itself.
                    Err(fault) if fault.is_refusal() => {
                        self.planner.unlisted.insert(kind.clone(), not_listed(&kind, &fault, NOT_KNOWN));
                        break;
                    }
                    Err(fault) => return Err(call_failure(&doing, &fault)),
                };
                let Ok(Object { name, json }) = object else { continue };
                let owner = ItemId::new(kind.clone(), name);
                let uid = json.get("metadata").and_then(|metadata| metadata.get("uid")?.as_str());
                if let Some(uid) = uid.filter(|_| owners.contains(&owner)) {
                    self.planner.family.add_live(owner, uid);
                }
            }
        }
        let terms = &self.planner.terms;
        if terms.prune || terms.existing_resource_policy == ExistingResourcePolicy::Recreate {
            self.find_dependents().await?;
        }
        self.related = owners;
        self.related.extend(self.planner.dependents.related());
        for item in self.related.iter().filter(|item| self.inventory.selects(item)) {
            self.planner.family.add_restored(item.clone());
        }
        Ok(())
    }

    /// Looks for cluster-scoped owners, as far as they may be read.
    async fn find_cluster_wide(&mut self, owners: &BTreeSet<ItemId>, kind: &GroupKind) -> Result<(), Failure> {
        let Some(served) = self.catalog.cluster_wide.iter().find(|served| served.group_kind() == *kind) else {
            return Ok(());
        };
        for owner in owners.iter().filter(|owner| owner.kind == *kind) {
            match self.session.get_cluster_wide(served, &owner.name).await {
                Ok(Some(object)) => {
                    if let Some(uid) = object["metadata"]["uid"].as_str() {
                        self.planner.family.add_live(owner.clone(), uid);
                    }
                }
                Ok(None) => {}
                // The other objects of the kind are hidden too.
                Err(fault) if fault.is_refusal() => break,
                Err(fault) => return Err(call_failure(&format!("read {} {}", served.kind, owner.name), &fault)),
            }
        }
        Ok(())
    }

    /// Finds the objects that a deletion takes along. A kind that may not be listed stops nothing:
    /// its objects are unknown, as they are to a capture.
    async fn find_dependents(&mut self) -> Result<(), Failure> {
        for step in Scope::default().plan(self.catalog) {
            if step.work != Work::List {
                continue;
            }
            let (kind, api_version) = (step.place.group_kind(), step.place.api_version());
            let everything = ListSelection::default();
            let mut listing = self.provider.list(&step.place, &everything);
            loop {
                let (name, json) = match listing.next().await {
                    Ok(None) => break,
                    Err(fault) if fault.is_refusal() => {
                        if is_precious(&kind) {
                            let (_, remark) = not_listed(&kind, &fault, NOT_KNOWN);
                            let message = format!("which {kind}s go with it is not known: {}", remark.message);
                            self.planner.dependents_unknown = Some(message);
                        }
                        break;
                    }
                    Ok(Some(Err(_))) => continue,
                    Ok(Some(Ok(Object { name, json }))) => (name, json),
                    Err(fault) => {
                        let doing = format!("list {}, which a deletion may take along", step.place.plural);
                        return Err(call_failure(&doing, &fault));
                    }
                };
                let told = self.rules.skips(&kind, &name, &json).is_none_or(|why| why.told().is_some());
                let item = ItemId::new(kind.clone(), name);
                self.planner.dependents.add(item, &api_version, told, &Value::Object(json));
            }
        }
        Ok(())
    }
}
