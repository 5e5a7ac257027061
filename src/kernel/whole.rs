//! Objects of which something was left out when they were read: it is read when it is needed, of one object at a time.

use crate::{
    api::Reason,
    cluster::trim::{READ, left_out},
    kernel::{Error, refusal::Refusal},
};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::{fmt::Debug, sync::Arc};

/// The object with all of it that is ever read. What is left out of it even then is too large for anybody ([`too_large`]).
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

/// Why nothing is done about an object that is too large to be read.
#[must_use]
pub fn too_large<K: Resource>(object: &K) -> Option<Refusal> {
    let left_out = left_out(object)?;
    let message = format!("make {left_out} smaller: the operator reads at most {} KiB of one field", READ.field / 1024);
    Some(Refusal::new(Reason::TooLarge, message))
}
