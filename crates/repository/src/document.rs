//! Documents of runs: data that a run reports later, and that does not fit into an object of the
//! API server.
//!
//! A document is stored at `tenantatlas/documents/<uid of the run>.<name>`: the length of its
//! content in four bytes, then the content, compressed and sealed like a blob. A document is not a
//! snapshot: the stock `restic` does not see it, so it is never restored by mistake. Maintenance
//! deletes it once its run is gone.

use std::collections::BTreeSet;

use rustic_core::repofile::MasterKey;

use super::engine::damaged;
use super::error::{Error, Result};
use super::permit::WriterPermit;
use super::seal::{Opener, Sealer};
use super::store::BlockingStore;

const DIRECTORY: &str = "tenantatlas/documents";

/// Maximum size of a document's content, in bytes. A repository is untrusted.
const MAX_CONTENT: usize = 16 * 1024 * 1024;

/// Compression level; documents are text.
const LEVEL: i32 = 3;

/// Writes a document, replacing one of the same name.
pub(super) fn put(store: &BlockingStore, key: &MasterKey, run_uid: &str, name: &str, content: &[u8]) -> Result<()> {
    let path = path(run_uid, name)?;
    let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= MAX_CONTENT);
    let length = length.ok_or_else(|| Error::internal("storing a document", "it is too large".to_owned()))?;
    let mut sealed = length.to_le_bytes().to_vec();
    Sealer::new(key, Some(LEVEL))?.blob(content, &mut sealed)?;
    store.put(&path, sealed.into())
}

/// Reads a document, if it exists.
pub(super) fn find(store: &BlockingStore, key: &MasterKey, run_uid: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let path = path(run_uid, name)?;
    let unreadable = || damaged(store, format!("the document `{path}` is not what was stored"));
    let Some(stored) = store.find(&path, MAX_CONTENT as u64)? else { return Ok(None) };
    let (length, sealed) = stored.split_first_chunk().ok_or_else(unreadable)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_CONTENT {
        return Err(unreadable());
    }
    Opener::new(key)?.blob(sealed, Some(length)).map(Some).map_err(|_| unreadable())
}

/// Deletes the documents of all runs except these. Returns how many were deleted.
pub(super) fn forget(store: &BlockingStore, runs: &BTreeSet<String>, permit: &WriterPermit) -> Result<u64> {
    let store = store.guarded(permit);
    let mut removed = 0;
    for (file, _) in store.list(DIRECTORY)? {
        let is_of_a_run = file.split_once('.').is_some_and(|(run, _)| runs.contains(run));
        if !is_of_a_run {
            store.delete(&format!("{DIRECTORY}/{file}"))?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn path(run_uid: &str, name: &str) -> Result<String> {
    let is_safe =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_safe(run_uid) && is_safe(name) {
        Ok(format!("{DIRECTORY}/{run_uid}.{name}"))
    } else {
        Err(Error::internal(
            "naming a document",
            "a run's uid and a document's name hold letters, digits and `-`".to_owned(),
        ))
    }
}
