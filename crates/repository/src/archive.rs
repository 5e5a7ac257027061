//! Writing content: from offered items to packs, indexes and the root of a tree.
//!
//! This is the one thing that the engine has, too, and that we do ourselves (ADR 13): it hands each item through half a
//! dozen threads and makes its tables anew for each. What is written here, the engine reads back before anybody is told
//! of it ([`super::capture`]), and the tests read it with the stock `restic`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;

use jiff::Timestamp;
use rustic_core::repofile::{BlobType, MasterKey};
use rustic_core::{DataId, TreeId};

use super::entry::Offered;
use super::error::{Error, Result};
use super::format::CHUNK_SIZE;
use super::pack::{Added, Packer, store_packs};
use super::path::ItemPath;
use super::seal::Sealer;
use super::store::BlockingStore;
use super::stored::Stored;
use super::tally::Tally;
use super::tree::Trees;

/// Full packs that wait to be stored, beside the one that is being stored.
const WAITING_PACKS: usize = 1;

/// What was written. Nothing of it counts before a snapshot names its root.
pub(super) struct Archived {
    pub(super) root: TreeId,
    /// Of all that was offered.
    pub(super) tally: Tally,
    pub(super) directories: u64,
    pub(super) data: Added,
    pub(super) trees: Added,
}

/// Where to write and how.
pub(super) struct Target<'a> {
    pub(super) store: &'a BlockingStore,
    pub(super) key: &'a MasterKey,
    /// The repository's level of compression, if its format knows one.
    pub(super) level: Option<i32>,
    pub(super) stored: &'a Stored,
    /// What packs are said to be of.
    pub(super) time: Timestamp,
}

/// Takes all that is offered, in order, and returns once it lies in the store, indexed.
///
/// # Errors
/// Offers out of order, or that end without saying so ([`Error::Interrupted`]); the store's faults.
pub(super) fn archive(offers: impl Iterator<Item = Offered>, target: &Target<'_>) -> Result<Archived> {
    let (full, packs) = sync_channel(WAITING_PACKS);
    let failed = AtomicBool::new(false);
    let sealer = || Sealer::new(target.key, target.level);
    let (ours, theirs) = (sealer()?, sealer()?);
    std::thread::scope(|scope| {
        // The receiver goes along: once it is gone, nobody waits to hand on a pack.
        let (store, time, failed) = (target.store, target.time, &failed);
        let storing = scope.spawn(move || store_packs(store, theirs, packs, time, failed));
        let data = Packer::new(BlobType::Data, target.stored, full.clone());
        let trees = Trees::new(Packer::new(BlobType::Tree, target.stored, full));
        let archived = take_all(offers, data, trees, ours, failed);
        let stored = storing.join().unwrap_or_else(|_| Err(Error::internal("storing packs", "a panic".to_owned())));
        // Once nothing can be stored, taking ends, too: the store's fault is the cause.
        stored.and(archived)
    })
}

fn take_all(
    offers: impl Iterator<Item = Offered>,
    mut data: Packer<'_>,
    mut trees: Trees<'_>,
    mut sealer: Sealer,
    failed: &AtomicBool,
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
        let size = offer.content.len() as u64;
        let content = offer.content.chunks(CHUNK_SIZE).map(|chunk| data.add(chunk, &mut sealer).map(DataId::from));
        let content = content.collect::<Result<_>>()?;
        trees.add(&offer.path, size, offer.mtime, content, &mut sealer)?;
        tally.add(offer.path.as_str(), size);
        last = Some(offer.path);
    }
    Err(Error::Interrupted { offered: tally.items })
}
