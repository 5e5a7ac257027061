//! The operator's one binary: parse, call the library.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    tenantatlas::command::run(tenantatlas::command::Arguments::parse())
}
