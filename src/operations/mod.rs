//! The built-in operations, one folder each, with both of their halves: what runs in the Job
//! ([`Work`], in `mod.rs`), and what the controller does for the operation and records of its result
//! ([`Operation`], in `records.rs`; pure).
//!
//! | folder | operation |
//! |---|---|
//! | [`bulk`] | `bulk.apply` |
//! | [`bulk_capture`] | `bulk.capture` |
//! | [`bulk_delete`] | `bulk.delete` |
//! | [`bulk_delete_preview`] | `bulk.delete.preview` |
//! | [`bulk_export`] | `bulk.export` |
//! | [`bulk_preview`] | `bulk.preview` |
//! | [`capture`] | `backup.capture`; how a namespace is read |
//! | [`check`] | `repository.check`, which also lists the sets of an adopted repository |
//! | [`drift`] | `drift.generate`; how findings are written |
//! | [`inventory`] | `inventory.sync`; how a set is read as identities and digests |
//! | [`maintain`] | `repository.maintain`; ends with a check |
//! | [`preview`] | `restore.preview` |
//! | [`rehearse`] | `restore.rehearse` |
//! | [`compare`] | `sets.compare` |
//! | [`capture_item`] | `item.capture` |
//! | [`history`] | `item.history` |
//! | [`restore`] | `restore.apply`; how a plan is made, which previews and rehearsals do too |
//!
//! [`TABLE`] lists them. Everything else (the controller, the worker, the command line) knows an
//! operation only as a row of that table. Names of types and commands are spelled in
//! [`crate::api::operations`], nowhere else.
//!
//! Must not: contain what surrounds every operation in a Job (`src/worker`), or write what is
//! recorded (`src/runs`). Neither of the two halves may rely on the other: they run in two
//! processes, perhaps of two versions.

mod approval;
pub mod bulk;
pub mod bulk_capture;
pub mod bulk_delete;
pub mod bulk_delete_preview;
pub mod bulk_export;
pub mod bulk_preview;
pub mod capture;
pub mod capture_item;
pub mod check;
mod claim;
pub mod compare;
pub mod drift;
pub mod history;
mod intent;
pub mod inventory;
mod item;
pub mod maintain;
pub mod preview;
pub mod record;
pub mod rehearse;
pub mod restore;

use crate::{
    api::{Inputs, execution::WORKER_ACCOUNT, operation_type::Executor, result::ResultContext},
    worker::work::{RepositoryNeed, Work},
};
use record::{Ended, Record};

/// A built-in operation. Its supertrait is the half that runs in the Job.
pub trait Operation: Work {
    /// Name of its operation type.
    fn name(&self) -> &'static str;

    /// The worker's command that executes it. An administrator may install the command under other
    /// names, so this is what identifies the operation of a run.
    fn command(&self) -> &'static str;

    /// One line for the help of the command.
    fn about(&self) -> &'static str;

    /// The account of its pods.
    fn account(&self) -> &'static str {
        WORKER_ACCOUNT
    }

    /// Kind of the objects that its runs are made for, by the operator alone. `None` if users start
    /// them.
    fn made_for(&self) -> Option<MadeFor> {
        None
    }

    /// Whether these inputs may be taken over from the run in `rerunOf`. If not, the error says what
    /// to do.
    fn may_inherit(&self, _inputs: &Inputs) -> Result<(), &'static str> {
        Ok(())
    }

    /// Whether its result depends on who started the run. Two users then never share a run.
    fn depends_on_requester(&self) -> bool {
        false
    }

    /// Whether it captures something into its repository. Such a run is refused once the repository
    /// has more bytes than the workspace allows.
    fn stores(&self) -> bool {
        false
    }

    /// Name of the backup set whose objects a run with these inputs reads, if they name one. A run is
    /// refused before it has a Job if that set holds none.
    fn restores(&self, _inputs: &Inputs) -> Option<String> {
        None
    }

    /// What the controller records on other objects when a run has ended.
    fn records(&self, _ended: &Ended<'_>) -> Vec<Record> {
        Vec::new()
    }

    /// Whether a result shows by itself that this operation made it. The operation's records are
    /// then written whatever the type of the run says by now: it may have been deleted or changed
    /// while the Job ran, and maintenance removes a snapshot that no backup set names.
    fn has_made(&self, _made: &ResultContext) -> bool {
        false
    }

    /// The backup set that an ended run was about, for its status. A set that is recorded is named
    /// there too.
    fn about_set(&self, _ended: &Ended<'_>) -> Option<String> {
        None
    }
}

/// A kind of which each object has one run that carries it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MadeFor {
    /// Restores and previews.
    RestoreRun,
    /// Bulk operations.
    BulkOperationRun,
}

/// All operations, in the order in which the worker's help shows them.
pub static TABLE: [&dyn Operation; 17] = [
    &bulk::Bulk,
    &bulk_capture::BulkCapture,
    &bulk_delete::BulkDelete,
    &bulk_delete_preview::BulkDeletePreview,
    &bulk_export::BulkExport,
    &bulk_preview::BulkPreview,
    &capture::Capture,
    &capture_item::CaptureItem,
    &check::Check,
    &compare::Compare,
    &drift::Drift,
    &history::History,
    &inventory::Inventory,
    &maintain::Maintain,
    &preview::Preview,
    &rehearse::Rehearse,
    &restore::Restore,
];

/// The operation of a worker's command.
#[must_use]
pub fn of_command(command: &str) -> Option<&'static dyn Operation> {
    TABLE.into_iter().find(|operation| operation.command() == command)
}

/// The operation that an executor runs; `None` for another image.
#[must_use]
pub fn of_executor(executor: &Executor) -> Option<&'static dyn Operation> {
    executor.worker.as_ref().and_then(|worker| worker.command.first()).and_then(|command| of_command(command))
}

/// The operation whose type has this name as installed by the chart.
#[must_use]
pub fn of_type(name: &str) -> Option<&'static dyn Operation> {
    TABLE.into_iter().find(|operation| operation.name() == name)
}

/// The inputs of an operation, with this repository if it takes one and the inputs name none.
#[must_use]
pub fn with_repository(operation_type: &str, inputs: Inputs, repository: Option<&str>) -> Inputs {
    let needs = of_type(operation_type).map(|known| known.needs().repository);
    let Some(repository) = repository.filter(|_| needs.is_some_and(|needs| needs != RepositoryNeed::None)) else {
        return inputs;
    };
    let mut fields = inputs.parse();
    if fields.contains_key("repository") {
        return inputs;
    }
    fields.insert("repository".to_owned(), serde_json::json!(repository));
    fields.into()
}

/// Whether an operation works on a repository that has not passed a check.
#[must_use]
pub fn takes_any_repository(operation: &dyn Operation) -> bool {
    operation.needs().repository == RepositoryNeed::Any
}

/// What the controller records of an end. `operation` is that of the run's type, if there still is
/// one.
#[must_use]
pub fn records(operation: Option<&dyn Operation>, ended: &Ended<'_>) -> Vec<Record> {
    let is_its = |row: &&dyn Operation| operation.is_some_and(|operation| operation.name() == row.name());
    let rows = TABLE.into_iter().filter(|row| is_its(row) || row.has_made(ended.made));
    rows.flat_map(|row| row.records(ended)).collect()
}

#[cfg(test)]
mod tests;
