//! The stock client of the repository's format: the bare side of what reads a repository alone.

use crate::Result;
use crate::worker::PASSWORD;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Runs it on a repository, without a cache. What it prints, and the seconds that it takes.
pub fn restic(repository: &Path, arguments: &[&str]) -> Result<(String, f64)> {
    let begun = Instant::now();
    let output = Command::new("restic")
        .args(arguments)
        .args(["--no-cache", "--no-lock", "--repo"])
        .arg(repository)
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()?;
    if !output.status.success() {
        return Err(format!("restic: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    Ok((String::from_utf8(output.stdout)?, begun.elapsed().as_secs_f64()))
}

/// The same, and the seconds beyond what it takes to start, open the repository by password and read its configuration.
pub fn beyond_opening(repository: &Path, arguments: &[&str]) -> Result<(String, f64)> {
    let (_, opening) = restic(repository, &["cat", "config"])?;
    let (printed, seconds) = restic(repository, arguments)?;
    Ok((printed, seconds - opening))
}
