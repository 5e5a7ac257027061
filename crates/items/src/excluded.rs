//! What is never restored, and why: objects that a capture leaves out, and objects that would not
//! be the same once recreated.
//!
//! A capture already leaves most of them out (`docs/guides/what-is-captured.md`). A restore checks
//! again, because a repository is untrusted, and because a kind may be captured on request. The
//! guide `docs/guides/what-is-restored.md` lists the same kinds and reasons (checked by a test).

use crate::{
    api::{
        GROUP,
        item::GroupKind,
        labels::{MANAGED_BY, MANAGER},
    },
    kinds::without_state,
};
use serde_json::Value;
use std::collections::BTreeSet;
use strum::{EnumIter, IntoStaticStr};

/// Why the operator's own kinds are never restored.
const OUR_RECORDS: &str = "the operator's own records: restored ones would claim what never happened";

/// Why a kind is never restored, or `None` if it may be.
#[must_use]
pub fn excluded_kind(kind: &GroupKind) -> Option<&'static str> {
    if kind.group == GROUP { Some(OUR_RECORDS) } else { without_state(kind) }
}

/// Why an object is not restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, EnumIter)]
pub enum Excluded {
    /// The kind is never restored.
    #[strum(serialize = "NeverRestored")]
    Kind(&'static str),
    /// The cluster creates the object in every namespace.
    ClusterManaged,
    /// The operator creates the object in every tenant.
    OperatorManaged,
    /// A BackupRepository of the tenant references the Secret.
    RepositorySecret,
    /// A controller maintains the Endpoints or EndpointSlice.
    ManagedEndpoints,
    /// The Job or Pod has ended.
    Finished,
}

impl Excluded {
    /// The stable reason code.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// The explanation for people.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Kind(why) => why,
            Self::ClusterManaged => "the cluster puts it into every namespace",
            Self::OperatorManaged => "the operator makes it in every tenant",
            Self::RepositorySecret => {
                "a BackupRepository of this namespace names it: what comes out of a repository must not replace its key"
            }
            Self::ManagedEndpoints => "made from a Service and its Pods",
            Self::Finished => "it has ended: to make it again would be to run it again",
        }
    }
}

/// Facts about the tenant.
#[derive(Clone, Debug, Default)]
pub struct ExclusionRules {
    /// Names of the Secrets that the tenant's repositories reference.
    pub repository_secrets: BTreeSet<String>,
}

impl ExclusionRules {
    /// Why a stored object is not restored, or `None` if it may be.
    #[must_use]
    pub fn excludes(&self, kind: &GroupKind, name: &str, object: &Value) -> Option<Excluded> {
        if let Some(why) = excluded_kind(kind) {
            return Some(Excluded::Kind(why));
        }
        let is = |group: &str, expected: &str| kind.group == group && kind.kind == expected;
        let metadata = &object["metadata"];
        if is("", "Secret") && self.repository_secrets.contains(name) {
            Some(Excluded::RepositorySecret)
        } else if metadata["labels"][MANAGED_BY] == MANAGER {
            Some(Excluded::OperatorManaged)
        } else if is("", "ConfigMap") && name == "kube-root-ca.crt" {
            Some(Excluded::ClusterManaged)
        } else if has_endpoints_controller(kind, |field| object.get(field)) {
            Some(Excluded::ManagedEndpoints)
        } else if (is("batch", "Job") || is("", "Pod")) && has_ended(&object["status"]) {
            Some(Excluded::Finished)
        } else {
            None
        }
    }
}

/// Values of `endpointslice.kubernetes.io/managed-by` that the cluster's own controllers set.
const SLICE_CONTROLLERS: [&str; 2] = ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"];

/// Whether an object is Endpoints, or an EndpointSlice, that a controller maintains and recreates.
/// `field` returns the object's fields.
pub fn has_endpoints_controller<'a>(kind: &GroupKind, field: impl Fn(&str) -> Option<&'a Value>) -> bool {
    let metadata = field("metadata");
    let marked = |map: &str, key: &str| metadata.and_then(|metadata| metadata.get(map)?.get(key)?.as_str());
    match (kind.group.as_str(), kind.kind.as_str()) {
        // Endpoints of a Service with a selector and no Pods are empty, and older clusters have no
        // other mark.
        ("", "Endpoints") => {
            marked("labels", "endpoints.kubernetes.io/managed-by").is_some()
                || marked("annotations", "endpoints.kubernetes.io/last-change-trigger-time").is_some()
                || field("subsets").and_then(Value::as_array).is_none_or(Vec::is_empty)
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            has_controller(metadata)
                || marked("labels", "endpointslice.kubernetes.io/managed-by")
                    .is_some_and(|by| SLICE_CONTROLLERS.contains(&by))
        }
        _ => false,
    }
}

/// Whether an object's metadata has a controller among its owners.
#[must_use]
pub fn has_controller(metadata: Option<&Value>) -> bool {
    let owners = metadata.and_then(|metadata| metadata.get("ownerReferences")).and_then(Value::as_array);
    owners.into_iter().flatten().any(|owner| owner.get("controller") == Some(&Value::Bool(true)))
}

/// Conditions of a Job whose outcome is decided, although its Pods may still be terminating.
const DECIDED: [&str; 4] = ["Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"];

fn has_ended(status: &Value) -> bool {
    let phase = status["phase"].as_str();
    let conditions = status["conditions"].as_array().into_iter().flatten();
    matches!(phase, Some("Succeeded" | "Failed"))
        || conditions.into_iter().any(|condition| {
            condition["type"].as_str().is_some_and(|kind| DECIDED.contains(&kind)) && condition["status"] == "True"
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{WITHOUT_STATE, shown};
    use serde_json::json;
    use strum::IntoEnumIterator;

    fn excluded(group: &str, kind: &str, object: &Value) -> Option<&'static str> {
        let rules = ExclusionRules { repository_secrets: BTreeSet::from(["backup-password".to_owned()]) };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        rules.excludes(&GroupKind::new(group, kind), name, object).map(Excluded::code)
    }

    #[test]
    fn what_the_cluster_and_the_operator_make_is_not_restored() {
        let named = |name: &str| json!({"metadata": {"name": name}});
        assert_eq!(excluded(GROUP, "OperationRun", &named("a")), Some("NeverRestored"));
        assert_eq!(excluded("metrics.k8s.io", "PodMetrics", &named("a")), Some("NeverRestored"));
        assert_eq!(excluded("", "ConfigMap", &named("kube-root-ca.crt")), Some("ClusterManaged"));
        assert_eq!(excluded("", "ConfigMap", &named("mine")), None);
        let token = json!({"metadata": {"name": "a"}, "type": "kubernetes.io/service-account-token"});
        assert_eq!(excluded("", "Secret", &token), None, "the cluster fills in the token anew");
        let ours = json!({"metadata": {"name": "a", "labels": {MANAGED_BY: MANAGER}}});
        assert_eq!(excluded("", "ServiceAccount", &ours), Some("OperatorManaged"));
    }

    #[test]
    fn the_secrets_of_a_repository_are_not_replaced_by_what_it_holds() {
        let password = json!({"metadata": {"name": "backup-password"}});
        assert_eq!(excluded("", "Secret", &password), Some("RepositorySecret"));
        assert_eq!(excluded("", "ConfigMap", &password), None);
    }

    #[test]
    fn what_has_ended_is_not_run_again() {
        for (group, kind, status, expected) in [
            ("batch", "Job", json!({"conditions": [{"type": "Complete", "status": "True"}]}), Some("Finished")),
            ("batch", "Job", json!({"conditions": [{"type": "Failed", "status": "True"}]}), Some("Finished")),
            (
                "batch",
                "Job",
                json!({"conditions": [{"type": "SuccessCriteriaMet", "status": "True"}]}),
                Some("Finished"),
            ),
            ("batch", "Job", json!({"conditions": [{"type": "FailureTarget", "status": "True"}]}), Some("Finished")),
            ("batch", "Job", json!({"conditions": [{"type": "FailureTarget", "status": "False"}]}), None),
            ("batch", "Job", json!({"conditions": [{"type": "Suspended", "status": "True"}]}), None),
            ("batch", "Job", json!({"active": 1}), None),
            ("", "Pod", json!({"phase": "Succeeded"}), Some("Finished")),
            ("", "Pod", json!({"phase": "Running"}), None),
            ("example.com", "Job", json!({"phase": "Failed"}), None),
        ] {
            let object = json!({"metadata": {"name": "a"}, "status": status});
            assert_eq!(excluded(group, kind, &object), expected, "{kind} with {status}");
        }
    }

    #[test]
    fn endpoints_that_a_person_wrote_are_restored() {
        let subsets = json!([{"addresses": [{"ip": "192.0.2.1"}]}]);
        assert_eq!(excluded("", "Endpoints", &json!({"metadata": {"name": "db"}, "subsets": subsets})), None);
        let managed = json!({"metadata": {"name": "db", "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "t"}}, "subsets": subsets});
        assert_eq!(excluded("", "Endpoints", &managed), Some("ManagedEndpoints"));
    }

    #[test]
    fn the_guide_names_every_kind_and_every_reason() {
        let guide = include_str!("../../../docs/guides/what-is-restored.md");
        for (group, kind, why) in WITHOUT_STATE.into_iter().chain([(GROUP, "*", OUR_RECORDS)]) {
            let name = shown(group, kind);
            assert!(guide.contains(&format!("`{name}`")), "the guide does not name {name}");
            assert!(guide.contains(why), "the guide does not say why {name} is not restored: {why}");
        }
        for excluded in Excluded::iter() {
            assert!(guide.contains(&format!("`{}`", excluded.code())), "the guide does not name {}", excluded.code());
        }
    }

    #[test]
    fn endpoints_and_slices_that_a_controller_keeps_are_not_restored() {
        let subsets = json!([{"addresses": [{"ip": "192.0.2.1"}]}]);
        let labels = |key: &str, by: &str| json!({"metadata": {"name": "db", "labels": {key: by}}, "subsets": subsets});
        let key = "endpoints.kubernetes.io/managed-by";
        assert_eq!(excluded("", "Endpoints", &labels(key, "endpoint-controller")), Some("ManagedEndpoints"));
        for empty in [json!({"metadata": {"name": "db"}}), json!({"metadata": {"name": "db"}, "subsets": []})] {
            assert_eq!(excluded("", "Endpoints", &empty), Some("ManagedEndpoints"), "{empty}");
        }
        let key = "endpointslice.kubernetes.io/managed-by";
        for (by, expected) in [
            ("endpointslice-controller.k8s.io", Some("ManagedEndpoints")),
            ("endpointslicemirroring-controller.k8s.io", Some("ManagedEndpoints")),
            ("staff", None),
        ] {
            assert_eq!(excluded("discovery.k8s.io", "EndpointSlice", &labels(key, by)), expected, "{by}");
        }
        for (controller, expected) in [(true, Some("ManagedEndpoints")), (false, None)] {
            let slice = json!({"metadata": {"name": "db", "ownerReferences": [{"controller": controller}]}});
            assert_eq!(excluded("discovery.k8s.io", "EndpointSlice", &slice), expected);
        }
        assert_eq!(excluded("example.com", "Endpoints", &labels(key, "endpointslice-controller.k8s.io")), None);
    }

    #[test]
    fn only_the_core_group_s_objects_are_the_cluster_s() {
        let named = |name: &str| json!({"metadata": {"name": name}});
        assert_eq!(excluded("example.com", "Secret", &named("backup-password")), None);
        assert_eq!(excluded("example.com", "ConfigMap", &named("kube-root-ca.crt")), None);
        assert_eq!(excluded("", "Secret", &named("kube-root-ca.crt")), None);
        let others = json!({"metadata": {"name": "a", "labels": {MANAGED_BY: "helm"}}});
        assert_eq!(excluded("", "ConfigMap", &others), None);
        let failed = json!({"metadata": {"name": "a"}, "status": {"phase": "Failed"}});
        assert_eq!((excluded("", "Pod", &failed), excluded("", "Job", &failed)), (Some("Finished"), None));
    }

    #[test]
    fn a_kind_that_is_never_restored_says_why_and_so_does_each_other_reason() {
        assert_eq!(Excluded::Kind("because").why(), "because");
        let mut said: Vec<&str> = Excluded::iter().map(Excluded::why).collect();
        said.sort_unstable();
        said.dedup();
        assert_eq!(said.len(), Excluded::iter().count());
    }
}
