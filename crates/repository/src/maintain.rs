//! Forgetting snapshots, and pruning what no snapshot needs: the one place that deletes what was captured.
//!
//! Nothing that a snapshot needs is deleted, whatever dies when:
//! - A snapshot is forgotten by deleting its file, and no content goes with it.
//! - Pruning first writes (packs into which it moves what is still needed, an index that marks what is not), then removes the
//!   index files that these replace. Killed in between it leaves content twice. It takes no word of the store for granted: new packs
//!   are looked for before an index names them, and the new index before the old one goes ([`super::backend`]).
//! - What is marked is deleted by a later pruning, after [`Pruning::keep_marked`], and only if no snapshot has come to need it since:
//!   then its mark is taken away. Writers do not rely on what is marked, and who is still reading finds it.
//! - All of it needs a permit that no writer holds beside it. It is asked at every single write, and without it nothing more is written.

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
    /// How long content stays that nothing needs, after it was first seen so. Longer than anybody reads a snapshot.
    pub keep_marked: SignedDuration,
    /// The permit that excludes writers.
    pub permit: WriterPermit,
}

/// What a pruning did, in bytes as stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pruned {
    /// Deleted: marked long enough ago.
    pub deleted: u64,
    /// Marked for a later pruning to delete.
    pub marked: u64,
    /// Moved into new packs, because what lay beside it is not needed any more.
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

/// Removes snapshots; their content stays until it is pruned.
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

/// Removes what no snapshot needs.
pub(super) fn prune(store: &BlockingStore, key: &MasterKey, pruning: &Pruning) -> Result<Pruned> {
    let opened = engine::open(&store.guarded(&pruning.permit), key)?;
    let mut options = PruneOptions::default();
    options.keep_delete = Span::new().seconds(pruning.keep_marked.as_secs().max(0));
    let plan = opened.repository.prune_plan(&options).map_err(|error| opened.explain(&error))?;
    let pruned = Pruned::of(&plan.stats);
    opened.repository.prune(&options, plan).map_err(|error| opened.explain(&error))?;
    Ok(pruned)
}
