//! Carries a plan out: each item as it says, or not at all.
//!
//! Kinds come in the order of writing, deletions last. Each write carries uid and resourceVersion, and each item is looked
//! at once more before: one that is not as the plan found it fails as Moved. One that is by now as it should be counts as done,
//! so that an attempt that follows one that died goes on where that stopped.

use crate::{
    api::{
        item::ItemId,
        operation_report::{ItemOutcome, ItemResult},
        operation_run::SummaryCounts,
    },
    restore::{
        decide::{Decision, Live, Proposal, Stored, Write, refusal},
        owners::pending,
        plan::{Action, Plan, PlannedItem, Remark, reason},
    },
    worker::{
        failure::Failure,
        progress::Progress,
        restore::{
            inventory::{Entry, StoredKind},
            join::{Join, Joined},
            walk::{Walk, left_out, version_of},
            write::{self, AT_ONCE, Performed, Target},
        },
        stop::Stop,
    },
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeMap;

/// How often an item is looked at again that was written by others in between.
const LOOKS: usize = 4;

/// What became of an item, and the uid it has now if it was made.
struct Carried {
    item: ItemId,
    outcome: ItemOutcome,
    reason: Option<Remark>,
    uid: Option<String>,
}

/// A plan being carried out.
pub struct Carrier<'a> {
    walk: Walk<'a>,
    plan: &'a Plan,
    planned: BTreeMap<&'a ItemId, &'a PlannedItem>,
    results: BTreeMap<ItemId, (ItemOutcome, Option<Remark>)>,
    /// Items whose owner has no uid yet.
    deferred: Vec<(StoredKind, String)>,
    progress: Progress,
    stop: Stop,
}

impl<'a> Carrier<'a> {
    /// Begins. `walk` is prepared. Once `stop` is set, nothing more is written.
    #[must_use]
    pub fn new(walk: Walk<'a>, plan: &'a Plan, progress: Progress, stop: Stop) -> Self {
        let planned = plan.items().iter().map(|planned| (&planned.item, planned)).collect();
        let mut carrier = Self { walk, plan, planned, results: BTreeMap::new(), deferred: Vec::new(), progress, stop };
        for planned in plan.items() {
            match planned.action {
                Action::Delete => carrier.walk.planner.family.add_leaving(&planned.item),
                Action::Recreate => carrier.walk.planner.family.add_renewed(planned.item.clone()),
                _ => {}
            }
            let outcome = match planned.action {
                Action::Unchanged => ItemOutcome::Unchanged,
                Action::Skip => ItemOutcome::Skipped,
                action if action.fails() => ItemOutcome::Failed,
                _ => continue,
            };
            carrier.results.insert(planned.item.clone(), (outcome, planned.reason.clone()));
        }
        carrier
    }

    /// Does it all. The results are those of every item, in the order of the plan.
    pub async fn carry(mut self) -> Result<Vec<ItemResult>, Failure> {
        for kind in self.walk.kinds_in_order() {
            if self.stop.is_set() {
                break;
            }
            self.carry_kind(&kind).await?;
        }
        if !self.stop.is_set() {
            self.carry_deferred().await?;
        }
        if !self.stop.is_set() {
            self.carry_deletions().await?;
        }
        let counts = self.counts();
        self.progress.finish(counts).await;
        let (results, stopped) = (&mut self.results, self.stop.is_set());
        Ok(self
            .plan
            .items()
            .iter()
            .map(|planned| {
                let lost = || {
                    if stopped {
                        let message = "the restore was stopped before it came to this: it is as it was";
                        return (ItemOutcome::Failed, Some(Remark::new(reason::STOPPED, message)));
                    }
                    let message = "the snapshot does not hold it any more: check the repository";
                    (ItemOutcome::Failed, Some(Remark::new(reason::UNREADABLE, message)))
                };
                let (outcome, reason) = results.remove(&planned.item).unwrap_or_else(lost);
                ItemResult { item_id: planned.item.to_string(), action: planned.action, outcome, reason }
            })
            .collect())
    }

    async fn carry_kind(&mut self, kind: &StoredKind) -> Result<(), Failure> {
        let served = self.walk.served(kind).cloned();
        let mut join = Join::new(&self.walk, kind, served.as_ref());
        let mut ahead = join.next().await?;
        loop {
            match ahead {
                Joined::End => return Ok(()),
                Joined::Unlisted(names, error) => {
                    for name in names {
                        let planned = crate::worker::restore::walk::unlisted(kind, name, &error);
                        if self.is_to_write(&planned.item).is_some() {
                            self.results.insert(planned.item, (ItemOutcome::Failed, planned.reason));
                        }
                    }
                    return Ok(());
                }
                Joined::Pairs(_) if self.stop.is_set() => return Ok(()),
                Joined::Pairs(mut pairs) => {
                    pairs.retain(|pair| self.is_to_write(&ItemId::new(kind.kind.clone(), &pair.name)).is_some());
                    let mut proposals = Vec::new();
                    for (pair, stored) in self.walk.read(pairs).await? {
                        let item = ItemId::new(kind.kind.clone(), &pair.name);
                        let uid = pair.live.as_ref().and_then(|live| uid_of(live.as_ref().ok()?));
                        let decision = self.walk.decide_pair(kind, &pair.name, stored.clone(), pair.live);
                        let Some(planned) = self.is_to_write(&item) else { continue };
                        match weigh(planned, decision) {
                            Weighed::Write(proposal) if is_pending(&proposal) => {
                                self.deferred.push((kind.clone(), pair.name));
                            }
                            Weighed::Write(proposal) => proposals.push((stored, proposal)),
                            Weighed::Over(outcome, reason) => {
                                // Made anew by an earlier attempt: what it owns is to get this uid.
                                if let (ItemOutcome::Done, Some(uid)) = (outcome, uid) {
                                    self.walk.planner.family.add_live(item.clone(), uid);
                                }
                                self.results.insert(item, (outcome, reason));
                            }
                        }
                    }
                    // The next page is read while this one is written; what changes in between, its writes will notice.
                    let (carried, next) = tokio::join!(self.perform(proposals), join.next());
                    self.take(carried?);
                    ahead = next?;
                }
            }
        }
    }

    /// What was left for the owners it needs.
    async fn carry_deferred(&mut self) -> Result<(), Failure> {
        loop {
            let deferred = std::mem::take(&mut self.deferred);
            let before = deferred.len();
            for (kind, name) in deferred {
                let item = ItemId::new(kind.kind.clone(), &name);
                let (Some(entry), Some(planned)) = (self.entry(&kind, &name), self.is_to_write(&item)) else {
                    continue;
                };
                let stored = self.read_one(entry).await?;
                let live = self.look(planned).await?;
                let decision = self.walk.planner.decide(&item, &kind.api_version(), stored.clone(), live.as_ref());
                match weigh(planned, decision) {
                    Weighed::Write(proposal) if is_pending(&proposal) => self.deferred.push((kind, name)),
                    Weighed::Write(proposal) => self.write(vec![(stored, proposal)]).await?,
                    Weighed::Over(outcome, reason) => {
                        self.results.insert(item, (outcome, reason));
                    }
                }
            }
            if self.deferred.len() == before {
                break;
            }
        }
        for (kind, name) in std::mem::take(&mut self.deferred) {
            let message = "its owner could not be restored, and without it this would be another object: see why the owner failed, then restore both again";
            let remark = Remark::new(reason::OWNER_MISSING, message);
            self.results.insert(ItemId::new(kind.kind, name), (ItemOutcome::Failed, Some(remark)));
        }
        Ok(())
    }

    async fn carry_deletions(&mut self) -> Result<(), Failure> {
        let deletions: Vec<&PlannedItem> =
            self.plan.items().iter().filter(|planned| planned.action == Action::Delete).collect();
        for planned in deletions {
            if self.stop.is_set() {
                return Ok(());
            }
            // Both say the same where the object was to go in the plan already.
            let stored = Stored::Absent;
            let live = self.look(planned).await?;
            let decision = self.walk.planner.decide(&planned.item, &planned.api_version, stored.clone(), live.as_ref());
            match weigh(planned, decision) {
                Weighed::Write(proposal) => self.write(vec![(stored, proposal)]).await?,
                Weighed::Over(outcome, reason) => {
                    self.results.insert(planned.item.clone(), (outcome, reason));
                }
            }
        }
        Ok(())
    }

    async fn write(&mut self, proposals: Vec<(Stored, Box<Proposal>)>) -> Result<(), Failure> {
        let carried = self.perform(proposals).await?;
        self.take(carried);
        Ok(())
    }

    async fn perform(&self, proposals: Vec<(Stored, Box<Proposal>)>) -> Result<Vec<Carried>, Failure> {
        stream::iter(proposals)
            .take_while(|_| std::future::ready(!self.stop.is_set()))
            .map(|(stored, proposal)| async move { self.write_one(&stored, *proposal).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    fn take(&mut self, carried: Vec<Carried>) {
        for Carried { item, outcome, reason, uid } in carried {
            if let Some(uid) = uid {
                self.walk.planner.family.add_live(item.clone(), uid);
            }
            self.results.insert(item, (outcome, reason));
        }
        self.progress.update(self.counts());
    }

    async fn write_one(&self, stored: &Stored, mut proposal: Proposal) -> Result<Carried, Failure> {
        let item = proposal.item().clone();
        let over = |outcome, reason| Carried { item: item.clone(), outcome, reason, uid: None };
        let Some(planned) = self.is_to_write(&item) else { return Ok(over(ItemOutcome::Skipped, None)) };
        for _ in 0..LOOKS {
            let Some(target) = self.target(&item, &proposal.planned().api_version) else {
                let remark = Remark::new(reason::KIND_NOT_SERVED, "the cluster does not serve the kind any more");
                return Ok(over(ItemOutcome::Failed, Some(remark)));
            };
            match write::perform(&self.walk.calls, target, proposal.write()).await? {
                Performed::Done(uid) => {
                    return Ok(Carried { uid, ..over(ItemOutcome::Done, None) });
                }
                Performed::Lingers => {
                    let message = "it was deleted and does not go: its finalizers say what it waits for; when it is gone, restore again";
                    return Ok(over(ItemOutcome::Failed, Some(Remark::new(reason::BEING_DELETED, message))));
                }
                Performed::Refused { code, message } => {
                    let (_, remark) = refusal(code, &message, proposal.write());
                    return Ok(over(ItemOutcome::Failed, Some(remark)));
                }
                Performed::Moved => {}
            }
            // A status that changed is no reason to fail, but the write must be made for what is there now.
            let live = self.look(planned).await?;
            let decision = self.walk.planner.decide(&item, &planned.api_version, stored.clone(), live.as_ref());
            match weigh(planned, decision) {
                Weighed::Write(again) => proposal = *again,
                Weighed::Over(outcome, reason) => return Ok(over(outcome, reason)),
            }
        }
        Ok(over(ItemOutcome::Failed, Some(moved())))
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

    fn entry(&self, kind: &StoredKind, name: &str) -> Option<&'a Entry> {
        self.walk.inventory.kinds.get(kind)?.get(name)
    }

    async fn read_one(&self, entry: &'a Entry) -> Result<Stored, Failure> {
        let pair = crate::worker::restore::join::Pair { name: String::new(), entry, live: None };
        let read = self.walk.read(vec![pair]).await?;
        Ok(read.into_iter().next().map_or_else(|| Stored::Unreadable(String::new()), |(_, stored)| stored))
    }

    fn is_to_write(&self, item: &ItemId) -> Option<&'a PlannedItem> {
        self.planned.get(item).copied().filter(|planned| planned.action.writes())
    }

    fn counts(&self) -> SummaryCounts {
        let count = |wanted: &[ItemOutcome]| {
            let of = self.results.values().filter(|(outcome, _)| wanted.contains(outcome)).count();
            i64::try_from(of).unwrap_or(i64::MAX)
        };
        SummaryCounts {
            total: i64::try_from(self.plan.items().len()).unwrap_or(i64::MAX),
            processed: i64::try_from(self.results.len()).unwrap_or(i64::MAX),
            succeeded: count(&[ItemOutcome::Done, ItemOutcome::Unchanged]),
            failed: count(&[ItemOutcome::Failed]),
            skipped: count(&[ItemOutcome::Skipped]),
        }
    }
}

/// Whether an item is still what the plan was made for.
enum Weighed {
    /// It is; this is the write.
    Write(Box<Proposal>),
    /// There is nothing to write.
    Over(ItemOutcome, Option<Remark>),
}

fn weigh(planned: &PlannedItem, decision: Decision) -> Weighed {
    match decision {
        // By an earlier attempt, or by somebody who wanted the same.
        Decision::Settled(now) if now.action == Action::Unchanged => Weighed::Over(ItemOutcome::Done, None),
        Decision::Settled(now) => Weighed::Over(ItemOutcome::Failed, now.reason.or_else(|| Some(moved()))),
        Decision::Proposed(proposal) => {
            let now = proposal.planned();
            // What an earlier attempt deleted, to make it anew.
            let halfway = planned.action == Action::Recreate && now.action == Action::Create;
            if halfway || (now.action == planned.action && now.live == planned.live && now.wanted == planned.wanted) {
                Weighed::Write(Box::new(proposal))
            } else {
                Weighed::Over(ItemOutcome::Failed, Some(moved()))
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
