//! Providers: where items live. Records and selectors name a provider, so that adding a second one
//! changes no record.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// Name of the built-in provider, which is the default.
pub const KUBERNETES: &str = "kubernetes";

/// Names of the providers that a selector may name.
pub const PROVIDERS: [&str; 1] = [KUBERNETES];

/// Where items live. Defaults to the tenant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Provider {
    /// The tenant's namespace.
    #[default]
    Kubernetes,
    /// Another provider, by name.
    Other(Box<str>),
}

impl Provider {
    /// Whether this is the default provider, which texts and records omit.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Name of the provider.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Kubernetes => KUBERNETES,
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl From<&str> for Provider {
    fn from(name: &str) -> Self {
        if name == KUBERNETES { Self::Kubernetes } else { Self::Other(name.into()) }
    }
}

impl From<String> for Provider {
    fn from(name: String) -> Self {
        name.as_str().into()
    }
}

impl From<Provider> for String {
    fn from(provider: Provider) -> Self {
        provider.as_str().to_owned()
    }
}

impl JsonSchema for Provider {
    fn schema_name() -> Cow<'static, str> {
        "Provider".into()
    }

    /// Schema for selectors: a selection can only be evaluated by a provider that exists.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": PROVIDERS, "default": KUBERNETES })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_provider_is_its_name_whichever_way_it_is_read_and_written() {
        for (name, is_default) in [("kubernetes", true), ("graph", false)] {
            let provider = Provider::from(name);
            assert_eq!(
                (provider.as_str(), provider.to_string().as_str(), provider.is_default()),
                (name, name, is_default)
            );
            assert_eq!(serde_json::to_value(&provider).expect("JSON"), name);
            assert_eq!(serde_json::from_value::<Provider>(json!(name)).expect("a provider"), provider);
            assert_eq!((Provider::from(name.to_owned()), String::from(provider.clone())), (provider, name.to_owned()));
        }
        assert_eq!(Provider::default(), Provider::Kubernetes);
    }

    #[test]
    fn the_schema_allows_the_providers_that_there_are() {
        let schema = schemars::schema_for!(Provider);
        assert_eq!(
            (&schema.as_value()["enum"], &schema.as_value()["default"]),
            (&json!(PROVIDERS), &json!(KUBERNETES))
        );
    }
}
