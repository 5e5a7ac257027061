//! What a provider holds: kinds and their versions.

#![deny(clippy::disallowed_types)]

use crate::{api::item::GroupKind, items::served::ServedKind};
use std::collections::{BTreeMap, BTreeSet};

/// A group version that the provider lists without knowing its kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UndiscoveredGroup {
    /// API group.
    pub group: String,
    /// Version.
    pub version: String,
}

/// What a provider holds of a tenant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// The kinds in the version that the cluster prefers, in the order of their paths.
    pub kinds: BTreeSet<ServedKind>,
    /// The same kinds in their other versions, which the cluster serves but does not prefer.
    pub others: BTreeSet<ServedKind>,
    /// Kinds that can be listed but not created, in any version: a view of something else, such as
    /// an aggregated API's measurements.
    pub read_only: BTreeSet<GroupKind>,
    /// The groups that could not be discovered.
    pub undiscovered: BTreeSet<UndiscoveredGroup>,
    /// Those of the kinds that have no `status` subresource in the version that the cluster
    /// prefers.
    pub without_status: BTreeSet<GroupKind>,
    /// Cluster-scoped kinds in the version that the cluster prefers.
    pub cluster_wide: BTreeSet<ServedKind>,
}

impl Catalog {
    /// A kind in one of its versions.
    #[must_use]
    pub fn find(&self, group: &str, version: &str, kind: &str) -> Option<&ServedKind> {
        let is = |served: &&ServedKind| served.group == group && served.version == version && served.kind == kind;
        self.kinds.iter().chain(&self.others).find(is)
    }

    /// The served versions of each kind.
    #[must_use]
    pub fn versions(&self) -> BTreeMap<GroupKind, BTreeSet<String>> {
        let mut versions: BTreeMap<GroupKind, BTreeSet<String>> = BTreeMap::new();
        for served in self.kinds.iter().chain(&self.others) {
            versions.entry(served.group_kind()).or_default().insert(served.version.clone());
        }
        versions
    }
}
