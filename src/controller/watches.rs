//! Watches, and who is looked at because of what they bring.

use super::{
    Context, Error, Settings, backup_repository, backup_schedule,
    cache::{Cache, Change, Feed, Incoming},
    events::Events,
    operation_run::{self, registry::Registry},
    operation_type,
    queue::{self, Again, Behind, Precedence, Rush},
    restore_run,
    slim::Slim,
    tenant,
};
use crate::{
    api::{
        BackupRepository, BackupSchedule, OperationRun, OperationType, RestoreRun, backup_schedule::origin, labels,
        operation_run::SchedulerKind,
    },
    clock::SharedClock,
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
    runtime::{WatchStreamExt, reflector::ObjectRef, watcher},
};
use std::{future::Future, sync::Arc, time::Duration};
use tokio::sync::{mpsc, watch};
use tracing::Instrument;

/// Pods' label with the name of their Job, set by the Job controller.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Objects in a page of a list: few, for a page is held in full while it is read, and leaves holes between what is kept of it.
const PAGE: u32 = 50;

/// Objects to reconcile, by kind.
struct Queues {
    runs: mpsc::UnboundedSender<ObjectRef<OperationRun>>,
    types: mpsc::UnboundedSender<ObjectRef<OperationType>>,
    tenants: mpsc::UnboundedSender<ObjectRef<Namespace>>,
    repositories: mpsc::UnboundedSender<ObjectRef<BackupRepository>>,
    restores: mpsc::UnboundedSender<ObjectRef<RestoreRun>>,
    schedules: mpsc::UnboundedSender<ObjectRef<BackupSchedule>>,
}

/// The sides of the caches that the watches feed.
struct Feeds {
    runs: Feed<OperationRun>,
    jobs: Feed<Job>,
    pods: Feed<Pod>,
    types: Feed<OperationType>,
    repositories: Feed<BackupRepository>,
    restores: Feed<RestoreRun>,
    schedules: Feed<BackupSchedule>,
    namespaces: Feed<Namespace>,
    accounts: Feed<ServiceAccount>,
    bindings: Feed<RoleBinding>,
}

/// What the process brings along.
pub(super) struct Surroundings {
    /// The one way to the API server.
    pub(super) client: Client,
    /// The one clock.
    pub(super) clock: SharedClock,
    /// What does not change.
    pub(super) settings: Settings,
    /// Where events go.
    pub(super) events: Events,
    /// Counters.
    pub(super) metrics: Metrics,
    /// Most passes over runs at once.
    pub(super) concurrency: u16,
}

/// Watches and reconciles until told to end; then waits for running passes.
pub(super) async fn work(surroundings: Surroundings, ended: watch::Receiver<bool>) {
    let concurrency = surroundings.concurrency;
    let (runs, run_line) = mpsc::unbounded_channel();
    let (types, type_line) = mpsc::unbounded_channel();
    let (tenants, tenant_line) = mpsc::unbounded_channel();
    let (repositories, repository_line) = mpsc::unbounded_channel();
    let (restores, restore_line) = mpsc::unbounded_channel();
    let (schedules, schedule_line) = mpsc::unbounded_channel();
    let queues = Queues { runs, types, tenants, repositories, restores, schedules };
    let (context, feeds) = caches(surroundings, &queues);
    watch_runs(&context, feeds.runs, &queues);
    watch_work(&context, feeds.jobs, feeds.pods, feeds.types, &queues);
    watch_tenants(&context, feeds.namespaces, feeds.accounts, feeds.bindings, &queues);
    let (queue, it) = (queues.repositories, context.clone());
    feed(feeds.repositories, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(repository) => it.metrics.repository(repository),
            Change::Deleted(repository) => it.metrics.forget_repository(repository),
        }
        let _ = queue.send(ObjectRef::from_obj(&*object(change)));
    });

    let (queue, it) = (queues.schedules, context.clone());
    feed(feeds.schedules, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(schedule) => it.metrics.schedule(schedule),
            Change::Deleted(schedule) => it.metrics.forget_schedule(schedule),
        }
        let _ = queue.send(ObjectRef::from_obj(&*object(change)));
    });
    let queue = queues.restores;
    feed(feeds.restores, &context.client, watcher::Config::default(), move |change| {
        let _ = queue.send(ObjectRef::from_obj(&*object(change)));
    });
    // A decision on half a view could be a wrong one: all caches are filled first.
    tokio::join!(
        context.runs.ready(),
        context.jobs.ready(),
        context.pods.ready(),
        context.types.ready(),
        context.repositories.ready(),
        context.restores.ready(),
        context.schedules.ready(),
        context.namespaces.ready(),
        context.accounts.ready(),
        context.bindings.ready()
    );
    tracing::info!(runs = context.runs.len(), tenants = context.namespaces.len(), "caches filled");
    let rush = Rush::default();
    let (before, behind) = (Precedence::Before(&rush), Precedence::Behind(&rush));
    let line = |concurrency, precedence| Line { context: &context, concurrency, precedence, ended: &ended };
    let few = || line(4, Precedence::None);
    tokio::join!(
        line(concurrency, behind).passes(unhurried(operation_run::reconcile), &context.runs, run_line),
        few().passes(unhurried(operation_type::reconcile), &context.types, type_line),
        few().passes(unhurried(tenant::reconcile), &context.namespaces, tenant_line),
        few().passes(unhurried(backup_repository::reconcile), &context.repositories, repository_line),
        few().passes(unhurried(restore_run::reconcile), &context.restores, restore_line),
        line(concurrency, before).passes(backup_schedule::reconcile, &context.schedules, schedule_line),
    );
}

fn caches(surroundings: Surroundings, queues: &Queues) -> (Arc<Context>, Feeds) {
    let Surroundings { client, clock, settings, events, metrics, concurrency: _ } = surroundings;
    let (runs, run_feed) = Cache::new(|run: &OperationRun| origin(run).map(|origin| origin.schedule));
    let (jobs, job_feed) = Cache::new(|_| None);
    let (pods, pod_feed) = Cache::new(|pod: &Pod| pod.labels().get(JOB_NAME).cloned());
    let (types, type_feed) = Cache::new(|_| None);
    let (repositories, repository_feed) = Cache::new(|_| None);
    let (restores, restore_feed) = Cache::new(|_| None);
    let (schedules, schedule_feed) = Cache::new(|_| None);
    let (namespaces, namespace_feed) = Cache::new(|_| None);
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
        repositories,
        restores,
        schedules,
        namespaces,
        accounts,
        bindings,
        registry: Registry::default(),
        taken: super::Taken::default(),
        events,
        metrics,
        queue: queues.runs.clone(),
    };
    let feeds = Feeds {
        runs: run_feed,
        jobs: job_feed,
        pods: pod_feed,
        types: type_feed,
        repositories: repository_feed,
        restores: restore_feed,
        schedules: schedule_feed,
        namespaces: namespace_feed,
        accounts: account_feed,
        bindings: binding_feed,
    };
    (Arc::new(context), feeds)
}

/// Objects that bear our label.
fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER))
}

/// A run's change concerns itself, those whom the registry names, and the repository, restore or schedule it was made for.
fn watch_runs(context: &Arc<Context>, runs: Feed<OperationRun>, queues: &Queues) {
    let it = context.clone();
    let (repositories, restores) = (queues.repositories.clone(), queues.restores.clone());
    let schedules = queues.schedules.clone();
    feed(runs, &context.client, watcher::Config::default(), move |change| {
        let wake = match &change {
            Change::Applied(run) => it.registry.apply(run),
            Change::Deleted(run) => {
                let namespace = run.namespace().unwrap_or_default();
                it.registry.remove(run, it.namespaces.get("", &namespace).is_some())
            }
        };
        let gone = matches!(change, Change::Deleted(_));
        let run = object(change);
        let namespace = run.namespace().unwrap_or_default();
        // Whom to look at only: that a run names an owner is believed by nobody.
        for owner in run.owner_references().iter().filter(|owner| owner.kind == "RestoreRun") {
            let _ = restores.send(ObjectRef::new(&owner.name).within(&namespace));
        }
        match &run.spec.scheduled_by {
            Some(by) if by.kind == SchedulerKind::BackupRepository => {
                let _ = repositories.send(ObjectRef::new(&by.name).within(&namespace));
            }
            // The schedule that made it is told of its end, and of what it waits for: from what lies in between nothing follows. Where
            // thousands are due at once, half of all passes would be about runs that were just made.
            Some(by) if gone || run.is_completed() || it.is_told_of_waiting(&namespace, &by.name, &run) => {
                let _ = schedules.send(ObjectRef::new(&by.name).within(&namespace));
            }
            _ => {}
        }
        it.wake(std::iter::once(ObjectRef::from_obj(&*run)).chain(wake));
    });
}

/// A Job's or pod's change concerns its run and those of the same identity; a type's, itself and the runs of that type.
fn watch_work(context: &Arc<Context>, jobs: Feed<Job>, pods: Feed<Pod>, types: Feed<OperationType>, queues: &Queues) {
    let it = context.clone();
    feed(jobs, &context.client, ours(), move |change| {
        let job = object(change);
        let namespace = job.namespace().unwrap_or_default();
        let owners = job.owner_references().iter().filter(|owner| owner.kind == "OperationRun");
        it.wake(owners.map(|owner| ObjectRef::new(&owner.name).within(&namespace)));
        it.wake(it.registry.by_job_name(&namespace, &job.name_any()));
    });
    let it = context.clone();
    feed(pods, &context.client, watcher::Config::default().labels(labels::RUN_UID), move |change| {
        let pod = object(change);
        if let Some(job) = pod.labels().get(JOB_NAME) {
            it.wake(it.registry.by_job_name(&pod.namespace().unwrap_or_default(), job));
        }
    });
    let (it, queue) = (context.clone(), queues.types.clone());
    feed(types, &context.client, watcher::Config::default(), move |change| {
        match &change {
            Change::Applied(operation_type) => it.metrics.operation_type(operation_type),
            Change::Deleted(operation_type) => it.metrics.forget_operation_type(operation_type),
        }
        let operation_type = object(change);
        let _ = queue.send(ObjectRef::from_obj(&*operation_type));
        it.wake(it.registry.by_type(&operation_type.name_any()));
    });
}

/// A tenant's change concerns its accounts, its repositories, its schedules and its runs.
fn watch_tenants(
    context: &Arc<Context>,
    namespaces: Feed<Namespace>,
    accounts: Feed<ServiceAccount>,
    bindings: Feed<RoleBinding>,
    queues: &Queues,
) {
    let it = context.clone();
    let (tenants, repositories) = (queues.tenants.clone(), queues.repositories.clone());
    let schedules = queues.schedules.clone();
    feed(namespaces, &context.client, watcher::Config::default().labels(labels::WORKSPACE), move |change| {
        let is_gone = matches!(change, Change::Deleted(_));
        let namespace = object(change);
        let name = namespace.name_any();
        if is_gone {
            it.registry.forget_tenant(&name);
        }
        let _ = tenants.send(ObjectRef::from_obj(&*namespace));
        for repository in it.repositories.names(&name) {
            let _ = repositories.send(ObjectRef::new(&repository).within(&name));
        }
        for schedule in it.schedules.names(&name) {
            let _ = schedules.send(ObjectRef::new(&schedule).within(&name));
        }
        it.wake(it.registry.by_namespace(&name));
    });
    let tenants = queues.tenants.clone();
    feed(accounts, &context.client, ours(), move |change| {
        let _ = tenants.send(tenant_of(&*object(change)));
    });
    let tenants = queues.tenants.clone();
    feed(bindings, &context.client, ours(), move |change| {
        let _ = tenants.send(tenant_of(&*object(change)));
    });
}

fn object<K>(change: Change<K>) -> Arc<K> {
    match change {
        Change::Applied(object) | Change::Deleted(object) => object,
    }
}

fn tenant_of<K: Resource>(object: &K) -> ObjectRef<Namespace> {
    ObjectRef::new(&object.meta().namespace.clone().unwrap_or_default())
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

/// How a line of objects is worked off.
struct Line<'a> {
    context: &'a Arc<Context>,
    concurrency: u16,
    precedence: Precedence<'a>,
    ended: &'a watch::Receiver<bool>,
}

impl Line<'_> {
    /// Reconciles what stands in line until told to end.
    async fn passes<K, R>(
        self,
        mut reconcile: impl FnMut(Arc<K>, Arc<Context>, Behind) -> R,
        cache: &Cache<K>,
        line: mpsc::UnboundedReceiver<ObjectRef<K>>,
    ) where
        K: Slim,
        R: Future<Output = Result<Again, Error>>,
    {
        let begin = |reference: ObjectRef<K>, behind: Behind| {
            let object = cache.get(reference.namespace.as_deref().unwrap_or_default(), &reference.name)?;
            let context = self.context.clone();
            // Every line that a pass logs says of which object.
            let namespace = object.namespace().unwrap_or_default();
            let span = tracing::info_span!("reconcile", kind = %K::kind(&()), namespace, name = object.name_any(), uid = object.uid());
            let pass = reconcile(object, context.clone(), behind);
            let pass = async move {
                pass.await.unwrap_or_else(|error| {
                    if !matches!(error, Error::Again(_)) {
                        context.metrics.pass_failed();
                        tracing::warn!(%error, "pass failed; it is tried again");
                    }
                    Again::Retry(error.class(), error.retry_after().unwrap_or_default())
                })
            };
            Some(pass.instrument(span))
        };
        let concurrency = usize::from(self.concurrency);
        queue::work(line, concurrency, self.precedence, self.ended.clone(), namespace_of, begin).await;
    }
}

/// Whose turn an object takes: its namespace's. A namespace takes its own.
fn namespace_of<K: Resource<DynamicType = ()>>(reference: &ObjectRef<K>) -> String {
    reference.namespace.clone().unwrap_or_else(|| reference.name.clone())
}

/// A pass that does all there is to do, whoever waits behind it.
fn unhurried<K, R>(
    mut reconcile: impl FnMut(Arc<K>, Arc<Context>) -> R,
) -> impl FnMut(Arc<K>, Arc<Context>, Behind) -> BoxFuture<'static, Result<Again, Error>>
where
    R: Future<Output = Result<Option<Duration>, Error>> + Send + 'static,
{
    move |object, context, _| {
        let pass = reconcile(object, context);
        Box::pin(async move { pass.await.map(Again::from) })
    }
}
