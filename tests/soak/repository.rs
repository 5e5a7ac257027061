//! What stock restic says of a tenant's repository.

use crate::Result;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tokio::process::Command;

/// The password of every repository.
pub const PASSWORD: &str = "correct horse battery staple";

/// A repository's files: where `config` lies, at most a few folders down.
pub fn find(folder: &Path, depth: usize) -> Option<PathBuf> {
    if folder.join("config").is_file() && folder.join("keys").is_dir() {
        return Some(folder.to_owned());
    }
    let entries = std::fs::read_dir(folder).ok().filter(|_| depth > 0)?;
    let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    folders.into_iter().find_map(|path| find(&path, depth - 1))
}

/// What restic prints; what it says where it fails.
pub async fn restic(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let folder = find(folder, 3).ok_or_else(|| format!("no repository below {}", folder.display()))?;
    let mut restic = Command::new("restic");
    restic.env("RESTIC_PASSWORD", PASSWORD).arg("--repo").arg(folder).args(["--no-cache", "--no-lock"]);
    let output = restic.args(arguments).output().await?;
    if !output.status.success() {
        let said =
            [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).trim().to_owned()).join("; ");
        return Err(format!("restic {}: {said}", arguments.join(" ")).into());
    }
    Ok(output.stdout)
}

/// The snapshots: their ids and tags.
pub async fn snapshots(folder: &Path) -> Result<Vec<(String, Vec<String>)>> {
    let listed: Vec<Value> = serde_json::from_slice(&restic(folder, &["snapshots", "--json"]).await?)?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let snapshot = |snapshot: &Value| {
        let tags = snapshot["tags"].as_array().into_iter().flatten().map(text).collect();
        (text(&snapshot["id"]), tags)
    };
    Ok(listed.iter().map(snapshot).collect())
}
