//! `OperationRun`: one record, one Job, one outcome.
//!
//! [`observe`] reads, [`decide`] decides, [`act`] writes. A crash at any await leaves a state from which the next pass
//! goes on, and the pass after that writes nothing. What is pure (all but `observe` and `act`) names no client and no
//! clock; a test looks.

pub mod act;
pub mod context;
pub mod decide;
mod duration;
pub mod executable;
pub mod fairness;
pub mod finish;
pub mod job;
pub mod observe;
pub mod observed;
pub mod prepare;
pub mod records;
pub mod registry;
mod slim;
mod status;
pub mod waiting;

#[cfg(test)]
mod expansion;
#[cfg(test)]
mod tests;

pub use slim::is_whole;

use crate::{api::OperationRun, kernel::Error};
use context::Context;
use std::{sync::Arc, time::Duration};

/// One pass over one run; when to look again though nothing happens.
pub async fn reconcile(run: Arc<OperationRun>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, run).await?;
    let decision = decide::decide(&observed, context.clock.now());
    let requeue = decision.requeue;
    act::act(&context, &observed, decision).await?;
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()).map(|after| after.max(Duration::from_millis(100))))
}
