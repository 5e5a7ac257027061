//! What of a run, its Job and its pods no decision reads, and no cache therefore holds. Pure.
//!
//! Whoever reads a field of a cached object that is dropped here finds it empty: look here first.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Inputs, OperationRun, Phase,
        execution::FENCE_CONTAINER,
        labels::{self, REPOSITORY_CHECKED, REPOSITORY_GENERATION},
        operation_run::{OperationRunStatus, RunContext},
    },
    cluster::trim::left_out,
    kernel::slim::{Slim, drop_bookkeeping},
};
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition, JobSpec, JobStatus},
    core::v1::{Container, Pod, PodSpec, PodStatus, PodTemplateSpec},
};

impl Slim for OperationRun {
    /// Of a completed run, what its labels and its time to go depend on. Who needs the rest (a run that joined it, or that
    /// repeats it) asks the API server: [`is_whole`].
    fn slim(&mut self) {
        drop_bookkeeping(self);
        let Some(status) = self.status.as_ref().filter(|status| status.phase == Phase::Completed) else { return };
        self.spec.inputs = Inputs::default();
        self.status = Some(OperationRunStatus {
            phase: status.phase,
            outcome: status.outcome,
            identity_hash: status.identity_hash.clone(),
            context: RunContext { workspace: status.context.workspace.clone(), ..RunContext::default() },
            // When its tenant took a slot: one that joined another took none.
            started_at: status.started_at.filter(|_| status.joined.is_none()),
            completed_at: status.completed_at,
            ..OperationRunStatus::default()
        });
        if let Some(initiator) = &mut self.spec.initiator {
            initiator.groups.clear();
        }
    }
}

/// Whether nothing of a run was dropped. A run that was ever written to by the operator has conditions.
#[must_use]
pub fn is_whole(run: &OperationRun) -> bool {
    let dropped = run.is_completed() && run.status.as_ref().is_none_or(|status| status.conditions.is_empty());
    !dropped && left_out(run).is_none()
}

/// The name of every Job of ours begins so.
fn is_named_as_an_operation(name: &str) -> bool {
    name.starts_with("op-")
}

impl Slim for Job {
    fn may_be_ours(name: &str) -> bool {
        is_named_as_an_operation(name)
    }

    /// Its pod's template was ours to write and is never read back, but for whether a fence is in it.
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
            // How it ended, and after how many pods.
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
    fn may_be_ours(name: &str) -> bool {
        is_named_as_an_operation(name)
    }

    /// What tells why it does not start; of one that has ended, how.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        self.metadata.annotations = None;
        let status = self.status.take().unwrap_or_default();
        let ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        self.status = Some(PodStatus {
            phase: status.phase,
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
                // A value is nobody's business; where one comes from is what a pod may wait for.
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

/// Conditions that a finished Job has one of.
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
            json!({"metadata": {"name": "a"}, "spec": {"type": "t", "inputs": {"n": 1}},
                "status": {"phase": phase, "outcome": "failed", "observedGeneration": 1, "message": "m", "identityHash": "h",
                    "completedAt": "2026-01-01T00:00:00Z", "context": {"workspace": "w"},
                    "conditions": [{"type": "Ready", "status": "False", "reason": "R", "message": "m",
                        "lastTransitionTime": "2026-01-01T00:00:00Z"}]}})
        };
        let going = slim::<OperationRun>(run("running"));
        assert_eq!((&going["spec"]["inputs"]["n"], &going["status"]["message"]), (&json!(1), &json!("m")));
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
}
