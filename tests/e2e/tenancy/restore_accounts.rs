//! The accounts that look and write: a preview writes nothing, whatever it tries; a restore gives nobody more than it has.

use super::{assert_refused, assert_refused_by_either, call, may};
use crate::support::tenant::STORY;
use crate::support::{SOON, Tenant, wait_for};
use kube::Client;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::execution::{PREVIEW_ACCOUNT, RESTORE_ACCOUNT, WORKER_ACCOUNT};
use tenantatlas::api::{BackupSet, OperationReport};

const GROUP: &str = "tenantatlas.io/v1alpha1";
const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// What stands in the namespace that a preview is let loose on.
const SHOP: &str = r#"
{ apiVersion: v1, kind: ConfigMap, metadata: { name: there }, data: { a: b } }
---
{ apiVersion: v1, kind: Secret, metadata: { name: there }, stringData: { a: b } }
---
{ apiVersion: v1, kind: ServiceAccount, metadata: { name: there } }
---
{ apiVersion: v1, kind: Service, metadata: { name: there }, spec: { ports: [{ port: 80 }] } }
---
{ apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: { name: there }, rules: [{ apiGroups: [""], resources: [configmaps], verbs: [get] }] }
---
apiVersion: apps/v1
kind: ReplicaSet
metadata: { name: there }
spec:
  replicas: 0
  selector: { matchLabels: { app: there } }
  template: { metadata: { labels: { app: there } }, spec: { containers: [{ name: main, image: tenantatlas.invalid/none:1 }] } }
---
apiVersion: v1
kind: Pod
metadata: { name: there }
spec:
  # Nobody touches it, so that it stays as it is.
  schedulingGates: [{ name: example.com/never }]
  securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: RuntimeDefault } }
  containers:
    - name: main
      image: tenantatlas.invalid/none:1
      securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: [ALL] } }
"#;

/// The kinds of the namespace, as they are tried: apiVersion, Kind, plural.
fn kinds(group: &str) -> Vec<(String, &'static str, &'static str)> {
    [
        ("v1", "ConfigMap", "configmaps"),
        ("v1", "Secret", "secrets"),
        ("v1", "ServiceAccount", "serviceaccounts"),
        ("v1", "Service", "services"),
        ("v1", "Pod", "pods"),
        ("apps/v1", "ReplicaSet", "replicasets"),
        (RBAC, "Role", "roles"),
        (&format!("{group}/v1"), "Oven", "ovens"),
    ]
    .map(|(version, kind, plural)| (version.to_owned(), kind, plural))
    .into()
}

/// A kind of the cluster's own, with status and scale.
fn ovens(group: &str) -> Value {
    let open = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let scale = json!({ "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas" });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("ovens.{group}") },
        "spec": { "group": group, "scope": "Namespaced",
            "names": { "kind": "Oven", "plural": "ovens", "singular": "oven" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "subresources": { "status": {}, "scale": scale },
                "schema": { "openAPIV3Schema": { "type": "object", "properties": { "spec": open, "status": open } } } }] },
    })
}

impl Tenant {
    /// Installs the kind of the story's own, and one of its objects. Returns its group.
    async fn with_ovens(&self) -> String {
        let group = format!("{}.example.com", self.name);
        // Before there are any: what a worker cannot list would be a failed item of every other story's backups.
        self.ovens_role("reads", "tenantatlas.io/aggregate-to-worker", &group, &["get", "list"]);
        let worker = self.cluster.as_user(&format!("system:serviceaccount:{}:{WORKER_ACCOUNT}", self.name), &[]);
        self.until_allowed(&worker, self.right(&format!("list {group}/ovens"))).await;
        self.apply(&ovens(&group).to_string());
        let definition = format!("customresourcedefinition/ovens.{group}");
        self.cluster.kubectl_prints(&["wait", "--for=condition=Established", "--timeout=60s", &definition]);
        let oven = json!({ "apiVersion": format!("{group}/v1"), "kind": "Oven", "metadata": { "name": "there" },
            "spec": { "replicas": 1 } });
        self.apply(&oven.to_string());
        group
    }

    /// A ClusterRole for ovens with a label of aggregation.
    fn ovens_role(&self, name: &str, label: &str, group: &str, verbs: &[&str]) {
        let role = json!({ "apiVersion": RBAC, "kind": "ClusterRole",
            "metadata": { "name": format!("ovens-{name}-{}", self.name), "labels": { label: "true", (STORY): self.name } },
            "rules": [{ "apiGroups": [group], "resources": ["ovens"], "verbs": verbs }] });
        self.apply(&role.to_string());
    }

    fn without_ovens(&self, group: &str) {
        self.cluster.kubectl_prints(&["delete", "customresourcedefinition", &format!("ovens.{group}")]);
        self.cluster.kubectl_prints(&["delete", "clusterroles", "--selector", &format!("{STORY}={}", self.name)]);
    }

    /// The version of every object of these kinds.
    async fn versions(&self, kinds: &[(String, &str, &str)]) -> BTreeMap<String, String> {
        let mut versions = BTreeMap::new();
        for (version, _, plural) in kinds {
            let path = self.path(version, plural);
            let list = call(&self.cluster.client, "GET", &path, &Value::Null).await.expect("a list");
            for object in list["items"].as_array().into_iter().flatten() {
                let metadata = &object["metadata"];
                let name = metadata["name"].as_str().expect("a name");
                // The pods of operations live on beside this.
                if name == "there" || !name.starts_with("op-") {
                    let version = metadata["resourceVersion"].as_str().expect("a version");
                    versions.insert(format!("{plural}/{name}"), version.to_owned());
                }
            }
        }
        versions
    }

    /// An account in a pod of an operation under it; the run is named `mine`. Also the pod's name.
    async fn account_in_pod(&self, account: &str) -> (Client, String) {
        let (_, pod) = self.operation_with_pod_as("mine", account).await;
        let client = self.worker(&pod).await;
        (client, pod.metadata.name.expect("a name"))
    }
}

/// A pod at a restore.
const RESTORE_POD: &str = "op-0123456789abcdef0123-restore-x7k2p";

/// One request: method, path, body.
type Try = (&'static str, String, Value);

/// Every way to write that RBAC could let through, and whether a dry run of it is possible.
async fn tries(tenant: &Tenant, kinds: &[(String, &'static str, &'static str)]) -> Vec<(Try, bool)> {
    let label = json!({ "metadata": { "labels": { "team": "blue" } } });
    let mut tries = Vec::new();
    for (version, kind, plural) in kinds {
        let (all, one) = (tenant.path(version, plural), tenant.path(version, &format!("{plural}/there")));
        let there = call(&tenant.cluster.client, "GET", &one, &Value::Null).await.expect("it is there");
        let mut fresh = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "fresh" } });
        for field in ["spec", "rules", "data"] {
            fresh[field] = there[field].clone();
        }
        if *kind == "Service" {
            fresh["spec"] = json!({ "ports": [{ "port": 80 }] });
        }
        let mut changed = there.clone();
        changed["metadata"]["labels"]["team"] = "blue".into();
        tries.push((("POST", all.clone(), fresh), true));
        tries.push((("PUT", one.clone(), changed), true));
        tries.push((("PATCH", one.clone(), label.clone()), true));
        tries.push((("DELETE", one, Value::Null), true));
        if *kind != "Service" {
            tries.push((("DELETE", all, Value::Null), true));
        }
    }
    let oven = &kinds.last().expect("kinds").0;
    let scale = json!({ "spec": { "replicas": 0 } });
    let pod = |subresource: &str| tenant.path("v1", &format!("pods/there/{subresource}"));
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": "there" } });
    let token = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let node = json!({ "apiVersion": "v1", "kind": "Node", "name": "none" });
    let binding = json!({ "apiVersion": "v1", "kind": "Binding", "metadata": { "name": "there" }, "target": node });
    tries.extend([
        (("PATCH", tenant.path("apps/v1", "replicasets/there/scale"), json!({ "spec": { "replicas": 1 } })), true),
        (("PATCH", tenant.path("apps/v1", "replicasets/there/status"), label.clone()), true),
        (("PATCH", tenant.path(oven, "ovens/there/scale"), scale), true),
        (("PATCH", tenant.path(oven, "ovens/there/status"), json!({ "status": { "warm": true } })), true),
        (("PATCH", pod("status"), label.clone()), true),
        (("POST", pod("eviction"), eviction), true),
        (("POST", pod("binding"), binding), true),
        // These have no dry run.
        (("POST", pod("exec?command=sh&stdin=true"), Value::Null), false),
        (("GET", pod("exec?command=sh&stdin=true"), Value::Null), false),
        (("GET", pod("attach?stdin=true"), Value::Null), false),
        (("POST", pod("portforward"), Value::Null), false),
        (("GET", pod("proxy/"), Value::Null), false),
        (("GET", tenant.path("v1", "services/there/proxy/"), Value::Null), false),
        // The API server hands out the token of a dry run.
        (("POST", tenant.path("v1", "serviceaccounts/there/token"), token), false),
    ]);
    tries
}

fn dry((method, path, body): &Try) -> Try {
    let sign = if path.contains('?') { '&' } else { '?' };
    (method, format!("{path}{sign}dryRun=All"), body.clone())
}

#[tokio::test]
async fn a_preview_keeps_its_own_records_and_no_others() {
    let tenant = Tenant::new("preview-records").await;
    tenant.operation_with_pod("other").await;
    let (preview, pod) = tenant.account_in_pod(PREVIEW_ACCOUNT).await;
    let progress = json!({ "status": { "progress": "1/2",
        "summaryCounts": { "total": 2, "processed": 1, "succeeded": 1, "failed": 0, "skipped": 0 } } });
    let status = |run: &str| tenant.path(GROUP, &format!("operationruns/{run}/status"));
    call(&preview, "PATCH", &status("mine"), &progress).await.expect("its own progress");
    assert_refused(call(&preview, "PATCH", &status("other"), &progress).await, 403, &["tenantatlas-run-status"]);
    let uid = tenant.run("mine").await.metadata.uid.expect("a uid");
    let run = json!({ "name": "mine", "uid": uid });
    let owner = json!({ "apiVersion": GROUP, "kind": "OperationRun", "name": "mine", "uid": uid });
    let report = json!({ "metadata": { "name": "mine-0", "ownerReferences": [owner] },
        "spec": { "run": run, "chunk": 0, "chunks": 1, "items": [] } });
    tenant.create_as::<OperationReport>(preview.clone(), report).await.expect("its report");
    tenant.ask("look", json!({ "backupSet": { "name": "none" }, "dryRun": true })).await;
    call(&preview, "GET", &tenant.path(GROUP, "restoreruns/look"), &Value::Null).await.expect("what it is to do");
    // Two policies refuse it: the run is no restore either.
    assert_refused_by_either(
        tenant.create_as::<BackupSet>(preview.clone(), undo(&tenant, "mine")).await,
        [(403, &["a preview writes nothing"]), (403, &["records what undoes it alone"])],
    );
    assert!(tenant.api::<BackupSet>().get_opt("mine").await.expect("a read").is_none());

    let leases = tenant.path("coordination.k8s.io/v1", "leases");
    let lease =
        |name: &str| json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": name } });
    call(&tenant.cluster.client, "POST", &leases, &lease("another")).await.expect("another's");
    assert_refused(call(&preview, "POST", &leases, &lease("any")).await, 403, &["a preview writes nothing"]);
    let renewed = json!({ "spec": { "holderIdentity": "me" } });
    for method in ["PATCH", "DELETE"] {
        let answer = call(&preview, method, &format!("{leases}/another"), &renewed).await;
        assert_refused(answer, 403, &["a preview writes nothing"]);
    }
    call(&preview, "POST", &leases, &lease(&pod)).await.expect("its own");
    call(&preview, "PATCH", &format!("{leases}/{pod}"), &renewed).await.expect("renewed");
    call(&preview, "DELETE", &format!("{leases}/{pod}"), &Value::Null).await.expect("given back");
}

/// A backup set that undoes what a run writes.
fn undo(tenant: &Tenant, run: &str) -> Value {
    json!({ "metadata": { "name": run }, "spec": {
        "repository": { "name": "main" }, "snapshot": "a".repeat(64), "run": { "name": run, "uid": "0" },
        "namespaceUid": tenant.uid, "coverage": "partial", "absent": ["core/ConfigMap/fresh"],
    }})
}

#[tokio::test]
async fn a_restore_gives_nobody_more_than_it_has_itself() {
    let tenant = Tenant::new("escalation").await;
    let (restore, _) = tenant.account_in_pod(RESTORE_ACCOUNT).await;
    let role = |name: &str, verb: &str, group: &str, resource: &str| {
        json!({ "apiVersion": RBAC, "kind": "Role", "metadata": { "name": name },
            "rules": [{ "apiGroups": [group], "resources": [resource], "verbs": [verb] }] })
    };
    let (roles, bindings) = (tenant.path(RBAC, "roles"), tenant.path(RBAC, "rolebindings"));
    call(&restore, "POST", &roles, &role("reader", "get", "", "configmaps")).await.expect("no more than it has");
    let words = ["attempting to grant RBAC permissions"];
    for (verb, group, resource) in [
        ("impersonate", "", "serviceaccounts"),
        ("create", "", "serviceaccounts/token"),
        ("create", "", "pods/exec"),
        ("run", "tenantatlas.io", "operationtypes"),
        ("*", "*", "*"),
    ] {
        let more = role("more", verb, group, resource);
        assert_refused(call(&restore, "POST", &roles, &more).await, 403, &words);
        // The same on the way of a change, and tried by a preview.
        let mut widened = more.clone();
        widened["metadata"]["name"] = "reader".into();
        assert_refused(call(&restore, "PUT", &format!("{roles}/reader"), &widened).await, 403, &words);
        assert_refused(call(&restore, "POST", &format!("{roles}?dryRun=All"), &more).await, 403, &words);
    }
    let binding = |name: &str, kind: &str, role: &str| {
        json!({ "apiVersion": RBAC, "kind": "RoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ada" }] })
    };
    // Those that the chart names it may bind: that who asked could do so by hand, its worker makes sure of (restore_rights.rs).
    for (kind, role) in [
        ("Role", "reader"),
        ("ClusterRole", "view"),
        ("ClusterRole", "edit"),
        ("ClusterRole", "tenantatlas-tenant-admin"),
    ] {
        call(&restore, "POST", &bindings, &binding(role, kind, role))
            .await
            .unwrap_or_else(|error| panic!("{role}: {error}"));
    }
    // A role that somebody else has made holds more than the account does.
    call(&tenant.cluster.client, "POST", &roles, &role("strong", "impersonate", "", "serviceaccounts"))
        .await
        .expect("made");
    for (kind, role) in
        [("Role", "strong"), ("ClusterRole", "cluster-admin"), ("ClusterRole", "tenantatlas-controller")]
    {
        assert_refused(call(&restore, "POST", &bindings, &binding("more", kind, role)).await, 403, &words);
    }
    for (resource, kind) in [("roles", "Role"), ("rolebindings", "RoleBinding")] {
        let path = tenant.path(RBAC, &format!("{resource}/more"));
        let absent = call(&tenant.cluster.client, "GET", &path, &Value::Null).await;
        assert_refused(absent, 404, &[kind.to_lowercase().as_str()]);
    }
}

#[tokio::test]
async fn a_restore_records_what_undoes_it_and_nothing_else() {
    let tenant = Tenant::new("undo-record").await;
    let user = format!("system:serviceaccount:{}:{RESTORE_ACCOUNT}", tenant.name);
    let restore = tenant.cluster.as_user_in_pod(&user, RESTORE_POD);
    for (field, value, word) in [
        ("coverage", json!("full"), "name of its run"),
        ("run", json!({ "name": "other", "uid": "0" }), "name of its run"),
        ("namespaceUid", json!("11111111-2222-3333-4444-555555555555"), "spec.namespaceUid"),
        ("backupSchedule", json!({ "name": "nightly", "uid": "0" }), "spec.backupSchedule"),
    ] {
        let mut set = undo(&tenant, "mine");
        set["spec"][field] = value;
        let answer = tenant.create_as::<BackupSet>(restore.clone(), set).await;
        assert_refused(answer, 403, &["tenantatlas-backup-sets", word]);
    }
    tenant.create_as::<BackupSet>(restore.clone(), undo(&tenant, "mine")).await.expect("what undoes it");
    let path = tenant.path(GROUP, "backupsets/mine");
    call(&restore, "GET", &path, &Value::Null).await.expect("found again by the next attempt");
    let hold = json!({ "spec": { "hold": true } });
    assert_refused(call(&restore, "PATCH", &path, &hold).await, 403, &["cannot patch resource"]);
    // Nor does the same account in the pod of another operation: somebody's own image may run there.
    let (custom, _) = tenant.account_in_pod(RESTORE_ACCOUNT).await;
    let answer = tenant.create_as::<BackupSet>(custom, undo(&tenant, "again")).await;
    assert_refused(answer, 403, &["tenantatlas-backup-sets", "name of its run"]);
    // Without the pod it is nobody.
    let bare = tenant.cluster.as_user(&user, &[]);
    let answer = tenant.create_as::<BackupSet>(bare, undo(&tenant, "again")).await;
    assert_refused(answer, 403, &["tenantatlas-"]);
    let worker = tenant.cluster.as_user_in_pod(
        &format!("system:serviceaccount:{}:tenantatlas-worker", tenant.name),
        "op-0123456789abcdef0123-x",
    );
    // It records what it finds in an adopted repository, and nothing else.
    let answer = tenant.create_as::<BackupSet>(worker.clone(), undo(&tenant, "again")).await;
    assert_refused(answer, 403, &["tenantatlas-backup-sets", "restore"]);
    let mut found = undo(&tenant, &format!("adopted-{}", "a".repeat(16)));
    found["spec"]["namespaceUid"] = json!("of-one-that-is-lost");
    tenant.create_as::<BackupSet>(worker, found).await.expect("a set of a snapshot that it found");
}

#[tokio::test]
async fn an_account_that_a_restore_names_reports_once_it_is_given_the_roles_for_it() {
    let tenant = Tenant::new("deployer").await;
    tenant.apply(r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"deployer"}}"#);
    let (_, pod) = tenant.operation_with_pod_as("mine", "deployer").await;
    let user = format!("system:serviceaccount:{}:deployer", tenant.name);
    let deployer = tenant.cluster.as_user_in_pod(&user, RESTORE_POD);
    let answer = tenant.create_as::<BackupSet>(deployer.clone(), undo(&tenant, "mine")).await;
    assert_refused(answer, 403, &["cannot create resource"]);
    tenant.person(&user, &["tenantatlas-account-run", "tenantatlas-restore-run"]).await;
    tenant.create_as::<BackupSet>(deployer.clone(), undo(&tenant, "mine")).await.expect("what undoes it");
    let uid = tenant.run("mine").await.metadata.uid.expect("a uid");
    let owner = json!({ "apiVersion": GROUP, "kind": "OperationRun", "name": "mine", "uid": uid });
    let report = json!({ "metadata": { "name": "mine-0", "ownerReferences": [owner] },
        "spec": { "run": { "name": "mine", "uid": uid }, "chunk": 0, "chunks": 1, "items": [] } });
    // In the pod of an operation that is no restore it is whatever runs there.
    let custom = tenant.cluster.as_pod(&pod).await;
    let answer = tenant.create_as::<OperationReport>(custom.clone(), report.clone()).await;
    assert_refused(answer, 403, &["tenantatlas-reports"]);
    assert_refused(
        tenant.create_as::<BackupSet>(custom, undo(&tenant, "again")).await,
        403,
        &["tenantatlas-backup-sets"],
    );
    tenant.create_as::<OperationReport>(deployer, report.clone()).await.expect("its report");
    // With the roles and without the pod it is nobody.
    let bare = tenant.cluster.as_user(&user, &[]);
    let answer = tenant.create_as::<OperationReport>(bare.clone(), report).await;
    assert_refused(answer, 403, &["tenantatlas-reports"]);
    let answer = tenant.create_as::<BackupSet>(bare, undo(&tenant, "again")).await;
    assert_refused(answer, 403, &["tenantatlas-backup-sets"]);
}

/// No other story runs beside these.
mod alone {
    use super::*;

    #[tokio::test]
    async fn a_preview_with_every_right_writes_nothing_and_tries_everything() {
        // Alone: what another story captures meanwhile would meet a kind that comes and goes.
        let tenant = Tenant::alone("preview").await;
        let group = tenant.with_ovens().await;
        tenant.apply(SHOP);
        let kinds = kinds(&group);
        let (preview, _) = tenant.account_in_pod(PREVIEW_ACCOUNT).await;
        // Whatever roles give it: what refuses is not a lack of rights.
        let user = format!("system:serviceaccount:{}:{PREVIEW_ACCOUNT}", tenant.name);
        let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
        tenant.person_with(&user, everything).await;
        wait_for("the ReplicaSet has been looked at", SOON, async || {
            let path = tenant.path("apps/v1", "replicasets/there");
            let set = call(&tenant.cluster.client, "GET", &path, &Value::Null).await.expect("it is there");
            if set["status"]["observedGeneration"] == 1 { Ok(()) } else { Err(set["status"].to_string()) }
        })
        .await;

        let before = tenant.versions(&kinds).await;
        assert!(before.len() > kinds.len(), "{before:?}");
        let tries = tries(&tenant, &kinds).await;
        for (attempt, has_dry_run) in &tries {
            let (method, path, body) = attempt;
            match call(&preview, method, path, body).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {
                    assert!(status.message.contains("a preview writes nothing"), "{method} {path}: {}", status.message);
                }
                other => panic!("{method} {path} is not refused: {other:?}"),
            }
            let (method, path, body) = dry(attempt);
            let answer = call(&preview, method, &path, &body).await;
            match (has_dry_run, answer) {
                // Past the policy, and refused for what the pod is.
                (true, Err(kube::Error::Api(status))) if path.contains("/binding") => {
                    assert!(status.message.contains("schedulingGates"), "{}", status.message);
                }
                // Past the policy, and refused as the same of a restore would be: the accounts of operations are among them.
                (true, Err(kube::Error::Api(status)))
                    if method == "DELETE"
                        && (path.contains("/serviceaccounts?") || path.contains("/rolebindings?")) =>
                {
                    assert!(
                        status.message.contains("tenantatlas-account-objects"),
                        "{method} {path}: {}",
                        status.message
                    );
                }
                (true, answer) => drop(answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))),
                (false, Err(kube::Error::Api(status))) if status.code == 400 => {
                    assert_eq!(status.message, "dryRun is not supported", "{method} {path}");
                }
                (false, answer) => assert_refused(answer, 403, &["a preview writes nothing"]),
            }
        }
        assert_eq!(tenant.versions(&kinds).await, before, "nothing was written");
        tenant.without_ovens(&group);
    }

    #[tokio::test]
    async fn those_who_look_and_those_who_write_have_the_same_rights_and_none_to_be_somebody_else() {
        // Alone: as above.
        let tenant = Tenant::alone("same-rights").await;
        let group = tenant.with_ovens().await;
        let (preview, _) = tenant.account_in_pod(PREVIEW_ACCOUNT).await;
        let (_, pod) = tenant.operation_with_pod_as("restores", RESTORE_ACCOUNT).await;
        let restore = tenant.worker(&pod).await;
        let held = [
            "list core/secrets",
            "create core/configmaps",
            "update core/secrets",
            "delete core/persistentvolumeclaims",
            "update core/resourcequotas",
            "create apps/deployments",
            "delete batch/jobs",
            "create rbac.authorization.k8s.io/rolebindings",
            "get tenantatlas.io/restoreruns",
            "get tenantatlas.io/backupsets",
            "list tenantatlas.io/operationreports",
            "create authorization.k8s.io/localsubjectaccessreviews",
        ];
        let never = [
            "impersonate core/serviceaccounts",
            "impersonate core/users",
            "create core/serviceaccounts/token",
            "create core/pods/exec",
            "get core/pods/exec",
            "escalate rbac.authorization.k8s.io/roles",
            "bind rbac.authorization.k8s.io/clusterroles",
            "create authorization.k8s.io/subjectaccessreviews",
            "create coordination.k8s.io/events",
            "create tenantatlas.io/operationruns",
            "patch tenantatlas.io/operationruns",
            "create tenantatlas.io/restoreruns",
            "patch tenantatlas.io/restoreruns",
            "update tenantatlas.io/backupsets",
            "delete tenantatlas.io/backupsets",
            "update tenantatlas.io/backuprepositories",
            "patch tenantatlas.io/backupsets/status",
            "run tenantatlas.io/operationtypes",
        ];
        // The cluster's own kinds come with either label; one that is added to the stock `edit` needs no other.
        tenant.ovens_role("edits", "rbac.authorization.k8s.io/aggregate-to-edit", &group, &["create"]);
        tenant.ovens_role("restores", "tenantatlas.io/aggregate-to-restore", &group, &["delete"]);
        for account in [&preview, &restore] {
            for verb in ["create", "delete"] {
                tenant.until_allowed(account, tenant.right(&format!("{verb} {group}/ovens"))).await;
            }
            for right in held {
                assert!(may(account, tenant.right(right)).await, "{right}");
            }
            for right in never {
                assert!(!may(account, tenant.right(right)).await, "{right}");
            }
            // What who asked may do is asked about this namespace, and about no other.
            let review = |namespace: &str| {
                json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "LocalSubjectAccessReview",
                    "spec": { "user": "ada", "resourceAttributes": { "namespace": namespace, "verb": "create", "resource": "secrets" } } })
            };
            let path = |namespace: &str| {
                format!("/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews")
            };
            let answer = call(account, "POST", &path(&tenant.name), &review(&tenant.name)).await.expect("an answer");
            assert_eq!(answer["status"]["allowed"], false);
            assert_refused(
                call(account, "POST", &path("default"), &review("default")).await,
                403,
                &["cannot create resource"],
            );
        }
        tenant.without_ovens(&group);
    }
}
