//! Stored and live objects side by side, kind by kind, each pair decided about.
//!
//! Both sides come by name in ascending order, so that they are merged as they are read: memory holds one page of a list and
//! one batch of objects. Kinds come in the order of writing, and the kind of an owner before that of what it owns.

use crate::{
    api::{
        item::{GroupKind, ItemId},
        restore_run::ExistingResourcePolicy,
    },
    cluster::{
        discovery::{Discovered, ServedKind},
        list::{BrokenItem, ListSelection, Listing, Object},
    },
    repository::{ItemPath, SnapshotReader},
    restore::{
        decide::{Decision, Live, Planner, Proposal, Stored, Verdict, Write},
        dependents::{Dependent, is_precious},
        order::in_order,
        owners::Family,
        plan::{Action, PlannedItem, Remark, reason},
        refusal::{Awaited, PATIENCE, awaited},
        selection::ItemSelection,
    },
    worker::{
        failure::{Failure, api_failure, describe},
        omission::Note,
        restore::{
            grants::{Grants, PlannedRoles},
            inventory::{self, Inventory, StoredKind},
            join::{Join, Joined, Pair},
            write::{self, AT_ONCE, Calls, Seen, Target, Tried},
        },
        scope::{Scope, Work},
        skip::ItemRules,
    },
};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use kube::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

/// How many items may be decided about and wait for what comes next: the API server's opinion, or their write.
pub const AHEAD: usize = 2 * AT_ONCE;

/// Of at most so many names of a kind it is asked for each whether it is there.
const ONE_BY_ONE: usize = 32;

/// The most bytes of one item's diff.
const MAX_DIFF: usize = 4096;

/// An item that was decided about.
#[derive(Clone, Debug, PartialEq)]
pub struct Decided {
    /// What happens to it.
    pub planned: PlannedItem,
    /// Its owners, which must be written before.
    pub owners: Vec<ItemId>,
    /// What changes.
    pub diff: Option<String>,
}

/// What goes with its owner: as it is planned, or what it makes of its owner that it may not be looked at.
type Looked = BTreeMap<ItemId, Result<Decided, (Action, Remark)>>;

/// A decision of which the API server is yet to be asked, with the owners of the item.
type Undecided = (Decision, Vec<ItemId>);

/// An item as it is met on the way through a kind.
pub enum Met<'a> {
    /// Both sides of it.
    Pair(Pair<'a>, Stored),
    /// The API server refuses to list it: what that means for it.
    Unlisted(PlannedItem),
}

/// Whether the API server is asked about each write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// One dry run for each proposal.
    Server,
    /// Nobody: what is refused fails when it is written.
    Nobody,
}

/// What walking needs to know.
pub struct Walk<'a> {
    /// The way to the cluster.
    pub client: &'a Client,
    /// The way to write there.
    pub calls: Calls,
    /// The open snapshot.
    pub reader: &'a SnapshotReader,
    /// What of it was selected.
    pub inventory: &'a Inventory,
    /// Items selected.
    pub selection: &'a ItemSelection,
    /// What the cluster serves.
    pub discovered: &'a Discovered,
    /// What a capture leaves out.
    pub rules: &'a ItemRules,
    /// What decides.
    pub planner: Planner,
    /// Who may give rights to others.
    pub grants: &'a Grants,
    /// The roles that the plan writes.
    pub planned_roles: PlannedRoles,
    /// Items that own something, stored or live, or are owned: of no other does it matter what becomes of it for the rest.
    pub related: BTreeSet<ItemId>,
    /// Whether the server is asked.
    pub ask: Ask,
}

impl Walk<'_> {
    /// Finds out who may own what, and which volumes a deletion takes along.
    pub async fn prepare(&mut self) -> Result<(), Failure> {
        let owners: BTreeSet<ItemId> =
            self.inventory.items().flat_map(|(_, entry)| entry.owners.iter().cloned()).collect();
        let kinds: BTreeSet<GroupKind> = owners.iter().map(|owner| owner.kind.clone()).collect();
        for kind in kinds {
            let Some(served) = self.preferred(&kind) else {
                self.find_cluster_wide(&owners, &kind).await?;
                continue;
            };
            let everything = ListSelection::default();
            let mut listing = Listing::new(self.client, served, &self.planner.namespace, &everything);
            let doing = format!("list {kind}, which own items of the backup set");
            loop {
                let object = match listing.next().await {
                    Ok(Some(object)) => object,
                    Ok(None) => break,
                    // What they own fails, each for itself.
                    Err(error @ kube::Error::Api(_)) => {
                        self.planner.unlisted.insert(kind.clone(), not_listed(&kind, &error, NOT_KNOWN));
                        break;
                    }
                    Err(error) => return Err(api_failure(&doing, &error)),
                };
                let Ok(Object { name, json }) = object else { continue };
                let owner = ItemId::new(kind.clone(), name);
                let uid = json.get("metadata").and_then(|metadata| metadata.get("uid")?.as_str());
                if let Some(uid) = uid.filter(|_| owners.contains(&owner)) {
                    self.planner.family.add_live(owner, uid);
                }
            }
        }
        let terms = &self.planner.terms;
        if terms.prune || terms.existing_resource_policy == ExistingResourcePolicy::Recreate {
            self.find_dependents().await?;
        }
        self.related = owners;
        self.related.extend(self.planner.dependents.related());
        for item in self.related.iter().filter(|item| self.inventory.selects(item)) {
            self.planner.family.add_restored(item.clone());
        }
        Ok(())
    }

    /// Whether it matters to other items what becomes of this one.
    #[must_use]
    pub fn is_related(&self, item: &ItemId) -> bool {
        self.related.contains(item)
    }

    /// Looks for owners that live in no namespace, as far as they may be read.
    async fn find_cluster_wide(&mut self, owners: &BTreeSet<ItemId>, kind: &GroupKind) -> Result<(), Failure> {
        let Some(served) = self.discovered.cluster_wide.iter().find(|served| served.group_kind() == *kind) else {
            return Ok(());
        };
        for owner in owners.iter().filter(|owner| owner.kind == *kind) {
            match write::get_cluster_wide(&self.calls, served, &owner.name).await? {
                Seen::Object(object) => {
                    if let Some(uid) = object["metadata"]["uid"].as_str() {
                        self.planner.family.add_live(owner.clone(), uid);
                    }
                }
                Seen::Nothing => {}
                // So are the others of the kind.
                Seen::Hidden => break,
            }
        }
        Ok(())
    }

    /// Finds out what a deletion takes along. A kind that may not be listed stops nothing: what it holds is not known, as
    /// it is not to a capture.
    async fn find_dependents(&mut self) -> Result<(), Failure> {
        for step in Scope::default().plan(self.discovered) {
            if step.work != Work::List {
                continue;
            }
            let (kind, api_version) = (step.place.group_kind(), step.place.api_version());
            let everything = ListSelection::default();
            let mut listing = Listing::new(self.client, &step.place, &self.planner.namespace, &everything);
            loop {
                let (name, json) = match listing.next().await {
                    Ok(None) => break,
                    Err(error @ kube::Error::Api(_)) => {
                        if is_precious(&kind) {
                            let (_, remark) = not_listed(&kind, &error, NOT_KNOWN);
                            let message = format!("which {kind}s go with it is not known: {}", remark.message);
                            self.planner.dependents_unknown = Some(message);
                        }
                        break;
                    }
                    Ok(Some(Err(_))) => continue,
                    Ok(Some(Ok(Object { name, json }))) => (name, json),
                    Err(error) => {
                        let doing = format!("list {}, which a deletion may take along", step.place.plural);
                        return Err(api_failure(&doing, &error));
                    }
                };
                let told = self.rules.skips(&kind, &name, &json).is_none_or(|why| why.told().is_some());
                let item = ItemId::new(kind.clone(), name);
                self.planner.dependents.add(item, &api_version, told, &Value::Object(json));
            }
        }
        Ok(())
    }

    /// Decides about everything: first about what goes, so that it owns nothing any more.
    pub async fn decide(&mut self, full: bool, absent: &[ItemId]) -> Result<Vec<Decided>, Failure> {
        let mut decided = Vec::new();
        if full && self.planner.terms.prune {
            self.decide_not_held(&mut decided).await?;
        }
        for item in absent.iter().filter(|_| self.planner.terms.prune) {
            self.planner.dependents.add_named(item.clone());
        }
        self.decide_absent(absent, &mut decided).await?;
        for deleted in decided.iter().filter(|decided| decided.planned.action == Action::Delete) {
            self.planner.family.add_leaving(&deleted.planned.item);
            self.planner.dependents.add_leaving(deleted.planned.item.clone());
        }
        for broken in &self.inventory.broken {
            let stored = Stored::Unreadable(broken.problem.clone());
            if let Decision::Settled(planned) = self.planner.decide(&broken.item, &broken.api_version, stored, None) {
                decided.push(Decided { planned, owners: Vec::new(), diff: None });
            }
        }
        for kind in self.kinds_in_order() {
            self.decide_kind(&kind, &mut decided).await?;
        }
        self.decide_collected(&mut decided).await?;
        Ok(decided)
    }

    /// What the garbage collector takes with what is deleted, and this restore does not make again.
    async fn decide_collected(&mut self, decided: &mut Vec<Decided>) -> Result<(), Failure> {
        self.spare_precious(decided);
        let mut looked = self.look_at_going(decided).await?;
        let unseen = looked.iter().filter_map(|(item, looked)| Some((item.clone(), looked.as_ref().err()?.clone())));
        self.spare_owners(decided, &unseen.collect());
        let going = self.going(decided);
        let names: BTreeSet<ItemId> = going.iter().map(|of| of.item.clone()).collect();
        // Whatever was said of them before: that they are left alone, above all. Why one cannot be made again is told still.
        let refused = |of: &Decided| of.planned.reason.clone().filter(|_| of.planned.action.fails());
        let mut refusals: BTreeMap<ItemId, Remark> = decided
            .iter()
            .filter(|of| names.contains(&of.planned.item))
            .filter_map(|of| Some((of.planned.item.clone(), refused(of)?)))
            .collect();
        decided.retain(|of| !names.contains(&of.planned.item));
        for item in names {
            let Some(Ok(mut collected)) = looked.remove(&item) else { continue };
            collected.planned.warnings.extend(refusals.remove(&item));
            decided.push(collected);
        }
        Ok(())
    }

    /// Looks at what goes with its owner: each as it is planned, or why it may not be looked at.
    async fn look_at_going(&self, decided: &[Decided]) -> Result<Looked, Failure> {
        let mut looked = Looked::new();
        for dependent in self.going(decided) {
            let item = &dependent.item;
            let Some(served) = self.preferred(&item.kind) else { continue };
            let selected = ListSelection { name: Some(item.name.clone()), ..ListSelection::default() };
            let mut listing = Listing::new(self.client, served, &self.planner.namespace, &selected);
            let seen = match listing.next().await {
                Ok(Some(Ok(object))) => {
                    let live = live(self.rules, served, object);
                    let owners = crate::restore::owners::owners(&live.object);
                    Ok(Decided { planned: self.planner.collected(&dependent, &live), owners, diff: None })
                }
                Ok(_) => continue,
                Err(error @ kube::Error::Api(_)) => {
                    let so_that = format!("{item}, which the garbage collector would take with it, could not be kept");
                    Err(not_listed(&item.kind, &error, &so_that))
                }
                Err(error) => return Err(api_failure(&format!("look at {item}, which goes with its owner"), &error)),
            };
            looked.insert(item.clone(), seen);
        }
        Ok(looked)
    }

    /// What goes with all that is deleted, and is not written anyway.
    fn going(&self, decided: &[Decided]) -> Vec<Dependent> {
        let written: BTreeSet<&ItemId> =
            decided.iter().filter(|of| of.planned.action.writes()).map(|of| &of.planned.item).collect();
        let all = self.planner.dependents.going_with_all().into_iter();
        all.filter(|of| of.told && !written.contains(&of.item)).cloned().collect()
    }

    /// An owner stays where what would go with it was to be made again, and cannot be.
    fn spare_precious(&mut self, decided: &mut [Decided]) {
        if self.planner.terms.allow_data_loss {
            return;
        }
        let precious: BTreeSet<ItemId> =
            self.going(decided).into_iter().map(|of| of.item).filter(|item| is_precious(&item.kind)).collect();
        if precious.is_empty() {
            return;
        }
        let why = |item: ItemId| {
            let message = format!(
                "set allowDataLoss to do it all the same, or exclude the item: the garbage collector would take {item}, which cannot be made again"
            );
            (item, (Action::Conflict, Remark::new(reason::DATA_LOSS, message)))
        };
        self.spare_owners(decided, &precious.into_iter().map(why).collect());
    }

    /// What is deleted, or made anew, stays where one of these would go with it.
    fn spare_owners(&mut self, decided: &mut [Decided], spared: &BTreeMap<ItemId, (Action, Remark)>) {
        for one in decided {
            let planned = &mut one.planned;
            if spared.is_empty() || !matches!(planned.action, Action::Delete | Action::Recreate) {
                continue;
            }
            let going = self.planner.dependents.going_with(&planned.item);
            let Some((action, remark)) = going.into_iter().find_map(|of| spared.get(&of.item)) else { continue };
            planned.action = *action;
            planned.reason = Some(remark.clone());
            self.planner.dependents.add_staying(&planned.item);
        }
    }

    /// Kinds in the order of deciding: the kind of an owner comes before that of what it owns.
    #[must_use]
    pub fn kinds_in_order(&self) -> Vec<StoredKind> {
        self.kinds_behind_owners(|_| true)
    }

    /// Kinds in the order of writing: the same, but for what must be there before the controller of its owner would make
    /// another.
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
        let mut settled = self.settle_kind(kind, |_| true).await?;
        let mut renewed = BTreeSet::new();
        loop {
            let made_anew =
                settled.iter().map(|decided| &decided.planned).filter(|item| item.action == Action::Recreate);
            let newly = made_anew.map(|planned| planned.item.clone()).filter(|item| renewed.insert(item.clone()));
            let newly: BTreeSet<ItemId> = newly.collect();
            for item in &newly {
                self.planner.family.add_renewed(item.clone());
                self.planner.dependents.add_leaving(item.clone());
            }
            // What they own of their own kind was decided about when they seemed to keep their uids.
            let owned = settled.iter().filter(|decided| decided.owners.iter().any(|owner| newly.contains(owner)));
            let owned: BTreeSet<String> = owned.map(|decided| decided.planned.item.name.clone()).collect();
            if owned.is_empty() {
                break;
            }
            settled.retain(|decided| !owned.contains(&decided.planned.item.name));
            settled.extend(self.settle_kind(kind, |name| owned.contains(name)).await?);
        }
        for decided in settled.iter().filter(|decided| self.related.contains(&decided.planned.item)) {
            tell_left(&mut self.planner.family, &decided.planned);
        }
        if decided.is_empty() {
            // The usual tenant has most of its objects in one kind: they are not there twice.
            *decided = settled;
        } else {
            decided.extend(settled);
        }
        Ok(())
    }

    /// Decides about the items of a kind with these names.
    async fn settle_kind(&self, kind: &StoredKind, takes: impl Fn(&str) -> bool) -> Result<Vec<Decided>, Failure> {
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

    /// Settles what is decided as it is read: the next ones are read while the API server is asked about earlier ones.
    async fn settle_as_read(
        &self,
        items: usize,
        read: impl AsyncFnOnce(mpsc::Sender<Undecided>) -> Result<(), Failure>,
    ) -> Result<Vec<Decided>, Failure> {
        let (sender, mut receiver) = mpsc::channel(AHEAD);
        let decisions = stream::poll_fn(|context| receiver.poll_recv(context));
        // With what reads the sender goes: no more comes.
        let (read, settled) = tokio::join!(read(sender), self.settle(items, decisions));
        let settled = settled?;
        read.map(|()| settled)
    }

    /// Reads the items of a kind with these names, stored and live, and gives each to `each` until that takes no more.
    pub async fn each_pair(
        &self,
        kind: &StoredKind,
        takes: impl Fn(&str) -> bool,
        mut each: impl AsyncFnMut(Met<'_>) -> bool,
    ) -> Result<(), Failure> {
        let served = self.served(kind).cloned();
        let mut join = Join::new(self, kind, served.as_ref());
        loop {
            let mut pairs = match join.next().await? {
                Joined::End => return Ok(()),
                Joined::Pairs(pairs) => pairs,
                Joined::Unlisted(names, error) => {
                    for name in names.into_iter().filter(|name| takes(name)) {
                        if !each(Met::Unlisted(unlisted(kind, name, &error))).await {
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

    /// A kind as its objects are read: in the version that the snapshot has, or else in the one the cluster prefers.
    #[must_use]
    pub fn served(&self, kind: &StoredKind) -> Option<&ServedKind> {
        let same = self.discovered.find(&kind.kind.group, &kind.version, &kind.kind.kind);
        same.or_else(|| self.preferred(&kind.kind))
    }

    /// Reads the stored side of pairs of a kind.
    pub async fn read<'p>(&self, kind: &StoredKind, pairs: Vec<Pair<'p>>) -> Result<Vec<(Pair<'p>, Stored)>, Failure> {
        let paths: Vec<ItemPath> =
            pairs.iter().map(|pair| inventory::path(kind, &pair.name)).collect::<Result<_, _>>()?;
        let contents = self.reader.read(paths.clone()).await?;
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

    /// Asks about what is proposed, of so many items.
    async fn settle(&self, items: usize, decisions: impl Stream<Item = Undecided>) -> Result<Vec<Decided>, Failure> {
        let settled = decisions.map(|(decision, owners)| async move {
            match self.unless_it_escalates(decision).await? {
                Decision::Settled(planned) => Ok(Decided { planned, owners, diff: None }),
                Decision::Proposed(proposal) => self.try_out(proposal, owners).await,
            }
        });
        let mut settled = std::pin::pin!(settled.buffered(AT_ONCE));
        // With room for all: what grows is twice there while it is moved.
        let mut all = Vec::with_capacity(items);
        while let Some(one) = settled.try_next().await? {
            all.push(one);
        }
        Ok(all)
    }

    /// The same decision, unless the write would give rights that who asked may not give.
    async fn unless_it_escalates(&self, decision: Decision) -> Result<Decision, Failure> {
        let Decision::Proposed(proposal) = decision else { return Ok(decision) };
        if !proposal.planned().action.writes() {
            return Ok(Decision::Proposed(proposal));
        }
        Ok(match self.grants.refuses(&proposal, Some(&self.planned_roles)).await? {
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
        let (verdict, dropped) = match self.discovered.find(&item.kind.group, &version, &item.kind.kind) {
            None => (Verdict::NotAsked("the API server does not serve the kind yet".to_owned()), None),
            Some(kind) => {
                let target = Target { kind, namespace: &self.planner.namespace, name: &item.name };
                let Tried { verdict, dropped } = write::attempt(&self.calls, target, &proposal).await?;
                (self.unless_it_waits(verdict, &proposal), dropped)
            }
        };
        let diff = proposal.diff(&verdict, &self.planner.key, MAX_DIFF);
        let mut planned = proposal.settle(&verdict);
        if let Some(dropped) = dropped.filter(|_| planned.action.writes()) {
            planned.warnings.push(write::without_fields(&dropped));
        }
        let diff = (planned.action != Action::Unchanged && !diff.is_empty()).then(|| diff.to_string());
        Ok(Decided { planned, owners, diff })
    }

    /// A dry run is refused where the API server needs another object that the same restore makes first, and that a
    /// preview leaves unmade. What will be said then is not known.
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

    /// Whether an item is selected: by its labels too, where who asked may look at it.
    fn takes(&self, item: &ItemId, object: &Value) -> bool {
        match self.planner.hides(&item.kind) {
            None => self.selection.takes(item, object),
            Some(_) => self.selection.may_take(item),
        }
    }

    /// What is there and a full set does not hold. Of kinds that a capture takes, and no others.
    async fn decide_not_held(&self, decided: &mut Vec<Decided>) -> Result<(), Failure> {
        let left_out = self.left_out().await?;
        for step in Scope::default().plan(self.discovered) {
            if step.work != Work::List {
                continue;
            }
            let kind = step.place.group_kind();
            let everything = ListSelection::default();
            let mut listing = Listing::new(self.client, &step.place, &self.planner.namespace, &everything);
            let doing = format!("list {}, of which some may have to go", step.place.plural);
            let mut decisions = Vec::new();
            let whole = ItemId::new(kind.clone(), "");
            if left_out.contains(&whole) {
                let message = "the capture could not read the kind, so that nothing of it is known to be new: it stays";
                decided.push(settled(whole, &step.place, Action::Skip, Remark::new(reason::NOT_PRUNED, message)));
                continue;
            }
            loop {
                let object = match listing.next().await {
                    Ok(Some(object)) => object,
                    Ok(None) => break,
                    Err(error @ kube::Error::Api(_)) => {
                        let (action, remark) = not_listed(&kind, &error, NOT_KNOWN);
                        decided.push(settled(whole, &step.place, action, remark));
                        decisions.clear();
                        break;
                    }
                    Err(error) => return Err(api_failure(&doing, &error)),
                };
                let Ok(object) = object else { continue };
                let item = ItemId::new(kind.clone(), object.name.clone());
                if left_out.contains(&item) {
                    let message = "the capture left it out, so that it is not known to be new: it stays";
                    decided.push(settled(item, &step.place, Action::Skip, Remark::new(reason::NOT_PRUNED, message)));
                    continue;
                }
                let skipped = self.rules.skips(&kind, &object.name, &object.json);
                if self.selection.entries() == 0 && skipped.is_some_and(|why| why.told().is_none()) {
                    // It comes and goes by itself, and is worth no word to who did not ask for it.
                    continue;
                }
                let live = live(self.rules, &step.place, object);
                if !self.inventory.holds(&item) && self.takes(&item, &live.object) {
                    let decision = self.planner.decide(&item, &step.place.api_version(), Stored::NotHeld, Some(&live));
                    decisions.push((decision, crate::restore::owners::owners(&live.object)));
                }
            }
            decided.extend(self.settle(decisions.len(), stream::iter(decisions)).await?);
        }
        Ok(())
    }

    /// What the capture says that it left out; without a name: the whole kind. That the snapshot does not hold it says nothing.
    async fn left_out(&self) -> Result<BTreeSet<ItemId>, Failure> {
        let mut left_out = BTreeSet::new();
        for path in &self.inventory.notes {
            for content in self.reader.read(vec![path.clone()]).await? {
                let note = content.map(|content| Note::from_content(&content)).unwrap_or_default();
                left_out.extend(note.items.iter().filter_map(|item| item.item_id.parse::<ItemId>().ok()));
            }
        }
        Ok(left_out)
    }

    /// What the set names as one that did not exist.
    async fn decide_absent(&self, absent: &[ItemId], decided: &mut Vec<Decided>) -> Result<(), Failure> {
        let mut kinds: BTreeMap<&GroupKind, BTreeSet<&str>> = BTreeMap::new();
        for item in absent.iter().filter(|item| !self.inventory.holds(item)) {
            kinds.entry(&item.kind).or_default().insert(&item.name);
        }
        for (kind, names) in kinds {
            let Some(served) = self.preferred(kind) else { continue };
            let items = names.len();
            let read = async |sender| self.read_absent(served, names, sender).await;
            decided.extend(self.settle_as_read(items, read).await?);
        }
        Ok(())
    }

    /// Looks which of these names are there: one by one, or by a list of all where they are many.
    async fn read_absent(
        &self,
        served: &ServedKind,
        mut names: BTreeSet<&str>,
        decisions: mpsc::Sender<Undecided>,
    ) -> Result<(), Failure> {
        let doing = format!("look which of {} {} are there", names.len(), served.plural);
        let kind = served.group_kind();
        let decide = |name: &str, live: Option<&Live>| {
            let item = ItemId::new(served.group_kind(), name);
            let object = live.map_or(&Value::Null, |live| &live.object);
            self.takes(&item, object).then(|| {
                let owners = live.map(|live| crate::restore::owners::owners(&live.object)).unwrap_or_default();
                (self.planner.decide(&item, &served.api_version(), Stored::Absent, live), owners)
            })
        };
        let by_name = names.len() <= ONE_BY_ONE;
        let selections: Vec<ListSelection> = if by_name {
            names.iter().map(|name| ListSelection { name: Some((*name).to_owned()), ..Default::default() }).collect()
        } else {
            vec![ListSelection::default()]
        };
        for selection in &selections {
            let mut listing = Listing::new(self.client, served, &self.planner.namespace, selection);
            loop {
                let object = match listing.next().await {
                    Ok(Some(Ok(object))) => object,
                    Ok(Some(Err(_))) => continue,
                    Ok(None) => break,
                    Err(error @ kube::Error::Api(_)) => {
                        let (action, remark) = not_listed(&kind, &error, NOT_KNOWN);
                        let concerned = |name: &&str| selection.name.as_deref().is_none_or(|only| only == *name);
                        let unknown: Vec<&str> = names.iter().copied().filter(concerned).collect();
                        for name in unknown {
                            names.remove(name);
                            let item = ItemId::new(kind.clone(), name);
                            if !self.selection.may_take(&item) {
                                continue;
                            }
                            let remark = remark.clone();
                            let planned = failing(item, served.api_version(), action, &remark.code, remark.message);
                            if decisions.send((Decision::Settled(planned), Vec::new())).await.is_err() {
                                return Ok(());
                            }
                        }
                        break;
                    }
                    Err(error) => return Err(api_failure(&doing, &error)),
                };
                if !names.remove(object.name.as_str()) {
                    continue;
                }
                let name = object.name.clone();
                let live = live(self.rules, served, object);
                if let Some(decision) = decide(&name, Some(&live))
                    && decisions.send(decision).await.is_err()
                {
                    return Ok(());
                }
            }
        }
        for name in names {
            if let Some(decision) = decide(name, None)
                && decisions.send(decision).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// A kind in the version that the cluster prefers.
    #[must_use]
    pub fn preferred(&self, kind: &GroupKind) -> Option<&ServedKind> {
        self.discovered.kinds.iter().find(|served| served.group == kind.group && served.kind == kind.kind)
    }
}

/// A live object of a list, whole.
#[must_use]
pub fn live(rules: &ItemRules, served: &ServedKind, object: Object) -> Live {
    let Object { name, mut json } = object;
    json.insert("apiVersion".to_owned(), served.api_version().into());
    json.insert("kind".to_owned(), served.kind.clone().into());
    let object = Value::Object(json);
    let left_out = left_out(rules, &ItemId::new(served.group_kind(), name), &object);
    Live { object, left_out }
}

/// Why a capture would leave out a live object, if it would.
#[must_use]
pub fn left_out(rules: &ItemRules, item: &ItemId, object: &Value) -> Option<(&'static str, &'static str)> {
    let why = rules.skips(&item.kind, &item.name, object.as_object()?)?;
    Some((why.code(), why.told().unwrap_or("the cluster, a controller or the operator makes it by itself")))
}

/// Tells of an item that was asked for and is neither made nor as it should be: what it owns cannot count on it.
pub fn tell_left(family: &mut Family, planned: &PlannedItem) {
    let code = planned.reason.as_ref().map(|reason| reason.code.as_str());
    match planned.action {
        Action::Skip if code == Some(reason::LEFT_TO_OWNER) => family.add_left_to_owner(&planned.item),
        action if action.fails() || action == Action::Skip => family.add_left(&planned.item),
        _ => {}
    }
}

/// The version of an `apiVersion`.
#[must_use]
pub fn version_of(api_version: &str) -> &str {
    api_version.rsplit('/').next().unwrap_or_default()
}

/// What becomes of an item of which it is not known whether it is there.
#[must_use]
pub fn unlisted(kind: &StoredKind, name: String, error: &kube::Error) -> PlannedItem {
    let item = ItemId::new(kind.kind.clone(), name);
    let (action, remark) = not_listed(&kind.kind, error, NOT_KNOWN);
    failing(item, kind.api_version(), action, &remark.code, remark.message)
}

/// What follows for an item from a list that was refused.
pub const NOT_KNOWN: &str = "it is not known what is there";

/// What it makes of an item that a kind could not be listed, what to do, and what follows from it.
#[must_use]
pub fn not_listed(kind: &GroupKind, error: &kube::Error, so_that: &str) -> (Action, Remark) {
    not_had("list", error, &format!("{kind} could not be listed, so that {so_that}"))
}

/// The same of an item that could not be read by itself.
#[must_use]
pub fn not_read(item: &ItemId, error: &kube::Error) -> (Action, Remark) {
    not_had("get", error, &format!("{item} could not be read, so that {NOT_KNOWN}"))
}

fn not_had(verb: &str, error: &kube::Error, what: &str) -> (Action, Remark) {
    let (action, code) = match error {
        kube::Error::Api(status) if status.code == 403 => (Action::Forbidden, reason::FORBIDDEN),
        kube::Error::Api(status) if matches!(awaited(status.code, &status.message), Some(Awaited::Webhook(_))) => {
            (Action::Conflict, reason::WEBHOOK_UNAVAILABLE)
        }
        _ => (Action::Conflict, reason::SERVER_FAILED),
    };
    let remedy = if action == Action::Forbidden {
        format!(
            "let a ClusterRole with the label tenantatlas.io/aggregate-to-restore allow `{verb}` on the kind, or exclude the item"
        )
    } else {
        "look at the server of the kind, then restore again".to_owned()
    };
    (action, Remark::new(code, format!("{remedy}: {what}: {}", describe(error))))
}

/// What was settled about an item, or about a kind, beside what a plan decides.
fn settled(item: ItemId, place: &ServedKind, action: Action, remark: Remark) -> Decided {
    let Remark { code, message } = remark;
    Decided { planned: failing(item, place.api_version(), action, &code, message), owners: Vec::new(), diff: None }
}

fn failing(item: ItemId, api_version: String, action: Action, code: &str, message: String) -> PlannedItem {
    let reason = Some(Remark::new(code, message));
    PlannedItem { item, api_version, action, reason, warnings: Vec::new(), live: None, wanted: None }
}
