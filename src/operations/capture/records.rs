//! What the controller knows and records of a capture. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Capture;
use crate::{
    api::{
        Outcome,
        backup_set::Content,
        operations::{CAPTURE, CAPTURE_COMMAND},
        result::ResultContext,
    },
    operations::{
        Operation,
        record::{Ended, Record},
    },
};

impl Operation for Capture {
    fn name(&self) -> &'static str {
        CAPTURE
    }

    fn command(&self) -> &'static str {
        CAPTURE_COMMAND
    }

    fn stores(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "Capture the tenant's objects into its repository"
    }

    fn records(&self, ended: &Ended<'_>) -> Vec<Record> {
        let snapshot = ended.made.snapshot.clone().filter(|_| self.has_made(ended.made));
        let complete = ended.outcome == Outcome::Succeeded;
        snapshot.into_iter().map(|snapshot| Record::NewSet { snapshot: Box::new(snapshot), complete }).collect()
    }

    /// The snapshot of a restore is that of the set which undoes it.
    fn has_made(&self, made: &ResultContext) -> bool {
        let holds_objects = made.snapshot.as_ref().is_some_and(|snapshot| snapshot.content == Content::Objects);
        holds_objects && made.undo_set.is_none()
    }
}
