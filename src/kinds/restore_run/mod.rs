//! `RestoreRun`: one `OperationRun` does its work; its status reports what became of the run.
//!
//! What a restore does is decided in [`crate::items`] and done by a worker. This module must not
//! read or write a tenant's objects.

pub mod account;
pub mod act;
pub mod decide;
pub mod finding;
pub mod observe;

#[cfg(test)]
mod tests;

use crate::{api::RestoreRun, kernel::Error, runs::context::Context};
use std::{sync::Arc, time::Duration};

/// Reconciles one restore. Returns when to requeue it without an event.
pub async fn reconcile(restore: Arc<RestoreRun>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, restore).await?;
    let decision = decide::decide(&observed, context.clock.now());
    act::act(&context, &observed, decision).await?;
    Ok(None)
}
