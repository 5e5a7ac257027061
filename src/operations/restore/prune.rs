//! Live objects that the backup set does not hold, or names as absent: prune deletes them.

#![deny(clippy::disallowed_types)]

use crate::{
    api::item::{GroupKind, ItemId},
    api::reason::item as reason,
    items::{
        decide::{Decision, Live, Stored},
        owners,
        plan::{Action, Remark},
        served::ServedKind,
    },
    operations::{
        capture::{
            omission::Note,
            scope::{Scope, Work},
        },
        restore::{
            join::live,
            unknown::{NOT_KNOWN, failing, not_listed, settled},
            walk::{Decided, Undecided, Walk},
        },
    },
    providers::call::ListSelection,
    worker::failure::{Failure, call_failure},
};
use futures::stream;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::mpsc;

/// Up to this many names of a kind are read one by one.
const ONE_BY_ONE: usize = 32;

impl Walk<'_> {
    /// Decides about live objects that a full set does not hold, for kinds that a capture takes and
    /// no others.
    pub(super) async fn decide_not_held(&self, decided: &mut Vec<Decided>) -> Result<(), Failure> {
        let left_out = self.left_out().await?;
        for step in Scope::default().plan(self.catalog) {
            if step.work != Work::List {
                continue;
            }
            let kind = step.place.group_kind();
            let everything = ListSelection::default();
            let mut listing = self.provider.list(&step.place, &everything);
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
                    Err(fault) if fault.is_refusal() => {
                        let (action, remark) = not_listed(&kind, &fault, NOT_KNOWN);
                        decided.push(settled(whole, &step.place, action, remark));
                        decisions.clear();
                        break;
                    }
                    Err(fault) => return Err(call_failure(&doing, &fault)),
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
                    // The object comes and goes by itself. It is not reported unless a selection
                    // asks for it.
                    continue;
                }
                let live = live(self.rules, &step.place, object);
                if !self.inventory.holds(&item) && self.takes(&item, &live.object) {
                    let decision = self.planner.decide(&item, &step.place.api_version(), Stored::NotHeld, Some(&live));
                    decisions.push((decision, owners::owners(&live.object)));
                }
            }
            decided.extend(self.settle(decisions.len(), stream::iter(decisions)).await?);
        }
        Ok(())
    }

    /// Items that the capture recorded as left out. An item without a name stands for the whole
    /// kind. That the snapshot does not hold them proves nothing.
    async fn left_out(&self) -> Result<BTreeSet<ItemId>, Failure> {
        let mut left_out = BTreeSet::new();
        let Some(reader) = self.reader else { return Ok(left_out) };
        for path in &self.inventory.notes {
            for content in reader.read(vec![path.clone()]).await? {
                let note = content.map(|content| Note::from_content(&content)).unwrap_or_default();
                left_out.extend(note.items.iter().filter_map(|item| ItemId::of_object(&item.item_id).ok()));
            }
        }
        Ok(left_out)
    }

    /// Decides about the items that the set names as absent.
    pub(super) async fn decide_absent(&self, absent: &[ItemId], decided: &mut Vec<Decided>) -> Result<(), Failure> {
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

    /// Reads which of these names exist: one by one, or by listing the whole kind if there are
    /// many.
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
                let owners = live.map(|live| owners::owners(&live.object)).unwrap_or_default();
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
            let mut listing = self.provider.list(served, selection);
            loop {
                let object = match listing.next().await {
                    Ok(Some(Ok(object))) => object,
                    Ok(Some(Err(broken))) => {
                        let item = ItemId::new(kind.clone(), broken.name.clone());
                        if names.remove(broken.name.as_str()) && self.selection.may_take(&item) {
                            let message =
                                format!("the API server lists it, but {}: look at it with kubectl", broken.problem);
                            let code = reason::SERVER_FAILED;
                            let planned = failing(item, served.api_version(), Action::Conflict, code, message);
                            if decisions.send((Decision::Settled(planned), Vec::new())).await.is_err() {
                                return Ok(());
                            }
                        }
                        continue;
                    }
                    Ok(None) => break,
                    Err(fault) if fault.is_refusal() => {
                        let (action, remark) = not_listed(&kind, &fault, NOT_KNOWN);
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
                    Err(fault) => return Err(call_failure(&doing, &fault)),
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
}
