//! Which items of a backup set a restore selects.

use crate::{
    api::{item::ItemId, provider::Provider, restore_run::ItemSelector},
    labels::{InvalidSelector, LabelSelector},
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Why a selection could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}[{index}].labelSelector: {problem}")]
pub struct InvalidSelection {
    /// The list that contains the selector.
    pub field: &'static str,
    /// Index in the list, from 0.
    pub index: usize,
    /// What is wrong.
    pub problem: InvalidSelector,
}

/// `items` and `excludeItems`, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ItemSelection {
    included: Vec<Matcher>,
    excluded: Vec<Matcher>,
    /// Only these items, whatever the lists select.
    within: Option<BTreeSet<ItemId>>,
}

impl ItemSelection {
    /// Parses the two lists of a spec.
    pub fn new(items: &[ItemSelector], exclude_items: &[ItemSelector]) -> Result<Self, InvalidSelection> {
        Ok(Self { included: read("items", items)?, excluded: read("excludeItems", exclude_items)?, within: None })
    }

    /// Restricts the selection to these items: those that failed in an earlier restore.
    #[must_use]
    pub fn within(self, items: BTreeSet<ItemId>) -> Self {
        Self { within: Some(items), ..self }
    }

    /// Whether an item is selected. `object` is the stored object, or the live one if the set does
    /// not hold the item.
    #[must_use]
    pub fn takes(&self, item: &ItemId, object: &Value) -> bool {
        let any = |matchers: &[Matcher]| matchers.iter().any(|matcher| matcher.matches(item, object));
        self.is_within(item) && (self.included.is_empty() || any(&self.included)) && !any(&self.excluded)
    }

    /// Whether an item may be selected, by its kind and name alone. An item that is ruled out here
    /// need not be read. Nothing else is known of an item that must not be read.
    #[must_use]
    pub fn may_take(&self, item: &ItemId) -> bool {
        let excluded = self.excluded.iter().any(|matcher| matcher.labels.is_none() && matcher.is_named(item));
        let included = self.included.is_empty() || self.included.iter().any(|matcher| matcher.is_named(item));
        self.is_within(item) && included && !excluded
    }

    fn is_within(&self, item: &ItemId) -> bool {
        self.within.as_ref().is_none_or(|items| items.contains(item))
    }

    /// Indices of the entries of `items` that may match, by kind and name alone.
    pub fn may_match<'a>(&'a self, item: &'a ItemId) -> impl Iterator<Item = usize> + 'a {
        self.included.iter().enumerate().filter(|(_, matcher)| matcher.is_named(item)).map(|(place, _)| place)
    }

    /// Number of entries of `items`: each should match something.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.included.len()
    }

    /// Indices of the entries of `items` that match.
    pub fn matching<'a>(&'a self, item: &'a ItemId, object: &'a Value) -> impl Iterator<Item = usize> + 'a {
        self.included.iter().enumerate().filter(|(_, matcher)| matcher.matches(item, object)).map(|(place, _)| place)
    }
}

fn read(field: &'static str, selectors: &[ItemSelector]) -> Result<Vec<Matcher>, InvalidSelection> {
    let read = |(index, selector)| Matcher::new(selector).map_err(|problem| InvalidSelection { field, index, problem });
    selectors.iter().enumerate().map(read).collect()
}

/// One parsed selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    provider: Provider,
    group: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    labels: Option<LabelSelector>,
}

impl Matcher {
    /// Parses a selector.
    pub fn new(selector: &ItemSelector) -> Result<Self, InvalidSelector> {
        Ok(Self {
            provider: selector.provider.clone(),
            group: selector.group.clone(),
            kind: selector.kind.clone(),
            name: selector.name.clone(),
            labels: selector.label_selector.as_deref().map(str::parse).transpose()?,
        })
    }

    /// Whether the selector matches an item.
    #[must_use]
    pub fn matches(&self, item: &ItemId, object: &Value) -> bool {
        self.is_named(item) && self.labels.as_ref().is_none_or(|labels| labels.matches(object))
    }

    fn is_named(&self, item: &ItemId) -> bool {
        self.provider == item.provider
            && self.group.as_ref().is_none_or(|group| *group == item.kind.group)
            && self.kind.as_ref().is_none_or(|kind| *kind == item.kind.kind)
            && self.name.as_ref().is_none_or(|pattern| fits(pattern, &item.name))
    }
}

/// Whether a name matches a pattern in which `*` stands for any characters. Takes no longer than
/// the product of their lengths.
fn fits(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let Some((middle, end)) = rest.rsplit_once('*') else { return name.ends_with(rest) };
    for part in middle.split('*') {
        let Some(place) = name.find(part) else { return false };
        name = &name[place + part.len()..];
    }
    name.ends_with(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::item::GroupKind;
    use proptest::prelude::*;
    use serde_json::json;

    fn selector(value: Value) -> ItemSelector {
        serde_json::from_value(value).expect("a selector")
    }

    fn takes(items: &[Value], exclude: &[Value], group: &str, kind: &str, name: &str) -> bool {
        let read = |values: &[Value]| values.iter().cloned().map(selector).collect::<Vec<_>>();
        let selection = ItemSelection::new(&read(items), &read(exclude)).expect("a selection");
        let item = ItemId::new(GroupKind::new(group, kind), name);
        let object = json!({"metadata": {"name": name, "labels": {"app": name}}});
        let taken = selection.takes(&item, &object);
        assert!(!taken || selection.may_take(&item), "what is taken must not be refused beforehand");
        taken
    }

    #[test]
    fn nothing_said_takes_everything_and_exclusion_wins() {
        assert!(takes(&[], &[], "apps", "Deployment", "web"));
        assert!(!takes(&[], &[json!({"kind": "Deployment"})], "apps", "Deployment", "web"));
        let web = json!({"group": "apps", "kind": "Deployment", "name": "web"});
        assert!(takes(std::slice::from_ref(&web), &[], "apps", "Deployment", "web"));
        assert!(!takes(std::slice::from_ref(&web), std::slice::from_ref(&web), "apps", "Deployment", "web"));
    }

    #[test]
    fn every_part_of_a_selector_must_match() {
        let all = json!({"group": "apps", "kind": "Deployment", "name": "w*", "labelSelector": "app=web"});
        assert!(takes(std::slice::from_ref(&all), &[], "apps", "Deployment", "web"));
        for (group, kind, name) in [
            ("", "Deployment", "web"),
            ("apps", "StatefulSet", "web"),
            ("apps", "Deployment", "api"),
            ("apps", "Deployment", "web2"),
        ] {
            assert!(!takes(std::slice::from_ref(&all), &[], group, kind, name), "{group}/{kind}/{name}");
        }
        // An empty group is the core group; a missing group matches any.
        assert!(!takes(&[json!({"group": ""})], &[], "apps", "Deployment", "web"));
        assert!(takes(&[json!({"group": ""})], &[], "", "Secret", "web"));
        assert!(takes(&[json!({"kind": "Deployment"})], &[], "apps", "Deployment", "web"));
    }

    #[test]
    fn a_selector_takes_items_of_its_provider_alone() {
        assert!(takes(&[json!({"provider": "kubernetes", "kind": "Secret"})], &[], "", "Secret", "web"));
        assert!(!takes(&[json!({"provider": "graph", "kind": "Secret"})], &[], "", "Secret", "web"));
        assert!(takes(&[], &[json!({"provider": "graph"})], "", "Secret", "web"));
    }

    #[test]
    fn an_exclusion_by_label_leaves_what_else_has_the_name() {
        assert!(!takes(&[], &[json!({"labelSelector": "app=web"})], "", "Secret", "web"));
        assert!(takes(&[], &[json!({"labelSelector": "app=web"})], "", "Secret", "api"));
    }

    #[test]
    fn a_selector_that_does_not_read_is_named_by_its_place() {
        let good = ItemSelector::default();
        let bad = selector(json!({"labelSelector": "a in b"}));
        let error = ItemSelection::new(&[good, bad], &[]).expect_err("not a selector");
        assert!(error.to_string().starts_with("items[1].labelSelector"), "{error}");
    }

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, expected) in [
            ("web", "web", true),
            ("web", "web2", false),
            ("*", "", true),
            ("web-*", "web-1", true),
            ("*-web", "a-web", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("a**a", "aa", true),
            ("*é*", "caféé", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} and {name}");
        }
    }

    proptest! {
        #[test]
        fn patterns_fit_as_the_definition_says(pattern in "[ab*]{0,6}", name in "[ab]{0,6}") {
            fn slow(pattern: &[u8], name: &[u8]) -> bool {
                match pattern {
                    [] => name.is_empty(),
                    [b'*', rest @ ..] => (0..=name.len()).any(|from| slow(rest, &name[from..])),
                    [first, rest @ ..] => name.first() == Some(first) && slow(rest, &name[1..]),
                }
            }
            prop_assert_eq!(fits(&pattern, &name), slow(pattern.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn entries_are_known_by_their_place_by_name_alone_and_with_the_labels() {
        let items =
            [json!({"kind": "Secret"}), json!({"name": "w*", "labelSelector": "app=api"}), json!({"name": "web"})];
        let selection = ItemSelection::new(&items.map(selector), &[]).expect("a selection");
        let web = ItemId::new(GroupKind::new("", "ConfigMap"), "web");
        let object = json!({"metadata": {"labels": {"app": "web"}}});
        assert_eq!(selection.entries(), 3);
        assert_eq!(selection.may_match(&web).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(selection.matching(&web, &object).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn what_may_be_taken_is_known_before_it_is_read() {
        let item = |name: &str| ItemId::new(GroupKind::new("", "Secret"), name);
        let of = |items: &[Value], excluded: &[Value]| {
            let read = |values: &[Value]| values.iter().cloned().map(selector).collect::<Vec<_>>();
            ItemSelection::new(&read(items), &read(excluded)).expect("a selection")
        };
        assert!(of(&[], &[]).may_take(&item("web")));
        let named = of(&[json!({"name": "web"})], &[]);
        assert!(named.may_take(&item("web")) && !named.may_take(&item("api")));
        let without = of(&[], &[json!({"name": "web"})]);
        assert!(!without.may_take(&item("web")) && without.may_take(&item("api")));
        assert!(of(&[], &[json!({"name": "web", "labelSelector": "a=b"})]).may_take(&item("web")), "its labels decide");
        let failed = of(&[json!({"kind": "Secret"})], &[]).within(BTreeSet::from([item("web")]));
        assert!(failed.may_take(&item("web")) && failed.takes(&item("web"), &json!({})));
        assert!(!failed.may_take(&item("api")) && !failed.takes(&item("api"), &json!({})), "it had not failed");
        assert_eq!(failed.entries(), 1, "what was selected is selected still");
    }
}
