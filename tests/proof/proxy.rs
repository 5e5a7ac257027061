//! What stands between a controller and the API server when that is away, overloaded, or shows the past.
//!
//! Plain HTTP on a port of the machine's choice. Requests go on under the identity of the given client; only lists and
//! watches are ever changed, for only they may show the past.

use axum::body::Body;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::channel::mpsc;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use kube::Client;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tenantatlas::cluster::client::Call;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How the API server looks from the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As it is.
    Through,
    /// No connection stands, and none comes about.
    Gone,
    /// Everything is answered with this status code, and no watch stands.
    Answers(u16),
    /// Lists and watches are so many events behind; none: they stand still. Until they are [released](Proxy::release).
    Behind(Option<usize>),
    /// Every third event of a watch is lost, beginning with this one; a release ends the watch as one that is too old.
    Drops(usize),
    /// Of several events about one object within a moment, watches bring the last.
    Merges,
}

/// How long events are held to be merged.
const MOMENT: Duration = Duration::from_millis(300);

/// See the module's text. Ends with its runtime.
#[derive(Clone)]
pub(crate) struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    mode: watch::Sender<Mode>,
    releases: watch::Sender<u64>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By what is listed or watched: the resource versions that came by, oldest first.
    history: HashMap<String, Vec<String>>,
    /// By the same: what a list shows while views stand still.
    floor: HashMap<String, String>,
    /// What was ever watched. Only the lists that begin a watch may be behind.
    watches: HashSet<String>,
    /// Requests that write, so far.
    writes: usize,
}

impl Proxy {
    /// Listens, and passes on in the name of this client.
    pub(crate) async fn start(client: Client) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Shared {
            client,
            mode: watch::Sender::new(Mode::Through),
            releases: watch::Sender::default(),
            state: Mutex::default(),
        };
        let proxy = Self { port, shared: Arc::new(shared) };
        tokio::spawn(proxy.clone().listen(listener));
        proxy
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.stand_still();
        self.shared.mode.send_replace(mode);
        self.release();
    }

    /// Shows everything up to now.
    pub(crate) fn release(&self) {
        self.shared.stand_still();
        self.shared.releases.send_modify(|releases| *releases += 1);
    }

    /// Requests that write, so far.
    pub(crate) fn writes(&self) -> usize {
        self.shared.state().writes
    }

    async fn listen(self, listener: TcpListener) {
        while let Ok((connection, _)) = listener.accept().await {
            let shared = Arc::clone(&self.shared);
            let mut mode = shared.mode.subscribe();
            let service = tower::service_fn(move |request| {
                let shared = Arc::clone(&shared);
                async move { Ok::<_, Infallible>(shared.answer(request).await) }
            });
            tokio::spawn(async move {
                let builder = Builder::new(TokioExecutor::new());
                let served = builder.serve_connection(TokioIo::new(connection), TowerToHyperService::new(service));
                tokio::select! {
                    // How a connection ends is the client's concern.
                    _ = served => {}
                    _ = mode.wait_for(|mode| *mode == Mode::Gone) => {}
                }
            });
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists that stand still show what came by until now.
    fn stand_still(&self) {
        let mut state = self.state();
        let last = |(path, versions): (&String, &Vec<String>)| Some((path.clone(), versions.last()?.clone()));
        state.floor = state.history.iter().filter_map(last).collect();
    }

    async fn answer(self: Arc<Self>, request: Request<hyper::body::Incoming>) -> Response<Body> {
        let mode = *self.mode.borrow();
        if let Mode::Answers(code) = mode {
            return status(code, "the proof's storm");
        }
        let call = Call::from_request(request.method(), request.uri());
        if matches!(call.verb, "create" | "update" | "patch" | "delete") && !call.resource.starts_with("leases") {
            self.state().writes += 1;
        }
        let path = watched(request.uri());
        let uri = if call.verb == "list" { self.in_the_past(request.uri(), mode) } else { request.uri().clone() };
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return status(400, "the request broke off") };
        let mut onward = Request::builder().method(parts.method).uri(uri);
        for (name, value) in &parts.headers {
            if ![header::HOST, header::AUTHORIZATION, header::CONTENT_LENGTH, header::CONNECTION].contains(name) {
                onward = onward.header(name, value);
            }
        }
        let onward = onward.body(kube::client::Body::from(body.to_bytes())).expect("a request");
        let answer = match self.client.send(onward).await {
            Ok(answer) => answer,
            Err(error) => return status(502, &error.to_string()),
        };
        let code = answer.status();
        if call.verb == "watch" && code.is_success() {
            self.state().watches.insert(path.clone());
            let (sender, receiver) = mpsc::unbounded();
            tokio::spawn(Arc::clone(&self).show(path, answer.into_body(), sender));
            let body = Body::from_stream(receiver.map(Ok::<Bytes, Infallible>));
            return json_answer(code, body);
        }
        let Ok(body) = answer.into_body().collect().await else { return status(502, "the answer broke off") };
        let body = body.to_bytes();
        if call.verb == "list" && code.is_success() {
            let list: Value = serde_json::from_slice(&body).unwrap_or_default();
            self.came_by(&path, &list["metadata"]["resourceVersion"]);
        }
        json_answer(code, Body::from(body))
    }

    /// The address of a list as it was, where views are behind and the past is known.
    fn in_the_past(&self, uri: &Uri, mode: Mode) -> Uri {
        let Mode::Behind(behind) = mode else { return uri.clone() };
        if uri.query().is_some_and(|query| query.contains("continue=")) {
            // A further page is of the past that the first one is of.
            return uri.clone();
        }
        let (state, of) = (self.state(), watched(uri));
        let version = match behind {
            // The API server answers any other list from what it has stored last.
            _ if !state.watches.contains(&of) => None,
            None => state.floor.get(&of),
            Some(events) => state.history.get(&of).and_then(|history| history.iter().rev().nth(events)),
        };
        let Some(version) = version else { return uri.clone() };
        let kept = |pair: &&str| !pair.starts_with("resourceVersion");
        let query: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(kept).collect();
        let query = query.join("&");
        let past = format!("{}?{query}&resourceVersion={version}&resourceVersionMatch=Exact", uri.path());
        past.parse().expect("an address")
    }

    fn came_by(&self, path: &str, version: &Value) {
        if let Some(version) = version.as_str() {
            self.state().history.entry(path.to_owned()).or_default().push(version.to_owned());
        }
    }

    /// Passes a watch's events on, as the mode has it.
    async fn show(self: Arc<Self>, path: String, mut body: kube::client::Body, out: mpsc::UnboundedSender<Bytes>) {
        let mut mode = self.mode.subscribe();
        let mut releases = self.releases.subscribe();
        let mut rest = Vec::new();
        let mut held: VecDeque<(String, Bytes)> = VecDeque::new();
        let (mut seen, mut dropped) = (0_usize, 0_usize);
        loop {
            let now = *mode.borrow_and_update();
            if matches!(now, Mode::Gone | Mode::Answers(_)) {
                return;
            }
            let merging = now == Mode::Merges && !held.is_empty();
            tokio::select! {
                frame = body.frame() => {
                    let Some(Ok(frame)) = frame else { break };
                    rest.extend_from_slice(frame.data_ref().map_or(&[][..], |data| &data[..]));
                    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                        let line = Bytes::from(rest.drain(..=end).collect::<Vec<u8>>());
                        let event: Value = serde_json::from_slice(&line).unwrap_or_default();
                        let metadata = &event["object"]["metadata"];
                        self.came_by(&path, &metadata["resourceVersion"]);
                        if event["type"] != "BOOKMARK" {
                            seen += 1;
                        }
                        if matches!(now, Mode::Drops(first) if seen % 3 == first % 3) && event["type"] != "BOOKMARK" {
                            dropped += 1;
                            continue;
                        }
                        let about = format!("{}/{}", metadata["namespace"], metadata["name"]);
                        if now == Mode::Merges {
                            held.retain(|(other, _)| *other != about);
                        }
                        held.push_back((about, line));
                    }
                }
                _ = releases.changed() => {
                    for (_, line) in held.drain(..) {
                        let _ = out.unbounded_send(line);
                    }
                    if dropped > 0 {
                        let expired = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                            "reason": "Expired", "message": "too old resource version" });
                        let event = json!({ "type": "ERROR", "object": expired });
                        let _ = out.unbounded_send(Bytes::from(format!("{event}\n")));
                        return;
                    }
                }
                _ = mode.changed() => {}
                () = tokio::time::sleep(MOMENT), if merging => {
                    for (_, line) in held.drain(..) {
                        let _ = out.unbounded_send(line);
                    }
                }
                () = out.closed_by_the_client() => return,
            }
            let keeps = match now {
                Mode::Behind(behind) => behind.unwrap_or(usize::MAX),
                Mode::Merges => usize::MAX,
                _ => 0,
            };
            while held.len() > keeps {
                let Some((_, line)) = held.pop_front() else { break };
                if out.unbounded_send(line).is_err() {
                    return;
                }
            }
        }
    }
}

/// What a list or a watch is of: its path, and what it selects.
fn watched(uri: &Uri) -> String {
    let selects = |pair: &&str| pair.starts_with("labelSelector=") || pair.starts_with("fieldSelector=");
    let mut selectors: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(selects).collect();
    selectors.sort_unstable();
    format!("{}?{}", uri.path(), selectors.join("&"))
}

trait Closed {
    /// Ends when nobody reads any more.
    async fn closed_by_the_client(&self);
}

impl Closed for mpsc::UnboundedSender<Bytes> {
    async fn closed_by_the_client(&self) {
        while !self.is_closed() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn status(code: u16, message: &str) -> Response<Body> {
    let reason = if code == 429 { "TooManyRequests" } else { "InternalError" };
    let status = json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": message });
    json_answer(StatusCode::from_u16(code).expect("a status code"), Body::from(status.to_string()))
}

fn json_answer(code: StatusCode, body: Body) -> Response<Body> {
    let answer = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    answer.body(body).expect("an answer")
}
