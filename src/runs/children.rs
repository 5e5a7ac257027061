//! Index over what workspace runs have created: runs, bulk operations and restores. It is maintained
//! from the watches of these, with one entry for each tenant, so that a pass over ten thousand of them
//! parses none.
//!
//! An entry is of the workspace run whose uid the object names in `spec.scheduledBy`, a field that only
//! the operator writes. No label counts.

use super::scheduled::{Scheduled, counted_as, parent};
use crate::api::{
    ObjectReference, Outcome, Phase, WorkspaceRun, WorkspaceRunStatus, outcome::SummaryCounts, provenance::PlanSummary,
    workspace_run::BulkTemplate,
};
use jiff::Timestamp;
use kube::ResourceExt;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The index.
#[derive(Default)]
pub struct Children {
    /// By uid of a workspace run, what it has created, by namespace.
    runs: Mutex<HashMap<String, BTreeMap<String, Child>>>,
    /// By uid, the workspace runs that are not completed.
    open: Mutex<HashMap<String, Open>>,
    /// Uids of completed workspace runs that can be applied or undone. One that completes is added here
    /// before it leaves `open`, so a reader looks into `open` first.
    kept: Mutex<HashSet<String>>,
}

/// What others need to know of a workspace run that is not completed.
#[derive(Debug)]
struct Open {
    name: String,
    created: Option<Timestamp>,
    started: bool,
    /// Digest of what it does.
    work: [u8; 32],
    /// Uids of those that it repeats, applies or undoes.
    others: Vec<String>,
}

/// A digest of what a workspace run does: where, what, and in which tenants.
fn work(run: &WorkspaceRun) -> [u8; 32] {
    let spec = &run.spec;
    // The API server writes the fields of inputs in one order.
    // How fast it goes, and what is expected of a preview, is no other work.
    let pace = |bulk: &BulkTemplate| BulkTemplate { parallelism: 0, stop_after_failures: None, ..bulk.clone() };
    let preview = spec.preview.as_ref().map(|preview| &preview.name);
    let what = (&spec.operation, spec.bulk.as_ref().map(pace), &spec.restore, &spec.undo_of, spec.dry_run, preview);
    let whole = (&spec.workspace, what, &spec.tenant_selector, &spec.rerun_of);
    Sha256::digest(serde_json::to_vec(&whole).unwrap_or_default()).into()
}

/// What is known of the run, bulk operation or restore of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// The run.
    pub run: ObjectReference,
    /// Its phase.
    pub phase: Phase,
    /// Its outcome.
    pub outcome: Outcome,
    /// Whether it is being cancelled.
    pub cancelled: bool,
    /// The reason of its status.
    pub reason: Option<String>,
    /// Its counts, if it is completed.
    pub counts: Option<SummaryCounts>,
    /// Of a completed bulk operation or restore.
    pub detail: Option<Box<Detail>>,
}

/// What a workspace run that applies or undoes another one needs to know of a tenant's bulk operation
/// or restore.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Digest of its plan.
    pub plan_digest: Option<String>,
    /// What it would do, if it was a dry run that made a plan.
    pub preview: Option<PlanSummary>,
    /// Backup set of what it changed or deleted.
    pub undo: Option<String>,
    /// Backup set that it restores from.
    pub backup_set: Option<String>,
}

impl Child {
    /// Digest of the plan that it showed, if it was a dry run whose plan can be applied.
    #[must_use]
    pub fn shown(&self) -> Option<&str> {
        let made = matches!(self.outcome, Outcome::Succeeded | Outcome::PartiallySucceeded);
        let detail = self.detail.as_ref().filter(|detail| made && detail.preview.is_some())?;
        detail.plan_digest.as_deref()
    }

    /// Backup set of what it changed or deleted.
    #[must_use]
    pub fn undo(&self) -> Option<&str> {
        self.detail.as_ref()?.undo.as_deref()
    }
}

impl Children {
    /// Updates the index with an object. Returns the name of its workspace run, if it is completed.
    pub fn apply<K: Scheduled>(&self, object: &K) -> Option<String> {
        let (by, namespace) = (parent(object)?, object.namespace()?);
        let child = counted_as(object);
        let completed = child.phase == Phase::Completed;
        let mut state = self.state();
        let of_parent = state.entry(by.uid.clone()).or_default();
        // The answer to our own create may come after the watch has reported how the run went on.
        let is_newer = |known: &Child| known.run.uid == child.run.uid && known.phase > child.phase;
        if !of_parent.get(&namespace).is_some_and(is_newer) {
            of_parent.insert(namespace, child);
        }
        completed.then(|| by.name.clone())
    }

    /// Removes a deleted object. Returns the name of its workspace run.
    pub fn remove<K: Scheduled>(&self, object: &K) -> Option<String> {
        let (by, namespace) = (parent(object)?, object.namespace()?);
        let name = Some(by.name.clone());
        let mut state = self.state();
        let Some(of_parent) = state.get_mut(&by.uid) else { return name };
        // One of another name may have taken its place.
        if of_parent.get(&namespace).is_some_and(|child| Some(&child.run.uid) == object.meta().uid.as_ref()) {
            of_parent.remove(&namespace);
        }
        if of_parent.is_empty() {
            state.remove(&by.uid);
        }
        name
    }

    /// Records whether a workspace run counts what it has created: until it is completed, and as long
    /// as it exists if its bulk operations or restores can be applied or undone.
    pub fn open(&self, run: &WorkspaceRun) {
        let Some(uid) = run.uid() else { return };
        let mut open = lock(&self.open);
        if run.is_completed() {
            if can_be_source(run) {
                lock(&self.kept).insert(uid.clone());
            }
            open.remove(&uid);
        } else {
            let status = run.status.as_ref();
            let entry = Open {
                name: run.name_any(),
                created: run.metadata.creation_timestamp.as_ref().map(|time| time.0),
                started: status.is_some_and(|status| status.started_at.is_some()),
                work: work(run),
                others: status.map(others).unwrap_or_default(),
            };
            open.insert(uid, entry);
        }
    }

    /// Forgets a deleted workspace run.
    pub fn close(&self, run: &WorkspaceRun) {
        let uid = run.uid().unwrap_or_default();
        lock(&self.kept).remove(&uid);
        lock(&self.open).remove(&uid);
    }

    /// Whether a workspace run of this uid is not completed.
    pub fn is_open(&self, uid: &str) -> bool {
        lock(&self.open).contains_key(uid)
    }

    /// Whether what a workspace run created is still counted: by itself, or by one that repeats,
    /// applies or undoes it.
    pub fn are_counted(&self, uid: &str) -> bool {
        let is_open = |open: &HashMap<String, Open>| {
            open.contains_key(uid) || open.values().any(|open| open.others.iter().any(|other| other == uid))
        };
        is_open(&lock(&self.open)) || lock(&self.kept).contains(uid)
    }

    /// Another workspace run that does the same work, is not completed, and has started or is older.
    pub fn duplicate_of(&self, run: &WorkspaceRun) -> Option<String> {
        let (own, work) = (run.uid().unwrap_or_default(), work(run));
        let age = (run.metadata.creation_timestamp.as_ref().map(|time| time.0), own.as_str());
        let runs = self.state();
        let open = lock(&self.open);
        let first = open.iter().find(|(uid, other)| {
            // What it has created is known before its status is.
            let goes_first = other.started || runs.contains_key(*uid) || (other.created, uid.as_str()) < age;
            **uid != own && other.work == work && goes_first
        });
        first.map(|(_, other)| other.name.clone())
    }

    /// What a workspace run has created, by namespace.
    pub fn of(&self, uid: &str) -> BTreeMap<String, Child> {
        self.state().get(uid).cloned().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, HashMap<String, BTreeMap<String, Child>>> {
        lock(&self.runs)
    }
}

/// Whether a completed workspace run showed plans that can be applied, or left something to undo.
fn can_be_source(run: &WorkspaceRun) -> bool {
    let status = run.status.as_ref();
    status.is_some_and(|status| (run.spec.dry_run && status.plan_digest.is_some()) || status.undo_tenants > 0)
}

/// Uids of the workspace runs on whose objects one depends.
fn others(status: &WorkspaceRunStatus) -> Vec<String> {
    let source = status.source.as_ref().map(|source| source.uid.clone());
    status.repeats.iter().cloned().chain(source).collect()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // After a panic elsewhere, these plain maps are still usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::OperationRun;
    use serde_json::{Value, json};

    fn run(namespace: &str, uid: &str, by: &Value, status: &Value) -> OperationRun {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {"name": "all-1", "namespace": namespace, "uid": uid, "labels": {"tenantatlas.io/workspace": "w"}},
            "spec": {"type": "backup.capture", "scheduledBy": by}, "status": status,
        }))
        .expect("a run")
    }

    #[test]
    fn a_run_is_of_the_workspace_run_whose_uid_it_names_until_that_very_run_is_deleted() {
        let index = Children::default();
        let by = |kind: &str| json!({"kind": kind, "name": "all", "uid": "parent"});
        let going = json!({"phase": "running", "outcome": "pending", "reason": "Running"});
        index.apply(&run("acme", "one", &by("WorkspaceRun"), &going));
        index.apply(&run("other", "two", &by("BackupSchedule"), &going));
        index.apply(&run("third", "three", &json!(null), &going));
        let of = index.of("parent");
        assert_eq!(of.keys().collect::<Vec<_>>(), ["acme"]);
        assert_eq!((of["acme"].phase, of["acme"].reason.as_deref()), (Phase::Running, None));
        let done = json!({"phase": "completed", "outcome": "failed", "reason": "JobFailed",
            "summaryCounts": {"total": 2, "processed": 2, "succeeded": 1, "failed": 1, "skipped": 0}});
        index.apply(&run("acme", "one", &by("WorkspaceRun"), &done));
        let child = index.of("parent")["acme"].clone();
        assert_eq!((child.outcome, child.reason.as_deref()), (Outcome::Failed, Some("JobFailed")));
        assert_eq!(child.counts.map(|counts| counts.failed), Some(1));
        index.apply(&run("acme", "one", &by("WorkspaceRun"), &going));
        assert_eq!(index.of("parent")["acme"], child, "an answer that comes late");
        index.remove(&run("acme", "another", &by("WorkspaceRun"), &done));
        assert_eq!(index.of("parent").len(), 1);
        index.remove(&run("acme", "one", &by("WorkspaceRun"), &done));
        assert!(index.of("parent").is_empty() && index.state().is_empty());
    }

    #[test]
    fn runs_are_counted_until_their_workspace_run_and_those_that_repeat_it_are_completed() {
        let index = Children::default();
        let workspace_run = |uid: &str, phase: &str, repeats: &[&str]| -> WorkspaceRun {
            serde_json::from_value(json!({
                "apiVersion": "tenantatlas.io/v1alpha1", "kind": "WorkspaceRun", "metadata": {"name": uid, "uid": uid},
                "spec": {"workspace": {"name": "shop"}, "operation": {"type": "t"}},
                "status": {"phase": phase, "repeats": repeats},
            }))
            .expect("a workspace run")
        };
        index.open(&workspace_run("first", "running", &[]));
        assert!(index.is_open("first") && index.are_counted("first"));
        index.open(&workspace_run("first", "completed", &[]));
        assert!(!index.is_open("first") && !index.are_counted("first"));
        index.open(&workspace_run("third", "running", &["second", "first"]));
        assert!(!index.is_open("first") && index.are_counted("first") && index.are_counted("second"));
        assert_eq!(index.duplicate_of(&workspace_run("third", "queued", &[])), None, "it is itself");
        assert_eq!(index.duplicate_of(&workspace_run("zone", "queued", &[])).as_deref(), Some("third"), "it is older");
        assert_eq!(index.duplicate_of(&workspace_run("a", "queued", &[])), None);
        let mut other = workspace_run("zone", "queued", &[]);
        other.spec.tenant_selector = Some("a=b".to_owned());
        assert_eq!(index.duplicate_of(&other), None, "it does something else");
        // What can be applied or undone counts as long as the workspace run exists.
        let ended = |dry_run: bool, status: Value| {
            let mut look = workspace_run("look", "completed", &[]);
            (look.spec.operation, look.spec.bulk) = (None, Some(BulkTemplate::default()));
            look.spec.dry_run = dry_run;
            look.status = serde_json::from_value(status).expect("a status");
            index.open(&look);
            let counted = index.are_counted("look");
            assert!(!index.is_open("look"));
            index.close(&look);
            assert!(!index.are_counted("look"));
            counted
        };
        assert!(ended(true, json!({"phase": "completed", "planDigest": "d"})));
        assert!(ended(false, json!({"phase": "completed", "undoTenants": 1})));
        assert!(!ended(true, json!({"phase": "completed"})), "it made no plan");
        assert!(!ended(false, json!({"phase": "completed", "planDigest": "d"})), "it is applied");
        // Another pace is the same work.
        let paced = |parallelism: i32| {
            let mut run = workspace_run("pace", "queued", &[]);
            let bulk = BulkTemplate { parallelism, ..BulkTemplate::default() };
            (run.spec.operation, run.spec.bulk) = (None, Some(bulk));
            run
        };
        assert_eq!(work(&paced(1)), work(&paced(2)));
        index.close(&workspace_run("third", "running", &[]));
        assert!(!index.are_counted("first") && lock(&index.open).is_empty());
    }
}
