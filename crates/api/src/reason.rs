//! Reason codes: the frozen vocabulary of `status.reason`, `waiting.reason` and conditions.
//!
//! Scripts and alerts match on them, so a code is never renamed (a test holds the list).

/// Why a run is where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// Every code, in the order of the declaration.
    pub const ALL: &'static [Self] = &[
        Self::Succeeded,
        Self::PartiallySucceeded,
        Self::ResultUnreadable,
        Self::JobFailed,
        Self::PermanentFailure,
        Self::TimedOut,
        Self::Cancelled,
        Self::JobDeleted,
        Self::ResultLost,
        Self::ResultInconsistent,
        Self::NotATenant,
        Self::UnknownType,
        Self::TypeSuspended,
        Self::WrongScope,
        Self::InvalidInputs,
        Self::InputsTooLarge,
        Self::TimeoutTooLong,
        Self::TooLarge,
        Self::InvalidType,
        Self::RepositoryNotFound,
        Self::RepositoryNotReady,
        Self::AccountNotFound,
        Self::AccountLacksRights,
        Self::DuplicateRun,
        Self::TickRepeated,
        Self::RerunNotPossible,
        Self::JobNameTaken,
        Self::QuotaExceeded,
        Self::JobRefused,
        Self::BackupSetNotFound,
        Self::ForeignBackupSet,
        Self::InvalidRestore,
        Self::NoRequester,
        Self::PreviewNotUsable,
        Self::RunNameTaken,
        Self::RunRefused,
        Self::RunDeleted,
        Self::ConcurrencyLimit,
        Self::Suspended,
        Self::Unschedulable,
        Self::ImagePull,
        Self::MissingDependency,
        Self::PodNotCreated,
        Self::PreviousJobTerminating,
        Self::Cancelling,
        Self::Retrying,
        Self::Running,
        Self::Joined,
        Self::CheckPassed,
        Self::Checking,
        Self::Scheduled,
        Self::ScheduleSuspended,
        Self::InvalidSchedule,
        Self::UnknownTimeZone,
        Self::TicksMissed,
        Self::RunCreated,
        Self::BackupSetsExpired,
    ];

    /// The code as users see it: the variant's own name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "Succeeded",
            Self::PartiallySucceeded => "PartiallySucceeded",
            Self::ResultUnreadable => "ResultUnreadable",
            Self::JobFailed => "JobFailed",
            Self::PermanentFailure => "PermanentFailure",
            Self::TimedOut => "TimedOut",
            Self::Cancelled => "Cancelled",
            Self::JobDeleted => "JobDeleted",
            Self::ResultLost => "ResultLost",
            Self::ResultInconsistent => "ResultInconsistent",
            Self::NotATenant => "NotATenant",
            Self::UnknownType => "UnknownType",
            Self::TypeSuspended => "TypeSuspended",
            Self::WrongScope => "WrongScope",
            Self::InvalidInputs => "InvalidInputs",
            Self::TimeoutTooLong => "TimeoutTooLong",
            Self::InputsTooLarge => "InputsTooLarge",
            Self::TooLarge => "TooLarge",
            Self::InvalidType => "InvalidType",
            Self::RepositoryNotFound => "RepositoryNotFound",
            Self::RepositoryNotReady => "RepositoryNotReady",
            Self::AccountNotFound => "AccountNotFound",
            Self::AccountLacksRights => "AccountLacksRights",
            Self::DuplicateRun => "DuplicateRun",
            Self::TickRepeated => "TickRepeated",
            Self::RerunNotPossible => "RerunNotPossible",
            Self::JobNameTaken => "JobNameTaken",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::JobRefused => "JobRefused",
            Self::BackupSetNotFound => "BackupSetNotFound",
            Self::ForeignBackupSet => "ForeignBackupSet",
            Self::InvalidRestore => "InvalidRestore",
            Self::NoRequester => "NoRequester",
            Self::PreviewNotUsable => "PreviewNotUsable",
            Self::RunNameTaken => "RunNameTaken",
            Self::RunRefused => "RunRefused",
            Self::RunDeleted => "RunDeleted",
            Self::ConcurrencyLimit => "ConcurrencyLimit",
            Self::Suspended => "Suspended",
            Self::Unschedulable => "Unschedulable",
            Self::ImagePull => "ImagePull",
            Self::MissingDependency => "MissingDependency",
            Self::PodNotCreated => "PodNotCreated",
            Self::PreviousJobTerminating => "PreviousJobTerminating",
            Self::Cancelling => "Cancelling",
            Self::Retrying => "Retrying",
            Self::Running => "Running",
            Self::Joined => "Joined",
            Self::CheckPassed => "CheckPassed",
            Self::Checking => "Checking",
            Self::Scheduled => "Scheduled",
            Self::ScheduleSuspended => "ScheduleSuspended",
            Self::InvalidSchedule => "InvalidSchedule",
            Self::UnknownTimeZone => "UnknownTimeZone",
            Self::TicksMissed => "TicksMissed",
            Self::RunCreated => "RunCreated",
            Self::BackupSetsExpired => "BackupSetsExpired",
        }
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn the_guide_says_of_every_reason_what_to_do() {
        let guide = include_str!("../../../docs/guides/operations.md");
        for reason in Reason::ALL {
            assert!(guide.contains(&format!("| `{reason}`")), "the guide has no row for {reason}");
        }
    }

    #[test]
    fn reason_codes_are_frozen() {
        let codes: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        insta::assert_snapshot!(codes.join("\n"));
    }

    #[test]
    fn every_reason_reads_as_its_variant() {
        for reason in Reason::ALL {
            assert_eq!(format!("{reason:?}"), reason.as_str());
        }
    }
}
