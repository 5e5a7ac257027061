//! `WorkspaceRun`: one run, bulk operation or restore in each tenant of a workspace, some at a time,
//! wave after wave; its status sums up what became of them.
//!
//! This module must not read or write anything of a tenant but the objects that it creates. These
//! belong to it by the uid in their `spec.scheduledBy`, which only the operator writes.

pub mod act;
pub mod check;
pub mod consent;
pub mod decide;
pub mod observe;
pub mod orders;
pub mod plan;
pub mod source;
pub mod summary;

#[cfg(test)]
mod tests;

use crate::{api::WorkspaceRun, kernel::Error, runs::context::Context};
use kube::ResourceExt;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Tenants that a pass may look at in each second.
const TENANTS_PER_SECOND: u32 = 2000;

/// The longest rest between two passes over the same workspace run.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Reconciles one workspace run. Returns when to requeue it without an event.
pub async fn reconcile(
    run: Arc<WorkspaceRun>,
    context: Arc<Context>,
    passes: Arc<Passes>,
) -> Result<Option<Duration>, Error> {
    if let Some(rest) = passes.rest(&run, Instant::now()) {
        return Ok(Some(rest));
    }
    let observed = observe::observe(&context, run).await?;
    let decision = decide::decide(&observed, context.clock.now());
    let requeue = decision.requeue;
    act::act(&context, &observed, decision).await?;
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()).map(|after| after.max(Duration::from_millis(100))))
}

/// When each workspace run had its last pass. A pass looks at all tenants, and each run that ends asks
/// for one: without a rest, ten thousand tenants would be ten thousand passes over ten thousand.
#[derive(Default)]
pub struct Passes(Mutex<HashMap<String, Instant>>);

impl Passes {
    /// How long to wait before the next pass; `None` if it may be now, which is then recorded.
    fn rest(&self, run: &WorkspaceRun, now: Instant) -> Option<Duration> {
        let tenants = u32::try_from(run.status.as_ref().map_or(0, |status| status.counts.total)).unwrap_or(u32::MAX);
        let between = (Duration::from_secs(1) * (tenants / 100) / (TENANTS_PER_SECOND / 100)).min(LONGEST_REST);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, at| now.duration_since(*at) < LONGEST_REST);
        let uid = run.uid().unwrap_or_default();
        let rest = last.get(&uid).map(|at| between.saturating_sub(now.duration_since(*at)));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return Some(rest);
        }
        last.insert(uid, now);
        None
    }
}
