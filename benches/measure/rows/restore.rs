//! Restores beside a client that makes the same writes, as many at once.

use super::capture::{CAPTURE, CHECK};
use super::objects::{fill, object, text};
use super::{Plan, at_once};
use crate::bed::{Bed, OF_PODS_ALONE};
use crate::report::{Report, Target, count, median, ratios};
use crate::worker::{Work, Worker};
use crate::{Result, api};
use serde_json::{Value, json};
use std::time::Instant;

/// Writes at once, as the worker makes.
const AT_ONCE: usize = 16;

const PREVIEW: Work = Work { command: "preview", operation_type: "restore.preview", begins: "previewing" };
const RESTORE: Work = Work { command: "restore", operation_type: "restore.apply", begins: "restoring" };

/// One size's samples: objects a second.
#[derive(Default)]
struct Rates {
    bare_create: Vec<f64>,
    create: Vec<f64>,
    bare_dry_run: Vec<f64>,
    preview: Vec<f64>,
    identical: Vec<f64>,
    bare_update: Vec<f64>,
    update: Vec<f64>,
    peaks: Vec<f64>,
}

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let sizes = if plan.quick { vec![100] } else { vec![5_000, 20_000] };
    let mut report = Report::new(
        "Restore",
        "Half ConfigMaps, half Secrets, 2,000 bytes of data each. Bare: a client that creates the same objects in an empty \
         namespace, creates them as a dry run, or puts them back where another client has changed a label of each; 16 at once, as the worker does. Ours: the worker as a process of this machine, from the line in which it says that it begins to its end: listing, reading the \
         snapshot, deciding, storing plan and results in reports and two entries in the audit chain included; without the safety capture, which the bare side has nothing \
         beside. Two admission policies that let only pods write records are taken away for it. Memory is the process's peak, opening the repository by password included.",
        plan.quick,
    );
    // Onboarded: what the account that writes may do is asked for.
    let mut places = Vec::new();
    for size in sizes {
        places.push((size, bed.tenant("restore", true).await?, bed.tenant("restore-bare", false).await?));
    }
    bed.stop_operator().await?;
    bed.take_away(&OF_PODS_ALONE).await?;
    let mut peaks = Vec::new();
    for (size, namespace, bare_namespace) in places {
        let bench = Bench { bed, worker: Worker::new(bed, &namespace).await?, namespace, bare_namespace, size };
        bench.worker.work(&CHECK, &json!({ "repository": "main" })).await?;
        let rates = bench.rates(plan.repetitions).await?;
        let peak = rates.peaks.iter().copied().fold(0.0, f64::max);
        peaks.push(peak);
        rates.tell(&mut report, size, peak);
        bench.worker.remove()?;
    }
    if let [small, large] = peaks[..] {
        let growth = 100.0 * (large / small - 1.0);
        report.against("memory: growth from 5,000 to 20,000 objects", growth, "%", Target::AtMost(10.0));
    }
    bed.start_operator().await?;
    Ok(report)
}

struct Bench<'a> {
    bed: &'a Bed,
    worker: Worker,
    namespace: String,
    bare_namespace: String,
    size: usize,
}

impl Bench<'_> {
    async fn rates(&self, repetitions: usize) -> Result<Rates> {
        fill(self.bed, &self.namespace, 0, self.size).await?;
        let captured = self.worker.work(&CAPTURE, &json!({ "repository": "main" })).await?;
        self.record_set(&captured.result["context"]["snapshot"]["id"]).await?;
        let mut rates = Rates::default();
        for repetition in 0..repetitions {
            self.empty(&self.namespace).await?;
            let preview = self.work(&PREVIEW, json!({ "dryRun": true })).await?;
            rates.preview.push(preview.0);
            rates.bare_dry_run.push(self.bare(Bare::DryRun).await?);
            let create = self.work(&RESTORE, json!({})).await?;
            rates.create.push(create.0);
            rates.bare_create.push(self.bare(Bare::Create).await?);
            rates.identical.push(self.work(&RESTORE, json!({ "existingResourcePolicy": "update" })).await?.0);
            self.change(&self.namespace).await?;
            let update = self.work(&RESTORE, json!({ "existingResourcePolicy": "update" })).await?;
            rates.update.push(update.0);
            self.change(&self.bare_namespace).await?;
            rates.bare_update.push(self.bare(Bare::Update).await?);
            self.empty(&self.bare_namespace).await?;
            rates.peaks.extend([preview.1, create.1, update.1]);
            eprintln!(
                "   {}, {}: create {:.0}/s (bare {:.0}), preview {:.0}/s (bare {:.0}), identical {:.0}/s, update {:.0}/s (bare {:.0}), peak {:.0} MiB",
                self.size,
                repetition + 1,
                rates.create[repetition],
                rates.bare_create[repetition],
                rates.preview[repetition],
                rates.bare_dry_run[repetition],
                rates.identical[repetition],
                rates.update[repetition],
                rates.bare_update[repetition],
                create.1
            );
        }
        Ok(rates)
    }

    /// A worker's rate and peak, for a restore with this spec.
    async fn work(&self, work: &Work, mut spec: Value) -> Result<(f64, f64)> {
        spec["backupSet"] = json!({ "name": "all" });
        spec["safetyCapture"] = json!(false);
        let restore = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun",
            "metadata": { "generateName": "bench-" }, "spec": spec });
        let restore = api::create(&self.bed.client, &self.ours("restoreruns"), &restore).await?;
        let inputs = json!({ "repository": "main",
            "restoreRun": { "name": restore["metadata"]["name"], "uid": restore["metadata"]["uid"] } });
        let worked = self.worker.work(work, &inputs).await?;
        let items = worked.items()?;
        if items < self.size {
            return Err(format!("{items} items done of {}: {}", self.size, worked.result).into());
        }
        Ok((count(self.size) / worked.seconds, worked.peak))
    }

    async fn record_set(&self, snapshot: &Value) -> Result<()> {
        let namespace = api::get(&self.bed.client, &format!("/api/v1/namespaces/{}", self.namespace)).await?;
        let set = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": { "name": "all" }, "spec": {
            "repository": { "name": "main" }, "snapshot": snapshot, "run": { "name": "bench", "uid": "bench" },
            "namespaceUid": namespace["metadata"]["uid"], "coverage": "full" } });
        api::create(&self.bed.as_operator, &self.ours("backupsets"), &set).await.map(drop)
    }

    fn ours(&self, plural: &str) -> String {
        format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/{plural}", self.namespace)
    }

    async fn bare(&self, what: Bare) -> Result<f64> {
        let begun = Instant::now();
        at_once(self.size, AT_ONCE, async |number| {
            let (path, object) = object(&self.bare_namespace, number, &text(number));
            match what {
                Bare::Create => api::create(&self.bed.client, &path, &object).await.map(drop),
                Bare::DryRun => api::create(&self.bed.client, &format!("{path}?dryRun=All"), &object).await.map(drop),
                Bare::Update => {
                    let name = object["metadata"]["name"].as_str().unwrap_or_default();
                    api::replace(&self.bed.client, &format!("{path}/{name}"), &object).await
                }
            }
        })
        .await?;
        Ok(count(self.size) / begun.elapsed().as_secs_f64())
    }

    /// Makes every object differ from what it was created as.
    async fn change(&self, namespace: &str) -> Result<()> {
        at_once(self.size, 48, async |number| {
            let (path, object) = object(namespace, number, &text(number));
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let patch = json!({ "metadata": { "labels": { "changed": "since" } } });
            // Under another name than either side writes by: whose field is whose is a part of what a write costs.
            api::merge(&self.bed.client, &format!("{path}/{name}?fieldManager=somebody"), &patch).await
        })
        .await
    }

    async fn empty(&self, namespace: &str) -> Result<()> {
        for plural in ["configmaps", "secrets"] {
            let path = format!("/api/v1/namespaces/{namespace}/{plural}?labelSelector=app%3Dbench");
            api::delete(&self.bed.client, &path).await?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Bare {
    Create,
    DryRun,
    Update,
}

impl Rates {
    fn tell(&self, report: &mut Report, size: usize, peak: f64) {
        let share = |ours: &[f64], bare: &[f64]| 100.0 * median(&ratios(ours, bare));
        let create = share(&self.create, &self.bare_create);
        report.against(
            format!("{size} objects, into an empty namespace: share of the bare rate"),
            create,
            "%",
            Target::AtLeast(95.0),
        );
        let update = share(&self.update, &self.bare_update);
        report.against(format!("{size} objects, replaced: share of the bare rate"), update, "%", Target::AtLeast(90.0));
        let preview = share(&self.preview, &self.bare_dry_run);
        report.against(
            format!("{size} objects, previewed: share of the bare dry runs' rate"),
            preview,
            "%",
            Target::AtLeast(85.0),
        );
        let identical = median(&ratios(&self.identical, &self.create));
        report.against(
            format!("{size} objects, all as they should be: times the restore's rate"),
            identical,
            "×",
            Target::AtLeast(3.0),
        );
        report.against(format!("{size} objects: peak memory, opening included"), peak, "MiB", Target::AtMost(64.0));
        for (side, values) in [
            ("bare create", &self.bare_create),
            ("restore", &self.create),
            ("bare dry run", &self.bare_dry_run),
            ("preview", &self.preview),
            ("identical restore", &self.identical),
            ("bare update", &self.bare_update),
            ("restore that replaces", &self.update),
        ] {
            report.samples(format!("{size}: {side}"), "/s", values);
        }
        report.samples(format!("{size}: peak memory"), "MiB", &self.peaks);
    }
}
