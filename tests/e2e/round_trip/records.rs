//! The worker's calls, those about our own records answered here: runs, restores, sets, reports, audit entries.
//!
//! All others go to the real API server, in the name of the real account. So a round takes no Job, and what is written to
//! the tenant's objects passes authorization, admission, quotas and validation as it would from a pod.

use http::{Method, Request, Response};
use kube::client::Body;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tenantatlas::api::OperationReport;
use tenantatlas::api::operation_report::{ItemResult, PlannedObject};
use tenantatlas::cluster::client::{CallLayer, ClientOptions};
use tower::{BoxError, Layer as _, service_fn};

/// Clones are the same records.
#[derive(Clone, Default)]
pub(crate) struct Records(Arc<Mutex<BTreeMap<String, Value>>>);

impl Records {
    /// Where a record is.
    fn path(namespace: &str, plural: &str, name: &str) -> String {
        format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/{plural}/{name}")
    }

    pub(crate) fn put(&self, namespace: &str, plural: &str, record: Value) {
        let name = record["metadata"]["name"].as_str().expect("a name").to_owned();
        self.0.lock().expect("a lock").insert(Self::path(namespace, plural, &name), record);
    }

    pub(crate) fn get(&self, namespace: &str, plural: &str, name: &str) -> Value {
        self.0.lock().expect("a lock")[&Self::path(namespace, plural, name)].clone()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().expect("a lock").clear();
    }

    fn reports(&self, run: &str) -> Vec<OperationReport> {
        let all = self.0.lock().expect("a lock");
        let reports = all.iter().filter(|(path, _)| path.contains("/operationreports/"));
        let reports = reports.map(|(_, report)| serde_json::from_value(report.clone()).expect("a report"));
        let mut reports: Vec<OperationReport> =
            reports.filter(|report: &OperationReport| report.spec.run.uid == run).collect();
        reports.sort_by_key(|report| (report.spec.chunk, report.name_any()));
        reports
    }

    /// The plan of a run.
    pub(crate) fn plan(&self, run: &str) -> Vec<PlannedObject> {
        self.reports(run).into_iter().flat_map(|report| report.spec.plan).collect()
    }

    /// The results of a run.
    pub(crate) fn results(&self, run: &str) -> Vec<ItemResult> {
        self.reports(run).into_iter().flat_map(|report| report.spec.results).collect()
    }

    /// A client that answers for the records and asks `upstream` for all else.
    pub(crate) fn client(&self, upstream: Client, namespace: &str) -> Client {
        let records = self.clone();
        let server = service_fn(move |request: Request<Body>| {
            let (records, upstream) = (records.clone(), upstream.clone());
            async move {
                if !request.uri().path().starts_with("/apis/tenantatlas.io/") {
                    return upstream.send(request).await.map_err(BoxError::from);
                }
                let (parts, body) = request.into_parts();
                let body = body.collect_bytes().await?;
                let (code, answer) = records.answer(&parts.method, &parts.uri, &body);
                let mut response = Response::new(Body::from(answer.to_string().into_bytes()));
                *response.status_mut() = http::StatusCode::from_u16(code)?;
                Ok::<_, BoxError>(response)
            }
        });
        Client::new(CallLayer::new(ClientOptions::default()).layer(server), namespace)
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: &[u8]) -> (u16, Value) {
        let mut all = self.0.lock().expect("a lock");
        let path = uri.path().trim_end_matches("/status").to_owned();
        let written = || serde_json::from_slice::<Value>(body).expect("JSON");
        // `/apis/<group>/<version>/namespaces/<namespace>/<plural>`
        let is_list = path.split('/').filter(|segment| !segment.is_empty()).count() == 6;
        match (method.as_str(), is_list) {
            ("GET", true) => {
                let run = uri.query().and_then(|query| query.split_once("spec.run.name%3D"));
                let run = run.map(|(_, rest)| rest.split('&').next().unwrap_or_default());
                let below = format!("{path}/");
                let listed = all.iter().filter(|(at, _)| at.starts_with(&below));
                let of_run = listed.filter(|(_, item)| run.is_none_or(|run| item["spec"]["run"]["name"] == run));
                let items: Vec<&Value> = of_run.map(|(_, item)| item).collect();
                (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}))
            }
            ("GET", false) => all.get(&path).map_or_else(|| refused(404, "NotFound"), |found| (200, found.clone())),
            ("POST", _) => {
                let mut record = written();
                let at = format!("{path}/{}", record["metadata"]["name"].as_str().expect("a name"));
                if all.contains_key(&at) {
                    return refused(409, "AlreadyExists");
                }
                record["metadata"]["uid"] = json!(format!("uid-{}", all.len()));
                all.insert(at, record.clone());
                (201, record)
            }
            // Progress, which nobody looks at.
            ("PATCH", _) => all.get(&path).map_or_else(|| refused(404, "NotFound"), |found| (200, found.clone())),
            _ => refused(405, "MethodNotAllowed"),
        }
    }
}

fn refused(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}
