//! Lists that are read a page at a time.

use crate::{
    cluster::retry::retry,
    worker::failure::{Failure, api_failure},
};
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// Visits the selected objects of a kind in a namespace, as they were when the first page was read.
/// `selected.limit` is the size of a page, which is held in full while it is read.
pub async fn each<K>(
    client: &Client,
    namespace: &str,
    doing: &str,
    selected: ListParams,
    mut visit: impl FnMut(K),
) -> Result<(), Failure>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let objects: Api<K> = Api::namespaced(client.clone(), namespace);
    let mut page = selected;
    loop {
        let listed = retry(|| objects.list(&page)).await.map_err(|error| api_failure(doing, &error))?;
        let next = listed.metadata.continue_.filter(|next| !next.is_empty());
        listed.items.into_iter().for_each(&mut visit);
        let Some(next) = next else { return Ok(()) };
        page = page.continue_token(&next);
    }
}
