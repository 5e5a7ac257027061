//! `BackupRepository`: a new or changed one is checked, once for each generation of its spec; after that it is checked and maintained
//! as its spec says, and checked again while it cannot be used.
//!
//! All of that are `OperationRun`s like any other; their ends are recorded on the repository by those runs' reconcile.

pub mod checked;
pub mod decide;
pub mod recheck;

use crate::{
    api::{BackupRepository, BackupRepositoryStatus, OperationRun},
    controller::{Context, Error, patch},
};
use decide::Upkeep;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use std::{sync::Arc, time::Duration};

/// One pass over one repository; when to look again though nothing happens.
pub async fn reconcile(repository: Arc<BackupRepository>, context: Arc<Context>) -> Result<Option<Duration>, Error> {
    let namespace = repository.namespace().unwrap_or_default();
    let repository = context.repositories.get(&namespace, &repository.name_any()).unwrap_or(repository);
    let tenant =
        context.namespaces.get("", &namespace).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
    let name = decide::check_name(&repository);
    let check = context.runs.get(&namespace, &name);
    let Some(run) = decide::decide(&repository, tenant, check.as_deref()) else {
        return upkeep(&context, &repository, tenant).await;
    };
    // It may be at its end already.
    if !start(&context, &run).await? {
        return Ok(None);
    }
    if let Some(status) = decide::checking(&repository, context.clock.now()) {
        // Its conditions are empty: whatever else changed, it is true.
        write_status(&context, &repository, &status, None).await?;
    }
    Ok(None)
}

/// What `spec.maintenance` asks for. The run comes first: a tick that is settled was started.
async fn upkeep(context: &Context, repository: &BackupRepository, in_tenant: bool) -> Result<Option<Duration>, Error> {
    let Upkeep { start: run, status, requeue } = decide::upkeep(repository, in_tenant, context.clock.now());
    if let Some(run) = run {
        start(context, &run).await?;
    }
    if let Some(status) = status {
        // Runs write it as well: it holds only for the version that was decided about.
        write_status(context, repository, &status, repository.resource_version()).await?;
    }
    Ok(requeue.and_then(|after| Duration::try_from(after).ok()))
}

/// Creates a run; whether it was not there. Its name says all that it is: whoever made it made this very run.
async fn start(context: &Context, run: &OperationRun) -> Result<bool, Error> {
    let runs: Api<OperationRun> =
        Api::namespaced(context.client.clone(), &run.metadata.namespace.clone().unwrap_or_default());
    match runs.create(&PostParams::default(), run).await {
        Ok(run) => {
            context.runs.wrote(run);
            Ok(true)
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Writes what differs from the status as it was looked at, of any version or of one.
async fn write_status(
    context: &Context,
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
    version: Option<String>,
) -> Result<(), Error> {
    let before = repository.status.clone().unwrap_or_default();
    let difference = patch::merge(&serde_json::to_value(&before)?, &serde_json::to_value(status)?);
    let Some(difference) = difference else { return Ok(()) };
    let mut metadata = json!({ "uid": repository.uid() });
    if let Some(version) = version {
        metadata["resourceVersion"] = json!(version);
    }
    let body = json!({ "metadata": metadata, "status": difference });
    let api: Api<BackupRepository> =
        Api::namespaced(context.client.clone(), &repository.namespace().unwrap_or_default());
    match api.patch_status(&repository.name_any(), &PatchParams::default(), &Patch::Merge(body)).await {
        Ok(written) => {
            context.repositories.wrote(written);
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(kube::Error::Api(status)) if status.is_conflict() => Err(Error::Again("the repository changed meanwhile")),
        Err(error) => Err(error.into()),
    }
}
