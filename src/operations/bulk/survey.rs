//! What is known before the first object is read: the kind, the change, who may do it. Then objects
//! are looked at one by one.

#![deny(clippy::disallowed_types)]

use super::{
    access::{self, Denied},
    blocked,
    order::Order,
};
use crate::{
    api::{
        BulkOperationRunSpec,
        item::ItemId,
        reason::{bulk as reason, item},
        subject::Initiator,
    },
    items::{
        bulk::{self, Change, Left, Step, seen, step},
        excluded::ExclusionRules,
        served::ServedKind,
    },
    providers::{Guard, Provider, Session, call::Target, catalog::Catalog, fault::Fault},
    worker::failure::{Failure, call_failure},
};
use serde_json::Value;

/// What is known before the first object is read.
pub struct Survey<'a> {
    /// Where the objects are.
    pub provider: &'a dyn Provider,
    /// What the requester, or the account that writes, may not do.
    pub denied: Denied,
    /// The kind, in the version that is read and written.
    pub kind: ServedKind,
    catalog: Catalog,
    change: Change,
    requested_by: &'a Initiator,
    named: bool,
}

impl<'a> Survey<'a> {
    /// Asks what the cluster serves, and who may do what. The rights that count are those of the
    /// author of this bulk operation, not of the preview that it applies.
    pub async fn take(provider: &'a dyn Provider, order: &'a Order) -> Result<Self, Failure> {
        let requested_by = bulk::requester(&order.bulk.spec).map_err(blocked)?;
        let change = bulk::change(&order.asked, order.created).map_err(blocked)?;
        let catalog = provider.catalog().await;
        let catalog = catalog.map_err(|fault| call_failure("discover what the cluster serves", &fault))?;
        let kind = served(&catalog, &order.asked)?;
        let named = order.asked.label_selector.is_none();
        // What a preview found is in its reports.
        let finds = !named && order.previewed.is_none();
        let denied = access::denied(provider, requested_by, &kind, finds).await?;
        Ok(Self { provider, denied, kind, catalog, change, requested_by, named })
    }

    /// What objects are looked at and written with.
    pub async fn reach(&self) -> Result<Reach<'_>, Failure> {
        let readers = self.provider.readers(&self.catalog).await?;
        Ok(Reach {
            shown: readers.may_read(&self.kind.group_kind()),
            session: self.provider.session(readers),
            guard: self.provider.guard(self.requested_by),
            rules: ExclusionRules { repository_secrets: self.provider.repository_secrets().await? },
            change: &self.change,
            kind: &self.kind,
            named: self.named,
        })
    }
}

/// The kind in the version that the cluster prefers.
pub fn served(catalog: &Catalog, asked: &BulkOperationRunSpec) -> Result<ServedKind, Failure> {
    let wanted = asked.resource.group_kind();
    catalog.kinds.iter().find(|kind| kind.group_kind() == wanted).cloned().ok_or_else(|| {
        let message =
            format!("correct spec.resource in a new bulk operation: the cluster serves no {wanted} in namespaces");
        Failure::blocked(reason::KIND_NOT_SERVED, message)
    })
}

/// What objects are looked at and written with.
pub struct Reach<'a> {
    /// Reads and writes.
    pub session: Box<dyn Session + 'a>,
    /// Checks writes of objects that give rights.
    pub guard: Box<dyn Guard + 'a>,
    /// The kind, in the version that is read and written.
    pub kind: &'a ServedKind,
    /// Whether every reader of reports may read objects of the kind.
    shown: bool,
    rules: ExclusionRules,
    change: &'a Change,
    /// Whether the author named the objects: then one that does not exist has failed.
    named: bool,
}

/// An object, and what is to be done with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// What a preview depends on in it. `None` if it cannot be read.
    pub seen: Option<u64>,
    /// What is to be done.
    pub step: Step,
}

impl Reach<'_> {
    /// The id of an object.
    #[must_use]
    pub fn item(&self, name: &str) -> ItemId {
        ItemId::new(self.kind.group_kind(), name)
    }

    /// Reads an object and decides about it.
    pub async fn look(&self, name: &str) -> Result<Looked, Failure> {
        let seen_in = |live: Option<&Value>| Some(seen(self.change, live, self.shown));
        Ok(match self.session.get(Target { kind: self.kind, name }).await {
            Ok(Some(live)) => Looked {
                seen: seen_in(Some(&live)),
                step: step(self.change, &self.rules, &self.item(name), live, self.shown),
            },
            Ok(None) => Looked { seen: seen_in(None), step: Step::Left(not_there(self.named)) },
            Err(fault) => Looked { seen: None, step: Step::Left(unreadable(&self.kind.kind, name, &fault)?) },
        })
    }
}

/// Why nothing is done with an object that does not exist. `named` is whether the author named it.
pub fn not_there(named: bool) -> Left {
    if named {
        let message = "no object of this name exists: correct spec.items in a new bulk operation";
        Left::failed(reason::NOT_FOUND, message)
    } else {
        Left::skipped(reason::VANISHED, "it was selected, and is gone")
    }
}

/// Why nothing is done with an object that cannot be read. Fails if that is not for the object's sake.
pub fn unreadable(kind: &str, name: &str, fault: &Fault) -> Result<Left, Failure> {
    let Fault::Refused { code, message, .. } = fault else {
        return Err(call_failure(&format!("read {kind} {name}"), fault));
    };
    let code_of = if *code == 403 { item::FORBIDDEN } else { item::SERVER_FAILED };
    Ok(Left::failed(code_of, format!("it cannot be read: the API server answers {code} {message}")))
}
