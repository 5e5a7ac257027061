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
