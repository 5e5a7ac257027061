//! What is said every minute, and what is written at the end: as text for people, as JSON for programs.

use crate::Result;
use crate::bed::Bed;
use crate::ledger::{Records, Verdict};
use crate::witness::Witness;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How many violations of one rule are printed; the file has all.
const SHOWN: usize = 20;

/// One line on how it goes.
pub fn progress(elapsed: Duration, witness: &Witness, bed: &Bed) -> String {
    let states: Vec<String> = witness.by_state().iter().map(|(state, count)| format!("{count} {state}")).collect();
    let disturbances: usize = bed.log.counts("disturbances").values().sum();
    format!("minute {}: runs: {}; {disturbances} disturbances", elapsed.as_secs().div_ceil(60), states.join(", "))
}

/// Prints and writes the summary.
pub fn write(bed: &Bed, took: Duration, records: &Records, verdicts: &[Verdict]) -> Result<()> {
    let tables = ["disturbances", "disturbances passed over", "disturbances that failed", "acts", "acts that failed"];
    let mut text = String::new();
    let settings = &bed.settings;
    writeln!(
        text,
        "seed {}, {} tenants, {} minutes; {} s with the end",
        settings.seed,
        settings.tenants,
        settings.minutes,
        took.as_secs()
    )?;
    for table in tables {
        section(&mut text, table, &bed.log.counts(table))?;
    }
    section(&mut text, "runs by type and outcome", &by_type(records))?;
    writeln!(text, "\nchecks")?;
    for verdict in verdicts {
        let word = if verdict.violations.is_empty() { "holds" } else { "BROKEN" };
        let counts: Vec<String> = verdict.counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
        writeln!(text, "  {word:<7} {}: {}", verdict.rule, counts.join(", "))?;
        for violation in verdict.violations.iter().take(SHOWN) {
            writeln!(text, "            {violation}")?;
        }
        if verdict.violations.len() > SHOWN {
            writeln!(text, "            and {} more: soak.json", verdict.violations.len() - SHOWN)?;
        }
    }
    eprintln!("\n{text}");
    let checks: Vec<Value> = verdicts
        .iter()
        .map(|verdict| {
            let counts: BTreeMap<_, _> = verdict.counts.iter().cloned().collect();
            json!({ "rule": verdict.rule, "counts": counts, "violations": verdict.violations })
        })
        .collect();
    let counted: BTreeMap<_, _> = tables.into_iter().map(|table| (table, bed.log.counts(table))).collect();
    let all = json!({ "seed": settings.seed, "tenants": settings.tenants, "minutes": settings.minutes, "seconds": took.as_secs(),
        "counts": counted, "runs": by_type(records), "checks": checks });
    std::fs::write(settings.output.join("soak.txt"), &text)?;
    std::fs::write(settings.output.join("soak.json"), format!("{}\n", serde_json::to_string_pretty(&all)?))?;
    eprintln!("   {} has soak.txt, soak.json and soak.log", settings.output.display());
    Ok(())
}

fn section(text: &mut String, title: &str, counts: &BTreeMap<String, usize>) -> std::fmt::Result {
    if counts.is_empty() {
        return Ok(());
    }
    writeln!(text, "\n{title}: {}", counts.values().sum::<usize>())?;
    counts.iter().try_for_each(|(what, count)| writeln!(text, "  {count:>6} {what}"))
}

/// Runs by type, outcome and reason.
fn by_type(records: &Records) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for run in &records.runs {
        let end =
            run.ends.first().map_or_else(|| "deleted".to_owned(), |(outcome, reason)| format!("{outcome}, {reason}"));
        *counts.entry(format!("{}: {end}", run.operation)).or_default() += 1;
    }
    counts
}
