//! All writes of an imported run's pass: to imported runs, and to nothing else.

use crate::{
    api::{ImportedRun, ImportedRunStatus, ObjectReference},
    kernel::{Error, delete, name::Name, refusal::CreateFailure, status},
    runs::context::Context,
};
use kube::{Api, api::PostParams};

fn api(context: &Context, name: &Name<ImportedRun>) -> Api<ImportedRun> {
    Api::namespaced(context.client.clone(), name.namespace())
}

/// Creates it. `None` if the API server refuses that; a later pass tries again.
pub(super) async fn create(
    context: &Context,
    name: &Name<ImportedRun>,
    new: &ImportedRun,
) -> Result<Option<ImportedRun>, Error> {
    let api = api(context, name);
    let error = match api.create(&PostParams::default(), new).await {
        Ok(created) => {
            context.imported.wrote(created.clone());
            return Ok(Some(created));
        }
        Err(error) => error,
    };
    match CreateFailure::of(&error) {
        // The name follows from the record, and nobody else may create one: it is ours.
        CreateFailure::Taken => {
            if let Some(there) = status::read(&api, name.name()).await? {
                context.imported.wrote(there);
            }
            Err(Error::Again("the imported run was created meanwhile"))
        }
        CreateFailure::NamespaceTerminating => Ok(None),
        CreateFailure::OverQuota(says) | CreateFailure::Refused(says) => {
            tracing::warn!(imported_run = %name, says, "a record of another system is not listed; it is tried again every minute");
            Ok(None)
        }
        CreateFailure::Fault => Err(error.into()),
    }
}

/// Writes what differs from the observed status.
pub(super) async fn say(
    context: &Context,
    name: &Name<ImportedRun>,
    existing: &ImportedRun,
    after: &ImportedRunStatus,
) -> Result<(), Error> {
    let before = existing.status.clone().unwrap_or_default();
    let api = api(context, name);
    status::write(&api, existing, &before, after, |written| context.imported.wrote(written)).await.map(drop)
}

/// Deletes it. The record that it was about is not touched.
pub(super) async fn delete(context: &Context, name: &Name<ImportedRun>, existing: &ImportedRun) -> Result<(), Error> {
    delete::delete(&api(context, name), &ObjectReference::of(existing)).await
}
