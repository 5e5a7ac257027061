//! Writing a status that was decided from a view: what differs, guarded by the uid and, where it holds for one version alone, by that.
//!
//! A write that is refused because the view was old is followed by a look at what there is. The watch may be late for long: decided on the
//! same view again, the same write would be refused again, ten times a second.

use crate::controller::{Error, cache::Cache, patch, slim::Slim};
use kube::{
    Api, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use std::fmt::Debug;

/// Makes an object's status another one; whether that took a write. Of an object that is gone nothing is said.
pub async fn write<K, S>(
    api: &Api<K>,
    cache: &Cache<K>,
    seen: &K,
    version: Option<String>,
    before: &S,
    after: &S,
) -> Result<bool, Error>
where
    K: Slim + Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
    S: Serialize,
{
    let difference = patch::merge(&serde_json::to_value(before)?, &serde_json::to_value(after)?);
    let Some(difference) = difference else { return Ok(false) };
    let mut metadata = json!({ "uid": seen.uid() });
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    let body = json!({ "metadata": metadata, "status": difference });
    match api.patch_status(&seen.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(written) => {
            cache.wrote(written);
            Ok(true)
        }
        Err(kube::Error::Api(error)) if error.is_not_found() => Ok(false),
        Err(kube::Error::Api(error)) if error.is_conflict() => {
            if let Some(there) = as_it_is(api, &seen.name_any()).await? {
                cache.wrote(there);
            }
            Err(Error::Again("the object changed meanwhile"))
        }
        Err(error) => Err(error.into()),
    }
}

/// An object as it is now; none where it is gone. By a list of one: that right the watch has, too.
pub async fn as_it_is<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let one = ListParams::default().fields(&format!("metadata.name={name}")).limit(1);
    Ok(api.list(&one).await?.items.into_iter().next())
}
