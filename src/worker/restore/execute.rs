//! One item of a plan at a time: read, looked at once more, decided about, written if it is still what the plan was made for.
//!
//! Must not: keep results, or know what comes before and after an item; that is `carry`.

use crate::{
    api::{
        item::{GroupKind, ItemId},
        operation_report::ItemOutcome,
    },
    restore::{
        decide::{Decision, Live, Proposal, Stored, Write},
        owners::pending,
        plan::{Action, Plan, PlannedItem, Remark, reason},
        refusal::{Awaited, awaited, refusal},
    },
    worker::{
        failure::Failure,
        restore::{
            inventory::{Entry, StoredKind},
            join::Pair,
            walk::{Met, Walk, left_out, version_of},
            write::{self, Performed, Target},
        },
    },
};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc::Sender;

/// How often an item is looked at again that was written by others in between.
const LOOKS: usize = 4;

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
    /// The API server refuses it because somebody does not answer, in these words.
    PutBack(Awaited, Remark),
}

impl Fate {
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
    planned: BTreeMap<&'a ItemId, &'a PlannedItem>,
    /// Kinds of which the plan writes something.
    kinds: BTreeSet<&'a GroupKind>,
}

impl<'a> Executor<'a> {
    /// For the items of a plan.
    #[must_use]
    pub fn new(mut walk: Walk<'a>, plan: &'a Plan) -> Self {
        for planned in plan.items() {
            match planned.action {
                Action::Delete => walk.planner.family.add_leaving(&planned.item),
                Action::Recreate => walk.planner.family.add_renewed(planned.item.clone()),
                _ => {}
            }
        }
        let writes = plan.items().iter().filter(|planned| planned.action.writes());
        Self {
            walk,
            planned: plan.items().iter().map(|planned| (&planned.item, planned)).collect(),
            kinds: writes.map(|planned| &planned.item.kind).collect(),
        }
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
                    let decision = self.walk.decide_pair(kind, &pair.name, stored.clone(), pair.live);
                    (Some(planned), stored, weigh(planned, decision, uid))
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
            Weighed::Write(proposal) if is_pending(&proposal) => Fate::Deferred,
            Weighed::Write(proposal) => self.write(planned, &stored, *proposal).await?,
        };
        Ok(Carried { item: planned.item.clone(), fate })
    }

    /// An item once more: read, looked at and decided about by itself, and executed. None: the plan has nothing to write there.
    pub async fn execute_afresh(&self, item: &ItemId) -> Result<Option<Carried>, Failure> {
        let Some(planned) = self.is_to_write(item) else { return Ok(None) };
        let (stored, api_version) = match (planned.action, self.entry(item)) {
            // Both say the same where the object was to go in the plan already.
            (Action::Delete, _) => (Stored::Absent, planned.api_version.clone()),
            (_, Some((kind, entry))) => (self.read_one(entry).await?, kind.api_version()),
            (_, None) => return Ok(None),
        };
        let live = self.look(planned).await?;
        let uid = live.as_ref().and_then(uid_of);
        let decision = self.walk.planner.decide(item, &api_version, stored.clone(), live.as_ref());
        let weighed = weigh(planned, decision, uid);
        self.execute(Candidate { planned, stored, weighed }).await.map(Some)
    }

    async fn write(&self, planned: &PlannedItem, stored: &Stored, mut proposal: Proposal) -> Result<Fate, Failure> {
        let item = &planned.item;
        for _ in 0..LOOKS {
            let Some(target) = self.target(item, &proposal.planned().api_version) else {
                let message = "the cluster does not serve the kind any more";
                return Ok(Fate::failed(Remark::new(reason::KIND_NOT_SERVED, message)));
            };
            // Again, and of the roles there are: what a binding gives is by now what its role holds.
            if let Some((_, remark)) = self.walk.grants.refuses(&proposal, None).await? {
                return Ok(Fate::failed(remark));
            }
            match write::perform(&self.walk.calls, target, proposal.write()).await? {
                Performed::Done(uid) => {
                    return Ok(Fate::Over { outcome: ItemOutcome::Done, reason: None, uid });
                }
                Performed::Lingers => {
                    let message = "it was deleted and does not go: its finalizers say what it waits for; when it is gone, restore again";
                    return Ok(Fate::failed(Remark::new(reason::BEING_DELETED, message)));
                }
                Performed::Refused { code, message } => {
                    let (_, remark) = refusal(code, &message, proposal.write());
                    return Ok(match awaited(code, &message) {
                        Some(awaited) => Fate::PutBack(awaited, remark),
                        None => Fate::failed(remark),
                    });
                }
                Performed::Moved => {}
            }
            // A status that changed is no reason to fail, but the write must be made for what is there now.
            let live = self.look(planned).await?;
            let uid = live.as_ref().and_then(uid_of);
            let decision = self.walk.planner.decide(item, &planned.api_version, stored.clone(), live.as_ref());
            match weigh(planned, decision, uid) {
                Weighed::Write(again) => proposal = *again,
                Weighed::Over(fate) => return Ok(fate),
            }
        }
        Ok(Fate::failed(moved()))
    }

    /// The live object of an item, read by itself.
    async fn look(&self, planned: &PlannedItem) -> Result<Option<Live>, Failure> {
        let Some(target) = self.target(&planned.item, &planned.api_version) else { return Ok(None) };
        let object = write::get(&self.walk.calls, target).await?;
        Ok(object.map(|object| {
            let left_out = left_out(self.walk.rules, &planned.item, &object);
            Live { object, left_out }
        }))
    }

    fn target<'t>(&'t self, item: &'t ItemId, api_version: &str) -> Option<Target<'t>> {
        let kind = self.walk.discovered.find(&item.kind.group, version_of(api_version), &item.kind.kind)?;
        Some(Target { kind, namespace: &self.walk.planner.namespace, name: &item.name })
    }

    fn entry(&self, item: &ItemId) -> Option<(&'a StoredKind, &'a Entry)> {
        let mut of_kind = self.walk.inventory.kinds.iter().filter(|(kind, _)| kind.kind == item.kind);
        of_kind.find_map(|(kind, entries)| Some((kind, entries.get(&item.name)?)))
    }

    async fn read_one(&self, entry: &'a Entry) -> Result<Stored, Failure> {
        let pair = Pair { name: String::new(), entry, live: None };
        let read = self.walk.read(vec![pair]).await?;
        Ok(read.into_iter().next().map_or_else(|| Stored::Unreadable(String::new()), |(_, stored)| stored))
    }

    fn is_to_write(&self, item: &ItemId) -> Option<&'a PlannedItem> {
        self.planned.get(item).copied().filter(|planned| planned.action.writes())
    }
}

/// Compares what is decided now with the plan. `uid` is the live object's.
fn weigh(planned: &PlannedItem, decision: Decision, uid: Option<String>) -> Weighed {
    match decision {
        // By an earlier attempt, or by somebody who wanted the same.
        Decision::Settled(now) if now.action == Action::Unchanged => {
            Weighed::Over(Fate::Over { outcome: ItemOutcome::Done, reason: None, uid })
        }
        Decision::Settled(now) => Weighed::Over(Fate::failed(now.reason.unwrap_or_else(moved))),
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

fn is_pending(proposal: &Proposal) -> bool {
    match proposal.write() {
        Write::Create(body) | Write::Update(body) | Write::Recreate(_, body) => !pending(body).is_empty(),
        Write::Delete(_) => false,
    }
}
