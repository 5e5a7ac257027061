//! Objects by chance, of kinds that differ in what a restore must know of them; and what is seen of them.

use http::Request;
use kube::Client;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A kind: apiVersion, kind, resource.
pub(crate) type Kind = (&'static str, &'static str, &'static str);

/// The group of the kinds that are made for this.
pub(crate) const GROUP: &str = "round-trip.example.com";

/// A Widget has a status subresource, a Gadget has none.
pub(crate) const KINDS: [Kind; 13] = [
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "Secret", "secrets"),
    ("v1", "Service", "services"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps/v1", "Deployment", "deployments"),
    ("batch/v1", "Job", "jobs"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("rbac.authorization.k8s.io/v1", "Role", "roles"),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    ("round-trip.example.com/v1", "Widget", "widgets"),
    ("round-trip.example.com/v1", "Gadget", "gadgets"),
    ("v1", "ResourceQuota", "resourcequotas"),
];

/// On every object that a round makes.
pub(crate) const LABEL: &str = "round-trip.example.com/made";

/// A cluster-wide owner: nobody in the tenant can read it.
pub(crate) const CLUSTER_WIDE: &str = "round-trip-owner";

/// Numbers that follow from a seed.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from((self.0 >> 11) % bound as u64).expect("it is below a usize")
    }

    pub(crate) fn one_in(&mut self, number: usize) -> bool {
        self.below(number) == 0
    }

    pub(crate) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// An object by chance. `value` tells versions of it apart; `fixed` those between which no update leads.
pub(crate) fn object(kind: usize, name: &str, chance: &mut Chance) -> Value {
    let (api_version, kind, _) = KINDS[kind];
    let (value, fixed) = (format!("v{}", chance.below(3)), format!("f{}", chance.below(2)));
    let mut object = json!({"apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "labels": {LABEL: "yes"}, "annotations": {"round-trip.example.com/value": value}}});
    let fields = match kind {
        "ConfigMap" => {
            let mut fields = json!({"data": {"k": value}});
            if chance.one_in(8) {
                fields["data"]["refused"] = json!("yes");
            }
            if chance.one_in(6) {
                fields["immutable"] = json!(true);
            }
            fields
        }
        "Secret" => json!({"stringData": {"k": value}, "type": *chance.of(&["Opaque", "example.com/other"])}),
        "Service" => {
            let mut fields = json!({"spec": {"selector": {"a": value}, "ports": [{"port": 80, "protocol": "TCP"}]}});
            match chance.below(4) {
                0 => fields["spec"]["clusterIP"] = json!("None"),
                1 => fields["spec"]["type"] = json!("NodePort"),
                _ => {}
            }
            fields
        }
        "PersistentVolumeClaim" => json!({"spec": {"storageClassName": format!("nobody-{fixed}"),
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        "Deployment" => json!({"spec": {"replicas": 0, "selector": {"matchLabels": {"a": fixed}},
            "template": pod_template(&fixed, &value)}}),
        "Job" => {
            let mut template = pod_template(&fixed, &value);
            template["spec"]["restartPolicy"] = json!("Never");
            json!({"spec": {"suspend": true, "template": template}})
        }
        "NetworkPolicy" => json!({"spec": {"podSelector": {"matchLabels": {"a": value}}}}),
        "Role" => {
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": [value]}]})
        }
        "RoleBinding" => {
            // The last is more than the account of restores holds: it can be taken away and not given.
            let role = *chance.of(&["view", "view", "cluster-admin"]);
            json!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
                "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": value}]})
        }
        "Widget" => json!({"spec": {"value": value}}),
        "Gadget" => json!({"spec": {"value": value}, "status": {"value": format!("s{}", chance.below(3))}}),
        "ResourceQuota" => json!({"spec": {"hard": {"count/configmaps": (9 + chance.below(8)).to_string()}}}),
        _ => json!({}),
    };
    for (field, value) in fields.as_object().cloned().unwrap_or_default() {
        object[field] = value;
    }
    if matches!(kind, "ConfigMap" | "Widget") && chance.one_in(10) {
        object["metadata"]["finalizers"] = json!(["round-trip.example.com/held"]);
    }
    object
}

fn pod_template(fixed: &str, value: &str) -> Value {
    json!({"metadata": {"labels": {"a": fixed}}, "spec": {"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": format!("example.com/none:{value}"),
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}})
}

/// The objects of a namespace, written and read as the administrator.
pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl World {
    fn path(&self, (api_version, _, plural): Kind) -> String {
        let root = if api_version.contains('/') { "apis" } else { "api" };
        format!("/{root}/{api_version}/namespaces/{}/{plural}", self.namespace)
    }

    async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("content-type", kind);
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = request.body(bytes).expect("a request");
        self.client.request(request).await.map_err(|error| error.to_string())
    }

    fn kind_of(object: &Value) -> Kind {
        *KINDS.iter().find(|(_, kind, _)| object["kind"] == *kind).expect("one of the kinds")
    }

    fn path_of(&self, object: &Value) -> String {
        format!("{}/{}", self.path(Self::kind_of(object)), object["metadata"]["name"].as_str().expect("a name"))
    }

    pub(crate) async fn create(&self, object: &Value) -> Result<Value, String> {
        self.ask("POST", &self.path(Self::kind_of(object)), object).await
    }

    pub(crate) async fn patch(&self, object: &Value, patch: &Value) -> Result<Value, String> {
        self.ask("PATCH", &self.path_of(object), patch).await
    }

    /// Deletes, in the background.
    pub(crate) async fn delete(&self, object: &Value) {
        if object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty()) {
            let _ = self.patch(object, &json!({"metadata": {"finalizers": null}})).await;
        }
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"});
        let _ = self.ask("DELETE", &self.path_of(object), &options).await;
    }

    /// Every object that rounds made, and what was made of them, by kind and name.
    pub(crate) async fn all(&self) -> BTreeMap<String, Value> {
        let mut all = BTreeMap::new();
        for (api_version, kind, plural) in KINDS {
            let list = self.ask("GET", &self.path((api_version, kind, plural)), &Value::Null).await;
            let list = list.unwrap_or_else(|error| panic!("{plural} cannot be listed: {error}"));
            for mut object in list["items"].as_array().cloned().unwrap_or_default() {
                if object["metadata"]["labels"][LABEL] != "yes" {
                    continue;
                }
                object["apiVersion"] = json!(api_version);
                object["kind"] = json!(kind);
                let name = object["metadata"]["name"].as_str().expect("a name");
                all.insert(format!("{}{name}", item_prefix(api_version, kind)), object);
            }
        }
        all
    }

    /// The same, once the garbage collector has nothing left to take and nothing is being deleted.
    pub(crate) async fn settled(&self) -> BTreeMap<String, Value> {
        crate::support::wait_for("the garbage collector has taken what nobody owns", crate::support::SOON, async || {
            let all = self.all().await;
            let uids: BTreeSet<&str> = all.values().filter_map(|object| object["metadata"]["uid"].as_str()).collect();
            let owned_by_nobody = |object: &&Value| {
                let owners = object["metadata"]["ownerReferences"].as_array();
                owners.is_some_and(|owners| {
                    owners.iter().all(|owner| {
                        owner["kind"] != "ClusterRole" && !uids.contains(owner["uid"].as_str().unwrap_or_default())
                    })
                })
            };
            let going = |object: &&Value| !object["metadata"]["deletionTimestamp"].is_null() || owned_by_nobody(object);
            let left: Vec<String> = all
                .values()
                .filter(going)
                .map(|object| format!("{}/{}", object["kind"], object["metadata"]["name"]))
                .collect();
            if left.is_empty() { Ok(all.clone()) } else { Err(left.join(", ")) }
        })
        .await
    }

    pub(crate) async fn clear(&self) {
        for object in self.all().await.values() {
            self.delete(object).await;
        }
        self.settled().await;
    }
}

/// What the ids of a kind's items begin with.
pub(crate) fn item_prefix(api_version: &str, kind: &str) -> String {
    format!("{}/{kind}/", api_version.split_once('/').map_or("core", |(group, _)| group))
}

/// What a user sees of an object: all but what the cluster numbers, counts and hands out.
pub(crate) fn seen(object: &Value) -> Value {
    let mut object = object.clone();
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    if kind != "Gadget" {
        object.as_object_mut().expect("an object").remove("status");
    }
    let metadata = object["metadata"].as_object_mut().expect("metadata");
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "finalizers"] {
        metadata.remove(field);
    }
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.remove("deployment.kubernetes.io/revision");
    }
    for owner in metadata.get_mut("ownerReferences").and_then(Value::as_array_mut).into_iter().flatten() {
        owner["uid"] = Value::Null;
    }
    match kind.as_str() {
        "Service" => {
            let spec = object["spec"].as_object_mut().expect("a spec");
            if spec["clusterIP"] != "None" {
                spec.remove("clusterIP");
                spec.remove("clusterIPs");
            }
            for port in spec["ports"].as_array_mut().into_iter().flatten() {
                port.as_object_mut().expect("a port").remove("nodePort");
            }
        }
        "Job" => {
            object["spec"].as_object_mut().expect("a spec").remove("selector");
            for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
                if let Some(labels) = object.pointer_mut(labels).and_then(Value::as_object_mut) {
                    labels.retain(|key, _| !key.ends_with("controller-uid"));
                }
            }
        }
        _ => {}
    }
    object
}
