//! `Finding`: whether it is new, accepted or resolved, and whether its verdict is stale. Resolved
//! ones are deleted after a while.
//!
//! Workers say what they saw (`status.observed`), and people what they accept
//! (`spec.acknowledged`). Nothing here looks at the item itself or corrects it.

mod act;
pub mod decide;
mod observe;

pub use observe::Baselines;

use crate::{api::Finding, kernel::Error, runs::context::Context};
use decide::{Decision, Windows};
use kube::ResourceExt;
use std::{sync::Arc, time::Duration};

/// Reconciles one finding. Returns when to requeue it without an event.
pub async fn reconcile(
    finding: Arc<Finding>,
    context: Arc<Context>,
    baselines: Arc<Baselines>,
) -> Result<Option<Duration>, Error> {
    let namespace = finding.namespace().unwrap_or_default();
    let finding = context.findings.get(&namespace, &finding.name_any()).unwrap_or(finding);
    let baseline_is_gone = observe::baseline_is_gone(&context, &baselines, &finding).await?;
    let windows = Windows {
        stale_after: context.settings.findings_stale_after,
        resolved_ttl: context.settings.findings_resolved_ttl,
    };
    match decide::decide(&finding, baseline_is_gone, windows, context.clock.now()) {
        Decision::Nothing => Ok(None),
        Decision::Delete => act::delete(&context, &finding).await.map(|()| None),
        Decision::Keep(kept) => {
            act::keep(&context, &finding, &kept).await?;
            Ok(kept.requeue.and_then(|after| Duration::try_from(after).ok()))
        }
    }
}
