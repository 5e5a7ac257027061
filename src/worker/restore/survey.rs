//! Everything that is known before the first item is decided.

use crate::{
    api::item::GroupKind,
    cluster::discovery::{Discovered, discover},
    items::{
        decide::{Planner, Verb},
        dependents::Dependents,
        excluded::ExclusionRules,
        owners::Family,
        readers::Readers,
        semantic::DigestKey,
        served::ServedKind,
        skip::ItemRules,
    },
    repository::{Repository, SnapshotReader},
    worker::{
        absence,
        collect::repository_secrets,
        environment::Environment,
        failure::{Failure, api_failure},
        restore::{
            access,
            grants::{Grants, PlannedRoles},
            inventory::{self, Inventory},
            order::{Order, reason},
            walk::{Ask, Walk},
            write::Calls,
        },
    },
};
use kube::Client;
use std::collections::{BTreeMap, BTreeSet};

/// Purpose of the derived key for hashes in plans.
const DIGESTS: &str = "tenantatlas/restore/digests";

/// What is known before the first item is decided.
pub struct Survey {
    /// What to do.
    pub order: Order,
    /// What the cluster serves.
    pub discovered: Discovered,
    /// The open snapshot.
    pub reader: SnapshotReader,
    /// The selected contents of the snapshot.
    pub inventory: Inventory,
    rules: ItemRules,
    refused: BTreeMap<(GroupKind, Verb), String>,
    grants: Grants,
    key: DigestKey,
    readers: Readers,
    namespace: String,
}

impl Survey {
    /// Collects the survey from the cluster and the snapshot.
    pub async fn take(
        client: &Client,
        environment: &Environment,
        repository: &impl Repository,
        mut order: Order,
    ) -> Result<Self, Failure> {
        let namespace = environment.identity.namespace.clone();
        let repository_secrets = repository_secrets(client, &namespace).await?;
        let discovered =
            discover(client).await.map_err(|error| api_failure("discover what the cluster serves", &error))?;
        let reader = repository.reader(&order.terms.snapshot).await?;
        let items = reader.items().await?;
        if let Some(count) = order.absent_in_snapshot {
            let named = absence::read(&reader, &items, count).await?;
            order.absent = named.ok_or_else(|| undo_incomplete(&order, count))?;
        }
        let stored = inventory::kinds(&items);
        let readable = readable(&order, &stored, &discovered);
        let hidden = access::hidden(client, &namespace, &order.requested_by, &readable).await?;
        let served = discovered.versions();
        // Access to a kind that is no longer served cannot be reviewed.
        let visible = |kind: &GroupKind| served.contains_key(kind) && !hidden.contains_key(kind);
        let inventory = inventory::read(&reader, items, &order.selection, visible).await?;
        let kinds = kinds_to_write(&order, &inventory, &discovered);
        if kinds.is_empty() && inventory.kinds.is_empty() && inventory.broken.is_empty() {
            return Err(Failure::permanent(
                reason::NOTHING_SELECTED,
                "no item of the backup set is selected: correct items and excludeItems in a new restore",
            ));
        }
        let verbs = access::verbs(&order.terms);
        let mut refused =
            access::refused(client, &namespace, &order.requested_by, &order.account, &kinds, &verbs).await?;
        refused.extend(hidden.into_iter().map(|(kind, why)| ((kind, Verb::Get), why)));
        let readers = access::readers(client, &discovered).await?;
        let grants = Grants::new(client.clone(), namespace.clone(), order.requested_by.clone());
        let key = DigestKey::new(repository.derived_key(DIGESTS));
        Ok(Self {
            order,
            discovered,
            reader,
            inventory,
            rules: ItemRules { repository_secrets },
            refused,
            grants,
            key,
            readers,
            namespace,
        })
    }

    /// Creates a walk over all surveyed kinds.
    #[must_use]
    pub fn walk<'a>(&'a self, client: &'a Client, ask: Ask) -> Walk<'a> {
        Walk {
            client,
            calls: Calls::new(client, self.readers.clone()),
            reader: &self.reader,
            inventory: &self.inventory,
            selection: &self.order.selection,
            discovered: &self.discovered,
            rules: &self.rules,
            planner: Planner {
                terms: self.order.terms.clone(),
                namespace: self.namespace.clone(),
                key: self.key.clone(),
                transforms: self.order.transforms.clone(),
                exclusions: ExclusionRules { repository_secrets: self.rules.repository_secrets.clone() },
                family: Family::of(self.discovered.kinds.iter().map(ServedKind::group_kind)),
                served: self.discovered.versions(),
                status_is_data: self.discovered.without_status.clone(),
                refused: self.refused.clone(),
                dependents: Dependents::default(),
                dependents_unknown: None,
                unlisted: BTreeMap::new(),
                readers: self.readers.clone(),
            },
            grants: &self.grants,
            planned_roles: PlannedRoles::default(),
            related: BTreeSet::new(),
            assumed: BTreeMap::new(),
            ask,
        }
    }
}

fn undo_incomplete(order: &Order, count: i64) -> Failure {
    let set = &order.backup_set.name;
    let message = format!(
        "check the repository: the snapshot of the backup set {set} does not name the {count} items that did not exist when it was taken"
    );
    Failure::blocked(reason::UNDO_INCOMPLETE, message)
}

/// Kinds of which something may be read.
fn readable(order: &Order, stored: &BTreeSet<GroupKind>, discovered: &Discovered) -> Vec<ServedKind> {
    about(order, discovered, |kind| stored.contains(kind))
}

/// Kinds of which something may be written.
fn kinds_to_write(order: &Order, inventory: &Inventory, discovered: &Discovered) -> Vec<ServedKind> {
    about(order, discovered, |kind| inventory.kinds.keys().any(|stored| stored.kind == *kind))
}

fn about(order: &Order, discovered: &Discovered, holds: impl Fn(&GroupKind) -> bool) -> Vec<ServedKind> {
    let prunes = order.terms.prune && order.full;
    let absent: BTreeSet<&GroupKind> = order.absent.iter().map(|item| &item.kind).collect();
    let may_be_written = |kind: &GroupKind| prunes || holds(kind) || absent.contains(kind);
    discovered.kinds.iter().filter(|served| may_be_written(&served.group_kind())).cloned().collect()
}
