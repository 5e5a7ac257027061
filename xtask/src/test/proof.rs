//! `tests/proof` in the bed of the stories. There the controller is the proof's own, so the installed one stands still.

use super::bed::Bed;
use super::{cargo, loud};
use crate::cluster::Cluster;
use crate::operator;
use crate::shell;
use anyhow::{Context as _, Result};

/// The target of `tests/`.
pub(super) const TARGET: &str = "proof";

/// The quick selection, or everything. `ATLAS_PROOF` and `ATLAS_PROOF_FROM` choose otherwise and are handed on.
pub(super) fn prove(everything: bool, bed: &mut Bed) -> Result<()> {
    loud(cargo()?.args(["test", "--no-run", "--quiet", "--test", TARGET]))?;
    let environment = bed.operator()?;
    let cluster = bed.running().context("the operator is installed on a cluster")?;
    scale(cluster, 0)?;
    let mut test = cargo()?;
    test.args(["test", "--test", TARGET]).env("RUST_BACKTRACE", "0").envs(environment);
    if everything {
        test.env("ATLAS_PROOF_ALL", "1");
    }
    let proved = loud(&mut test);
    // Others need it again, whatever the proof has found.
    let scaled = scale(cluster, 1);
    proved.and(scaled)
}

/// Stops or starts the installed operator, and waits until it is so.
fn scale(cluster: &Cluster, replicas: u8) -> Result<()> {
    let deployments = ["--selector", "app.kubernetes.io/name=tenantatlas", "--namespace", operator::NAMESPACE];
    let kubectl = |arguments: &[&str]| {
        shell::run(cluster.kubectl()?.args(arguments).args(deployments)).context("the operator cannot be scaled")
    };
    kubectl(&["scale", "deployment", &format!("--replicas={replicas}")])?;
    if replicas == 0 {
        kubectl(&["wait", "pod", "--for=delete", "--timeout=60s"])
    } else {
        kubectl(&["rollout", "status", "deployment", "--timeout=120s"])
    }
}
