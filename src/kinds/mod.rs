//! The kinds besides runs, one folder each: what the reconcile of an object reads (`observe`),
//! decides (`decide`, pure) and writes (`act`).
//!
//! Kinds create and follow runs. They may use what [`crate::runs`] says about a run; runs know no
//! kind's reconciler.
//!
//! `made_for` and `approval` are not reconciled: they are what is the same for the kinds that have one
//! run each.

pub mod approval;
pub mod backup_repository;
pub mod backup_schedule;
pub mod bulk_operation_run;
pub mod finding;
pub mod imported_run;
pub mod made_for;
pub mod operation_type;
pub mod restore_run;
mod slim;
pub mod tenant;
pub mod workspace;
pub mod workspace_run;
