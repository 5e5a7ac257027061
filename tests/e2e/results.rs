//! What a container reports on its termination message, and what becomes of it: checked, never believed.

use crate::support::run::assert_ended;
use crate::support::types::reports;
use crate::support::{SOON, Tenant};
use serde_json::json;
use tenantatlas::api::outcome::{FailureType, SummaryCounts};
use tenantatlas::api::{OperationRunStatus, Outcome, Reason};

impl Tenant {
    /// Runs a script to its end, without retries.
    async fn ran(&self, name: &str, script: &str) -> OperationRunStatus {
        let operation = self.script_type(name, script, |_| {}).await;
        self.start(name, json!({ "type": operation })).await;
        self.completed(name, SOON).await
    }
}

#[tokio::test]
async fn without_a_message_the_exit_code_decides() {
    let tenant = Tenant::new("exit-code").await;
    assert_ended(&tenant.ran("zero", "true").await, Outcome::Succeeded, Reason::Succeeded);
    let failed = tenant.ran("three", "echo the disk is on fire >&2; exit 3").await;
    assert_ended(&failed, Outcome::Failed, Reason::JobFailed);
    let message = failed.message.unwrap_or_default();
    assert!(message.contains("exit code 3") && message.contains("the disk is on fire"), "{message}");
}

#[tokio::test]
async fn counts_failures_and_the_message_are_taken_from_the_result() {
    let tenant = Tenant::new("result").await;
    let result = json!({
        "message": "two of four rows moved",
        "summaryCounts": { "total": 4, "processed": 4, "succeeded": 2, "failed": 1, "skipped": 1 },
        "failures": [
            { "itemId": "core/ConfigMap/a", "reasonCode": "Locked", "message": "somebody holds it" },
            { "itemId": "core/ConfigMap/b", "reasonCode": "Ignored", "type": "skipped" },
        ],
    });
    let status = tenant.ran("told", &reports(&result)).await;
    assert_ended(&status, Outcome::PartiallySucceeded, Reason::PartiallySucceeded);
    assert_eq!(status.message.as_deref(), Some("two of four rows moved"));
    let counts = SummaryCounts { total: 4, processed: 4, succeeded: 2, failed: 1, skipped: 1 };
    assert_eq!(status.summary_counts, Some(counts));
    let failures: Vec<_> =
        status.failures.iter().map(|failure| (failure.reason_code.as_str(), failure.failure_type)).collect();
    assert_eq!(failures, [("Locked", FailureType::Failure), ("Ignored", FailureType::Skipped)]);
}

#[tokio::test]
async fn one_failed_item_is_never_called_success_whatever_the_container_says() {
    let tenant = Tenant::new("partial").await;
    let counts = json!({ "total": 2, "processed": 2, "succeeded": 1, "failed": 1, "skipped": 0 });
    let status = tenant.ran("claims", &reports(&json!({ "outcome": "succeeded", "summaryCounts": counts }))).await;
    assert_ended(&status, Outcome::PartiallySucceeded, Reason::PartiallySucceeded);
}

#[tokio::test]
async fn a_result_cannot_turn_a_failed_pod_into_a_success() {
    let tenant = Tenant::new("claims").await;
    let claim = format!("{}; exit 1", reports(&json!({ "outcome": "succeeded", "message": "all good" })));
    let status = tenant.ran("claims", &claim).await;
    assert_ended(&status, Outcome::Failed, Reason::JobFailed);
}

#[tokio::test]
async fn counts_that_do_not_add_up_fail_the_run_and_the_message_says_which() {
    let tenant = Tenant::new("lying").await;
    let counts = json!({ "total": 2, "processed": 2, "succeeded": 5, "failed": 0, "skipped": 0 });
    let status = tenant.ran("lies", &reports(&json!({ "summaryCounts": counts }))).await;
    assert_ended(&status, Outcome::Failed, Reason::ResultInconsistent);
    let message = status.message.unwrap_or_default();
    assert!(message.contains("processed 2") && message.contains("succeeded 5"), "{message}");
    assert_eq!(status.summary_counts, None, "numbers that cannot be true are not kept");
}

#[tokio::test]
async fn a_message_that_is_not_json_is_quoted_and_the_exit_code_decides() {
    let tenant = Tenant::new("not-json").await;
    let status = tenant.ran("text", "printf 'all 17 rows done' > /dev/termination-log").await;
    assert_ended(&status, Outcome::Succeeded, Reason::ResultUnreadable);
    let message = status.message.unwrap_or_default();
    assert!(message.contains("all 17 rows done") && message.contains("JSON"), "{message}");
    let status = tenant.ran("text-failed", "printf 'row 3 is broken' > /dev/termination-log; exit 1").await;
    assert_ended(&status, Outcome::Failed, Reason::JobFailed);
    assert!(status.message.unwrap_or_default().contains("row 3 is broken"));
}

#[tokio::test]
async fn a_message_longer_than_the_kubelet_keeps_is_no_result_and_no_harm() {
    let tenant = Tenant::new("long").await;
    let script = "i=0; while [ $i -lt 300 ]; do printf '{\"message\":\"%s\"}' \"line number $i of very many\"; i=$((i+1)); done > /dev/termination-log";
    let status = tenant.ran("long", script).await;
    assert_ended(&status, Outcome::Succeeded, Reason::ResultUnreadable);
    assert!(status.message.unwrap_or_default().len() <= 4096);
}

#[tokio::test]
async fn exit_codes_40_to_49_are_permanent_and_others_are_tried_again() {
    let tenant = Tenant::new("retries").await;
    for (name, code, attempts, reason) in [
        ("permanent", 40, 1, Reason::PermanentFailure),
        ("last-permanent", 49, 1, Reason::PermanentFailure),
        ("passing", 50, 2, Reason::JobFailed),
    ] {
        let operation = tenant.script_type(name, &format!("exit {code}"), |spec| spec["retries"] = json!(1)).await;
        tenant.start(name, json!({ "type": operation })).await;
        let status = tenant.completed(name, SOON * 2).await;
        assert_ended(&status, Outcome::Failed, reason);
        assert_eq!(status.attempts, Some(attempts), "{name}: pods tried");
    }
}

#[tokio::test]
async fn a_run_that_fails_once_and_then_works_has_succeeded() {
    let tenant = Tenant::new("retried").await;
    let folder = tenant.volume("state").await;
    let script = "[ -e /state/tried ] || { : > /state/tried; exit 1; }";
    let operation = tenant
        .script_type("flaky", script, |spec| {
            spec["retries"] = json!(2);
            let pod = &mut spec["executor"]["jobTemplate"]["spec"]["template"]["spec"];
            pod["containers"][0]["volumeMounts"] = json!([{ "name": "state", "mountPath": "/state" }]);
            pod["volumes"] = json!([{ "name": "state", "persistentVolumeClaim": { "claimName": "state" } }]);
        })
        .await;
    tenant.start("flaky", json!({ "type": operation })).await;
    let status = tenant.completed("flaky", SOON * 2).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    assert_eq!(status.attempts, Some(2));
    assert!(folder.join("tried").exists());
}

#[tokio::test]
async fn only_our_own_worker_may_say_that_it_made_a_backup() {
    let tenant = Tenant::new("forged").await;
    let snapshot = json!({ "id": "a".repeat(64), "items": 1, "bytes": 1, "addedBytes": 1 });
    let status = tenant.ran("forges", &reports(&json!({ "context": { "snapshot": snapshot } }))).await;
    assert_eq!(status.outcome, Outcome::Succeeded);
    assert_eq!(status.context.backup_set, None);
    let sets = tenant.cluster.kubectl_prints(&["get", "backupsets", "--namespace", &tenant.name, "--output", "name"]);
    assert_eq!(sets, "");
}

#[tokio::test]
async fn secrets_in_a_message_are_redacted() {
    let tenant = Tenant::new("redacted").await;
    let message = "cannot reach https://admin:hunter2@db.example.com: Authorization: Bearer abcdefghijklmnop";
    let status = tenant.ran("leaks", &format!("{}; exit 1", reports(&json!({ "message": message })))).await;
    let message = status.message.unwrap_or_default();
    assert!(!message.contains("hunter2") && !message.contains("abcdefghijklmnop"), "{message}");
    assert!(message.contains("db.example.com"), "what is no secret stays: {message}");
}
