//! All writes of a tenant's reconcile: its accounts by server-side apply, so that a second reconcile
//! changes nothing, then the objects of its workspace's templates.

use super::{
    decide::Write,
    template::{Change, Observed},
};
use crate::{
    controller::FIELD_MANAGER,
    kernel::{Error, cache::Cache, events::Severity, refusal::CreateFailure, slim::Slim},
    runs::context::Context,
};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{core::v1::ServiceAccount, rbac::v1::RoleBinding},
};
use kube::{
    Api, Resource, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};

/// Carries out one write.
pub async fn act(context: &Context, write: Write) -> Result<(), Error> {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match write {
        Write::Account(account) => {
            let api: Api<ServiceAccount> =
                Api::namespaced(context.client.clone(), &account.namespace().unwrap_or_default());
            context.accounts.wrote(api.patch(&account.name_any(), &parameters, &Patch::Apply(&*account)).await?);
        }
        Write::Binding(binding) => {
            let api: Api<RoleBinding> =
                Api::namespaced(context.client.clone(), &binding.namespace().unwrap_or_default());
            context.bindings.wrote(api.patch(&binding.name_any(), &parameters, &Patch::Apply(&*binding)).await?);
        }
    }
    Ok(())
}

/// Carries out the changes of templated objects: the repository first, because schedules name it.
/// Returns whether one was refused. An event of the workspace says why.
pub async fn apply(context: &Context, observed: &Observed, changes: super::template::Changes) -> Result<bool, Error> {
    let mut refused = false;
    if let Some(change) = changes.repository {
        refused |= !change_one(context, observed, &context.repositories, change).await?;
    }
    for change in changes.schedules {
        refused |= !change_one(context, observed, &context.schedules, change).await?;
    }
    Ok(refused)
}

/// Returns whether the API server took the change.
async fn change_one<K>(
    context: &Context,
    observed: &Observed,
    cache: &Cache<K>,
    change: Change<K>,
) -> Result<bool, Error>
where
    K: Slim + Resource<Scope = NamespaceResourceScope> + Clone,
{
    let api: Api<K> = Api::namespaced(context.client.clone(), &observed.namespace);
    let (name, answer) = match change {
        Change::Create(object) => (object.name_any(), api.create(&PostParams::default(), &object).await),
        Change::Patch(object, patch) => {
            let name = object.name_any();
            let answer = api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
            (name, answer)
        }
    };
    let error = match answer {
        Ok(written) => {
            cache.wrote(written);
            return Ok(true);
        }
        Err(error) => error,
    };
    match CreateFailure::of(&error) {
        // The cache is stale: the watch will wake the tenant.
        CreateFailure::Taken => Err(Error::Again("an object of a template was created meanwhile")),
        CreateFailure::NamespaceTerminating => Ok(true),
        CreateFailure::OverQuota(says) | CreateFailure::Refused(says) => {
            let note = format!(
                "tenant {} does not get {} {name}: {says}; it is tried again every minute",
                observed.namespace,
                K::kind(&())
            );
            context.events.publish(&*observed.workspace, Severity::Warning, "TemplateRefused", "Apply", &note);
            Ok(false)
        }
        CreateFailure::Fault => Err(error.into()),
    }
}
