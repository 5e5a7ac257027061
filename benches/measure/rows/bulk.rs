//! A bulk operation, compared with a client that makes the same patches with the same concurrency.

use super::objects::{object, text};
use super::{Plan, at_once};
use crate::bed::{Bed, OF_PODS_ALONE};
use crate::report::{Report, Target, count, median, ratios};
use crate::worker::{Work, Worker};
use crate::{Result, api};
use serde_json::{Value, json};
use std::time::Instant;

/// Writes at once: the most that a bulk operation may have.
const AT_ONCE: usize = 16;

const BULK: Work = Work { command: "bulk", operation_type: "bulk.apply", begins: "selected" };

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let sizes = if plan.quick { vec![20, 100] } else { vec![500, 5_000] };
    let mut report = Report::new(
        "Bulk operation",
        "A label is set on ConfigMaps of 2,000 bytes, selected by another label. Bare: a client that lists them in pages \
         and patches each, 16 at once. Ours: the worker as a process of this machine with parallelism 16, from its start to its end: the review of what the \
         author may do, the list, the selection and the results in reports, and two entries in the audit chain included. Two admission policies that let only \
         pods write records are taken away for it. Memory is the process's peak.",
        plan.quick,
    );
    let mut places = Vec::new();
    for size in sizes {
        places.push((size, bed.tenant("bulk", true).await?, bed.tenant("bulk-bare", false).await?));
    }
    bed.stop_operator().await?;
    bed.take_away(&OF_PODS_ALONE).await?;
    let mut peaks = Vec::new();
    for (size, namespace, bare_namespace) in places {
        let bench = Bench { bed, worker: Worker::new(bed, &namespace).await?, namespace, bare_namespace, size };
        for namespace in [&bench.namespace, &bench.bare_namespace] {
            bench.fill(namespace).await?;
        }
        let (mut bare, mut ours, mut most) = (Vec::new(), Vec::new(), 0.0_f64);
        for repetition in 0..plan.repetitions {
            let label = format!("r{repetition}");
            bare.push(bench.bare(&label).await?);
            let (rate, peak) = bench.ours(&label).await?;
            ours.push(rate);
            most = most.max(peak);
            eprintln!("   {size}, {}: {rate:.0}/s (bare {:.0}), peak {peak:.0} MiB", repetition + 1, bare[repetition]);
        }
        let share = 100.0 * median(&ratios(&ours, &bare));
        let name = format!("{size} objects: share of the bare rate");
        if size == 5_000 {
            report.against(name, share, "%", Target::AtLeast(85.0));
        } else {
            report.figure(name, share, "%");
        }
        report.samples(format!("{size}: bare patches"), "/s", &bare);
        report.samples(format!("{size}: bulk operation"), "/s", &ours);
        report.figure(format!("{size}: peak memory"), most, "MiB");
        peaks.push(most);
        bench.worker.remove()?;
    }
    if let [small, large] = peaks[..] {
        let grows = "memory: growth from the smaller to the larger, for each thousand objects";
        let thousands = if plan.quick { 0.08 } else { 4.5 };
        report.figure(grows, (large - small) / thousands, "MiB");
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
    async fn fill(&self, namespace: &str) -> Result<()> {
        at_once(self.size, 48, async |number| {
            // Those with an even number are ConfigMaps.
            let (path, object) = object(namespace, 2 * number, &text(number));
            api::try_create(&self.bed.client, &path, &object).await.map(drop)
        })
        .await
    }

    async fn bare(&self, label: &str) -> Result<f64> {
        let begun = Instant::now();
        let path = format!("/api/v1/namespaces/{}/configmaps", self.bare_namespace);
        let mut names = Vec::new();
        let mut next = String::new();
        loop {
            let page = format!("{path}?labelSelector=app%3Dbench&limit=500&continue={next}");
            let listed = api::get(&self.bed.client, &page).await?;
            let items = listed["items"].as_array().into_iter().flatten();
            names.extend(items.filter_map(|item| item["metadata"]["name"].as_str().map(str::to_owned)));
            listed["metadata"]["continue"].as_str().unwrap_or_default().clone_into(&mut next);
            if next.is_empty() {
                break;
            }
        }
        if names.len() != self.size {
            return Err(format!("{} objects listed of {}", names.len(), self.size).into());
        }
        let patch = json!({ "metadata": { "labels": { "tier": label } } });
        at_once(names.len(), AT_ONCE, async |number| {
            api::merge(&self.bed.client, &format!("{path}/{}", names[number]), &patch).await
        })
        .await?;
        Ok(count(self.size) / begun.elapsed().as_secs_f64())
    }

    /// The worker's rate and peak.
    async fn ours(&self, label: &str) -> Result<(f64, f64)> {
        let spec = json!({ "resource": { "kind": "ConfigMap" }, "action": "label", "labelSelector": "app=bench",
            "parallelism": AT_ONCE, "options": { "set": { "tier": label } } });
        let bulk = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun",
            "metadata": { "generateName": "bench-" }, "spec": spec });
        let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{}/bulkoperationruns", self.namespace);
        let bulk: Value = api::create(&self.bed.client, &path, &bulk).await?;
        let named = json!({ "name": bulk["metadata"]["name"], "uid": bulk["metadata"]["uid"] });
        let worked = self.worker.work(&BULK, &json!({ "bulkOperationRun": named })).await?;
        let items = worked.items()?;
        if items < self.size {
            return Err(format!("{items} items done of {}: {}", self.size, worked.result).into());
        }
        Ok((count(self.size) / (worked.before + worked.seconds), worked.peak))
    }
}
