//! The command line of the operator's binary.

use crate::{api::operations::BUILT_IN, cluster::client::NoFaults, controller, telemetry};
use clap::{Parser, Subcommand};
use std::{future::Future, process::ExitCode, sync::Arc};

/// TenantAtlas: every long-running operation on a tenant's namespace is one record, one Job, one
/// outcome.
#[derive(Debug, Parser)]
#[command(name = "tenantatlas", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the operator.
    Controller(Box<controller::Options>),
    /// Print the custom resource definitions as one JSON array.
    Crds,
    /// Print the built-in operations as JSON: the schema of the inputs of each, by name.
    Operations,
    /// Execute a run; started by the Jobs that the controller creates.
    #[command(subcommand)]
    Worker(crate::worker::Command),
}

/// Runs a command and returns the exit code of the process.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Controller(options) => {
            telemetry::init_logs();
            block_on(controller::run(*options, Arc::new(NoFaults)))
        }
        Command::Worker(command) => crate::worker::run(&command),
        Command::Crds => {
            let definitions = crate::api::schema::custom_resource_definitions();
            println!("{}", serde_json::to_string_pretty(&definitions).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Command::Operations => {
            let schemas = BUILT_IN.map(|operation| (operation.name.to_owned(), operation.inputs_schema()));
            let schemas = serde_json::Map::from_iter(schemas);
            println!("{}", serde_json::to_string_pretty(&schemas).unwrap_or_default());
            ExitCode::SUCCESS
        }
    }
}

fn block_on(future: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(future);
            // Remaining blocking work must not keep the process alive.
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            eprintln!("tenantatlas: no runtime: {error}");
            ExitCode::FAILURE
        }
    }
}
