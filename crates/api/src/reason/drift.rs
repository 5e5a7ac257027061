//! Codes of comparisons with a baseline.

use super::codes;

codes! {
    /// There is no backup set that the tenant can be compared with.
    NO_BASELINE = "NoBaseline";
    /// A backup set does not hold all that is to be compared, or does not say what it holds.
    BASELINE_SCOPE = "BaselineOfAnotherScope";
    /// Kind: it could not be listed, or not to the end.
    NOT_LISTED = "NotListed";
    /// Item: it was deleted and created again.
    REPLACED = "Replaced";
    /// A backup set is being deleted.
    BACKUP_SET_TERMINATING = super::compare::BACKUP_SET_TERMINATING;
    /// Item: a side does not select it, or selects by labels.
    OUTSIDE_SELECTION = super::compare::OUTSIDE_SELECTION;
    /// Item: a side left it out, or all of its kind.
    NOT_CAPTURED = super::compare::NOT_CAPTURED;
    /// Kind: the sides hold it in different versions.
    OTHER_VERSION = super::compare::OTHER_VERSION;
    /// Item: what a side holds of it cannot be read.
    UNREADABLE = super::item::UNREADABLE;
}
