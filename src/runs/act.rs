//! All writes of a run's reconcile, in the order of the decision.
//!
//! Every write is guarded: by name (a Job, a `BackupSet`), by uid, by version (a run's status), or
//! by several of them. The API server's responses enter the caches at once, so that the next
//! decision sees them.

use super::{
    decide::{Action, Decision, Start, refused},
    job::{self, JobSettings},
    observe::limits,
    observed::Observed,
};
use crate::{
    api::{
        BackupRepository, BackupSet, BackupSetSpec, BackupSetStatus, LocalReference, ObjectReference, OperationRun,
        Outcome, Phase, Reason, RestoreRun,
        backup_schedule::{Origin, origin},
        backup_set::{Coverage, DAMAGED, Verified, names_for, status_of_adopted},
        operation_run::OperationRunStatus,
        result::CapturedSnapshot,
        selection::Selection,
    },
    kernel::{
        Error,
        delete::delete,
        events::Severity,
        refusal::{CreateFailure, Refusal},
        status,
    },
    runs::{
        context::Context,
        records::{
            backup_set::{Ready, mark_as, settle, settle_new},
            marks::{Mark, marks},
            repository::{self, RepositoryCheck},
        },
    },
};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
};
use serde_json::json;

/// Carries out a decision.
pub async fn act(context: &Context, observed: &Observed, decision: Decision) -> Result<(), Error> {
    let Decision { actions, requeue: _, in_line } = decision;
    context.wake(context.registry.stand_in_line(observed.uid(), in_line));
    let mut set_name = None;
    for action in actions {
        match action {
            Action::Start(job) => start(context, observed, *job).await?,
            Action::DeleteJob(job) => delete_job(context, observed, &job).await?,
            Action::RecordBackupSet { snapshot, complete } => {
                set_name = Some(record_backup_set(context, observed, &snapshot, complete).await?);
            }
            Action::RecordSharedSet { set, captured_by } => {
                set_name = record_shared_set(context, observed, &set, &captured_by).await?;
            }
            Action::RecordUndoSet { name, snapshot } => {
                set_name = record_undo_set(context, observed, name, &snapshot).await?;
            }
            Action::RecordRehearsal { set, outcome } => record_rehearsal(context, observed, &set, outcome).await?,
            Action::RecordCheck(check) => record_check(context, observed, &check).await?,
            Action::WriteStatus(mut status) => {
                status.context.backup_set = set_name.take().or(status.context.backup_set);
                write_status(context, observed, &status).await?;
            }
            Action::WriteLabels(labels) => {
                let body = json!({ "metadata": { "uid": observed.uid(), "labels": labels } });
                let run = runs(context, observed)
                    .patch(&observed.run.name_any(), &PatchParams::default(), &Patch::Merge(body))
                    .await?;
                context.wrote(run);
            }
            Action::DeleteRun => {
                let runs = runs(context, observed);
                delete(&runs, &own_reference(observed)).await?;
            }
            Action::DeleteRestore(restore) => {
                let namespace = observed.run.namespace().unwrap_or_default();
                delete(&Api::<RestoreRun>::namespaced(context.client.clone(), &namespace), &restore).await?;
            }
        }
    }
    Ok(())
}

fn runs(context: &Context, observed: &Observed) -> Api<OperationRun> {
    Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default())
}

fn jobs(context: &Context, observed: &Observed) -> Api<Job> {
    Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default())
}

/// Creates the Job, then records it. The name rules out a second Job. After a crash in between, the
/// Job is recognized by its owner.
async fn start(context: &Context, observed: &Observed, start: Start) -> Result<(), Error> {
    let Start { prepared, mut status } = start;
    if !context.registry.claim(observed.uid(), &limits(context, Some(&prepared.operation_type))) {
        // Another run has taken the last slot since; the end of that run wakes this one.
        return Err(Error::Again("slot taken"));
    }
    let settings: &JobSettings = &context.settings.job;
    let job = job::build(&observed.run, &prepared, settings)?;
    match jobs(context, observed).create(&PostParams::default(), &job).await {
        Ok(job) => {
            status.job = Some(ObjectReference { name: job.name_any(), uid: job.uid().unwrap_or_default() });
            context.jobs.wrote(job);
            write_status(context, observed, &status).await
        }
        Err(error) => {
            context.registry.release(observed.uid());
            let namespace = observed.run.namespace().unwrap_or_default();
            let refusal = match CreateFailure::of(&error) {
                CreateFailure::Taken => {
                    context.taken.insert(&namespace, &job.name_any());
                    return Err(Error::Again("a Job of this name exists"));
                }
                CreateFailure::NamespaceTerminating => return Ok(()),
                CreateFailure::OverQuota(says) => quota(&says, &namespace),
                CreateFailure::Refused(says) => refusal(&says),
                CreateFailure::Fault => return Err(error.into()),
            };
            let decision = refused(observed, &refusal, context.clock.now());
            Box::pin(act(context, observed, decision)).await
        }
    }
}

/// Why the API server rejects a Job, as a message for its run.
fn quota(says: &str, namespace: &str) -> Refusal {
    Refusal::new(
        Reason::QuotaExceeded,
        format!(
            "a quota refuses the Job: {says}; free some with `kubectl get jobs -n {namespace}`, or ask for more, then create a new run"
        ),
    )
}

fn refusal(says: &str) -> Refusal {
    Refusal::new(
        Reason::JobRefused,
        format!(
            "the API server refuses the Job: {says}; fix the operation type or what refuses it, then create a new run"
        ),
    )
}

async fn delete_job(context: &Context, observed: &Observed, job: &ObjectReference) -> Result<(), Error> {
    let parameters = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        preconditions: Some(Preconditions { uid: Some(job.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match jobs(context, observed).delete(&job.name, &parameters).await {
        Ok(answer) => {
            answer.map_left(|job| context.jobs.wrote(job));
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes what differs from the observed status, if anything does.
async fn write_status(context: &Context, observed: &Observed, status: &OperationRunStatus) -> Result<(), Error> {
    let before = observed.status();
    let remember = |run| context.wrote(run);
    if status::write(&runs(context, observed), &*observed.run, &before, status, remember).await? {
        tell(context, observed, &before, status);
    }
    Ok(())
}

/// Publishes an event for each transition, and for each new reason to wait. Never waits, never
/// fails.
fn tell(context: &Context, observed: &Observed, before: &OperationRunStatus, now: &OperationRunStatus) {
    let waiting = |status: &OperationRunStatus| status.waiting.as_ref().map(|waiting| waiting.reason.clone());
    let changed = (before.phase, before.outcome) != (now.phase, now.outcome);
    if !changed && (waiting(before) == waiting(now) || now.waiting.is_none()) {
        return;
    }
    let bad = matches!(now.outcome, Outcome::Failed | Outcome::Blocked | Outcome::PartiallySucceeded)
        || (!changed && now.waiting.is_some());
    let severity = if bad { Severity::Warning } else { Severity::Normal };
    let action = if now.phase == Phase::Completed { "Complete" } else { "Run" };
    let reason = now.reason.clone().unwrap_or_default();
    context.events.publish(&*observed.run, severity, &reason, action, now.message.as_deref().unwrap_or_default());
    if now.phase == Phase::Completed && changed {
        let spec = &observed.run.spec;
        context.metrics.completed(&spec.operation_type, spec.trigger, now.outcome);
    }
}

/// Records a snapshot as a backup set. Returns the name of the set.
async fn record_backup_set(
    context: &Context,
    observed: &Observed,
    snapshot: &CapturedSnapshot,
    complete: bool,
) -> Result<String, Error> {
    let set = make_set(context, observed, backup_set_spec(observed, snapshot, complete)?).await?;
    write_set_status(context, &set, snapshot).await?;
    Ok(set.name_any())
}

/// Records a set of a snapshot that another run captured. Returns `None` if that run's set is gone.
async fn record_shared_set(
    context: &Context,
    observed: &Observed,
    theirs: &str,
    captured_by: &str,
) -> Result<Option<String>, Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    // A rehearsal also names a set, one that it did not capture.
    let Some(theirs) = sets.get_opt(theirs).await?.filter(|set| set.spec.run.uid == captured_by) else {
        return Ok(None);
    };
    let spec = BackupSetSpec {
        run: own_reference(observed),
        backup_schedule: origin(&observed.run).map(Origin::reference),
        trigger: observed.run.spec.trigger,
        hold: false,
        ..theirs.spec
    };
    let set = make_set(context, observed, spec).await?;
    let figures = theirs.status.unwrap_or_default();
    let status = BackupSetStatus {
        items: figures.items,
        items_by_kind: figures.items_by_kind,
        bytes: figures.bytes,
        added_bytes: figures.added_bytes,
        ..set.status.clone().unwrap_or_default()
    };
    settle(context, &set, status, "ReadBack", "the snapshot, which the run that it joined captured, was read back")
        .await?;
    Ok(Some(set.name_any()))
}

fn own_reference(observed: &Observed) -> ObjectReference {
    ObjectReference { name: observed.run.name_any(), uid: observed.uid().to_owned() }
}

/// Creates the run's set. The set has the name of the run, so that a second reconcile finds the set
/// of the first.
async fn make_set(context: &Context, observed: &Observed, spec: BackupSetSpec) -> Result<BackupSet, Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    for name in names_for(&observed.run.name_any(), observed.uid()) {
        match sets.create(&PostParams::default(), &BackupSet::new(&name, spec.clone())).await {
            Ok(set) => return Ok(set),
            Err(kube::Error::Api(status)) if status.is_already_exists() => match sets.get_opt(&name).await? {
                Some(set) if set.spec.run.uid == observed.uid() => return Ok(set),
                // An earlier run of this name left a set, which is not ours to touch.
                _ => {}
            },
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::Again("both names for the backup set are taken"))
}

/// Records the figures of a set that the run's worker created. A set that was deleted since is not
/// an error.
async fn record_undo_set(
    context: &Context,
    observed: &Observed,
    name: String,
    snapshot: &CapturedSnapshot,
) -> Result<Option<String>, Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    let Some(set) = sets.get_opt(&name).await?.filter(|set| set.spec.run.uid == observed.uid()) else {
        return Ok(None);
    };
    write_set_status(context, &set, snapshot).await?;
    Ok(Some(name))
}

/// Records the end of a rehearsal. A set that is gone is not an error. A second reconcile of the
/// same run writes a later time, which is equally true.
async fn record_rehearsal(context: &Context, observed: &Observed, set: &str, outcome: Outcome) -> Result<(), Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), &observed.run.namespace().unwrap_or_default());
    let Some(found) = sets.get_opt(set).await? else { return Ok(()) };
    let before = found.status.clone().unwrap_or_default();
    let verified = Some(Verified { at: context.clock.now(), outcome });
    let after = BackupSetStatus { verified, ..before.clone() };
    // Sets are in no cache.
    status::write(&sets, &found, &before, &after, drop).await.map(drop)
}

async fn write_set_status(context: &Context, set: &BackupSet, snapshot: &CapturedSnapshot) -> Result<(), Error> {
    let status = BackupSetStatus {
        items: Some(snapshot.items),
        items_by_kind: snapshot.items_by_kind.clone(),
        bytes: Some(snapshot.bytes),
        added_bytes: Some(snapshot.added_bytes),
        ..set.status.clone().unwrap_or_default()
    };
    settle(context, set, status, "ReadBack", "the snapshot was read back after it was written").await
}

fn backup_set_spec(observed: &Observed, snapshot: &CapturedSnapshot, complete: bool) -> Result<BackupSetSpec, Error> {
    let inputs = observed.prepared.as_ref().map_or(&observed.run.spec.inputs, |prepared| &prepared.inputs);
    let selection: Selection = match inputs.get("selection") {
        Some(selection) => serde_json::from_value(selection)?,
        None => Selection::default(),
    };
    let repository = inputs.text_of("repository").unwrap_or_default();
    let whole = selection.is_everything() && observed.run.spec.target.is_none() && complete;
    Ok(BackupSetSpec {
        repository: LocalReference::new(repository),
        snapshot: snapshot.id.clone(),
        run: own_reference(observed),
        selection,
        namespace_uid: observed.tenant.as_ref().map(|tenant| tenant.uid.clone()).unwrap_or_default(),
        coverage: if whole { Coverage::Full } else { Coverage::Partial },
        absent: Vec::new(),
        absent_in_snapshot: None,
        backup_schedule: origin(&observed.run).map(Origin::reference),
        trigger: observed.run.spec.trigger,
        hold: false,
    })
}

/// Reports that the sets which checks found in an adopted repository can be used: those of this
/// check, and of an earlier one that did not finish. After a crash in between, the next reconcile
/// settles the rest.
async fn settle_adopted(context: &Context, namespace: &str, check: &RepositoryCheck) -> Result<(), Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), namespace);
    for set in sets.list(&of_repository(check)).await?.items.iter().filter(|set| set.is_adopted()) {
        let message = "found in an adopted repository, whose structure is whole";
        settle_new(context, set, status_of_adopted(set), "Adopted", message).await?;
    }
    Ok(())
}

/// Selects the sets of a check's repository.
fn of_repository(check: &RepositoryCheck) -> ListParams {
    ListParams::default().fields(&format!("spec.repository.name={}", check.repository))
}

/// Reports on the sets of a repository what its check found. After a crash in between, the next
/// reconcile marks the rest.
async fn mark_sets(context: &Context, namespace: &str, check: &RepositoryCheck) -> Result<(), Error> {
    let sets: Api<BackupSet> = Api::namespaced(context.client.clone(), namespace);
    for (set, mark) in marks(&sets.list(&of_repository(check)).await?.items, check) {
        let (ready, reason, message) = match mark {
            Mark::Damaged => {
                (Ready::No, DAMAGED, "a check found that something of it cannot be restored; a rehearsal says what can")
            }
            Mark::PerhapsDamaged => (
                Ready::No,
                DAMAGED,
                "a check found more damage than it can name, and this set may be concerned; a rehearsal says what can be restored",
            ),
            Mark::Whole => (Ready::Yes, Reason::CheckPassed.as_str(), "a check read it back: it is whole again"),
        };
        mark_as(context, set, ready, reason, message).await?;
    }
    Ok(())
}

/// Records a check on its repository. A repository that is gone is not an error.
async fn record_check(context: &Context, observed: &Observed, check: &RepositoryCheck) -> Result<(), Error> {
    let namespace = observed.run.namespace().unwrap_or_default();
    if check.figures.as_ref().is_some_and(|figures| figures.adopted > 0) {
        settle_adopted(context, &namespace, check).await?;
    }
    if check.passed || !check.damaged.is_empty() || check.damaged_truncated {
        mark_sets(context, &namespace, check).await?;
    }
    let repositories: Api<BackupRepository> = Api::namespaced(context.client.clone(), &namespace);
    let Some(found) = repositories.get_opt(&check.repository).await? else { return Ok(()) };
    let before = found.status.clone().unwrap_or_default();
    let run = ObjectReference { name: observed.run.name_any(), uid: observed.uid().to_owned() };
    let Some(status) = repository::after(check, &found, run, context.clock.now()) else { return Ok(()) };
    let remember = |written| context.repositories.wrote(written);
    if status::write(&repositories, &found, &before, &status, remember).await? {
        // A second reconcile of the same run does not count again.
        if let Some(figures) = check.maintained.filter(|_| before.last_check_run != status.last_check_run) {
            context.metrics.maintained(&found, figures);
        }
        if repository::is_news(check, &before.conditions) {
            context.events.publish(&found, Severity::Warning, &check.reason, "Check", &check.message);
        }
    }
    Ok(())
}
