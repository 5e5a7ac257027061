//! The account of a capture: what is read back must equal what was offered.

use sha2::{Digest as _, Sha256};

/// Items, bytes, and a digest over paths and sizes in order. The tallies of the offers and of a
/// snapshot are equal only if nothing is missing, duplicated or moved.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    pub(super) items: u64,
    pub(super) bytes: u64,
    digest: Sha256,
}

impl Tally {
    pub(super) fn add(&mut self, path: &str, size: u64) {
        self.items += 1;
        // Sizes in a repository are untrusted.
        self.bytes = self.bytes.saturating_add(size);
        self.digest.update(path.as_bytes());
        self.digest.update([0]);
        self.digest.update(size.to_le_bytes());
    }

    pub(super) fn equals(&self, other: &Self) -> bool {
        self.items == other.items && self.digest.clone().finalize() == other.digest.clone().finalize()
    }
}
