//! Whether a workspace run may start, or waits until somebody else approves what it does in all
//! tenants. Pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::{
    decide::Observed,
    source::{Source, reference_to},
};
use crate::{
    api::{
        WorkspaceRun,
        approval::{ApprovedKind, ApprovedType},
        bulk_operation_run::BulkAction,
        workspace_run::What,
    },
    kinds::approval::{self, Asked, Plan, Verdict, no_requester},
};
use jiff::Timestamp;

/// Whether a workspace run that could start has the approval that it needs.
#[must_use]
pub fn consent(observed: &Observed, now: Timestamp) -> Verdict {
    let run = &*observed.run;
    let Some(operation) = operation(run).filter(|_| !run.spec.dry_run) else { return Verdict::Free };
    let Some(requester) = &run.spec.requested_by else { return Verdict::Refused(no_requester()) };
    let asked = Asked {
        kind: ApprovedKind::WorkspaceRun,
        operation,
        object: reference_to(run),
        namespace: &observed.operator_namespace,
        workspace: Some(&run.spec.workspace.name),
        requester,
        terms: run.spec.approval.as_ref(),
        plan: plan_of(observed),
    };
    approval::decide(&asked, &observed.approval, now)
}

/// The type of the runs in the tenants, if these can need an approval.
fn operation(run: &WorkspaceRun) -> Option<ApprovedType> {
    match run.what()? {
        What::Operation(_) => None,
        What::Bulk(template) if template.action == BulkAction::Delete => Some(ApprovedType::BulkDelete),
        What::Bulk(_) => Some(ApprovedType::Bulk),
        What::Restore(_) | What::Undo(_) => Some(ApprovedType::Restore),
    }
}

/// The plans that a workspace run applies, under one digest, if a preview made them.
fn plan_of(observed: &Observed) -> Option<Plan> {
    observed.run.spec.preview.as_ref()?;
    let Source::Found { named: Some(named), .. } = &observed.source else { return None };
    let status = named.status.as_ref()?;
    Some(Plan { digest: status.plan_digest.clone()?, changes: status.preview.map(|summary| summary.changes()) })
}
