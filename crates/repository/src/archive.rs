//! Writes content: from offered items to packs, indexes and the root of a tree.
//!
//! The engine can do this too, but is not used here (ADR 13): it passes each item through half a
//! dozen threads and rebuilds its tables for each one. Before a snapshot is reported, the
//! repository is opened again and the snapshot's trees are walked ([`super::capture`]). The tests
//! also read it with the stock `restic`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use jiff::Timestamp;
use rustic_core::repofile::{BlobType, MasterKey};
use rustic_core::{DataId, TreeId};

use super::engine::damaged;
use super::entry::{Content, Offered};
use super::error::{Error, Result};
use super::format::CHUNK_SIZE;
use super::pack::{Added, Packer, store_packs};
use super::path::ItemPath;
use super::seal::Sealer;
use super::store::BlockingStore;
use super::stored::Stored;
use super::tally::Tally;
use super::tree::Trees;

/// Number of full packs that may wait to be stored, in addition to the one being stored. Each is as
/// large as the one that is being filled, and a pack that waits makes nothing faster: it only moves
/// the moment at which a slow store is waited for.
const WAITING_PACKS: usize = 0;

/// The written content. It does not count before a snapshot names its root.
pub(super) struct Archived {
    pub(super) root: TreeId,
    /// Tally of everything that was offered.
    pub(super) tally: Tally,
    pub(super) directories: u64,
    pub(super) data: Added,
    pub(super) trees: Added,
}

/// Where and how to write.
pub(super) struct Target<'a> {
    pub(super) store: &'a BlockingStore,
    pub(super) key: &'a MasterKey,
    /// The repository's compression level; `None` if its format has no compression.
    pub(super) level: Option<i32>,
    pub(super) stored: &'a Stored,
    /// Time that the index records for new packs.
    pub(super) time: Timestamp,
}

/// Takes all offers, in order, and returns once their content is stored and indexed.
///
/// # Errors
/// Offers that are out of order, kept content that is not stored, offers that end without [`Offered::End`] ([`Error::Interrupted`]),
/// and faults of the store.
pub(super) fn archive(offers: impl Iterator<Item = Offered>, target: &Target<'_>) -> Result<Archived> {
    let (full, packs) = sync_channel(WAITING_PACKS);
    let failed = AtomicBool::new(false);
    let sealer = || Sealer::new(target.key, target.level);
    let (ours, theirs) = (sealer()?, sealer()?);
    std::thread::scope(|scope| {
        // The receiver is moved into the thread: once it is dropped, sending a pack fails instead
        // of blocking.
        let (store, time, failed) = (target.store, target.time, &failed);
        let storing = scope.spawn(move || store_packs(store, theirs, packs, time, failed));
        let data = Packer::new(BlobType::Data, target.stored, full.clone());
        let trees = Trees::new(Packer::new(BlobType::Tree, target.stored, full));
        let archived = take_all(offers, data, trees, ours, failed, target);
        let stored = storing.join().unwrap_or_else(|_| Err(Error::internal("storing packs", "a panic".to_owned())));
        // Once nothing can be stored, taking offers ends too: the store's fault is the cause.
        stored.and(archived)
    })
}

fn take_all(
    offers: impl Iterator<Item = Offered>,
    mut data: Packer<'_>,
    mut trees: Trees<'_>,
    mut sealer: Sealer,
    failed: &AtomicBool,
    target: &Target<'_>,
) -> Result<Archived> {
    let mut tally = Tally::default();
    let mut last: Option<ItemPath> = None;
    for offer in offers {
        let offer = match offer {
            Offered::Item(offer) => offer,
            Offered::End => {
                let (root, directories, trees) = trees.finish(&mut sealer)?;
                return Ok(Archived { root, tally, directories, data: data.finish()?, trees: trees.finish()? });
            }
        };
        if failed.load(Ordering::Acquire) {
            break;
        }
        if let Some(last) = &last
            && *last >= offer.path
        {
            return Err(Error::OutOfOrder { earlier: last.to_string(), later: offer.path.to_string() });
        }
        let (size, content) = match offer.content {
            Content::New(content) => {
                let blobs = content.chunks(CHUNK_SIZE).map(|chunk| data.add(chunk, &mut sealer).map(DataId::from));
                (content.len() as u64, blobs.collect::<Result<_>>()?)
            }
            Content::Kept { size, content } => {
                let blobs = content.blobs();
                if !blobs.iter().all(|blob| target.stored.has(BlobType::Data, blob)) {
                    let what = format!("content of `{}` that an earlier snapshot has is in no pack", offer.path);
                    return Err(damaged(target.store, what));
                }
                (size, blobs.to_vec())
            }
        };
        trees.add(&offer.path, size, offer.mtime, content, &mut sealer)?;
        tally.add(offer.path.as_str(), size);
        last = Some(offer.path);
    }
    Err(Error::Interrupted { offered: tally.items })
}
