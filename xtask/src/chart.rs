//! `cargo xtask chart`: what can be known of the chart without the operator: it lints, renders as meant for every set of
//! values and every Kubernetes, refuses bad values, and a real API server takes what comes out.

mod rendered;
mod server;
mod values;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cluster::checkout;
use crate::shell::{self, say};
use crate::tools;

/// The oldest Kubernetes we support: its API server cannot fill in who asks.
const OLDER: &str = "1.33.0";
/// The first with MutatingAdmissionPolicy.
const NEWER: &str = "1.36.0";

/// Helm's name of the installation.
const RELEASE: &str = "tenantatlas";

/// Check the chart: lint, render, schema of its values; with a cluster, what its API server says.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// An API server to ask. The chart is installed and removed again where it is not installed; else it is only asked, dry
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// Runs the checks; the first that fails is the error.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let chart = Chart { folder: checkout()?.join("charts/tenantatlas"), helm: tools::helm()? };
    let sets = chart.value_sets()?;
    for version in [OLDER, NEWER] {
        for set in &sets {
            chart.lint(set.as_deref(), version)?;
            rendered::check(&chart, set.as_deref(), version)?;
        }
    }
    rendered::check_older_path(&chart)?;
    values::check_each_is_read(&chart)?;
    values::check_bad_ones_are_refused(&chart)?;
    say(format!("the chart lints and renders: {} sets of values, Kubernetes {OLDER} and {NEWER}", sets.len()));
    if let Some(kubeconfig) = &arguments.kubeconfig {
        server::check(&chart, kubeconfig, &sets)?;
    }
    Ok(())
}

/// The chart and the program that reads it.
struct Chart {
    folder: PathBuf,
    helm: PathBuf,
}

impl Chart {
    /// The sets of values under `ci/`, and none: the defaults.
    fn value_sets(&self) -> Result<Vec<Option<PathBuf>>> {
        let folder = self.folder.join("ci");
        let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut sets = vec![None];
        for entry in entries {
            sets.push(Some(entry?.path()));
        }
        sets.sort();
        Ok(sets)
    }

    fn lint(&self, set: Option<&Path>, version: &str) -> Result<()> {
        let mut helm = self.helm(&["lint", "--quiet", "--strict", "--kube-version", version]);
        helm.arg(&self.folder);
        shell::run(with(&mut helm, set)).with_context(|| format!("the chart does not lint with {}", name(set)))
    }

    /// The manifests for a set of values, with single values on top (`key=JSON`).
    fn render(&self, set: Option<&Path>, version: &str, single: &[&str]) -> Result<String> {
        let mut helm = self.helm(&["template", RELEASE, "--namespace", NAMESPACE, "--kube-version", version]);
        helm.arg(&self.folder);
        for value in single {
            helm.args(["--set-json", value]);
        }
        shell::output(with(&mut helm, set))
    }

    fn helm(&self, arguments: &[&str]) -> Command {
        let mut helm = shell::command(&self.helm);
        // A developer's own cluster is no part of what is rendered.
        helm.env("KUBECONFIG", "/dev/null").args(arguments);
        helm
    }
}

/// Where the chart is rendered for and installed.
const NAMESPACE: &str = "tenantatlas-system";

fn with<'a>(helm: &'a mut Command, set: Option<&Path>) -> &'a mut Command {
    if let Some(set) = set {
        helm.arg("--values").arg(set);
    }
    helm
}

/// A set of values as messages name it.
fn name(set: Option<&Path>) -> String {
    set.and_then(Path::file_name)
        .map_or_else(|| "the default values".to_owned(), |file| file.to_string_lossy().into_owned())
}

/// Fails with a message unless a condition holds.
fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<()> {
    if !holds {
        bail!(message());
    }
    Ok(())
}
