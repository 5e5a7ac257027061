//! A capture beside a client that lists and parses the same pages.

use super::{Plan, at_once};
use crate::bed::{Bed, run};
use crate::process::Process;
use crate::report::{Report, Target, count, median, ratios};
use crate::{Result, api};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tenantatlas::api::execution;
use tenantatlas::worker::environment::Mounts;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

/// Bytes of an object's data, as in the comparison with Velero.
const DATA: usize = 2_000;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let sizes = if plan.quick { vec![300] } else { vec![5_000, 20_000, 100_000] };
    let mut report = Report::new(
        "Capture",
        "Half ConfigMaps, half Secrets, 2,000 bytes of data each, into a repository in a folder of this machine. The worker is the image's binary as a \
         process of this machine. Bare: a client that lists the same two kinds in pages of 500 and parses each into JSON values. A rate counts from the \
         line in which the worker says that it begins to capture to its process's end, the reading back of the snapshot included; what comes before (start, opening by \
         password, discovery) is told by itself. Memory is the process's peak, less the peak of a capture of nothing. Where the rest of a first capture goes, by a profile: a third of \
         the worker's time compresses each item and reads back what was compressed, a fifth hands items from thread to thread within the engine, a tenth is memory that both ask for anew; \
         JSON, hashes and encryption are a twentieth each or less. The API server shares the two cores, so what the worker computes is what the list waits for.",
        plan.quick,
    );
    // The run that the worker is for must not be carried out.
    bed.stop_operator().await?;
    let namespace = bed.tenant("capture", false).await?;
    let worker = Worker::new(bed, &namespace).await?;
    let nothing = json!({ "repository": "main", "selection": { "labelSelector": "no-such-label" } });
    let all = json!({ "repository": "main" });
    let mut there = 0;
    for size in sizes {
        fill(bed, &namespace, there, size).await?;
        there = size;
        let (mut bare, mut first, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let (mut peaks, mut before, mut empty_peaks) = (Vec::new(), Vec::new(), Vec::new());
        for repetition in 0..plan.repetitions {
            worker.clear()?;
            empty_peaks.push(worker.capture(&nothing).await?.peak);
            let begun = Instant::now();
            let listed = list(bed, &namespace).await?;
            bare.push(count(listed) / begun.elapsed().as_secs_f64());
            for rates in [&mut first, &mut again] {
                let captured = worker.capture(&all).await?;
                if captured.items < size {
                    return Err(format!("{} items captured of {size}", captured.items).into());
                }
                rates.push(count(captured.items) / captured.seconds);
                peaks.push(captured.peak);
                before.push(captured.before);
            }
            eprintln!(
                "   {size}, {}: bare {:.0}/s, first {:.0}/s, again {:.0}/s, peak {:.0} MiB",
                repetition + 1,
                bare[repetition],
                first[repetition],
                again[repetition],
                peaks[2 * repetition]
            );
        }
        let percent = |rates: &[f64]| 100.0 * median(&ratios(rates, &bare));
        let beyond = peaks.iter().copied().fold(0.0, f64::max) - median(&empty_peaks);
        report.against(
            format!("{size} objects, first: share of the bare rate"),
            percent(&first),
            "%",
            Target::AtLeast(50.0),
        );
        report.against(
            format!("{size} objects, unchanged: share of the bare rate"),
            percent(&again),
            "%",
            Target::AtLeast(80.0),
        );
        report.against(format!("{size} objects: memory beyond opening"), beyond, "MiB", Target::AtMost(128.0));
        report.figure(format!("{size} objects: start, opening and discovery take"), median(&before), "s");
        report.figure(format!("{size} objects: opening by password has a peak of"), median(&empty_peaks), "MiB");
        report.samples(format!("{size}: bare list and parse"), "/s", &bare);
        report.samples(format!("{size}: first capture"), "/s", &first);
        report.samples(format!("{size}: unchanged capture"), "/s", &again);
        report.samples(format!("{size}: peak memory"), "MiB", &peaks);
    }
    worker.remove()?;
    bed.start_operator().await?;
    Ok(report)
}

/// Creates objects from one number up to another, half of each kind.
async fn fill(bed: &Bed, namespace: &str, from: usize, to: usize) -> Result<()> {
    eprintln!("   creating {} objects", to - from);
    at_once(to - from, 48, async |number| {
        let number = from + number;
        let (kind, path) = if number.is_multiple_of(2) { ("ConfigMap", "configmaps") } else { ("Secret", "secrets") };
        let object = json!({ "apiVersion": "v1", "kind": kind,
            "metadata": { "name": format!("object-{number:06}"), "labels": { "app": "bench" } },
            "data": { "value": text(number) } });
        api::try_create(&bed.client, &format!("/api/v1/namespaces/{namespace}/{path}"), &object).await.map(drop)
    })
    .await
}

/// Letters that differ from object to object and compress about as configuration does; valid base64, for Secrets.
fn text(number: usize) -> String {
    let mut state = number as u64 ^ 0x9e37_79b9_7f4a_7c15;
    let mut text = String::with_capacity(DATA);
    while text.len() < DATA {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let word = ["config", "server", "enable", "timeouts", "port", "hostname"]
            [usize::try_from(state >> 61).unwrap_or(0) % 6];
        text.push_str(word);
        // Writing to a String cannot fail.
        let _ = write!(text, "{:04x}", (state >> 32) & 0xffff);
    }
    text.truncate(DATA);
    text
}

/// The bare side: the same kinds in pages of 500, each parsed. Returns how many objects came.
async fn list(bed: &Bed, namespace: &str) -> Result<usize> {
    let mut objects = 0;
    for plural in ["configmaps", "secrets"] {
        let mut token = String::new();
        loop {
            let path = format!("/api/v1/namespaces/{namespace}/{plural}?limit=500&continue={token}");
            let page: Value = api::get(&bed.client, &path).await?;
            objects += page["items"].as_array().map_or(0, Vec::len);
            match page["metadata"]["continue"].as_str() {
                Some(next) if !next.is_empty() => next.clone_into(&mut token),
                _ => break,
            }
        }
    }
    Ok(objects)
}

/// A worker's process with what a Job would give it: variables, mounts, and a run that its fence lets pass.
struct Worker {
    bed: BedParts,
    root: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
    runs: std::sync::atomic::AtomicUsize,
}

/// What one capture took.
struct Captured {
    /// Seconds from the process's start until it began to capture.
    before: f64,
    /// Seconds from then to its end.
    seconds: f64,
    items: usize,
    /// Most memory the process had, in MiB.
    peak: f64,
}

/// What of the bed a worker needs.
struct BedParts {
    client: kube::Client,
    binary: PathBuf,
    kubeconfig: PathBuf,
    namespace: String,
}

impl Worker {
    async fn new(bed: &Bed, namespace: &str) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let mounts = Mounts::below(root.path());
        for folder in [&mounts.password, &mounts.volume, &root.path().join("dev"), &root.path().join("tmp")] {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(mounts.password.join("password"), "correct horse battery staple")?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let owner = api::get(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
        let spec = json!({ "storage": { "persistentVolumeClaim": { "claimName": "backups" } }, "passwordSecret": { "name": "password" } });
        let variables = BTreeMap::from([
            (execution::NAMESPACE, namespace.to_owned()),
            (execution::NAMESPACE_UID, text(&owner["metadata"]["uid"])),
            (execution::CLUSTER_UID, "bench".to_owned()),
            (execution::JOB_UID, "bench".to_owned()),
            (execution::REPOSITORY, "main".to_owned()),
            (execution::REPOSITORY_SPEC, spec.to_string()),
        ]);
        let bed = BedParts {
            client: bed.client.clone(),
            binary: bed.binary.clone(),
            kubeconfig: bed.kubeconfig.clone(),
            namespace: namespace.to_owned(),
        };
        Ok(Self { bed, root, variables, runs: 0.into() })
    }

    /// An empty volume again.
    fn clear(&self) -> Result<()> {
        let volume = Mounts::below(self.root.path()).volume;
        std::fs::remove_dir_all(&volume)?;
        Ok(std::fs::create_dir_all(&volume)?)
    }

    fn remove(self) -> Result<()> {
        Ok(self.root.close()?)
    }

    /// One capture. Each is another run's, or it would find its own snapshot.
    async fn capture(&self, inputs: &Value) -> Result<Captured> {
        let mounts = Mounts::below(self.root.path());
        let number = self.runs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let name = format!("bench-{number}");
        let run = run(&name, "backup.capture", &json!({}));
        let run = api::create(&self.bed.client, &api::runs(&self.bed.namespace), &run).await?;
        let begun = Instant::now();
        let mut child = Command::new(&self.bed.binary)
            .args(["worker", "capture", "--root"])
            .arg(self.root.path())
            .env("KUBECONFIG", &self.bed.kubeconfig)
            .env("ATLAS_LOG", "error,tenantatlas::worker::capture=info")
            .env(execution::INPUTS, inputs.to_string())
            .env(execution::RUN, name)
            .env(execution::RUN_UID, run["metadata"]["uid"].as_str().unwrap_or_default())
            .envs(&self.variables)
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", self.bed.binary.display()))?;
        let process = Process::new(child.id().ok_or("the worker ended at once")?);
        let mut log = BufReader::new(child.stderr.take().ok_or("the worker has no standard error")?).lines();
        let mut peak: f64 = 0.0;
        let mut capturing = None;
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                Ok(Some(line)) = log.next_line() => {
                    if line.contains("\"message\":\"capturing\"") {
                        capturing = Some(begun.elapsed().as_secs_f64());
                    } else if line.contains("ERROR") {
                        eprintln!("   {line}");
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            peak = peak.max(process.peak_memory().unwrap_or(0.0));
        };
        let seconds = begun.elapsed().as_secs_f64();
        let message: Value = serde_json::from_slice(&std::fs::read(mounts.termination_message)?)?;
        if !status.success() {
            return Err(format!("the worker ended with {status}: {message}").into());
        }
        let items = message["summaryCounts"]["succeeded"].as_u64().unwrap_or_default();
        let before = capturing.ok_or("the worker did not say when it began to capture")?;
        Ok(Captured { before, seconds: seconds - before, items: usize::try_from(items)?, peak })
    }
}
