//! Which fields of a live object count, so that a plan made from the object can detect a change.
//!
//! A resourceVersion would be stale within seconds: a status update changes it, and so does a
//! controller that renews a lock. Status, managedFields, resourceVersion, generation, selfLink and
//! the annotations in [`IGNORED_ANNOTATIONS`] therefore do not count. Everything else does,
//! including the uid, because a recreated object of the same name and content is another object. A
//! status counts if it is a field like any other ([`Status::Data`]).
//!
//! Hashes are keyed: an object may hold secrets, and a secret can be guessed from a plain digest.

use crate::api::canonical;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Map, Value};
use sha2::Sha256;

/// Annotations that controllers rewrite all the time.
pub const IGNORED_ANNOTATIONS: [&str; 5] = [
    "control-plane.alpha.kubernetes.io/leader",
    "endpoints.kubernetes.io/last-change-trigger-time",
    "autoscaling.alpha.kubernetes.io/conditions",
    "autoscaling.alpha.kubernetes.io/current-metrics",
    "deployment.kubernetes.io/revision",
];

/// Fields of `metadata` that do not count.
const IGNORED_METADATA: [&str; 4] = ["resourceVersion", "generation", "managedFields", "selfLink"];

/// Who owns the field `status` of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The kind has a `status` subresource: controllers write what they observe, and no other write
    /// changes it.
    Observed,
    /// The kind has no `status` subresource: the field is like any other, and every write replaces
    /// it.
    Data,
}

/// A live object without the fields that do not count.
#[must_use]
pub fn semantic(live: &Value, status: Status) -> Value {
    let mut object = without(live, status, &IGNORED_METADATA);
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        drop_annotations(metadata);
    }
    object
}

/// The same of an object that is not needed any more: nothing is copied.
#[must_use]
pub fn into_semantic(mut object: Map<String, Value>, status: Status) -> Map<String, Value> {
    if status == Status::Observed {
        object.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in IGNORED_METADATA {
            metadata.remove(field);
        }
        drop_annotations(metadata);
    }
    object
}

fn drop_annotations(metadata: &mut Map<String, Value>) {
    if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !IGNORED_ANNOTATIONS.contains(&key.as_str()));
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
}

/// A copy without an observed status and without these fields of `metadata`. They are often the
/// larger part of an object, so they are skipped instead of copied first.
pub(super) fn without(object: &Value, status: Status, metadata: &[&str]) -> Value {
    let copy = |(key, value): (&String, &Value)| (key.clone(), value.clone());
    let Some(fields) = object.as_object() else { return object.clone() };
    let counts = fields.iter().filter(|(key, _)| status == Status::Data || *key != "status");
    let copied = counts.map(|(key, value)| match value.as_object().filter(|_| key == "metadata") {
        None => copy((key, value)),
        Some(all) => (key.clone(), all.iter().filter(|(key, _)| !metadata.contains(&key.as_str())).map(copy).collect()),
    });
    Value::Object(copied.collect())
}

/// A key for showing values as digests. The key itself is never shown, not even by `{:?}`.
#[derive(Clone)]
pub struct DigestKey(Vec<u8>);

impl DigestKey {
    /// Takes at least 16 random bytes, derived from the repository's key so that they last as long.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The hash of the fields that count in a live object: 64 hex digits.
    #[must_use]
    pub fn semantic_hash(&self, live: &Value, status: Status) -> String {
        self.hash(&semantic(live, status))
    }

    /// The hash of any value: 64 hex digits.
    #[must_use]
    pub fn hash(&self, value: &Value) -> String {
        hex::encode(self.mac(&canonical::to_vec(value)))
    }

    /// Stand-in for a secret value in a comparison: `hmac:` and 16 hex digits.
    #[must_use]
    pub fn stand_in(&self, value: &Value) -> String {
        format!("hmac:{}", hex::encode(&self.mac(&canonical::to_vec(value))[..8]))
    }

    /// Begins the hash of bytes that begin with these.
    pub(crate) fn begin(&self, bytes: &[u8]) -> Begun {
        // As in `mac`, a key of any length is accepted.
        Begun(Hmac::<Sha256>::new_from_slice(&self.0).ok().map(|mac| mac.chain_update(bytes)))
    }

    /// The hash of some bytes: 32 bytes.
    pub(crate) fn mac(&self, bytes: &[u8]) -> Vec<u8> {
        // HMAC accepts a key of any length, so the empty default is never used.
        Hmac::<Sha256>::new_from_slice(&self.0)
            .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
            .unwrap_or_default()
    }
}

/// A hash that has begun.
#[derive(Clone)]
pub(crate) struct Begun(Option<Hmac<Sha256>>);

impl Begun {
    /// The hash with these bytes at the end: 32 bytes.
    pub(crate) fn end(self, bytes: &[u8]) -> Vec<u8> {
        self.0.map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec()).unwrap_or_default()
    }
}

impl std::fmt::Debug for DigestKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("DigestKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 3}, "status": {"replicas": 3},
            "metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "generation": 2, "managedFields": [{"manager": "m"}],
                "annotations": {"deployment.kubernetes.io/revision": "4"}}})
    }

    fn hash(object: &Value) -> String {
        DigestKey::new(*b"0123456789abcdef").semantic_hash(object, Status::Observed)
    }

    /// Each change, made to the object at a pointer, and whether it counts.
    #[test]
    fn a_status_does_not_count_and_a_spec_does() {
        let base = hash(&object());
        assert_eq!(base.len(), 64);
        for (pointer, counts) in [
            ("/status", false),
            ("/metadata/resourceVersion", false),
            ("/metadata/generation", false),
            ("/metadata/managedFields", false),
            ("/metadata/annotations/deployment.kubernetes.io~1revision", false),
            ("/metadata/uid", true),
            ("/metadata/name", true),
            ("/spec/replicas", true),
            ("/apiVersion", true),
        ] {
            let mut changed = object();
            *changed.pointer_mut(pointer).expect("there") = json!("another");
            assert_eq!(hash(&changed) != base, counts, "{pointer}");
        }
        let mut labelled = object();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_ne!(hash(&labelled), base);
        let mut deleted = object();
        deleted["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_ne!(hash(&deleted), base, "what is being deleted has moved");
    }

    #[test]
    fn an_object_that_is_taken_apart_has_the_same_fields_left() {
        let mut other = object();
        other["metadata"]["annotations"]["owner"] = json!("ada");
        for object in [object(), other, json!({"metadata": {"name": "a"}}), json!({"metadata": 7, "status": 1})] {
            for status in [Status::Observed, Status::Data] {
                let taken = into_semantic(object.as_object().cloned().expect("an object"), status);
                assert_eq!(Value::Object(taken), semantic(&object, status), "{object}");
            }
        }
    }

    #[test]
    fn a_status_counts_where_it_is_a_field_like_others() {
        let mut changed = object();
        changed["status"]["replicas"] = json!(4);
        assert_eq!(semantic(&object(), Status::Observed), semantic(&changed, Status::Observed));
        assert_ne!(semantic(&object(), Status::Data), semantic(&changed, Status::Data));
    }

    #[test]
    fn a_hash_cannot_be_made_without_the_key() {
        let other = DigestKey::new(*b"fedcba9876543210");
        assert_ne!(other.semantic_hash(&object(), Status::Observed), hash(&object()));
        assert!(!format!("{other:?}").contains("102"), "{other:?}");
    }

    #[test]
    fn an_object_of_any_shape_has_a_hash() {
        for odd in [json!(null), json!([]), json!({"metadata": 1}), json!({"metadata": {"annotations": []}})] {
            assert_eq!(hash(&odd).len(), 64);
        }
    }

    proptest! {
        #[test]
        fn two_values_have_one_hash_only_if_they_are_equal(one in ".{0,20}", other in ".{0,20}", status in any::<u32>()) {
            let with = |text: &str, status: u32| json!({"metadata": {"name": "a"}, "data": {"k": text}, "status": status});
            prop_assert_eq!(hash(&with(&one, 0)) == hash(&with(&other, status)), one == other);
        }
    }

    #[test]
    fn a_key_does_not_show_where_it_is_printed() {
        assert_eq!(format!("{:?}", DigestKey::new(*b"0123456789abcdef")), "DigestKey(…)");
    }
}
