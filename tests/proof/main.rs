//! The proof of the main job, on a real API server: a controller process dies at its i-th call, for every i and in every
//! way, and nothing is lost, done twice or stuck.
//!
//! This program is both sides. Started by `cargo xtask test --only proof` it supervises: it starts itself again as the
//! controller ([`process`]), tells that process where to fail, plays the users ([`scenario`]) and the work
//! ([`witness`]), and looks at what is left ([`trial`]). Nothing of the controller is switched: it is the library's, with
//! an observer of its calls, in the name of the operator's own account.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../e2e/support/mod.rs"]
#[allow(dead_code, unused_imports, clippy::unused_self, clippy::default_trait_access, clippy::format_collect)]
#[allow(clippy::map_unwrap_or, reason = "as in tests/e2e, whose fixtures these are")]
mod support;

mod bulk;
mod capture;
mod disturbance;
mod drift;
mod fault;
mod operator;
mod orders;
mod over_all;
mod process;
mod proxy;
mod scenario;
mod selection;
mod stand_in;
mod store;
mod trial;
mod witness;
mod worker;

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(stand_in::FOLDER).is_some() {
        return stand_in::main();
    }
    if std::env::var_os(process::MARK).is_some() {
        return process::main();
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(selection::prove())
}
