//! Codes of `status.reason`, `waiting.reason` and conditions, as the controller sets them.

use strum::{Display, IntoStaticStr, VariantArray};

/// Reason for the state of a run. Its text is the name of the variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, IntoStaticStr, VariantArray)]
pub enum Reason {
    // -- completed, done
    /// Everything was done.
    Succeeded,
    /// Some items failed.
    PartiallySucceeded,
    /// The exit code reports success, but the termination message is not a result.
    ResultUnreadable,
    // -- completed, failed
    /// The Job failed after all its retries.
    JobFailed,
    /// The pod ended with a permanent exit code (40-49).
    PermanentFailure,
    /// The run took longer than its timeout.
    TimedOut,
    /// Cancelled with `spec.cancel`.
    Cancelled,
    /// The Job was deleted, but not by the operator.
    JobDeleted,
    /// The Job ended, but its pod was gone before its result was read.
    ResultLost,
    /// The counts of the result do not add up.
    ResultInconsistent,
    // -- completed, blocked
    /// The namespace is not a tenant.
    NotATenant,
    /// A workspace run selects no tenant.
    NoTenants,
    /// A selector of a workspace run is invalid.
    InvalidWorkspaceRun,
    /// The operation type does not exist.
    UnknownType,
    /// The operation type is suspended.
    TypeSuspended,
    /// The type is for workspaces, not for tenants.
    WrongScope,
    /// The workspace of the tenant does not allow the type.
    NotAllowedByWorkspace,
    /// The tenant has reached a quota of its workspace.
    WorkspaceQuota,
    /// The inputs do not match the type's schema, are not an object, or are too large.
    InvalidInputs,
    /// The inputs are larger than 64 KiB.
    InputsTooLarge,
    /// `timeoutSeconds` exceeds the type's timeout.
    TimeoutTooLong,
    /// The run was still queued after its `queueTimeoutSeconds`.
    QueueTimeout,
    /// A field of the object is larger than the operator reads.
    TooLarge,
    /// The type cannot be executed as written.
    InvalidType,
    /// The repository named in the inputs does not exist.
    RepositoryNotFound,
    /// The repository has not passed its check.
    RepositoryNotReady,
    /// The ServiceAccount of the Job does not exist.
    AccountNotFound,
    /// The ServiceAccount that a restore names lacks rights that every restore needs for its own
    /// records.
    AccountLacksRights,
    /// A run of the same identity is active, and `onDuplicate` is `Reject`.
    DuplicateRun,
    /// The schedule had already started another run for the same tick.
    TickRepeated,
    /// The workspace run that the run is for had ended when it was created.
    CreatedLate,
    /// The run named in `rerunOf` does not exist, is not completed, or is of another type.
    RerunNotPossible,
    /// An object with the Job's name exists that does not belong to the operator.
    JobNameTaken,
    /// A quota rejects the Job, or the run of a restore, a bulk operation, a schedule or a
    /// repository.
    QuotaExceeded,
    /// The API server rejects the Job for another reason.
    JobRefused,
    // -- restores and bulk operations, completed and blocked
    /// The backup set does not exist.
    BackupSetNotFound,
    /// The finding does not exist.
    FindingNotFound,
    /// The item of the finding cannot be put back in this way.
    FindingNotRestorable,
    /// The workspace requires an approval, and there is no preview whose plan could be approved.
    ApprovalNeedsPreview,
    /// The backup set is from another namespace that was not adopted.
    ForeignBackupSet,
    /// The backup set is an inventory, which holds no objects.
    BackupSetIsInventory,
    /// A selector or a transform is invalid.
    InvalidRestore,
    /// A bulk operation's action does not fit its kind, or a selector, a key or a value of it is
    /// invalid.
    InvalidBulkOperation,
    /// The requester is unknown.
    NoRequester,
    /// The run named as preview does not exist, is not a preview, did not succeed, or is of another
    /// set.
    PreviewNotUsable,
    /// What a preview showed is not as it was: an object, or a tenant of a workspace run.
    PreviewStale,
    /// The workspace run that is to be undone does not exist, is not completed, or left nothing from
    /// which it can be undone.
    UndoNotPossible,
    /// Runs of other owners have the names that the run of a restore, a bulk operation, a schedule
    /// or a repository may have.
    RunNameTaken,
    /// The API server rejects the run of a restore, a bulk operation, a schedule or a repository.
    RunRefused,
    // -- restores and bulk operations, completed and failed
    /// The run that did the work was deleted.
    RunDeleted,
    // -- workspace runs, completed
    /// No tenant succeeded.
    NoTenantSucceeded,
    /// So many tenants, or items of a bulk operation, failed that no more were tried.
    StoppedAfterFailures,
    // -- waiting
    /// A limit of the type or of the operator is reached.
    ConcurrencyLimit,
    /// Somebody else must approve the plan of the restore or bulk operation.
    AwaitingApproval,
    /// The Job is suspended (by a queue such as Kueue).
    Suspended,
    /// No node accepts the pod.
    Unschedulable,
    /// The image cannot be pulled.
    ImagePull,
    /// A Secret, `ConfigMap` or volume of the pod is missing.
    MissingDependency,
    /// The Job has not created a pod.
    PodNotCreated,
    /// The Job of the same identity is still being deleted.
    PreviousJobTerminating,
    /// The Job is being deleted because the run was cancelled.
    Cancelling,
    /// The pod failed and is retried.
    Retrying,
    /// A wave of a workspace run is done, and the next one is not due yet.
    NextWaveWaits,
    // -- running
    /// The Job is running.
    Running,
    /// Another run does the same work.
    Joined,
    // -- repositories
    /// The check passed.
    CheckPassed,
    /// The first check is running.
    Checking,
    // -- operation types
    /// Runs of the type can be started.
    TypeReady,
    // -- workspaces
    /// The limits of the workspace apply to its tenants.
    WorkspaceReady,
    // -- schedules
    /// The schedule starts a run at each tick.
    Scheduled,
    /// The schedule is suspended: no tick starts a run.
    ScheduleSuspended,
    /// The cron expression is invalid.
    InvalidSchedule,
    /// The time zone does not exist.
    UnknownTimeZone,
    /// Ticks were due and not started.
    TicksMissed,
    /// A schedule created a run.
    RunCreated,
    /// Retention deleted backup sets.
    BackupSetsExpired,
    // -- findings
    /// An item differs from its baseline, and nobody has accepted that.
    Drifted,
    /// A difference that was gone is there again.
    Reopened,
    /// Somebody accepts the difference as it is now.
    Acknowledged,
    /// The difference is gone.
    Resolved,
}

impl Reason {
    /// Returns the code as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
