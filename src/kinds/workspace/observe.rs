//! All reads of a workspace's reconcile, from caches.

use super::decide::{Observed, TenantView};
use crate::{
    api::{Workspace, operations::CAPTURE},
    kinds::tenant::{observe::held, template},
    runs::context::Context,
};
use kube::ResourceExt;
use std::sync::Arc;

/// Reads what the status of the workspace depends on.
pub fn observe(context: &Context, workspace: Arc<Workspace>) -> Observed {
    let name = workspace.name_any();
    // The queued object may be older than our own last write of it.
    let newer = context.workspaces.get("", &name).filter(|newer| newer.uid() == workspace.uid());
    let workspace = newer.unwrap_or(workspace);
    let tenants = context.namespaces.group("", &name);
    let tenants = tenants.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    let tenants = tenants.map(|namespace| tenant(context, held(context, namespace, workspace.clone())));
    Observed { tenants: tenants.collect(), workspace }
}

fn tenant(context: &Context, held: template::Observed) -> TenantView {
    let mismatch = template::mismatch(&held);
    let template::Observed { namespace, workspace: _, repositories, schedules } = held;
    let by_schedule = schedules.iter().filter(|schedule| schedule.spec.operation.operation_type == CAPTURE);
    let by_schedule =
        by_schedule.filter_map(|schedule| Some(schedule.status.as_ref()?.last_successful.as_ref()?.completed_at));
    TenantView {
        last_backup: by_schedule.chain(context.registry.last_good(&namespace, CAPTURE)).max(),
        active_schedules: schedules.iter().filter(|schedule| !schedule.spec.suspend).count(),
        open_runs: context.registry.open_in_tenant(&namespace),
        repositories,
        mismatch,
        namespace,
    }
}
