//! How two stored objects of one item differ. Pure.
//!
//! Only fields that a restore would write count, as in a preview. An item of which other fields
//! differ was observed by the cluster in another state, or was deleted and created again with the
//! same content.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::items::{
    compare::{Difference, Side, compare},
    diff,
    sanitize::sanitized,
    semantic::{DigestKey, Status, semantic},
};
use serde_json::Value;

/// Maximum size of the diff of an item, in bytes.
const MAX_DIFF: usize = 4096;

/// How two objects of one item differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// In fields that a restore would write. With the diff.
    Changed(String),
    /// Only in fields that the cluster writes.
    StatusOnly,
}

/// Compares two objects whose stored bytes differ. `shown` is whether every reader of reports may
/// read objects of the kind: if not, the diff names fields and shows no values.
#[must_use]
pub fn judge(from: &Value, to: &Value, status: Status, shown: bool, key: &DigestKey) -> Judged {
    let (from, to) = (sanitized(from, status), sanitized(to, status));
    let form = |object: &Value| Side::Object(semantic(object, status));
    if compare::<Value, _, _>(form(&from), form(&to)) == Difference::Same {
        return Judged::StatusOnly;
    }
    let diff = if shown { diff::diff } else { diff::withheld };
    Judged::Changed(diff(&from, &to, status, key, MAX_DIFF).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn key() -> DigestKey {
        DigestKey::new(*b"0123456789abcdef")
    }

    fn deployment(image: &str, ready: i64, uid: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "uid": uid, "generation": ready, "creationTimestamp": "2026-01-01T00:00:00Z",
                "annotations": {"deployment.kubernetes.io/revision": ready.to_string()}},
            "spec": {"image": image}, "status": {"readyReplicas": ready}})
    }

    fn judged(from: &Value, to: &Value) -> Judged {
        judge(from, to, Status::Observed, true, &key())
    }

    #[test]
    fn fields_that_the_cluster_writes_are_no_change_and_others_are() {
        let before = deployment("web:1", 1, "u1");
        assert_eq!(judged(&before, &deployment("web:1", 2, "u2")), Judged::StatusOnly);
        let changed = judged(&before, &deployment("web:2", 2, "u2"));
        assert_eq!(changed, Judged::Changed("~ spec.image: \"web:1\" -> \"web:2\"\n".to_owned()));
        let data = judge(&before, &deployment("web:1", 2, "u2"), Status::Data, true, &key());
        assert!(matches!(&data, Judged::Changed(diff) if diff.contains("status.readyReplicas")), "{data:?}");
    }

    #[test]
    fn a_secret_s_values_are_hashes_and_of_a_kind_that_is_not_shown_there_are_no_values() {
        let secret = |value: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"p": value}});
        let Judged::Changed(diff) = judged(&secret("aHVudGVyMg=="), &secret("c2VjcmV0")) else { panic!("no change") };
        assert!(diff.starts_with("~ data.p: hmac:") && !diff.contains("aHVu") && !diff.contains("c2Vj"), "{diff}");
        let hidden = judge(&deployment("web:1", 1, "u"), &deployment("web:2", 1, "u"), Status::Observed, false, &key());
        assert!(
            matches!(&hidden, Judged::Changed(diff) if diff.starts_with("~ spec: hmac:") && !diff.contains("web:")),
            "{hidden:?}"
        );
    }

    proptest! {
        #[test]
        fn a_change_is_found_in_both_directions_and_has_a_diff(one in "[a-c]{0,2}", other in "[a-c]{0,2}", shown in any::<bool>()) {
            let object = |content: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": content}});
            let judge = |from: &str, to: &str| judge(&object(from), &object(to), Status::Observed, shown, &key());
            let (there, back) = (judge(&one, &other), judge(&other, &one));
            prop_assert_eq!(there == Judged::StatusOnly, one == other);
            prop_assert_eq!(back == Judged::StatusOnly, one == other);
            for judged in [there, back] {
                prop_assert!(!matches!(judged, Judged::Changed(diff) if diff.is_empty()));
            }
        }
    }
}
