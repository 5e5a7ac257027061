//! Walks over stored and live objects, kind by kind, and decides about each pair.
//!
//! Both sides come by name in ascending order, so they are merged while they are read: memory holds
//! one page of a list and one batch of objects. Kinds come in the order of writing, and the kind of
//! an owner before the kinds of its dependents.

#![deny(clippy::disallowed_types)]

use crate::{
    api::item::{GroupKind, ItemId},
    api::reason::item as reason,
    items::{
        decide::{Decision, Live, Planner, Stored},
        dependents::is_precious,
        order::in_order,
        owners::Family,
        plan::{Action, PlannedItem},
        proposal::{Proposal, Verdict, Write},
        refusal::{Awaited, PATIENCE, awaited},
        selection::ItemSelection,
        served::ServedKind,
        skip::ItemRules,
    },
    operations::restore::{
        inventory::{self, Inventory, StoredKind},
        join::{Join, Joined, Pair},
        unknown::{failing, unlisted},
    },
    providers::{
        AT_ONCE, Guard, PlannedRoles, Provider, Session,
        call::{BrokenItem, Target, Tried, without_fields},
        catalog::Catalog,
    },
    repository::{ItemPath, SnapshotReader},
    worker::failure::Failure,
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

/// How many decided items may wait for the next step: the API server's verdict, or their write.
pub const AHEAD: usize = 2 * AT_ONCE;

/// Maximum size of an item's diff in bytes.
const MAX_DIFF: usize = 4096;

/// A decided item.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What happens to it.
    pub planned: PlannedItem,
    /// Its owners, which must be written first.
    pub owners: Vec<ItemId>,
    /// What changes.
    pub diff: Option<String>,
}

/// A decision that the API server has yet to be asked about, with the owners of the item.
pub(super) type Undecided = (Decision, Vec<ItemId>);

/// An item encountered while reading a kind.
pub enum Met<'a> {
    /// Both sides of the item.
    Pair(Pair<'a>, Stored),
    /// The API server refuses to list the item. Contains the consequence for it.
    Unlisted(PlannedItem),
}

/// Whether the API server is asked about each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Dry runs of each proposal.
    Server,
    /// No dry runs: a refused write fails when it is executed.
    Nobody,
}

/// State of a walk.
pub struct Walk<'a> {
    /// Where the items are.
    pub provider: &'a dyn Provider,
    /// Reads and writes of single items.
    pub session: Box<dyn Session + 'a>,
    /// The open snapshot. `None` if objects are only deleted: then no item is stored.
    pub reader: Option<&'a SnapshotReader>,
    /// The selected contents of the snapshot.
    pub inventory: &'a Inventory,
    /// The selected items.
    pub selection: &'a ItemSelection,
    /// What the provider holds.
    pub catalog: &'a Catalog,
    /// What a capture leaves out.
    pub rules: &'a ItemRules,
    /// The planner that decides.
    pub planner: Planner,
    /// Reviews of whether permissions may be granted.
    pub guard: &'a dyn Guard,
    /// The roles that the plan writes.
    pub planned_roles: PlannedRoles,
    /// Items that own something or are owned, stored or live. No other item affects what is decided
    /// about the rest.
    pub related: BTreeSet<ItemId>,
    /// What was assumed about the owners of decided items.
    pub assumed: BTreeMap<ItemId, u64>,
    /// Whether the API server is asked.
    pub ask: Ask,
}

impl Walk<'_> {
    /// Whether other items depend on what happens to this one.
    #[must_use]
    pub fn is_related(&self, item: &ItemId) -> bool {
        self.related.contains(item)
    }

    /// Decides about everything. Deletions come first, so that deleted objects own nothing any
    /// more.
    pub async fn decide(&mut self, full: bool, absent: &[ItemId]) -> Result<Vec<Decided>, Failure> {
        let mut decided = Vec::new();
        if full && self.planner.terms.prune {
            self.decide_not_held(&mut decided).await?;
        }
        for item in absent.iter().filter(|_| self.planner.terms.prune) {
            self.planner.dependents.add_named(item.clone());
        }
        self.decide_absent(absent, &mut decided).await?;
        let deleted = decided.iter().map(|decided| &decided.planned).filter(|planned| planned.action == Action::Delete);
        let deleted: BTreeSet<ItemId> =
            deleted.map(|planned| &planned.item).filter(|item| self.related.contains(*item)).cloned().collect();
        for item in &deleted {
            self.planner.dependents.add_leaving(item.clone());
        }
        self.planner.family.set_gone(deleted);
        for broken in &self.inventory.broken {
            let stored = Stored::Unreadable(broken.problem.clone());
            if let Decision::Settled(planned) = self.planner.decide(&broken.item, &broken.api_version, stored, None) {
                decided.push(Decided { planned, owners: Vec::new(), diff: None });
            }
        }
        for kind in self.kinds_in_order() {
            self.decide_kind(&kind, &mut decided).await?;
        }
        self.revise(&mut decided).await?;
        self.decide_collected(&mut decided).await?;
        // An object that is kept because of its dependents is an owner with its current uid.
        if self.revise(&mut decided).await? {
            self.decide_collected(&mut decided).await?;
        }
        Ok(decided)
    }

    /// Kinds in the order of deciding: the kind of an owner comes before the kinds of its
    /// dependents.
    #[must_use]
    pub fn kinds_in_order(&self) -> Vec<StoredKind> {
        self.kinds_behind_owners(|_| true)
    }

    /// Kinds in the order of writing: the same order, except for objects that must exist before the
    /// controller of their owner would create others.
    #[must_use]
    pub fn kinds_to_write(&self) -> Vec<StoredKind> {
        self.kinds_behind_owners(|kind| !is_precious(kind))
    }

    fn kinds_behind_owners(&self, wait: impl Fn(&GroupKind) -> bool) -> Vec<StoredKind> {
        let whole = |kind: &GroupKind| ItemId::new(kind.clone(), "");
        let mut owners: BTreeMap<ItemId, Vec<ItemId>> = BTreeMap::new();
        for (kind, entries) in &self.inventory.kinds {
            let of_kind = owners.entry(whole(&kind.kind)).or_default();
            if wait(&kind.kind) {
                of_kind.extend(entries.values().flat_map(|entry| &entry.owners).map(|owner| whole(&owner.kind)));
            }
        }
        let versions =
            |kind: &ItemId| self.inventory.kinds.keys().filter(|stored| stored.kind == kind.kind).collect::<Vec<_>>();
        let listed: Vec<(&ItemId, &[ItemId])> = owners.iter().map(|(kind, owners)| (kind, owners.as_slice())).collect();
        in_order(&listed).into_iter().flat_map(|place| versions(listed[place].0)).cloned().collect()
    }

    async fn decide_kind(&mut self, kind: &StoredKind, decided: &mut Vec<Decided>) -> Result<(), Failure> {
        self.assume(kind, |_| true);
        let settled = self.settle_kind(kind, |_| true).await?;
        for decided in &settled {
            self.tell(&decided.planned);
        }
        if decided.is_empty() {
            // A typical tenant has most of its objects in one kind. They must not be in memory
            // twice.
            *decided = settled;
        } else {
            decided.extend(settled);
        }
        Ok(())
    }

    /// Decides about the items of a kind with these names.
    pub(super) async fn settle_kind(
        &self,
        kind: &StoredKind,
        takes: impl Fn(&str) -> bool,
    ) -> Result<Vec<Decided>, Failure> {
        let items = self.inventory.kinds.get(kind).map_or(0, BTreeMap::len);
        self.settle_as_read(items, async move |sender| {
            let send = async |met: Met<'_>| {
                let decision = match met {
                    Met::Unlisted(planned) => (Decision::Settled(planned), Vec::new()),
                    Met::Pair(pair, stored) => {
                        (self.decide_pair(kind, &pair.name, stored, pair.live), pair.entry.owners.to_vec())
                    }
                };
                sender.send(decision).await.is_ok()
            };
            self.each_pair(kind, takes, send).await
        })
        .await
    }

    /// Settles decisions as they are read: the next ones are read while the API server is asked
    /// about earlier ones.
    pub(super) async fn settle_as_read(
        &self,
        items: usize,
        read: impl AsyncFnOnce(mpsc::Sender<Undecided>) -> Result<(), Failure>,
    ) -> Result<Vec<Decided>, Failure> {
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let decisions = stream::poll_fn(|context| receiver.poll_recv(context));
        // The sender is dropped with the reader, which ends the stream.
        let (read, settled) = tokio::join!(read(sender), self.settle(items, decisions));
        let settled = settled?;
        read.map(|()| settled)
    }

    /// Reads the items of a kind with these names, stored and live, and passes each to `each` until
    /// it returns false.
    pub async fn each_pair(
        &self,
        kind: &StoredKind,
        takes: impl Fn(&str) -> bool,
        mut each: impl AsyncFnMut(Met<'_>) -> bool,
    ) -> Result<(), Failure> {
        let served = self.served(kind).cloned();
        let entries = self.inventory.kinds.get(kind);
        let mut join = Join::new(self.provider, self.rules, entries, served.as_ref());
        loop {
            let mut pairs = match join.next().await? {
                Joined::End => return Ok(()),
                Joined::Pairs(pairs) => pairs,
                Joined::Unlisted(names, fault) => {
                    for name in names.into_iter().filter(|name| takes(name)) {
                        if !each(Met::Unlisted(unlisted(kind, name, &fault))).await {
                            break;
                        }
                    }
                    return Ok(());
                }
            };
            pairs.retain(|pair| takes(&pair.name));
            for (pair, stored) in self.read(kind, pairs).await? {
                if !each(Met::Pair(pair, stored)).await {
                    return Ok(());
                }
            }
        }
    }

    /// The kind as its objects are read: in the snapshot's version, or else in the one that the
    /// cluster prefers.
    #[must_use]
    pub fn served(&self, kind: &StoredKind) -> Option<&ServedKind> {
        let same = self.catalog.find(&kind.kind.group, &kind.version, &kind.kind.kind);
        same.or_else(|| self.preferred(&kind.kind))
    }

    /// Reads the stored side of pairs of a kind.
    pub async fn read<'p>(&self, kind: &StoredKind, pairs: Vec<Pair<'p>>) -> Result<Vec<(Pair<'p>, Stored)>, Failure> {
        let paths: Vec<ItemPath> =
            pairs.iter().map(|pair| inventory::path(kind, &pair.name)).collect::<Result<_, _>>()?;
        let Some(reader) = self.reader else { return Ok(Vec::new()) };
        let contents = reader.read(paths.clone()).await?;
        let stored = pairs.into_iter().zip(paths).zip(contents).map(|((pair, path), content)| {
            let parsed =
                content.map_err(|error| error.to_string()).and_then(|content| inventory::parse(&path, &content));
            (pair, parsed.map_or_else(Stored::Unreadable, Stored::Object))
        });
        Ok(stored.collect())
    }

    /// Decides about one pair.
    #[must_use]
    pub fn decide_pair(
        &self,
        kind: &StoredKind,
        name: &str,
        stored: Stored,
        live: Option<Result<Live, BrokenItem>>,
    ) -> Decision {
        let item = ItemId::new(kind.kind.clone(), name);
        let api_version = kind.api_version();
        match live.transpose() {
            Ok(live) => self.planner.decide(&item, &api_version, stored, live.as_ref()),
            Err(broken) => {
                let message = format!("the API server lists it, but {}: look at it with kubectl", broken.problem);
                Decision::Settled(failing(item, api_version, Action::Conflict, reason::SERVER_FAILED, message))
            }
        }
    }

    /// Asks about proposals. `items` is the number of items to expect.
    pub(super) async fn settle(
        &self,
        items: usize,
        decisions: impl Stream<Item = Undecided>,
    ) -> Result<Vec<Decided>, Failure> {
        let settled = decisions.map(|(decision, owners)| async move {
            match self.unless_it_escalates(decision).await? {
                Decision::Settled(planned) => Ok(Decided { planned, owners, diff: None }),
                Decision::Proposed(proposal) => self.try_out(proposal, owners).await,
            }
        });
        let mut settled = std::pin::pin!(settled.buffered(AT_ONCE));
        // Reserves room for all: a growing vector is in memory twice while it is moved.
        let mut all = Vec::with_capacity(items);
        while let Some(one) = settled.try_next().await? {
            all.push(one);
        }
        Ok(all)
    }

    /// Returns the same decision, unless the write would grant permissions that the requester may
    /// not grant.
    async fn unless_it_escalates(&self, decision: Decision) -> Result<Decision, Failure> {
        let Decision::Proposed(proposal) = decision else { return Ok(decision) };
        if !proposal.planned().action.writes() {
            return Ok(Decision::Proposed(proposal));
        }
        Ok(match self.guard.refuses(&proposal, Some(&self.planned_roles)).await? {
            None => Decision::Proposed(proposal),
            Some((action, remark)) => Decision::Settled(proposal.refused(action, remark)),
        })
    }

    async fn try_out(&self, proposal: Proposal, owners: Vec<ItemId>) -> Result<Decided, Failure> {
        if self.ask == Ask::Nobody {
            return Ok(Decided { planned: proposal.planned().clone(), owners, diff: None });
        }
        let item = proposal.item().clone();
        let version = version_of(&proposal.planned().api_version).to_owned();
        let (verdict, dropped) = match self.catalog.find(&item.kind.group, &version, &item.kind.kind) {
            None => (Verdict::NotAsked("the API server does not serve the kind yet".to_owned()), None),
            Some(kind) => {
                let target = Target { kind, name: &item.name };
                let Tried { verdict, dropped } = self.session.rehearse(target, &proposal).await?;
                (self.unless_it_waits(verdict, &proposal), dropped)
            }
        };
        let diff = proposal.diff(&verdict, &self.planner.key, MAX_DIFF);
        let mut planned = proposal.settle(&verdict);
        if let Some(dropped) = dropped.filter(|_| planned.action.writes()) {
            planned.warnings.push(without_fields(&dropped));
        }
        let diff = (planned.action != Action::Unchanged && !diff.is_empty()).then(|| diff.to_string());
        Ok(Decided { planned, owners, diff })
    }

    /// A dry run is refused if the API server needs another object, one that the same restore
    /// creates first and a preview does not create. The answer to the real write is then unknown.
    fn unless_it_waits(&self, verdict: Verdict, proposal: &Proposal) -> Verdict {
        let Verdict::Refused { code, message, .. } = &verdict else { return verdict };
        let brings = |item: &ItemId| self.inventory.selects(item);
        if let Some(Awaited::Webhook(webhook)) = awaited(*code, message) {
            return match webhook.service_in(&self.planner.namespace).filter(brings) {
                Some(service) => Verdict::NotAsked(format!(
                    "{webhook} must be asked and does not answer: {service} is in this restore, which tries again until it does, for {} s",
                    PATIENCE.as_secs()
                )),
                None => verdict,
            };
        }
        let (Write::Create(body) | Write::Recreate(_, body)) = proposal.write() else { return verdict };
        let needed = match (*code, body["kind"].as_str()) {
            (404, Some("RoleBinding")) if body["roleRef"]["kind"] == "Role" => {
                (GroupKind::new("rbac.authorization.k8s.io", "Role"), &body["roleRef"]["name"])
            }
            (403, Some("Pod")) if message.contains("service account") => {
                (GroupKind::new("", "ServiceAccount"), &body["spec"]["serviceAccountName"])
            }
            _ => return verdict,
        };
        let (kind, Some(name)) = (needed.0, needed.1.as_str()) else { return verdict };
        let needed = ItemId::new(kind, name);
        if brings(&needed) {
            let needed = if proposal.is_shown() { needed.to_string() } else { format!("a {}", needed.kind.kind) };
            Verdict::NotAsked(format!("the API server looks for {needed}, which this restore makes first"))
        } else {
            verdict
        }
    }

    /// Whether an item is selected. Its labels count too if the requester may read the kind.
    pub(super) fn takes(&self, item: &ItemId, object: &Value) -> bool {
        match self.planner.hides(&item.kind) {
            None => self.selection.takes(item, object),
            Some(_) => self.selection.may_take(item),
        }
    }

    /// The kind in the version that the cluster prefers.
    #[must_use]
    pub fn preferred(&self, kind: &GroupKind) -> Option<&ServedKind> {
        self.catalog.kinds.iter().find(|served| served.group == kind.group && served.kind == kind.kind)
    }
}

/// Records a requested item that is neither written nor in its wanted state: its dependents cannot
/// rely on it.
pub fn tell_left(family: &mut Family, planned: &PlannedItem) {
    let code = planned.reason.as_ref().map(|reason| reason.code.as_str());
    match planned.action {
        Action::Skip if code == Some(reason::LEFT_TO_OWNER) => family.add_left_to_owner(&planned.item),
        action if action.fails() || action == Action::Skip => family.add_left(&planned.item),
        _ => {}
    }
}

/// The version in an `apiVersion`.
#[must_use]
pub fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}
