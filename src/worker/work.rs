//! The operation that a worker runs: what it needs before it can start, and what it is given then.
//!
//! Must not: name an operation. Each implements [`Work`] in its folder of `src/operations`.

use crate::{
    api::reason::worker as reason,
    api::{OperationRun, result::TerminationResult},
    clock::Clock,
    repository::{RusticRepository, WriterPermit},
    worker::{environment::Environment, failure::Failure, stop::Stop},
};
use futures::future::LocalBoxFuture;
use kube::Client;

/// The half of an operation that runs in a Job.
pub trait Work: Sync {
    /// What the worker does before and after it.
    fn needs(&self) -> Needs;

    /// Reads the inputs and returns the work. Called before anything is opened, so that bad inputs
    /// fail fast.
    fn begin(&self, environment: &Environment) -> Result<Begun, Failure>;
}

/// What an operation needs of the worker around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Which repository it works on.
    pub repository: RepositoryNeed,
    /// The Lease that is held on the repository while it works.
    pub lease: LeaseNeed,
    /// Whether it is given time to end by itself after a stop signal, because it has to report what
    /// it has done so far.
    pub last_words: bool,
}

/// Which repositories an operation works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepositoryNeed {
    /// None.
    None,
    /// One that has passed a check. A run waits for it.
    Ready,
    /// Any, also one that is not Ready. It is created if the store is empty.
    Any,
}

/// What an operation does with its repository, and whether other workers may use it meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseNeed {
    /// Nothing, because it has none.
    None,
    /// Reads it. Other workers may read and write.
    Reads,
    /// Stores snapshots in it. Other workers may read and write.
    Writes,
    /// Removes data from it. No other worker may use it.
    Excludes,
}

/// Where an operation works, and by which means.
pub struct Site<'a> {
    /// The way to the API server.
    pub client: &'a Client,
    /// What the pod was given.
    pub environment: &'a Environment,
    /// The opened repository, unless the operation needs none.
    pub repository: Option<&'a RusticRepository>,
    /// The run, as read by the fence.
    pub run: &'a OperationRun,
    /// The one clock.
    pub clock: &'a dyn Clock,
    /// Whether the pod was told to stop.
    pub stop: &'a Stop,
    /// The permit of the held Lease, unless that Lease only reads.
    pub permit: Option<WriterPermit>,
}

impl<'a> Site<'a> {
    /// The opened repository. Without one, the operation declares in its needs that it has none,
    /// which is a bug.
    pub fn repository(&self) -> Result<&'a RusticRepository, Failure> {
        self.repository.ok_or_else(|| {
            Failure::permanent(
                reason::INTERNAL,
                "the operation uses a repository, and says in its needs that it has none",
            )
        })
    }

    /// The permit to write to the repository. Without one, the operation does not declare in its
    /// needs that it writes, which is a bug.
    pub fn permit(&self) -> Result<WriterPermit, Failure> {
        self.permit.clone().ok_or_else(|| {
            Failure::permanent(
                reason::INTERNAL,
                "the operation writes to a repository of which it has only a Lease to read",
            )
        })
    }
}

/// How an operation ends: with a result, or without having done its work.
pub type Ending<'a> = LocalBoxFuture<'a, Result<TerminationResult, Failure>>;

/// An operation whose inputs were read.
pub type Begun = Box<dyn for<'a> FnOnce(Site<'a>) -> Ending<'a>>;

/// Boxes the work of an operation.
pub fn begun(work: impl for<'a> FnOnce(Site<'a>) -> Ending<'a> + 'static) -> Begun {
    Box::new(work)
}
