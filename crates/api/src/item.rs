//! An item: one object of a provider that is captured, compared and restored. For Kubernetes, an
//! object of the tenant, named without its namespace.

use crate::provider::{KUBERNETES, Provider};
use std::{fmt, str::FromStr};

/// Pattern of a kind, as far as the API server restricts one: a DNS label with letters of either
/// case. Most kinds start with a capital letter, but not all do.
pub const KIND_PATTERN: &str = r"^[A-Za-z]([-A-Za-z0-9]*[A-Za-z0-9])?$";

/// Maximum length of a kind.
pub const MAX_KIND: usize = 63;

/// A kind without its version, written as `Kind` for the core group and `Kind.group` otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind, as in manifests.
    pub kind: String,
}

impl GroupKind {
    /// Creates a kind of a group; the core group is empty.
    pub fn new(group: impl Into<String>, kind: impl Into<String>) -> Self {
        Self { group: group.into(), kind: kind.into() }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            formatter.write_str(&self.kind)
        } else {
            write!(formatter, "{}.{}", self.kind, self.group)
        }
    }
}

/// A text that is not a kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a kind: write `Kind` for the core group or `Kind.group`, such as `ConfigMap` or `Deployment.apps`"
)]
pub struct InvalidKind {
    text: String,
}

/// Whether a text matches [`KIND_PATTERN`].
fn is_kind(text: &str) -> bool {
    text.len() <= MAX_KIND
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

impl FromStr for GroupKind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // No kind contains a dot.
        let (kind, group) = text.split_once('.').unwrap_or((text, ""));
        let group_reads = group.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' || c == '-');
        if is_kind(kind) && group_reads && !text.ends_with('.') {
            Ok(Self::new(group, kind))
        } else {
            Err(InvalidKind { text: text.chars().take(100).collect() })
        }
    }
}

/// One item. Its text is `group/kind/name`, with `core` for the core group, or
/// `provider:group/collection/key` for a provider other than Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId {
    /// Provider of the item.
    pub provider: Provider,
    /// Kind of the object. For other providers: the collection that contains the item.
    pub kind: GroupKind,
    /// Name of the object, or its key at its provider. Empty if the whole kind is meant.
    pub name: String,
}

impl ItemId {
    /// Creates the id of a Kubernetes object of this kind and name.
    pub fn new(kind: GroupKind, name: impl Into<String>) -> Self {
        Self { provider: Provider::Kubernetes, kind, name: name.into() }
    }

    /// Reads the id of a Kubernetes object. Code that acts on the objects of a namespace reads ids
    /// with this: the id of another provider's item must not pass for the object of the same kind
    /// and name, which a selection would then not recognize.
    pub fn of_object(text: &str) -> Result<Self, InvalidItem> {
        let item: Self = text.parse()?;
        if item.provider.is_default() { Ok(item) } else { Err(InvalidItem::of(text)) }
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = if self.kind.group.is_empty() { "core" } else { &self.kind.group };
        if !self.provider.is_default() {
            write!(formatter, "{}:", self.provider)?;
        }
        write!(formatter, "{group}/{}/{}", self.kind.kind, self.name)
    }
}

/// A text that is not an item.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an item: write `group/Kind/name`, with `core` for the core group")]
pub struct InvalidItem {
    text: String,
}

impl InvalidItem {
    fn of(text: &str) -> Self {
        Self { text: text.chars().take(100).collect() }
    }
}

impl FromStr for ItemId {
    type Err = InvalidItem;

    /// Inverse of the text form of [`ItemId`].
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = text.split_once('/').and_then(|(group, rest)| Some((group, rest.split_once('/')?)));
        match parts {
            Some((start, (kind, name))) => {
                // No group contains a colon.
                let (provider, group) = start.split_once(':').unwrap_or((KUBERNETES, start));
                if provider.is_empty() || group.is_empty() || kind.is_empty() {
                    return Err(InvalidItem::of(text));
                }
                let kind = GroupKind::new(if group == "core" { "" } else { group }, kind);
                Ok(Self { provider: provider.into(), kind, name: name.to_owned() })
            }
            _ => Err(InvalidItem::of(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_with_and_without_a_group() {
        assert_eq!("ConfigMap".parse(), Ok(GroupKind::new("", "ConfigMap")));
        assert_eq!("Ingress.networking.k8s.io".parse(), Ok(GroupKind::new("networking.k8s.io", "Ingress")));
        assert_eq!("postgresql.acid.zalan.do".parse(), Ok(GroupKind::new("acid.zalan.do", "postgresql")));
        for text in ["", "1Widget", "-x", "x-", "Config Map", "Deployment.", "../x", "Deployment.Apps", "Kind/x"] {
            assert!(text.parse::<GroupKind>().is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn the_schema_and_the_parser_allow_the_same_kinds() {
        let pattern = regex::Regex::new(KIND_PATTERN).expect("a pattern");
        let longest = "x".repeat(MAX_KIND);
        for kind in ["ConfigMap", "postgresql", "x", "X9", "my-Kind", "a--b", longest.as_str()] {
            assert!(pattern.is_match(kind) && kind.parse::<GroupKind>().is_ok(), "{kind}");
        }
        for kind in ["", "9x", "-x", "x-", "x_y", "x y", "é", "x/y", "x\n"] {
            assert!(!pattern.is_match(kind) && kind.parse::<GroupKind>().is_err(), "{kind:?}");
        }
    }

    #[test]
    fn an_item_names_the_core_group() {
        assert_eq!(ItemId::new(GroupKind::new("", "Secret"), "a").to_string(), "core/Secret/a");
        assert_eq!(ItemId::new(GroupKind::new("apps", "Deployment"), "a").to_string(), "apps/Deployment/a");
    }

    #[test]
    fn an_item_of_another_provider_says_so_and_one_of_kubernetes_need_not() {
        let item: ItemId = "graph:deviceManagement/configurationPolicies/7c9e/a".parse().expect("an item");
        assert_eq!((item.provider.as_str(), item.kind.group.as_str()), ("graph", "deviceManagement"));
        assert_eq!((item.kind.kind.as_str(), item.name.as_str()), ("configurationPolicies", "7c9e/a"));
        assert_eq!(item.to_string(), "graph:deviceManagement/configurationPolicies/7c9e/a");
        let same: Vec<ItemId> =
            ["apps/Deployment/a", "kubernetes:apps/Deployment/a"].map(|text| text.parse().expect("an item")).into();
        assert_eq!(same[0], same[1]);
        assert_eq!(same[1].to_string(), "apps/Deployment/a");
    }

    #[test]
    fn an_item_of_another_provider_does_not_pass_for_an_object() {
        let object = ItemId::new(GroupKind::new("", "ConfigMap"), "a");
        for text in ["core/ConfigMap/a", "kubernetes:core/ConfigMap/a"] {
            assert_eq!(ItemId::of_object(text), Ok(object.clone()));
        }
        for text in ["graph:core/ConfigMap/a", "Kubernetes:core/ConfigMap/a", "core/ConfigMap"] {
            assert!(ItemId::of_object(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn an_item_is_read_back_from_its_text() {
        for item in [
            ItemId::new(GroupKind::new("", "Secret"), "a"),
            ItemId::new(GroupKind::new("example.com", "Widget"), "a/b:c"),
            ItemId::new(GroupKind::new("apps", "Deployment"), ""),
        ] {
            assert_eq!(item.to_string().parse(), Ok(item));
        }
        for text in ["", "a", "a/b", "//a", "/Secret/a", ":apps/Deployment/a", "graph:/x/a"] {
            assert!(text.parse::<ItemId>().is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_kind_that_is_too_long_and_a_group_of_other_characters_are_refused() {
        let longest = "x".repeat(MAX_KIND);
        assert!(longest.parse::<GroupKind>().is_ok() && format!("{longest}x").parse::<GroupKind>().is_err());
        assert_eq!("Kind.a-1.b".parse(), Ok(GroupKind::new("a-1.b", "Kind")));
        for text in ["Kind.a_b", "Kind.A", "Kind.a b", "Kind.a.", "-.a", "Kind-.a", "a/b.c"] {
            assert!(text.parse::<GroupKind>().is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn a_kind_is_read_back_from_its_text() {
        for (kind, text) in [(GroupKind::new("", "Secret"), "Secret"), (GroupKind::new("apps", "Job"), "Job.apps")] {
            assert_eq!((kind.to_string().as_str(), text.parse()), (text, Ok(kind)));
        }
    }

    #[test]
    fn what_is_no_item_and_no_kind_is_quoted_by_its_first_hundred_characters() {
        let long = "é".repeat(200);
        let kind = long.parse::<GroupKind>().expect_err("no kind");
        let item = long.parse::<ItemId>().expect_err("no item");
        for said in [kind.to_string(), item.to_string()] {
            assert!(said.starts_with(&format!("\"{}\" is not", "é".repeat(100))), "{said}");
        }
    }
}
