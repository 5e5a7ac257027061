//! Deletions that are bound to a uid: an object that was recreated under the same name is not
//! deleted.

use super::Error;
use crate::api::ObjectReference;
use kube::{
    Api,
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
