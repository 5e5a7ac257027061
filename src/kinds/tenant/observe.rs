//! All reads of a tenant's reconcile, from caches.

use super::decide::Observed;
use crate::{
    api::{execution::ACCOUNTS, labels},
    runs::context::Context,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;

/// Reads what exists of a tenant's accounts.
pub fn observe(context: &Context, namespace: &Namespace) -> Observed {
    let name = namespace.name_any();
    Observed {
        is_tenant: namespace.labels().contains_key(labels::WORKSPACE),
        terminating: namespace.metadata.deletion_timestamp.is_some(),
        accounts: ACCOUNTS.iter().filter_map(|account| context.accounts.get(&name, account)).collect(),
        bindings: ACCOUNTS.iter().filter_map(|account| context.bindings.get(&name, account)).collect(),
        namespace: name,
    }
}
