//! Drops what no decision reads of a run, its Job and its pods, so no cache holds it. Pure.
//!
//! A field that is dropped here is empty in every cached object: look here first.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod samples;

use crate::{
    api::{
        Inputs, OperationRun, Phase,
        execution::FENCE_CONTAINER,
        labels::{self, REPOSITORY_CHECKED, REPOSITORY_GENERATION},
        operation_run::{OperationRunStatus, RunContext},
    },
    cluster::trim::left_out,
    kernel::{
        packed::Dictionary,
        slim::{Slim, dictionary_of, drop_bookkeeping},
    },
    runs::scheduled::parent,
};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    core::v1::{Container, Pod, PodSpec, PodStatus, PodTemplateSpec},
};
use std::sync::LazyLock;

static RUNS: LazyLock<Option<Dictionary>> = LazyLock::new(|| dictionary_of::<OperationRun>(samples::runs()));
static JOBS: LazyLock<Option<Dictionary>> = LazyLock::new(|| dictionary_of::<Job>(samples::jobs()));
static PODS: LazyLock<Option<Dictionary>> = LazyLock::new(|| dictionary_of::<Pod>(samples::pods()));

impl Slim for OperationRun {
    fn dictionary() -> Option<&'static Dictionary> {
        RUNS.as_ref()
    }

    /// Keeps, of a completed run, what its labels and its expiry depend on. Code that needs the
    /// rest (a run joined it, or repeats it) reads the run from the API server: [`is_whole`].
    fn slim(&mut self) {
        drop_bookkeeping(self);
        let Some(status) = self.status.as_ref().filter(|status| status.phase == Phase::Completed) else { return };
        self.spec.inputs = Inputs::default();
        // What a workspace run sums up.
        let is_child = parent(self).is_some();
        self.status = Some(OperationRunStatus {
            phase: status.phase,
            outcome: status.outcome,
            identity_hash: status.identity_hash.clone(),
            context: RunContext { workspace: status.context.workspace.clone(), ..RunContext::default() },
            // When the tenant took a slot. A run that joined another one took none.
            started_at: status.started_at.filter(|_| status.joined.is_none()),
            completed_at: status.completed_at,
            reason: status.reason.clone().filter(|_| is_child),
            summary_counts: status.summary_counts.filter(|_| is_child),
            ..OperationRunStatus::default()
        });
        if let Some(initiator) = &mut self.spec.initiator {
            initiator.groups.clear();
        }
    }
}

/// Whether nothing of a run was dropped. Every run that the operator has written to has conditions.
#[must_use]
pub fn is_whole(run: &OperationRun) -> bool {
    let dropped = run.is_completed() && run.status.as_ref().is_none_or(|status| status.conditions.is_empty());
    !dropped && left_out(run).is_none()
}

/// The names of all our Jobs have this prefix.
fn is_named_as_an_operation(name: &str) -> bool {
    name.starts_with("op-")
}

impl Slim for Job {
    fn dictionary() -> Option<&'static Dictionary> {
        JOBS.as_ref()
    }

    fn may_be_ours(name: &str) -> bool {
        is_named_as_an_operation(name)
    }

    /// The operator wrote the pod template. All that is read back of it is whether it contains a
    /// fence.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        if let Some(annotations) = &mut self.metadata.annotations {
            annotations.retain(|key, _| [REPOSITORY_GENERATION, REPOSITORY_CHECKED].contains(&key.as_str()));
        }
        if let Some(labels) = &mut self.metadata.labels {
            labels.retain(|key, _| key == labels::MANAGED_BY);
        }
        self.metadata.finalizers = None;
        if let Some(status) = &mut self.status
            && job_end_is_known(status)
        {
            // How the Job ended, and after how many pods.
            let conditions = status.conditions.take().unwrap_or_default();
            let ends = conditions.into_iter().filter(|condition| ENDS.contains(&condition.type_.as_str()));
            *status = JobStatus {
                conditions: Some(ends.map(|end| JobCondition { last_probe_time: None, ..end }).collect()),
                succeeded: status.succeeded,
                failed: status.failed,
                active: status.active,
                ..JobStatus::default()
            };
        }
        let Some(spec) = self.spec.take() else { return };
        self.spec = Some(JobSpec {
            suspend: spec.suspend,
            managed_by: spec.managed_by,
            active_deadline_seconds: spec.active_deadline_seconds,
            template: PodTemplateSpec {
                metadata: None,
                spec: spec.template.spec.map(|pod| PodSpec {
                    init_containers: pod.init_containers.map(|containers| {
                        let fences = containers.into_iter().filter(|container| container.name == FENCE_CONTAINER);
                        fences.map(|container| named(container.name)).collect()
                    }),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        });
    }
}

impl Slim for Pod {
    fn dictionary() -> Option<&'static Dictionary> {
        PODS.as_ref()
    }

    fn may_be_ours(name: &str) -> bool {
        is_named_as_an_operation(name)
    }

    /// Keeps why a pod does not start; of a pod that has ended, how it ended.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        self.metadata.annotations = None;
        let status = self.status.take().unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.status = Some(PodStatus {
            phase: status.phase,
            reason: status.reason,
            conditions: status.conditions.filter(|_| !ended),
            container_statuses: status.container_statuses,
            init_container_statuses: status.init_container_statuses,
            ..PodStatus::default()
        });
        let Some(spec) = self.spec.take() else { return };
        let slim = |container: Container| {
            let mut slim = named(container.name);
            if !ended {
                slim.env_from = container.env_from;
                // The value of a variable is of no interest. The source of a value is something
                // that the pod may wait for.
                slim.env = container
                    .env
                    .map(|variables| variables.into_iter().filter(|variable| variable.value_from.is_some()).collect());
            }
            slim
        };
        self.spec = Some(PodSpec {
            containers: spec.containers.into_iter().map(slim).collect(),
            init_containers: spec.init_containers.map(|containers| containers.into_iter().map(slim).collect()),
            volumes: spec.volumes.filter(|_| !ended),
            ..PodSpec::default()
        });
    }
}

/// Conditions of which a finished Job has one.
const ENDS: [&str; 2] = ["Complete", "Failed"];

fn job_end_is_known(status: &JobStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions.into_iter().any(|condition| condition.status == "True" && ENDS.contains(&condition.type_.as_str()))
}

fn named(name: String) -> Container {
    Container { name, ..Container::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::packed::Packed;
    use serde_json::{Value, json};

    fn slim<K: Slim>(object: Value) -> Value {
        let mut object: K = serde_json::from_value(object).expect("an object");
        object.slim();
        serde_json::to_value(object).expect("JSON")
    }

    #[test]
    fn a_job_keeps_what_decisions_read_and_whether_it_is_fenced() {
        let job = |init: Value| {
            json!({"metadata": {"name": "op-1", "uid": "u", "annotations": {"a": "b", REPOSITORY_GENERATION: "3", REPOSITORY_CHECKED: "0f"},
                    "managedFields": [{"manager": "x"}]},
                "spec": {"suspend": true, "managedBy": "m", "activeDeadlineSeconds": 9, "backoffLimit": 2,
                    "template": {"spec": {"containers": [{"name": "main", "image": "i"}], "initContainers": init}}},
                "status": {"succeeded": 1}})
        };
        let kept = slim::<Job>(job(json!([{"name": FENCE_CONTAINER, "image": "i"}])));
        assert_eq!(kept["metadata"]["annotations"], json!({REPOSITORY_GENERATION: "3", REPOSITORY_CHECKED: "0f"}));
        assert_eq!(
            kept["spec"],
            json!({"suspend": true, "managedBy": "m", "activeDeadlineSeconds": 9,
                "template": {"spec": {"containers": [], "initContainers": [{"name": FENCE_CONTAINER}]}}})
        );
        assert_eq!(kept["status"], json!({"succeeded": 1}));
        let mut ended = job(json!([]));
        ended["status"]["conditions"] = json!([
            {"type": "SuccessCriteriaMet", "status": "True"},
            {"type": "Complete", "status": "True", "lastProbeTime": "2026-01-01T00:00:00Z"}]);
        ended["status"]["startTime"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(
            slim::<Job>(ended)["status"],
            json!({"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]})
        );
        let ours = slim::<Job>(job(json!([{"name": "other"}])));
        assert_eq!(ours["spec"]["template"]["spec"]["initContainers"], json!([]));
    }

    #[test]
    fn a_run_is_whole_until_it_is_completed() {
        let run = |phase: &str| {
            json!({"metadata": {"name": "a"}, "spec": {"type": "t", "inputs": {"n": 1}, "queueTimeoutSeconds": 5},
                "status": {"phase": phase, "outcome": "failed", "observedGeneration": 1, "message": "m", "identityHash": "h",
                    "completedAt": "2026-01-01T00:00:00Z", "context": {"workspace": "w"},
                    "conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
        };
        let going = slim::<OperationRun>(run("running"));
        assert_eq!((&going["spec"]["inputs"]["n"], &going["status"]["message"]), (&json!(1), &json!("m")));
        assert_eq!(going["spec"]["queueTimeoutSeconds"], 5, "it is decided by from the cache");
        let ended: OperationRun = serde_json::from_value(run("completed")).expect("a run");
        assert!(is_whole(&ended));
        let kept = slim::<OperationRun>(run("completed"));
        assert_eq!(
            kept["status"],
            json!({"phase": "completed", "outcome": "failed", "observedGeneration": -1, "identityHash": "h",
                "completedAt": "2026-01-01T00:00:00Z", "context": {"workspace": "w"}})
        );
        assert!(!is_whole(&serde_json::from_value(kept).expect("a run")));
    }

    #[test]
    fn of_a_pod_what_it_waits_for_is_kept_until_it_has_ended() {
        let pod = |phase: &str| {
            json!({"metadata": {"name": "p"}, "status": {"phase": phase, "podIP": "10.0.0.1"}, "spec": {
                "volumes": [{"name": "v", "secret": {"secretName": "s"}}],
                "containers": [{"name": "main", "image": "i", "env": [
                    {"name": "A", "value": "secret"},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}]}})
        };
        let pending = slim::<Pod>(pod("Pending"));
        assert_eq!(pending["spec"]["volumes"][0]["secret"]["secretName"], "s");
        assert_eq!(pending["spec"]["containers"][0]["env"].as_array().map(Vec::len), Some(1));
        let ended = slim::<Pod>(pod("Succeeded"));
        assert_eq!(ended["spec"], json!({"containers": [{"name": "main"}]}));
        assert_eq!(ended["status"], json!({"phase": "Succeeded"}));
    }

    /// As another cluster has them: nothing but the field names is as in the samples.
    #[test]
    fn of_a_hundred_thousand_objects_each_takes_little() {
        let digits = |seed: u32, count: usize| {
            let hashed = crate::api::canonical::digest(&json!(seed));
            hashed.repeat(2)[..count].to_owned()
        };
        let (uid, hash) = (digits(1, 36), digits(2, 64));
        let run = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {"name": "dump-orders-x2p9k", "namespace": "shop-42", "uid": uid, "resourceVersion": "99120034",
                "generation": 1, "creationTimestamp": "2027-05-19T13:41:07Z", "labels": {
                    labels::IDENTITY: &hash[..40], labels::TYPE: "orders.dump", labels::TRIGGER: "manual",
                    labels::WORKSPACE: "retail", labels::INITIATOR: digits(3, 40), labels::OUTCOME: "failed"}},
            "spec": {"type": "orders.dump", "trigger": "manual", "initiator": {"username": "lee@shop.example", "uid": digits(4, 36)},
                "inputs": {"table": "orders"}},
            "status": {"phase": "completed", "outcome": "failed", "observedGeneration": 1, "identityHash": hash,
                "startedAt": "2027-05-19T13:41:08Z", "completedAt": "2027-05-19T13:41:19Z", "context": {"workspace": "retail"}}});
        let job = json!({
            "metadata": {"name": format!("op-{}", &hash[..20]), "namespace": "shop-42", "uid": digits(5, 36),
                "resourceVersion": "99120031", "generation": 1, "creationTimestamp": "2027-05-19T13:41:07Z",
                "labels": {labels::MANAGED_BY: labels::MANAGER},
                "ownerReferences": [{"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "name": "dump-orders-x2p9k",
                    "uid": uid, "controller": true, "blockOwnerDeletion": false}]},
            "spec": {"suspend": false, "activeDeadlineSeconds": 600, "template": {"spec": {"containers": []}}},
            "status": {"failed": 1, "conditions": [{"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded",
                "message": "Job has reached the specified backoff limit", "lastTransitionTime": "2027-05-19T13:41:18Z"}]}});
        assert!(size::<OperationRun>(run) <= 320);
        assert!(size::<Job>(job) <= 260);
    }

    fn size<K: Slim>(object: Value) -> usize {
        let mut object: K = serde_json::from_value(object).expect("an object");
        object.slim();
        let text = serde_json::to_vec(&object).expect("JSON");
        let packed = Packed::new(text.clone(), K::dictionary());
        println!("{}: {} of {} bytes", K::kind(&()), packed.size(), text.len());
        assert_eq!(packed.open(K::dictionary()), Some(text));
        packed.size()
    }
}
