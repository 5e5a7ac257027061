//! What a failure leaves to look at: our objects, events, logs of the controller, of failed pods and of the cluster.
//!
//! Everything is best effort: what cannot be had is said in its file, and never hides the failure itself.

use crate::cluster::Cluster;
use crate::shell::say;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Our kinds, as kubectl takes them.
const KINDS: &str = "operationruns,operationtypes,workspaces,workspaceruns,backuprepositories,backupsets,findings,backupschedules,restoreruns,bulkoperationruns,operationreports,approvals,importedruns,auditentries";

/// Writes the files of a cluster and prints where they are.
pub(crate) fn collect(cluster: &Cluster, folder: &Path) {
    if let Err(error) = std::fs::create_dir_all(folder) {
        say(format!("   nothing collected: cannot make {}: {error}", folder.display()));
        return;
    }
    let kubectl = |arguments: &[&str]| match cluster.kubectl() {
        Ok(mut kubectl) => said(kubectl.args(arguments)),
        Err(error) => format!("{error:#}\n").into_bytes(),
    };
    let keep = |file: &str, arguments: &[&str]| {
        // A full disk must not hide why the test failed.
        let _ = std::fs::write(folder.join(file), kubectl(arguments));
    };
    keep("runs.txt", &["get", KINDS, "--all-namespaces", "--output", "wide"]);
    keep("objects.yaml", &["get", KINDS, "--all-namespaces", "--output", "yaml"]);
    keep("jobs-and-pods.txt", &["get", "jobs,pods", "--all-namespaces", "--output", "wide"]);
    keep("jobs-and-pods.yaml", &["get", "jobs,pods", "--all-namespaces", "--output", "yaml"]);
    keep("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"]);
    for (namespace, pod) in pods(&kubectl(&["get", "pods", "--all-namespaces", "--output", "json"])) {
        let logs = ["logs", &pod, "--namespace", &namespace, "--all-containers", "--prefix", "--tail=-1"];
        keep(&format!("{namespace}.{pod}.log"), &logs);
        keep(&format!("{namespace}.{pod}.previous.log"), &[&logs[..], &["--previous"]].concat());
    }
    copy(&cluster.logs(), &folder.join("cluster"));
    say(format!("   What there is to look at: {}", folder.display()));
    say("     runs.txt, objects.yaml, events.txt, jobs-and-pods.*, a log for each pod of ours, cluster/");
}

/// The operator's pods, and operations' pods that failed or have not ended.
fn pods(listed: &[u8]) -> Vec<(String, String)> {
    let listed: Value = serde_json::from_slice(listed).unwrap_or_default();
    let pods = listed["items"].as_array().into_iter().flatten().filter_map(|pod| {
        let name = pod["metadata"]["name"].as_str()?;
        let namespace = pod["metadata"]["namespace"].as_str()?;
        let ours = pod["metadata"]["labels"]["app.kubernetes.io/name"] == "tenantatlas";
        let operation = name.starts_with("op-") && pod["status"]["phase"] != "Succeeded";
        (ours || operation).then(|| (namespace.to_owned(), name.to_owned()))
    });
    pods.collect()
}

/// All that a command says, and how it failed if it did.
fn said(command: &mut Command) -> Vec<u8> {
    match command.output() {
        Ok(mut output) => {
            output.stdout.append(&mut output.stderr);
            output.stdout
        }
        Err(error) => format!("cannot start {}: {error}\n", command.get_program().to_string_lossy()).into_bytes(),
    }
}

/// Copies the files of a folder, one level deep.
fn copy(from: &Path, to: &Path) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    if std::fs::create_dir_all(to).is_ok() {
        for entry in entries.flatten().filter(|entry| entry.path().is_file()) {
            let _ = std::fs::copy(entry.path(), to.join(entry.file_name()));
        }
    }
}
