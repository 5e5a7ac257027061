//! The objects that a state of the world stands for, as `observe` would find them, and the way back.

use super::{Job, Pod, Run};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1, core::v1 as core};
use serde_json::json;
use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, LazyLock, Mutex},
};
use tenantatlas::{
    api::{
        ObjectReference, OperationRun, OperationRunSpec, OperationType, Phase, Reason,
        identity::Identity,
        labels,
        operation_run::{OperationRunStatus, Waiting, WorkerResult},
    },
    runs::observed::Sibling,
};

pub(super) fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(super) static IDENTITY: LazyLock<Identity> =
    LazyLock::new(|| Identity::new("tenant", "work", None, "account", &serde_json::Map::new(), None));
pub(super) static TYPE: LazyLock<Arc<OperationType>> = LazyLock::new(|| Arc::new(operation_type()));

/// Objects made once for each state they stand for: most of the exploration would be spent on making them.
struct Made<K, V>(LazyLock<Mutex<HashMap<K, Arc<V>>>>);

impl<K: Clone + Eq + Hash, V> Made<K, V> {
    const fn new() -> Self {
        Self(LazyLock::new(|| Mutex::new(HashMap::new())))
    }

    fn get(&self, key: &K, make: impl FnOnce() -> V) -> Arc<V> {
        let mut made = self.0.lock().unwrap();
        if let Some(found) = made.get(key) {
            return found.clone();
        }
        let new = Arc::new(make());
        made.insert(key.clone(), new.clone());
        new
    }
}

static RUN_OBJECTS: Made<(usize, Run), OperationRun> = Made::new();
static JOB_OBJECTS: Made<Job, v1::Job> = Made::new();
static POD_OBJECTS: Made<Job, core::Pod> = Made::new();

pub(super) fn run_object(at: usize, run: &Run) -> Arc<OperationRun> {
    RUN_OBJECTS.get(&(at, run.clone()), || make_run(at, run))
}

pub(super) fn job_object(job: &Job) -> Arc<v1::Job> {
    JOB_OBJECTS.get(job, || make_job(job))
}

pub(super) fn pod_object(job: &Job) -> Arc<core::Pod> {
    POD_OBJECTS.get(job, || make_pod(job))
}

fn name(run: usize) -> String {
    format!("run-{run}")
}

pub(super) fn sibling(run: usize, leaving: bool) -> Sibling {
    Sibling { name: name(run), uid: name(run), leaving }
}

fn operation_type() -> OperationType {
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType", "metadata": {"name": "work"},
        "spec": {"executor": {"worker": {"command": ["capture"]}}}
    }))
    .unwrap()
}

fn make_run(at: usize, run: &Run) -> OperationRun {
    let spec = OperationRunSpec { operation_type: "work".into(), cancel: run.cancel, ..OperationRunSpec::default() };
    let mut object = OperationRun::new(&name(at), spec);
    object.metadata.namespace = Some("tenant".into());
    object.metadata.uid = Some(name(at));
    object.metadata.generation = Some(1);
    let status = OperationRunStatus {
        phase: run.phase,
        outcome: run.outcome,
        reason: run.reason.clone(),
        identity_hash: (run.phase != Phase::Queued).then(|| IDENTITY.as_str().to_owned()),
        job: run.job.map(|uid| ObjectReference { name: IDENTITY.job_name(), uid: uid.to_string() }),
        joined: run.joined.map(|winner| ObjectReference { name: name(winner), uid: name(winner) }),
        worker_result: run.told.map(|uid| WorkerResult {
            job_uid: uid.to_string(),
            pod: "op-1".into(),
            exit_code: 0,
            message: "{}".into(),
        }),
        waiting: run.waiting.clone().map(|reason| Waiting { reason, since: now() }),
        ..OperationRunStatus::default()
    };
    if run.labelled {
        let spec = &object.spec;
        object.metadata.labels = Some(labels::of_run(
            status.identity_hash.as_deref(),
            &spec.operation_type,
            spec.trigger,
            Some("team"),
            None,
            run.outcome,
        ));
    }
    object.status = Some(status);
    object
}

/// The part of a status that this model keeps.
pub(super) fn brief(before: &Run, status: &OperationRunStatus) -> Run {
    Run {
        phase: status.phase,
        outcome: status.outcome,
        reason: status.reason.clone().filter(|reason| reason != Reason::Running.as_str()),
        job: status.job.as_ref().map(|job| job.uid.parse().unwrap()),
        joined: status.joined.as_ref().map(|joined| joined.name.trim_start_matches("run-").parse().unwrap()),
        waiting: status.waiting.as_ref().map(|waiting| waiting.reason.clone()),
        told: status.worker_result.as_ref().map(|result| result.job_uid.parse().unwrap()),
        ..before.clone()
    }
}

fn make_job(job: &Job) -> v1::Job {
    let condition = match job.pod {
        Pod::Done => json!([{"type": "Complete", "status": "True"}]),
        Pod::Failed | Pod::Fenced | Pod::Cancelled => {
            json!([{"type": "Failed", "status": "True", "reason": "PodFailurePolicy"}])
        }
        Pod::Starting | Pod::Running | Pod::Exited => json!([]),
    };
    let mut object: v1::Job = serde_json::from_value(json!({
        "metadata": {"name": IDENTITY.job_name(), "uid": job.uid.to_string()},
        "spec": {"template": {"spec": {"containers": [{"name": "worker"}]}}},
        "status": {"conditions": condition}
    }))
    .unwrap();
    if job.terminating {
        object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    }
    object
}

fn make_pod(job: &Job) -> core::Pod {
    let state = match job.pod {
        Pod::Starting | Pod::Running => json!({"running": {}}),
        Pod::Exited | Pod::Done => json!({"terminated": {"exitCode": 0, "message": "{}"}}),
        Pod::Failed => json!({"terminated": {"exitCode": 1}}),
        Pod::Fenced => json!({"terminated": {"exitCode": 49, "message": r#"{"reason": "Fenced"}"#}}),
        Pod::Cancelled => json!({"terminated": {"exitCode": 49, "message": r#"{"reason": "Cancelled"}"#}}),
    };
    let phase = if matches!(job.pod, Pod::Starting | Pod::Running) { "Running" } else { "Succeeded" };
    let mut object: core::Pod = serde_json::from_value(json!({
        "metadata": {"name": "pod", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": job.uid.to_string(), "controller": true}]},
        "spec": {"containers": [{"name": "worker"}]},
        "status": {"phase": phase, "containerStatuses": [{"name": "worker", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}
    }))
    .unwrap();
    if job.terminating {
        object.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()));
    }
    object
}
