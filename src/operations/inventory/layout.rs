//! Where the records of an inventory are in its snapshot.
//!
//! ```text
//! group/version/Kind.inventory/00000.json        a chunk of the items, by name
//! group/version/Kind.inventory/collection.json   how complete the kind is, and how many items it has
//! ```
//!
//! Every kind that was listed has a collection, also if it has no items. A group that could not be
//! discovered has one under the kind `-`. No kind's name contains a dot, so a record is never
//! mistaken for an object. The formats are in [`crate::items::inventory`].

use crate::{
    items::served::ServedKind,
    repository::{Error, ItemPath},
};

/// Suffix of the directory with the records of a kind.
pub const SUFFIX: &str = ".inventory";

/// Name of the file that describes a kind.
const COLLECTION: &str = "collection";

/// Tag of a snapshot that is an inventory.
pub const TAG: &str = "inventory";

/// Prefix of the tag with the key of what was selected.
pub const SCOPE_TAG: &str = "scope=";

/// Whether a path in a snapshot is a record of an inventory rather than an object.
#[must_use]
pub fn is_record(path: &ItemPath) -> bool {
    path.directory().ends_with(SUFFIX)
}

/// Whether a record describes a kind rather than items.
#[must_use]
pub fn is_collection(path: &ItemPath) -> bool {
    is_record(path) && path.file_name().strip_suffix(".json") == Some(COLLECTION)
}

/// Path of a chunk.
pub fn chunk(kind: &ServedKind, number: u64) -> Result<ItemPath, Error> {
    path(kind, &format!("{number:05}"))
}

/// Path of the description of a kind.
pub fn collection(kind: &ServedKind) -> Result<ItemPath, Error> {
    path(kind, COLLECTION)
}

fn path(kind: &ServedKind, name: &str) -> Result<ItemPath, Error> {
    ItemPath::new(&kind.group, &kind.version, &format!("{}{SUFFIX}", kind.kind), name)
}
