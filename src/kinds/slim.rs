//! Drops what no decision reads of each kind, so no cache holds it. Pure.
//!
//! A field that is dropped here is empty in every cached object: look here first.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::{
    api::{BackupRepository, BackupSchedule, OperationType, Phase, RestoreRun, RestoreRunStatus, execution::ACCOUNTS},
    kernel::slim::{Slim, drop_bookkeeping},
};
use k8s_openapi::api::{
    core::v1::{Namespace, ServiceAccount},
    rbac::v1::RoleBinding,
};

impl Slim for OperationType {
    /// Types are read in every reconcile, and written only by the administrators of the cluster.
    const PACKED: bool = false;
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

impl Slim for RestoreRun {
    /// Keeps, of a completed restore, what another restore that names it depends on.
    fn slim(&mut self) {
        drop_bookkeeping(self);
        let Some(status) = self.status.as_ref().filter(|status| status.phase == Phase::Completed) else { return };
        self.spec.items.clear();
        self.spec.exclude_items.clear();
        self.spec.transforms.clear();
        self.spec.requested_by = None;
        self.status = Some(RestoreRunStatus {
            phase: status.phase,
            outcome: status.outcome,
            operation_run: status.operation_run.clone(),
            plan_digest: status.plan_digest.clone(),
            ..RestoreRunStatus::default()
        });
    }
}
