//! The index files of a repository, as they lie in the store.

use std::collections::HashSet;

use rustic_core::repofile::{IndexFile, IndexPack};
use rustic_core::{Id, Open, Repository, RusticResult};

/// Visits all packs that the index names. Returns which packs it names as marked to be deleted: a pruning that was killed leaves packs
/// that are both, by index files that it would have removed.
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
