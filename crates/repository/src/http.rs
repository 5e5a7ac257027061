//! How a store over the network is spoken to: nothing that it answers leads elsewhere or is read without end.
//!
//! A tenant names the store, and whoever runs it is not trusted:
//! - A redirect is not followed: it would send our requests to addresses that only pods of the cluster reach.
//! - An answer other than an object's content is read up to [`MAX_ANSWER`], and all answers of one listing up to [`MAX_LISTING`].
//!   How much of an object is read is said by whoever asks for it ([`super::store`]).
//! - A request, its answer included, has a deadline ([`super::Timeouts`]), however slowly the bytes come.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Uri};
use http_body::{Body, Frame, SizeHint};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};

use super::location::Timeouts;

/// The most bytes of an answer: a page of a listing, or what a store says of an error.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// The most bytes of all pages of a listing: of half a million objects.
const MAX_LISTING: u64 = 256 * 1024 * 1024;

/// A store answers more than is read.
#[derive(Debug, thiserror::Error)]
#[error("{what} has more than {} MiB", most / (1024 * 1024))]
pub(super) struct TooMuch {
    pub(super) what: &'static str,
    pub(super) most: u64,
}

/// Makes clients that speak so.
#[derive(Debug)]
pub(super) struct Connector {
    timeouts: Timeouts,
    certificates: Vec<reqwest::Certificate>,
}

impl Connector {
    /// A connector with these timeouts and, beside the system's, these certificates.
    pub(super) fn new(timeouts: &Timeouts, certificates: Vec<reqwest::Certificate>) -> Self {
        Self { timeouts: timeouts.clone(), certificates }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // Of the options only this one differs: the services of a cloud that hand out credentials speak no TLS.
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp).is_some_and(|value| value == "true");
        let client = reqwest::Client::builder()
            .user_agent(concat!("tenantatlas/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(self.timeouts.connect)
            .timeout(self.timeouts.request)
            .tls_certs_merge(self.certificates.clone())
            .https_only(!allow_http)
            .http1_only()
            .build()
            .map_err(|error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) })?;
        Ok(HttpClient::new(Bounded { inner: client, listed: Arc::default() }))
    }
}

/// A client whose answers are bounded.
#[derive(Debug)]
struct Bounded {
    inner: reqwest::Client,
    /// Bytes of the listing that is being read. Listings at the same time share them.
    listed: Arc<AtomicU64>,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// An object's content.
    Content,
    /// The first page of a listing.
    Listing,
    /// A later page of it.
    More,
    /// Anything else.
    Other,
}

impl Asked {
    fn of(method: &Method, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let names =
            |names: &[&str]| query.split('&').any(|pair| names.contains(&pair.split('=').next().unwrap_or_default()));
        // S3 and Google's XML, Azure.
        let lists = query.split('&').any(|pair| pair == "list-type=2" || pair == "comp=list");
        match *method {
            Method::GET if lists && names(&["continuation-token", "marker", "start-after"]) => Self::More,
            Method::GET if lists => Self::Listing,
            Method::GET if !names(&["comp", "restype", "uploads"]) => Self::Content,
            _ => Self::Other,
        }
    }
}

#[async_trait::async_trait]
impl HttpService for Bounded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let asked = Asked::of(request.method(), request.uri());
        let response = self.inner.call(request).await?;
        if asked == Asked::Content && response.status().is_success() {
            return Ok(response);
        }
        if asked == Asked::Listing {
            self.listed.store(0, Ordering::Relaxed);
        }
        let listed = matches!(asked, Asked::Listing | Asked::More).then(|| Arc::clone(&self.listed));
        Ok(response.map(|body| HttpResponseBody::new(Counted { body, read: 0, listed })))
    }
}

/// The body of an answer, up to its bounds.
struct Counted {
    body: HttpResponseBody,
    read: u64,
    listed: Option<Arc<AtomicU64>>,
}

impl Counted {
    fn count(&mut self, bytes: u64) -> Result<(), TooMuch> {
        self.read += bytes;
        if self.read > MAX_ANSWER {
            return Err(TooMuch { what: "an answer of the store", most: MAX_ANSWER });
        }
        let listed = self.listed.as_ref().map_or(0, |listed| listed.fetch_add(bytes, Ordering::Relaxed) + bytes);
        if listed > MAX_LISTING {
            return Err(TooMuch { what: "a listing of the store", most: MAX_LISTING });
        }
        Ok(())
    }
}

impl Body for Counted {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let Poll::Ready(Some(Ok(frame))) = &polled else { return polled };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.count(bytes) {
            Ok(()) => polled,
            Err(too_much) => Poll::Ready(Some(Err(HttpError::new(HttpErrorKind::Unknown, too_much)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // What the store says of it must not make anybody keep room for it.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_told_from_content_by_its_url() {
        let asked = |method: Method, url: &str| Asked::of(&method, &url.parse().unwrap());
        assert_eq!(asked(Method::GET, "https://h/b/data/ab/abc"), Asked::Content);
        assert_eq!(asked(Method::GET, "https://h/b?list-type=2&prefix=data%2F"), Asked::Listing);
        assert_eq!(asked(Method::GET, "https://h/b?continuation-token=x&list-type=2&prefix=data"), Asked::More);
        assert_eq!(asked(Method::GET, "https://h/c?restype=container&comp=list&prefix=a"), Asked::Listing);
        assert_eq!(asked(Method::GET, "https://h/c?restype=container&comp=list&marker=a"), Asked::More);
        assert_eq!(asked(Method::PUT, "https://h/b/config"), Asked::Other);
        assert_eq!(asked(Method::POST, "https://h/token"), Asked::Other);
    }
}
