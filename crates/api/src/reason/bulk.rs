//! Codes of bulk operations that cannot be done, and of their items. Items also have the codes of
//! [`super::item`] where the API server refuses a write, and those of `Excluded` in the crate
//! `items` where an object is never changed.

use super::{codes, item, of_runs, restore, worker};

codes! {
    /// The BulkOperationRun does not exist any more, or is another one of the same name.
    BULK_NOT_FOUND = "BulkOperationRunNotFound";
    /// The BulkOperationRun is completed or being deleted, or belongs to another run.
    NOT_ITS_BULK = "NotItsBulkOperationRun";
    /// The action does not fit the kind, or a selector, a key or a value is invalid.
    INVALID_BULK = of_runs!(InvalidBulkOperation);
    /// The requester is unknown.
    NO_REQUESTER = of_runs!(NoRequester);
    /// The cluster does not serve the kind in namespaces.
    KIND_NOT_SERVED = item::KIND_NOT_SERVED;
    /// No object matches the selector.
    NOTHING_SELECTED = worker::NOTHING_SELECTED;
    /// More objects match the selector than one bulk operation takes.
    TOO_MANY_SELECTED = "TooManySelected";
    /// The list of the selected objects is incomplete, or was changed.
    SELECTION_LOST = "SelectionLost";
    /// The preview cannot be applied.
    PREVIEW_NOT_USABLE = of_runs!(PreviewNotUsable);
    /// The list of what the preview found is incomplete, or was changed.
    PLAN_LOST = restore::PLAN_LOST;
    /// An object is not as the preview showed it. Nothing was written.
    PREVIEW_STALE = restore::PREVIEW_STALE;
    /// Not a single object could be changed.
    NOTHING_CHANGED = "NothingChanged";
    /// The objects are more than an export takes.
    EXPORT_TOO_LARGE = "ExportTooLarge";
    /// A ConfigMap that is not the export's own has its name.
    EXPORT_NAME_TAKEN = "ExportNameTaken";
    /// Not a single object was exported.
    NOTHING_EXPORTED = "NothingExported";
    /// The intent or the outcome could not be recorded in the audit chain.
    AUDIT_NOT_WRITTEN = restore::AUDIT_NOT_WRITTEN;
    /// Item: the requester, or the account that writes, lacks a right.
    FORBIDDEN = item::FORBIDDEN;
    /// Item: no object has the requested name.
    NOT_FOUND = item::NOT_FOUND;
    /// Item, skipped: the object was selected by its labels, and is gone.
    VANISHED = "Vanished";
    /// Item, skipped: the object is being deleted.
    BEING_DELETED = item::BEING_DELETED;
    /// Item: the object was changed by others each time that it was to be written, or since the
    /// preview.
    MOVED = item::MOVED;
    /// Item: the preview showed that it would not be changed, and now it could be.
    NOT_PLANNED = "NotPlanned";
    /// Item: the action would have no effect on this object, or not the one that is meant.
    NOT_APPLICABLE = "NotApplicable";
    /// Item, skipped: too many others had failed before its turn.
    STOPPED_AFTER_FAILURES = of_runs!(StoppedAfterFailures);
    /// Item, skipped: the operation was cancelled before its turn.
    STOPPED = item::STOPPED;
}
