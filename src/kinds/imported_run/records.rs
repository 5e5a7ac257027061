//! The records of other systems that are held: for each namespace and system the newest, with some
//! in reserve for when one of these is deleted. Fed by the watches of [`crate::controller`].
//!
//! A change costs a walk over at most [`HELD`] records of each namespace that the record is about.
//! One record takes about 1 KiB here, whatever it holds.

use super::foreign::{Foreign, Kind};
use crate::{
    api::{
        ImportedRun, ImportedRunStatus,
        imported_run::{MAX_LISTED, Source, System, name},
    },
    kernel::name::Name,
};
use jiff::Timestamp;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Maximum number of records of a system that are held for a namespace. Only the first
/// [`MAX_LISTED`] are listed.
pub const HELD: usize = 2 * MAX_LISTED;

/// A record, as far as it is listed.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The system that keeps it.
    pub system: System,
    /// Where it is.
    pub source: Source,
    /// What is said of it, without a link to a run.
    pub status: ImportedRunStatus,
    /// Name of the run that it names.
    pub claims: Option<String>,
}

impl Record {
    /// Name of its imported run.
    #[must_use]
    pub fn name(&self) -> String {
        name(self.system, &self.source.kind, &self.source.uid)
    }

    fn rank(&self) -> Rank {
        (Reverse(self.status.created_at), self.source.uid.clone())
    }
}

/// The newest first.
type Rank = (Reverse<Option<Timestamp>>, String);

/// What an imported run should be about.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A record that is to be listed.
    Record(Arc<Record>),
    /// None: the record is gone, is not among the newest, or is not looked at any more.
    None,
    /// The records have not been read yet.
    Unknown,
}

impl Wanted {
    /// Name of the run that the record names.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        match self {
            Self::Record(record) => record.claims.as_deref(),
            Self::None | Self::Unknown => None,
        }
    }
}

/// Records of one kind that are watched together.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Watch {
    /// Their kind.
    pub kind: Kind,
    /// Their namespace. `None` for all.
    pub namespace: Option<String>,
}

/// The records.
pub struct Records {
    state: Mutex<State>,
    again: HashMap<System, watch::Sender<u64>>,
}

#[derive(Default)]
struct State {
    watches: BTreeMap<Watch, Listed>,
    /// By watch, namespace and name: what of it is held.
    places: BTreeMap<Watch, HashMap<(String, String), Place>>,
    tenants: HashMap<String, HashMap<System, Tenant>>,
}

#[derive(Default)]
struct Listed {
    /// Number of lists so far. What the latest one does not name is gone.
    list: u64,
    /// Whether one was complete.
    is_ready: bool,
}

struct Place {
    record: Arc<Record>,
    about: Vec<String>,
    list: u64,
}

/// The records of a system that are about one namespace.
#[derive(Default)]
struct Tenant {
    records: BTreeMap<Rank, Arc<Record>>,
    names: HashMap<String, Rank>,
    /// Number of them that name a run.
    claims: usize,
    /// Whether older ones were dropped.
    is_cut: bool,
}

impl Tenant {
    /// Whether a rank is among those that are listed.
    fn lists(&self, rank: &Rank) -> bool {
        self.records.keys().nth(MAX_LISTED - 1).is_none_or(|last| rank <= last)
    }

    /// The names on either side of the end of what is listed: a change moves these alone.
    fn at_the_end(&self) -> impl Iterator<Item = String> {
        self.records.values().skip(MAX_LISTED - 1).take(2).map(|record| record.name())
    }

    /// Adds a record that is not there. Returns the one that is dropped for it.
    fn put(&mut self, record: &Arc<Record>) -> Option<Arc<Record>> {
        let rank = record.rank();
        self.names.insert(record.name(), rank.clone());
        self.records.insert(rank, record.clone());
        self.claims += usize::from(record.claims.is_some());
        if self.records.len() <= HELD {
            return None;
        }
        let (_, oldest) = self.records.pop_last()?;
        self.names.remove(&oldest.name());
        self.claims -= usize::from(oldest.claims.is_some());
        self.is_cut = true;
        Some(oldest)
    }

    fn remove(&mut self, record: &Record) {
        if let Some(gone) = self.records.remove(&record.rank()) {
            self.names.remove(&record.name());
            self.claims -= usize::from(gone.claims.is_some());
        }
    }
}

impl Records {
    /// Creates an index of these watches. Records of others are gone.
    #[must_use]
    pub fn new(watches: impl IntoIterator<Item = Watch>) -> Self {
        let watches = watches.into_iter().map(|watch| (watch, Listed::default())).collect();
        let again =
            [System::Velero, System::K8up, System::Cronjob].map(|system| (system, watch::Sender::new(0))).into();
        Self { state: Mutex::new(State { watches, ..State::default() }), again }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic elsewhere, these plain maps are still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is watched.
    #[must_use]
    pub fn watches(&self) -> Vec<Watch> {
        self.state().watches.keys().cloned().collect()
    }

    /// Changes when the records of a system must be listed again, because some that were dropped are
    /// among the newest by now.
    #[must_use]
    pub fn again(&self, system: System) -> Option<watch::Receiver<u64>> {
        self.again.get(&system).map(watch::Sender::subscribe)
    }

    /// A list begins.
    pub fn begin(&self, watch: &Watch) {
        if let Some(listed) = self.state().watches.get_mut(watch) {
            listed.list += 1;
        }
    }

    /// A list is complete. Returns which imported runs may change by that.
    pub fn end(&self, watch: &Watch) -> HashSet<Name<ImportedRun>> {
        let vanished: Vec<(String, String)> = {
            let mut state = self.state();
            let Some(listed) = state.watches.get_mut(watch) else { return HashSet::new() };
            listed.is_ready = true;
            let list = listed.list;
            let places = state.places.get(watch).into_iter().flatten();
            places.filter(|(_, place)| place.list < list).map(|(at, _)| at.clone()).collect()
        };
        vanished.iter().flat_map(|(namespace, name)| self.remove(watch, namespace, name)).collect()
    }

    /// The kind is not served: there are no records of it.
    pub fn absent(&self, watch: &Watch) -> HashSet<Name<ImportedRun>> {
        self.begin(watch);
        self.end(watch)
    }

    /// A record was created or changed. Returns which imported runs may change by that.
    pub fn apply(&self, watch: &Watch, foreign: &Foreign) -> HashSet<Name<ImportedRun>> {
        let (namespace, name) = foreign.place();
        let Some((record, about)) = foreign.record(watch.kind) else { return self.remove(watch, namespace, name) };
        let place = (namespace.to_owned(), name.to_owned());
        let record = Arc::new(record);
        let mut state = self.state();
        let list = state.watches.get(watch).map_or(0, |listed| listed.list);
        let before = state.places.get_mut(watch).and_then(|places| places.get_mut(&place));
        if let Some(before) = before
            && before.record == record
            && before.about == about
        {
            before.list = list;
            return HashSet::new();
        }
        let mut changed = state.take(watch, &place, &self.again);
        let mut dropped = Vec::new();
        for tenant in &about {
            let records = state.tenants.entry(tenant.clone()).or_default().entry(record.system).or_default();
            dropped.extend(records.put(&record));
            changed.insert(Name::new(tenant, &record.name()));
            changed.extend(records.at_the_end().map(|name| Name::new(tenant, &name)));
        }
        state.places.entry(watch.clone()).or_default().insert(place, Place { record, about, list });
        for record in dropped {
            state.forget(&record);
        }
        changed
    }

    /// A record was deleted. Returns which imported runs may change by that.
    pub fn remove(&self, watch: &Watch, namespace: &str, name: &str) -> HashSet<Name<ImportedRun>> {
        self.state().take(watch, &(namespace.to_owned(), name.to_owned()), &self.again)
    }

    /// What the imported run of this name should be about. `existing` is the one that there is.
    #[must_use]
    pub fn wanted(&self, namespace: &str, name: &str, existing: Option<&ImportedRun>) -> Wanted {
        let state = self.state();
        let mut systems = state.tenants.get(namespace).into_iter().flat_map(HashMap::values);
        let found = systems.find_map(|tenant| {
            let rank = tenant.names.get(name)?;
            tenant.records.get(rank).filter(|_| tenant.lists(rank))
        });
        if let Some(record) = found {
            return Wanted::Record(record.clone());
        }
        let Some(existing) = existing else { return Wanted::None };
        let of_it = |watch: &Watch| {
            let source = &existing.spec.source;
            watch.kind.system() == existing.spec.system
                && watch.kind.names().2 == source.kind
                && watch.namespace.as_ref().is_none_or(|namespace| *namespace == source.namespace)
        };
        let waits = state.watches.iter().any(|(watch, listed)| of_it(watch) && !listed.is_ready);
        if waits { Wanted::Unknown } else { Wanted::None }
    }

    /// The imported runs that a namespace should have.
    #[must_use]
    pub fn of_namespace(&self, namespace: &str) -> Vec<Name<ImportedRun>> {
        let state = self.state();
        let systems = state.tenants.get(namespace).into_iter().flat_map(HashMap::values);
        let listed = systems.flat_map(|tenant| tenant.records.values().take(MAX_LISTED));
        listed.map(|record| Name::new(namespace, &record.name())).collect()
    }

    /// The imported runs of a namespace whose records name this run.
    #[must_use]
    pub fn claiming(&self, namespace: &str, run: &str) -> Vec<Name<ImportedRun>> {
        let state = self.state();
        let systems = state.tenants.get(namespace).into_iter().flat_map(HashMap::values);
        let records = systems.filter(|tenant| tenant.claims > 0).flat_map(|tenant| tenant.records.values());
        let claiming = records.filter(|record| record.claims.as_deref() == Some(run));
        claiming.map(|record| Name::new(namespace, &record.name())).collect()
    }

    /// Number of records that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state().places.values().map(HashMap::len).sum()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl State {
    /// Holds a record no more that was dropped in all of its namespaces.
    fn forget(&mut self, record: &Record) {
        let (name, source) = (record.name(), &record.source);
        let at = (source.namespace.clone(), source.name.clone());
        for (watch, places) in &mut self.places {
            let is_of_it = watch.kind.system() == record.system && watch.kind.names().2 == source.kind;
            let Some(place) = places.get(&at).filter(|place| is_of_it && place.record.source == *source) else {
                continue;
            };
            let is_held = |tenant: &String| {
                let records = self.tenants.get(tenant).and_then(|systems| systems.get(&record.system));
                records.is_some_and(|records| records.names.contains_key(&name))
            };
            if !place.about.iter().any(is_held) {
                places.remove(&at);
            }
        }
    }

    /// Takes away what is held of a place. Returns which imported runs may change by that.
    fn take(
        &mut self,
        watch: &Watch,
        place: &(String, String),
        again: &HashMap<System, watch::Sender<u64>>,
    ) -> HashSet<Name<ImportedRun>> {
        let Some(Place { record, about, .. }) = self.places.get_mut(watch).and_then(|places| places.remove(place))
        else {
            return HashSet::new();
        };
        let mut changed = HashSet::new();
        for tenant in &about {
            changed.insert(Name::new(tenant, &record.name()));
            let Some(systems) = self.tenants.get_mut(tenant) else { continue };
            let Some(records) = systems.get_mut(&record.system) else { continue };
            records.remove(&record);
            changed.extend(records.at_the_end().map(|name| Name::new(tenant, &name)));
            if records.is_cut && records.records.len() < MAX_LISTED {
                records.is_cut = false;
                again.get(&record.system).into_iter().for_each(|again| again.send_modify(|times| *times += 1));
            }
            if records.records.is_empty() {
                systems.remove(&record.system);
            }
            if systems.is_empty() {
                self.tenants.remove(tenant);
            }
        }
        changed
    }
}
