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
        BulkOperationRun, ObjectReference, OperationRun, Outcome, Phase, Reason, RestoreRun,
        operation_run::OperationRunStatus,
    },
    kernel::{
        Error,
        delete::delete,
        events::Severity,
        refusal::{CreateFailure, Refusal},
        status,
    },
    operations::MadeFor,
    runs::{context::Context, records},
};
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions, PropagationPolicy},
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
            Action::Record(record) => set_name = records::write(context, observed, record).await?.or(set_name),
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
                delete(&runs, &ObjectReference::of(&*observed.run)).await?;
            }
            Action::DeleteParent(kind, parent) => {
                let (client, namespace) = (context.client.clone(), observed.run.namespace().unwrap_or_default());
                match kind {
                    MadeFor::RestoreRun => delete(&Api::<RestoreRun>::namespaced(client, &namespace), &parent).await?,
                    MadeFor::BulkOperationRun => {
                        delete(&Api::<BulkOperationRun>::namespaced(client, &namespace), &parent).await?;
                    }
                }
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
            status.job = Some(ObjectReference::of(&job));
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
