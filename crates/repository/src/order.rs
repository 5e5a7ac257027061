//! Converts the order of a listing to the order of the tree, as a stream.
//!
//! The API server lists the objects of a kind by name: `a`, `a-b`. A tree is sorted by file name,
//! and `a-b.json` sorts before `a.json`. A name is therefore held back while a later name may still
//! sort before it. That is only the case while later names start with it, so a handful of entries
//! are held at most. For names longer than about 200 bytes, it is the case while later names share
//! those bytes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::path::ItemPath;

/// Anything with a path in the tree.
pub trait HasPath {
    /// The path in the tree.
    fn path(&self) -> &ItemPath;
}

/// Turns entries in listing order into entries in tree order.
///
/// The kinds themselves must come in tree order, each as one run; within a kind, entries must come
/// by name. Any other input passes through in some order, and the code that needs the order detects
/// it.
#[derive(Debug)]
pub struct Reorder<T> {
    held: BinaryHeap<Reverse<ByPath<T>>>,
}

impl<T> Default for Reorder<T> {
    fn default() -> Self {
        Self { held: BinaryHeap::new() }
    }
}

impl<T: HasPath> Reorder<T> {
    /// Takes the next entry of the listing. Returns the entries that are ready, in tree order.
    pub fn push(&mut self, entry: T) -> Vec<T> {
        let path = entry.path();
        let mut ready = Vec::new();
        while let Some(Reverse(ByPath(first))) = self.held.peek() {
            let same_kind = first.path().directory() == path.directory();
            // The file name of every later entry sorts above this bound, so entries at or below it
            // are next.
            if same_kind && first.path().file_name().as_bytes() > path.bound() {
                break;
            }
            ready.extend(self.held.pop().map(|Reverse(ByPath(entry))| entry));
        }
        self.held.push(Reverse(ByPath(entry)));
        ready
    }

    /// Returns the entries that are still held, in tree order.
    #[must_use]
    pub fn finish(mut self) -> Vec<T> {
        let mut rest = Vec::with_capacity(self.held.len());
        while let Some(Reverse(ByPath(entry))) = self.held.pop() {
            rest.push(entry);
        }
        rest
    }

    /// Number of entries held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

#[derive(Debug)]
struct ByPath<T>(T);

impl<T: HasPath> Ord for ByPath<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.path().cmp(other.0.path())
    }
}

impl<T: HasPath> PartialOrd for ByPath<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T: HasPath> PartialEq for ByPath<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<T: HasPath> Eq for ByPath<T> {}
