//! Lists the objects of a kind of which some are known, and reads only the others.
//!
//! A list of metadata takes a third of the time of a list of whole objects. It shows by each object's
//! mark ([`crate::items::mark`]) whether the object is known. The others are read one by one, or, if
//! a page has many of them, that page and all later ones are requested with whole objects.
//!
//! Must not: decide which objects count as known.

use super::{Form, MAX_PAGE_BYTES, Objects, parse, read};
use crate::{
    cluster::retry,
    items::{
        mark::{Known, Mark, Marker},
        semantic::DigestKey,
        served::ServedKind,
    },
    providers::{AT_ONCE, Listing, Marked, call::ListSelection, fault::Fault, kubernetes::calls::encode},
};
use futures::{StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use jiff::Timestamp;
use kube::{Client, Error, api::ListParams, core::Request};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    pin::pin,
};
use tokio::sync::OnceCell;

/// A list is requested as metadata if at least so many objects are known: fewer are read with one
/// request, whatever is asked for.
const WORTH_IT: usize = 32;

/// A page of which more than one in so many objects is not known is requested again as a whole.
/// Reading a single object takes about as long as eight objects of a list.
const FEW: usize = 8;

/// A list of which some objects are known.
pub struct MarkedObjects<'a> {
    objects: Objects<'a>,
    namespace: &'a str,
    kind: ServedKind,
    key: &'a DigestKey,
    known: &'a Known,
    server: &'a OnceCell<Option<String>>,
    /// Known once the first request was sent.
    begun: Option<Begun>,
    /// What is known of the objects of the current page, by name, if it is one of metadata. An object
    /// that was deleted since it was listed is not there.
    seen: BTreeMap<String, Seen>,
}

/// An object of a page of metadata.
enum Seen {
    /// It is known.
    Known(Mark, Timestamp),
    /// It was read by itself.
    Read(Vec<u8>),
}

/// What is known once the first request is to be sent.
struct Begun {
    /// `None` if the API server does not tell its version. Then nothing has a mark.
    marker: Option<Marker>,
}

impl<'a> MarkedObjects<'a> {
    /// Starts a list. Sends nothing yet. `server` keeps the version of the API server.
    #[must_use]
    pub fn new(
        client: &'a Client,
        kind: &ServedKind,
        namespace: &'a str,
        selection: &'a ListSelection,
        (key, known): (&'a DigestKey, &'a Known),
        server: &'a OnceCell<Option<String>>,
    ) -> Self {
        let objects = Objects::new(client, kind, namespace, selection);
        Self { objects, namespace, kind: kind.clone(), key, known, server, begun: None, seen: BTreeMap::new() }
    }

    async fn advance(&mut self) -> Result<Option<Marked>, Error> {
        if self.begun.is_none() {
            let server = self.server.get_or_init(|| version_of(self.objects.client)).await;
            let marker = server.as_ref().map(|server| Marker::new(self.key, &self.kind, server));
            if marker.is_some() && self.known.len() >= WORTH_IT {
                self.objects.form = Form::Metadata;
            }
            self.begun = Some(Begun { marker });
        }
        loop {
            while let Some((name, place)) = self.objects.pop() {
                if let Some(marked) = self.take(name, place) {
                    return Ok(Some(marked));
                }
            }
            if self.objects.is_at_end() {
                return Ok(None);
            }
            self.objects.turn().await?;
            self.look().await?;
        }
    }

    /// Takes an element of the current page. `None` if it was deleted since it was listed.
    fn take(&mut self, name: String, place: Range<usize>) -> Option<Marked> {
        if self.objects.form == Form::Metadata {
            return Some(match self.seen.remove(&name)? {
                Seen::Known(mark, created) => Marked::Known { name, mark, created },
                // It may have changed since it was listed: the mark is that of what was read.
                Seen::Read(whole) => {
                    let mark = About::of(&whole).and_then(|about| self.mark(&about));
                    Marked::Read(parse(name, &whole), mark)
                }
            });
        }
        let text = self.objects.text(place);
        let about = About::of(text);
        let mark = about.as_ref().and_then(|about| self.mark(about));
        match (about, mark) {
            (Some(about), Some(mark)) if self.known.has(&name, mark) => {
                Some(Marked::Known { name, mark, created: about.created() })
            }
            _ => Some(Marked::Read(parse(name, text), mark)),
        }
    }

    fn mark(&self, about: &About<'_>) -> Option<Mark> {
        let marker = self.begun.as_ref()?.marker.as_ref()?;
        Some(marker.mark(about.metadata.get()))
    }

    /// Looks which objects of a new page of metadata are known, and reads the others.
    async fn look(&mut self) -> Result<(), Error> {
        self.seen.clear();
        if self.objects.form == Form::Whole {
            return Ok(());
        }
        let items = &self.objects.page.items;
        let (mut seen, mut unknown) = (BTreeMap::new(), BTreeSet::new());
        for (name, place) in items {
            let about = About::of(self.objects.text(place.clone()));
            let known = about.and_then(|about| {
                let mark = self.mark(&about).filter(|mark| self.known.has(name, *mark))?;
                Some(Seen::Known(mark, about.created()))
            });
            match known {
                Some(known) => drop(seen.insert(name.clone(), known)),
                None => drop(unknown.insert(name.clone())),
            }
        }
        if unknown.len() * FEW > items.len() || unknown.contains("") {
            self.objects.again_whole();
            return Ok(());
        }
        let (client, path, repeats) = (self.objects.client, &self.objects.path, self.objects.repeats);
        let reads = stream::iter(unknown).map(|name| async move {
            let whole = get(client, path, &name, repeats).await?;
            Ok::<_, Error>(whole.map(|whole| (name, Seen::Read(whole))))
        });
        match reads.buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await {
            Ok(read) => {
                seen.extend(read.into_iter().flatten());
                self.seen = seen;
            }
            Err(error) => {
                tracing::debug!(%error, namespace = self.namespace, kind = self.kind.kind, "an object that changed could not be read: listing whole objects");
                self.objects.again_whole();
            }
        }
        Ok(())
    }
}

impl Listing<Marked> for MarkedObjects<'_> {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Marked>, Fault>> {
        Box::pin(async move { self.advance().await.map_err(Fault::from) })
    }

    fn remaining(&self) -> u64 {
        self.objects.remaining()
    }

    fn fail_at_once(&mut self) {
        self.objects.repeats = false;
    }
}

/// An object as far as its mark needs it.
#[derive(Deserialize)]
struct About<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

impl<'a> About<'a> {
    fn of(text: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }

    /// When the object was created.
    fn created(&self) -> Timestamp {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Created {
            creation_timestamp: Timestamp,
        }
        let created = serde_json::from_str(self.metadata.get());
        created.map_or(Timestamp::UNIX_EPOCH, |Created { creation_timestamp }| creation_timestamp)
    }
}

/// One whole object, unless it is gone.
async fn get(client: &Client, list: &str, name: &str, repeats: bool) -> Result<Option<Vec<u8>>, Error> {
    let once = || async {
        let request = Request::new(format!("{list}/{}", encode(name))).list(&ListParams::default());
        let stream = pin!(client.request_stream(request.map_err(Error::BuildRequest)?).await?);
        read(stream, 0, MAX_PAGE_BYTES).await.map_err(Error::ReadEvents)
    };
    match if repeats { retry::retry(once).await } else { once().await } {
        Err(Error::Api(status)) if status.code == 404 => Ok(None),
        answer => answer,
    }
}

/// The version of the API server, if it tells it.
async fn version_of(client: &Client) -> Option<String> {
    let version = retry::retry(|| client.apiserver_version()).await;
    version
        .inspect_err(|error| tracing::debug!(%error, "the API server does not tell its version"))
        .ok()
        .map(|version| version.git_version)
}
