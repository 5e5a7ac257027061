//! All writes of a tenant's reconcile, by server-side apply, so that a second reconcile changes
//! nothing.

use super::decide::Write;
use crate::{controller::FIELD_MANAGER, kernel::Error, runs::context::Context};
use k8s_openapi::api::{core::v1::ServiceAccount, rbac::v1::RoleBinding};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
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
