//! Whether a run is the one to carry out the object that it was made for, such as a restore.
//!
//! What counts is the run that the operator recorded in the object's status, by name and uid. Only
//! the operator writes that status. Each operation decides for its own kind ([`Claim`]); waiting for
//! the operator is the same for all.

use crate::worker::failure::Failure;
use std::time::Duration;
use tokio::time::Instant;

/// How long the operator may take to record the run that it has created: longer than its restart
/// takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Poll interval while waiting for that.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How an object relates to a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The object names this run and is to be carried out.
    Own,
    /// No run is recorded yet: the operator creates the run first.
    NotRecorded,
    /// This run must not carry it out.
    Refused(Failure),
}

/// Returns the object once it names this run as its own. `not_yet` is the failure if it never does.
pub async fn settled<T>(
    not_yet: impl FnOnce() -> Failure,
    look: impl AsyncFn() -> Result<(T, Claim), Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await? {
            (object, Claim::Own) => return Ok(object),
            (_, Claim::Refused(failure)) => return Err(failure),
            (_, Claim::NotRecorded) if Instant::now() >= deadline => return Err(not_yet()),
            (_, Claim::NotRecorded) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}
