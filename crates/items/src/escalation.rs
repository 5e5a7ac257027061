//! What RBAC requires of a user who grants rights, in addition to the right to write the object
//! that grants them.
//!
//! The API server checks the account that writes, and that account holds more rights than most
//! people of a tenant. The same is therefore checked for the requester of the restore. A Role
//! requires every right that it holds, or `escalate`. A RoleBinding requires every right of its
//! role, or `bind` on that role. One access review covers one verb on one resource; a wildcard is
//! asked as `*`.
//!
//! Rights that cannot be checked one by one require `escalate` or `bind`. These are URLs, which a
//! review in a namespace never covers, and roles with more than [`MAX_RIGHTS`] rights, which is
//! more than any real role holds.

use crate::{
    api::item::{GroupKind, ItemId},
    proposal::Write,
};
use serde_json::Value;
use std::fmt;

/// The API group of roles and bindings.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// Maximum number of single rights of one role that are checked.
pub const MAX_RIGHTS: usize = 5000;

/// A single right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Right {
    /// The verb.
    pub verb: String,
    /// API group; empty for the core group.
    pub group: String,
    /// Resource, as in URLs.
    pub resource: String,
    /// Subresource.
    pub subresource: Option<String>,
    /// Name of the only object; `None` for all objects.
    pub name: Option<String>,
}

impl Right {
    /// A verb on a resource of the RBAC group.
    #[must_use]
    pub fn of_rbac(verb: &str, resource: &str, name: Option<&str>) -> Self {
        Self {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: resource.to_owned(),
            subresource: None,
            name: name.map(str::to_owned),
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        if let Some(subresource) = &self.subresource {
            write!(formatter, "/{subresource}")?;
        }
        match &self.name {
            Some(name) => write!(formatter, " {name:?}"),
            None => Ok(()),
        }
    }
}

/// What a write grants.
#[derive(Clone, Debug, PartialEq)]
pub enum Grant<'a> {
    /// A Role with these rules.
    Rules {
        /// Name of the Role.
        name: &'a str,
        /// Whether a Role of this name already exists. The API server then checks `escalate` on
        /// that Role, otherwise on all Roles.
        exists: bool,
        /// The rules.
        rules: &'a Value,
    },
    /// A RoleBinding to a role.
    Role(RoleRef<'a>),
    /// A RoleBinding to something that cannot be a role.
    Nothing,
}

/// The role that a binding refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleRef<'a> {
    /// Whether it is a ClusterRole.
    pub of_cluster: bool,
    /// Name of the role.
    pub name: &'a str,
}

impl RoleRef<'_> {
    /// The right to bind the role, whatever rights the role holds.
    #[must_use]
    pub fn bind(&self) -> Right {
        Right::of_rbac("bind", if self.of_cluster { "clusterroles" } else { "roles" }, Some(self.name))
    }
}

impl fmt::Display for RoleRef<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", if self.of_cluster { "ClusterRole" } else { "Role" }, self.name)
    }
}

/// What a write grants, if the object is a Role or a RoleBinding.
#[must_use]
pub fn grant<'a>(item: &'a ItemId, write: &'a Write) -> Option<Grant<'a>> {
    let (body, exists) = match write {
        Write::Create(body) | Write::Recreate(_, body) => (body, false),
        Write::Update(body) => (body, true),
        Write::Delete(_) => return None,
    };
    let GroupKind { group, kind } = &item.kind;
    match (group.as_str(), kind.as_str()) {
        (GROUP, "Role") => Some(Grant::Rules { name: &item.name, exists, rules: &body["rules"] }),
        (GROUP, "RoleBinding") => {
            let role = &body["roleRef"];
            let name = role["name"].as_str().filter(|name| !name.is_empty());
            Some(match (role["kind"].as_str(), name) {
                (Some("Role"), Some(name)) => Grant::Role(RoleRef { of_cluster: false, name }),
                (Some("ClusterRole"), Some(name)) => Grant::Role(RoleRef { of_cluster: true, name }),
                _ => Grant::Nothing,
            })
        }
        _ => None,
    }
}

/// Why the rights of a role cannot be checked one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unaskable {
    /// Part of the role is not a valid rule.
    Shape,
    /// The role holds URLs.
    Urls,
    /// The role holds too many rights.
    TooMany,
}

impl Unaskable {
    /// Message fragment that completes "it …".
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Shape => "holds what is no rule",
            Self::Urls => "holds nonResourceURLs",
            Self::TooMany => "holds more rights than are asked about one by one",
        }
    }
}

/// One parsed rule.
struct Rule<'a> {
    verbs: Vec<&'a str>,
    groups: Vec<&'a str>,
    resources: Vec<&'a str>,
    names: Vec<&'a str>,
}

/// The single rights of rules, broken down as RBAC does.
pub fn rights(rules: &Value) -> Result<impl Iterator<Item = Right> + '_, Unaskable> {
    let rules = match rules {
        Value::Null => Vec::new(),
        Value::Array(rules) => rules.iter().map(read).collect::<Result<_, _>>()?,
        _ => return Err(Unaskable::Shape),
    };
    let count = |rule: &Rule<'_>| {
        [rule.groups.len(), rule.resources.len(), rule.names.len().max(1)]
            .into_iter()
            .fold(rule.verbs.len(), usize::saturating_mul)
    };
    if rules.iter().map(count).fold(0, usize::saturating_add) > MAX_RIGHTS {
        return Err(Unaskable::TooMany);
    }
    Ok(rules.into_iter().flat_map(|rule| {
        let mut rights = Vec::new();
        for group in &rule.groups {
            for resource in &rule.resources {
                let (resource, subresource) = match resource.split_once('/') {
                    Some((resource, subresource)) => (resource, Some(subresource)),
                    None => (*resource, None),
                };
                for verb in &rule.verbs {
                    let right = |name: Option<&str>| Right {
                        verb: (*verb).to_owned(),
                        group: (*group).to_owned(),
                        resource: resource.to_owned(),
                        subresource: subresource.map(str::to_owned),
                        name: name.map(str::to_owned),
                    };
                    if rule.names.is_empty() {
                        rights.push(right(None));
                    }
                    rights.extend(rule.names.iter().map(|name| right(Some(name))));
                }
            }
        }
        rights
    }))
}

fn read(rule: &Value) -> Result<Rule<'_>, Unaskable> {
    if !rule.is_object() {
        return Err(Unaskable::Shape);
    }
    let words = |field: &str| match &rule[field] {
        Value::Null => Ok(Vec::new()),
        Value::Array(words) => words.iter().map(|word| word.as_str().ok_or(Unaskable::Shape)).collect(),
        _ => Err(Unaskable::Shape),
    };
    if !words("nonResourceURLs")?.is_empty() {
        return Err(Unaskable::Urls);
    }
    let rule = Rule {
        verbs: words("verbs")?,
        groups: words("apiGroups")?,
        resources: words("resources")?,
        names: words("resourceNames")?,
    };
    // An access review treats an empty verb, resource, subresource or name as any.
    let empty = |words: &[&str]| words.iter().any(|word| word.is_empty());
    let halved = rule.resources.iter().any(|resource| resource.starts_with('/') || resource.ends_with('/'));
    if empty(&rule.verbs) || empty(&rule.resources) || empty(&rule.names) || halved {
        return Err(Unaskable::Shape);
    }
    Ok(rule)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proposal::Precondition;
    use proptest::prelude::*;
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn asked(rules: Value) -> Result<Vec<String>, Unaskable> {
        rights(&rules).map(|rights| rights.map(|right| right.to_string()).collect())
    }

    #[test]
    fn a_rule_is_as_many_rights_as_it_has_verbs_groups_resources_and_names() {
        let rules = json!([
            {"apiGroups": ["", "apps"], "resources": ["pods/exec", "secrets"], "verbs": ["get", "create"]},
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["a", "b"], "verbs": ["update"]},
            {"apiGroups": ["*"], "resources": ["*", "*/scale"], "verbs": ["*"]},
        ]);
        let expected = [
            "get pods/exec",
            "create pods/exec",
            "get secrets",
            "create secrets",
            "get pods.apps/exec",
            "create pods.apps/exec",
            "get secrets.apps",
            "create secrets.apps",
            "update configmaps \"a\"",
            "update configmaps \"b\"",
            "* *.*",
            "* *.*/scale",
        ];
        assert_eq!(asked(rules), Ok(expected.map(str::to_owned).to_vec()));
        for nothing in [Value::Null, json!([]), json!([{}]), json!([{"verbs": ["get"], "resources": ["pods"]}])] {
            assert_eq!(asked(nothing), Ok(Vec::new()));
        }
    }

    #[test]
    fn what_cannot_be_asked_about_takes_the_verb() {
        let rule = |field: &str, value: Value| {
            let mut rule = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]});
            rule[field] = value;
            json!([rule])
        };
        assert_eq!(asked(rule("nonResourceURLs", json!(["/metrics"]))), Err(Unaskable::Urls));
        let many = json!((0..200).map(|number| number.to_string()).collect::<Vec<_>>());
        let mut wide = rule("verbs", many.clone());
        wide[0]["resources"] = many.clone();
        wide[0]["apiGroups"] = many;
        assert_eq!(asked(wide), Err(Unaskable::TooMany));
        for (field, odd) in [
            ("verbs", json!("get")),
            ("verbs", json!([1])),
            ("verbs", json!([""])),
            ("resources", json!([""])),
            ("resources", json!(["pods/"])),
            ("resources", json!(["/exec"])),
            ("resourceNames", json!([""])),
            ("resourceNames", json!({})),
            ("apiGroups", json!([null])),
            ("nonResourceURLs", json!("/")),
        ] {
            assert_eq!(asked(rule(field, odd.clone())), Err(Unaskable::Shape), "{field}: {odd}");
        }
        for odd in [json!("x"), json!({}), json!([1]), json!([[]])] {
            assert_eq!(asked(odd), Err(Unaskable::Shape));
        }
    }

    #[test]
    fn what_gives_rights_is_a_role_or_a_binding_that_is_written() {
        let item = |kind: &str| ItemId::new(GroupKind::new(GROUP, kind), "a");
        let (role, binding) = (item("Role"), item("RoleBinding"));
        let create = Write::Create(json!({"rules": [1]}));
        assert_eq!(grant(&role, &create), Some(Grant::Rules { name: "a", exists: false, rules: &json!([1]) }));
        let update = Write::Update(json!({"rules": [1]}));
        assert_eq!(grant(&role, &update), Some(Grant::Rules { name: "a", exists: true, rules: &json!([1]) }));
        let to = |kind: &str, name: Value| Write::Create(json!({"roleRef": {"kind": kind, "name": name}}));
        for (kind, of_cluster) in [("Role", false), ("ClusterRole", true)] {
            let write = to(kind, json!("r"));
            assert_eq!(grant(&binding, &write), Some(Grant::Role(RoleRef { of_cluster, name: "r" })));
        }
        for odd in [to("Secret", json!("r")), to("Role", Value::Null), to("Role", json!("")), create] {
            assert_eq!(grant(&binding, &odd), Some(Grant::Nothing));
        }
        assert_eq!(grant(&role, &Write::Delete(Precondition::default())), None);
        assert_eq!(grant(&ItemId::new(GroupKind::new("", "Role"), "a"), &Write::Create(Value::Null)), None);
    }

    proptest! {
        /// A user who holds every single right of some rules holds exactly what RBAC calls covered.
        #[test]
        fn rules_are_covered_exactly_by_whoever_holds_their_single_rights(
            held in prop::collection::vec(words(), 0..4), given in prop::collection::vec(words(), 1..3)
        ) {
            let rules = |rules: &[Words]| json!(rules.iter().map(Words::to_json).collect::<Vec<_>>());
            let allowed = rights(&rules(&given)).expect("rules").all(|right| held.iter().any(|rule| rule.allows(&right)));
            let covered = given.iter().all(|rule| rule.parts().iter().all(|part| held.iter().any(|held| held.covers(part))));
            prop_assert_eq!(allowed, covered);
        }
    }

    /// A rule made of a few words, with the views of RBAC's authorizer and of its escalation check.
    #[derive(Clone, Debug)]
    struct Words {
        verbs: Vec<&'static str>,
        groups: Vec<&'static str>,
        resources: Vec<&'static str>,
        names: Vec<&'static str>,
    }

    fn words() -> impl Strategy<Value = Words> {
        let some = |words: &'static [&'static str], least| prop::sample::subsequence(words, least..=2);
        let resources = &["pods", "pods/exec", "*/exec", "secrets", "*"];
        (some(&["get", "create", "*"], 1), some(&["", "apps", "*"], 1), some(resources, 1), some(&["a", "b"], 0))
            .prop_map(|(verbs, groups, resources, names)| Words { verbs, groups, resources, names })
    }

    impl Words {
        fn to_json(&self) -> Value {
            json!({"verbs": self.verbs, "apiGroups": self.groups, "resources": self.resources, "resourceNames": self.names})
        }

        /// `BreakdownRule` of the RBAC registry.
        fn parts(&self) -> Vec<Self> {
            let names: Vec<Vec<&str>> = if self.names.is_empty() {
                vec![Vec::new()]
            } else {
                self.names.iter().map(|name| vec![*name]).collect()
            };
            let mut parts = Vec::new();
            for verb in &self.verbs {
                for group in &self.groups {
                    for resource in &self.resources {
                        parts.extend(names.iter().map(|names| Self {
                            verbs: vec![verb],
                            groups: vec![group],
                            resources: vec![resource],
                            names: names.clone(),
                        }));
                    }
                }
            }
            parts
        }

        /// `ruleCovers`, for one part.
        fn covers(&self, part: &Self) -> bool {
            let has = |words: &[&str], word: &str| words.contains(&"*") || words.contains(&word);
            let resource = part.resources[0];
            let starred = resource.split_once('/').map(|(_, subresource)| format!("*/{subresource}"));
            has(&self.verbs, part.verbs[0])
                && has(&self.groups, part.groups[0])
                && (has(&self.resources, resource)
                    || starred.is_some_and(|starred| self.resources.contains(&starred.as_str())))
                && (self.names.is_empty() || (!part.names.is_empty() && self.names.contains(&part.names[0])))
        }

        /// `RuleAllows` of the RBAC authorizer.
        fn allows(&self, right: &Right) -> bool {
            let has = |words: &[&str], word: &str| words.contains(&"*") || words.contains(&word);
            let combined = match &right.subresource {
                Some(subresource) => format!("{}/{subresource}", right.resource),
                None => right.resource.clone(),
            };
            let starred = right.subresource.as_ref().map(|subresource| format!("*/{subresource}"));
            has(&self.verbs, &right.verb)
                && has(&self.groups, &right.group)
                && (has(&self.resources, &combined)
                    || starred.is_some_and(|starred| self.resources.contains(&starred.as_str())))
                && (self.names.is_empty() || self.names.contains(&right.name.as_deref().unwrap_or_default()))
        }
    }

    #[test]
    fn as_many_rights_as_are_asked_about_one_by_one_are_asked_about_and_no_more() {
        let words = |count: usize| -> Vec<String> { (0..count).map(|number| number.to_string()).collect() };
        let rule = |verbs, names| json!({"apiGroups": ["", "apps"], "resources": ["a", "b", "c", "d", "e"], "verbs": words(verbs), "resourceNames": words(names)});
        let count = |rules: Value| rights(&rules).map(Iterator::count);
        assert_eq!(count(json!([rule(50, 10)])), Ok(MAX_RIGHTS));
        assert_eq!(count(json!([rule(500, 0)])), Ok(MAX_RIGHTS), "a rule without names is of all names at once");
        assert_eq!(count(json!([rule(501, 0)])), Err(Unaskable::TooMany));
        assert_eq!(count(json!([rule(50, 9), rule(50, 1)])), Ok(MAX_RIGHTS));
        assert_eq!(count(json!([rule(50, 9), rule(50, 2)])), Err(Unaskable::TooMany), "all rules count together");
    }

    #[test]
    fn a_role_is_bound_by_who_may_bind_that_role() {
        let right = |of_cluster| RoleRef { of_cluster, name: "r" }.bind();
        assert_eq!(right(true), Right::of_rbac("bind", "clusterroles", Some("r")));
        assert_eq!(right(false).to_string(), r#"bind roles.rbac.authorization.k8s.io "r""#);
        let shown = |of_cluster| RoleRef { of_cluster, name: "r" }.to_string();
        assert_eq!((shown(true).as_str(), shown(false).as_str()), ("ClusterRole r", "Role r"));
        assert_eq!(Right::of_rbac("escalate", "roles", None).name, None);
    }

    #[test]
    fn what_a_role_holds_that_cannot_be_asked_about_is_said() {
        for (why, word) in
            [(Unaskable::Shape, "no rule"), (Unaskable::Urls, "URLs"), (Unaskable::TooMany, "more rights")]
        {
            assert!(why.what().contains(word), "{}", why.what());
        }
    }
}
