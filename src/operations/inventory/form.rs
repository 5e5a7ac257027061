//! What an inventory stores of the objects that a capture lists: records, in chunks.

use super::layout;
use crate::{
    api::item::GroupKind,
    items::{
        inventory::{Chunker, Collection, FORM, Record, chunk_to_bytes},
        semantic::{DigestKey, Status},
        served::ServedKind,
    },
    operations::capture::{
        form::Form,
        omission::{Note, completeness},
    },
    repository::{Entry, Error, ItemPath},
};
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// The records of an inventory. In memory is one chunk.
pub struct Records {
    key: DigestKey,
    /// Kinds whose status is a field like others.
    without_status: BTreeSet<GroupKind>,
    chunker: Chunker,
    /// What there is of the kind so far.
    items: u64,
    chunks: u64,
}

impl Records {
    /// With the key of the repository's digests.
    #[must_use]
    pub fn new(key: DigestKey, without_status: BTreeSet<GroupKind>) -> Self {
        Self { key, without_status, chunker: Chunker::default(), items: 0, chunks: 0 }
    }

    fn status(&self, kind: &ServedKind) -> Status {
        if self.without_status.contains(&kind.group_kind()) { Status::Data } else { Status::Observed }
    }

    fn chunk(&mut self, kind: &ServedKind, chunk: &[Record]) -> Result<Entry, Error> {
        let path = layout::chunk(kind, self.chunks)?;
        self.chunks += 1;
        Ok(entry(path, chunk_to_bytes(chunk)))
    }
}

impl Form for Records {
    fn suffix(&self) -> &'static str {
        layout::SUFFIX
    }

    fn take(&mut self, kind: &ServedKind, _: &str, object: Map<String, Value>) -> Result<Option<Entry>, Error> {
        let record = Record::of(&self.key, object, &kind.api_version(), &kind.kind, self.status(kind));
        self.items += 1;
        self.chunker.push(record).map(|chunk| self.chunk(kind, &chunk)).transpose()
    }

    fn end(&mut self, kind: &ServedKind, note: &Note) -> Result<Vec<Entry>, Error> {
        let mut entries = Vec::new();
        if let Some(last) = self.chunker.finish() {
            entries.push(self.chunk(kind, &last)?);
        }
        let (completeness, reason) = completeness(note);
        let collection = Collection {
            completeness,
            reason,
            form: FORM,
            status_counts: self.status(kind) == Status::Data,
            items: std::mem::take(&mut self.items),
            chunks: std::mem::take(&mut self.chunks),
        };
        entries.push(entry(layout::collection(kind)?, collection.to_bytes()));
        Ok(entries)
    }
}

/// The time is part of the snapshot's tree, so it is the same in every inventory.
fn entry(path: ItemPath, content: Vec<u8>) -> Entry {
    Entry { path, content: content.into(), mtime: Timestamp::UNIX_EPOCH }
}
