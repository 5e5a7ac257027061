//! What an operation costs beside the bare operation on the same API server. `cargo xtask bench` makes the cluster,
//! installs the operator and calls this once for each row of its table.
//!
//! Requests are counted from the API server's audit log, processes from `/proc`; nothing is taken from the operator's own
//! word. Each measurement has its bare counterpart in the same run, in turns (A B A B …). The result is JSON on standard
//! output; what goes on is said on standard error.

mod api;
mod audit;
mod bed;
mod etcd;
mod process;
mod report;
mod restic;
mod rows;
mod stub;
mod worker;

use bed::Bed;
use clap::Parser;
use report::Report;
use std::error::Error;
use std::process::ExitCode;

/// A fault of a measurement: said, and nothing is reported.
type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// Measure one row. `cargo xtask bench` calls this; by itself it lacks the cluster.
#[derive(Debug, Parser)]
struct Arguments {
    /// The row
    row: rows::Row,
    /// How often each side is measured
    #[arg(long, default_value_t = 5)]
    repetitions: usize,
    /// Small sizes, to see that it works: the figures mean nothing
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // Measurements create what the cluster's end removes; an interruption needs no more than to end.
    let measured = tokio::select! {
        measured = measure(&arguments) => measured,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    match measured.and_then(|report| Ok(serde_json::to_string(&report)?)) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("   {:?}: {error}", arguments.row);
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<Report> {
    let bed = Bed::from_environment().await?;
    bed.probe().await?;
    let plan = rows::Plan { repetitions: arguments.repetitions.max(1), quick: arguments.quick };
    rows::measure(arguments.row, &bed, plan).await
}
