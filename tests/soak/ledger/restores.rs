//! Restores: their intents, their plans and their writes.

use super::{Records, Restore, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The account of previews, which may write nothing.
const PREVIEW: &str = "tenantatlas-preview";

/// Before the first write of a run stands its intent, after the last its outcome.
pub fn each_write_follows_its_intent(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every write of a restore follows its intent, and its outcome is on record");
    let runs = runs_of_pods(records);
    let mut first: BTreeMap<&str, (jiff::Timestamp, &str)> = BTreeMap::new();
    for write in records.writes.iter().filter(|write| write.account != PREVIEW) {
        let Some(run) = runs.get(&(write.namespace.as_str(), write.pod.as_str())) else {
            verdict.broken(format!("{} wrote {} in {}, and is of no run", write.pod, write.item, write.namespace));
            continue;
        };
        let place = first.entry(run).or_insert((write.at, &write.item));
        *place = (*place).min((write.at, &write.item));
    }
    let ended: HashSet<&str> = records.runs.iter().filter(|run| run.has_made()).map(|run| run.uid.as_str()).collect();
    for (run, (at, item)) in &first {
        let of_run = || records.entries.iter().filter(|entry| entry.run == *run);
        let in_time = |at_entry: Option<jiff::Timestamp>| at_entry.is_none_or(|entry| entry <= *at);
        if !of_run().any(|entry| entry.is_intent && in_time(entry.at)) {
            verdict.broken(format!("run {run} wrote {item} at {at} without an intent before it"));
        }
        if ended.contains(run) && !of_run().any(|entry| !entry.is_intent) {
            verdict.broken(format!("run {run} wrote and ended, and no outcome is in the audit chain"));
        }
    }
    verdict.count("writes", records.writes.len());
    verdict.count("runs that wrote", first.len());
    verdict.count("intents", records.entries.iter().filter(|entry| entry.is_intent).count());
    verdict.count("outcomes", records.entries.iter().filter(|entry| !entry.is_intent).count());
    verdict
}

/// A restore that names a preview writes what that showed, all of it if it succeeds, nothing if it is blocked.
pub fn what_was_previewed_was_applied(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("what was applied is what was previewed");
    let by_name: HashMap<(&str, &str), _> =
        records.restores.iter().map(|restore| ((restore.namespace.as_str(), restore.name.as_str()), restore)).collect();
    let runs = runs_of_pods(records);
    let mut written: HashMap<&str, BTreeSet<&str>> = HashMap::new();
    for write in &records.writes {
        if let Some(run) = runs.get(&(write.namespace.as_str(), write.pod.as_str())) {
            written.entry(run).or_default().insert(&write.item);
        }
    }
    let (mut applied, mut blocked, mut other, mut items) = (0, 0, 0, 0);
    for restore in &records.restores {
        let (Some(preview), Some(outcome)) = (&restore.preview, restore.outcome.as_deref()) else { continue };
        let named = format!("{}/{} ({outcome}, {:?})", restore.namespace, restore.name, restore.reason);
        let wrote = restore.run.as_deref().and_then(|run| written.get(run)).cloned().unwrap_or_default();
        let planned = records.planned.get(&(restore.namespace.clone(), preview.clone()));
        let planned: BTreeSet<&str> = planned.into_iter().flatten().map(String::as_str).collect();
        items += wrote.len();
        match outcome {
            "succeeded" => {
                applied += 1;
                let shown = by_name.get(&(restore.namespace.as_str(), preview.as_str()));
                if shown.is_none_or(|shown| shown.digest.is_none() || shown.digest != restore.digest) {
                    verdict.broken(format!("{named} has another plan than {preview}"));
                }
                if !wrote.is_superset(&planned) && !may_lack_writes(records, restore) {
                    let left: Vec<_> = planned.difference(&wrote).collect();
                    verdict.broken(format!("{named} did not write {left:?} of {preview}"));
                }
            }
            "blocked" => {
                blocked += 1;
                if !wrote.is_empty() {
                    verdict.broken(format!("{named} wrote {wrote:?}"));
                }
            }
            _ => other += 1,
        }
        let beyond: Vec<_> = wrote.difference(&planned).collect();
        if !beyond.is_empty() {
            verdict.broken(format!("{named} wrote what {preview} did not show: {beyond:?}"));
        }
    }
    verdict.count("restores", records.restores.len());
    verdict.count("previews", records.restores.iter().filter(|restore| restore.is_preview).count());
    verdict.count("applied", applied);
    verdict.count("blocked", blocked);
    verdict.count("ended otherwise", other);
    verdict.count("items written", items);
    verdict
}

/// The account of previews changed no object of a tenant.
pub fn previews_wrote_nothing(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("no preview wrote to a tenant's objects");
    for write in records.writes.iter().filter(|write| write.account == PREVIEW) {
        verdict.broken(format!("{} wrote {} in {} at {}", write.pod, write.item, write.namespace, write.at));
    }
    verdict.count("writes of previews", verdict.violations.len());
    verdict
}

/// The audit chain of each tenant is whole.
pub fn chains_verify(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every audit chain is whole and as it was written");
    verdict.violations.clone_from(&records.chain_faults);
    let chains: HashSet<&str> = records.entries.iter().map(|entry| entry.namespace.as_str()).collect();
    verdict.count("chains", chains.len());
    verdict.count("entries", records.entries.len());
    verdict
}

/// Whether a write of this restore may be missing in the audit log: the API server was killed while its pods ran.
fn may_lack_writes(records: &Records, restore: &Restore) -> bool {
    let pods = records.pods.iter().filter(|pod| Some(&pod.run) == restore.run.as_ref());
    let began = pods.filter_map(|pod| pod.started).min();
    let (Some(began), Some(ended)) = (began, restore.completed_at) else { return true };
    records.outages.iter().any(|(from, until)| *from <= ended && *until >= began)
}

fn runs_of_pods(records: &Records) -> HashMap<(&str, &str), &str> {
    records.pods.iter().map(|pod| ((pod.namespace.as_str(), pod.name.as_str()), pod.run.as_str())).collect()
}
