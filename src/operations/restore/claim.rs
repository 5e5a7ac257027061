//! Whether a run is the one to execute a restore.
//!
//! The inputs of a run name a restore, but the run's author wrote those inputs. What counts is the
//! run that the operator recorded in the restore's status, by name and uid. Only the operator
//! writes that status. So no run executes another run's restore with the permissions of that
//! restore's requester, and a completed restore is not executed again.

use crate::{
    api::reason::{restore as reason, worker},
    api::{ObjectReference, Phase, RestoreRun, operations::RestoreInputs},
    cluster::retry::retry,
    operations::claim::{Claim, settled},
    worker::{
        environment::{Environment, RunIdentity},
        failure::{Failure, Retry, api_failure},
    },
};
use kube::{Api, Client, ResourceExt};

/// Reads the restore named in the inputs, once it names this run as its own.
pub async fn take(
    client: &Client,
    environment: &Environment,
    inputs: &RestoreInputs,
    previews: bool,
) -> Result<RestoreRun, Failure> {
    let not_yet = || {
        let name = &inputs.restore_run.name;
        let message = format!("see that the operator runs: the restore {name} names no run as its own yet");
        Failure::transient(reason::NOT_ITS_RESTORE, message)
    };
    settled(not_yet, async || {
        let restore = read(client, environment, inputs).await?;
        let claim = decide(&restore, &environment.identity, inputs, previews);
        Ok((restore, claim))
    })
    .await
}

async fn read(client: &Client, environment: &Environment, inputs: &RestoreInputs) -> Result<RestoreRun, Failure> {
    let restores: Api<RestoreRun> = Api::namespaced(client.clone(), &environment.identity.namespace);
    let ObjectReference { name, uid } = &inputs.restore_run;
    let found = retry(|| restores.get_opt(name))
        .await
        .map_err(|error| api_failure(&format!("read the RestoreRun {name}"), &error))?;
    found.filter(|restore| restore.uid().as_deref() == Some(uid.as_str())).ok_or_else(|| {
        let message = format!("the restore {name} does not exist any more, or is another one of the same name");
        Failure::permanent(reason::RESTORE_NOT_FOUND, message)
    })
}

fn decide(restore: &RestoreRun, own: &RunIdentity, inputs: &RestoreInputs, previews: bool) -> Claim {
    let name = restore.name_any();
    let refused = |code: &str, why: String| {
        Claim::Refused(Failure::blocked(code, format!("create a RestoreRun of your own: the restore {name} {why}")))
    };
    let status = restore.status_or_default();
    if status.phase == Phase::Completed {
        return refused(reason::NOT_ITS_RESTORE, "is completed".to_owned());
    }
    if restore.metadata.deletion_timestamp.is_some() {
        return refused(reason::NOT_ITS_RESTORE, "is being deleted".to_owned());
    }
    if restore.spec.cancel {
        // Its run is about to be cancelled too: the operator passes the cancellation on.
        let message = format!("nothing was done: the restore {name} is cancelled");
        return Claim::Refused(Failure::new(worker::CANCELLED, message, Retry::Fenced));
    }
    if restore.spec.dry_run != previews {
        // A dry run must never write.
        let why = format!("has dryRun: {}: it is not for this worker", restore.spec.dry_run);
        return refused(reason::INVALID_RESTORE, why);
    }
    // A preview runs as the account of previews, whatever account the later restore will name.
    let account = restore.spec.service_account_name.as_ref().filter(|_| !previews);
    if inputs.service_account_name.as_ref() != account {
        let (named, runs) = (account.map(String::as_str), inputs.service_account_name.as_deref());
        let word = |account: Option<&str>| account.unwrap_or("no account").to_owned();
        return refused(reason::NOT_ITS_RESTORE, format!("names {}, and this run {}", word(named), word(runs)));
    }
    match status.operation_run {
        None => Claim::NotRecorded,
        Some(run) if run.uid == own.run_uid && run.name == own.run => Claim::Own,
        Some(run) => refused(reason::NOT_ITS_RESTORE, format!("is carried out by another run, {}", run.name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn own() -> RunIdentity {
        RunIdentity {
            run: "a".into(),
            run_uid: "uid".into(),
            namespace: "n".into(),
            job_uid: "job".into(),
            pod: "op-1-x".into(),
        }
    }

    fn inputs(account: Option<&str>) -> RestoreInputs {
        let restore_run = ObjectReference { name: "put-back".into(), uid: "restore-uid".into() };
        RestoreInputs {
            repository: "main".into(),
            restore_run,
            finding: None,
            plan_digest: None,
            approval: None,
            service_account_name: account.map(str::to_owned),
        }
    }

    fn claim(change: impl FnOnce(&mut Value), inputs: &RestoreInputs, previews: bool) -> Claim {
        let mut restore = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun",
            "metadata": {"name": "put-back", "namespace": "n", "uid": "restore-uid"},
            "spec": {"backupSet": {"name": "nightly"}},
            "status": {"phase": "running", "operationRun": {"name": "a", "uid": "uid"}}});
        change(&mut restore);
        decide(&serde_json::from_value(restore).expect("a RestoreRun"), &own(), inputs, previews)
    }

    #[test]
    fn a_restore_is_carried_out_by_the_run_that_the_operator_recorded() {
        assert_eq!(claim(|_| {}, &inputs(None), false), Claim::Own);
        assert_eq!(claim(|restore| restore["spec"]["dryRun"] = json!(true), &inputs(None), true), Claim::Own);
        let named = |restore: &mut Value| restore["spec"]["serviceAccountName"] = json!("deployer");
        assert_eq!(claim(named, &inputs(Some("deployer")), false), Claim::Own);
        let previewed = |restore: &mut Value| {
            named(restore);
            restore["spec"]["dryRun"] = json!(true);
        };
        assert_eq!(claim(previewed, &inputs(None), true), Claim::Own);
    }

    #[test]
    fn a_run_that_is_not_recorded_yet_is_waited_for() {
        for status in [json!({}), json!({"phase": "queued"}), Value::Null] {
            assert_eq!(claim(|restore| restore["status"] = status, &inputs(None), false), Claim::NotRecorded);
        }
    }

    #[test]
    fn no_other_run_and_no_restore_that_is_over_is_carried_out() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 8] = [
            (|restore| restore["status"]["operationRun"]["uid"] = json!("other"), "another run"),
            // The same uid with another name cannot exist, so it matches no run.
            (|restore| restore["status"]["operationRun"]["name"] = json!("b"), "another run"),
            (|restore| restore["status"]["phase"] = json!("completed"), "completed"),
            (|restore| restore["status"] = json!({"phase": "completed"}), "completed"),
            (|restore| restore["spec"]["cancel"] = json!(true), "cancelled"),
            (|restore| restore["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"), "being deleted"),
            (|restore| restore["spec"]["dryRun"] = json!(true), "dryRun: true"),
            (|restore| restore["spec"]["serviceAccountName"] = json!("deployer"), "deployer"),
        ];
        for (change, word) in cases {
            let Claim::Refused(failure) = claim(change, &inputs(None), false) else { panic!("not refused: {word}") };
            assert!(failure.message.contains(word), "{failure}");
        }
        // An account in the inputs counts only if the restore names it too.
        assert!(matches!(claim(|_| {}, &inputs(Some("deployer")), false), Claim::Refused(_)));
    }
}
