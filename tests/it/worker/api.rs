//! An API server for one namespace: lists in pages, one run, reports; and the faults a test asks for.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};
use tenantatlas::cluster::client::{CallLayer, ClientOptions};
use tower::{BoxError, Layer, service_fn};

pub const NAMESPACE: &str = "acme";
pub const RUN: &str = "nightly";
pub const RUN_UID: &str = "11111111-2222-3333-4444-555555555555";
pub const JOB_UID: &str = "job-uid";

/// What a request is answered with.
pub enum Answer {
    Json(u16, Value),
    Text(u16, String),
    /// The connection breaks.
    Broken,
    /// No answer, ever.
    Hangs,
}

/// Asked before a request is served: its path, and how often this path was asked for before.
type Fault = Box<dyn Fn(&Uri, usize) -> Option<Answer> + Send + Sync>;

/// One served kind: `group`, `version`, `Kind`, plural.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind(String, String, String, String);

/// Clones are the same server.
#[derive(Clone, Default)]
pub struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    kinds: BTreeMap<Kind, Vec<Value>>,
    undiscovered: Vec<(String, String)>,
    run: Value,
    reports: BTreeMap<String, Value>,
    patches: Vec<Value>,
    requests: Vec<String>,
    asked: HashMap<String, usize>,
    fault: Option<Fault>,
    page: Option<usize>,
}

impl Api {
    pub fn new() -> Self {
        let api = Self::default();
        api.edit(|state| {
            state.run = json!({
                "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
                "metadata": {"name": RUN, "namespace": NAMESPACE, "uid": RUN_UID},
                "spec": {"type": "backup.capture"},
                "status": {"phase": "queued", "outcome": "pending", "observedGeneration": -1},
            });
        });
        api.serve("tenantatlas.io", "v1alpha1", "BackupRepository", "backuprepositories", Vec::new());
        api.serve("tenantatlas.io", "v1alpha1", "OperationRun", "operationruns", Vec::new());
        api
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        edit(&mut self.0.lock().unwrap())
    }

    /// Serves these objects of a kind, in this order.
    pub fn serve(&self, group: &str, version: &str, kind: &str, plural: &str, objects: Vec<Value>) {
        let kind = Kind(group.into(), version.into(), kind.into(), plural.into());
        self.edit(|state| state.kinds.insert(kind, objects));
    }

    pub fn serve_config_maps(&self, objects: Vec<Value>) {
        self.serve("", "v1", "ConfigMap", "configmaps", objects);
    }

    pub fn undiscovered(&self, group: &str, version: &str) {
        self.edit(|state| state.undiscovered.push((group.into(), version.into())));
    }

    /// At most so many objects a page, whatever is asked for.
    pub fn pages_of(&self, objects: usize) {
        self.edit(|state| state.page = Some(objects));
    }

    pub fn fail(&self, fault: impl Fn(&Uri, usize) -> Option<Answer> + Send + Sync + 'static) {
        self.edit(|state| state.fault = Some(Box::new(fault)));
    }

    pub fn heal(&self) {
        self.edit(|state| state.fault = None);
    }

    pub fn change_run(&self, change: impl FnOnce(&mut Value)) {
        self.edit(|state| change(&mut state.run));
    }

    pub fn run(&self) -> Value {
        self.edit(|state| state.run.clone())
    }

    pub fn reports(&self) -> BTreeMap<String, Value> {
        self.edit(|state| state.reports.clone())
    }

    pub fn patches(&self) -> Vec<Value> {
        self.edit(|state| state.patches.clone())
    }

    /// Method and path of every request.
    pub fn requests(&self) -> Vec<String> {
        self.edit(|state| state.requests.clone())
    }

    /// A client without a network in between.
    pub fn client(&self) -> Client {
        let api = self.clone();
        let server = service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                match api.answer(&parts.method, &parts.uri, &body) {
                    Answer::Json(status, value) => Ok(response(status, value.to_string())),
                    Answer::Text(status, text) => Ok(response(status, text)),
                    Answer::Broken => Err(BoxError::from("connection reset by peer")),
                    Answer::Hangs => std::future::pending().await,
                }
            }
        });
        Client::new(CallLayer::new(ClientOptions::default()).layer(server), NAMESPACE)
    }

    pub fn answer(&self, method: &Method, uri: &Uri, body: &Bytes) -> Answer {
        self.edit(|state| {
            state.requests.push(format!("{method} {}", uri.path()));
            let asked = state.asked.entry(uri.path().to_owned()).or_default();
            *asked += 1;
            let asked = *asked - 1;
            let fault = state.fault.as_ref().and_then(|fault| fault(uri, asked));
            fault.unwrap_or_else(|| state.answer(method, uri, body))
        })
    }
}

fn response(status: u16, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into_bytes()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A refusal as the API server words it.
pub fn refusal(code: u16, reason: &str) -> Answer {
    let message = format!("made to fail with {reason}");
    Answer::Json(
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message}),
    )
}

/// What an expired list is answered with, with or without a token to go on.
pub fn expired(token: Option<&str>) -> Answer {
    let metadata = token.map_or(json!({}), |token| json!({"continue": token}));
    Answer::Json(
        410,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure", "code": 410, "reason": "Expired", "message": "too old"}),
    )
}

/// A parameter of the query.
pub fn parameter(uri: &Uri, key: &str) -> Option<String> {
    let value = uri.query()?.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    Some(value.replace("%3D", "="))
}

impl State {
    fn answer(&mut self, method: &Method, uri: &Uri, body: &Bytes) -> Answer {
        let own = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/operationruns/{RUN}");
        let reports = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/operationreports");
        match (method.as_str(), uri.path()) {
            ("GET", "/api") => Answer::Json(200, self.discovery(true)),
            ("GET", "/apis") => Answer::Json(200, self.discovery(false)),
            ("GET", path) if path == own => Answer::Json(200, self.run.clone()),
            ("PATCH", path) if *path == format!("{own}/status") => {
                let written: Value = serde_json::from_slice(body).unwrap();
                self.run["status"]["summaryCounts"] = written["status"]["summaryCounts"].clone();
                self.patches.push(written);
                Answer::Json(200, self.run.clone())
            }
            ("POST", path) if path == reports => {
                let report: Value = serde_json::from_slice(body).unwrap();
                let name = report["metadata"]["name"].as_str().unwrap().to_owned();
                if self.reports.contains_key(&name) {
                    return refusal(409, "AlreadyExists");
                }
                self.reports.insert(name, report.clone());
                Answer::Json(201, report)
            }
            ("GET", path) => self.list(path, uri),
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    fn discovery(&self, core: bool) -> Value {
        let mut groups: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
        for Kind(group, version, kind, plural) in self.kinds.keys().filter(|kind| kind.0.is_empty() == core) {
            groups.entry((group, version)).or_default().push(json!({
                "resource": plural, "responseKind": {"group": group, "version": version, "kind": kind},
                "scope": "Namespaced", "verbs": ["get", "list"],
            }));
        }
        let mut items: Vec<_> = groups
            .into_iter()
            .map(|((group, version), resources)| {
                json!({"metadata": {"name": group}, "versions": [{"version": version, "resources": resources}]})
            })
            .collect();
        if !core {
            items.extend(self.undiscovered.iter().map(|(group, version)| {
                json!({"metadata": {"name": group}, "versions": [{"version": version, "freshness": "Stale"}]})
            }));
        }
        json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
    }

    fn list(&self, path: &str, uri: &Uri) -> Answer {
        let served = self.kinds.iter().find(|(Kind(group, version, _, plural), _)| {
            let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
            path == format!("{root}/{version}/namespaces/{NAMESPACE}/{plural}")
        });
        let Some((kind, objects)) = served else { return refusal(404, "NotFound") };
        let named = parameter(uri, "fieldSelector").map(|selector| selector.replace("metadata.name=", ""));
        let objects: Vec<_> = objects
            .iter()
            .filter(|object| named.as_deref().is_none_or(|name| object["metadata"]["name"] == name))
            .collect();
        let from: usize = parameter(uri, "continue").map_or(0, |token| token.parse().unwrap());
        let limit: usize = parameter(uri, "limit").unwrap().parse().unwrap();
        let until = objects.len().min(from + limit.min(self.page.unwrap_or(limit)));
        let metadata = if until < objects.len() {
            json!({"resourceVersion": "7", "continue": until.to_string(), "remainingItemCount": objects.len() - until})
        } else {
            json!({"resourceVersion": "7"})
        };
        Answer::Json(
            200,
            json!({"kind": format!("{}List", kind.2), "apiVersion": "v1", "metadata": metadata, "items": &objects[from..until]}),
        )
    }
}

/// An object as a list holds it: without apiVersion and kind.
pub fn object(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": format!("uid-of-{name}"), "resourceVersion": "12",
            "creationTimestamp": "2026-01-02T03:04:05Z", "managedFields": [{"manager": "kubectl"}]},
        "data": {"of": name},
    })
}

/// Numbered objects, in the order of their names.
pub fn objects(count: usize) -> Vec<Value> {
    (0..count).map(|number| object(&format!("item-{number:05}"))).collect()
}
