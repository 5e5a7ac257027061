//! The format's own numbers: sizes, and how content is named.

use rustic_core::Id;
use sha2::{Digest as _, Sha256};

/// Target size of a pack, in bytes. Several are in memory at once while writing and reading.
pub(super) const PACK_SIZE: u64 = 8 * 1024 * 1024;

/// Items are far smaller than a chunk; what is larger is cut here, as the engine is told to do, too.
pub(super) const CHUNK_SIZE: usize = 4 * 1024 * 1024;

/// So many digits of an id the engine shows.
pub(super) const SHOWN_DIGITS: usize = 8;

/// The id of content: that of a blob is its plain content's, that of anything else what lies in the store.
pub(super) fn id_of(content: &[u8]) -> Id {
    Id::new(digest(content))
}

/// SHA-256.
pub(super) fn digest(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}
