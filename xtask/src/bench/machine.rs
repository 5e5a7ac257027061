//! The machine that is measured on: whether it is enough, what it is, and what else it does.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::cluster::checkout;
use crate::{shell, tools};

/// Memory that must be available: etcd, the API server's caches and the operator with the largest row.
const NEEDED_MIB: u64 = 6 * 1024;
const NEEDED_QUICK_MIB: u64 = 2 * 1024;

/// Fails where a measurement would end half-way.
pub(crate) fn check(quick: bool) -> Result<()> {
    let needed = if quick { NEEDED_QUICK_MIB } else { NEEDED_MIB };
    let available = memory("MemAvailable:")?;
    if available < needed {
        bail!(
            "{available} MiB of memory are available, and {needed} MiB are needed: end what uses it, or see that it works with --quick"
        );
    }
    Ok(())
}

/// In a few words, for the document.
pub(crate) fn describe() -> Result<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("a processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!(
        "{cores} × {model}, {} GiB, Linux {}, Kubernetes {} with everything on this one machine, etcd with fsync",
        memory("MemTotal:")? / 1024,
        kernel.trim(),
        tools::KUBERNETES
    ))
}

/// The load average of the last minute.
pub(crate) fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// The day, in UTC.
pub(crate) fn today() -> Result<String> {
    shell::output(shell::command("date").args(["-u", "+%Y-%m-%d"]))
}

/// The commit that is measured.
pub(crate) fn commit() -> Result<String> {
    let mut git = shell::command("git");
    let described =
        shell::output(git.current_dir(checkout()?).args(["describe", "--always", "--dirty", "--exclude=*"]));
    described.context("the commit that is measured is part of the result")
}

fn memory(field: &str) -> Result<u64> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let kibibytes = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    let kibibytes: u64 = kibibytes.context("/proc/meminfo is not as Linux writes it")?.trim().parse()?;
    Ok(kibibytes / 1024)
}
