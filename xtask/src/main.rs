//! Developer commands: a real cluster, the image, the demo, every test, every measurement. Run as `cargo xtask COMMAND`.
//!
//! This package is independent of the library, so that it compiles in seconds on a machine that has built nothing yet.

mod bench;
mod chart;
mod cluster;
mod demo;
mod evidence;
mod generate;
mod image;
mod operator;
mod policies;
mod program;
mod seeded;
mod shell;
mod soak;
mod target;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", about = "Developer commands of TenantAtlas", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Cluster(cluster::Arguments),
    Image(image::Arguments),
    Demo(demo::Arguments),
    Test(test::Arguments),
    Bench(bench::Arguments),
    Soak(soak::Arguments),
    Generate(generate::Arguments),
    Chart(chart::Arguments),
    Seeded(seeded::Arguments),
    MutatePolicies(policies::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Cluster(arguments) => cluster::run(&arguments),
        Command::Image(arguments) => image::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Test(arguments) => test::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Soak(arguments) => soak::run(&arguments),
        Command::Generate(arguments) => generate::run(&arguments),
        Command::Chart(arguments) => chart::run(&arguments),
        Command::Seeded(arguments) => seeded::run(&arguments),
        Command::MutatePolicies(arguments) => policies::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
