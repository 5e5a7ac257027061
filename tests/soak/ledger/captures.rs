//! Captures, their backup sets and their snapshots.

use super::{Records, Verdict};
use std::collections::{BTreeMap, HashMap, HashSet};

const CAPTURE: &str = "backup.capture";

/// A capture that made something has a set, made once, that is there or was deleted.
pub fn each_capture_has_one_set(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every capture that succeeded has one backup set, which is there or was deleted");
    let there: HashSet<(&str, &str)> =
        records.sets.iter().map(|set| (set.namespace.as_str(), set.name.as_str())).collect();
    let (mut captures, mut deleted) = (0, 0);
    for run in records.runs.iter().filter(|run| run.operation == CAPTURE && run.has_made()) {
        captures += 1;
        let Some(name) = &run.set else {
            verdict.broken(format!("{} succeeded and names no backup set", run.id()));
            continue;
        };
        let key = (run.namespace.clone(), name.clone());
        if records.sets_deleted.contains(&key) {
            deleted += 1;
        } else if !there.contains(&(run.namespace.as_str(), name.as_str())) {
            verdict.broken(format!("the set {name} of {} is gone, and nobody deleted it", run.id()));
        }
        if records.sets_made.get(&key).copied().unwrap_or_default() == 0 && !records.may_be_lost(run.completed_at) {
            verdict.broken(format!("nobody made the set {name} of {}", run.id()));
        }
    }
    for ((namespace, name), times) in records.sets_made.iter().filter(|(_, times)| **times > 1) {
        verdict.broken(format!("the set {namespace}/{name} was made {times} times"));
    }
    let mut of_run: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for set in &records.sets {
        of_run.entry(&set.run).or_default().push(format!("{}/{}", set.namespace, set.name));
    }
    for (run, sets) in of_run.iter().filter(|(_, sets)| sets.len() > 1) {
        verdict.broken(format!("run {run} has {} sets: {}", sets.len(), sets.join(", ")));
    }
    verdict.count("captures", captures);
    verdict.count("sets made", records.sets_made.len());
    verdict.count("sets there", records.sets.len());
    verdict.count("captures whose set was deleted", deleted);
    verdict
}

/// No run has two snapshots, and each is some run's.
pub fn each_run_has_one_snapshot(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every snapshot bears the tag of one run, and no run has two");
    let runs: HashSet<&str> = records.runs.iter().map(|run| run.uid.as_str()).collect();
    let mut of_run: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for snapshot in &records.snapshots {
        match snapshot.run.as_deref().filter(|run| runs.contains(run)) {
            Some(run) => of_run.entry(run).or_default().push(&snapshot.id),
            None => verdict.broken(format!("snapshot {} of {} is of no run", snapshot.id, snapshot.namespace)),
        }
    }
    for (run, snapshots) in of_run.iter().filter(|(_, snapshots)| snapshots.len() > 1) {
        verdict.broken(format!("run {run} has {} snapshots: {}", snapshots.len(), snapshots.join(", ")));
    }
    let named: HashSet<&str> = records.sets.iter().map(|set| set.snapshot.as_str()).collect();
    verdict.count("snapshots", records.snapshots.len());
    let unnamed = records.snapshots.iter().filter(|snapshot| !named.contains(snapshot.id.as_str())).count();
    verdict.count("that no set names", unnamed);
    verdict
}

/// A set can be restored from: its snapshot is there, and is that of the run which made it.
pub fn each_set_has_its_snapshot(records: &Records) -> Verdict {
    let mut verdict =
        Verdict::new("every backup set has its snapshot, taken by its run or by the run that this one joined");
    let snapshots: HashMap<(&str, &str), Option<&str>> = records
        .snapshots
        .iter()
        .map(|snapshot| ((snapshot.namespace.as_str(), snapshot.id.as_str()), snapshot.run.as_deref()))
        .collect();
    let joined: HashMap<&str, &str> =
        records.runs.iter().filter_map(|run| Some((run.uid.as_str(), run.joined.as_deref()?))).collect();
    for set in &records.sets {
        let named = format!("the set {}/{} of run {}", set.namespace, set.name, set.run);
        match snapshots.get(&(set.namespace.as_str(), set.snapshot.as_str())) {
            None => verdict.broken(format!("{named}: there is no snapshot {}", set.snapshot)),
            Some(run) => {
                let own = Some(set.run.as_str());
                if *run != own && *run != joined.get(set.run.as_str()).copied() {
                    verdict.broken(format!("{named}: snapshot {} is of run {run:?}", set.snapshot));
                }
            }
        }
    }
    verdict.count("sets", records.sets.len());
    verdict
}
