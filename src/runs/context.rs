//! What every reconcile is given: the API client, the clock, the caches.

use crate::{
    api::{
        Approval, BackupRepository, BackupSchedule, BulkOperationRun, Finding, ImportedRun, OperationRun,
        OperationType, RestoreRun, Workspace, WorkspaceRun, workspace::DriftDefaults,
    },
    clock::SharedClock,
    kernel::{Error, cache::Cache, events, name::Name, slim::Slim},
    runs::{children::Children, job::JobSettings, registry::Registry, scheduled::Scheduled},
    telemetry::metrics::Metrics,
};
use jiff::SignedDuration;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{Api, Client};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::mpsc;

/// Settings that do not change while the process runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How Jobs are built.
    pub job: JobSettings,
    /// Maximum number of active runs in the cluster.
    pub max_active_runs: Option<usize>,
    /// Maximum number of active runs in one tenant.
    pub max_active_runs_per_tenant: Option<usize>,
    /// What every run that looks for drift applies in addition to its inputs.
    pub drift: DriftDefaults,
    /// Namespace of the operator.
    pub namespace: String,
    /// A finding that no run has confirmed for this long is stale.
    pub findings_stale_after: SignedDuration,
    /// A finding is deleted this long after it was resolved.
    pub findings_resolved_ttl: SignedDuration,
}

/// What every reconcile is given.
pub struct Context {
    /// The only client of the API server.
    pub client: Client,
    /// The only clock.
    pub clock: SharedClock,
    /// Settings that do not change.
    pub settings: Settings,
    /// Runs of all tenants.
    pub runs: Arc<Cache<OperationRun>>,
    /// Our Jobs.
    pub jobs: Arc<Cache<Job>>,
    /// Pods of those Jobs, grouped by the Job's name.
    pub pods: Arc<Cache<Pod>>,
    /// The catalog of operation types.
    pub types: Arc<Cache<OperationType>>,
    /// Repositories of all tenants.
    pub repositories: Arc<Cache<BackupRepository>>,
    /// Restores of all tenants.
    pub restores: Arc<Cache<RestoreRun>>,
    /// Approvals of restores, bulk operations and workspace runs.
    pub approvals: Arc<Cache<Approval>>,
    /// Workspaces.
    pub workspaces: Arc<Cache<Workspace>>,
    /// Runs over the tenants of a workspace.
    pub workspace_runs: Arc<Cache<WorkspaceRun>>,
    /// Bulk operations of all tenants.
    pub bulks: Arc<Cache<BulkOperationRun>>,
    /// Schedules of all tenants.
    pub schedules: Arc<Cache<BackupSchedule>>,
    /// Findings of all tenants.
    pub findings: Arc<Cache<Finding>>,
    /// Records of other systems, as tenants' lists show them.
    pub imported: Arc<Cache<ImportedRun>>,
    /// Tenants.
    pub namespaces: Arc<Cache<Namespace>>,
    /// Our accounts.
    pub accounts: Arc<Cache<ServiceAccount>>,
    /// Our bindings.
    pub bindings: Arc<Cache<RoleBinding>>,
    /// Index of the runs that are active, that wait, and that do the same work.
    pub registry: Registry,
    /// Index of what workspace runs have created.
    pub children: Children,
    /// Job names that the API server reported as taken although no watch shows them.
    pub taken: Taken,
    /// Where events are published.
    pub events: events::Events,
    /// Counters.
    pub metrics: Metrics,
    /// Queue of the runs to reconcile.
    pub queue: mpsc::UnboundedSender<Name<OperationRun>>,
}

impl Context {
    /// A namespace. If the cache has no tenant of this name, the API server is asked: "not a
    /// tenant" is final for the requester, and a manifest often creates a namespace together with
    /// its first run or schedule.
    pub async fn namespace(&self, name: &str) -> Result<Option<Arc<Namespace>>, Error> {
        match self.namespaces.get("", name) {
            Some(found) => Ok(Some(found)),
            None => Ok(Api::<Namespace>::all(self.client.clone()).get_opt(name).await?.map(Arc::new)),
        }
    }

    /// Stores our own write of a run, and wakes the runs that it affects.
    pub fn wrote(&self, run: OperationRun) {
        let mut wake = self.registry.apply(&run);
        self.children.apply(&run);
        // The watch may have reported its deletion before the answer came. It records that before it
        // updates the indexes, so that either side removes what the other has added.
        if self.runs.is_gone(&run) {
            self.children.remove(&run);
            wake.extend(self.registry.remove(&run, true));
        }
        self.runs.wrote(run);
        self.wake(wake);
    }

    /// Stores our own write of a bulk operation or restore of a workspace run.
    pub fn wrote_child<K: Scheduled + Slim>(&self, cache: &Cache<K>, object: K) {
        self.children.apply(&object);
        if cache.is_gone(&object) {
            self.children.remove(&object);
        }
        cache.wrote(object);
    }

    /// Queues these runs.
    pub fn wake(&self, runs: impl IntoIterator<Item = Name<OperationRun>>) {
        for run in runs {
            // The receiver lives as long as the process.
            let _ = self.queue.send(run);
        }
    }
}

/// Job names that the API server reported as taken.
#[derive(Default)]
pub struct Taken(Mutex<HashSet<(String, String)>>);

impl Taken {
    /// Records a name.
    pub fn insert(&self, namespace: &str, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert((namespace.to_owned(), name.to_owned()));
    }

    /// Whether the name was recorded. This also removes it, because the next read settles the
    /// question.
    pub fn contains(&self, namespace: &str, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(namespace.to_owned(), name.to_owned()))
    }
}
