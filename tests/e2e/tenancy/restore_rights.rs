//! A restore gives nobody what they do not have: neither rights, with the API server's own check against escalation as the oracle,
//! nor a look at what they may not read, nor another's restore.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, api::ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::execution::RESTORE_ACCOUNT;
use tenantatlas::api::{OperationReport, OperationRun, Outcome, RestoreRun};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// What a person needs to preview and restore, and to write Roles and RoleBindings; and what else.
pub(super) fn may_also(more: &Value) -> Value {
    let mut rules = json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["restoreruns", "operationreports"], "verbs": ["create", "get", "list"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "verbs": ["run"] },
        { "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"], "verbs": ["get", "create", "update"] },
    ]);
    rules.as_array_mut().expect("rules").extend(more.as_array().cloned().unwrap_or_default());
    rules
}

/// The rules of Roles that are tried: each kind of word, alone and mixed by a fixed arithmetic.
fn rules() -> Vec<Value> {
    let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({ "apiGroups": groups, "resources": resources, "verbs": verbs });
    let mut named = rule(&[""], &["configmaps"], &["get", "update"]);
    named["resourceNames"] = json!(["a", "b"]);
    let mut one_named = named.clone();
    one_named["resourceNames"] = json!(["a"]);
    let mut all = vec![
        json!([]),
        json!([rule(&[""], &["configmaps"], &["get"])]),
        json!([rule(&[""], &["resourcequotas"], &["delete"])]),
        json!([rule(&[""], &["configmaps"], &["*"])]),
        json!([rule(&["*"], &["*"], &["*"])]),
        json!([rule(&[""], &["pods/exec"], &["create"])]),
        json!([rule(&["apps"], &["*/scale"], &["update"])]),
        json!([rule(&["apps"], &["deployments/scale"], &["update"])]),
        json!([named]),
        json!([one_named]),
        json!([rule(&[""], &["configmaps"], &["get"]), rule(&["apps"], &["deployments"], &["delete"])]),
    ];
    let (groups, resources) =
        (["", "apps", "batch", "*"], ["configmaps", "secrets", "pods", "deployments", "jobs", "*"]);
    let verbs = ["get", "list", "create", "update", "delete", "*"];
    let mut seed = 13_usize;
    let mut pick = |bound: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for _ in 0..12 {
        let (group, resource, verb) = (groups[pick(4)], resources[pick(6)], verbs[pick(6)]);
        all.push(json!([rule(&[group], &[resource], &[verb, verbs[pick(5)]])]));
    }
    all
}

fn role(name: &str, rules: &Value) -> Value {
    json!({ "apiVersion": RBAC, "kind": "Role", "metadata": { "name": name }, "rules": rules })
}

fn binding(name: &str, kind: &str, role: &str) -> Value {
    json!({ "apiVersion": RBAC, "kind": "RoleBinding", "metadata": { "name": name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory" }] })
}

fn plural(object: &Value) -> &'static str {
    if object["kind"] == "Role" { "roles" } else { "rolebindings" }
}

impl Tenant {
    pub(crate) fn apply_all(&self, objects: &[Value]) {
        let manifests: Vec<String> = objects.iter().map(Value::to_string).collect();
        self.apply(&manifests.join("\n---\n"));
    }

    /// Whether the API server would let a user write an object, in a dry run: replaced where it is there, else made.
    async fn would_take(&self, client: &Client, object: &Value) -> bool {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let (all, one) =
            (self.path(RBAC, plural(object)), self.path(RBAC, &format!("{}/{name}?dryRun=All", plural(object))));
        let answer = match call(&self.cluster.client, "GET", one.trim_end_matches("?dryRun=All"), &Value::Null).await {
            Ok(live) => {
                let mut wanted = object.clone();
                wanted["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
                call(client, "PUT", &one, &wanted).await
            }
            Err(_) => call(client, "POST", &format!("{all}?dryRun=All"), object).await,
        };
        match answer {
            Ok(_) => true,
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => false,
            Err(error) => panic!("{name}: {error}"),
        }
    }

    /// The plan of a preview that somebody asks for: item and action, of all of them.
    pub(super) async fn planned_for(
        &self,
        client: &Client,
        who: &str,
        name: &str,
        mut spec: Value,
    ) -> BTreeMap<String, (String, String)> {
        spec["requestedBy"] = json!({ "username": who });
        spec["dryRun"] = json!(true);
        let restore = json!({ "metadata": { "name": name }, "spec": spec });
        self.create_as::<RestoreRun>(client.clone(), restore).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        let status = self.restored(name).await;
        let run = status.operation_run.unwrap_or_else(|| panic!("no run: {:?}", status.message));
        let reports = self.api::<OperationReport>();
        let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name));
        let reports = reports.list(&of_run).await.expect("reports can be listed").items;
        let items = reports.iter().flat_map(|report| &report.spec.plan);
        let action = |item: &tenantatlas::api::operation_report::PlannedObject| {
            let action = serde_json::to_value(item.action).expect("an action");
            let message = item.reason.as_ref().map(|reason| reason.message.clone()).unwrap_or_default();
            (action.as_str().unwrap_or_default().to_owned(), message)
        };
        items.map(|item| (item.item_id.clone(), action(item))).collect()
    }
}

#[tokio::test]
async fn a_restore_gives_rights_to_nobody_who_asked_could_not_give_them_to_by_hand() {
    let tenant = Tenant::new("oracle").await;
    let mut objects = Vec::new();
    for (number, rules) in rules().iter().enumerate() {
        // Those that change; and those that are made, each of which is bound, too.
        objects.push(role(&format!("there-{number}"), rules));
        objects.push(role(&format!("gone-{number}"), rules));
        objects.push(binding(&format!("gone-there-{number}"), "Role", &format!("there-{number}")));
        objects.push(binding(&format!("there-{number}"), "Role", &format!("there-{number}")));
    }
    let of_cluster = [
        "view",
        "edit",
        "admin",
        "cluster-admin",
        "tenantatlas-tenant-viewer",
        "tenantatlas-restore",
        "tenantatlas-tenant-operator",
    ];
    objects.extend(of_cluster.iter().map(|name| binding(&format!("gone-{name}"), "ClusterRole", name)));
    objects.push(binding("gone-nobody", "Role", "nobody"));
    tenant.apply_all(&objects);
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    for object in &objects {
        let name = object["metadata"]["name"].as_str().expect("a name");
        let one = tenant.path(RBAC, &format!("{}/{name}", plural(object)));
        let (method, body) = if name.starts_with("gone") {
            ("DELETE", Value::Null)
        } else {
            ("PATCH", json!({ "metadata": { "labels": { "changed": "since" } } }))
        };
        call(&tenant.cluster.client, method, &one, &body).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }

    let bind = json!([{ "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["edit"], "verbs": ["bind"] },
        { "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "resourceNames": ["there-4", "nobody"], "verbs": ["bind"] }]);
    let escalate = json!([{ "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "resourceNames": ["there-2"], "verbs": ["escalate"] }]);
    let some = json!([{ "apiGroups": [""], "resources": ["configmaps", "pods"], "verbs": ["get", "list", "create", "update"] },
        { "apiGroups": ["apps"], "resources": ["*/scale", "deployments"], "verbs": ["*"] }]);
    let named =
        json!([{ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a"], "verbs": ["get", "update"] }]);
    let everything = json!([{ "apiGroups": ["*"], "resources": ["*"], "verbs": ["*"] }]);
    let account = format!("system:serviceaccount:{}:{RESTORE_ACCOUNT}", tenant.name);
    let account = tenant.cluster.as_user_in_pod(&account, "op-0123456789abcdef0123-x");
    let mut differs = Vec::new();
    for (who, rules) in [
        ("none", json!([])),
        ("bind", bind),
        ("escalate", escalate),
        ("some", some),
        ("named", named),
        ("all", everything),
        ("admin", Value::Null),
    ] {
        let client = if who == "admin" {
            // Stock `admin`, and the right to preview.
            tenant.person(who, &["admin"]).await;
            tenant.person_with(who, may_also(&json!([]))).await
        } else {
            tenant.person_with(who, may_also(&rules)).await
        };
        let spec = json!({ "backupSet": { "name": "nightly" }, "existingResourcePolicy": "update",
            "items": [{ "group": "rbac.authorization.k8s.io", "name": "there-*" }, { "group": "rbac.authorization.k8s.io", "name": "gone-*" }] });
        let planned = tenant.planned_for(&client, who, &format!("as-{who}"), spec).await;
        for object in &objects {
            let item = format!(
                "rbac.authorization.k8s.io/{}/{}",
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap()
            );
            let (action, why) = planned.get(&item).cloned().unwrap_or_default();
            let by_hand = tenant.would_take(&client, object).await;
            // The account is measured as well, by the API server itself.
            let expected = by_hand && tenant.would_take(&account, object).await;
            if expected != matches!(action.as_str(), "create" | "update") {
                differs.push(format!("{who}: {item}: {action} ({why}), by hand: {by_hand}"));
            }
        }
        let allowed = planned.values().filter(|(action, _)| matches!(action.as_str(), "create" | "update")).count();
        assert!(allowed > 0, "{who}: nothing at all is allowed: {planned:#?}");
    }
    assert!(differs.is_empty(), "{differs:#?}");
}

#[tokio::test]
async fn what_is_given_is_measured_after_transforms_and_when_it_is_written() {
    let tenant = Tenant::new("escalates").await;
    let mine = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"] }]);
    tenant.apply_all(&[role("mine", &mine), binding("mine", "Role", "mine")]);
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "platform" }, "spec": { "hard": { "pods": "9" } } });
    tenant.apply(&quota.to_string());
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    let ada = tenant.person("ada", &["admin", "tenantatlas-tenant-operator"]).await;
    for (kind, name) in [("role", "mine"), ("rolebinding", "mine")] {
        tenant.cluster.kubectl_prints(&["delete", kind, name, "--namespace", &tenant.name]);
    }
    let quotas = json!([{ "apiGroups": [""], "resources": ["resourcequotas"], "verbs": ["delete"] }]);
    let transforms = json!([
        { "select": { "kind": "Role" }, "patch": [{ "op": "replace", "path": "/rules", "value": quotas }] },
        { "select": { "kind": "RoleBinding" }, "patch": [
            { "op": "replace", "path": "/roleRef/kind", "value": "ClusterRole" },
            { "op": "replace", "path": "/roleRef/name", "value": "tenantatlas-restore" }] },
    ]);
    let spec = json!({ "backupSet": { "name": "nightly" }, "requestedBy": { "username": "ada" }, "transforms": transforms,
        "items": [{ "group": "rbac.authorization.k8s.io", "name": "mine" }] });
    let restore = json!({ "metadata": { "name": "more" }, "spec": spec });
    tenant.create_as::<RestoreRun>(ada.clone(), restore).await.expect("ada may restore");
    let status = tenant.restored("more").await;
    assert_eq!(status.failure_reason.as_deref(), Some("NothingRestored"), "{status:#?}");
    let run = tenant.run(&status.operation_run.expect("a run").name).await.status.expect("a status");
    for word in ["let ada hold what it gives, or the verb `escalate`", "let ada hold what it gives, or the verb `bind`"]
    {
        assert!(run.failures.iter().any(|failure| failure.message.contains(word)), "{word}: {:#?}", run.failures);
    }
    // Runs are read by people who may not read Roles.
    for word in ["resourcequotas", "tenantatlas-restore"] {
        assert!(!run.failures.iter().any(|failure| failure.message.contains(word)), "{word}: {:#?}", run.failures);
    }
    for plural in ["roles", "rolebindings"] {
        let one = tenant.path(RBAC, &format!("{plural}/mine"));
        assert_refused(call(&tenant.cluster.client, "GET", &one, &Value::Null).await, 404, &["mine"]);
    }
}

#[tokio::test]
async fn neither_another_s_restore_is_done_again_nor_a_secret_guessed_by_looking() {
    let tenant = Tenant::new("anothers").await;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "vault", "labels": { "tier": "gold" } }, "stringData": { "p": "hunter2-and-more" } });
    tenant.apply(&secret.to_string());
    let made: Result<ConfigMap, _> =
        tenant.create(json!({ "metadata": { "name": "there" }, "data": { "a": "b" } })).await;
    made.expect("a ConfigMap");
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    // An administrator's restore, long over.
    let items = json!([{ "kind": "ConfigMap", "name": "there" }]);
    tenant.restore("old", "nightly", json!({ "items": items })).await;
    let old = tenant.restored("old").await;
    assert_eq!(old.outcome, Outcome::Succeeded, "{old:#?}");
    tenant.cluster.kubectl_prints(&["delete", "configmap", "there", "--namespace", &tenant.name]);
    let uid = tenant.api::<RestoreRun>().get("old").await.expect("it is there").metadata.uid;
    let inputs = json!({ "repository": "main", "restoreRun": { "name": "old", "uid": uid } });
    let forged = json!({ "metadata": { "name": "forged" }, "spec": { "type": "restore.apply", "inputs": inputs, "initiator": { "username": "ada" } } });
    tenant
        .create_as::<OperationRun>(tenant.cluster.as_operator(), forged)
        .await
        .expect("as if its inputs had been changed");
    let status = tenant.completed("forged", SOON).await;
    assert_ne!(status.outcome, Outcome::Succeeded, "{status:#?}");
    assert_eq!(status.reason.as_deref(), Some("NotItsRestore"), "{status:#?}");
    let there = tenant.path("v1", "configmaps/there");
    assert_refused(call(&tenant.cluster.client, "GET", &there, &Value::Null).await, 404, &["there"]);

    // Who may write Secrets and not read them learns nothing, however she asks.
    let blind = json!([
        { "apiGroups": [""], "resources": ["secrets"], "verbs": ["create", "update", "delete"] },
        { "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update"] }]);
    let eve = tenant.person_with("eve", may_also(&blind)).await;
    let copy = |to: &str| json!([{ "op": "copy", "from": "/data/p", "path": to }]);
    let guess = json!([{ "op": "test", "path": "/data/p", "value": "aHVudGVyMi1hbmQtbW9yZQ==" }]);
    let mut told = Vec::new();
    for (name, transforms, selector) in [
        ("right", json!([{ "select": {}, "patch": guess }]), Value::Null),
        ("wrong", json!([{ "select": {}, "patch": [{ "op": "test", "path": "/data/p", "value": "x" }] }]), Value::Null),
        ("shown", json!([{ "select": { "name": "vault" }, "patch": copy("/metadata/annotations") }]), Value::Null),
        ("label", json!([]), json!("tier=gold")),
        ("other", json!([]), json!("tier=silver")),
        (
            "named",
            json!([{ "select": { "labelSelector": "tier in (gold)" }, "patch": [{ "op": "remove", "path": "/x" }] }]),
            Value::Null,
        ),
    ] {
        let mut item = json!({ "kind": "Secret", "name": "vault" });
        if !selector.is_null() {
            item["labelSelector"] = selector;
        }
        let spec = json!({ "backupSet": { "name": "nightly" }, "existingResourcePolicy": "update", "transforms": transforms,
            "items": [item, { "kind": "ConfigMap", "name": "there" }] });
        let planned = tenant.planned_for(&eve, "eve", name, spec).await;
        told.push(planned["core/Secret/vault"].clone());
        let all = serde_json::to_string(
            &tenant.api::<OperationReport>().list(&ListParams::default()).await.expect("reports").items,
        )
        .expect("JSON");
        assert!(!all.contains("hunter2") && !all.contains("aHVudGVyMi"), "{all}");
    }
    assert_eq!(told[0].0, "forbidden", "{told:#?}");
    assert!(told[0].1.contains("eve may not get secrets"), "{told:#?}");
    assert!(told.iter().all(|one| *one == told[0]), "a difference tells something: {told:#?}");
}
