//! A JSON pointer, and an object reduced to the field that it names. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use serde_json::{Map, Value, json};

/// Maximum number of fields in a pointer. No JSON that is read is nested deeper.
const MAX_DEPTH: usize = 128;

/// A JSON pointer (RFC 6901) of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pointer(Vec<String>);

impl Pointer {
    /// Reads a pointer such as `/spec/replicas`. The empty one, which means the whole, is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // A name of a field has no control characters, which would take six bytes each in a result.
        if text.chars().any(char::is_control) {
            return None;
        }
        let tokens: Vec<String> = text.strip_prefix('/')?.split('/').map(unescaped).collect::<Option<_>>()?;
        (tokens.len() <= MAX_DEPTH).then_some(Self(tokens))
    }

    /// The pointer of what may be shown of an object that not every reader of reports may read: its
    /// outermost field, or that of its metadata.
    #[must_use]
    pub fn outermost(mut self) -> Self {
        let shown = if self.0.first().is_some_and(|first| first == "metadata") { 2 } else { 1 };
        self.0.truncate(shown);
        self
    }

    /// The object with the named field alone, beside what identifies it; and whether it has the
    /// field. An element of a list keeps its place.
    #[must_use]
    pub fn reduce(&self, object: &Value) -> (Value, bool) {
        let mut reduced = json!({"apiVersion": object["apiVersion"], "kind": object["kind"],
            "metadata": {"name": object["metadata"]["name"]}});
        let found = only(object, &self.0);
        let has = found.is_some();
        if let (Some(Value::Object(found)), Some(reduced)) = (found, reduced.as_object_mut()) {
            for (field, value) in found {
                match (reduced.get_mut(&field), value) {
                    (Some(Value::Object(metadata)), Value::Object(value)) if field == "metadata" => {
                        metadata.extend(value);
                    }
                    (_, value) => {
                        reduced.insert(field, value);
                    }
                }
            }
        }
        (reduced, has)
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|token| write!(formatter, "/{}", token.replace('~', "~0").replace('/', "~1")))
    }
}

/// `~1` is `/`, and `~0` is `~`. No other `~` may be there.
fn unescaped(token: &str) -> Option<String> {
    let mut parts = token.split('~');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (escaped, rest) = part.split_at_checked(1)?;
        text.push(match escaped {
            "0" => '~',
            "1" => '/',
            _ => return None,
        });
        text.push_str(rest);
    }
    Some(text)
}

fn only(value: &Value, tokens: &[String]) -> Option<Value> {
    let Some((token, rest)) = tokens.split_first() else { return Some(value.clone()) };
    match value {
        Value::Object(fields) => {
            let field = only(fields.get(token)?, rest)?;
            Some(Value::Object(Map::from_iter([(token.clone(), field)])))
        }
        Value::Array(elements) => {
            let place = token.parse::<usize>().ok().filter(|place| place.to_string() == *token)?;
            let element = only(elements.get(place)?, rest)?;
            let mut before = vec![Value::Null; place];
            before.push(element);
            Some(Value::Array(before))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text).expect("a pointer")
    }

    fn object() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a/b": "c"}},
            "spec": {"replicas": 3, "containers": [{"name": "a"}, {"name": "b", "image": "web:1"}]}})
    }

    #[test]
    fn an_object_is_reduced_to_the_field_and_what_identifies_it() {
        let (reduced, has) = pointer("/spec/containers/1/image").reduce(&object());
        assert_eq!(reduced.pointer("/spec/containers/1/image"), Some(&json!("web:1")));
        assert_eq!((has, reduced["spec"]["replicas"].clone()), (true, Value::Null));
        assert_eq!((&reduced["kind"], &reduced["metadata"]["name"]), (&json!("Deployment"), &json!("web")));
        let (reduced, has) = pointer("/metadata/labels/a~1b").reduce(&object());
        assert_eq!((has, &reduced["metadata"]), (true, &json!({"name": "web", "labels": {"a/b": "c"}})));
        for absent in ["/spec/containers/2", "/spec/containers/01", "/spec/replicas/x", "/data", "/"] {
            let (reduced, has) = pointer(absent).reduce(&object());
            assert_eq!((has, reduced.get("spec")), (false, None), "{absent}");
        }
    }

    #[test]
    fn what_is_no_pointer_of_a_field_is_refused_and_what_is_one_is_written_as_it_was() {
        for text in ["", "spec", "spec/replicas", "/a~", "/a~2b", "/~é", "/a\u{1}"] {
            assert_eq!(Pointer::parse(text), None, "{text}");
        }
        assert_eq!(Pointer::parse(&"/a".repeat(MAX_DEPTH + 1)), None);
        for text in ["/", "/spec/replicas", "/metadata/annotations/a~1b~0c", "/a//b"] {
            assert_eq!(pointer(text).to_string(), text);
        }
    }

    #[test]
    fn of_an_object_that_is_not_shown_only_outermost_fields_are_named() {
        for (text, shown) in [("/spec/a/b", "/spec"), ("/metadata/labels/a", "/metadata/labels"), ("/rules", "/rules")]
        {
            assert_eq!(pointer(text).outermost().to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn a_reduced_object_has_the_field_exactly_if_the_whole_has_it(
            tokens in prop::collection::vec("[ab~/0]{1,2}", 1..4), value in "[ab]"
        ) {
            let pointer = Pointer(tokens);
            let text = pointer.to_string();
            prop_assert_eq!(Pointer::parse(&text), Some(pointer.clone()));
            let object = json!({"a": {"b": value, "a": [value, {"b": 1}]}, "b": [[value]], "~": {"/": 1}});
            let (reduced, has) = pointer.reduce(&object);
            prop_assert_eq!(reduced.pointer(&text), object.pointer(&text));
            prop_assert_eq!(has, object.pointer(&text).is_some());
            prop_assert_eq!(pointer.reduce(&reduced).0, reduced);
        }
    }
}
