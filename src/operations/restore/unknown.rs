//! Items of which it is unknown whether they exist. A list or read that the API server refuses
//! affects the items that need it, and no others.

#![deny(clippy::disallowed_types)]

use crate::{
    api::item::{GroupKind, ItemId},
    api::reason::item as reason,
    items::{
        plan::{Action, PlannedItem, Remark},
        refusal::{Awaited, awaited},
        served::ServedKind,
    },
    operations::restore::{inventory::StoredKind, walk::Decided},
    providers::fault::Fault,
};

/// The plan of an item of which it is unknown whether it exists.
#[must_use]
pub fn unlisted(kind: &StoredKind, name: String, fault: &Fault) -> PlannedItem {
    let item = ItemId::new(kind.kind.clone(), name);
    let (action, remark) = not_listed(&kind.kind, fault, NOT_KNOWN);
    failing(item, kind.api_version(), action, &remark.code, remark.message)
}

/// Consequence of a refused list for an item.
pub const NOT_KNOWN: &str = "it is not known what is there";

/// Action and remark for an item whose kind could not be listed: what to do, and the consequence
/// `so_that`.
#[must_use]
pub fn not_listed(kind: &GroupKind, fault: &Fault, so_that: &str) -> (Action, Remark) {
    not_had("list", fault, &format!("{kind} could not be listed, so that {so_that}"))
}

/// Action and remark for an item that could not be read by itself.
#[must_use]
pub fn not_read(item: &ItemId, fault: &Fault) -> (Action, Remark) {
    not_had("get", fault, &format!("{item} could not be read, so that {NOT_KNOWN}"))
}

fn not_had(verb: &str, fault: &Fault, what: &str) -> (Action, Remark) {
    let (action, code) = match fault {
        Fault::Refused { code: 403, .. } => (Action::Forbidden, reason::FORBIDDEN),
        Fault::Refused { code, message, .. } if matches!(awaited(*code, message), Some(Awaited::Webhook(_))) => {
            (Action::Conflict, reason::WEBHOOK_UNAVAILABLE)
        }
        _ => (Action::Conflict, reason::SERVER_FAILED),
    };
    let remedy = if action == Action::Forbidden {
        format!(
            "let a ClusterRole with the label tenantatlas.io/aggregate-to-restore allow `{verb}` on the kind, or exclude the item"
        )
    } else {
        "look at the server of the kind, then restore again".to_owned()
    };
    (action, Remark::new(code, format!("{remedy}: {what}: {fault}")))
}

/// A decision about an item or a kind that is made outside the planner.
#[must_use]
pub fn settled(item: ItemId, place: &ServedKind, action: Action, remark: Remark) -> Decided {
    let Remark { code, message } = remark;
    Decided { planned: failing(item, place.api_version(), action, &code, message), owners: Vec::new(), diff: None }
}

/// An item that gets this action for this reason and is not written.
#[must_use]
pub fn failing(item: ItemId, api_version: String, action: Action, code: &str, message: String) -> PlannedItem {
    let reason = Some(Remark::new(code, message));
    PlannedItem { item, api_version, action, reason, warnings: Vec::new(), live: None, wanted: None }
}
