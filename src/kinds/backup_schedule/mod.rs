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
    kernel::{
        Error,
        queue::{Others, Requeue},
    },
    runs::context::Context,
};
use std::{sync::Arc, time::Duration};

/// One pass over one schedule; when to look again though nothing happens.
///
/// While other schedules wait, only the runs that are due are created: others are due, too. The next pass recognizes them by
/// their names, as it does after a crash, and does the rest.
pub async fn reconcile(schedule: Arc<BackupSchedule>, context: Arc<Context>, others: Others) -> Result<Requeue, Error> {
    let observed = observe::observe(&context, schedule, others).await?;
    let decision = decide::decide(&observed, context.clock.now());
    if others == Others::Waiting && (decision.writes() || observed.retention_waits) {
        act::start_due(&context, &observed, &decision).await?;
        return Ok(Requeue::WhenIdle);
    }
    let sooner = act::act(&context, &observed, &decision).await?;
    let requeue = sooner.or(decision.requeue).and_then(|after| Duration::try_from(after).ok());
    Ok(requeue.into())
}
