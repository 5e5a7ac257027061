//! Marks: what the metadata of an object proves about the object as a whole.
//!
//! Every write changes an object's `resourceVersion`, so an object whose metadata is the same, byte by
//! byte, is the same. A mark is a keyed hash of the metadata, and of what else decides how the object
//! is stored: its kind and version, the version of the API server, and the version of this program.
//! The uid and the times of its field managers are part of the metadata, so neither an object that
//! was created again nor an API server whose store was set back to an earlier state has the same mark.
//!
//! This holds for kinds that the API server serves itself ([`has_marks`]). A change of the schema of
//! any other kind changes how its objects are served, although nobody has written them.

use crate::{
    api::item::GroupKind,
    semantic::{Begun, DigestKey},
    served::ServedKind,
};
use std::collections::BTreeSet;

/// Version of what a capture stores of an object. Raise it whenever that changes, so that objects are
/// read again.
const FORM: u32 = 1;

/// Kinds that the API server serves itself, with the group of each. Kinds that a capture always skips
/// are not among them.
const OF_THE_API_SERVER: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "ConfigMap",
            "LimitRange",
            "PersistentVolumeClaim",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    ("apps", &["DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    ("networking.k8s.io", &["Ingress", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget"]),
    ("rbac.authorization.k8s.io", &["Role", "RoleBinding"]),
];

/// Whether the metadata of an object of this kind proves that the object is unchanged.
#[must_use]
pub fn has_marks(kind: &GroupKind) -> bool {
    let of_group = OF_THE_API_SERVER.iter().find(|(group, _)| *group == kind.group);
    of_group.is_some_and(|(_, kinds)| kinds.contains(&kind.kind.as_str()))
}

/// The mark of an object: 64 bits of a keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u64);

/// Makes the marks of the objects of one kind.
#[derive(Clone)]
pub struct Marker(Begun);

impl Marker {
    /// For objects of a kind that an API server of this version serves.
    #[must_use]
    pub fn new(key: &DigestKey, kind: &ServedKind, server: &str) -> Self {
        let ServedKind { group, version, kind, .. } = kind;
        let begin = format!("{FORM}\n{}\n{server}\n{group}/{version}/{kind}\n", env!("CARGO_PKG_VERSION"));
        Self(key.begin(begin.as_bytes()))
    }

    /// The mark of the object with this metadata, given as the API server's JSON.
    #[must_use]
    pub fn mark(&self, metadata: &str) -> Mark {
        let mac = self.0.clone().end(metadata.as_bytes());
        Mark(mac.iter().take(8).fold(0, |mark, byte| mark << 8 | u64::from(*byte)))
    }
}

/// The marks of the objects of one kind that need not be read again.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Sorted.
    marks: Vec<Mark>,
    /// Names of objects that are read, whatever their mark.
    except: BTreeSet<String>,
}

impl Known {
    /// All objects with these marks, except those of some names.
    #[must_use]
    pub fn new(mut marks: Vec<Mark>, except: BTreeSet<String>) -> Self {
        marks.sort_unstable();
        Self { marks, except }
    }

    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.marks.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Whether the object of this name and mark is among them.
    #[must_use]
    pub fn has(&self, name: &str, mark: Mark) -> bool {
        self.marks.binary_search(&mark).is_ok() && !self.except.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, version: &str, kind: &str) -> ServedKind {
        ServedKind { group: group.into(), version: version.into(), kind: kind.into(), plural: String::new() }
    }

    const METADATA: &str = r#"{"name":"a","uid":"1","resourceVersion":"7"}"#;

    #[test]
    fn a_mark_differs_with_the_metadata_the_kind_its_version_the_server_and_the_key() {
        let (key, other) = (DigestKey::new(*b"0123456789abcdef"), DigestKey::new(*b"fedcba9876543210"));
        let secret = kind("", "v1", "Secret");
        let mark = Marker::new(&key, &secret, "v1.36.3").mark(METADATA);
        assert_eq!(mark, Marker::new(&key, &secret, "v1.36.3").mark(METADATA));
        let others = [
            Marker::new(&key, &secret, "v1.36.3").mark(&METADATA.replace('7', "8")),
            Marker::new(&key, &kind("", "v1", "ConfigMap"), "v1.36.3").mark(METADATA),
            Marker::new(&key, &kind("", "v2", "Secret"), "v1.36.3").mark(METADATA),
            Marker::new(&key, &secret, "v1.37.0").mark(METADATA),
            Marker::new(&other, &secret, "v1.36.3").mark(METADATA),
        ];
        assert!(others.iter().all(|other| *other != mark), "{others:?}");
        assert_eq!(others.iter().collect::<BTreeSet<_>>().len(), others.len());
    }

    #[test]
    fn an_object_is_known_by_its_mark_unless_its_name_is_excepted() {
        let known = Known::new(vec![Mark(9), Mark(2)], ["key".to_owned()].into());
        assert!(known.has("a", Mark(2)) && known.has("a", Mark(9)));
        assert!(!known.has("a", Mark(3)) && !known.has("key", Mark(2)));
    }

    #[test]
    fn only_kinds_of_the_api_server_itself_have_marks() {
        assert!(has_marks(&GroupKind::new("", "Secret")) && has_marks(&GroupKind::new("apps", "Deployment")));
        for (group, kind) in
            [("example.com", "Widget"), ("apps", "Secret"), ("", "Widget"), ("tenantatlas.io", "Finding")]
        {
            assert!(!has_marks(&GroupKind::new(group, kind)), "{group}/{kind}");
        }
    }
}
