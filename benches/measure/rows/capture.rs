//! A capture beside a client that lists and parses the same pages.

use super::Plan;
use super::objects::fill;
use crate::bed::Bed;
use crate::report::{Report, Target, count, median, ratios};
use crate::worker::{Work, Worker};
use crate::{Result, api};
use serde_json::{Value, json};
use std::time::Instant;

/// The worker's command.
pub const CAPTURE: Work = Work { command: "capture", operation_type: "backup.capture", begins: "capturing" };

/// Creates the repository in an empty volume, which no capture does.
pub const CHECK: Work = Work { command: "check", operation_type: "repository.check", begins: "opening the repository" };

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let sizes = if plan.quick { vec![300] } else { vec![5_000, 20_000, 100_000] };
    let mut report = Report::new(
        "Capture",
        "Half ConfigMaps, half Secrets, 2,000 bytes of data each, into a repository in a folder of this machine. The worker is the image's binary as a \
         process of this machine. Bare: a client that lists the same two kinds in pages of 500 and parses each into JSON values. A rate counts from the \
         line in which the worker says that it begins to capture to its process's end, the reading back of the snapshot included; what comes before (start, opening by \
         password, discovery) is told by itself. An unchanged capture reads the metadata of all objects and none of the objects. Memory is the process's peak, opening the repository by password included. Where the rest of a first capture goes, by a profile of what archives: a third compresses \
         and opens again what was compressed, an eighth writes trees, a tenth hashes, a fifteenth encrypts, the rest is memory and the kernel. \
         The API server shares the two cores, so what the worker computes is what the list waits for.",
        plan.quick,
    );
    // The run that the worker is for must not be carried out.
    bed.stop_operator().await?;
    let namespace = bed.tenant("capture", false).await?;
    let worker = Worker::new(bed, &namespace).await?;
    let all = json!({ "repository": "main" });
    let mut there = 0;
    for size in sizes {
        fill(bed, &namespace, there, size).await?;
        there = size;
        let (mut bare, mut first, mut again) = (Vec::new(), Vec::new(), Vec::new());
        let (mut peaks, mut before) = (Vec::new(), Vec::new());
        for repetition in 0..plan.repetitions {
            worker.clear()?;
            worker.work(&CHECK, &all).await?;
            let begun = Instant::now();
            let listed = list(bed, &namespace).await?;
            bare.push(count(listed) / begun.elapsed().as_secs_f64());
            for rates in [&mut first, &mut again] {
                let captured = worker.work(&CAPTURE, &all).await?;
                let items = captured.items()?;
                if items < size {
                    return Err(format!("{items} items captured of {size}").into());
                }
                rates.push(count(items) / captured.seconds);
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
        let peak = peaks.iter().copied().fold(0.0, f64::max);
        report.against(
            format!("{size} objects, first: share of the bare rate"),
            percent(&first),
            "%",
            Target::AtLeast(95.0),
        );
        report.against(
            format!("{size} objects, unchanged: share of the bare rate"),
            percent(&again),
            "%",
            Target::AtLeast(300.0),
        );
        report.against(format!("{size} objects: peak memory, opening included"), peak, "MiB", Target::AtMost(64.0));
        report.figure(format!("{size} objects: start, opening and discovery take"), median(&before), "s");
        report.samples(format!("{size}: bare list and parse"), "/s", &bare);
        report.samples(format!("{size}: first capture"), "/s", &first);
        report.samples(format!("{size}: unchanged capture"), "/s", &again);
        report.samples(format!("{size}: peak memory"), "MiB", &peaks);
    }
    worker.remove()?;
    bed.start_operator().await?;
    Ok(report)
}

/// The bare side: the same kinds in pages of 500, each parsed. Returns how many objects came.
pub async fn list(bed: &Bed, namespace: &str) -> Result<usize> {
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
