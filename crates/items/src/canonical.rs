//! The canonical bytes of a stored object: an unchanged object always gives the same bytes.
//!
//! A repository deduplicates by content, and snapshots are compared by content. Both only work if
//! equal objects have equal bytes. Keys are therefore sorted, and three fields of `metadata` are
//! dropped:
//!
//! | field | why it is not stored |
//! |---|---|
//! | `resourceVersion` | a counter of the API server's store; it changes when nothing relevant did, and has no meaning elsewhere |
//! | `managedFields` | who last set which field, with times; often half of an object, and rewritten by every apply. Two kinds of entries are stored, without times: those of server-side apply, which a restore writes back, and those of Services with a node port, which show who chose the port |
//! | `selfLink` | derived; no longer served |
//!
//! In a Secret that requests a ServiceAccount token ([`TOKEN_SECRET`]), the values that the cluster
//! fills in are dropped as well. The token is a credential of this cluster alone, and the cluster
//! would delete a Secret that carries the uid of another account.
//!
//! All other fields are stored, including those that a restore does not write back: `uid` and
//! `ownerReferences` record ownership, `status` records the observed state. No typed structs are
//! involved, so unknown fields are stored too.

use crate::api::canonical;
use serde_json::{Map, Value};

/// Fields of `metadata` that are not stored, except for some entries of `managedFields`.
pub const DROPPED_METADATA: [&str; 3] = ["managedFields", "resourceVersion", "selfLink"];

/// Type of a Secret that the cluster fills with a ServiceAccount token.
pub const TOKEN_SECRET: &str = "kubernetes.io/service-account-token";

/// Values that the cluster puts into such a Secret: the map, and the key in the map.
pub const TOKEN_FIELDS: [(&str, &str); 5] = [
    ("data", "token"),
    ("data", "ca.crt"),
    ("data", "namespace"),
    ("annotations", "kubernetes.io/service-account.uid"),
    ("labels", "kubernetes.io/legacy-token-last-used"),
];

/// The entries of `managedFields` that are stored, in a stable order.
fn managers(object: &Map<String, Value>, api_version: &str, kind: &str) -> Vec<Value> {
    let ports = object.get("spec").and_then(|spec| spec.get("ports")?.as_array());
    let has_node_port = ports.into_iter().flatten().any(|port| port.get("nodePort").is_some());
    let all = (api_version, kind) == ("v1", "Service") && has_node_port;
    let entries = object.get("metadata").and_then(|metadata| metadata.get("managedFields")?.as_array());
    let is_kept = |entry: &&Value| entry["subresource"].is_null() && (all || entry["operation"] == "Apply");
    let without_time = |entry: &Value| -> Option<Value> {
        let mut entry = entry.as_object()?.clone();
        entry.remove("time");
        Some(Value::Object(entry))
    };
    let mut kept: Vec<Value> = entries.into_iter().flatten().filter(is_kept).filter_map(without_time).collect();
    kept.sort_by_cached_key(canonical::to_vec);
    kept
}

/// Returns the bytes to store for an object.
#[must_use]
pub fn stored_bytes(object: Map<String, Value>, api_version: &str, kind: &str) -> Vec<u8> {
    canonical::to_vec(&Value::Object(stored(object, api_version, kind)))
}

/// The object as it is stored. Items of a list may lack `apiVersion` and `kind`, so both are set.
#[must_use]
pub fn stored(mut object: Map<String, Value>, api_version: &str, kind: &str) -> Map<String, Value> {
    let managers = managers(&object, api_version, kind);
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for field in DROPPED_METADATA {
            metadata.remove(field);
        }
        if !managers.is_empty() {
            metadata.insert("managedFields".to_owned(), Value::Array(managers));
        }
    }
    if api_version == "v1" && kind == "Secret" && object.get("type").and_then(Value::as_str) == Some(TOKEN_SECRET) {
        drop_token(&mut object);
    }
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    object
}

/// Removes the values that the cluster fills in, and any map that becomes empty.
fn drop_token(secret: &mut Map<String, Value>) {
    for (map, key) in TOKEN_FIELDS {
        let holder = match map {
            "data" => Some(&mut *secret),
            _ => secret.get_mut("metadata").and_then(Value::as_object_mut),
        };
        let Some(holder) = holder else { continue };
        let Some(fields) = holder.get_mut(map).and_then(Value::as_object_mut) else { continue };
        if fields.remove(key).is_some() && fields.is_empty() {
            holder.remove(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn bytes(object: &Value) -> Vec<u8> {
        stored_bytes(object.as_object().cloned().expect("an object"), "v1", "ConfigMap")
    }

    #[test]
    fn an_object_that_only_moved_in_the_store_gives_the_same_bytes() {
        let before = json!({"metadata": {"name": "a", "resourceVersion": "1", "managedFields": [{"time": "t1"}]}});
        let after = json!({"kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"selfLink": "/x", "managedFields": [], "resourceVersion": "2", "name": "a"}});
        assert_eq!(bytes(&before), bytes(&after));
        assert_eq!(bytes(&before), br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#);
    }

    #[test]
    fn who_applied_what_is_stored_without_times_and_who_updated_what_only_of_ports_of_nodes() {
        let entry = |manager: &str, operation: &str, time: &str| json!({"manager": manager, "operation": operation, "time": time, "fieldsV1": {"f:data": {}}});
        let object = |time: &str| {
            json!({"metadata": {"name": "a", "managedFields": [entry("z", "Apply", time), entry("helm", "Update", time),
            json!({"manager": "a", "operation": "Apply", "subresource": "status"}), entry("b", "Apply", time)]}, "spec": {"ports": [{"nodePort": 30080}]}})
        };
        let stored = |kind: &str, time: &str| -> Value {
            let bytes = stored_bytes(object(time).as_object().cloned().expect("an object"), "v1", kind);
            serde_json::from_slice(&bytes).expect("JSON")
        };
        let managers = |kind: &str| -> Vec<String> {
            let stored = stored(kind, "t1");
            let entries = stored["metadata"]["managedFields"].as_array().expect("entries").clone();
            entries.iter().map(|entry| entry["manager"].as_str().expect("a name").to_owned()).collect()
        };
        assert_eq!(managers("ConfigMap"), ["b", "z"]);
        assert_eq!(managers("Service"), ["b", "helm", "z"]);
        assert_eq!(stored("ConfigMap", "t1"), stored("ConfigMap", "t2"));
    }

    #[test]
    fn a_change_that_matters_gives_other_bytes() {
        let base = json!({"metadata": {"name": "a", "uid": "1"}, "spec": {"replicas": 3}});
        for other in [
            json!({"metadata": {"name": "a", "uid": "1"}, "spec": {"replicas": 5}}),
            json!({"metadata": {"name": "a", "uid": "2"}, "spec": {"replicas": 3}}),
            json!({"metadata": {"name": "a", "uid": "1", "ownerReferences": []}, "spec": {"replicas": 3}}),
            json!({"metadata": {"name": "a", "uid": "1"}, "spec": {"replicas": 3}, "status": {}}),
            json!({"metadata": {"name": "a", "uid": "1"}, "spec": {"replicas": 3}, "unknown": null}),
        ] {
            assert_ne!(bytes(&base), bytes(&other), "{other}");
        }
    }

    #[test]
    fn a_secret_that_asks_for_a_token_is_stored_without_what_the_cluster_fills_in() {
        let stored = |object: &Value| {
            let bytes = stored_bytes(object.as_object().cloned().expect("an object"), "v1", "Secret");
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        };
        let name = "kubernetes.io/service-account.name";
        let secret = json!({"type": TOKEN_SECRET, "data": {"token": "dA==", "ca.crt": "Yw==", "namespace": "bg=="},
            "metadata": {"name": "ci", "annotations": {name: "ci", "kubernetes.io/service-account.uid": "u"},
                "labels": {"kubernetes.io/legacy-token-last-used": "2026-01-01"}}});
        assert_eq!(
            stored(&secret),
            json!({"apiVersion": "v1", "kind": "Secret", "type": TOKEN_SECRET,
                "metadata": {"name": "ci", "annotations": {name: "ci"}}})
        );
        let mut more = secret.clone();
        more["data"]["extra"] = json!("eA==");
        more["metadata"]["labels"]["app"] = json!("ci");
        let stored_more = stored(&more);
        assert_eq!(stored_more["data"], json!({"extra": "eA=="}));
        assert_eq!(stored_more["metadata"]["labels"], json!({"app": "ci"}));
        let mut opaque = secret;
        opaque["type"] = json!("Opaque");
        assert_eq!(stored(&opaque)["data"], opaque["data"]);
    }

    #[test]
    fn a_field_of_the_same_name_elsewhere_is_kept() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"resourceVersion": "7", "managedFields": 1}});
        let stored = String::from_utf8(bytes(&object)).expect("UTF-8");
        assert!(stored.contains(r#""managedFields":1,"resourceVersion":"7""#), "{stored}");
    }

    #[test]
    fn numbers_keep_their_value_however_large() {
        let object = json!({"metadata": {"name": "a"}, "n": [u64::MAX, i64::MIN, 1.5, 1e300]});
        let stored: Value = serde_json::from_slice(&bytes(&object)).expect("JSON");
        assert_eq!(stored["n"], object["n"]);
    }

    /// Numbers as they appear in the API server's JSON.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(|number| number.to_string()),
            any::<f64>()
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(|number| format!("{number:e}")),
            any::<u64>()
                .prop_map(f64::from_bits)
                .prop_filter("JSON has no others", |number| number.is_finite())
                .prop_map(|number| format!("{number:e}")),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<u64>().prop_map(|number| number.to_string()),
            "-?[1-9][0-9]{18,30}",
            "-?[1-9][0-9]{0,3}(\\.[0-9]{1,20})?(e[+-]?[0-9]{1,2})?",
        ]
    }

    proptest! {
        /// The API server stores a number as a 64-bit integer, or else as the float nearest to its
        /// text.
        #[test]
        fn a_number_is_stored_as_the_one_that_the_api_server_has(text in number()) {
            let object: Value = serde_json::from_str(&format!(r#"{{"metadata":{{"name":"a"}},"n":{text}}}"#)).expect("JSON");
            let stored = String::from_utf8(bytes(&object)).expect("UTF-8");
            let number = stored.split_once(r#""n":"#).expect("a number").1.trim_end_matches('}');
            match text.parse::<i64>() {
                Ok(_) if text != "-0" => prop_assert_eq!(number, text),
                _ => {
                    let (was, is) = (text.parse::<f64>().expect("a float"), number.parse::<f64>().expect("a float"));
                    prop_assert_eq!(was.to_bits(), is.to_bits(), "{} became {}", text, number);
                }
            }
        }

        #[test]
        fn storing_what_was_stored_changes_nothing(name in "[a-z]{1,20}", text in ".{0,40}", number in any::<i64>()) {
            let object = json!({"metadata": {"name": name, "resourceVersion": text}, "data": {text.clone(): number}});
            let once = bytes(&object);
            let again: Value = serde_json::from_slice(&once).expect("JSON");
            prop_assert_eq!(bytes(&again), once);
        }
    }
}
