//! Whether the pod was told to stop: by a cancellation, or because its node evicts it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Set once, and read by code that writes item by item: started items are finished, no new ones are
/// started.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on no new item is started.
    pub fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether no new item may be started.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
