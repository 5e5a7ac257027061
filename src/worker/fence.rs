//! The fence: a worker has no effect unless the run is its own.
//!
//! A Job that a slow or restarted controller creates late must do nothing. So a worker first reads
//! its run. It continues only if the run has the same uid, is not completed, not cancelled, not
//! being deleted, not assigned to another Job, and has no result of this Job yet. For other images an init container does this:
//! `tenantatlas worker fence`. A run of a schedule must be the one that the schedule recorded for
//! its tick, or one that is not recorded yet ([`BackupSchedule::is_repeated_by`]).
//!
//! The check is not repeated before a snapshot is recorded. If a run is cancelled in between, its
//! Job is deleted, and the pod is told to stop and records nothing. A snapshot recorded just before
//! that changes nothing in the tenant, has no `BackupSet`, and is forgotten by a later maintenance.

use crate::{
    api::reason::worker as reason,
    api::{
        BackupSchedule, OperationRun, Phase,
        backup_schedule::{Origin, origin},
    },
    cluster::{retry::retry, trim::left_out},
    worker::{
        environment::RunIdentity,
        failure::{Failure, Retry, api_failure},
    },
};
use kube::{Api, Client};

/// Reads the run. Returns it if this worker is to execute it.
pub async fn pass(client: &Client, own: &RunIdentity) -> Result<OperationRun, Failure> {
    let runs: Api<OperationRun> = Api::namespaced(client.clone(), &own.namespace);
    let run = retry(|| runs.get_opt(&own.run))
        .await
        .map_err(|error| api_failure(&format!("read the run {}", own.run), &error))?;
    let run = decide(own, run).map_err(fenced)?;
    first_of_its_tick(client, own, &run).await?;
    Ok(run)
}

/// Fails unless a run that was told to stop is cancelled. The results of a cancelled run are final.
/// A run that was stopped for another reason is retried, and the attempt that completes it writes the
/// results.
pub async fn expect_cancelled(client: &Client, own: &RunIdentity) -> Result<(), Failure> {
    match pass(client, own).await {
        Err(failure) if failure.reason == reason::CANCELLED => Ok(()),
        _ => Err(Failure::transient(
            reason::INTERRUPTED,
            "the pod was told to stop in the middle of the work: the next attempt goes on",
        )),
    }
}

fn fenced((reason, why): (&'static str, String)) -> Failure {
    Failure::new(reason, format!("nothing was done: {why}"), Retry::Fenced)
}

/// Rejects a run that repeats a tick of its schedule. The account that an operation type names may
/// lack permission to read schedules. Then only the operator checks this, and it rejects such a run
/// as well.
async fn first_of_its_tick(client: &Client, own: &RunIdentity, run: &OperationRun) -> Result<(), Failure> {
    let Some(Origin { schedule, .. }) = origin(run) else { return Ok(()) };
    let schedules: Api<BackupSchedule> = Api::namespaced(client.clone(), &own.namespace);
    match retry(|| schedules.get_opt(&schedule)).await {
        Ok(found) if found.as_ref().is_some_and(|found| left_out(found).is_none() && found.is_repeated_by(run)) => {
            let name = &own.run;
            Err(fenced((reason::FENCED, format!("schedule {schedule} had started another run for the tick of {name}"))))
        }
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_forbidden() => Ok(()),
        Err(error) => Err(api_failure(&format!("read the schedule {schedule}"), &error)),
    }
}

/// Returns the run if this worker is to execute it, or else a code and the reason.
///
/// A cancellation has its own code. The operator may see the worker end before it sees the
/// cancellation. It must not take that for the end of the work, with which every run that joined
/// this one would end.
pub fn decide(own: &RunIdentity, run: Option<OperationRun>) -> Result<OperationRun, (&'static str, String)> {
    let fenced = |why: String| Err((reason::FENCED, why));
    let name = &own.run;
    let Some(run) = run else { return fenced(format!("the run {name} does not exist any more")) };
    if run.metadata.uid.as_deref() != Some(own.run_uid.as_str()) {
        return fenced(format!("the run {name} is another one of the same name"));
    }
    if run.metadata.deletion_timestamp.is_some() {
        return fenced(format!("the run {name} is being deleted"));
    }
    if let Some(status) = &run.status {
        if status.phase == Phase::Completed {
            return fenced(format!("the run {name} is completed"));
        }
        if let Some(job) = status.job.as_ref().filter(|job| job.uid != own.job_uid) {
            return fenced(format!("the run {name} is executed by another Job, {} ({})", job.name, job.uid));
        }
        // The container of that pod died after it had reported its result, and before it ended.
        if let Some(told) = status.worker_result.as_ref().filter(|told| told.job_uid == own.job_uid) {
            return fenced(format!("pod {} has done the work of the run {name} and reported its result", told.pod));
        }
    }
    if run.spec.cancel {
        return Err((reason::CANCELLED, format!("the run {name} is cancelled")));
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{
        ObjectReference, OperationRunSpec,
        operation_run::{OperationRunStatus, WorkerResult},
    };
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn own() -> RunIdentity {
        RunIdentity {
            run: "a".into(),
            run_uid: "uid".into(),
            namespace: "n".into(),
            job_uid: "job".into(),
            pod: "op-1-x".into(),
        }
    }

    fn run(change: impl FnOnce(&mut OperationRun, &mut OperationRunStatus)) -> OperationRun {
        let mut run = OperationRun::new("a", OperationRunSpec::default());
        run.metadata.uid = Some("uid".into());
        let mut status = OperationRunStatus::default();
        change(&mut run, &mut status);
        run.status = Some(status);
        run
    }

    fn job(uid: &str) -> ObjectReference {
        ObjectReference { name: "op-1".into(), uid: uid.into() }
    }

    fn told(job_uid: &str) -> WorkerResult {
        WorkerResult { job_uid: job_uid.into(), pod: "op-1-a".into(), exit_code: 0, message: "{}".into() }
    }

    #[test]
    fn a_run_that_is_its_own_and_not_over_is_worked_on() {
        for mine in [
            run(|_, _| {}),
            run(|_, status| status.worker_result = Some(told("earlier"))),
            run(|_, status| status.job = Some(job("job"))),
            run(|_, status| status.phase = Phase::Running),
        ] {
            assert!(decide(&own(), Some(mine)).is_ok());
        }
        // Before the API server's defaults: no status at all.
        let mut bare = run(|_, _| {});
        bare.status = None;
        assert!(decide(&own(), Some(bare)).is_ok());
    }

    #[test]
    fn a_run_that_is_over_or_another_worker_s_is_left_alone() {
        for (theirs, why) in [
            (None, "does not exist"),
            (Some(run(|run, _| run.metadata.uid = Some("other".into()))), "another one of the same name"),
            (Some(run(|run, _| run.metadata.uid = None)), "another one of the same name"),
            (
                Some(run(|run, _| run.metadata.deletion_timestamp = Some(Time(jiff::Timestamp::UNIX_EPOCH)))),
                "being deleted",
            ),
            (Some(run(|_, status| status.phase = Phase::Completed)), "completed"),
            (Some(run(|_, status| status.job = Some(job("other")))), "another Job"),
            (Some(run(|_, status| status.worker_result = Some(told("job")))), "has done the work"),
        ] {
            let (reason, said) = decide(&own(), theirs).expect_err("fenced");
            assert!(said.contains(why), "{said}");
            assert_eq!(reason, "Fenced");
        }
    }

    #[test]
    fn a_cancelled_run_is_left_alone_and_the_code_says_that_it_was_cancelled() {
        let (reason, said) = decide(&own(), Some(run(|run, _| run.spec.cancel = true))).expect_err("fenced");
        assert!(said.contains("cancelled"), "{said}");
        assert_eq!(reason, "Cancelled");
    }
}
