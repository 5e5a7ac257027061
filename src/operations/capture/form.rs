//! What a capture stores of the objects that it lists.

use super::{collect::created_at, omission::Note};
use crate::{
    items::{canonical::stored_bytes, served::ServedKind},
    repository::{Entry, Error, ItemPath},
};
use serde_json::{Map, Value};

/// What is stored of each object. Objects come kind by kind, and within a kind by name.
pub trait Form {
    /// Suffix of the directory in which the entries of a kind are.
    fn suffix(&self) -> &'static str;

    /// Takes an object of a kind. The entry is the next to store, if there is one by now.
    fn take(&mut self, kind: &ServedKind, name: &str, object: Map<String, Value>) -> Result<Option<Entry>, Error>;

    /// Ends a kind, or a group that could not be discovered. Returns the last entries. `note` is what
    /// the capture left out of the kind.
    fn end(&mut self, kind: &ServedKind, note: &Note) -> Result<Vec<Entry>, Error>;
}

/// The objects themselves, each in its canonical form.
pub struct Objects;

impl Form for Objects {
    fn suffix(&self) -> &'static str {
        ""
    }

    fn take(&mut self, kind: &ServedKind, name: &str, object: Map<String, Value>) -> Result<Option<Entry>, Error> {
        let path = ItemPath::new(&kind.group, &kind.version, &kind.kind, name)?;
        let mtime = created_at(&object);
        let content = stored_bytes(object, &kind.api_version(), &kind.kind);
        Ok(Some(Entry { path, content: content.into(), mtime }))
    }

    fn end(&mut self, _: &ServedKind, _: &Note) -> Result<Vec<Entry>, Error> {
        Ok(Vec::new())
    }
}
