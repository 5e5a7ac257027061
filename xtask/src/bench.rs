//! `cargo xtask bench`: what an operation costs beside the bare operation on the same API server.
//!
//! Here is the cluster, the installation and the document; what is measured, and how, is in `benches/measure`, which is
//! called once for each row. Results are kept as data (`docs/benchmarks.json`), from which text and picture are written.

mod document;
mod guard;
mod machine;
mod picture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, checkout};
use crate::image::{self, Build};
use crate::operator;
use crate::program;
use crate::shell::{self, say};
use crate::tools;

/// The cluster's name: another one than the developer's own and the tests'.
const NAME: &str = "bench";

/// Held while something is measured.
const LOCK: &str = "target/bench.lock";

/// The results as data; text and picture beside it are written from it.
const RESULTS: &str = "docs/benchmarks.json";

/// Measure operations beside the bare operations on the same API server
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Arguments {
    /// Rows to measure; all where none is named. `velero`, whose programs take long to build, is never among all
    #[arg(value_enum, value_name = "ROW")]
    rows: Vec<Row>,
    /// How often each side is measured
    #[arg(long, default_value_t = 5, value_name = "NUMBER")]
    repetitions: usize,
    /// Small sizes: to see that it works. Nothing is written to docs/
    #[arg(long)]
    quick: bool,
    /// Leave the cluster running; the next measurement uses it, but for schedules, memory and idle, which take an empty one
    #[arg(long)]
    keep: bool,
    /// Measure the binary as it is shipped, whose build takes minutes
    #[arg(long)]
    release: bool,
    /// Measure nothing; write the document and its picture again from docs/benchmarks.json
    #[arg(long)]
    document: bool,
}

/// The rows, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Row {
    /// Operator writes for a run
    Writes,
    /// Many copies of one run at once
    Duplicates,
    /// From a run to its Job
    Latency,
    /// A run beside a bare Job
    Job,
    /// Captures beside a client that lists and parses
    Capture,
    /// Restores beside a client that writes the same objects
    Restore,
    /// A bulk operation, compared with a client that makes the same patches
    Bulk,
    /// What drifted from a baseline, beside a client that lists and parses
    Drift,
    /// The history of one item over many backup sets, beside the stock client
    History,
    /// Two backup sets compared, beside the stock client
    Compare,
    /// Lists of metadata beside lists of whole objects
    Metadata,
    /// What a repository holds after many captures, and what its care takes
    Repository,
    /// Runs a second
    Admission,
    /// Thousands of schedules that are due at once
    Schedules,
    /// Thousands of schedules of which none is due
    SchedulesRest,
    /// Runs that wait for a slot
    Waiting,
    /// A quiet tenant's run beside thousands of a loud one
    Fairness,
    /// One workspace run over many tenants, compared with the same number of bare Jobs
    Workspace,
    /// The controller's memory
    Memory,
    /// The controller at rest
    Idle,
    /// The same objects through Velero
    Velero,
}

impl Row {
    /// The rows that are measured where none is named.
    fn usual() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied().filter(|row| *row != Self::Velero)
    }

    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether what earlier rows left, tens of thousands of runs, would be measured with it.
    fn needs_an_empty_cluster(self) -> bool {
        matches!(
            self,
            Self::Schedules | Self::SchedulesRest | Self::Waiting | Self::Fairness | Self::Memory | Self::Idle
        )
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.document {
        return write(&results()?);
    }
    let rows = if arguments.rows.is_empty() { Row::usual().collect() } else { arguments.rows.clone() };
    if rows.contains(&Row::Velero) && !arguments.release && !arguments.quick {
        bail!("add --release: Velero is compared with what is shipped");
    }
    machine::check(arguments.quick)?;
    let _alone = guard::alone(&checkout()?.join(LOCK))?;
    let build = if arguments.release { Build::Release } else { Build::Optimized };
    // Before the cluster is there: a mistake in the code is found without it.
    let driver = program::build(&["--bench", "measure"], build)?;
    let cluster = Cluster::new(NAME)?;
    let guard = guard::Guard::start(NAME)?;
    let measured = measure_all(&rows, arguments, &driver, &cluster, build);
    if arguments.keep {
        say(format!("\n   The cluster stays: `cargo xtask cluster down --name {NAME}` removes it"));
    } else {
        cluster.down()?;
    }
    guard.dismiss()?;
    measured
}

fn measure_all(rows: &[Row], arguments: &Arguments, driver: &Path, cluster: &Cluster, build: Build) -> Result<()> {
    let mut environment = None;
    for row in rows {
        if row.needs_an_empty_cluster() {
            cluster.down()?;
            environment = None;
        }
        let environment = match &mut environment {
            Some(environment) => environment,
            none => none.insert(prepare(cluster, build)?),
        };
        if *row == Row::Velero {
            environment.extend(beside_velero(cluster)?);
        }
        measure(*row, arguments, driver, environment, build)?;
    }
    Ok(())
}

/// The cluster with the operator, and what the program reads from its environment.
fn prepare(cluster: &Cluster, build: Build) -> Result<Vec<(&'static str, String)>> {
    cluster.up()?;
    let arguments = image::Arguments {
        optimized: build == Build::Optimized,
        release: build == Build::Release,
        ..image::Arguments::default()
    };
    let ours = image::build(&arguments)?;
    let example = image::build(&operator::example_image())?;
    // The stock client of the repository's format says what a repository holds.
    // With the other, a history is copied into etcd.
    shell::ensure_packages(&[("restic", "restic"), ("curl", "curl")])?;
    cluster.load(&ours.file)?;
    cluster.load(&example.file)?;
    // The limits would be what is measured.
    let limits = ["limits.maxActiveRuns=100000", "limits.maxActiveRunsPerTenant=10000"];
    operator::install(cluster.helm()?, &ours.reference, "Never", &limits)?;
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let mut environment = vec![
        ("ATLAS_KUBECONFIG", path(cluster.kubeconfig())),
        ("ATLAS_AUDIT_LOG", path(cluster.audit_log())),
        ("ATLAS_NETWORK", path(cluster.network()?)),
        ("ATLAS_OPERATOR_NAMESPACE", operator::NAMESPACE.to_owned()),
        ("ATLAS_IMAGE", ours.reference),
        ("ATLAS_SHELL_IMAGE", example.reference),
        ("ATLAS_BINARY", path(image::build_binary(build)?)),
    ];
    environment.extend(cluster.address().map(|address| ("NO_PROXY", address.to_string())));
    Ok(environment)
}

/// What the comparison with Velero takes besides.
fn beside_velero(cluster: &Cluster) -> Result<Vec<(&'static str, String)>> {
    let path = |path: PathBuf| path.to_string_lossy().into_owned();
    let programs = tools::velero()?;
    Ok(vec![
        ("ATLAS_HOST_ADDRESS", cluster.host_address()?.to_string()),
        ("ATLAS_VELERO", path(programs.velero)),
        ("ATLAS_VELERO_PLUGIN", path(programs.plugin)),
        ("ATLAS_S3", path(programs.s3)),
    ])
}

fn measure(
    row: Row,
    arguments: &Arguments,
    driver: &Path,
    environment: &[(&'static str, String)],
    build: Build,
) -> Result<()> {
    let begun = Instant::now();
    say(format!("\n── {}", row.name()));
    let load = machine::load();
    let mut command = shell::command(driver);
    command.arg(row.name()).args(["--repetitions", &arguments.repetitions.to_string()]);
    if arguments.quick {
        command.arg("--quick");
    }
    let output = command.envs(environment.iter().cloned()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("{} was not measured: see above. Again, this row alone: cargo xtask bench {}", row.name(), row.name());
    }
    let mut report: Value = serde_json::from_slice(&output.stdout).context("benches/measure did not print JSON")?;
    say(document::plain(&report));
    say(format!("   {} in {}", row.name(), shell::elapsed(begun)));
    if arguments.quick {
        return Ok(());
    }
    report["measured"] = json!({
        "on": machine::today()?,
        "commit": machine::commit()?,
        "machine": machine::describe()?,
        "build": if build == Build::Release { "release" } else { "optimized" },
        "repetitions": arguments.repetitions,
        "load_before": load,
    });
    keep(row, report)
}

/// Puts a row among the results, and writes the document and its picture.
fn keep(row: Row, report: Value) -> Result<()> {
    let mut results = results()?;
    results.insert(row.name(), report);
    fs::write(checkout()?.join(RESULTS), format!("{}\n", serde_json::to_string_pretty(&results)?))?;
    write(&results)
}

/// The results of all rows that were ever measured.
fn results() -> Result<Map<String, Value>> {
    match fs::read(checkout()?.join(RESULTS)) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{RESULTS} is not what this writes")),
        Err(_) => Ok(Map::new()),
    }
}

/// Writes the document and its picture.
fn write(results: &Map<String, Value>) -> Result<()> {
    let (mut rows, mut unmeasured) = (Vec::new(), Vec::new());
    for row in Row::value_variants() {
        let name = row.name();
        match results.get(&name) {
            Some(report) => rows.push((name, report.clone())),
            None if *row == Row::Velero => {}
            None => unmeasured.push(name),
        }
    }
    let file = checkout()?.join(RESULTS);
    fs::write(file.with_extension("md"), document::markdown(&rows, &unmeasured))?;
    fs::write(file.with_extension("svg"), picture::svg(&rows))?;
    Ok(())
}
