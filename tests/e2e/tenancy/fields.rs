//! What a tenant with stock `edit` and `admin` can write of the objects that operations stand on: every field that the API server's own
//! schemas name, by every kind of patch.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant, wait_for};
use kube::Client;
use serde_json::{Map, Value, json};
use tenantatlas::api::execution::WORKER_ACCOUNT;

/// What a tenant may say of an operation's pod.
const FREE: [&str; 2] = ["/metadata/labels/team", "/metadata/annotations/note"];

/// A patch of this kind; what it came to does not matter, only what is there then.
async fn patch(client: &Client, path: &str, kind: &str, body: &Value) {
    let request = http::Request::patch(path).header("content-type", format!("application/{kind}"));
    let request = request.body(body.to_string().into_bytes()).expect("a request");
    let _: Result<Value, kube::Error> = client.request(request).await;
}

/// What counts of an object: not what its controllers count and say.
fn what_counts(mut object: Value, free: bool) -> Value {
    for field in ["resourceVersion", "managedFields", "generation"] {
        object["metadata"].as_object_mut().expect("metadata").remove(field);
    }
    object.as_object_mut().expect("an object").remove("status");
    for pointer in FREE.iter().filter(|_| free) {
        let (parent, key) = pointer.rsplit_once('/').expect("a field");
        let parent = object.pointer_mut(parent).and_then(Value::as_object_mut);
        if let Some(parent) = parent {
            parent.remove(key);
        }
    }
    object
}

/// A value of the type that a schema says.
fn some(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("string") => json!("altered"),
        Some("integer" | "number") => json!(7),
        Some("boolean") => json!(true),
        Some("array") => json!([{ "name": "altered" }]),
        _ => json!({ "altered": "true" }),
    }
}

/// Merge patches of every field of a kind: of its metadata, of itself, and one level below.
fn patches(schemas: &Value, kind: &str) -> Vec<Value> {
    let all = schemas["components"]["schemas"].as_object().expect("schemas");
    let of = |name: &str| -> &Map<String, Value> {
        all[name]["properties"].as_object().unwrap_or_else(|| panic!("{name} has no fields"))
    };
    let name = all.keys().find(|name| name.starts_with("io.k8s.api.") && name.ends_with(&format!(".{kind}")));
    let mut found = Vec::new();
    for (field, schema) in of(name.expect("a schema of the kind")) {
        let referred = schema["allOf"][0]["$ref"].as_str().and_then(|reference| reference.rsplit('/').next());
        match (field.as_str(), referred) {
            ("apiVersion" | "kind" | "status" | "metadata", _) => {}
            (_, Some(name)) => {
                found.extend(of(name).iter().map(|(inner, schema)| json!({ field: { inner: some(schema) } })));
            }
            (_, None) => found.push(json!({ field: some(schema) })),
        }
    }
    for (field, schema) in of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta") {
        found.push(json!({ "metadata": { field: some(schema) } }));
    }
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0" });
    for metadata in [
        json!({ "finalizers": ["example.com/never"] }),
        json!({ "finalizers": null }),
        json!({ "ownerReferences": [owner] }),
        json!({ "ownerReferences": null }),
        json!({ "labels": { "tenantatlas.io/run-uid": "0", "app.kubernetes.io/managed-by": "me" } }),
        json!({ "labels": { "tenantatlas.io/leased-repository": "0" } }),
        json!({ "annotations": { "kubernetes.io/enforce-mountable-secrets": "true" } }),
    ] {
        found.push(json!({ "metadata": metadata }));
    }
    found
}

#[tokio::test]
async fn no_field_of_what_operations_stand_on_is_a_tenants_to_write_or_to_delete() {
    let tenant = Tenant::new("fields").await;
    let (job, pod) = tenant.operation_with_pod("mine").await;
    let worker = tenant.worker(&pod).await;
    let pod = pod.metadata.name.expect("a name");
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": pod },
        "spec": { "holderIdentity": pod } });
    let leases = tenant.path("coordination.k8s.io/v1", "leases");
    call(&worker, "POST", &leases, &lease).await.expect("a worker's own Lease");
    let eve = tenant.person("eve", &["edit", "admin"]).await;
    let rbac = "rbac.authorization.k8s.io/v1";
    let objects = [
        ("v1", "ServiceAccount", format!("serviceaccounts/{WORKER_ACCOUNT}")),
        (rbac, "RoleBinding", format!("rolebindings/{WORKER_ACCOUNT}")),
        ("batch/v1", "Job", format!("jobs/{job}")),
        ("v1", "Pod", format!("pods/{pod}")),
        ("coordination.k8s.io/v1", "Lease", format!("leases/{pod}")),
    ];
    for (version, kind, rest) in &objects {
        let path = tenant.path(version, rest);
        let root = if *version == "v1" { "api" } else { "apis" };
        let schemas = call(&eve, "GET", &format!("/openapi/v3/{root}/{version}"), &Value::Null).await.expect("schemas");
        let before = call(&eve, "GET", &path, &Value::Null).await.expect("it is there");
        let before = what_counts(before, *kind == "Pod");
        let patches = patches(&schemas, kind);
        assert!(patches.len() > 20, "{kind}: {patches:?}");
        for change in patches {
            let mut applied = change.clone();
            applied["apiVersion"] = (*version).into();
            applied["kind"] = (*kind).into();
            let fields = change.as_object().expect("fields");
            let (outer, inner) = fields.iter().next().expect("a field");
            let added: Vec<Value> = match inner.as_object().filter(|_| outer == "metadata" || outer == "spec") {
                Some(inner) => inner
                    .iter()
                    .map(|(key, value)| json!({ "op": "add", "path": format!("/{outer}/{key}"), "value": value }))
                    .collect(),
                None => vec![json!({ "op": "add", "path": format!("/{outer}"), "value": inner })],
            };
            patch(&eve, &path, "merge-patch+json", &change).await;
            patch(&eve, &path, "json-patch+json", &json!(added)).await;
            patch(&eve, &format!("{path}?fieldManager=eve&force=true"), "apply-patch+yaml", &applied).await;
            let after = call(&eve, "GET", &path, &Value::Null).await.expect("it is still there");
            let is_free = json!(change["metadata"]["labels"]) != Value::Null
                || json!(change["metadata"]["annotations"]) != Value::Null;
            if *kind == "Pod" && is_free {
                // What is a tenant's own label or annotation there harms nobody; what ties the pod to its operation stays.
                for label in
                    ["tenantatlas.io/run-uid", "batch.kubernetes.io/controller-uid", "app.kubernetes.io/managed-by"]
                {
                    assert_eq!(after["metadata"]["labels"][label], before["metadata"]["labels"][label], "{change}");
                }
                continue;
            }
            let after = what_counts(after, *kind == "Pod");
            let written = |object: &Value| {
                let mut object = object.clone();
                if *kind == "Pod" {
                    let metadata = object["metadata"].as_object_mut().expect("metadata");
                    let _ = (metadata.remove("labels"), metadata.remove("annotations"));
                }
                object
            };
            assert_eq!(written(&after), written(&before), "{kind}: {change}");
        }
        // To end an operation the hard way is a tenant's right; what all of them stand on is not.
        if !["Job", "Pod"].contains(kind) {
            assert_refused(call(&eve, "DELETE", &path, &Value::Null).await, 403, &["tenantatlas-"]);
        }
    }
    // Nor are the accounts given more than they have.
    let binding = |subject: Value| {
        json!({ "apiVersion": rbac, "kind": "RoleBinding", "metadata": { "name": "more" },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit" }, "subjects": [subject] })
    };
    let user = format!("system:serviceaccount:{}:{WORKER_ACCOUNT}", tenant.name);
    for subject in [
        json!({ "kind": "ServiceAccount", "name": WORKER_ACCOUNT, "namespace": tenant.name }),
        json!({ "kind": "ServiceAccount", "name": WORKER_ACCOUNT, "namespace": "another" }),
        json!({ "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user }),
    ] {
        let answer = call(&eve, "POST", &tenant.path(rbac, "rolebindings"), &binding(subject)).await;
        assert_refused(answer, 403, &["tenantatlas-account-objects", "onboard"]);
    }
    // Who runs the platform may; what would hold up operations is put right.
    let path = tenant.path("v1", &format!("serviceaccounts/{WORKER_ACCOUNT}"));
    let annotations = json!({ "kubernetes.io/enforce-mountable-secrets": "true", "iam.gke.io/gcp-service-account": "backups@project" });
    let change = json!({ "metadata": { "annotations": annotations }, "automountServiceAccountToken": true });
    call(&tenant.cluster.client, "PATCH", &path, &change).await.expect("a platform team may");
    wait_for("the operator puts it right", SOON, async || {
        let account = call(&eve, "GET", &path, &Value::Null).await.map_err(|error| error.to_string())?;
        let annotations = &account["metadata"]["annotations"];
        let right = annotations["kubernetes.io/enforce-mountable-secrets"] == "false"
            && account["automountServiceAccountToken"] == false
            && annotations["iam.gke.io/gcp-service-account"] == "backups@project";
        if right { Ok(()) } else { Err(account.to_string()) }
    })
    .await;
    tenant.ends().await;
}
