//! The plan of a restore, as a value: what happens to each item, and what that was decided from.
//!
//! A preview shows a plan, and the plan is then applied. It holds no objects: the objects to write
//! are rebuilt from the snapshot, which cannot change, and must have the hashes in the plan.

use crate::{
    api::reason::item as reason,
    api::{
        canonical,
        item::{InvalidItem, ItemId},
        operation_report::PlannedObject,
        provenance::PlanSummary,
        restore_run::{ExistingResourcePolicy, ItemSelector, Only, RestoreRunSpec, Transform},
    },
    compare::{Difference, Side, compare},
    order,
};
use serde::Serialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::cmp::Ordering;

pub use crate::api::operation_report::{Action, Remark};

/// The terms of a restore: the parts of its spec that determine the plan, and the snapshot.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// ID of the snapshot, 64 hex digits; empty if objects are only deleted.
    pub snapshot: String,
    /// The one item to restore, if a finding names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub item: Option<String>,
    /// The one path of that item to restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Selectors of the items to restore.
    pub items: Vec<ItemSelector>,
    /// Selectors of the items to leave out.
    pub exclude_items: Vec<ItemSelector>,
    /// Restricts the restore to missing items, or to items that differ.
    pub only: Option<Only>,
    /// What to do with existing objects that differ.
    pub existing_resource_policy: ExistingResourcePolicy,
    /// Whether to delete objects that the set does not hold.
    pub prune: bool,
    /// Whether data may be lost.
    pub allow_data_loss: bool,
    /// Patches that are applied before the objects are written.
    pub transforms: Vec<Transform>,
}

impl Terms {
    /// The terms of deleting objects, as a bulk operation does.
    #[must_use]
    pub fn of_deletion(allow_data_loss: bool) -> Self {
        Self {
            snapshot: String::new(),
            item: None,
            path: None,
            items: Vec::new(),
            exclude_items: Vec::new(),
            only: None,
            existing_resource_policy: ExistingResourcePolicy::None,
            prune: true,
            allow_data_loss,
            transforms: Vec::new(),
        }
    }

    /// Whether objects are only deleted, so that there is no snapshot.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.snapshot.is_empty()
    }

    /// The terms of a spec, for a snapshot. `item` is that of the finding, if the spec names one.
    #[must_use]
    pub fn new(spec: &RestoreRunSpec, item: Option<&ItemId>, snapshot: impl Into<String>) -> Self {
        let policy = match spec.existing_resource_policy {
            // Left as it is, the item would not be put back.
            ExistingResourcePolicy::None if item.is_some() => ExistingResourcePolicy::Update,
            policy => policy,
        };
        Self {
            snapshot: snapshot.into(),
            item: item.map(ToString::to_string),
            path: spec.finding.as_ref().and_then(|finding| finding.path.clone()),
            items: spec.items.clone(),
            exclude_items: spec.exclude_items.clone(),
            only: spec.only,
            existing_resource_policy: policy,
            prune: spec.prune,
            allow_data_loss: spec.allow_data_loss,
            transforms: spec.transforms.clone(),
        }
    }
}

/// Stands for the hash of a live object of which only the existence counts.
pub const PRESENT: &str = "present";

/// One item of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedItem {
    /// The item.
    pub item: ItemId,
    /// API version in which the object is written.
    pub api_version: String,
    /// What happens to the item.
    pub action: Action,
    /// The reason, unless the action is self-explanatory.
    pub reason: Option<Remark>,
    /// Further remarks for the user.
    pub warnings: Vec<Remark>,
    /// Hash of the live object that the decision was based on; `None` if there was none, or if it
    /// does not count.
    pub live: Option<String>,
    /// Hash of the wanted object; `None` if no object is wanted.
    pub wanted: Option<String>,
}

impl PlannedItem {
    /// A row without a reason, which depends on nothing.
    #[must_use]
    pub fn new(item: ItemId, api_version: String, action: Action) -> Self {
        Self { item, api_version, action, reason: None, warnings: Vec::new(), live: None, wanted: None }
    }

    /// Whether only the garbage collector deletes the object.
    #[must_use]
    pub fn is_collected(&self) -> bool {
        self.action == Action::Delete && self.reason.as_ref().is_some_and(|why| why.code == reason::GARBAGE_COLLECTED)
    }

    /// Whether the live state is unknown. Nothing is then done about the item, and it does not
    /// count as moved.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        let codes = [reason::FORBIDDEN, reason::SERVER_FAILED, reason::WEBHOOK_UNAVAILABLE];
        let unseen = self.action.fails() && self.live.is_none() && self.wanted.is_none();
        unseen && self.reason.as_ref().is_some_and(|why| codes.contains(&why.code.as_str()))
    }

    /// The item as reported: without the hashes that it was decided from.
    #[must_use]
    pub fn to_report(&self, diff: Option<String>) -> PlannedObject {
        let Self { item, api_version, action, reason, warnings, .. } = self.clone();
        PlannedObject { item_id: item.to_string(), api_version, action, reason, warnings, diff }
    }

    /// Rebuilds an item from its report and its hashes.
    pub fn from_report(told: PlannedObject, live: Option<String>, wanted: Option<String>) -> Result<Self, InvalidItem> {
        let PlannedObject { item_id, api_version, action, reason, warnings, diff: _ } = told;
        Ok(Self { item: ItemId::of_object(&item_id)?, api_version, action, reason, warnings, live, wanted })
    }
}

/// How many items a message names.
const NAMED: usize = 10;

/// The first ten items, and how many more there are.
#[must_use]
pub fn first_of(items: &[impl ToString]) -> String {
    let named: Vec<String> = items.iter().take(NAMED).map(ToString::to_string).collect();
    let more = items.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

/// Number of items by action.
pub fn summary(actions: impl Iterator<Item = Action>) -> PlanSummary {
    let mut summary = PlanSummary::default();
    for action in actions {
        *match action {
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

/// The plan of a restore.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    terms: Terms,
    items: Vec<PlannedItem>,
    /// Indices into `items`, in ascending order of the items.
    by_item: Vec<usize>,
}

impl Plan {
    /// Builds a plan from items with their owners, and brings it into the order of writing. The
    /// order of the input does not matter, except that the last decision about an item counts.
    #[must_use]
    pub fn new(terms: Terms, items: Vec<(PlannedItem, Vec<ItemId>)>) -> Self {
        // Only indices are sorted, because a plan may be large: no second copy of it is made.
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
        // Deletions go last: until then nothing is lost. Children are deleted before owners, and
        // what lets traffic in before workloads.
        order.extend(deletions.into_iter().rev());
        Self::stored(terms, arranged(items, &order).into_iter().map(|(planned, _)| planned).collect())
    }

    /// A plan from storage, whose items are in order.
    #[must_use]
    pub fn stored(terms: Terms, mut items: Vec<PlannedItem>) -> Self {
        // The vector in which the items were collected may have twice their size.
        items.shrink_to_fit();
        let mut by_item: Vec<usize> = (0..items.len()).collect();
        by_item.sort_by(|one, other| items[*one].item.cmp(&items[*other].item));
        Self { terms, items, by_item }
    }

    /// The index of an item.
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

    /// The terms of the restore.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The items, in the order of writing.
    #[must_use]
    pub fn items(&self) -> &[PlannedItem] {
        &self.items
    }

    /// Number of items by action.
    #[must_use]
    pub fn summary(&self) -> PlanSummary {
        summary(self.items.iter().map(|planned| planned.action))
    }

    /// SHA-256 (64 hex digits) over the terms, which name the snapshot, and over each item's
    /// action, API version and hashes. Messages do not count. The hashes are keyed, so nothing can
    /// be guessed from the digest.
    #[must_use]
    pub fn digest(&self) -> String {
        // The canonical JSON of `{"items": […], "terms": …}` is hashed item by item, because the
        // whole text would be as large as the plan.
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

    /// What undoes this plan: the live objects to keep, and the items to list as absent.
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
    /// Items that are about to be changed or deleted.
    pub keep: Vec<&'a ItemId>,
    /// Items that are about to be created.
    pub absent: Vec<&'a ItemId>,
}

/// An item that has changed since a plan was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The item.
    pub item: ItemId,
    /// How the item moved.
    pub how: How,
}

/// How an item moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The object did not exist, and exists now.
    Appeared,
    /// The object existed, and no longer exists.
    Vanished,
    /// The object exists, but is different.
    Changed,
    /// The live object is as it was, but the object to write is not: another version of the
    /// operator builds it.
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

/// The elements at these indices, in this order; each index at most once.
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

/// The entries of two plans for each item, in ascending order of the items.
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

/// What has moved between two plans, in the order of the items.
///
/// Actions are not compared. They follow from the live state and from the API server's verdicts,
/// which only the first plan may have.
#[must_use]
pub fn moved(old: &Plan, new: &Plan) -> Vec<Moved> {
    let how = |before: Option<&PlannedItem>, after: Option<&PlannedItem>| {
        // If the API server refused the recreation, the first plan deletes the object with its
        // owner. The second plan did not ask, and recreates the object.
        let collected = before.is_some_and(PlannedItem::is_collected);
        let live = |planned: Option<&PlannedItem>| match planned {
            Some(planned) if planned.is_unknown() => Side::Unreadable(String::new()),
            planned => planned.and_then(|planned| planned.live.clone()).into(),
        };
        let wanted = |planned: Option<&PlannedItem>| planned.and_then(|planned| planned.wanted.clone());
        match compare::<str, _, _>(live(before), live(after)) {
            Difference::Extra(_) => Some(How::Appeared),
            Difference::Missing(_) => Some(How::Vanished),
            Difference::Changed(..) => Some(How::Changed),
            Difference::Same if !collected && wanted(before) != wanted(after) => Some(How::Differently),
            Difference::Same | Difference::Incomparable(_) => None,
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
    use crate::api::item::GroupKind;

    fn planned(
        name: &str,
        action: Action,
        code: Option<&str>,
        live: Option<&str>,
        wanted: Option<&str>,
    ) -> PlannedItem {
        PlannedItem {
            item: ItemId::new(GroupKind::new("", "ConfigMap"), name),
            api_version: "v1".into(),
            action,
            reason: code.map(|code| Remark::new(code, "words")),
            warnings: Vec::new(),
            live: live.map(str::to_owned),
            wanted: wanted.map(str::to_owned),
        }
    }

    fn plan(items: Vec<PlannedItem>) -> Plan {
        let spec = RestoreRunSpec::of(crate::api::LocalReference::new("nightly"));
        Plan::stored(Terms::new(&spec, None, "a".repeat(64)), items)
    }

    #[test]
    fn a_deletion_is_the_garbage_collectors_by_its_action_and_its_code() {
        let is = |action, code| planned("a", action, code, Some("0"), None).is_collected();
        assert!(is(Action::Delete, Some(reason::GARBAGE_COLLECTED)));
        assert!(!is(Action::Delete, None) && !is(Action::Delete, Some(reason::FORBIDDEN)));
        assert!(!is(Action::Recreate, Some(reason::GARBAGE_COLLECTED)));
    }

    #[test]
    fn an_item_is_unknown_if_it_was_not_seen_because_nobody_answered_or_allowed_it() {
        for code in [reason::FORBIDDEN, reason::SERVER_FAILED, reason::WEBHOOK_UNAVAILABLE] {
            assert!(planned("a", Action::Forbidden, Some(code), None, None).is_unknown(), "{code}");
            assert!(!planned("a", Action::Forbidden, Some(code), Some("0"), None).is_unknown(), "{code}: it was seen");
            assert!(!planned("a", Action::Forbidden, Some(code), None, Some("0")).is_unknown(), "{code}: it is wanted");
            assert!(!planned("a", Action::Skip, Some(code), None, None).is_unknown(), "{code}: it does not fail");
        }
        assert!(!planned("a", Action::Conflict, Some(reason::INVALID), None, None).is_unknown());
        assert!(!planned("a", Action::Conflict, None, None, None).is_unknown());
    }

    #[test]
    fn items_are_found_by_their_place_and_counted_by_their_action() {
        let actions = [
            Action::Create,
            Action::Update,
            Action::Recreate,
            Action::Delete,
            Action::Unchanged,
            Action::Skip,
            Action::Conflict,
            Action::Forbidden,
            Action::Invalid,
        ];
        // In an order that is not that of their names; each action once more than the one before it.
        let items = actions.iter().enumerate().flat_map(|(times, action)| {
            (0..=times).map(move |number| planned(&format!("{}-{number}", 9 - times), *action, None, None, None))
        });
        let plan = plan(items.collect());
        for (place, planned) in plan.items().iter().enumerate() {
            assert_eq!(plan.place_of(&planned.item), Some(place));
            assert_eq!(plan.find(&planned.item), Some(planned));
        }
        assert_eq!(plan.find(&ItemId::new(GroupKind::new("", "Secret"), "9-0")), None);
        let counted = plan.summary();
        let counts = [
            counted.create,
            counted.update,
            counted.recreate,
            counted.delete,
            counted.unchanged,
            counted.skip,
            counted.conflict,
            counted.forbidden,
            counted.invalid,
        ];
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_stored_plan_cannot_name_an_object_as_another_providers_item() {
        let told = planned("a", Action::Delete, None, Some("0"), None).to_report(None);
        assert!(PlannedItem::from_report(told.clone(), None, None).is_ok());
        let hidden = PlannedObject { item_id: format!("graph:{}", told.item_id), ..told };
        assert!(PlannedItem::from_report(hidden, None, None).is_err());
    }

    #[test]
    fn what_moved_says_how() {
        let item = ItemId::new(GroupKind::new("", "ConfigMap"), "a");
        for (how, words) in [
            (How::Appeared, "core/ConfigMap/a has appeared"),
            (How::Vanished, "core/ConfigMap/a has vanished"),
            (How::Changed, "core/ConfigMap/a has changed"),
            (How::Differently, "core/ConfigMap/a would be written differently by this version of the operator"),
        ] {
            assert_eq!(Moved { item: item.clone(), how }.to_string(), words);
        }
    }

    #[test]
    fn elements_are_arranged_in_place_and_those_that_are_not_named_go() {
        for order in [vec![], vec![3], vec![2, 0], vec![4, 3, 2, 1, 0], vec![1, 2, 3, 4, 0]] {
            let expected: Vec<usize> = order.iter().map(|place| place * 10).collect();
            assert_eq!(arranged(vec![0, 10, 20, 30, 40], &order), expected, "{order:?}");
        }
    }
}
