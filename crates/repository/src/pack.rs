//! Packs: many sealed blobs of one kind in one object of the store, and the index with the location
//! of each blob.
//!
//! Order matters: a pack is stored before an index names it, and all indexes are stored before a
//! snapshot. A crash in between leaves content that nothing relies on.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use jiff::Timestamp;
use rustic_core::repofile::BlobType;
use rustic_core::{FileType, Id};
use serde::Serialize;

use super::backend::file_name;
use super::error::{Error, Result};
use super::format::{PACK_SIZE, digest, id_of};
use super::seal::{Sealer, Written};
use super::store::BlockingStore;
use super::stored::Stored;

/// Number of blobs after which an index file is stored. A fifth of the engine's, because a file is
/// built, compressed and opened again in memory.
const INDEXED_BLOBS: usize = 10_000;

/// What a pack is allocated with beyond [`PACK_SIZE`], for the blob that fills it and the header. A
/// buffer that grows would be in memory twice while it is moved.
const PACK_RESERVE: usize = 512 * 1024;

/// What a capture added to the repository in one kind of blobs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Added {
    pub(super) blobs: u64,
    /// Bytes before compression.
    pub(super) bytes: u64,
    /// Bytes as stored, without the headers of packs.
    pub(super) packed: u64,
}

/// A full pack without its header.
pub(super) struct Pack {
    content: Vec<u8>,
    blobs: Vec<IndexedBlob>,
}

/// Location of a blob.
#[derive(Serialize)]
struct IndexedBlob {
    #[serde(serialize_with = "hex::serde::serialize")]
    id: [u8; 32],
    #[serde(rename = "type")]
    kind: BlobType,
    offset: u32,
    length: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

/// An index file, with the fields that other programs need.
#[derive(Serialize, Default)]
struct Index {
    packs: Vec<IndexedPack>,
}

#[derive(Serialize)]
struct IndexedPack {
    id: Id,
    blobs: Vec<IndexedBlob>,
    time: Timestamp,
    size: usize,
}

/// Collects new blobs of one kind, and hands on packs as they fill up.
pub(super) struct Packer<'a> {
    kind: BlobType,
    stored: &'a Stored,
    new: HashSet<Id>,
    pack: Pack,
    full: SyncSender<Pack>,
    added: Added,
}

impl<'a> Packer<'a> {
    pub(super) fn new(kind: BlobType, stored: &'a Stored, full: SyncSender<Pack>) -> Self {
        Self { kind, stored, new: HashSet::new(), pack: Pack::empty(), full, added: Added::default() }
    }

    /// Makes sure that content is stored, once the pack it is in is.
    pub(super) fn add(&mut self, content: &[u8], sealer: &mut Sealer) -> Result<Id> {
        let digest = digest(content);
        self.add_new(digest, content.len(), |pack| sealer.blob(content, pack))
    }

    /// The same for content that was written piece by piece.
    pub(super) fn add_written(&mut self, written: Written, sealer: &mut Sealer) -> Result<Id> {
        self.add_new(written.digest, written.length, |pack| sealer.written(written, pack))
    }

    /// Seals content of this digest and length at the end of the pack, if it is not stored yet.
    fn add_new(
        &mut self,
        digest: [u8; 32],
        length: usize,
        seal: impl FnOnce(&mut Vec<u8>) -> Result<Option<u32>>,
    ) -> Result<Id> {
        let id = Id::new(digest);
        if self.stored.has(self.kind, &id) || !self.new.insert(id) {
            return Ok(id);
        }
        let offset = self.pack.content.len();
        if offset == 0 {
            self.pack.content.reserve(usize::try_from(PACK_SIZE).unwrap_or_default() + PACK_RESERVE);
        }
        let uncompressed_length = seal(&mut self.pack.content)?;
        let sealed = self.pack.content.len() - offset;
        let size = |size: usize| u32::try_from(size).map_err(|error| Error::internal("packing", error.to_string()));
        let (offset, sealed) = (size(offset)?, size(sealed)?);
        self.pack.blobs.push(IndexedBlob { id: digest, kind: self.kind, offset, length: sealed, uncompressed_length });
        self.added.blobs += 1;
        self.added.bytes += length as u64;
        self.added.packed += u64::from(sealed);
        if self.pack.content.len() as u64 >= PACK_SIZE {
            self.hand_on()?;
        }
        Ok(id)
    }

    /// Hands on the last pack, if it contains anything.
    pub(super) fn finish(mut self) -> Result<Added> {
        if !self.pack.blobs.is_empty() {
            self.hand_on()?;
        }
        Ok(self.added)
    }

    fn hand_on(&mut self) -> Result<()> {
        let pack = std::mem::replace(&mut self.pack, Pack::empty());
        // The thread that stores packs has ended, and reports why.
        self.full.send(pack).map_err(|_| Error::internal("packing", "packs are no longer stored".to_owned()))
    }
}

impl Pack {
    fn empty() -> Self {
        Self { content: Vec::new(), blobs: Vec::new() }
    }

    /// Adds the header, from which a repository is rebuilt if its index is lost.
    fn seal(&mut self, sealer: &mut Sealer) -> Result<()> {
        let mut header = Vec::with_capacity(self.blobs.len() * 41);
        for blob in &self.blobs {
            let kind = match blob.kind {
                BlobType::Data => 0_u8,
                BlobType::Tree => 1,
            };
            header.push(kind + if blob.uncompressed_length.is_some() { 2 } else { 0 });
            header.extend_from_slice(&blob.length.to_le_bytes());
            if let Some(length) = blob.uncompressed_length {
                header.extend_from_slice(&length.to_le_bytes());
            }
            header.extend_from_slice(&blob.id);
        }
        let before = self.content.len();
        sealer.uncompressed(&header, &mut self.content)?;
        let length = u32::try_from(self.content.len() - before);
        let length = length.map_err(|error| Error::internal("packing", error.to_string()))?;
        self.content.extend_from_slice(&length.to_le_bytes());
        Ok(())
    }
}

/// Stores packs as they arrive, and the indexes that name them, until all senders are dropped. Runs
/// in parallel with the thread that fills the packs, so that neither waits for the other.
pub(super) fn store_packs(
    store: &BlockingStore,
    mut sealer: Sealer,
    full: Receiver<Pack>,
    time: Timestamp,
    failed: &AtomicBool,
) -> Result<()> {
    let stored = store_all(store, &mut sealer, full, time);
    failed.store(stored.is_err(), Ordering::Release);
    stored
}

fn store_all(store: &BlockingStore, sealer: &mut Sealer, full: Receiver<Pack>, time: Timestamp) -> Result<()> {
    let mut index = Index::default();
    let mut indexed = 0;
    for mut pack in full {
        pack.seal(sealer)?;
        let (id, size) = (id_of(&pack.content), pack.content.len());
        store.put(&file_name(FileType::Pack, &id), pack.content.into())?;
        indexed += pack.blobs.len();
        index.packs.push(IndexedPack { id, blobs: pack.blobs, time, size });
        if indexed >= INDEXED_BLOBS {
            store_file(store, sealer, FileType::Index, &std::mem::take(&mut index))?;
            indexed = 0;
        }
    }
    if index.packs.is_empty() { Ok(()) } else { store_file(store, sealer, FileType::Index, &index).map(drop) }
}

/// Stores a file of the repository itself, named by the hash of the stored bytes.
pub(super) fn store_file(
    store: &BlockingStore,
    sealer: &mut Sealer,
    kind: FileType,
    file: &impl Serialize,
) -> Result<Id, Error> {
    let json = serde_json::to_vec(file).map_err(|error| Error::internal("writing JSON", error.to_string()))?;
    let sealed = sealer.file(&json)?;
    let id = id_of(&sealed);
    store.put(&file_name(kind, &id), sealed.into())?;
    Ok(id)
}
