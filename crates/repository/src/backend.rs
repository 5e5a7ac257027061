//! The engine's view of a store: restic's layout of files, and what the engine must not see or do.
//!
//! One backend lives as long as one operation (a capture, a check, a sequence of reads), so whatever it remembers is as
//! fresh as the operation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::PutPayload;
use rustic_core::repofile::MasterKey;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, Open, ReadBackend, Repository, RusticError, RusticResult, WriteBackend,
};

use super::error::{Error, Result};
use super::format::SHOWN_DIGITS;
use super::index::each_indexed;
use super::seal::{MAX_BLOB, Opener, Unsealed};
use super::store::{BlockingStore, Created};

/// Whole packs kept while reading. One of ours is at most [`super::format::PACK_SIZE`] and a bit.
const CACHED_PACKS: usize = 4;

/// The most bytes of packs kept while reading, but for the last one.
const CACHED_BYTES: usize = 64 * 1024 * 1024;

/// The most bytes of a pack: what the stock `restic` makes at most, and its header.
const MAX_PACK: u64 = 144 * 1024 * 1024;

/// What is read at most of one kind of file.
struct Bounds {
    /// Bytes in the store.
    stored: u64,
    /// Bytes of its content.
    opened: usize,
    /// Bytes of the content of all such files.
    all: u64,
}

impl Bounds {
    const fn of(kind: FileType) -> Self {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * 1024;
        match kind {
            FileType::Config | FileType::Key => Self { stored: 64 * KIB, opened: 64 * 1024, all: MIB },
            FileType::Snapshot => Self { stored: 4 * MIB, opened: 16 * 1024 * 1024, all: 512 * MIB },
            FileType::Index => Self { stored: 64 * MIB, opened: 128 * 1024 * 1024, all: 4096 * MIB },
            FileType::Pack => Self { stored: MAX_PACK, opened: MAX_BLOB, all: u64::MAX },
        }
    }
}

/// A store as the engine sees it during one operation.
pub(super) struct Backend {
    store: BlockingStore,
    /// Opens what the engine is about to open, to measure it first; none before the key is known.
    openers: Option<(MasterKey, Mutex<Vec<Opener>>)>,
    /// Bytes of the content of all snapshots and indexes that were read.
    read: [AtomicU64; 2],
    /// The first fault of the store. The engine logs and swallows some errors and wraps the others.
    fault: Mutex<Option<Error>>,
    /// Packs that may be used, once [`Backend::trust_index`] has looked.
    trusted: Mutex<Option<Vec<(Id, u32)>>>,
    /// Index files that were read once and will be read once more.
    indexes: Mutex<HashMap<Id, Bytes>>,
    packs: Mutex<PackCache>,
    /// The first digits of the ids of packs that a check found to be rotten.
    rotten: Mutex<HashSet<String>>,
    /// Name and size of what was written, and not looked for since.
    written: Mutex<Vec<(String, u64)>>,
}

#[derive(Default)]
struct PackCache {
    slots: HashMap<Id, Arc<Mutex<Option<Bytes>>>>,
    sizes: HashMap<Id, usize>,
    oldest_first: VecDeque<Id>,
}

/// What an error of the engine was about. Not its cause: a parser that finds what it did not expect quotes it, and what stands where a
/// file of the repository should be may be anything, a link to a file of the pod's too.
pub(super) fn about(error: &RusticError) -> String {
    let text = error.display_log();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" (kind: related to ").next().unwrap_or_default();
    line.trim_start_matches("Error: ").chars().take(300).collect()
}

impl Backend {
    /// A store whose key is not known yet, or which holds nothing.
    pub(super) fn new(store: BlockingStore) -> Arc<Self> {
        Self::with(store, None)
    }

    /// A store whose key is known. Nothing is shown to the engine that would take more memory than the bounds allow.
    pub(super) fn bounded(store: BlockingStore, key: &MasterKey) -> Arc<Self> {
        Self::with(store, Some((key.clone(), Mutex::default())))
    }

    fn with(store: BlockingStore, openers: Option<(MasterKey, Mutex<Vec<Opener>>)>) -> Arc<Self> {
        Arc::new(Self {
            store,
            openers,
            read: Default::default(),
            fault: Mutex::default(),
            trusted: Mutex::default(),
            indexes: Mutex::default(),
            packs: Mutex::default(),
            rotten: Mutex::default(),
            written: Mutex::default(),
        })
    }

    /// From now on shows only packs that an index file names *and* that are there in the size it names: what is in any
    /// other counts as missing. The engine would read the headers of packs that no index file names (another writer's, or
    /// a killed one's), and find there what `restic` does not.
    ///
    /// Whether a pack is both indexed and marked to be deleted: somebody prunes, or was killed while it did.
    pub(super) fn trust_index<S: Open>(&self, repository: &Repository<S>) -> RusticResult<bool> {
        let mut indexed: HashMap<Id, u32> = HashMap::new();
        let marked = each_indexed(repository, |pack| {
            indexed.insert(*pack.id, pack.pack_size());
        })?;
        let mut trusted = self.list_with_size(FileType::Pack)?;
        trusted.retain(|(id, size)| indexed.get(id) == Some(size));
        *lock(&self.trusted) = Some(trusted);
        Ok(indexed.keys().any(|pack| marked.contains(pack)))
    }

    /// Shows these packs no more.
    pub(super) fn distrust(&self, rotten: HashSet<String>) {
        *lock(&self.rotten) = rotten;
    }

    /// Forgets what only opening needs.
    pub(super) fn opened(&self) {
        lock(&self.indexes).clear();
    }

    /// The first fault of the store, if there was one.
    pub(super) fn fault(&self) -> Option<Error> {
        lock(&self.fault).clone()
    }

    /// What an error of the engine means: the store's fault if it had one, else what `otherwise` makes of what it was about.
    pub(super) fn explain(&self, error: &RusticError, otherwise: impl FnOnce(String) -> Error) -> Error {
        self.fault().unwrap_or_else(|| otherwise(about(error)))
    }

    fn fail(&self, error: Error) -> Box<RusticError> {
        lock(&self.fault).get_or_insert(error.clone());
        RusticError::with_source(ErrorKind::Backend, "a request to the store failed", error)
    }

    /// Makes sure that what was written is there. To be done before anything relies on it: before an index names packs, for one
    /// that names a lost pack makes the repository a damaged one, and before what it replaces is removed. A store that lost what it
    /// had acknowledged would else take along all that old and new index files name.
    fn confirm_written(&self) -> Result<()> {
        // Held all the while: the engine removes from several threads, and none may go ahead.
        let mut written = lock(&self.written);
        for (name, size) in written.iter() {
            if self.store.size(name)? != Some(*size) {
                return Err(Error::StoreFailed {
                    location: self.store.description().to_owned(),
                    cause: format!(
                        "it lost `{name}`, which it had acknowledged; nothing was removed: check the store's health"
                    ),
                });
            }
        }
        written.clear();
        Ok(())
    }

    /// Writes a file of the repository, and notes that it is to be looked for.
    fn write_noted(&self, kind: FileType, name: String, content: PutPayload) -> Result<()> {
        if kind == FileType::Index {
            self.confirm_written()?;
        }
        let size = content.content_length() as u64;
        self.store.put(&name, content)?;
        lock(&self.written).push((name, size));
        Ok(())
    }

    /// Makes sure that the content of a file is not too large.
    fn measure_file(&self, kind: FileType, name: &str, sealed: &[u8]) -> Result<()> {
        let bounds = Bounds::of(kind);
        let read = match kind {
            FileType::Snapshot => &self.read[0],
            FileType::Index => &self.read[1],
            FileType::Config => &AtomicU64::new(0),
            FileType::Key | FileType::Pack => return Ok(()),
        };
        // Before the content is a mark that says whether it is compressed.
        let size = match self.opener(|opener| opener.measure(sealed, 1, bounds.opened))? {
            Some(Ok(Some(size))) => size as u64,
            Some(Ok(None)) => {
                return Err(self
                    .store
                    .too_large(format!("the content of `{name}` has more than {} bytes", bounds.opened)));
            }
            // The engine says that it is damaged.
            Some(Err(Unsealed)) | None => return Ok(()),
        };
        if read.fetch_add(size, Ordering::Relaxed).saturating_add(size) > bounds.all {
            return Err(self.store.too_large(format!(
                "the content of `{}` has more than {} bytes",
                kind.dirname(),
                bounds.all
            )));
        }
        Ok(())
    }

    /// Makes sure that no blob in a part of a pack is too large. The engine asks for one blob, or for several that lie side by side.
    fn measure_blobs(&self, id: &Id, offset: usize, part: &[u8]) -> Result<()> {
        let fits = |sealed: &[u8]| self.opener(|opener| opener.measure(sealed, 0, MAX_BLOB));
        let too_large = || {
            let name = file_name(FileType::Pack, id);
            Err(self.store.too_large(format!("the content of a blob in `{name}` has more than {MAX_BLOB} bytes")))
        };
        match fits(part)? {
            None | Some(Ok(Some(_))) => return Ok(()),
            Some(Ok(None)) => return too_large(),
            Some(Err(Unsealed)) => {}
        }
        let pack = self.pack(id)?;
        let Some(Ok(blobs)) = self.opener(|opener| opener.blobs_of(&pack))? else { return Ok(()) };
        let wanted = offset..offset + part.len();
        for (start, length) in blobs.into_iter().filter(|(start, _)| wanted.contains(start)) {
            let Some(sealed) = start.checked_add(length).and_then(|end| pack.get(start..end)) else { continue };
            if let Some(Ok(None)) = fits(sealed)? {
                return too_large();
            }
        }
        Ok(())
    }

    /// What an opener says; nothing where the key is not known.
    fn opener<T>(&self, ask: impl FnOnce(&mut Opener) -> T) -> Result<Option<T>> {
        let Some((key, idle)) = &self.openers else { return Ok(None) };
        let waiting = lock(idle).pop();
        let mut opener = match waiting {
            Some(opener) => opener,
            None => Opener::new(key)?,
        };
        let said = ask(&mut opener);
        lock(idle).push(opener);
        Ok(Some(said))
    }

    /// A whole pack, so that reading a snapshot costs one request a pack, not one an item.
    fn pack(&self, id: &Id) -> Result<Bytes> {
        let slot = lock(&self.packs).slot(id);
        let mut slot = lock(&slot);
        if let Some(pack) = &*slot {
            return Ok(pack.clone());
        }
        let pack = self.store.get(&file_name(FileType::Pack, id), MAX_PACK)?;
        lock(&self.packs).loaded(id, pack.len());
        Ok(slot.insert(pack).clone())
    }

    /// A sealed blob. Whoever opens it bounds what comes out.
    pub(super) fn sealed(&self, id: &Id, offset: u32, length: u32) -> Result<Bytes> {
        self.read_cached(id, offset, length).inspect_err(|error| {
            lock(&self.fault).get_or_insert(error.clone());
        })
    }

    fn read_cached(&self, id: &Id, offset: u32, length: u32) -> Result<Bytes> {
        let pack = self.pack(id)?;
        let (start, end) = (offset as usize, offset as usize + length as usize);
        if end > pack.len() {
            return Err(Error::Damaged {
                location: self.store.description().to_owned(),
                what: format!("`{}` is shorter than its index says", file_name(FileType::Pack, id)),
            });
        }
        Ok(pack.slice(start..end))
    }
}

impl PackCache {
    fn slot(&mut self, id: &Id) -> Arc<Mutex<Option<Bytes>>> {
        if let Some(slot) = self.slots.get(id) {
            return slot.clone();
        }
        if self.oldest_first.len() >= CACHED_PACKS {
            self.drop_oldest();
        }
        self.oldest_first.push_back(*id);
        self.slots.entry(*id).or_default().clone()
    }

    /// Makes room for a pack that was read.
    fn loaded(&mut self, id: &Id, size: usize) {
        while self.oldest_first.front().is_some_and(|oldest| oldest != id)
            && self.sizes.values().sum::<usize>() + size > CACHED_BYTES
        {
            self.drop_oldest();
        }
        if self.slots.contains_key(id) {
            self.sizes.insert(*id, size);
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.oldest_first.pop_front() {
            self.slots.remove(&oldest);
            self.sizes.remove(&oldest);
        }
    }
}

impl ReadBackend for Backend {
    fn location(&self) -> String {
        self.store.description().to_owned()
    }

    fn list_with_size(&self, kind: FileType) -> RusticResult<Vec<(Id, u32)>> {
        if kind == FileType::Config {
            let size = self.store.size("config").map_err(|error| self.fail(error))?;
            return Ok(size.map(|size| (Id::default(), clamp(size))).into_iter().collect());
        }
        if kind == FileType::Pack
            && let Some(trusted) = &*lock(&self.trusted)
        {
            let rotten = lock(&self.rotten);
            let is_rotten = |id: &Id| !rotten.is_empty() && rotten.contains(&id.to_hex().as_str()[..SHOWN_DIGITS]);
            return Ok(trusted.iter().filter(|(id, _)| !is_rotten(id)).copied().collect());
        }
        let files = self.store.list(kind.dirname()).map_err(|error| self.fail(error))?;
        Ok(files.into_iter().filter_map(|(name, size)| Some((name.parse().ok()?, clamp(size)))).collect())
    }

    fn read_full(&self, kind: FileType, id: &Id) -> RusticResult<Bytes> {
        if kind == FileType::Index
            && let Some(content) = lock(&self.indexes).remove(id)
        {
            return Ok(content);
        }
        let name = file_name(kind, id);
        let content = self.store.get(&name, Bounds::of(kind).stored).map_err(|error| self.fail(error))?;
        self.measure_file(kind, &name, &content).map_err(|error| self.fail(error))?;
        if kind == FileType::Index && lock(&self.trusted).is_none() {
            lock(&self.indexes).insert(*id, content.clone());
        }
        Ok(content)
    }

    fn read_partial(&self, kind: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let range = u64::from(offset)..u64::from(offset) + u64::from(length);
        match kind {
            FileType::Pack => self.read_cached(id, offset, length).and_then(|part| {
                self.measure_blobs(id, offset as usize, &part)?;
                Ok(part)
            }),
            _ => self.store.get_range(&file_name(kind, id), range),
        }
        .map_err(|error| self.fail(error))
    }

    fn warmup_path(&self, kind: FileType, id: &Id) -> String {
        file_name(kind, id)
    }
}

impl WriteBackend for Backend {
    fn write_bytes(&self, kind: FileType, id: &Id, _: bool, content: BytesList) -> RusticResult<()> {
        let name = file_name(kind, id);
        let content: PutPayload = content.into_vec().into_iter().collect();
        match kind {
            // The config names the master key's repository: it is written once, and never over another.
            FileType::Config => match self.store.create(&name, content) {
                Ok(Created::Written) => Ok(()),
                Ok(Created::Existed) => Err(Error::NotARepository {
                    location: self.store.description().to_owned(),
                    found: "another `config`".to_owned(),
                }),
                Err(error) => Err(error),
            },
            FileType::Index | FileType::Pack => self.write_noted(kind, name, content),
            _ => self.store.put(&name, content),
        }
        .map_err(|error| self.fail(error))
    }

    fn remove(&self, kind: FileType, id: &Id, _: bool) -> RusticResult<()> {
        if matches!(kind, FileType::Index | FileType::Pack) {
            self.confirm_written().map_err(|error| self.fail(error))?;
        }
        self.store.delete(&file_name(kind, id)).map_err(|error| self.fail(error))
    }
}

/// restic's default layout.
pub(super) fn file_name(kind: FileType, id: &Id) -> String {
    let hex = id.to_hex();
    match kind {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{}", &hex.as_str()[..2], hex.as_str()),
        _ => format!("{}/{}", kind.dirname(), hex.as_str()),
    }
}

/// The engine counts sizes in 32 bits. No valid file is larger, so a larger one never has the size its index names.
fn clamp(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
