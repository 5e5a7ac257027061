//! Why a run with a Job makes no progress. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::api::{OperationRun, Phase, Reason, result::truncate};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use std::{collections::BTreeSet, sync::Arc};

/// How long a pod may have no started container, or a Job no pod, before this is reported.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(6);

/// A reason for the lack of progress, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stuck {
    /// The reason code.
    pub reason: Reason,
    /// What holds the run, and what to do.
    pub message: String,
    /// Whether this counts only after [`PATIENCE`]: most pods pass through this state.
    pub patient: bool,
}

impl Stuck {
    fn now(reason: Reason, message: String) -> Self {
        Self { reason, message, patient: false }
    }

    fn later(reason: Reason, message: String) -> Self {
        Self { reason, message, patient: true }
    }

    /// Whether this is to be reported, given when it was first seen.
    #[must_use]
    pub fn is_due(&self, first_seen: Timestamp, now: Timestamp) -> bool {
        !self.patient || now.duration_since(first_seen) >= PATIENCE
    }
}

/// What a run reports that it waits for: the code, and a message for the object that the run is
/// for.
#[must_use]
pub fn waits(run: &OperationRun) -> Option<(String, String)> {
    let status = run.status.as_ref().filter(|status| status.phase != Phase::Completed)?;
    let waiting = status.waiting.as_ref()?;
    let name = run.metadata.name.as_deref().unwrap_or_default();
    let message = format!("run {name} waits: {}", status.message.as_deref().unwrap_or(&waiting.reason));
    Some((waiting.reason.clone(), message))
}

/// What holds a Job that has not finished.
#[must_use]
pub fn stuck(job: &Job, pods: &[Arc<Pod>]) -> Option<Stuck> {
    let name = job.metadata.name.as_deref().unwrap_or_default();
    if job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false) {
        return Some(Stuck::now(
            Reason::Suspended,
            format!("Job {name} is suspended: a queue has not admitted it yet, or somebody set spec.suspend"),
        ));
    }
    let live: Vec<_> = pods.iter().filter(|pod| is_pod_of(pod, job) && !is_ended(pod)).collect();
    if let Some(pod) = live.first() {
        return pod_stuck(pod);
    }
    let status = job.status.as_ref();
    let failed = status.and_then(|status| status.failed).unwrap_or(0);
    if failed > 0 {
        return Some(Stuck::now(
            Reason::Retrying,
            format!("{failed} pod(s) failed; the next is started with a growing delay"),
        ));
    }
    Some(Stuck::later(
        Reason::PodNotCreated,
        format!(
            "Job {name} has no pod yet: `kubectl describe job {name}` says why (a quota, Pod Security, a missing ServiceAccount)"
        ),
    ))
}

/// Whether a pod belongs to this very Job, by the uid of its controller.
#[must_use]
pub fn is_pod_of(pod: &Pod, job: &Job) -> bool {
    let uid = job.metadata.uid.as_deref();
    uid.is_some()
        && pod
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.controller == Some(true) && Some(owner.uid.as_str()) == uid)
}

/// Whether nothing in the pod runs any more.
#[must_use]
pub fn is_ended(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .is_some_and(|phase| phase == "Succeeded" || phase == "Failed")
}

fn pod_stuck(pod: &Pod) -> Option<Stuck> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unschedulable = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    if let Some(condition) = unschedulable {
        let why = condition.message.as_deref().unwrap_or("no node fits");
        return Some(Stuck::now(Reason::Unschedulable, format!("no node takes pod {name}: {}", truncate(why, 500))));
    }
    let containers = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let mut starting = None;
    for container in containers {
        let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) else {
            if container.state.as_ref().is_some_and(|state| state.running.is_some()) {
                return None;
            }
            continue;
        };
        let why = truncate(waiting.message.as_deref().unwrap_or_default(), 500);
        match waiting.reason.as_deref().unwrap_or_default() {
            "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed" => {
                return Some(Stuck::now(
                    Reason::ImagePull,
                    format!("image {} cannot be pulled: {why}; check its name and imagePullSecrets", container.image),
                ));
            }
            "CreateContainerConfigError" | "CreateContainerError" => {
                return Some(Stuck::now(
                    Reason::MissingDependency,
                    format!(
                        "container {} of pod {name} cannot be made: {why}; create what is missing and it goes on",
                        container.name
                    ),
                ));
            }
            "ContainerCreating" | "PodInitializing" => starting = Some(container.name.clone()),
            _ => {}
        }
    }
    starting.map(|_| {
        Stuck::later(
            Reason::MissingDependency,
            format!(
                "pod {name} has not started: it waits for its image or for what it needs; check that there is {}; `kubectl describe pod {name}` says which; create what is missing and it goes on",
                dependencies(pod)
            ),
        )
    })
}

/// The Secrets, ConfigMaps and claims that a pod needs, as text.
fn dependencies(pod: &Pod) -> String {
    let Some(spec) = &pod.spec else { return "its image".to_owned() };
    let mounted = spec.volumes.iter().flatten().filter_map(|volume| {
        if let Some(secret) = &volume.secret {
            secret.secret_name.as_ref().map(|name| format!("Secret {name}"))
        } else if let Some(config_map) = &volume.config_map {
            Some(format!("ConfigMap {}", config_map.name))
        } else {
            volume.persistent_volume_claim.as_ref().map(|claim| format!("PersistentVolumeClaim {}", claim.claim_name))
        }
    });
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let variables = containers.clone().flat_map(|container| container.env.iter().flatten()).filter_map(|variable| {
        let source = variable.value_from.as_ref()?;
        let secret = source.secret_key_ref.as_ref().map(|secret| format!("Secret {}", secret.name));
        secret.or_else(|| source.config_map_key_ref.as_ref().map(|config_map| format!("ConfigMap {}", config_map.name)))
    });
    let whole = containers.flat_map(|container| container.env_from.iter().flatten()).filter_map(|source| {
        let secret = source.secret_ref.as_ref().map(|secret| format!("Secret {}", secret.name));
        secret.or_else(|| source.config_map_ref.as_ref().map(|config_map| format!("ConfigMap {}", config_map.name)))
    });
    let names: BTreeSet<String> = mounted.chain(variables).chain(whole).collect();
    if names.is_empty() { "its image".to_owned() } else { names.into_iter().collect::<Vec<_>>().join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn job(suspend: bool, failed: i32) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "op", "uid": "job-uid"}, "spec": {"suspend": suspend, "template": {}},
            "status": {"failed": failed}
        }))
        .expect("a Job")
    }

    fn pod(of_job: &str, status: &Value) -> Arc<Pod> {
        let source = |of: &str, name: &str| json!({"name": name, "valueFrom": {of: {"name": name, "key": "k"}}});
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "op-1", "ownerReferences": [
                    {"apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": of_job, "controller": true}]},
                "spec": {
                    "volumes": [{"name": "a", "secret": {"secretName": "keys"}}, {"name": "b", "configMap": {"name": "settings"}},
                        {"name": "c", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "d", "emptyDir": {}}],
                    "containers": [{"name": "main", "env": [source("secretKeyRef", "password"), source("configMapKeyRef", "level")],
                        "envFrom": [{"secretRef": {"name": "all"}}, {"configMapRef": {"name": "others"}}]}]
                },
                "status": status
            }))
            .expect("a pod"),
        )
    }

    fn container(state: &Value) -> Value {
        json!({"phase": "Pending", "containerStatuses": [
            {"name": "main", "image": "registry/image", "imageID": "", "ready": false, "restartCount": 0, "state": state}]})
    }

    fn held(job: &Job, pods: &[Arc<Pod>]) -> Option<(Reason, String, bool)> {
        stuck(job, pods).map(|stuck| (stuck.reason, stuck.message, stuck.patient))
    }

    #[test]
    fn a_job_without_a_pod_is_suspended_or_retries_or_waits_for_its_first() {
        let reason = |job: &Job| held(job, &[]).map(|(reason, _, patient)| (reason, patient));
        assert_eq!(reason(&job(true, 1)), Some((Reason::Suspended, false)));
        assert_eq!(reason(&job(false, 0)), Some((Reason::PodNotCreated, true)));
        assert_eq!(reason(&job(false, 2)), Some((Reason::Retrying, false)));
        assert!(held(&job(false, 2), &[]).expect("retries").1.starts_with("2 pod(s) failed"));
        let running = container(&json!({"running": {}}));
        for other in [pod("another-uid", &running), pod("job-uid", &json!({"phase": "Failed"}))] {
            assert_eq!(held(&job(false, 0), &[other]).map(|held| held.0), Some(Reason::PodNotCreated));
        }
        assert_eq!(held(&job(false, 0), &[pod("job-uid", &running)]), None);
    }

    #[test]
    fn a_pod_that_no_node_takes_says_why() {
        let of = |type_: &str, status: &str| {
            let condition = json!({"type": type_, "status": status, "message": "no node has 9 CPUs"});
            held(&job(false, 0), &[pod("job-uid", &json!({"phase": "Pending", "conditions": [condition]}))])
        };
        let (reason, message, patient) = of("PodScheduled", "False").expect("it is held");
        assert_eq!((reason, patient), (Reason::Unschedulable, false));
        assert!(message.contains("no node takes pod op-1: no node has 9 CPUs"), "{message}");
        assert_eq!((of("PodScheduled", "True"), of("Ready", "False")), (None, None));
    }

    #[test]
    fn a_container_that_does_not_start_says_what_it_lacks() {
        let of = |reason: &str| {
            let state = json!({"waiting": {"reason": reason, "message": "because"}});
            held(&job(false, 0), &[pod("job-uid", &container(&state))])
        };
        for reason in ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"] {
            let (code, message, patient) = of(reason).expect("it is held");
            assert_eq!((code, patient), (Reason::ImagePull, false));
            assert!(message.contains("image registry/image cannot be pulled: because"), "{message}");
        }
        for reason in ["CreateContainerConfigError", "CreateContainerError"] {
            let (code, message, patient) = of(reason).expect("it is held");
            assert_eq!((code, patient), (Reason::MissingDependency, false));
            assert!(message.starts_with("container main of pod op-1 cannot be made: because"), "{message}");
        }
        for reason in ["ContainerCreating", "PodInitializing"] {
            let (code, message, patient) = of(reason).expect("it is held");
            assert_eq!((code, patient), (Reason::MissingDependency, true));
            let all = "check that there is ConfigMap level, ConfigMap others, ConfigMap settings, PersistentVolumeClaim data, Secret all, Secret keys, Secret password;";
            assert!(message.contains(all), "{message}");
        }
        assert_eq!(of("CrashLoopBackOff"), None);
        let bare = Pod::default();
        assert_eq!(dependencies(&bare), "its image");
        assert_eq!(
            dependencies(&Pod { spec: Some(k8s_openapi::api::core::v1::PodSpec::default()), ..bare }),
            "its image"
        );
    }

    #[test]
    fn what_most_pods_pass_through_is_reported_only_after_a_while() {
        let seen = Timestamp::UNIX_EPOCH;
        let (now, later) = (Stuck::now(Reason::Retrying, String::new()), Stuck::later(Reason::Retrying, String::new()));
        let early = seen + PATIENCE - SignedDuration::from_secs(1);
        assert!(now.is_due(seen, early) && !later.is_due(seen, early));
        assert!(now.is_due(seen, seen + PATIENCE) && later.is_due(seen, seen + PATIENCE));
    }
}
