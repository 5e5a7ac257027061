//! Deletions: of the very object that was looked at, and of no other that has its name since.

use super::Error;
use crate::api::ObjectReference;
use kube::{
    Api,
    api::{DeleteParams, Preconditions},
};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Deletes an object if it still has its uid; that it is gone is no fault.
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
