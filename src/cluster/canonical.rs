//! The form in which an object is stored: the same bytes for as long as the object is the same.
//!
//! A repository deduplicates by content, and a comparison of two snapshots compares content; both are worth only as
//! much as equal objects have equal bytes. So keys are sorted, and three fields of `metadata` go:
//!
//! | field | why it is not stored |
//! |---|---|
//! | `resourceVersion` | a number of the API server's store; it moves when nothing that matters did, and means nothing elsewhere |
//! | `managedFields` | who last set which field, with times; often half of an object, rewritten by every apply |
//! | `selfLink` | derived; no longer served |
//!
//! Everything else stays, also what a restore will not write back: `uid` and `ownerReferences` say what belonged
//! to what, `status` says what was true. No type is involved, so fields unknown to us stay too.

use crate::api::canonical;
use serde_json::{Map, Value};

/// Fields of `metadata` that are not stored.
pub const DROPPED_METADATA: [&str; 3] = ["managedFields", "resourceVersion", "selfLink"];

/// The bytes to store of an object. Items of a list may come without `apiVersion` and `kind`: they are put in.
#[must_use]
pub fn stored_bytes(mut object: Map<String, Value>, api_version: &str, kind: &str) -> Vec<u8> {
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for field in DROPPED_METADATA {
            metadata.remove(field);
        }
    }
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    canonical::to_vec(&Value::Object(object))
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

    proptest! {
        #[test]
        fn storing_what_was_stored_changes_nothing(name in "[a-z]{1,20}", text in ".{0,40}", number in any::<i64>()) {
            let object = json!({"metadata": {"name": name, "resourceVersion": text}, "data": {text.clone(): number}});
            let once = bytes(&object);
            let again: Value = serde_json::from_slice(&once).expect("JSON");
            prop_assert_eq!(bytes(&again), once);
        }
    }
}
