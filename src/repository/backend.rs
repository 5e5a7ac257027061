//! The engine's view of a store: restic's layout of files, and what the engine must not see or do.
//!
//! One backend lives as long as one operation (a capture, a check, a sequence of reads), so whatever it remembers is as
//! fresh as the operation.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use object_store::PutPayload;
use rustic_core::{
    BytesList, ErrorKind, FileType, Id, Open, ReadBackend, Repository, RusticError, RusticResult, WriteBackend,
};

use super::check::SHOWN_DIGITS;
use super::error::{Error, Result};
use super::store::{BlockingStore, Created};
use super::stored::each_indexed;

/// Whole packs kept while reading. A pack is at most [`super::engine::PACK_SIZE`] and a bit.
const CACHED_PACKS: usize = 4;

/// A store as the engine sees it during one operation.
pub(super) struct Backend {
    store: BlockingStore,
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
    oldest_first: VecDeque<Id>,
}

impl Backend {
    pub(super) fn new(store: BlockingStore) -> Arc<Self> {
        Arc::new(Self {
            store,
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

    /// What an error of the engine means: the store's fault if it had one, else what `otherwise` makes of the text.
    pub(super) fn explain(&self, error: &RusticError, otherwise: impl FnOnce(String) -> Error) -> Error {
        self.fault().unwrap_or_else(|| {
            let text = error.display_log();
            let line = text.lines().next().unwrap_or_default();
            otherwise(line.trim_start_matches("Error: ").chars().take(300).collect())
        })
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

    /// A part of a pack out of the whole pack, so that reading a snapshot costs one request a pack, not one an item.
    fn read_cached(&self, id: &Id, offset: u32, length: u32) -> Result<Bytes> {
        let slot = lock(&self.packs).slot(id);
        let mut slot = lock(&slot);
        let name = file_name(FileType::Pack, id);
        let pack = match &*slot {
            Some(pack) => pack.clone(),
            None => slot.insert(self.store.get(&name)?).clone(),
        };
        let (start, end) = (offset as usize, offset as usize + length as usize);
        if end > pack.len() {
            return Err(Error::Damaged {
                location: self.store.description().to_owned(),
                what: format!("`{name}` is shorter than its index says"),
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
        if self.oldest_first.len() >= CACHED_PACKS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.slots.remove(&oldest);
        }
        self.oldest_first.push_back(*id);
        self.slots.entry(*id).or_default().clone()
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
        let content = self.store.get(&file_name(kind, id)).map_err(|error| self.fail(error))?;
        if kind == FileType::Index && lock(&self.trusted).is_none() {
            lock(&self.indexes).insert(*id, content.clone());
        }
        Ok(content)
    }

    fn read_partial(&self, kind: FileType, id: &Id, _: bool, offset: u32, length: u32) -> RusticResult<Bytes> {
        let range = u64::from(offset)..u64::from(offset) + u64::from(length);
        match kind {
            FileType::Pack => self.read_cached(id, offset, length),
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
