//! Watches, and which objects a change wakes: the one place where kinds are wired to their caches,
//! queues and reconcilers.

use crate::{
    api::{
        Approval, BackupRepository, BackupSchedule, BulkOperationRun, Finding, OperationRun, OperationType, Reason,
        RestoreRun, Workspace, WorkspaceRun, approval::ApprovedKind, backup_schedule::origin, labels,
        operation_run::SchedulerKind,
    },
    clock::SharedClock,
    kernel::{
        Error,
        cache::{Cache, Change, Feed, Incoming},
        events::Events,
        lease::Term,
        name::Name,
        queue::{self, Backlog, Others, Precedence, Requeue},
        slim::Slim,
    },
    kinds::{
        backup_repository, backup_schedule, bulk_operation_run, finding, operation_type, restore_run,
        tenant::{self, template::is_templated},
        workspace, workspace_run,
    },
    runs::{
        self,
        children::Children,
        context::{Context, Settings, Taken},
        registry::Registry,
        waiting::waits,
    },
    telemetry::metrics::Metrics,
};
use futures::future::BoxFuture;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{WatchStreamExt, watcher},
};
use std::{collections::HashMap, future::Future, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

/// Pods' label with the name of their Job, set by the Job controller.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Objects in a page of a list. A page is held in full while it is read and leaves holes between
/// what is kept of it, so it is small.
const PAGE: u32 = 50;

/// Reconciles at once of each kind but runs and schedules.
const FEW: u16 = 4;

/// The queues of the kinds that are reconciled.
struct Queues {
    runs: mpsc::UnboundedSender<Name<OperationRun>>,
    types: mpsc::UnboundedSender<Name<OperationType>>,
    workspaces: mpsc::UnboundedSender<Name<Workspace>>,
    workspace_runs: mpsc::UnboundedSender<Name<WorkspaceRun>>,
    tenants: mpsc::UnboundedSender<Name<Namespace>>,
    repositories: mpsc::UnboundedSender<Name<BackupRepository>>,
    restores: mpsc::UnboundedSender<Name<RestoreRun>>,
    bulks: mpsc::UnboundedSender<Name<BulkOperationRun>>,
    schedules: mpsc::UnboundedSender<Name<BackupSchedule>>,
    findings: mpsc::UnboundedSender<Name<Finding>>,
}

/// The write sides of the caches.
struct Feeds {
    runs: Feed<OperationRun>,
    jobs: Feed<Job>,
    pods: Feed<Pod>,
    types: Feed<OperationType>,
    workspaces: Feed<Workspace>,
    workspace_runs: Feed<WorkspaceRun>,
    repositories: Feed<BackupRepository>,
    restores: Feed<RestoreRun>,
    bulks: Feed<BulkOperationRun>,
    schedules: Feed<BackupSchedule>,
    findings: Feed<Finding>,
    approvals: Feed<Approval>,
    namespaces: Feed<Namespace>,
    accounts: Feed<ServiceAccount>,
    bindings: Feed<RoleBinding>,
}

/// What the process hands over to its leading part.
pub(super) struct Setup {
    /// The one way to the API server.
    pub(super) client: Client,
    /// The one clock.
    pub(super) clock: SharedClock,
    /// What does not change while the process runs.
    pub(super) settings: Settings,
    /// Where events are published.
    pub(super) events: Events,
    /// Counters.
    pub(super) metrics: Metrics,
    /// The most reconciles of runs at once.
    pub(super) concurrency: u16,
    /// While it is current, reconciles may start.
    pub(super) term: Term,
}

/// Watches and reconciles until told to end; then waits for what is in flight.
pub(super) async fn run(setup: Setup, ended: watch::Receiver<bool>) {
    let (concurrency, term) = (setup.concurrency, setup.term.clone());
    let (runs, added_runs) = mpsc::unbounded_channel();
    let (types, added_types) = mpsc::unbounded_channel();
    let (workspaces, added_workspaces) = mpsc::unbounded_channel();
    let (workspace_runs, added_workspace_runs) = mpsc::unbounded_channel();
    let (tenants, added_tenants) = mpsc::unbounded_channel();
    let (repositories, added_repositories) = mpsc::unbounded_channel();
    let (restores, added_restores) = mpsc::unbounded_channel();
    let (bulks, added_bulks) = mpsc::unbounded_channel();
    let (schedules, added_schedules) = mpsc::unbounded_channel();
    let (findings, added_findings) = mpsc::unbounded_channel();
    let queues =
        Queues { runs, types, workspaces, workspace_runs, tenants, repositories, restores, bulks, schedules, findings };
    let (context, feeds) = caches(setup, &queues);
    watch_runs(&context, feeds.runs, &queues);
    watch_jobs_and_pods(&context, feeds.jobs, feeds.pods);
    watch_types(&context, feeds.types, &queues);
    watch_workspaces(&context, feeds.workspaces, &queues);
    watch_workspace_runs(&context, feeds.workspace_runs, &queues);
    watch_tenants(&context, feeds.namespaces, feeds.accounts, feeds.bindings, &queues);
    watch_made_for(&context, feeds.repositories, feeds.schedules, feeds.restores, &queues);
    watch_bulks(&context, feeds.bulks, &queues);
    watch_findings(&context, feeds.findings, &queues);
    watch_approvals(&context, feeds.approvals, &queues);
    drop(queues);
    // A decision on half a view could be a wrong one: all caches are filled first.
    tokio::join!(
        context.runs.ready(),
        context.jobs.ready(),
        context.pods.ready(),
        context.types.ready(),
        context.workspaces.ready(),
        context.workspace_runs.ready(),
        context.repositories.ready(),
        context.restores.ready(),
        context.bulks.ready(),
        context.schedules.ready(),
        context.findings.ready(),
        context.approvals.ready(),
        context.namespaces.ready(),
        context.accounts.ready(),
        context.bindings.ready()
    );
    tracing::info!(runs = context.runs.len(), tenants = context.namespaces.len(), "caches filled");
    // Schedules go first: their runs are on record before any run is reconciled.
    let due = Backlog::default();
    let controller =
        |concurrency, precedence| Controller { context: &context, concurrency, precedence, ended: &ended, term: &term };
    let few = || controller(FEW, Precedence::None);
    let baselines = Arc::new(finding::Baselines::default());
    let passes = Arc::new(workspace_run::Passes::default());
    let fan_out = move |run, context| workspace_run::reconcile(run, context, passes.clone());
    let judge = move |found, context| finding::reconcile(found, context, baselines.clone());
    tokio::join!(
        controller(concurrency, Precedence::Second(&due)).run(alone(runs::reconcile), &context.runs, added_runs),
        few().run(alone(operation_type::reconcile), &context.types, added_types),
        few().run(alone(workspace::reconcile), &context.workspaces, added_workspaces),
        few().run(alone(fan_out), &context.workspace_runs, added_workspace_runs),
        few().run(alone(tenant::reconcile), &context.namespaces, added_tenants),
        few().run(alone(backup_repository::reconcile), &context.repositories, added_repositories),
        few().run(alone(restore_run::reconcile), &context.restores, added_restores),
        few().run(alone(bulk_operation_run::reconcile), &context.bulks, added_bulks),
        few().run(alone(judge), &context.findings, added_findings),
        controller(concurrency, Precedence::First(&due)).run(
            backup_schedule::reconcile,
            &context.schedules,
            added_schedules
        ),
    );
}

fn caches(setup: Setup, queues: &Queues) -> (Arc<Context>, Feeds) {
    let Setup { client, clock, settings, events, metrics, concurrency: _, term: _ } = setup;
    let (runs, run_feed) = Cache::new(|run: &OperationRun| origin(run).map(|origin| origin.schedule));
    let (jobs, job_feed) = Cache::new(|_| None);
    let (pods, pod_feed) = Cache::new(|pod: &Pod| pod.labels().get(JOB_NAME).cloned());
    let (types, type_feed) = Cache::new(|_| None);
    let (workspaces, workspace_feed) = Cache::new(|_| None);
    let (workspace_runs, workspace_run_feed) = Cache::new(|_| None);
    let (repositories, repository_feed) = Cache::new(|_| None);
    let (restores, restore_feed) = Cache::new(|_| None);
    let (bulks, bulk_feed) = Cache::new(|_| None);
    let (schedules, schedule_feed) = Cache::new(|_| None);
    let (findings, finding_feed) = Cache::new(|_| None);
    let (approvals, approval_feed) = Cache::new(|_| None);
    let (namespaces, namespace_feed) =
        Cache::new(|namespace: &Namespace| namespace.labels().get(labels::WORKSPACE).cloned());
    let (accounts, account_feed) = Cache::new(|_| None);
    let (bindings, binding_feed) = Cache::new(|_| None);
    let context = Context {
        client,
        clock,
        settings,
        runs,
        jobs,
        pods,
        types,
        workspaces,
        workspace_runs,
        repositories,
        restores,
        bulks,
        schedules,
        findings,
        approvals,
        namespaces,
        accounts,
        bindings,
        registry: Registry::default(),
        children: Children::default(),
        taken: Taken::default(),
        events,
        metrics,
        queue: queues.runs.clone(),
    };
    let feeds = Feeds {
        runs: run_feed,
        jobs: job_feed,
        pods: pod_feed,
        types: type_feed,
        workspaces: workspace_feed,
        workspace_runs: workspace_run_feed,
        repositories: repository_feed,
        restores: restore_feed,
        bulks: bulk_feed,
        schedules: schedule_feed,
        findings: finding_feed,
        approvals: approval_feed,
        namespaces: namespace_feed,
        accounts: account_feed,
        bindings: binding_feed,
    };
    (Arc::new(context), feeds)
}

/// Objects with our label.
fn managed() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER))
}

/// A run wakes itself, the runs that the registry names, and the repository, restore, bulk operation,
/// schedule or workspace run that it was made for.
fn watch_runs(context: &Arc<Context>, runs: Feed<OperationRun>, queues: &Queues) {
    let context_of_watch = context.clone();
    let (repositories, restores, bulks) = (queues.repositories.clone(), queues.restores.clone(), queues.bulks.clone());
    let (schedules, workspace_runs) = (queues.schedules.clone(), queues.workspace_runs.clone());
    feed(runs, &context.client, watcher::Config::default(), move |change| {
        let context = &context_of_watch;
        let wake = match &change {
            Change::Applied(run) => {
                context.children.apply(run);
                context.registry.apply(run)
            }
            Change::Deleted(run) => {
                let namespace = run.namespace().unwrap_or_default();
                context.children.remove(run);
                context.registry.remove(run, context.namespaces.get("", &namespace).is_some())
            }
        };
        let deleted = matches!(change, Change::Deleted(_));
        let run = object(change);
        let namespace = run.namespace().unwrap_or_default();
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

/// Bulk operations wake themselves.
fn watch_bulks(context: &Arc<Context>, bulks: Feed<BulkOperationRun>, queues: &Queues) {
    let queue = queues.bulks.clone();
    feed(bulks, &context.client, watcher::Config::default(), move |change| {
        let _ = queue.send(Name::of(&*object(change)));
    });
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

/// Workspace runs wake themselves.
fn watch_workspace_runs(context: &Arc<Context>, workspace_runs: Feed<WorkspaceRun>, queues: &Queues) {
    let (context_of_watch, queue) = (context.clone(), queues.workspace_runs.clone());
    feed(workspace_runs, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(run) => context_of_watch.children.open(run),
            Change::Deleted(run) => context_of_watch.children.close(run),
        }
        let _ = queue.send(Name::of(&*object(change)));
    });
}

/// A tenant wakes its workspace, accounts, repositories, schedules and runs, and what may wait for an
/// approval; an account or a binding of ours wakes its tenant.
fn watch_tenants(
    context: &Arc<Context>,
    namespaces: Feed<Namespace>,
    accounts: Feed<ServiceAccount>,
    bindings: Feed<RoleBinding>,
    queues: &Queues,
) {
    let context_of_watch = context.clone();
    let (tenants, repositories) = (queues.tenants.clone(), queues.repositories.clone());
    let (schedules, workspaces) = (queues.schedules.clone(), queues.workspaces.clone());
    let orders = Orders::of(queues);
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

/// Repositories, schedules and restores, which runs are made for, wake themselves; and a repository
/// or schedule of a workspace's template wakes its tenant, as does one that is deleted.
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
    let queue = queues.restores.clone();
    feed(restores, &context.client, watcher::Config::default(), move |change| {
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
}

impl Orders {
    fn of(queues: &Queues) -> Self {
        Self { restores: queues.restores.clone(), bulks: queues.bulks.clone() }
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

/// Reconciles the objects of one kind.
struct Controller<'a> {
    context: &'a Arc<Context>,
    concurrency: u16,
    precedence: Precedence<'a>,
    ended: &'a watch::Receiver<bool>,
    term: &'a Term,
}

impl Controller<'_> {
    /// Reconciles what is added until told to end.
    async fn run<K, R>(
        self,
        mut reconcile: impl FnMut(Arc<K>, Arc<Context>, Others) -> R,
        cache: &Cache<K>,
        added: mpsc::UnboundedReceiver<Name<K>>,
    ) where
        K: Slim,
        R: Future<Output = Result<Requeue, Error>>,
    {
        let start = |reference: Name<K>, others: Others| {
            // The process is about to end, and the next leader reconciles everything.
            if !self.term.is_current() {
                tracing::warn!(object = %reference, "not reconciled: the Lease was not renewed in time");
                return None;
            }
            let object = cache.get(reference.namespace(), reference.name())?;
            let context = self.context.clone();
            // Each line that a reconcile logs says of which object.
            let namespace = object.namespace().unwrap_or_default();
            let span = tracing::info_span!(
                "reconcile",
                kind = %K::kind(&()),
                namespace,
                name = object.name_any(),
                uid = object.uid()
            );
            let pass = reconcile(object, context.clone(), others);
            let pass = async move {
                pass.await.unwrap_or_else(|error| {
                    if !matches!(error, Error::Again(_)) {
                        context.metrics.pass_failed();
                        tracing::warn!(%error, "reconcile failed; it is retried");
                    }
                    Requeue::Retry(error.class(), error.retry_after().unwrap_or_default())
                })
            };
            Some(pass.instrument(span))
        };
        let concurrency = usize::from(self.concurrency);
        queue::run(added, concurrency, self.precedence, self.ended.clone(), namespace_of, start).await;
    }
}

/// The namespace whose turn an object takes. A namespace takes its own.
fn namespace_of<K>(reference: &Name<K>) -> String {
    Some(reference.namespace()).filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| reference.name()).to_owned()
}

/// A reconciler that does the same whether others wait or not.
fn alone<K, R>(
    mut reconcile: impl FnMut(Arc<K>, Arc<Context>) -> R,
) -> impl FnMut(Arc<K>, Arc<Context>, Others) -> BoxFuture<'static, Result<Requeue, Error>>
where
    R: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    move |object, context, _| {
        let pass = reconcile(object, context);
        Box::pin(async move { pass.await.map(Requeue::from) })
    }
}
