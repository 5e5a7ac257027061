//! The index files of a repository, as stored.

use std::collections::HashSet;

use rustic_core::repofile::{IndexFile, IndexPack};
use rustic_core::{Id, Open, Repository, RusticResult};

/// Visits all packs that the index names. Returns the packs that the index marks for deletion. A
/// killed prune leaves packs that are both: index files that it would have removed still name them.
pub(super) fn each_indexed<S: Open>(
    repository: &Repository<S>,
    mut visit: impl FnMut(IndexPack),
) -> RusticResult<HashSet<Id>> {
    let mut marked = HashSet::new();
    for index in repository.stream_files::<IndexFile>()? {
        let index = index?.1;
        marked.extend(index.packs_to_delete.iter().map(|pack| *pack.id));
        index.packs.into_iter().for_each(&mut visit);
    }
    Ok(marked)
}
