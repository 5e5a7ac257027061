//! The store of a worker that dies: a repository's files, with each call counted, and one of them made to fail.

use crate::process::Saboteur;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as Place;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use std::fmt;
use std::sync::Arc;
use tenantatlas::cluster::client::{Answer, Call, CallObserver as _, Fault};

/// What a call to the store is counted as.
pub(crate) const STORE: &str = "store";

/// The repository's files, with the calls counted and made to fail.
pub(crate) struct Sabotaged {
    pub(crate) files: LocalFileSystem,
    pub(crate) saboteur: Arc<Saboteur>,
}

impl Sabotaged {
    /// Asks before a call; the call is made if it says so, and then [`answer`](Self::answer) is asked.
    fn plan(&self, verb: &'static str, place: &str) -> object_store::Result<(Call, Fault)> {
        let call =
            Call { verb, resource: STORE.to_owned(), namespace: None, name: Some(place.to_owned()), dry_run: false };
        match self.saboteur.plan(&call) {
            fault @ (Fault::None | Fault::AnswerLost) => Ok((call, fault)),
            Fault::Unsent | Fault::Answer(_) => Err(broken()),
        }
    }

    fn answer<T>(&self, (call, fault): (Call, Fault), answer: object_store::Result<T>) -> object_store::Result<T> {
        self.saboteur.answered(&call, Answer::Failed);
        if fault == Fault::AnswerLost { Err(broken()) } else { answer }
    }
}

fn broken() -> object_store::Error {
    let cause = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    object_store::Error::Generic { store: "proof", source: Box::new(cause) }
}

impl fmt::Debug for Sabotaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.files, formatter)
    }
}

impl fmt::Display for Sabotaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.files, formatter)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Sabotaged {
    async fn put_opts(
        &self,
        location: &Place,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let planned = self.plan("put", location.as_ref())?;
        let answer = self.files.put_opts(location, payload, options).await;
        self.answer(planned, answer)
    }

    async fn put_multipart_opts(
        &self,
        location: &Place,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        let planned = self.plan("put", location.as_ref())?;
        let answer = self.files.put_multipart_opts(location, options).await;
        self.answer(planned, answer)
    }

    async fn get_opts(&self, location: &Place, options: GetOptions) -> object_store::Result<GetResult> {
        let planned = self.plan("get", location.as_ref())?;
        let answer = self.files.get_opts(location, options).await;
        self.answer(planned, answer)
    }

    async fn get_ranges(&self, location: &Place, ranges: &[std::ops::Range<u64>]) -> object_store::Result<Vec<Bytes>> {
        let planned = self.plan("get", location.as_ref())?;
        let answer = self.files.get_ranges(location, ranges).await;
        self.answer(planned, answer)
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Place>>,
    ) -> BoxStream<'static, object_store::Result<Place>> {
        match self.plan("delete", "") {
            Ok(planned) => {
                let answer = self.answer(planned, Ok(()));
                let deleted = self.files.delete_stream(locations);
                deleted
                    .and_then(move |place| std::future::ready(answer.as_ref().map(|()| place).map_err(|_| broken())))
                    .boxed()
            }
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Place>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let planned = self.plan("list", prefix.map_or("", AsRef::as_ref));
        match planned.and_then(|planned| self.answer(planned, Ok(()))) {
            Ok(()) => self.files.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Place>) -> object_store::Result<ListResult> {
        let planned = self.plan("list", prefix.map_or("", AsRef::as_ref))?;
        let answer = self.files.list_with_delimiter(prefix).await;
        self.answer(planned, answer)
    }

    async fn copy_opts(&self, from: &Place, to: &Place, options: CopyOptions) -> object_store::Result<()> {
        let planned = self.plan("copy", from.as_ref())?;
        let answer = self.files.copy_opts(from, to, options).await;
        self.answer(planned, answer)
    }
}
