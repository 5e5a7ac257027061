//! Drops what no decision reads of each kind, so no cache holds it. Pure.
//!
//! A field that is dropped here is empty in every cached object: look here first.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{
        Approval, BackupRepository, BackupSchedule, BulkOperationRun, BulkOperationRunStatus, Finding, ImportedRun,
        Inputs, OperationType, Phase, RestoreRun, RestoreRunStatus, Workspace, WorkspaceRun,
        bulk_operation_run::BulkOptions, execution::ACCOUNTS, finding::Current, workspace_run::RestoreTemplate,
    },
    kernel::{
        packed::Dictionary,
        slim::{Slim, dictionary_of, drop_bookkeeping},
    },
    runs::scheduled::parent,
};
use k8s_openapi::api::{
    core::v1::{Namespace, ServiceAccount},
    rbac::v1::RoleBinding,
};
use serde_json::{Value, json};
use std::sync::LazyLock;

static IMPORTED: LazyLock<Option<Dictionary>> = LazyLock::new(|| dictionary_of::<ImportedRun>(imported()));
static FINDINGS: LazyLock<Option<Dictionary>> = LazyLock::new(|| dictionary_of::<Finding>(findings()));

impl Slim for OperationType {
    /// Types are read in every reconcile, and written only by the administrators of the cluster.
    const PACKED: bool = false;
}

impl Slim for Workspace {
    /// Workspaces are read in every reconcile of a run that has not started, and written only by the
    /// administrators of the cluster.
    const PACKED: bool = false;
}

impl Slim for Approval {
    /// Why it was given is for readers.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        (self.metadata.labels, self.metadata.annotations) = (None, None);
        self.spec.note = None;
    }
}

impl Slim for BackupRepository {}
impl Slim for BackupSchedule {}
impl Slim for Namespace {}

impl Slim for ServiceAccount {
    fn may_be_ours(name: &str) -> bool {
        ACCOUNTS.contains(&name)
    }
}

impl Slim for RoleBinding {
    fn may_be_ours(name: &str) -> bool {
        ACCOUNTS.contains(&name)
    }
}

impl Slim for WorkspaceRun {
    /// Keeps, of a completed workspace run, what another one that repeats, applies or undoes it depends
    /// on, and its end.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        let Some(status) = self.status.as_mut().filter(|status| status.phase == Phase::Completed) else { return };
        (status.tenants, status.refused, status.waves) = (Vec::new(), Vec::new(), Vec::new());
        (status.message, status.conditions) = (None, Vec::new());
        if let Some(operation) = &mut self.spec.operation {
            operation.inputs = Inputs::default();
        }
        if let Some(bulk) = &mut self.spec.bulk {
            (bulk.items, bulk.label_selector, bulk.options) = (Vec::new(), None, None);
        }
        if let Some(restore) = &mut self.spec.restore {
            let backup_set = std::mem::take(&mut restore.backup_set);
            *restore = RestoreTemplate { backup_set, ..RestoreTemplate::default() };
        }
        self.spec.requested_by = None;
    }
}

impl Slim for RestoreRun {
    /// Keeps, of a completed restore, what another restore that names it depends on, and the workspace
    /// run that it is for.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        let is_child = parent(self).is_some();
        let Some(status) = self.status.as_ref().filter(|status| status.phase == Phase::Completed) else { return };
        self.spec.items.clear();
        self.spec.exclude_items.clear();
        self.spec.transforms.clear();
        self.spec.requested_by = None;
        self.status = Some(RestoreRunStatus {
            phase: status.phase,
            outcome: status.outcome,
            preview: status.preview,
            operation_run: status.operation_run.clone(),
            plan_digest: status.plan_digest.clone(),
            backup_set: status.backup_set.clone(),
            undo_backup_set: status.undo_backup_set.clone().filter(|_| is_child),
            results: status.results.filter(|_| is_child),
            failure_reason: status.failure_reason.clone().filter(|_| is_child),
            ..RestoreRunStatus::default()
        });
    }
}

impl Slim for BulkOperationRun {
    /// Keeps, of a completed bulk operation, what another one that names it as its preview depends on,
    /// and the workspace run that it is for.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        let is_child = parent(self).is_some();
        let Some(status) = self.status.as_ref().filter(|status| status.phase == Phase::Completed) else { return };
        self.spec.items.clear();
        (self.spec.label_selector, self.spec.requested_by) = (None, None);
        let repository = self.spec.options.take().and_then(|options| options.repository);
        self.spec.options =
            repository.map(|repository| BulkOptions { repository: Some(repository), ..BulkOptions::default() });
        self.status = Some(BulkOperationRunStatus {
            phase: status.phase,
            outcome: status.outcome,
            preview: status.preview,
            operation_run: status.operation_run.clone(),
            plan_digest: status.plan_digest.clone(),
            undo_backup_set: status.undo_backup_set.clone().filter(|_| is_child),
            counts: status.counts.filter(|_| is_child),
            reason: status.reason.clone().filter(|_| is_child),
            ..BulkOperationRunStatus::default()
        });
    }
}

impl Slim for Finding {
    fn dictionary() -> Option<&'static Dictionary> {
        FINDINGS.as_ref()
    }

    /// Keeps what its state, its metrics and its end depend on. There may be a thousand in each
    /// tenant, so no evidence is held: what an event tells of it is in the answer to our own write.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        (self.metadata.labels, self.metadata.annotations) = (None, None);
        let spec = &mut self.spec;
        (spec.evidence, spec.evidence_left_out) = (Vec::new(), 0);
        (spec.scope_key, spec.current) = (String::new(), Current::default());
        (spec.baseline.snapshot, spec.baseline.taken_at) = (String::new(), None);
        (spec.subject.group, spec.subject.name, spec.subject.uid) = (String::new(), String::new(), None);
        if let Some(observed) = self.status.as_mut().and_then(|status| status.observed.as_mut()) {
            observed.run = crate::api::ObjectReference::default();
        }
        if let Some(restored) = self.status.as_mut().and_then(|status| status.restored.as_mut()) {
            restored.restore_run = crate::api::ObjectReference::default();
        }
    }
}

impl Slim for ImportedRun {
    fn dictionary() -> Option<&'static Dictionary> {
        IMPORTED.as_ref()
    }

    /// Keeps all of spec and status: it is compared with what the other system says.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        (self.metadata.labels, self.metadata.annotations) = (None, None);
    }
}

/// Imported runs as a cluster has them, the most frequent last.
fn imported() -> [Value; 3] {
    let (time, uid) = ("2026-01-01T02:15:00Z", "3b241101-e2bb-4255-8caf-4136c566a962");
    let of = |system: &str, api_version: &str, kind: &str, word: &str| {
        json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "ImportedRun",
            "metadata": {"name": format!("{system}-{}-{uid}", kind.to_lowercase()), "namespace": "tenant-one", "uid": uid,
                "resourceVersion": "1048576", "generation": 1, "creationTimestamp": time},
            "spec": {"system": system, "source": {"apiVersion": api_version, "kind": kind, "namespace": "tenant-one",
                "name": "nightly-20260101021500", "uid": uid}},
            "status": {"phase": "completed", "outcome": "succeeded", "sourcePhase": word, "message": "0 errors, 1 warnings",
                "createdAt": time, "startedAt": time, "completedAt": time, "run": {"name": "nightly-29384720", "uid": uid}},
        })
    };
    [
        of("k8up", "k8up.io/v1", "Backup", "Completed: Succeeded"),
        of("velero", "velero.io/v1", "Backup", "Completed"),
        of("cronjob", "batch/v1", "Job", "Complete"),
    ]
}

/// Findings as a cluster has them, the most frequent last. Their values are of no importance.
fn findings() -> [Value; 2] {
    let time = "2026-01-01T02:15:00Z";
    let uid = "3b241101-e2bb-4255-8caf-4136c566a962";
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let condition = |type_: &str, status: &str| {
        json!({"type": type_, "status": status, "reason": "Drifted", "observedGeneration": 1, "lastTransitionTime": time,
            "message": "the item differs from its baseline: correct it, or accept the difference with spec.acknowledged"})
    };
    let finding = |acknowledged: Value, state: &str, conditions: Value| {
        json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "Finding",
            "metadata": {"name": format!("drift-{}", &digest[..32]), "namespace": "tenant-one", "uid": uid,
                "resourceVersion": "1048576", "generation": 1, "creationTimestamp": time},
            "spec": {"findingType": "drift", "scopeKey": digest, "digest": digest, "acknowledged": acknowledged,
                "baseline": {"backupSet": {"name": "nightly-29384720", "uid": uid}, "snapshot": digest, "takenAt": time},
                "current": {"run": {"name": "drift-29384720", "uid": uid}},
                "subject": {"group": "apps", "kind": "Deployment", "name": "web", "uid": uid},
                "change": "modified", "severity": "medium",
                "evidence": [{"path": "spec.replicas", "before": "1", "after": "2"}]},
            "status": {"observed": {"firstSeen": time, "lastSeen": time, "run": {"name": "drift-29384720", "uid": uid}},
                "state": state, "observedGeneration": 1, "conditions": conditions},
        })
    };
    let accepted = json!({"note": "planned", "digest": digest});
    [
        finding(accepted, "acknowledged", json!([condition("Ready", "True")])),
        finding(Value::Null, "new", json!([condition("Ready", "False"), condition("Stalled", "True")])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::packed::Packed;

    #[test]
    fn a_finding_in_a_cache_has_no_evidence_and_is_small_and_decisions_read_what_is_left() {
        let mut whole = findings()[1].clone();
        whole["metadata"]["name"] = json!("drift-51a3fbc02d7e96481035c7fe9a8b42d6");
        whole["metadata"]["uid"] = json!("f7b0c9d2-64e1-4c0a-93aa-58d1e20b7f43");
        whole["metadata"]["labels"] = json!({"team": "blue"});
        whole["spec"]["digest"] = json!("c1d9a7f5e3b1082643cadb8f97e5b3a1d0826a4c8e6fb9d7f5a3c1e08264ad9b");
        whole["spec"]["evidence"] = json!(vec![json!({"path": "x".repeat(1000), "before": "y"}); 50]);
        whole["status"]["observed"]["resolvedAt"] = json!("2026-02-01T02:15:00Z");
        let mut finding: Finding = serde_json::from_value(whole).expect("a finding");
        let (state, uid) = (finding.state(), finding.spec.baseline.backup_set.uid.clone());
        finding.slim();
        assert_eq!((finding.spec.evidence.len(), finding.metadata.labels.clone()), (0, None));
        assert_eq!((finding.state(), &finding.spec.baseline.backup_set.uid), (state, &uid));
        let json = serde_json::to_vec(&finding).expect("JSON");
        let read: Finding = serde_json::from_slice(&json).expect("what a cache holds decodes");
        assert_eq!(read, finding);
        let packed = Packed::new(json, Finding::dictionary());
        assert!(packed.size() < 300, "{} bytes", packed.size());
    }

    #[test]
    fn an_imported_run_in_a_cache_is_small_and_loses_nothing_that_is_compared() {
        let mut whole = imported()[1].clone();
        whole["spec"]["source"]["uid"] = json!("f7b0c9d2-64e1-4c0a-93aa-58d1e20b7f43");
        whole["spec"]["source"]["name"] = json!("shop-daily-20260305013000");
        whole["metadata"]["name"] = json!("velero-backup-f7b0c9d2-64e1-4c0a-93aa-58d1e20b7f43");
        whole["metadata"]["labels"] = json!({"team": "blue"});
        whole["status"]["createdAt"] = json!("2026-03-05T01:30:00Z");
        let mut imported: ImportedRun = serde_json::from_value(whole).expect("an imported run");
        let (spec, status) = (imported.spec.clone(), imported.status.clone());
        imported.slim();
        assert_eq!((&imported.spec, &imported.status, imported.metadata.labels.as_ref()), (&spec, &status, None));
        let packed = Packed::new(serde_json::to_vec(&imported).expect("JSON"), ImportedRun::dictionary());
        assert!(packed.size() < 300, "{} bytes", packed.size());
    }
}
