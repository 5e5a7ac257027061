//! Codes of items: why one was not captured or restored, or what to know about one that was. The codes
//! of what is left out on purpose are variants of `SkipReason` and `Excluded` in the crate `items`.

use super::{codes, of_runs};

codes! {
    /// The object exists, and the policy leaves existing objects as they are.
    EXISTS = "Exists";
    /// The object does not exist, and only existing objects that differ were selected.
    NOT_THERE = "NotThere";
    /// The controller of the object is restored too, and recreates it.
    LEFT_TO_OWNER = "LeftToOwner";
    /// The object did not exist when the set was taken; without prune it stays.
    NOT_PRUNED = "NotPruned";
    /// The object did not exist when the set was taken, and does not exist now.
    ABSENT = "Absent";
    /// The object is garbage-collected with its owner, which is deleted.
    GARBAGE_COLLECTED = "GarbageCollected";
    /// The object is being deleted.
    BEING_DELETED = "BeingDeleted";
    /// A field that differs is immutable.
    IMMUTABLE_FIELD = "ImmutableField";
    /// Data would be lost for good, and the terms do not allow it.
    DATA_LOSS = "DataLossNotAllowed";
    /// The object was deleted to be recreated, and could be neither recreated nor put back as it
    /// was.
    DELETED = "Deleted";
    /// The object has changed since it was read.
    MOVED = "Moved";
    /// The restore was stopped before it reached the item.
    STOPPED = "Stopped";
    /// The account that writes, or the requester, lacks a right.
    FORBIDDEN = "Forbidden";
    /// The stored content is not the expected object.
    UNREADABLE = "Unreadable";
    /// A transform could not be applied.
    TRANSFORM_FAILED = "TransformFailed";
    /// The path of a finding cannot be put back into the object as it is now.
    PATH_NOT_RESTORABLE = "PathNotRestorable";
    /// The cluster does not serve the kind.
    KIND_NOT_SERVED = "KindNotServed";
    /// The cluster serves the kind, but not in this version.
    VERSION_NOT_SERVED = "VersionNotServed";
    /// The API server rejects the object as invalid.
    INVALID = "Invalid";
    /// An admission webhook, a policy or a plugin denies the object.
    ADMISSION_REFUSED = "AdmissionRefused";
    /// A quota denies the object.
    QUOTA_EXCEEDED = of_runs!(QuotaExceeded);
    /// A webhook that the API server must call does not answer.
    WEBHOOK_UNAVAILABLE = "WebhookUnavailable";
    /// The API server, or a service that it calls, fails.
    SERVER_FAILED = "ServerFailed";
    /// Warning: an owner does not exist, so the object is written without that owner.
    OWNER_MISSING = "OwnerMissing";
    /// Warning: a claim is created with a new, empty volume.
    VOLUME_EMPTY = "VolumeEmpty";
    /// Warning: data is lost for good.
    DATA_LOST = "DataLost";
    /// Warning: the API server was not asked for a dry run.
    NOT_TRIED = "NotTried";
    /// Warning: the object is written, but its previous field managers are lost.
    FIELD_MANAGERS_LOST = "FieldManagersLost";
    /// Warning: a Job that was running is recreated, and runs again.
    RUNS_AGAIN = "RunsAgain";
    /// Warning: finalizers that the object was captured with are not restored.
    FINALIZERS_LEFT = "FinalizersLeft";
    /// Warning: fields that the kind's schema does not know are dropped.
    FIELDS_DROPPED = "FieldsDropped";
    /// An API group could not be discovered.
    UNDISCOVERED = "Undiscovered";
    /// A third-party kind that the platform has not allowed workers to read: skipped, not failed.
    KIND_NOT_READABLE = "KindNotReadable";
    /// A kind could not be listed, or not completely.
    UNLISTABLE = "Unlistable";
    /// No object has a requested name.
    NOT_FOUND = "NotFound";
    /// A Secret with a repository's key has other contents too.
    NOT_ONLY_A_KEY = "NotOnlyAKey";
    /// The name cannot be part of a path.
    UNSAFE_NAME = "UnsafeName";
}
