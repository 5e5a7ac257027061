//! The engine's view of a store: restic's layout of files, without what the engine must not see or
//! do.
//!
//! A backend lives for one operation (a capture, a check, a sequence of reads), so its caches are
//! never older than the operation.

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

/// Number of whole packs cached while reading. Our own packs are little larger than
/// [`super::format::PACK_SIZE`].
const CACHED_PACKS: usize = 4;

/// Maximum size of all cached packs, in bytes. A single pack may exceed it.
const CACHED_BYTES: usize = 64 * 1024 * 1024;

/// Maximum size of a pack, in bytes: the largest pack of the stock `restic`, and its header.
const MAX_PACK: u64 = 144 * 1024 * 1024;

/// Limits on reading one kind of file.
struct Bounds {
    /// Bytes of one file as stored.
    stored: u64,
    /// Bytes of one file's content.
    opened: usize,
    /// Bytes of the content of all files of the kind.
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
    /// Openers that measure what the engine is about to open; `None` while the key is unknown.
    openers: Option<(MasterKey, Mutex<Vec<Opener>>)>,
    /// Bytes of the content of all snapshots and all indexes that were read.
    read: [AtomicU64; 2],
    /// The first fault of the store. The engine logs and swallows some errors, and wraps the
    /// others.
    fault: Mutex<Option<Error>>,
    /// Packs that may be used, once [`Backend::trust_index`] has checked them.
    trusted: Mutex<Option<Vec<(Id, u32)>>>,
    /// Index files that were read once and will be read a second time.
    indexes: Mutex<HashMap<Id, Bytes>>,
    packs: Mutex<PackCache>,
    /// First digits of the ids of packs that a check found corrupt.
    rotten: Mutex<HashSet<String>>,
    /// Name and size of files that were written and not confirmed since.
    written: Mutex<Vec<(String, u64)>>,
}

#[derive(Default)]
struct PackCache {
    slots: HashMap<Id, Arc<Mutex<Option<Bytes>>>>,
    sizes: HashMap<Id, usize>,
    oldest_first: VecDeque<Id>,
}

/// Describes what an error of the engine was about, without its cause. A parser quotes unexpected
/// input, and what is found in place of a repository file may be anything, including a link to a
/// file of the pod.
pub(super) fn about(error: &RusticError) -> String {
    let text = error.display_log();
    let line = text.lines().next().unwrap_or_default();
    let line = line.split(" (kind: related to ").next().unwrap_or_default();
    line.trim_start_matches("Error: ").chars().take(300).collect()
}

impl Backend {
    /// A store whose key is not known yet, or which is empty.
    pub(super) fn new(store: BlockingStore) -> Arc<Self> {
        Self::with(store, None)
    }

    /// A store whose key is known. The engine is shown nothing that would take more memory than the
    /// limits allow.
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

    /// From now on, shows only packs that an index file names *and* that exist in the indexed size.
    /// Content of any other pack counts as missing. Without this, the engine would read the headers
    /// of packs that no index file names (from another writer, or from a killed one), and find
    /// content there that `restic` does not.
    ///
    /// Returns whether a pack is both indexed and marked for deletion: a prune is running, or was
    /// killed.
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

    /// From now on, hides these packs.
    pub(super) fn distrust(&self, rotten: HashSet<String>) {
        *lock(&self.rotten) = rotten;
    }

    /// Drops data that is only needed to open the repository.
    pub(super) fn opened(&self) {
        lock(&self.indexes).clear();
    }

    /// The first fault of the store, if any.
    pub(super) fn fault(&self) -> Option<Error> {
        lock(&self.fault).clone()
    }

    /// Explains an error of the engine: the store's fault if there was one, otherwise the result of
    /// `otherwise` for what the error was about.
    pub(super) fn explain(&self, error: &RusticError, otherwise: impl FnOnce(String) -> Error) -> Error {
        self.fault().unwrap_or_else(|| otherwise(about(error)))
    }

    fn fail(&self, error: Error) -> Box<RusticError> {
        lock(&self.fault).get_or_insert(error.clone());
        RusticError::with_source(ErrorKind::Backend, "a request to the store failed", error)
    }

    /// Checks that written files exist, before anything relies on them. An index that names a lost
    /// pack damages the repository, so packs are confirmed before an index names them. Written
    /// files are also confirmed before the files that they replace are removed. Otherwise, a store
    /// that lost acknowledged writes would lose everything that the old and the new index files
    /// name.
    fn confirm_written(&self) -> Result<()> {
        // Locked until the end: the engine removes files from several threads, and none may go
        // ahead.
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

    /// Writes a file of the repository, and records that it is to be confirmed.
    fn write_noted(&self, kind: FileType, name: String, content: PutPayload) -> Result<()> {
        if kind == FileType::Index {
            self.confirm_written()?;
        }
        let size = content.content_length() as u64;
        self.store.put(&name, content)?;
        lock(&self.written).push((name, size));
        Ok(())
    }

    /// Checks that the content of a file is not too large.
    fn measure_file(&self, kind: FileType, name: &str, sealed: &[u8]) -> Result<()> {
        let bounds = Bounds::of(kind);
        let read = match kind {
            FileType::Snapshot => &self.read[0],
            FileType::Index => &self.read[1],
            FileType::Config => &AtomicU64::new(0),
            FileType::Key | FileType::Pack => return Ok(()),
        };
        // The first byte says whether the content is compressed.
        let size = match self.opener(|opener| opener.measure(sealed, 1, bounds.opened))? {
            Some(Ok(Some(size))) => size as u64,
            Some(Ok(None)) => {
                return Err(self
                    .store
                    .too_large(format!("the content of `{name}` has more than {} bytes", bounds.opened)));
            }
            // The engine reports the damage.
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

    /// Checks that no blob in a part of a pack is too large. The engine requests one blob, or
    /// several adjacent ones.
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

    /// Runs `ask` with an opener; returns `None` if the key is not known.
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

    /// Returns a whole pack, so that reading a snapshot takes one request per pack instead of one
    /// per item.
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

    /// Returns a sealed blob. The caller limits the size of its content.
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
            // The config names the master key's repository: it is written once, and never
            // overwrites another.
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

/// The name of a file in restic's default layout.
pub(super) fn file_name(kind: FileType, id: &Id) -> String {
    let hex = id.to_hex();
    match kind {
        FileType::Config => "config".to_owned(),
        FileType::Pack => format!("data/{}/{}", &hex.as_str()[..2], hex.as_str()),
        _ => format!("{}/{}", kind.dirname(), hex.as_str()),
    }
}

/// Clamps a size to 32 bits, as the engine counts. No valid file is larger, so a larger one never
/// has the size that its index names.
fn clamp(size: u64) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
