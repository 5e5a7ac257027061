//! What is known of a snapshot without reading its trees.

use jiff::Timestamp;
use rustic_core::repofile::SnapshotFile;

/// Prefix of the tag that names a snapshot's run.
pub(super) const RUN_TAG: &str = "run=";

/// Prefix of the tag that holds the end of the audit chain.
pub(super) const AUDIT_TAG: &str = "audit=";

/// A snapshot in a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// ID of the snapshot: 64 hexadecimal digits. `restic` accepts any unique prefix.
    pub id: String,
    /// ID of the root tree. Two snapshots have the same one only if all their content is equal.
    pub tree: String,
    /// When the snapshot was taken.
    pub time: Timestamp,
    /// The run that took the snapshot; `None` for a snapshot of another program.
    pub run_uid: Option<String>,
    /// The end of the audit chain when the snapshot was taken, as passed to the capture.
    pub audit: Option<String>,
    /// The recorded host.
    pub host: String,
    /// All other tags.
    pub tags: Vec<String>,
    /// Number of items (0 if another program recorded no summary).
    pub items: u64,
    /// Size of all items in bytes.
    pub bytes: u64,
    /// What the snapshot added to the repository, in bytes as stored.
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
