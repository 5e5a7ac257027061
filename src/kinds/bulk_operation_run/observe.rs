//! All reads of a bulk operation's reconcile, from caches. The API server is asked whenever a cache
//! holds less than a decision needs, or its "not found" would be final.

use super::decide::{Observed, is_of, run_names};
use crate::{
    api::{BulkOperationRun, ObjectReference, approval::ApprovedKind, bulk_operation_run::BulkAction, labels},
    kernel::{Error, whole::whole},
    kinds::{
        approval,
        made_for::{self, RunView},
    },
    runs::{context::Context, scheduled::created_late},
};
use kube::{Api, ResourceExt};
use std::sync::Arc;

/// Reads everything that a decision about the bulk operation depends on.
pub async fn observe(context: &Context, bulk: Arc<BulkOperationRun>) -> Result<Observed, Error> {
    let namespace = bulk.namespace().unwrap_or_default();
    // The queued object may be older than our own last write of it.
    let newer = context.bulks.get(&namespace, &bulk.name_any());
    let bulk = newer.filter(|newer| newer.uid() == bulk.uid()).unwrap_or(bulk);
    // "Not a tenant" is final, and the watch may not have reported a namespace that was just labelled.
    let tenant = if bulk.is_completed() {
        context.namespaces.get("", &namespace)
    } else {
        context.namespace(&namespace).await?
    };
    let terminating = tenant.as_ref().is_some_and(|tenant| tenant.metadata.deletion_timestamp.is_some());
    let is_tenant = tenant.is_some_and(|tenant| tenant.labels().contains_key(labels::WORKSPACE));
    let mut observed = Observed {
        bulk: bulk.clone(),
        is_tenant,
        terminating,
        run: RunView::Gone,
        late: None,
        preview: None,
        approval: approval::Known::default(),
        undo: None,
        audit: Vec::new(),
    };
    if bulk.is_completed() || terminating {
        return Ok(observed);
    }
    let bulk = whole(&Api::namespaced(context.client.clone(), &namespace), bulk).await?;
    let recorded: Option<ObjectReference> = bulk.status.as_ref().and_then(|status| status.operation_run.clone());
    let names = run_names(&bulk);
    observed.run = made_for::run(context, &namespace, recorded.clone(), names, |run| is_of(run, &bulk)).await?;
    let has_ended = match &observed.run {
        RunView::Found(run) => run.is_completed(),
        RunView::Gone => true,
        RunView::None(_) | RunView::Taken => false,
    };
    if let (RunView::None(_), Some(preview)) = (&observed.run, &bulk.spec.preview) {
        observed.preview = context.bulks.get(&namespace, &preview.name);
    }
    if let RunView::None(_) = &observed.run {
        observed.late = created_late(context, &*bulk).await?;
        observed.approval = approval::observe::known(context, ApprovedKind::BulkOperationRun, &*bulk).await?;
    }
    // What only reads writes nothing to the chain.
    if has_ended && !bulk.spec.dry_run && !bulk.spec.action.only_reads() {
        if bulk.spec.action == BulkAction::Delete {
            observed.undo = made_for::undo(context, &namespace, &observed.run, recorded.as_ref()).await?;
        }
        observed.audit = made_for::audit(context, &namespace, &observed.run, recorded.as_ref()).await?;
    }
    observed.bulk = bulk;
    Ok(observed)
}
