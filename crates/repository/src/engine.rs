//! Opens and creates a repository with the engine.

use std::sync::Arc;

use rustic_core::repofile::{BlobType, Chunker, MasterKey};
use rustic_core::{
    ConfigOptions, Credentials, DataId, IndexedFull, IndexedFullStatus, KeyOptions, OpenStatus, Repository,
    RepositoryBackends, RepositoryOptions, RusticError,
};

use super::backend::{Backend, about};
use super::error::{Error, Result};
use super::format::{CHUNK_SIZE, PACK_SIZE};
use super::key::RepositoryKey;
use super::key_file::{self, key_file};
use super::store::BlockingStore;
use super::stored::Stored;

/// Items are small and each is compressed by itself. Compared with zstd's default level, this one
/// takes a third less time for 2% more bytes.
const COMPRESSION: i32 = 2;

/// An opened repository, with the backend that knows why the store failed.
pub(super) struct Opened<S> {
    pub(super) repository: Repository<S>,
    pub(super) backend: Arc<Backend>,
    store: BlockingStore,
    /// Content that exists, if the engine's own index also names content that does not.
    readable: Option<Stored>,
}

/// Opens a repository whose master key is known.
pub(super) fn open(store: &BlockingStore, key: &MasterKey) -> Result<Opened<OpenStatus>> {
    open_or(store, key, |what| damaged(store, what))
}

/// Same as [`open`], with a function that explains why the engine fails.
fn open_or(
    store: &BlockingStore,
    key: &MasterKey,
    otherwise: impl FnOnce(String) -> Error,
) -> Result<Opened<OpenStatus>> {
    let backend = Backend::bounded(store.clone(), key);
    let repository = prepare(&backend)?
        .open(&Credentials::Masterkey(key.clone()))
        .map_err(|error| backend.explain(&error, otherwise))?;
    Ok(Opened { repository, backend, store: store.clone(), readable: None })
}

/// Finds the master key of a repository with the user's key.
pub(super) fn unlock(store: &BlockingStore, key: &RepositoryKey) -> Result<MasterKey> {
    let wrong = || Error::WrongPassword { location: store.description().to_owned(), credential: key.describe() };
    let opened = match key {
        // A wrong key cannot be distinguished from a damaged config, and is far more likely.
        RepositoryKey::MasterKey(master) => open_or(store, master, |_| wrong()),
        RepositoryKey::Password(password) => {
            let master = key_file::find(store, password)?.ok_or_else(wrong)?;
            open(store, &master)
        }
    };
    Ok(opened?.repository.key())
}

/// Creates a repository in an empty store.
pub(super) fn create(store: &BlockingStore, key: &RepositoryKey) -> Result<MasterKey> {
    let master = match key {
        RepositoryKey::MasterKey(key) => key.clone(),
        RepositoryKey::Password(password) => {
            let master = MasterKey::new();
            add_key(store, &master, password)?;
            master
        }
    };
    let backend = Backend::new(store.clone());
    // The engine's type for sizes is not exported, but it can be parsed from text.
    let bytes = |size: u64| size.to_string().parse().ok();
    let mut config = ConfigOptions::default();
    config.set_version = Some(2);
    config.set_chunker = Some(Chunker::FixedSize);
    config.set_chunk_size = bytes(CHUNK_SIZE as u64);
    config.set_datapack_size = bytes(PACK_SIZE);
    config.set_datapack_size_limit = bytes(PACK_SIZE);
    config.set_compression = Some(COMPRESSION);
    let repository = prepare(&backend)?
        .init(&Credentials::Masterkey(master), &KeyOptions::default(), &config)
        .map_err(|error| backend.explain(&error, |cause| Error::internal("creating a repository", cause)))?;
    Ok(repository.key())
}

/// Adds a key file, so that a password opens a repository. Returns the id of the file.
pub(super) fn add_key(store: &BlockingStore, master: &MasterKey, password: &str) -> Result<String> {
    let (id, content) = key_file(master, password)?;
    store.put(&format!("keys/{id}"), content.into())?;
    Ok(id)
}

impl<S> Opened<S> {
    /// Explains an error of the engine while reading: the store's fault, or damage.
    pub(super) fn explain(&self, error: &RusticError) -> Error {
        self.backend.explain(error, |what| damaged(&self.store, what))
    }

    /// The first fault of the store since the repository was opened, if any.
    pub(super) fn fault(&self) -> Option<Error> {
        self.backend.fault()
    }

    /// Whether content is indexed in a pack that exists.
    pub(super) fn has(&self, content: &DataId) -> bool
    where
        S: IndexedFull,
    {
        let is_indexed = self.repository.get_index_entry(content).is_ok();
        is_indexed && self.readable.as_ref().is_none_or(|readable| readable.has(BlobType::Data, content))
    }

    /// Maximum number of items and directories in a snapshot.
    pub(super) fn most_nodes(&self) -> u64 {
        self.store.most_nodes()
    }

    /// Error for a repository that holds more than is read.
    pub(super) fn too_large(&self, what: String) -> Error {
        self.store.too_large(what)
    }

    /// Error for a damaged repository.
    pub(super) fn damaged(&self, what: String) -> Error {
        damaged(&self.store, what)
    }
}

impl Opened<OpenStatus> {
    /// Loads the locations of all content, which reading needs.
    pub(super) fn for_reading(self) -> Result<Opened<IndexedFullStatus>> {
        let Self { repository, backend, store, .. } = self;
        let explain = |error: Box<RusticError>| backend.explain(&error, |what| damaged(&store, what));
        let is_half_pruned = backend.trust_index(&repository).map_err(explain)?;
        // With the check, the engine takes such a pack for marked or for indexed, depending on
        // which index file it reads first. The pack is indexed: needed content may be in it until
        // the prune is repeated. Without the check, the engine also takes lost packs for present.
        let readable =
            if is_half_pruned { Some(Stored::readable(&repository, &backend).map_err(explain)?) } else { None };
        let repository =
            if is_half_pruned { repository.to_indexed() } else { repository.to_indexed_checked() }.map_err(explain)?;
        backend.opened();
        Ok(Opened { repository, backend, store, readable })
    }
}

fn prepare(backend: &Arc<Backend>) -> Result<Repository<()>> {
    let mut options = RepositoryOptions::default();
    // A worker's file system is read-only and short-lived.
    options.no_cache = true;
    Repository::new(&options, &RepositoryBackends::new(backend.clone(), None))
        .map_err(|error| Error::internal("opening a repository", about(&error)))
}

pub(super) fn damaged(store: &BlockingStore, what: String) -> Error {
    Error::Damaged { location: store.description().to_owned(), what }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;

    use super::super::store::Store;
    use super::*;

    fn in_memory() -> (tokio::runtime::Runtime, BlockingStore) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = Store::new(Arc::new(InMemory::new()), "", "memory", Duration::from_secs(10));
        let store = store.blocking(runtime.handle().clone());
        (runtime, store)
    }

    #[test]
    fn a_password_opens_with_a_quarter_of_the_usual_memory_and_key_files_of_other_programs_open_too() {
        let password = RepositoryKey::Password("correct horse".to_owned());
        let wrong = RepositoryKey::Password("battery staple".to_owned());
        let (_runtime, store) = in_memory();
        let master = create(&store, &password).unwrap();
        let (name, _) = store.list("keys").unwrap().remove(0);
        let file: serde_json::Value =
            serde_json::from_slice(&store.get(&format!("keys/{name}"), 65536).unwrap()).unwrap();
        assert_eq!(["N", "r", "p"].map(|parameter| file[parameter].as_u64()), [Some(1 << 15), Some(8), Some(3)]);
        assert_eq!(unlock(&store, &password).unwrap().encrypt, master.encrypt);
        assert!(matches!(unlock(&store, &wrong), Err(Error::WrongPassword { .. })));

        let (_runtime, store) = in_memory();
        let theirs = Credentials::Password("correct horse".to_owned());
        prepare(&Backend::new(store.clone()))
            .unwrap()
            .init(&theirs, &KeyOptions::default(), &ConfigOptions::default())
            .unwrap();
        unlock(&store, &password).unwrap();
        assert!(matches!(unlock(&store, &wrong), Err(Error::WrongPassword { .. })));
    }

    /// A file of the repository may be replaced by a link to anything that the worker can read.
    #[test]
    fn nothing_that_is_read_in_the_place_of_a_key_file_is_quoted() {
        let password = RepositoryKey::Password("correct horse".to_owned());
        for secret in [
            "1234567890123456789",
            "\"s3cret-1234567890123456789\"",
            "s3cret-1234567890123456789",
            "[\"s3cret-1234567890123456789\"]",
            "{\"kdf\": \"s3cret-1234567890123456789\"}",
            "{\"s3cret-1234567890123456789\": 1}",
            "{\"N\": \"s3cret-1234567890123456789\"}",
        ] {
            for place in ["keys", "config"] {
                let (_runtime, store) = in_memory();
                create(&store, &password).unwrap();
                let name = store.list("keys").unwrap().remove(0).0;
                let name = if place == "keys" { format!("keys/{name}") } else { place.to_owned() };
                store.put(&name, secret.to_owned().into()).unwrap();
                let error = unlock(&store, &password).unwrap_err();
                for said in [error.to_string(), format!("{error:?}")] {
                    assert!(!said.contains("1234567890"), "{place}: {said}");
                }
            }
        }
    }

    #[test]
    fn what_the_engine_says_of_a_cause_is_not_told() {
        let cause = serde_json::from_str::<u8>("\"s3cret\"").unwrap_err();
        assert!(cause.to_string().contains("s3cret"), "{cause}");
        let error = RusticError::with_source(rustic_core::ErrorKind::Key, "the key `{id}` cannot be read", cause)
            .attach_context("id", "7");
        assert_eq!(about(&error), "the key `7` cannot be read");
        let (_runtime, store) = in_memory();
        let explained = Backend::new(store.clone()).explain(&error, |what| damaged(&store, what));
        assert!(!explained.to_string().contains("s3cret"), "{explained}");
    }

    #[test]
    fn a_new_repository_has_the_chunker_the_sizes_and_the_compression_that_captures_need() {
        let (_runtime, store) = in_memory();
        let key = create(&store, &RepositoryKey::MasterKey(MasterKey::new())).unwrap();
        let opened = open(&store, &key).unwrap();
        let config = opened.repository.config();
        assert_eq!(config.version, 2);
        assert_eq!(config.chunker(), Chunker::FixedSize);
        assert_eq!(config.chunk_size(), CHUNK_SIZE);
        assert_eq!(config.datapack_size.map(u64::from), Some(PACK_SIZE));
        assert_eq!(config.datapack_size_limit.map(u64::from), Some(PACK_SIZE));
        assert_eq!(config.compression, Some(COMPRESSION));
    }
}
