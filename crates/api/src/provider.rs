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
