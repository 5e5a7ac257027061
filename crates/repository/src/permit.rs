//! The permit to write, which excludes maintenance.

use std::fmt;
use std::sync::Arc;

/// The permit to write to a repository. It is held concurrently with other writers, but never with
/// maintenance.
///
/// Pruning while a snapshot is written can delete what that snapshot relies on, although both
/// report success. The issuer of permits keeps the two apart; here, no snapshot is recorded once
/// the permit is lost.
#[derive(Clone)]
pub struct WriterPermit(Arc<dyn Fn() -> bool + Send + Sync>);

impl WriterPermit {
    /// A permit that is held as long as `held` returns true. `held` is called from any thread and
    /// must not block.
    pub fn new(held: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(held))
    }

    /// A permit for a repository that is never pruned.
    #[must_use]
    pub fn without_maintenance() -> Self {
        Self::new(|| true)
    }

    pub(super) fn is_held(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for WriterPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterPermit(held: {})", self.is_held())
    }
}
