//! Drift from a baseline beside a client that lists and parses the same pages.

use super::capture::{CAPTURE, CHECK, list};
use super::objects::{fill, object, text};
use super::sets::Sets;
use super::{Plan, at_once};
use crate::bed::Bed;
use crate::report::{Report, Target, median, ratios};
use crate::worker::{OPENED, Work, Worked, Worker};
use crate::{Result, api};
use serde_json::{Value, json};
use std::time::Instant;

const DRIFT: Work = Work { command: "drift", operation_type: "drift.generate", begins: OPENED };

/// One in so many objects is changed.
const CHANGED: usize = 100;

/// Seconds of one kind of run, and of the bare list before each.
#[derive(Default)]
struct Side {
    ours: Vec<f64>,
    bare: Vec<f64>,
    peaks: Vec<f64>,
    whole_peaks: Vec<f64>,
}

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let size = plan.size(20_000, 300);
    let changed = size / CHANGED;
    let mut report = Report::new(
        "Drift",
        format!(
            "{size} objects, half ConfigMaps, half Secrets, 2,000 bytes of data each, and a baseline, which the worker has captured just before: the last backup. Ours: \
             `drift.generate` by the worker as a process of this machine, from the line in which it says that it has opened the repository to its end: the Lease, discovery, the index, reading the baseline, findings and \
             reports included. Three policies that let only pods write findings and reports are taken away for it. Then {changed} objects are changed. A first run creates a finding with a status for each, one after the other; the next run finds them there, and so does one with `readAll`, as if the baseline were an older backup. \
             Bare: a client that lists the same two kinds in pages of 500 and parses each into JSON values, in turns with each run; and one that makes the same writes as the first run, one after the other. Memory is the process's peak after that line."
        ),
        plan.quick,
    );
    bed.stop_operator().await?;
    bed.take_away(&["tenantatlas-findings", "tenantatlas-finding-status", "tenantatlas-reports"]).await?;
    let namespace = bed.tenant("drift", false).await?;
    let bench = Bench { bed, worker: Worker::new(bed, &namespace).await?, namespace, size, changed };
    bench.worker.work(&CHECK, &json!({ "repository": "main" })).await?;
    fill(bed, &bench.namespace, 0, size).await?;
    let sets = Sets::of(bed, &bench.namespace, &bench.worker).await?;

    let [mut same, mut created, mut known, mut whole] = std::array::from_fn(|_| Side::default());
    let (mut writes, mut before) = (Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        bench.forget_findings().await?;
        let baseline = format!("last-{repetition}");
        bench.capture(&sets, &baseline).await?;
        let inputs = json!({ "repository": "main", "baseline": { "backupSet": baseline } });
        before.push(bench.turn(&mut same, &inputs, (0, 0)).await?.before);
        bench.change(repetition).await?;
        bench.turn(&mut created, &inputs, (changed, changed)).await?;
        bench.turn(&mut known, &inputs, (changed, 0)).await?;
        let mut all = inputs;
        all["readAll"] = json!(true);
        bench.turn(&mut whole, &all, (changed, 0)).await?;
        writes.push(bench.bare_writes().await?);
        eprintln!(
            "   {}: bare {:.2} s, unchanged {:.2} s, 1 % changed {:.2} s (bare writes {:.2} s), the same again {:.2} s, all read {:.2} s, peak {:.0} MiB",
            repetition + 1,
            same.bare[repetition],
            same.ours[repetition],
            created.ours[repetition],
            writes[repetition],
            known.ours[repetition],
            whole.ours[repetition],
            whole.peaks[repetition]
        );
    }
    let sides = [
        ("unchanged", &same),
        ("1 % changed, new", &created),
        ("1 % changed, found before", &known),
        ("1 % changed, found before, everything read", &whole),
    ];
    for (what, side) in sides {
        let ratio = median(&ratios(&side.ours, &side.bare));
        report.against(format!("{size} objects, {what}: time, times a bare list's"), ratio, "×", Target::AtMost(1.3));
    }
    let most = |peaks: fn(&Side) -> &[f64]| {
        [&same, &created, &known, &whole].into_iter().flat_map(peaks).copied().fold(0.0, f64::max)
    };
    report.against(
        format!("{size} objects: peak memory after opening"),
        most(|side| &side.peaks),
        "MiB",
        Target::AtMost(64.0),
    );
    report.figure("peak memory, opening included", most(|side| &side.whole_peaks), "MiB");
    report.figure("start and opening take", median(&before), "s");
    let bare: Vec<f64> = created.bare.iter().zip(&writes).map(|(list, writes)| list + writes).collect();
    report.figure(
        "1 % changed, new: times the bare list and the bare writes",
        median(&ratios(&created.ours, &bare)),
        "×",
    );
    for (what, side) in sides {
        report.samples(format!("{what}: ours"), "s", &side.ours);
        report.samples(format!("{what}: bare list and parse"), "s", &side.bare);
        report.samples(format!("{what}: peak memory after opening"), "MiB", &side.peaks);
    }
    report.samples("bare writes of the findings", "s", &writes);
    bench.worker.remove()?;
    bed.start_operator().await?;
    Ok(report)
}

struct Bench<'a> {
    bed: &'a Bed,
    worker: Worker,
    namespace: String,
    size: usize,
    changed: usize,
}

impl Bench<'_> {
    /// Captures all objects as a set of this name.
    async fn capture(&self, sets: &Sets<'_>, name: &str) -> Result<()> {
        let captured = self.worker.work(&CAPTURE, &json!({ "repository": "main" })).await?;
        let snapshot = captured.result["context"]["snapshot"]["id"].as_str().ok_or("no snapshot")?;
        sets.record(name, snapshot, &json!({})).await
    }

    /// Changes some objects, in each turn in another way.
    async fn change(&self, turn: usize) -> Result<()> {
        at_once(self.changed, 32, async |number| {
            // As many of each kind.
            let number = number * CHANGED + number % 2;
            let (path, object) = object(&self.namespace, number, &text((turn + 1) * self.size + number));
            let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
            api::merge(&self.bed.client, &path, &json!({ "data": object["data"] })).await
        })
        .await
    }

    /// A bare list, and a run. `drifted` and `new` are what it must find.
    async fn turn(&self, side: &mut Side, inputs: &Value, (drifted, new): (usize, usize)) -> Result<Worked> {
        let begun = Instant::now();
        let listed = list(self.bed, &self.namespace).await?;
        side.bare.push(begun.elapsed().as_secs_f64());
        let worked = self.worker.work(&DRIFT, inputs).await?;
        let found = &worked.result["context"]["drift"];
        let count = |field: &str| found[field].as_u64().unwrap_or_default();
        let same = usize::try_from(count("same"))?;
        if count("modified") != drifted as u64 || count("new") != new as u64 || same + drifted < listed.min(self.size) {
            return Err(format!("{drifted} of {listed} differ, {new} anew, and {} is found", worked.result).into());
        }
        side.ours.push(worked.seconds);
        side.peaks.push(worked.peak_at_work);
        side.whole_peaks.push(worked.peak);
        Ok(worked)
    }

    fn findings(&self) -> String {
        format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/findings", self.namespace)
    }

    async fn forget_findings(&self) -> Result<()> {
        api::delete(&self.bed.client, &self.findings()).await
    }

    /// Seconds that a client takes for the same writes, to findings that it creates again.
    async fn bare_writes(&self) -> Result<f64> {
        let path = self.findings();
        let page = api::get(&self.bed.client, &path).await?;
        let findings = page["items"].as_array().cloned().unwrap_or_default();
        self.forget_findings().await?;
        let begun = Instant::now();
        for finding in &findings {
            let name = &finding["metadata"]["name"];
            let bare: Value = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "Finding",
                "metadata": { "name": name }, "spec": finding["spec"] });
            api::create(&self.bed.client, &path, &bare).await?;
            let status = format!("{path}/{}/status", name.as_str().unwrap_or_default());
            let observed = json!({ "status": { "observed": finding["status"]["observed"] } });
            api::merge(&self.bed.client, &status, &observed).await?;
        }
        Ok(begun.elapsed().as_secs_f64())
    }
}
