//! The capture worker as a process that dies at its calls to the API server, or to its store.
//!
//! A run's Job is real, and its pod waits, for no node takes it. In its place this program is the worker: the library's, with
//! the Job's variables, in the name of the tenant's worker account and of that pod (by impersonation: a token bound to a
//! pod comes from a kubelet alone). It is tried once with a fault and once without; the run ends by the result that one of
//! them reports.
//!
//! Calls to the API server: on the repository's own files. In the end the node takes the pods, which find their runs
//! completed. Calls to the store: on a copy of the files for each trial, for
//! their number grows with what is stored; then our own check reads all of it.

use crate::capture::Captures;
use crate::fault::Order;
use crate::process::{FIRED, MARK, Saboteur};
use crate::scenario::{IN_TIME, Scenario};
use crate::support::cluster::environment;
use crate::support::repository::PASSWORD;
use crate::support::run::assert_ended;
use crate::support::wait_for;
use crate::trial::{Bench, Key};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use kube::config::Kubeconfig;
use object_store::local::LocalFileSystem;
use object_store::path::Path as Place;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tenantatlas::api::result::TerminationResult;
use tenantatlas::api::{OperationRun, OperationType, Outcome, Phase, Reason, execution};
use tenantatlas::clock::SystemClock;
use tenantatlas::cluster::client::{Answer, Call, CallObserver as _, ClientOptions, Fault, connect};
use tenantatlas::repository::{
    OwnerMarker, Ownership, ReadData, Repository as _, RepositoryKey, RusticRepository, Store,
};
use tenantatlas::runs::finish::job_end;
use tenantatlas::worker::environment::{Environment, RunIdentity};
use tenantatlas::worker::failure::Failure;
use tenantatlas::worker::lease::{Leases, Use};
use tenantatlas::{
    operations::capture,
    worker::{fence, tell},
};

/// The variable by which this program knows that it is a worker; its value is where the repository's files are.
pub(crate) const FOLDER: &str = "ATLAS_PROOF_FOLDER";

/// First word of the line with a worker's result.
const RESULT: &str = "result";

/// What a call to the store is counted as.
pub(crate) const STORE: &str = "store";

/// No pod starts on a node with this taint.
const TAINT: &str = "proof.tenantatlas.io/hold";

/// How long the pods of all runs of a series may take together.
const ALL_PODS: Duration = Duration::from_mins(5);

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

/// What `tenantatlas worker capture` does, with a client and a store that may fail.
async fn attempt(saboteur: Arc<Saboteur>) -> Result<TerminationResult, Failure> {
    let lookup = |name: &str| std::env::var(name).ok();
    let identity = RunIdentity::read(&lookup)?;
    let options =
        ClientOptions { observer: saboteur.clone(), timeout: Duration::from_secs(75), ..ClientOptions::default() };
    let client = connect(options).await.expect("a client");
    let run = fence::pass(&client, &identity).await?;
    let environment = Environment::read(&lookup)?;
    capture::read_scope(&environment)?;
    let folder = PathBuf::from(std::env::var(FOLDER).expect("a folder"));
    let files = LocalFileSystem::new_with_prefix(folder).expect("a folder").with_fsync(true);
    let repository = open(Arc::new(Sabotaged { files, saboteur }), &environment).await?;
    let held = Leases::of(&client, &environment, &repository).share(Use::Writes).await?;
    let permit = held.permit();
    let ended = capture::capture(&client, &environment, &repository, &run, &SystemClock, permit).await;
    held.release().await;
    let result = ended?;
    tell::tell(&client, &identity, 0, &result.to_message()).await;
    Ok(result)
}

async fn open(store: Arc<dyn ObjectStore>, environment: &Environment) -> Result<RusticRepository, Failure> {
    let store = Store::new(store, "", "the volume", Duration::from_secs(30));
    let owner = OwnerMarker {
        cluster_uid: environment.cluster_uid.clone(),
        namespace_uid: environment.namespace_uid.clone(),
        created_by: "proof".to_owned(),
    };
    let key = RepositoryKey::Password(PASSWORD.to_owned());
    Ok(RusticRepository::open_in(store, &key, &Ownership { owner, adopt: Vec::new() }).await?)
}

/// One snapshot of this run and the one from before, and all of it can be read.
async fn check(job: &Job, folder: &Path) {
    let mut variables = crate::witness::variables(job);
    variables.insert(execution::JOB_UID.to_owned(), job.uid().expect("a uid"));
    variables.insert(execution::POD_NAME.to_owned(), "op-of-the-proof".to_owned());
    let environment = Environment::read(&|name| variables.get(name).cloned()).expect("the Job's variables");
    let files = LocalFileSystem::new_with_prefix(folder).expect("a folder");
    let repository = open(Arc::new(files), &environment).await.expect("the repository opens");
    let snapshots = repository.snapshots().await.expect("snapshots can be listed");
    let run = &environment.identity.run_uid;
    let of_run = snapshots.iter().filter(|snapshot| snapshot.run_uid.as_ref() == Some(run)).count();
    assert_eq!((of_run, snapshots.len()), (1, 2), "one snapshot of the run, and the one before: {snapshots:#?}");
    let report = repository.check(ReadData::All).await.expect("the repository can be checked");
    assert!(report.is_ok(), "{report:#?}");
}

/// The runs of one series.
pub(crate) struct Workers {
    captures: Captures,
    /// `backup.capture` without its limit: all pods of a series wait at once.
    operation: String,
    folder: PathBuf,
    home: TempDir,
    /// Whether each trial has a copy of the files.
    copies: bool,
}

impl Workers {
    /// A tenant with a repository; from now on no pod starts.
    pub(crate) async fn prepare(scenario: Scenario) -> Self {
        let captures = Captures::prepare(scenario).await;
        let copies = scenario == Scenario::WorkerStore;
        let folder = captures.restic().folder();
        let types: Api<OperationType> = Api::all(captures.tenant.cluster.client.clone());
        let built_in = types.get("backup.capture").await.expect("the built-in type");
        let mut spec = serde_json::to_value(built_in.spec).expect("JSON");
        spec.as_object_mut().expect("fields").remove("concurrency");
        let operation = captures.tenant.operation_type("capture", spec).await;
        if copies {
            // Something to lose.
            captures.tenant.start("base", json!({ "type": operation, "inputs": { "repository": "main" } })).await;
            let ended = captures.tenant.completed("base", IN_TIME).await;
            assert_ended(&ended, Outcome::Succeeded, Reason::Succeeded);
        }
        taint(&captures, "=:NoSchedule");
        Self { captures, operation, folder, home: TempDir::new().expect("a folder"), copies }
    }

    /// Two attempts at one run, of which the first has the fault. Returns the call that was made to fail.
    pub(crate) async fn play(&self, key: Key) -> Option<String> {
        let tenant = &self.captures.tenant;
        let name = format!("n{}", key.index);
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "a": name } });
        tenant.apply(&map.to_string());
        // Each run is another work than the others, and takes the same.
        let selection = json!({ "labelSelector": format!("proof!={name}") });
        let inputs = json!({ "repository": "main", "selection": selection });
        tenant.start(&name, json!({ "type": self.operation, "inputs": inputs })).await;
        let recorded = tenant.running(&name, IN_TIME).await.job.expect("a Job");
        let job = tenant.api::<Job>().get(&recorded.name).await.expect("the Job");
        let pods: Api<Pod> = tenant.api();
        let of_job = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={}", recorded.name));
        let pod = wait_for("the Job's pod", IN_TIME, async || {
            let listed = pods.list(&of_job).await.map_err(|error| error.to_string())?;
            listed.items.into_iter().next().ok_or_else(|| "none".to_owned())
        })
        .await;
        self.kubeconfig(&pod);
        let order = Order {
            namespace: tenant.name.clone(),
            counted: key.scenario.counted(),
            variant: key.variant,
            index: key.index,
        };
        let folder = if self.copies { self.copy() } else { self.folder.clone() };
        let (_, said) = self.attempt(&job, &pod, &folder, Some(&order)).await;
        let fired = said.iter().find_map(|line| Some(line.strip_prefix(FIRED)?.trim().to_owned()));
        let status = tenant.status(&name).await;
        let (ended_well, said) = self.attempt(&job, &pod, &folder, None).await;
        if status.worker_result.is_some() || status.phase == Phase::Completed {
            // The first attempt died after it had reported its result.
            assert!(!ended_well && said.iter().any(|line| line.contains("Fenced")), "{key}:\n{}", said.join("\n"));
        } else {
            assert!(ended_well, "{key}: the second attempt failed:\n{}", said.join("\n"));
            let result = said.iter().find_map(|line| line.strip_prefix(RESULT)).expect("a result");
            let result: Value = serde_json::from_str(result).expect("JSON");
            assert_eq!(result["outcome"], "succeeded", "{key}: {result:#}");
        }
        // Its pod never starts: it is the worker's own report that ends the run.
        assert_ended(&tenant.completed(&name, IN_TIME).await, Outcome::Succeeded, Reason::Succeeded);
        if self.copies {
            check(&job, &folder).await;
            let deleted = tenant.api::<OperationRun>().delete(&name, &DeleteParams::default()).await;
            deleted.expect("the run can be deleted");
        } else {
            self.captures.expect(&name, &tenant.run(&name).await);
        }
        fired
    }

    /// The repository as it was before the series.
    fn copy(&self) -> PathBuf {
        let copy = self.home.path().join("copy");
        // There is none before the first trial.
        let _ = std::fs::remove_dir_all(&copy);
        let copied = std::process::Command::new("cp").arg("--recursive").arg(&self.folder).arg(&copy).status();
        assert!(copied.expect("cp can be started").success(), "the repository cannot be copied");
        copy
    }

    /// One worker's process: whether it ended well, and what it said.
    async fn attempt(&self, job: &Job, pod: &Pod, folder: &Path, order: Option<&Order>) -> (bool, Vec<String>) {
        let order = order.map(|order| serde_json::to_string(order).expect("JSON")).unwrap_or_default();
        let started = tokio::process::Command::new(std::env::current_exe().expect("this program"))
            .envs(crate::witness::variables(job))
            .env(execution::JOB_UID, job.uid().expect("a uid"))
            .env(execution::POD_NAME, pod.name_any())
            .env(MARK, order)
            .env(FOLDER, folder)
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
        (output.status.success(), text.lines().map(str::to_owned).collect())
    }

    /// In the name of the worker's account, in this pod.
    fn kubeconfig(&self, pod: &Pod) {
        let namespace = &self.captures.tenant.name;
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

    /// The pods start; each run has come to its end, and has what its captures stored.
    pub(crate) async fn settle(&self, bench: &Bench) -> Result<(), String> {
        taint(&self.captures, "-");
        if self.copies {
            return Ok(());
        }
        // Each finds its run completed, and does nothing.
        let jobs: Api<Job> = self.captures.tenant.api();
        wait_for("all Jobs are finished", ALL_PODS, async || {
            let listed = jobs.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let open = listed.items.iter().filter(|job| job_end(job).is_none()).count();
            if open == 0 { Ok(()) } else { Err(format!("{open} Jobs are not")) }
        })
        .await;
        self.captures.mark(bench);
        self.captures.settle(bench).await
    }
}

fn taint(captures: &Captures, effect: &str) {
    captures.tenant.cluster.kubectl_prints(&["taint", "nodes", "--all", "--overwrite", &format!("{TAINT}{effect}")]);
}

/// The repository's files, with the calls counted and made to fail.
struct Sabotaged {
    files: LocalFileSystem,
    saboteur: Arc<Saboteur>,
}

impl Sabotaged {
    /// Asks before a call; the call is made if it says so, and then [`answer`](Self::answer) is asked.
    fn plan(&self, verb: &'static str, place: &str) -> object_store::Result<(Call, Fault)> {
        let call =
            Call { verb, resource: STORE.to_owned(), namespace: None, name: Some(place.to_owned()), dry_run: false };
        match self.saboteur.plan(&call) {
            fault @ (Fault::None | Fault::AnswerLost) => Ok((call, fault)),
            Fault::Unsent | Fault::Answer(_) => Err(broken()),
        }
    }

    fn answer<T>(&self, (call, fault): (Call, Fault), answer: object_store::Result<T>) -> object_store::Result<T> {
        self.saboteur.answered(&call, Answer::Failed);
        if fault == Fault::AnswerLost { Err(broken()) } else { answer }
    }
}

fn broken() -> object_store::Error {
    let cause = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    object_store::Error::Generic { store: "proof", source: Box::new(cause) }
}

impl fmt::Debug for Sabotaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.files, formatter)
    }
}

impl fmt::Display for Sabotaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.files, formatter)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Sabotaged {
    async fn put_opts(
        &self,
        location: &Place,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let planned = self.plan("put", location.as_ref())?;
        let answer = self.files.put_opts(location, payload, options).await;
        self.answer(planned, answer)
    }

    async fn put_multipart_opts(
        &self,
        location: &Place,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let planned = self.plan("put", location.as_ref())?;
        let answer = self.files.put_multipart_opts(location, options).await;
        self.answer(planned, answer)
    }

    async fn get_opts(&self, location: &Place, options: GetOptions) -> object_store::Result<GetResult> {
        let planned = self.plan("get", location.as_ref())?;
        let answer = self.files.get_opts(location, options).await;
        self.answer(planned, answer)
    }

    async fn get_ranges(&self, location: &Place, ranges: &[std::ops::Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let planned = self.plan("get", location.as_ref())?;
        let answer = self.files.get_ranges(location, ranges).await;
        self.answer(planned, answer)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Place>>,
    ) -> BoxStream<'static, object_store::Result<Place>> {
        match self.plan("delete", "") {
            Ok(planned) => {
                let answer = self.answer(planned, Ok(()));
                let deleted = self.files.delete_stream(locations);
                deleted
                    .and_then(move |place| std::future::ready(answer.as_ref().map(|()| place).map_err(|_| broken())))
                    .boxed()
            }
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Place>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let planned = self.plan("list", prefix.map_or("", AsRef::as_ref));
        match planned.and_then(|planned| self.answer(planned, Ok(()))) {
            Ok(()) => self.files.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Place>) -> object_store::Result<ListResult> {
        let planned = self.plan("list", prefix.map_or("", AsRef::as_ref))?;
        let answer = self.files.list_with_delimiter(prefix).await;
        self.answer(planned, answer)
    }

    async fn copy_opts(&self, from: &Place, to: &Place, options: CopyOptions) -> object_store::Result<()> {
        let planned = self.plan("copy", from.as_ref())?;
        let answer = self.files.copy_opts(from, to, options).await;
        self.answer(planned, answer)
    }
}
