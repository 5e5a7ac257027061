//! Onboarding: a namespace with the workspace label gets its accounts, and keeps them. Then it gets
//! the repository and the schedules of its workspace's templates.

pub mod act;
pub mod decide;
pub mod observe;
pub mod template;

#[cfg(test)]
mod tests;

use crate::{kernel::Error, runs::context::Context};
use k8s_openapi::api::core::v1::Namespace;
use std::{sync::Arc, time::Duration};

/// When an object that the API server refused is tried again.
const TRY_AGAIN: Duration = Duration::from_mins(1);

/// Reconciles one namespace. Returns when to requeue it without an event.
pub async fn reconcile(namespace: Arc<Namespace>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, &namespace);
    for write in decide::decide(&observed) {
        act::act(&context, write).await?;
    }
    let Some(observed) = observe::whole_templates(&context, &namespace).await? else { return Ok(None) };
    let changes = template::decide(&observed);
    let refused = act::apply(&context, &observed, changes).await?;
    Ok(refused.then_some(TRY_AGAIN))
}
