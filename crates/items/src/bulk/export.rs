//! What of an object is exported: what its author wrote, so that it can be applied elsewhere. Pure.

use super::{expect_objects, invalid};
use crate::{
    api::{
        BulkOperationRunSpec, bulk_operation_run::BulkAction, execution::ACCOUNTS, item::ItemId, reason::bulk as reason,
    },
    decide::is_being_deleted,
    eligible::Ineligible,
    excluded::{Excluded, ExclusionRules},
    sanitize::sanitize,
    semantic::Status,
    words::is_secret,
};
use serde_json::Value;

use super::Left;

/// What `kubectl apply` wrote of an object that it applied: it may be older than the object.
const APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Fails if the objects cannot be exported, whatever they are.
pub fn expect_exportable(spec: &BulkOperationRunSpec) -> Result<(), Ineligible> {
    if spec.action != BulkAction::Export {
        return Err(invalid(format!("spec.action: {} exports nothing", spec.action.as_str())));
    }
    expect_objects(spec)?;
    if is_secret(&ItemId::new(spec.resource.group_kind(), "")) {
        return Err(invalid(
            "spec.resource: Secrets are not exported, because whoever reads ConfigMaps would read them: use action: capture, whose repository is encrypted",
        ));
    }
    if spec.options.is_some() {
        return Err(invalid("spec.options: export takes none, leave them out"));
    }
    Ok(())
}

/// An object as it is exported, or why it is left out.
pub fn exported(rules: &ExclusionRules, item: &ItemId, mut live: Value, status: Status) -> Result<Value, Left> {
    let of_ours = item.kind.group.is_empty() && item.kind.kind == "ServiceAccount" && ACCOUNTS.contains(&&*item.name);
    let excluded =
        if of_ours { Some(Excluded::OperatorManaged) } else { rules.excludes(&item.kind, &item.name, &live) };
    // What has ended is exported: nothing is run again by that.
    if let Some(excluded) = excluded.filter(|excluded| *excluded != Excluded::Finished) {
        return Err(Left::skipped(excluded.code(), excluded.why()));
    }
    if is_secret(item) || live["kind"] == "Secret" && live["apiVersion"] == "v1" {
        return Err(Left::failed(reason::FORBIDDEN, "a Secret is never exported: use action: capture"));
    }
    if is_being_deleted(&live) {
        return Err(Left::skipped(reason::BEING_DELETED, "it is being deleted"));
    }
    sanitize(&mut live, status);
    if let Some(metadata) = live.get_mut("metadata").and_then(Value::as_object_mut) {
        // Owners are named by uids of this cluster, and the namespace is that where it is applied.
        metadata.remove("ownerReferences");
        metadata.remove("namespace");
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let is_empty = annotations.is_some_and(|annotations| {
            annotations.remove(APPLIED);
            annotations.is_empty()
        });
        if is_empty {
            metadata.remove("annotations");
        }
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        Reason,
        item::GroupKind,
        labels::{MANAGED_BY, MANAGER},
    };
    use serde_json::json;

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn refused(fields: Value) -> String {
        let mut spec = json!({"resource": {"kind": "ConfigMap"}, "action": "export", "items": ["a"]});
        spec.as_object_mut().expect("an object").extend(fields.as_object().expect("an object").clone());
        let spec: BulkOperationRunSpec = serde_json::from_value(spec).expect("a spec");
        let refused = expect_exportable(&spec).expect_err("refused");
        assert_eq!(refused.reason, Reason::InvalidBulkOperation);
        refused.message
    }

    #[test]
    fn secrets_and_records_of_the_operator_are_not_exported_and_there_are_no_options() {
        let plain = json!({"resource": {"group": "example.com", "kind": "Secret"}, "action": "export", "items": ["a"]});
        let plain: BulkOperationRunSpec = serde_json::from_value(plain).expect("a spec");
        assert_eq!(expect_exportable(&plain), Ok(()), "another kind of this name");
        for (fields, words) in [
            (json!({"resource": {"kind": "Secret"}}), "use action: capture"),
            (json!({"resource": {"group": "tenantatlas.io", "kind": "BackupSet"}}), "no bulk operation works on"),
            (json!({"options": {"repository": "main"}}), "export takes none"),
            (json!({"action": "restart"}), "exports nothing"),
        ] {
            let message = refused(fields.clone());
            assert!(message.contains(words), "{fields}: {message}");
        }
    }

    fn export(kind: &str, object: &Value) -> Result<Value, Left> {
        let item = ItemId::new(GroupKind::new("", kind), object["metadata"]["name"].as_str().unwrap_or_default());
        exported(&ExclusionRules::default(), &item, object.clone(), Status::Observed)
    }

    #[test]
    fn what_is_exported_has_nothing_of_the_server_of_the_owner_or_of_the_place() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "status": {"x": 1},
            "metadata": {"name": "a", "namespace": "acme", "uid": "u", "resourceVersion": "7", "generation": 3,
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}], "finalizers": ["example.com/a"],
                "labels": {"app": "web"}, "annotations": {APPLIED: "{}"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "0"}]}});
        let expected = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"},
            "metadata": {"name": "a", "labels": {"app": "web"}}});
        assert_eq!(export("ConfigMap", &object), Ok(expected));
    }

    #[test]
    fn what_the_cluster_or_the_operator_makes_and_what_goes_is_left_out() {
        let code = |kind: &str, metadata: Value| {
            let object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata});
            export(kind, &object).map_err(|left| (left.remark.code, left.skipped))
        };
        let left = |code: &str| Err((code.to_owned(), true));
        assert_eq!(code("ConfigMap", json!({"name": "kube-root-ca.crt"})), left("ClusterManaged"));
        assert_eq!(code("ConfigMap", json!({"name": "a", "labels": {MANAGED_BY: MANAGER}})), left("OperatorManaged"));
        assert_eq!(code("ServiceAccount", json!({"name": "tenantatlas-worker"})), left("OperatorManaged"));
        let going = json!({"name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert_eq!(code("ConfigMap", going), left("BeingDeleted"));
        assert_eq!(code("Secret", json!({"name": "a"})), Err(("Forbidden".to_owned(), false)));
        let ended =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "status": {"phase": "Failed"}});
        assert!(export("Pod", &ended).is_ok());
    }
}
