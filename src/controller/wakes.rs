//! Which objects a change wakes: each kind's watch feeds its cache, and adds to the queues what depends
//! on the changed object.
//!
//! Must not: decide anything. An object that is woken for nothing is reconciled to no write.

use crate::{
    api::{
        Approval, BackupRepository, BackupSchedule, BulkOperationRun, Finding, ImportedRun, OperationRun,
        OperationType, Phase, Reason, RestoreRun, Workspace, WorkspaceRun, approval::ApprovedKind, labels,
        operation_run::SchedulerKind,
    },
    kernel::{
        cache::{Change, Feed, Incoming},
        name::Name,
        slim::Slim,
    },
    kinds::{backup_schedule, imported_run::records::Records, tenant::template::is_templated},
    runs::{children::Children, context::Context, scheduled::Scheduled, waiting::waits},
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::mpsc;

/// Pods' label with the name of their Job, set by the Job controller.
pub(super) const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Objects in a page of a list. A page is held in full while it is read and leaves holes between
/// what is kept of it, so it is small.
pub(super) const PAGE: u32 = 50;

/// The queues of the kinds that are reconciled.
pub(super) struct Queues {
    pub(super) runs: mpsc::UnboundedSender<Name<OperationRun>>,
    pub(super) types: mpsc::UnboundedSender<Name<OperationType>>,
    pub(super) workspaces: mpsc::UnboundedSender<Name<Workspace>>,
    pub(super) workspace_runs: mpsc::UnboundedSender<Name<WorkspaceRun>>,
    pub(super) tenants: mpsc::UnboundedSender<Name<Namespace>>,
    pub(super) repositories: mpsc::UnboundedSender<Name<BackupRepository>>,
    pub(super) restores: mpsc::UnboundedSender<Name<RestoreRun>>,
    pub(super) bulks: mpsc::UnboundedSender<Name<BulkOperationRun>>,
    pub(super) schedules: mpsc::UnboundedSender<Name<BackupSchedule>>,
    pub(super) findings: mpsc::UnboundedSender<Name<Finding>>,
    pub(super) imported: mpsc::UnboundedSender<Name<ImportedRun>>,
}

/// The write sides of the caches.
pub(super) struct Feeds {
    pub(super) runs: Feed<OperationRun>,
    pub(super) jobs: Feed<Job>,
    pub(super) pods: Feed<Pod>,
    pub(super) types: Feed<OperationType>,
    pub(super) workspaces: Feed<Workspace>,
    pub(super) workspace_runs: Feed<WorkspaceRun>,
    pub(super) repositories: Feed<BackupRepository>,
    pub(super) restores: Feed<RestoreRun>,
    pub(super) bulks: Feed<BulkOperationRun>,
    pub(super) schedules: Feed<BackupSchedule>,
    pub(super) findings: Feed<Finding>,
    pub(super) approvals: Feed<Approval>,
    pub(super) imported: Feed<ImportedRun>,
    pub(super) namespaces: Feed<Namespace>,
    pub(super) accounts: Feed<ServiceAccount>,
    pub(super) bindings: Feed<RoleBinding>,
}

/// Starts all watches.
pub(super) fn watch(context: &Arc<Context>, feeds: Feeds, queues: &Queues, records: &Arc<Records>) {
    watch_runs(context, feeds.runs, queues, records);
    watch_jobs_and_pods(context, feeds.jobs, feeds.pods);
    watch_types(context, feeds.types, queues);
    watch_workspaces(context, feeds.workspaces, queues);
    watch_workspace_runs(context, feeds.workspace_runs, queues);
    watch_tenants(context, feeds.namespaces, feeds.accounts, feeds.bindings, queues, records);
    watch_made_for(context, feeds.repositories, feeds.schedules, feeds.restores, queues);
    watch_bulks(context, feeds.bulks, queues);
    watch_findings(context, feeds.findings, queues);
    watch_approvals(context, feeds.approvals, queues);
    watch_imported(context, feeds.imported, queues);
}

/// Objects with our label.
fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER))
}

/// A run wakes itself, the runs that the registry names, the imported runs whose records name it, and
/// the repository, restore, bulk operation, schedule or workspace run that it was made for.
fn watch_runs(context: &Arc<Context>, runs: Feed<OperationRun>, queues: &Queues, records: &Arc<Records>) {
    let context_of_watch = context.clone();
    let (repositories, restores, bulks) = (queues.repositories.clone(), queues.restores.clone(), queues.bulks.clone());
    let (schedules, workspace_runs) = (queues.schedules.clone(), queues.workspace_runs.clone());
    let (imported, records) = (queues.imported.clone(), records.clone());
    feed(runs, &context.client, watcher::Config::default(), move |change| {
        let context = &context_of_watch;
        let wake = match &change {
            Change::Applied(run) => {
                context.children.apply(&**run);
                context.registry.apply(run)
            }
            Change::Deleted(run) => {
                let namespace = run.namespace().unwrap_or_default();
                context.children.remove(&**run);
                context.registry.remove(run, context.namespaces.get("", &namespace).is_some())
            }
        };
        let deleted = matches!(change, Change::Deleted(_));
        let run = object(change);
        let namespace = run.namespace().unwrap_or_default();
        for claiming in records.claiming(&namespace, &run.name_any()) {
            let _ = imported.send(claiming);
        }
        // An owner reference only wakes: that a run names an owner proves nothing.
        for owner in run.owner_references() {
            let _ = match owner.kind.as_str() {
                "RestoreRun" => restores.send(Name::new(&namespace, &owner.name)).is_ok(),
                "BulkOperationRun" => bulks.send(Name::new(&namespace, &owner.name)).is_ok(),
                _ => continue,
            };
        }
        match &run.spec.scheduled_by {
            Some(by) if by.kind == SchedulerKind::BackupRepository => {
                let _ = repositories.send(Name::new(&namespace, &by.name));
            }
            // With ten thousand tenants, more would be too many passes over all of them.
            Some(by) if by.kind == SchedulerKind::WorkspaceRun && (deleted || run.is_completed()) => {
                let _ = workspace_runs.send(Name::new("", &by.name));
            }
            Some(by) if by.kind == SchedulerKind::WorkspaceRun => {}
            // Wake the schedule when its run completes or begins to wait; no other transition
            // affects it. Where thousands are due at once, half of all reconciles would be about
            // runs that were just created.
            Some(by) if deleted || run.is_completed() || affects_schedule(context, &namespace, &by.name, &run) => {
                let _ = schedules.send(Name::new(&namespace, &by.name));
            }
            _ => {}
        }
        context.wake(std::iter::once(Name::of(&*run)));
        // The first list wakes every run by itself.
        if context.runs.is_ready() {
            context.wake(wake);
        }
    });
}

/// A bulk operation wakes itself, and at its end the workspace run that it was created for.
fn watch_bulks(context: &Arc<Context>, bulks: Feed<BulkOperationRun>, queues: &Queues) {
    let (context_of_watch, queue) = (context.clone(), queues.bulks.clone());
    let workspace_runs = queues.workspace_runs.clone();
    feed(bulks, &context.client, watcher::Config::default(), move |change| {
        wake_workspace_run(&context_of_watch.children, &change, &workspace_runs);
        let _ = queue.send(Name::of(&*object(change)));
    });
}

/// Updates the index of what workspace runs have created. The end of such an object wakes the
/// workspace run.
fn wake_workspace_run<K: Scheduled>(
    children: &Children,
    change: &Change<K>,
    workspace_runs: &mpsc::UnboundedSender<Name<WorkspaceRun>>,
) {
    let ended = match change {
        Change::Applied(object) => children.apply(&**object),
        Change::Deleted(object) => children.remove(&**object),
    };
    if let Some(name) = ended {
        let _ = workspace_runs.send(Name::new("", &name));
    }
}

/// Whether a schedule's status has to say what a run of it waits for, or that it no longer does.
fn affects_schedule(context: &Context, namespace: &str, schedule: &str, run: &OperationRun) -> bool {
    let says_so = || {
        let schedule = context.schedules.get(namespace, schedule);
        schedule.is_some_and(|schedule| backup_schedule::decide::says_of(&schedule, run))
    };
    waits(run).is_some_and(|(reason, _)| reason != Reason::ConcurrencyLimit.as_str()) || says_so()
}

/// A Job or pod wakes its run, and the runs of the same identity.
fn watch_jobs_and_pods(context: &Arc<Context>, jobs: Feed<Job>, pods: Feed<Pod>) {
    let context_of_watch = context.clone();
    feed(jobs, &context.client, managed(), move |change| {
        let context = &context_of_watch;
        let job = object(change);
        let namespace = job.namespace().unwrap_or_default();
        let owners = job.owner_references().iter().filter(|owner| owner.kind == "OperationRun");
        context.wake(owners.map(|owner| Name::new(&namespace, &owner.name)));
        context.wake(context.registry.by_job_name(&namespace, &job.name_any()));
    });
    let context_of_watch = context.clone();
    feed(pods, &context.client, watcher::Config::default().labels(labels::RUN_UID), move |change| {
        let context = &context_of_watch;
        let pod = object(change);
        if let Some(job) = pod.labels().get(JOB_NAME) {
            context.wake(context.registry.by_job_name(&pod.namespace().unwrap_or_default(), job));
        }
    });
}

/// A type wakes itself, and the runs of that type.
fn watch_types(context: &Arc<Context>, types: Feed<OperationType>, queues: &Queues) {
    let (context_of_watch, queue) = (context.clone(), queues.types.clone());
    feed(types, &context.client, watcher::Config::default(), move |change| {
        let context = &context_of_watch;
        match &change {
            Change::Applied(operation_type) => context.metrics.operation_type(operation_type),
            Change::Deleted(operation_type) => context.metrics.forget_operation_type(operation_type),
        }
        let operation_type = object(change);
        let _ = queue.send(Name::of(&*operation_type));
        context.wake(context.registry.by_type(&operation_type.name_any()));
    });
}

/// A workspace wakes itself. With a new spec, or without one, it wakes its tenants, their schedules
/// and runs, and what may wait for an approval: what it gives or allows has changed. Its status
/// changes with the counts of tenants, and wakes none of these.
fn watch_workspaces(context: &Arc<Context>, workspaces: Feed<Workspace>, queues: &Queues) {
    let (context_of_watch, queue) = (context.clone(), queues.workspaces.clone());
    let (tenants, schedules) = (queues.tenants.clone(), queues.schedules.clone());
    let orders = Orders::of(queues);
    let mut specs: HashMap<String, (Option<String>, Option<i64>)> = HashMap::new();
    feed(workspaces, &context.client, watcher::Config::default(), move |change| {
        let context = &context_of_watch;
        let known = match &change {
            Change::Applied(workspace) => {
                context.metrics.workspace(workspace);
                let spec = (workspace.uid(), workspace.metadata.generation);
                specs.insert(workspace.name_any(), spec.clone()) == Some(spec)
            }
            Change::Deleted(workspace) => {
                context.metrics.forget_workspace(workspace);
                specs.remove(&workspace.name_any());
                false
            }
        };
        let name = Name::of(&*object(change));
        let tenants_of_it = if known { Vec::new() } else { context.namespaces.group("", name.name()) };
        // The first list of workspace runs wakes every one by itself.
        if !known && context.workspace_runs.is_ready() {
            orders.wake_over(context, name.name());
        }
        for namespace in tenants_of_it {
            let _ = tenants.send(Name::of(&*namespace));
            for schedule in context.schedules.names(&namespace.name_any()) {
                let _ = schedules.send(Name::new(&namespace.name_any(), &schedule));
            }
            orders.wake(context, &namespace.name_any());
            context.wake(context.registry.by_namespace(&namespace.name_any()));
        }
        let _ = queue.send(name);
    });
}

/// Workspace runs wake themselves. One that is deleted wakes what it has created and has not started: that is
/// blocked now, and may wait for an approval that nobody will give.
fn watch_workspace_runs(context: &Arc<Context>, workspace_runs: Feed<WorkspaceRun>, queues: &Queues) {
    let (context_of_watch, queue) = (context.clone(), queues.workspace_runs.clone());
    let orders = Orders::of(queues);
    feed(workspace_runs, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(run) => context_of_watch.children.open(run),
            Change::Deleted(run) => {
                context_of_watch.children.close(run);
                let children = context_of_watch.children.of(&run.uid().unwrap_or_default());
                for (namespace, child) in children.iter().filter(|(_, child)| child.phase == Phase::Queued) {
                    orders.wake_one(&context_of_watch, namespace, &child.run.name);
                }
            }
        }
        let _ = queue.send(Name::of(&*object(change)));
    });
}

/// A tenant wakes its workspace, accounts, repositories, schedules, runs and imported runs, and what may
/// wait for an approval; an account or a binding of ours wakes its tenant.
fn watch_tenants(
    context: &Arc<Context>,
    namespaces: Feed<Namespace>,
    accounts: Feed<ServiceAccount>,
    bindings: Feed<RoleBinding>,
    queues: &Queues,
    records: &Arc<Records>,
) {
    let context_of_watch = context.clone();
    let (tenants, repositories) = (queues.tenants.clone(), queues.repositories.clone());
    let (schedules, workspaces) = (queues.schedules.clone(), queues.workspaces.clone());
    let (orders, imported, records) = (Orders::of(queues), queues.imported.clone(), records.clone());
    feed(namespaces, &context.client, watcher::Config::default().labels(labels::WORKSPACE), move |change| {
        let context = &context_of_watch;
        let deleted = matches!(change, Change::Deleted(_));
        let namespace = object(change);
        let name = namespace.name_any();
        if deleted {
            context.registry.forget_tenant(&name);
        }
        let _ = tenants.send(Name::of(&*namespace));
        if let Some(workspace) = namespace.labels().get(labels::WORKSPACE) {
            let _ = workspaces.send(Name::new("", workspace));
        }
        for repository in context.repositories.names(&name) {
            let _ = repositories.send(Name::new(&name, &repository));
        }
        for schedule in context.schedules.names(&name) {
            let _ = schedules.send(Name::new(&name, &schedule));
        }
        let there = context.imported.names(&name).into_iter().map(|object| Name::new(&name, &object));
        for object in there.chain(records.of_namespace(&name)) {
            let _ = imported.send(object);
        }
        orders.wake(context, &name);
        context.wake(context.registry.by_namespace(&name));
    });
    let tenants = queues.tenants.clone();
    feed(accounts, &context.client, managed(), move |change| {
        let _ = tenants.send(tenant_of(&*object(change)));
    });
    let tenants = queues.tenants.clone();
    feed(bindings, &context.client, managed(), move |change| {
        let _ = tenants.send(tenant_of(&*object(change)));
    });
}

/// Repositories, schedules and restores, which runs are made for, wake themselves; a repository or
/// schedule of a workspace's template wakes its tenant, as does one that is deleted; and a restore
/// wakes, at its end, the workspace run that it was created for.
fn watch_made_for(
    context: &Arc<Context>,
    repositories: Feed<BackupRepository>,
    schedules: Feed<BackupSchedule>,
    restores: Feed<RestoreRun>,
    queues: &Queues,
) {
    let (metrics, queue, tenants) = (context.metrics.clone(), queues.repositories.clone(), queues.tenants.clone());
    feed(repositories, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(repository) => metrics.repository(repository),
            Change::Deleted(repository) => metrics.forget_repository(repository),
        }
        wake_tenant(&change, &tenants);
        let _ = queue.send(Name::of(&*object(change)));
    });
    let (metrics, queue, tenants) = (context.metrics.clone(), queues.schedules.clone(), queues.tenants.clone());
    feed(schedules, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(schedule) => metrics.schedule(schedule),
            Change::Deleted(schedule) => metrics.forget_schedule(schedule),
        }
        wake_tenant(&change, &tenants);
        let _ = queue.send(Name::of(&*object(change)));
    });
    let (context_of_watch, queue) = (context.clone(), queues.restores.clone());
    let workspace_runs = queues.workspace_runs.clone();
    feed(restores, &context.client, watcher::Config::default(), move |change| {
        wake_workspace_run(&context_of_watch.children, &change, &workspace_runs);
        let _ = queue.send(Name::of(&*object(change)));
    });
}

/// Its templates may be due for the tenant: an object of a template changed, or one made way for it.
fn wake_tenant<K: Resource>(change: &Change<K>, tenants: &mpsc::UnboundedSender<Name<Namespace>>) {
    let object = match change {
        Change::Applied(object) if is_templated(&**object) => object,
        Change::Applied(_) => return,
        Change::Deleted(object) => object,
    };
    let _ = tenants.send(tenant_of(&**object));
}

/// The queues of what may wait for an approval.
struct Orders {
    restores: mpsc::UnboundedSender<Name<RestoreRun>>,
    bulks: mpsc::UnboundedSender<Name<BulkOperationRun>>,
    workspace_runs: mpsc::UnboundedSender<Name<WorkspaceRun>>,
}

impl Orders {
    fn of(queues: &Queues) -> Self {
        let workspace_runs = queues.workspace_runs.clone();
        Self { restores: queues.restores.clone(), bulks: queues.bulks.clone(), workspace_runs }
    }

    /// Wakes the workspace runs of a workspace that have not started.
    fn wake_over(&self, context: &Context, workspace: &str) {
        for name in context.workspace_runs.names("") {
            let run = context.workspace_runs.get("", &name);
            let waits = |run: &WorkspaceRun| run.status.as_ref().is_none_or(|status| status.started_at.is_none());
            if run.is_some_and(|run| run.spec.workspace.name == workspace && !run.is_completed() && waits(&run)) {
                let _ = self.workspace_runs.send(Name::new("", &name));
            }
        }
    }

    /// Wakes the run, restore or bulk operation of a name; those that do not exist are ignored.
    fn wake_one(&self, context: &Context, namespace: &str, name: &str) {
        context.wake(std::iter::once(Name::new(namespace, name)));
        let _ = self.restores.send(Name::new(namespace, name));
        let _ = self.bulks.send(Name::new(namespace, name));
    }

    /// Wakes those of a tenant that are not completed.
    fn wake(&self, context: &Context, namespace: &str) {
        for name in context.restores.names(namespace) {
            if context.restores.get(namespace, &name).is_some_and(|restore| !restore.is_completed()) {
                let _ = self.restores.send(Name::new(namespace, &name));
            }
        }
        for name in context.bulks.names(namespace) {
            if context.bulks.get(namespace, &name).is_some_and(|bulk| !bulk.is_completed()) {
                let _ = self.bulks.send(Name::new(namespace, &name));
            }
        }
    }
}

/// An approval wakes what it approves.
fn watch_approvals(context: &Arc<Context>, approvals: Feed<Approval>, queues: &Queues) {
    let orders = Orders::of(queues);
    feed(approvals, &context.client, watcher::Config::default(), move |change| {
        let approval = object(change);
        let (namespace, approves) = (approval.namespace().unwrap_or_default(), &approval.spec.approves);
        let _ = match approves.kind {
            ApprovedKind::RestoreRun => orders.restores.send(Name::new(&namespace, &approves.name)).is_ok(),
            ApprovedKind::BulkOperationRun => orders.bulks.send(Name::new(&namespace, &approves.name)).is_ok(),
            ApprovedKind::WorkspaceRun => orders.workspace_runs.send(Name::new("", &approves.name)).is_ok(),
        };
    });
}

/// A finding wakes itself. Nothing else depends on it.
fn watch_findings(context: &Arc<Context>, findings: Feed<Finding>, queues: &Queues) {
    let (metrics, queue) = (context.metrics.clone(), queues.findings.clone());
    feed(findings, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(finding) => metrics.finding(finding),
            Change::Deleted(finding) => metrics.forget_finding(finding),
        }
        let _ = queue.send(Name::of(&*object(change)));
    });
}

/// An imported run wakes itself: nobody else may have changed it.
fn watch_imported(context: &Arc<Context>, imported: Feed<ImportedRun>, queues: &Queues) {
    let queue = queues.imported.clone();
    feed(imported, &context.client, watcher::Config::default(), move |change| {
        let _ = queue.send(Name::of(&*object(change)));
    });
}

fn object<K>(change: Change<K>) -> Arc<K> {
    match change {
        Change::Applied(object) | Change::Deleted(object) => object,
    }
}

fn tenant_of<K: Resource>(object: &K) -> Name<Namespace> {
    Name::new("", object.meta().namespace.as_deref().unwrap_or_default())
}

/// Starts a watch that feeds a cache.
fn feed<K: Slim>(
    feed: Feed<K>,
    client: &Client,
    config: watcher::Config,
    changed: impl FnMut(Change<K>) + Send + 'static,
) {
    let api: Api<Incoming<K>> = Api::all(client.clone());
    let events = watcher(api, config.page_size(PAGE)).default_backoff();
    tokio::spawn(feed.run(events, changed));
}
