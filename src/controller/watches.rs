//! Watches, and who is looked at because of what they bring.

use super::{
    Context, Error, Settings, backup_repository,
    cache::{Cache, Change, Feed},
    events::Events,
    operation_run::{self, registry::Registry},
    tenant,
};
use crate::{
    api::{BackupRepository, labels},
    clock::SharedClock,
    telemetry::metrics::Metrics,
};
use futures::{FutureExt, Stream, StreamExt};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        controller::{self, Action, applier},
        reflector::{ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, future::Future, sync::Arc};
use tokio::sync::{mpsc, watch};

/// Pods' label with the name of their Job, set by the Job controller.
const JOB_NAME: &str = "batch.kubernetes.io/job-name";

/// Watches and reconciles until told to end; then waits for running passes.
pub(super) async fn work(
    client: Client,
    clock: SharedClock,
    settings: Settings,
    events: Events,
    metrics: Metrics,
    concurrency: u16,
    ended: watch::Receiver<bool>,
) {
    let (run_queue, run_line) = mpsc::unbounded_channel();
    let (tenant_queue, tenant_line) = mpsc::unbounded_channel::<ObjectRef<Namespace>>();
    let (repository_queue, repository_line) = mpsc::unbounded_channel::<ObjectRef<BackupRepository>>();
    let (runs, run_feed) = Cache::new(|_| None);
    let (jobs, job_feed) = Cache::new(|_| None);
    let (pods, pod_feed) = Cache::new(|pod: &Pod| pod.labels().get(JOB_NAME).cloned());
    let (types, type_feed) = Cache::new(|_| None);
    let (repositories, repository_feed) = Cache::new(|_| None);
    let (namespaces, namespace_feed) = Cache::new(|_| None);
    let (accounts, account_feed) = Cache::new(|_| None);
    let (bindings, binding_feed) = Cache::new(|_| None);
    let context = Arc::new(Context {
        client: client.clone(),
        clock,
        settings,
        runs: runs.clone(),
        jobs: jobs.clone(),
        pods: pods.clone(),
        types: types.clone(),
        repositories: repositories.clone(),
        namespaces: namespaces.clone(),
        accounts: accounts.clone(),
        bindings: bindings.clone(),
        registry: Registry::default(),
        taken: super::Taken::default(),
        events,
        metrics,
        queue: run_queue.clone(),
    });

    let ours = watcher::Config::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::MANAGER));
    let everything = watcher::Config::default();
    let tenants = watcher::Config::default().labels(labels::WORKSPACE);
    let job_pods = watcher::Config::default().labels(labels::RUN_UID);

    let it = context.clone();
    let repository_wake = repository_queue.clone();
    feed(run_feed, &client, everything.clone(), move |change| {
        let (run, wake) = match change {
            Change::Applied(run) => {
                let wake = it.registry.apply(&run);
                (run, wake)
            }
            Change::Deleted(run) => {
                let wake = it.registry.remove(&run);
                (run, wake)
            }
        };
        // A repository waits for the end of its check.
        for owner in run.owner_references().iter().filter(|owner| owner.kind == "BackupRepository") {
            let _ = repository_wake.send(ObjectRef::new(&owner.name).within(&run.namespace().unwrap_or_default()));
        }
        it.wake(std::iter::once(ObjectRef::from_obj(&*run)).chain(wake));
    });
    let it = context.clone();
    feed(job_feed, &client, ours.clone(), move |change| {
        let job = object(change);
        let namespace = job.namespace().unwrap_or_default();
        let owners = job.owner_references().iter().filter(|owner| owner.kind == "OperationRun");
        it.wake(owners.map(|owner| ObjectRef::new(&owner.name).within(&namespace)));
        it.wake(it.registry.by_job_name(&namespace, &job.name_any()));
    });
    let it = context.clone();
    feed(pod_feed, &client, job_pods, move |change| {
        let pod = object(change);
        let namespace = pod.namespace().unwrap_or_default();
        if let Some(job) = pod.labels().get(JOB_NAME) {
            it.wake(it.registry.by_job_name(&namespace, job));
        }
    });
    let it = context.clone();
    feed(type_feed, &client, everything.clone(), move |change| {
        it.wake(it.registry.by_type(&object(change).name_any()));
    });
    feed(repository_feed, &client, everything, {
        let queue = repository_queue.clone();
        move |change| drop(queue.send(ObjectRef::from_obj(&*object(change))))
    });
    let it = context.clone();
    let tenant_wake = tenant_queue.clone();
    feed(namespace_feed, &client, tenants, move |change| {
        let namespace = object(change);
        let name = namespace.name_any();
        let _ = tenant_wake.send(ObjectRef::from_obj(&*namespace));
        for repository in it.repositories.store().state().iter().filter(|one| one.namespace().as_deref() == Some(&name))
        {
            let _ = repository_queue.send(ObjectRef::from_obj(&**repository));
        }
        it.wake(it.registry.by_namespace(&name));
    });
    let queue = tenant_queue.clone();
    feed(account_feed, &client, ours.clone(), move |change| drop(queue.send(tenant_of(&*object(change)))));
    feed(binding_feed, &client, ours, move |change| drop(tenant_queue.send(tenant_of(&*object(change)))));

    // A decision on half a view could be a wrong one: all caches are filled first.
    tokio::join!(
        runs.ready(),
        jobs.ready(),
        pods.ready(),
        types.ready(),
        repositories.ready(),
        namespaces.ready(),
        accounts.ready(),
        bindings.ready()
    );
    tracing::info!(runs = runs.store().len(), tenants = namespaces.store().len(), "caches filled");

    tokio::join!(
        passes(operation_run::reconcile, runs.store(), run_line, &context, concurrency, &ended),
        passes(tenant::reconcile, namespaces.store(), tenant_line, &context, 4, &ended),
        passes(backup_repository::reconcile, repositories.store(), repository_line, &context, 4, &ended),
    );
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
fn feed<K>(feed: Feed<K>, client: &Client, config: watcher::Config, changed: impl FnMut(Change<K>) + Send + 'static)
where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + DeserializeOwned + 'static,
{
    let api: Api<DeserializeGuard<K>> = Api::all(client.clone());
    let events = watcher(api, config)
        .modify(|guard| {
            // Half of every object, and nothing here reads it.
            if let Ok(object) = &mut guard.0 {
                object.managed_fields_mut().clear();
            }
        })
        .default_backoff();
    tokio::spawn(feed.run(events, changed));
}

/// Reconciles what stands in line, one pass at a time for each object, until told to end.
async fn passes<K, R>(
    mut reconcile: impl FnMut(Arc<K>, Arc<Context>) -> R,
    store: Store<K>,
    line: mpsc::UnboundedReceiver<ObjectRef<K>>,
    context: &Arc<Context>,
    concurrency: u16,
    ended: &watch::Receiver<bool>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
    R: Future<Output = Result<Action, Error>> + Send + 'static,
{
    let mut ended = ended.clone();
    let end = async move {
        // An error means that the sender is gone, and the process with it.
        let _ = ended.wait_for(|ended| *ended).await;
    };
    let queue = lined_up(line).take_until(end).map(Ok::<_, std::convert::Infallible>);
    applier(
        move |object, context| reconcile(object, context).boxed(),
        |object, error, context: Arc<Context>| {
            let progress = matches!(error, Error::Again(_));
            if !progress {
                context.metrics.pass_failed();
                tracing::warn!(kind = %K::kind(&()), name = object.name_any(), namespace = ?object.namespace(), %error, "pass failed; it is tried again");
            }
            Action::requeue(error.retry_after())
        },
        context.clone(),
        store,
        queue,
        controller::Config::default().concurrency(concurrency),
    )
    .for_each(|_| std::future::ready(()))
    .await;
}

fn lined_up<K: Resource<DynamicType = ()> + 'static>(
    line: mpsc::UnboundedReceiver<ObjectRef<K>>,
) -> impl Stream<Item = ObjectRef<K>> {
    futures::stream::unfold(line, |mut line| async move { line.recv().await.map(|next| (next, line)) })
}
