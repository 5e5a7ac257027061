//! The only way to the API server.
//!
//! [`connect`] builds a client with one layer that every call passes. It applies a timeout (except
//! to watches), counts calls by verb, resource and answer, and lets an observer see each call or
//! make it fail. kube's own retries are off: they would block a reconcile for minutes and hide
//! faults from the code that decides about them. A caller that can safely repeat a call uses
//! [`retry`](super::retry). A refusal by an API server that is not ready counts as 503
//! ([`ready`](super::ready)).

use super::{ready::Readiness, trim::Trim};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::{
    Client, Config,
    client::{Body, ClientBuilder},
    config::KubeConfigOptions,
};
use std::{
    collections::BTreeMap,
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep};
use tower::{BoxError, Layer, Service};

/// Default timeout of a call, from the first byte sent to the last byte read.
///
/// A timeout above the API server's own limit for a request (60 s) gains nothing. Well below it,
/// lists of large Secrets over slow links fail for no reason.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

/// How to reach the API server.
#[derive(Clone)]
pub struct ClientOptions {
    /// A context of the kubeconfig. Defaults to the kubeconfig's own, or else to the pod's account.
    pub context: Option<String>,
    /// Timeout of every call except watches and followed logs.
    pub timeout: Duration,
    /// Counts of calls, readable while the client is in use.
    pub counts: CallCounts,
    /// Sees every call and may make it fail.
    pub observer: Arc<dyn CallObserver>,
    /// Whether responses are trimmed while they are read ([`super::trim`]). Code that restores what
    /// it reads must have it whole.
    pub trims: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            context: None,
            timeout: DEFAULT_TIMEOUT,
            counts: CallCounts::default(),
            observer: Arc::new(NoFaults),
            trims: false,
        }
    }
}

/// Creates a client with these options, from the kubeconfig or the pod's account. Sends nothing
/// yet.
pub async fn connect(options: ClientOptions) -> Result<Client, ConnectError> {
    let config = match &options.context {
        Some(context) => {
            let wanted = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
            Config::from_kubeconfig(&wanted).await.map_err(|error| ConnectError(error.to_string()))?
        }
        None => Config::infer().await.map_err(|error| ConnectError(error.to_string()))?,
    };
    connect_with(config, options)
}

/// Creates a client for the API server that `config` names.
pub fn connect_with(mut config: Config, options: ClientOptions) -> Result<Client, ConnectError> {
    config.default_retry = false;
    let builder =
        |config: Config| ClientBuilder::try_from(config).map_err(|error: kube::Error| ConnectError(error.to_string()));
    // A client of its own: the question must not wait for the calls that it is about.
    let readiness = Readiness::of(builder(config.clone())?.build());
    Ok(builder(config)?.with_layer(&CallLayer::new(options).asking(readiness)).build())
}

/// The configuration cannot be read, so there is no client. A retry does not help.
#[derive(Debug, thiserror::Error)]
#[error("no configuration to reach the API server: {0}: run in a pod with a service account, or set KUBECONFIG")]
pub struct ConnectError(String);

/// One call, as RBAC would name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Call {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or the
    /// lower-case HTTP method if the path names no resource.
    pub verb: &'static str,
    /// `resource[.group][/subresource]`, such as `jobs.batch` or
    /// `operationruns.tenantatlas.io/status`, or the first segment of a path that names no resource
    /// (`apis`, `version`).
    pub resource: String,
    /// Namespace, if there is one.
    pub namespace: Option<String>,
    /// Name, if the call is about one object.
    pub name: Option<String>,
    /// Whether the call is a dry run.
    pub dry_run: bool,
}

impl Call {
    /// Derives a call from its method and URL.
    #[must_use]
    pub fn from_request(method: &Method, uri: &Uri) -> Self {
        let segments: Vec<&str> = uri.path().split('/').filter(|segment| !segment.is_empty()).collect();
        let query = uri.query().unwrap_or_default();
        let parameter = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let dry_run = parameter("dryRun").is_some_and(|value| !value.is_empty());
        let (group, rest) = match segments.as_slice() {
            ["api", _version, rest @ ..] if !rest.is_empty() => ("", rest),
            ["apis", group, _version, rest @ ..] if !rest.is_empty() => (*group, rest),
            other => {
                let resource = other.first().copied().unwrap_or("/").to_owned();
                return Self { verb: plain_verb(method), resource, namespace: None, name: None, dry_run };
            }
        };
        let (namespace, rest) = match rest {
            // `namespaces/<name>` and its subresources are about the namespace itself.
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => (None, rest),
            ["namespaces", namespace, rest @ ..] => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let mut resource = rest.first().copied().unwrap_or_default().to_owned();
        if !group.is_empty() {
            resource.push('.');
            resource.push_str(group);
        }
        if let Some(subresource) = rest.get(2) {
            resource.push('/');
            resource.push_str(subresource);
        }
        let name = rest.get(1).map(|name| (*name).to_owned());
        let watches = matches!(parameter("watch"), Some("true" | "1"));
        let verb = match (method.as_str(), &name) {
            ("GET", _) if watches => "watch",
            ("GET", None) => "list",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("DELETE", None) => "deletecollection",
            _ => plain_verb(method),
        };
        Self { verb, resource, namespace, name, dry_run }
    }

    /// Whether the response is a stream that lasts as long as the client reads it.
    #[must_use]
    pub fn is_endless(&self, uri: &Uri) -> bool {
        self.verb == "watch" || uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "follow=true"))
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        match (&self.namespace, &self.name) {
            (Some(namespace), Some(name)) => write!(formatter, " {namespace}/{name}"),
            (Some(namespace), None) => write!(formatter, " in {namespace}"),
            (None, Some(name)) => write!(formatter, " {name}"),
            (None, None) => Ok(()),
        }
    }
}

fn plain_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "get",
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "HEAD" => "head",
        _ => "other",
    }
}

/// What an observer does to a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call is sent and its response is returned.
    #[default]
    None,
    /// The call fails without being sent.
    Unsent,
    /// The API server executes the call, but the response is lost.
    AnswerLost,
    /// The call is not sent. This is the response.
    Answer(StatusCode),
}

/// How a call ended, as far as the response headers show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Answer {
    /// With this status code.
    Status(u16),
    /// The call timed out.
    TimedOut,
    /// There was no response.
    Failed,
}

impl fmt::Display for Answer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(code) => write!(formatter, "{code}"),
            Self::TimedOut => formatter.write_str("timeout"),
            Self::Failed => formatter.write_str("error"),
        }
    }
}

/// Sees every call and may make it fail. Used for proofs; production has [`NoFaults`].
pub trait CallObserver: Send + Sync + 'static {
    /// Called before a call is sent.
    fn plan(&self, _call: &Call) -> Fault {
        Fault::None
    }

    /// Called when a call has ended.
    fn answered(&self, _call: &Call, _answer: Answer) {}
}

/// Makes no call fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFaults;

impl CallObserver for NoFaults {}

/// Counts of calls for metrics, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct CallCounts(Arc<Mutex<BTreeMap<CallKey, u64>>>);

/// What calls are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    /// As in [`Call::verb`].
    pub verb: &'static str,
    /// As in [`Call::resource`].
    pub resource: String,
    /// How the call ended.
    pub answer: Answer,
}

impl CallCounts {
    /// All counts so far.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<CallKey, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of all calls so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    fn count(&self, call: &Call, answer: Answer) {
        let key = CallKey { verb: call.verb, resource: call.resource.clone(), answer };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }
}

/// The layer that every call passes.
#[derive(Clone)]
pub struct CallLayer {
    options: Arc<ClientOptions>,
    readiness: Option<Readiness>,
}

impl CallLayer {
    /// Creates a layer with these options. It uses all of them except `context`.
    #[must_use]
    pub fn new(options: ClientOptions) -> Self {
        Self { options: Arc::new(options), readiness: None }
    }

    /// The same layer, which asks after each refusal whether the API server is ready.
    #[must_use]
    pub fn asking(self, readiness: Readiness) -> Self {
        Self { readiness: Some(readiness), ..self }
    }
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        CallService { inner, options: Arc::clone(&self.options), readiness: self.readiness.clone() }
    }
}

/// The service that [`CallLayer`] wraps around another.
#[derive(Clone)]
pub struct CallService<S> {
    inner: S,
    options: Arc<ClientOptions>,
    readiness: Option<Readiness>,
}

/// Why a call failed in the layer itself.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error("{call} was not answered within {} s", timeout.as_secs_f32())]
    TimedOut { call: Call, timeout: Duration },
    #[error("{call} was made to fail before it was sent")]
    Unsent { call: Call },
    #[error("the answer to {call} was made to be lost")]
    AnswerLost { call: Call },
}

/// Whether a call failed because it timed out. A retry would take just as long again.
#[must_use]
pub fn timed_out(error: &kube::Error) -> bool {
    match error {
        kube::Error::Service(cause) => matches!(cause.downcast_ref(), Some(CallError::TimedOut { .. })),
        kube::Error::ReadEvents(cause) => {
            cause.get_ref().is_some_and(|cause| cause.to_string() == BodyTimedOut.to_string())
        }
        _ => false,
    }
}

impl<S, B> Service<Request<Body>> for CallService<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<CallBody<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let call = Call::from_request(request.method(), request.uri());
        let (options, readiness) = (Arc::clone(&self.options), self.readiness.clone());
        let timeout = (!call.is_endless(request.uri())).then_some(options.timeout);
        let fault = options.observer.plan(&call);
        let sent = matches!(fault, Fault::None | Fault::AnswerLost).then(|| self.inner.call(request));
        Box::pin(async move {
            let deadline = timeout.map(|timeout| Instant::now() + timeout);
            let result = match (fault, sent) {
                (Fault::Answer(status), _) => Ok(made_up(&call, status, "was made to fail")),
                (_, None) => Err(CallError::Unsent { call: call.clone() }.into()),
                (_, Some(sent)) => match within(deadline, sent).await.map(|received| received.map_err(Into::into)) {
                    None => {
                        Err(CallError::TimedOut { call: call.clone(), timeout: timeout.unwrap_or_default() }.into())
                    }
                    Some(Err(error)) => Err(error),
                    Some(Ok(_)) if fault == Fault::AnswerLost => {
                        Err(CallError::AnswerLost { call: call.clone() }.into())
                    }
                    Some(Ok(response)) => {
                        if counts(response.status(), readiness.as_ref()).await {
                            // An error response is the API server's own text.
                            let trims = options.trims && response.status().is_success();
                            let trim = trims.then(|| Box::new(Trim::of(call.verb, &call.resource)));
                            Ok(response.map(|body| CallBody::received(body, deadline, trim)))
                        } else {
                            let why = "was refused while the API server starts";
                            Ok(made_up(&call, StatusCode::SERVICE_UNAVAILABLE, why))
                        }
                    }
                },
            };
            let answer = match &result {
                Ok(response) => Answer::Status(response.status().as_u16()),
                Err(error) if matches!(error.downcast_ref(), Some(CallError::TimedOut { .. })) => Answer::TimedOut,
                Err(_) => Answer::Failed,
            };
            options.counts.count(&call, answer);
            options.observer.answered(&call, answer);
            result
        })
    }
}

/// Output of a future, or `None` once the deadline has passed.
async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// Whether a response counts: whether it is no refusal, or one by an API server that is ready.
async fn counts(status: StatusCode, readiness: Option<&Readiness>) -> bool {
    match readiness.filter(|_| status == StatusCode::FORBIDDEN) {
        Some(readiness) => readiness.vouches().await,
        None => true,
    }
}

/// The response that an API server would send with this status.
fn made_up<B>(call: &Call, status: StatusCode, why: &str) -> Response<CallBody<B>> {
    let reason = match status.as_u16() {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 if call.verb == "create" => "AlreadyExists",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "InternalError",
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": status.as_u16(),
        "message": format!("{call} {why}"),
    });
    let mut response = Response::new(CallBody::MadeUp(Some(Bytes::from(body.to_string()))));
    *response.status_mut() = status;
    response
}

/// Body of a response. It must arrive in time, too.
pub enum CallBody<B> {
    /// From the API server, with the deadline for reading it.
    Received {
        /// The body as it arrives.
        body: B,
        /// Wakes the reader at the deadline.
        deadline: Option<Pin<Box<Sleep>>>,
        /// Trims the body, until the body has ended.
        trim: Option<Box<Trim>>,
        /// Whether the body is trimmed.
        trims: bool,
    },
    /// From an observer.
    MadeUp(Option<Bytes>),
}

impl<B> CallBody<B> {
    fn received(body: B, deadline: Option<Instant>, trim: Option<Box<Trim>>) -> Self {
        let deadline = deadline.map(|deadline| Box::pin(tokio::time::sleep_until(deadline)));
        Self::Received { body, deadline, trims: trim.is_some(), trim }
    }
}

/// The rest of a response did not arrive in time.
#[derive(Debug, thiserror::Error)]
#[error("the answer was not complete in time")]
struct BodyTimedOut;

impl<B> HttpBody for CallBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::MadeUp(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Received { body, deadline, trim, .. } => {
                while let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(context) {
                    let Some(trimming) = trim else { return Poll::Ready(frame.map(|frame| frame.map_err(Into::into))) };
                    let kept = match frame {
                        Some(Ok(frame)) => match frame.into_data() {
                            Ok(data) => trimming.take(&data),
                            // Trailers have no meaning here.
                            Err(_) => continue,
                        },
                        Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                        None => {
                            let rest = trimming.end();
                            *trim = None;
                            if rest.is_empty() {
                                return Poll::Ready(None);
                            }
                            rest
                        }
                    };
                    if !kept.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(Bytes::from(kept)))));
                    }
                }
                match deadline {
                    Some(deadline) => deadline.as_mut().poll(context).map(|()| Some(Err(BodyTimedOut.into()))),
                    None => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Received { body, trim, .. } => trim.is_none() && body.is_end_stream(),
            Self::MadeUp(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Received { trims: true, .. } => SizeHint::default(),
            Self::Received { body, .. } => body.size_hint(),
            Self::MadeUp(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{Api, api::ListParams};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::service_fn;

    fn call(method: &Method, uri: &str) -> Call {
        Call::from_request(method, &uri.parse().expect("a URI"))
    }

    #[test]
    fn a_call_is_read_as_rbac_names_it() {
        for (method, uri, expected) in [
            (Method::GET, "/api/v1/namespaces/a/configmaps?limit=500", "list configmaps in a"),
            (Method::GET, "/api/v1/namespaces/a/configmaps/b", "get configmaps a/b"),
            (Method::GET, "/api/v1/namespaces/a", "get namespaces a"),
            (Method::GET, "/api/v1/pods?watch=true&labelSelector=x", "watch pods"),
            (Method::POST, "/apis/batch/v1/namespaces/a/jobs", "create jobs.batch in a"),
            (Method::DELETE, "/apis/batch/v1/namespaces/a/jobs/b", "delete jobs.batch a/b"),
            (Method::DELETE, "/apis/batch/v1/namespaces/a/jobs", "deletecollection jobs.batch in a"),
            (
                Method::PATCH,
                "/apis/tenantatlas.io/v1alpha1/namespaces/a/operationruns/b/status?fieldManager=x",
                "patch operationruns.tenantatlas.io/status a/b",
            ),
            (Method::GET, "/apis", "get apis"),
            (Method::GET, "/apis/apps/v1", "get apis"),
            (Method::GET, "/", "get /"),
        ] {
            assert_eq!(call(&method, uri).to_string(), expected, "{method} {uri}");
        }
        assert!(call(&Method::PATCH, "/api/v1/namespaces/a/secrets/b?dryRun=All").dry_run);
        assert!(!call(&Method::PATCH, "/api/v1/namespaces/a/secrets/b").dry_run);
    }

    /// A client whose server counts the requests it gets and answers with an empty list.
    fn client(options: ClientOptions, reached: &Arc<AtomicUsize>) -> Client {
        let reached = Arc::clone(reached);
        let server = service_fn(move |_: Request<Body>| {
            reached.fetch_add(1, Ordering::SeqCst);
            async {
                let list = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{},"items":[]}"#;
                Ok::<_, BoxError>(Response::new(Body::from(list.as_bytes().to_vec())))
            }
        });
        Client::new(CallLayer::new(options).layer(server), "a")
    }

    struct Always(Fault);

    impl CallObserver for Always {
        fn plan(&self, _: &Call) -> Fault {
            self.0
        }
    }

    async fn listed_with(fault: Fault) -> (Result<usize, kube::Error>, usize, Vec<Answer>) {
        let options = ClientOptions { observer: Arc::new(Always(fault)), ..ClientOptions::default() };
        let (counts, reached) = (options.counts.clone(), Arc::new(AtomicUsize::new(0)));
        let configs: Api<ConfigMap> = Api::namespaced(client(options, &reached), "a");
        let listed = configs.list(&ListParams::default()).await.map(|list| list.items.len());
        (listed, reached.load(Ordering::SeqCst), counts.snapshot().into_keys().map(|key| key.answer).collect())
    }

    #[tokio::test]
    async fn every_call_is_counted_by_its_answer() {
        let (listed, reached, answers) = listed_with(Fault::None).await;
        assert_eq!((listed.expect("a list"), reached, answers), (0, 1, vec![Answer::Status(200)]));
    }

    #[tokio::test]
    async fn an_observer_can_keep_a_call_from_the_server() {
        let (listed, reached, answers) = listed_with(Fault::Unsent).await;
        assert!(listed.is_err());
        assert_eq!((reached, answers), (0, vec![Answer::Failed]));
    }

    #[tokio::test]
    async fn an_observer_can_lose_the_answer_of_a_call_that_was_done() {
        let (listed, reached, answers) = listed_with(Fault::AnswerLost).await;
        assert!(listed.is_err());
        assert_eq!((reached, answers), (1, vec![Answer::Failed]));
    }

    #[tokio::test]
    async fn an_observer_can_answer_in_place_of_the_server() {
        let (listed, reached, answers) = listed_with(Fault::Answer(StatusCode::FORBIDDEN)).await;
        assert!(matches!(listed, Err(kube::Error::Api(status)) if status.is_forbidden()));
        assert_eq!((reached, answers), (0, vec![Answer::Status(403)]));
    }

    #[tokio::test]
    async fn a_refusal_by_an_api_server_that_is_not_ready_is_an_outage_that_passes() {
        for (ready, expected) in [(500, 503), (200, 403)] {
            let answering = |status: u16| {
                service_fn(move |_: Request<Body>| async move {
                    let body = format!(r#"{{"kind":"Status","status":"Failure","code":{status},"message":"no"}}"#);
                    let response = Response::builder().status(status).body(Body::from(body.into_bytes()));
                    Ok::<_, BoxError>(response.expect("a response"))
                })
            };
            let readiness = Readiness::of(Client::new(answering(ready), "a"));
            let layer = CallLayer::new(ClientOptions::default()).asking(readiness);
            let configs: Api<ConfigMap> = Api::namespaced(Client::new(layer.layer(answering(403)), "a"), "a");
            match configs.list(&ListParams::default()).await {
                Err(kube::Error::Api(status)) => assert_eq!(status.code, expected, "{}", status.message),
                other => panic!("{other:?}"),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_ends_and_a_watch_does_not() {
        let server = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
        let options = ClientOptions { timeout: Duration::from_secs(5), ..ClientOptions::default() };
        let counts = options.counts.clone();
        let client = Client::new(CallLayer::new(options).layer(server), "a");
        let configs: Api<ConfigMap> = Api::namespaced(client.clone(), "a");
        let error = configs.list(&ListParams::default()).await.expect_err("no answer");
        assert!(timed_out(&error));
        assert!(error.to_string().contains("list configmaps in a was not answered within 5 s"), "{error}");
        assert_eq!(counts.snapshot().into_keys().next().map(|key| key.answer), Some(Answer::TimedOut));
        let watch = Request::get("/api/v1/pods?watch=true").body(Vec::new()).expect("a request");
        assert!(tokio::time::timeout(Duration::from_hours(1), client.send(watch.map(Body::from))).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_stops_half_way_ends_in_time() {
        let server = service_fn(|_: Request<Body>| async {
            let stuck = futures::stream::pending::<Result<Frame<Bytes>, BoxError>>();
            Ok::<_, BoxError>(Response::new(http_body_util::StreamBody::new(stuck)))
        });
        let options = ClientOptions { timeout: Duration::from_secs(5), ..ClientOptions::default() };
        let configs: Api<ConfigMap> = Api::namespaced(Client::new(CallLayer::new(options).layer(server), "a"), "a");
        let listed = tokio::time::timeout(Duration::from_mins(1), configs.list(&ListParams::default())).await;
        assert!(listed.expect("ends by itself").is_err());
    }
}
