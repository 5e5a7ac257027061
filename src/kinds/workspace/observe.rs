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
    let mut schedules = schedules.iter().filter_map(|schedule| context.schedules.get(&name, schedule));
    let by_schedule = schedules.any(|schedule| {
        let status = schedule.status.as_ref();
        schedule.spec.operation.operation_type == CAPTURE
            && status.is_some_and(|status| status.last_successful.is_some())
    });
    TenantView {
        repositories: repositories.collect(),
        has_succeeded: by_schedule || context.registry.has_succeeded(&name, CAPTURE),
        open_runs: context.registry.open_in_tenant(&name),
        mismatch: templates(context, namespace).as_ref().and_then(template::mismatch),
        namespace: name,
    }
}
