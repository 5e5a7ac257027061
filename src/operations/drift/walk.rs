//! Compares both sides, kind by kind. Equal digests are passed over. Only of an item whose digests
//! differ the objects are read, one at a time. If the baseline is the last capture of its selection,
//! live objects whose mark it recorded are passed over too: neither they nor what it has of them is
//! read.
//!
//! In memory are the identities and digests of one kind of the baseline, and one object of each
//! side.

use super::{baseline::Opened, findings::Known, found::Found};
use crate::{
    api::{
        backup_set::Content,
        item::{GroupKind, ItemId},
        operation_report::Remark,
        reason::{drift as reason, item as item_reason, worker as worker_reason},
    },
    items::{
        drift::{Differing, Rules, Sides, Verdict, ignore::AUTOSCALER},
        inventory::Record,
        mark::has_marks,
        readers::Readers,
        semantic::{DigestKey, Status},
        served::ServedKind,
        skip::ItemRules,
    },
    operations::{
        capture::{known::Marks, omission::UNKNOWN, scope::Scope},
        inventory::read::{Collection, Recorded},
        restore::inventory::BATCH_ITEMS,
    },
    providers::{
        Listed, Marked, Provider,
        call::{BrokenItem, ListSelection, Object},
        catalog::Catalog,
        fault::Fault,
    },
    repository::ItemPath,
    worker::{
        environment::RunIdentity,
        failure::{Failure, call_failure},
        fence,
    },
};
use kube::Client;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Where a comparison reads.
pub struct Place<'a> {
    /// The live items.
    pub provider: &'a dyn Provider,
    /// What the provider holds.
    pub catalog: &'a Catalog,
    /// The way to the run.
    pub client: &'a Client,
    /// The run.
    pub run: &'a RunIdentity,
    /// What is compared.
    pub scope: &'a Scope,
    /// Which live items a capture would leave out.
    pub left_out: ItemRules,
    /// Which kinds findings may show.
    pub readers: Readers,
    /// Key of the digests of items.
    pub key: DigestKey,
    /// What the items should be.
    pub baseline: &'a Opened,
    /// What the items are; `None` for the live ones.
    pub current: Option<&'a Opened>,
    /// The marks of the baseline, if live items are compared with the last capture of a selection.
    pub marks: Option<&'a Marks>,
}

/// A comparison under way.
pub struct Walk<'a> {
    place: &'a Place<'a>,
    rules: &'a Rules,
    known: &'a mut Known,
    found: Found,
    /// Groups whose server has failed.
    troubled: BTreeSet<String>,
}

/// One kind on both sides.
struct OfKind<'a> {
    kind: GroupKind,
    status: Status,
    /// The baseline's part.
    stored: Option<&'a Collection>,
    /// Items of the baseline that were not met yet.
    before: BTreeMap<String, Record>,
    /// Paths of items of the baseline that were neither met nor read yet.
    unread: BTreeSet<ItemPath>,
    /// Names of items of the baseline that cannot be read.
    broken: BTreeSet<String>,
    /// Whether an item that the baseline lacks did not exist.
    absence_before: Result<(), Remark>,
}

/// An item of the current side.
struct Met {
    record: Record,
    /// The object, if it was read with the record.
    object: Option<Value>,
}

/// Adds the autoscalers of the current side to the rules. Where they cannot be read, replicas count.
pub async fn add_autoscalers(place: &Place<'_>, rules: &mut Rules) -> Result<(), Failure> {
    let kind = GroupKind::new(AUTOSCALER.0, AUTOSCALER.1);
    if let Some(current) = place.current {
        let Some(collection) = current.holdings.find(&kind).filter(|_| current.holdings.content() == Content::Objects)
        else {
            return Ok(());
        };
        let mut reading = current.holdings.read(collection);
        while let Some(batch) = reading.next().await? {
            for recorded in batch {
                if let Recorded::Item(record) = recorded
                    && let Ok(object) = current.holdings.object(collection, &record.name).await?
                {
                    rules.ignore.add_autoscaler(&object);
                }
            }
        }
        return Ok(());
    }
    let Some(served) = place.catalog.kinds.iter().find(|served| served.group_kind() == kind) else { return Ok(()) };
    let everything = ListSelection::default();
    let mut listing = place.provider.list(served, &everything);
    loop {
        match listing.next().await {
            Ok(Some(Ok(object))) => rules.ignore.add_autoscaler(&Value::Object(object.json)),
            Ok(Some(Err(_))) => {}
            Ok(None) => return Ok(()),
            Err(fault) => {
                tracing::warn!(%fault, "the autoscalers could not be listed: replicas count");
                return Ok(());
            }
        }
    }
}

impl<'a> Walk<'a> {
    /// Compares everything in scope.
    pub async fn compare(place: &'a Place<'a>, rules: &'a Rules, known: &'a mut Known) -> Result<Found, Failure> {
        let mut walk = Self { place, rules, known, found: Found::default(), troubled: BTreeSet::new() };
        walk.note_undiscovered();
        for kind in walk.kinds() {
            walk.kind(kind).await?;
        }
        Ok(walk.found)
    }

    /// The kinds that one of the sides knows, or a finding: its kind may be gone from both.
    fn kinds(&self) -> BTreeSet<GroupKind> {
        let Place { catalog, scope, baseline, current, .. } = self.place;
        let served = catalog.kinds.iter().map(ServedKind::group_kind).filter(|_| current.is_none());
        let sets = [Some(*baseline), *current].into_iter().flatten();
        let stored = sets.flat_map(|set| set.holdings.collections()).map(|collection| collection.kind.kind.clone());
        served
            .chain(stored)
            .chain(self.known.kinds())
            .filter(|kind| kind.kind != UNKNOWN && scope.lists(kind))
            .collect()
    }

    fn note_undiscovered(&mut self) {
        if self.place.current.is_some() {
            return;
        }
        for undiscovered in &self.place.catalog.undiscovered {
            let kind = GroupKind::new(&undiscovered.group, UNKNOWN);
            let asked_for = self.place.scope.kinds.included();
            let counts = asked_for.iter().any(|kind| kind.group == undiscovered.group)
                || (asked_for.is_empty() && !crate::items::skip::skipped_group(&undiscovered.group));
            if counts {
                let message = format!(
                    "the API server does not know what {}/{} serves: `kubectl get apiservices` says why",
                    undiscovered.group, undiscovered.version
                );
                self.found.add_unreadable(ItemId::new(kind, ""), item_reason::UNDISCOVERED, &message);
            }
        }
    }

    async fn kind(&mut self, kind: GroupKind) -> Result<(), Failure> {
        let place = self.place;
        let stored: Vec<&Collection> =
            place.baseline.holdings.collections().iter().filter(|collection| collection.kind.kind == kind).collect();
        let version = match stored.as_slice() {
            [] => None,
            [one] => Some(one.kind.version.as_str()).filter(|version| *version != UNKNOWN),
            _ => {
                let why = "the baseline holds it in several versions, in which its fields may have other forms";
                let remark = Remark::new(reason::OTHER_VERSION, why);
                self.found.add_not_compared(ItemId::new(kind, ""), 1, remark);
                return Ok(());
            }
        };
        let stored = stored.first().copied();
        let by_default = if place.catalog.without_status.contains(&kind) { Status::Data } else { Status::Observed };
        let mut of_kind = OfKind {
            status: stored.map_or(by_default, |collection| collection.status),
            stored,
            before: BTreeMap::new(),
            unread: BTreeSet::new(),
            broken: BTreeSet::new(),
            absence_before: place.baseline.absence(&kind, place.scope),
            kind,
        };
        self.read_baseline(&mut of_kind).await?;
        let absence_now = match place.current {
            Some(current) => self.meet_stored(&mut of_kind, current, version).await?,
            None => self.meet_live(&mut of_kind, version).await?,
        };
        self.leave(of_kind, absence_now).await
    }

    async fn read_baseline(&mut self, of_kind: &mut OfKind<'_>) -> Result<(), Failure> {
        let Some(collection) = of_kind.stored else { return Ok(()) };
        if self.place.marks.is_some() && has_marks(&of_kind.kind) {
            of_kind.unread = collection.paths().cloned().collect();
            return Ok(());
        }
        let mut reading = self.place.baseline.holdings.read(collection);
        while let Some(batch) = reading.next().await? {
            for recorded in batch {
                self.take_recorded(of_kind, recorded);
            }
        }
        Ok(())
    }

    fn take_recorded(&mut self, of_kind: &mut OfKind<'_>, recorded: Recorded) {
        match recorded {
            Recorded::Item(record) if self.place.scope.names.takes_name(&record.name) => {
                of_kind.before.insert(record.name.clone(), record);
            }
            Recorded::Item(_) => {}
            Recorded::Unreadable { name, problem } => {
                let item = ItemId::new(of_kind.kind.clone(), name.clone().unwrap_or_default());
                let problem = format!("backup set {}: {problem}", self.place.baseline.name);
                self.found.add_unreadable(item, reason::UNREADABLE, &problem);
                match name {
                    Some(name) => drop(of_kind.broken.insert(name)),
                    None => of_kind.absence_before = Err(Remark::new(reason::NOT_CAPTURED, problem)),
                }
            }
        }
    }

    /// Reads these items of the baseline, as far as they are not read yet.
    async fn read_some(&mut self, of_kind: &mut OfKind<'_>, paths: Vec<ItemPath>) -> Result<(), Failure> {
        let Some(collection) = of_kind.stored else { return Ok(()) };
        for recorded in self.place.baseline.holdings.read_some(collection, paths).await? {
            self.take_recorded(of_kind, recorded);
        }
        Ok(())
    }

    /// The baseline's item of this name, which was not met yet.
    async fn before(
        &mut self,
        of_kind: &mut OfKind<'_>,
        served: &ServedKind,
        name: &str,
    ) -> Result<Option<Record>, Failure> {
        if let Some(path) = path_of(served, name).filter(|path| of_kind.unread.remove(path)) {
            self.read_some(of_kind, vec![path]).await?;
        }
        Ok(of_kind.before.remove(name))
    }

    /// Passes over a live item that is as the baseline has it.
    fn is_as_before(&mut self, of_kind: &mut OfKind<'_>, served: &ServedKind, name: &str) {
        let item = ItemId::new(of_kind.kind.clone(), name);
        if path_of(served, name).is_some_and(|path| of_kind.unread.remove(&path)) {
            self.same(&item);
        } else {
            let problem = "the baseline recorded it, and does not hold it: compare again with readAll";
            self.found.add_unreadable(item, reason::UNREADABLE, problem);
        }
    }

    /// Meets the items of a recorded state. Returns whether an item that it lacks did not exist.
    async fn meet_stored(
        &mut self,
        of_kind: &mut OfKind<'_>,
        current: &Opened,
        version: Option<&str>,
    ) -> Result<Result<(), Remark>, Failure> {
        let mut absence = current.absence(&of_kind.kind, self.place.scope);
        let of_it = current.holdings.collections().iter().filter(|collection| collection.kind.kind == of_kind.kind);
        for collection in of_it {
            if version.is_some_and(|version| ![version, UNKNOWN].contains(&collection.kind.version.as_str())) {
                let why = format!("{} and {} hold it in different versions", self.place.baseline.name, current.name);
                return Ok(Err(Remark::new(reason::OTHER_VERSION, why)));
            }
            let mut reading = current.holdings.read(collection);
            while let Some(batch) = reading.next().await? {
                for recorded in batch {
                    match recorded {
                        Recorded::Item(record) if self.place.scope.names.takes_name(&record.name) => {
                            let before = of_kind.before.remove(&record.name);
                            if before.as_ref().is_some_and(|before| before.digest == record.digest) {
                                self.same(&ItemId::new(of_kind.kind.clone(), record.name));
                                continue;
                            }
                            let object = match current.holdings.content() {
                                Content::Objects => current.holdings.object(collection, &record.name).await?.ok(),
                                Content::Inventory => None,
                            };
                            self.meet(of_kind, before, Met { record, object }).await?;
                        }
                        Recorded::Item(_) => {}
                        Recorded::Unreadable { name, problem } => {
                            let item = ItemId::new(of_kind.kind.clone(), name.clone().unwrap_or_default());
                            let problem = format!("backup set {}: {problem}", current.name);
                            self.found.add_unreadable(item, reason::UNREADABLE, &problem);
                            match name {
                                Some(name) => drop(of_kind.before.remove(&name)),
                                None => absence = Err(Remark::new(reason::NOT_CAPTURED, problem)),
                            }
                        }
                    }
                }
            }
        }
        Ok(absence)
    }

    /// Meets the live items. Returns whether an item that was not listed does not exist.
    async fn meet_live(
        &mut self,
        of_kind: &mut OfKind<'_>,
        version: Option<&str>,
    ) -> Result<Result<(), Remark>, Failure> {
        let Place { provider, catalog, scope, key, left_out, .. } = self.place;
        let kind = of_kind.kind.clone();
        let preferred = catalog.kinds.iter().find(|served| served.group_kind() == kind);
        let Some(preferred) = preferred else {
            // Without its definition there are no objects, unless the server does not know.
            let unknown = catalog.undiscovered.iter().any(|undiscovered| undiscovered.group == kind.group);
            let remark =
                || Remark::new(reason::NOT_LISTED, format!("the API server does not know whether it serves {kind}"));
            return Ok(if unknown { Err(remark()) } else { Ok(()) });
        };
        let in_version = version.map_or(Some(preferred), |version| catalog.find(&kind.group, version, &kind.kind));
        let Some(served) = in_version else {
            let why = format!(
                "the baseline holds {kind} in version {}, which the cluster does not serve",
                version.unwrap_or_default()
            );
            return Ok(Err(Remark::new(reason::OTHER_VERSION, why)));
        };
        let marks = self.place.marks;
        let known = marks.map(|marks| marks.known(served, BTreeSet::new())).unwrap_or_default();
        let mut listing = provider.list_marked(served, &scope.list, marks.map(|marks| (&marks.key, &known)));
        if self.troubled.contains(&kind.group) {
            listing.fail_at_once();
        }
        loop {
            let listed: Listed = match listing.next().await {
                Ok(None) => break,
                Ok(Some(Marked::Known { name, .. })) => {
                    if scope.names.takes_name(&name) {
                        self.is_as_before(of_kind, served, &name);
                    }
                    continue;
                }
                Ok(Some(Marked::Read(listed, _))) => listed,
                Err(fault) => return self.unlistable(served, &fault).await,
            };
            match listed {
                Ok(Object { name, json }) if scope.names.takes_name(&name) => {
                    let before = self.before(of_kind, served, &name).await?;
                    // Who labels an item so that captures leave it out does not hide it from its
                    // baseline.
                    if before.is_none() && !of_kind.broken.contains(&name) && self.skips(&kind, &name, &json, left_out)
                    {
                        continue;
                    }
                    let record = Record::of(key, json.clone(), &served.api_version(), &served.kind, of_kind.status);
                    if before.as_ref().is_some_and(|before| before.digest == record.digest) {
                        self.same(&ItemId::new(kind.clone(), name));
                        continue;
                    }
                    let mut object = Value::Object(json);
                    // An object of a list does not say what it is.
                    object["apiVersion"] = Value::from(served.api_version());
                    object["kind"] = Value::from(served.kind.as_str());
                    self.meet(of_kind, before, Met { record, object: Some(object) }).await?;
                }
                Ok(_) => {}
                Err(BrokenItem { name, problem }) => {
                    self.before(of_kind, served, &name).await?;
                    let message = format!("{problem}: look at it with `kubectl get {} -o yaml`", served.plural);
                    self.found.add_unreadable(ItemId::new(kind.clone(), name), reason::UNREADABLE, &message);
                }
            }
        }
        if scope.names.label_selector.is_some() {
            let why = "only items with these labels were listed, and an item may lose its labels";
            return Ok(Err(Remark::new(reason::OUTSIDE_SELECTION, why)));
        }
        Ok(Ok(()))
    }

    /// Whether a live item that the baseline lacks is none that a capture would take.
    fn skips(
        &mut self,
        kind: &GroupKind,
        name: &str,
        object: &serde_json::Map<String, Value>,
        left_out: &ItemRules,
    ) -> bool {
        let Some(why) = left_out.skips(kind, name, object) else { return false };
        if let Some(message) = why.told() {
            self.found.add_not_compared(ItemId::new(kind.clone(), name), 1, Remark::new(why.code(), message));
        }
        true
    }

    /// What it means that a kind cannot be listed to its end, if the API server itself is healthy.
    async fn unlistable(&mut self, kind: &ServedKind, fault: &Fault) -> Result<Result<(), Remark>, Failure> {
        let group_kind = kind.group_kind();
        let item = ItemId::new(group_kind.clone(), "");
        match fault {
            // Its definition was deleted since discovery, and the objects with it.
            Fault::Refused { code: 404, .. } => return Ok(Ok(())),
            Fault::Refused { code: 400, message, .. } if self.place.scope.list.label_selector.is_some() => {
                let message = format!(
                    "inputs.selection.labelSelector: {message}: write it as for `kubectl get -l`, in a new run"
                );
                return Err(Failure::permanent(worker_reason::INVALID_INPUTS, message));
            }
            Fault::Refused { code: 401, .. } => return Err(call_failure(&format!("list {group_kind}"), fault)),
            Fault::Refused { code: 403, .. } if self.place.scope.can_do_without(&group_kind) => {
                let why = format!(
                    "let a ClusterRole with the label tenantatlas.io/aggregate-to-worker allow `list` on {}: the worker's account may not list {group_kind}",
                    kind.plural
                );
                return Ok(Err(Remark::new(reason::NOT_LISTED, why)));
            }
            fault if fault.may_pass() => {
                self.troubled.insert(kind.group.clone());
                fence::pass(self.place.client, self.place.run).await?;
            }
            _ => {}
        }
        let why = format!(
            "{group_kind} could not be listed to the end: {fault}: look at the server of {}",
            kind.api_version()
        );
        self.found.add_unreadable(item, reason::NOT_LISTED, &why);
        Ok(Err(Remark::new(reason::NOT_LISTED, why)))
    }

    fn same(&mut self, item: &ItemId) {
        self.found.add_same();
        self.known.is_same(item);
    }

    /// Judges an item of the current side whose digest is not that of the baseline.
    async fn meet(&mut self, of_kind: &OfKind<'_>, before: Option<Record>, met: Met) -> Result<(), Failure> {
        let Met { record, object } = met;
        let item = ItemId::new(of_kind.kind.clone(), &record.name);
        if of_kind.broken.contains(&record.name) {
            return Ok(());
        }
        let Some(before) = before else {
            match &of_kind.absence_before {
                Ok(()) => self.judge(of_kind, item, Sides::Added(object.as_ref()), (None, Some(&record))),
                Err(remark) => self.found.add_not_compared(item, 1, remark.clone()),
            }
            return Ok(());
        };
        let stored = of_kind.stored.filter(|_| self.place.baseline.holdings.content() == Content::Objects);
        let both = match (stored, object) {
            (Some(collection), Some(object)) => {
                match self.place.baseline.holdings.object(collection, &record.name).await? {
                    Ok(stored) => Some((stored, object)),
                    Err(problem) => {
                        let problem = format!("backup set {}: {problem}", self.place.baseline.name);
                        self.found.add_unreadable(item, reason::UNREADABLE, &problem);
                        return Ok(());
                    }
                }
            }
            _ => None,
        };
        let sides = both.as_ref().map_or(Sides::Digests, |(stored, object)| Sides::Both(stored, object));
        self.judge(of_kind, item, sides, (Some(&before), Some(&record)));
        Ok(())
    }

    fn judge(
        &mut self,
        of_kind: &OfKind<'_>,
        item: ItemId,
        sides: Sides<'_>,
        (before, after): (Option<&Record>, Option<&Record>),
    ) {
        let digest = |record: Option<&Record>| record.map(|record| record.digest.to_string());
        let (digest_before, digest_after) = (digest(before), digest(after));
        let replaced = before
            .zip(after)
            .is_some_and(|(before, after)| !before.uid.is_empty() && !after.uid.is_empty() && before.uid != after.uid);
        let verdict = self.rules.judge(&Differing {
            item: &item,
            sides,
            digests: (digest_before.as_deref(), digest_after.as_deref()),
            replaced,
            status: of_kind.status,
            shown: self.place.readers.may_read(&item.kind),
        });
        match verdict {
            Verdict::Same => self.same(&item),
            Verdict::Ignored => {
                self.found.add_ignored();
                self.known.is_same(&item);
            }
            Verdict::Found(found) => {
                self.known.differs(&item);
                self.found.add(item, *found, after.map(|record| record.uid.clone()));
            }
        }
    }

    /// What is left of the baseline: removed, if that is known.
    async fn leave(&mut self, mut of_kind: OfKind<'_>, absence_now: Result<(), Remark>) -> Result<(), Failure> {
        let unread: Vec<_> = std::mem::take(&mut of_kind.unread).into_iter().collect();
        for paths in unread.chunks(BATCH_ITEMS) {
            self.read_some(&mut of_kind, paths.to_vec()).await?;
        }
        let kind = &of_kind.kind;
        match absence_now {
            Err(remark) if of_kind.before.is_empty() && remark.code == reason::OUTSIDE_SELECTION => {}
            Err(remark) => {
                let count = of_kind.before.len().max(1);
                self.found.add_not_compared(ItemId::new(kind.clone(), ""), count, remark);
            }
            Ok(()) => {
                for (name, record) in &of_kind.before {
                    let read = of_kind.stored.filter(|_| {
                        self.rules.ignore.reads_labels() && self.place.baseline.holdings.content() == Content::Objects
                    });
                    let object = match read {
                        Some(collection) => self.place.baseline.holdings.object(collection, name).await?.ok(),
                        None => None,
                    };
                    let item = ItemId::new(kind.clone(), name);
                    self.judge(&of_kind, item, Sides::Removed(object.as_ref()), (Some(record), None));
                }
                if of_kind.absence_before.is_ok() {
                    self.found.complete(of_kind.kind);
                }
            }
        }
        Ok(())
    }
}

/// The path of an item in a backup set, if it has one.
fn path_of(kind: &ServedKind, name: &str) -> Option<ItemPath> {
    ItemPath::new(&kind.group, &kind.version, &kind.kind, name).ok()
}
