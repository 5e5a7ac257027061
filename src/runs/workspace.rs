//! What the workspace of a tenant allows its runs. Pure.
//!
//! Checked until a run starts. A run that has started goes on, whatever becomes of its workspace.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::prepare::Prepared;
use crate::{
    api::{OperationRun, Reason, Workspace, operation_run::SchedulerKind, result::truncate},
    kernel::refusal::Refusal,
    operations::{self, Operation},
};
use kube::ResourceExt;

/// Refuses a run that the workspace does not allow. `ahead` is the number of runs of the tenant that
/// are not completed and have started or are older, or the quota if there are more.
///
/// Checks and maintenance that the operator starts for a repository are always allowed: no tenant
/// asked for them, and without them nothing else would run.
pub fn check(
    run: &OperationRun,
    workspace: &Workspace,
    prepared: &Prepared,
    ahead: impl FnOnce(usize) -> usize,
) -> Result<(), Refusal> {
    if run.spec.scheduled_by.as_ref().is_some_and(|by| by.kind == SchedulerKind::BackupRepository) {
        return Ok(());
    }
    let (name, spec) = (workspace.name_any(), &workspace.spec);
    let operation_type = &run.spec.operation_type;
    if !spec.allows(operation_type) {
        return Err(Refusal::new(
            Reason::NotAllowedByWorkspace,
            format!(
                "run another type, or ask the team of workspace {name} for it: its spec.allowedTypes has no {operation_type}, but {}",
                truncate(&spec.allowed_types.as_deref().unwrap_or_default().join(", "), 600)
            ),
        ));
    }
    if let Some(most) = spec.quotas.open_runs.and_then(|most| usize::try_from(most).ok())
        && ahead(most) >= most
    {
        let namespace = run.namespace().unwrap_or_default();
        return Err(Refusal::new(
            Reason::WorkspaceQuota,
            format!(
                "workspace {name} allows {most} runs that are not completed (spec.quotas.openRuns), and namespace {namespace} has as many that started or are older: wait for one to end, or cancel one, then create a new run"
            ),
        ));
    }
    let stores = operations::of_executor(&prepared.operation_type.spec.executor).is_some_and(Operation::stores);
    let Some(repository) = prepared.repository.as_deref().filter(|_| stores) else { return Ok(()) };
    let bytes = repository.status.as_ref().and_then(|status| status.bytes);
    match (spec.quotas.repository_bytes, bytes) {
        (Some(most), Some(bytes)) if bytes >= most => {
            let repository = repository.name_any();
            Err(Refusal::new(
                Reason::WorkspaceQuota,
                format!(
                    "workspace {name} allows {most} bytes in a repository (spec.quotas.repositoryBytes), and repository {repository} has {bytes}: delete backup sets and run repository.maintain, or ask for more"
                ),
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{Inputs, identity::Identity},
        runs::prepare::Prepared,
    };
    use serde_json::{Map, Value, json};
    use std::sync::Arc;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).expect("an object")
    }

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn workspace(spec: Value) -> Workspace {
        read(
            json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace", "metadata": {"name": "shop"}, "spec": spec}),
        )
    }

    fn run(operation_type: &str, scheduled_by: Value) -> OperationRun {
        let mut spec = json!({"type": operation_type});
        if !scheduled_by.is_null() {
            spec["scheduledBy"] = scheduled_by;
        }
        read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
            "metadata": {"name": "a", "namespace": "acme"}, "spec": spec}))
    }

    fn prepared(command: &str, bytes: Option<i64>) -> Prepared {
        let whole = |kind: &str, spec: Value, status: Value| {
            json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": kind, "metadata": {"name": "main"},
                "spec": spec, "status": status})
        };
        let storage =
            json!({"storage": {"persistentVolumeClaim": {"claimName": "a"}}, "passwordSecret": {"name": "a"}});
        Prepared {
            tenant_uid: "tenant".to_owned(),
            operation_type: Arc::new(read(whole(
                "OperationType",
                json!({"executor": {"worker": {"command": [command]}}}),
                json!({}),
            ))),
            identity: Identity::new("tenant", command, None, "account", &Map::new(), None),
            inputs: Inputs::default(),
            account: "tenantatlas-worker".to_owned(),
            repository: Some(Arc::new(read(whole("BackupRepository", storage, json!({"bytes": bytes}))))),
        }
    }

    fn refused(spec: Value, run: &OperationRun, prepared: &Prepared, older: usize) -> Option<Refusal> {
        check(run, &workspace(spec), prepared, |most| older.min(most)).err()
    }

    #[test]
    fn a_type_that_is_not_allowed_is_refused_with_the_workspace_and_what_it_allows() {
        let (only, capture) = (json!({"allowedTypes": ["restore.*", "a.b"]}), prepared("capture", None));
        let refusal = refused(only.clone(), &run("backup.capture", Value::Null), &capture, 0).expect("refused");
        assert_eq!(refusal.reason, Reason::NotAllowedByWorkspace);
        for words in ["workspace shop", "no backup.capture", "restore.*, a.b"] {
            assert!(refusal.message.contains(words), "{}", refusal.message);
        }
        assert_eq!(refused(only, &run("restore.apply", Value::Null), &capture, 0), None);
        assert_eq!(refused(json!({}), &run("backup.capture", Value::Null), &capture, 1000), None);
    }

    #[test]
    fn the_oldest_open_runs_have_room_and_the_next_is_refused() {
        let quota = json!({"quotas": {"openRuns": 3}});
        let (any, capture) = (run("a.b", Value::Null), prepared("capture", None));
        assert_eq!(refused(quota.clone(), &any, &capture, 2), None);
        for older in [3, 4000] {
            let refusal = refused(quota.clone(), &any, &capture, older).expect("refused");
            assert_eq!(refusal.reason, Reason::WorkspaceQuota);
            assert!(
                refusal.message.contains("allows 3 runs") && refusal.message.contains("acme"),
                "{}",
                refusal.message
            );
        }
    }

    #[test]
    fn nothing_more_is_captured_into_a_full_repository_and_everything_else_goes_on() {
        let quota = json!({"quotas": {"repositoryBytes": 100}});
        let any = run("a.b", Value::Null);
        for command in ["capture", "capture-item", "bulk-capture", "inventory"] {
            assert_eq!(refused(quota.clone(), &any, &prepared(command, Some(99)), 0), None);
            assert_eq!(refused(quota.clone(), &any, &prepared(command, None), 0), None);
            let refusal = refused(quota.clone(), &any, &prepared(command, Some(100)), 0).expect("refused");
            assert!(refusal.message.contains("repository main has 100"), "{}", refusal.message);
        }
        for command in ["check", "maintain", "preview", "restore", "compare", "history"] {
            assert_eq!(refused(quota.clone(), &any, &prepared(command, Some(100)), 0), None, "{command}");
        }
    }

    #[test]
    fn what_the_operator_starts_for_a_repository_has_no_limits() {
        let by = |kind: &str| json!({"kind": kind, "name": "main", "uid": "u", "tick": "2026-01-01T00:00:00Z"});
        let limits = json!({"allowedTypes": ["a.b"], "quotas": {"openRuns": 1}});
        let check = prepared("check", None);
        assert_eq!(refused(limits.clone(), &run("repository.check", by("BackupRepository")), &check, 9), None);
        assert!(refused(limits, &run("repository.check", by("BackupSchedule")), &check, 9).is_some());
    }
}
