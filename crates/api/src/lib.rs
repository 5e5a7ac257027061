//! The API `tenantatlas.io/v1alpha1`: types, and the pure rules that belong to them.
//!
//! Contains the custom resources, conditions, reasons, identity, labels, selections, and the result
//! contract of Jobs. Must not contain any I/O, any Kubernetes client (Cargo.toml names none), or
//! any clock (clippy denies it).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

// The custom resource derives emit paths of the `kube` facade, which would pull in its client.
extern crate self as kube;
#[doc(hidden)]
pub use kube_core as core;
#[doc(hidden)]
pub use kube_derive::{CustomResource, KubeSchema};

pub mod approval;
pub mod audit_entry;
pub mod backup_repository;
pub mod backup_schedule;
pub mod backup_set;
pub mod bulk_operation_run;
pub mod canonical;
pub mod comparison;
pub mod conditions;
pub mod coverage;
mod cron_rules;
pub mod drift;
pub mod execution;
pub mod finding;
pub mod history;
pub mod identity;
pub mod imported_run;
pub mod inputs;
pub mod inventory;
pub mod item;
pub mod labels;
pub mod operation_report;
pub mod operation_run;
pub mod operation_type;
pub mod operations;
pub mod outcome;
pub mod provenance;
pub mod provider;
pub mod reason;
pub mod reference;
pub mod restore_run;
pub mod result;
pub mod schema;
pub mod selection;
pub mod subject;
pub mod workspace;
pub mod workspace_run;

pub use approval::{Approval, ApprovalSpec};
pub use audit_entry::{AuditEntry, AuditEntrySpec};
pub use backup_repository::{BackupRepository, BackupRepositorySpec, BackupRepositoryStatus};
pub use backup_schedule::{BackupSchedule, BackupScheduleSpec, BackupScheduleStatus};
pub use backup_set::{BackupSet, BackupSetSpec, BackupSetStatus};
pub use bulk_operation_run::{BulkOperationRun, BulkOperationRunSpec, BulkOperationRunStatus};
pub use finding::{Finding, FindingSpec, FindingStatus};
pub use imported_run::{ImportedRun, ImportedRunSpec, ImportedRunStatus};
pub use inputs::Inputs;
pub use operation_report::{OperationReport, OperationReportSpec};
pub use operation_run::{OperationRun, OperationRunSpec, OperationRunStatus};
pub use operation_type::{OperationType, OperationTypeSpec, OperationTypeStatus};
pub use outcome::{Outcome, Phase};
pub use reason::Reason;
pub use reference::{LocalReference, ObjectReference, PreviewReference};
pub use restore_run::{RestoreRun, RestoreRunSpec, RestoreRunStatus};
pub use workspace::{Workspace, WorkspaceSpec, WorkspaceStatus};
pub use workspace_run::{WorkspaceRun, WorkspaceRunSpec, WorkspaceRunStatus};

/// API group of all kinds in this crate.
pub const GROUP: &str = "tenantatlas.io";

/// The only served version.
pub const VERSION: &str = "v1alpha1";

/// Whether a field has its default value.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
