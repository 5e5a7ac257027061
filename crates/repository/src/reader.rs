//! An open snapshot: reads any number of its items, any number of times, without opening anything
//! again.

use std::sync::{Arc, Mutex, PoisonError};

use rustic_core::IndexedFullStatus;
use rustic_core::repofile::SnapshotFile;

use super::directory::{self, Directory, File};
use super::engine::Opened;
use super::error::{Error, Result};
use super::path::ItemPath;
use super::read::{self, Item, Reading};
use super::snapshot::Snapshot;

/// An open snapshot. Clones share it.
#[derive(Clone)]
pub struct SnapshotReader {
    inner: Arc<Inner>,
}

struct Inner {
    /// Shared by all snapshots that were opened together.
    opened: Arc<Opened<IndexedFullStatus>>,
    snapshot: SnapshotFile,
    reading: Mutex<Reading>,
}

impl SnapshotReader {
    pub(super) fn new(opened: Arc<Opened<IndexedFullStatus>>, snapshot: SnapshotFile) -> Result<Self> {
        let reading = Reading::of(&opened)?.into();
        Ok(Self { inner: Arc::new(Inner { opened, snapshot, reading }) })
    }

    /// What is known of the snapshot without reading its trees.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::from_file(&self.inner.snapshot)
    }

    /// Lists all items, in order.
    pub async fn items(&self) -> Result<Vec<Item>> {
        let inner = self.inner.clone();
        super::blocking("listing a snapshot", move || read::list(&inner.opened, &inner.snapshot)).await
    }

    /// Lists the directories with items, in order.
    pub async fn directories(&self) -> Result<Vec<Directory>> {
        let inner = self.inner.clone();
        super::blocking("listing a snapshot", move || {
            let mut reading = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
            directory::directories(&inner.opened, reading.opener(), inner.snapshot.tree)
        })
        .await
    }

    /// Lists the files of a directory, in order.
    pub async fn files(&self, directory: &Directory) -> Result<Vec<File>> {
        let (inner, directory) = (self.inner.clone(), directory.clone());
        super::blocking("listing a directory", move || {
            let mut reading = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
            directory::files(&inner.opened, reading.opener(), &directory)
        })
        .await
    }

    /// Returns the content of items, in the requested order. A damaged item fails alone. Reading is
    /// fastest if the items of a directory are adjacent.
    pub async fn read(&self, paths: Vec<ItemPath>) -> Result<Vec<Result<Vec<u8>>>> {
        let inner = self.inner.clone();
        super::blocking("reading a snapshot", move || {
            let mut reading = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(paths.iter().map(|path| read::content(&inner.opened, &inner.snapshot, path, &mut reading)).collect())
        })
        .await
    }

    /// Returns the content of files, in the requested order. A damaged one fails alone. No directory is
    /// read for it.
    pub async fn contents(&self, files: Vec<File>) -> Result<Vec<Result<Vec<u8>>>> {
        let inner = self.inner.clone();
        super::blocking("reading a snapshot", move || {
            let mut reading = inner.reading.lock().unwrap_or_else(PoisonError::into_inner);
            let content =
                |file: &File| read::of_blobs(&inner.opened, reading.opener(), &file.path, file.content.blobs());
            Ok(files.iter().map(content).collect())
        })
        .await
    }

    /// The first fault of the store since the snapshot was opened, if any. After a fault, an item
    /// that could not be read is not necessarily damaged.
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
