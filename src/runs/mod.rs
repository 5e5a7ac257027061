//! `OperationRun`: one record, one Job, one outcome.
//!
//! [`observe`] reads, [`decide`] decides, [`act`] writes. A crash at any await leaves a state from
//! which the next reconcile continues, and the reconcile after that writes nothing. Pure modules
//! use no client and no clock; those that deny the lints of `clippy.toml` are checked for it.

pub mod act;
pub mod children;
pub mod context;
pub mod decide;
pub mod defaults;
mod duration;
pub mod executable;
mod expiry;
pub mod fairness;
pub mod finish;
pub mod job;
mod joined;
pub mod observe;
pub mod observed;
pub mod prepare;
pub mod queue;
pub mod records;
pub mod registry;
pub mod scheduled;
mod slim;
mod status;
pub mod waiting;
pub mod workspace;

#[cfg(test)]
mod expansion;
#[cfg(test)]
mod tests;

pub use slim::is_whole;

use crate::{api::OperationRun, kernel::Error};
use context::Context;
use std::{sync::Arc, time::Duration};

/// Reconciles one run. Returns when to requeue it without an event.
pub async fn reconcile(run: Arc<OperationRun>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, run).await?;
    let decision = decide::decide(&observed, context.clock.now());
    let requeue = decision.requeue;
    act::act(&context, &observed, decision).await?;
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()).map(|after| after.max(Duration::from_millis(100))))
}
