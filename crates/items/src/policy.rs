//! What a restore does about a difference: the terms of the restore, applied to one item.
//!
//! Must not compare objects ([`crate::compare`]), or build the object to write ([`crate::decide`]).

use crate::{
    api::reason::item as reason,
    api::{
        item::ItemId,
        restore_run::{ExistingResourcePolicy, Only},
    },
    compare::{Difference, Side, compare},
    decide::{Decision, Draft, Live, Planner, Verb, finalizers, is_being_deleted},
    dependents::{Dependent, is_precious},
    owners::controller,
    plan::{Action, PRESENT, PlannedItem, Remark},
    proposal::{Precondition, Proposal, Write},
    sanitize::{replacement, sanitized},
};
use serde_json::Value;
use std::borrow::Borrow;

/// A live object, with the form of it that is compared.
struct Compared<'a> {
    live: &'a Live,
    form: Value,
}

impl Borrow<Value> for Compared<'_> {
    fn borrow(&self) -> &Value {
        &self.form
    }
}

impl Planner {
    /// Decides from the difference between the wanted object, in the form in which objects are
    /// compared, and the live one.
    pub(crate) fn policy(&self, draft: Draft<'_>, wanted: Side<Value>, live: Option<&Live>) -> Decision {
        let status = self.status(&draft.item.kind);
        let compared = live.map(|live| Compared { live, form: sanitized(&live.object, status) });
        match compare::<Value, _, _>(wanted, compared.into()) {
            Difference::Incomparable(problem) => draft.settled(Action::Invalid, reason::UNREADABLE, problem),
            Difference::Same if draft.wanted.is_none() => draft.settled(
                Action::Unchanged,
                reason::ABSENT,
                if self.terms.is_deletion() {
                    "it does not exist: there is nothing to delete"
                } else {
                    "it did not exist when the set was taken, and does not now"
                },
            ),
            Difference::Same => Decision::Settled(draft.with(Action::Unchanged, None)),
            Difference::Missing(wanted) => self.decide_missing(draft, wanted),
            Difference::Extra(compared) => self.decide_extra(draft, compared.live),
            Difference::Changed(wanted, compared) => self.decide_changed(draft, wanted, &compared.live.object),
        }
    }

    /// What happens to an item whose object is missing.
    fn decide_missing(&self, mut draft: Draft<'_>, wanted: Value) -> Decision {
        if self.terms.only == Some(Only::Different) {
            return draft.settled(
                Action::Skip,
                reason::NOT_THERE,
                "it is missing, and `only: different` was asked for",
            );
        }
        if is_claim(draft.item) {
            let message = "the claim is made anew and gets a new, empty volume unless it names one: data in volumes are not part of a backup set";
            draft.warnings.push(Remark::new(reason::VOLUME_EMPTY, message));
        }
        self.propose(draft, Action::Create, Write::Create(wanted), None, None)
    }

    /// What happens to an item whose live object differs.
    fn decide_changed(&self, mut draft: Draft<'_>, wanted: Value, live: &Value) -> Decision {
        // An update leaves such a Service without an address, and the API server reports no
        // difference.
        let must_be_anew = is_headless(live) && !is_headless(&wanted) && wanted["spec"]["type"] != "ExternalName";
        let in_place = (!must_be_anew).then(|| replacement(&wanted, live));
        let left = match (self.terms.only, self.terms.existing_resource_policy) {
            (Some(Only::Missing), _) => Some("it is there, and `only: missing` was asked for"),
            (_, ExistingResourcePolicy::None) => {
                Some("it is there and differs, and `existingResourcePolicy: none` leaves it as it is")
            }
            _ => None,
        };
        if let Some(why) = left {
            draft.live = Some(PRESENT.to_owned());
            draft.wanted = None;
            let planned = draft.with(Action::Skip, Some(Remark::new(reason::EXISTS, why)));
            // If the schema has gained a default since, only the API server can tell whether there
            // is a difference.
            return match in_place {
                Some(body) => self.proposal(planned, Write::Update(body), Some(live), None),
                None => Decision::Settled(planned),
            };
        }
        if self.terms.existing_resource_policy == ExistingResourcePolicy::Update {
            let Some(body) = in_place else {
                let message = "use `existingResourcePolicy: recreate` for this item: it was captured with an address of its own and is headless now, which no update changes";
                return draft.settled(Action::Conflict, reason::IMMUTABLE_FIELD, message);
            };
            return self.propose(draft, Action::Update, Write::Update(body), Some(live), None);
        }
        if let Some(conflict) = self.weigh_losses(&mut draft, live) {
            return draft.settled(Action::Conflict, reason::DATA_LOSS, conflict);
        }
        self.propose(draft, Action::Recreate, Write::Recreate(Precondition::of(live), wanted), Some(live), in_place)
    }

    /// What happens to an object that the set does not hold.
    fn decide_extra(&self, mut draft: Draft<'_>, live: &Live) -> Decision {
        if !self.terms.prune {
            let message = "the set does not hold it: it stays, because prune was not asked for";
            return draft.skipped(reason::NOT_PRUNED, message);
        }
        if self.terms.is_deletion() {
            // A restore would not bring it back.
            let restored = self.exclusions.excludes(&draft.item.kind, &draft.item.name, &live.object);
            let why = live.left_out.or_else(|| restored.map(|excluded| (excluded.code(), excluded.why())));
            if let Some((code, why)) = why.filter(|_| !is_being_deleted(&live.object)) {
                return draft.skipped(code, format!("it could not be brought back, so it stays: {why}"));
            }
        } else if let Some((code, why)) = live.left_out {
            return draft.skipped(
                code,
                format!("no backup holds the like of it, so that this one does not means nothing: {why}"),
            );
        }
        if let Some(owner) = controller(&live.object).filter(|_| draft.not_held) {
            return draft.skipped(reason::LEFT_TO_OWNER, format!("{owner} controls it, and would only make it again"));
        }
        if is_being_deleted(&live.object) {
            return draft.skipped(reason::BEING_DELETED, "it is being deleted already");
        }
        if let Some(conflict) = self.weigh_losses(&mut draft, &live.object) {
            return draft.settled(Action::Conflict, reason::DATA_LOSS, conflict);
        }
        self.propose(draft, Action::Delete, Write::Delete(Precondition::of(&live.object)), Some(&live.object), None)
    }

    /// What a deletion loses for good: a warning if the terms allow data loss, otherwise the
    /// message of the conflict.
    fn weigh_losses(&self, draft: &mut Draft<'_>, live: &Value) -> Option<String> {
        let lost = self.losses(draft.item, live);
        if lost.is_empty() {
            return None;
        }
        let lost = lost.join("; ");
        if self.terms.allow_data_loss {
            draft.warnings.push(Remark::new(reason::DATA_LOST, lost));
            return None;
        }
        Some(format!(
            "{lost}. No backup set brings that back: set allowDataLoss to do it all the same, or exclude the item"
        ))
    }

    fn losses(&self, item: &ItemId, live: &Value) -> Vec<String> {
        let mut lost = Vec::new();
        let finalizers = finalizers(live);
        if is_claim(item) {
            // A claim that was never bound has no data to lose. Binding it in the meantime changes
            // its resourceVersion.
            if let Some(volume) = live["spec"]["volumeName"].as_str() {
                lost.push(format!("deleting the claim gives up {volume} and the data in it"));
            }
        } else if !finalizers.is_empty() {
            lost.push(format!(
                "its finalizers ({}) mean that its deletion removes something elsewhere",
                finalizers.join(", ")
            ));
        }
        lost.extend(self.dependents_unknown.clone());
        let going = self.dependents.going_with(item);
        let named = |test: &dyn Fn(&ItemId) -> bool| {
            let items = going.iter().filter(|dependent| dependent.told && test(&dependent.item));
            // Of a kind that the requester may not read, not even names are told.
            let told = |dependent: &Dependent| match self.hides(&dependent.item.kind) {
                Some(_) => format!("one {}", dependent.item.kind),
                None => dependent.item.to_string(),
            };
            let mut names: Vec<String> = items.map(|dependent| told(dependent)).collect();
            let more = names.len().saturating_sub(MAX_NAMED);
            names.truncate(MAX_NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            (!names.is_empty()).then(|| format!("{}{more}", names.join(", ")))
        };
        if let Some(claims) = named(&is_claim) {
            lost.push(format!("its volume claims go with it, and the data in them: {claims}"));
        }
        // An object of which this restore holds a version is recreated, unless the terms leave
        // existing objects as they are.
        let terms = &self.terms;
        let leaves =
            terms.only == Some(Only::Missing) || terms.existing_resource_policy == ExistingResourcePolicy::None;
        let lost_kind = |item: &ItemId| !is_claim(item) && is_precious(&item.kind);
        let made_again = |item: &ItemId| self.family.is_restored(item) && !leaves;
        // Whether the object really is deleted by its own name is checked once everything is
        // decided.
        let goes_itself = |item: &ItemId| self.dependents.is_named(item);
        if let Some(names) = named(&|item| lost_kind(item) && !made_again(item) && !goes_itself(item)) {
            lost.push(format!("the garbage collector takes what it owns: {names}"));
        }
        lost
    }

    /// Proposes a write, unless a verb that it needs is refused.
    fn propose(
        &self,
        draft: Draft<'_>,
        action: Action,
        write: Write,
        live: Option<&Value>,
        in_place: Option<Value>,
    ) -> Decision {
        let verbs: &[Verb] = match &write {
            Write::Create(_) => &[Verb::Create],
            Write::Update(_) => &[Verb::Update],
            Write::Recreate(..) => &[Verb::Delete, Verb::Create],
            Write::Delete(_) => &[Verb::Delete],
        };
        let kind = &draft.item.kind;
        if let Some(why) = verbs.iter().find_map(|verb| self.refused.get(&(kind.clone(), *verb))) {
            let why = why.clone();
            return draft.settled(Action::Forbidden, reason::FORBIDDEN, why);
        }
        self.proposal(draft.with(action, None), write, live, in_place)
    }

    fn proposal(&self, planned: PlannedItem, write: Write, live: Option<&Value>, in_place: Option<Value>) -> Decision {
        Decision::Proposed(self.make_proposal(planned, write, live, in_place))
    }

    pub(crate) fn make_proposal(
        &self,
        planned: PlannedItem,
        write: Write,
        live: Option<&Value>,
        in_place: Option<Value>,
    ) -> Proposal {
        let status = self.status(&planned.item.kind);
        let again = live.filter(|_| matches!(write, Write::Recreate(..) | Write::Delete(_))).map(|live| {
            let mut again = sanitized(live, status);
            self.family.adopt(&mut again, Some(live));
            again
        });
        let (live, may_lose) = (live.cloned(), self.terms.allow_data_loss);
        let shown = self.readers.may_read(&planned.item.kind);
        Proposal { planned, write, live, in_place, again, status, may_lose, shown, managers: Vec::new() }
    }
}

/// Maximum number of lost objects that a message names.
const MAX_NAMED: usize = 10;

fn is_claim(item: &ItemId) -> bool {
    item.kind.group.is_empty() && item.kind.kind == "PersistentVolumeClaim"
}

/// Whether an object is a Service that has no address on purpose.
fn is_headless(object: &Value) -> bool {
    object["kind"] == "Service" && object["apiVersion"] == "v1" && object["spec"]["clusterIP"] == "None"
}
