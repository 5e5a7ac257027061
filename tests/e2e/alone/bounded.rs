//! What one tenant makes, however large and in whatever shape, is refused or done, and delays another by no more than a slot.

use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{BackupSchedule, Outcome, Reason, RestoreRun};

/// JSON that takes a hundred times as much once it is parsed, with so many members.
fn worst(members: usize) -> Value {
    Value::Array(vec![json!({ "": 0 }); members])
}

/// How often containers of the operator's pods were started again, by pod.
async fn restarts(tenant: &Tenant) -> Vec<(String, i32)> {
    let count = |pod: Pod| {
        let containers = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        (pod.name_any(), containers.into_iter().flatten().map(|container| container.restart_count).sum())
    };
    tenant.cluster.operator_pods().await.into_iter().map(count).collect()
}

#[tokio::test]
async fn the_worst_of_one_tenant_is_refused_and_delays_another_s_run_by_no_more_than_a_slot() {
    let greedy = Tenant::alone("greedy").await;
    let modest = greedy.beside("modest").await;
    let slot = Duration::from_secs(2);
    // Other stories end its processes.
    let before = restarts(&modest).await;
    let operation = greedy.script_type("slot", "sleep 2", |spec| spec["concurrency"] = json!({ "total": 1 })).await;

    // As large as the API server stores them.
    greedy.start("largest", json!({ "type": operation, "inputs": { "x": worst(195_000) } })).await;
    let transforms = json!([{ "select": { "kind": "ConfigMap" }, "patch": [{ "op": "add", "path": "/a", "value": worst(150_000) }] }]);
    let restore = json!({ "metadata": { "name": "largest" }, "spec": { "backupSet": { "name": "any" }, "transforms": transforms } });
    greedy.create::<RestoreRun>(restore).await.expect("a restore");
    let scheduled =
        json!({ "schedule": "@yearly", "operation": { "type": operation, "inputs": { "x": worst(150_000) } } });
    let schedule = json!({ "metadata": { "name": "largest" }, "spec": scheduled });
    greedy.create::<BackupSchedule>(schedule).await.expect("a schedule");
    for number in 0..4 {
        let labels = json!({ "app.kubernetes.io/managed-by": "tenantatlas" });
        let notes = json!({ "notes": "<".repeat(250_000) });
        let account = json!({ "metadata": { "name": format!("a-{number}"), "labels": labels, "annotations": notes } });
        greedy.create::<ServiceAccount>(account).await.expect("an account");
    }
    greedy.blocked("largest", Reason::InputsTooLarge, &["ConfigMap"]).await;
    wait_for("the restore is refused", SOON, async || {
        let restore = greedy.api::<RestoreRun>().get("largest").await.map_err(|error| error.to_string())?;
        let reason = restore.status_or_default().failure_reason;
        if reason.as_deref() == Some("TooLarge") { Ok(()) } else { Err(format!("{reason:?}")) }
    })
    .await;
    let refuses = |status: &tenantatlas::api::BackupScheduleStatus| {
        status.conditions.iter().any(|condition| condition.type_ == "Stalled" && condition.reason == "TooLarge")
    };
    greedy.scheduled_when("largest", "refused", refuses).await;

    // As large as is taken, and as many as a tenant may think of.
    for number in 0..20 {
        greedy
            .start(&format!("many-{number}"), json!({ "type": operation, "inputs": { "n": number, "x": worst(7000) } }))
            .await;
    }
    greedy.waiting("many-19", Reason::ConcurrencyLimit, SOON).await;
    let run = modest.start("mine", json!({ "type": operation })).await;
    let status = modest.completed("mine", SOON).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let created = run.metadata.creation_timestamp.expect("a time").0;
    let waited = status.started_at.expect("it started").duration_since(created);
    // The slot that is taken, whose pod has to be made and to go, and times of whole seconds.
    let most = slot + Duration::from_secs(8);
    assert!(waited.unsigned_abs() <= most, "it waited for {waited}, behind 20");
    assert_eq!(restarts(&modest).await, before, "the operator was restarted");
}
