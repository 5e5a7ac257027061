//! The command line of the operator's binary.

use clap::{Parser, Subcommand};

/// TenantAtlas: every long-running operation on a tenant's namespace is one record, one Job, one outcome.
#[derive(Debug, Parser)]
#[command(name = "tenantatlas", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the custom resource definitions as JSON, one array.
    Crds,
    /// Execute a run; started by the Jobs that the controller makes.
    #[command(subcommand)]
    Worker(crate::worker::Command),
}

/// Runs what was asked for; the exit code is the process's.
#[must_use]
pub fn run(arguments: &Arguments) -> std::process::ExitCode {
    match &arguments.command {
        Command::Worker(command) => crate::worker::run(command),
        Command::Crds => {
            let definitions = crate::api::schema::custom_resource_definitions();
            println!("{}", serde_json::to_string_pretty(&definitions).unwrap_or_default());
            std::process::ExitCode::SUCCESS
        }
    }
}
