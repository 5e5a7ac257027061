//! Applications as people run them: captured, deleted, restored, undone. Nothing of their operators runs; the kinds are ours, with
//! the same names, scopes and subresources, and the objects are in the shape that the operators give them.

use crate::support::{SOON, Tenant, wait_for};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tenantatlas::api::Outcome;

const ROLE: &str = include_str!("data/applications/kinds.yaml");
const DEFINITIONS: &str = include_str!("data/applications/definitions.yaml");
const OBJECTS: &str = include_str!("data/applications/objects.yaml");

/// Kinds of the applications, as kubectl lists them.
const KINDS: &str = "secrets,persistentvolumeclaims,services,endpoints,endpointslices,deployments.apps,statefulsets.apps,roles,\
                     serviceaccounts,issuers.cert-manager.io,certificates.cert-manager.io,applications.argoproj.io,\
                     prometheuses.monitoring.coreos.com,prometheusrules.monitoring.coreos.com,\
                     servicemonitors.monitoring.coreos.com,kafkas.kafka.strimzi.io,kafkatopics.kafka.strimzi.io,\
                     postgresqls.acid.zalan.do,services.serving.knative.dev,configurations.serving.knative.dev";

/// Kinds without a subresource for status: there it is a field like others.
const STATUS_IS_DATA: [&str; 1] = ["Application"];

#[tokio::test]
async fn applications_are_captured_deleted_restored_and_the_restore_undone() {
    let tenant = Tenant::new("applications").await;
    tenant.with_application_kinds().await;
    tenant.apply(OBJECTS);
    tenant.apply(&tenant.owned().to_string());
    wait_for("the cluster puts a token into the Secret that asks for one", SOON, async || {
        let token = ["get", "secret", "ci-token", "--namespace", &tenant.name, "--output=jsonpath={.data.token}"];
        if tenant.cluster.kubectl_prints(&token).is_empty() { Err("not yet") } else { Ok(()) }
    })
    .await;
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    let whole = tenant.applications();
    assert!(whole.len() >= 29, "{:#?}", whole.keys());
    let token = tenant.token();

    // What the cluster filled in is not in the backup.
    let one = json!({ "type": "backup.capture", "inputs": { "repository": "main", "selection": {
        "includeKinds": ["postgresql.acid.zalan.do", "Role.rbac.authorization.k8s.io"],
        "includeNames": ["acid-main", "CN=readers,OU=shop", "no-such-object"] } } });
    tenant.start("named", one).await;
    let named = tenant.completed("named", SOON).await;
    assert_eq!(named.outcome, Outcome::PartiallySucceeded, "{named:#?}");
    assert_eq!(named.summary_counts.map(|counts| (counts.succeeded, counts.failed)), Some((2, 1)), "{named:#?}");
    assert_eq!(named.failures[0].reason_code, "NotFound", "{named:#?}");

    // As it was: a restore finds nothing to do, the token included.
    tenant.restore("identical", "nightly", json!({ "existingResourcePolicy": "update" })).await;
    let identical = tenant.restored("identical").await;
    assert_eq!(identical.outcome, Outcome::Succeeded, "{identical:#?}");
    assert_eq!(tenant.reported(&identical).await, Vec::<String>::new());
    assert_eq!(tenant.token(), token, "nobody's token was taken away");

    let deletion = ["delete", "--namespace", &tenant.name, "--ignore-not-found", "--filename", "-"];
    tenant.cluster.kubectl_reads(&deletion, &tenant.owned().to_string());
    tenant.cluster.kubectl_reads(&deletion, OBJECTS);
    let damaged = wait_for("what was deleted is gone", SOON, async || {
        let left = tenant.applications();
        if left.len() + 29 <= whole.len() { Ok(left) } else { Err(format!("{:#?}", left.keys())) }
    })
    .await;

    tenant.restore("put-back", "nightly", json!({})).await;
    let restored = tenant.restored("put-back").await;
    assert_eq!(restored.outcome, Outcome::Succeeded, "{restored:#?}\n{:#?}", tenant.reported(&restored).await);
    wait_for("all is as it was", SOON, async || {
        let now = tenant.applications();
        let differs: Vec<_> = whole.iter().filter(|(item, object)| now.get(*item) != Some(object)).collect();
        if differs.is_empty() { Ok(()) } else { Err(format!("{differs:#?}")) }
    })
    .await;
    wait_for("the token is another one", SOON, async || {
        let now = tenant.token();
        if now.is_empty() || now == token { Err("not yet") } else { Ok(()) }
    })
    .await;

    let undo = restored.undo_backup_set.expect("status.undoBackupSet");
    let spec = json!({ "dryRun": true, "existingResourcePolicy": "update", "prune": true });
    tenant.restore("look-back", &undo, spec).await;
    let look = tenant.restored("look-back").await;
    assert_eq!(look.outcome, Outcome::Succeeded, "{look:#?}\n{:#?}", tenant.reported(&look).await);
    let spec = json!({ "preview": { "name": "look-back" } });
    tenant.restore("undo", &undo, spec).await;
    let undone = tenant.restored("undo").await;
    assert_eq!(undone.outcome, Outcome::Succeeded, "{undone:#?}\n{:#?}", tenant.reported(&undone).await);
    wait_for("all is as it was before the restore", SOON, async || {
        let now = tenant.applications();
        if now == damaged { Ok(()) } else { Err(format!("{:#?}", now.keys())) }
    })
    .await;
    tenant.without_application_kinds();
}

impl Tenant {
    /// Installs the kinds, once the tenant's accounts may list them.
    async fn with_application_kinds(&self) {
        self.apply(ROLE);
        wait_for("the role is aggregated", SOON, async || {
            for account in ["tenantatlas-worker", "tenantatlas-restore"] {
                // `kubectl auth can-i` knows no group of a kind that is not served yet.
                let review = json!({ "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {
                    "user": format!("system:serviceaccount:{}:{account}", self.name),
                    "resourceAttributes": { "namespace": self.name, "verb": "list", "group": "kafka.strimzi.io", "resource": "kafkas" } } });
                let asked = ["create", "--output=jsonpath={.status.allowed}", "--filename=-"];
                if self.cluster.kubectl_reads(&asked, &review.to_string()) != "true" {
                    return Err("not yet");
                }
            }
            Ok(())
        })
        .await;
        self.apply(DEFINITIONS);
        let wait = ["wait", "--for=condition=Established", "--timeout=60s", "--filename", "-"];
        self.cluster.kubectl_reads(&wait, DEFINITIONS);
    }

    /// The role stays: a capture in flight in another tenant may have found these kinds already, and lists them after they are
    /// gone. Without the role its worker would be refused, and the step `rights` fails for a refusal that nobody meant.
    fn without_application_kinds(&self) {
        self.cluster.kubectl_reads(&["delete", "--wait=false", "--filename", "-"], DEFINITIONS);
    }

    /// What operators make, with the uids of what they make it for.
    fn owned(&self) -> Value {
        let owner = |kind: &str, resource: &str, name: &str, controller: bool| {
            let of = ["get", resource, name, "--namespace", &self.name, "--output", "json"];
            let shown: Value = serde_json::from_str(&self.cluster.kubectl_prints(&of)).expect("JSON");
            json!([{ "apiVersion": shown["apiVersion"], "kind": kind, "name": name, "uid": shown["metadata"]["uid"],
                "controller": controller, "blockOwnerDeletion": controller }])
        };
        let kafka = owner("Kafka", "kafkas.kafka.strimzi.io", "events", false);
        let prometheus = owner("Prometheus", "prometheuses.monitoring.coreos.com", "main", true);
        let knative = owner("Service", "services.serving.knative.dev", "hello", true);
        let pod = json!({ "metadata": { "labels": { "prometheus": "main" } },
            "spec": { "containers": [{ "name": "prometheus", "image": "prometheus:3" }] } });
        json!({ "apiVersion": "v1", "kind": "List", "items": [
            { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "events-cluster-ca-cert", "ownerReferences": kafka },
              "stringData": { "ca.crt": "a certificate" } },
            { "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "prometheus-main", "ownerReferences": prometheus },
              "stringData": { "prometheus.yaml": "global: {}" } },
            { "apiVersion": "apps/v1", "kind": "StatefulSet",
              "metadata": { "name": "prometheus-main", "ownerReferences": prometheus },
              "spec": { "replicas": 0, "serviceName": "prometheus-operated",
                  "selector": { "matchLabels": { "prometheus": "main" } }, "template": pod } },
            { "apiVersion": "serving.knative.dev/v1", "kind": "Configuration",
              "metadata": { "name": "hello", "ownerReferences": knative },
              "spec": { "template": { "spec": { "containers": [{ "image": "example.com/hello:1" }] } } } },
        ]})
    }

    fn token(&self) -> String {
        let token = [
            "get",
            "secret",
            "ci-token",
            "--namespace",
            &self.name,
            "--ignore-not-found",
            "--output=jsonpath={.data.token}",
        ];
        self.cluster.kubectl_prints(&token)
    }

    /// The applications' objects by `Kind.group/name`, without what the server owns. Owners are named as those that are there, or `gone`.
    fn applications(&self) -> BTreeMap<String, Value> {
        let shown = self.cluster.kubectl_prints(&["get", KINDS, "--namespace", &self.name, "--output", "json"]);
        let list: Value = serde_json::from_str(&shown).expect("kubectl prints JSON");
        let items = list["items"].as_array().expect("a list");
        let uids: BTreeMap<&str, &str> = items
            .iter()
            .filter_map(|object| Some((object["metadata"]["uid"].as_str()?, object["metadata"]["name"].as_str()?)))
            .collect();
        items.iter().filter(|object| !is_of_the_cluster(object)).map(|object| shown_as(object, &uids)).collect()
    }
}

/// What is there without the applications: kept by the cluster, or made with the tenant.
fn is_of_the_cluster(object: &Value) -> bool {
    let metadata = &object["metadata"];
    let managed_by = metadata["labels"]["endpointslice.kubernetes.io/managed-by"].as_str();
    metadata["labels"]["app.kubernetes.io/managed-by"] == "tenantatlas"
        || metadata["name"] == "main" && matches!(object["kind"].as_str(), Some("Secret" | "PersistentVolumeClaim"))
        || managed_by.is_some_and(|by| by.ends_with(".k8s.io"))
        || object["kind"] == "Endpoints" && metadata["name"] != "legacy"
}

fn shown_as(object: &Value, uids: &BTreeMap<&str, &str>) -> (String, Value) {
    let mut object = object.clone();
    let kind = object["kind"].as_str().expect("a kind").to_owned();
    let name =
        format!("{}/{kind}/{}", object["apiVersion"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
    if !STATUS_IS_DATA.contains(&kind.as_str()) {
        object.as_object_mut().unwrap().remove("status");
    }
    if object["type"] == "kubernetes.io/service-account-token" {
        object.as_object_mut().unwrap().remove("data");
        object["metadata"]["annotations"].as_object_mut().unwrap().remove("kubernetes.io/service-account.uid");
    }
    if object["apiVersion"] == "v1" && kind == "Service" {
        for field in ["clusterIP", "clusterIPs"] {
            object["spec"].as_object_mut().unwrap().remove(field);
        }
    }
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("deployment.kubernetes.io/revision");
        annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
    }
    for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        let uid = owner["uid"].as_str().unwrap_or_default();
        owner["uid"] = json!(uids.get(uid).copied().unwrap_or("gone"));
    }
    (name, object)
}
