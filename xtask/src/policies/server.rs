//! Policies on a running cluster: put there, taken away, and waited for until the API server goes by them.

use super::mutant::{Mutant, Policy};
use crate::cluster::Cluster;
use crate::operator;
use crate::shell;
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long the API server may take until it goes by what it was given.
const DEADLINE: Duration = Duration::from_secs(30);

/// Helm's name on what it applies: whoever else owned a field would be in the way of the next upgrade.
const HELM: &str = "helm";

pub(super) struct Server<'a> {
    cluster: &'a Cluster,
    markers: u32,
}

impl<'a> Server<'a> {
    pub(super) fn new(cluster: &'a Cluster) -> Self {
        Self { cluster, markers: 0 }
    }

    /// The policies as the chart was installed.
    pub(super) fn installed(&self) -> Result<Vec<Policy>> {
        let mut helm = self.cluster.helm()?;
        let manifest =
            shell::output(helm.args(["get", "manifest", "tenantatlas", "--namespace", operator::NAMESPACE]))?;
        let objects: Vec<Value> = serde_saphyr::from_multiple(&manifest).context("what Helm installed is not YAML")?;
        let policies = Policy::all(&objects);
        if policies.is_empty() {
            bail!("the chart installed no admission policy");
        }
        Ok(policies)
    }

    /// Puts policies as they were installed, whatever was there, and waits until the API server goes by them.
    pub(super) fn put_back(&mut self, policies: &[Policy]) -> Result<()> {
        let objects = policies.iter().flat_map(|one| [one.policy.clone(), one.binding.clone()]).map(|mut object| {
            // As Helm writes them, or it would not know its own.
            object["metadata"]["annotations"] = json!({
                "meta.helm.sh/release-name": "tenantatlas",
                "meta.helm.sh/release-namespace": operator::NAMESPACE,
            });
            object
        });
        self.apply(&objects.collect::<Vec<_>>())?;
        self.wait(policies.iter().any(Policy::mutates))
    }

    /// Puts a mutant in its policy's place and waits until the API server goes by it.
    pub(super) fn switch(&mut self, mutant: &Mutant<'_>) -> Result<()> {
        match mutant.policy() {
            Some(policy) => self.apply(&[policy])?,
            None => self.delete(&[&mutant.of.binding])?,
        }
        self.wait_past(mutant.of.mutates(), Some(mutant.of.name()))
    }

    pub(super) fn apply(&self, objects: &[Value]) -> Result<()> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let arguments = ["apply", "--server-side", "--force-conflicts", "--field-manager", HELM, "--filename", "-"];
        shell::feed(self.cluster.kubectl()?.args(arguments), list.to_string().as_bytes()).map(drop)
    }

    pub(super) fn delete(&self, objects: &[&Value]) -> Result<()> {
        let named = objects.iter().map(|object| {
            json!({ "apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": { "name": object["metadata"]["name"] } })
        });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": named.collect::<Vec<_>>() });
        let arguments = ["delete", "--ignore-not-found", "--filename", "-"];
        shell::feed(self.cluster.kubectl()?.args(arguments), list.to_string().as_bytes()).map(drop)
    }

    /// Waits until the API server goes by all that was written before.
    pub(super) fn wait(&mut self, both: bool) -> Result<()> {
        self.wait_past(false, None)?;
        if both { self.wait_past(true, None) } else { Ok(()) }
    }

    /// The API server takes policies and bindings from two watches, and all that these have brought at once. So once a policy and
    /// a binding that were made last are in force, what was written before them is too. A mutant that refuses everything is seen by
    /// its own refusal.
    fn wait_past(&mut self, writes: bool, policy: Option<&str>) -> Result<()> {
        self.markers += 1;
        let name = format!("marker-{}-{}", std::process::id(), self.markers);
        let objects = marker(&name, writes);
        self.apply(&objects)?;
        let refused_by = policy.map(|policy| format!("ValidatingAdmissionPolicy '{policy}'"));
        let started = Instant::now();
        let seen = loop {
            let mut create = self.cluster.kubectl()?;
            create.args(["create", "configmap", &name, "--namespace", "default", "--dry-run=server", "--output=json"]);
            let answer = create.output().context("cannot start kubectl")?;
            let said = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
            if said.contains(&format!("\"{name}\": \"seen\"")) || said.contains(&format!("{name} is seen")) {
                break Ok(());
            }
            if refused_by.as_ref().is_some_and(|refused| said.contains(refused)) {
                break Ok(());
            }
            if started.elapsed() > DEADLINE {
                break Err(said);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        let [policy, binding] = &objects;
        self.delete(&[binding, policy])?;
        seen.map_err(|said| {
            anyhow::anyhow!("the API server does not go by what it was given after {DEADLINE:?}: {said}")
        })
    }

    /// Takes away what stories have left that failed.
    pub(super) fn tidy(&self) -> Result<()> {
        let kubectl = |arguments: &[&str]| -> Result<String> { shell::output(self.cluster.kubectl()?.args(arguments)) };
        let label = "tenantatlas.io/workspace";
        let tenants = kubectl(&["get", "namespaces", "--selector", label, "--output=name"])?;
        let (of_stories, of_the_cluster): (Vec<&str>, Vec<&str>) = tenants.lines().partition(|namespace| {
            let name = namespace.trim_start_matches("namespace/");
            !(name.starts_with("kube-") || [operator::NAMESPACE, "default"].contains(&name))
        });
        for namespace in of_the_cluster {
            kubectl(&["label", namespace, &format!("{label}-")])?;
        }
        // Some are on their way already, and then the answer may be that they are gone or just changed.
        let delete = |what: &[&str]| -> Result<()> {
            let arguments = [&["delete", "--wait=false", "--ignore-not-found"], what].concat();
            self.cluster.kubectl()?.args(arguments).output().context("cannot start kubectl").map(drop)
        };
        if !of_stories.is_empty() {
            delete(&of_stories)?;
        }
        let kinds = "operationtypes,workspaces,workspaceruns,persistentvolumes,clusterroles,clusterrolebindings";
        delete(&[kinds, "--selector", "test.tenantatlas.io/story"])
    }
}

/// A policy that shows itself in one `ConfigMap` of a name.
fn marker(name: &str, writes: bool) -> [Value; 2] {
    let api = "admissionregistration.k8s.io/v1";
    let kind = if writes { "MutatingAdmissionPolicy" } else { "ValidatingAdmissionPolicy" };
    let rule =
        json!({ "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"] });
    let mut spec = json!({
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [rule] },
        "matchConditions": [{ "name": "it", "expression": format!("object.metadata.name == '{name}'") }],
    });
    let mut bound = json!({ "policyName": name });
    if writes {
        let patch = format!("[JSONPatch{{op: 'add', path: '/data', value: {{'{name}': 'seen'}}}}]");
        spec["reinvocationPolicy"] = json!("Never");
        spec["mutations"] = json!([{ "patchType": "JSONPatch", "jsonPatch": { "expression": patch } }]);
    } else {
        spec["validations"] = json!([{ "expression": "false", "message": format!("{name} is seen") }]);
        bound["validationActions"] = json!(["Deny"]);
    }
    [
        json!({ "apiVersion": api, "kind": kind, "metadata": { "name": name }, "spec": spec }),
        json!({ "apiVersion": api, "kind": format!("{kind}Binding"), "metadata": { "name": name }, "spec": bound }),
    ]
}
