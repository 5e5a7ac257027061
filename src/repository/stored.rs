//! What a repository holds already, so that a capture stores only the rest.

use std::collections::{HashMap, HashSet};

use rustic_core::repofile::{BlobType, IndexFile};
use rustic_core::{FileType, Id, OpenStatus, ReadBackend as _};

use super::engine::Opened;
use super::error::Result;

/// Content that is indexed *and* in a pack that is there in full. What a killed writer left behind without an index
/// does not count: nobody who reads would find it; nor does what is in a pack that was lost, or that is marked to be deleted.
pub(super) struct Stored {
    /// Sorted.
    data: Vec<Id>,
    /// Sorted.
    trees: Vec<Id>,
    /// How many packs the index names that are not there, or not in full.
    pub(super) lost_packs: usize,
}

struct Pack {
    size: u32,
    kind: BlobType,
    blobs: Vec<Id>,
}

impl Stored {
    /// Reads all of the index, then lists the packs: in the other order, a pack that another writer finishes in between
    /// would count as lost.
    pub(super) fn load(opened: &Opened<OpenStatus>) -> Result<Self> {
        let mut indexed: HashMap<Id, Pack> = HashMap::new();
        // A pruning that was killed leaves packs both indexed, by files that it would have removed, and marked.
        let mut marked: HashSet<Id> = HashSet::new();
        for index in opened.repository.stream_files::<IndexFile>().map_err(|error| opened.explain(&error))? {
            let index = index.map_err(|error| opened.explain(&error))?.1;
            marked.extend(index.packs_to_delete.iter().map(|pack| *pack.id));
            for pack in index.packs {
                let blobs = pack.blobs.iter().map(|blob| *blob.id).collect();
                indexed.insert(*pack.id, Pack { size: pack.pack_size(), kind: pack.blob_type(), blobs });
            }
        }
        let mut stored = Self { data: Vec::new(), trees: Vec::new(), lost_packs: 0 };
        for (id, size) in opened.backend.list_with_size(FileType::Pack).map_err(|error| opened.explain(&error))? {
            match indexed.remove(&id) {
                Some(_) if marked.contains(&id) => {}
                Some(pack) if pack.size == size => match pack.kind {
                    BlobType::Data => stored.data.extend(pack.blobs),
                    BlobType::Tree => stored.trees.extend(pack.blobs),
                },
                Some(_) => stored.lost_packs += 1,
                None => {}
            }
        }
        stored.lost_packs += indexed.len();
        stored.data.sort_unstable();
        stored.trees.sort_unstable();
        Ok(stored)
    }

    /// Whether a blob need not be stored.
    pub(super) fn has(&self, kind: BlobType, id: &Id) -> bool {
        match kind {
            BlobType::Data => &self.data,
            BlobType::Tree => &self.trees,
        }
        .binary_search(id)
        .is_ok()
    }
}
