//! All reads of a tenant's reconcile, from caches.

use super::{decide::Observed, template};
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

/// Reads what the templates of the workspace depend on. `None` if the namespace is no tenant, is
/// being deleted, or has a workspace without an object.
pub fn templates(context: &Context, namespace: &Namespace) -> Option<template::Observed> {
    let workspace = namespace.labels().get(labels::WORKSPACE)?;
    if namespace.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let workspace = context.workspaces.get("", workspace)?;
    let name = namespace.name_any();
    let repositories = context.repositories.names(&name);
    let schedules = context.schedules.names(&name);
    Some(template::Observed {
        workspace,
        repositories: repositories.iter().filter_map(|object| context.repositories.get(&name, object)).collect(),
        schedules: schedules.iter().filter_map(|object| context.schedules.get(&name, object)).collect(),
        namespace: name,
    })
}
