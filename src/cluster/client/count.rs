//! Counts of calls, for metrics and benchmarks.

use super::{Answer, Call};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Counts of calls for metrics, shared by all clones.
#[derive(Clone, Debug, Default)]
pub struct CallCounts(Arc<Mutex<BTreeMap<CallKey, u64>>>);

/// What calls are counted by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    /// As in [`Call::verb`].
    pub verb: &'static str,
    /// As in [`Call::resource`].
    pub resource: String,
    /// How the call ended.
    pub answer: Answer,
}

impl CallCounts {
    /// All counts so far.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<CallKey, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Number of all calls so far.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    pub(super) fn count(&self, call: &Call, answer: Answer) {
        let key = CallKey { verb: call.verb, resource: call.resource.clone(), answer };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default() += 1;
    }
}
