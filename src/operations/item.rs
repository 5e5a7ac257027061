//! The one object that the inputs of an operation name. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        item::{GroupKind, ItemId},
        reason::worker as reason,
    },
    worker::failure::Failure,
};

/// Reads `inputs.item`. Fails if it names no object, all objects of a kind, or an item of another
/// provider.
pub fn read(text: &str) -> Result<ItemId, Failure> {
    let invalid = |message: String| Failure::permanent(reason::INVALID_INPUTS, message);
    let item = ItemId::of_object(text).map_err(|error| invalid(format!("inputs.item: {error}")))?;
    if item.name.is_empty() || item.kind.to_string().parse::<GroupKind>().as_ref() != Ok(&item.kind) {
        return Err(invalid(format!(
            "inputs.item: {item} does not name one object: write `group/Kind/name`, with `core` for the core group"
        )));
    }
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_is_read_and_anything_else_is_refused_with_what_to_write() {
        for text in ["core/ConfigMap/a", "kubernetes:apps/Deployment/web", "rbac.authorization.k8s.io/Role/a:b"] {
            assert!(read(text).is_ok(), "{text}");
        }
        for text in ["", "ConfigMap/a", "core/ConfigMap/", "graph:core/ConfigMap/a", "core/../a", "Core/Config Map/a"] {
            let failure = read(text).expect_err(text);
            assert_eq!(failure.reason, reason::INVALID_INPUTS);
            assert!(
                failure.message.contains("inputs.item") && failure.message.contains("group/Kind/name"),
                "{failure}"
            );
        }
    }
}
