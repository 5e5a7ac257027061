//! `tenantatlas controller`: the operator's process. Options, caches, watches, which objects a
//! change wakes, leader election, shutdown.
//!
//! What is done about an object is in [`crate::runs`] and [`crate::kinds`].

mod gate;
mod imports;
pub mod server;
mod wakes;
mod watches;

use crate::{
    api::workspace::DriftDefaults,
    clock::SystemClock,
    cluster::client::{CallCounts, CallObserver, ClientOptions, ConnectError, connect},
    kernel::{events, lease},
    runs::{context::Settings, defaults, job::JobSettings},
    telemetry::metrics::Metrics,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt};
use std::{net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

/// Field manager of the controller's applies.
pub const FIELD_MANAGER: &str = "tenantatlas-controller";

/// How long reconciles in flight may take to finish after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(15);

/// Options of `tenantatlas controller`.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Image of worker Jobs: the controller's own image.
    #[arg(long, env = "ATLAS_IMAGE")]
    image: String,
    /// imagePullPolicy of worker Jobs.
    #[arg(long, env = "ATLAS_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    image_pull_policy: String,
    /// imagePullSecrets of worker Jobs, in each tenant's namespace.
    #[arg(long, env = "ATLAS_IMAGE_PULL_SECRETS", value_delimiter = ',')]
    image_pull_secrets: Vec<String>,
    /// Resources of the worker container, as JSON.
    #[arg(
        long,
        env = "ATLAS_WORKER_RESOURCES",
        default_value = r#"{"requests":{"cpu":"50m","memory":"64Mi"},"limits":{"memory":"512Mi"}}"#
    )]
    worker_resources: String,
    /// Namespace of the controller's Lease.
    #[arg(long, env = "POD_NAMESPACE", default_value = "tenantatlas-system")]
    namespace: String,
    /// Name of this replica in the Lease.
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// Maximum number of active runs in the cluster; no limit if unset.
    #[arg(long, env = "ATLAS_MAX_ACTIVE_RUNS")]
    max_active_runs: Option<usize>,
    /// Maximum number of active runs in one tenant; no limit if unset.
    #[arg(long, env = "ATLAS_MAX_ACTIVE_RUNS_PER_TENANT")]
    max_active_runs_per_tenant: Option<usize>,
    /// How long no run may have confirmed a finding before it is stale, such as `168h`.
    #[arg(long, env = "ATLAS_FINDINGS_STALE_AFTER", default_value = "168h")]
    findings_stale_after: SignedDuration,
    /// How long after it was resolved a finding is deleted, such as `168h`.
    #[arg(long, env = "ATLAS_FINDINGS_RESOLVED_TTL", default_value = "168h")]
    findings_resolved_ttl: SignedDuration,
    /// What every `drift.generate` applies in addition to its inputs, as JSON: `ignore` and `severities`
    /// as in a Workspace's `spec.drift`.
    #[arg(long, env = "ATLAS_DRIFT", default_value = "{}")]
    drift: String,
    /// Which records of other systems are listed.
    #[command(flatten)]
    imports: imports::Imports,
    /// Maximum number of concurrent reconciles of runs, and of schedules.
    #[arg(long, env = "ATLAS_CONCURRENCY", default_value_t = 32)]
    concurrency: u16,
    /// Address on which health and metrics are served.
    #[arg(long, env = "ATLAS_LISTEN", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
}

/// Why the controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// There is no connection to the API server.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The worker's resources are not JSON.
    #[error(
        "--worker-resources is not JSON ({0}): write it as in a container, such as {{\"limits\":{{\"memory\":\"512Mi\"}}}}"
    )]
    Resources(#[from] serde_json::Error),
    /// The rules for drift are not JSON, or cannot be read.
    #[error(
        "--drift is wrong ({0}): write it as spec.drift of a Workspace, such as {{\"ignore\":[{{\"paths\":[\"/spec/replicas\"]}}]}}"
    )]
    Drift(String),
    /// The cluster's id cannot be read.
    #[error("namespace kube-system cannot be read ({0}): the operator needs `get` on namespaces")]
    ClusterUid(kube::Error),
}

/// Runs the controller until SIGTERM or the loss of leadership. `observer` sees every call to the
/// API server.
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
    let drift: DriftDefaults =
        serde_json::from_str(&options.drift).map_err(|error| StartError::Drift(error.to_string()))?;
    defaults::expect_readable("--drift", &drift).map_err(|refusal| StartError::Drift(refusal.message))?;
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
        namespace: options.namespace.clone(),
        drift,
        job: JobSettings {
            image: options.image,
            image_pull_policy: options.image_pull_policy,
            image_pull_secrets: options.image_pull_secrets,
            worker_resources,
            cluster_uid,
        },
        max_active_runs: options.max_active_runs,
        max_active_runs_per_tenant: options.max_active_runs_per_tenant,
        findings_stale_after: options.findings_stale_after,
        findings_resolved_ttl: options.findings_resolved_ttl,
    };
    let (end, ended) = tokio::sync::watch::channel(false);
    let events = events::Events::start(client.clone(), options.identity);
    let setup = watches::Setup {
        client,
        clock: Arc::new(SystemClock),
        settings,
        imports: options.imports,
        events,
        metrics,
        concurrency: options.concurrency,
        term: elector.term(),
    };
    let mut work = tokio::spawn(watches::run(setup, ended));
    let code = tokio::select! {
        () = elector.hold() => return Ok(ExitCode::FAILURE),
        ended = &mut work => {
            tracing::error!(?ended, "the work ended by itself");
            ExitCode::FAILURE
        }
        () = &mut stop => {
            tracing::info!("stopping: running passes end first");
            // The Lease is kept until these have ended, so that no other replica starts in the
            // meantime.
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

/// Waits for SIGTERM or SIGINT.
async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
}
