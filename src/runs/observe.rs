//! All reads of a run's reconcile, from caches. The API server is asked only if a cache lacks an
//! object and "not found" would be final, or if the last pod of a finished Job is not known yet.

use super::{
    defaults,
    fairness::Limits,
    finish::{is_told, job_end},
    observed::{JobView, JoinedView, Observed, Parent, RepositoryView, RerunView, Sibling, Slot, Tenant},
    prepare::{Prepared, effective_inputs, named_account, prepare, repository_name},
    queue,
    scheduled::{created_late, is_counted},
    waiting::stuck,
    workspace,
};
use crate::{
    api::{
        BackupRepository, BackupSchedule, BackupSet, BulkOperationRun, ObjectReference, OperationRun, OperationType,
        Phase, RestoreRun,
        backup_schedule::{Origin, origin},
        execution, labels,
        operation_type::DEFAULT_HISTORY_LIMIT,
        operations::DRIFT,
        reference::is_object_name,
        workspace::DriftDefaults,
    },
    cluster::trim::left_out,
    items::eligible::{self, Ineligible},
    kernel::{
        Error,
        refusal::Refusal,
        whole::{too_large, whole},
    },
    operations::{self, MadeFor},
    runs::{context::Context, is_whole},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, ServiceAccount},
};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use std::sync::Arc;

/// Reads everything that a decision about the run depends on.
pub async fn observe(context: &Context, run: Arc<OperationRun>) -> Result<Observed, Error> {
    let namespace = run.namespace().unwrap_or_default();
    // The queued object may be older than our own last write of it.
    let run = context.runs.get(&namespace, &run.name_any()).filter(|newer| newer.uid() == run.uid()).unwrap_or(run);
    let status = run.status_or_default();
    let uid = run.uid().unwrap_or_default();
    let run = if status.phase == Phase::Completed {
        run
    } else {
        whole(&Api::namespaced(context.client.clone(), &namespace), run).await?
    };
    let tenant = tenant(context, &namespace, status.phase).await?;
    let operation_type = operation_type(context, &run, status.phase).await?;
    let open = status.phase != Phase::Completed;
    let started = status.job.is_some() || status.joined.is_some();

    let rerun = if open { rerun(context, &run).await? } else { RerunView::NotAsked };
    let repository = match &operation_type {
        Some(operation_type) if open => repository(context, &run, operation_type, &rerun, started).await?,
        _ => RepositoryView::NotNeeded,
    };
    let account = match &operation_type {
        Some(operation_type) if open && !started => missing_account(context, operation_type, &run, &namespace).await?,
        _ => None,
    };
    let repeats = if open && !started { repeats_a_tick_of(context, &run, &namespace).await? } else { None };
    let late = if open && !started { created_late(context, &*run).await? } else { None };
    let prepared = match (repeats, late) {
        (Some(schedule), _) => Err(Refusal::tick_repeated(&schedule)),
        (None, Some(workspace_run)) => Err(Refusal::created_late(&workspace_run)),
        (None, None) => prepare(&run, tenant.as_ref(), operation_type.as_ref(), &repository, &rerun, |name| {
            account.as_deref() != Some(name)
        }),
    };
    let prepared = if open && !started { of_objects(context, prepared, &namespace).await? } else { prepared };
    let prepared = if open && !started { allowed(context, &run, tenant.as_ref(), prepared) } else { prepared };
    // The Job of a run may be recorded before it is created, so what it is given is the same after that.
    let prepared = if open { with_defaults(context, tenant.as_ref(), prepared) } else { prepared };

    let identity = status
        .identity_hash
        .clone()
        .or_else(|| prepared.as_ref().ok().map(|prepared| prepared.identity.as_str().to_owned()));
    if let Some(identity) = identity.as_deref().filter(|_| open) {
        context.registry.identify(&uid, identity);
    }
    let job_name = match &status.job {
        Some(job) => Some(job.name.clone()),
        None => prepared.as_ref().ok().map(|prepared| prepared.identity.job_name()),
    };
    let job_asked = open && !started && queue::has_passed(&run, context.clock.now());
    let (job, mut pods) = match job_name.filter(|_| open) {
        Some(name) => {
            let recorded = status.job.as_ref().map(|job| job.uid.as_str());
            (job(context, &run, &namespace, &name, recorded, job_asked).await?, context.pods.group(&namespace, &name))
        }
        None => (JobView::Absent, Vec::new()),
    };
    let what = waits_for(&job, &pods);
    if let JobView::Own(job) = &job
        && job_end(job).is_some()
        && !is_told(job, &pods)
    {
        pods = list_pods(context, &namespace, job).await?;
    }
    let joined = match &status.joined {
        Some(joined) if open => joined_view(context, &namespace, &joined.name, &joined.uid).await?,
        _ => JoinedView::None,
    };
    let older = match &identity {
        Some(identity) if open && !started => context.registry.older(&uid, identity),
        _ => Vec::new(),
    };
    let slot = if open && !started {
        context.registry.slot(&uid, &limits(context, operation_type.as_deref()))
    } else {
        Slot::Free
    };
    let beyond_history = !open && beyond_history(context, &run, operation_type.as_deref(), &namespace);
    let awaited = !open && (context.registry.is_awaited(&uid) || is_counted(context, &*run));
    let parent = if open { None } else { parent(context, &run, &namespace) };
    let waiting_since = if open { context.registry.seen(&uid, what.as_deref(), context.clock.now()) } else { None };
    Ok(Observed {
        run,
        tenant,
        operation_type,
        prepared,
        job,
        job_asked,
        pods,
        joined,
        older,
        slot,
        waiting_since,
        beyond_history,
        awaited,
        parent,
    })
}

/// Whether newer completed runs of the same tenant and type fill the history limit.
fn beyond_history(
    context: &Context,
    run: &OperationRun,
    operation_type: Option<&OperationType>,
    namespace: &str,
) -> bool {
    let limit =
        operation_type.and_then(|operation_type| operation_type.spec.history_limit).unwrap_or(DEFAULT_HISTORY_LIMIT);
    let limit = usize::try_from(limit).unwrap_or(1);
    context.registry.beyond_history(namespace, &run.spec.operation_type, &run.name_any(), limit)
}

/// The object that a run was made for. Its status names this very run, and the run is of a type that
/// only the operator may create. The owner reference of the run only says where to look, because any
/// user can set one.
fn parent(context: &Context, run: &OperationRun, namespace: &str) -> Option<Parent> {
    match operations::of_type(&run.spec.operation_type)?.made_for()? {
        MadeFor::RestoreRun => restore(context, run, namespace),
        MadeFor::BulkOperationRun => bulk(context, run, namespace),
    }
}

fn bulk(context: &Context, run: &OperationRun, namespace: &str) -> Option<Parent> {
    let owner = run.owner_references().iter().find(|owner| owner.kind == BulkOperationRun::kind(&()))?;
    let names_this = |bulk: &BulkOperationRun| {
        let of = bulk.status.as_ref().and_then(|status| status.operation_run.as_ref());
        of.is_some_and(|of| Some(&of.uid) == run.uid().as_ref())
    };
    let found = context.bulks.get(namespace, &owner.name);
    let bulk = found.filter(|found| found.uid().as_ref() == Some(&owner.uid) && names_this(found))?;
    let mut others = context.bulks.names(namespace).into_iter().filter_map(|name| context.bulks.get(namespace, &name));
    Some(Parent {
        kind: MadeFor::BulkOperationRun,
        reference: ObjectReference { name: owner.name.clone(), uid: owner.uid.clone() },
        needed: !bulk.is_completed()
            || is_counted(context, &*bulk)
            || others.any(|other| other.needs_preview(&owner.name)),
    })
}

fn restore(context: &Context, run: &OperationRun, namespace: &str) -> Option<Parent> {
    let owner = run.owner_references().iter().find(|owner| owner.kind == RestoreRun::kind(&()))?;
    let names_this = |restore: &RestoreRun| {
        let of = restore.status.as_ref().and_then(|status| status.operation_run.as_ref());
        of.is_some_and(|of| Some(&of.uid) == run.uid().as_ref())
    };
    let restore = context
        .restores
        .get(namespace, &owner.name)
        .filter(|found| found.uid().as_ref() == Some(&owner.uid) && names_this(found))?;
    let names_it = |other: &RestoreRun| {
        let preview = other.spec.preview.as_ref().map(|preview| &preview.name);
        let repeated = other.spec.rerun_of.as_ref().map(|repeated| &repeated.name);
        !other.is_completed() && [preview, repeated].contains(&Some(&owner.name))
    };
    let mut others =
        context.restores.names(namespace).into_iter().filter_map(|name| context.restores.get(namespace, &name));
    Some(Parent {
        kind: MadeFor::RestoreRun,
        reference: ObjectReference { name: owner.name.clone(), uid: owner.uid.clone() },
        needed: !restore.is_completed() || is_counted(context, &*restore) || others.any(|other| names_it(&other)),
    })
}

/// The schedule whose tick a run repeats. The answer is final, so it is confirmed with the API
/// server.
async fn repeats_a_tick_of(context: &Context, run: &OperationRun, namespace: &str) -> Result<Option<String>, Error> {
    let Some(Origin { schedule, .. }) = origin(run) else { return Ok(None) };
    if !context.schedules.get(namespace, &schedule).is_some_and(|held| held.is_repeated_by(run)) {
        return Ok(None);
    }
    let found = Api::<BackupSchedule>::namespaced(context.client.clone(), namespace).get_opt(&schedule).await?;
    // Nothing is known about a status that was left out on read.
    let repeats = found.is_some_and(|found| left_out(&found).is_none() && found.is_repeated_by(run));
    Ok(repeats.then_some(schedule))
}

/// Refuses a run that reads the objects of a backup set which holds none. A set that does not exist
/// is for the worker to report.
async fn of_objects(
    context: &Context,
    prepared: Result<Prepared, Refusal>,
    namespace: &str,
) -> Result<Result<Prepared, Refusal>, Error> {
    let Ok(prepared) = prepared else { return Ok(prepared) };
    let operation = operations::of_executor(&prepared.operation_type.spec.executor);
    let named = operation.and_then(|operation| operation.restores(&prepared.inputs));
    let Some(name) = named.filter(|name| is_object_name(name)) else { return Ok(Ok(prepared)) };
    // Sets are in no cache.
    let set = Api::<BackupSet>::namespaced(context.client.clone(), namespace).get_opt(&name).await?;
    Ok(match set.as_ref().map(eligible::holds_objects) {
        Some(Err(Ineligible { reason, message })) => Err(Refusal { reason, message }),
        _ => Ok(prepared),
    })
}

/// Refuses what the workspace of the tenant does not allow. One without an object allows everything.
fn allowed(
    context: &Context,
    run: &OperationRun,
    tenant: Option<&Tenant>,
    prepared: Result<Prepared, Refusal>,
) -> Result<Prepared, Refusal> {
    let prepared = prepared?;
    if let Some(workspace) = tenant.and_then(|tenant| context.workspaces.get("", &tenant.workspace)) {
        let uid = run.uid().unwrap_or_default();
        workspace::check(run, &workspace, &prepared, |most| context.registry.ahead_in_tenant(&uid, most))?;
    }
    Ok(prepared)
}

/// Adds what the platform and the workspace give to every run of its operation.
fn with_defaults(
    context: &Context,
    tenant: Option<&Tenant>,
    prepared: Result<Prepared, Refusal>,
) -> Result<Prepared, Refusal> {
    let mut prepared = prepared?;
    let operation = operations::of_executor(&prepared.operation_type.spec.executor);
    if operation.is_none_or(|operation| operation.name() != DRIFT) {
        return Ok(prepared);
    }
    let workspace = tenant.and_then(|tenant| context.workspaces.get("", &tenant.workspace));
    let mut from = Vec::new();
    if let Some(workspace) = &workspace {
        // What was left out of the workspace may be its rules.
        if let Some(refusal) = too_large(&**workspace) {
            return Err(refusal);
        }
        from.push((format!("spec of workspace {}", workspace.name_any()), &workspace.spec.drift));
    }
    from.push(("setting of the operator".to_owned(), &context.settings.drift));
    from.retain(|(_, rules)| **rules != DriftDefaults::default());
    prepared.inputs = defaults::with_drift(&prepared.inputs, &from)?;
    Ok(prepared)
}

/// The limits that apply to a run of a type.
pub fn limits(context: &Context, operation_type: Option<&OperationType>) -> Limits {
    let limit = |value: Option<i32>| value.and_then(|value| usize::try_from(value).ok());
    let concurrency = operation_type.map(|operation_type| operation_type.spec.concurrency).unwrap_or_default();
    Limits {
        type_per_tenant: limit(concurrency.per_tenant),
        type_total: limit(concurrency.total),
        per_tenant: context.settings.max_active_runs_per_tenant,
        total: context.settings.max_active_runs,
    }
}

async fn tenant(context: &Context, namespace: &str, phase: Phase) -> Result<Option<Tenant>, Error> {
    let view = |namespace: &Namespace| {
        Some(Tenant {
            uid: namespace.uid()?,
            workspace: namespace.labels().get(labels::WORKSPACE)?.clone(),
            terminating: namespace.metadata.deletion_timestamp.is_some(),
        })
    };
    // Nothing depends on the tenant of a completed run any more.
    if phase == Phase::Completed {
        return Ok(context.namespaces.get("", namespace).as_deref().and_then(view));
    }
    Ok(context.namespace(namespace).await?.as_deref().and_then(view))
}

async fn operation_type(
    context: &Context,
    run: &OperationRun,
    phase: Phase,
) -> Result<Option<Arc<OperationType>>, Error> {
    let name = &run.spec.operation_type;
    match context.types.get("", name) {
        Some(found) => Ok(Some(found)),
        // "Unknown" is final, so the API server is asked. A manifest often creates a type together
        // with its first run.
        None if phase == Phase::Queued => {
            Ok(Api::<OperationType>::all(context.client.clone()).get_opt(name).await?.map(Arc::new))
        }
        None => Ok(None),
    }
}

async fn rerun(context: &Context, run: &OperationRun) -> Result<RerunView, Error> {
    let Some(earlier) = &run.spec.rerun_of else { return Ok(RerunView::NotAsked) };
    let namespace = run.namespace().unwrap_or_default();
    // The inputs are needed, which the cache does not hold for a completed run.
    let found = match context.runs.get(&namespace, &earlier.name).filter(|found| is_whole(found)) {
        Some(found) => Some(found),
        None => Api::<OperationRun>::namespaced(context.client.clone(), &namespace)
            .get_opt(&earlier.name)
            .await?
            .map(Arc::new),
    };
    Ok(found.map_or_else(|| RerunView::Missing(earlier.name.clone()), RerunView::Found))
}

async fn repository(
    context: &Context,
    run: &OperationRun,
    operation_type: &OperationType,
    rerun: &RerunView,
    started: bool,
) -> Result<RepositoryView, Error> {
    let inputs = effective_inputs(run, rerun);
    let Some(name) = repository_name(&operation_type.spec.executor, &inputs) else {
        return Ok(RepositoryView::NotNeeded);
    };
    let namespace = run.namespace().unwrap_or_default();
    let view = |found: Option<Arc<BackupRepository>>| match found {
        None => RepositoryView::Missing(name.clone()),
        Some(repository) if repository.is_ready() => RepositoryView::Ready(repository),
        Some(repository) => RepositoryView::NotReady(repository),
    };
    let api = Api::namespaced(context.client.clone(), &namespace);
    let held = match context.repositories.get(&namespace, &name) {
        Some(held) => Some(whole(&api, held).await?),
        None => None,
    };
    match view(held) {
        ready @ RepositoryView::Ready(_) => Ok(ready),
        other if started => Ok(other),
        // The API server would reject an invalid name with a less helpful message.
        _ if !is_object_name(&name) => Ok(RepositoryView::Missing(name.chars().take(100).collect())),
        // Both other answers are final, so the API server is asked.
        _ => Ok(view(
            Api::<BackupRepository>::namespaced(context.client.clone(), &namespace).get_opt(&name).await?.map(Arc::new),
        )),
    }
}

/// The account that a `jobTemplate` or the inputs name, if it does not exist. Our own accounts are
/// created on onboarding, and a Job waits for them.
async fn missing_account(
    context: &Context,
    operation_type: &OperationType,
    run: &OperationRun,
    namespace: &str,
) -> Result<Option<String>, Error> {
    let template = operation_type.spec.executor.job_template.as_ref();
    let pod = template.and_then(|template| template.spec.as_ref()).and_then(|job| job.template.spec.as_ref());
    let of_template = pod.and_then(|pod| pod.service_account_name.clone());
    let Some(name) = of_template.or_else(|| named_account(operation_type, &run.spec.inputs)) else {
        return Ok(None);
    };
    if execution::ACCOUNTS.contains(&name.as_str()) {
        return Ok(None);
    }
    let found = Api::<ServiceAccount>::namespaced(context.client.clone(), namespace).get_opt(&name).await?;
    Ok(if found.is_none() { Some(name) } else { None })
}

async fn job(
    context: &Context,
    run: &OperationRun,
    namespace: &str,
    name: &str,
    recorded: Option<&str>,
    ask: bool,
) -> Result<JobView, Error> {
    let found = match (context.jobs.get(namespace, name).filter(|_| !ask), recorded) {
        (Some(found), None) => Some(found),
        (Some(found), Some(uid)) if found.uid().as_deref() == Some(uid) => Some(found),
        (None, None) if !ask && !context.taken.contains(namespace, name) => None,
        // The end of a run whose Job is gone is final, and the cache may still show the previous
        // Job, so the API server is asked. The same holds for a name that another run's Job may
        // have, and for a run that has waited too long for its Job.
        _ => Api::<Job>::namespaced(context.client.clone(), namespace).get_opt(name).await?.map(Arc::new),
    };
    let Some(job) = found else { return Ok(JobView::Absent) };
    let ours = job.labels().get(labels::MANAGED_BY).is_some_and(|value| value == labels::MANAGER);
    let owner =
        job.owner_references().iter().find(|owner| owner.controller == Some(true) && owner.kind == "OperationRun");
    let Some(owner) = owner.filter(|_| ours) else { return Ok(JobView::Foreign(job)) };
    if Some(&owner.uid) == run.uid().as_ref() {
        return Ok(JobView::Own(job));
    }
    Ok(match run_of_uid(context, namespace, &owner.name, &owner.uid).await? {
        Some(found) if !found.is_completed() => JobView::Others {
            owner: Sibling {
                name: found.name_any(),
                uid: owner.uid.clone(),
                leaving: found.spec.cancel
                    || found.metadata.deletion_timestamp.is_some()
                    || job.metadata.deletion_timestamp.is_some(),
            },
            job,
        },
        _ => JobView::Orphan(job),
    })
}

/// What a Job waits for, or why the run waits for the Job, as a key. A change of the key restarts
/// the clock.
fn waits_for(job: &JobView, pods: &[Arc<Pod>]) -> Option<String> {
    if let JobView::Orphan(job) = job {
        return job.metadata.deletion_timestamp.as_ref().map(|_| "leaving".to_owned());
    }
    let JobView::Own(job) = job else { return None };
    if job_end(job).is_some() {
        return Some("end".to_owned());
    }
    stuck(job, pods).map(|stuck| stuck.reason.as_str().to_owned())
}

async fn list_pods(context: &Context, namespace: &str, job: &Job) -> Result<Vec<Arc<Pod>>, Error> {
    let selector = format!("batch.kubernetes.io/controller-uid={}", job.uid().unwrap_or_default());
    let list = Api::<Pod>::namespaced(context.client.clone(), namespace)
        .list(&ListParams::default().labels(&selector))
        .await?;
    Ok(list.items.into_iter().map(Arc::new).collect())
}

async fn joined_view(context: &Context, namespace: &str, name: &str, uid: &str) -> Result<JoinedView, Error> {
    let found = run_of_uid(context, namespace, name, uid).await?;
    Ok(match found.filter(|found| found.metadata.deletion_timestamp.is_none()) {
        None => JoinedView::Gone,
        Some(found) if is_whole(&found) && found.is_completed() => JoinedView::Completed(found),
        // Read once for all runs that joined it.
        Some(found) if found.is_completed() => match ended(context, namespace, name, uid).await? {
            Some(found) => JoinedView::Completed(found),
            None => JoinedView::Gone,
        },
        Some(_) => JoinedView::Active,
    })
}

/// A completed run in full, including what the cache does not hold. The cache then keeps it for a
/// while.
async fn ended(context: &Context, namespace: &str, name: &str, uid: &str) -> Result<Option<Arc<OperationRun>>, Error> {
    let found = Api::<OperationRun>::namespaced(context.client.clone(), namespace).get_opt(name).await?;
    let Some(found) = found.filter(|found| found.uid().as_deref() == Some(uid)) else { return Ok(None) };
    context.runs.wrote(found.clone());
    Ok(Some(Arc::new(found)))
}

/// The run with this uid. "Gone" costs another run its Job, so a cache that shows no such run, or
/// an earlier one of the same name, is not trusted.
async fn run_of_uid(
    context: &Context,
    namespace: &str,
    name: &str,
    uid: &str,
) -> Result<Option<Arc<OperationRun>>, Error> {
    let is_it = |found: &Arc<OperationRun>| found.uid().as_deref() == Some(uid);
    if let Some(found) = context.runs.get(namespace, name).filter(is_it) {
        return Ok(Some(found));
    }
    let found = Api::<OperationRun>::namespaced(context.client.clone(), namespace).get_opt(name).await?;
    Ok(found.map(Arc::new).filter(is_it))
}
