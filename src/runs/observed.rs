//! What a decision about a run sees: plain data, read once, before it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::prepare::Prepared;
use crate::{
    api::{BackupRepository, ObjectReference, OperationRun, OperationType, operation_run::OperationRunStatus},
    kernel::refusal::Refusal,
};
use jiff::Timestamp;
use k8s_openapi::api::{batch::v1::Job, core::v1::Pod};
use std::sync::Arc;

/// Everything a decision about one run depends on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The run itself.
    pub run: Arc<OperationRun>,
    /// Its tenant; none where the namespace is not one.
    pub tenant: Option<Tenant>,
    /// Its type; none where it does not exist (any more).
    pub operation_type: Option<Arc<OperationType>>,
    /// What the run would execute, or why it is refused.
    pub prepared: Result<Prepared, Refusal>,
    /// The Job of the run's identity, or the one recorded in its status.
    pub job: JobView,
    /// Pods of that Job's name, whichever Job they are of.
    pub pods: Vec<Arc<Pod>>,
    /// The run recorded in `status.joined`.
    pub joined: JoinedView,
    /// Non-terminal runs of the same identity that are older.
    pub older: Vec<Sibling>,
    /// Whether the limits let it start now.
    pub slot: Slot,
    /// When this process first saw what it is waiting for now (its own clock: others' may be off).
    pub waiting_since: Option<Timestamp>,
    /// Whether newer completed runs of its tenant and type fill the history limit.
    pub beyond_history: bool,
    /// Whether runs have joined this one and not copied its end yet.
    pub awaited: bool,
    /// The restore that a completed run was made for, while that exists.
    pub restore: Option<Parent>,
}

impl Observed {
    /// The run's uid; empty only for an object that no API server made.
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

/// The object that a run was made for, and that goes in its place when its time is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Which one.
    pub reference: ObjectReference,
    /// Whether it is not at its end, or another that is not names it.
    pub needed: bool,
}

/// The Job that stands under the identity's name.
#[derive(Clone, Debug)]
pub enum JobView {
    /// None.
    Absent,
    /// The run's own: its controller owner is this run.
    Own(Arc<Job>),
    /// Another run's.
    Others {
        /// The Job.
        job: Arc<Job>,
        /// The run that owns it.
        owner: Sibling,
    },
    /// A Job of ours whose run is completed or gone.
    Orphan(Arc<Job>),
    /// Not ours.
    Foreign(Arc<Job>),
}

/// Another run of the same identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Name.
    pub name: String,
    /// Uid.
    pub uid: String,
    /// Whether it is being cancelled or deleted.
    pub leaving: bool,
}

/// The run recorded as joined.
#[derive(Clone, Debug)]
pub enum JoinedView {
    /// No run is recorded.
    None,
    /// It goes on.
    Active,
    /// It is at its end.
    Completed(Arc<OperationRun>),
    /// It does not exist any more.
    Gone,
}

/// Whether limits let a run start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// It may start.
    Free,
    /// It may not: how many go before it, and which limit holds it.
    Waiting {
        /// Which limit.
        limit: String,
        /// Runs that go first.
        ahead: usize,
    },
}

/// The repository a run names.
#[derive(Clone, Debug)]
pub enum RepositoryView {
    /// The run needs none.
    NotNeeded,
    /// The inputs name one that does not exist.
    Missing(String),
    /// It has not passed its check.
    NotReady(Arc<BackupRepository>),
    /// It has.
    Ready(Arc<BackupRepository>),
}

/// The run named in `spec.rerunOf`.
#[derive(Clone, Debug)]
pub enum RerunView {
    /// None is named.
    NotAsked,
    /// It does not exist.
    Missing(String),
    /// It exists.
    Found(Arc<OperationRun>),
}
