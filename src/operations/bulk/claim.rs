//! Whether a run is the one to carry out a bulk operation: the one that the operator recorded in its
//! status. So no run does what another user asked for with that user's rights, and a completed bulk
//! operation is not done again.

use crate::{
    api::reason::{bulk as reason, worker},
    api::{BulkOperationRun, ObjectReference, Phase, operations::BulkInputs},
    cluster::retry::retry,
    operations::claim::{Claim, settled},
    worker::{
        environment::RunIdentity,
        failure::{Failure, Retry, api_failure},
    },
};
use kube::{Api, Client, ResourceExt};

/// Reads the bulk operation named in the inputs, once it names this run as its own.
pub async fn take(client: &Client, own: &RunIdentity, inputs: &BulkInputs) -> Result<BulkOperationRun, Failure> {
    let not_yet = || {
        let name = &inputs.bulk_operation_run.name;
        let message = format!("see that the operator runs: the bulk operation {name} names no run as its own yet");
        Failure::transient(reason::NOT_ITS_BULK, message)
    };
    settled(not_yet, async || {
        let bulk = read(client, own, inputs).await?;
        let claim = decide(&bulk, own);
        Ok((bulk, claim))
    })
    .await
}

async fn read(client: &Client, own: &RunIdentity, inputs: &BulkInputs) -> Result<BulkOperationRun, Failure> {
    let bulks: Api<BulkOperationRun> = Api::namespaced(client.clone(), &own.namespace);
    let ObjectReference { name, uid } = &inputs.bulk_operation_run;
    let found = retry(|| bulks.get_opt(name))
        .await
        .map_err(|error| api_failure(&format!("read the BulkOperationRun {name}"), &error))?;
    found.filter(|bulk| bulk.uid().as_deref() == Some(uid.as_str())).ok_or_else(|| {
        let message = format!("the bulk operation {name} does not exist any more, or is another one of the same name");
        Failure::permanent(reason::BULK_NOT_FOUND, message)
    })
}

fn decide(bulk: &BulkOperationRun, own: &RunIdentity) -> Claim {
    let name = bulk.name_any();
    let refused = |why: &str| {
        let message = format!("create a BulkOperationRun of your own: the bulk operation {name} {why}");
        Claim::Refused(Failure::blocked(reason::NOT_ITS_BULK, message))
    };
    let status = bulk.status_or_default();
    if status.phase == Phase::Completed {
        return refused("is completed");
    }
    if bulk.metadata.deletion_timestamp.is_some() {
        return refused("is being deleted");
    }
    if bulk.spec.cancel {
        // Its run is about to be cancelled too: the operator passes the cancellation on.
        let message = format!("nothing was done: the bulk operation {name} is cancelled");
        return Claim::Refused(Failure::new(worker::CANCELLED, message, Retry::Fenced));
    }
    match status.operation_run {
        None => Claim::NotRecorded,
        Some(run) if run.uid == own.run_uid && run.name == own.run => Claim::Own,
        Some(run) => refused(&format!("is carried out by another run, {}", run.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn claim(change: impl FnOnce(&mut Value)) -> Claim {
        let own = RunIdentity {
            run: "a".into(),
            run_uid: "uid".into(),
            namespace: "n".into(),
            job_uid: "job".into(),
            pod: "op-1-x".into(),
        };
        let mut bulk = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun",
            "metadata": {"name": "restart", "namespace": "n", "uid": "bulk-uid"},
            "spec": {"resource": {"kind": "Pod"}, "action": "label", "items": ["a"]},
            "status": {"phase": "running", "operationRun": {"name": "a", "uid": "uid"}}});
        change(&mut bulk);
        decide(&serde_json::from_value(bulk).expect("a BulkOperationRun"), &own)
    }

    type Change = fn(&mut Value);

    #[test]
    fn a_bulk_operation_is_carried_out_by_the_run_that_the_operator_recorded_and_by_no_other() {
        assert_eq!(claim(|_| {}), Claim::Own);
        assert_eq!(claim(|bulk| bulk["status"] = json!({"phase": "queued"})), Claim::NotRecorded);
        let cases: [(Change, &str); 5] = [
            (|bulk| bulk["status"]["operationRun"]["uid"] = json!("other"), "another run"),
            (|bulk| bulk["status"]["operationRun"]["name"] = json!("b"), "another run"),
            (|bulk| bulk["status"]["phase"] = json!("completed"), "completed"),
            (|bulk| bulk["spec"]["cancel"] = json!(true), "cancelled"),
            (|bulk| bulk["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"), "being deleted"),
        ];
        for (change, word) in cases {
            let Claim::Refused(failure) = claim(change) else { panic!("not refused: {word}") };
            assert!(failure.message.contains(word), "{failure}");
        }
    }
}
