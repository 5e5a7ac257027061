//! Reconcilers: observe reads, decide decides (no client, no clock), act writes.
//!
//! Here is the wiring: options, caches, watches, queues, leadership, shutdown.

pub mod backup_repository;
pub mod backup_schedule;
pub mod backup_set;
pub mod cache;
pub mod delete;
pub mod duration;
pub mod error;
pub mod events;
mod gate;
pub mod lease;
pub mod operation_run;
pub mod operation_type;
pub mod patch;
mod queue;
pub mod refusal;
pub mod restore_run;
pub mod server;
pub mod slim;
pub mod status;
pub mod tenant;
mod turns;
mod watches;
pub mod whole;

pub use error::Error;

use crate::{
    api::{BackupRepository, BackupSchedule, OperationRun, OperationType, Reason, RestoreRun},
    clock::{SharedClock, SystemClock},
    cluster::client::{CallCounts, CallObserver, ClientOptions, ConnectError, connect},
    telemetry::metrics::Metrics,
};
use cache::Cache;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Namespace, Pod, ServiceAccount},
    rbac::v1::RoleBinding,
};
use kube::{Api, Client, ResourceExt, runtime::reflector::ObjectRef};
use operation_run::{job::JobSettings, registry::Registry};
use std::{
    collections::HashSet,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

/// The field manager of the controller's applies.
pub const FIELD_MANAGER: &str = "tenantatlas-controller";

/// How long running passes may take to end after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(15);

/// `tenantatlas controller`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Image of the worker's Jobs: this very image.
    #[arg(long, env = "ATLAS_IMAGE")]
    image: String,
    /// imagePullPolicy of the worker's Jobs.
    #[arg(long, env = "ATLAS_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// imagePullSecrets of the worker's Jobs, in each tenant's namespace.
    #[arg(long, env = "ATLAS_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    image_pull_secrets: Vec<String>,
    /// Resources of the worker's container, as JSON.
    #[arg(
        long,
        env = "ATLAS_WORKER_RESOURCES",
        default_value = r#"{"requests":{"cpu":"50m","memory":"64Mi"},"limits":{"memory":"512Mi"}}"#
    )]
    worker_resources: String,
    /// Namespace of the controller's Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "tenantatlas-system")]
    namespace: String,
    /// Name of this replica on the Lease.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Most active runs in the cluster; none: no limit.
    #[arg(long, env = "ATLAS_MAX_ACTIVE_RUNS")]
    max_active_runs: Option<usize>,
    /// Most active runs in one tenant; none: no limit.
    #[arg(long, env = "ATLAS_MAX_ACTIVE_RUNS_PER_TENANT")]
    max_active_runs_per_tenant: Option<usize>,
    /// Most passes at once.
    #[arg(long, env = "ATLAS_CONCURRENCY", default_value_t = 32)]
    concurrency: u16,
    /// Where health and metrics are served.
    #[arg(long, env = "ATLAS_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

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
    /// Runs to look at.
    queue: mpsc::UnboundedSender<ObjectRef<OperationRun>>,
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

    /// Whether a schedule has to say anew what a run of it waits for: that it does, or that it does not any more.
    fn is_told_of_waiting(&self, namespace: &str, schedule: &str, run: &OperationRun) -> bool {
        let said = || {
            self.schedules
                .get(namespace, schedule)
                .is_some_and(|schedule| backup_schedule::decide::says_of(&schedule, run))
        };
        let waits = operation_run::waiting::waits(run);
        waits.is_some_and(|(reason, _)| reason != Reason::ConcurrencyLimit.as_str()) || said()
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

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No way to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The worker's resources are not JSON.
    #[error(
        "--worker-resources is not JSON ({0}): write it as in a container, such as {{\"limits\":{{\"memory\":\"512Mi\"}}}}"
    )]
    Resources(#[from] serde_json::Error),
    /// The cluster's id cannot be read.
    #[error("namespace kube-system cannot be read ({0}): the operator needs `get` on namespaces")]
    ClusterUid(kube::Error),
}

/// Runs the controller until SIGTERM or the loss of leadership. `observer` sees every call to the API server.
pub async fn run(options: Options, observer: Arc<dyn CallObserver>) -> ExitCode {
    match start(options, observer).await {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::FAILURE
        }
    }
}

async fn start(options: Options, observer: Arc<dyn CallObserver>) -> Result<ExitCode, StartError> {
    let counts = CallCounts::default();
    let connection = ClientOptions {
        context: None,
        counts: counts.clone(),
        timeout: Duration::from_secs(20),
        observer,
        trims: true,
    };
    let client = connect(connection).await?;
    let metrics = Metrics::new(counts);
    let readiness = server::Readiness::default();
    let server = tokio::spawn(server::serve(
        options.listen,
        metrics.clone(),
        gate::Gate::new(client.clone()),
        readiness.clone(),
    ));
    let worker_resources = serde_json::from_str(&options.worker_resources)?;
    let mut stop = std::pin::pin!(shutdown_signal());
    let cluster_uid = tokio::select! {
        uid = cluster_uid(&client) => uid?,
        () = &mut stop => return Ok(ExitCode::SUCCESS),
    };
    readiness.ready();

    let identity = options.identity.clone().unwrap_or_else(|| format!("tenantatlas-{}", std::process::id()));
    let mut elector = lease::Elector::new(client.clone(), &options.namespace, "tenantatlas-controller", &identity);
    tracing::info!(identity, "waiting for the lease");
    tokio::select! {
        () = elector.acquire() => {}
        () = &mut stop => return Ok(ExitCode::SUCCESS),
        ended = server => {
            tracing::error!(?ended, address = %options.listen, "cannot serve health and metrics");
            return Ok(ExitCode::FAILURE);
        }
    }
    tracing::info!(identity, "leading");
    metrics.leads(true);

    let settings = Settings {
        job: JobSettings {
            image: options.image,
            image_pull_policy: options.image_pull_policy,
            image_pull_secrets: options.image_pull_secrets,
            worker_resources,
            cluster_uid,
        },
        max_active_runs: options.max_active_runs,
        max_active_runs_per_tenant: options.max_active_runs_per_tenant,
    };
    let (end, ended) = tokio::sync::watch::channel(false);
    let events = events::Events::start(client.clone(), options.identity);
    let surroundings = watches::Surroundings {
        client,
        clock: Arc::new(SystemClock),
        settings,
        events,
        metrics,
        concurrency: options.concurrency,
    };
    let mut work = tokio::spawn(watches::work(surroundings, ended));
    let code = tokio::select! {
        () = elector.hold() => return Ok(ExitCode::FAILURE),
        ended = &mut work => {
            tracing::error!(?ended, "the work ended by itself");
            ExitCode::FAILURE
        }
        () = &mut stop => {
            tracing::info!("stopping: running passes end first");
            // The lease is kept until they have: nobody else starts in the meantime.
            let _ = end.send(true);
            tokio::select! {
                _ = tokio::time::timeout(SHUTDOWN_GRACE, &mut work) => ExitCode::SUCCESS,
                () = elector.hold() => ExitCode::FAILURE,
            }
        }
    };
    elector.release().await;
    Ok(code)
}

async fn cluster_uid(client: &Client) -> Result<String, StartError> {
    loop {
        match Api::<Namespace>::all(client.clone()).get("kube-system").await {
            Ok(namespace) => return Ok(namespace.uid().unwrap_or_default()),
            Err(error @ kube::Error::Api(_)) => return Err(StartError::ClusterUid(error)),
            Err(error) => tracing::warn!(%error, "API server not reached; it is tried again"),
        }
        tokio::time::sleep(lease::RETRY_PERIOD).await;
    }
}

/// SIGTERM or SIGINT.
async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
}
