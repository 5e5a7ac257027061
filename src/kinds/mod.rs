//! The kinds beside runs, a folder each: what a pass over one object reads (`observe`), decides (`decide`, pure) and writes (`act`).
//!
//! Kinds create and follow runs. They may read what [`crate::runs`] says of one; runs know no kind's reconciler.

pub mod backup_repository;
pub mod backup_schedule;
pub mod operation_type;
pub mod restore_run;
mod slim;
pub mod tenant;
