//! A kind as a cluster serves it.

use crate::api::item::GroupKind;
use std::cmp::Ordering;

/// A kind in one version. If the kind is namespaced, its objects can be listed and created.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServedKind {
    /// API group; empty for the core group.
    pub group: String,
    /// The version.
    pub version: String,
    /// Kind, as in manifests.
    pub kind: String,
    /// Resource, as in URLs.
    pub plural: String,
}

impl ServedKind {
    /// `group/version`, or only the version for the core group, as in manifests.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// The kind without its version.
    #[must_use]
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group.clone(), self.kind.clone())
    }

    /// Path of the list of its objects in a namespace.
    #[must_use]
    pub fn list_path(&self, namespace: &str) -> String {
        format!("{}/namespaces/{namespace}/{}", self.version_path(), self.plural)
    }

    /// Path of the list of its objects, if the kind is cluster-scoped.
    #[must_use]
    pub fn cluster_path(&self) -> String {
        format!("{}/{}", self.version_path(), self.plural)
    }

    fn version_path(&self) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}", self.api_version())
    }

    /// The directory of the kind in a tree, by its segments, with a suffix of the last one.
    #[must_use]
    pub fn directory(&self, suffix: &str) -> [String; 3] {
        let (group, version, kind) = self.path();
        [group.to_owned(), version.to_owned(), format!("{kind}{suffix}")]
    }

    /// Position in a tree of `group/version/kind`, with the core group as `core`.
    fn path(&self) -> (&str, &str, &str) {
        let group = if self.group.is_empty() { "core" } else { &self.group };
        (group, &self.version, &self.kind)
    }
}

impl Ord for ServedKind {
    fn cmp(&self, other: &Self) -> Ordering {
        self.path().cmp(&other.path()).then_with(|| self.plural.cmp(&other.plural))
    }
}

impl PartialOrd for ServedKind {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, version: &str, kind: &str, plural: &str) -> ServedKind {
        ServedKind { group: group.into(), version: version.into(), kind: kind.into(), plural: plural.into() }
    }

    #[test]
    fn a_kind_is_served_under_the_paths_of_its_group_and_version() {
        let (pod, job) = (kind("", "v1", "Pod", "pods"), kind("batch", "v1", "Job", "jobs"));
        assert_eq!((pod.api_version().as_str(), job.api_version().as_str()), ("v1", "batch/v1"));
        assert_eq!(job.group_kind(), GroupKind::new("batch", "Job"));
        assert_eq!(
            (pod.list_path("acme").as_str(), pod.cluster_path().as_str()),
            ("/api/v1/namespaces/acme/pods", "/api/v1/pods")
        );
        assert_eq!(job.list_path("acme"), "/apis/batch/v1/namespaces/acme/jobs");
        assert_eq!(job.cluster_path(), "/apis/batch/v1/jobs");
    }

    #[test]
    fn kinds_are_in_the_order_of_group_version_kind_and_plural_with_the_core_group_by_its_name() {
        let sorted = [
            kind("apps", "v1", "Deployment", "deployments"),
            kind("", "v1", "Pod", "pods"),
            kind("example.com", "v1", "Widget", "gadgets"),
            kind("example.com", "v1", "Widget", "widgets"),
            kind("example.com", "v1alpha1", "Gadget", "gadgets"),
        ];
        for (place, one) in sorted.iter().enumerate() {
            for (other_place, other) in sorted.iter().enumerate() {
                assert_eq!(one.cmp(other), place.cmp(&other_place), "{one:?} and {other:?}");
                assert_eq!(one.partial_cmp(other), Some(place.cmp(&other_place)));
            }
        }
    }
}
