//! Programs of this repository that a command starts by itself: where cargo has put them.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::cluster::checkout;
use crate::image::Build;
use crate::shell;

/// Builds one target, such as `["--bench", "measure"]`, and returns the program.
pub(crate) fn build(target: &[&str; 2], build: Build) -> Result<PathBuf> {
    let name = target[1];
    let mut cargo = shell::command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(checkout()?).args(build.switches()).arg("build").args(target);
    cargo.args(["--locked", "--message-format=json-render-diagnostics"]);
    if build == Build::Release {
        cargo.arg("--release");
    }
    let output = cargo.stderr(Stdio::inherit()).output().context("cannot start cargo: is it on the PATH?")?;
    if !output.status.success() {
        bail!("the build of {name} failed");
    }
    let executable = String::from_utf8(output.stdout)?
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    executable.context("cargo does not say where the program is")
}
