//! `cargo xtask soak`: many tenants at work on a cluster whose processes are killed and slowed at random.
//!
//! Here is the cluster and the installation; the work, the disturbances and the ledger are in `tests/soak`, one program.

use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cluster::{Audit, Cluster, checkout};
use crate::image::{self, Build};
use crate::shell::{self, say};
use crate::{evidence, operator, program, tools};

/// The target of `tests/`.
pub(crate) const TARGET: &str = "soak";

/// The cluster's name: another one than the developer's own and the tests'.
const NAME: &str = "soak";

/// Where the summary and, after a failure, what there is to look at are written.
const OUTPUT: &str = "target/soak";

/// Let many tenants work while processes are killed and slowed at random, and check the ledger at the end
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// How long processes are disturbed; preparing, coming to rest and checking take some minutes more
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Chooses what is done and what is disturbed, in which order; printed, so that it can be repeated [default: any]
    #[arg(long)]
    seed: Option<u64>,
    /// Number of tenants
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=150))]
    tenants: u64,
    /// Leave the cluster running
    #[arg(long)]
    keep: bool,
    /// Run the image that is shipped, whose build takes minutes
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let build = if arguments.release { Build::Release } else { Build::Development };
    // Before the cluster is there: a mistake in the code is found without it.
    let driver = program::build(&["--test", TARGET], Build::Development)?;
    let cluster = Cluster::new(NAME)?.audited(Audit::Runs);
    let cluster = if arguments.keep { cluster } else { cluster.bound() };
    // The ledger begins with the audit log.
    cluster.down()?;
    let soaked = soak(arguments, &cluster, driver, build);
    if soaked.is_err() {
        evidence::collect(&cluster, &checkout()?.join(OUTPUT).join("evidence"));
    }
    if arguments.keep {
        say(format!("\n   The cluster stays: `cargo xtask cluster down --name {NAME}` removes it"));
    } else {
        cluster.down()?;
    }
    soaked
}

fn soak(arguments: &Arguments, cluster: &Cluster, driver: PathBuf, build: Build) -> Result<()> {
    cluster.up()?;
    let ours = image::build(&image::Arguments { release: build == Build::Release, ..image::Arguments::default() })?;
    cluster.load(&ours.file)?;
    // The stock client of the repository's format says what repositories hold.
    shell::ensure_packages(&[("restic", "restic")])?;
    let limits = [
        "replicas=2",
        // Two cores start about a pod a second; more at once would all be slow.
        "limits.maxActiveRuns=16",
        "limits.maxActiveRunsPerTenant=3",
        "worker.resources.requests.cpu=1m",
        "worker.resources.requests.memory=16Mi",
    ];
    operator::install(cluster.helm()?, &ours.reference, "Never", &limits)?;
    let output = checkout()?.join(OUTPUT);
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let seed = arguments.seed.map_or_else(any_seed, Ok)?;
    // By the path it was started with: a build may have replaced the file itself.
    let xtask = std::env::args_os().next().context("this program was started without its name")?;
    let begun = Instant::now();
    let mut soak = shell::command(driver);
    soak.args(["--minutes", &arguments.minutes.to_string(), "--seed", &seed.to_string()])
        .args(["--tenants", &arguments.tenants.to_string()])
        .env("ATLAS_KUBECONFIG", cluster.kubeconfig())
        .env("ATLAS_KUBECTL", tools::kubectl()?)
        .env("ATLAS_AUDIT_LOG", cluster.audit_log())
        .env("ATLAS_OPERATOR_NAMESPACE", operator::NAMESPACE)
        .env("ATLAS_HOST_ADDRESS", cluster.host_address()?.to_string())
        .env("ATLAS_VOLUME_ROOT", cluster.volumes())
        .env("ATLAS_SOAK_XTASK", std::path::absolute(PathBuf::from(xtask))?)
        .env("ATLAS_SOAK_CLUSTER", NAME)
        .env("ATLAS_SOAK_OUTPUT", output)
        .env("NO_PROXY", cluster.address()?.to_string());
    let status = soak.status().context("cannot start tests/soak")?;
    say(format!("   The soak with seed {seed} took {}", shell::elapsed(begun)));
    if !status.success() {
        bail!("the soak failed ({status}): see above. The same again: {}", again(arguments, seed));
    }
    Ok(())
}

fn again(arguments: &Arguments, seed: u64) -> String {
    format!("cargo xtask soak --minutes {} --seed {seed} --tenants {}", arguments.minutes, arguments.tenants)
}

/// Another one each time, short enough to be typed.
fn any_seed() -> Result<u64> {
    Ok(u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()) % 100_000)
}
