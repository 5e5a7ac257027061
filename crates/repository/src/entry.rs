//! The input of a capture: a stream of entries with bounded memory and an explicit end.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::directory::{ContentId, File};
use super::order::{HasPath, Reorder};
use super::path::ItemPath;

/// Maximum content in flight between the offering side and the archiving side, in KiB.
const BUDGET_KIB: u32 = 8 * 1024;
/// Maximum that one batch counts: while one batch is archived, the next is in flight.
const LARGEST_KIB: u32 = BUDGET_KIB / 2;
/// Number of entries that are handed over at once: waking the other side for each entry takes
/// longer than reading it.
const BATCH: usize = 64;
/// Content that is handed over at once, in bytes. The entry that exceeds this is the last of its
/// batch.
const BATCH_BYTES: usize = 256 * 1024;
/// Number of batches in flight, whatever their size.
const QUEUE: usize = 16;

/// One item to capture.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path of the item in the snapshot.
    pub path: ItemPath,
    /// Content of the item.
    pub content: Bytes,
    /// Creation time of the item. It is part of the snapshot's tree, so it must not differ between
    /// captures of the same item.
    pub mtime: Timestamp,
}

/// One item whose content an earlier snapshot has. Nothing of it is read or written.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The file of the earlier snapshot. The capture fails as damaged if its content is not stored.
    pub file: File,
    /// Creation time of the item, as of an [`Entry`].
    pub mtime: Timestamp,
}

/// What is offered of one item.
#[derive(Debug)]
enum Pending {
    New(Entry),
    Kept(Kept),
}

impl Pending {
    /// Size of the content in memory.
    fn in_memory(&self) -> usize {
        match self {
            Self::New(entry) => entry.content.len(),
            Self::Kept(_) => 0,
        }
    }
}

impl HasPath for Pending {
    fn path(&self) -> &ItemPath {
        match self {
            Self::New(entry) => &entry.path,
            Self::Kept(kept) => &kept.file.path,
        }
    }
}

/// The capture ended before it took everything; its result says why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the capture has ended")]
pub struct CaptureEnded;

/// The offering side of a capture. If it is dropped without [`EntrySender::finish`], the capture
/// fails as interrupted: a worker that dies halfway must not leave half a namespace as a snapshot.
#[derive(Debug)]
pub struct EntrySender {
    queue: mpsc::Sender<Vec<Offered>>,
    budget: Arc<Semaphore>,
    order: Reorder<Pending>,
    batch: Vec<Pending>,
    /// Bytes of content in the batch.
    bytes: usize,
}

/// The receiving side of a capture; pass it to [`super::Repository::capture`].
#[derive(Debug)]
pub struct Entries {
    queue: mpsc::Receiver<Vec<Offered>>,
}

/// Creates the two sides of a capture.
#[must_use]
pub fn entries() -> (EntrySender, Entries) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let budget = Arc::new(Semaphore::new(BUDGET_KIB as usize));
    let sender = EntrySender { queue, budget, order: Reorder::default(), batch: Vec::new(), bytes: 0 };
    (sender, Entries { queue: receiver })
}

impl EntrySender {
    /// Whether the capture has ended, so that it takes no more entries.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Offers the next entry. Kinds must come sorted by path, each as one run; within a kind,
    /// entries must come by name, as the API server lists them. Waits while too much is in flight.
    pub async fn offer(&mut self, entry: Entry) -> Result<(), CaptureEnded> {
        self.push(Pending::New(entry)).await
    }

    /// Offers the next item with the content that an earlier snapshot has. Its place is that of an
    /// entry with its path.
    pub async fn keep(&mut self, kept: Kept) -> Result<(), CaptureEnded> {
        self.push(Pending::Kept(kept)).await
    }

    async fn push(&mut self, entry: Pending) -> Result<(), CaptureEnded> {
        // Reported at once, instead of with the batch that this entry fills.
        if self.has_ended() {
            return Err(CaptureEnded);
        }
        for entry in self.order.push(entry) {
            self.add(entry).await?;
        }
        Ok(())
    }

    /// Signals that everything was offered.
    pub async fn finish(mut self) -> Result<(), CaptureEnded> {
        for entry in std::mem::take(&mut self.order).finish() {
            self.add(entry).await?;
        }
        self.flush().await?;
        self.queue.send(vec![Offered::End]).await.map_err(|_| CaptureEnded)
    }

    async fn add(&mut self, entry: Pending) -> Result<(), CaptureEnded> {
        self.bytes += entry.in_memory();
        self.batch.push(entry);
        if self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), CaptureEnded> {
        let kib = u32::try_from(self.bytes / 1024 + 1).map_or(LARGEST_KIB, |kib| kib.min(LARGEST_KIB));
        let permit = tokio::select! {
            permit = self.budget.clone().acquire_many_owned(kib) => permit.map_err(|_| CaptureEnded)?,
            () = self.queue.closed() => return Err(CaptureEnded),
        };
        let permit = Arc::new(permit);
        self.bytes = 0;
        let offers = self.batch.drain(..).map(|entry| {
            let (path, mtime, content) = match entry {
                Pending::New(entry) => (entry.path, entry.mtime, Content::New(entry.content)),
                Pending::Kept(Kept { file, mtime }) => {
                    (file.path, mtime, Content::Kept { size: file.size, content: file.content })
                }
            };
            Offered::Item(Offer { path, mtime, content, _permit: permit.clone() })
        });
        self.queue.send(offers.collect()).await.map_err(|_| CaptureEnded)
    }
}

/// A message to the archiving side.
pub(super) enum Offered {
    /// One more item.
    Item(Offer),
    /// There are no more.
    End,
}

/// One item. Its batch counts as in flight until the whole batch is dropped.
pub(super) struct Offer {
    pub(super) path: ItemPath,
    pub(super) mtime: Timestamp,
    pub(super) content: Content,
    _permit: Arc<OwnedSemaphorePermit>,
}

/// Content of an item.
pub(super) enum Content {
    /// Content to store.
    New(Bytes),
    /// Content that an earlier snapshot has.
    Kept { size: u64, content: ContentId },
}

impl Entries {
    /// Blocks for each next entry. Ends without [`Offered::End`] if the offering side was dropped.
    pub(super) fn into_offers(mut self) -> impl Iterator<Item = Offered> + Send + 'static {
        std::iter::from_fn(move || self.queue.blocking_recv()).flatten()
    }
}
