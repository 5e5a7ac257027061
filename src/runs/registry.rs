//! Who is active, who waits, who is the same work: an index over runs, kept from their watch.
//!
//! It decides nothing that must be right: what it does not know yet, the API server refuses (the Job's name). Limits
//! alone rest on it, and they are exceeded for a moment at worst when two leaders overlap.

use super::{
    fairness::{Held, Limits, Line, Waiter},
    observed::{Sibling, Slot},
};
use crate::api::{OperationRun, Outcome, Phase, identity::JOB_NAME_DIGITS, operation_run::OperationRunStatus};
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
    /// Their uids by identity: with thousands open, nothing may look through all of them at every event.
    same: HashMap<String, HashSet<String>>,
    /// The uids of those that joined a run, by its uid.
    joiners: HashMap<String, HashSet<String>>,
    /// Who of them is active, and who is next.
    line: Line,
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
    /// Takes a run as it is now; the runs to look at because of it.
    pub fn apply(&self, run: &OperationRun) -> Vec<ObjectRef<OperationRun>> {
        let Some(entry) = entry(run) else { return Vec::new() };
        let mut state = self.state();
        let status = run.status_or_default();
        // One that joined another has its end and took no slot.
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

    /// Forgets a deleted run; the runs to look at because of it.
    pub fn remove(&self, run: &OperationRun, tenant_exists: bool) -> Vec<ObjectRef<OperationRun>> {
        let Some(entry) = entry(run) else { return Vec::new() };
        let mut state = self.state();
        if !tenant_exists {
            // The watch of runs may have been behind that of namespaces.
            state.line.forget(&entry.namespace);
        }
        let mut emptied = false;
        let key = entry.counted_as();
        if let Some(group) = state.completed.get_mut(&key) {
            group.retain(|ended| ended.uid != entry.uid);
            emptied = group.is_empty();
        }
        if emptied {
            state.completed.remove(&key);
        }
        let mut wake = state.close(&entry.uid);
        wake.extend(state.oldest(&key));
        wake
    }

    /// Notes a run's identity as soon as it is known.
    pub fn identify(&self, uid: &str, identity: &str) {
        let mut state = self.state();
        if state.open.get(uid).is_some_and(|entry| entry.identity.as_deref() != Some(identity))
            && let Some(entry) = state.take(uid)
        {
            state.put(Entry { identity: Some(identity.to_owned()), ..entry });
        }
    }

    /// Runs that are not completed and whose Job bears, or would bear, this name.
    pub fn by_job_name(&self, namespace: &str, job_name: &str) -> Vec<ObjectRef<OperationRun>> {
        let Some(name) = job_name.strip_prefix("op-") else { return Vec::new() };
        // What may follow says which work it is (`api/identity.rs`).
        let digits = name.split('-').next().unwrap_or(name);
        let state = self.state();
        state.of_job(digits).filter(|entry| entry.namespace == namespace).map(Entry::reference).collect()
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

    /// Older runs of the same identity that are not completed and wait for no other's end. One whose winner is gone or
    /// completed counts, though its status does not say so yet: else a younger one whose own status was written first
    /// would start before it.
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

    /// Takes a slot, if there still is one; given back by [`Registry::release`], or when the run is seen with its Job.
    pub fn claim(&self, uid: &str, limits: &Limits) -> bool {
        let mut state = self.state();
        let free = state.slot(uid, limits) == Slot::Free;
        if free {
            state.claim(uid);
        }
        free
    }

    /// Gives a slot back.
    pub fn release(&self, uid: &str) {
        self.state().unclaim(uid);
    }

    /// Notes whether a run stands in line; the runs to look at because it does not any more.
    pub fn stand_in_line(&self, uid: &str, stands: bool) -> Vec<ObjectRef<OperationRun>> {
        let mut state = self.state();
        if stands && state.open.contains_key(uid) {
            state.in_line.insert(uid.to_owned());
            state.stand(uid);
            return Vec::new();
        }
        state.in_line.remove(uid);
        // Those behind it were told that it goes first.
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

    /// Whether runs have joined this one and not copied its end yet: gone before that, its work would be done again.
    pub fn is_awaited(&self, uid: &str) -> bool {
        self.state().joiners.contains_key(uid)
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
        self.unclaim(uid);
        self.in_line.remove(uid);
        self.seen.remove(uid);
        if self.take(uid).is_some() {
            wake.extend(self.next_in_line());
        }
        wake
    }

    /// The oldest completed runs of a tenant and type, one for each outcome: those of them that are not the last of their
    /// outcome are the first to be beyond the history limit.
    fn oldest(&self, key: &(String, String)) -> Vec<ObjectRef<OperationRun>> {
        let mut seen = BTreeSet::new();
        let group = self.completed.get(key).into_iter().flatten();
        let oldest = group.filter(|ended| seen.insert(ended.outcome));
        oldest.map(|ended| ObjectRef::new(&ended.name).within(&key.0)).collect()
    }

    fn siblings_of(&self, uid: &str) -> Vec<ObjectRef<OperationRun>> {
        let Some(own) = self.open.get(uid) else { return Vec::new() };
        let joiners = self.joiners.get(uid).into_iter().flatten().filter_map(|uid| self.open.get(uid));
        let same = own.identity.as_deref().into_iter().flat_map(|identity| self.of_job(job_digits(identity)));
        let same = same.filter(|entry| {
            entry.namespace == own.namespace
                && entry.identity == own.identity
                // Named above.
                && entry.status.joined.as_deref() != Some(uid)
        });
        joiners.chain(same).filter(|entry| entry.uid != own.uid).map(Entry::reference).collect()
    }

    /// Open runs whose Job bears, or would bear, these digits in its name.
    fn of_job(&self, digits: &str) -> impl Iterator<Item = &Entry> {
        self.same.get(digits).into_iter().flatten().filter_map(|uid| self.open.get(uid))
    }

    /// Adds an open run, and to all that is counted of it.
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
        self.open.insert(uid.clone(), entry);
        self.stand(&uid);
    }

    /// Takes an open run out, and from all that is counted of it.
    fn take(&mut self, uid: &str) -> Option<Entry> {
        let entry = self.open.remove(uid)?;
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

    /// Puts a run in line that is to stand there.
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

    /// Those who take the slots that are free.
    fn next_in_line(&mut self) -> Vec<ObjectRef<OperationRun>> {
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
        match self.line.may_start(&waiter) {
            Ok(()) => Slot::Free,
            Err(Held { limit, ahead }) => Slot::Waiting { limit, ahead },
        }
    }
}

/// The part of an identity that its Job's name bears.
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
    let outcome: Outcome = status.outcome;
    Ended {
        at: status.completed_at.unwrap_or(entry.created),
        uid: entry.uid.clone(),
        name: entry.name.clone(),
        outcome: outcome.as_str(),
    }
}

#[cfg(test)]
mod tests;
