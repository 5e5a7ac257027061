//! An object store as the engine sees it: blocking, rooted at the repository's prefix, with a limit
//! on every request.
//!
//! The engine runs on blocking threads; requests run on the runtime in which the store was opened.
//! All requests of a repository pass through this module. The deadline and the classification of
//! faults therefore apply to every store alike, including a hanging network file system.

use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt as _;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload,
};
use tokio::runtime::Handle;

use super::error::{Error, Result};
use super::permit::WriterPermit;

/// Maximum number of objects in a directory: packs of 8 TB. A store may list objects forever.
pub(super) const MAX_OBJECTS: usize = 1_000_000;

/// The top level of a directory.
pub(super) struct Listing {
    /// Names of objects.
    pub(super) objects: Vec<String>,
    /// Names of directories (for an object store: common prefixes).
    pub(super) directories: Vec<String>,
}

/// The result of a create-only write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// The object was written.
    Written,
    /// An object existed before (or our own write arrived twice).
    Existed,
}

/// An object store, rooted at a repository's prefix. No request has been made yet.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    root: Path,
    description: Arc<str>,
    deadline: Duration,
    most_nodes: u64,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Store").field(&self.description).finish()
    }
}

impl Store {
    /// Maximum number of items and directories in a snapshot. A few trees that name each other can
    /// be walked forever.
    pub const MOST_NODES: u64 = 1_000_000;

    /// Roots `inner` at `prefix` (slash-separated, may be empty).
    ///
    /// `description` names the place in messages and must hold no secret. `deadline` limits each
    /// request, including all its retries.
    pub fn new(inner: Arc<dyn ObjectStore>, prefix: &str, description: &str, deadline: Duration) -> Self {
        Self {
            inner,
            root: Path::from(prefix),
            description: description.into(),
            deadline,
            most_nodes: Self::MOST_NODES,
        }
    }

    /// The same store, with another limit on walking a snapshot than [`Self::MOST_NODES`].
    #[must_use]
    pub fn with_most_nodes(self, most_nodes: u64) -> Self {
        Self { most_nodes, ..self }
    }

    /// Binds the store to the runtime that drives its requests. From then on, requests are made
    /// from threads that may block.
    pub(super) fn blocking(self, runtime: Handle) -> BlockingStore {
        BlockingStore { store: self, runtime, permit: None }
    }
}

/// An object store whose requests block the calling thread.
#[derive(Clone, Debug)]
pub(super) struct BlockingStore {
    store: Store,
    runtime: Handle,
    /// If set, nothing is written unless the permit is held.
    permit: Option<WriterPermit>,
}

impl BlockingStore {
    /// The place, for messages.
    pub(super) fn description(&self) -> &str {
        &self.store.description
    }

    /// Maximum number of items and directories in a snapshot.
    pub(super) fn most_nodes(&self) -> u64 {
        self.store.most_nodes
    }

    /// Another store on the same runtime.
    pub(super) fn beside(&self, store: Store) -> Self {
        store.blocking(self.runtime.clone())
    }

    /// The same store, which from now on is only changed while a permit is held. If the permit is
    /// lost halfway through an operation, its remaining writes are refused.
    pub(super) fn guarded(&self, permit: &WriterPermit) -> Self {
        Self { permit: Some(permit.clone()), ..self.clone() }
    }

    /// Lists the top level of the repository. This is one request, and the first one, so it shows
    /// what is wrong with the store as a whole.
    pub(super) fn top(&self) -> Result<Listing> {
        let listing = self.run("list", async { self.store.inner.list_with_delimiter(Some(&self.store.root)).await })?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        Ok(Listing {
            objects: listing.objects.iter().filter_map(|meta| name(&meta.location)).collect(),
            directories: listing.common_prefixes.iter().filter_map(name).collect(),
        })
    }

    /// Name and size in bytes of every object below `directory`.
    pub(super) fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        let prefix = self.path(directory);
        let listed = self.run(&format!("list {directory}"), async {
            let (mut stream, mut objects) = (self.store.inner.list(Some(&prefix)), Vec::new());
            while let Some(meta) = stream.try_next().await? {
                if objects.len() >= MAX_OBJECTS {
                    return Ok(None);
                }
                objects.extend(meta.location.filename().map(|name| (name.to_owned(), meta.size)));
            }
            Ok(Some(objects))
        });
        listed?.ok_or_else(|| self.too_large(format!("`{directory}` has more than {MAX_OBJECTS} objects")))
    }

    /// The size of an object in bytes, if it exists.
    pub(super) fn size(&self, name: &str) -> Result<Option<u64>> {
        let path = self.path(name);
        let doing = format!("look up {name}");
        match self.request(self.store.inner.head(&path)) {
            Some(Ok(meta)) => Ok(Some(meta.size)),
            Some(Err(error)) => self.absent(&doing, &error),
            None => Err(self.timed_out(&doing)),
        }
    }

    /// Content of an object of at most `most` bytes, if it exists.
    pub(super) fn find(&self, name: &str, most: u64) -> Result<Option<Bytes>> {
        self.read(name, most, GetOptions::default())
    }

    /// Content of an object of at most `most` bytes. Something else in the repository names the
    /// object, so its absence is damage.
    pub(super) fn get(&self, name: &str, most: u64) -> Result<Bytes> {
        self.find(name, most)?.ok_or_else(|| self.missing(name))
    }

    /// Part of an object's content. The absence of the object is damage.
    pub(super) fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes> {
        let most = range.end.saturating_sub(range.start);
        let options = GetOptions { range: Some(range.into()), ..GetOptions::default() };
        self.read(name, most, options)?.ok_or_else(|| self.missing(name))
    }

    fn read(&self, name: &str, most: u64, options: GetOptions) -> Result<Option<Bytes>> {
        let path = self.path(name);
        let doing = format!("read {name}");
        match self.request(async { up_to(most, self.store.inner.get_opts(&path, options).await?).await }) {
            Some(Ok(Some(content))) => Ok(Some(content)),
            Some(Ok(None)) => Err(self.too_large(format!("`{name}` has more than {most} bytes"))),
            Some(Err(error)) => self.absent(&doing, &error),
            None => Err(self.timed_out(&doing)),
        }
    }

    /// Writes an object, whether or not it exists.
    pub(super) fn put(&self, name: &str, content: PutPayload) -> Result<()> {
        self.expect_permit()?;
        let path = self.path(name);
        self.run(&format!("write {name}"), self.store.inner.put(&path, content)).map(|_| ())
    }

    /// Writes an object only if none of that name exists: the store decides between concurrent
    /// writers.
    pub(super) fn create(&self, name: &str, content: PutPayload) -> Result<Created> {
        self.expect_permit()?;
        let path = self.path(name);
        let doing = format!("create {name}");
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        match self.request(self.store.inner.put_opts(&path, content, options)) {
            Some(Ok(_)) => Ok(Created::Written),
            Some(Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. })) => {
                Ok(Created::Existed)
            }
            Some(Err(error)) => Err(self.fault(&doing, &error)),
            None => Err(self.timed_out(&doing)),
        }
    }

    /// Deletes an object, which need not exist.
    pub(super) fn delete(&self, name: &str) -> Result<()> {
        self.expect_permit()?;
        let path = self.path(name);
        let doing = format!("delete {name}");
        match self.request(self.store.inner.delete(&path)) {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => self.absent::<()>(&doing, &error).map(|_| ()),
            None => Err(self.timed_out(&doing)),
        }
    }

    fn expect_permit(&self) -> Result<()> {
        if self.permit.as_ref().is_none_or(WriterPermit::is_held) {
            return Ok(());
        }
        Err(Error::PermitLost { location: self.description().to_owned() })
    }

    fn path(&self, name: &str) -> Path {
        self.store.root.parts().chain(Path::from(name).parts()).collect()
    }

    fn run<T>(&self, doing: &str, request: impl Future<Output = object_store::Result<T>>) -> Result<T> {
        match self.request(request) {
            Some(answer) => answer.map_err(|error| self.fault(doing, &error)),
            None => Err(self.timed_out(doing)),
        }
    }

    /// Runs a request. Returns `None` if there was no answer before the deadline, or if the runtime
    /// shut down.
    fn request<T>(&self, request: impl Future<Output = T>) -> Option<T> {
        // The timer needs the runtime's context, so it is created inside.
        let bounded = async { tokio::time::timeout(self.store.deadline, request).await };
        // A request may outlive the operation that made it, and a runtime that shuts down panics.
        // On one of the engine's threads, that would abort the process.
        std::panic::catch_unwind(AssertUnwindSafe(|| self.runtime.block_on(bounded).ok())).ok().flatten()
    }

    fn absent<T>(&self, doing: &str, error: &object_store::Error) -> Result<Option<T>> {
        let fault = self.fault(doing, error);
        match error {
            // If the bucket does not exist, a store answers `not found` for every object, but names
            // the bucket.
            object_store::Error::NotFound { source, .. } if !source.to_string().contains("NoSuchBucket") => Ok(None),
            _ => Err(fault),
        }
    }

    fn fault(&self, doing: &str, error: &object_store::Error) -> Error {
        Error::from_store(&self.store.description, doing, error)
    }

    fn missing(&self, name: &str) -> Error {
        Error::Damaged { location: self.store.description.to_string(), what: format!("`{name}` is missing") }
    }

    /// Error for a repository that holds more than is read.
    pub(super) fn too_large(&self, what: String) -> Error {
        Error::TooLarge { location: self.store.description.to_string(), what }
    }

    fn timed_out(&self, doing: &str) -> Error {
        Error::StoreUnreachable {
            location: self.store.description.to_string(),
            cause: format!("{doing}: no answer within {} s", self.store.deadline.as_secs_f32()),
        }
    }
}

/// Returns the content of an answer, or `None` if it has more than `most` bytes, whatever size the
/// store announces.
async fn up_to(most: u64, found: GetResult) -> object_store::Result<Option<Bytes>> {
    let said = found.range.end.saturating_sub(found.range.start);
    if said > most {
        return Ok(None);
    }
    if let GetResultPayload::File(..) = found.payload {
        return found.bytes().await.map(Some);
    }
    let mut content = Vec::with_capacity(usize::try_from(said).unwrap_or_default());
    let mut stream = found.into_stream();
    while let Some(piece) = stream.try_next().await? {
        if (content.len() + piece.len()) as u64 > most {
            return Ok(None);
        }
        content.extend_from_slice(&piece);
    }
    Ok(Some(content.into()))
}
