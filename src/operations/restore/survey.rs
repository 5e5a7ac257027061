//! Everything that is known before the first item is decided.

#![deny(clippy::disallowed_types)]

use crate::{
    api::item::GroupKind,
    api::reason::restore as reason,
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
    operations::restore::{
        absence, access,
        inventory::{self, Inventory},
        order::{Cause, Order},
        walk::{Ask, Walk},
    },
    providers::{Guard, PlannedRoles, Provider, Session, catalog::Catalog},
    repository::{Repository, SnapshotReader},
    worker::{
        environment::Environment,
        failure::{Failure, call_failure},
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// Purpose of the derived key for hashes in plans.
const DIGESTS: &str = "tenantatlas/restore/digests";

/// What is known before the first item is decided.
pub struct Survey<'p> {
    /// Where the items are.
    pub provider: &'p dyn Provider,
    /// What to do.
    pub order: Order,
    /// What the provider holds.
    pub catalog: Catalog,
    /// The open snapshot. `None` if objects are only deleted.
    pub reader: Option<SnapshotReader>,
    /// The selected contents of the snapshot.
    pub inventory: Inventory,
    rules: ItemRules,
    refused: BTreeMap<(GroupKind, Verb), String>,
    guard: Box<dyn Guard + 'p>,
    key: DigestKey,
    readers: Readers,
    namespace: String,
}

impl<'p> Survey<'p> {
    /// Collects the survey from the provider and the snapshot.
    pub async fn take(
        provider: &'p dyn Provider,
        environment: &Environment,
        repository: &impl Repository,
        mut order: Order,
    ) -> Result<Self, Failure> {
        let namespace = environment.identity.namespace.clone();
        let repository_secrets = provider.repository_secrets().await?;
        let catalog = provider.catalog().await;
        let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
        let (reader, items) = if order.terms.is_deletion() {
            (None, Vec::new())
        } else {
            let reader = repository.reader(&order.terms.snapshot).await?;
            let items = reader.items().await?;
            if let Some(count) = order.absent_in_snapshot {
                let named = absence::read(&reader, &items, count).await?;
                order.absent = named.ok_or_else(|| undo_incomplete(&order.cause, count))?;
            }
            (Some(reader), items)
        };
        let stored = inventory::kinds(&items);
        let readable = readable(&order, &stored, &catalog);
        let hidden = access::hidden(provider, order.cause.remedy(), &order.requested_by, &readable).await?;
        let served = catalog.versions();
        // Access to a kind that is no longer served cannot be reviewed.
        let visible = |kind: &GroupKind| served.contains_key(kind) && !hidden.contains_key(kind);
        let inventory = match &reader {
            Some(reader) => inventory::read(reader, items, &order.selection, visible).await?,
            None => Inventory::default(),
        };
        let kinds = kinds_to_write(&order, &inventory, &catalog);
        if kinds.is_empty() && inventory.kinds.is_empty() && inventory.broken.is_empty() {
            return Err(Failure::permanent(
                reason::NOTHING_SELECTED,
                "no item of the backup set is selected: correct items and excludeItems in a new restore",
            ));
        }
        let verbs = access::verbs(&order.terms);
        let remedy = order.cause.remedy();
        let mut refused =
            access::refused(provider, remedy, &order.requested_by, &order.account, &kinds, &verbs).await?;
        refused.extend(hidden.into_iter().map(|(kind, why)| ((kind, Verb::Get), why)));
        let readers = provider.readers(&catalog).await?;
        let guard = provider.guard(&order.requested_by);
        let key = DigestKey::new(repository.derived_key(DIGESTS));
        Ok(Self {
            provider,
            order,
            catalog,
            reader,
            inventory,
            rules: ItemRules { repository_secrets },
            refused,
            guard,
            key,
            readers,
            namespace,
        })
    }

    /// Starts to read and write single items.
    #[must_use]
    pub fn session(&self) -> Box<dyn Session + '_> {
        self.provider.session(self.readers.clone())
    }

    /// Creates a walk over all surveyed kinds.
    #[must_use]
    pub fn walk(&self, ask: Ask) -> Walk<'_> {
        Walk {
            provider: self.provider,
            session: self.session(),
            reader: self.reader.as_ref(),
            inventory: &self.inventory,
            selection: &self.order.selection,
            catalog: &self.catalog,
            rules: &self.rules,
            planner: Planner {
                terms: self.order.terms.clone(),
                namespace: self.namespace.clone(),
                key: self.key.clone(),
                transforms: self.order.transforms.clone(),
                exclusions: ExclusionRules { repository_secrets: self.rules.repository_secrets.clone() },
                family: Family::of(self.catalog.kinds.iter().map(ServedKind::group_kind)),
                served: self.catalog.versions(),
                status_is_data: self.catalog.without_status.clone(),
                refused: self.refused.clone(),
                dependents: Dependents::default(),
                dependents_unknown: None,
                unlisted: BTreeMap::new(),
                readers: self.readers.clone(),
            },
            guard: &*self.guard,
            planned_roles: PlannedRoles::default(),
            related: BTreeSet::new(),
            assumed: BTreeMap::new(),
            ask,
        }
    }
}

fn undo_incomplete(cause: &Cause, count: i64) -> Failure {
    let set = match cause {
        Cause::Restore { backup_set, .. } => backup_set.name.as_str(),
        Cause::Deletion { .. } => "",
    };
    let message = format!(
        "check the repository: the snapshot of the backup set {set} does not name the {count} items that did not exist when it was taken"
    );
    Failure::blocked(reason::UNDO_INCOMPLETE, message)
}

/// Kinds of which something may be read.
fn readable(order: &Order, stored: &BTreeSet<GroupKind>, catalog: &Catalog) -> Vec<ServedKind> {
    // The garbage collector may take objects of any kind with a deleted owner, and the plan names them.
    about(order, catalog, |kind| order.terms.is_deletion() || stored.contains(kind))
}

/// Kinds of which something may be written.
fn kinds_to_write(order: &Order, inventory: &Inventory, catalog: &Catalog) -> Vec<ServedKind> {
    about(order, catalog, |kind| inventory.kinds.keys().any(|stored| stored.kind == *kind))
}

/// Kinds that the order names, or that the snapshot holds, or all if it prunes.
fn about(order: &Order, catalog: &Catalog, holds: impl Fn(&GroupKind) -> bool) -> Vec<ServedKind> {
    let prunes = order.terms.prune && order.full;
    let absent: BTreeSet<&GroupKind> = order.absent.iter().map(|item| &item.kind).collect();
    let may_be_written = |kind: &GroupKind| prunes || holds(kind) || absent.contains(kind);
    catalog.kinds.iter().filter(|served| may_be_written(&served.group_kind())).cloned().collect()
}
