//! `BackupSchedule`: starts an `OperationRun` at each tick, and follows the runs that it started.
//!
//! Everything is derived from the schedule's status and from the existing runs; nothing is
//! remembered between reconciles. [`crate::schedule`] defines what a tick is, and which of the
//! results are kept. Here, expired backup sets are deleted; the repository's maintenance removes
//! their data.

pub mod act;
pub mod decide;
pub mod decision;
pub mod limits;
pub mod observe;
pub mod retain;
mod ticks;

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

/// Reconciles one schedule. Returns when to requeue it.
///
/// While other schedules wait, only the runs that are due are created, because the other schedules
/// are due as well. The next reconcile recognizes these runs by their names, as after a crash, and
/// does the rest.
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
