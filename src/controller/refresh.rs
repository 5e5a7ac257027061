//! What the API server holds now, after it refused a write that was decided on an older view.
//!
//! The watch may be late for long: decided on the same view again, the same write would be refused again, ten times a second.

use crate::controller::Error;
use kube::{Api, Resource, api::ListParams};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// An object as it is now; none where it is gone. By a list of one: that right the watch has, too.
pub async fn refresh<K>(api: &Api<K>, name: &str) -> Result<Option<K>, Error>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let one = ListParams::default().fields(&format!("metadata.name={name}")).limit(1);
    Ok(api.list(&one).await?.items.into_iter().next())
}
