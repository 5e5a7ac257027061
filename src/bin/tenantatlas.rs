//! The operator's only binary: it parses the command line and calls the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    tenantatlas::command::run(tenantatlas::command::Arguments::parse())
}
