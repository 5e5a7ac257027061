//! Which trials are run, in which order, and what is said about them.
//!
//! `ATLAS_PROOF_ALL=1`: all. `ATLAS_PROOF=scenario:variant:index`: this one, or with less of it all that begin so.
//! `ATLAS_PROOF_FROM=…`: from this one on.

use crate::bulk::Bulks;
use crate::capture::Captures;
use crate::disturbance::last;
use crate::drift::Drifts;
use crate::fault::Variant;
use crate::orders::Orders;
use crate::scenario::Scenario;
use crate::trial::{Bench, Key, Played, Selector};
use crate::worker::Workers;
use futures::FutureExt as _;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// After so many failures the rest says nothing new.
const FAILURES: usize = 5;

/// A trial that takes longer is mentioned: nobody was stuck, and somebody waited.
const SLOW: Duration = Duration::from_secs(20);

/// A loop over the calls of one story, failing each in one way.
#[derive(Clone, Copy, Debug)]
struct Series {
    scenario: Scenario,
    variant: Variant,
    /// The number of its first call, and how many it goes on by.
    first: usize,
    step: usize,
}

/// The series of `cargo xtask test --all`.
fn all() -> Vec<Series> {
    let series = |scenario: Scenario| {
        let faults: &[Variant] = match scenario {
            Scenario::Together => &[],
            // An answer fails its object alone, which no other attempt tries again. Over all tenants,
            // each trial waits for four pods.
            Scenario::BulkCalls | Scenario::BulkDeleteCalls | Scenario::OverAllBulk => &Variant::OF_A_CALL[..2],
            _ => &Variant::OF_A_CALL,
        };
        let (of_runs, together) = (Scenario::OF_RUNS.contains(&scenario), scenario == Scenario::Together);
        let leaders = Variant::OF_A_LEADER.into_iter().filter(move |_| of_runs);
        let views = Variant::OF_A_VIEW.into_iter().filter(move |_| of_runs);
        let servers = Variant::OF_THE_SERVER.into_iter().filter(move |_| together);
        let variants = faults.iter().copied().chain(leaders).chain(views).chain(servers);
        variants.map(move |variant| Series { scenario, variant, first: 1, step: 1 })
    };
    Scenario::ALL.into_iter().flat_map(series).collect()
}

/// Those of every test run, six minutes: the ways of failing that differ most, where most can go wrong. Where a series
/// takes long it leaves calls out.
fn quick() -> Vec<Series> {
    use Scenario::{
        BulkCalls, BulkDeleteCalls, Cancel, Capture, Dedupe, Delete, DriftCalls, OverAll, OverAllBulk, OverAllCancel,
        Retry, Submit, Tick, TickDeleted, Together, WorkerCalls, WorkerStore,
    };
    use Variant::{Answer, Behind, Gone, LostDies, UnsentDies, UnsentStops};
    let every = |scenario, variant| Series { scenario, variant, first: 1, step: 1 };
    let some = |scenario, variant, first, step| Series { scenario, variant, first, step };
    vec![
        every(Submit, UnsentDies),
        every(Submit, LostDies),
        every(Submit, Answer(409)),
        some(Submit, Answer(500), 1, 2),
        some(Dedupe, LostDies, 1, 2),
        every(Cancel, LostDies),
        some(Delete, LostDies, 1, 2),
        some(Retry, LostDies, 1, 2),
        every(Tick, LostDies),
        some(Tick, UnsentStops, 1, 3),
        some(TickDeleted, UnsentStops, 1, 4),
        some(OverAll, LostDies, 2, 4),
        some(OverAllCancel, LostDies, 3, 5),
        // From the workspace run on that applies the preview.
        some(OverAllBulk, LostDies, 24, 12),
        some(Capture, LostDies, 2, 3),
        some(Submit, UnsentStops, 1, 2),
        some(Submit, Behind(Some(1)), 2, 2),
        every(Together, Gone),
        some(WorkerCalls, LostDies, 2, 20),
        some(WorkerStore, UnsentDies, 3, 8),
        // From its first write on: before that, it reads.
        some(DriftCalls, LostDies, 12, 3),
        some(BulkCalls, LostDies, 6, 4),
        some(BulkDeleteCalls, LostDies, 40, 6),
    ]
}

/// Whether all of it was asked for.
pub(crate) fn everything() -> bool {
    std::env::var_os("ATLAS_PROOF_ALL").is_some_and(|value| !value.is_empty())
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
    let parse = |text: String| text.parse::<Selector>().unwrap_or_else(|error| panic!("{error}"));
    let only = variable("ATLAS_PROOF").map(parse);
    let mut from = variable("ATLAS_PROOF_FROM").map(parse);
    let series = if everything() || only.is_some() || from.is_some() { all() } else { quick() };
    let bench = Bench::new().await;
    let mut tally = Tally::default();
    for one in series {
        let other = |selector: &Selector| !selector.selects(one.scenario, one.variant);
        if only.as_ref().is_some_and(other) || from.as_ref().is_some_and(other) {
            continue;
        }
        let first = from.take().and_then(|from| from.index).unwrap_or(one.first);
        let indices = only.and_then(|only| only.index).map_or(first..=last(one.variant), |index| index..=index);
        Box::pin(bench.series(one, indices, &mut tally)).await;
        if tally.failed.len() >= FAILURES {
            break;
        }
    }
    bench.finish().await;
    let (trials, processes) = (tally.trials, bench.operator.processes());
    println!("{trials} trials, {processes} processes of the controller, {:.0} s", started.elapsed().as_secs_f32());
    if tally.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the trials of a series share.
enum Ground {
    /// Nothing: each has a tenant of its own.
    Each,
    Captures(Captures),
    Workers(Workers),
    Drifts(Drifts),
    Bulks(Bulks),
    Orders(Orders),
}

impl Ground {
    async fn prepare(scenario: Scenario) -> Self {
        match scenario {
            Scenario::Capture | Scenario::Check => Self::Captures(Captures::prepare(scenario).await),
            Scenario::WorkerCalls | Scenario::WorkerStore => Self::Workers(Workers::prepare(scenario).await),
            Scenario::BulkCalls | Scenario::BulkDeleteCalls => Self::Bulks(Box::pin(Bulks::prepare(scenario)).await),
            Scenario::OverAllBulk => Self::Orders(Box::pin(Orders::prepare(scenario)).await),
            Scenario::DriftCalls => Self::Drifts(Box::pin(Drifts::prepare()).await),
            _ => Self::Each,
        }
    }
}

impl Bench {
    /// Fails each call of a story in turn, until the story ends without having come to it.
    async fn series(&self, series: Series, indices: std::ops::RangeInclusive<usize>, tally: &mut Tally) {
        let Series { scenario, variant, first: _, step } = series;
        let started = Instant::now();
        let single = indices.start() == indices.end();
        let ground = Ground::prepare(scenario).await;
        let mut played: Vec<Played> = Vec::new();
        let mut count = 0;
        for index in indices.step_by(step) {
            let key = Key { scenario, variant, index };
            let begun = Instant::now();
            let trial = AssertUnwindSafe(async {
                match &ground {
                    Ground::Captures(captures) => captures.play(self, key).await,
                    Ground::Workers(workers) => workers.play(key).await,
                    Ground::Drifts(drifts) => Box::pin(drifts.play(self, key)).await,
                    Ground::Bulks(bulks) => Box::pin(bulks.play(self, key)).await,
                    Ground::Orders(orders) => Box::pin(orders.play(self, key)).await,
                    Ground::Each => {
                        let trials = self.play(key).await;
                        let fired = trials.first().and_then(|trial| trial.fired.clone());
                        played.extend(trials);
                        fired
                    }
                }
            });
            count += 1;
            let Ok(fired) = trial.catch_unwind().await else {
                self.report(key, tally);
                if tally.failed.len() >= FAILURES {
                    println!("{FAILURES} trials failed: the rest is left");
                    break;
                }
                continue;
            };
            if begun.elapsed() > SLOW {
                println!(
                    "slow: {key} took {:.0} s: something waited for a clock, not for an event",
                    begun.elapsed().as_secs_f32()
                );
            }
            if single || std::env::var_os("ATLAS_PROOF_VERBOSE").is_some() {
                println!("{key}: {}", fired.as_deref().unwrap_or("no such call"));
            }
            if fired.is_none() {
                break;
            }
        }
        tally.trials += count;
        let last = Key { scenario, variant, index: count.max(1) };
        let settled = AssertUnwindSafe(async {
            match &ground {
                Ground::Captures(captures) => captures.settle(self).await.map_err(|fault| (last, fault)),
                Ground::Workers(workers) => workers.settle(self).await.map_err(|fault| (last, fault)),
                Ground::Drifts(drifts) => drifts.settle(self).await.map_err(|fault| (last, fault)),
                Ground::Bulks(bulks) => bulks.settle(self).await.map_err(|fault| (last, fault)),
                Ground::Orders(orders) => orders.settle(self).await.map_err(|fault| (last, fault)),
                Ground::Each => self.settle(played).await,
            }
        });
        match settled.catch_unwind().await {
            Ok(Ok(())) => {}
            Ok(Err((key, fault))) => {
                println!("{key}: {fault}");
                self.report(key, tally);
            }
            Err(_) => self.report(last, tally),
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
