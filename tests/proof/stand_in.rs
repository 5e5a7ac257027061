//! A worker's process that dies, in place of a pod that waits.
//!
//! A run's Job is real, and its pod waits, for no node takes it ([`hold_pods`]). In its place this program is the worker: the
//! library's, with the Job's variables, in the name of the tenant's worker account and of that pod (by impersonation: a token
//! bound to a pod comes from a kubelet alone).

use crate::fault::Order;
use crate::process::{FIRED, MARK, Saboteur};
use crate::scenario::IN_TIME;
use crate::store::Sabotaged;
use crate::support::cluster::environment;
use crate::support::repository::PASSWORD;
use crate::support::{Tenant, wait_for};
use crate::trial::Key;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kube::config::Kubeconfig;
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tenantatlas::api::result::TerminationResult;
use tenantatlas::api::{OperationRunStatus, Phase, execution};
use tenantatlas::clock::SystemClock;
use tenantatlas::cluster::client::{ClientOptions, connect};
use tenantatlas::operations;
use tenantatlas::repository::{OwnerMarker, Ownership, RepositoryKey, RusticRepository, Store};
use tenantatlas::worker::environment::{Environment, RunIdentity};
use tenantatlas::worker::failure::Failure;
use tenantatlas::worker::lease::{Held, Leases, Use};
use tenantatlas::worker::stop::Stop;
use tenantatlas::worker::work::{LeaseNeed, RepositoryNeed, Site};
use tenantatlas::worker::{fence, tell};

/// The variable by which this program knows that it is a worker; its value is where the repository's files are.
pub(crate) const FOLDER: &str = "ATLAS_PROOF_FOLDER";

/// The variable with the worker's command.
const COMMAND: &str = "ATLAS_PROOF_COMMAND";

/// First word of the line with a worker's result.
const RESULT: &str = "result";

/// No pod starts on a node with this taint.
const TAINT: &str = "proof.tenantatlas.io/hold";

pub(crate) fn main() -> ExitCode {
    tenantatlas::telemetry::init_logs();
    let saboteur = Arc::new(Saboteur::default());
    saboteur.obey(&std::env::var(MARK).unwrap_or_default());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let ended = runtime.block_on(attempt(saboteur));
    runtime.shutdown_background();
    match ended {
        Ok(result) => {
            println!("{RESULT} {}", result.to_message());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure:?}");
            u8::try_from(failure.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from)
        }
    }
}

/// What `tenantatlas worker` does for an operation, with a client and a store that may fail.
async fn attempt(saboteur: Arc<Saboteur>) -> Result<TerminationResult, Failure> {
    let lookup = |name: &str| std::env::var(name).ok();
    let identity = RunIdentity::read(&lookup)?;
    let options =
        ClientOptions { observer: saboteur.clone(), timeout: Duration::from_secs(75), ..ClientOptions::default() };
    let client = connect(options).await.expect("a client");
    let run = fence::pass(&client, &identity).await?;
    let work = operations::of_command(&lookup(COMMAND).unwrap_or_default()).expect("an operation");
    let environment = Environment::read_for(work.needs().repository, &lookup)?;
    let begun = work.begin(&environment)?;
    let folder = PathBuf::from(lookup(FOLDER).expect("a folder"));
    let files = LocalFileSystem::new_with_prefix(folder).expect("a folder").with_fsync(true);
    let lease = work.needs().lease;
    let used = if lease == LeaseNeed::Reads { Use::Reads } else { Use::Writes };
    let repository = match work.needs().repository {
        RepositoryNeed::None => None,
        _ => Some(open(Arc::new(Sabotaged { files, saboteur }), &environment).await?),
    };
    let held = match &repository {
        Some(repository) => Some(Leases::of(&client, &environment, repository).share(used).await?),
        None => None,
    };
    let ended = begun(Site {
        client: &client,
        environment: &environment,
        repository: repository.as_ref(),
        run: &run,
        clock: &SystemClock,
        stop: &Stop::default(),
        permit: held.as_ref().filter(|_| lease == LeaseNeed::Writes).map(Held::permit),
    })
    .await;
    if let Some(held) = held {
        held.release().await;
    }
    let result = ended?;
    tell::tell(&client, &identity, 0, &result.to_message()).await;
    Ok(result)
}

/// The repository in a store, as a worker of this tenant opens it.
pub(crate) async fn open(store: Arc<dyn ObjectStore>, environment: &Environment) -> Result<RusticRepository, Failure> {
    let store = Store::new(store, "", "the volume", Duration::from_secs(30));
    let owner = OwnerMarker {
        cluster_uid: environment.cluster_uid.clone(),
        namespace_uid: environment.namespace_uid.clone(),
        created_by: "proof".to_owned(),
    };
    let key = RepositoryKey::Password(PASSWORD.to_owned());
    Ok(RusticRepository::open_in(store, &key, &Ownership { owner, adopt: Vec::new() }).await?)
}

/// From now on no pod starts.
pub(crate) fn hold_pods(tenant: &Tenant) {
    taint(tenant, "=:NoSchedule");
}

/// The pods start.
pub(crate) fn let_pods_start(tenant: &Tenant) {
    taint(tenant, "-");
}

fn taint(tenant: &Tenant, effect: &str) {
    tenant.cluster.kubectl_prints(&["taint", "nodes", "--all", "--overwrite", &format!("{TAINT}{effect}")]);
}

/// Who is the worker of one run after the other.
pub(crate) struct StandIn {
    home: TempDir,
}

/// The Job of a run, and the pod that waits.
pub(crate) struct Waiting {
    pub(crate) job: Job,
    pod: Pod,
}

/// How one process of a worker ended.
pub(crate) struct Attempt {
    pub(crate) ended_well: bool,
    /// All that it said, by lines.
    pub(crate) said: Vec<String>,
}

impl Attempt {
    /// The call that was made to fail, if it came to it.
    pub(crate) fn fired(&self) -> Option<String> {
        self.said.iter().find_map(|line| Some(line.strip_prefix(FIRED)?.trim().to_owned()))
    }

    /// The result.
    pub(crate) fn result(&self) -> Option<Value> {
        let line = self.said.iter().find_map(|line| line.strip_prefix(RESULT))?;
        Some(serde_json::from_str(line).expect("JSON"))
    }
}

impl StandIn {
    pub(crate) fn new() -> Self {
        Self { home: TempDir::new().expect("a folder") }
    }

    /// A place for files of the trials.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Waits until a run has a pod, and becomes the worker in it.
    pub(crate) async fn take(&self, tenant: &Tenant, run: &str) -> Waiting {
        let recorded = tenant.running(run, IN_TIME).await.job.expect("a Job");
        let job = tenant.api::<Job>().get(&recorded.name).await.expect("the Job");
        let pods = tenant.api::<Pod>();
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", recorded.name));
        let pod = wait_for("the Job's pod", IN_TIME, async || {
            let listed = pods.list(&of_job).await.map_err(|error| error.to_string())?;
            listed.items.into_iter().next().ok_or_else(|| "none".to_owned())
        })
        .await;
        self.kubeconfig(tenant, &pod);
        Waiting { job, pod }
    }

    /// One worker's process, on the repository in this folder.
    pub(crate) async fn attempt(
        &self,
        Waiting { job, pod }: &Waiting,
        folder: &Path,
        order: Option<&Order>,
    ) -> Attempt {
        let order = order.map(|order| serde_json::to_string(order).expect("JSON")).unwrap_or_default();
        let started = tokio::process::Command::new(std::env::current_exe().expect("this program"))
            .envs(crate::witness::variables(job))
            .env(execution::JOB_UID, job.uid().expect("a uid"))
            .env(execution::POD_NAME, pod.name_any())
            .env(MARK, order)
            .env(FOLDER, folder)
            .env(COMMAND, command(job))
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("ATLAS_LOG", "info")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program can be started");
        let ended = tokio::time::timeout(IN_TIME, started.wait_with_output()).await;
        let output = ended.expect("a worker ends in time").expect("it can be waited for");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Attempt { ended_well: output.status.success(), said: text.lines().map(str::to_owned).collect() }
    }

    /// Two workers of a run, of which the first has a fault. Returns the call that was made to fail, and the end of the run, which
    /// one of them has reported.
    pub(crate) async fn twice(
        &self,
        tenant: &Tenant,
        key: Key,
        run: &str,
        waiting: &Waiting,
        folder: &Path,
    ) -> (Option<String>, OperationRunStatus) {
        let (namespaces, counted) = (vec![tenant.name.clone()], key.scenario.counted());
        let order = Order { namespaces, counted, variant: key.variant, index: key.index };
        let fired = self.attempt(waiting, folder, Some(&order)).await.fired();
        let status = tenant.status(run).await;
        let second = self.attempt(waiting, folder, None).await;
        let said = second.said.join("\n");
        if status.worker_result.is_some() || status.phase == Phase::Completed {
            // The first died after it had reported its result.
            assert!(!second.ended_well && said.contains("Fenced"), "{key}:\n{said}");
        } else {
            assert!(second.ended_well, "{key}: the second attempt failed:\n{said}");
            let result = second.result().expect("a result");
            assert_eq!(result["outcome"], "succeeded", "{key}: {result:#}");
        }
        // Its pod never starts: it is the worker's own report that ends the run.
        (fired, tenant.completed(run, IN_TIME).await)
    }

    /// In the name of the worker's account, in this pod.
    fn kubeconfig(&self, tenant: &Tenant, pod: &Pod) {
        let namespace = &tenant.name;
        let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).expect("an account");
        let claim = ("authentication.kubernetes.io/pod-name".to_owned(), vec![pod.name_any()]);
        let mut file = Kubeconfig::read_from(PathBuf::from(environment("ATLAS_KUBECONFIG"))).expect("a kubeconfig");
        for user in file.auth_infos.iter_mut().filter_map(|user| user.auth_info.as_mut()) {
            user.impersonate = Some(format!("system:serviceaccount:{namespace}:{account}"));
            let groups = ["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
            user.impersonate_groups = Some(groups.into_iter().chain(["system:authenticated".to_owned()]).collect());
            user.impersonate_user_extra = Some(HashMap::from([claim.clone()]));
        }
        let written = serde_json::to_string(&file).expect("JSON");
        std::fs::write(self.home.path().join("kubeconfig"), written).expect("a kubeconfig");
    }
}

/// The command that a Job gives its worker.
fn command(job: &Job) -> String {
    let pod = job.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let arguments = pod.and_then(|pod| pod.containers.first()).and_then(|container| container.args.as_ref());
    arguments.and_then(|arguments| arguments.get(1)).expect("`worker` and a command").clone()
}
