//! The layer that every call passes: timeout, counts, observer, and refusals that do not count.

use super::{
    Answer, Call, ClientOptions,
    body::{BodyTimedOut, CallBody, made_up},
};
use crate::cluster::{ready::Readiness, trim::Trim};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::BodyExt as _;
use kube::client::Body;
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::Instant;
use tower::{BoxError, Layer, Service};

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
                        match within(deadline, weigh(&call, response, readiness.as_ref())).await {
                            Some(Ok(Some(response))) => {
                                // An error response is the API server's own text.
                                let trims = options.trims && response.status().is_success();
                                let trim = trims.then(|| Box::new(Trim::of(call.verb, &call.resource)));
                                Ok(response.map(|body| match body {
                                    Weighed::Unread(body) => CallBody::received(body, deadline, trim),
                                    Weighed::Whole(body) => CallBody::Whole(Some(body)),
                                }))
                            }
                            Some(Ok(None)) | None => {
                                let why = "was refused while the API server starts";
                                Ok(made_up(&call, StatusCode::SERVICE_UNAVAILABLE, why))
                            }
                            Some(Err(error)) => Err(error),
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

/// The response with the body still to be read, or `None` if it is a refusal that does not count
/// because the API server is not ready. A review of access that denies is a refusal with status
/// 201.
async fn weigh<B>(
    call: &Call,
    response: Response<B>,
    readiness: Option<&Readiness>,
) -> Result<Option<Response<Weighed<B>>>, BoxError>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let Some(readiness) = readiness else { return Ok(Some(response.map(Weighed::Unread))) };
    if response.status() == StatusCode::FORBIDDEN {
        return Ok(readiness.vouches().await.then(|| response.map(Weighed::Unread)));
    }
    if call.verb != "create" || !call.resource.ends_with(ACCESS_REVIEWS) || !response.status().is_success() {
        return Ok(Some(response.map(Weighed::Unread)));
    }
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(Into::into)?.to_bytes();
    let counts = !denies(&body) || readiness.vouches().await;
    Ok(counts.then(|| Response::from_parts(parts, Weighed::Whole(body))))
}

/// How [`Call::resource`] ends for a review of one right: `subjectaccessreviews` and those with a
/// longer name.
const ACCESS_REVIEWS: &str = "subjectaccessreviews.authorization.k8s.io";

/// Whether a review of access denies.
fn denies(review: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Review {
        #[serde(default)]
        status: Status,
    }
    #[derive(Default, serde::Deserialize)]
    struct Status {
        #[serde(default)]
        allowed: bool,
    }
    serde_json::from_slice(review).is_ok_and(|review: Review| !review.status.allowed)
}

/// The body of a response that counts.
enum Weighed<B> {
    Unread(B),
    Whole(Bytes),
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Frame;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api, Client,
        api::{ListParams, PostParams},
    };
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tower::service_fn;

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

    #[tokio::test]
    async fn a_review_that_denies_counts_only_if_the_api_server_is_ready() {
        use k8s_openapi::api::authorization::v1::LocalSubjectAccessReview;
        for (ready, allowed, expected) in
            [(500, false, Err(503)), (200, false, Ok(false)), (500, true, Ok(true)), (403, true, Ok(true))]
        {
            let answering = move |status: u16, body: String| {
                service_fn(move |_: Request<Body>| {
                    let response = Response::builder().status(status).body(Body::from(body.clone().into_bytes()));
                    async move { Ok::<_, BoxError>(response.expect("a response")) }
                })
            };
            let readiness = Readiness::of(Client::new(answering(ready, String::new()), "a"));
            let layer = CallLayer::new(ClientOptions::default()).asking(readiness);
            let review = serde_json::json!({ "kind": "LocalSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
                "metadata": {}, "spec": {}, "status": { "allowed": allowed } });
            let client = Client::new(layer.layer(answering(201, review.to_string())), "a");
            let reviews: Api<LocalSubjectAccessReview> = Api::namespaced(client, "a");
            let answer = reviews.create(&PostParams::default(), &LocalSubjectAccessReview::default()).await;
            let seen = match answer {
                Ok(review) => Ok(review.status.is_some_and(|status| status.allowed)),
                Err(kube::Error::Api(status)) => Err(status.code),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(seen, expected, "/readyz {ready}, allowed {allowed}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_does_not_outlast_the_time_of_its_call() {
        let never = service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, BoxError>>());
        let refusing = service_fn(|_: Request<Body>| async {
            let body = r#"{"kind":"Status","status":"Failure","code":403,"message":"no"}"#;
            let response = Response::builder().status(403).body(Body::from(body.as_bytes().to_vec()));
            Ok::<_, BoxError>(response.expect("a response"))
        });
        let options = ClientOptions { timeout: Duration::from_secs(2), ..ClientOptions::default() };
        let layer = CallLayer::new(options).asking(Readiness::of(Client::new(never, "a")));
        let configs: Api<ConfigMap> = Api::namespaced(Client::new(layer.layer(refusing), "a"), "a");
        let begun = Instant::now();
        assert!(configs.list(&ListParams::default()).await.is_err());
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
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
