//! What is known of a snapshot without reading its trees.

use jiff::Timestamp;
use rustic_core::repofile::SnapshotFile;

/// Begins the tag that names a snapshot's run.
pub(super) const RUN_TAG: &str = "run=";

/// Begins the tag that holds the end of the audit chain.
pub(super) const AUDIT_TAG: &str = "audit=";

/// A snapshot in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id: 64 hexadecimal digits; any unique beginning works with `restic`.
    pub id: String,
    /// The id of its root tree. Equal for two snapshots only if everything in them is equal.
    pub tree: String,
    /// When it was taken.
    pub time: Timestamp,
    /// The run that took it; none for a snapshot of another program.
    pub run_uid: Option<String>,
    /// The end of the audit chain when it was taken, as it was given.
    pub audit: Option<String>,
    /// The host it records.
    pub host: String,
    /// Its other tags.
    pub tags: Vec<String>,
    /// How many items it holds (0 if another program recorded no summary).
    pub items: u64,
    /// The sum of their sizes in bytes.
    pub bytes: u64,
    /// What it added to the repository, in bytes as stored.
    pub added_bytes: u64,
}

impl Snapshot {
    pub(super) fn from_file(file: &SnapshotFile) -> Self {
        let all: Vec<&str> = file.tags.iter().map(String::as_str).collect();
        let summary = file.summary.as_ref();
        let tagged = |begin: &str| all.iter().find_map(|tag| tag.strip_prefix(begin)).map(str::to_owned);
        let is_other = |tag: &&&str| ![RUN_TAG, AUDIT_TAG].iter().any(|begin| tag.starts_with(begin));
        Self {
            id: file.id.to_hex().as_str().to_owned(),
            tree: file.tree.to_hex().as_str().to_owned(),
            time: file.time.timestamp(),
            run_uid: tagged(RUN_TAG),
            audit: tagged(AUDIT_TAG),
            host: file.hostname.clone(),
            tags: all.iter().filter(is_other).map(|tag| (*tag).to_owned()).collect(),
            items: summary.map_or(0, |summary| summary.total_files_processed),
            bytes: summary.map_or(0, |summary| summary.total_bytes_processed),
            added_bytes: summary.map_or(0, |summary| summary.data_added_packed),
        }
    }
}
