//! One item of a plan at a time: read, looked at once more, decided about, written if it is still what the plan was made for.
//!
//! Must not: keep results, or know what comes before and after an item; that is `carry`.

use crate::{
    api::{
        item::{GroupKind, ItemId},
        operation_report::ItemOutcome,
    },
    items::{
        decide::{Decision, Live, Stored},
        dependents::is_precious,
        plan::{Action, Plan, PlannedItem, Remark, reason},
        proposal::{Proposal, Write},
        refusal::{Awaited, awaited, refusal},
    },
    worker::{
        failure::Failure,
        restore::{
            inventory::{Entry, StoredKind},
            join::Pair,
            safety::Unkept,
            unknown::not_read,
            walk::{Met, Walk, left_out, tell_left, version_of},
            write::{self, Performed, Target},
        },
    },
};
use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::mpsc::Sender, time::Instant};

/// How often an item is looked at again that was written by others in between.
const LOOKS: usize = 4;

/// How long the garbage collector may take.
const COLLECTED: Duration = Duration::from_secs(30);

/// How often one looks whether it has taken an object.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What became of an item.
pub struct Carried {
    /// The item.
    pub item: ItemId,
    /// What became of it.
    pub fate: Fate,
}

/// What can become of an item.
pub enum Fate {
    /// Nothing more.
    Over {
        /// How it ended.
        outcome: ItemOutcome,
        /// Why, where it did not go well.
        reason: Option<Remark>,
        /// The uid that the object has now, if it was written: what it owns is to get it.
        uid: Option<String>,
    },
    /// Its owner has no uid yet.
    Deferred,
    /// It was written, and is to get its owner when that has a uid. The uid that it has itself.
    Unowned(Option<String>),
    /// The API server refuses it because somebody does not answer, in these words.
    PutBack(Awaited, Remark),
}

impl Fate {
    /// The same of an item that owns nothing which is restored.
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

/// An item that was decided about, and is to be executed next.
pub struct Candidate<'a> {
    planned: &'a PlannedItem,
    stored: Stored,
    weighed: Weighed,
}

/// Whether an item is still what the plan was made for.
enum Weighed {
    /// It is; this is the write.
    Write(Box<Proposal>),
    /// There is nothing to write.
    Over(Fate),
}

/// Executes a plan's items.
pub struct Executor<'a> {
    /// What there is to read and whom to ask. It is prepared, and knows what the plan deletes and makes anew.
    pub walk: Walk<'a>,
    plan: &'a Plan,
    /// The set that has what was there before, if one was made.
    undo: Option<String>,
    /// Kinds that it has nothing of, though something of them was to change.
    unkept: Unkept,
    /// What failed and must not go with its owner.
    kept_back: Mutex<BTreeSet<ItemId>>,
    /// Kinds of which the plan writes something.
    kinds: BTreeSet<&'a GroupKind>,
}

impl<'a> Executor<'a> {
    /// For the items of a plan.
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
        // What stays after all keeps what it owns.
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

    /// Why an item stays as it is: nothing has it as it was.
    #[must_use]
    pub fn is_unkept(&self, planned: &PlannedItem) -> Option<&Remark> {
        why_unkept(&self.unkept, planned)
    }

    /// Whether the plan writes anything of a kind; of others there is nothing to read.
    #[must_use]
    pub fn writes(&self, kind: &StoredKind) -> bool {
        self.kinds.contains(&kind.kind)
    }

    /// Reads the items of a kind and decides about them, in order, as fast as `candidates` takes them: the next ones are
    /// ready while earlier ones are written. What changes in between, their writes will notice; an item whose owner is of
    /// the same kind has no uid for it yet and is deferred. Ends early if nobody takes any more.
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

    /// Writes what is to be written.
    pub async fn execute(&self, candidate: Candidate<'a>) -> Result<Carried, Failure> {
        let Candidate { planned, stored, weighed } = candidate;
        let fate = match weighed {
            Weighed::Over(fate) => fate,
            // It is there before the controller of its owner would make another; then it gets that owner.
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

    /// What would go with an item that is to be deleted, though this restore failed to make it again.
    fn would_lose(&self, proposal: &Proposal) -> Option<Remark> {
        if !matches!(proposal.write(), Write::Recreate(..) | Write::Delete(_)) {
            return None;
        }
        let going = self.walk.planner.dependents.going_with(proposal.item());
        if let Some(why) = going.iter().filter(|of| of.told).find_map(|of| self.unkept.get(&of.item.kind)) {
            return Some(why.clone());
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

    /// An item once more: read, looked at and decided about by itself, and executed. None: the plan has nothing to write there.
    pub async fn execute_afresh(&self, item: &ItemId) -> Result<Option<Carried>, Failure> {
        let Some(planned) = self.is_to_write(item) else { return Ok(None) };
        let (stored, api_version) = match (planned.action, self.entry(item)) {
            // Both say the same where the object was to go in the plan already.
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
        // Whether this restore has deleted what was there, so that what is there now was made since.
        let mut retaken = false;
        for _ in 0..LOOKS {
            let Some(target) = self.target(item, &proposal.planned().api_version) else {
                let message = "the cluster does not serve the kind any more";
                return Ok(Fate::failed(Remark::new(reason::KIND_NOT_SERVED, message)));
            };
            // Again, and of the roles there are: what a binding gives is by now what its role holds.
            if let Some((_, remark)) = self.walk.grants.refuses(&proposal, None).await? {
                return Ok(Fate::failed(remark));
            }
            if let Some(remark) = self.would_lose(&proposal) {
                return Ok(Fate::failed(remark));
            }
            match write::perform(&self.walk.calls, target, &proposal).await? {
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
            // A status that changed is no reason to fail, but the write must be made for what is there now.
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

    /// Which set has what was there before this restore.
    fn kept(&self) -> String {
        match &self.undo {
            Some(set) => format!("the backup set {set} has it as it was"),
            None => "no backup set has it as it was, for `safetyCapture: false` was asked for".to_owned(),
        }
    }

    /// What was deleted, and is not there again.
    fn deleted(&self, why: &str) -> Remark {
        Remark::new(reason::DELETED, format!("it was deleted and is not there: {}: {why}", self.kept()))
    }

    /// Waits until the garbage collector has taken an item. False: it does not.
    pub async fn await_collection(&self, planned: &PlannedItem) -> Result<bool, Failure> {
        let deadline = Instant::now() + COLLECTED;
        loop {
            let Ok(live) = self.look(planned).await? else { return Ok(false) };
            // One of the same name that its owner's controller made since is another.
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

    /// The live object of an item, read by itself; or what becomes of the item where that is refused.
    async fn look(&self, planned: &PlannedItem) -> Result<Result<Option<Live>, Fate>, Failure> {
        let item = &planned.item;
        let Some(target) = self.target(item, &planned.api_version) else { return Ok(Ok(None)) };
        match write::get(&self.walk.calls, target).await? {
            Ok(object) => Ok(Ok(object.map(|object| {
                let left_out = left_out(self.walk.rules, item, &object);
                Live { object, left_out }
            }))),
            Err(status) => {
                let awaited = awaited(status.code, &status.message);
                let (_, remark) = not_read(item, &kube::Error::Api(status));
                Ok(Err(match awaited {
                    Some(awaited) => Fate::PutBack(awaited, remark),
                    None => Fate::failed(remark),
                }))
            }
        }
    }

    fn target<'t>(&'t self, item: &'t ItemId, api_version: &str) -> Option<Target<'t>> {
        let kind = self.walk.discovered.find(&item.kind.group, version_of(api_version), &item.kind.kind)?;
        Some(Target { kind, namespace: &self.walk.planner.namespace, name: &item.name })
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

/// What is there and is to change must be kept first.
fn why_unkept<'u>(unkept: &'u Unkept, planned: &PlannedItem) -> Option<&'u Remark> {
    let changes = matches!(planned.action, Action::Update | Action::Recreate | Action::Delete);
    unkept.get(&planned.item.kind).filter(|_| changes)
}

/// Compares what is decided now with the plan. `uid` is the live object's.
fn weigh(planned: &PlannedItem, decision: Decision, uid: Option<String>) -> Weighed {
    match decision {
        // By an earlier attempt, or by somebody who wanted the same.
        Decision::Settled(now) if now.action == Action::Unchanged => {
            Weighed::Over(Fate::Over { outcome: ItemOutcome::Done, reason: None, uid })
        }
        Decision::Settled(now) => Weighed::Over(Fate::failed(now.reason.unwrap_or_else(moved))),
        // What the policy leaves as it is.
        Decision::Proposed(proposal) if !proposal.planned().action.writes() => {
            Weighed::Over(Fate::failed(proposal.planned().reason.clone().unwrap_or_else(moved)))
        }
        Decision::Proposed(proposal) => {
            let now = proposal.planned();
            // What an earlier attempt deleted, to make it anew.
            let halfway = planned.action == Action::Recreate && now.action == Action::Create;
            if halfway || (now.action == planned.action && now.live == planned.live && now.wanted == planned.wanted) {
                Weighed::Write(Box::new(proposal))
            } else {
                Weighed::Over(Fate::failed(moved()))
            }
        }
    }
}

fn uid_of(live: &Live) -> Option<String> {
    live.object["metadata"]["uid"].as_str().map(str::to_owned)
}

fn moved() -> Remark {
    Remark::new(
        reason::MOVED,
        "it is not as it was when the plan was made, so it was left alone: look at it and restore again",
    )
}

/// Whether an item is made before its owners.
fn is_first(proposal: &Proposal) -> bool {
    is_precious(&proposal.item().kind) && matches!(proposal.write(), Write::Create(_) | Write::Recreate(..))
}
