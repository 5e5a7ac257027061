//! What is the same for the kinds of which each object has one run that carries it out: how that run
//! is created, found and cancelled, and what its workers wrote to the audit chain.

use crate::{
    api::{
        AuditEntry, BackupSet, ObjectReference, OperationRun, Reason,
        audit_entry::{AuditEvent, AuditRecord},
        backup_set::names_for,
        labels,
        provenance::AuditReferences,
    },
    kernel::{
        Error,
        refusal::{CreateFailure, Refusal},
    },
    runs::{
        context::Context,
        is_whole,
        records::backup_set::{is_settled, settle_new},
    },
};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// The run of an object.
#[derive(Clone, Debug)]
pub enum RunView {
    /// No run was created yet. Holds the name that is free.
    None(String),
    /// The run exists, and was read in full.
    Found(Box<OperationRun>),
    /// The run was created, and is gone.
    Gone,
    /// No run was created, and none can be: runs that are not the object's own have all the names
    /// that its run may have.
    Taken,
}

/// The run of an object: the recorded one, or one that was created before a crash. `names` are those
/// that it may have, and `is_of` tells whether a run of such a name is the object's own.
pub async fn run(
    context: &Context,
    namespace: &str,
    recorded: Option<ObjectReference>,
    names: [String; 2],
    is_of: impl Fn(&OperationRun) -> bool,
) -> Result<RunView, Error> {
    let runs: Api<OperationRun> = Api::namespaced(context.client.clone(), namespace);
    if let Some(ObjectReference { name, uid }) = recorded {
        let is_it = |run: &OperationRun| run.uid().as_deref() == Some(uid.as_str());
        if let Some(run) = context.runs.get(namespace, &name).filter(|run| is_it(run) && is_whole(run)) {
            return Ok(RunView::Found(Box::new((*run).clone())));
        }
        let found = runs.get_opt(&name).await?.filter(is_it);
        return Ok(found.map_or(RunView::Gone, |run| RunView::Found(Box::new(run))));
    }
    for name in &names {
        match context.runs.get(namespace, name) {
            None => return Ok(RunView::None(name.clone())),
            Some(run) if is_of(&run) => return Ok(RunView::Found(Box::new((*run).clone()))),
            // A run that is not the object's own has this name.
            Some(run) if is_whole(&run) => {}
            Some(_) => match runs.get_opt(name).await? {
                None => return Ok(RunView::None(name.clone())),
                Some(run) if is_of(&run) => return Ok(RunView::Found(Box::new(run))),
                Some(_) => {}
            },
        }
    }
    // "Taken" is final, and the cache may still show a run that is gone, so the API server is
    // asked.
    for name in names {
        match runs.get_opt(&name).await? {
            None => return Ok(RunView::None(name)),
            Some(run) if is_of(&run) => return Ok(RunView::Found(Box::new(run))),
            Some(_) => {}
        }
    }
    Ok(RunView::Taken)
}

/// What became of the creation of a run.
pub enum Creation {
    /// The run exists.
    Created(Box<OperationRun>),
    /// The API server refuses it until a user changes something.
    Refused(Refusal),
    /// The namespace is terminating or gone.
    Terminating,
}

/// Creates the run of an object. After a crash, the run is recognized by what it was created for. The
/// name rules out a second run. `kind` is the word for the object in messages.
pub async fn create(context: &Context, namespace: &str, run: &OperationRun, kind: &str) -> Result<Creation, Error> {
    let runs: Api<OperationRun> = Api::namespaced(context.client.clone(), namespace);
    let error = match runs.create(&PostParams::default(), run).await {
        Ok(run) => {
            context.wrote(run.clone());
            return Ok(Creation::Created(Box::new(run)));
        }
        Err(error) => error,
    };
    match CreateFailure::of(&error) {
        // Ours from before a crash, or not ours: the next reconcile knows, once the watch has
        // reported the run.
        CreateFailure::Taken => Err(Error::Again("a run of this name exists")),
        CreateFailure::NamespaceTerminating => Ok(Creation::Terminating),
        CreateFailure::OverQuota(says) => Ok(Creation::Refused(over_quota::<OperationRun>(&says, namespace, kind))),
        CreateFailure::Refused(says) => Ok(Creation::Refused(run_refused::<OperationRun>(&says, kind))),
        CreateFailure::Fault => Err(error.into()),
    }
}

/// Why a quota rejects the run, or another object that does the work, as a message for the object of the
/// kind in words.
#[must_use]
pub fn over_quota<K: Resource<DynamicType = ()>>(says: &str, namespace: &str, kind: &str) -> Refusal {
    Refusal::new(
        Reason::QuotaExceeded,
        format!(
            "a quota refuses the {} that would do the work: {says}; free some with `kubectl get {} -n {namespace}`, or ask for more, then create a new {kind}",
            K::kind(&()),
            K::plural(&())
        ),
    )
}

/// Why the API server rejects it for other reasons, likewise.
#[must_use]
pub fn run_refused<K: Resource<DynamicType = ()>>(says: &str, kind: &str) -> Refusal {
    Refusal::new(
        Reason::RunRefused,
        format!(
            "the API server refuses the {} that would do the work: {says}; fix what refuses it, then create a new {kind}",
            K::kind(&())
        ),
    )
}

/// Cancels a run. If it has completed or is gone since, its end is what counts.
pub async fn cancel(context: &Context, namespace: &str, run: &ObjectReference) -> Result<(), Error> {
    cancel_object::<OperationRun>(context, namespace, run, |run| context.wrote(run)).await
}

/// Cancels an object that has a `spec.cancel`, in the same way.
pub async fn cancel_object<K>(
    context: &Context,
    namespace: &str,
    object: &ObjectReference,
    wrote: impl FnOnce(K),
) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(context.client.clone(), namespace);
    let body = json!({ "metadata": { "uid": object.uid }, "spec": { "cancel": true } });
    match objects.patch(&object.name, &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(object) => wrote(object),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_invalid() => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// The set that undoes what the run of an object did. It has the name of the run.
pub async fn undo(
    context: &Context,
    namespace: &str,
    run: &RunView,
    recorded: Option<&ObjectReference>,
) -> Result<Option<BackupSet>, Error> {
    let Some(ObjectReference { name, uid }) = reference(run, recorded) else { return Ok(None) };
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), namespace);
    for name in names_for(&name, &uid) {
        if let Some(set) = sets.get_opt(&name).await?.filter(|set| set.spec.run.uid == uid) {
            return Ok(Some(set));
        }
    }
    Ok(None)
}

/// A set that a worker created to undo its work, and whose run could no longer report it: without a
/// status, the set looks unfinished.
#[must_use]
pub fn unsettled(undo: Option<&BackupSet>) -> Option<Box<BackupSet>> {
    undo.filter(|set| !is_settled(set)).map(|set| Box::new(set.clone()))
}

/// Reports that such a set can be used.
pub async fn settle_undo(context: &Context, set: &BackupSet) -> Result<(), Error> {
    let message = "the snapshot was read back after it was written, before anything else was";
    settle_new(context, set, set.status.clone().unwrap_or_default(), "ReadBack", message).await
}

/// Reference to the run of an object, or to the recorded run that it had.
#[must_use]
pub fn reference(run: &RunView, recorded: Option<&ObjectReference>) -> Option<ObjectReference> {
    match run {
        RunView::Found(run) => Some(ObjectReference::of(&**run)),
        _ => recorded.cloned(),
    }
}

/// What the workers of a run wrote to the audit chain, in the order of the chain, unless the run
/// itself references it.
pub async fn audit(
    context: &Context,
    namespace: &str,
    run: &RunView,
    recorded: Option<&ObjectReference>,
) -> Result<Vec<AuditRecord>, Error> {
    let told = matches!(run, RunView::Found(run) if run.status_or_default().context.audit.is_some());
    let Some(ObjectReference { uid, .. }) = reference(run, recorded).filter(|_| !told) else { return Ok(Vec::new()) };
    let entries: Api<AuditEntry> = Api::namespaced(context.client.clone(), namespace);
    let of_run = ListParams::default().labels(&format!("{}={uid}", labels::RUN_UID));
    // Entries of others may have this label, too. The entry's pod, which the API server vouches
    // for, distinguishes them.
    let job = match run {
        RunView::Found(run) => run.status_or_default().job.map(|job| format!("{}-", job.name)),
        _ => None,
    };
    let told = |entry: AuditEntry| {
        let record = entry.spec.record()?;
        let of_job = job.as_deref().is_none_or(|job| entry.spec.pod.starts_with(job));
        (of_job && record.run.uid == uid && record.name == entry.name_any()).then_some(record)
    };
    let mut records: Vec<AuditRecord> = entries.list(&of_run).await?.items.into_iter().filter_map(told).collect();
    // Names are positions in the chain, of equal length.
    records.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(records)
}

/// The entries of one run, and the digest of the plan that they are about. If there were several
/// attempts, the last outcome counts.
#[must_use]
pub fn told_by_the_chain(entries: &[AuditRecord]) -> Option<(AuditReferences, &str)> {
    let intent = entries.iter().find(|entry| entry.event == AuditEvent::Intent)?;
    let outcome = entries.iter().rfind(|entry| entry.event == AuditEvent::Outcome);
    let references = AuditReferences { intent: intent.name.clone(), outcome: outcome.map(|entry| entry.name.clone()) };
    Some((references, &intent.plan_digest))
}
