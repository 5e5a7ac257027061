//! `BackupRepository`: a new or changed repository is checked, once for each generation of its spec
//! that differs in more than `maintenance`. After that it is checked and maintained as its spec
//! says, and rechecked while it cannot be used.
//!
//! All of these are ordinary `OperationRun`s. The reconcile of those runs records their ends on the
//! repository.

pub mod act;
pub mod decide;
pub mod recheck;

#[cfg(test)]
mod tests;

use crate::{
    api::{BackupRepository, OperationRun, labels},
    kernel::{Error, whole::whole},
    runs::context::Context,
};
use act::{Started, say_refused, start, write_status};
use decide::{Check, Upkeep};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};
use std::{sync::Arc, time::Duration};

/// When the creation of a run is retried.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// Reconciles one repository. Returns when to requeue it without an event.
pub async fn reconcile(repository: Arc<BackupRepository>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let namespace = repository.namespace().unwrap_or_default();
    let repository = context.repositories.get(&namespace, &repository.name_any()).unwrap_or(repository);
    let repository = whole(&Api::namespaced(context.client.clone(), &namespace), repository).await?;
    let tenant =
        context.namespaces.get("", &namespace).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    if !tenant && repository.metadata.deletion_timestamp.is_none() {
        // The cache has tenants only, and may not have this one yet.
        let namespace = context.namespace(&namespace).await?;
        if namespace.is_some_and(|namespace| is_no_tenant(&namespace)) {
            return say_refused(&context, &repository, &decide::left_alone(&repository)).await.map(|()| None);
        }
    }
    let run = match decide::decide(&repository, tenant, |name| context.runs.get(&namespace, name)) {
        Check::Refused(refusal) => return say_refused(&context, &repository, &refusal).await.map(|()| None),
        Check::None => return upkeep(&context, &repository, tenant).await,
        Check::Made(check) => {
            say_checking(&context, &repository, Some(&check)).await?;
            return Ok(None);
        }
        Check::Due(run) => run,
    };
    match start(&context, &repository, &run).await? {
        // The run may already be completed.
        Started::There => Ok(None),
        Started::Refused => Ok(Some(TRY_AGAIN)),
        Started::Made => {
            say_checking(&context, &repository, None).await?;
            Ok(None)
        }
    }
}

/// Whether a namespace that stays is no tenant.
fn is_no_tenant(namespace: &Namespace) -> bool {
    namespace.metadata.deletion_timestamp.is_none() && !namespace.labels().contains_key(labels::WORKSPACE)
}

/// Reports of a repository that was never checked that its check is under way, and what the check
/// waits for.
async fn say_checking(
    context: &Context,
    repository: &BackupRepository,
    check: Option<&OperationRun>,
) -> Result<(), Error> {
    if check.is_some_and(OperationRun::is_completed) {
        return Ok(());
    }
    if let Some(status) = decide::checking(repository, check, context.clock.now()) {
        write_status(context, repository, &status).await?;
    }
    Ok(())
}

/// Does what `spec.maintenance` asks for. The run is created first: a tick that is recorded as
/// settled was started.
async fn upkeep(context: &Context, repository: &BackupRepository, in_tenant: bool) -> Result<Option<Duration>, Error> {
    let Upkeep { start: run, status, requeue } = decide::upkeep(repository, in_tenant, context.clock.now());
    if let Some(run) = run
        && start(context, repository, &run).await? == Started::Refused
    {
        return Ok(Some(TRY_AGAIN));
    }
    if let Some(status) = status {
        write_status(context, repository, &status).await?;
    }
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()))
}
