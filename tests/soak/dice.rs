//! Choices that a seed repeats. Pure.

use sha2::{Digest as _, Sha256};

/// A stream of choices (splitmix64). Streams of one seed and different names have nothing in common.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64, stream: &str) -> Self {
        let digest = Sha256::digest(format!("{seed} {stream}"));
        Self(digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `[least, most]`.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// One of these; none of none.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> Option<&'a T> {
        let last = u64::try_from(all.len()).ok()?.checked_sub(1)?;
        all.get(usize::try_from(self.between(0, last)).ok()?)
    }

    /// One of these, the more often the greater its weight.
    pub fn weighted<T: Copy>(&mut self, all: &[(u64, T)]) -> Option<T> {
        let total: u64 = all.iter().map(|(weight, _)| weight).sum();
        let mut left = self.between(1, total.max(1));
        all.iter().find_map(|(weight, one)| {
            let hit = left <= *weight;
            left = left.saturating_sub(*weight);
            hit.then_some(*one)
        })
    }
}
