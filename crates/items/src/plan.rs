//! The plan of a restore, as a value: what happens to each item, decided from what.
//!
//! A plan is what a preview shows and what is then applied. It holds no objects: what is written is made again from the
//! snapshot, which cannot change, and must have the hash that the plan names.

use crate::{
    api::{
        canonical,
        item::{InvalidItem, ItemId},
        operation_report::PlannedObject,
        provenance::PlanSummary,
        restore_run::{ExistingResourcePolicy, ItemSelector, Only, RestoreRunSpec, Transform},
    },
    order,
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;

pub use crate::api::operation_report::{Action, Remark};

/// Stable codes of items. Never renamed. Those of what is never restored are in [`crate::excluded`].
pub mod reason {
    /// It is there, and the policy is to leave what is there.
    pub const EXISTS: &str = "Exists";
    /// It is not there, and only what is there and differs was asked for.
    pub const NOT_THERE: &str = "NotThere";
    /// Its controller's object is restored too, and makes it again.
    pub const LEFT_TO_OWNER: &str = "LeftToOwner";
    /// It did not exist when the set was taken; without prune it stays.
    pub const NOT_PRUNED: &str = "NotPruned";
    /// It did not exist when the set was taken, and does not now.
    pub const ABSENT: &str = "Absent";
    /// The garbage collector takes it with its owner, which is deleted.
    pub const GARBAGE_COLLECTED: &str = "GarbageCollected";
    /// It is being deleted.
    pub const BEING_DELETED: &str = "BeingDeleted";
    /// A field that differs cannot be changed.
    pub const IMMUTABLE_FIELD: &str = "ImmutableField";
    /// It would lose data for good, and that was not allowed.
    pub const DATA_LOSS: &str = "DataLossNotAllowed";
    /// It was deleted to be made anew, and could be neither made nor put back.
    pub const DELETED: &str = "Deleted";
    /// It is not as it was when it was looked at.
    pub const MOVED: &str = "Moved";
    /// The restore was stopped before it came to the item.
    pub const STOPPED: &str = "Stopped";
    /// The account that writes, or who asked, may not.
    pub const FORBIDDEN: &str = "Forbidden";
    /// The stored content is not the object it should be.
    pub const UNREADABLE: &str = "Unreadable";
    /// A transform did not apply.
    pub const TRANSFORM_FAILED: &str = "TransformFailed";
    /// The cluster does not serve the kind.
    pub const KIND_NOT_SERVED: &str = "KindNotServed";
    /// The cluster serves the kind, but not in this version.
    pub const VERSION_NOT_SERVED: &str = "VersionNotServed";
    /// The API server finds the object wrong.
    pub const INVALID: &str = "Invalid";
    /// An admission webhook, a policy or a plugin refuses the object.
    pub const ADMISSION_REFUSED: &str = "AdmissionRefused";
    /// A quota refuses the object.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// A webhook that the API server must ask does not answer.
    pub const WEBHOOK_UNAVAILABLE: &str = "WebhookUnavailable";
    /// The API server, or what it asks, fails.
    pub const SERVER_FAILED: &str = "ServerFailed";
    /// A warning: an owner is not there, so the object gets none.
    pub const OWNER_MISSING: &str = "OwnerMissing";
    /// A warning: a claim is made anew, and its volume is empty.
    pub const VOLUME_EMPTY: &str = "VolumeEmpty";
    /// A warning: what is lost for good.
    pub const DATA_LOST: &str = "DataLost";
    /// A warning: the API server was not asked what it thinks of it.
    pub const NOT_TRIED: &str = "NotTried";
    /// It is written, but those who managed its fields do not any more.
    pub const FIELD_MANAGERS_LOST: &str = "FieldManagersLost";
    /// A warning: a Job that was under way is made anew.
    pub const RUNS_AGAIN: &str = "RunsAgain";
    /// A warning: finalizers that the object was captured with.
    pub const FINALIZERS_LEFT: &str = "FinalizersLeft";
    /// A warning: fields that the kind's schema does not know are dropped.
    pub const FIELDS_DROPPED: &str = "FieldsDropped";

    /// Every code.
    pub const ALL: [&str; 30] = [
        EXISTS,
        NOT_THERE,
        LEFT_TO_OWNER,
        NOT_PRUNED,
        ABSENT,
        BEING_DELETED,
        IMMUTABLE_FIELD,
        DATA_LOSS,
        MOVED,
        STOPPED,
        FORBIDDEN,
        UNREADABLE,
        TRANSFORM_FAILED,
        KIND_NOT_SERVED,
        VERSION_NOT_SERVED,
        INVALID,
        ADMISSION_REFUSED,
        QUOTA_EXCEEDED,
        SERVER_FAILED,
        OWNER_MISSING,
        VOLUME_EMPTY,
        DATA_LOST,
        NOT_TRIED,
        FIELDS_DROPPED,
        GARBAGE_COLLECTED,
        FIELD_MANAGERS_LOST,
        RUNS_AGAIN,
        FINALIZERS_LEFT,
        DELETED,
        WEBHOOK_UNAVAILABLE,
    ];
}

/// What was asked for: all of a spec that a plan follows from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// Id of the snapshot, 64 hex digits.
    pub snapshot: String,
    /// Only these items.
    pub items: Vec<ItemSelector>,
    /// Not these.
    pub exclude_items: Vec<ItemSelector>,
    /// Only those missing, or those different.
    pub only: Option<Only>,
    /// What to do with what is there and differs.
    pub existing_resource_policy: ExistingResourcePolicy,
    /// Whether to delete what the set does not hold.
    pub prune: bool,
    /// Whether data may be lost.
    pub allow_data_loss: bool,
    /// Changes on the way.
    pub transforms: Vec<Transform>,
}

impl Terms {
    /// The terms of a spec.
    #[must_use]
    pub fn new(spec: &RestoreRunSpec, snapshot: impl Into<String>) -> Self {
        Self {
            snapshot: snapshot.into(),
            items: spec.items.clone(),
            exclude_items: spec.exclude_items.clone(),
            only: spec.only,
            existing_resource_policy: spec.existing_resource_policy,
            prune: spec.prune,
            allow_data_loss: spec.allow_data_loss,
            transforms: spec.transforms.clone(),
        }
    }
}

/// Stands for the hash of a live object of which only its being there counts.
pub const PRESENT: &str = "present";

/// One item of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedItem {
    /// The item.
    pub item: ItemId,
    /// API version it is written in.
    pub api_version: String,
    /// What happens to it.
    pub action: Action,
    /// Why, where that is not plain.
    pub reason: Option<Remark>,
    /// What else there is to know.
    pub warnings: Vec<Remark>,
    /// Hash of the live object this was decided from; none where there was none, or where it does not count.
    pub live: Option<String>,
    /// Hash of the object that is wanted; none where none is.
    pub wanted: Option<String>,
}

impl PlannedItem {
    /// Whether the garbage collector takes it, and nobody else deletes it.
    #[must_use]
    pub fn is_collected(&self) -> bool {
        self.action == Action::Delete && self.reason.as_ref().is_some_and(|why| why.code == reason::GARBAGE_COLLECTED)
    }

    /// Whether it is not known what is there: then nothing is done about it, and nothing has moved.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let codes = [reason::FORBIDDEN, reason::SERVER_FAILED, reason::WEBHOOK_UNAVAILABLE];
        let unseen = self.action.fails() && self.live.is_none() && self.wanted.is_none();
        unseen && self.reason.as_ref().is_some_and(|why| codes.contains(&why.code.as_str()))
    }

    /// As it is told: without the hashes that it was decided from.
    #[must_use]
    pub fn to_report(&self, diff: Option<String>) -> PlannedObject {
        let Self { item, api_version, action, reason, warnings, .. } = self.clone();
        PlannedObject { item_id: item.to_string(), api_version, action, reason, warnings, diff }
    }

    /// Read back, with the hashes.
    pub fn from_report(told: PlannedObject, live: Option<String>, wanted: Option<String>) -> Result<Self, InvalidItem> {
        let PlannedObject { item_id, api_version, action, reason, warnings, diff: _ } = told;
        Ok(Self { item: item_id.parse()?, api_version, action, reason, warnings, live, wanted })
    }
}

/// A plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    terms: Terms,
    items: Vec<PlannedItem>,
    /// The places of the items, in ascending order of these.
    by_item: Vec<usize>,
}

impl Plan {
    /// A plan of these items, each with its owners, in the order of writing. In which order they come does not matter; of an item
    /// that was decided about twice the last word counts.
    #[must_use]
    pub fn new(terms: Terms, items: Vec<(PlannedItem, Vec<ItemId>)>) -> Self {
        // By places, as a plan may be large: no second copy of it is made.
        let item = |place: &usize| &items[*place].0.item;
        let mut places: Vec<usize> = (0..items.len()).collect();
        places.sort_unstable_by(|one, other| item(one).cmp(item(other)).then(other.cmp(one)));
        places.dedup_by(|next, last| item(next) == item(last));
        let sorted: Vec<(&ItemId, &[ItemId])> =
            places.iter().map(|place| (item(place), items[*place].1.as_slice())).collect();
        let in_order = order::in_order(&sorted).into_iter().map(|place| places[place]);
        let (deletions, mut order): (Vec<usize>, Vec<usize>) =
            in_order.partition(|place| items[*place].0.action == Action::Delete);
        drop(sorted);
        // What is deleted goes last: until then nothing is lost. Children before owners, ways in before workloads.
        order.extend(deletions.into_iter().rev());
        Self::stored(terms, arranged(items, &order).into_iter().map(|(planned, _)| planned).collect())
    }

    /// A plan as it was stored, whose items are in order.
    #[must_use]
    pub fn stored(terms: Terms, mut items: Vec<PlannedItem>) -> Self {
        // What they were collected in may be twice as large.
        items.shrink_to_fit();
        let mut by_item: Vec<usize> = (0..items.len()).collect();
        by_item.sort_by(|one, other| items[*one].item.cmp(&items[*other].item));
        Self { terms, items, by_item }
    }

    /// The place of an item among the items.
    #[must_use]
    pub fn place_of(&self, item: &ItemId) -> Option<usize> {
        let place = self.by_item.binary_search_by(|place| self.items[*place].item.cmp(item)).ok()?;
        Some(self.by_item[place])
    }

    /// What is planned for an item.
    #[must_use]
    pub fn find(&self, item: &ItemId) -> Option<&PlannedItem> {
        self.place_of(item).map(|place| &self.items[place])
    }

    /// The items, in ascending order.
    fn sorted(&self) -> impl Iterator<Item = &PlannedItem> {
        self.by_item.iter().map(|place| &self.items[*place])
    }

    /// What was asked for.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The items, in the order of writing.
    #[must_use]
    pub fn items(&self) -> &[PlannedItem] {
        &self.items
    }

    /// Items by action.
    #[must_use]
    pub fn summary(&self) -> PlanSummary {
        let mut summary = PlanSummary::default();
        for planned in &self.items {
            *match planned.action {
                Action::Create => &mut summary.create,
                Action::Update => &mut summary.update,
                Action::Recreate => &mut summary.recreate,
                Action::Delete => &mut summary.delete,
                Action::Unchanged => &mut summary.unchanged,
                Action::Skip => &mut summary.skip,
                Action::Conflict => &mut summary.conflict,
                Action::Forbidden => &mut summary.forbidden,
                Action::Invalid => &mut summary.invalid,
            } += 1;
        }
        summary
    }

    /// SHA-256 (64 hex digits) over the snapshot, what was asked for, and each item's action with the hashes of what it was
    /// decided from. Words do not count. The hashes are keyed, so that nothing can be guessed from it.
    #[must_use]
    pub fn digest(&self) -> String {
        // The canonical JSON of `{"items": […], "terms": …}`, which would be as large as the plan, is made item by item.
        let mut hash = Sha256::new();
        let mut before: &[u8] = br#"{"items":["#;
        for planned in &self.items {
            let item = json!({"item": planned.item.to_string(), "apiVersion": planned.api_version, "action": planned.action,
                              "live": planned.live, "wanted": planned.wanted});
            hash.update(before);
            hash.update(canonical::to_vec(&item));
            before = b",";
        }
        if self.items.is_empty() {
            hash.update(before);
        }
        hash.update(br#"],"terms":"#);
        hash.update(canonical::to_vec(&json!(self.terms)));
        hash.update(b"}");
        hex::encode(hash.finalize())
    }

    /// What undoes this plan: the live objects to keep, and the items to name as absent.
    #[must_use]
    pub fn undo(&self) -> Undo<'_> {
        let with = |actions: &[Action]| {
            self.items.iter().filter(|planned| actions.contains(&planned.action)).map(|planned| &planned.item).collect()
        };
        Undo { keep: with(&[Action::Update, Action::Recreate, Action::Delete]), absent: with(&[Action::Create]) }
    }
}

/// What a backup set that undoes a restore holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo<'a> {
    /// Items that are about to change or vanish.
    pub keep: Vec<&'a ItemId>,
    /// Items that are about to be made.
    pub absent: Vec<&'a ItemId>,
}

/// An item that is not as it was when a plan was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The item.
    pub item: ItemId,
    /// How it moved.
    pub how: How,
}

/// How an item moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// It was not there, and is now.
    Appeared,
    /// It was there, and is not now.
    Vanished,
    /// It is there, but another.
    Changed,
    /// It is as it was, but what would be written is not: another version of the operator makes it.
    Differently,
}

impl std::fmt::Display for Moved {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = match self.how {
            How::Appeared => "has appeared",
            How::Vanished => "has vanished",
            How::Changed => "has changed",
            How::Differently => "would be written differently by this version of the operator",
        };
        write!(formatter, "{} {how}", self.item)
    }
}

/// The elements at these places, in this order; each place at most once.
fn arranged<T>(mut elements: Vec<T>, order: &[usize]) -> Vec<T> {
    let mut targets = vec![usize::MAX; elements.len()];
    for (target, place) in order.iter().enumerate() {
        targets[*place] = target;
    }
    let left = targets.iter_mut().filter(|target| **target == usize::MAX);
    for (target, place) in left.enumerate() {
        *place = order.len() + target;
    }
    for place in 0..elements.len() {
        while targets[place] != place {
            let target = targets[place];
            elements.swap(place, target);
            targets.swap(place, target);
        }
    }
    elements.truncate(order.len());
    elements
}

/// What two plans have of each item, in ascending order of the items.
fn side_by_side<'a>(
    old: &'a Plan,
    new: &'a Plan,
) -> impl Iterator<Item = (Option<&'a PlannedItem>, Option<&'a PlannedItem>)> {
    let (mut old, mut new) = (old.sorted().peekable(), new.sorted().peekable());
    std::iter::from_fn(move || {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return None,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(before), Some(after)) => before.item.cmp(&after.item),
        };
        Some(match order {
            Ordering::Less => (old.next(), None),
            Ordering::Equal => (old.next(), new.next()),
            Ordering::Greater => (None, new.next()),
        })
    })
}

/// What has moved between the making of one plan and of another, in the order of the items.
///
/// Actions are not compared: they follow from what is, and from the API server's opinion, which only the first may have asked.
#[must_use]
pub fn moved(old: &Plan, new: &Plan) -> Vec<Moved> {
    let how = |before: Option<&PlannedItem>, after: Option<&PlannedItem>| {
        // Where the API server refused to make it again, it goes with its owner; the second plan, which did not ask, makes it.
        let collected = before.is_some_and(PlannedItem::is_collected);
        let live = |planned: Option<&PlannedItem>| planned.and_then(|planned| planned.live.clone());
        let wanted = |planned: Option<&PlannedItem>| planned.and_then(|planned| planned.wanted.clone());
        if [before, after].into_iter().flatten().any(PlannedItem::is_unknown) {
            return None;
        }
        match (live(before), live(after)) {
            (None, Some(_)) => Some(How::Appeared),
            (Some(_), None) => Some(How::Vanished),
            (before, after) if before != after => Some(How::Changed),
            _ if collected => None,
            _ => (wanted(before) != wanted(after)).then_some(How::Differently),
        }
    };
    let moved = |(before, after): (Option<&PlannedItem>, Option<&PlannedItem>)| {
        Some(Moved { item: before.or(after)?.item.clone(), how: how(before, after)? })
    };
    side_by_side(old, new).filter_map(moved).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_codes_are_frozen_and_the_guide_says_what_to_do_about_each() {
        insta::assert_snapshot!(reason::ALL.join("\n"));
        let guide = include_str!("../../../docs/guides/what-is-restored.md");
        for code in reason::ALL {
            assert!(guide.contains(&format!("| `{code}` |")), "the guide does not name {code}");
        }
    }
}
