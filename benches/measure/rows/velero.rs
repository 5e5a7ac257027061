//! The same objects through Velero and through TenantAtlas, into one S3 server, in turns.
//!
//! Both sides take and put back the same objects: ConfigMaps and Secrets with one label, so that neither saves records of the other's. An
//! end that is not a success ends the measurement at once. Who goes first alternates.

use super::Plan;
use super::at_once;
use super::objects::{fill, object, text};
use crate::bed::{Bed, environment, until};
use crate::process::{self, Process};
use crate::report::{Report, count, median, ratios};
use crate::{Result, api};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// Velero's namespace.
const VELERO: &str = "velero";
const PORT: u16 = 7070;
const ACCESS: &str = "bench";
const SECRET: &str = "not-a-secret-of-anybody";
/// What is backed up and restored on both sides.
const LABEL: (&str, &str) = ("app", "bench");

/// Flags that Velero's users are told to raise for many objects.
const TUNED: [&str; 2] = ["--client-qps=1000", "--client-burst=2000"];

/// One side's way through one operation.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    /// Bytes by which its bucket grew.
    bytes: f64,
    /// Most memory of Velero's server, or of our worker, in MiB.
    peak: f64,
}

/// The samples of one row of the table.
#[derive(Default)]
struct Sides {
    velero: Vec<Took>,
    ours: Vec<Took>,
}

/// What a backup of each side is called.
#[derive(Default)]
struct Names {
    velero: String,
    ours: String,
}

impl Sides {
    fn add(&mut self, ours: bool, took: Took) {
        if ours { self.ours.push(took) } else { self.velero.push(took) }
    }

    fn tell(&self, report: &mut Report, size: usize, what: &str, stores: bool) {
        let of = |sides: &[Took], figure: fn(&Took) -> f64| sides.iter().map(figure).collect::<Vec<f64>>();
        let mut compare = |name: &str, unit: &str, figure: fn(&Took) -> f64| {
            let (velero, ours) = (of(&self.velero, figure), of(&self.ours, figure));
            report.figure(format!("{size} objects, {what}: {name}"), median(&ratios(&velero, &ours)), "×");
            report.samples(format!("{size}, {what}, {name}: Velero"), unit, &velero);
            report.samples(format!("{size}, {what}, {name}: ours"), unit, &ours);
        };
        compare("time", "s", |took| took.seconds);
        if stores {
            compare("stored", "KiB", |took| took.bytes / 1024.0);
        }
        compare("peak memory", "MiB", |took| took.peak);
    }
}

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let mut report = Report::new(
        "Beside Velero",
        "ConfigMaps and Secrets, half of each, 2,000 bytes of data each, which both sides select by kind and label. Velero's server and one S3 server for both run as processes of this machine; \
         ours is a run in a Job, whose start of some seconds counts. From the create of the Backup, Restore, OperationRun or RestoreRun until its status says that it ended, asked for 20 times a second; anything but a \
         success ends the measurement. Each repetition has a new repository of ours; Velero stores each backup whole. Restores of ours take a safety capture first, as they do unless told otherwise. Who goes first alternates. \
         A ratio is Velero's figure by ours: above 1 ours is better. Bytes are those by which the side's bucket grew; memory is the peak of Velero's server, its plugin's process not counted, and of our worker.",
        plan.quick,
    );
    let mut stage = Stage::set(bed).await?;
    for (size, restores) in [(10, false), (plan.size(5_000, 100), true)] {
        let namespace = bed.tenant("beside-velero", true).await?;
        fill(bed, &namespace, 0, size).await?;
        stage.secrets(&namespace).await?;
        stage.measure(&mut report, &namespace, size, restores, plan.repetitions).await?;
    }
    Ok(report)
}

/// Both sides, ready.
struct Stage<'a> {
    bed: &'a Bed,
    root: tempfile::TempDir,
    endpoint: String,
    velero: Child,
    _s3: Child,
    names: AtomicUsize,
}

impl<'a> Stage<'a> {
    async fn set(bed: &'a Bed) -> Result<Self> {
        let root = tempfile::tempdir()?;
        let address = environment("ATLAS_HOST_ADDRESS")?;
        for folder in ["s3/velero", "s3/ours", "metadata", "plugins"] {
            fs::create_dir_all(root.path().join(folder))?;
        }
        let plugin = environment("ATLAS_VELERO_PLUGIN")?;
        std::os::unix::fs::symlink(plugin, root.path().join("plugins/velero-plugin-for-aws"))?;
        let s3 = Command::new(environment("ATLAS_S3")?)
            .args(["--quiet", "--port", &format!("{address}:{PORT}"), "--access", ACCESS, "--secret", SECRET])
            .args(["posix", "--sidecar"])
            .arg(root.path().join("metadata"))
            .arg(root.path().join("s3"))
            .stdin(Stdio::null())
            .stdout(fs::File::create(root.path().join("s3.log"))?)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let endpoint = format!("http://{address}:{PORT}");
        let crds = Command::new(environment("ATLAS_VELERO")?)
            .env("KUBECONFIG", &bed.kubeconfig)
            .args(["install", "--crds-only"])
            .stdout(Stdio::null())
            .status()
            .await?;
        if !crds.success() {
            return Err("`velero install --crds-only` failed".into());
        }
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": VELERO } });
        api::try_create(&bed.client, "/api/v1/namespaces", &namespace).await?;
        let cloud = format!("[default]\naws_access_key_id={ACCESS}\naws_secret_access_key={SECRET}\n");
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "cloud" }, "stringData": { "cloud": cloud } });
        api::create(&bed.client, &format!("/api/v1/namespaces/{VELERO}/secrets"), &secret).await?;
        let location = json!({ "apiVersion": "velero.io/v1", "kind": "BackupStorageLocation", "metadata": { "name": "default" }, "spec": {
            "provider": "aws", "default": true, "objectStorage": { "bucket": "velero" }, "credential": { "name": "cloud", "key": "cloud" },
            "config": { "region": "us-east-1", "s3ForcePathStyle": "true", "s3Url": endpoint, "checksumAlgorithm": "" } } });
        api::create(&bed.client, &of_velero("backupstoragelocations"), &location).await?;
        // Velero's server runs outside the cluster, but a restore reads the image of this Deployment and fails without it.
        let template = json!({ "metadata": { "labels": { "app": VELERO } }, "spec": { "containers": [{ "name": VELERO, "image": "velero" }] } });
        let deployment = json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": VELERO }, "spec": {
            "replicas": 0, "selector": { "matchLabels": { "app": VELERO } }, "template": template } });
        api::create(&bed.client, &format!("/apis/apps/v1/namespaces/{VELERO}/deployments"), &deployment).await?;
        let velero = server(bed, root.path(), &[]).await?;
        Ok(Self { bed, root, endpoint, velero, _s3: s3, names: AtomicUsize::new(0) })
    }

    /// Velero's server anew, with these flags beside the usual ones.
    async fn restart(&mut self, flags: &[&str]) -> Result<()> {
        self.velero.kill().await?;
        self.velero = server(self.bed, self.root.path(), flags).await?;
        Ok(())
    }

    /// What opens our repositories.
    async fn secrets(&self, namespace: &str) -> Result<()> {
        let path = format!("/api/v1/namespaces/{namespace}/secrets");
        let keys = json!({ "AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET });
        for (name, data) in [("keys", keys), ("password", json!({ "password": crate::worker::PASSWORD }))] {
            let secret =
                json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data });
            api::create(&self.bed.client, &path, &secret).await?;
        }
        Ok(())
    }

    async fn measure(
        &mut self,
        report: &mut Report,
        namespace: &str,
        size: usize,
        restores: bool,
        repetitions: usize,
    ) -> Result<()> {
        let (mut first, mut unchanged, mut changed) = (Sides::default(), Sides::default(), Sides::default());
        let (mut emptied, mut tuned, mut none, mut update) =
            (Sides::default(), Sides::default(), Sides::default(), Sides::default());
        for repetition in 0..repetitions {
            let ours_first = repetition.is_multiple_of(2);
            let repository = self.repository(namespace).await?;
            let mut names = Names::default();
            for (sides, change) in [(&mut first, false), (&mut unchanged, false), (&mut changed, true)] {
                if change {
                    self.change(namespace, size, repetition).await?;
                }
                names = Names { velero: self.next("velero"), ours: self.next("ours") };
                for ours in [ours_first, !ours_first] {
                    sides.add(ours, self.backup(ours, namespace, &repository, &names).await?);
                }
            }
            if !restores {
                continue;
            }
            for (sides, flags) in [(&mut emptied, &[][..]), (&mut tuned, &TUNED[..])] {
                self.restart(flags).await?;
                for ours in [ours_first, !ours_first] {
                    self.empty(namespace).await?;
                    sides.add(ours, self.restore(ours, namespace, &names, "none").await?);
                    self.expect(namespace, size).await?;
                }
            }
            self.restart(&[]).await?;
            for (sides, policy) in [(&mut none, "none"), (&mut update, "update")] {
                for ours in [ours_first, !ours_first] {
                    sides.add(ours, self.restore(ours, namespace, &names, policy).await?);
                }
            }
        }
        first.tell(report, size, "first backup", true);
        unchanged.tell(report, size, "unchanged", true);
        changed.tell(report, size, "1 % changed", true);
        if restores {
            emptied.tell(report, size, "restore into the emptied namespace", false);
            tuned.tell(report, size, &format!("the same, Velero with {}", TUNED.join(" ")), false);
            none.tell(report, size, "restore over the identical one, policy none", false);
            update.tell(report, size, "restore over the identical one, policy update", false);
        }
        Ok(())
    }

    /// A new repository of ours. Returns its name.
    async fn repository(&self, namespace: &str) -> Result<String> {
        let name = self.next("repository");
        let repository = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository", "metadata": { "name": name }, "spec": {
            "storage": { "s3": { "bucket": "ours", "prefix": format!("{namespace}/{name}"), "endpoint": self.endpoint, "region": "us-east-1" } },
            "credentialsSecret": { "name": "keys" }, "passwordSecret": { "name": "password" } } });
        let path = ours(namespace, "backuprepositories");
        api::create(&self.bed.client, &path, &repository).await?;
        let path = format!("{path}/{name}");
        let ready = async || {
            let repository = api::get(&self.bed.client, &path).await?;
            let conditions = repository["status"]["conditions"].as_array().cloned().unwrap_or_default();
            Ok(conditions.iter().any(|told| told["type"] == "Ready" && told["status"] == "True").then_some(()))
        };
        until("our repository to be Ready", Duration::from_mins(2), ready).await?;
        Ok(name)
    }

    async fn backup(&self, ours: bool, namespace: &str, repository: &str, names: &Names) -> Result<Took> {
        if !ours {
            let backup = json!({ "apiVersion": "velero.io/v1", "kind": "Backup", "metadata": { "name": names.velero }, "spec": {
                "includedNamespaces": [namespace], "includedResources": ["configmaps", "secrets"],
                "labelSelector": { "matchLabels": { (LABEL.0): LABEL.1 } }, "snapshotVolumes": false, "storageLocation": "default" } });
            return self.velero("backups", &backup).await;
        }
        let selection =
            json!({ "includeKinds": ["ConfigMap", "Secret"], "labelSelector": format!("{}={}", LABEL.0, LABEL.1) });
        let inputs = json!({ "repository": repository, "selection": selection });
        let run = crate::bed::run(&names.ours, "backup.capture", &inputs);
        self.ours(namespace, "operationruns", &run).await
    }

    async fn restore(&self, ours: bool, namespace: &str, names: &Names, policy: &str) -> Result<Took> {
        if !ours {
            let restore = json!({ "apiVersion": "velero.io/v1", "kind": "Restore", "metadata": { "name": self.next("restore-velero") }, "spec": {
                "backupName": names.velero, "includedNamespaces": [namespace], "existingResourcePolicy": policy } });
            return self.velero("restores", &restore).await;
        }
        let restore = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun",
            "metadata": { "name": self.next("restore-ours") },
            "spec": { "backupSet": { "name": names.ours }, "existingResourcePolicy": policy } });
        self.ours(namespace, "restoreruns", &restore).await
    }

    async fn velero(&self, plural: &str, object: &Value) -> Result<Took> {
        let process = Process::new(self.velero.id().ok_or("Velero's server has ended")?);
        process.forget_peak()?;
        let before = bytes_below(&self.bucket("velero"))?;
        let ended = |object: &Value| {
            Some(match object["status"]["phase"].as_str()? {
                "Completed" => Ok(()),
                "Failed" | "PartiallyFailed" | "FailedValidation" | "FinalizingPartiallyFailed" => {
                    Err(object["status"].to_string())
                }
                _ => return None,
            })
        };
        let ended = self.until_ended(&of_velero(plural), object, ended, || ()).await;
        let seconds = ended.map_err(|error| format!("{error}: {}", self.last_errors()))?;
        let bytes = bytes_below(&self.bucket("velero"))? - before;
        Ok(Took { seconds, bytes, peak: process.peak_memory()? })
    }

    /// The last errors in the log of Velero's server: a status counts them only.
    fn last_errors(&self) -> String {
        let log = fs::read_to_string(self.root.path().join("velero.log")).unwrap_or_default();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("level=error")).collect();
        errors[errors.len().saturating_sub(3)..].join("\n")
    }

    async fn ours(&self, namespace: &str, plural: &str, object: &Value) -> Result<Took> {
        let before = bytes_below(&self.bucket("ours"))?;
        let ended = |object: &Value| {
            let status = &object["status"];
            (status["phase"] == "completed")
                .then(|| if status["outcome"] == "succeeded" { Ok(()) } else { Err(status.to_string()) })
        };
        let mut peak: f64 = 0.0;
        let look = || {
            let workers =
                process::with_arguments(&["worker", "capture"]).chain(process::with_arguments(&["worker", "restore"]));
            peak = workers.filter_map(|worker| worker.peak_memory().ok()).fold(peak, f64::max);
        };
        let seconds = self.until_ended(&ours(namespace, plural), object, ended, look).await?;
        Ok(Took { seconds, bytes: bytes_below(&self.bucket("ours"))? - before, peak })
    }

    /// Seconds from the create of an object until it says that it ended well.
    async fn until_ended(
        &self,
        path: &str,
        object: &Value,
        ended: impl Fn(&Value) -> Option<Result<(), String>>,
        mut meanwhile: impl FnMut(),
    ) -> Result<f64> {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let begun = Instant::now();
        api::create(&self.bed.client, path, object).await?;
        loop {
            let now = api::get(&self.bed.client, &format!("{path}/{name}")).await?;
            match ended(&now) {
                Some(Ok(())) => return Ok(begun.elapsed().as_secs_f64()),
                Some(Err(why)) => return Err(format!("{path}/{name} did not end well: {why}").into()),
                None if begun.elapsed() > Duration::from_mins(30) => {
                    return Err(format!("{path}/{name} has not ended within 30 minutes: {}", now["status"]).into());
                }
                None => {}
            }
            meanwhile();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Gives every hundredth object other data, other ones each time.
    async fn change(&self, namespace: &str, size: usize, repetition: usize) -> Result<()> {
        at_once(size.div_ceil(100), 16, async |place| {
            let number = (100 * place + repetition) % size;
            let (path, object) = object(namespace, number, &text(number + 1_000_000 * (repetition + 1)));
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            api::merge(&self.bed.client, &format!("{path}/{name}"), &json!({ "data": object["data"] })).await
        })
        .await
    }

    async fn empty(&self, namespace: &str) -> Result<()> {
        for plural in ["configmaps", "secrets"] {
            let selected = format!("labelSelector={}%3D{}", LABEL.0, LABEL.1);
            api::delete(&self.bed.client, &format!("/api/v1/namespaces/{namespace}/{plural}?{selected}")).await?;
        }
        Ok(())
    }

    /// Makes sure that a restore brought everything back.
    async fn expect(&self, namespace: &str, size: usize) -> Result<()> {
        let mut there = 0;
        for plural in ["configmaps", "secrets"] {
            let selected = format!("labelSelector={}%3D{}", LABEL.0, LABEL.1);
            let list =
                api::get(&self.bed.client, &format!("/api/v1/namespaces/{namespace}/{plural}?{selected}")).await?;
            there += list["items"].as_array().map_or(0, Vec::len);
        }
        if there == size { Ok(()) } else { Err(format!("{there} objects are back of {size}").into()) }
    }

    fn bucket(&self, name: &str) -> PathBuf {
        self.root.path().join("s3").join(name)
    }

    fn next(&self, stem: &str) -> String {
        format!("{stem}-{}", self.names.fetch_add(1, Ordering::Relaxed))
    }
}

/// Velero's server, once it finds its store usable.
async fn server(bed: &Bed, root: &Path, flags: &[&str]) -> Result<Child> {
    let log = fs::File::create(root.join("velero.log"))?;
    let mut server = Command::new(environment("ATLAS_VELERO")?)
        .env("KUBECONFIG", &bed.kubeconfig)
        .env("VELERO_NAMESPACE", VELERO)
        .args([
            "server",
            "--namespace",
            VELERO,
            "--metrics-address=127.0.0.1:18085",
            "--profiler-address=127.0.0.1:16060",
        ])
        .arg("--plugin-dir")
        .arg(root.join("plugins"))
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .kill_on_drop(true)
        .spawn()?;
    // What an earlier server found does not count.
    let begun = jiff::Timestamp::now();
    let path = format!("{}/default", of_velero("backupstoragelocations"));
    let usable = async || {
        let status = api::get(&bed.client, &path).await?["status"].clone();
        let seen = status["lastValidationTime"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok());
        // Times have seconds.
        let since = seen.is_some_and(|seen| seen.as_second() >= begun.as_second());
        Ok((status["phase"] == "Available" && since).then_some(()))
    };
    let waited = until("Velero's store to be available", Duration::from_mins(3), usable).await;
    if let (Err(error), Ok(Some(status))) = (&waited, server.try_wait()) {
        let log = fs::read_to_string(root.join("velero.log")).unwrap_or_default();
        let end: Vec<&str> = log.lines().rev().take(5).collect();
        return Err(format!("{error}: its server ended with {status}: {end:#?}").into());
    }
    waited.map(|()| server)
}

fn of_velero(plural: &str) -> String {
    format!("/apis/velero.io/v1/namespaces/{VELERO}/{plural}")
}

fn ours(namespace: &str, plural: &str) -> String {
    format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/{plural}")
}

/// The bytes of all files below a folder.
fn bytes_below(folder: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { count(usize::try_from(metadata.len())?) };
    }
    Ok(bytes)
}
