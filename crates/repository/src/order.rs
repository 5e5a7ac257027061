//! From the order of a listing to the order of the tree, streaming.
//!
//! The API server lists the objects of a kind by name: `a`, `a-b`. A tree is sorted by file name, and `a-b.json`
//! sorts before `a.json`. So a name is held back while a later name may still sort before it, which is only while
//! later names begin with it: a handful of entries at most (for names longer than about 200 bytes: while later ones share those).

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::path::ItemPath;

/// Anything with a place in the tree.
pub trait HasPath {
    /// Its path.
    fn path(&self) -> &ItemPath;
}

/// Turns entries in listing order into entries in tree order.
///
/// The kinds themselves must come in tree order, each as one run; within a kind entries come by name. What
/// comes otherwise passes through in some order, and is found out by whoever needs the order.
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
    /// Takes the next entry of the listing, and returns those whose turn has come, in tree order.
    pub fn push(&mut self, entry: T) -> Vec<T> {
        let path = entry.path();
        let mut ready = Vec::new();
        while let Some(Reverse(ByPath(first))) = self.held.peek() {
            let same_kind = first.path().directory() == path.directory();
            // Every later name escapes to a file name above this bound, so what lies at or below it is next.
            if same_kind && first.path().file_name().as_bytes() > path.bound() {
                break;
            }
            ready.extend(self.held.pop().map(|Reverse(ByPath(entry))| entry));
        }
        self.held.push(Reverse(ByPath(entry)));
        ready
    }

    /// Returns what is still held, in tree order.
    #[must_use]
    pub fn finish(mut self) -> Vec<T> {
        let mut rest = Vec::with_capacity(self.held.len());
        while let Some(Reverse(ByPath(entry))) = self.held.pop() {
            rest.push(entry);
        }
        rest
    }

    /// How many entries are held back.
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
