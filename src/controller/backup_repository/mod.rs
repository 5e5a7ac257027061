//! `BackupRepository`: a new or changed one is checked, once for each generation of its spec.
//!
//! The check is an `OperationRun` like any other; its end is recorded on the repository by that run's reconcile.

pub mod decide;

use crate::{
    api::{BackupRepository, OperationRun},
    controller::{Context, Error},
};
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
    let Some(run) = decide::decide(&repository, tenant, check.as_deref()) else { return Ok(None) };
    match Api::<OperationRun>::namespaced(context.client.clone(), &namespace).create(&PostParams::default(), &run).await
    {
        Ok(run) => context.runs.wrote(run),
        // The name holds the uid and the generation: whoever made it made this very run, and it may be at its end already.
        Err(kube::Error::Api(status)) if status.is_already_exists() => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    if let Some(status) = decide::checking(&repository, context.clock.now()) {
        let body = json!({ "metadata": { "uid": repository.uid() }, "status": status });
        let api: Api<BackupRepository> = Api::namespaced(context.client.clone(), &namespace);
        let written = api.patch_status(&repository.name_any(), &PatchParams::default(), &Patch::Merge(body)).await?;
        context.repositories.wrote(written);
    }
    Ok(None)
}
