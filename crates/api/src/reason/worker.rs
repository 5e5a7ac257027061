//! Codes of a worker that could not do its work. A repository has codes of its own, which are in the
//! crate `repository`.

use super::{codes, of_runs};

codes! {
    /// A variable of the execution contract is missing or cannot be parsed.
    INVALID_ENVIRONMENT = "InvalidEnvironment";
    /// The inputs do not fit the operation.
    INVALID_INPUTS = of_runs!(InvalidInputs);
    /// The run is completed, deleted or executed by another Job, or repeats a tick of its schedule.
    FENCED = "Fenced";
    /// The run is cancelled.
    CANCELLED = of_runs!(Cancelled);
    /// The API server does not respond.
    API_UNREACHABLE = "ApiUnreachable";
    /// The API server refuses a call that the worker depends on.
    API_REFUSED = "ApiRefused";
    /// The run's target does not exist, or is never captured.
    TARGET_NOT_FOUND = "TargetNotFound";
    /// The run's target exists but could not be captured.
    TARGET_NOT_CAPTURED = "TargetNotCaptured";
    /// No object to capture matches the requested names or labels.
    NOTHING_SELECTED = "NothingSelected";
    /// Not a single item could be captured.
    NOTHING_CAPTURED = "NothingCaptured";
    /// The pod was told to stop, or another pod of the run captured at the same time.
    INTERRUPTED = "Interrupted";
    /// Other workers use the repository and the operation needs it exclusively, or its Lease cannot
    /// be acquired.
    REPOSITORY_BUSY = "RepositoryBusy";
    /// The Lease on the repository was lost. The repository uses the same code.
    PERMIT_LOST = "PermitLost";
    /// A bug in the worker.
    INTERNAL = "Internal";
}
