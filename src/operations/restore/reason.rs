//! Stable codes of restores that cannot be done. Never renamed.

/// The RestoreRun does not exist any more, or is another one of the same name.
pub const RESTORE_NOT_FOUND: &str = "RestoreNotFound";
/// The RestoreRun is completed or being deleted, or belongs to another run.
pub const NOT_ITS_RESTORE: &str = "NotItsRestore";
/// The backup set does not exist.
pub const BACKUP_SET_NOT_FOUND: &str = "BackupSetNotFound";
/// The backup set belongs to another repository, or to another namespace that was not adopted.
pub const FOREIGN_BACKUP_SET: &str = "ForeignBackupSet";
/// A selector, a transform or another field of the restore is invalid.
pub const INVALID_RESTORE: &str = "InvalidRestore";
/// The requester is unknown.
pub const NO_REQUESTER: &str = "NoRequester";
/// Nothing in the set is selected.
pub const NOTHING_SELECTED: &str = "NothingSelected";
/// The run named as preview does not exist, is not a preview, did not succeed, or is of another
/// set.
pub const PREVIEW_NOT_USABLE: &str = "PreviewNotUsable";
/// Something differs from what the preview showed.
pub const PREVIEW_STALE: &str = "PreviewStale";
/// Not a single item could be restored.
pub const NOTHING_RESTORED: &str = "NothingRestored";
/// The stored plan is incomplete, or was changed.
pub const PLAN_LOST: &str = "PlanLost";
/// The snapshot does not name the absent items that its set says it names.
pub const UNDO_INCOMPLETE: &str = "UndoIncomplete";
/// An entry of `items` matches nothing. This is the code of a failed item.
pub const MATCHES_NOTHING: &str = "MatchesNothing";
/// The intent or the outcome could not be recorded in the audit chain.
pub const AUDIT_NOT_WRITTEN: &str = "AuditNotWritten";
/// All codes.
pub const ALL: [&str; 14] = [
    RESTORE_NOT_FOUND,
    BACKUP_SET_NOT_FOUND,
    FOREIGN_BACKUP_SET,
    INVALID_RESTORE,
    NO_REQUESTER,
    NOTHING_SELECTED,
    PREVIEW_NOT_USABLE,
    PREVIEW_STALE,
    NOTHING_RESTORED,
    PLAN_LOST,
    UNDO_INCOMPLETE,
    MATCHES_NOTHING,
    AUDIT_NOT_WRITTEN,
    NOT_ITS_RESTORE,
];

#[cfg(test)]
mod tests {
    #[test]
    fn reason_codes_are_frozen_and_the_guide_says_what_to_do_about_each() {
        insta::assert_snapshot!(super::ALL.join("\n"));
        let guide = include_str!("../../../docs/guides/what-is-restored.md");
        for code in super::ALL {
            assert!(guide.contains(&format!("| `{code}` |")), "the guide does not name {code}");
        }
    }
}
