//! What the controller knows and records of a restore. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Restore;
use crate::{
    api::{
        execution::RESTORE_ACCOUNT,
        operations::{APPLY, APPLY_COMMAND},
        result::ResultContext,
    },
    operations::{
        MadeFor, Operation,
        record::{Ended, Record},
    },
};

impl Operation for Restore {
    fn name(&self) -> &'static str {
        APPLY
    }

    fn command(&self) -> &'static str {
        APPLY_COMMAND
    }

    fn about(&self) -> &'static str {
        "Restore objects from a backup set"
    }

    fn account(&self) -> &'static str {
        RESTORE_ACCOUNT
    }

    fn made_for(&self) -> Option<MadeFor> {
        Some(MadeFor::RestoreRun)
    }

    /// The set that undoes the restore, or a deletion of many objects. The worker has created it before
    /// its first write.
    fn records(&self, ended: &Ended<'_>) -> Vec<Record> {
        match (ended.made.snapshot.clone(), ended.made.undo_set.clone()) {
            (Some(snapshot), Some(name)) => vec![Record::WorkersSet { name, snapshot: Box::new(snapshot) }],
            _ => Vec::new(),
        }
    }

    fn has_made(&self, made: &ResultContext) -> bool {
        made.snapshot.is_some() && made.undo_set.is_some()
    }
}
