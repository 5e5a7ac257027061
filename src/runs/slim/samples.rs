//! Objects as a cluster has them, from which the dictionaries of the caches are made. Their values
//! are of no importance, and what decisions read is not decided here.

use crate::api::labels;
use serde_json::{Value, json};

const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const UID: &str = "3b241101-e2bb-4255-8caf-4136c566a962";
const TIME: &str = "2026-01-01T02:15:00Z";
const CONTROLLER: &str = "system:serviceaccount:tenantatlas-system:tenantatlas-controller";

/// Runs in each phase, the most frequent last: what is nearest is found first.
pub(super) fn runs() -> [Value; 3] {
    let run = |scheduled: bool, status: Value| {
        let mut run = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {
                "name": "nightly-29384720", "namespace": "tenant-one", "uid": UID, "resourceVersion": "1048576",
                "generation": 1, "creationTimestamp": TIME,
                "labels": {
                    labels::IDENTITY: &HASH[..40], labels::TYPE: "backup.capture", labels::TRIGGER: "manual",
                    labels::WORKSPACE: "platform", labels::INITIATOR: &HASH[24..], labels::OUTCOME: "succeeded",
                },
            },
            "spec": {
                "type": "backup.capture", "trigger": "manual",
                "initiator": {"username": "developer@example.com", "uid": UID},
                "inputs": {"repository": "main"},
            },
            "status": status,
        });
        if scheduled {
            run["spec"]["trigger"] = "scheduled".into();
            run["spec"]["initiator"] = json!({"username": CONTROLLER, "uid": UID});
            run["spec"]["scheduledBy"] = json!({"kind": "BackupSchedule", "name": "nightly", "uid": UID, "tick": TIME});
        }
        run
    };
    let mut going = json!({
        "phase": "running", "outcome": "pending", "observedGeneration": 1, "reason": "Running",
        "message": "Job op-9f86d081884c7d659a2f runs", "identityHash": HASH,
        "job": {"name": "op-9f86d081884c7d659a2f", "uid": UID}, "progress": "0/0", "startedAt": TIME,
        "context": {"workspace": "platform", "targetScope": "Tenant", "repository": "main", "backupSchedule": "nightly"},
        "transitions": [{"phase": "running", "outcome": "pending", "at": TIME}],
        "conditions": [],
    });
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "Running", "message": "Job op-9f86d081884c7d659a2f runs",
            "observedGeneration": 1, "lastTransitionTime": TIME})
    };
    going["conditions"] = json!([condition("Reconciling", "True"), condition("Ready", "Unknown")]);
    let completed = json!({
        "phase": "completed", "outcome": "succeeded", "observedGeneration": 1, "identityHash": HASH,
        "startedAt": TIME, "completedAt": TIME, "context": {"workspace": "platform"},
    });
    [run(false, going), run(true, completed.clone()), run(false, completed)]
}

/// A finished Job.
pub(super) fn jobs() -> [Value; 1] {
    [json!({
        "metadata": {
            "name": "op-9f86d081884c7d659a2f", "namespace": "tenant-one", "uid": UID, "resourceVersion": "1048576",
            "generation": 1, "creationTimestamp": TIME,
            "labels": {labels::MANAGED_BY: labels::MANAGER},
            "ownerReferences": [{"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "name": "nightly-29384720",
                "uid": UID, "controller": true, "blockOwnerDeletion": false}],
        },
        "spec": {"suspend": false, "activeDeadlineSeconds": 3600,
            "template": {"spec": {"containers": [], "initContainers": [{"name": "atlas-fence"}]}}},
        "status": {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True", "reason": "CompletionsReached",
            "message": "Reached expected number of succeeded pods", "lastTransitionTime": TIME}]},
    })]
}

/// A pod that has ended.
pub(super) fn pods() -> [Value; 1] {
    let result = r#"{"outcome":"succeeded","reason":"Succeeded","message":"214 of 214 items captured","summaryCounts":{"total":214,"processed":214,"succeeded":214,"failed":0,"skipped":0},"context":{"snapshot":{"id":"","items":214,"bytes":100000,"addedBytes":1000,"itemsByKind":{"ConfigMap":1,"Secret":1,"Deployment.apps":1,"Service":1,"ServiceAccount":1,"Role.rbac.authorization.k8s.io":1}}}}"#;
    [json!({
        "metadata": {
            "name": "op-9f86d081884c7d659a2f-x7k2p", "namespace": "tenant-one", "uid": UID, "resourceVersion": "1048576",
            "generation": 1, "creationTimestamp": TIME,
            "labels": {labels::MANAGED_BY: labels::MANAGER, labels::IDENTITY: &HASH[..40], labels::TYPE: "backup.capture",
                labels::RUN_UID: UID, "batch.kubernetes.io/job-name": "op-9f86d081884c7d659a2f",
                "batch.kubernetes.io/controller-uid": UID},
            "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "op-9f86d081884c7d659a2f", "uid": UID,
                "controller": true, "blockOwnerDeletion": true}],
        },
        "spec": {"containers": [{"name": "worker"}]},
        "status": {"phase": "Succeeded", "containerStatuses": [{"name": "worker", "image": "docker.io/tenantatlas/tenantatlas:0.1.0",
            "imageID": format!("docker.io/tenantatlas/tenantatlas@sha256:{HASH}"), "containerID": format!("containerd://{HASH}"),
            "ready": false, "started": false, "restartCount": 0, "lastState": {}, "resources": {},
            "state": {"terminated": {"exitCode": 0, "reason": "Completed", "message": result, "startedAt": TIME, "finishedAt": TIME,
                "containerID": format!("containerd://{HASH}")}}}]},
    })]
}
