//! Runs, their Jobs and their pods.

use super::{Records, Verdict};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Every run that was accepted has one end, written once, or was deleted.
pub fn each_run_ended_once(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every run ended once, in one way, or was deleted");
    let mut by_outcome: BTreeMap<String, usize> = BTreeMap::new();
    for run in &records.runs {
        let outcome = match (run.outcome(), &run.deleted_by) {
            (Some(outcome), _) => outcome,
            (None, Some(_)) => "deleted before its end",
            (None, None) => "no end",
        };
        *by_outcome.entry(outcome.to_owned()).or_default() += 1;
        if run.ends.len() > 1 {
            verdict.broken(format!("{} ended in several ways: {:?}", run.id(), run.ends));
        }
        if run.ends_written > 1 {
            verdict.broken(format!("the end of {} was written {} times", run.id(), run.ends_written));
        }
        if run.ends.is_empty() && run.is_there {
            verdict.broken(format!("{} has no end", run.id()));
        }
        if !run.is_there && run.deleted_by.is_none() && !records.may_be_lost(run.completed_at) {
            verdict.broken(format!("{} is gone, and nobody deleted it", run.id()));
        }
        if !run.ends.is_empty() && run.ends_written == 0 && !records.may_be_lost(run.completed_at) {
            verdict.broken(format!("{} has an end that nobody wrote: {:?}", run.id(), run.ends));
        }
    }
    verdict.count("runs", records.runs.len());
    verdict.counts.extend(by_outcome);
    verdict
}

/// A Job is some run's, and a run has one at most.
pub fn each_run_has_one_job(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every Job is of one run, and no run has two");
    let runs: HashSet<&str> = records.runs.iter().map(|run| run.uid.as_str()).collect();
    let mut jobs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for job in &records.jobs {
        let named = format!("{}/{} at {}", job.namespace, job.name, job.at);
        if !runs.contains(job.run.as_str()) {
            verdict.broken(format!("Job {named} is of no run that was accepted: {:?}", job.run));
        }
        jobs.entry(&job.run).or_default().push(named);
    }
    for (run, jobs) in jobs.iter().filter(|(_, jobs)| jobs.len() > 1) {
        verdict.broken(format!("run {run} has {} Jobs: {}", jobs.len(), jobs.join(", ")));
    }
    verdict.count("Jobs", records.jobs.len());
    verdict
}

/// From when until when a pod worked, and its name.
type Worked<'a> = (Timestamp, Timestamp, &'a str);

/// Pods of one identity follow each other.
pub fn no_identity_worked_twice_at_once(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("no identity had two pods at work at once");
    let mut times: HashMap<(&str, &str), Vec<Worked<'_>>> = HashMap::new();
    for pod in &records.pods {
        let Some(started) = pod.started else { continue };
        let until = pod.ran_until.unwrap_or(started);
        times.entry((&pod.namespace, &pod.identity)).or_default().push((started, until, &pod.name));
    }
    for ((namespace, _), times) in &mut times {
        times.sort_unstable();
        for pair in times.windows(2) {
            let [(_, until, before), (started, _, after)] = pair else { continue };
            if started < until {
                verdict.broken(format!("{namespace}: {after} started at {started}, {before} ran until {until}"));
            }
        }
    }
    verdict.count("pods", records.pods.len());
    verdict.count("pods that started", records.pods.iter().filter(|pod| pod.started.is_some()).count());
    verdict.count("identities", times.len());
    verdict
}
