//! Schedules and their ticks.

use super::{Records, Run, Verdict};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};

/// Every tick that came has one run, or is counted as missed; none has two.
pub fn each_tick_has_one_run_or_is_missed(records: &Records) -> Verdict {
    let mut verdict = Verdict::new("every tick has one run or is counted as missed, and none has two");
    let jobs: HashSet<&str> = records.jobs.iter().map(|job| job.run.as_str()).collect();
    let mut by_tick: BTreeMap<(&str, Timestamp), Vec<&Run>> = BTreeMap::new();
    for run in &records.runs {
        if let Some((schedule, tick)) = &run.tick {
            by_tick.entry((schedule, *tick)).or_default().push(run);
        }
    }
    let mut repeats = 0;
    for ((_, tick), runs) in &by_tick {
        // What a late leader creates again is refused, and does nothing.
        let refused = |run: &&&Run| run.outcome() == Some("blocked") && !jobs.contains(run.uid.as_str());
        let again = runs.iter().filter(refused).count();
        if runs.len() > 1 {
            repeats += again;
        }
        if runs.len() - again.min(runs.len() - 1) > 1 {
            let runs: Vec<String> = runs.iter().map(|run| run.id()).collect();
            verdict.broken(format!("the tick {tick} has {} runs: {}", runs.len(), runs.join(", ")));
        }
    }
    let (mut ticks, mut missed) = (0, 0);
    for schedule in &records.schedules {
        let started = by_tick.keys().filter(|(uid, _)| *uid == schedule.uid).count();
        let (all, of_them) = (schedule.ticks(), i64::try_from(started).unwrap_or(i64::MAX) + schedule.missed);
        if all != of_them {
            verdict.broken(format!(
                "{}/{}: {all} ticks from {} to {:?}, but {started} have a run and {} are missed",
                schedule.namespace, schedule.name, schedule.created, schedule.last, schedule.missed
            ));
        }
        ticks += usize::try_from(all).unwrap_or_default();
        missed += usize::try_from(schedule.missed).unwrap_or_default();
    }
    verdict.count("schedules", records.schedules.len());
    verdict.count("ticks", ticks);
    verdict.count("with a run", by_tick.len());
    verdict.count("missed", missed);
    verdict.count("repeated and refused", repeats);
    verdict
}
