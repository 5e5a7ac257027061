//! A worker's process with what a Job would give it: variables, mounts, and a run that its fence lets pass.

use crate::bed::{Bed, run};
use crate::process::Process;
use crate::{Result, api};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tenantatlas::api::execution;
use tenantatlas::worker::environment::Mounts;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Of every repository here.
pub const PASSWORD: &str = "correct horse battery staple";

/// The uid of the cluster that owns them.
pub const CLUSTER: &str = "bench";

/// Where everything counts but the start and opening the repository by password: the worker's own line about that.
pub const OPENED: &str = "opened the repository";

/// See the module's text.
pub struct Worker {
    bed: BedParts,
    root: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
    runs: std::sync::atomic::AtomicUsize,
}

/// A worker's command, and the word in its log with which its work begins.
pub struct Work {
    pub command: &'static str,
    pub operation_type: &'static str,
    pub begins: &'static str,
}

/// What one run of a worker took.
pub struct Worked {
    /// Seconds from the process's start until its work began.
    pub before: f64,
    /// Seconds from then to its end.
    pub seconds: f64,
    /// What it left in the termination message.
    pub result: Value,
    /// Most memory the process had, in MiB.
    pub peak: f64,
    /// Most memory the process had since its work began.
    pub peak_at_work: f64,
}

impl Worked {
    /// Items that it counts as done.
    pub fn items(&self) -> Result<usize> {
        Ok(usize::try_from(self.result["summaryCounts"]["succeeded"].as_u64().unwrap_or_default())?)
    }
}

/// What of the bed a worker needs.
struct BedParts {
    client: kube::Client,
    as_operator: kube::Client,
    binary: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Worker {
    pub async fn new(bed: &Bed, namespace: &str) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let mounts = Mounts::below(root.path());
        for folder in [&mounts.password, &mounts.volume, &root.path().join("dev"), &root.path().join("tmp")] {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(mounts.password.join("password"), PASSWORD)?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let owner = api::get(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
        let spec = json!({ "storage": { "persistentVolumeClaim": { "claimName": "backups" } }, "passwordSecret": { "name": "password" } });
        let variables = BTreeMap::from([
            (execution::NAMESPACE, namespace.to_owned()),
            (execution::NAMESPACE_UID, text(&owner["metadata"]["uid"])),
            (execution::CLUSTER_UID, CLUSTER.to_owned()),
            (execution::JOB_UID, "bench".to_owned()),
            (execution::REPOSITORY, "main".to_owned()),
            (execution::REPOSITORY_SPEC, spec.to_string()),
            (execution::HEAP.0, execution::HEAP.1.to_owned()),
        ]);
        let bed = BedParts {
            client: bed.client.clone(),
            as_operator: bed.as_operator.clone(),
            binary: bed.binary.clone(),
            kubeconfig: bed.kubeconfig.clone(),
            namespace: namespace.to_owned(),
        };
        Ok(Self { bed, root, variables, runs: 0.into() })
    }

    /// An empty volume again.
    pub fn clear(&self) -> Result<()> {
        let volume = Mounts::below(self.root.path()).volume;
        std::fs::remove_dir_all(&volume)?;
        Ok(std::fs::create_dir_all(&volume)?)
    }

    /// Where the repository lies.
    pub fn volume(&self) -> PathBuf {
        Mounts::below(self.root.path()).volume
    }

    pub fn remove(self) -> Result<()> {
        Ok(self.root.close()?)
    }

    /// One run of the worker. Each is for another run, or it would find what an earlier one left.
    pub async fn work(&self, work: &Work, inputs: &Value) -> Result<Worked> {
        let mounts = Mounts::below(self.root.path());
        let number = self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bench-{number}");
        let run = run(&name, work.operation_type, &json!({}));
        // Runs of restores and bulk operations are the operator's to make. It may read no objects, so that others are a user's.
        let kinds = [("restoreRun", "restoreruns"), ("bulkOperationRun", "bulkoperationruns")];
        let made_for = kinds.into_iter().find_map(|(input, plural)| Some((plural, inputs[input]["name"].as_str()?)));
        let author = if made_for.is_some() { &self.bed.as_operator } else { &self.bed.client };
        let run = api::create(author, &api::runs(&self.bed.namespace), &run).await?;
        if let Some((plural, object)) = made_for {
            // As the operator does: it is carried out by the run that it names, and by no other.
            let object =
                format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/{plural}/{object}/status", self.bed.namespace);
            let recorded = json!({ "status": { "operationRun": { "name": name, "uid": run["metadata"]["uid"] } } });
            api::merge(&self.bed.as_operator, &object, &recorded).await?;
        }
        let begun = Instant::now();
        let mut child = Command::new(&self.bed.binary)
            .args(["worker", work.command, "--root"])
            .arg(self.root.path())
            .env("KUBECONFIG", &self.bed.kubeconfig)
            .env("ATLAS_LOG", "error,tenantatlas::worker=info,tenantatlas::operations=info")
            .env(execution::INPUTS, inputs.to_string())
            .env(execution::RUN, &name)
            // Its Lease on the repository has the name of its pod.
            .env(execution::POD_NAME, &name)
            .env(execution::RUN_UID, run["metadata"]["uid"].as_str().unwrap_or_default())
            .envs(&self.variables)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.bed.binary.display()))?;
        let process = Process::new(child.id().ok_or("the worker ended at once")?);
        let mut log = BufReader::new(child.stderr.take().ok_or("the worker has no standard error")?).lines();
        let begins = format!("\"message\":\"{}\"", work.begins);
        let (mut peak, mut peak_at_work): (f64, f64) = (0.0, 0.0);
        let mut before = None;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                Ok(Some(line)) = log.next_line() => {
                    if line.contains(&begins) {
                        before = Some(begun.elapsed().as_secs_f64());
                        peak = peak.max(process.peak_memory()?);
                        process.forget_peak()?;
                    } else if line.contains("ERROR") {
                        eprintln!("   {line}");
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            let now = process.peak_memory().unwrap_or(0.0);
            peak = peak.max(now);
            if before.is_some() {
                peak_at_work = peak_at_work.max(now);
            }
        };
        let seconds = begun.elapsed().as_secs_f64();
        let result: Value = serde_json::from_slice(&std::fs::read(mounts.termination_message)?)?;
        if !status.success() {
            return Err(format!("the worker ended with {status}: {result}").into());
        }
        let before = before.ok_or("the worker did not say when its work began")?;
        Ok(Worked { before, seconds: seconds - before, result, peak, peak_at_work })
    }
}
