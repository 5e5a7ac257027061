//! A snapshot that is open: its items, as many and as often as wanted, without opening anything again.

use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::IndexedFullStatus;
use rustic_core::repofile::SnapshotFile;

use super::engine::Opened;
use super::error::{Error, Result};
use super::path::ItemPath;
use super::read::{self, Item, Reading};

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

impl SnapshotReader {
    pub(super) fn new(opened: Opened<IndexedFullStatus>, snapshot: SnapshotFile) -> Result<Self> {
        let reading = Reading::of(&opened)?.into();
        Ok(Self { inner: Arc::new(Inner { opened, snapshot, reading }) })
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
            Ok(paths.iter().map(|path| read::content(&inner.opened, &inner.snapshot, path, &mut reading)).collect())
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
