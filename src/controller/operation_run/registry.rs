//! Who is active, who waits, who is the same work: an index over runs, kept from their watch.
//!
//! It decides nothing that must be right: what it does not know yet, the API server refuses (the Job's name). Limits
//! alone rest on it, and they are exceeded for a moment at worst when two leaders overlap.

use super::{
    fairness::{Active, Held, Limits, Waiter, may_start},
    observed::{Sibling, Slot},
};
use crate::api::{OperationRun, Outcome, Phase, operation_run::OperationRunStatus};
use jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The index.
#[derive(Default)]
pub struct Registry {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Runs that are not completed, by uid.
    open: HashMap<String, Entry>,
    /// Completed runs, by tenant and type, oldest first.
    completed: HashMap<(String, String), BTreeSet<Ended>>,
    /// Runs that were let through and have no Job on record yet.
    claimed: HashSet<String>,
    /// Runs that stand in line, by uid.
    in_line: HashSet<String>,
    /// What a run waits for now, and since when.
    seen: HashMap<String, (String, Timestamp)>,
}

#[derive(Clone, Debug)]
struct Entry {
    namespace: String,
    name: String,
    uid: String,
    created: Timestamp,
    operation_type: String,
    identity: Option<String>,
    leaving: bool,
    status: Brief,
}

/// The part of a status that others depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Brief {
    phase: Phase,
    job: Option<String>,
    joined: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ended {
    at: Timestamp,
    uid: String,
    name: String,
    outcome: &'static str,
}

impl Entry {
    fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.uid)
    }

    fn reference(&self) -> ObjectRef<OperationRun> {
        ObjectRef::new(&self.name).within(&self.namespace)
    }
}

impl Registry {
    /// Takes a run as it is now; the runs to look at because of it.
    pub fn apply(&self, run: &OperationRun) -> Vec<ObjectRef<OperationRun>> {
        let Some(entry) = entry(run) else { return Vec::new() };
        let mut state = self.state();
        let status = run.status_or_default();
        if status.phase == Phase::Completed {
            let mut wake = state.close(&entry.uid);
            let group = state.completed.entry((entry.namespace.clone(), entry.operation_type.clone())).or_default();
            group.insert(ended(&entry, &status));
            // The oldest may be beyond the history limit now.
            wake.extend(group.first().map(|oldest| ObjectRef::new(&oldest.name).within(&entry.namespace)));
            return wake;
        }
        if entry.status.job.is_some() {
            state.claimed.remove(&entry.uid);
            state.in_line.remove(&entry.uid);
        }
        let before = state.open.insert(entry.uid.clone(), entry.clone());
        let identity = before.as_ref().and_then(|before| before.identity.clone());
        if let Some(now) = state.open.get_mut(&entry.uid) {
            now.identity = now.identity.take().or(identity);
        }
        let changed =
            before.as_ref().is_some_and(|before| before.status != entry.status || before.leaving != entry.leaving);
        if changed { state.siblings_of(&entry.uid) } else { Vec::new() }
    }

    /// Forgets a deleted run; the runs to look at because of it.
    pub fn remove(&self, run: &OperationRun) -> Vec<ObjectRef<OperationRun>> {
        let Some(entry) = entry(run) else { return Vec::new() };
        let mut state = self.state();
        let mut emptied = false;
        let key = (entry.namespace, entry.operation_type);
        if let Some(group) = state.completed.get_mut(&key) {
            group.retain(|ended| ended.uid != entry.uid);
            emptied = group.is_empty();
        }
        if emptied {
            state.completed.remove(&key);
        }
        state.close(&entry.uid)
    }

    /// Notes a run's identity as soon as it is known.
    pub fn identify(&self, uid: &str, identity: &str) {
        if let Some(entry) = self.state().open.get_mut(uid) {
            entry.identity = Some(identity.to_owned());
        }
    }

    /// Runs that are not completed and whose Job bears, or would bear, this name.
    pub fn by_job_name(&self, namespace: &str, job_name: &str) -> Vec<ObjectRef<OperationRun>> {
        let Some(digits) = job_name.strip_prefix("op-") else { return Vec::new() };
        let state = self.state();
        let of_name = |entry: &&Entry| {
            entry.namespace == namespace
                && entry.identity.as_deref().is_some_and(|identity| identity.starts_with(digits))
        };
        state.open.values().filter(of_name).map(Entry::reference).collect()
    }

    /// Runs of a type that are not completed.
    pub fn by_type(&self, operation_type: &str) -> Vec<ObjectRef<OperationRun>> {
        self.state()
            .open
            .values()
            .filter(|entry| entry.operation_type == operation_type)
            .map(Entry::reference)
            .collect()
    }

    /// Runs of a tenant that are not completed.
    pub fn by_namespace(&self, namespace: &str) -> Vec<ObjectRef<OperationRun>> {
        self.state().open.values().filter(|entry| entry.namespace == namespace).map(Entry::reference).collect()
    }

    /// Older runs of the same identity that are neither completed nor joined to another.
    pub fn older(&self, uid: &str, identity: &str) -> Vec<Sibling> {
        let state = self.state();
        let Some(own) = state.open.get(uid) else { return Vec::new() };
        let mut older: Vec<_> = state
            .open
            .values()
            .filter(|entry| {
                entry.namespace == own.namespace
                    && entry.identity.as_deref() == Some(identity)
                    && entry.age() < own.age()
                    && entry.status.joined.is_none()
            })
            .collect();
        older.sort_unstable_by(|one, other| one.age().cmp(&other.age()));
        older
            .into_iter()
            .map(|entry| Sibling { name: entry.name.clone(), uid: entry.uid.clone(), leaving: entry.leaving })
            .collect()
    }

    /// Whether the limits let a run start now.
    pub fn slot(&self, uid: &str, limits: &Limits) -> Slot {
        self.state().slot(uid, limits)
    }

    /// Takes a slot, if there still is one; given back by [`Registry::release`], or when the run is seen with its Job.
    pub fn claim(&self, uid: &str, limits: &Limits) -> bool {
        let mut state = self.state();
        let free = state.slot(uid, limits) == Slot::Free;
        if free {
            state.claimed.insert(uid.to_owned());
        }
        free
    }

    /// Gives a slot back.
    pub fn release(&self, uid: &str) {
        self.state().claimed.remove(uid);
    }

    /// Notes whether a run stands in line.
    pub fn stand_in_line(&self, uid: &str, stands: bool) {
        let mut state = self.state();
        if stands && state.open.contains_key(uid) {
            state.in_line.insert(uid.to_owned());
        } else {
            state.in_line.remove(uid);
        }
    }

    /// When this process first saw the run waiting for this very thing.
    pub fn seen(&self, uid: &str, what: Option<&str>, now: Timestamp) -> Option<Timestamp> {
        let mut state = self.state();
        let Some(what) = what else {
            state.seen.remove(uid);
            return None;
        };
        match state.seen.get(uid) {
            Some((before, since)) if before == what => Some(*since),
            _ => {
                state.seen.insert(uid.to_owned(), (what.to_owned(), now));
                Some(now)
            }
        }
    }

    /// Whether newer completed runs of the same tenant and type fill the limit. The newest of each outcome stays.
    pub fn beyond_history(&self, namespace: &str, operation_type: &str, uid: &str, limit: usize) -> bool {
        let state = self.state();
        let Some(group) = state.completed.get(&(namespace.to_owned(), operation_type.to_owned())) else { return false };
        if group.len() <= limit {
            return false;
        }
        let Some(own) = group.iter().find(|ended| ended.uid == uid) else { return false };
        let mut newer = group.range((std::ops::Bound::Excluded(own), std::ops::Bound::Unbounded));
        let same_outcome = newer.clone().any(|ended| ended.outcome == own.outcome);
        same_outcome && newer.nth(limit.saturating_sub(1)).is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves plain maps behind, which stay usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a run out of the open ones; the runs to look at because of it.
    fn close(&mut self, uid: &str) -> Vec<ObjectRef<OperationRun>> {
        let mut wake = self.siblings_of(uid);
        self.claimed.remove(uid);
        self.in_line.remove(uid);
        self.seen.remove(uid);
        if self.open.remove(uid).is_some_and(|entry| entry.status.job.is_some()) {
            wake.extend(self.next_in_line());
        }
        wake
    }

    fn siblings_of(&self, uid: &str) -> Vec<ObjectRef<OperationRun>> {
        let Some(own) = self.open.get(uid) else { return Vec::new() };
        self.open
            .values()
            .filter(|entry| {
                entry.uid != own.uid
                    && (entry.status.joined.as_deref() == Some(uid)
                        || (entry.namespace == own.namespace
                            && own.identity.is_some()
                            && entry.identity == own.identity))
            })
            .map(Entry::reference)
            .collect()
    }

    /// The oldest of each tenant and type: one of them takes a slot that came free.
    fn next_in_line(&self) -> Vec<ObjectRef<OperationRun>> {
        let mut first: HashMap<(&str, &str), &Entry> = HashMap::new();
        for entry in self.in_line.iter().filter_map(|uid| self.open.get(uid)) {
            let place = first.entry((&entry.namespace, &entry.operation_type)).or_insert(entry);
            if entry.age() < place.age() {
                *place = entry;
            }
        }
        first.into_values().map(Entry::reference).collect()
    }

    fn slot(&self, uid: &str, limits: &Limits) -> Slot {
        let Some(own) = self.open.get(uid) else { return Slot::Free };
        if *limits == Limits::default() || self.claimed.contains(uid) {
            return Slot::Free;
        }
        let mut active = Active::default();
        for entry in self.open.values().filter(|entry| entry.status.job.is_some() || self.claimed.contains(&entry.uid))
        {
            *active.of_any.entry(entry.namespace.clone()).or_default() += 1;
            if entry.operation_type == own.operation_type {
                *active.of_type.entry(entry.namespace.clone()).or_default() += 1;
            }
        }
        let waiter =
            |entry: &Entry| Waiter { created: entry.created, uid: entry.uid.clone(), tenant: entry.namespace.clone() };
        let mut waiting: Vec<_> = self
            .in_line
            .iter()
            .filter_map(|uid| self.open.get(uid))
            .filter(|entry| {
                entry.operation_type == own.operation_type && !self.claimed.contains(&entry.uid) && !entry.leaving
            })
            .map(waiter)
            .collect();
        let candidate = waiter(own);
        if !waiting.contains(&candidate) {
            waiting.push(candidate.clone());
        }
        match may_start(&candidate, &waiting, &active, limits) {
            Ok(()) => Slot::Free,
            Err(Held { limit, ahead }) => Slot::Waiting { limit, ahead },
        }
    }
}

fn entry(run: &OperationRun) -> Option<Entry> {
    let status = run.status_or_default();
    Some(Entry {
        namespace: run.metadata.namespace.clone()?,
        name: run.metadata.name.clone()?,
        uid: run.metadata.uid.clone()?,
        created: run.metadata.creation_timestamp.as_ref()?.0,
        operation_type: run.spec.operation_type.clone(),
        identity: status.identity_hash,
        leaving: run.spec.cancel || run.metadata.deletion_timestamp.is_some(),
        status: Brief {
            phase: status.phase,
            job: status.job.map(|job| job.uid),
            joined: status.joined.map(|joined| joined.uid),
        },
    })
}

fn ended(entry: &Entry, status: &OperationRunStatus) -> Ended {
    let outcome: Outcome = status.outcome;
    Ended {
        at: status.completed_at.unwrap_or(entry.created),
        uid: entry.uid.clone(),
        name: entry.name.clone(),
        outcome: outcome.as_str(),
    }
}
