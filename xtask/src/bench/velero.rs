//! The same namespace through Velero and through TenantAtlas, on a cluster where somebody has set both up.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::Args;

use crate::shell::{self, say};
use crate::tools;

/// What only the comparison with Velero takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Only for `velero`")]
#[group(id = "beside_velero")]
pub(crate) struct Arguments {
    /// Velero's command line program, of the version that runs in the cluster
    #[arg(long, value_name = "FILE")]
    velero: Option<PathBuf>,
    /// A cluster with both; Velero's default `BackupStorageLocation` is the object store
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The tenant to back up
    #[arg(long)]
    namespace: Option<String>,
    /// Its `BackupRepository`, on the same object store to be fair
    #[arg(long)]
    repository: Option<String>,
}

pub(crate) fn run(arguments: &Arguments, repetitions: usize) -> Result<()> {
    let (Some(velero), Some(kubeconfig), Some(namespace), Some(repository)) =
        (&arguments.velero, &arguments.kubeconfig, &arguments.namespace, &arguments.repository)
    else {
        bail!(
            "the comparison needs --velero (its program), --kubeconfig (a cluster with Velero, its object store and TenantAtlas), --namespace (a tenant) \
             and --repository (its BackupRepository); nothing was done"
        );
    };
    let with = |program: PathBuf| {
        let mut command = shell::command(program);
        command.env("KUBECONFIG", kubeconfig);
        command
    };
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for number in 0..repetitions.max(1) {
        let name = format!("bench-{}-{number}", std::process::id());
        let backup =
            ["backup", "create", &name, "--include-namespaces", namespace, "--snapshot-volumes=false", "--wait"];
        theirs.push(seconds(with(velero.clone()).args(backup))?);
        let manifest = format!(
            "{{apiVersion: tenantatlas.io/v1alpha1, kind: OperationRun, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{type: backup.capture, inputs: {{repository: {repository}}}}}}}"
        );
        let begun = Instant::now();
        shell::feed(with(tools::kubectl()?).args(["create", "--filename", "-"]), manifest.as_bytes())?;
        let run = format!("operationruns.tenantatlas.io/{name}");
        let wait = ["wait", "--for=condition=Complete", &run, "--namespace", namespace, "--timeout=2h"];
        shell::run(with(tools::kubectl()?).args(wait))?;
        ours.push(begun.elapsed().as_secs_f64());
        say(format!("   {}: Velero {:.1} s, TenantAtlas {:.1} s", number + 1, theirs[number], ours[number]));
        // Ours go with the tenant's history; theirs would stay in the object store.
        shell::run(with(velero.clone()).args(["backup", "delete", &name, "--confirm"]))?;
    }
    say(format!(
        "   median: Velero {:.1} s, TenantAtlas {:.1} s (a Job's start included)",
        median(theirs),
        median(ours)
    ));
    Ok(())
}

fn seconds(command: &mut Command) -> Result<f64> {
    let begun = Instant::now();
    shell::run(command)?;
    Ok(begun.elapsed().as_secs_f64())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}
