//! Reduces objects to what decisions read before a cache stores them. Each kind defines this next
//! to its reconciler. Pure.
//!
//! Values that are too large, and most metadata, were left out before, whatever the kind
//! ([`crate::cluster::trim`]).

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::packed::Dictionary;
use kube::Resource;
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

/// A kind that is cached.
pub trait Slim: Resource<DynamicType = ()> + Serialize + DeserializeOwned + Debug + Send + Sync + 'static {
    /// Whether objects are stored as text. True for kinds that tenants write.
    const PACKED: bool = true;

    /// The dictionary that texts of this kind are compressed with. For kinds of which there may be
    /// a hundred thousand.
    #[must_use]
    fn dictionary() -> Option<&'static Dictionary> {
        None
    }

    /// Whether an object of this name may be one of ours. Admission reserves our names; any user
    /// can set our labels.
    #[must_use]
    fn may_be_ours(_name: &str) -> bool {
        true
    }

    /// Drops what no decision reads.
    fn slim(&mut self) {
        drop_bookkeeping(self);
    }
}

/// A dictionary of objects of a kind, as a cache would store these.
#[must_use]
pub fn dictionary_of<K: Slim>(samples: impl IntoIterator<Item = serde_json::Value>) -> Option<Dictionary> {
    let packed = |sample| {
        let mut object: K = serde_json::from_value(sample).ok()?;
        object.slim();
        serde_json::to_vec(&object).ok()
    };
    Dictionary::of(&samples.into_iter().filter_map(packed).collect::<Vec<_>>())
}

/// Drops what tools record on objects for themselves: half of every object.
pub fn drop_bookkeeping<K: Resource>(object: &mut K) {
    let metadata = object.meta_mut();
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
