//! What is fuzzed: one function a kind of input that comes from others. Each takes any bytes, panics where a promise is
//! broken, and otherwise says nothing.

use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};
use std::sync::{Arc, LazyLock};
use tenantatlas::api::{
    OperationRun, OperationRunSpec, OperationType, Outcome, item::GroupKind, operation_run, outcome::MAX_FAILURES,
    selection::Selection,
};
use tenantatlas::kernel::refusal::Refusal;
use tenantatlas::operations::capture::{omission::Note, scope::Scope};
use tenantatlas::repository::ItemPath;
use tenantatlas::runs::{
    decide::{Action, decide},
    finish::{finish, job_end},
    job::{JobSettings, build},
    observed::{JobView, JoinedView, Observed, RepositoryView, RerunView, Slot, Tenant},
    prepare::{Prepared, prepare},
};

/// A function that is fuzzed.
pub type Target = fn(&[u8]);

/// The targets, by the names of their folders in `tests/fuzz/corpus`.
pub const TARGETS: [(&str, Target); 4] = [
    ("termination_message", termination_message),
    ("inputs", inputs),
    ("selection", selection),
    ("repository_content", repository_content),
];

fn pod(exit_code: i32, message: &str) -> Arc<Pod> {
    let ended = json!({ "terminated": { "exitCode": exit_code, "message": message } });
    let pod = json!({
        "metadata": { "name": "pod", "ownerReferences": [
            { "apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": "job", "controller": true }] },
        "spec": { "containers": [{ "name": "main" }] },
        "status": { "phase": "Succeeded", "containerStatuses": [
            { "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": ended }] },
    });
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

fn job(condition: &str) -> Job {
    let conditions = json!([{ "type": condition, "status": "True", "reason": "PodFailurePolicy" }]);
    let job = json!({ "metadata": { "name": "op", "uid": "job" }, "status": { "conditions": conditions } });
    serde_json::from_value(job).expect("a Job")
}

/// What a container leaves as its result, ours or another's, with a good and a bad exit code.
pub fn termination_message(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for (condition, exit_code) in [("Complete", 0), ("Failed", 1), ("Failed", 49)] {
        let job = job(condition);
        let end = job_end(&job).expect("an end");
        for ours in [true, false] {
            let end = finish(&job, &end, &[pod(exit_code, &text)], ours, Some(60));
            assert_ne!(end.outcome, Outcome::Pending);
            assert!(exit_code == 0 || end.outcome == Outcome::Failed, "a failed pod is no success");
            assert!(end.message.chars().count() <= 2001, "{} characters", end.message.chars().count());
            assert!(end.failures.len() <= MAX_FAILURES);
            assert!(end.failures.iter().all(|failure| failure.message.len() <= 2100 && failure.item_id.len() <= 2100));
            if let Some(counts) = end.counts {
                assert!(counts.add_up(), "{counts:?}");
                assert!(counts.failed == 0 || end.outcome != Outcome::Succeeded, "partial is never called success");
            }
            assert!(ours || end.made.is_empty(), "another image made nothing of ours");
            assert!(!end.reason.is_empty() && end.reason.len() <= 256 && end.reason.is_ascii(), "{:?}", end.reason);
        }
    }
}

static CAPTURE: LazyLock<Arc<OperationType>> = LazyLock::new(|| {
    let spec = json!({
        "executor": { "worker": { "command": ["capture"] } }, "readOnly": true,
        "inputsSchema": { "type": "object", "properties": {
            "repository": { "type": "string" }, "selection": { "type": "object" } } },
    });
    let object = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType",
        "metadata": { "name": "backup.capture" }, "spec": spec });
    Arc::new(serde_json::from_value(object).expect("a type"))
});

/// What a run's status may be, by the schema that the API server checks.
static STATUS: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let definition = OperationRun::crd();
    let schema = definition.spec.versions[0].schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
    let properties = schema.and_then(|schema| schema.properties.as_ref()).expect("properties");
    let status = serde_json::to_value(&properties["status"]).expect("JSON");
    jsonschema::draft7::new(&status).expect("a schema")
});

/// A status that the API server would refuse is tried again for ever: the run never ends.
fn statuses_are_valid(run: &OperationRun, tenant: Tenant, prepared: Result<Prepared, Refusal>) {
    let observed = Observed {
        run: Arc::new(run.clone()),
        tenant: Some(tenant),
        operation_type: Some(CAPTURE.clone()),
        prepared,
        job: JobView::Absent,
        job_asked: true,
        pods: Vec::new(),
        joined: JoinedView::None,
        older: Vec::new(),
        slot: Slot::Free,
        waiting_since: None,
        beyond_history: false,
        awaited: false,
        parent: None,
    };
    for action in decide(&observed, Timestamp::UNIX_EPOCH).actions {
        let status = match action {
            Action::Start(start) => start.status,
            Action::WriteStatus(status) => *status,
            _ => continue,
        };
        let status = serde_json::to_value(status).expect("JSON");
        if let Err(error) = STATUS.validate(&status) {
            panic!("{} is refused: {error}", error.instance_path());
        }
    }
}

/// The inputs of a run: refused with a word, or made into a Job whose name and labels hold whatever they were.
pub fn inputs(bytes: &[u8]) {
    let Ok(inputs) = serde_json::from_slice::<Map<String, Value>>(bytes) else { return };
    let spec = OperationRunSpec {
        operation_type: "backup.capture".into(),
        inputs: inputs.into(),
        ..OperationRunSpec::default()
    };
    let mut run = OperationRun::new("run", spec);
    run.metadata.namespace = Some("tenant".into());
    run.metadata.uid = Some("uid".into());
    let tenant = Tenant { uid: "tenant".into(), workspace: "team".into(), terminating: false };
    let none = (&RepositoryView::NotNeeded, &RerunView::NotAsked);
    let prepared = prepare(&run, Some(&tenant), Some(&CAPTURE), none.0, none.1, |_| true);
    statuses_are_valid(&run, tenant, prepared.clone());
    match prepared {
        Err(refusal) => assert!(refusal.message.chars().count() < 4000, "{}", refusal.message),
        Ok(prepared) => {
            let settings = JobSettings {
                image: "image".into(),
                image_pull_policy: "Never".into(),
                image_pull_secrets: Vec::new(),
                worker_resources: json!({}),
                cluster_uid: "cluster".into(),
            };
            let job = build(&run, &prepared, &settings).expect("a Job");
            assert_eq!(job.metadata.namespace.as_deref(), Some("tenant"), "never another namespace");
            let name = job.metadata.name.expect("a name");
            assert!(name.starts_with("op-") && name.len() == 23, "{name}");
            let pod = job.spec.and_then(|spec| spec.template.spec).expect("a pod");
            assert_eq!(pod.service_account_name.as_deref(), Some("tenantatlas-worker"), "never another account");
            assert_eq!(pod.containers[0].command.as_deref().unwrap_or_default().len(), 0, "never another program");
        }
    }
}

/// A selection, and what it takes.
pub fn selection(bytes: &[u8]) {
    let Ok(selection) = serde_json::from_slice::<Selection>(bytes) else { return };
    let _ = selection.is_everything();
    let target = operation_run::Target { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "web".into() };
    for name in ["web", "", "*", "a/b"] {
        let takes = selection.takes_name(name);
        assert!(!takes || !selection.exclude_names.iter().any(|excluded| excluded == name), "{name} was excluded");
    }
    if let Ok(kinds) = selection.parse() {
        for (group, kind) in [("", "Pod"), ("apps", "Deployment"), ("", "*")] {
            let _ = kinds.takes(&GroupKind::new(group, kind));
        }
    }
    let everything = selection.is_everything();
    let _ = Scope::new(selection.clone(), None);
    assert!(Scope::new(selection, Some(&target)).is_err() || everything, "a target or a selection, not both");
}

/// What is in a repository: who has its password may have written anything.
pub fn repository_content(bytes: &[u8]) {
    let note = Note::from_content(bytes);
    let mut sum = Note::default();
    sum.absorb(note.clone());
    sum.absorb(note);
    assert!(sum.failed >= 0 && sum.skipped >= 0 && sum.unnamed() >= 0, "{sum:?}");
    let text = String::from_utf8_lossy(bytes);
    let mut segments = text.splitn(4, '\n');
    let mut next = || segments.next().unwrap_or_default();
    if let Ok(path) = ItemPath::new(next(), next(), next(), next()) {
        let segments: Vec<&str> = path.as_str().split('/').collect();
        assert_eq!(segments.len(), 4, "{path}");
        assert!(segments.iter().all(|segment| !segment.is_empty() && *segment != "." && *segment != ".."), "{path}");
        assert!(segments.iter().all(|segment| segment.len() <= 255), "{path}");
    }
}
