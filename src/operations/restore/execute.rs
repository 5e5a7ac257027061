//! Executes one item of a plan at a time: reads it, compares it once more, decides, and writes it
//! if it is still what the plan was made for.
//!
//! Must not: keep results, or know which items come before and after. That is the job of `carry`.

#![deny(clippy::disallowed_types)]

use crate::{
    api::reason::item as reason,
    api::{
        item::{GroupKind, ItemId},
        operation_report::ItemOutcome,
    },
    items::{
        decide::{Decision, Live, Stored},
        dependents::{Dependent, is_precious},
        plan::{Action, Plan, PlannedItem, Remark},
        proposal::{Proposal, Write},
        refusal::{Awaited, awaited, refusal},
    },
    operations::restore::{
        inventory::{Entry, StoredKind},
        join::{Pair, left_out},
        safety::Unkept,
        unknown::not_read,
        walk::{Met, Walk, tell_left, version_of},
    },
    providers::{
        call::{Performed, Target},
        fault::Fault,
    },
    worker::failure::{Failure, call_failure},
};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc::Sender, time::Instant};

/// How often an item is read again that others changed in between.
const LOOKS: usize = 4;

/// How long the garbage collector may take.
const COLLECTED: Duration = Duration::from_secs(30);

/// Poll interval while waiting for the garbage collector.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Result of executing an item.
pub struct Carried {
    /// The item.
    pub item: ItemId,
    /// What happened to it.
    pub fate: Fate,
}

/// What can happen to an item.
pub enum Fate {
    /// The item has ended.
    Over {
        /// Outcome of the item.
        outcome: ItemOutcome,
        /// Why it failed, or a remark about its success.
        reason: Option<Remark>,
        /// Uid of the object now, if known, for the owner references of its dependents.
        uid: Option<String>,
    },
    /// The item waits for an owner that has no uid yet.
    Deferred,
    /// It was written without its owner, and gets the owner reference once the owner has a uid.
    /// Contains its own uid.
    Unowned(Option<String>),
    /// The API server refuses it because a component does not respond, with this remark.
    PutBack(Awaited, Remark),
}

impl Fate {
    /// Drops the uid, for an item without restored dependents.
    fn without_uid(self) -> Self {
        match self {
            Self::Over { outcome, reason, .. } => Self::Over { outcome, reason, uid: None },
            Self::Unowned(_) => Self::Unowned(None),
            fate => fate,
        }
    }

    fn failed(reason: Remark) -> Self {
        Self::Over { outcome: ItemOutcome::Failed, reason: Some(reason), uid: None }
    }
}

/// A decided item that is executed next.
pub struct Candidate<'a> {
    planned: &'a PlannedItem,
    stored: Stored,
    weighed: Weighed,
}

/// Whether an item is still what the plan was made for.
enum Weighed {
    /// The plan still applies. Contains the write.
    Write(Box<Proposal>),
    /// There is nothing to write.
    Over(Fate),
}

/// Executes the items of a plan.
pub struct Executor<'a> {
    /// Access to the snapshot and the API server. It is prepared, and knows what the plan deletes
    /// and recreates.
    pub walk: Walk<'a>,
    plan: &'a Plan,
    /// The backup set with the previous state, if one was created.
    undo: Option<String>,
    /// Kinds that the backup set has nothing of, although some of their objects were to change.
    unkept: Unkept,
    /// Failed items that must not be deleted with their owners.
    kept_back: Mutex<BTreeSet<ItemId>>,
    /// Kinds of which the plan writes something.
    kinds: BTreeSet<&'a GroupKind>,
}

impl<'a> Executor<'a> {
    /// Creates an executor for the items of a plan.
    #[must_use]
    pub fn new(mut walk: Walk<'a>, plan: &'a Plan, undo: Option<String>, unkept: Unkept) -> Self {
        for planned in plan.items() {
            match planned.action {
                _ if why_unkept(&unkept, planned).is_some() => walk.planner.family.add_left(&planned.item),
                Action::Delete => walk.planner.dependents.add_named(planned.item.clone()),
                Action::Recreate => walk.planner.family.add_renewed(planned.item.clone()),
                _ if walk.is_related(&planned.item) => tell_left(&mut walk.planner.family, planned),
                _ => {}
            }
        }
        // An object that is kept after all keeps its dependents.
        walk.tell_gone(plan.items().iter().filter(|planned| why_unkept(&unkept, planned).is_none()));
        let writes = plan.items().iter().filter(|planned| planned.action.writes());
        Self {
            walk,
            undo,
            unkept,
            kept_back: Mutex::default(),
            plan,
            kinds: writes.map(|planned| &planned.item.kind).collect(),
        }
    }

    /// Why an item is left as it is: no backup set has its current state.
    #[must_use]
    pub fn is_unkept(&self, planned: &PlannedItem) -> Option<&Remark> {
        why_unkept(&self.unkept, planned)
    }

    /// Whether the plan writes anything of a kind. Other kinds need not be read.
    #[must_use]
    pub fn writes(&self, kind: &StoredKind) -> bool {
        self.kinds.contains(&kind.kind)
    }

    /// Reads the items of a kind and decides about them, in order, as fast as `candidates` takes
    /// them: the next ones are ready while earlier ones are written. The guarded writes detect
    /// changes in between. An item whose owner is of the same kind has no uid for it yet and is
    /// deferred. Ends early if the receiver is dropped.
    pub async fn weigh_kind(&self, kind: &StoredKind, candidates: Sender<Candidate<'a>>) -> Result<(), Failure> {
        let find = |name: &str| self.is_to_write(&ItemId::new(kind.kind.clone(), name));
        let send = async |met: Met<'_>| {
            let (planned, stored, weighed) = match met {
                Met::Unlisted(lost) => {
                    let fate = Fate::failed(lost.reason.unwrap_or_else(moved));
                    (find(&lost.item.name), Stored::Absent, Weighed::Over(fate))
                }
                Met::Pair(pair, stored) => {
                    let Some(planned) = find(&pair.name) else { return true };
                    let uid = pair.live.as_ref().and_then(|live| uid_of(live.as_ref().ok()?));
                    let live = pair.live.as_ref().and_then(|live| live.as_ref().ok());
                    let weighed = if let Some(proposal) = self.walk.planner.reclaim(planned, &stored, live) {
                        Weighed::Write(Box::new(proposal))
                    } else {
                        let decision = self.walk.decide_pair(kind, &pair.name, stored.clone(), pair.live);
                        weigh(planned, decision, uid)
                    };
                    (Some(planned), stored, weighed)
                }
            };
            let Some(planned) = planned else { return true };
            candidates.send(Candidate { planned, stored, weighed }).await.is_ok()
        };
        self.walk.each_pair(kind, |name| find(name).is_some(), send).await
    }

    /// Executes the write of a candidate.
    pub async fn execute(&self, candidate: Candidate<'a>) -> Result<Carried, Failure> {
        let Candidate { planned, stored, weighed } = candidate;
        let fate = match weighed {
            Weighed::Over(fate) => fate,
            // Create it before the controller of its owner would create another. It gets the owner
            // reference later.
            Weighed::Write(proposal) if proposal.is_pending() && is_first(&proposal) => {
                match self.write(planned, &stored, proposal.before_owners()).await? {
                    Fate::Over { outcome: ItemOutcome::Done, uid, .. } => Fate::Unowned(uid),
                    fate => fate,
                }
            }
            Weighed::Write(proposal) if proposal.is_pending() => Fate::Deferred,
            Weighed::Write(proposal) => self.write(planned, &stored, *proposal).await?,
        };
        let failed = matches!(&fate, Fate::Over { outcome: ItemOutcome::Failed, .. } | Fate::PutBack(..));
        if failed && is_precious(&planned.item.kind) {
            self.kept_back.lock().unwrap_or_else(PoisonError::into_inner).insert(planned.item.clone());
        }
        let fate = if self.walk.is_related(&planned.item) { fate } else { fate.without_uid() };
        Ok(Carried { item: planned.item.clone(), fate })
    }

    /// Why an item must not be deleted or recreated: a dependent would be deleted with it that this
    /// restore failed to recreate, or whose state no backup set has.
    fn would_lose(&self, proposal: &Proposal) -> Option<Remark> {
        if !matches!(proposal.write(), Write::Recreate(..) | Write::Delete(_)) {
            return None;
        }
        let going = self.walk.planner.dependents.going_with(proposal.item());
        if let Some(why) = going.iter().filter(|of| of.told).find_map(|of| self.unkept.why(&of.item)) {
            return Some(why.clone());
        }
        let is_new = |of: &&Dependent| of.told && self.plan.find(&of.item).is_none();
        if self.walk.planner.terms.is_deletion()
            && let Some(new) = going.iter().copied().find(is_new)
        {
            let message = format!(
                "it was left as it is: it owns {} by now, which the preview did not show: make another preview",
                new.item
            );
            return Some(Remark::new(reason::MOVED, message));
        }
        if proposal.may_lose() {
            return None;
        }
        let kept_back = self.kept_back.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = going.into_iter().find(|of| kept_back.contains(&of.item))?;
        let message = format!(
            "it was left as it is: the garbage collector would take {} with it, which could not be made again: see why that failed, or set allowDataLoss",
            lost.item
        );
        Some(Remark::new(reason::DATA_LOSS, message))
    }

    /// Executes an item once more: read and decided by itself. Returns `None` if the plan writes
    /// nothing there.
    pub async fn execute_afresh(&self, item: &ItemId) -> Result<Option<Carried>, Failure> {
        let Some(planned) = self.is_to_write(item) else { return Ok(None) };
        let (stored, api_version) = match (planned.action, self.entry(item)) {
            // `Absent` and `NotHeld` lead to the same decision about an object that the plan
            // already deletes.
            (Action::Delete, _) => (Stored::Absent, planned.api_version.clone()),
            (_, Some((kind, entry))) => (self.read_one(kind, &item.name, entry).await?, kind.api_version()),
            (_, None) => return Ok(None),
        };
        let live = match self.look(planned).await? {
            Ok(live) => live,
            Err(fate) => return Ok(Some(Carried { item: item.clone(), fate })),
        };
        let uid = live.as_ref().and_then(uid_of);
        let weighed = match self.walk.planner.reclaim(planned, &stored, live.as_ref()) {
            Some(proposal) => Weighed::Write(Box::new(proposal)),
            None => weigh(planned, self.walk.planner.decide(item, &api_version, stored.clone(), live.as_ref()), uid),
        };
        self.execute(Candidate { planned, stored, weighed }).await.map(Some)
    }

    async fn write(&self, planned: &PlannedItem, stored: &Stored, mut proposal: Proposal) -> Result<Fate, Failure> {
        let item = &planned.item;
        // Whether this restore deleted the previous object, so that an object there now was created
        // since.
        let mut retaken = false;
        for _ in 0..LOOKS {
            let Some(target) = self.target(item, &proposal.planned().api_version) else {
                let message = "the cluster does not serve the kind any more";
                return Ok(Fate::failed(Remark::new(reason::KIND_NOT_SERVED, message)));
            };
            // Checked again, against the live roles: a binding grants what its role holds by now.
            if let Some((_, remark)) = self.walk.guard.refuses(&proposal, None).await? {
                return Ok(Fate::failed(remark));
            }
            if let Some(remark) = self.would_lose(&proposal) {
                return Ok(Fate::failed(remark));
            }
            match self.walk.session.apply(target, &proposal).await? {
                Performed::Done { uid, remark } => {
                    return Ok(Fate::Over { outcome: ItemOutcome::Done, reason: remark, uid });
                }
                Performed::Lingers => {
                    let message = format!(
                        "it was deleted and does not go: its finalizers say what it waits for; when it is gone, restore again; {}",
                        self.kept()
                    );
                    return Ok(Fate::failed(Remark::new(reason::BEING_DELETED, message)));
                }
                Performed::Refused { code, message } => {
                    let (_, mut remark) = refusal(code, &message, proposal.write());
                    if planned.action == Action::Recreate && proposal.planned().action == Action::Create {
                        remark = self.deleted(&remark.message);
                    }
                    return Ok(match awaited(code, &message) {
                        Some(awaited) => Fate::PutBack(awaited, remark),
                        None => Fate::failed(remark),
                    });
                }
                Performed::Final { code, message } => {
                    let message = format!(
                        "set allowDataLoss to delete it all the same, or exclude the item: the API server would not take it again: it answers {code} {message}"
                    );
                    return Ok(Fate::failed(Remark::new(reason::DATA_LOSS, message)));
                }
                Performed::Deleted { code, message, put_back: Some(uid) } => {
                    let (_, remark) = refusal(code, &message, proposal.write());
                    let message = format!("it was deleted, and put back as it was: {}", remark.message);
                    let reason = Some(Remark::new(&remark.code, message));
                    return Ok(Fate::Over { outcome: ItemOutcome::Failed, reason, uid: Some(uid) });
                }
                Performed::Deleted { code, message, put_back: None } => {
                    let (_, remark) = refusal(code, &message, proposal.write());
                    let remark = self.deleted(&remark.message);
                    return Ok(match awaited(code, &message) {
                        Some(awaited) => Fate::PutBack(awaited, remark),
                        None => Fate::failed(remark),
                    });
                }
                Performed::Retaken => retaken = true,
                Performed::Moved => {}
            }
            // A changed status is no reason to fail, but the write must be based on the current
            // object.
            let live = match self.look(planned).await? {
                Ok(live) => live,
                Err(fate) => return Ok(fate),
            };
            let uid = live.as_ref().and_then(uid_of);
            let decision = self.walk.planner.decide(item, &planned.api_version, stored.clone(), live.as_ref());
            match decision {
                Decision::Proposed(again) if retaken && again.planned().wanted == planned.wanted => proposal = again,
                decision => match weigh(planned, decision, uid) {
                    Weighed::Write(again) => proposal = *again,
                    Weighed::Over(fate) => return Ok(fate),
                },
            }
        }
        Ok(Fate::failed(moved()))
    }

    /// Names the backup set with the state before this restore.
    fn kept(&self) -> String {
        match &self.undo {
            Some(set) => format!("the backup set {set} has it as it was"),
            None => "no backup set has it as it was, for `safetyCapture: false` was asked for".to_owned(),
        }
    }

    /// Remark for an object that was deleted and does not exist again.
    fn deleted(&self, why: &str) -> Remark {
        Remark::new(reason::DELETED, format!("it was deleted and is not there: {}: {why}", self.kept()))
    }

    /// Waits until the garbage collector has deleted an item. Returns false if it does not.
    pub async fn await_collection(&self, planned: &PlannedItem) -> Result<bool, Failure> {
        let deadline = Instant::now() + COLLECTED;
        loop {
            let Ok(live) = self.look(planned).await? else { return Ok(false) };
            // An object of the same name that the owner's controller created since is a different
            // one.
            let hash = live.as_ref().map(|live| self.walk.planner.hash(&planned.item, &live.object));
            if hash != planned.live || live.is_none() {
                return Ok(true);
            }
            if Instant::now() >= deadline {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Reads the live object of an item. If the API server refuses, returns what happens to the
    /// item.
    async fn look(&self, planned: &PlannedItem) -> Result<Result<Option<Live>, Fate>, Failure> {
        let item = &planned.item;
        let Some(target) = self.target(item, &planned.api_version) else { return Ok(Ok(None)) };
        match self.walk.session.get(target).await {
            Ok(object) => Ok(Ok(object.map(|object| {
                let left_out = left_out(self.walk.rules, item, &object);
                Live { object, left_out }
            }))),
            Err(fault) => {
                let (_, remark) = not_read(item, &fault);
                let Fault::Refused { code, message, .. } = &fault else {
                    return Err(call_failure(&format!("read {} {}", target.kind.kind, target.name), &fault));
                };
                Ok(Err(match awaited(*code, message) {
                    Some(awaited) => Fate::PutBack(awaited, remark),
                    None => Fate::failed(remark),
                }))
            }
        }
    }

    fn target<'t>(&'t self, item: &'t ItemId, api_version: &str) -> Option<Target<'t>> {
        let kind = self.walk.catalog.find(&item.kind.group, version_of(api_version), &item.kind.kind)?;
        Some(Target { kind, name: &item.name })
    }

    fn entry(&self, item: &ItemId) -> Option<(&'a StoredKind, &'a Entry)> {
        let mut of_kind = self.walk.inventory.kinds.iter().filter(|(kind, _)| kind.kind == item.kind);
        of_kind.find_map(|(kind, entries)| Some((kind, entries.get(&item.name)?)))
    }

    async fn read_one(&self, kind: &StoredKind, name: &str, entry: &'a Entry) -> Result<Stored, Failure> {
        let pair = Pair { name: name.to_owned(), entry, live: None };
        let read = self.walk.read(kind, vec![pair]).await?;
        Ok(read.into_iter().next().map_or_else(|| Stored::Unreadable(String::new()), |(_, stored)| stored))
    }

    fn is_to_write(&self, item: &ItemId) -> Option<&'a PlannedItem> {
        let planned = self.plan.find(item)?;
        (planned.action.writes() && self.is_unkept(planned).is_none()).then_some(planned)
    }
}

/// An existing object must be captured before it may change.
fn why_unkept<'u>(unkept: &'u Unkept, planned: &PlannedItem) -> Option<&'u Remark> {
    let changes = matches!(planned.action, Action::Update | Action::Recreate | Action::Delete);
    unkept.why(&planned.item).filter(|_| changes)
}

/// Compares the current decision with the plan. `uid` is the uid of the live object.
fn weigh(planned: &PlannedItem, decision: Decision, uid: Option<String>) -> Weighed {
    match decision {
        // Done by an earlier attempt, or by another client that wanted the same.
        Decision::Settled(now) if now.action == Action::Unchanged => {
            Weighed::Over(Fate::Over { outcome: ItemOutcome::Done, reason: None, uid })
        }
        // By an earlier attempt, or by somebody else: its finalizers decide when it is gone.
        Decision::Settled(now) if planned.action == Action::Delete && is_on_its_way(&now) => {
            Weighed::Over(Fate::Over { outcome: ItemOutcome::Done, reason: now.reason, uid })
        }
        Decision::Settled(now) => Weighed::Over(Fate::failed(now.reason.unwrap_or_else(moved))),
        // The policy leaves the object as it is.
        Decision::Proposed(proposal) if !proposal.planned().action.writes() => {
            Weighed::Over(Fate::failed(proposal.planned().reason.clone().unwrap_or_else(moved)))
        }
        Decision::Proposed(proposal) => {
            let now = proposal.planned();
            // An earlier attempt deleted the object in order to recreate it.
            let halfway = planned.action == Action::Recreate && now.action == Action::Create;
            if halfway || (now.action == planned.action && now.live == planned.live && now.wanted == planned.wanted) {
                Weighed::Write(Box::new(proposal))
            } else {
                Weighed::Over(Fate::failed(moved()))
            }
        }
    }
}

fn is_on_its_way(now: &PlannedItem) -> bool {
    now.reason.as_ref().is_some_and(|reason| reason.code == reason::BEING_DELETED)
}

fn uid_of(live: &Live) -> Option<String> {
    live.object["metadata"]["uid"].as_str().map(str::to_owned)
}

fn moved() -> Remark {
    Remark::new(
        reason::MOVED,
        "it is not as it was when the plan was made, so it was left alone: look at it, then try again",
    )
}

/// Whether an item is created before its owners.
fn is_first(proposal: &Proposal) -> bool {
    is_precious(&proposal.item().kind) && matches!(proposal.write(), Write::Create(_) | Write::Recreate(..))
}
