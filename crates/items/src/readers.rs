//! Which kinds reports may show: those that every reader of reports may read anyway.
//!
//! Users read reports with the stock ClusterRole `view`. It does not cover Secrets, Roles or
//! RoleBindings, and it covers only the custom resources that a ClusterRole aggregates to it. For
//! any other kind, a report contains names and which fields change, but no values.
//!
//! Secrets are never shown, whatever `view` covers: see [`crate::words`] and [`crate::diff`].

use crate::{api::item::GroupKind, served::ServedKind};
use serde_json::Value;
use std::collections::BTreeSet;

/// The ClusterRole that every reader of reports has.
pub const ROLE: &str = "view";

/// The kinds that every reader of reports may read. Empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    kinds: BTreeSet<GroupKind>,
}

impl Readers {
    /// Selects the kinds that the rules of a role allow its holders to read.
    #[must_use]
    pub fn with_rules<'a>(rules: &Value, kinds: impl IntoIterator<Item = &'a ServedKind>) -> Self {
        let rules = rules.as_array().map(Vec::as_slice).unwrap_or_default();
        let may_read = |kind: &&ServedKind| rules.iter().any(|rule| allows(rule, kind));
        Self { kinds: kinds.into_iter().filter(may_read).map(ServedKind::group_kind).collect() }
    }

    /// Readers who may read these kinds.
    #[must_use]
    pub fn of(kinds: impl IntoIterator<Item = GroupKind>) -> Self {
        Self { kinds: kinds.into_iter().collect() }
    }

    /// Whether every reader may read objects of a kind.
    #[must_use]
    pub fn may_read(&self, kind: &GroupKind) -> bool {
        self.kinds.contains(kind)
    }
}

/// Whether a rule allows `get` on all objects of a kind.
fn allows(rule: &Value, kind: &ServedKind) -> bool {
    let names = |field: &str, wanted: &str| {
        let mut words = rule[field].as_array().into_iter().flatten();
        words.any(|word| word == wanted || word == "*")
    };
    let some_objects = rule["resourceNames"].as_array().is_some_and(|names| !names.is_empty());
    !some_objects && names("verbs", "get") && names("apiGroups", &kind.group) && names("resources", &kind.plural)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_kind_may_be_read_where_one_rule_lets_all_of_its_objects_be_read() {
        let kind = |group: &str, kind: &str, plural: &str| ServedKind {
            group: group.into(),
            version: "v1".into(),
            kind: kind.into(),
            plural: plural.into(),
        };
        let (role, map) = (kind("rbac.authorization.k8s.io", "Role", "roles"), kind("", "ConfigMap", "configmaps"));
        let may = |rules: Value| {
            let readers = Readers::with_rules(&rules, [&role, &map]);
            (readers.may_read(&role.group_kind()), readers.may_read(&map.group_kind()))
        };
        let rule = |groups: &[&str], resources: &[&str], verbs: &[&str]| json!({"apiGroups": groups, "resources": resources, "verbs": verbs});
        assert_eq!(may(json!([rule(&[""], &["configmaps"], &["get", "list"])])), (false, true));
        assert_eq!(may(json!([rule(&["*"], &["roles"], &["*"])])), (true, false));
        assert_eq!(may(json!([rule(&["*"], &["*"], &["get"])])), (true, true));
        for none in [
            json!([rule(&[""], &["configmaps/status"], &["get"])]),
            json!([rule(&[""], &["roles"], &["get"])]),
            json!([rule(&["", "rbac.authorization.k8s.io"], &["configmaps", "roles"], &["list", "watch"])]),
            json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"], "resourceNames": ["one"]}]),
            json!([{"nonResourceURLs": ["*"], "verbs": ["get"]}]),
            json!([]),
            Value::Null,
        ] {
            assert_eq!(may(none.clone()), (false, false), "{none}");
        }
    }
}
