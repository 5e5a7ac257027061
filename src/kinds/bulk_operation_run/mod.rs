//! `BulkOperationRun`: one `OperationRun` does its work; its status reports what became of the run.
//!
//! What a bulk operation does is decided in [`crate::items::bulk`] and done by a worker. This module
//! must not read or write a tenant's objects.

pub mod act;
pub mod decide;
pub mod observe;

#[cfg(test)]
mod tests;

use crate::{api::BulkOperationRun, kernel::Error, runs::context::Context};
use std::{sync::Arc, time::Duration};

/// Reconciles one bulk operation. Returns when to requeue it without an event.
pub async fn reconcile(bulk: Arc<BulkOperationRun>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, bulk).await?;
    let decision = decide::decide(&observed, context.clock.now());
    act::act(&context, &observed, decision).await?;
    Ok(None)
}
