//! Codes of comparisons, and of the history of an item.

use super::codes;

codes! {
    /// A backup set is being deleted.
    BACKUP_SET_TERMINATING = "BackupSetTerminating";
    /// Item: the set without it is partial, and does not say whether the item existed.
    OUTSIDE_SELECTION = "OutsideSelection";
    /// Item: the capture of the set without it recorded that it left the item out, or all of its kind.
    NOT_CAPTURED = "NotCaptured";
    /// Item: both sets hold it, in different versions of its kind.
    OTHER_VERSION = "OtherVersion";
    /// Who asks may not read objects of the item's kind.
    REQUESTER_FORBIDDEN = "RequesterForbidden";
    /// The requester is unknown.
    NO_REQUESTER = super::restore::NO_REQUESTER;
    /// The cluster does not serve the item's kind, so that nobody's right to read it can be checked.
    KIND_NOT_SERVED = super::item::KIND_NOT_SERVED;
    /// Item: what a set holds of it is not the object that it should be.
    UNREADABLE = super::item::UNREADABLE;
}
