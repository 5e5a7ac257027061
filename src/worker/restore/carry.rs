//! Carries a plan out: each item as it says, or not at all.
//!
//! Kinds come in the order of writing, deletions last. Each write carries uid and resourceVersion, and each item is looked
//! at once more before: one that is not as the plan found it fails as Moved. One that is by now as it should be counts as done,
//! so that an attempt that follows one that died goes on where that stopped.
//!
//! What is refused because somebody does not answer whom the API server must ask is put back: what this restore has yet to
//! write may bring them. After the rest it is tried again, for a time that is bounded for the whole attempt.

use crate::{
    api::{
        item::ItemId,
        operation_report::{ItemOutcome, ItemResult},
        operation_run::SummaryCounts,
    },
    restore::{
        decide::{Decision, Live, Proposal, Stored, Write},
        owners::pending,
        plan::{Action, Plan, PlannedItem, Remark, reason},
        refusal::{Awaited, PATIENCE, awaited, refusal},
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
use std::{collections::BTreeMap, time::Duration};
use tokio::time::Instant;

/// How often an item is looked at again that was written by others in between.
const LOOKS: usize = 4;

/// How often what was put back is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of an item, and the uid it has now if it was made.
struct Carried {
    item: ItemId,
    outcome: ItemOutcome,
    reason: Option<Remark>,
    uid: Option<String>,
    /// Who does not answer yet, where the item failed for that alone.
    awaits: Option<Awaited>,
}

/// A plan being carried out.
pub struct Carrier<'a> {
    walk: Walk<'a>,
    plan: &'a Plan,
    planned: BTreeMap<&'a ItemId, &'a PlannedItem>,
    results: BTreeMap<ItemId, (ItemOutcome, Option<Remark>)>,
    /// Items whose owner has no uid yet.
    deferred: Vec<ItemId>,
    /// Items that were put back, by whom they wait for.
    put_back: BTreeMap<Awaited, Vec<ItemId>>,
    /// Why items were put back, which is how they fail if nothing more becomes of them.
    refused: BTreeMap<ItemId, Remark>,
    /// When those fail; from the first time that nothing else is left to do.
    deadline: Option<Instant>,
    progress: Progress,
    stop: Stop,
}

impl<'a> Carrier<'a> {
    /// Begins. `walk` is prepared. Once `stop` is set, nothing more is written.
    #[must_use]
    pub fn new(walk: Walk<'a>, plan: &'a Plan, progress: Progress, stop: Stop) -> Self {
        let planned = plan.items().iter().map(|planned| (&planned.item, planned)).collect();
        let mut carrier = Self {
            walk,
            plan,
            planned,
            results: BTreeMap::new(),
            deferred: Vec::new(),
            put_back: BTreeMap::new(),
            refused: BTreeMap::new(),
            deadline: None,
            progress,
            stop,
        };
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
        self.carry_left().await?;
        if !self.stop.is_set() {
            self.carry_deletions().await?;
        }
        // Deletions are put back too.
        self.carry_left().await?;
        self.give_up();
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
                            Weighed::Write(proposal) if is_pending(&proposal) => self.deferred.push(item),
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

    /// What was left for the owners it needs, or put back, until no more of it can be done.
    async fn carry_left(&mut self) -> Result<(), Failure> {
        while !self.stop.is_set() {
            let deferred = std::mem::take(&mut self.deferred);
            let before = deferred.len();
            self.carry_again(deferred).await?;
            if self.deferred.len() == before && !self.carry_put_back().await? {
                break;
            }
        }
        Ok(())
    }

    /// Tries again what was put back, until something comes through. False: nothing will any more.
    async fn carry_put_back(&mut self) -> Result<bool, Failure> {
        if self.put_back.is_empty() {
            return Ok(false);
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
        let before = self.waiting();
        tracing::info!(items = before, awaited = ?self.put_back.keys(), "put back until these answer");
        while Instant::now() < deadline && !self.stop.is_set() {
            tokio::time::sleep(AGAIN).await;
            for (awaited, mut items) in std::mem::take(&mut self.put_back) {
                // One item asks for all that wait for the same, each time another one.
                let mut rest = items.split_off(1);
                self.carry_again(items).await?;
                match self.put_back.get_mut(&awaited) {
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
        self.put_back.values().map(Vec::len).sum()
    }

    /// Items once more, each looked at and decided about afresh.
    async fn carry_again(&mut self, items: Vec<ItemId>) -> Result<(), Failure> {
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() && !self.stop.is_set() {
            let batch: Vec<ItemId> = items.by_ref().take(AT_ONCE).collect();
            let afresh = stream::iter(&batch).map(|item| self.decide_afresh(item)).buffered(AT_ONCE);
            let decided: Vec<_> = afresh.try_collect().await?;
            let mut proposals = Vec::new();
            for (planned, stored, decision) in decided.into_iter().flatten() {
                match weigh(planned, decision) {
                    Weighed::Write(proposal) if is_pending(&proposal) => self.deferred.push(planned.item.clone()),
                    Weighed::Write(proposal) => proposals.push((stored, proposal)),
                    Weighed::Over(outcome, reason) => {
                        self.results.insert(planned.item.clone(), (outcome, reason));
                    }
                }
            }
            self.write(proposals).await?;
        }
        Ok(())
    }

    /// An item, read, looked at and decided about by itself.
    async fn decide_afresh(&self, item: &ItemId) -> Result<Option<(&'a PlannedItem, Stored, Decision)>, Failure> {
        let Some(planned) = self.is_to_write(item) else { return Ok(None) };
        let (stored, api_version) = match (planned.action, self.entry(item)) {
            // Both say the same where the object was to go in the plan already.
            (Action::Delete, _) => (Stored::Absent, planned.api_version.clone()),
            (_, Some((kind, entry))) => (self.read_one(entry).await?, kind.api_version()),
            (_, None) => return Ok(None),
        };
        let live = self.look(planned).await?;
        let decision = self.walk.planner.decide(item, &api_version, stored.clone(), live.as_ref());
        Ok(Some((planned, stored, decision)))
    }

    /// What was left fails, with the reason that it was left for.
    fn give_up(&mut self) {
        let stopped = self.stop.is_set();
        for (item, mut remark) in std::mem::take(&mut self.refused) {
            if !stopped {
                let message = format!("{}; it was tried again for {} s", remark.message, PATIENCE.as_secs());
                remark = Remark::new(&remark.code, message);
            }
            self.results.entry(item).or_insert((ItemOutcome::Failed, Some(remark)));
        }
        if stopped {
            return;
        }
        for item in std::mem::take(&mut self.deferred) {
            let message = "its owner could not be restored, and without it this would be another object: see why the owner failed, then restore both again";
            let remark = Remark::new(reason::OWNER_MISSING, message);
            self.results.insert(item, (ItemOutcome::Failed, Some(remark)));
        }
    }

    async fn carry_deletions(&mut self) -> Result<(), Failure> {
        let deletions: Vec<&PlannedItem> =
            self.plan.items().iter().filter(|planned| planned.action == Action::Delete).collect();
        for planned in deletions {
            if self.stop.is_set() {
                return Ok(());
            }
            self.carry_again(vec![planned.item.clone()]).await?;
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
        for Carried { item, outcome, reason, uid, awaits } in carried {
            if let Some(uid) = uid {
                self.walk.planner.family.add_live(item.clone(), uid);
            }
            match (awaits, reason) {
                (Some(awaited), Some(remark)) => {
                    self.put_back.entry(awaited).or_default().push(item.clone());
                    self.refused.insert(item, remark);
                }
                (_, reason) => {
                    self.results.insert(item, (outcome, reason));
                }
            }
        }
        self.progress.update(self.counts());
    }

    async fn write_one(&self, stored: &Stored, mut proposal: Proposal) -> Result<Carried, Failure> {
        let item = proposal.item().clone();
        let over = |outcome, reason| Carried { item: item.clone(), outcome, reason, uid: None, awaits: None };
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
                    let awaits = awaited(code, &message);
                    return Ok(Carried { awaits, ..over(ItemOutcome::Failed, Some(remark)) });
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

    fn entry(&self, item: &ItemId) -> Option<(&'a StoredKind, &'a Entry)> {
        let mut of_kind = self.walk.inventory.kinds.iter().filter(|(kind, _)| kind.kind == item.kind);
        of_kind.find_map(|(kind, entries)| Some((kind, entries.get(&item.name)?)))
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
