//! What a repository holds after many captures, beside what is unique in it; and the memory that the care of many backup sets takes.

use super::capture::{CAPTURE, CHECK};
use super::objects::{fill, object, text};
use super::sets::Sets;
use super::{Plan, at_once};
use crate::bed::{Bed, until};
use crate::report::{Report, Target, count};
use crate::restic::restic;
use crate::worker::{Work, Worker};
use crate::{Result, api};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;
use tenantatlas::repository::{ItemPath, Repository as _};

const MAINTAIN: Work =
    Work { command: "maintain", operation_type: "repository.maintain", begins: "opening the repository" };

/// Changes of the captured objects: one in so many, each time others.
const CHANGED: usize = 100;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (captures, objects) = (plan.size(100, 5), plan.size(10_000, 300));
    let (sets, items) = (plan.size(1_000, 20), plan.size(1_000, 50));
    let mut report = Report::new(
        "What a repository holds, and its care",
        format!(
            "{captures} captures by the worker of {objects} objects (half ConfigMaps, half Secrets, 2,000 bytes of data each), of which before each capture every {CHANGED}th, other ones each time, gets other data. \
             Stored: all bytes of the repository's folder. Unique: the distinct compressed pieces in it, told by the stock restic (`stats --mode raw-data`): items, and the directories that name them. \
             A directory is stored whole when anything in it changes, as the format has it: 35 bytes an item, most of it the id of its content, which does not compress. With all objects of two kinds that is more than the changed items \
             themselves; it is told apart below. \
             Then {sets} backup sets of as many snapshots of {items} items, all of one schedule that keeps the newest half: memory is the peak of the operator's process from its start until the others are deleted, and the \
             peak of the worker that opens the repository by password, forgets their snapshots, prunes and checks; once more to delete what the first time marked."
        ),
        plan.quick,
    );
    bed.stop_operator().await?;
    holds(bed, &mut report, captures, objects).await?;
    care(bed, &mut report, sets, items).await?;
    Ok(report)
}

async fn holds(bed: &Bed, report: &mut Report, captures: usize, objects: usize) -> Result<()> {
    let namespace = bed.tenant("holds", false).await?;
    let worker = Worker::new(bed, &namespace).await?;
    let all = json!({ "repository": "main" });
    worker.work(&CHECK, &all).await?;
    fill(bed, &namespace, 0, objects).await?;
    let mut added = Vec::new();
    for capture in 0..captures {
        if capture > 0 {
            let changed = objects / CHANGED;
            at_once(changed, 32, async |number| {
                // Spread over all of them, each time others.
                let number = number * CHANGED + capture % CHANGED;
                let (path, object) = object(&namespace, number, &text(objects + capture * objects + number));
                let path = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap_or_default());
                api::merge(&bed.client, &path, &json!({ "data": object["data"] })).await
            })
            .await?;
        }
        let captured = worker.work(&CAPTURE, &all).await?;
        if captured.items()? < objects {
            return Err(format!("{} items captured of {objects}", captured.items()?).into());
        }
        added.push(captured.result["context"]["snapshot"]["addedBytes"].as_f64().unwrap_or_default());
        if capture % 10 == 9 {
            eprintln!("   {} captures: {:.1} MiB", capture + 1, mebibytes(size_of(&worker.volume())?));
        }
    }
    let stored = size_of(&worker.volume())?;
    let unique = unique(&worker.volume())?;
    let contents = contents(bed, &namespace, &worker, objects).await?;
    report.against(
        format!("{captures} captures of {objects} objects: stored, times what is unique and compressed"),
        count(stored) / count(unique),
        "×",
        Target::AtMost(1.15),
    );
    report.figure("stored", mebibytes(stored), "MiB");
    report.figure("of that unique and compressed", mebibytes(unique), "MiB");
    report.figure("of that items, without the directories that name them", mebibytes(contents), "MiB");
    report.figure("stored, times the items alone", count(stored) / count(contents), "×");
    report.samples(
        "a later capture adds",
        "MiB",
        &added[1..].iter().map(|bytes| bytes / 1_048_576.0).collect::<Vec<_>>(),
    );
    worker.remove()
}

/// Compressed bytes of each distinct item in all snapshots, each by itself: read back through the library, and compressed here.
async fn contents(bed: &Bed, namespace: &str, worker: &Worker, objects: usize) -> Result<usize> {
    let repository = Sets::of(bed, namespace, worker).await?.repository;
    let paths: Vec<ItemPath> = (0..objects)
        .map(|number| {
            let kind = if number.is_multiple_of(2) { "ConfigMap" } else { "Secret" };
            ItemPath::new("", "v1", kind, &format!("object-{number:06}"))
        })
        .collect::<std::result::Result<_, _>>()?;
    let (mut seen, mut bytes) = (HashSet::new(), 0);
    for (index, snapshot) in repository.snapshots().await?.into_iter().enumerate() {
        // Of later ones only what was changed before them can be new.
        let changed = |number: &usize| index == 0 || number % CHANGED == index % CHANGED;
        let paths = paths.iter().enumerate().filter(|(number, _)| changed(number)).map(|(_, path)| path.clone());
        for content in repository.read(&snapshot.id, paths.collect()).await? {
            let compressed = zstd::bulk::compress(&content, zstd::DEFAULT_COMPRESSION_LEVEL)?.len();
            if seen.insert(content) {
                bytes += compressed;
            }
        }
    }
    Ok(bytes)
}

async fn care(bed: &Bed, report: &mut Report, sets: usize, items: usize) -> Result<()> {
    let namespace = bed.tenant("care", false).await?;
    let worker = Worker::new(bed, &namespace).await?;
    let all = json!({ "repository": "main" });
    let opening = worker.work(&CHECK, &all).await?.peak;
    let schedule = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": "kept" },
        "spec": { "schedule": "@yearly", "suspend": true, "retention": { "keepLast": sets / 2 } } });
    let schedules = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/backupschedules");
    let schedule = api::create(&bed.client, &schedules, &schedule).await?;
    let of_schedule = json!({ "backupSchedule": { "name": "kept", "uid": schedule["metadata"]["uid"] } });
    let library = Sets::of(bed, &namespace, &worker).await?;
    let plural = library.path();
    let snapshots = snapshots(&library, sets, items).await?;
    at_once(sets, 32, async |number| {
        let name = format!("kept-{number}");
        library.record(&name, &snapshots[number], &of_schedule).await?;
        let ready = json!({ "status": { "items": items, "conditions": [{ "type": "Ready", "status": "True", "reason": "ReadBack",
            "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z" }] } });
        api::merge(&bed.as_operator, &format!("{plural}/{name}/status"), &ready).await
    })
    .await?;

    let process = bed.start_operator().await?;
    let kept = async || {
        let page = api::get(&bed.client, &format!("{plural}?limit=1")).await?;
        let listed = page["items"].as_array().map_or(0, Vec::len) as u64;
        let left = listed + page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        Ok((left <= sets as u64 / 2).then_some(()))
    };
    until("retention to delete half of the sets", Duration::from_mins(5), kept).await?;
    let retention = process.peak_memory()?;
    bed.stop_operator().await?;

    let at_once = json!({ "repository": "main", "graceHours": 0 });
    let mut maintenance = Vec::new();
    for _ in 0..2 {
        let worked = worker.work(&MAINTAIN, &at_once).await?;
        eprintln!("   {}", worked.result["message"].as_str().unwrap_or_default());
        maintenance.push(worked.peak);
    }
    let left = library.repository.snapshots().await?.len();
    if left != sets - sets / 2 && left != sets / 2 {
        return Err(format!("{left} snapshots are left of {sets}").into());
    }
    let most = maintenance.iter().copied().fold(0.0, f64::max);
    report.against(format!("maintenance of {sets} sets: peak memory"), most, "MiB", Target::AtMost(128.0));
    report.against(
        format!("retention of {sets} sets: the operator's peak memory"),
        retention,
        "MiB",
        Target::AtMost(128.0),
    );
    report.figure("opening by password has a peak of", opening, "MiB");
    report.samples("maintenance: peak memory", "MiB", &maintenance);
    bed.start_operator().await?;
    worker.remove()
}

/// As many snapshots as there are to be sets. Their ids.
async fn snapshots(library: &Sets<'_>, sets: usize, items: usize) -> Result<Vec<String>> {
    let mut ids = Vec::new();
    for set in 0..sets {
        let entries = (0..items).map(|item| {
            // One in a hundred is of this capture.
            let version = (set + CHANGED - item % CHANGED) / CHANGED;
            library.entry(2 * item, &text(item + version * items))
        });
        ids.push(library.snapshot(set, entries).await?);
        if set % 100 == 99 {
            eprintln!("   {} snapshots", set + 1);
        }
    }
    Ok(ids)
}

/// Bytes of all files below a folder.
fn size_of(folder: &Path) -> Result<usize> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { size_of(&entry.path())? } else { usize::try_from(metadata.len())? };
    }
    Ok(bytes)
}

/// Bytes of the distinct compressed pieces of a repository, by the stock client.
fn unique(repository: &Path) -> Result<usize> {
    let (printed, _) = restic(repository, &["stats", "--mode", "raw-data", "--json"])?;
    let told: Value = serde_json::from_str(&printed)?;
    Ok(usize::try_from(told["total_size"].as_u64().ok_or("restic tells no size")?)?)
}

fn mebibytes(bytes: usize) -> f64 {
    count(bytes) / 1_048_576.0
}
