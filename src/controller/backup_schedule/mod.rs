//! `BackupSchedule`: starts an `OperationRun` at each tick, and follows those it started.
//!
//! All is derived from the schedule's status and from the runs there are: nothing is remembered between passes. What a tick is, is
//! [`crate::schedule`]'s, and so is what is kept of what they made: here backup sets go, and their data with the repository's maintenance.

pub mod act;
pub mod decide;
pub mod observe;

#[cfg(test)]
mod tests;

use crate::{
    api::BackupSchedule,
    controller::{Context, Error},
};
use std::{sync::Arc, time::Duration};

/// One pass over one schedule; when to look again though nothing happens.
pub async fn reconcile(schedule: Arc<BackupSchedule>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let observed = observe::observe(&context, schedule).await?;
    let decision = decide::decide(&observed, context.clock.now());
    let requeue = decision.requeue;
    act::act(&context, &observed, decision).await?;
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()))
}
