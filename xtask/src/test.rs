//! `cargo xtask test`: every check there is, in the order in which a failure is found soonest.
//!
//! Each step is what a developer could type; nothing here knows how a cluster is made or what a test looks at.

pub(crate) mod bed;
mod deny;
mod examples;
mod proof;
mod resume;
mod rights;

use crate::cluster::checkout;
use crate::evidence;
use crate::policies;
use crate::shell::{self, say};
use crate::soak;
use anyhow::{Context as _, Result, bail};
use bed::Bed;
use clap::{Args, ValueEnum};
use resume::Passed;
use serde_json::Value;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Where failures leave what there is to look at; not in git.
const OUTPUT: &str = "test-output";

/// cargo's variable for what compiles the workspace's own crates.
pub(crate) const WRAPPER: &str = "RUSTC_WORKSPACE_WRAPPER";

/// The targets of `tests/` that need a cluster.
const CLUSTER_TESTS: [&str; 3] = ["e2e", proof::TARGET, soak::TARGET];

/// The stories of `tests/e2e` that need two clusters; they are a step of their own.
pub(crate) const OF_TWO_CLUSTERS: &str = "lost_cluster::";

/// The stories that no other runs beside.
const ALONE: &str = "alone::";

/// Run every check: format, lints, dependencies, generated files, tests, chart, image, the real cluster, examples.
#[derive(Debug, Args)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Arguments {
    /// Run these steps only (comma-separated or repeated); the cluster and the image are made as they are needed
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STEP")]
    only: Vec<Step>,
    /// Leave the test cluster running: the next run starts faster, and you can look around in it
    #[arg(long)]
    keep: bool,
    /// Go on with the next step after a failure
    #[arg(long)]
    keep_going: bool,
    /// Also the whole proof, every seeded bug, more states of the model, every part of every admission policy: hours more
    #[arg(long)]
    all: bool,
    /// Pass over the steps that passed before, with the same files and options
    #[arg(long)]
    resume: bool,
    /// Test the image that is shipped, whose build takes minutes
    #[arg(long)]
    release: bool,
    /// How many tests run at once on the cluster
    #[arg(long, default_value_t = 6, value_name = "NUMBER")]
    threads: usize,
    /// Passed to the test programs: a part of a test's name, or their own options
    #[arg(last = true, value_name = "FILTER")]
    filter: Vec<String>,
}

/// The steps, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// rustfmt
    Format,
    /// All targets compile with clippy, warnings denied
    Lints,
    /// cargo-deny: bans, licenses, sources, and advisories where their database can be had
    Deny,
    /// CRDs, schemas and references are as the code says
    Generated,
    /// Unit, property and model tests, tests/it and fuzzing
    Unit,
    /// Known bugs are switched on one at a time, and caught: a few, or all with --all
    Seeded,
    /// The chart: lint, render, schema, dry run on a real API server
    Chart,
    /// The image builds and the cluster takes it
    Image,
    /// tests/e2e on a real cluster
    E2e,
    /// What a lost cluster leaves is restored in a second, empty one
    Recovery,
    /// tests/proof: the controller dies at every call; the quick selection, or all of it with --all
    Proof,
    /// The roles of the operator and of workers against what the API server saw: no right unused, no refusal unmeant
    Rights,
    /// Every manifest under examples/ is accepted, and the main ones do what they say
    Examples,
    /// Every part of every admission policy is switched off once, and a story fails: with --all, or by name
    Policies,
}

impl Step {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn help(self) -> String {
        self.to_possible_value().and_then(|value| Some(value.get_help()?.to_string())).unwrap_or_default()
    }

    fn leaves_objects(self) -> bool {
        matches!(self, Self::Chart | Self::Image | Self::E2e | Self::Recovery | Self::Proof | Self::Examples)
    }

    /// Whether it is done where no step was named.
    fn is_of(self, all: bool) -> bool {
        all || self != Self::Policies
    }
}

/// One step's end.
struct Report {
    step: Step,
    passed: bool,
    took: String,
}

/// Runs the steps. An error is returned after the summary, and names the steps that failed.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    lint_what_is_built()?;
    let started = Instant::now();
    let output = checkout()?.join(OUTPUT);
    if output.exists() {
        std::fs::remove_dir_all(&output).with_context(|| format!("cannot empty {}", output.display()))?;
    }
    let steps: Vec<Step> = Step::value_variants()
        .iter()
        .copied()
        .filter(
            |step| {
                if arguments.only.is_empty() { step.is_of(arguments.all) } else { arguments.only.contains(step) }
            },
        )
        .collect();
    let options = format!("{} {} {:?}", arguments.all, arguments.release, arguments.filter);
    let mut before = Passed::read(checkout()?, &options, arguments.resume)?;
    let mut bed = Bed::new(arguments.keep, arguments.release);
    let mut reports = Vec::new();
    for (number, step) in steps.iter().copied().enumerate() {
        let begun = Instant::now();
        if let Some(took) = before.took(step, &steps) {
            say(format!("\n── {}/{} {}: passed before, in {took}", number + 1, steps.len(), step.name()));
            reports.push(Report { step, passed: true, took: format!("before, {took}") });
            continue;
        }
        say(format!("\n── {}/{} {}: {}", number + 1, steps.len(), step.name(), step.help()));
        let result = perform(step, arguments, &mut bed);
        let took = shell::elapsed(begun);
        let passed = result.is_ok();
        if let Err(error) = result {
            say(format!("\n   {} failed after {took}: {error:#}", step.name()));
            if step.leaves_objects() {
                collect_evidence(&bed, &output.join(step.name()));
            }
            if let Err(error) = bed.end_second() {
                say(format!("   {error:#}"));
            }
            say(format!("   Again, this step alone: cargo xtask test --only {}", step.name()));
        }
        if passed {
            before.add(step, &took)?;
        }
        reports.push(Report { step, passed, took });
        if !passed && !arguments.keep_going {
            break;
        }
    }
    let failed: Vec<String> = reports.iter().filter(|report| !report.passed).map(|report| report.step.name()).collect();
    let ended = bed.finish();
    summary(&steps, &reports, &shell::elapsed(started));
    ended?;
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

/// Starts this program again with clippy as the compiler of the workspace's crates, warnings denied. `cargo clippy` does the
/// same for a `check`, whose dependencies are compiled apart from those of the tests: minutes, for the same lints.
fn lint_what_is_built() -> Result<()> {
    if std::env::var_os(WRAPPER).is_some() {
        return Ok(());
    }
    let mut again = Command::new(std::env::current_exe().context("where is this program?")?);
    again.args(std::env::args_os().skip(1)).env(WRAPPER, "clippy-driver");
    // How `cargo clippy` passes on what stands behind its `--`.
    again.env("CLIPPY_ARGS", ["--deny", "warnings", ""].join("__CLIPPY_HACKERY__"));
    Err(again.exec()).context("cannot start this program again")
}

/// What a failed step left in the clusters that there are.
fn collect_evidence(bed: &Bed, folder: &Path) {
    if let Some(cluster) = bed.running() {
        evidence::collect(cluster, folder);
    }
    if let Some(cluster) = bed.second_running() {
        evidence::collect(cluster, &folder.join("second"));
    }
}

fn perform(step: Step, arguments: &Arguments, bed: &mut Bed) -> Result<()> {
    match step {
        Step::Format => loud(cargo()?.args(["fmt", "--all", "--check"])),
        // Plain `cargo test` leaves the soak out, and so do all targets.
        Step::Lints => {
            loud(cargo()?.args(["build", "--workspace", "--all-targets", "--test", soak::TARGET, "--quiet"]))
        }
        Step::Deny => deny::check(),
        Step::Generated => xtask(&["generate", "--check"]),
        Step::Unit => unit(arguments),
        Step::Chart => {
            let kubeconfig = bed.server()?.kubeconfig();
            xtask(&["chart", "--kubeconfig", &kubeconfig.to_string_lossy()])
        }
        Step::Image => bed.load_images(),
        Step::E2e => end_to_end(arguments, bed),
        Step::Recovery => recovery(bed),
        Step::Seeded => xtask(if arguments.all { &["seeded"] } else { &["seeded", "--quick"] }),
        Step::Rights => rights::check(bed),
        Step::Proof => proof::prove(arguments.all, bed),
        Step::Examples => examples::check(bed),
        Step::Policies => policies::mutate(&policies::Choice::default(), bed),
    }
}

/// All tests that need no cluster: the library's and the binaries' own, and every target of `tests/` but three. Targets
/// are asked for, not listed, so that a new one is never forgotten.
fn unit(arguments: &Arguments) -> Result<()> {
    // The stock client of the repository's format reads what tests have written.
    shell::ensure_packages(&[("restic", "restic")])?;
    let mut test = cargo()?;
    test.args(["test", "--workspace", "--no-fail-fast", "--lib", "--bins"]);
    for target in test_targets()? {
        test.args(["--test", &target]);
    }
    if arguments.all {
        // More states of the model.
        test.env("ATLAS_PROOF_ALL", "1");
    }
    loud(test.arg("--").args(&arguments.filter))
}

fn test_targets() -> Result<Vec<String>> {
    let metadata = shell::output(cargo()?.args(["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata did not print JSON")?;
    let targets = metadata["packages"].as_array().into_iter().flatten().flat_map(|package| {
        package["targets"].as_array().into_iter().flatten().filter_map(|target| {
            let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
            target["name"].as_str().filter(|name| is_test && !CLUSTER_TESTS.contains(name)).map(str::to_owned)
        })
    });
    Ok(targets.collect())
}

/// First the stories that run side by side, then those that run alone: among the others, each of these would wait until
/// all that have begun are over, on a machine that is idle meanwhile.
fn end_to_end(arguments: &Arguments, bed: &mut Bed) -> Result<()> {
    let mut options = ["--skip", OF_TWO_CLUSTERS].map(str::to_owned).to_vec();
    options.extend(arguments.filter.iter().cloned());
    build_stories()?;
    let listed = shell::output(stories()?.args(["--list", "--format=terse"]).args(&options))?;
    let named = listed.lines().filter_map(|line| line.strip_suffix(": test"));
    let alone: Vec<&str> = named.filter(|name| name.contains(ALONE)).collect();
    let environment = bed.operator()?;
    let beside = ["--skip", ALONE, "--test-threads", &arguments.threads.to_string()].map(str::to_owned);
    let first = loud(stories()?.args(beside).args(&options).envs(environment.clone()));
    // A failure stands at the end of the output, unless all of them are wanted.
    if alone.is_empty() || (first.is_err() && !arguments.keep_going) {
        return first;
    }
    first.and(loud(stories()?.args(["--test-threads", "1", "--exact"]).args(alone).envs(environment)))
}

/// The stories of two clusters. The second is there for this step alone.
fn recovery(bed: &mut Bed) -> Result<()> {
    build_stories()?;
    let environment = bed.second()?;
    loud(stories()?.arg(OF_TWO_CLUSTERS).envs(environment))?;
    bed.end_second()
}

/// Builds the stories before there is a cluster: a mistake in one is found without it.
fn build_stories() -> Result<()> {
    loud(cargo()?.args(["test", "--no-run", "--quiet", "--test", "e2e"]))
}

/// The program of stories, whose options follow.
fn stories() -> Result<Command> {
    let mut test = cargo()?;
    // A failure says in words what it saw; forty lines of runtime would hide it.
    test.args(["test", "--test", "e2e", "--"]).env("RUST_BACKTRACE", "0");
    Ok(test)
}

/// A table of what was done and what was left.
fn summary(steps: &[Step], reports: &[Report], took: &str) {
    say("\n── summary");
    for step in steps {
        match reports.iter().find(|report| report.step == *step) {
            Some(report) => {
                let word = if report.passed { "passed" } else { "FAILED" };
                say(format!("   {:<10} {word}  {:>12}", step.name(), report.took));
            }
            None => say(format!("   {:<10} not run", step.name())),
        }
    }
    let passed = reports.iter().filter(|report| report.passed).count();
    say(format!("   {passed} of {} steps passed in {took}", steps.len()));
}

/// cargo in the repository's root, wherever the command was typed.
pub(crate) fn cargo() -> Result<Command> {
    let mut command = shell::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(checkout()?);
    Ok(command)
}

/// Another of these commands.
fn xtask(arguments: &[&str]) -> Result<()> {
    // By the path that `lint_what_is_built` gave it: the build of the workspace has replaced the file itself.
    let program = std::env::args_os().next().context("this program was started without its name")?;
    loud(shell::command(program).current_dir(checkout()?).args(arguments))
}

/// Runs a command whose own output is for the developer.
fn loud(command: &mut Command) -> Result<()> {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let mut line = words.join(" ");
    if let Some(rest) = words.first().and_then(|program| line.strip_prefix(program.as_str())) {
        let program = Path::new(&words[0]).file_name().map(|name| name.to_string_lossy().into_owned());
        line = format!("{}{rest}", program.unwrap_or_default());
    }
    say(format!("   $ {line}"));
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    if !status.success() {
        bail!("{line} ended with {status}: see above");
    }
    Ok(())
}
