//! JSON merge patches: the difference between two values. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Map, Value};

/// The merge patch (RFC 7386) from one value to another; `None` if they are equal. Arrays are
/// replaced as a whole.
#[must_use]
pub fn merge(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        _ if before == after => None,
        (Value::Object(before), Value::Object(after)) => {
            let mut patch = Map::new();
            for key in before.keys().filter(|key| !after.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in after {
                match before.get(key) {
                    Some(old) => {
                        if let Some(difference) = merge(old, value) {
                            patch.insert(key.clone(), difference);
                        }
                    }
                    None => {
                        patch.insert(key.clone(), value.clone());
                    }
                }
            }
            Some(Value::Object(patch))
        }
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::merge;
    use serde_json::json;

    #[test]
    fn a_patch_holds_just_what_differs_and_null_for_what_went() {
        let before = json!({"a": 1, "b": {"c": [1], "d": 2}, "gone": true});
        let after = json!({"a": 1, "b": {"c": [2], "d": 2}, "new": "x"});
        assert_eq!(merge(&before, &after), Some(json!({"b": {"c": [2]}, "gone": null, "new": "x"})));
        assert_eq!(merge(&after, &after), None);
    }
}
