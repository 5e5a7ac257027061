//! What a real API server says: it takes what is rendered, and finds nothing to warn of in the policies' expressions.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Chart, NAMESPACE, NEWER, OLDER, RELEASE, ensure, name, rendered, with};
use crate::shell::{self, say};
use crate::tools;

/// How long the API server may take for what it does in the background.
const DEADLINE: Duration = Duration::from_mins(1);

/// Asks the API server of a kubeconfig.
pub(super) fn check(chart: &Chart, kubeconfig: &Path, sets: &[Option<PathBuf>]) -> Result<()> {
    let server = Server { kubectl: tools::kubectl()?, helm: chart.helm.clone(), kubeconfig: kubeconfig.to_owned() };
    let releases: Value =
        serde_json::from_str(&shell::output(&mut server.helm(&["list", "--all-namespaces", "--output", "json"]))?)
            .context("helm list did not print JSON")?;
    let installed = releases.as_array().into_iter().flatten().any(|release| release["name"] == RELEASE);
    if installed {
        say("the chart is installed there: it is asked about, not changed");
        return ask(&server, chart, sets);
    }
    let outcome = install(&server, chart).and_then(|()| ask(&server, chart, sets));
    // In any case: what was put there goes.
    let removed = remove(&server, chart);
    outcome.and(removed)
}

struct Server {
    kubectl: PathBuf,
    helm: PathBuf,
    kubeconfig: PathBuf,
}

impl Server {
    fn kubectl(&self, arguments: &[&str]) -> Command {
        self.command(&self.kubectl, arguments)
    }

    fn helm(&self, arguments: &[&str]) -> Command {
        self.command(&self.helm, arguments)
    }

    fn command(&self, program: &Path, arguments: &[&str]) -> Command {
        let mut command = shell::command(program);
        // A cluster on this machine is not behind the proxy that downloads go through.
        command.env("KUBECONFIG", &self.kubeconfig).env("NO_PROXY", "*").args(arguments);
        command
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let printed = shell::output(self.kubectl(arguments).args(["--output", "json"]))?;
        serde_json::from_str(&printed).context("kubectl did not print JSON")
    }
}

/// A first installation, in one go, and the upgrade that takes over what a hook made.
fn install(server: &Server, chart: &Chart) -> Result<()> {
    for what in ["install", "upgrade"] {
        let mut helm = server.helm(&["upgrade", "--install", RELEASE, "--namespace", NAMESPACE, "--create-namespace"]);
        // The image is not there: this is about the API server alone.
        helm.arg(&chart.folder).args(["--set", "replicas=0"]);
        shell::run(&mut helm).with_context(|| format!("helm {what}"))?;
    }
    let types = server.json(&["get", "operationtypes"])?;
    let names: Vec<_> =
        types["items"].as_array().into_iter().flatten().filter_map(|item| item["metadata"]["name"].as_str()).collect();
    let rendered = rendered::objects(&chart.render(None, NEWER, &[])?)?;
    let wanted = named(&rendered, "OperationType");
    ensure(!names.is_empty() && names == wanted, || format!("the catalog is {names:?}, not {wanted:?}"))
}

/// The names of a rendering's objects of a kind.
fn named<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a str> {
    let mut names: Vec<_> = objects
        .iter()
        .filter(|object| object["kind"] == kind)
        .filter_map(|object| object["metadata"]["name"].as_str())
        .collect();
    names.sort_unstable();
    names
}

/// Takes away what [`install`] made, the CRDs too, which Helm keeps.
fn remove(server: &Server, chart: &Chart) -> Result<()> {
    shell::run(&mut server.helm(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait"]))?;
    let left = server.json(&["get", "crds"])?;
    let ours: Vec<_> = left["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|crd| crd["metadata"]["name"].as_str())
        .filter(|name| name.ends_with(".tenantatlas.io"))
        .collect();
    let kept = ours.len();
    if kept > 0 {
        shell::run(server.kubectl(&["delete", "crds"]).args(ours))?;
    }
    shell::run(&mut server.kubectl(&["delete", "namespace", NAMESPACE, "--ignore-not-found"]))?;
    let rendered = rendered::objects(&chart.render(None, NEWER, &[])?)?;
    let wanted = named(&rendered, "CustomResourceDefinition").len();
    ensure(kept == wanted, || {
        format!("{kept} CRDs were left by helm uninstall, not {wanted}: crds.keep keeps all records")
    })
}

/// Everything that changes nothing.
fn ask(server: &Server, chart: &Chart, sets: &[Option<PathBuf>]) -> Result<()> {
    for version in [OLDER, NEWER] {
        for set in sets {
            let set = set.as_deref();
            dry_run(server, chart, set, version).with_context(|| format!("{} for Kubernetes {version}", name(set)))?;
        }
    }
    no_warnings(server)?;
    covers_all_builtin_kinds(server, "tenantatlas-worker-builtin", &["list"], &[])?;
    covers_all_builtin_kinds(server, "tenantatlas-restore-builtin", &["create", "update", "delete"], &NEVER_RESTORED)?;
    say("the API server takes every rendering, and has no warning about any expression");
    Ok(())
}

/// Every object of a rendering that the server knows the kind of, as if it were applied.
fn dry_run(server: &Server, chart: &Chart, set: Option<&Path>, version: &str) -> Result<()> {
    let mut helm = chart.helm(&["template", RELEASE, "--namespace", NAMESPACE, "--kube-version", version]);
    let manifests = shell::output(with(helm.arg(&chart.folder), set))?;
    let known = rendered::objects(&manifests)?;
    let known: Vec<_> = known.into_iter().filter(|object| object["apiVersion"] != "monitoring.coreos.com/v1").collect();
    let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": known });
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename", "-"];
    shell::feed(&mut server.kubectl(&arguments), list.to_string().as_bytes()).map(drop)
}

/// The API server compiles each expression against the schemas of the kinds it is about, and notes what does not fit.
fn no_warnings(server: &Server) -> Result<()> {
    let started = Instant::now();
    loop {
        let policies = server.json(&["get", "validatingadmissionpolicies"])?;
        let ours: Vec<_> = policies["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|policy| policy["metadata"]["labels"]["app.kubernetes.io/name"] == RELEASE)
            .collect();
        ensure(!ours.is_empty(), || "no policy is installed".to_owned())?;
        let unchecked = ours.iter().find(|policy| {
            policy["status"]["typeChecking"].is_null()
                || policy["status"]["observedGeneration"] != policy["metadata"]["generation"]
        });
        if let Some(policy) = unchecked {
            if started.elapsed() > DEADLINE {
                bail!("{} is not type-checked after {DEADLINE:?}", rendered::label(policy));
            }
            std::thread::sleep(Duration::from_millis(500));
            continue;
        }
        for policy in ours {
            let warnings = &policy["status"]["typeChecking"]["expressionWarnings"];
            ensure(warnings.is_null(), || format!("{}: {warnings:#}", rendered::label(policy)))?;
        }
        return Ok(());
    }
}

/// Built-in kinds that no restore writes (`crates/items/src/excluded.rs`).
const NEVER_RESTORED: [&str; 5] = [
    "controllerrevisions.apps",
    "csistoragecapacities.storage.k8s.io",
    "events",
    "events.events.k8s.io",
    "leases.coordination.k8s.io",
];

/// A built-in kind that the worker cannot list would be a failed item of every backup; one that a restore cannot write,
/// of every restore.
fn covers_all_builtin_kinds(server: &Server, role_name: &str, verbs: &[&str], but: &[&str]) -> Result<()> {
    let with = format!("--verbs=list,{}", verbs.join(","));
    let kinds = shell::output(&mut server.kubectl(&["api-resources", "--namespaced", &with, "--output=name"]))?;
    let custom = server.json(&["get", "crds"])?;
    let custom: Vec<_> =
        custom["items"].as_array().into_iter().flatten().filter_map(|crd| crd["metadata"]["name"].as_str()).collect();
    let role = server.json(&["get", "clusterrole", role_name])?;
    for kind in kinds.lines().filter(|kind| !custom.contains(kind)) {
        let (resource, group) = kind.split_once('.').unwrap_or((kind, ""));
        let has = |rule: &Value, key: &str, word: &str| {
            rule[key].as_array().into_iter().flatten().any(|candidate| candidate == word)
        };
        let may = |verb: &&str| {
            role["rules"].as_array().into_iter().flatten().any(|rule| {
                has(rule, "apiGroups", group) && has(rule, "resources", resource) && has(rule, "verbs", verb)
            })
        };
        // Served by add-ons, never captured and never restored.
        let left_out = group == "metrics.k8s.io" || but.contains(&kind);
        ensure(left_out || verbs.iter().all(may), || {
            format!("{role_name} may not {} {kind}: add it", verbs.join(", "))
        })?;
        ensure(!but.contains(&kind) || !verbs.iter().any(may), || {
            format!("{role_name} writes {kind}, which is never restored: take it out")
        })?;
    }
    Ok(())
}
