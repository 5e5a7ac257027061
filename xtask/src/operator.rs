//! The operator on a cluster: its chart, installed by Helm with the image that was just built.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cluster::checkout;
use crate::image::{Arguments, Example};
use crate::shell;

/// Where the operator runs.
pub(crate) const NAMESPACE: &str = "tenantatlas-system";

/// Helm's name of the installation.
const RELEASE: &str = "tenantatlas";

/// The image that `examples/database-dump` names.
pub(crate) fn example_image() -> Arguments {
    Arguments {
        reference: Some("localhost/tenantatlas-example-sqlite:1".to_owned()),
        example: Some(Example::Sqlite),
        ..Arguments::default()
    }
}

/// Installs or upgrades the operator and waits until its replicas serve. Doing it again with the same image changes nothing.
pub(crate) fn install(mut helm: Command, reference: &str, pull_policy: &str, values: &[&str]) -> Result<()> {
    let (repository, tag) = reference.rsplit_once(':').with_context(|| format!("the image {reference} has no tag"))?;
    helm.args(["upgrade", "--install", RELEASE])
        .arg(checkout()?.join("charts/tenantatlas"))
        .args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"])
        .args(["--set-string", &format!("image.repository={repository}")])
        .args(["--set-string", &format!("image.tag={tag}")])
        .args(["--set-string", &format!("image.pullPolicy={pull_policy}")]);
    for value in values {
        helm.args(["--set", value]);
    }
    shell::run(&mut helm).context("the chart does not install")
}
