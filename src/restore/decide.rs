//! From one item, as it is stored and as it lives, to what happens to it.
//!
//! Two steps. [`Planner::decide`] needs no cluster: it settles what can be settled, and proposes one write for the rest.
//! The API server's dry run of that write is the [`Verdict`] that settles the proposal: so defaulting, quota and admission count, at one
//! call an item, and none for what is settled.

use crate::{
    api::{
        item::{GroupKind, ItemId},
        restore_run::{ExistingResourcePolicy, Only},
    },
    restore::{
        diff::{Diff, diff},
        excluded::{Excluded, ExclusionRules, excluded_kind},
        owners::{Family, controller, owners},
        plan::{Action, PRESENT, PlannedItem, Remark, Terms, reason},
        refusal::refusal,
        sanitize::{replacement, sanitize, sanitized},
        semantic::{DigestKey, semantic},
        transform::Transforms,
    },
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// What the backup set has of an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// An object.
    Object(Value),
    /// Content that is not the object it should be, and what is wrong with it.
    Unreadable(String),
    /// The set names it as one that did not exist.
    Absent,
    /// A full set that does not hold it.
    NotHeld,
}

/// What the namespace has of an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The object, read in the version that the set has it in.
    pub object: Value,
    /// Why a capture would leave it out: code and words. Such an object is nobody's to replace or prune.
    pub left_out: Option<(&'static str, &'static str)>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// GET.
    Get,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// DELETE.
    Delete,
}

impl Verb {
    /// The word as in RBAC.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Decides about single items. All of its fields are facts, found out before.
#[derive(Clone, Debug)]
pub struct Planner {
    /// What was asked for.
    pub terms: Terms,
    /// The tenant.
    pub namespace: String,
    /// For hashes.
    pub key: DigestKey,
    /// The transforms of the terms, read.
    pub transforms: Transforms,
    /// What is never restored.
    pub exclusions: ExclusionRules,
    /// Who may own what.
    pub family: Family,
    /// Versions served of each kind.
    pub served: BTreeMap<GroupKind, BTreeSet<String>>,
    /// What may not be done, and by whom, in words.
    pub refused: BTreeMap<(GroupKind, Verb), String>,
    /// Names of the volume claims that an object's deletion takes with it, by the object's uid.
    pub claims: BTreeMap<String, Vec<String>>,
    /// Why it is not known which claims those are.
    pub claims_unknown: Option<String>,
    /// Kinds of owners that could not be listed, so that it is not known which of them are there: what that makes of an item.
    pub unlisted: BTreeMap<GroupKind, (Action, Remark)>,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// This.
    Settled(PlannedItem),
    /// This, if the API server agrees.
    Proposed(Proposal),
}

/// A write, to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    planned: PlannedItem,
    write: Write,
    live: Option<Value>,
}

/// A write of one item.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Make this.
    Create(Value),
    /// Put this in its place; it carries uid and resourceVersion.
    Update(Value),
    /// Delete what has this uid and resourceVersion, then make this.
    Recreate(Precondition, Value),
    /// Delete what has this uid and resourceVersion.
    Delete(Precondition),
}

/// What an object must still be to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Precondition {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

impl Precondition {
    fn of(live: &Value) -> Self {
        let field = |name: &str| live["metadata"][name].as_str().unwrap_or_default().to_owned();
        Self { uid: field("uid"), resource_version: field("resourceVersion") }
    }
}

/// What the API server said to a dry run.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It would be done; with the object as it would then be, of an update.
    Accepted(Option<Value>),
    /// It would not.
    Refused {
        /// HTTP status.
        code: u16,
        /// The status's reason, such as `Invalid`.
        reason: String,
        /// The server's words, without secrets.
        message: String,
    },
    /// It was not asked, and why.
    NotAsked(String),
}

/// The draft of an item's plan.
struct Draft<'a> {
    item: &'a ItemId,
    api_version: String,
    live: Option<String>,
    wanted: Option<String>,
    warnings: Vec<Remark>,
}

impl Draft<'_> {
    fn with(self, action: Action, reason: Option<Remark>) -> PlannedItem {
        PlannedItem {
            item: self.item.clone(),
            api_version: self.api_version,
            action,
            reason,
            warnings: self.warnings,
            live: self.live,
            wanted: self.wanted,
        }
    }

    fn settled(self, action: Action, code: &str, message: impl Into<String>) -> Decision {
        Decision::Settled(self.with(action, Some(Remark::new(code, message))))
    }

    /// Nothing is done, and no change of the live object makes a difference to that.
    fn skipped(mut self, code: &str, message: impl Into<String>) -> Decision {
        (self.live, self.wanted) = (None, None);
        self.settled(Action::Skip, code, message)
    }
}

impl Planner {
    /// Why who asked may not look at objects of a kind. Then nothing is decided by what one holds: what is in a Secret would
    /// show in what happens to it.
    #[must_use]
    pub fn hides(&self, kind: &GroupKind) -> Option<&str> {
        self.refused.get(&(kind.clone(), Verb::Get)).map(String::as_str)
    }

    /// Decides about an item. Which items are selected was decided before.
    #[must_use]
    pub fn decide(&self, item: &ItemId, api_version: &str, stored: Stored, live: Option<&Live>) -> Decision {
        let mut draft =
            Draft { item, api_version: api_version.to_owned(), live: None, wanted: None, warnings: Vec::new() };
        // First what needs no look at the object, and whether there may be one.
        if let Some(why) = excluded_kind(&item.kind) {
            return draft.skipped(Excluded::Kind(why).code(), why);
        }
        if let Some(why) = self.hides(&item.kind) {
            return draft.settled(Action::Forbidden, reason::FORBIDDEN, why);
        }
        draft.live = live.map(|live| self.key.semantic_hash(&live.object));
        match stored {
            Stored::Object(object) => self.decide_object(draft, object, live),
            Stored::Unreadable(problem) => draft.settled(Action::Invalid, reason::UNREADABLE, problem),
            Stored::Absent | Stored::NotHeld => self.decide_deletion(draft, &stored, live),
        }
    }

    fn decide_object(&self, mut draft: Draft<'_>, object: Value, live: Option<&Live>) -> Decision {
        let item = draft.item;
        if !self.served.contains_key(&item.kind) {
            let message = format!(
                "the cluster serves no {} in namespaces: install its definition, then restore again",
                item.kind
            );
            return draft.settled(Action::Invalid, reason::KIND_NOT_SERVED, message);
        }
        if let Some(excluded) = self.exclusions.excludes(&item.kind, &item.name, &object) {
            return draft.skipped(excluded.code(), excluded.why());
        }
        if let Some(owner) = self.family.left_to(&object) {
            return draft.skipped(
                reason::LEFT_TO_OWNER,
                format!("{owner} controls it and is restored too, so it makes it again: to restore it all the same, select it without its owner"),
            );
        }
        // Without its owner it would be written as nobody's.
        if let Some((action, remark)) = owners(&object).iter().find_map(|owner| self.unlisted.get(&owner.kind)) {
            return Decision::Settled(draft.with(*action, Some(remark.clone())));
        }
        if let Some((code, why)) = live.and_then(|live| live.left_out).filter(|(code, _)| !is_about_capture(code)) {
            return draft.skipped(code, format!("what has its name now is nothing that a backup would hold: {why}"));
        }
        let wanted = match self.wanted(&mut draft, object) {
            Ok(wanted) => wanted,
            Err((code, message)) => return draft.settled(Action::Invalid, code, message),
        };
        match live {
            None => self.decide_missing(draft, wanted),
            Some(live) => self.decide_existing(draft, wanted, &live.object),
        }
    }

    /// The object to write.
    fn wanted(&self, draft: &mut Draft<'_>, mut object: Value) -> Result<Value, (&'static str, String)> {
        let item = draft.item;
        sanitize(&mut object);
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            // Adopted from another cluster, it may have had another.
            metadata.insert("namespace".to_owned(), self.namespace.clone().into());
        }
        self.transforms.apply(item, &mut object).map_err(|failed| {
            let message = format!("{failed}: correct the transform, or leave the item out with excludeItems");
            (reason::TRANSFORM_FAILED, message)
        })?;
        // Before the owners' new uids are put in: those are known one after the other.
        draft.wanted = Some(self.key.hash(&object));
        for owner in self.family.adopt(&mut object) {
            let message = format!(
                "its owner {owner} is not there and not in this restore, so it is written without: it will not go when that goes"
            );
            draft.warnings.push(Remark::new(reason::OWNER_MISSING, message));
        }
        let api_version = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let served = self.served.get(&item.kind);
        if served.is_none_or(|versions| !versions.contains(version)) {
            let served: Vec<&str> = served.into_iter().flatten().map(String::as_str).collect();
            return Err((
                reason::VERSION_NOT_SERVED,
                format!(
                    "the cluster serves {} as {}, not as {version}: if the object is also right in another version, set /apiVersion with a transform",
                    item.kind,
                    served.join(", ")
                ),
            ));
        }
        draft.api_version = api_version;
        Ok(object)
    }

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
        self.propose(draft, Action::Create, Write::Create(wanted), None)
    }

    fn decide_existing(&self, mut draft: Draft<'_>, wanted: Value, live: &Value) -> Decision {
        if is_being_deleted(live) {
            let message = "it is being deleted: restore again when it is gone; if it does not go, its finalizers say what it waits for";
            return draft.settled(Action::Conflict, reason::BEING_DELETED, message);
        }
        if sanitized(live) == wanted {
            return Decision::Settled(draft.with(Action::Unchanged, None));
        }
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
            return draft.settled(Action::Skip, reason::EXISTS, why);
        }
        if self.terms.existing_resource_policy == ExistingResourcePolicy::Update {
            let body = replacement(&wanted, live);
            return self.propose(draft, Action::Update, Write::Update(body), Some(live));
        }
        if let Some(conflict) = self.weigh_losses(&mut draft, live) {
            return draft.settled(Action::Conflict, reason::DATA_LOSS, conflict);
        }
        self.propose(draft, Action::Recreate, Write::Recreate(Precondition::of(live), wanted), Some(live))
    }

    fn decide_deletion(&self, mut draft: Draft<'_>, stored: &Stored, live: Option<&Live>) -> Decision {
        let Some(live) = live else {
            return draft.settled(
                Action::Unchanged,
                reason::ABSENT,
                "it did not exist when the set was taken, and does not now",
            );
        };
        if !self.terms.prune {
            let message = "the set does not hold it: it stays, because prune was not asked for";
            return draft.skipped(reason::NOT_PRUNED, message);
        }
        if let Some((code, why)) = live.left_out {
            return draft.skipped(
                code,
                format!("no backup holds the like of it, so that this one does not means nothing: {why}"),
            );
        }
        if let Some(owner) = controller(&live.object).filter(|_| *stored == Stored::NotHeld) {
            return draft.skipped(reason::LEFT_TO_OWNER, format!("{owner} controls it, and would only make it again"));
        }
        if is_being_deleted(&live.object) {
            return draft.skipped(reason::BEING_DELETED, "it is being deleted already");
        }
        if let Some(conflict) = self.weigh_losses(&mut draft, &live.object) {
            return draft.settled(Action::Conflict, reason::DATA_LOSS, conflict);
        }
        self.propose(draft, Action::Delete, Write::Delete(Precondition::of(&live.object)), Some(&live.object))
    }

    /// What a deletion loses for good: a warning where that is allowed, else the conflict.
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
        let finalizers: Vec<&str> =
            live["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        if is_claim(item) {
            let volume = live["spec"]["volumeName"].as_str().unwrap_or("its volume");
            lost.push(format!("deleting the claim gives up {volume} and the data in it"));
        } else if !finalizers.is_empty() {
            lost.push(format!(
                "its finalizers ({}) mean that its deletion removes something elsewhere",
                finalizers.join(", ")
            ));
        }
        lost.extend(self.claims_unknown.clone());
        let uid = live["metadata"]["uid"].as_str().unwrap_or_default();
        if let Some(claims) = self.claims.get(uid).filter(|claims| !claims.is_empty()) {
            lost.push(format!("its volume claims go with it, and the data in them: {}", claims.join(", ")));
        }
        lost
    }

    /// Proposes a write, unless somebody may not.
    fn propose(&self, draft: Draft<'_>, action: Action, write: Write, live: Option<&Value>) -> Decision {
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
        let planned = draft.with(action, None);
        Decision::Proposed(Proposal { planned, write, live: live.cloned() })
    }
}

impl Proposal {
    /// The item.
    #[must_use]
    pub fn item(&self) -> &ItemId {
        &self.planned.item
    }

    /// The item's plan, if the API server agrees.
    #[must_use]
    pub fn planned(&self) -> &PlannedItem {
        &self.planned
    }

    /// What to try. Of a recreation: the creation, to which `AlreadyExists` is the answer of a server that agrees.
    #[must_use]
    pub fn write(&self) -> &Write {
        &self.write
    }

    /// The item's plan, now that this is not to be done.
    #[must_use]
    pub fn refused(self, action: Action, reason: Remark) -> PlannedItem {
        PlannedItem { action, reason: Some(reason), ..self.planned }
    }

    /// The owners of what is to be written, which must be written before.
    #[must_use]
    pub fn owners(&self) -> Vec<ItemId> {
        match &self.write {
            Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => owners(body),
            Write::Delete(_) => self.live.as_ref().map(owners).unwrap_or_default(),
        }
    }

    /// What the write would change, in at most about `limit` bytes. Of what is made or deleted there is nothing to compare.
    #[must_use]
    pub fn diff(&self, verdict: &Verdict, key: &DigestKey, limit: usize) -> Diff {
        let Some(live) = &self.live else { return Diff::default() };
        match (&self.write, verdict) {
            (Write::Update(_), Verdict::Accepted(Some(would_be))) => diff(live, would_be, key, limit),
            (Write::Update(wanted) | Write::Recreate(_, wanted), _) => {
                // What the server owns would be as it is.
                diff(&sanitized(live), &sanitized(wanted), key, limit)
            }
            _ => Diff::default(),
        }
    }

    /// The item's plan, now that the API server was asked.
    #[must_use]
    pub fn settle(self, verdict: &Verdict) -> PlannedItem {
        let Self { mut planned, write, live } = self;
        let with = |mut planned: PlannedItem, action, code: &str, message: String| {
            planned.action = action;
            planned.reason = Some(Remark::new(code, message));
            planned
        };
        match verdict {
            Verdict::Accepted(Some(would_be)) if matches!(write, Write::Update(_)) => {
                if live.is_some_and(|live| semantic(&live) == semantic(would_be)) {
                    planned.action = Action::Unchanged;
                }
                planned
            }
            Verdict::Accepted(_) => planned,
            Verdict::NotAsked(why) => {
                planned.warnings.push(Remark::new(reason::NOT_TRIED, why.clone()));
                planned
            }
            Verdict::Refused { code: 409, reason, .. }
                if reason == "AlreadyExists" && matches!(write, Write::Recreate(..)) =>
            {
                planned
            }
            Verdict::Refused { code: 404, .. } if matches!(write, Write::Delete(_)) => {
                with(planned, Action::Unchanged, reason::ABSENT, "it is gone already".to_owned())
            }
            Verdict::Refused { code, message, .. } => {
                let (action, remark) = refusal(*code, message, &write);
                planned.action = action;
                planned.reason = Some(remark);
                planned
            }
        }
    }
}

/// Reasons of a capture that say nothing against replacing an object.
fn is_about_capture(code: &str) -> bool {
    matches!(code, "ExcludedByLabel" | "BeingDeleted")
}

fn is_claim(item: &ItemId) -> bool {
    item.kind.group.is_empty() && item.kind.kind == "PersistentVolumeClaim"
}

fn is_being_deleted(live: &Value) -> bool {
    !live["metadata"]["deletionTimestamp"].is_null()
}
