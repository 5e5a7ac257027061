//! All writes of a repository's reconcile. The run that is due is created before the status is
//! written, so a tick that the status records as settled was started.

use super::decide::{is_of, names_taken, refused, run_names};
use crate::{
    api::{BackupRepository, BackupRepositoryStatus, OperationRun, Reason, conditions},
    kernel::{
        Error,
        events::Severity,
        refusal::{Refusal, of_due_run},
        status,
    },
    runs::context::Context,
};
use kube::{Api, ResourceExt, api::PostParams};

/// What became of a run that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The run was created.
    Made,
    /// The run already existed, from before a crash or from another leader.
    There,
    /// The run cannot be created now, and the repository reports why. It is retried.
    Refused,
}

/// Creates a run, under its second name if a run that is not ours has the first.
pub async fn start(context: &Context, repository: &BackupRepository, run: &OperationRun) -> Result<Started, Error> {
    let runs: Api<OperationRun> =
        Api::namespaced(context.client.clone(), &run.metadata.namespace.clone().unwrap_or_default());
    let mut taken = None;
    for name in run_names(repository, &run.name_any()) {
        let mut run = run.clone();
        run.metadata.name = Some(name.clone());
        match runs.create(&PostParams::default(), &run).await {
            Ok(made) => {
                context.wrote(made);
                if let Some(name) = taken {
                    let note = format!("run {name} was made by somebody else: it does not count, and another was made");
                    let reason = Reason::RunNameTaken.as_str();
                    context.events.publish(repository, Severity::Warning, reason, "Start", &note);
                }
                return Ok(Started::Made);
            }
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                let there = runs.get_opt(&name).await?.ok_or(Error::Again("a run came and went"))?;
                if is_of(&there, &run) {
                    context.wrote(there);
                    return Ok(Started::There);
                }
                taken = Some(name);
            }
            Err(error) => {
                let meanwhile = "until then it is tried again every half minute";
                let Some(refusal) = of_due_run(&error, meanwhile) else { return Err(error.into()) };
                say_refused(context, repository, &refusal).await?;
                return Ok(Started::Refused);
            }
        }
    }
    say_refused(context, repository, &names_taken(repository, &run.name_any())).await?;
    Ok(Started::Refused)
}

/// Reports on the repository, and once in an event, why its run is not created.
pub async fn say_refused(context: &Context, repository: &BackupRepository, refusal: &Refusal) -> Result<(), Error> {
    let status = refused(repository, refusal, context.clock.now());
    let stalled = |status: &BackupRepositoryStatus| {
        let mut stalls = status.conditions.iter().filter(|condition| condition.type_ == conditions::STALLED);
        stalls.next().map(|stall| stall.message.clone())
    };
    let news = repository.status.as_ref().and_then(stalled) != stalled(&status);
    write_status(context, repository, &status).await?;
    if news {
        context.events.publish(repository, Severity::Warning, refusal.reason.as_str(), "Start", &refusal.message);
    }
    Ok(())
}

/// Writes what differs from the observed status.
pub async fn write_status(
    context: &Context,
    repository: &BackupRepository,
    status: &BackupRepositoryStatus,
) -> Result<(), Error> {
    let before = repository.status.clone().unwrap_or_default();
    let api = Api::namespaced(context.client.clone(), &repository.namespace().unwrap_or_default());
    status::write(&api, repository, &before, status, |written| context.repositories.wrote(written)).await.map(drop)
}
