//! Onboarding: a namespace with the workspace label gets its accounts, and keeps them.

pub mod act;
pub mod decide;
pub mod observe;

use crate::controller::{Context, Error};
use k8s_openapi::api::core::v1::Namespace;
use kube::runtime::controller::Action;
use std::sync::Arc;

/// One pass over one namespace.
pub async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Action, Error> {
    let observed = observe::observe(&context, &namespace);
    for write in decide::decide(&observed) {
        act::act(&context, write).await?;
    }
    Ok(Action::await_change())
}
