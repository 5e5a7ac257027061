//! What a decision about a run sees: plain data, read once, before the decision.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::prepare::Prepared;
use crate::{
    api::{BackupRepository, ObjectReference, OperationRun, OperationType, operation_run::OperationRunStatus},
    kernel::refusal::Refusal,
    operations::MadeFor,
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use std::sync::Arc;

/// Everything a decision about one run depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The run itself.
    pub run: Arc<OperationRun>,
    /// Its tenant; `None` if the namespace is not one.
    pub tenant: Option<Tenant>,
    /// Its type; `None` if the type does not exist, or no longer does.
    pub operation_type: Option<Arc<OperationType>>,
    /// What the run would execute, or why it is refused.
    pub prepared: Result<Prepared, Refusal>,
    /// The Job of the run's identity, or the one recorded in its status.
    pub job: JobView,
    /// Whether the API server was asked for the Job, and not a cache. It is, once the run's
    /// `queueTimeoutSeconds` have passed.
    pub job_asked: bool,
    /// Pods with that Job's name, whichever Job they belong to.
    pub pods: Vec<Arc<Pod>>,
    /// The run recorded in `status.joined`.
    pub joined: JoinedView,
    /// Non-terminal runs of the same identity that are older.
    pub older: Vec<Sibling>,
    /// Whether the limits let the run start now.
    pub slot: Slot,
    /// When this process first saw what the run waits for now, by its own clock: other clocks may
    /// be off.
    pub waiting_since: Option<Timestamp>,
    /// Whether newer completed runs of its tenant and type fill the history limit.
    pub beyond_history: bool,
    /// Whether runs have joined this one and not copied its end yet, or a workspace run still counts
    /// it.
    pub awaited: bool,
    /// The object that a completed run was made for, while that object exists.
    pub parent: Option<Parent>,
}

impl Observed {
    /// The run's uid; empty only for an object that no API server created.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.run.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The run's status.
    #[must_use]
    pub fn status(&self) -> OperationRunStatus {
        self.run.status_or_default()
    }
}

/// A tenant: a namespace with the workspace label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Uid of the namespace.
    pub uid: String,
    /// The workspace it belongs to.
    pub workspace: String,
    /// Whether the namespace is being deleted.
    pub terminating: bool,
}

/// The object that a run was made for. When the run expires, this object is deleted instead, and
/// the run with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its kind.
    pub kind: MadeFor,
    /// The object.
    pub reference: ObjectReference,
    /// Whether the object is still in use: it is not completed, or another one that is not
    /// completed names it.
    pub needed: bool,
}

/// The Job that has the name of the identity.
#[derive(Clone, Debug)]
pub enum JobView {
    /// No Job has the name.
    Absent,
    /// The run's own Job: its controller owner is this run.
    Own(Arc<Job>),
    /// Another run's Job.
    Others {
        /// The Job.
        job: Arc<Job>,
        /// The run that owns it.
        owner: Sibling,
    },
    /// One of our Jobs, whose run is completed or gone.
    Orphan(Arc<Job>),
    /// A Job that is not ours.
    Foreign(Arc<Job>),
}

/// Another run of the same identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Whether it is being cancelled or deleted.
    pub leaving: bool,
}

/// The run recorded in `status.joined`.
#[derive(Clone, Debug)]
pub enum JoinedView {
    /// No run is recorded.
    None,
    /// The run is not completed.
    Active,
    /// The run is completed.
    Completed(Arc<OperationRun>),
    /// The run no longer exists.
    Gone,
}

/// Whether the limits let a run start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The run may start.
    Free,
    /// The run has to wait.
    Waiting {
        /// The limit that holds it.
        limit: String,
        /// Number of runs that wait, too.
        others: usize,
    },
}

/// The repository that a run names.
#[derive(Clone, Debug)]
pub enum RepositoryView {
    /// The run needs none.
    NotNeeded,
    /// The inputs name one that does not exist.
    Missing(String),
    /// The repository has not passed its check.
    NotReady(Arc<BackupRepository>),
    /// The repository has passed its check.
    Ready(Arc<BackupRepository>),
}

/// The run named in `spec.rerunOf`.
#[derive(Clone, Debug)]
pub enum RerunView {
    /// No run is named.
    NotAsked,
    /// The named run does not exist.
    Missing(String),
    /// The named run exists.
    Found(Arc<OperationRun>),
}
