//! Codes of restores that cannot be done.

use super::{codes, of_runs, worker};

codes! {
    /// The RestoreRun does not exist any more, or is another one of the same name.
    RESTORE_NOT_FOUND = "RestoreNotFound";
    /// The RestoreRun is completed or being deleted, or belongs to another run.
    NOT_ITS_RESTORE = "NotItsRestore";
    /// The backup set does not exist.
    BACKUP_SET_NOT_FOUND = of_runs!(BackupSetNotFound);
    /// The backup set belongs to another repository, or to another namespace that was not adopted.
    FOREIGN_BACKUP_SET = of_runs!(ForeignBackupSet);
    /// A selector, a transform or another field of the restore is invalid.
    INVALID_RESTORE = of_runs!(InvalidRestore);
    /// The requester is unknown.
    NO_REQUESTER = of_runs!(NoRequester);
    /// Nothing in the set is selected.
    NOTHING_SELECTED = worker::NOTHING_SELECTED;
    /// The run named as preview does not exist, is not a preview, did not succeed, or is of another
    /// set.
    PREVIEW_NOT_USABLE = of_runs!(PreviewNotUsable);
    /// Something differs from what the preview showed.
    PREVIEW_STALE = of_runs!(PreviewStale);
    /// Not a single item could be restored.
    NOTHING_RESTORED = "NothingRestored";
    /// The stored plan is incomplete, or was changed.
    PLAN_LOST = "PlanLost";
    /// The snapshot does not name the absent items that its set says it names.
    UNDO_INCOMPLETE = "UndoIncomplete";
    /// An entry of `items` matches nothing. This is the code of a failed item.
    MATCHES_NOTHING = "MatchesNothing";
    /// The intent or the outcome could not be recorded in the audit chain.
    AUDIT_NOT_WRITTEN = "AuditNotWritten";
}
