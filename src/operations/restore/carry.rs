//! Executes a plan: each item as planned, or not at all.
//!
//! Kinds come in the order of writing, deletions last. Each write to an existing object carries its
//! uid and resourceVersion. Each item is read once more before its write: an item that differs from
//! the plan's state fails as Moved. An item that is already in its wanted state counts as done, so
//! that an attempt after a crash continues where the previous one stopped.
//!
//! A write that is refused because a component the API server needs does not respond is postponed:
//! later writes of this restore may bring that component up. It is retried after the rest, for a
//! time that is bounded for the whole attempt.

#![deny(clippy::disallowed_types)]

use crate::{
    api::reason::item as reason,
    api::{item::ItemId, operation_report::ItemOutcome, outcome::SummaryCounts},
    items::{
        plan::{Action, Plan, PlannedItem, Remark},
        refusal::{Awaited, PATIENCE},
    },
    operations::restore::{
        execute::{Carried, Executor, Fate},
        inventory::StoredKind,
        safety::Unkept,
        walk::{AHEAD, Walk},
    },
    worker::{
        failure::Failure,
        progress::Progress,
        results::{Ended, Results},
        stop::Stop,
    },
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    future::ready,
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Retry interval for items that were postponed.
const AGAIN: Duration = Duration::from_secs(1);

/// A plan being executed.
pub struct Carrier<'a> {
    executor: Executor<'a>,
    plan: &'a Plan,
    ledger: Ledger<'a>,
    /// When items that were postponed fail. Set the first time that nothing else is left to do.
    deadline: Option<Instant>,
    /// How many items are written at once.
    at_once: usize,
    progress: Progress,
    stop: Stop,
}

/// Results of the items so far.
struct Ledger<'a> {
    plan: &'a Plan,
    /// Indexed by place in the plan.
    ended: Vec<Option<Ended>>,
    counts: SummaryCounts,
    /// Items whose owner has no uid yet.
    deferred: Vec<ItemId>,
    /// Items that were postponed, by the component they wait for.
    put_back: BTreeMap<Awaited, Vec<ItemId>>,
    /// Why items were postponed. They fail with this reason if no retry succeeds.
    refused: BTreeMap<ItemId, Remark>,
    /// Uids of written objects that the executor has not been given yet.
    written: Vec<(ItemId, String)>,
}

impl<'a> Carrier<'a> {
    /// Creates a carrier. `walk` is prepared. `kept` is the backup set with the current state, and
    /// the kinds that it has nothing of. Once `stop` is set, nothing more is written.
    #[must_use]
    pub fn new(
        walk: Walk<'a>,
        plan: &'a Plan,
        kept: Option<(String, Unkept)>,
        at_once: usize,
        progress: Progress,
        stop: Stop,
    ) -> Self {
        let (undo, unkept) = kept.unzip();
        let executor = Executor::new(walk, plan, undo, unkept.unwrap_or_default());
        let mut ledger = Ledger::new(plan);
        for planned in plan.items() {
            if let Some(why) = executor.is_unkept(planned) {
                ledger.record(&planned.item, ItemOutcome::Failed, Some(why.clone()));
                continue;
            }
            let outcome = match planned.action {
                Action::Unchanged => ItemOutcome::Unchanged,
                Action::Skip => ItemOutcome::Skipped,
                action if action.fails() => ItemOutcome::Failed,
                _ => continue,
            };
            ledger.record(&planned.item, outcome, planned.reason.clone());
        }
        Self { executor, plan, ledger, deadline: None, at_once, progress, stop }
    }

    /// Executes the plan. Returns the results of all items, in the order of the plan.
    pub async fn carry(mut self) -> Result<Results<'a>, Failure> {
        for kind in self.executor.walk.kinds_to_write() {
            if self.stop.is_set() {
                break;
            }
            if self.executor.writes(&kind) {
                self.carry_kind(&kind).await?;
            }
        }
        self.carry_left().await?;
        if !self.stop.is_set() {
            self.carry_deletions().await?;
        }
        // Deletions can be postponed too.
        self.carry_left().await?;
        self.give_up();
        self.progress.finish(self.ledger.counts).await;
        let is_deletion = self.executor.walk.planner.terms.is_deletion();
        let (outcome, lost) = match (self.stop.is_set(), is_deletion) {
            (true, true) => {
                let message = "the bulk operation was cancelled before its last attempt came to this: it is as it was";
                (ItemOutcome::Skipped, Remark::new(reason::STOPPED, message))
            }
            (true, false) => {
                let message = "the restore was stopped before it came to this: it is as it was";
                (ItemOutcome::Failed, Remark::new(reason::STOPPED, message))
            }
            (false, _) => {
                let message = "the snapshot does not hold it any more: check the repository";
                (ItemOutcome::Failed, Remark::new(reason::UNREADABLE, message))
            }
        };
        let or_lost = |ended: Option<Ended>| ended.unwrap_or_else(|| (outcome, Some(lost.clone().into())));
        Ok(Results::new(self.plan, self.ledger.ended.into_iter().map(or_lost).collect()))
    }

    async fn carry_kind(&mut self, kind: &StoredKind) -> Result<(), Failure> {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let Self { executor, ledger, progress, stop, at_once, .. } = self;
        let candidates = stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
        let carried = candidates
            .take_while(|_| ready(!stop.is_set()))
            .map(|candidate| executor.execute(candidate))
            .buffer_unordered(*at_once);
        let (read, carried) = tokio::join!(executor.weigh_kind(kind, sender), ledger.take(carried, progress));
        carried?;
        read?;
        self.tell_executor();
        Ok(())
    }

    /// Executes items that wait for their owners or were postponed, until no more of them can be
    /// done.
    async fn carry_left(&mut self) -> Result<(), Failure> {
        while !self.stop.is_set() {
            let deferred = std::mem::take(&mut self.ledger.deferred);
            let before = deferred.len();
            self.carry_again(deferred).await?;
            if self.ledger.deferred.len() == before && !self.carry_put_back().await? {
                break;
            }
        }
        Ok(())
    }

    /// Retries items that were postponed, until one succeeds. Returns false if none will.
    async fn carry_put_back(&mut self) -> Result<bool, Failure> {
        if self.ledger.put_back.is_empty() {
            return Ok(false);
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
        let before = self.waiting();
        tracing::info!(items = before, awaited = ?self.ledger.put_back.keys(), "put back until these answer");
        while Instant::now() < deadline && !self.stop.is_set() {
            tokio::time::sleep(AGAIN).await;
            for (awaited, mut items) in std::mem::take(&mut self.ledger.put_back) {
                // One item probes for all that wait for the same component, a different one each
                // time.
                let mut rest = items.split_off(1);
                self.carry_again(items).await?;
                match self.ledger.put_back.get_mut(&awaited) {
                    Some(again) => {
                        rest.append(again);
                        *again = rest;
                    }
                    None => self.carry_again(rest).await?,
                }
            }
            if self.waiting() < before {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn waiting(&self) -> usize {
        self.ledger.put_back.values().map(Vec::len).sum()
    }

    /// Executes items again, each read and decided afresh.
    async fn carry_again(&mut self, items: Vec<ItemId>) -> Result<(), Failure> {
        let Self { executor, ledger, progress, stop, at_once, .. } = self;
        let carried = stream::iter(&items)
            .take_while(|_| ready(!stop.is_set()))
            .map(|item| executor.execute_afresh(item))
            .buffer_unordered(*at_once)
            .try_filter_map(|carried| ready(Ok(carried)));
        ledger.take(carried, progress).await?;
        self.tell_executor();
        Ok(())
    }

    /// Gives the executor the uids of written objects, for the owner references of their
    /// dependents.
    fn tell_executor(&mut self) {
        for (item, uid) in self.ledger.written.drain(..) {
            self.executor.walk.planner.family.add_live(item, uid);
        }
    }

    /// Fails the remaining items, with the reason they were left for.
    fn give_up(&mut self) {
        let stopped = self.stop.is_set();
        for (item, mut remark) in std::mem::take(&mut self.ledger.refused) {
            if !stopped {
                let message = format!("{}; it was tried again for {} s", remark.message, PATIENCE.as_secs());
                remark = Remark::new(&remark.code, message);
            }
            if self.ledger.outcome(&item).is_none() {
                self.ledger.record(&item, ItemOutcome::Failed, Some(remark));
            }
        }
        if stopped {
            return;
        }
        for item in std::mem::take(&mut self.ledger.deferred) {
            let message = "its owner could not be restored: see why the owner failed, then restore both again; of a Secret, ConfigMap or claim only the reference to the owner is missing";
            let remark = Remark::new(reason::OWNER_MISSING, message);
            self.ledger.record(&item, ItemOutcome::Failed, Some(remark));
        }
    }

    async fn carry_deletions(&mut self) -> Result<(), Failure> {
        let is_due =
            |planned: &&PlannedItem| planned.action == Action::Delete && self.executor.is_unkept(planned).is_none();
        let deletions: Vec<&PlannedItem> = self.plan.items().iter().filter(is_due).collect();
        let (collected, deleted): (Vec<&PlannedItem>, Vec<&PlannedItem>) =
            deletions.into_iter().partition(|planned| planned.is_collected());
        // One kind after the other: kinds that let traffic in are deleted before workloads.
        for of_kind in deleted.chunk_by(|one, next| one.item.kind == next.item.kind) {
            if self.stop.is_set() {
                return Ok(());
            }
            let dependents = &self.executor.walk.planner.dependents;
            let all: BTreeSet<&ItemId> = of_kind.iter().map(|planned| &planned.item).collect();
            let pairs = |item: &ItemId| {
                let owners = dependents.owners_of(item).into_iter().filter(|owner| all.contains(owner));
                owners.flat_map(|owner| [owner, item.clone()]).collect::<Vec<_>>()
            };
            let bound: BTreeSet<ItemId> = all.iter().flat_map(|item| pairs(item)).collect();
            let others = all.iter().filter(|item| !bound.contains(**item)).map(|item| (*item).clone()).collect();
            let mut bound: Vec<ItemId> = bound.into_iter().collect();
            bound.sort_by_key(|item| Reverse(dependents.ancestors(item)));
            self.carry_again(others).await?;
            // Dependents go before their owners, one after the other: an owner must not take along what
            // failed to go by itself.
            for item in bound {
                self.carry_again(vec![item]).await?;
            }
        }
        // Owners come before their dependents, which are deleted only if their owners are.
        for planned in collected.into_iter().rev() {
            if self.stop.is_set() {
                return Ok(());
            }
            self.await_collection(planned).await?;
        }
        Ok(())
    }

    /// Waits until the garbage collector has deleted an item, if its owners were deleted.
    async fn await_collection(&mut self, planned: &PlannedItem) -> Result<(), Failure> {
        let stays = |owner: &ItemId| self.ledger.outcome(owner) != Some(ItemOutcome::Done);
        let owners = self.executor.walk.planner.dependents.owners_of(&planned.item);
        let (outcome, reason) = if owners.iter().any(stays) {
            let message = "its owner was not deleted, so it stays";
            (ItemOutcome::Skipped, Some(Remark::new(reason::GARBAGE_COLLECTED, message)))
        } else if self.executor.await_collection(planned).await? {
            (ItemOutcome::Done, None)
        } else {
            let message = "its owner is deleted, and the garbage collector has not taken it yet: see that kube-controller-manager runs";
            (ItemOutcome::Failed, Some(Remark::new(reason::GARBAGE_COLLECTED, message)))
        };
        self.ledger.record(&planned.item, outcome, reason);
        Ok(())
    }
}

impl<'a> Ledger<'a> {
    fn new(plan: &'a Plan) -> Self {
        let items = plan.items().len();
        let total = i64::try_from(items).unwrap_or(i64::MAX);
        Self {
            plan,
            ended: vec![None; items],
            counts: SummaryCounts { total, ..SummaryCounts::default() },
            deferred: Vec::new(),
            put_back: BTreeMap::new(),
            refused: BTreeMap::new(),
            written: Vec::new(),
        }
    }

    /// The outcome of an item, if it has ended and is part of the plan.
    fn outcome(&self, item: &ItemId) -> Option<ItemOutcome> {
        self.ended[self.plan.place_of(item)?].as_ref().map(|(outcome, _)| *outcome)
    }

    fn record(&mut self, item: &ItemId, outcome: ItemOutcome, reason: Option<Remark>) {
        let Some(place) = self.plan.place_of(item) else { return };
        if let Some((before, _)) = self.ended[place].replace((outcome, reason.map(Box::new))) {
            *self.count(before) -= 1;
            self.counts.processed -= 1;
        }
        *self.count(outcome) += 1;
        self.counts.processed += 1;
    }

    fn count(&mut self, outcome: ItemOutcome) -> &mut i64 {
        match outcome {
            ItemOutcome::Done | ItemOutcome::Unchanged => &mut self.counts.succeeded,
            ItemOutcome::Failed => &mut self.counts.failed,
            ItemOutcome::Skipped => &mut self.counts.skipped,
        }
    }

    /// Records results of items as they arrive.
    async fn take(
        &mut self,
        carried: impl Stream<Item = Result<Carried, Failure>>,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let mut carried = std::pin::pin!(carried);
        while let Some(Carried { item, fate }) = carried.try_next().await? {
            match fate {
                Fate::Over { outcome, reason, uid } => {
                    self.written.extend(uid.map(|uid| (item.clone(), uid)));
                    self.record(&item, outcome, reason);
                    progress.update(self.counts);
                }
                Fate::Deferred => self.deferred.push(item),
                Fate::Unowned(uid) => {
                    self.written.extend(uid.map(|uid| (item.clone(), uid)));
                    self.deferred.push(item);
                }
                Fate::PutBack(awaited, remark) => {
                    self.put_back.entry(awaited).or_default().push(item.clone());
                    self.refused.insert(item, remark);
                }
            }
        }
        Ok(())
    }
}
