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
    collections::{BTreeSet, HashMap},
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
    let mut observed = observe::observe(&context, run).await?;
    let mut decision = decide::decide(&observed, context.clock.now());
    if passes.has_to_ask(&observed.run, decision.missing) {
        // The watch may not have reported yet that a namespace is a tenant. What is decided without one is
        // final: that its turn has passed, and that it is left out.
        observed.tenants = observe::listed(&context, &observed.run.spec.workspace.name).await?;
        decision = decide::decide(&observed, context.clock.now());
        passes.confirm(&observed.run, decision.missing);
    }
    let unseen = passes.unconfirmed(&observed.run, &decision.gone);
    if !unseen.is_empty() {
        // The watch may be behind the status that says that they had their turn, and a run that is taken
        // for deleted counts as failed for good. Answers are kept, also if a later question has none.
        for namespace in unseen.iter().take(QUESTIONS) {
            match observe::child(&context, &observed.run, namespace).await? {
                Some(child) => drop(observed.children.insert(namespace.clone(), child)),
                None => passes.confirm_gone(&observed.run, namespace),
            }
        }
        if unseen.len() > QUESTIONS {
            return Ok(Some(Duration::from_millis(100)));
        }
        decision = decide::decide(&observed, context.clock.now());
    }
    let requeue = decision.requeue;
    act::act(&context, &observed, decision).await?;
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()).map(|after| after.max(Duration::from_millis(100))))
}

/// Tenants about whose runs one pass asks the API server at most. Nothing is decided before all are asked.
const QUESTIONS: usize = 50;

/// How long a workspace run that had no pass is remembered: longer than any rest between two passes.
const REMEMBERED: Duration = Duration::from_mins(10);

/// When each workspace run had its last pass. A pass looks at all tenants, and each run that ends asks
/// for one: without a rest, ten thousand tenants would be ten thousand passes over ten thousand.
#[derive(Default)]
pub struct Passes(Mutex<HashMap<String, Pass>>);

/// The last pass of a workspace run.
struct Pass {
    at: Instant,
    /// How many of the tenants at its start the API server has said to be missing.
    missing: i64,
    /// Tenants of which the API server has said that there is no run.
    gone: BTreeSet<String>,
}

impl Passes {
    /// How long to wait before the next pass; `None` if it may be now, which is then recorded.
    fn rest(&self, run: &WorkspaceRun, now: Instant) -> Option<Duration> {
        let tenants = u32::try_from(run.status.as_ref().map_or(0, |status| status.counts.total)).unwrap_or(u32::MAX);
        let between = (Duration::from_secs(1) * (tenants / 100) / (TENANTS_PER_SECOND / 100)).min(LONGEST_REST);
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.retain(|_, pass| now.duration_since(pass.at) < REMEMBERED);
        let uid = run.uid().unwrap_or_default();
        let pass = last.get(&uid);
        let rest = pass.map(|pass| between.saturating_sub(now.duration_since(pass.at)));
        if let Some(rest) = rest.filter(|rest| !rest.is_zero()) {
            return Some(rest);
        }
        match last.get_mut(&uid) {
            Some(pass) => pass.at = now,
            None => drop(last.insert(uid, Pass { at: now, missing: 0, gone: BTreeSet::new() })),
        }
        None
    }

    /// Whether the API server must be asked for the tenants: more are missing than it has said.
    fn has_to_ask(&self, run: &WorkspaceRun, missing: i64) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = last.get(&run.uid().unwrap_or_default()).map_or(0, |pass| pass.missing);
        missing > said
    }

    /// Those of the tenants without a run about which the API server must be asked.
    fn unconfirmed(&self, run: &WorkspaceRun, gone: &[String]) -> Vec<String> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let said = last.get(&run.uid().unwrap_or_default()).map(|pass| &pass.gone);
        gone.iter().filter(|namespace| said.is_none_or(|said| !said.contains(*namespace))).cloned().collect()
    }

    /// Records a tenant of which the API server has said that there is no run.
    fn confirm_gone(&self, run: &WorkspaceRun, namespace: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pass) = last.get_mut(&run.uid().unwrap_or_default()) {
            pass.gone.insert(namespace.to_owned());
        }
    }

    /// Records how many tenants the API server has said to be missing.
    fn confirm(&self, run: &WorkspaceRun, missing: i64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pass) = last.get_mut(&run.uid().unwrap_or_default()) {
            pass.missing = missing;
        }
    }
}
