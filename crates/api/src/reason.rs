//! Reason codes: the frozen vocabulary of `status.reason`, `waiting.reason` and conditions.
//!
//! Scripts and alerts match on them, so a code is never renamed (a test holds the list).

use strum::{Display, IntoStaticStr, VariantArray};

/// Why a run is where it is. Its text is the variant's own name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Display, IntoStaticStr, VariantArray)]
pub enum Reason {
    // -- completed, done
    /// Everything was done.
    Succeeded,
    /// Some items failed.
    PartiallySucceeded,
    /// Done by the exit code, but the termination message is not a result.
    ResultUnreadable,
    // -- completed, failed
    /// The Job failed after all its retries.
    JobFailed,
    /// The pod ended with a permanent exit code (40-49).
    PermanentFailure,
    /// The run took longer than its timeout.
    TimedOut,
    /// Asked for by `spec.cancel`.
    Cancelled,
    /// The Job was deleted by somebody else.
    JobDeleted,
    /// The Job ended, but its pod was gone before the result was read.
    ResultLost,
    /// The result's counts do not add up.
    ResultInconsistent,
    // -- completed, blocked
    /// The namespace is not a tenant.
    NotATenant,
    /// No such operation type.
    UnknownType,
    /// The operation type is suspended.
    TypeSuspended,
    /// The type is for workspaces, not tenants.
    WrongScope,
    /// The inputs do not fit the type's schema, are no object, or are too large.
    InvalidInputs,
    /// Inputs over 64 KiB.
    InputsTooLarge,
    /// `timeoutSeconds` is more than the type's timeout.
    TimeoutTooLong,
    /// A field of the object is larger than the operator reads.
    TooLarge,
    /// The type itself cannot be executed as written.
    InvalidType,
    /// The repository named in the inputs does not exist.
    RepositoryNotFound,
    /// The repository has not passed its check.
    RepositoryNotReady,
    /// The account the Job would run as does not exist.
    AccountNotFound,
    /// The account that a restore names lacks what every restore needs for its own records.
    AccountLacksRights,
    /// A run of the same identity is active, and `onDuplicate` is `Reject`.
    DuplicateRun,
    /// The schedule had started another run for the same tick.
    TickRepeated,
    /// The run named in `rerunOf` does not exist, is not completed, or is of another type.
    RerunNotPossible,
    /// An object with the Job's name exists that is not ours.
    JobNameTaken,
    /// A quota refuses the Job, or the run of a restore.
    QuotaExceeded,
    /// The API server refuses the Job for another reason.
    JobRefused,
    // -- restores, completed and blocked
    /// The backup set does not exist.
    BackupSetNotFound,
    /// The backup set is of another namespace that was not adopted.
    ForeignBackupSet,
    /// A selector or a transform does not read.
    InvalidRestore,
    /// Nobody is known to have asked.
    NoRequester,
    /// The run named as preview does not exist, is not one, did not succeed, or is of another set.
    PreviewNotUsable,
    /// Runs of others have the names that the restore's run may have.
    RunNameTaken,
    /// The API server refuses the restore's run.
    RunRefused,
    // -- restores, completed and failed
    /// The run that did the restore's work was deleted.
    RunDeleted,
    // -- waiting
    /// A limit of the type or of the operator is reached.
    ConcurrencyLimit,
    /// The Job is suspended (by a queue such as Kueue).
    Suspended,
    /// No node takes the pod.
    Unschedulable,
    /// The image cannot be pulled.
    ImagePull,
    /// A Secret, `ConfigMap` or volume of the pod is missing.
    MissingDependency,
    /// The Job has made no pod.
    PodNotCreated,
    /// The Job of the same identity is still being deleted.
    PreviousJobTerminating,
    /// The Job is being deleted because the run was cancelled.
    Cancelling,
    /// The pod failed and is tried again.
    Retrying,
    // -- going
    /// The Job runs.
    Running,
    /// Another run does the same work.
    Joined,
    // -- repositories
    /// The check passed.
    CheckPassed,
    /// The first check runs.
    Checking,
    // -- operation types
    /// Runs of the type can be started.
    TypeReady,
    // -- schedules
    /// It fires as scheduled.
    Scheduled,
    /// It is suspended: no tick fires.
    ScheduleSuspended,
    /// The expression does not read.
    InvalidSchedule,
    /// There is no such time zone.
    UnknownTimeZone,
    /// Ticks came and were not started.
    TicksMissed,
    /// A schedule made a run.
    RunCreated,
    /// Retention deleted backup sets.
    BackupSetsExpired,
}

impl Reason {
    /// The code as users see it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_says_of_every_reason_what_to_do() {
        let guide = include_str!("../../../docs/guides/operations.md");
        for reason in Reason::VARIANTS {
            assert!(guide.contains(&format!("| `{reason}`")), "the guide has no row for {reason}");
        }
    }

    #[test]
    fn reason_codes_are_frozen() {
        let codes: Vec<_> = Reason::VARIANTS.iter().map(|reason| reason.as_str()).collect();
        insta::assert_snapshot!(codes.join("\n"));
    }
}
