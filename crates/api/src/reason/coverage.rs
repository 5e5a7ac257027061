//! Codes of objects that no backup set holds.

use super::{codes, compare, item};

codes! {
    /// There is no backup set in the days that were looked at.
    NO_BACKUP = "NoBackup";
    /// The object has a label that excludes it from backups. `SkipReason` in the crate `items` has
    /// the same code.
    EXCLUDED_BY_LABEL = "ExcludedByLabel";
    /// No backup set selects the kind.
    EXCLUDED_KIND = "ExcludedKind";
    /// No backup set selects the object by its name or its labels.
    OUTSIDE_SELECTION = compare::OUTSIDE_SELECTION;
    /// The object was created after the last backup that would hold it began.
    NEWER_THAN_LAST_BACKUP = "NewerThanLastBackup";
    /// The last backup that would hold the object does not, and does not say why.
    NOT_IN_BACKUP = "NotInBackup";
    /// The last backup that would hold the object was not allowed to list the kind.
    FORBIDDEN = item::FORBIDDEN;
    /// The same of a third-party kind.
    KIND_NOT_READABLE = item::KIND_NOT_READABLE;
    /// In the last backup that would hold the object, the group of the kind could not be discovered.
    UNDISCOVERED = item::UNDISCOVERED;
    /// In the last backup that would hold the object, the kind was not listed to its end.
    UNLISTABLE = item::UNLISTABLE;
    /// The last backup that would hold the object could not read it, or its kind.
    UNREADABLE = item::UNREADABLE;
    /// The object's name cannot be part of a path.
    UNSAFE_NAME = item::UNSAFE_NAME;
    /// The object is a Secret with a repository's key and other contents.
    NOT_ONLY_A_KEY = item::NOT_ONLY_A_KEY;
}

/// The code in this group that is spelled like this.
#[must_use]
pub fn known(code: &str) -> Option<&'static str> {
    ALL.iter().find(|known| **known == code).copied()
}
