//! What is known about the approval of an object, from caches. The API server is asked only where a cache
//! holds a workspace run as it was before its start.

use super::decide::Known;
use crate::{
    api::{
        WorkspaceRun,
        approval::{ApprovedKind, Consent},
        labels,
        operation_run::ScheduledBy,
    },
    kernel::{Error, status::read},
    runs::{
        context::Context,
        scheduled::{Scheduled, parent},
    },
};
use kube::{Api, ResourceExt};
use std::sync::Arc;

/// What is known about the approval of an object of a tenant.
pub async fn known<K: Scheduled>(context: &Context, kind: ApprovedKind, object: &K) -> Result<Known, Error> {
    let namespace = object.namespace().unwrap_or_default();
    let tenant = context.namespaces.get("", &namespace);
    let workspace = tenant.as_ref().and_then(|tenant| tenant.labels().get(labels::WORKSPACE));
    let of_all = match parent(object) {
        Some(by) => of_all(context, by).await?,
        None => None,
    };
    Ok(Known {
        workspace: workspace.and_then(|workspace| context.workspaces.get("", workspace)),
        approval: context.approvals.get(&namespace, &kind.approval_of(&object.name_any())),
        // Who approves for one workspace does not for another, into which the tenant was moved.
        of_all: of_all.filter(|(of, _)| workspace == Some(of)).map(|(_, consent)| consent),
    })
}

/// The approval of the workspace run that created an object, with the name of its workspace. It is
/// recorded at the start, before anything is created. A watch that is behind may show the workspace run
/// as it was before that, and nothing wakes the object again: the API server is asked.
async fn of_all(context: &Context, by: &ScheduledBy) -> Result<Option<(String, Consent)>, Error> {
    let is_it = |run: &WorkspaceRun| run.uid().as_ref() == Some(&by.uid);
    let started = |run: &WorkspaceRun| run.status.as_ref().is_some_and(|status| status.started_at.is_some());
    let run = match context.workspace_runs.get("", &by.name).filter(|run| is_it(run) && started(run)) {
        Some(run) => Some(run),
        None => read(&Api::<WorkspaceRun>::all(context.client.clone()), &by.name).await?.map(Arc::new),
    };
    let given = run.as_deref().filter(|run| is_it(run)).and_then(|run| {
        let consent = run.status.as_ref()?.approval.clone()?;
        Some((run.spec.workspace.name.clone(), consent))
    });
    Ok(given)
}

/// What is known about the approval of a workspace run. Such an approval is in the namespace of the
/// operator.
#[must_use]
pub fn known_of_all(context: &Context, run: &WorkspaceRun) -> Known {
    let name = ApprovedKind::WorkspaceRun.approval_of(&run.name_any());
    Known {
        workspace: context.workspaces.get("", &run.spec.workspace.name),
        approval: context.approvals.get(&context.settings.namespace, &name),
        of_all: None,
    }
}
