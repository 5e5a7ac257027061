//! What is never captured, or only on request, and why. The guide `docs/guides/what-is-captured.md`
//! says the same (checked by a test).

use crate::{
    api::{
        GROUP,
        item::GroupKind,
        labels::{EXCLUDE, MANAGED_BY, MANAGER, VELERO_EXCLUDE},
    },
    excluded::{has_controller, has_endpoints_controller},
    kinds::{group_without_state, without_state},
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use strum::{IntoStaticStr, VariantArray};

/// Why a kind is left out as a whole unless requested by name, or `None` if it is captured by
/// default. Objects of such a kind are not even listed.
#[must_use]
pub fn skipped_kind(kind: &GroupKind) -> Option<&'static str> {
    without_state(kind)
}

/// Whether a whole group is left out by default. A failed discovery of such a group does not
/// matter.
#[must_use]
pub fn skipped_group(group: &str) -> bool {
    group == GROUP || group_without_state(group)
}

/// Whether a kind is one of the operator's own. These kinds are never captured, even on request: a
/// restored run or backup set would claim what never happened.
#[must_use]
pub fn is_ours(kind: &GroupKind) -> bool {
    kind.group == GROUP
}

/// Why one object of a captured kind is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
pub enum SkipReason {
    /// A Pod, ReplicaSet or Job that a controller made, and recreates from what is captured.
    ControllerOwned,
    /// Endpoints or an EndpointSlice that a controller maintains, from a Service and its Pods.
    ManagedEndpoints,
    /// The cluster creates the object in every namespace.
    ClusterManaged,
    /// The operator creates the object in every tenant.
    OperatorManaged,
    /// A Secret that opens the repository: a key is not stored in what it opens.
    RepositorySecret,
    /// The object is labelled for exclusion from backups.
    ExcludedByLabel,
    /// The object is being deleted.
    BeingDeleted,
}

impl SkipReason {
    /// The stable code: the variant's own name.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }

    /// The explanation for people, if each such object is reported because a user might miss it.
    /// The other reasons apply to objects that are recreated automatically; those objects are only
    /// counted.
    #[must_use]
    pub fn told(self) -> Option<&'static str> {
        match self {
            Self::RepositorySecret => {
                Some("keep a copy elsewhere: it opens the repository, and a key is not kept in what it opens")
            }
            Self::ExcludedByLabel => Some("it is labelled exclude-from-backup: remove the label to capture it"),
            Self::BeingDeleted => Some("it is being deleted"),
            Self::ControllerOwned | Self::ManagedEndpoints | Self::ClusterManaged | Self::OperatorManaged => None,
        }
    }
}

/// Decides about single objects.
#[derive(Clone, Debug, Default)]
pub struct ItemRules {
    /// Names of the Secrets that open the repository; in a restore, those of all repositories of
    /// the tenant.
    pub repository_secrets: BTreeSet<String>,
}

impl ItemRules {
    /// Why an object is left out, or `None` if it is captured.
    #[must_use]
    pub fn skips(&self, kind: &GroupKind, name: &str, object: &Map<String, Value>) -> Option<SkipReason> {
        let metadata = object.get("metadata");
        let label = |key: &str| metadata?.get("labels")?.get(key)?.as_str();
        let is = |group: &str, expected: &str| kind.group == group && kind.kind == expected;
        // First the rule that must not depend on anything the author can set.
        if is("", "Secret") && self.repository_secrets.contains(name) {
            return Some(SkipReason::RepositorySecret);
        }
        if [EXCLUDE, VELERO_EXCLUDE].iter().any(|key| label(key) == Some("true")) {
            return Some(SkipReason::ExcludedByLabel);
        }
        if label(MANAGED_BY) == Some(MANAGER) {
            return Some(SkipReason::OperatorManaged);
        }
        if is("", "ConfigMap") && name == "kube-root-ca.crt" {
            return Some(SkipReason::ClusterManaged);
        }
        if has_endpoints_controller(kind, |field| object.get(field)) {
            return Some(SkipReason::ManagedEndpoints);
        }
        if (is("", "Pod") || is("apps", "ReplicaSet") || is("batch", "Job")) && has_controller(metadata) {
            return Some(SkipReason::ControllerOwned);
        }
        let deleted = metadata.and_then(|metadata| metadata.get("deletionTimestamp")).is_some_and(|at| !at.is_null());
        deleted.then_some(SkipReason::BeingDeleted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::{WITHOUT_STATE, shown};
    use serde_json::json;

    fn skips(group: &str, kind: &str, object: &Value) -> Option<SkipReason> {
        let rules = ItemRules { repository_secrets: BTreeSet::from(["backup-password".to_owned()]) };
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        rules.skips(&GroupKind::new(group, kind), name, object.as_object().expect("an object"))
    }

    fn owned(controller: bool) -> Value {
        json!({"metadata": {"name": "a", "ownerReferences": [{"kind": "X", "controller": controller}]}})
    }

    #[test]
    fn what_a_controller_makes_again_is_left_out_and_what_a_person_made_is_not() {
        for (group, kind) in [("", "Pod"), ("apps", "ReplicaSet"), ("batch", "Job")] {
            assert_eq!(skips(group, kind, &owned(true)), Some(SkipReason::ControllerOwned));
            assert_eq!(skips(group, kind, &owned(false)), None);
            assert_eq!(skips(group, kind, &json!({"metadata": {"name": "a"}})), None);
        }
        assert_eq!(skips("", "ConfigMap", &owned(true)), None);
        assert_eq!(skips("example.com", "Job", &owned(true)), None);
    }

    #[test]
    fn the_repository_s_secrets_are_left_out_whatever_their_labels_say() {
        let secret = json!({"metadata": {"name": "backup-password", "labels": {EXCLUDE: "true"}}});
        assert_eq!(skips("", "Secret", &secret), Some(SkipReason::RepositorySecret));
        assert_eq!(skips("", "ConfigMap", &json!({"metadata": {"name": "backup-password"}})), None);
        assert_eq!(skips("", "Secret", &json!({"metadata": {"name": "other"}})), None);
    }

    #[test]
    fn what_the_cluster_or_the_operator_makes_is_left_out() {
        let token = json!({"metadata": {"name": "a"}, "type": "kubernetes.io/service-account-token"});
        assert_eq!(skips("", "Secret", &token), None, "a person made it");
        assert_eq!(
            skips("", "ConfigMap", &json!({"metadata": {"name": "kube-root-ca.crt"}})),
            Some(SkipReason::ClusterManaged)
        );
        let ours = json!({"metadata": {"name": "tenantatlas-worker", "labels": {MANAGED_BY: "tenantatlas"}}});
        assert_eq!(skips("", "ServiceAccount", &ours), Some(SkipReason::OperatorManaged));
        let helm = json!({"metadata": {"name": "a", "labels": {MANAGED_BY: "Helm"}}});
        assert_eq!(skips("", "ServiceAccount", &helm), None);
        assert_eq!(skips("", "ServiceAccount", &json!({"metadata": {"name": "default"}})), None);
    }

    #[test]
    fn endpoints_that_a_controller_keeps_are_left_out_and_what_a_person_wrote_is_not() {
        let by_hand = json!({"metadata": {"name": "db"}, "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]});
        assert_eq!(skips("", "Endpoints", &by_hand), None);
        let kept = json!({"metadata": {"name": "db", "labels": {"endpoints.kubernetes.io/managed-by": "endpoint-controller"}},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}]}]});
        assert_eq!(skips("", "Endpoints", &kept), Some(SkipReason::ManagedEndpoints));
        let slice = |labels: &Value, owners: &Value| {
            let metadata = json!({"name": "db-x", "labels": labels, "ownerReferences": owners});
            skips("discovery.k8s.io", "EndpointSlice", &json!({"metadata": metadata, "endpoints": []}))
        };
        let managed_by = "endpointslice.kubernetes.io/managed-by";
        for controller in ["endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io"] {
            assert_eq!(slice(&json!({managed_by: controller}), &json!([])), Some(SkipReason::ManagedEndpoints));
        }
        assert_eq!(
            slice(&json!({}), &json!([{"kind": "Service", "controller": true}])),
            Some(SkipReason::ManagedEndpoints)
        );
        assert_eq!(slice(&json!({managed_by: "cluster-admins"}), &json!([])), None);
        assert_eq!(slice(&json!({"kubernetes.io/service-name": "db"}), &json!(null)), None);
    }

    #[test]
    fn an_opt_out_label_counts_only_with_the_value_true() {
        for key in [EXCLUDE, VELERO_EXCLUDE] {
            let object = |value: &str| json!({"metadata": {"name": "a", "labels": {key: value}}});
            assert_eq!(skips("", "ConfigMap", &object("true")), Some(SkipReason::ExcludedByLabel));
            assert_eq!(skips("", "ConfigMap", &object("false")), None);
        }
    }

    #[test]
    fn what_is_being_deleted_is_left_out() {
        let object = json!({"metadata": {"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(skips("", "ConfigMap", &object), Some(SkipReason::BeingDeleted));
        assert_eq!(skips("", "ConfigMap", &json!({"metadata": {"name": "a", "deletionTimestamp": null}})), None);
    }

    #[test]
    fn an_object_of_any_shape_is_decided_about() {
        for metadata in
            [json!(null), json!([]), json!({"labels": 1, "ownerReferences": {}}), json!({"labels": {EXCLUDE: true}})]
        {
            assert_eq!(skips("", "Pod", &json!({ "metadata": metadata })), None);
        }
    }

    #[test]
    fn the_guide_names_every_kind_and_every_reason() {
        let guide = include_str!("../../../docs/guides/what-is-captured.md");
        for (group, kind, why) in WITHOUT_STATE {
            let name = shown(group, kind);
            assert!(guide.contains(&format!("`{name}`")), "the guide does not name {name}");
            assert!(guide.contains(why), "the guide does not say why {name} is left out: {why}");
        }
        for reason in SkipReason::VARIANTS {
            assert!(guide.contains(&format!("`{}`", reason.code())), "the guide does not name {}", reason.code());
        }
    }

    #[test]
    fn a_kind_is_left_out_if_it_has_no_state_and_never_captured_if_it_is_the_operator_s() {
        let kind = |group: &str, kind: &str| GroupKind::new(group, kind);
        assert_eq!(skipped_kind(&kind("", "Event")), Some("a log of what happened; it expires within hours"));
        assert_eq!(skipped_kind(&kind("", "Secret")), None);
        assert!(is_ours(&kind(GROUP, "OperationRun")) && !is_ours(&kind("", "OperationRun")));
        assert!(skipped_group(GROUP) && skipped_group("metrics.k8s.io") && !skipped_group("apps"));
    }

    #[test]
    fn objects_that_somebody_might_miss_are_told_and_those_that_come_back_are_counted() {
        let told: Vec<&str> = SkipReason::VARIANTS.iter().filter_map(|reason| reason.told()).collect();
        assert!(told.len() == 3 && told.iter().any(|why| why.contains("remove the label")), "{told:?}");
        assert!(SkipReason::RepositorySecret.told().is_some_and(|why| why.contains("keep a copy")));
        assert_eq!(SkipReason::BeingDeleted.told(), Some("it is being deleted"));
        assert_eq!(SkipReason::ManagedEndpoints.told(), None);
        assert_eq!(SkipReason::ExcludedByLabel.code(), "ExcludedByLabel");
    }
}
