//! Onboarding: a namespace with the workspace label gets its accounts, and keeps them.

pub mod act;
pub mod decide;
pub mod observe;

use crate::{kernel::Error, runs::context::Context};
use k8s_openapi::api::core::v1::Namespace;
use std::{sync::Arc, time::Duration};

/// Reconciles one namespace. Returns when to requeue it without an event.
pub async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, &namespace);
    for write in decide::decide(&observed) {
        act::act(&context, write).await?;
    }
    Ok(None)
}
