//! The requester of an operation.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An authenticated user, as the API server knows them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Initiator {
    /// Name of the user.
    #[schemars(length(max = 1024))]
    pub username: String,
    /// Uid of the user, if the authenticator provides one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub uid: Option<String>,
    /// Groups of the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(max = 1024)))]
    pub groups: Vec<String>,
}
