//! Whether the pod was told to stop: by a cancellation, or because its node wants to be rid of it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Set once, asked by whoever writes item by item: what is begun is ended, nothing more is begun.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on nothing is begun.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether nothing is to be begun.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
