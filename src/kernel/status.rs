//! The one writer of statuses: what differs, guarded by uid and version, and a conflict answered by
//! a read.
//!
//! A status holds only for the version of the object that it was decided about. Decided from one
//! version and merged into another, as by a leader that slept past its Lease, it would be a status
//! that no decision produced.
//!
//! After a conflict the object is read. The watch may be late, and a decision on the same stale view
//! would produce the same write, which would be refused again.

use crate::kernel::{Error, patch};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::fmt::Debug;

/// The patch that makes the status of an object another one; none where they are equal.
pub fn difference<K: Resource, S: Serialize>(seen: &K, before: &S, after: &S) -> serde_json::Result<Option<Value>> {
    let difference = patch::merge(&serde_json::to_value(before)?, &serde_json::to_value(after)?);
    let metadata = json!({ "uid": seen.uid(), "resourceVersion": seen.resource_version() });
    Ok(difference.map(|difference| json!({ "metadata": metadata, "status": difference })))
}

/// Makes the status of an object another one; whether that took a write. Nothing is written of an
/// object that is gone.
///
/// `remember` is given the object as the API server has it, after a write or a conflict: the next
/// decision must see it.
pub async fn write<K, S>(api: &Api<K>, seen: &K, before: &S, after: &S, remember: impl FnOnce(K)) -> Result<bool, Error>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    let Some(body) = difference(seen, before, after)? else { return Ok(false) };
    match api.patch_status(&seen.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(written) => {
            remember(written);
            Ok(true)
        }
        // Deleted since.
        Err(kube::Error::Api(error)) if error.is_not_found() => Ok(false),
        Err(kube::Error::Api(error)) if error.is_conflict() => {
            if let Some(there) = read(api, &seen.name_any()).await? {
                remember(there);
            }
            Err(Error::Again("the object changed meanwhile"))
        }
        Err(error) => Err(error.into()),
    }
}

/// An object as it is now; none where it is gone. By a list of one: the watch has that right, too.
pub async fn read<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let one = ListParams::default().fields(&format!("metadata.name={name}")).limit(1);
    Ok(api.list(&one).await?.items.into_iter().next())
}
