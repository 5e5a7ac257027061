//! All reads of a tenant's reconcile, from caches. What they leave out is read from the API server.

use super::{decide::Observed, template};
use crate::{
    api::{Workspace, execution::ACCOUNTS, labels},
    kernel::{Error, slim::Slim, whole::whole},
    runs::context::Context,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Resource, ResourceExt};
use std::{collections::BTreeSet, sync::Arc};

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

/// What a tenant holds that the templates of its workspace depend on, as the caches have it.
pub fn held(context: &Context, namespace: &Namespace, workspace: Arc<Workspace>) -> template::Observed {
    let name = namespace.name_any();
    // The watch may not have reported our own writes yet: those are found by their names.
    let spec = &workspace.spec;
    let repositories: BTreeSet<_> =
        context.repositories.names(&name).into_iter().chain(spec.repository.iter().map(|of| of.name.clone())).collect();
    let schedules: BTreeSet<_> =
        context.schedules.names(&name).into_iter().chain(spec.schedules.iter().map(|of| of.name.clone())).collect();
    template::Observed {
        repositories: repositories.iter().filter_map(|object| context.repositories.get(&name, object)).collect(),
        schedules: schedules.iter().filter_map(|object| context.schedules.get(&name, object)).collect(),
        namespace: name,
        workspace,
    }
}

/// The same with the objects of the templates in full: caches leave out what is large. `None` if the
/// namespace is no tenant, is being deleted, or has a workspace without an object.
pub async fn whole_templates(context: &Context, namespace: &Namespace) -> Result<Option<template::Observed>, Error> {
    let workspace = namespace.labels().get(labels::WORKSPACE).and_then(|name| context.workspaces.get("", name));
    let Some(workspace) = workspace.filter(|_| namespace.metadata.deletion_timestamp.is_none()) else {
        return Ok(None);
    };
    let mut observed = held(context, namespace, workspace);
    let name = namespace.name_any();
    for repository in &mut observed.repositories {
        read_whole(&Api::namespaced(context.client.clone(), &name), repository).await?;
    }
    for schedule in &mut observed.schedules {
        read_whole(&Api::namespaced(context.client.clone(), &name), schedule).await?;
    }
    Ok(Some(observed))
}

async fn read_whole<K>(api: &Api<K>, object: &mut Arc<K>) -> Result<(), Error>
where
    K: Slim + Resource<DynamicType = ()> + Clone,
{
    if template::is_templated(&**object) {
        *object = whole(api, object.clone()).await?;
    }
    Ok(())
}
