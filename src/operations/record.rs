//! What the controller records on other objects when a run has ended, as values. Pure.
//!
//! An operation turns an [`Ended`] into [`Record`]s. `src/runs/records` writes them.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::api::{
    Inputs, Outcome,
    coverage::BackupCoverage,
    outcome::ItemFailure,
    result::{CapturedSnapshot, CheckedRepository, Maintained, ResultContext},
};

/// How a run ended, as far as records depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// Which work its end was read from.
    pub ran: Ran<'a>,
    /// The outcome.
    pub outcome: Outcome,
    /// The reason code.
    pub reason: &'a str,
    /// Message for people.
    pub message: &'a str,
    /// Items that failed or were skipped.
    pub failures: &'a [ItemFailure],
    /// What our worker made. Empty for any other image.
    pub made: &'a ResultContext,
    /// The inputs.
    pub inputs: &'a Inputs,
    /// The repository that the inputs name, if its type still exists and the name is valid.
    pub repository: Option<&'a str>,
}

/// Which work the end of a run was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ran<'a> {
    /// None: the run was refused or cancelled before it had a Job, or its Job is gone.
    Nothing,
    /// A Job of another image.
    Another,
    /// A Job of our worker.
    Worker {
        /// Generation of the repository's spec that the Job was given.
        generation: Option<i64>,
        /// Hash of the checked part of that spec.
        spec: Option<&'a str>,
    },
}

/// One record: an object to create, or a status to write.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Create the run's `BackupSet` for the snapshot that it captured, and name it in the status
    /// that follows.
    NewSet {
        /// What was captured.
        snapshot: Box<CapturedSnapshot>,
        /// Whether no item failed.
        complete: bool,
    },
    /// Create a set for this run of the snapshot that another run captured, and name it in the
    /// status that follows. Each set has the retention of its own requester.
    SharedSet {
        /// Name of the other run's set.
        set: String,
        /// Uid of that run.
        captured_by: String,
    },
    /// Record the figures of the set that the run's own worker created, and name it in the status
    /// that follows.
    WorkersSet {
        /// Name of the set.
        name: String,
        /// What was captured.
        snapshot: Box<CapturedSnapshot>,
    },
    /// Record on a backup set how it was verified.
    Verified {
        /// Name of the set.
        set: String,
        /// How the verification ended.
        outcome: Outcome,
    },
    /// Record on a repository what its backup sets hold of the tenant, unless it has a newer record.
    Covered {
        /// Name of the repository.
        repository: String,
        /// What was found.
        coverage: Box<BackupCoverage>,
    },
    /// Record on a repository and its sets how it was checked.
    Checked(Box<RepositoryCheck>),
}

/// The end of a check of a repository, by itself or as the end of other work.
#[derive(Clone, Debug, PartialEq)]
pub struct RepositoryCheck {
    /// Name of the repository.
    pub repository: String,
    /// Generation of the spec that was checked; `None` if no Job was created.
    pub generation: Option<i64>,
    /// Hash of the checked part of that spec; `None` if no Job was created, or if the Job is of an
    /// operator that did not record the hash.
    pub spec: Option<String>,
    /// Whether the check passed.
    pub passed: bool,
    /// The reason code.
    pub reason: String,
    /// Message for people.
    pub message: String,
    /// Figures of the repository, if reported.
    pub figures: Option<CheckedRepository>,
    /// What was removed before the check, if unneeded data was.
    pub maintained: Option<Maintained>,
    /// Prefixes of the ids of damaged snapshots.
    pub damaged: Vec<String>,
    /// Whether more snapshots are damaged than are named.
    pub damaged_truncated: bool,
}

impl RepositoryCheck {
    /// The check that an end reports; `None` if it is not known which repository was checked.
    #[must_use]
    pub fn of(ended: &Ended<'_>) -> Option<Self> {
        let (generation, spec) = match ended.ran {
            Ran::Worker { generation, spec } => (generation, spec),
            Ran::Nothing | Ran::Another => (None, None),
        };
        Some(Self {
            repository: ended.repository?.to_owned(),
            generation,
            spec: spec.map(str::to_owned),
            passed: ended.outcome == Outcome::Succeeded,
            reason: ended.reason.to_owned(),
            message: ended.message.to_owned(),
            figures: ended.made.repository.clone(),
            maintained: ended.made.maintained,
            damaged: ended.made.damaged_snapshots.clone(),
            damaged_truncated: ended.made.damaged_truncated,
        })
    }
}
