//! Items of which it is unknown whether they exist. A list or read that the API server refuses
//! affects the items that need it, and no others.

use crate::{
    api::item::{GroupKind, ItemId},
    items::{
        plan::{Action, PlannedItem, Remark, reason},
        refusal::{Awaited, awaited},
        served::ServedKind,
    },
    worker::{
        failure::describe,
        restore::{inventory::StoredKind, walk::Decided},
    },
};

/// The plan of an item of which it is unknown whether it exists.
#[must_use]
pub fn unlisted(kind: &StoredKind, name: String, error: &kube::Error) -> PlannedItem {
    let item = ItemId::new(kind.kind.clone(), name);
    let (action, remark) = not_listed(&kind.kind, error, NOT_KNOWN);
    failing(item, kind.api_version(), action, &remark.code, remark.message)
}

/// Consequence of a refused list for an item.
pub const NOT_KNOWN: &str = "it is not known what is there";

/// Action and remark for an item whose kind could not be listed: what to do, and the consequence
/// `so_that`.
#[must_use]
pub fn not_listed(kind: &GroupKind, error: &kube::Error, so_that: &str) -> (Action, Remark) {
    not_had("list", error, &format!("{kind} could not be listed, so that {so_that}"))
}

/// Action and remark for an item that could not be read by itself.
#[must_use]
pub fn not_read(item: &ItemId, error: &kube::Error) -> (Action, Remark) {
    not_had("get", error, &format!("{item} could not be read, so that {NOT_KNOWN}"))
}

fn not_had(verb: &str, error: &kube::Error, what: &str) -> (Action, Remark) {
    let (action, code) = match error {
        kube::Error::Api(status) if status.code == 403 => (Action::Forbidden, reason::FORBIDDEN),
        kube::Error::Api(status) if matches!(awaited(status.code, &status.message), Some(Awaited::Webhook(_))) => {
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
    (action, Remark::new(code, format!("{remedy}: {what}: {}", describe(error))))
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
