//! From offered items to what the engine archives, and the account that is kept meanwhile.
//!
//! The engine leaves out what it fails to read and still reports success, and it knows no way to stop without a
//! snapshot. So the account is kept here, and [`Intake::verdict`] is asked before the snapshot file is written.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{ReadSource, ReadSourceEntry, RusticResult};
use sha2::{Digest as _, Sha256};

use super::backend::Backend;
use super::entry::{Offer, Offered};
use super::error::{Error, Result};
use super::path::ItemPath;

/// How many unreadable items a message names.
const NAMED: usize = 5;

/// Items, bytes and a digest over paths and sizes in order: equal for what was offered and what is in a snapshot
/// only if nothing is missing, doubled or in another place.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) items: u64,
    pub(super) bytes: u64,
    digest: Sha256,
}

impl Tally {
    pub(super) fn add(&mut self, path: &str, size: u64) {
        self.items += 1;
        self.bytes += size;
        self.digest.update(path.as_bytes());
        self.digest.update([0]);
        self.digest.update(size.to_le_bytes());
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        self.items == other.items && self.digest.clone().finalize() == other.digest.clone().finalize()
    }
}

/// The account of one capture.
#[derive(Debug, Default)]
pub(super) struct Intake {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    offered: Tally,
    last: Option<ItemPath>,
    ended: bool,
    fault: Option<Error>,
    read: u64,
    unread: Vec<String>,
}

impl Intake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was offered so far.
    pub(super) fn offered(&self) -> Tally {
        self.state().offered.clone()
    }

    /// Whether a snapshot of what was taken in is complete.
    pub(super) fn verdict(&self) -> Result<()> {
        let state = self.state();
        let offered = state.offered.items;
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        if !state.ended {
            return Err(Error::Interrupted { offered });
        }
        if state.read == offered {
            return Ok(());
        }
        Err(Error::ItemUnreadable {
            missing: offered.abs_diff(state.read),
            offered,
            items: match state.unread.as_slice() {
                [] => "unknown ones".to_owned(),
                // They come as the engine's threads end with them.
                unread => {
                    let mut unread = unread.to_vec();
                    unread.sort();
                    unread.join(", ")
                }
            },
        })
    }

    /// Accounts for one more item, which must come after the last one.
    fn take(&self, path: &ItemPath, size: u64) -> Result<(), ()> {
        let mut state = self.state();
        if let Some(last) = &state.last
            && last >= path
        {
            state.fault = Some(Error::OutOfOrder { earlier: last.to_string(), later: path.to_string() });
            return Err(());
        }
        state.offered.add(path.as_str(), size);
        state.last = Some(path.clone());
        Ok(())
    }
}

/// Offered items as the engine's source of files.
pub(super) struct Source<I> {
    offers: Mutex<Option<I>>,
    intake: Arc<Intake>,
    backend: Arc<Backend>,
}

impl<I> Source<I> {
    /// `backend` is what the engine writes to: once that has failed, nothing more is taken in. The engine itself would
    /// fail each further item and go on to the last.
    pub(super) fn new(offers: I, intake: Arc<Intake>, backend: Arc<Backend>) -> Self {
        Self { offers: Mutex::new(Some(offers)), intake, backend }
    }
}

impl<I, R> ReadSource for Source<I>
where
    I: Iterator<Item = Offered<R>> + Send + 'static,
    R: Read + Send + 'static,
{
    type Open = Item<R>;
    type Iter = Box<dyn Iterator<Item = RusticResult<ReadSourceEntry<Item<R>>>> + Send>;

    fn size(&self) -> RusticResult<Option<u64>> {
        Ok(None)
    }

    /// The engine calls this once.
    fn entries(&self) -> Self::Iter {
        let offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (intake, backend) = (self.intake.clone(), self.backend.clone());
        let mut offers = offers.into_iter().flatten();
        Box::new(std::iter::from_fn(move || {
            if backend.fault().is_some() {
                return None;
            }
            match offers.next()? {
                Offered::End => {
                    intake.state().ended = true;
                    None
                }
                Offered::Item(offer) => {
                    intake.take(&offer.path, offer.size).ok()?;
                    Some(Ok(entry(offer, intake.clone())))
                }
            }
        }))
    }
}

fn entry<R: Read>(offer: Offer<R>, intake: Arc<Intake>) -> ReadSourceEntry<Item<R>> {
    let metadata = Metadata {
        mode: Some(0o600),
        // Without it `restic restore` makes files of 1901, and the engine takes a change of equal size for none.
        mtime: Some(offer.mtime),
        size: offer.size,
        links: 1,
        ..Metadata::default()
    };
    ReadSourceEntry {
        node: Node::new_node(offer.path.file_name().as_ref(), NodeType::File, metadata),
        path: PathBuf::from("/").join(offer.path.as_str()),
        open: Some(Item { path: offer.path, reader: offer.reader, whole: false, intake }),
    }
}

/// An item while the engine reads it. Dropped before its end was reached, it counts as missing.
pub(super) struct Item<R> {
    path: ItemPath,
    reader: R,
    whole: bool,
    intake: Arc<Intake>,
}

impl<R> Drop for Item<R> {
    fn drop(&mut self) {
        let mut state = self.intake.state();
        if self.whole {
            state.read += 1;
        } else if state.unread.len() < NAMED {
            state.unread.push(self.path.to_string());
        }
    }
}

impl<R: Read> Read for Item<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.whole |= count == 0 && !buffer.is_empty();
        Ok(count)
    }
}
