//! Texts of cached objects, compressed with a dictionary of their kind. Pure.
//!
//! A cache may hold 100,000 objects of a kind. Their texts differ in little more than names, uids,
//! hashes and times, so a dictionary of samples shrinks each to a fraction.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::sync::{Arc, Mutex, PoisonError};
use zstd::bulk::{Compressor, Decompressor};

/// The fastest level: each object is compressed once for each change.
const LEVEL: i32 = 1;

/// What the texts of one kind have in common.
pub struct Dictionary {
    compressor: Mutex<Compressor<'static>>,
    decompressor: Mutex<Decompressor<'static>>,
}

impl Dictionary {
    /// Creates a dictionary from samples. They need not be complete: text that they lack is
    /// compressed less well.
    #[must_use]
    pub fn of(samples: &[Vec<u8>]) -> Option<Self> {
        let text = samples.concat();
        Some(Self {
            compressor: Mutex::new(Compressor::with_dictionary(LEVEL, &text).ok()?),
            decompressor: Mutex::new(Decompressor::with_dictionary(&text).ok()?),
        })
    }
}

/// A text in memory.
#[derive(Clone)]
pub struct Packed {
    /// Length of the text before it was compressed; `None` if it is stored as it is.
    length: Option<u32>,
    text: Arc<[u8]>,
}

impl Packed {
    /// Packs a text.
    #[must_use]
    pub fn new(text: Vec<u8>, dictionary: Option<&Dictionary>) -> Self {
        if let Some(dictionary) = dictionary
            && let Ok(length) = u32::try_from(text.len())
            && let Ok(compressed) = dictionary.compressor.lock().unwrap_or_else(PoisonError::into_inner).compress(&text)
        {
            return Self { length: Some(length), text: compressed.into() };
        }
        Self { length: None, text: text.into() }
    }

    /// Returns the text. The dictionary is the one that it was packed with.
    #[must_use]
    pub fn open(&self, dictionary: Option<&Dictionary>) -> Option<Vec<u8>> {
        let Some(length) = self.length else { return Some(self.text.to_vec()) };
        let mut decompressor = dictionary?.decompressor.lock().unwrap_or_else(PoisonError::into_inner);
        decompressor.decompress(&self.text, usize::try_from(length).ok()?).ok()
    }

    /// Number of bytes in memory.
    #[must_use]
    pub fn size(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_text_comes_back_as_it_was(text: Vec<u8>, sample: Vec<u8>, packs: bool) {
            let dictionary = Dictionary::of(&[sample]).filter(|_| packs);
            let packed = Packed::new(text.clone(), dictionary.as_ref());
            prop_assert_eq!(packed.open(dictionary.as_ref()), Some(text));
        }
    }
}
