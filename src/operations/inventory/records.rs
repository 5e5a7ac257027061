//! What the controller knows and records of an inventory. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::Inventory;
use crate::{
    api::{
        Outcome,
        backup_set::Content,
        operations::{INVENTORY, INVENTORY_COMMAND},
        result::ResultContext,
    },
    operations::{
        Operation,
        record::{Ended, Record},
    },
};

impl Operation for Inventory {
    fn name(&self) -> &'static str {
        INVENTORY
    }

    fn command(&self) -> &'static str {
        INVENTORY_COMMAND
    }

    fn stores(&self) -> bool {
        true
    }

    fn about(&self) -> &'static str {
        "Record in the tenant's repository which objects there are, without their content"
    }

    /// Its set has the content `Inventory`, as the worker reports. Its repository tells what the backup
    /// sets hold of the tenant; an inventory of a selection does not know.
    fn records(&self, ended: &Ended<'_>) -> Vec<Record> {
        let snapshot = ended.made.snapshot.clone().filter(|_| self.has_made(ended.made));
        let complete = ended.outcome == Outcome::Succeeded;
        let Some(snapshot) = snapshot else { return Vec::new() };
        let set = Record::NewSet { snapshot: Box::new(snapshot), complete };
        let coverage = ended.made.coverage.clone().filter(|coverage| !coverage.selected);
        let covered = coverage
            .zip(ended.repository)
            .map(|(coverage, repository)| Record::Covered { repository: repository.to_owned(), coverage });
        std::iter::once(set).chain(covered).collect()
    }

    fn has_made(&self, made: &ResultContext) -> bool {
        made.snapshot.as_ref().is_some_and(|snapshot| snapshot.content == Content::Inventory)
    }
}
