//! The history of one item beside the stock client, which says only which snapshots hold a file of its name.

use super::objects::text;
use super::sets::Sets;
use super::{Plan, at_once};
use crate::Result;
use crate::bed::Bed;
use crate::report::{Report, Target, median, ratios};
use crate::restic::beyond_opening;
use crate::worker::{OPENED, Work, Worker};
use serde_json::json;

const HISTORY: Work = Work { command: "history", operation_type: "item.history", begins: OPENED };

/// Changes of the objects: one in so many between two sets, each time others.
const CHANGED: usize = 100;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (sets, objects) = (plan.size(1_000, 20), plan.size(10_000, 300));
    let mut report = Report::new(
        "History of one item",
        format!(
            "{sets} backup sets of {objects} objects each, half ConfigMaps, half Secrets, 2,000 bytes of data each; from each set to the next every {CHANGED}th object gets other data, other ones each time, so that no two sets share \
             the directory in which the item is looked for. The library has written the snapshots, and no maintenance has merged their indexes. The item is a ConfigMap that changes every {CHANGED}th time. Ours: `item.history` by the worker as a \
             process of this machine, from the line in which it says that it has opened the repository to its end: the Lease, discovery, the lists of sets and runs, the index, and its reports with a diff for \
             each version included. An admission policy that lets only pods write reports is taken away for it. Bare: the stock restic (`find`), which says which snapshots hold a file of this name, and reads none of it, \
             without what it takes to open the repository. Memory is the process's peak after that line."
        ),
        plan.quick,
    );
    bed.stop_operator().await?;
    bed.take_away(&["tenantatlas-reports"]).await?;
    let namespace = bed.tenant("history", false).await?;
    let worker = Worker::new(bed, &namespace).await?;
    build(bed, &namespace, &worker, sets, objects).await?;
    let versions = sets.div_ceil(CHANGED);
    let inputs = json!({ "repository": "main", "item": "core/ConfigMap/object-000000" });
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let (mut peaks, mut whole_peaks, mut before) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        let (hits, seconds) = beyond_opening(&worker.volume(), &["find", "--json", "object-000000*"])?;
        let found = hits.matches("\"snapshot\":").count();
        if found != sets {
            return Err(format!("restic finds the file in {found} snapshots of {sets}").into());
        }
        bare.push(seconds);
        let followed = worker.work(&HISTORY, &inputs).await?;
        let counts = &followed.result["context"]["history"];
        if counts["sets"] != sets || counts["versions"] != versions {
            return Err(format!("{versions} versions are in {sets} sets, and {} is found", followed.result).into());
        }
        ours.push(followed.seconds);
        peaks.push(followed.peak_at_work);
        whole_peaks.push(followed.peak);
        before.push(followed.before);
        eprintln!(
            "   {}: ours {:.2} s, bare {:.2} s, peak {:.0} MiB",
            repetition + 1,
            ours[repetition],
            bare[repetition],
            peaks[repetition]
        );
    }
    let most = |peaks: &[f64]| peaks.iter().copied().fold(0.0, f64::max);
    report.against(
        format!("one item in {sets} sets of {objects} objects: beyond opening"),
        median(&ours),
        "s",
        Target::AtMost(2.0),
    );
    report.figure("times restic's", median(&ratios(&ours, &bare)), "×");
    report.figure("peak memory after opening", most(&peaks), "MiB");
    report.figure("peak memory, opening included", most(&whole_peaks), "MiB");
    report.figure("start and opening take", median(&before), "s");
    report.samples("ours", "s", &ours);
    report.samples("restic", "s", &bare);
    report.samples("peak memory after opening", "MiB", &peaks);
    worker.remove()?;
    bed.start_operator().await?;
    Ok(report)
}

/// Writes the snapshots, and records their sets.
async fn build(bed: &Bed, namespace: &str, worker: &Worker, count: usize, objects: usize) -> Result<()> {
    let sets = Sets::of(bed, namespace, worker).await?;
    // ConfigMaps have even numbers, Secrets odd ones.
    let order: Vec<usize> = (0..objects).step_by(2).chain((1..objects).step_by(2)).collect();
    let mut entries = Vec::new();
    for number in 0..objects {
        entries.push(sets.entry(number, &text(number))?);
    }
    let mut snapshots = Vec::new();
    for set in 0..count {
        for number in (set % CHANGED..objects).step_by(CHANGED).filter(|_| set > 0) {
            entries[number] = sets.entry(number, &text(objects + set * objects + number))?;
        }
        snapshots.push(sets.snapshot(set, order.iter().map(|number| Ok(entries[*number].clone()))).await?);
        if set % 100 == 99 {
            eprintln!("   {} snapshots", set + 1);
        }
    }
    at_once(count, 32, async |set| sets.record(&format!("set-{set:04}"), &snapshots[set], &json!({})).await).await
}
