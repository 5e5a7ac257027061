//! What every pass over an object is given: the way to the API server, the clock, the caches.

use crate::{
    api::{BackupRepository, BackupSchedule, OperationRun, OperationType, RestoreRun},
    clock::SharedClock,
    kernel::{Error, cache::Cache, events},
    runs::{job::JobSettings, registry::Registry},
    telemetry::metrics::Metrics,
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{Api, Client, runtime::reflector::ObjectRef};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// What does not change while the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How Jobs are made.
    pub job: JobSettings,
    /// Most active runs in the cluster.
    pub max_active_runs: Option<usize>,
    /// Most active runs in one tenant.
    pub max_active_runs_per_tenant: Option<usize>,
}

/// What every pass is given.
pub struct Context {
    /// The one way to the API server.
    pub client: Client,
    /// The one clock.
    pub clock: SharedClock,
    /// What does not change.
    pub settings: Settings,
    /// Runs of all tenants.
    pub runs: Arc<Cache<OperationRun>>,
    /// Jobs of ours.
    pub jobs: Arc<Cache<Job>>,
    /// Pods of those Jobs, grouped by the Job's name.
    pub pods: Arc<Cache<Pod>>,
    /// The catalog.
    pub types: Arc<Cache<OperationType>>,
    /// Repositories of all tenants.
    pub repositories: Arc<Cache<BackupRepository>>,
    /// Restores of all tenants.
    pub restores: Arc<Cache<RestoreRun>>,
    /// Schedules of all tenants.
    pub schedules: Arc<Cache<BackupSchedule>>,
    /// Tenants.
    pub namespaces: Arc<Cache<Namespace>>,
    /// Accounts of ours.
    pub accounts: Arc<Cache<ServiceAccount>>,
    /// Bindings of ours.
    pub bindings: Arc<Cache<RoleBinding>>,
    /// Who is active, who waits, who is the same work.
    pub registry: Registry,
    /// Job names that the API server said are taken though no watch shows them.
    pub taken: Taken,
    /// Where events go.
    pub events: events::Events,
    /// Counters.
    pub metrics: Metrics,
    /// Runs to reconcile.
    pub queue: mpsc::UnboundedSender<ObjectRef<OperationRun>>,
}

impl Context {
    /// A namespace, asked of the API server where the cache has no tenant of that name. "Not a tenant" is final for who asks, so it is made
    /// sure: a manifest often brings a namespace together with its first run or schedule.
    pub async fn namespace(&self, name: &str) -> Result<Option<Arc<Namespace>>, Error> {
        match self.namespaces.get("", name) {
            Some(found) => Ok(Some(found)),
            None => Ok(Api::<Namespace>::all(self.client.clone()).get_opt(name).await?.map(Arc::new)),
        }
    }

    /// Remembers our own write of a run, and wakes those whom it concerns.
    pub fn wrote(&self, run: OperationRun) {
        let wake = self.registry.apply(&run);
        self.runs.wrote(run);
        self.wake(wake);
    }

    /// Has these runs looked at.
    pub fn wake(&self, runs: impl IntoIterator<Item = ObjectRef<OperationRun>>) {
        for run in runs {
            // The receiver ends only with the process.
            let _ = self.queue.send(run);
        }
    }
}

/// Job names that the API server said are taken.
#[derive(Default)]
pub struct Taken(Mutex<HashSet<(String, String)>>);

impl Taken {
    /// Notes one.
    pub fn insert(&self, namespace: &str, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.to_owned(), name.to_owned()));
    }

    /// Whether one was noted; asked once, for the next look settles it.
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), name.to_owned()))
    }
}
