//! Index over runs, maintained from their watch: which are active, which wait, and which do the
//! same work.
//!
//! No decision that must be right depends on it: what the index does not know yet, the API server
//! rejects (the Job's name). Only limits rest on it; at worst, they are exceeded for a moment while
//! two leaders overlap.

use super::{
    fairness::{Held, Limits, Line, Waiter},
    observed::{Sibling, Slot},
};
use crate::{
    api::{OperationRun, Outcome, Phase, identity::JOB_NAME_DIGITS, operation_run::OperationRunStatus},
    kernel::name::Name,
};
use jiff::Timestamp;
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
    /// Open runs by tenant: those that have started, then the others, each oldest first.
    by_tenant: HashMap<String, BTreeSet<Turn>>,
    /// Uids of open runs, by the digits of the identity in the name of their Job. With thousands of
    /// open runs, no event may cause a scan over all of them.
    same: HashMap<String, HashSet<String>>,
    /// By uid of a run, the uids of the runs that joined it.
    joiners: HashMap<String, HashSet<String>>,
    /// Which open runs are active, and which are next.
    line: Line,
    /// Completed runs, by tenant and type, oldest first.
    completed: HashMap<(String, String), BTreeSet<Ended>>,
    /// Runs that were given a slot and have no recorded Job yet.
    claimed: HashSet<String>,
    /// Uids of the runs that queue for a slot.
    in_line: HashSet<String>,
    /// By uid, what a run waits for now, and since when.
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
    /// Unique: the cache reports an object as deleted before it reports another one of its name.
    name: Box<str>,
    outcome: Outcome,
}

/// The place of an open run among those of its tenant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    waits: bool,
    created: Timestamp,
    uid: String,
}

impl Entry {
    fn turn(&self) -> Turn {
        let waits = self.status.job.is_none() && self.status.joined.is_none();
        Turn { waits, created: self.created, uid: self.uid.clone() }
    }

    fn age(&self) -> (Timestamp, &str) {
        (self.created, &self.uid)
    }

    fn reference(&self) -> Name<OperationRun> {
        Name::new(&self.namespace, &self.name)
    }

    fn waiter(&self) -> Waiter {
        Waiter {
            created: self.created,
            uid: self.uid.clone(),
            tenant: self.namespace.clone(),
            operation_type: self.operation_type.clone(),
        }
    }

    fn counted_as(&self) -> (String, String) {
        (self.namespace.clone(), self.operation_type.clone())
    }
}

impl Registry {
    /// Updates the index with a run. Returns the runs to wake.
    pub fn apply(&self, run: &OperationRun) -> Vec<Name<OperationRun>> {
        let Some(entry) = entry(run) else { return Vec::new() };
        let mut state = self.state();
        let status = run.status_or_default();
        // A run that joined another one has taken no slot.
        if let Some(at) = status.started_at.filter(|_| status.joined.is_none()) {
            state.line.started(&entry.namespace, at);
        }
        if status.phase == Phase::Completed {
            let mut wake = state.close(&entry.uid);
            let key = entry.counted_as();
            state.completed.entry(key.clone()).or_default().insert(ended(&entry, &status));
            wake.extend(state.oldest(&key));
            return wake;
        }
        if entry.status.job.is_some() {
            state.unclaim(&entry.uid);
            state.in_line.remove(&entry.uid);
        }
        let before = state.take(&entry.uid);
        let changed =
            before.as_ref().is_some_and(|before| before.status != entry.status || before.leaving != entry.leaving);
        let uid = entry.uid.clone();
        let identity = entry.identity.clone().or_else(|| before.and_then(|before| before.identity));
        state.put(Entry { identity, ..entry });
        if !changed {
            return Vec::new();
        }
        let mut wake = state.siblings_of(&uid);
        wake.extend(state.next_in_line());
        wake
    }

    /// Forgets a tenant that is gone.
    pub fn forget_tenant(&self, namespace: &str) {
        self.state().line.forget(namespace);
    }

    /// Removes a deleted run. Returns the runs to wake.
    pub fn remove(&self, run: &OperationRun, tenant_exists: bool) -> Vec<Name<OperationRun>> {
        let Some(entry) = entry(run) else { return Vec::new() };
        let mut state = self.state();
        if !tenant_exists {
            // The watch of runs may have been behind the watch of namespaces.
            state.line.forget(&entry.namespace);
        }
        let mut emptied = false;
        let key = entry.counted_as();
        if let Some(group) = state.completed.get_mut(&key) {
            group.retain(|ended| *ended.name != *entry.name);
            emptied = group.is_empty();
        }
        if emptied {
            state.completed.remove(&key);
        }
        let mut wake = state.close(&entry.uid);
        wake.extend(state.oldest(&key));
        wake
    }

    /// Records the identity of a run as soon as it is known.
    pub fn identify(&self, uid: &str, identity: &str) {
        let mut state = self.state();
        if state.open.get(uid).is_some_and(|entry| entry.identity.as_deref() != Some(identity))
            && let Some(entry) = state.take(uid)
        {
            state.put(Entry { identity: Some(identity.to_owned()), ..entry });
        }
    }

    /// Runs that are not completed and whose Job has, or would have, this name.
    pub fn by_job_name(&self, namespace: &str, job_name: &str) -> Vec<Name<OperationRun>> {
        let Some(name) = job_name.strip_prefix("op-") else { return Vec::new() };
        // A suffix says which work it is (`api/identity.rs`).
        let digits = name.split('-').next().unwrap_or(name);
        let state = self.state();
        state.of_job(digits).filter(|entry| entry.namespace == namespace).map(Entry::reference).collect()
    }

    /// Runs of a type that are not completed.
    pub fn by_type(&self, operation_type: &str) -> Vec<Name<OperationRun>> {
        self.state()
            .open
            .values()
            .filter(|entry| entry.operation_type == operation_type)
            .map(Entry::reference)
            .collect()
    }

    /// Runs of a tenant that are not completed.
    pub fn by_namespace(&self, namespace: &str) -> Vec<Name<OperationRun>> {
        let state = self.state();
        let of_tenant = state.by_tenant.get(namespace).into_iter().flatten();
        of_tenant.filter_map(|turn| state.open.get(&turn.uid)).map(Entry::reference).collect()
    }

    /// Number of runs of the same tenant that are not completed and have started, or are older; at
    /// most `most`, so that a tenant with many runs costs no more than its quota. Creation times are
    /// whole seconds, so that a run which has started may seem to be younger.
    pub fn ahead_in_tenant(&self, uid: &str, most: usize) -> usize {
        let state = self.state();
        let Some(own) = state.open.get(uid) else { return 0 };
        let of_tenant = state.by_tenant.get(&own.namespace);
        of_tenant.map_or(0, |runs| runs.range(..own.turn()).take(most).count())
    }

    /// When the last run of a tenant and type completed that did all of its work, or a part of it.
    pub fn last_good(&self, namespace: &str, operation_type: &str) -> Option<Timestamp> {
        let state = self.state();
        let completed = state.completed.get(&(namespace.to_owned(), operation_type.to_owned()))?;
        let is_good = |ended: &&Ended| matches!(ended.outcome, Outcome::Succeeded | Outcome::PartiallySucceeded);
        completed.iter().filter(is_good).map(|ended| ended.at).max()
    }

    /// Number of runs of a tenant that are not completed.
    pub fn open_in_tenant(&self, namespace: &str) -> usize {
        self.state().by_tenant.get(namespace).map_or(0, BTreeSet::len)
    }

    /// Older runs of the same identity that are not completed and do not wait for another run's
    /// end. A run whose winner is gone or completed counts even if its status does not say so yet:
    /// otherwise a younger run whose status was written first would start before it.
    pub fn older(&self, uid: &str, identity: &str) -> Vec<Sibling> {
        let state = self.state();
        let Some(own) = state.open.get(uid) else { return Vec::new() };
        let mut older: Vec<_> = state
            .of_job(job_digits(identity))
            .filter(|entry| {
                entry.namespace == own.namespace
                    && entry.identity.as_deref() == Some(identity)
                    && entry.age() < own.age()
                    && entry.status.joined.as_ref().is_none_or(|winner| !state.open.contains_key(winner))
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

    /// Takes a slot, if one is still free. The slot is returned by [`Registry::release`], or when
    /// the run is seen with its Job.
    pub fn claim(&self, uid: &str, limits: &Limits) -> bool {
        let mut state = self.state();
        let free = state.slot(uid, limits) == Slot::Free;
        if free {
            state.claim(uid);
        }
        free
    }

    /// Returns a slot.
    pub fn release(&self, uid: &str) {
        self.state().unclaim(uid);
    }

    /// Records whether a run queues for a slot. If it no longer does, returns the runs to wake.
    pub fn stand_in_line(&self, uid: &str, stands: bool) -> Vec<Name<OperationRun>> {
        let mut state = self.state();
        if stands && state.open.contains_key(uid) {
            state.in_line.insert(uid.to_owned());
            state.stand(uid);
            return Vec::new();
        }
        state.in_line.remove(uid);
        // The runs behind it were refused a slot because this run goes first.
        if state.line.leave(uid) { state.next_in_line() } else { Vec::new() }
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

    /// Whether runs have joined this one and not copied its end yet. If the run were deleted before
    /// that, its work would be done again.
    pub fn is_awaited(&self, uid: &str) -> bool {
        self.state().joiners.contains_key(uid)
    }

    /// Whether newer completed runs of the same tenant and type fill the limit. The newest run of
    /// each outcome is kept.
    pub fn beyond_history(&self, namespace: &str, operation_type: &str, name: &str, limit: usize) -> bool {
        let state = self.state();
        let Some(group) = state.completed.get(&(namespace.to_owned(), operation_type.to_owned())) else { return false };
        if group.len() <= limit {
            return false;
        }
        let Some(own) = group.iter().find(|ended| &*ended.name == name) else { return false };
        let mut newer = group.range((std::ops::Bound::Excluded(own), std::ops::Bound::Unbounded));
        let same_outcome = newer.clone().any(|ended| ended.outcome == own.outcome);
        same_outcome && newer.nth(limit.saturating_sub(1)).is_some()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // After a panic elsewhere, these plain maps are still usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Removes a run from the open ones. Returns the runs to wake.
    fn close(&mut self, uid: &str) -> Vec<Name<OperationRun>> {
        let mut wake = self.siblings_of(uid);
        self.unclaim(uid);
        self.in_line.remove(uid);
        self.seen.remove(uid);
        if self.take(uid).is_some() {
            wake.extend(self.next_in_line());
        }
        wake
    }

    /// The oldest completed run of each outcome, of one tenant and type. These runs are the first
    /// to exceed the history limit, except those that are the last of their outcome.
    fn oldest(&self, key: &(String, String)) -> Vec<Name<OperationRun>> {
        let mut seen = BTreeSet::new();
        let group = self.completed.get(key).into_iter().flatten();
        let oldest = group.filter(|ended| seen.insert(ended.outcome));
        oldest.map(|ended| Name::new(&key.0, &ended.name)).collect()
    }

    fn siblings_of(&self, uid: &str) -> Vec<Name<OperationRun>> {
        let Some(own) = self.open.get(uid) else { return Vec::new() };
        let joiners = self.joiners.get(uid).into_iter().flatten().filter_map(|uid| self.open.get(uid));
        let same = own.identity.as_deref().into_iter().flat_map(|identity| self.of_job(job_digits(identity)));
        let same = same.filter(|entry| {
            entry.namespace == own.namespace
                && entry.identity == own.identity
                // Already in `joiners`.
                && entry.status.joined.as_deref() != Some(uid)
        });
        joiners.chain(same).filter(|entry| entry.uid != own.uid).map(Entry::reference).collect()
    }

    /// Open runs whose Job has, or would have, these digits in its name.
    fn of_job(&self, digits: &str) -> impl Iterator<Item = &Entry> {
        self.same.get(digits).into_iter().flatten().filter_map(|uid| self.open.get(uid))
    }

    /// Adds an open run, and counts it everywhere.
    fn put(&mut self, entry: Entry) {
        if let Some(identity) = &entry.identity {
            self.same.entry(job_digits(identity).to_owned()).or_default().insert(entry.uid.clone());
        }
        if let Some(joined) = &entry.status.joined {
            self.joiners.entry(joined.clone()).or_default().insert(entry.uid.clone());
        }
        if self.is_active(&entry) {
            self.line.begin(&entry.namespace, &entry.operation_type);
        }
        let uid = entry.uid.clone();
        self.by_tenant.entry(entry.namespace.clone()).or_default().insert(entry.turn());
        self.open.insert(uid.clone(), entry);
        self.stand(&uid);
    }

    /// Removes an open run, and stops counting it.
    fn take(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.open.remove(uid)?;
        if let Some(of_tenant) = self.by_tenant.get_mut(&entry.namespace) {
            of_tenant.remove(&entry.turn());
            if of_tenant.is_empty() {
                self.by_tenant.remove(&entry.namespace);
            }
        }
        if let Some(identity) = &entry.identity {
            forget(&mut self.same, job_digits(identity), uid);
        }
        if let Some(joined) = &entry.status.joined {
            forget(&mut self.joiners, joined, uid);
        }
        if self.is_active(&entry) {
            self.line.end(&entry.namespace, &entry.operation_type);
        }
        self.line.leave(uid);
        Some(entry)
    }

    fn is_active(&self, entry: &Entry) -> bool {
        entry.status.job.is_some() || self.claimed.contains(&entry.uid)
    }

    /// Queues a run that is to wait for a slot.
    fn stand(&mut self, uid: &str) {
        let Some(entry) = self.open.get(uid).filter(|entry| self.in_line.contains(uid) && !entry.leaving) else {
            return;
        };
        if !self.is_active(entry) {
            self.line.stand(entry.waiter());
        }
    }

    fn claim(&mut self, uid: &str) {
        let entry = self.take(uid);
        self.claimed.insert(uid.to_owned());
        if let Some(entry) = entry {
            self.line.start(&entry.namespace);
            self.put(entry);
        }
    }

    fn unclaim(&mut self, uid: &str) {
        if self.claimed.contains(uid) {
            let entry = self.take(uid);
            self.claimed.remove(uid);
            if let Some(entry) = entry {
                self.put(entry);
            }
        }
    }

    /// The runs that take the free slots.
    fn next_in_line(&mut self) -> Vec<Name<OperationRun>> {
        let turns = self.line.turns();
        turns.iter().filter_map(|waiter| self.open.get(&waiter.uid)).map(Entry::reference).collect()
    }

    fn slot(&mut self, uid: &str, limits: &Limits) -> Slot {
        let Some(own) = self.open.get(uid) else { return Slot::Free };
        if *limits == Limits::default() || self.claimed.contains(uid) {
            return Slot::Free;
        }
        let waiter = own.waiter();
        self.line.limit(&waiter.operation_type, *limits);
        match self.line.held_by(&waiter) {
            None => Slot::Free,
            Some(Held { limit, others }) => Slot::Waiting { limit, others },
        }
    }
}

/// The part of an identity that is in the name of its Job.
fn job_digits(identity: &str) -> &str {
    identity.get(..JOB_NAME_DIGITS).unwrap_or(identity)
}

fn forget(index: &mut HashMap<String, HashSet<String>>, key: &str, uid: &str) {
    if let Some(uids) = index.get_mut(key) {
        uids.remove(uid);
        if uids.is_empty() {
            index.remove(key);
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
    Ended {
        at: status.completed_at.unwrap_or(entry.created),
        name: entry.name.as_str().into(),
        outcome: status.outcome,
    }
}

#[cfg(test)]
mod tests;
