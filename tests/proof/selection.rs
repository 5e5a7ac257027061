//! Which trials are run, in which order, and what is said about them.
//!
//! `ATLAS_PROOF_ALL=1`: all. `ATLAS_PROOF=scenario:variant:index`: this one. `ATLAS_PROOF_FROM=…`: from this one on.

use crate::fault::Variant;
use crate::scenario::Scenario;
use crate::trial::{Bench, Key, Played};
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Instant;

/// A loop over the calls of one story, failing each in one way.
#[derive(Clone, Copy, Debug)]
struct Series {
    scenario: Scenario,
    variant: Variant,
}

/// The series of `cargo xtask test --all`.
fn all() -> Vec<Series> {
    let variants = |scenario| Variant::ALL.into_iter().map(move |variant| Series { scenario, variant });
    Scenario::ALL.into_iter().flat_map(variants).collect()
}

/// Those of every test run: the ways of failing that differ most, where most can go wrong.
fn quick() -> Vec<Series> {
    use Variant::{Answer, AnswerDies, LostDies, UnsentDies};
    let some = |scenario, variants: &[Variant]| {
        variants.iter().map(|variant| Series { scenario, variant: *variant }).collect::<Vec<_>>()
    };
    [
        some(Scenario::Submit, &[UnsentDies, LostDies, Answer(409), Answer(500), AnswerDies(429)]),
        some(Scenario::Dedupe, &[LostDies]),
        some(Scenario::Cancel, &[LostDies]),
        some(Scenario::Delete, &[LostDies]),
        some(Scenario::Retry, &[LostDies]),
        some(Scenario::Timeout, &[UnsentDies]),
    ]
    .concat()
}

/// What has come of it so far.
#[derive(Default)]
struct Tally {
    trials: usize,
    failed: Vec<Key>,
}

pub(crate) async fn prove() -> ExitCode {
    let started = Instant::now();
    let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
    let parse = |text: String| text.parse::<Key>().unwrap_or_else(|error| panic!("{error}"));
    let only = variable("ATLAS_PROOF").map(parse);
    let mut from = variable("ATLAS_PROOF_FROM").map(parse);
    let everything = variable("ATLAS_PROOF_ALL").is_some();
    let series = if everything || only.is_some() || from.is_some() { all() } else { quick() };
    let bench = Bench::new().await;
    let mut tally = Tally::default();
    for one in series {
        let Series { scenario, variant } = one;
        let same = |key: &Key| key.scenario == scenario && key.variant == variant;
        if let Some(only) = only {
            if same(&only) {
                bench.series(one, only.index..=only.index, &mut tally).await;
            }
            continue;
        }
        if from.as_ref().is_some_and(|from| !same(from)) {
            continue;
        }
        let first = from.take().map_or(1, |from| from.index);
        bench.series(one, first..=usize::MAX, &mut tally).await;
    }
    bench.finish().await;
    let (trials, processes) = (tally.trials, bench.operator.processes());
    println!("{trials} trials, {processes} processes of the controller, {:.0} s", started.elapsed().as_secs_f32());
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Bench {
    /// Fails each call of a story in turn, until the story ends without having come to it.
    async fn series(&self, series: Series, indices: std::ops::RangeInclusive<usize>, tally: &mut Tally) {
        let Series { scenario, variant } = series;
        let started = Instant::now();
        let single = indices.start() == indices.end();
        let mut played: Vec<Played> = Vec::new();
        for index in indices {
            let key = Key { scenario, variant, index };
            let result = AssertUnwindSafe(self.play(key)).catch_unwind().await;
            tally.trials += 1;
            let Ok(trial) = result else {
                self.report(key, tally);
                continue;
            };
            let fired = trial.fired.clone();
            if single || std::env::var_os("ATLAS_PROOF_VERBOSE").is_some() {
                println!("{key}: {}", fired.as_deref().unwrap_or("no such call"));
            }
            played.push(trial);
            if fired.is_none() {
                break;
            }
        }
        let count = played.len();
        match AssertUnwindSafe(self.settle(played)).catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err((key, fault))) => {
                println!("{key}: {fault}");
                self.report(key, tally);
            }
            Err(_) => self.report(Key { scenario, variant, index: count }, tally),
        }
        println!("{scenario}:{variant}: {count} trials, {:.1} s", started.elapsed().as_secs_f32());
    }

    fn report(&self, key: Key, tally: &mut Tally) {
        let log = self.operator.log();
        let last: Vec<&str> = log.lines().rev().take(40).collect();
        println!("{}", last.into_iter().rev().collect::<Vec<_>>().join("\n"));
        println!("FAILED {key}. Again, this one alone: ATLAS_PROOF={key} cargo xtask test --only proof --keep");
        println!("       All from here on: ATLAS_PROOF_FROM={key} cargo xtask test --only proof --keep");
        tally.failed.push(key);
    }
}
