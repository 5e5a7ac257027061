//! Processes of pods, as this machine sees them, and signals to them.

use k8s_openapi::api::core::v1::Pod;
use std::process::Command;

/// The processes in a pod's containers. The path of a process' control group names its container, so that no other
/// process is ever meant, not even one that was given the id of one that has ended.
pub fn of_pod(pod: &Pod) -> Vec<u32> {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let ids = statuses.filter_map(|container| Some(container.container_id.as_ref()?.rsplit('/').next()?.to_owned()));
    let containers: Vec<String> = ids.collect();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &u32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            containers.iter().any(|container| groups.contains(container.as_str()))
        })
        .collect()
}

/// Sends a signal, such as `KILL`, to these. One that has ended meanwhile is no fault.
pub fn signal(name: &str, processes: &[u32]) {
    if !processes.is_empty() {
        let sent = Command::new("kill").arg(format!("-{name}")).args(processes.iter().map(u32::to_string)).output();
        drop(sent.expect("kill can be started"));
    }
}
