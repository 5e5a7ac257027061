//! Inputs of an operation: any JSON object, stored as text.
//!
//! The author decides the shape of the inputs. Parsed, the worst case takes a hundred times the
//! memory of its text. Inputs are therefore parsed where they are read, and never stored parsed.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Map, Value, value::RawValue};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// Any JSON object.
#[derive(Clone)]
pub struct Inputs(Arc<str>);

impl Inputs {
    /// Returns the JSON text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Parses all inputs. The caller should not store the result.
    #[must_use]
    pub fn parse(&self) -> Map<String, Value> {
        // The text is an object: deserialization accepts nothing else.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Returns one input.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.members().get(name)?.get()).ok()
    }

    /// Returns one input if it is a string.
    #[must_use]
    pub fn text_of(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.members().get(name)?.get()).ok()
    }

    /// Whether there are no inputs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    fn members(&self) -> BTreeMap<String, &RawValue> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }
}

impl Default for Inputs {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl From<Map<String, Value>> for Inputs {
    fn from(inputs: Map<String, Value>) -> Self {
        Self(Value::Object(inputs).to_string().into())
    }
}

impl PartialEq for Inputs {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.parse() == other.parse()
    }
}

impl fmt::Debug for Inputs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Inputs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(&self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        if !text.get().starts_with('{') {
            return Err(D::Error::custom("inputs are no object"));
        }
        Ok(Self(Box::<str>::from(text).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn they_come_and_go_as_they_are_and_only_as_an_object() {
        let inputs: Inputs = serde_json::from_str(r#"{"a": [1, {"b": null}], "c": "d"}"#).expect("inputs");
        assert_eq!(serde_json::to_value(&inputs).expect("JSON"), json!({"a": [1, {"b": null}], "c": "d"}));
        assert_eq!((inputs.get("a"), inputs.get("x")), (Some(json!([1, {"b": null}])), None));
        assert_eq!((inputs.text_of("c").as_deref(), inputs.text_of("a")), (Some("d"), None));
        assert!(!inputs.is_empty() && Inputs::default().is_empty());
        assert_eq!(serde_json::from_value::<Inputs>(json!({"c": "d"})).expect("inputs").text(), r#"{"c":"d"}"#);
        for other in ["[]", "null", "3", "\"{}\""] {
            assert!(serde_json::from_str::<Inputs>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn the_same_members_in_another_order_are_the_same() {
        let read = |text: &str| serde_json::from_str::<Inputs>(text).expect("inputs");
        assert_eq!(read(r#"{"a":1,"b":2}"#), read(r#"{ "b": 2, "a": 1 }"#));
        assert_ne!(read(r#"{"a":1}"#), read(r#"{"a":2}"#));
    }

    #[test]
    fn the_members_that_are_parsed_are_those_that_were_given() {
        let given = json!({"a": 1, "b": {"c": "d"}}).as_object().cloned().expect("an object");
        let inputs = Inputs::from(given.clone());
        assert_eq!((inputs.parse(), inputs.text()), (given, r#"{"a":1,"b":{"c":"d"}}"#));
        assert_eq!(format!("{inputs:?}"), inputs.text());
        assert_eq!(Inputs::from(Map::new()), Inputs::default());
        assert!(Inputs::from(Map::new()).is_empty());
    }
}
