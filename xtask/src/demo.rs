//! `cargo xtask demo`: from nothing to recorded operation runs, with one command.

use anyhow::{Result, bail};
use clap::Parser;

use crate::target::Target;
use crate::{image, shell};

/// Shows the main job on a cluster: two tenants, captures, and one thing that must be refused
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Use the cluster of this kubeconfig context instead of one made for the purpose
    #[arg(long)]
    context: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let target = Target::resolve(arguments.context.as_deref())?;
    target.ensure()?;
    let archive = image::build(&image::Build::default())?;
    target.load_image(&archive)?;
    shell::run(target.helm()?.arg("list"))?;
    bail!("the demo is not written yet")
}
