//! Reads the rest of objects that were not kept in full: on demand, one object at a time.

use crate::{
    api::Reason,
    cluster::trim::{READ, left_out},
    kernel::{Error, refusal::Refusal},
};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc};

/// Returns the object with everything that is ever read of it. What is left out even then is too
/// large for any use ([`too_large`]).
pub async fn whole<K>(api: &Api<K>, object: Arc<K>) -> Result<Arc<K>, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    if left_out(&*object).is_none() {
        return Ok(object);
    }
    let found = api.get_opt(&object.name_any()).await?.filter(|found| found.uid() == object.uid());
    found.map(Arc::new).ok_or(Error::Again("the object went meanwhile"))
}

/// Why an object that is too large to be read is not acted on.
#[must_use]
pub fn too_large<K: Resource>(object: &K) -> Option<Refusal> {
    let left_out = left_out(object)?;
    let message = format!("make {left_out} smaller: the operator reads at most {} KiB of one field", READ.field / 1024);
    Some(Refusal::new(Reason::TooLarge, message))
}
