//! An object without the fields that the server owns ([`super::owned`]), as compared and written.
//!
//! The same fields are removed from both sides of a comparison, so they alone never make a
//! difference.

use crate::{
    owned::{Existing, Kept, OWNED_FIELDS, OwnedField},
    semantic::{Status, without},
};
use serde_json::{Map, Value};
use std::sync::LazyLock;

/// Removes the fields that the server owns. Idempotent, except for node ports that only the managed
/// fields show as chosen: a second pass finds no managed fields.
pub fn sanitize(object: &mut Value, status: Status) {
    let chosen = ChosenPorts::of(object);
    strip(object, status, chosen);
}

fn strip(object: &mut Value, status: Status, chosen: ChosenPorts) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    for (owned, path) in owned_in(object) {
        if !owned.kept.holds(object, status) {
            remove(object, path, &name);
        }
    }
    chosen.put_back(object);
}

/// Same as [`sanitize`], for a copy.
#[must_use]
pub fn sanitized(live: &Value, status: Status) -> Value {
    let mut copy = without(live, status, &["managedFields"]);
    strip(&mut copy, status, ChosenPorts::of(live));
    copy
}

/// The body of an update: the wanted object, with the live values of the fields that the server
/// owns.
///
/// The body carries the live uid and resourceVersion, so the API server refuses it once the object
/// has changed.
#[must_use]
pub fn replacement(wanted: &Value, live: &Value) -> Value {
    let mut body = wanted.clone();
    let name = wanted["metadata"]["name"].as_str().unwrap_or_default();
    // The keys of a Secret belong to its author, except those of a token.
    let is_the_authors = |owned: &OwnedField| owned.kept == Kept::NoToken && owned.kept.holds(wanted, Status::Observed);
    for (_, path) in owned_in(wanted).filter(|(owned, _)| owned.existing == Existing::Live && !is_the_authors(owned)) {
        carry(&mut body, live, path, name);
    }
    for field in ["uid", "resourceVersion"] {
        if let (Some(metadata), Some(value)) = (body["metadata"].as_object_mut(), live["metadata"].get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    body
}

/// One step of a field's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment<'a> {
    /// A field, or a key of a map.
    Key(&'a str),
    /// Each element of a list.
    Each,
    /// The elements of a list whose name starts with this prefix.
    Named(&'a str),
}

/// A field that the server owns, and its path.
type OwnedPath = (&'static OwnedField, Vec<Segment<'static>>);

/// The table with its paths. They are parsed once, because every object is compared with them.
static OWNED_PATHS: LazyLock<Vec<OwnedPath>> =
    LazyLock::new(|| OWNED_FIELDS.iter().map(|owned| (owned, segments(owned.field))).collect());

/// The fields that the server owns in an object of this kind.
fn owned_in(object: &Value) -> impl Iterator<Item = &'static OwnedPath> + use<> {
    let api_version = object["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    let kind = object["kind"].as_str().unwrap_or_default().to_owned();
    OWNED_PATHS.iter().filter(move |(owned, _)| owned.is_of(&group, &kind))
}

fn segments(field: &str) -> Vec<Segment<'_>> {
    let mut segments = Vec::new();
    let mut rest = field;
    while !rest.is_empty() {
        if let Some(inside) = rest.strip_prefix('[') {
            let (inside, after) = inside.split_once(']').unwrap_or((inside, ""));
            segments.push(match inside.strip_prefix("name=") {
                Some(pattern) => Segment::Named(pattern.strip_suffix('*').unwrap_or(pattern)),
                None if inside.is_empty() => Segment::Each,
                None => Segment::Key(inside),
            });
            rest = after;
        } else {
            let rest_of_field = rest.strip_prefix('.').unwrap_or(rest);
            let end = rest_of_field.find(['.', '[']).unwrap_or(rest_of_field.len());
            segments.push(Segment::Key(&rest_of_field[..end]));
            rest = &rest_of_field[end..];
        }
    }
    segments
}

fn is_named(element: &Value, prefix: &str, object: &str) -> bool {
    element["name"].as_str().is_some_and(|name| match prefix.strip_prefix("<name>") {
        Some(suffix) => name.strip_prefix(object).is_some_and(|rest| rest.starts_with(suffix)),
        None => name.starts_with(prefix),
    })
}

/// Removes a field. A map or list that becomes empty is removed as well, as in the API server's own
/// answers.
fn remove(value: &mut Value, path: &[Segment<'_>], name: &str) {
    let [first, rest @ ..] = path else { return };
    match (first, value) {
        (Segment::Key(key), Value::Object(map)) => {
            if rest.is_empty() {
                map.remove(*key);
            } else if let Some(child) = map.get_mut(*key) {
                let was_empty = is_empty(child);
                remove(child, rest, name);
                if is_empty(child) && !was_empty {
                    map.remove(*key);
                }
            }
        }
        (Segment::Each, Value::Array(elements)) => {
            for element in elements {
                remove(element, rest, name);
            }
        }
        (Segment::Named(prefix), Value::Array(elements)) => elements.retain(|element| !is_named(element, prefix, name)),
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        _ => false,
    }
}

/// Copies a field from the live object if the body lacks it.
fn carry(body: &mut Value, live: &Value, path: &[Segment<'_>], name: &str) {
    let [first, rest @ ..] = path else { return };
    match (first, body, live) {
        (Segment::Key(key), Value::Object(body), Value::Object(live)) => {
            let Some(live) = live.get(*key).filter(|live| !live.is_null()) else { return };
            if rest.is_empty() {
                body.entry(*key).or_insert_with(|| live.clone());
                return;
            }
            let empty = if live.is_array() { Value::Array(Vec::new()) } else { Value::Object(Map::new()) };
            let mut child = body.get(*key).cloned().unwrap_or(empty);
            carry(&mut child, live, rest, name);
            if body.contains_key(*key) || !is_empty(&child) {
                body.insert((*key).to_owned(), child);
            }
        }
        (Segment::Each, Value::Array(body), Value::Array(live)) => {
            for element in body {
                let same = live.iter().find(|live| live.get("name") == element.get("name"));
                if let Some(live) = same {
                    carry(element, live, rest, name);
                }
            }
        }
        (Segment::Named(prefix), Value::Array(body), Value::Array(live)) => {
            for element in live.iter().filter(|element| is_named(element, prefix, name)) {
                if !body.iter().any(|own| own.get("name") == element.get("name")) {
                    body.push(element.clone());
                }
            }
        }
        _ => {}
    }
}

/// Node ports that a user chose: they are in the annotation of `kubectl apply`, or in the managed
/// fields.
struct ChosenPorts {
    /// Name (or port and protocol, if there is no name) and node port.
    ports: Vec<(String, Value)>,
    health_check: Option<Value>,
}

impl ChosenPorts {
    fn of(object: &Value) -> Self {
        let none = Self { ports: Vec::new(), health_check: None };
        if object["kind"] != "Service" || object["apiVersion"] != "v1" {
            return none;
        }
        let applied = object["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"].as_str();
        let applied = applied.and_then(|text| serde_json::from_str::<Value>(text).ok()).unwrap_or_default();
        let managed: Vec<&Value> = object["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|entry| &entry["fieldsV1"]["f:spec"])
            .collect();
        let is_number = |port: &Value| port.as_i64().is_some_and(|port| port > 0);
        let applied_ports = node_ports(&applied);
        let is_applied = |key: &str| applied_ports.iter().any(|(applied, port)| applied == key && is_number(port));
        let is_managed = |port: &Value| managed.iter().any(|fields| manages_node_port(&fields["f:ports"], port));
        let ports = object["spec"]["ports"].as_array().into_iter().flatten();
        let chosen = ports
            .filter(|port| is_number(&port["nodePort"]))
            .filter(|port| is_applied(&port_key(port)) || is_managed(port));
        let health_check = &object["spec"]["healthCheckNodePort"];
        let health_check_is_chosen = is_number(&applied["spec"]["healthCheckNodePort"])
            || managed.iter().any(|fields| !fields["f:healthCheckNodePort"].is_null());
        Self {
            ports: chosen.map(|port| (port_key(port), port["nodePort"].clone())).collect(),
            health_check: Some(health_check.clone()).filter(is_number).filter(|_| health_check_is_chosen),
        }
    }

    fn put_back(self, object: &mut Value) {
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let key = port_key(port);
            let kept = self.ports.iter().find(|(kept, _)| *kept == key);
            if let (Some((_, number)), Some(port)) = (kept, port.as_object_mut()) {
                port.insert("nodePort".to_owned(), number.clone());
            }
        }
        if let Some(port) = self.health_check {
            spec.insert("healthCheckNodePort".to_owned(), port);
        }
    }
}

fn node_ports(service: &Value) -> Vec<(String, Value)> {
    let ports = service["spec"]["ports"].as_array().into_iter().flatten();
    ports.filter_map(|port| Some((port_key(port), port.get("nodePort")?.clone()))).collect()
}

/// Whether the managed fields of a list of ports include the node port of this one. The key of a
/// port has the form `k:{"port":80,"protocol":"TCP"}`.
fn manages_node_port(fields: &Value, port: &Value) -> bool {
    fields.as_object().into_iter().flatten().any(|(key, fields)| {
        let key: Value = key.strip_prefix("k:").and_then(|key| serde_json::from_str(key).ok()).unwrap_or_default();
        let protocol = |port: &Value| port["protocol"].as_str().unwrap_or("TCP").to_owned();
        !fields["f:nodePort"].is_null() && key["port"] == port["port"] && protocol(&key) == protocol(port)
    })
}

fn port_key(port: &Value) -> String {
    match port["name"].as_str() {
        Some(name) => name.to_owned(),
        None => format!("{}/{}", port["port"], port["protocol"].as_str().unwrap_or("TCP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sanitized(mut object: Value) -> Value {
        let copy = super::sanitized(&object, Status::Observed);
        sanitize(&mut object, Status::Observed);
        assert_eq!(copy, object, "a copy is sanitized as the object itself is");
        let once = object.clone();
        sanitize(&mut object, Status::Observed);
        assert_eq!(object, once, "sanitizing twice is the same as once");
        object
    }

    #[test]
    fn identity_status_and_finalizers_go_and_everything_else_stays() {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"uid": "mine", "status": "mine", "empty": {}},
            "metadata": {"name": "a", "namespace": "acme", "labels": {"a": "b"}, "annotations": {"c": "d"}, "uid": "u", "generation": 4,
                "resourceVersion": "1", "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}], "selfLink": "/x",
                "finalizers": ["example.com/cleanup"], "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3},
            "status": {"ready": true}, "unknown": null});
        let expected = json!({"apiVersion": "example.com/v1", "kind": "Widget", "spec": {"uid": "mine", "status": "mine", "empty": {}},
            "metadata": {"name": "a", "namespace": "acme", "labels": {"a": "b"}, "annotations": {"c": "d"}}, "unknown": null});
        assert_eq!(sanitized(object), expected);
    }

    fn service(spec: &Value, applied: Option<&Value>) -> Value {
        let mut service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec});
        if let Some(spec) = applied {
            let text = json!({"spec": spec}).to_string();
            service["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/last-applied-configuration": text});
        }
        service
    }

    #[test]
    fn a_service_loses_its_addresses_but_not_that_it_is_headless() {
        let spec = json!({"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"], "healthCheckNodePort": 31000, "ports": [{"port": 80, "nodePort": 30080}]});
        assert_eq!(sanitized(service(&spec, None))["spec"], json!({"ports": [{"port": 80}]}));
        let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        assert_eq!(sanitized(service(&headless, None))["spec"], headless);
    }

    #[test]
    fn ports_of_nodes_that_were_applied_are_kept() {
        let spec = json!({"healthCheckNodePort": 31000, "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}]});
        let applied = json!({"healthCheckNodePort": 31000, "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}]});
        let expected = json!({"healthCheckNodePort": 31000, "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81}]});
        assert_eq!(sanitized(service(&spec, Some(&applied)))["spec"], expected);
        let unnamed = json!({"ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]});
        assert_eq!(
            sanitized(service(&unnamed, Some(&json!({"ports": [{"port": 80, "nodePort": 30080}]}))))["spec"],
            unnamed
        );
    }

    #[test]
    fn ports_of_nodes_that_somebody_manages_are_kept_and_those_of_the_cluster_are_not() {
        let fields = json!({"f:spec": {"f:healthCheckNodePort": {}, "f:ports": {r#"k:{"port":80,"protocol":"TCP"}"#: {".": {}, "f:nodePort": {}},
            r#"k:{"port":81,"protocol":"TCP"}"#: {".": {}, "f:port": {}}, r#"k:{"port":82,"protocol":"UDP"}"#: {"f:nodePort": {}}}}});
        let mut service = service(
            &json!({"healthCheckNodePort": 31000, "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080},
                {"port": 81, "nodePort": 30081}, {"port": 82, "nodePort": 30082}, {"port": 82, "protocol": "UDP", "nodePort": 30083}]}),
            None,
        );
        service["metadata"]["managedFields"] = json!([{"manager": "helm", "operation": "Update", "fieldsV1": fields}]);
        // Only once: after that, no managed fields are left to show the choice again.
        let copy = super::sanitized(&service, Status::Observed);
        super::sanitize(&mut service, Status::Observed);
        assert_eq!(copy, service);
        assert_eq!(
            copy["spec"],
            json!({"healthCheckNodePort": 31000, "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080},
                {"port": 81}, {"port": 82}, {"port": 82, "protocol": "UDP", "nodePort": 30083}]})
        );
    }

    fn claim(annotations: &Value) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "annotations": annotations},
            "spec": {"volumeName": "pv-1", "storageClassName": "fast"}})
    }

    #[test]
    fn a_claim_loses_the_volume_it_was_bound_to_but_not_one_its_author_chose() {
        let bound =
            claim(&json!({"pv.kubernetes.io/bound-by-controller": "yes", "pv.kubernetes.io/bind-completed": "yes",
            "volume.kubernetes.io/selected-node": "n1", "volume.kubernetes.io/storage-provisioner": "csi"}));
        let wanted = sanitized(bound.clone());
        assert_eq!(wanted["spec"], json!({"storageClassName": "fast"}));
        assert_eq!(wanted["metadata"], json!({"name": "data"}), "an empty map of annotations goes as well");
        let chosen = sanitized(claim(&json!({"pv.kubernetes.io/bind-completed": "yes"})));
        assert_eq!(chosen["spec"]["volumeName"], "pv-1");
        // Over the live claim, the binding is written as it is: without it the update would be
        // refused.
        let body = replacement(&wanted, &bound);
        assert_eq!(
            (&body["spec"], &body["metadata"]["annotations"]),
            (&bound["spec"], &bound["metadata"]["annotations"])
        );
    }

    #[test]
    fn a_job_loses_what_was_generated_with_its_uid() {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "j", "labels": {"batch.kubernetes.io/controller-uid": "u", "job-name": "j"}},
            "spec": {"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
                "template": {"metadata": {"labels": {"batch.kubernetes.io/controller-uid": "u", "controller-uid": "u", "job-name": "j"}}, "spec": {}}}});
        let wanted = sanitized(job.clone());
        assert_eq!(wanted["metadata"]["labels"], json!({"job-name": "j"}));
        assert_eq!(wanted["spec"], json!({"template": {"metadata": {"labels": {"job-name": "j"}}, "spec": {}}}));
        assert_eq!(replacement(&wanted, &job), job);
        let mut manual = job;
        manual["spec"]["manualSelector"] = json!(true);
        assert_eq!(sanitized(manual.clone()), manual);
    }

    #[test]
    fn a_pod_loses_its_node_and_its_token_and_an_account_its_tokens() {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n1", "priority": 0, "preemptionPolicy": "x",
            "volumes": [{"name": "data"}, {"name": "kube-api-access-x7k2p"}],
            "containers": [{"name": "c", "volumeMounts": [{"name": "kube-api-access-x7k2p", "mountPath": "/var/run"}]}]}});
        let wanted = sanitized(pod.clone());
        assert_eq!(wanted["spec"], json!({"volumes": [{"name": "data"}], "containers": [{"name": "c"}]}));
        assert_eq!(replacement(&wanted, &pod), pod);
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "web"},
            "secrets": [{"name": "web-token-abc12"}, {"name": "web-tls"}, {"name": "other-token-abc12"}]});
        assert_eq!(sanitized(account)["secrets"], json!([{"name": "web-tls"}, {"name": "other-token-abc12"}]));
    }

    #[test]
    fn a_replacement_carries_the_preconditions_and_the_live_finalizers() {
        let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "generation": 1,
            "finalizers": ["x/y"], "labels": {"added": "later"}}, "data": {"k": "live"}});
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "kept"}});
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "7", "finalizers": ["x/y"]}, "data": {"k": "kept"}});
        assert_eq!(replacement(&wanted, &live), expected, "labels that others added go: an update is a replacement");
    }

    #[test]
    fn an_object_of_any_shape_is_sanitized_without_a_panic() {
        for (_, kind, group) in OWNED_FIELDS.iter().map(|owned| (owned.field, owned.kind, owned.group)) {
            let api_version = if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") };
            for odd in [
                json!(null),
                json!([]),
                json!("x"),
                json!({"ports": 1, "annotations": [1], "volumes": {}, "containers": [1, null]}),
            ] {
                let object =
                    json!({"apiVersion": api_version, "kind": kind, "metadata": odd, "spec": odd, "secrets": odd});
                let wanted = sanitized(object.clone());
                let _ = replacement(&wanted, &object);
            }
        }
        sanitized(json!(7));
    }

    #[test]
    fn the_guide_lists_every_field_and_no_other() {
        let guide = include_str!("../../../docs/guides/what-is-restored.md");
        let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `")).collect();
        let mut listed = Vec::new();
        for owned in OWNED_FIELDS {
            let kind = match (owned.group, owned.kind) {
                ("*", _) => "*".to_owned(),
                ("", kind) => kind.to_owned(),
                (group, kind) => format!("{kind}.{group}"),
            };
            let row = format!("| `{kind}` | `{}` | {} | {} |", owned.field, owned.why, owned.kept.describe());
            assert!(rows.contains(&row.as_str()), "the guide lacks the line\n{row}");
            listed.push(row);
        }
        let fields = rows.iter().filter(|row| row.matches(" | ").count() == 3);
        for row in fields {
            assert!(listed.iter().any(|listed| listed == row), "no such field: {row}");
        }
    }

    #[test]
    fn the_keys_of_a_token_go_and_those_of_the_same_name_in_another_secret_stay() {
        let secret = |of: &str| json!({"apiVersion": "v1", "kind": "Secret", "type": of, "data": {"token": "dA==", "own": "bw=="}});
        assert_eq!(sanitized(secret("kubernetes.io/service-account-token"))["data"], json!({"own": "bw=="}));
        assert_eq!(sanitized(secret("Opaque")), secret("Opaque"));
    }

    #[test]
    fn a_field_of_a_built_in_kind_is_its_author_s_in_a_kind_of_the_same_name_or_group() {
        for (api_version, kind) in [("serving.example.com/v1", "Service"), ("v1", "Widget"), ("example.com/v1", "Pod")]
        {
            let spec = json!({"clusterIP": "10.0.0.1", "nodeName": "n", "volumeName": "v", "ports": [{"nodePort": 1}]});
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}, "spec": spec});
            assert_eq!(sanitized(object.clone()), object);
        }
    }

    #[test]
    fn a_node_port_of_zero_is_no_choice() {
        let spec = json!({"ports": [{"port": 80, "nodePort": 30080}]});
        let applied = json!({"ports": [{"port": 80, "nodePort": 0}]});
        assert_eq!(sanitized(service(&spec, Some(&applied)))["spec"], json!({"ports": [{"port": 80}]}));
    }
}
