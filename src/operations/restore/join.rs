//! Joins the stored items of a kind with its live objects by name.
//!
//! Both sides come in ascending order, so they are merged while they are read. Live objects that
//! the snapshot does not hold are skipped.

#![deny(clippy::disallowed_types)]

use crate::{
    api::item::ItemId,
    items::{decide::Live, served::ServedKind, skip::ItemRules},
    operations::restore::inventory::{BATCH_BYTES, BATCH_ITEMS, Entry},
    providers::{
        Listed, Listing, Provider,
        call::{BrokenItem, ListSelection, Object},
        fault::Fault,
    },
    worker::failure::{Failure, call_failure},
};
use serde_json::Value;
use std::{
    cmp::Ordering,
    collections::{BTreeMap, btree_map},
    iter::Peekable,
};

/// Selects every object.
static EVERYTHING: ListSelection = ListSelection { label_selector: None, name: None };

/// Both sides of one name.
pub struct Pair<'a> {
    /// Name of the object.
    pub name: String,
    /// The entry in the snapshot.
    pub entry: &'a Entry,
    /// The live object, if it exists.
    pub live: Option<Result<Live, BrokenItem>>,
}

/// Next part of a join.
pub enum Joined<'a> {
    /// Some pairs, few enough to be held with their contents.
    Pairs(Vec<Pair<'a>>),
    /// No more pairs.
    End,
    /// The API server refuses to list the rest. Contains their names and the fault.
    Unlisted(Vec<String>, Fault),
}

/// A kind that is being read.
pub struct Join<'a> {
    rules: &'a ItemRules,
    served: Option<ServedKind>,
    /// `None` at the end, or if there is nothing to list.
    listing: Option<Box<dyn Listing + 'a>>,
    /// The next live object, if it is known.
    ahead: Option<Listed>,
    entries: Peekable<btree_map::Iter<'a, String, Entry>>,
}

impl<'a> Join<'a> {
    /// Starts to join the entries of a kind with its live objects. If the kind is not served, every
    /// live object counts as missing.
    #[must_use]
    pub fn new(
        provider: &'a dyn Provider,
        rules: &'a ItemRules,
        entries: Option<&'a BTreeMap<String, Entry>>,
        served: Option<&ServedKind>,
    ) -> Self {
        Self {
            rules,
            served: served.cloned(),
            listing: served.map(|served| provider.list(served, &EVERYTHING)),
            ahead: None,
            entries: entries.map(|entries| entries.iter()).unwrap_or_default().peekable(),
        }
    }

    /// Returns the next pairs.
    pub async fn next(&mut self) -> Result<Joined<'a>, Failure> {
        let (mut pairs, mut bytes) = (Vec::new(), 0_u64);
        while pairs.len() < BATCH_ITEMS && bytes < BATCH_BYTES {
            let Some((name, entry)) = self.entries.peek().copied() else {
                // With nothing left to compare, the list need not be continued.
                (self.listing, self.ahead) = (None, None);
                break;
            };
            if let Err(fault) = self.look_ahead().await {
                if !fault.is_refusal() {
                    return Err(call_failure("list what is there", &fault));
                }
                self.listing = None;
                let begun = pairs.into_iter().map(|pair: Pair<'_>| pair.name);
                let names = begun.chain(self.entries.by_ref().map(|(name, _)| name.clone())).collect();
                return Ok(Joined::Unlisted(names, fault));
            }
            let live = match self.ahead.as_ref().map(|listed| name_of(listed).cmp(name)) {
                Some(Ordering::Less) => {
                    self.ahead = None;
                    continue;
                }
                Some(Ordering::Equal) => self.take(),
                Some(Ordering::Greater) | None => None,
            };
            bytes += if live.is_some() { 2 * entry.size } else { entry.size };
            pairs.push(Pair { name: name.clone(), entry, live });
            self.entries.next();
        }
        Ok(if pairs.is_empty() { Joined::End } else { Joined::Pairs(pairs) })
    }

    /// Reads the next live object, if there is one and it is not known yet.
    async fn look_ahead(&mut self) -> Result<(), Fault> {
        if let (None, Some(listing)) = (&self.ahead, &mut self.listing) {
            self.ahead = listing.next().await?;
            if self.ahead.is_none() {
                self.listing = None;
            }
        }
        Ok(())
    }

    fn take(&mut self) -> Option<Result<Live, BrokenItem>> {
        let (listed, served) = (self.ahead.take()?, self.served.as_ref()?);
        Some(listed.map(|object| live(self.rules, served, object)))
    }
}

fn name_of(listed: &Listed) -> &String {
    match listed {
        Ok(object) => &object.name,
        Err(broken) => &broken.name,
    }
}

/// The complete live object of a list element.
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
