//! The one clock. Decisions take a time as an argument; whoever calls them asks here.

use jiff::Timestamp;
use std::sync::Arc;

/// Where times come from.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// A clock that many tasks share.
pub type SharedClock = Arc<dyn Clock>;
