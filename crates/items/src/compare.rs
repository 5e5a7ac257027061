//! Compares what is stored of an item with what is live: same, missing, extra, changed.
//!
//! Must not know what a restore does about a difference ([`crate::decide`]), nor which fields of an
//! object count. The caller brings both sides into the same form first: [`crate::sanitize`] for
//! what a restore would write, [`crate::semantic`] for two reads of a live object.

use serde_json::Value;
use std::borrow::Borrow;

/// One side of a comparison.
#[derive(Clone, Debug, PartialEq)]
pub enum Side<T> {
    /// The item does not exist on this side.
    Nothing,
    /// The item exists.
    Object(T),
    /// The item exists, or may exist, and cannot be read: what is wrong.
    Unreadable(String),
}

impl<T> From<Option<T>> for Side<T> {
    fn from(side: Option<T>) -> Self {
        side.map_or(Self::Nothing, Self::Object)
    }
}

/// How the live side of an item differs from the stored one.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference<S, L> {
    /// Both sides are equal, or the item is on neither.
    Same,
    /// The item is stored and not live.
    Missing(S),
    /// The item is live and not stored.
    Extra(L),
    /// The item is on both sides and differs.
    Changed(S, L),
    /// A side cannot be read, so nothing is known about a difference: what is wrong.
    Incomparable(String),
}

/// Compares both sides of an item.
pub fn compare<T, S, L>(stored: Side<S>, live: Side<L>) -> Difference<S, L>
where
    T: PartialEq + ?Sized,
    S: Borrow<T>,
    L: Borrow<T>,
{
    match (stored, live) {
        (Side::Unreadable(problem), _) | (_, Side::Unreadable(problem)) => Difference::Incomparable(problem),
        (Side::Nothing, Side::Nothing) => Difference::Same,
        (Side::Object(stored), Side::Nothing) => Difference::Missing(stored),
        (Side::Nothing, Side::Object(live)) => Difference::Extra(live),
        (Side::Object(stored), Side::Object(live)) if stored.borrow() == live.borrow() => Difference::Same,
        (Side::Object(stored), Side::Object(live)) => Difference::Changed(stored, live),
    }
}

/// Whether two objects are equal apart from the field at this path.
#[must_use]
pub fn equal_but_for(path: &[&str], one: &Value, other: &Value) -> bool {
    let ([first, rest @ ..], Value::Object(one), Value::Object(other)) = (path, one, other) else {
        return path.is_empty() || one == other;
    };
    let is_other = |(key, _): &(&String, &Value)| key != first;
    let equal_beside = one.iter().filter(is_other).eq(other.iter().filter(is_other));
    equal_beside
        && match (one.get(*first), other.get(*first)) {
            (Some(one), Some(other)) => equal_but_for(rest, one, other),
            (None, None) => true,
            _ => rest.is_empty(),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        sanitize::sanitized,
        semantic::{Status, semantic},
    };
    use proptest::{prelude::*, sample::Index};
    use serde_json::{Map, json};

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            "[a-c\n]{0,3}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let keys = prop::sample::select(vec!["name", "ports", "data", "spec", "metadata", "uid", "x"]);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(keys, inner, 0..4).prop_map(|map| Value::Object(
                    map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
                )),
            ]
        })
    }

    /// A live object, which holds any JSON in a field that belongs to its author.
    fn object(content: &Value) -> Value {
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "content": content, "status": {"seen": 1},
            "metadata": {"name": "a", "uid": "u", "resourceVersion": "1", "generation": 1, "labels": {"app": "a"}}})
    }

    /// The same object, read after something has touched the fields that the server owns.
    fn read_again(object: &Value) -> Value {
        let mut object = object.clone();
        object["status"] = json!({"seen": 2});
        object["metadata"]["resourceVersion"] = json!("2");
        object["metadata"]["managedFields"] = json!([{"manager": "kubectl", "time": "t"}]);
        object
    }

    fn leaves(value: &Value, place: &str, found: &mut Vec<String>) {
        let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| leaves(value, &format!("{place}/{}", escaped(key)), found));
            }
            Value::Array(list) if !list.is_empty() => {
                list.iter().enumerate().for_each(|(at, value)| leaves(value, &format!("{place}/{at}"), found));
            }
            _ => found.push(place.to_owned()),
        }
    }

    /// The object with another value in one of its leaves.
    fn with_another_leaf(object: &Value, which: Index) -> Value {
        let mut places = Vec::new();
        leaves(&object["content"], "/content", &mut places);
        let mut changed = object.clone();
        let leaf = changed.pointer_mut(which.get::<String>(&places)).expect("a leaf");
        *leaf = if *leaf == json!("another") { Value::Null } else { json!("another") };
        changed
    }

    fn difference(stored: Option<&Value>, live: Option<&Value>) -> Difference<Value, Value> {
        let form = |object: &Value| sanitized(object, Status::Observed);
        compare::<Value, _, _>(stored.map(form).into(), live.map(form).into())
    }

    fn mirrored<S, L>(difference: Difference<S, L>) -> Difference<L, S> {
        match difference {
            Difference::Same => Difference::Same,
            Difference::Missing(stored) => Difference::Extra(stored),
            Difference::Extra(live) => Difference::Missing(live),
            Difference::Changed(stored, live) => Difference::Changed(live, stored),
            Difference::Incomparable(problem) => Difference::Incomparable(problem),
        }
    }

    #[test]
    fn a_side_that_cannot_be_read_makes_no_difference_of_any_other_kind() {
        let unreadable = || Side::<Value>::Unreadable("not JSON".to_owned());
        for other in [Side::Nothing, Side::Object(json!(1)), unreadable()] {
            let expected = Difference::Incomparable("not JSON".to_owned());
            assert_eq!(compare::<Value, _, _>(unreadable(), other.clone()), expected);
            assert_eq!(compare::<Value, _, _>(other, unreadable()), expected);
        }
    }

    #[test]
    fn a_field_that_is_left_out_of_a_comparison_may_differ_or_be_absent_and_no_other_field_may() {
        let path = ["metadata", "ownerReferences"];
        let base = json!({"metadata": {"name": "a", "ownerReferences": [{"uid": "1"}]}, "spec": 1});
        for (other, expected) in [
            (json!({"metadata": {"name": "a", "ownerReferences": []}, "spec": 1}), true),
            (json!({"metadata": {"name": "a"}, "spec": 1}), true),
            (json!({"metadata": {"name": "b"}, "spec": 1}), false),
            (json!({"metadata": {"name": "a"}, "spec": 2}), false),
            (json!({"metadata": {"name": "a"}}), false),
            (json!({"metadata": {"name": "a"}, "spec": 1, "status": null}), false),
            (json!({"metadata": null, "spec": 1}), false),
            (json!({"spec": 1}), false),
        ] {
            assert_eq!(equal_but_for(&path, &base, &other), expected, "{other}");
            assert_eq!(equal_but_for(&path, &other, &base), expected, "{other}");
        }
        assert!(equal_but_for(&path, &json!({"spec": 1}), &json!({"spec": 1})), "neither has it");
    }

    proptest! {
        #[test]
        fn another_value_of_any_leaf_is_a_difference(content in any_json(), which in any::<Index>()) {
            let stored = object(&content);
            let live = with_another_leaf(&stored, which);
            let found = difference(Some(&stored), Some(&live));
            prop_assert!(matches!(found, Difference::Changed(..)), "{found:?}");
            let again = compare::<Value, _, _>(
                Side::Object(semantic(&stored, Status::Observed)), Side::Object(semantic(&live, Status::Observed)));
            prop_assert!(matches!(again, Difference::Changed(..)), "{again:?}");
        }

        #[test]
        fn two_reads_of_an_object_are_the_same_whatever_the_server_has_written(content in any_json()) {
            let one = object(&content);
            let other = read_again(&one);
            prop_assert_eq!(difference(Some(&one), Some(&other)), Difference::Same);
            let form = |object: &Value| Side::Object(semantic(object, Status::Observed));
            prop_assert_eq!(compare::<Value, _, _>(form(&one), form(&other)), Difference::Same);
        }

        #[test]
        fn the_other_way_round_a_comparison_finds_the_mirror_image(one in any_json(), other in any_json()) {
            let (one, other) = (object(&one), object(&other));
            for (stored, live) in [(Some(&one), Some(&other)), (Some(&one), None), (None, Some(&one)), (None, None)] {
                prop_assert_eq!(mirrored(difference(stored, live)), difference(live, stored));
            }
        }

        #[test]
        fn objects_are_equal_but_for_a_field_exactly_if_they_are_equal_without_it(one in any_json(), other in any_json()) {
            let without = |object: &Value| {
                let mut object = object.clone();
                if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                    metadata.remove("uid");
                }
                object
            };
            let (one, other) = (json!({"metadata": one}), json!({"metadata": other}));
            prop_assert_eq!(equal_but_for(&["metadata", "uid"], &one, &other), without(&one) == without(&other));
            let object: Map<String, Value> = Map::new();
            prop_assert!(equal_but_for(&[], &one, &Value::Object(object)), "everything is left out");
        }
    }
}
