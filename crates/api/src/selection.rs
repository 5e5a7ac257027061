//! Selection of objects for a capture: by kind, by name, by label.

use crate::{
    canonical,
    item::{GroupKind, InvalidKind, ItemId},
    provider::Provider,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeSet;

/// Which of a tenant's objects an operation is about. If empty, everything that can be captured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selection {
    /// Provider of the objects.
    #[serde(default, skip_serializing_if = "Provider::is_default")]
    pub provider: Provider,
    /// Kinds to include, as `Kind` or `Kind.group`. If empty, all kinds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 317)))]
    pub include_kinds: Vec<String>,
    /// Kinds to exclude, as `Kind` or `Kind.group`. Takes precedence over `includeKinds`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 317)))]
    pub exclude_kinds: Vec<String>,
    /// Includes only objects whose labels match, in the syntax of `kubectl -l`. The API server
    /// evaluates the selector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub label_selector: Option<String>,
    /// Names of the objects to include. If empty, all names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    pub include_names: Vec<String>,
    /// Names of the objects to exclude. Takes precedence over `includeNames`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 1, max = 253)))]
    pub exclude_names: Vec<String>,
}

impl Selection {
    /// Whether nothing is left out by choice, so that a capture covers the whole tenant.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    /// Parses the kinds. Returns the first invalid one as an error.
    pub fn parse(&self) -> Result<KindFilter, InvalidKind> {
        let kinds = |texts: &[String]| texts.iter().map(|text| text.parse()).collect::<Result<Vec<GroupKind>, _>>();
        Ok(KindFilter { include: kinds(&self.include_kinds)?, exclude: kinds(&self.exclude_kinds)? })
    }

    /// A key of what is selected, 64 hex digits: the hash of the provider and the selection. The
    /// order of kinds and names does not count, nor does a repetition.
    #[must_use]
    pub fn scope_key(&self) -> String {
        let Self { provider, include_kinds, exclude_kinds, label_selector, include_names, exclude_names } = self;
        let set = |texts: &[String]| texts.iter().cloned().collect::<BTreeSet<String>>();
        canonical::digest(&json!({
            "provider": provider.as_str(),
            "includeKinds": set(include_kinds), "excludeKinds": set(exclude_kinds),
            "labelSelector": label_selector.as_deref().unwrap_or_default(),
            "includeNames": set(include_names), "excludeNames": set(exclude_names),
        }))
    }

    /// Selects a single item.
    #[must_use]
    pub fn of_item(item: &ItemId) -> Self {
        Self {
            provider: item.provider.clone(),
            include_kinds: vec![item.kind.to_string()],
            include_names: vec![item.name.clone()],
            ..Self::default()
        }
    }

    /// Whether the selection includes an object of this name.
    #[must_use]
    pub fn takes_name(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|candidate| candidate == name);
        (self.include_names.is_empty() || named(&self.include_names)) && !named(&self.exclude_names)
    }
}

/// The parsed kinds of a selection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindFilter {
    include: Vec<GroupKind>,
    exclude: Vec<GroupKind>,
}

impl KindFilter {
    /// Whether the filter includes objects of this kind.
    #[must_use]
    pub fn takes(&self, kind: &GroupKind) -> bool {
        (self.include.is_empty() || self.include.contains(kind)) && !self.exclude.contains(kind)
    }

    /// Kinds that are included by name. If the cluster does not serve one of them, that is worth a
    /// message.
    #[must_use]
    pub fn included(&self) -> &[GroupKind] {
        &self.include
    }

    /// Kinds that are excluded by name.
    #[must_use]
    pub fn excluded(&self) -> &[GroupKind] {
        &self.exclude
    }
}

/// Returns the target of a run as an item. The target names one object.
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

    #[test]
    fn a_selection_that_says_nothing_takes_everything() {
        let nothing = Selection::default();
        let kinds = nothing.parse().expect("kinds read");
        assert!(nothing.is_everything() && nothing.takes_name("any") && kinds.takes(&GroupKind::new("", "Secret")));
        assert!(kinds.included().is_empty() && kinds.excluded().is_empty());
        let some = Selection { exclude_names: vec!["a".into()], ..Selection::default() };
        assert!(!some.is_everything() && !some.takes_name("a") && some.takes_name("b"));
    }

    #[test]
    fn the_key_of_a_scope_tells_selections_apart_and_not_how_they_are_written() {
        let of = |include: &[&str], exclude: &[&str], names: &[&str], labels: Option<&str>| {
            let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            let (include_kinds, exclude_kinds, include_names) = (texts(include), texts(exclude), texts(names));
            let label_selector = labels.map(str::to_owned);
            Selection { include_kinds, exclude_kinds, label_selector, include_names, ..Selection::default() }
                .scope_key()
        };
        assert_eq!(of(&["A", "B"], &[], &[], None), of(&["B", "A", "B"], &[], &[], None));
        assert_eq!(of(&[], &[], &[], Some("")), of(&[], &[], &[], None));
        let one = |exclude: bool| {
            let kinds: &[&str] = &["A"];
            if exclude { of(&[], kinds, &[], None) } else { of(kinds, &[], &[], None) }
        };
        let graph = Selection { provider: "graph".into(), ..Selection::default() }.scope_key();
        let without = Selection { exclude_names: vec!["a".into()], ..Selection::default() }.scope_key();
        let all = [
            of(&[], &[], &[], None),
            one(false),
            one(true),
            of(&[], &[], &["A"], None),
            of(&[], &[], &[], Some("A")),
            graph,
            without,
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|key| key.len() == 64));
        let item = ItemId::new(GroupKind::new("apps", "Deployment"), "web");
        assert_eq!(Selection::of_item(&item).scope_key(), of(&["Deployment.apps"], &[], &["web"], None));
    }

    #[test]
    fn the_kinds_that_are_named_are_read_and_what_is_no_kind_is_refused() {
        let of = |include: &str, exclude: &str| {
            Selection {
                include_kinds: vec![include.into()],
                exclude_kinds: vec![exclude.into()],
                ..Selection::default()
            }
            .parse()
        };
        let kinds = of("ConfigMap", "Deployment.apps").expect("kinds read");
        assert_eq!(kinds.included(), [GroupKind::new("", "ConfigMap")]);
        assert_eq!(kinds.excluded(), [GroupKind::new("apps", "Deployment")]);
        assert!(of("Config Map", "Secret").is_err() && of("Secret", "Config Map").is_err());
    }

    #[test]
    fn a_target_is_the_item_of_its_group_kind_and_name() {
        assert_eq!(target_item("v1", "Secret", "a"), ItemId::new(GroupKind::new("", "Secret"), "a"));
        assert_eq!(target_item("apps/v1", "Deployment", "a"), ItemId::new(GroupKind::new("apps", "Deployment"), "a"));
    }
}
