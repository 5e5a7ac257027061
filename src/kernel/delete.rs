//! Deletions that are bound to a uid: an object that was recreated under the same name is not
//! deleted.

use super::{Error, status::read};
use crate::api::ObjectReference;
use kube::{
    Api, Resource, ResourceExt,
    api::{DeleteParams, Preconditions},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Deletes an object if it still has its uid. An object that is gone is not an error.
pub async fn delete<K>(api: &Api<K>, object: &ObjectReference) -> Result<(), Error>
where
    K: Clone + Debug + DeserializeOwned,
{
    let parameters = DeleteParams {
        preconditions: Some(Preconditions { uid: Some(object.uid.clone()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&object.name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes an object if it is as it was seen. An object that is gone, or that was recreated, is not
/// an error.
///
/// `remember` is given an object that changed meanwhile: the next decision must see it.
pub async fn delete_as_seen<K>(api: &Api<K>, seen: &K, remember: impl FnOnce(K)) -> Result<(), Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let preconditions = Preconditions { uid: seen.uid(), resource_version: seen.resource_version() };
    let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
    match api.delete(&seen.name_any(), &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => match read(api, &seen.name_any()).await? {
            Some(there) => {
                remember(there);
                Err(Error::Again("the object changed meanwhile"))
            }
            None => Ok(()),
        },
        Err(error) => Err(error.into()),
    }
}
