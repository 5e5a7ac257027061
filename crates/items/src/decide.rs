//! Decides what happens to one item, from its stored and its live object.
//!
//! There are two steps. [`Planner::decide`] needs no cluster: it settles what it can, and proposes
//! one write for the rest. It builds the wanted object, compares it with the live one
//! ([`crate::compare`]), and applies the terms of the restore to the difference ([`crate::policy`]). The API server's dry run of that write gives the
//! [`Verdict`](super::proposal::Verdict) that settles the proposal. Defaulting, quota and admission
//! are therefore taken into account, at one call per proposed item and none for a settled one.

use crate::{
    api::item::{GroupKind, ItemId},
    api::reason::item as reason,
    compare::{Difference, Side, compare, equal_but_for},
    dependents::{Dependent, Dependents},
    drift::put_back::put_back,
    excluded::{Excluded, ExclusionRules, excluded_kind},
    owners::{Family, owners},
    plan::{Action, PlannedItem, Remark, Terms},
    proposal::{Proposal, Write},
    readers::Readers,
    sanitize::{replacement, sanitize, sanitized},
    semantic::{DigestKey, Status},
    transform::Transforms,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use strum::IntoStaticStr;

/// What the backup set holds for an item.
#[derive(Clone, Debug, PartialEq)]
pub enum Stored {
    /// The stored object.
    Object(Value),
    /// Content that is not the expected object, and what is wrong with it.
    Unreadable(String),
    /// The set lists the item as one that did not exist.
    Absent,
    /// The set is full and does not hold the item.
    NotHeld,
}

/// What the namespace holds for an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The live object, read in the version in which the set holds it.
    pub object: Value,
    /// Why a capture would leave the object out: code and message. Such an object is never pruned,
    /// and is replaced only if the code is `ExcludedByLabel`.
    pub left_out: Option<(&'static str, &'static str)>,
}

/// Verb of a request on an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Verb {
    /// GET.
    Get,
    /// GET of all objects of the kind.
    List,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// DELETE.
    Delete,
}

impl Verb {
    /// The verb as RBAC spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// Decides about single items. The fields are facts that the caller gathers beforehand. The caller
/// also keeps `family` and `dependents` up to date while it decides.
#[derive(Clone, Debug)]
pub struct Planner {
    /// The terms of the restore.
    pub terms: Terms,
    /// The tenant's namespace.
    pub namespace: String,
    /// Key for the hashes of objects.
    pub key: DigestKey,
    /// The parsed transforms of `terms`.
    pub transforms: Transforms,
    /// Rules for what is never restored.
    pub exclusions: ExclusionRules,
    /// Possible owners of objects.
    pub family: Family,
    /// Served versions of each kind.
    pub served: BTreeMap<GroupKind, BTreeSet<String>>,
    /// Kinds without a `status` subresource: their status is a field like any other.
    pub status_is_data: BTreeSet<GroupKind>,
    /// Refused verbs by kind. The message names what is refused, and to whom.
    pub refused: BTreeMap<(GroupKind, Verb), String>,
    /// Objects that are garbage-collected with a deleted owner.
    pub dependents: Dependents,
    /// Why the dependent Secrets, ConfigMaps and claims are not known, if they are not.
    pub dependents_unknown: Option<String>,
    /// Kinds of owners that could not be listed, so it is unknown which of them exist. The value is
    /// the outcome for an item with such an owner.
    pub unlisted: BTreeMap<GroupKind, (Action, Remark)>,
    /// Kinds whose values reports may contain.
    pub readers: Readers,
}

/// Decision about one item.
#[allow(clippy::large_enum_variant, reason = "it is moved once, and nearly all decisions of a restore are proposals")]
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// The outcome is final.
    Settled(PlannedItem),
    /// The outcome depends on the API server's dry run.
    Proposed(Proposal),
}

/// Draft of an item's entry in the plan.
pub(crate) struct Draft<'a> {
    pub(crate) item: &'a ItemId,
    pub(crate) api_version: String,
    pub(crate) live: Option<String>,
    pub(crate) wanted: Option<String>,
    /// Whether the set is full and does not hold the item.
    pub(crate) not_held: bool,
    pub(crate) warnings: Vec<Remark>,
}

impl Draft<'_> {
    pub(crate) fn with(self, action: Action, reason: Option<Remark>) -> PlannedItem {
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

    pub(crate) fn settled(self, action: Action, code: &str, message: impl Into<String>) -> Decision {
        Decision::Settled(self.with(action, Some(Remark::new(code, message))))
    }

    /// Skips the item. The hashes are cleared, because no change of the live object affects the
    /// decision.
    pub(crate) fn skipped(mut self, code: &str, message: impl Into<String>) -> Decision {
        (self.live, self.wanted) = (None, None);
        self.settled(Action::Skip, code, message)
    }
}

impl Planner {
    /// Why the requester may not read objects of a kind, if so. No decision may then depend on the
    /// content of such an object: the outcome would reveal what a Secret holds.
    #[must_use]
    pub fn hides(&self, kind: &GroupKind) -> Option<&str> {
        self.refused.get(&(kind.clone(), Verb::Get)).map(String::as_str)
    }

    /// Decides about an item. The caller has already checked that the item is selected.
    #[must_use]
    pub fn decide(&self, item: &ItemId, api_version: &str, stored: Stored, live: Option<&Live>) -> Decision {
        let mut draft = Draft {
            item,
            api_version: api_version.to_owned(),
            live: None,
            wanted: None,
            not_held: false,
            warnings: Vec::new(),
        };
        // Checks that do not read the object come first, then whether it may be read at all.
        if let Some(why) = excluded_kind(&item.kind) {
            return draft.skipped(Excluded::Kind(why).code(), why);
        }
        if let Some(why) = self.hides(&item.kind) {
            return draft.settled(Action::Forbidden, reason::FORBIDDEN, why);
        }
        draft.live = live.map(|live| self.hash(item, &live.object));
        draft.not_held = stored == Stored::NotHeld;
        match stored {
            Stored::Object(object) => self.decide_object(draft, object, live),
            Stored::Unreadable(problem) => self.policy(draft, Side::Unreadable(problem), live),
            Stored::Absent | Stored::NotHeld => self.policy(draft, Side::Nothing, live),
        }
    }

    /// The hash of the fields that count in a live object.
    #[must_use]
    pub fn hash(&self, item: &ItemId, live: &Value) -> String {
        self.key.semantic_hash(live, self.status(&item.kind))
    }

    /// Whether the status of a kind is observed, or a field like any other.
    pub(crate) fn status(&self, kind: &GroupKind) -> Status {
        if self.status_is_data.contains(kind) { Status::Data } else { Status::Observed }
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
        if let Some(owner) = self.family.left_to(&item.kind, &object) {
            return draft.skipped(
                reason::LEFT_TO_OWNER,
                format!("{owner} controls it and is restored too, so it makes it again: to restore it all the same, select it without its owner"),
            );
        }
        // Without that owner, the object would be written with no owner.
        if let Some((action, remark)) = owners(&object).iter().find_map(|owner| self.unlisted.get(&owner.kind)) {
            return Decision::Settled(draft.with(*action, Some(remark.clone())));
        }
        if let Some((code, why)) = live.and_then(|live| live.left_out).filter(|(code, _)| !is_about_capture(code)) {
            return draft.skipped(code, format!("what has its name now is nothing that a backup would hold: {why}"));
        }
        let live_object = live.map(|live| &live.object);
        let (runs_again, managers) = (is_under_way(&item.kind, &object), applied_by(&object));
        draft.warnings.extend(finalizers_left(&object, live_object));
        let wanted = match self.wanted(&mut draft, object, live_object) {
            Ok(wanted) => wanted,
            Err((code, message)) => return draft.settled(Action::Invalid, code, message),
        };
        if live_object.is_some_and(is_being_deleted) {
            let message = "it is being deleted: restore again when it is gone; if it does not go, its finalizers say what it waits for";
            return draft.settled(Action::Conflict, reason::BEING_DELETED, message);
        }
        let mut decision = self.policy(draft, Side::Object(wanted), live);
        if let Decision::Proposed(proposal) = &mut decision {
            if runs_again && matches!(proposal.planned.action, Action::Create | Action::Recreate) {
                let message = "it was under way when it was captured, and runs again from its beginning: exclude the item if that must not be";
                proposal.planned.warnings.push(Remark::new(reason::RUNS_AGAIN, message));
            }
            proposal.managers = managers;
        }
        decision
    }

    /// Builds the object to write.
    fn wanted(
        &self,
        draft: &mut Draft<'_>,
        mut object: Value,
        live: Option<&Value>,
    ) -> Result<Value, (&'static str, String)> {
        let item = draft.item;
        sanitize(&mut object, self.status(&item.kind));
        if let Some(path) = &self.terms.path {
            object = self.with_path(item, &object, live, path)?;
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            // An object adopted from another cluster may have had another namespace.
            metadata.insert("namespace".to_owned(), self.namespace.clone().into());
        }
        self.transforms.apply(item, &mut object).map_err(|failed| {
            let message = format!("{failed}: correct the transform, or leave the item out with excludeItems");
            (reason::TRANSFORM_FAILED, message)
        })?;
        // Before the owners' new uids are set: those become known one after the other.
        draft.wanted = Some(self.key.hash(&object));
        for owner in self.family.adopt(&mut object, live) {
            let message = if self.family.is_namespaced(&owner) {
                format!(
                    "its owner {owner} is not there and not in this restore, so it is written without: it will not go when that goes"
                )
            } else {
                format!(
                    "its owner {owner} lives in no namespace and cannot be looked at, so it is written without: add the reference again if that is still there"
                )
            };
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

    /// The live object with one path as in the stored one.
    fn with_path(
        &self,
        item: &ItemId,
        stored: &Value,
        live: Option<&Value>,
        path: &str,
    ) -> Result<Value, (&'static str, String)> {
        let problem = match live {
            None => "the object is not there: leave out path, and the whole object is put back".to_owned(),
            Some(live) if live["apiVersion"] != stored["apiVersion"] => {
                "the object is served in another version than the baseline has: put back the whole object".to_owned()
            }
            Some(live) => {
                let status = self.status(&item.kind);
                match put_back(item, stored, &sanitized(live, status), status, path) {
                    Ok(wanted) => return Ok(wanted),
                    Err(error) => error.to_string(),
                }
            }
        };
        Err((reason::PATH_NOT_RESTORABLE, format!("spec.finding.path {path}: {problem}")))
    }

    /// Plans an object that is garbage-collected with its owner.
    #[must_use]
    pub fn collected(&self, dependent: &Dependent, live: &Live) -> PlannedItem {
        let owners: Vec<String> = owners(&live.object).iter().map(ToString::to_string).collect();
        let message = format!("the garbage collector takes it with its owner {}, which is deleted", owners.join(", "));
        let hash = self.key.semantic_hash(&live.object, self.status(&dependent.item.kind));
        PlannedItem {
            item: dependent.item.clone(),
            api_version: dependent.api_version.clone(),
            action: Action::Delete,
            reason: Some(Remark::new(reason::GARBAGE_COLLECTED, message)),
            warnings: Vec::new(),
            live: Some(hash),
            wanted: None,
        }
    }

    /// Proposes an update that gives an object created by this restore the owners that did not
    /// exist when it was written. Returns `None` if the live object differs in anything else, or
    /// already existed when the plan was made.
    #[must_use]
    pub fn reclaim(&self, planned: &PlannedItem, stored: &Stored, live: Option<&Live>) -> Option<Proposal> {
        let (Stored::Object(object), Some(Live { object: live, .. })) = (stored, live) else { return None };
        if !matches!(planned.action, Action::Create | Action::Recreate) || is_being_deleted(live) {
            return None;
        }
        let item = &planned.item;
        let status = self.status(&item.kind);
        let hash = self.key.semantic_hash(live, status);
        let mut draft = Draft {
            item,
            api_version: planned.api_version.clone(),
            live: Some(hash),
            wanted: None,
            not_held: false,
            warnings: planned.warnings.clone(),
        };
        if draft.live == planned.live {
            return None;
        }
        let wanted = self.wanted(&mut draft, object.clone(), Some(live)).ok()?;
        let compared = sanitized(live, status);
        let Difference::Changed(wanted, compared) =
            compare::<Value, _, _>(Side::Object(wanted), Side::Object(&compared))
        else {
            return None;
        };
        equal_but_for(&["metadata", "ownerReferences"], &wanted, compared).then(|| {
            let write = Write::Update(replacement(&wanted, live));
            let managers = applied_by(object);
            Proposal { managers, ..self.make_proposal(draft.with(planned.action, None), write, Some(live), None) }
        })
    }
}

/// Whether a capture's reason to skip an object says nothing against replacing it.
fn is_about_capture(code: &str) -> bool {
    matches!(code, "ExcludedByLabel" | "BeingDeleted")
}

/// The entries of server-side apply in `managedFields`.
fn applied_by(object: &Value) -> Vec<Value> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["operation"] == "Apply").cloned().collect()
}

/// Whether an object is a Job that had started and was not suspended. Finished Jobs are excluded
/// before.
fn is_under_way(kind: &GroupKind, object: &Value) -> bool {
    kind.group == "batch"
        && kind.kind == "Job"
        && object["spec"]["suspend"] != true
        && !object["status"]["startTime"].is_null()
}

/// Warns about finalizers that an object was captured with and is restored without. Kubernetes' own
/// finalizers are left out, because the cluster adds them again.
fn finalizers_left(object: &Value, live: Option<&Value>) -> Option<Remark> {
    let has = live.map(finalizers).unwrap_or_default();
    let is_of_the_cluster = |name: &str| {
        name.split_once('/').is_none_or(|(domain, _)| domain == "kubernetes.io" || domain.ends_with(".kubernetes.io"))
    };
    let left = finalizers(object).into_iter().filter(|name| !has.contains(name) && !is_of_the_cluster(name));
    let left: Vec<&str> = left.collect();
    let message = format!(
        "its finalizers are not restored ({}): if they stand in your manifest and not with a controller, apply that again",
        left.join(", ")
    );
    (!left.is_empty()).then(|| Remark::new(reason::FINALIZERS_LEFT, message))
}

pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    object["metadata"]["finalizers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

pub(crate) fn is_being_deleted(live: &Value) -> bool {
    !live["metadata"]["deletionTimestamp"].is_null()
}
