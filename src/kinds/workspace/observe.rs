//! All reads of a workspace's reconcile, from caches.

use super::decide::{Observed, TenantView};
use crate::{
    api::{Workspace, operations::CAPTURE},
    kinds::tenant::{observe::templates, template},
    runs::context::Context,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use std::sync::Arc;

/// Reads what the status of the workspace depends on.
pub fn observe(context: &Context, workspace: Arc<Workspace>) -> Observed {
    let name = workspace.name_any();
    // The queued object may be older than our own last write of it.
    let newer = context.workspaces.get("", &name).filter(|newer| newer.uid() == workspace.uid());
    let tenants = context.namespaces.group("", &name);
    let tenants = tenants.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_none());
    Observed {
        workspace: newer.unwrap_or(workspace),
        tenants: tenants.map(|namespace| tenant(context, namespace)).collect(),
    }
}

fn tenant(context: &Context, namespace: &Namespace) -> TenantView {
    let name = namespace.name_any();
    let repositories = context.repositories.names(&name);
    let repositories = repositories.iter().filter_map(|repository| context.repositories.get(&name, repository));
    let schedules = context.schedules.names(&name);
    let schedules: Vec<_> = schedules.iter().filter_map(|schedule| context.schedules.get(&name, schedule)).collect();
    let active_schedules = schedules.iter().filter(|schedule| !schedule.spec.suspend).count();
    let by_schedule = schedules.iter().filter(|schedule| schedule.spec.operation.operation_type == CAPTURE);
    let by_schedule =
        by_schedule.filter_map(|schedule| Some(schedule.status.as_ref()?.last_successful.as_ref()?.completed_at));
    TenantView {
        repositories: repositories.collect(),
        last_backup: by_schedule.chain(context.registry.last_good(&name, CAPTURE)).max(),
        active_schedules,
        open_runs: context.registry.open_in_tenant(&name),
        mismatch: templates(context, namespace).as_ref().and_then(template::mismatch),
        namespace: name,
    }
}
