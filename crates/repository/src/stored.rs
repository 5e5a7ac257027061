//! What a repository already holds, so that a capture only stores the rest.

use std::collections::HashMap;

use rustic_core::repofile::BlobType;
use rustic_core::{FileType, Id, Open, OpenStatus, ReadBackend as _, Repository, RusticResult};

use super::backend::Backend;
use super::engine::Opened;
use super::error::Result;
use super::index::each_indexed;

/// Content that is indexed *and* in a pack that is complete in the store. A pack that a killed
/// writer left behind without an index does not count, because no reader would find it. Content of
/// a lost pack does not count either.
pub(super) struct Stored {
    /// IDs of data blobs, sorted.
    data: Vec<Id>,
    /// IDs of tree blobs, sorted.
    trees: Vec<Id>,
    /// Number of packs that the index names and that are missing or incomplete.
    pub(super) lost_packs: usize,
}

struct Pack {
    size: u32,
    kind: BlobType,
    blobs: Vec<Id>,
}

impl Stored {
    /// Content that a capture may rely on: nothing that is marked for deletion.
    pub(super) fn load(opened: &Opened<OpenStatus>) -> Result<Self> {
        Self::find(&opened.repository, &opened.backend, false).map_err(|error| opened.explain(&error))
    }

    /// Content that can be read, in a repository whose index is trusted ([`Backend::trust_index`]).
    /// Marked content is included as long as it exists.
    pub(super) fn readable<S: Open>(repository: &Repository<S>, backend: &Backend) -> RusticResult<Self> {
        Self::find(repository, backend, true)
    }

    /// Reads the whole index, then lists the packs. In the other order, a pack that another writer
    /// finishes in between would count as lost.
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

    /// Whether a blob is stored.
    pub(super) fn has(&self, kind: BlobType, id: &Id) -> bool {
        match kind {
            BlobType::Data => &self.data,
            BlobType::Tree => &self.trees,
        }
        .binary_search(id)
        .is_ok()
    }
}
