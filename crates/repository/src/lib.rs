//! A tenant's repository: snapshots in an encrypted, deduplicated object store.
//!
//! The format is restic's (version 2), so the stock `restic` can open a repository when this
//! program and its cluster are gone. The engine is `rustic_core`, used only behind the trait
//! [`Repository`]. Apart from the master key in [`RepositoryKey`], none of its types appear in this
//! module's interface. Content is written by [`archive`] (ADR 13) and read by [`read`] with the
//! engine's index. The engine checks and measures a repository. This crate knows nothing of
//! Kubernetes and reads no clock: times are passed as arguments, permits as functions.
//!
//! # Layout
//!
//! ```text
//! <location>/                         a directory, or a prefix in a bucket
//!   config  keys/  data/  index/  snapshots/  (locks/)     restic's own files
//!   tenantatlas/owner.json            owner of the repository; restic does not look here
//!   tenantatlas/init.json             only while the repository is being created
//!   tenantatlas/documents/            data that runs report later, such as a plan; sealed
//!   tenantatlas/recovery/             copies of the key, encrypted for those who may recover
//! ```
//! In a snapshot, an item is stored at `group/version/kind/name.json` (the core group as `core`).
//! The snapshot has the tag `run=<uid>`.
//!
//! # What could go wrong without any error, and what prevents it
//!
//! 1. *A change of equal size goes unnoticed*: no parent is ever used, the content of every item is
//!    hashed, and times are explicit ([`archive`]).
//! 2. *An item is left out*: items are counted when they are offered, and counted again in the
//!    stored snapshot ([`tally`], [`capture`]). Offers without an explicit end leave no snapshot
//!    ([`archive`]).
//! 3. *A prune concurrent with a writer deletes what the new snapshot needs*: a [`WriterPermit`]
//!    must be held when the snapshot is recorded. The owner marker keeps other clusters out
//!    ([`owner`]). Before success is reported, the repository is opened again and the snapshot is
//!    walked. Only [`maintain`] deletes content: what nothing has needed for a while, and only
//!    while it holds the permit that excludes writers.
//! 4. *Content counts as stored although its pack is lost, or was never indexed*: only packs that
//!    are both indexed and complete in the store count ([`stored`] for writing, [`backend`] for
//!    reading).
//! 5. *Sealed content opens as something else*: it is opened again before it is stored ([`seal`]).
//! 6. *Reading takes one request per item*: whole packs are read and cached for a while
//!    ([`backend`]).
//! 7. *`restic` cannot open a repository that only has a master key*: [`Repository::add_key`].
//! 8. *Two workers that create a repository at once leave two keys*: all workers carry out one
//!    plan, and `config` is created but never overwritten ([`init`]).
//! 9. *A tree is out of order*: listing order is converted to tree order, and entries that are
//!    still out of order are refused ([`order`], [`archive`]).
//! 10. *An emptied store is recreated, and everything looks fine*: [`RusticRepository::open`]
//!     creates nothing. A caller that creates must know that no repository existed.
//!
//! # Files
//!
//! - [`location`], [`http`] and [`store`] reach an object store, and limit what it answers;
//!   [`backend`] shows it to the engine.
//! - [`init`], [`engine`], [`owner`], [`key`] and [`key_file`] open a repository.
//! - [`entry`], [`path`] and [`order`] define what is to be stored.
//! - [`capture`] makes a snapshot with [`archive`], which writes [`tree`]s and [`pack`]s of what is
//!   not yet [`stored`], each [`seal`]ed, and keeps a [`tally`].
//! - [`nodes`], [`read`], [`reader`], [`check`] and [`snapshot`] read. [`directory`] shows what
//!   snapshots hold by its ids, to compare them; [`series`] follows items through many of them.
//! - A [`document`] and a copy of the key for [`recovery`] are independent of snapshots.
//! - A [`permit`] excludes maintenance; [`forget`] decides what is not needed, and [`maintain`]
//!   removes it.
//! - [`format`] and [`index`] are shared by all; [`error`] classifies faults.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod archive;
mod backend;
mod capture;
mod check;
mod directory;
mod document;
mod engine;
mod entry;
mod error;
pub mod forget;
mod format;
mod http;
mod index;
mod init;
mod key;
mod key_file;
mod location;
mod maintain;
mod nodes;
pub mod order;
mod owner;
mod pack;
mod path;
mod permit;
mod read;
mod reader;
mod recovery;
mod seal;
mod series;
mod snapshot;
mod store;
mod stored;
mod tally;
mod tree;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use rustic_core::IndexedFullStatus;
use rustic_core::repofile::{MasterKey, SnapshotFile};

pub use self::capture::{CaptureOptions, CaptureSummary};
pub use self::check::{CheckReport, ReadData, Stats};
pub use self::directory::{ContentId, Differing, Directory, DirectoryId, File, differing};
pub use self::entry::{CaptureEnded, Entries, Entry, EntrySender, Kept, entries};
pub use self::error::{CODES_OF_THE_CONTENT, CODES_OF_THE_STORE, Error, Result, RetryClass};
pub use self::key::RepositoryKey;
pub use self::location::{Credentials, Environment, Location, Timeouts};
pub use self::maintain::{Pruned, Pruning};
pub use self::owner::{OwnerMarker, Ownership};
pub use self::path::ItemPath;
pub use self::permit::WriterPermit;
pub use self::read::Item;
pub use self::reader::SnapshotReader;
pub use self::recovery::Recipients;
pub use self::series::Series;
pub use self::snapshot::Snapshot;
pub use self::store::Store;

/// An opened repository.
///
/// Every operation opens the repository again, so it sees what others wrote and uses no stale
/// state.
pub trait Repository: Send + Sync {
    /// Captures entries as one snapshot, and reads it back before reporting success.
    ///
    /// If an earlier attempt of the same run recorded a snapshot, that snapshot is returned and
    /// `entries` is closed.
    fn capture(&self, entries: Entries, options: CaptureOptions)
    -> impl Future<Output = Result<CaptureSummary>> + Send;

    /// Returns the snapshot of a run, if it was recorded.
    fn find_snapshot(&self, run_uid: &str) -> impl Future<Output = Result<Option<Snapshot>>> + Send;

    /// Returns all snapshots, oldest first.
    fn snapshots(&self) -> impl Future<Output = Result<Vec<Snapshot>>> + Send;

    /// Returns all items of a snapshot, in order.
    fn list(&self, snapshot: &str) -> impl Future<Output = Result<Vec<Item>>> + Send;

    /// Returns the content of items of a snapshot, in the requested order.
    fn read(&self, snapshot: &str, paths: Vec<ItemPath>) -> impl Future<Output = Result<Vec<Vec<u8>>>> + Send;

    /// Opens a snapshot for reading many of its items.
    fn reader(&self, snapshot: &str) -> impl Future<Output = Result<SnapshotReader>> + Send;

    /// Opens several snapshots, in this order. They share what was read to open them. A snapshot
    /// that does not exist fails alone.
    fn readers(&self, snapshots: Vec<String>) -> impl Future<Output = Result<Vec<Result<SnapshotReader>>>> + Send;

    /// Opens many snapshots, in this order, to follow single items through them.
    fn series(&self, snapshots: Vec<String>) -> impl Future<Output = Result<Series>> + Send;

    /// Derives 32 bytes from the repository's master key and a purpose. Everyone who may open the
    /// repository gets the same bytes.
    fn derived_key(&self, purpose: &str) -> [u8; 32];

    /// Checks the repository for damage.
    fn check(&self, read_data: ReadData) -> impl Future<Output = Result<CheckReport>> + Send;

    /// Removes snapshots, while the permit that excludes writers is held. Their content stays until
    /// it is pruned.
    fn forget(&self, snapshots: Vec<String>, permit: WriterPermit) -> impl Future<Output = Result<()>> + Send;

    /// Writes a document of a run, replacing one of the same name. Documents are not content, so no
    /// permit is needed.
    fn put_document(&self, run_uid: &str, name: &str, content: Vec<u8>) -> impl Future<Output = Result<()>> + Send;

    /// Reads a document of a run, if it exists.
    fn find_document(&self, run_uid: &str, name: &str) -> impl Future<Output = Result<Option<Vec<u8>>>> + Send;

    /// Removes the documents of all runs except these, while the permit that excludes all others is
    /// held. Returns how many were removed.
    fn forget_documents(
        &self,
        runs: BTreeSet<String>,
        permit: WriterPermit,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// Stores a copy of the key that opened the repository, encrypted for these recipients, unless
    /// there is one.
    fn keep_recovery(&self, recipients: Recipients) -> impl Future<Output = Result<()>> + Send;

    /// Removes content that no snapshot needs. Nothing is removed from a repository in which
    /// anything is missing.
    fn prune(&self, pruning: Pruning) -> impl Future<Output = Result<Pruned>> + Send;

    /// Measures the repository.
    fn stats(&self) -> impl Future<Output = Result<Stats>> + Send;

    /// Adds a password, so that the stock `restic` can open a repository that was created with a
    /// master key. Returns the key's id.
    fn add_key(&self, password: &str) -> impl Future<Output = Result<String>> + Send;
}

/// A repository in restic's format, implemented with `rustic_core`.
#[derive(Clone)]
pub struct RusticRepository {
    inner: Arc<Inner>,
}

struct Inner {
    store: store::BlockingStore,
    key: MasterKey,
    /// The key that the caller opened it with.
    opened_with: RepositoryKey,
}

impl std::fmt::Debug for RusticRepository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("RusticRepository").field(&self.inner.store.description()).finish()
    }
}

impl RusticRepository {
    /// Opens the repository at a location, and claims it for its owner.
    ///
    /// Must be called inside a multi-threaded or current-thread tokio runtime with its I/O and time
    /// drivers enabled.
    ///
    /// # Errors
    /// [`Error::RepositoryVanished`] if the location is empty.
    pub async fn open(
        location: &Location,
        timeouts: &Timeouts,
        key: &RepositoryKey,
        ownership: &Ownership,
    ) -> Result<Self> {
        Self::open_in(location.connect(timeouts)?, key, ownership).await
    }

    /// Same as [`Self::open`], in any object store.
    pub async fn open_in(store: Store, key: &RepositoryKey, ownership: &Ownership) -> Result<Self> {
        Self::unlocked(store, key, ownership, init::open).await
    }

    /// Opens the repository at a location, or creates one if the location is empty, and claims it
    /// for its owner.
    ///
    /// Only for a caller that knows that no repository existed before: an emptied store looks the
    /// same.
    pub async fn open_or_init(
        location: &Location,
        timeouts: &Timeouts,
        key: &RepositoryKey,
        ownership: &Ownership,
    ) -> Result<Self> {
        Self::open_or_init_in(location.connect(timeouts)?, key, ownership).await
    }

    /// Same as [`Self::open_or_init`], in any object store.
    pub async fn open_or_init_in(store: Store, key: &RepositoryKey, ownership: &Ownership) -> Result<Self> {
        Self::unlocked(store, key, ownership, init::open_or_init).await
    }

    async fn unlocked(
        store: Store,
        key: &RepositoryKey,
        ownership: &Ownership,
        unlock: fn(&store::BlockingStore, &RepositoryKey, &Ownership) -> Result<MasterKey>,
    ) -> Result<Self> {
        let store = store.blocking(tokio::runtime::Handle::current());
        let (key, ownership) = (key.clone(), ownership.clone());
        blocking("opening a repository", move || {
            let master = unlock(&store, &key, &ownership)?;
            Ok(Self { inner: Arc::new(Inner { store, key: master, opened_with: key }) })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        blocking(doing, move || work(&inner)).await
    }
}

impl Repository for RusticRepository {
    async fn capture(&self, entries: Entries, options: CaptureOptions) -> Result<CaptureSummary> {
        self.run("capturing", move |inner| capture::capture(&inner.store, &inner.key, entries.into_offers(), &options))
            .await
    }

    async fn find_snapshot(&self, run_uid: &str) -> Result<Option<Snapshot>> {
        let snapshots = self.snapshots().await?;
        Ok(snapshots.into_iter().find(|snapshot| snapshot.run_uid.as_deref() == Some(run_uid)))
    }

    async fn snapshots(&self) -> Result<Vec<Snapshot>> {
        self.run("listing snapshots", |inner| {
            let opened = engine::open(&inner.store, &inner.key)?;
            let files = opened.repository.get_all_snapshots().map_err(|error| opened.explain(&error))?;
            let mut snapshots: Vec<_> = files.iter().map(Snapshot::from_file).collect();
            snapshots.sort_by(|one, other| (one.time, &one.id).cmp(&(other.time, &other.id)));
            Ok(snapshots)
        })
        .await
    }

    async fn list(&self, snapshot: &str) -> Result<Vec<Item>> {
        let snapshot = snapshot.to_owned();
        self.run("listing a snapshot", move |inner| {
            let (opened, file) = inner.open_snapshot(&snapshot)?;
            read::list(&opened, &file)
        })
        .await
    }

    async fn read(&self, snapshot: &str, paths: Vec<ItemPath>) -> Result<Vec<Vec<u8>>> {
        let snapshot = snapshot.to_owned();
        self.run("reading a snapshot", move |inner| {
            let (opened, file) = inner.open_snapshot(&snapshot)?;
            let mut reading = read::Reading::of(&opened)?;
            paths.iter().map(|path| read::content(&opened, &file, path, &mut reading)).collect()
        })
        .await
    }

    async fn reader(&self, snapshot: &str) -> Result<SnapshotReader> {
        let mut readers = self.readers(vec![snapshot.to_owned()]).await?;
        readers.pop().unwrap_or_else(|| Err(self.inner.snapshot_not_found(snapshot)))
    }

    async fn readers(&self, snapshots: Vec<String>) -> Result<Vec<Result<SnapshotReader>>> {
        self.run("opening snapshots", move |inner| {
            let (opened, files) = inner.open_snapshots(&snapshots)?;
            let opened = Arc::new(opened);
            let reader = |file: Result<SnapshotFile>| SnapshotReader::new(opened.clone(), file?);
            Ok(files.into_iter().map(reader).collect())
        })
        .await
    }

    async fn series(&self, snapshots: Vec<String>) -> Result<Series> {
        self.run("opening snapshots", move |inner| {
            let (opened, files) = inner.open_snapshots(&snapshots)?;
            Series::new(opened, files)
        })
        .await
    }

    fn derived_key(&self, purpose: &str) -> [u8; 32] {
        key::derive(&self.inner.key, purpose)
    }

    async fn check(&self, read_data: ReadData) -> Result<CheckReport> {
        let mut again = 1..CHECKS;
        loop {
            let checked =
                self.run("checking a repository", move |inner| check::check(&inner.store, &inner.key, read_data)).await;
            match checked {
                Err(Error::Internal { cause, .. }) if cause == PANICKED && again.next().is_some() => {}
                checked => return checked,
            }
        }
    }

    async fn forget(&self, snapshots: Vec<String>, permit: WriterPermit) -> Result<()> {
        self.run("forgetting snapshots", move |inner| maintain::forget(&inner.store, &snapshots, &permit)).await
    }

    async fn put_document(&self, run_uid: &str, name: &str, content: Vec<u8>) -> Result<()> {
        let (run_uid, name) = (run_uid.to_owned(), name.to_owned());
        self.run("storing a document", move |inner| document::put(&inner.store, &inner.key, &run_uid, &name, &content))
            .await
    }

    async fn find_document(&self, run_uid: &str, name: &str) -> Result<Option<Vec<u8>>> {
        let (run_uid, name) = (run_uid.to_owned(), name.to_owned());
        self.run("reading a document", move |inner| document::find(&inner.store, &inner.key, &run_uid, &name)).await
    }

    async fn forget_documents(&self, runs: BTreeSet<String>, permit: WriterPermit) -> Result<u64> {
        self.run("forgetting documents", move |inner| document::forget(&inner.store, &runs, &permit)).await
    }

    async fn keep_recovery(&self, recipients: Recipients) -> Result<()> {
        self.run("storing a copy of the key", move |inner| {
            recovery::put(&inner.store, &inner.key, &inner.opened_with, &recipients)
        })
        .await
    }

    async fn prune(&self, pruning: Pruning) -> Result<Pruned> {
        self.run("pruning a repository", move |inner| maintain::prune(&inner.store, &inner.key, &pruning)).await
    }

    async fn stats(&self) -> Result<Stats> {
        self.run("measuring a repository", |inner| check::stats(&inner.store, &inner.key)).await
    }

    async fn add_key(&self, password: &str) -> Result<String> {
        let password = password.to_owned();
        self.run("adding a key", move |inner| engine::add_key(&inner.store, &inner.key, &password)).await
    }
}

/// Snapshots in the order in which they were asked for.
type SnapshotFiles = Vec<Result<SnapshotFile>>;

impl Inner {
    fn open_snapshot(&self, id: &str) -> Result<(engine::Opened<IndexedFullStatus>, SnapshotFile)> {
        let (opened, files) = self.open_for_reading()?;
        let file = files.into_iter().find(|file| file.id.to_hex().as_str() == id);
        Ok((opened, file.ok_or_else(|| self.snapshot_not_found(id))?))
    }

    /// Opens several snapshots, in this order. One that does not exist fails alone.
    fn open_snapshots(&self, ids: &[String]) -> Result<(engine::Opened<IndexedFullStatus>, SnapshotFiles)> {
        let (opened, files) = self.open_for_reading()?;
        let files: HashMap<String, SnapshotFile> =
            files.into_iter().map(|file| (file.id.to_hex().as_str().to_owned(), file)).collect();
        let found = |id: &String| files.get(id).cloned().ok_or_else(|| self.snapshot_not_found(id));
        let files = ids.iter().map(found).collect();
        Ok((opened, files))
    }

    fn open_for_reading(&self) -> Result<(engine::Opened<IndexedFullStatus>, Vec<SnapshotFile>)> {
        let opened = engine::open(&self.store, &self.key)?;
        let files = opened.repository.get_all_snapshots().map_err(|error| opened.explain(&error))?;
        Ok((opened.for_reading()?, files))
    }

    fn snapshot_not_found(&self, id: &str) -> Error {
        let location = self.store.description().to_owned();
        Error::SnapshotNotFound { location, snapshot: id.chars().take(64).collect() }
    }
}

/// How often a check is tried whose engine panics. The engine panics if one of its own threads still
/// holds the index 100 ms after the work (rustic_core 0.13, `GlobalIndex::into_index`), as on a node
/// without processor time. A check only reads, so it can be repeated.
const CHECKS: u32 = 3;

/// The cause of an error whose engine panicked.
const PANICKED: &str = "the engine panicked";

/// Runs on a thread that may block. A panic of the engine (it panics on some content that it did
/// not write) is a fault like any other.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::internal(doing, if error.is_panic() { PANICKED } else { "the runtime is shutting down" }.to_owned()))
    })
}
