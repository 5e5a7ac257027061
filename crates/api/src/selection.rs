//! What a capture takes: by kind, by name, by label.

use crate::{
    item::{GroupKind, InvalidKind, ItemId},
    provider::Provider,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which of a tenant's objects an operation is about. Empty: all that can be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Where the objects live.
    #[serde(default, skip_serializing_if = "Provider::is_default")]
    pub provider: Provider,
    /// Only these kinds, `Kind` or `Kind.group`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 317)))]
    pub include_kinds: Vec<String>,
    /// Not these kinds; wins over `includeKinds`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 317)))]
    pub exclude_kinds: Vec<String>,
    /// Only objects whose labels match, in the syntax of `kubectl -l`. The API server evaluates it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub label_selector: Option<String>,
    /// Only objects with one of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 253)))]
    pub include_names: Vec<String>,
    /// Not objects with one of these names; wins over `includeNames`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 253)))]
    pub exclude_names: Vec<String>,
}

impl Selection {
    /// Whether nothing is left out by choice, so that what is captured is the whole tenant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// The kinds as values, or the first that is not one.
    pub fn parse(&self) -> Result<KindFilter, InvalidKind> {
        let kinds = |texts: &[String]| texts.iter().map(|text| text.parse()).collect::<Result<Vec<GroupKind>, _>>();
        Ok(KindFilter { include: kinds(&self.include_kinds)?, exclude: kinds(&self.exclude_kinds)? })
    }

    /// Whether an object of this name is taken.
    #[must_use]
    pub fn takes_name(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|candidate| candidate == name);
        (self.include_names.is_empty() || named(&self.include_names)) && !named(&self.exclude_names)
    }
}

/// The kinds of a selection, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindFilter {
    include: Vec<GroupKind>,
    exclude: Vec<GroupKind>,
}

impl KindFilter {
    /// Whether objects of this kind are taken.
    #[must_use]
    pub fn takes(&self, kind: &GroupKind) -> bool {
        (self.include.is_empty() || self.include.contains(kind)) && !self.exclude.contains(kind)
    }

    /// Kinds asked for by name: one of these that the cluster does not serve is worth a word.
    #[must_use]
    pub fn included(&self) -> &[GroupKind] {
        &self.include
    }

    /// Kinds left out by name.
    #[must_use]
    pub fn excluded(&self) -> &[GroupKind] {
        &self.exclude
    }
}

/// The target of a run as an item, where it names one object.
#[must_use]
pub fn target_item(api_version: &str, kind: &str, name: &str) -> ItemId {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    ItemId::new(GroupKind::new(group, kind), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusion_wins_over_inclusion() {
        let selection = Selection {
            include_kinds: vec!["ConfigMap".into(), "Secret".into()],
            exclude_kinds: vec!["Secret".into()],
            include_names: vec!["a".into(), "b".into()],
            exclude_names: vec!["b".into()],
            ..Selection::default()
        };
        let kinds = selection.parse().expect("kinds read");
        assert!(kinds.takes(&GroupKind::new("", "ConfigMap")));
        assert!(!kinds.takes(&GroupKind::new("", "Secret")));
        assert!(!kinds.takes(&GroupKind::new("apps", "Deployment")));
        assert!(selection.takes_name("a"));
        assert!(!selection.takes_name("b"));
        assert!(!selection.takes_name("c"));
    }
}
