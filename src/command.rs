//! The command line of the operator's binary.

use crate::{
    api::operations::BUILT_IN,
    cluster::client::NoFaults,
    controller, operations, telemetry,
    worker::{self, Task},
};
use clap::{ArgMatches, Args, FromArgMatches, Parser, Subcommand, error::ErrorKind};
use std::{fmt, future::Future, path::PathBuf, process::ExitCode, sync::Arc};

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
    Worker(Worker),
}

/// The commands of the worker: one for each operation of the table, and the fence.
struct Worker {
    task: Task,
    place: Place,
}

/// Location of the pod's mounts.
#[derive(Debug, Args)]
struct Place {
    /// Directory that contains the mounted paths, to try a worker outside a pod.
    #[arg(long, default_value = "/", hide = true)]
    root: PathBuf,
}

/// Name of the command that is only the fence.
const FENCE: &str = "fence";

impl Subcommand for Worker {
    fn augment_subcommands(command: clap::Command) -> clap::Command {
        let operations = operations::TABLE.iter().map(|operation| (operation.command(), operation.about()));
        let fence = (FENCE, "Exit 0 if this Job is still to execute the run, 49 if not");
        let commands = operations.chain([fence]);
        command.subcommands(commands.map(|(name, about)| Place::augment_args(clap::Command::new(name).about(about))))
    }

    fn augment_subcommands_for_update(command: clap::Command) -> clap::Command {
        Self::augment_subcommands(command)
    }

    fn has_subcommand(name: &str) -> bool {
        task(name).is_some()
    }
}

impl FromArgMatches for Worker {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (name, matches) = matches.subcommand().ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
        let task = task(name).ok_or_else(|| clap::Error::new(ErrorKind::InvalidSubcommand))?;
        Ok(Self { task, place: Place::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Worker").field("place", &self.place).finish_non_exhaustive()
    }
}

fn task(command: &str) -> Option<Task> {
    if command == FENCE {
        return Some(Task::Fence);
    }
    operations::of_command(command).map(|operation| Task::Work(operation))
}

/// Runs a command and returns the exit code of the process.
#[must_use]
pub fn run(arguments: Arguments) -> ExitCode {
    match arguments.command {
        Command::Controller(options) => {
            telemetry::init_logs();
            block_on(controller::run(*options, Arc::new(NoFaults)))
        }
        Command::Worker(Worker { task, place }) => worker::run(task, &place.root),
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
