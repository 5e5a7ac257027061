//! References. They never leave their own namespace: no field names another namespace.

use kube_core::Resource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The name of an object in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LocalReference {
    /// Name of the object, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
}

/// A preview, and what is expected of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviewReference {
    /// Name of the preview: an object of the same kind, in the same namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Its `status.planDigest`, as it was looked at. With another one, nothing is done: the preview of
    /// this name is a later one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub plan_digest: Option<String>,
}

impl PreviewReference {
    /// Why a preview with a plan of this digest is not the one that was looked at, if so.
    #[must_use]
    pub fn rejects(&self, digest: &str) -> Option<String> {
        let expected = self.plan_digest.as_deref().filter(|expected| *expected != digest)?;
        Some(format!(
            "it is not the one that was looked at, since its status.planDigest is {digest}, and spec.preview.planDigest is {expected}"
        ))
    }
}

impl LocalReference {
    /// Creates a reference to the object of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// One incarnation of an object in the same namespace. The name can be reused, the uid cannot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// Name of the object.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Uid of the object.
    #[schemars(length(max = 64))]
    pub uid: String,
}

impl ObjectReference {
    /// Names an object as the API server has it. Of one that was never sent there, both are empty.
    pub fn of(object: &impl Resource) -> Self {
        let metadata = object.meta();
        Self { name: metadata.name.clone().unwrap_or_default(), uid: metadata.uid.clone().unwrap_or_default() }
    }
}

/// Whether this is a valid object name. A text that is not one never enters a status field for
/// names, nor the path of a request: `..` would name another resource there.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    let ends_well = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.starts_with(ends_well)
        && name.ends_with(ends_well)
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.')
}

/// Whether a text is a SHA-256 digest as a status has it.
#[must_use]
pub fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sha_256_has_64_small_hex_digits() {
        assert!(is_sha256(&"0a".repeat(32)) && is_sha256(&"9f".repeat(32)));
        for text in ["", &"a".repeat(63), &"a".repeat(65), &"A".repeat(64), &"g".repeat(64), &"é".repeat(32)] {
            assert!(!is_sha256(text), "{text}");
        }
    }

    #[test]
    fn a_name_of_an_object_has_small_letters_digits_dashes_and_dots_and_at_most_253_of_them() {
        let longest = "x".repeat(253);
        for name in ["a", "nightly-1", "a.b", "0", longest.as_str()] {
            assert!(is_object_name(name), "{name}");
        }
        for name in ["", "A", "a_b", "a/b", "a b", "é", ".", "..", "-a", "a-", &"x".repeat(254)] {
            assert!(!is_object_name(name), "{name}");
        }
    }
}
