//! The records of other systems that are held, for each namespace those of its shelves
//! ([`super::shelf`]). Fed by the watches of [`crate::controller`].
//!
//! Half a list shows records as gone that come later in it, and old ones as the newest. So while a
//! watch of a system lists, nothing is said about the system. Who asked meanwhile is woken once all is
//! known. Lists that fail are not waited for: else one that is refused would stop the others for good.
//!
//! A change costs a walk over at most [`HELD`](super::shelf::HELD) records of each namespace that the
//! record is about. One record takes about 1 KiB here, whatever it holds.

use super::{
    foreign::{Foreign, Kind},
    shelf::{Newest, Shelf, Sort},
};
use crate::{
    api::{
        ImportedRun, ImportedRunStatus,
        imported_run::{Source, System, name},
    },
    kernel::name::Name,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Imported runs that may change.
type Names = HashSet<Name<ImportedRun>>;

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
}

/// What an imported run should be about.
#[derive(Clone, Debug, PartialEq)]
pub enum Wanted {
    /// A record that is to be listed.
    Record(Arc<Record>),
    /// None: the record is gone, is not among the newest, or is not looked at any more.
    None,
    /// Not known: its records, or others that count with them, have not been read to the end.
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
}

#[derive(Default)]
struct State {
    watches: BTreeMap<Watch, Listed>,
    /// By watch, namespace and name: what of it is held.
    places: BTreeMap<Watch, HashMap<(String, String), Place>>,
    /// By namespace.
    tenants: HashMap<String, HashMap<Sort, Shelf>>,
    /// Imported runs that changed, or were asked about, while nothing could be said of them.
    undecided: HashMap<System, Names>,
}

#[derive(Default)]
struct Listed {
    /// Number of lists so far. What the latest one does not name is gone.
    list: u64,
    /// Whether one was complete.
    was_complete: bool,
    /// Whether one has begun and is not complete.
    is_listing: bool,
    /// Whether the latest one failed.
    has_failed: bool,
    /// Namespaces to list again.
    short: BTreeSet<String>,
    again: Arc<Notify>,
}

impl Listed {
    /// Whether it is not known what there is.
    fn is_unsure(&self) -> bool {
        self.is_listing || !self.was_complete
    }

    /// Whether others wait until it is known.
    fn is_waited_for(&self) -> bool {
        self.is_unsure() && !self.has_failed
    }
}

struct Place {
    record: Arc<Record>,
    about: Vec<String>,
    list: u64,
}

impl Records {
    /// Creates an index of these watches. Records of others are gone.
    #[must_use]
    pub fn new(watches: impl IntoIterator<Item = Watch>) -> Self {
        let watches = watches.into_iter().map(|watch| (watch, Listed::default())).collect();
        Self { state: Mutex::new(State { watches, ..State::default() }) }
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

    /// Notified when a watch has namespaces to list again ([`Self::short`]).
    #[must_use]
    pub fn again(&self, watch: &Watch) -> Option<Arc<Notify>> {
        self.state().watches.get(watch).map(|listed| listed.again.clone())
    }

    /// Takes the namespaces that a watch must list again, because records that were dropped are among
    /// the newest by now: its own namespace, or those of the tenants if it has none.
    #[must_use]
    pub fn short(&self, watch: &Watch) -> BTreeSet<String> {
        self.state().watches.get_mut(watch).map(|listed| std::mem::take(&mut listed.short)).unwrap_or_default()
    }

    /// A list of all records begins.
    pub fn begin(&self, watch: &Watch) {
        if let Some(listed) = self.state().watches.get_mut(watch) {
            listed.list += 1;
            listed.is_listing = true;
            listed.short.clear();
        }
    }

    /// A list is complete. Returns which imported runs may change by that.
    pub fn end(&self, watch: &Watch) -> Names {
        let mut state = self.state();
        let Some(listed) = state.watches.get_mut(watch) else { return Names::new() };
        (listed.was_complete, listed.is_listing, listed.has_failed) = (true, false, false);
        let list = listed.list;
        let places = state.places.get(watch).into_iter().flatten();
        let vanished: Vec<_> = places.filter(|(_, place)| place.list < list).map(|(at, _)| at.clone()).collect();
        let changed: Names = vanished.iter().flat_map(|place| state.remove(watch, place)).collect();
        let system = watch.kind.system();
        state.undecided.entry(system).or_default().extend(changed);
        state.known(system)
    }

    /// A list failed, or could not begin. Returns which imported runs were kept waiting for it alone.
    /// What it is about stays unknown until a later one is complete.
    pub fn fail(&self, watch: &Watch) -> Names {
        let mut state = self.state();
        match state.watches.get_mut(watch) {
            Some(listed) if listed.is_waited_for() => listed.has_failed = true,
            _ => return Names::new(),
        }
        state.known(watch.kind.system())
    }

    /// The kind is not served: there are no records of it.
    pub fn absent(&self, watch: &Watch) -> Names {
        self.begin(watch);
        self.end(watch)
    }

    /// A record was created or changed. Returns which imported runs may change by that.
    pub fn apply(&self, watch: &Watch, foreign: &Foreign) -> Names {
        let mut state = self.state();
        let changed = state.apply(watch, foreign);
        state.hold_back(watch, changed)
    }

    /// The newest records of one namespace were listed again. Returns which imported runs may change by
    /// that.
    pub fn fill(&self, watch: &Watch, newest: &Newest) -> Names {
        let mut state = self.state();
        let changed = newest.records().flat_map(|foreign| state.apply(watch, foreign)).collect();
        state.hold_back(watch, changed)
    }

    /// A record was deleted. Returns which imported runs may change by that.
    pub fn remove(&self, watch: &Watch, namespace: &str, name: &str) -> Names {
        let mut state = self.state();
        let changed = state.remove(watch, &(namespace.to_owned(), name.to_owned()));
        state.hold_back(watch, changed)
    }

    /// What the imported run of this name should be about. `existing` is the one that there is. If it
    /// is not known, the name is among those that are returned once it is.
    #[must_use]
    pub fn wanted(&self, namespace: &str, name: &str, existing: Option<&ImportedRun>) -> Wanted {
        let mut state = self.state();
        let mut shelves = state.tenants.get(namespace).into_iter().flat_map(HashMap::values);
        let found = shelves.find_map(|shelf| shelf.get(name)).cloned();
        let there = existing.map(|existing| (existing.spec.system, &existing.spec.source));
        let Some((system, source)) = found.as_ref().map(|record| (record.system, &record.source)).or(there) else {
            return Wanted::None;
        };
        if state.is_unsure(system, source) {
            state.undecided.entry(system).or_default().insert(Name::new(namespace, name));
            return Wanted::Unknown;
        }
        found.map_or(Wanted::None, Wanted::Record)
    }

    /// The imported runs that a namespace should have.
    #[must_use]
    pub fn of_namespace(&self, namespace: &str) -> Vec<Name<ImportedRun>> {
        let state = self.state();
        let shelves = state.tenants.get(namespace).into_iter().flat_map(HashMap::values);
        shelves.flat_map(Shelf::listed).map(|record| Name::new(namespace, &record.name())).collect()
    }

    /// The imported runs of a namespace whose records name this run.
    #[must_use]
    pub fn claiming(&self, namespace: &str, run: &str) -> Vec<Name<ImportedRun>> {
        let state = self.state();
        let shelves = state.tenants.get(namespace).into_iter().flat_map(HashMap::values);
        let claiming = shelves.flat_map(|shelf| shelf.claiming(run));
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
    /// Whether others wait for a list of a system.
    fn waits(&self, system: System) -> bool {
        self.watches.iter().any(|(watch, listed)| watch.kind.system() == system && listed.is_waited_for())
    }

    /// Whether nothing can be said of a record.
    fn is_unsure(&self, system: System, source: &Source) -> bool {
        let is_of_it = |watch: &Watch| {
            watch.kind.system() == system
                && watch.kind.names().2 == source.kind
                && watch.namespace.as_ref().is_none_or(|namespace| *namespace == source.namespace)
        };
        self.waits(system) || self.watches.iter().any(|(watch, listed)| is_of_it(watch) && listed.is_unsure())
    }

    /// Of what a watch has changed, that which can be acted on now. The rest waits.
    fn hold_back(&mut self, watch: &Watch, changed: Names) -> Names {
        let system = watch.kind.system();
        if self.waits(system) || self.watches.get(watch).is_none_or(Listed::is_unsure) {
            self.undecided.entry(system).or_default().extend(changed);
            return Names::new();
        }
        changed
    }

    /// What waited for the lists of a system, if no list is waited for any more.
    fn known(&mut self, system: System) -> Names {
        if self.waits(system) { Names::new() } else { self.undecided.remove(&system).unwrap_or_default() }
    }

    fn apply(&mut self, watch: &Watch, foreign: &Foreign) -> Names {
        let (namespace, name) = foreign.place();
        let place = (namespace.to_owned(), name.to_owned());
        let Some((record, about)) = foreign.record(watch.kind) else { return self.remove(watch, &place) };
        let record = Arc::new(record);
        let list = self.watches.get(watch).map_or(0, |listed| listed.list);
        let before = self.places.get_mut(watch).and_then(|places| places.get_mut(&place));
        if let Some(before) = before
            && before.record == record
            && before.about == about
        {
            before.list = list;
            return Names::new();
        }
        let mut changed = Names::new();
        let left = self.take(watch, &place, &mut changed);
        let sort = watch.kind.sort();
        let mut dropped = Vec::new();
        for tenant in &about {
            let shelf = self.tenants.entry(tenant.clone()).or_default().entry(sort).or_default();
            let gone = shelf.put(&record);
            if gone.as_ref().is_none_or(|gone| !Arc::ptr_eq(gone, &record)) {
                changed.insert(Name::new(tenant, &record.name()));
                changed.extend(shelf.at_the_end().map(|name| Name::new(tenant, &name)));
            }
            dropped.extend(gone);
        }
        // Only now: a record that has changed is taken from its shelf and put back.
        self.settle(sort, left.iter().chain(&about));
        self.places.entry(watch.clone()).or_default().insert(place, Place { record, about, list });
        for record in dropped {
            self.forget(&record);
        }
        changed
    }

    fn remove(&mut self, watch: &Watch, place: &(String, String)) -> Names {
        let mut changed = Names::new();
        let left = self.take(watch, place, &mut changed);
        self.settle(watch.kind.sort(), left.iter());
        changed
    }

    /// Takes away what is held of a place. Returns the namespaces that it was about.
    fn take(&mut self, watch: &Watch, place: &(String, String), changed: &mut Names) -> Vec<String> {
        let Some(Place { record, about, .. }) = self.places.get_mut(watch).and_then(|places| places.remove(place))
        else {
            return Vec::new();
        };
        for tenant in &about {
            changed.insert(Name::new(tenant, &record.name()));
            let shelves = self.tenants.get_mut(tenant);
            let Some(shelf) = shelves.and_then(|shelves| shelves.get_mut(&watch.kind.sort())) else { continue };
            shelf.remove(&record);
            changed.extend(shelf.at_the_end().map(|name| Name::new(tenant, &name)));
        }
        about
    }

    /// Has what is short listed again, and holds no shelf that is empty.
    fn settle<'a>(&mut self, sort: Sort, tenants: impl Iterator<Item = &'a String>) {
        for tenant in tenants {
            let Some(shelves) = self.tenants.get_mut(tenant) else { continue };
            let Some(shelf) = shelves.get_mut(&sort) else { continue };
            let is_short = shelf.is_short();
            if shelf.is_empty() {
                shelves.remove(&sort);
            }
            if shelves.is_empty() {
                self.tenants.remove(tenant);
            }
            for (watch, listed) in self.watches.iter_mut().filter(|(watch, _)| is_short && watch.kind.sort() == sort) {
                listed.short.insert(watch.namespace.clone().unwrap_or_else(|| tenant.clone()));
                listed.again.notify_one();
            }
        }
    }

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
                let shelf = self.tenants.get(tenant).and_then(|shelves| shelves.get(&watch.kind.sort()));
                shelf.is_some_and(|shelf| shelf.holds(&name))
            };
            if !place.about.iter().any(is_held) {
                places.remove(&at);
            }
        }
    }
}
