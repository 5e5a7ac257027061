//! A snapshot that is open: its items, as many and as often as wanted, without opening anything again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::IndexedFullStatus;
use rustic_core::repofile::SnapshotFile;

use super::engine::Opened;
use super::error::{Error, Result};
use super::path::ItemPath;
use super::read::{self, Directory, Item};

/// An open snapshot. Clones are the same one.
#[derive(Clone)]
pub struct SnapshotReader {
    inner: Arc<Inner>,
}

struct Inner {
    opened: Opened<IndexedFullStatus>,
    snapshot: SnapshotFile,
    reading: Mutex<Reading>,
}

/// The most bytes of content that are kept.
const KEPT: usize = 48 * 1024 * 1024;

/// What reading keeps: the directory that was read last, and content as far as there is room. Whoever restores walks through a
/// snapshot three times in the same order, so that what came first is kept, and nothing makes room for what comes later.
#[derive(Default)]
struct Reading {
    last: Directory,
    kept: HashMap<ItemPath, Vec<u8>>,
    bytes: usize,
}

impl Reading {
    fn content(&mut self, inner: &Inner, path: &ItemPath) -> Result<Vec<u8>> {
        if let Some(content) = self.kept.get(path) {
            return Ok(content.clone());
        }
        let content = read::content(&inner.opened, &inner.snapshot, path, &mut self.last)?;
        if self.bytes + content.len() <= KEPT {
            self.bytes += content.len();
            self.kept.insert(path.clone(), content.clone());
        }
        Ok(content)
    }
}

impl SnapshotReader {
    pub(super) fn new(opened: Opened<IndexedFullStatus>, snapshot: SnapshotFile) -> Self {
        Self { inner: Arc::new(Inner { opened, snapshot, reading: Mutex::default() }) }
    }

    /// All items, in order.
    pub async fn items(&self) -> Result<Vec<Item>> {
        let inner = self.inner.clone();
        super::blocking("listing a snapshot", move || read::list(&inner.opened, &inner.snapshot)).await
    }

    /// The content of items, in the order asked for. One that is damaged fails alone. Fastest where items of a directory
    /// stand together.
    pub async fn read(&self, paths: Vec<ItemPath>) -> Result<Vec<Result<Vec<u8>>>> {
        let inner = self.inner.clone();
        super::blocking("reading a snapshot", move || {
            let mut reading = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(paths.iter().map(|path| reading.content(&inner, path)).collect())
        })
        .await
    }

    /// The first fault of the store while this was read, if there was one. Not all that could not be read need be damaged then.
    #[must_use]
    pub fn fault(&self) -> Option<Error> {
        self.inner.opened.fault()
    }
}

impl std::fmt::Debug for SnapshotReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SnapshotReader").field(&self.inner.snapshot.id.to_hex().as_str()).finish()
    }
}
