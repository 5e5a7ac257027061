//! The operator on a cluster: its chart, installed by Helm with the image that was just built.

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cluster::checkout;
use crate::image::oci::Archive;
use crate::shell;

/// Where the operator runs.
pub(crate) const NAMESPACE: &str = "tenantatlas-system";

/// Helm's name of the installation.
const RELEASE: &str = "tenantatlas";

/// Installs or upgrades the operator and waits until its replicas serve. Doing it again with the same image changes nothing.
pub(crate) fn install(mut helm: Command, image: &Archive, values: &[&str]) -> Result<()> {
    let (repository, tag) =
        image.reference.rsplit_once(':').with_context(|| format!("the image {} has no tag", image.reference))?;
    helm.args(["upgrade", "--install", RELEASE])
        .arg(checkout()?.join("charts/tenantatlas"))
        .args(["--namespace", NAMESPACE, "--create-namespace", "--wait", "--timeout", "3m"])
        .args(["--set-string", &format!("image.repository={repository}")])
        .args(["--set-string", &format!("image.tag={tag}")])
        .args(["--set-string", "image.pullPolicy=Never"]);
    for value in values {
        helm.args(["--set", value]);
    }
    shell::run(&mut helm).context("the chart does not install")
}
