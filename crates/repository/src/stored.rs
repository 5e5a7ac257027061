//! What a repository holds already, so that a capture stores only the rest.

use std::collections::HashMap;

use rustic_core::repofile::BlobType;
use rustic_core::{FileType, Id, Open, OpenStatus, ReadBackend as _, Repository, RusticResult};

use super::backend::Backend;
use super::engine::Opened;
use super::error::Result;
use super::index::each_indexed;

/// Content that is indexed *and* in a pack that is there in full. What a killed writer left behind without an index
/// does not count: nobody who reads would find it; nor does what is in a pack that was lost.
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
    /// What a capture may rely on: nothing that is marked to be deleted.
    pub(super) fn load(opened: &Opened<OpenStatus>) -> Result<Self> {
        Self::find(&opened.repository, &opened.backend, false).map_err(|error| opened.explain(&error))
    }

    /// What can be read, of a repository whose index is trusted ([`Backend::trust_index`]): also what is marked, as long as it is there.
    pub(super) fn readable<S: Open>(repository: &Repository<S>, backend: &Backend) -> RusticResult<Self> {
        Self::find(repository, backend, true)
    }

    /// Reads all of the index, then lists the packs: in the other order, a pack that another writer finishes in between
    /// would count as lost.
    fn find<S: Open>(repository: &Repository<S>, backend: &Backend, with_marked: bool) -> RusticResult<Self> {
        let mut indexed: HashMap<Id, Pack> = HashMap::new();
        let marked = each_indexed(repository, |pack| {
            let blobs = pack.blobs.iter().map(|blob| *blob.id).collect();
            indexed.insert(*pack.id, Pack { size: pack.pack_size(), kind: pack.blob_type(), blobs });
        })?;
        let mut stored = Self { data: Vec::new(), trees: Vec::new(), lost_packs: 0 };
        for (id, size) in backend.list_with_size(FileType::Pack)? {
            match indexed.remove(&id) {
                Some(_) if !with_marked && marked.contains(&id) => {}
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

    /// Whether a blob is there.
    pub(super) fn has(&self, kind: BlobType, id: &Id) -> bool {
        match kind {
            BlobType::Data => &self.data,
            BlobType::Tree => &self.trees,
        }
        .binary_search(id)
        .is_ok()
    }
}
