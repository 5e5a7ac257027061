//! Providers: where items live. Records and selectors name one, so that a second provider changes no record.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::{borrow::Cow, fmt};

/// The name of the built-in provider, and the default.
pub const KUBERNETES: &str = "kubernetes";

/// The names of providers that a selector may name.
pub const PROVIDERS: [&str; 1] = [KUBERNETES];

/// Where items live: by default, the tenant's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Provider {
    /// The tenant's namespace.
    #[default]
    Kubernetes,
    /// Another one, by its name.
    Other(Box<str>),
}

impl Provider {
    /// Whether it is the default, which texts and records leave out.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Its name.
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

    /// Of a selector: what is selected must be there to be asked.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": PROVIDERS, "default": KUBERNETES })
    }
}
