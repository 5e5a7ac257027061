//! HTTP access to a store: an answer neither redirects requests nor is read without limit.
//!
//! A tenant names the store, and the operator of the store is not trusted:
//! - A redirect is not followed: it could send requests to addresses that only pods of the cluster
//!   reach.
//! - An answer other than an object's content is read up to [`MAX_ANSWER`], and all answers of one
//!   listing up to [`MAX_LISTING`]. The caller limits how much of an object is read
//!   ([`super::store`]).
//! - A request, including its answer, has a deadline ([`super::Timeouts`]), however slowly the
//!   bytes arrive.

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

/// Maximum size of an answer, in bytes: a page of a listing, or an error message of a store.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// Maximum size of all pages of a listing, in bytes: enough for half a million objects.
const MAX_LISTING: u64 = 256 * 1024 * 1024;

/// The store answers more than is read.
#[derive(Debug, thiserror::Error)]
#[error("{what} has more than {} MiB", most / (1024 * 1024))]
pub(super) struct TooMuch {
    pub(super) what: &'static str,
    pub(super) most: u64,
}

/// Creates clients with these restrictions.
#[derive(Debug)]
pub(super) struct Connector {
    timeouts: Timeouts,
    certificates: Vec<reqwest::Certificate>,
}

impl Connector {
    /// Creates a connector with these timeouts, and with these certificates in addition to the
    /// system's.
    pub(super) fn new(timeouts: &Timeouts, certificates: Vec<reqwest::Certificate>) -> Self {
        Self { timeouts: timeouts.clone(), certificates }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // The only option that differs between clients: cloud services that hand out credentials do
        // not use TLS.
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

/// A client whose answers are limited in size.
#[derive(Debug)]
struct Bounded {
    inner: reqwest::Client,
    /// Bytes of the listing that is being read. Concurrent listings share the count.
    listed: Arc<AtomicU64>,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    /// The content of an object.
    Content,
    /// The first page of a listing.
    Listing,
    /// A later page of a listing.
    More,
    /// Anything else.
    Other,
}

impl Asked {
    fn of(method: &Method, uri: &Uri) -> Self {
        let query = uri.query().unwrap_or_default();
        let names =
            |names: &[&str]| query.split('&').any(|pair| names.contains(&pair.split('=').next().unwrap_or_default()));
        // S3 and Google's XML API; Azure.
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

/// The body of an answer, read up to its limits.
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
        // The size announced by the store must not cause an allocation.
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
