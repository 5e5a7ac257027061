//! What a cache holds of a kind: without what no decision reads. Each kind says what that is, beside its reconciler. Pure.
//!
//! What is too large, of whatever kind, and most of what metadata there is was left out before ([`crate::cluster::trim`]).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// A kind that is cached.
pub trait Slim: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Whether they are held as text: what tenants write is.
    const PACKED: bool = true;

    /// Whether an object of this name may be one that decisions are about: names of ours are kept from others by admission, labels are not.
    #[must_use]
    fn may_be_ours(_name: &str) -> bool {
        true
    }

    /// Drops what is not read.
    fn slim(&mut self) {
        drop_bookkeeping(self);
    }
}

/// What tools note on objects for themselves: half of every object.
pub fn drop_bookkeeping<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
