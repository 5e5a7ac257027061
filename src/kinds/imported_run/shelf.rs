//! The records of one sort that are about one namespace: the newest, and some in reserve for when one
//! of these is deleted. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    foreign::{Foreign, Kind},
    records::Record,
};
use crate::api::imported_run::{MAX_LISTED, System};
use jiff::Timestamp;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// Maximum number of records of a sort that are held for a namespace. Only the first [`MAX_LISTED`]
/// are listed.
pub const HELD: usize = 2 * MAX_LISTED;

/// Records that are counted together. Schedules are counted apart: they are few and old, and the runs
/// that they start would soon displace them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sort {
    system: System,
    is_schedule: bool,
}

impl Kind {
    /// What records of this kind are counted with.
    #[must_use]
    pub fn sort(self) -> Sort {
        Sort { system: self.system(), is_schedule: self.names().2 == "Schedule" }
    }
}

/// The newest first.
type Rank = (Reverse<Option<Timestamp>>, String);

fn rank(record: &Record) -> Rank {
    (Reverse(record.status.created_at), record.source.uid.clone())
}

/// The records of one sort that are about one namespace.
#[derive(Default)]
pub(super) struct Shelf {
    records: BTreeMap<Rank, Arc<Record>>,
    names: HashMap<String, Rank>,
    /// Number of them that name a run.
    claims: usize,
    /// The newest that was dropped. What is older is not held: between the two may be others that were
    /// dropped, and the list would have a gap.
    dropped: Option<Rank>,
}

impl Shelf {
    /// The record of an imported run, if it is among those that are listed.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Record>> {
        let rank = self.names.get(name)?;
        let is_listed = self.records.keys().nth(MAX_LISTED - 1).is_none_or(|last| rank <= last);
        self.records.get(rank).filter(|_| is_listed)
    }

    /// Whether the record of an imported run is held.
    pub(super) fn holds(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// What is listed.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values().take(MAX_LISTED)
    }

    /// What names a run.
    pub(super) fn claiming<'a>(&'a self, run: &'a str) -> impl Iterator<Item = &'a Arc<Record>> {
        let records = self.records.values().take(if self.claims > 0 { HELD } else { 0 });
        records.filter(move |record| record.claims.as_deref() == Some(run))
    }

    /// The names on either side of the end of what is listed: a change moves these alone.
    pub(super) fn at_the_end(&self) -> impl Iterator<Item = String> {
        self.records.values().skip(MAX_LISTED - 1).take(2).map(|record| record.name())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Adds a record that is not there. Returns the one that is dropped for it, which may be itself.
    pub(super) fn put(&mut self, record: &Arc<Record>) -> Option<Arc<Record>> {
        let rank = rank(record);
        if self.dropped.as_ref().is_some_and(|dropped| rank >= *dropped) {
            return Some(record.clone());
        }
        self.names.insert(record.name(), rank.clone());
        self.records.insert(rank, record.clone());
        self.claims += usize::from(record.claims.is_some());
        if self.records.len() <= HELD {
            return None;
        }
        let (rank, oldest) = self.records.pop_last()?;
        self.names.remove(&oldest.name());
        self.claims -= usize::from(oldest.claims.is_some());
        self.dropped = Some(rank);
        Some(oldest)
    }

    pub(super) fn remove(&mut self, record: &Record) {
        if let Some(gone) = self.records.remove(&rank(record)) {
            self.names.remove(&record.name());
            self.claims -= usize::from(gone.claims.is_some());
        }
    }

    /// Whether some that were dropped belong in the list by now. Said once: from then on it takes any
    /// record, because it is filled anew.
    pub(super) fn is_short(&mut self) -> bool {
        let is_short = self.records.len() < MAX_LISTED && self.dropped.is_some();
        if is_short {
            self.dropped = None;
        }
        is_short
    }
}

/// The newest records of a list, however long it is.
pub struct Newest {
    kind: Kind,
    found: BTreeMap<Rank, Foreign>,
}

impl Newest {
    /// Those of a kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self { kind, found: BTreeMap::new() }
    }

    /// Adds a record of the list.
    pub fn add(&mut self, foreign: Foreign) {
        let Some((record, _)) = foreign.record(self.kind) else { return };
        self.found.insert(rank(&record), foreign);
        // The one that is too many tells the shelf that there are more.
        if self.found.len() > HELD + 1 {
            self.found.pop_last();
        }
    }

    /// The newest first.
    pub(super) fn records(&self) -> impl Iterator<Item = &Foreign> {
        self.found.values()
    }
}
