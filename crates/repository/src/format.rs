//! Constants of the format: sizes, and how content is identified.

use rustic_core::Id;
use sha2::{Digest as _, Sha256};

/// Target size of a pack, in bytes. Several packs are in memory at once while writing and reading.
pub(super) const PACK_SIZE: u64 = 8 * 1024 * 1024;

/// Size of a chunk. Items are far smaller; larger content is split here, and the engine is
/// configured with the same size.
pub(super) const CHUNK_SIZE: usize = 4 * 1024 * 1024;

/// Number of digits that the engine shows of an id.
pub(super) const SHOWN_DIGITS: usize = 8;

/// The id of content. The id of a blob is computed from its plain content, the id of anything else
/// from the stored bytes.
pub(super) fn id_of(content: &[u8]) -> Id {
    Id::new(digest(content))
}

/// The SHA-256 digest of content.
pub(super) fn digest(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}
