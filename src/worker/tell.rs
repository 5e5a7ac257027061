//! The last write of a worker: its result, on its own run.
//!
//! The run then ends within milliseconds, not when the kubelet and the Job controller have reported
//! the container's end, which takes seconds. The result is the same that the container leaves on
//! its termination message, so the run ends in the same way if this write fails or is lost.
//!
//! Must not: be called before everything else that the worker does is done and its Lease is
//! released, or for a result that a retry may change.

use crate::{
    api::{OperationRun, operation_run::WorkerResult},
    cluster::retry::retry,
    worker::{environment::RunIdentity, progress::FIELD_MANAGER},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use std::time::Duration;

/// How long the worker tries to report its result. The container's end is noticed only a little
/// later than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// Reports a result as the worker's last word. A failure is logged and changes nothing.
pub async fn tell(client: &Client, own: &RunIdentity, exit_code: i32, message: &str) {
    let runs: Api<OperationRun> = Api::namespaced(client.clone(), &own.namespace);
    let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let body = Patch::Merge(patch(own, exit_code, message));
    match tokio::time::timeout(PATIENCE, retry(|| runs.patch_status(&own.run, &parameters, &body))).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::info!(%error, "the result could not be reported on the run; it is read from the container's end");
        }
        Err(_) => {
            tracing::info!("the result could not be reported on the run in time; it is read from the container's end");
        }
    }
}

/// The patch contains only the worker's own field. The uid keeps it from a later run of the same
/// name, and the Job's uid from a run whose next attempt is another Job's.
fn patch(own: &RunIdentity, exit_code: i32, message: &str) -> Value {
    let result =
        WorkerResult { job_uid: own.job_uid.clone(), pod: own.pod.clone(), exit_code, message: message.to_owned() };
    json!({ "metadata": { "uid": own.run_uid }, "status": { "workerResult": result } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_names_its_run_by_uid_its_job_and_its_pod() {
        let own = RunIdentity {
            run: "nightly".into(),
            run_uid: "uid".into(),
            namespace: "acme".into(),
            job_uid: "job".into(),
            pod: "op-1-x".into(),
        };
        assert_eq!(
            patch(&own, 40, "{}"),
            json!({"metadata": {"uid": "uid"},
                "status": {"workerResult": {"jobUid": "job", "pod": "op-1-x", "exitCode": 40, "message": "{}"}}})
        );
    }
}
