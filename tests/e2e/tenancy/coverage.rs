//! What each policy is asked about: of every resource that one has a rule for, every subresource and operation that the API server
//! serves, or a reason why not.

use super::{assert_refused, call, pods::pod_spec, right};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The kinds of the whole cluster.
const OF_CLUSTER: [&str; 3] = ["operationtypes", "workspaces", "workspaceruns"];

const RECORDS: [&str; 11] = [
    "approvals",
    "auditentries",
    "backuprepositories",
    "backupschedules",
    "backupsets",
    "bulkoperationruns",
    "findings",
    "importedruns",
    "operationreports",
    "operationruns",
    "restoreruns",
];

/// What policies are not asked about, as `resource operation`, and why.
fn left_out(policy: &str) -> Vec<(&'static str, &'static str)> {
    const GONE: &str = "to delete one is a right of its own";
    const READS: &str = "reading is a matter of roles";
    const KEPT: &str = "a write of the status keeps spec and metadata (lifetime.rs)";
    const IMMUTABLE: &str = "what is asked about never changes: tenantatlas-immutable";
    const BORN: &str = "what is asked about is what there is";
    const ELSEWHERE: &str = "another policy is asked about it";
    const NO_WRITE: &str = "there is no status of one that is new";
    let pod = [
        ("pods DELETE", "deleting it ends a try, and the next begins"),
        ("pods/eviction CREATE", "the same as deleting it"),
        ("pods/binding CREATE", "tenantatlas-pod-binding"),
        ("pods/log CONNECT", READS),
    ];
    let connects = ["pods/exec CONNECT", "pods/attach CONNECT", "pods/portforward CONNECT", "pods/proxy CONNECT"];
    let connects = connects.map(|connect| (connect, "tenantatlas-pod-access"));
    match policy {
        "tenantatlas-pods" => [&pod[..], &connects].concat(),
        "tenantatlas-pod-adoption" => [
            &pod[..],
            &connects,
            &[("pods/resize UPDATE", "writes no labels"), ("pods/ephemeralcontainers UPDATE", "writes no labels")],
        ]
        .concat(),
        "tenantatlas-pod-access" => [
            &pod[..],
            &[
                ("pods CREATE", ELSEWHERE),
                ("pods UPDATE", ELSEWHERE),
                ("pods/status UPDATE", ELSEWHERE),
                ("pods/resize UPDATE", ELSEWHERE),
            ],
        ]
        .concat(),
        "tenantatlas-pod-binding" => [
            &pod[..2],
            &connects,
            &[
                ("pods CREATE", ELSEWHERE),
                ("pods UPDATE", ELSEWHERE),
                ("pods/status UPDATE", ELSEWHERE),
                ("pods/resize UPDATE", ELSEWHERE),
                ("pods/ephemeralcontainers UPDATE", ELSEWHERE),
            ],
        ]
        .concat(),
        "tenantatlas-jobs" => {
            vec![("jobs DELETE", "a tenant may end its operation the hard way: the run says JobDeleted")]
        }
        "tenantatlas-onboarding" => vec![("namespaces DELETE", "deleting a namespace is another right")],
        "tenantatlas-token-secrets" => vec![("secrets DELETE", GONE)],
        "tenantatlas-exports" => vec![("configmaps DELETE", GONE)],
        "tenantatlas-tokens" => vec![
            ("serviceaccounts CREATE", "gives no token"),
            ("serviceaccounts UPDATE", "gives no token"),
            ("serviceaccounts DELETE", "the operator makes it anew"),
        ],
        "tenantatlas-account-objects" => vec![("serviceaccounts/token CREATE", "tenantatlas-tokens")],
        // Each with all that there is to do with one.
        "tenantatlas-leases" => Vec::new(),
        "tenantatlas-audit-writers" => vec![("auditentries UPDATE", ELSEWHERE), ("auditentries DELETE", ELSEWHERE)],
        "tenantatlas-audit-chain" => vec![("auditentries CREATE", ELSEWHERE)],
        "tenantatlas-imported-runs" => vec![("importedruns/status UPDATE", ELSEWHERE)],
        "tenantatlas-findings" => vec![("findings DELETE", GONE), ("findings/status UPDATE", ELSEWHERE)],
        "tenantatlas-run-status" | "tenantatlas-status" | "tenantatlas-finding-status" => [
            "backuprepositories",
            "backupschedules",
            "backupsets",
            "bulkoperationruns",
            "findings",
            "importedruns",
            "operationruns",
            "restoreruns",
            "workspaceruns",
        ]
        .into_iter()
        .flat_map(|kind| [(kind, "CREATE", NO_WRITE), (kind, "UPDATE", "keeps the status"), (kind, "DELETE", GONE)])
        .map(|(kind, operation, why)| (&*format!("{kind} {operation}").leak(), why))
        .collect(),
        "tenantatlas-workspace" => vec![("workspaces DELETE", GONE), ("workspaces/status UPDATE", KEPT)],
        "tenantatlas-lifetime" => {
            RECORDS.iter().chain(&OF_CLUSTER).map(|kind| (&*format!("{kind} DELETE").leak(), GONE)).collect()
        }
        "tenantatlas-immutable" | "tenantatlas-marks" | "tenantatlas-hold" => RECORDS
            .iter()
            .chain(&OF_CLUSTER)
            .flat_map(|kind| {
                [(kind, "", "CREATE", BORN), (kind, "", "DELETE", GONE), (kind, "/status", "UPDATE", KEPT)]
            })
            .map(|(kind, below, operation, why)| (&*format!("{kind}{below} {operation}").leak(), why))
            .collect(),
        // Of those whose spec changes a policy is asked at each write of it: see below.
        _ => RECORDS
            .iter()
            .chain(&OF_CLUSTER)
            .flat_map(|kind| {
                [(kind, "", "UPDATE", IMMUTABLE), (kind, "", "DELETE", GONE), (kind, "/status", "UPDATE", KEPT)]
            })
            .map(|(kind, below, operation, why)| (&*format!("{kind}{below} {operation}").leak(), why))
            .filter(|(what, _)| !["backupschedules UPDATE", "backuprepositories UPDATE"].contains(what))
            .collect(),
    }
}

impl Tenant {
    /// What the API server serves of a resource: itself and its subresources, each with the operations that admission is asked about.
    async fn served(&self, group: &str, version: &str, resource: &str) -> BTreeSet<String> {
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        let list = call(&self.cluster.client, "GET", &root, &Value::Null).await.expect("discovery");
        let mut served = BTreeSet::new();
        for entry in list["resources"].as_array().expect("resources") {
            let name = entry["name"].as_str().expect("a name");
            if name.split('/').next() != Some(resource) {
                continue;
            }
            let connects =
                ["exec", "attach", "portforward", "proxy"].iter().any(|way| name.ends_with(&format!("/{way}")));
            for verb in entry["verbs"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                let operation = match verb {
                    _ if connects => "CONNECT",
                    "create" => "CREATE",
                    "update" | "patch" => "UPDATE",
                    "delete" | "deletecollection" => "DELETE",
                    _ => continue,
                };
                served.insert(format!("{name} {operation}"));
            }
        }
        served
    }
}

#[tokio::test]
async fn every_subresource_and_operation_is_asked_about_or_it_is_said_why_not() {
    let tenant = Tenant::new("coverage").await;
    let policies = Api::<ValidatingAdmissionPolicy>::all(tenant.cluster.client.clone());
    let ours = ListParams::default().labels("app.kubernetes.io/name=tenantatlas");
    let mut faults = Vec::new();
    let mut seen = 0;
    for policy in policies.list(&ours).await.expect("policies").items {
        let name = policy.metadata.name.expect("a name");
        let rules =
            policy.spec.and_then(|spec| spec.match_constraints).and_then(|constraints| constraints.resource_rules);
        let mut asked: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
        for rule in rules.into_iter().flatten() {
            let (groups, versions) = (rule.api_groups.unwrap_or_default(), rule.api_versions.unwrap_or_default());
            let operations = rule.operations.unwrap_or_default();
            for resource in rule.resources.unwrap_or_default() {
                // Everything.
                if resource == "*/*" && groups == ["*"] {
                    assert_eq!(operations, ["CREATE", "UPDATE", "DELETE", "CONNECT"], "{name}");
                    seen += 1;
                    continue;
                }
                let version = versions[0].as_str();
                let every = resource == "*/*";
                let all = OF_CLUSTER.iter().chain(&RECORDS).map(|kind| (*kind).to_owned());
                let bases: Vec<String> = if every { all.collect() } else { vec![resource.clone()] };
                for resource in bases {
                    let base = resource.split('/').next().expect("a resource").to_owned();
                    let of_base = asked.entry((groups[0].clone(), version.to_owned(), base)).or_default();
                    let both = [resource.clone(), format!("{resource}/status")];
                    let named = if every { &both[..] } else { &both[..1] };
                    of_base.extend(
                        named
                            .iter()
                            .flat_map(|name| operations.iter().map(move |operation| format!("{name} {operation}"))),
                    );
                }
            }
        }
        let why = left_out(&name);
        for ((group, version, base), asked) in asked {
            let served = tenant.served(&group, &version, &base).await;
            assert!(!served.is_empty(), "{name}: {base} is not served");
            seen += 1;
            let missing =
                served.iter().filter(|what| !asked.contains(*what) && !why.iter().any(|(left, _)| left == what));
            faults.extend(missing.map(|what| format!("{name} is not asked about {what}")));
        }
    }
    assert!(seen > 20, "{seen}");
    assert!(faults.is_empty(), "each takes a rule, or a reason here:\n{}", faults.join("\n"));
}

#[tokio::test]
async fn an_operation_is_not_touched_by_a_subresource_whatever_roles_say() {
    let tenant = Tenant::new("subresources").await;
    let (job, pod) = tenant.operation_with_pod("mine").await;
    let pod = pod.metadata.name.expect("a name");
    let rules = json!([
        { "apiGroups": [""], "verbs": ["*"],
          "resources": ["pods", "pods/status", "pods/resize", "pods/ephemeralcontainers", "pods/binding", "bindings"] },
        { "apiGroups": ["batch"], "resources": ["jobs", "jobs/status"], "verbs": ["*"] },
    ]);
    let eve = tenant.person_with("eve", rules).await;
    let job = tenant.path("batch/v1", &format!("jobs/{job}/status"));
    let of_pod = |subresource: &str| tenant.path("v1", &format!("pods/{pod}/{subresource}"));
    let label = |key: &str| json!({ "metadata": { "labels": { key: "forged" } } });
    let finalizer = json!({ "metadata": { "finalizers": ["example.com/never"] } });
    let done = json!({ "status": { "phase": "Succeeded" } });
    let complete = json!({ "status": { "succeeded": 1 } });
    let resources =
        json!([{ "op": "add", "path": "/spec/containers/0/resources", "value": { "requests": { "cpu": "2m" } } }]);
    for client in [&eve, &tenant.cluster.client] {
        for (path, change, words) in [
            (of_pod("status"), done.clone(), ["tenantatlas-pods", "by its node alone"]),
            (of_pod("status"), label("tenantatlas.io/run-uid"), ["tenantatlas-pods", "labels that tie"]),
            (of_pod("status"), finalizer.clone(), ["tenantatlas-pods", "finalizers"]),
            (tenant.path("v1", &format!("pods/{pod}")), finalizer.clone(), ["tenantatlas-pods", "finalizers"]),
            (job.clone(), complete.clone(), ["tenantatlas-jobs", "spec.cancel"]),
            (job.clone(), label("tenantatlas.io/run-uid"), ["tenantatlas-jobs", "spec.cancel"]),
            (job.clone(), finalizer.clone(), ["tenantatlas-jobs", "spec.cancel"]),
        ] {
            assert_refused(call(client, "PATCH", &path, &change).await, 403, &words);
        }
        let resized = super::ways::patch(client, &of_pod("resize"), "json-patch", &resources).await;
        assert_refused(resized, 403, &["tenantatlas-pods", "resources of a pod"]);
        let mut container = pod_spec()["containers"][0].clone();
        container["name"] = "debug".into();
        let debug = json!({ "spec": { "ephemeralContainers": [container] } });
        let debug = super::ways::patch(client, &of_pod("ephemeralcontainers"), "strategic-merge-patch", &debug).await;
        assert_refused(debug, 403, &["tenantatlas-pod-access", "nobody may go in"]);
    }
    // One's own pod is given no label of a Job, by its status or by the one that places it.
    let mut own = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "own" }, "spec": pod_spec() });
    own["spec"]["schedulerName"] = "none".into();
    call(&eve, "POST", &tenant.path("v1", "pods"), &own).await.expect("a pod of one's own");
    let status = tenant.path("v1", "pods/own/status");
    for (key, policy) in [
        ("tenantatlas.io/run-uid", "tenantatlas-pods"),
        ("batch.kubernetes.io/controller-uid", "tenantatlas-pod-adoption"),
    ] {
        assert_refused(call(&eve, "PATCH", &status, &label(key)).await, 403, &[policy]);
        let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "own", "labels": { key: "forged" } },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "none" } });
        for way in ["pods/own/binding", "bindings"] {
            let answer = call(&eve, "POST", &tenant.path("v1", way), &binding).await;
            assert_refused(answer, 403, &["tenantatlas-pod-binding", "out of a Binding"]);
        }
    }
    call(&eve, "PATCH", &status, &label("team")).await.expect("its own label");
    wait_for("the operation goes on", SOON, async || {
        let running = tenant.status("mine").await;
        if running.completed_at.is_none() { Ok(()) } else { Err(format!("{running:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_namespace_becomes_a_tenant_by_no_subresource_either() {
    let tenant = Tenant::new("onboard-status").await;
    let user = format!("pat.{}", tenant.name);
    let of_story = crate::support::tenant::of_story(&tenant);
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": user, "labels": of_story },
        "rules": [{ "apiGroups": [""], "resources": ["namespaces", "namespaces/status", "namespaces/finalize"], "verbs": ["*"] }] });
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": user, "labels": of_story },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
    tenant.apply(&role.to_string());
    tenant.apply(&binding.to_string());
    let pat = tenant.cluster.as_user(&user, &[]);
    tenant.until_allowed(&pat, right("patch core/namespaces/status")).await;
    for (namespace, workspace) in
        [("kube-public", json!("shop")), (tenant.name.as_str(), json!("shop")), (&tenant.name, Value::Null)]
    {
        let path = format!("/api/v1/namespaces/{namespace}");
        let label = json!({ "metadata": { "labels": { "tenantatlas.io/workspace": workspace } } });
        let before = call(&pat, "GET", &path, &Value::Null).await.expect("it is there");
        let mut after = before.clone();
        // A null in a whole object would be read as the empty string, and an empty workspace be refused for another reason.
        let labels = after["metadata"]["labels"].as_object_mut().expect("labels");
        match &workspace {
            Value::Null => drop(labels.remove("tenantatlas.io/workspace")),
            workspace => drop(labels.insert("tenantatlas.io/workspace".to_owned(), workspace.clone())),
        }
        // An administrator may onboard, but not this one.
        let administrator = (namespace == "kube-public").then_some(&tenant.cluster.client);
        for client in std::iter::once(&pat).chain(administrator) {
            for answer in [
                call(client, "PATCH", &path, &label).await,
                call(client, "PATCH", &format!("{path}/status"), &label).await,
                call(client, "PUT", &format!("{path}/status"), &after).await,
                call(client, "PUT", &format!("{path}/finalize"), &after).await,
            ] {
                assert_refused(answer, 403, &["tenantatlas-onboarding"]);
            }
        }
    }
    let story = format!("{}={}", crate::support::tenant::STORY, tenant.name);
    tenant.cluster.kubectl_prints(&["delete", "clusterroles,clusterrolebindings", "--selector", &story]);
}
