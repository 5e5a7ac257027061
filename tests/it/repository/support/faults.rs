//! An object store that fails on demand, in front of a real one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::path::Path;
use object_store::{
    CopyOptions, Extensions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Put,
    Get,
    List,
    Delete,
}

/// What happens to a request instead of its being carried out.
pub enum Fault {
    /// The operating system's error, as a file system reports it.
    Io(std::io::ErrorKind),
    /// No answer, ever.
    Hang,
    /// The process dies here, as far as the store can tell: nothing after this request arrives either.
    Die,
    /// The write is acknowledged and not carried out. Of other requests: an error.
    Lose,
}

type Hook = dyn Fn(Request, &str) -> Option<Fault> + Send + Sync;

/// Asks its hook before each request.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    hook: Arc<Hook>,
    dead: Arc<AtomicBool>,
}

impl FaultyStore {
    pub fn new(
        inner: Arc<dyn ObjectStore>,
        hook: impl Fn(Request, &str) -> Option<Fault> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { inner, hook: Arc::new(hook), dead: Arc::default() })
    }

    async fn ask(&self, request: Request, path: &str) -> Result<()> {
        meet(fate(&*self.hook, &self.dead, request, path)).await
    }
}

/// What comes of a fault.
async fn meet(fault: Option<Fault>) -> Result<()> {
    match fault {
        None => Ok(()),
        Some(Fault::Io(kind)) => Err(io(kind)),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Die | Fault::Lose) => Err(io(std::io::ErrorKind::Other)),
    }
}

/// What happens to a request: what the hook says, until the process is dead.
fn fate(hook: &Hook, dead: &AtomicBool, request: Request, path: &str) -> Option<Fault> {
    if dead.load(SeqCst) {
        return Some(Fault::Die);
    }
    let fault = hook(request, path);
    if matches!(fault, Some(Fault::Die)) {
        dead.store(true, SeqCst);
    }
    fault
}

fn io(kind: std::io::ErrorKind) -> object_store::Error {
    object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(std::io::Error::from(kind)) }
}

impl fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FaultyStore({})", self.inner)
    }
}

impl fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

#[async_trait::async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let fault = fate(&*self.hook, &self.dead, Request::Put, location.as_ref());
        if let Some(Fault::Lose) = fault {
            return Ok(PutResult { e_tag: None, version: None, extensions: Extensions::default() });
        }
        meet(fault).await?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.ask(Request::Get, location.as_ref()).await?;
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[std::ops::Range<u64>]) -> Result<Vec<Bytes>> {
        self.ask(Request::Get, location.as_ref()).await?;
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        // Deletions are few and of one object each.
        let (hook, dead) = (self.hook.clone(), self.dead.clone());
        let checked = locations.map(move |location| {
            let location = location?;
            match fate(&*hook, &dead, Request::Delete, location.as_ref()) {
                None => Ok(location),
                Some(_) => Err(io(std::io::ErrorKind::Other)),
            }
        });
        self.inner.delete_stream(checked.boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match fate(&*self.hook, &self.dead, Request::List, prefix.map_or("", AsRef::as_ref)) {
            None => self.inner.list(prefix),
            Some(Fault::Hang) => stream::pending().boxed(),
            Some(_) => stream::iter([Err(io(std::io::ErrorKind::Other))]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.ask(Request::List, prefix.map_or("", AsRef::as_ref)).await?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
