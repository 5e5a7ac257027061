//! What identifies a finding: the item and the scope, and never the content. So an item has one
//! finding in a scope, however often and by however many runs it is found.

use crate::api::{canonical, finding::FindingType, item::ItemId};
use serde_json::json;
use sha2::{Digest as _, Sha256};

/// Fingerprint of the finding of an item in a scope: 64 hex digits.
#[must_use]
pub fn fingerprint(finding_type: FindingType, scope_key: &str, item: &ItemId) -> String {
    let type_name: &'static str = finding_type.into();
    let identity = json!([type_name, scope_key, item.provider.to_string(), item.kind.group, item.kind.kind, item.name]);
    hex::encode(Sha256::digest(canonical::to_vec(&identity)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::item::GroupKind;
    use std::collections::BTreeSet;

    #[test]
    fn a_fingerprint_tells_items_and_scopes_apart_and_is_always_the_same() {
        let of = |scope: &str, group: &str, kind: &str, name: &str| {
            fingerprint(FindingType::Drift, scope, &ItemId::new(GroupKind::new(group, kind), name))
        };
        let all = [
            of("s", "", "A", "b"),
            of("t", "", "A", "b"),
            of("s", "g", "A", "b"),
            of("s", "", "B", "b"),
            of("s", "", "A", "c"),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert!(all.iter().all(|one| one.len() == 64));
        assert_eq!(all[0], of("s", "", "A", "b"));
    }
}
