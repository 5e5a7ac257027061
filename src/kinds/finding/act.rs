//! All writes of a finding's reconcile. The status is written before an event tells of it, so that
//! a crash between them loses an event and never repeats one.

use super::decide::{Kept, told};
use crate::{
    api::{Finding, Reason},
    kernel::{Error, delete::delete_as_seen, events::Severity, status},
    runs::context::Context,
};
use kube::{Api, ResourceExt};

fn api(context: &Context, finding: &Finding) -> Api<Finding> {
    Api::namespaced(context.client.clone(), &finding.namespace().unwrap_or_default())
}

/// Writes what differs from the observed status, and tells of a new state.
pub(super) async fn keep(context: &Context, finding: &Finding, kept: &Kept) -> Result<(), Error> {
    let before = finding.status.clone().unwrap_or_default();
    // The cached finding has no evidence; the answer of the API server does.
    let mut whole = None;
    let remember = |written: Finding| {
        whole = Some(written.clone());
        context.findings.wrote(written);
    };
    let wrote = status::write(&api(context, finding), finding, &before, &kept.status, remember).await?;
    if let (true, Some(event), Some(whole)) = (wrote, kept.event, whole) {
        let is_open = !whole.is_acknowledged() && matches!(event, Reason::Drifted | Reason::Reopened);
        let severity = if is_open { Severity::Warning } else { Severity::Normal };
        context.events.publish(&whole, severity, event.as_str(), "Judge", &told(event, &whole));
    }
    Ok(())
}

/// Deletes a resolved finding, unless a run has found the difference again meanwhile.
pub(super) async fn delete(context: &Context, finding: &Finding) -> Result<(), Error> {
    delete_as_seen(&api(context, finding), finding, |there| context.findings.wrote(there)).await
}
