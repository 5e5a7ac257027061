//! An API server for one namespace: lists in pages, one run, reports; and the faults a test asks for.

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Uri};
use kube::{Client, client::Body};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
};
use tenantatlas::{
    cluster::client::{CallLayer, ClientOptions},
    providers::kubernetes::list::field_is,
};
use tower::{BoxError, Layer, service_fn};

pub const NAMESPACE: &str = "acme";
pub const RUN: &str = "nightly";
pub const RUN_UID: &str = "11111111-2222-3333-4444-555555555555";
pub const JOB_UID: &str = "job-uid";
pub const POD: &str = "op-0123456789abcdef0123-x7k2p";

/// Where audit entries are.
pub const AUDIT: &str = "/apis/tenantatlas.io/v1alpha1/namespaces/acme/auditentries";

/// Where findings are.
pub const FINDINGS: &str = "/apis/tenantatlas.io/v1alpha1/namespaces/acme/findings";

/// Where Leases are.
pub const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/acme/leases";

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

/// Asked before a write of an object is served, tried or meant: its method and path, and the object's name.
type Refusal = Box<dyn Fn(&Method, &Uri, &str) -> Option<Answer> + Send + Sync>;

/// A change of an object: its kind, its name, and what is done to it.
pub type Change = (&'static str, &'static str, fn(&mut Value));

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
    audit: BTreeMap<String, Value>,
    /// Whether the answer to the next entry is lost, though it is written.
    loses_answer: bool,
    /// What is served at a path, beside lists.
    records: BTreeMap<String, Value>,
    /// Leases, by name.
    leases: BTreeMap<String, Value>,
    /// Findings, by name, and every write to one.
    findings: BTreeMap<String, Value>,
    finding_writes: Vec<String>,
    /// Writes to findings after which no connection holds.
    findings_break_after: Option<usize>,
    /// Sets and runs that are listed beside the run itself.
    listed: BTreeMap<&'static str, Vec<Value>>,
    /// User, verb and resource of what is not allowed.
    denied: BTreeSet<(String, String, String)>,
    patches: Vec<Value>,
    requests: Vec<String>,
    metadata_lists: usize,
    /// Method and path of every write that was meant, and of every one that was a dry run.
    writes: Vec<String>,
    dry_runs: Vec<String>,
    /// Reads of the run after which it is cancelled.
    cancelled_after: Option<usize>,
    /// For uids and versions of what is written.
    counter: u64,
    /// Writes after which no connection holds.
    breaks_after: Option<usize>,
    /// At the first write to a path that ends so: what somebody else changes at that moment.
    meanwhile: Option<(String, Vec<Change>)>,
    asked: HashMap<String, usize>,
    fault: Option<Fault>,
    refusal: Option<Refusal>,
    page: Option<usize>,
    /// Keeps nothing of objects that are made, nor of what is asked: its own memory is not to be told from a worker's.
    forgets: bool,
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
        api.let_readers_read(&json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get"]}]));
        api
    }

    /// From now on it keeps nothing of objects that are made.
    pub fn forget(&self) {
        self.edit(|state| state.forgets = true);
    }

    /// As if no run had written any.
    pub fn forget_reports(&self) {
        self.edit(|state| state.reports.clear());
    }

    /// Changes each report, as somebody else might.
    pub fn change_reports(&self, change: impl FnMut(&mut Value)) {
        self.edit(|state| state.reports.values_mut().for_each(change));
    }

    /// The rules of the ClusterRole that everybody holds who reads reports.
    pub fn let_readers_read(&self, rules: &Value) {
        let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "view"}, "rules": rules});
        self.edit(|state| {
            state.records.insert("/apis/rbac.authorization.k8s.io/v1/clusterroles/view".to_owned(), role)
        });
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        edit(&mut self.0.lock().unwrap())
    }

    /// Serves these objects of a kind, in this order.
    pub fn serve(&self, group: &str, version: &str, kind: &str, plural: &str, objects: Vec<Value>) {
        let kind = Kind(group.into(), version.into(), kind.into(), plural.into());
        self.edit(|state| state.kinds.insert(kind, objects));
    }

    /// Serves a kind no more, as after its definition was deleted.
    pub fn unserve(&self, kind: &str) {
        self.edit(|state| state.kinds.retain(|Kind(_, _, served, _), _| served != kind));
    }

    pub fn serve_config_maps(&self, objects: Vec<Value>) {
        self.serve("", "v1", "ConfigMap", "configmaps", objects);
    }

    /// Serves a record of ours.
    pub fn record(&self, plural: &str, name: &str, record: Value) {
        let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/{plural}/{name}");
        self.edit(|state| state.records.insert(path, record));
    }

    pub fn deny(&self, user: &str, verb: &str, resource: &str) {
        self.edit(|state| state.denied.insert((user.into(), verb.into(), resource.into())));
    }

    /// Nobody is denied anything any more.
    pub fn allow_all(&self) {
        self.edit(|state| state.denied.clear());
    }

    /// The objects of a kind.
    pub fn objects_of(&self, kind: &str) -> Vec<Value> {
        self.edit(|state| {
            let found = state.kinds.iter().find(|(Kind(_, _, served, _), _)| served == kind);
            found.map(|(_, objects)| objects.clone()).unwrap_or_default()
        })
    }

    /// Changes an object in place, as somebody else would.
    pub fn change(&self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.edit(|state| state.change(kind, name, change));
    }

    /// Changes objects just before the first write to a path that ends so.
    pub fn meanwhile(&self, path: &str, changes: Vec<Change>) {
        self.edit(|state| state.meanwhile = Some((path.to_owned(), changes)));
    }

    /// After so many writes no connection holds, until it is healed.
    pub fn break_after_writes(&self, writes: usize) {
        self.edit(|state| state.breaks_after = Some(state.writes.len() + writes));
    }

    pub fn record_of(&self, plural: &str, name: &str) -> Value {
        let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/{plural}/{name}");
        self.edit(|state| state.records[&path].clone())
    }

    /// The Leases there are, by name.
    pub fn leases(&self) -> BTreeMap<String, Value> {
        self.edit(|state| state.leases.clone())
    }

    /// The findings there are, by name.
    pub fn findings(&self) -> BTreeMap<String, Value> {
        self.edit(|state| state.findings.clone())
    }

    /// Changes a finding, as somebody else would.
    pub fn change_finding(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.edit(|state| change(state.findings.get_mut(name).unwrap()));
    }

    /// Puts a finding there.
    pub fn add_finding(&self, finding: Value) {
        let name = finding["metadata"]["name"].as_str().unwrap().to_owned();
        self.edit(|state| state.findings.insert(name, finding));
    }

    /// Method and name of every write to a finding since this was asked last.
    pub fn take_finding_writes(&self) -> Vec<String> {
        self.edit(|state| std::mem::take(&mut state.finding_writes))
    }

    /// After so many writes to findings no connection holds, until it is healed.
    pub fn break_after_finding_writes(&self, writes: usize) {
        self.edit(|state| state.findings_break_after = Some(state.finding_writes.len() + writes));
    }

    /// Removes a Lease, as somebody else would.
    pub fn remove_lease(&self, name: &str) {
        self.edit(|state| state.leases.remove(name));
    }

    /// Changes the version of a Lease and nothing else.
    pub fn touch_lease(&self, name: &str) {
        self.edit(|state| state.leases.get_mut(name).unwrap()["metadata"]["resourceVersion"] = json!("touched"));
    }

    /// What a list of all backup sets, or of all runs beside this one, shows.
    pub fn list(&self, kind: &'static str, items: Vec<Value>) {
        self.edit(|state| state.listed.insert(kind, items));
    }

    pub fn writes(&self) -> Vec<String> {
        self.edit(|state| state.writes.clone())
    }

    pub fn dry_runs(&self) -> Vec<String> {
        self.edit(|state| state.dry_runs.clone())
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

    /// Answers writes of the tenant's objects so, where it says how.
    pub fn refuse_writes(&self, refusal: impl Fn(&Method, &Uri) -> Option<Answer> + Send + Sync + 'static) {
        self.refuse_writes_by_name(move |method, uri, _| refusal(method, uri));
    }

    /// The same, where the answer depends on the object's name.
    pub fn refuse_writes_by_name(
        &self,
        refusal: impl Fn(&Method, &Uri, &str) -> Option<Answer> + Send + Sync + 'static,
    ) {
        self.edit(|state| state.refusal = Some(Box::new(refusal)));
    }

    pub fn heal(&self) {
        self.edit(|state| {
            (state.fault, state.refusal, state.breaks_after) = (None, None, None);
            state.findings_break_after = None;
        });
    }

    pub fn change_run(&self, change: impl FnOnce(&mut Value)) {
        self.edit(|state| change(&mut state.run));
    }

    /// The run is cancelled once it was read so many times more.
    pub fn cancel_after_reads_of_the_run(&self, reads: usize) {
        self.edit(|state| state.cancelled_after = Some(reads - 1));
    }

    pub fn run(&self) -> Value {
        self.edit(|state| state.run.clone())
    }

    pub fn reports(&self) -> BTreeMap<String, Value> {
        self.edit(|state| state.reports.clone())
    }

    /// The audit entries, in the order of their names.
    pub fn audit(&self) -> Vec<Value> {
        self.edit(|state| state.audit.values().cloned().collect())
    }

    pub fn change_audit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        self.edit(|state| change(state.audit.get_mut(name).unwrap()));
    }

    /// Puts an audit entry there, as somebody else wrote it.
    pub fn add_audit(&self, entry: Value) {
        let name = entry["metadata"]["name"].as_str().unwrap().to_owned();
        self.edit(|state| state.audit.insert(name, entry));
    }

    /// Takes the last audit entry away.
    pub fn cut_audit(&self) {
        self.edit(|state| state.audit.pop_last());
    }

    /// Writes the next audit entry and loses the answer.
    pub fn lose_answer(&self) {
        self.edit(|state| state.loses_answer = true);
    }

    pub fn patches(&self) -> Vec<Value> {
        self.edit(|state| state.patches.clone())
    }

    /// Method and path of every request since this was asked last.
    pub fn take_requests(&self) -> Vec<String> {
        self.edit(|state| std::mem::take(&mut state.requests))
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
                let accept = parts.headers.get("accept").and_then(|accept| accept.to_str().ok()).unwrap_or_default();
                let answer = api.answer(&parts.method, &parts.uri, &body);
                match if accept.contains("as=PartialObjectMetadataList") { api.metadata_of(answer) } else { answer } {
                    Answer::Json(status, value) => Ok(response(status, value.to_string())),
                    Answer::Text(status, text) => Ok(response(status, text)),
                    Answer::Broken => Err(BoxError::from("connection reset by peer")),
                    Answer::Hangs => std::future::pending().await,
                }
            }
        });
        Client::new(CallLayer::new(ClientOptions::default()).layer(server), NAMESPACE)
    }

    /// A list without anything but the metadata of its objects.
    fn metadata_of(&self, answer: Answer) -> Answer {
        self.edit(|state| state.metadata_lists += 1);
        let Answer::Json(200, mut list) = answer else { return answer };
        for item in list["items"].as_array_mut().into_iter().flatten() {
            *item =
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]});
        }
        Answer::Json(200, list)
    }

    /// How many pages of metadata were asked for since this was asked last.
    pub fn take_metadata_lists(&self) -> usize {
        self.edit(|state| std::mem::take(&mut state.metadata_lists))
    }

    /// Says that it is of this version.
    pub fn version(&self, version: &str) {
        let version = json!({"major": "1", "minor": "36", "gitVersion": version, "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        self.edit(|state| state.records.insert("/version".to_owned(), version));
    }

    pub fn answer(&self, method: &Method, uri: &Uri, body: &Bytes) -> Answer {
        self.edit(|state| {
            if !state.forgets {
                state.requests.push(format!("{method} {}", uri.path()));
            }
            let asked = state.asked.entry(uri.path().to_owned()).or_default();
            *asked += 1;
            let asked = *asked - 1;
            if state.breaks_after.is_some_and(|writes| state.writes.len() >= writes && is_write(method, uri)) {
                return Answer::Broken;
            }
            let fault = state.fault.as_ref().and_then(|fault| fault(uri, asked));
            fault.unwrap_or_else(|| state.answer(method, uri, body))
        })
    }
}

/// Whether a request writes to an object of the tenant.
fn is_write(method: &Method, uri: &Uri) -> bool {
    let ours = uri.path().contains("tenantatlas.io") || uri.path().contains("subjectaccessreviews");
    method != Method::GET && !ours && parameter(uri, "dryRun").is_none()
}

fn response(status: u16, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text.into_bytes()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response
}

/// A refusal as the API server words it.
pub fn refusal(code: u16, reason: &str) -> Answer {
    refusal_with(code, reason, &format!("made to fail with {reason}"))
}

/// A refusal with these words.
pub fn refusal_with(code: u16, reason: &str, message: &str) -> Answer {
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

/// A parameter of the query, as Go's `url.ParseQuery` decodes it: a plus is a space.
pub fn parameter(uri: &Uri, key: &str) -> Option<String> {
    let value = uri.query()?.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))?;
    let mut bytes = value.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        let hex = (byte == b'%').then(|| [bytes.next().unwrap(), bytes.next().unwrap()]);
        let code = hex.map(|hex| u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
        decoded.push(code.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    Some(String::from_utf8(decoded).unwrap())
}

/// Whether a list's field selector, if it has one, selects an object by its name.
fn is_named(object: &Value, uri: &Uri) -> bool {
    let selected = object["metadata"]["name"].as_str().map(|name| field_is("metadata.name", name));
    parameter(uri, "fieldSelector").is_none_or(|named| selected == Some(named))
}

impl State {
    fn change(&mut self, kind: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.counter += 1;
        let version = format!("changed-{}", self.counter);
        let found = self.kinds.iter_mut().find(|(Kind(_, _, served, _), _)| served == kind);
        let mut objects = found.into_iter().flat_map(|(_, objects)| objects);
        let object = objects.find(|object| object["metadata"]["name"] == name).unwrap();
        change(object);
        object["metadata"]["resourceVersion"] = json!(version);
    }

    fn answer(&mut self, method: &Method, uri: &Uri, body: &Bytes) -> Answer {
        let own = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/operationruns/{RUN}");
        let reports = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/operationreports");
        let reviews = format!("/apis/authorization.k8s.io/v1/namespaces/{NAMESPACE}/localsubjectaccessreviews");
        match (method.as_str(), uri.path()) {
            ("GET", "/api") => Answer::Json(200, self.discovery(true)),
            ("GET", "/apis") => Answer::Json(200, self.discovery(false)),
            ("GET", path) if path == own => {
                let run = self.run.clone();
                match &mut self.cancelled_after {
                    Some(0) => self.run["spec"]["cancel"] = json!(true),
                    Some(left) => *left -= 1,
                    None => {}
                }
                Answer::Json(200, run)
            }
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
            ("POST", path) if *path == format!("/apis/tenantatlas.io/v1alpha1/namespaces/{NAMESPACE}/backupsets") => {
                let set: Value = serde_json::from_slice(body).unwrap();
                let path = format!("{path}/{}", set["metadata"]["name"].as_str().unwrap());
                if self.records.contains_key(&path) {
                    return refusal(409, "AlreadyExists");
                }
                self.records.insert(path, set.clone());
                Answer::Json(201, set)
            }
            ("POST", path) if path == reviews => self.review(body),
            ("GET", path) if self.records.contains_key(path) => Answer::Json(200, self.records[path].clone()),
            ("GET", path) if path == reports => {
                let items: Vec<_> = self.reports.values().cloned().collect();
                Answer::Json(
                    200,
                    json!({"kind": "OperationReportList", "apiVersion": "tenantatlas.io/v1alpha1", "metadata": {}, "items": items}),
                )
            }
            ("GET", path) if path.starts_with(&reports) => {
                let name = path.rsplit('/').next().unwrap_or_default();
                self.reports
                    .get(name)
                    .map_or_else(|| refusal(404, "NotFound"), |report| Answer::Json(200, report.clone()))
            }
            (_, path) if path.starts_with(LEASES) => self.lease(method, path, uri, body),
            ("GET", path) if own.strip_suffix(&format!("/{RUN}")) == Some(path) => {
                self.all("OperationRun", vec![self.run.clone()], uri)
            }
            ("GET", path) if path.ends_with("/backupsets") => self.all("BackupSet", Vec::new(), uri),
            (_, path) if path.starts_with(FINDINGS) => self.finding(method, path, uri, body),
            (_, path) if path.starts_with(AUDIT) => self.audit(method, path, uri, body),
            ("GET", path) => self.get_or_list(path, uri),
            ("POST" | "PUT" | "DELETE", path) => self.write(method, path, uri, body),
            _ => refusal(405, "MethodNotAllowed"),
        }
    }

    /// A list without pages.
    fn all(&self, kind: &'static str, mut items: Vec<Value>, uri: &Uri) -> Answer {
        items.extend(self.listed.get(kind).cloned().unwrap_or_default());
        items.retain(|item| is_named(item, uri));
        Answer::Json(
            200,
            json!({"kind": format!("{kind}List"), "apiVersion": "tenantatlas.io/v1alpha1", "metadata": {}, "items": items}),
        )
    }

    /// What an API server does with Leases: each change needs the version that it was made of, where it names one.
    fn lease(&mut self, method: &Method, path: &str, uri: &Uri, body: &Bytes) -> Answer {
        let name = path.strip_prefix(LEASES).and_then(|rest| rest.strip_prefix('/'));
        self.counter += 1;
        let version = json!(format!("lease-{}", self.counter));
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(name) = name else {
            if method == Method::GET {
                let selector = parameter(uri, "labelSelector").unwrap();
                let (label, value) = selector.split_once('=').unwrap();
                let of_repository = |lease: &&Value| lease["metadata"]["labels"][label] == value;
                let items: Vec<_> = self.leases.values().filter(of_repository).cloned().collect();
                let list = json!({"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": {}, "items": items});
                return Answer::Json(200, list);
            }
            let name = body["metadata"]["name"].as_str().unwrap().to_owned();
            if self.leases.contains_key(&name) {
                return refusal(409, "AlreadyExists");
            }
            let mut lease = body;
            lease["metadata"]["uid"] = version.clone();
            lease["metadata"]["resourceVersion"] = version;
            self.leases.insert(name, lease.clone());
            return Answer::Json(201, lease);
        };
        let Some(live) = self.leases.get_mut(name) else { return refusal(404, "NotFound") };
        let conditions = if method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        let moved = ["uid", "resourceVersion"]
            .iter()
            .any(|field| !conditions[field].is_null() && conditions[field] != live["metadata"][field]);
        match method.as_str() {
            "GET" => Answer::Json(200, live.clone()),
            _ if moved => refusal(409, "Conflict"),
            "DELETE" => {
                self.leases.remove(name);
                Answer::Json(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
            }
            _ => {
                for (field, value) in body["spec"].as_object().into_iter().flatten() {
                    live["spec"][field] = value.clone();
                }
                live["metadata"]["resourceVersion"] = version;
                Answer::Json(200, live.clone())
            }
        }
    }

    fn finding(&mut self, method: &Method, path: &str, uri: &Uri, body: &Bytes) -> Answer {
        let rest = path.strip_prefix(FINDINGS).unwrap().trim_start_matches('/').to_owned();
        let (name, is_status) = rest.strip_suffix("/status").map_or((rest.as_str(), false), |name| (name, true));
        if method != Method::GET {
            if self.findings_break_after.is_some_and(|writes| self.finding_writes.len() >= writes) {
                return Answer::Broken;
            }
            self.finding_writes.push(format!("{method} {rest}"));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_another = |found: &Value| {
            let asked = [&body["metadata"]["uid"], &body["preconditions"]["uid"]];
            asked.iter().any(|uid| !uid.is_null() && **uid != found["metadata"]["uid"])
        };
        match (method.as_str(), name) {
            ("GET", "") => {
                let after = parameter(uri, "continue").unwrap_or_default();
                let limit: usize = parameter(uri, "limit").unwrap().parse().unwrap();
                let rest = self.findings.iter().filter(|(name, _)| **name > after);
                let items: Vec<_> = rest.clone().take(limit).map(|(_, finding)| finding.clone()).collect();
                let next = items.last().filter(|_| rest.count() > limit).map(|last| last["metadata"]["name"].clone());
                let metadata = next.map_or_else(|| json!({}), |next| json!({"continue": next}));
                Answer::Json(
                    200,
                    json!({"kind": "FindingList", "apiVersion": "tenantatlas.io/v1alpha1", "metadata": metadata, "items": items}),
                )
            }
            ("GET", name) => {
                let found = self.findings.get(name);
                found.map_or_else(|| refusal(404, "NotFound"), |found| Answer::Json(200, found.clone()))
            }
            ("POST", _) => {
                let name = body["metadata"]["name"].as_str().unwrap().to_owned();
                if self.findings.contains_key(&name) {
                    return refusal(409, "AlreadyExists");
                }
                self.counter += 1;
                let mut finding = body;
                finding["metadata"]["uid"] = json!(format!("finding-{}", self.counter));
                // The API server ignores a status in the body.
                finding["status"] = json!({"observedGeneration": -1});
                self.findings.insert(name, finding.clone());
                Answer::Json(201, finding)
            }
            (method, name) => {
                let Some(found) = self.findings.get_mut(name) else { return refusal(404, "NotFound") };
                if is_another(found) {
                    return refusal(409, "Conflict");
                }
                if method == "DELETE" {
                    self.findings.remove(name);
                    return Answer::Json(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
                }
                let part = if is_status { "status" } else { "spec" };
                merge(&mut found[part], &body[part]);
                Answer::Json(200, found.clone())
            }
        }
    }

    fn audit(&mut self, method: &Method, path: &str, uri: &Uri, body: &Bytes) -> Answer {
        let name = path.strip_prefix(AUDIT).and_then(|rest| rest.strip_prefix('/'));
        match (method.as_str(), name) {
            ("GET", None) => {
                let uid =
                    parameter(uri, "labelSelector").map(|selector| selector.rsplit('=').next().unwrap().to_owned());
                let asked = |entry: &&Value| {
                    uid.as_ref().is_none_or(|uid| entry["metadata"]["labels"]["tenantatlas.io/run-uid"] == *uid)
                };
                let limit = parameter(uri, "limit").map_or(usize::MAX, |limit| limit.parse().unwrap());
                let after = parameter(uri, "continue").unwrap_or_default();
                let mut items: Vec<_> = self
                    .audit
                    .iter()
                    .filter(|(name, _)| **name > after)
                    .map(|(_, entry)| entry)
                    .filter(asked)
                    .cloned()
                    .collect();
                let more = items.len() > limit;
                items.truncate(limit);
                let next = items.last().filter(|_| more).map(|entry| entry["metadata"]["name"].clone());
                let metadata = next.map_or_else(|| json!({}), |next| json!({"continue": next}));
                Answer::Json(
                    200,
                    json!({"kind": "AuditEntryList", "apiVersion": "tenantatlas.io/v1alpha1", "metadata": metadata, "items": items}),
                )
            }
            ("POST", None) => {
                let entry: Value = serde_json::from_slice(body).unwrap();
                let name = entry["metadata"]["name"].as_str().unwrap().to_owned();
                if self.audit.contains_key(&name) {
                    return refusal(409, "AlreadyExists");
                }
                self.audit.insert(name, entry.clone());
                if std::mem::take(&mut self.loses_answer) { Answer::Broken } else { Answer::Json(201, entry) }
            }
            _ => refusal(403, "Forbidden"),
        }
    }

    fn discovery(&self, core: bool) -> Value {
        let mut groups: BTreeMap<(&str, &str), Vec<Value>> = BTreeMap::new();
        for Kind(group, version, kind, plural) in self.kinds.keys().filter(|kind| kind.0.is_empty() == core) {
            groups.entry((group, version)).or_default().push(json!({
                "resource": plural, "responseKind": {"group": group, "version": version, "kind": kind},
                "scope": "Namespaced", "verbs": ["get", "list", "create"],
                "subresources": [{"subresource": "status", "responseKind": {"group": group, "version": version, "kind": kind},
                    "verbs": ["get", "patch", "update"]}],
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

    fn review(&self, body: &Bytes) -> Answer {
        let mut review: Value = serde_json::from_slice(body).unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let attributes = &review["spec"]["resourceAttributes"];
        assert_eq!(attributes["namespace"], NAMESPACE);
        let question = (text(&review["spec"]["user"]), text(&attributes["verb"]), text(&attributes["resource"]));
        review["status"] = json!({"allowed": !self.denied.contains(&question)});
        Answer::Json(201, review)
    }

    /// The kind whose list, or one object of whose list, is at a path; and the object's name.
    fn place(&self, path: &str) -> Option<(Kind, Option<String>)> {
        self.kinds.keys().find_map(|kind| {
            let Kind(group, version, _, plural) = kind;
            let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
            let rest = path.strip_prefix(&format!("{root}/{version}/namespaces/{NAMESPACE}/{plural}"))?;
            match rest.strip_prefix('/') {
                Some(name) => Some((kind.clone(), Some(name.to_owned()))),
                None => rest.is_empty().then(|| (kind.clone(), None)),
            }
        })
    }

    fn get_or_list(&self, path: &str, uri: &Uri) -> Answer {
        match self.place(path) {
            Some((kind, Some(name))) => {
                let found = self.kinds[&kind].iter().find(|object| object["metadata"]["name"] == name.as_str());
                found.map_or_else(|| refusal(404, "NotFound"), |object| Answer::Json(200, whole(&kind, object)))
            }
            _ => self.list(path, uri),
        }
    }

    /// What an API server does with a write, as far as a restore can tell.
    fn write(&mut self, method: &Method, path: &str, uri: &Uri, body: &Bytes) -> Answer {
        let Some((kind, name)) = self.place(path) else { return refusal(404, "NotFound") };
        let body: Value = serde_json::from_slice(body).unwrap();
        let name = name.unwrap_or_else(|| body["metadata"]["name"].as_str().unwrap().to_owned());
        if let Some(refused) = self.refusal.as_ref().and_then(|refuses| refuses(method, uri, &name)) {
            return refused;
        }
        let dry_run = parameter(uri, "dryRun").is_some();
        if let Some((_, changes)) = self.meanwhile.take_if(|(suffix, _)| !dry_run && path.ends_with(suffix.as_str())) {
            for (kind, name, change) in changes {
                self.change(kind, name, change);
            }
        }
        if !self.forgets {
            if dry_run { &mut self.dry_runs } else { &mut self.writes }.push(format!("{method} {path}"));
        }
        self.counter += 1;
        let version = format!("written-{}", self.counter);
        let objects = self.kinds.get_mut(&kind).unwrap();
        let place = objects.iter().position(|object| object["metadata"]["name"] == name.as_str());
        let conditions = if method == Method::DELETE { &body["preconditions"] } else { &body["metadata"] };
        let moved = |live: &Value| {
            ["uid", "resourceVersion"]
                .iter()
                .any(|field| !conditions[field].is_null() && conditions[field] != live["metadata"][field])
        };
        let mut object = body.clone();
        match (method.as_str(), place) {
            ("POST", Some(_)) => return refusal(409, "AlreadyExists"),
            ("POST", None) => {
                assert!(conditions["uid"].is_null() && conditions["resourceVersion"].is_null(), "{body}");
                object["metadata"]["uid"] = json!(format!("uid-{version}"));
                object["metadata"]["resourceVersion"] = json!(version);
            }
            (_, None) => return refusal(404, "NotFound"),
            (_, Some(place)) if moved(&objects[place]) => return refusal(409, "Conflict"),
            ("DELETE", Some(place)) => {
                if !dry_run {
                    objects.remove(place);
                }
                return Answer::Json(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
            }
            (_, Some(place)) => {
                let live = &objects[place];
                take_over(&mut object, live, "status");
                for field in ["uid", "creationTimestamp", "managedFields"] {
                    take_over(&mut object["metadata"], &live["metadata"], field);
                }
                object["metadata"]["resourceVersion"] = json!(version);
                if !dry_run {
                    objects[place] = object.clone();
                }
            }
        }
        if !dry_run && !self.forgets && method == Method::POST {
            objects.push(object.clone());
            objects.sort_by(|one, other| one["metadata"]["name"].as_str().cmp(&other["metadata"]["name"].as_str()));
        }
        Answer::Json(200, whole(&kind, &object))
    }

    fn list(&self, path: &str, uri: &Uri) -> Answer {
        let served = self.kinds.iter().find(|(Kind(group, version, _, plural), _)| {
            let root = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
            path == format!("{root}/{version}/namespaces/{NAMESPACE}/{plural}")
        });
        let Some((kind, objects)) = served else { return refusal(404, "NotFound") };
        let labelled = parameter(uri, "labelSelector");
        let has_label = |object: &&Value| match labelled.as_deref().and_then(|selector| selector.split_once('=')) {
            Some((key, value)) if !key.ends_with('!') => object["metadata"]["labels"][key] == value,
            _ => true,
        };
        let objects: Vec<_> = objects.iter().filter(|object| is_named(object, uri)).filter(has_label).collect();
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

/// A JSON merge patch.
fn merge(target: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (field, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(field);
        } else {
            merge(&mut target[field], value);
        }
    }
}

/// Makes a field as that of the live object, whatever was sent. One that is not there is left out and never null.
fn take_over(object: &mut Value, live: &Value, field: &str) {
    match live.get(field) {
        Some(value) => object[field] = value.clone(),
        None => drop(object.as_object_mut().unwrap().remove(field)),
    }
}

/// An object with its kind, as it is answered with outside of lists.
fn whole(Kind(group, version, kind, _): &Kind, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = if group.is_empty() { json!(version) } else { json!(format!("{group}/{version}")) };
    object["kind"] = json!(kind);
    object
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
