//! What is asked of a provider, and what it answers: values without behaviour.

#![deny(clippy::disallowed_types)]

use crate::{
    api::reason::item as reason,
    items::{plan::Remark, proposal::Verdict, served::ServedKind},
};
use serde_json::{Map, Value};

/// Which items of a kind to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListSelection {
    /// In the syntax of `kubectl -l`.
    pub label_selector: Option<String>,
    /// Only the item of this name.
    pub name: Option<String>,
}

/// One item of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Name of the object.
    pub name: String,
    /// The complete object.
    pub json: Map<String, Value>,
}

/// A list element that is not an object that can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenItem {
    /// Name of the element, empty if it has none.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A single item.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The kind, in the version that is read or written.
    pub kind: &'a ServedKind,
    /// Name of the object.
    pub name: &'a str,
}

/// Result of a dry run.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// The provider's verdict.
    pub verdict: Verdict,
    /// Fields that it would drop because the schema of the kind does not know them, in its own
    /// words.
    pub dropped: Option<String>,
}

impl Tried {
    /// A verdict on a write that loses no fields.
    #[must_use]
    pub fn plain(verdict: Verdict) -> Self {
        Self { verdict, dropped: None }
    }
}

/// Result of a real write.
#[derive(Clone, Debug, PartialEq)]
pub enum Performed {
    /// The write was done.
    Done {
        /// Uid of the object now. `None` for a deletion.
        uid: Option<String>,
        /// A remark about the successful write.
        remark: Option<Remark>,
    },
    /// The object has changed. Nothing was done.
    Moved,
    /// The object was deleted, and another client created one of the same name.
    Retaken,
    /// The object is being deleted and does not disappear. Nothing was created.
    Lingers,
    /// The provider refuses the write. Nothing was done.
    Refused {
        /// HTTP status.
        code: u16,
        /// The provider's message, without secrets.
        message: String,
    },
    /// The provider would not accept the deleted object again. Nothing was done.
    Final {
        /// HTTP status.
        code: u16,
        /// The provider's message, without secrets.
        message: String,
    },
    /// The object was deleted, and the provider refuses its replacement.
    Deleted {
        /// HTTP status.
        code: u16,
        /// The provider's message, without secrets.
        message: String,
        /// Uid of the previous object, if it was recreated. `None` if it is gone.
        put_back: Option<String>,
    },
}

/// Remark about fields that the provider drops.
#[must_use]
pub fn without_fields(dropped: &str) -> Remark {
    let message = format!(
        "install the definition that knows all of its fields, then restore it again: it is written without some of them: {dropped}"
    );
    Remark::new(reason::FIELDS_DROPPED, message)
}
