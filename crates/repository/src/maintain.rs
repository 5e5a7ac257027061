//! Forgets snapshots, and prunes what no snapshot needs: the only place that deletes captured
//! content.
//!
//! Nothing that a snapshot needs is deleted, no matter which process dies when:
//! - Forgetting a snapshot deletes its file, and no content.
//! - A prune first writes: packs to which it moves needed content, and an index that marks unneeded
//!   packs. Then it removes the index files that these replace. If it is killed in between, some
//!   content exists twice. It does not trust the store's acknowledgements: new packs are confirmed
//!   before an index names them, and the new index is confirmed before the old one is removed
//!   ([`super::backend`]).
//! - A later prune deletes marked packs, after [`Pruning::keep_marked`], and only if no snapshot
//!   has come to need them; otherwise it removes the mark. Writers do not rely on marked packs, and
//!   a running reader still finds them.
//! - All of this needs a permit that excludes writers. The permit is checked before every single
//!   write, and without it nothing more is written.

use jiff::{SignedDuration, Span};
use rustic_core::repofile::MasterKey;
use rustic_core::{PruneOptions, PruneStats};

use super::engine;
use super::error::{Error, Result};
use super::permit::WriterPermit;
use super::store::BlockingStore;

/// How to prune.
#[derive(Debug, Clone)]
pub struct Pruning {
    /// How long unneeded content stays after it was first found unneeded. Must be longer than any
    /// read of a snapshot.
    pub keep_marked: SignedDuration,
    /// The permit that excludes writers.
    pub permit: WriterPermit,
}

/// The result of a prune, in bytes as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Content deleted, because it was marked long enough ago.
    pub deleted: u64,
    /// Content marked, for a later prune to delete.
    pub marked: u64,
    /// Content moved into new packs, because other content of its pack is no longer needed.
    pub moved: u64,
}

impl Pruned {
    fn of(stats: &PruneStats) -> Self {
        let sizes = stats.size_sum();
        Self {
            deleted: stats.size_to_delete.remove,
            marked: sizes.remove + sizes.repackrm,
            moved: sizes.repack - sizes.repackrm,
        }
    }
}

/// Deletes snapshots; their content stays until it is pruned.
pub(super) fn forget(store: &BlockingStore, snapshots: &[String], permit: &WriterPermit) -> Result<()> {
    let store = store.guarded(permit);
    for id in snapshots {
        if id.len() != 64 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let snapshot = id.chars().take(64).collect();
            return Err(Error::SnapshotNotFound { location: store.description().to_owned(), snapshot });
        }
        store.delete(&format!("snapshots/{id}"))?;
    }
    Ok(())
}

/// Removes content that no snapshot needs.
pub(super) fn prune(store: &BlockingStore, key: &MasterKey, pruning: &Pruning) -> Result<Pruned> {
    let opened = engine::open(&store.guarded(&pruning.permit), key)?;
    let mut options = PruneOptions::default();
    options.keep_delete = Span::new().seconds(pruning.keep_marked.as_secs().max(0));
    let plan = opened.repository.prune_plan(&options).map_err(|error| opened.explain(&error))?;
    let pruned = Pruned::of(&plan.stats);
    opened.repository.prune(&options, plan).map_err(|error| opened.explain(&error))?;
    Ok(pruned)
}
