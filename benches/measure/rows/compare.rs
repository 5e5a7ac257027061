//! A comparison of two backup sets beside the stock client, which says only which files differ.

use super::Plan;
use super::objects::text;
use super::sets::Sets;
use crate::Result;
use crate::bed::Bed;
use crate::report::{Report, Target, count, median, ratios};
use crate::restic::beyond_opening;
use crate::worker::{OPENED, Work, Worker};
use serde_json::json;

const COMPARE: Work = Work { command: "compare", operation_type: "sets.compare", begins: OPENED };

/// One in so many objects differs between the two sets.
const CHANGED: usize = 100;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let objects = plan.size(20_000, 300);
    let mut report = Report::new(
        "Comparison of two backup sets",
        format!(
            "Two sets of {objects} objects, half ConfigMaps, half Secrets, 2,000 bytes of data each, of which every {CHANGED}th has other data in the second set; the library has written \
             their snapshots. Ours: `sets.compare` by the worker as a process of this machine, from the line in which it says that it has opened the repository to its end: the Lease, discovery, the index, \
             reading what differs, diffs of it, and its reports included. An admission policy that lets only pods write reports is taken away for it. Bare: the stock restic \
             (`diff`), which names the files that differ and reads none of them, without what it takes to open the repository. Memory is the process's peak after that line."
        ),
        plan.quick,
    );
    bed.stop_operator().await?;
    bed.take_away(&["tenantatlas-reports"]).await?;
    let namespace = bed.tenant("compare", false).await?;
    let worker = Worker::new(bed, &namespace).await?;
    let sets = Sets::of(bed, &namespace, &worker).await?;
    let mut snapshots = Vec::new();
    for (number, name) in ["earlier", "later"].into_iter().enumerate() {
        // ConfigMaps have even numbers, Secrets odd ones.
        let numbers = (0..objects).step_by(2).chain((1..objects).step_by(2));
        let entries = numbers.map(|object| {
            let is_changed = number > 0 && object % CHANGED == object / CHANGED % 2;
            sets.entry(object, &text(if is_changed { objects + object } else { object }))
        });
        let snapshot = sets.snapshot(number, entries).await?;
        sets.record(name, &snapshot, &json!({})).await?;
        snapshots.push(snapshot);
    }
    let changed = objects / CHANGED;
    let inputs = json!({ "repository": "main", "from": "earlier", "to": "later" });
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    let (mut peaks, mut whole_peaks, mut before) = (Vec::new(), Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        let (differing, seconds) = beyond_opening(&worker.volume(), &["diff", "--json", &snapshots[0], &snapshots[1]])?;
        let found = differing.matches("\"modifier\":\"M\"").count();
        if found != changed {
            return Err(format!("restic finds {found} files of {changed} that differ").into());
        }
        bare.push(seconds);
        let compared = worker.work(&COMPARE, &inputs).await?;
        let counts = &compared.result["context"]["compared"];
        if counts["changed"] != changed || counts["same"] != objects - changed {
            return Err(format!("{changed} of {objects} differ, and {} is found", compared.result).into());
        }
        ours.push(compared.seconds);
        peaks.push(compared.peak_at_work);
        whole_peaks.push(compared.peak);
        before.push(compared.before);
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
        format!("two sets of {objects} objects, {changed} changed: beyond opening"),
        median(&ours),
        "s",
        Target::AtMost(0.5),
    );
    report.figure("times restic's", median(&ratios(&ours, &bare)), "×");
    report.figure("peak memory after opening", most(&peaks), "MiB");
    report.figure("peak memory, opening included", most(&whole_peaks), "MiB");
    report.figure("start and opening take", median(&before), "s");
    report.figure("items compared", count(objects) / median(&ours), "/s");
    report.samples("ours", "s", &ours);
    report.samples("restic", "s", &bare);
    report.samples("peak memory after opening", "MiB", &peaks);
    worker.remove()?;
    bed.start_operator().await?;
    Ok(report)
}
