//! All reads of a workspace run's reconcile, from caches. The API server is asked whenever a cache
//! holds less than a decision needs, or its "not found" would be final.

use super::{
    decide::{Earlier, Observed},
    plan::Tenant,
    source::{Source, reference_to},
};
use crate::{
    api::{
        BulkOperationRun, OperationRun, OperationType, Outcome, RestoreRun, WorkspaceRun, labels,
        workspace_run::{MAX_REPEATS, What},
    },
    cluster::trim::left_out,
    kernel::{Error, status::read, whole::whole},
    kinds::approval::{self, Known},
    runs::{
        children::Child,
        context::Context,
        scheduled::{Scheduled, counted_as},
    },
};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Namespace};
use kube::{Api, Resource, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;
use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

/// Namespaces in a page of a list.
const PAGE: u32 = 500;

/// Reads everything that a decision about the workspace run depends on.
pub async fn observe(context: &Context, run: Arc<WorkspaceRun>) -> Result<Observed, Error> {
    let name = run.name_any();
    // The queued object may be older than our own last write of it.
    let newer = context.workspace_runs.get("", &name).filter(|newer| newer.uid() == run.uid());
    let run = newer.unwrap_or(run);
    let mut observed = Observed {
        run: run.clone(),
        operation_type: None,
        workspace: None,
        tenants: Vec::new(),
        children: BTreeMap::new(),
        earlier: Earlier::NotAsked,
        source: Source::NotAsked,
        duplicate: None,
        approval: Known::default(),
        operator_namespace: context.settings.namespace.clone(),
    };
    // One that is too large is refused, whatever else there is.
    if run.is_completed() || left_out(&*run).is_some() {
        return Ok(observed);
    }
    let started = run.status.as_ref().is_some_and(|status| status.started_at.is_some());
    let workspace = &run.spec.workspace.name;
    if !started {
        observed.operation_type = operation_type(context, run.operation_type()).await?;
        observed.duplicate = context.children.duplicate_of(&run);
        observed.approval = approval::observe::known_of_all(context, &run);
    }
    observed.workspace = context.workspaces.get("", workspace);
    observed.tenants = if started { known(context, &run).await? } else { listed(context, workspace).await? };
    observed.children = context.children.of(&run.uid().unwrap_or_default());
    observed.earlier = earlier(context, &run, started).await?;
    observed.source = source(context, &run, started).await?;
    observed.run = run;
    Ok(observed)
}

/// The tenants that the watch has reported.
async fn known(context: &Context, run: &WorkspaceRun) -> Result<Vec<Tenant>, Error> {
    let selects = run.selects_by_labels();
    let mut tenants = Vec::new();
    for namespace in context.namespaces.group("", &run.spec.workspace.name) {
        // The cache leaves out labels for which it has no room.
        let namespace = if selects { whole(&Api::all(context.client.clone()), namespace).await? } else { namespace };
        tenants.extend(tenant(&namespace));
    }
    Ok(tenants)
}

/// The tenants as the API server lists them. That there is none is final, and a namespace may have been
/// labelled a moment before the workspace run was created.
pub async fn listed(context: &Context, workspace: &str) -> Result<Vec<Tenant>, Error> {
    let api: Api<Namespace> = Api::all(context.client.clone());
    let mut page = ListParams::default().labels(&format!("{}={workspace}", labels::WORKSPACE)).limit(PAGE);
    let mut tenants = Vec::new();
    loop {
        let listed = api.list(&page).await?;
        tenants.extend(listed.items.iter().filter_map(tenant));
        match listed.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(tenants),
        }
    }
}

/// What a workspace run has created in a tenant, as the API server has it.
pub async fn child(context: &Context, run: &WorkspaceRun, namespace: &str) -> Result<Option<Child>, Error> {
    match run.what() {
        Some(What::Operation(_)) | None => child_of::<OperationRun>(context, run, namespace).await,
        Some(What::Bulk(_)) => child_of::<BulkOperationRun>(context, run, namespace).await,
        Some(What::Restore(_) | What::Undo(_)) => child_of::<RestoreRun>(context, run, namespace).await,
    }
}

async fn child_of<K>(context: &Context, run: &WorkspaceRun, namespace: &str) -> Result<Option<Child>, Error>
where
    K: Scheduled + Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
{
    let of = ListParams::default().fields(&format!("spec.scheduledBy.uid={}", run.uid().unwrap_or_default())).limit(1);
    let listed = Api::<K>::namespaced(context.client.clone(), namespace).list(&of).await?;
    Ok(listed.items.first().map(counted_as))
}

fn tenant(namespace: &Namespace) -> Option<Tenant> {
    namespace.metadata.deletion_timestamp.is_none().then(|| Tenant {
        namespace: namespace.name_any(),
        labels: namespace.metadata.labels.clone().unwrap_or_default(),
        created: namespace.metadata.creation_timestamp.as_ref().map(|time| time.0),
    })
}

async fn operation_type(context: &Context, name: &str) -> Result<Option<Arc<OperationType>>, Error> {
    match context.types.get("", name) {
        Some(found) => Ok(Some(found)),
        // "Unknown" is final. A manifest often creates a type together with its first run.
        None => Ok(Api::<OperationType>::all(context.client.clone()).get_opt(name).await?.map(Arc::new)),
    }
}

/// What this one repeats. Once it has started, the uids in its status count: the workspace runs may be
/// gone by then, and their runs are kept.
async fn earlier(context: &Context, run: &WorkspaceRun, started: bool) -> Result<Earlier, Error> {
    let Some(reference) = &run.spec.rerun_of else { return Ok(Earlier::NotAsked) };
    let (found, repeats) = if started {
        (None, run.status_or_default().repeats)
    } else {
        let Some(found) = named(context, &reference.name).await? else { return Ok(Earlier::Missing) };
        let repeats = found.uid().into_iter().chain(found.status_or_default().repeats).take(MAX_REPEATS).collect();
        (Some(found), repeats)
    };
    let runs = repeats.iter().flat_map(|uid| context.children.of(uid));
    let succeeded = runs.filter(|(_, child)| child.outcome == Outcome::Succeeded).map(|(namespace, _)| namespace);
    let succeeded = succeeded.collect();
    Ok(Earlier::Found { named: found, repeats, succeeded })
}

/// What this one applies or undoes. Once it has started, the uid in its status counts: the workspace
/// run may be gone by then, and what it created is kept.
async fn source(context: &Context, run: &WorkspaceRun, started: bool) -> Result<Source, Error> {
    let Some(name) = run.source() else { return Ok(Source::NotAsked) };
    let recorded = run.status.as_ref().and_then(|status| status.source.clone()).filter(|_| started);
    let (found, reference) = match recorded {
        Some(reference) => (None, reference),
        None => match named(context, name).await? {
            Some(found) => (Some(found.clone()), reference_to(&found)),
            None => return Ok(Source::Missing),
        },
    };
    let children = context.children.of(&reference.uid);
    Ok(Source::Found { named: found, reference, children })
}

/// The workspace run of a name. "Missing" is final, so the API server is asked.
async fn named(context: &Context, name: &str) -> Result<Option<Arc<WorkspaceRun>>, Error> {
    match context.workspace_runs.get("", name) {
        Some(found) => Ok(Some(found)),
        None => Ok(read(&Api::<WorkspaceRun>::all(context.client.clone()), name).await?.map(Arc::new)),
    }
}
