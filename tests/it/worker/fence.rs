use super::{
    api::{Api, NAMESPACE, RUN, RUN_UID, refusal},
    support::environment,
};
use serde_json::{Value, json};
use tenantatlas::worker::fence;

#[tokio::test]
async fn a_run_that_repeats_a_tick_of_its_schedule_does_not_pass_the_fence() {
    let (tick, before) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
    let identity = environment(json!({}), None).identity;
    let scheduled = |last: &str, active: Value| {
        let api = Api::new();
        let by = json!({"kind": "BackupSchedule", "name": "nightly", "uid": "schedule", "tick": tick});
        api.change_run(|run| run["spec"]["scheduledBy"] = by);
        let schedule = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "nightly", "namespace": NAMESPACE, "uid": "schedule"},
            "spec": {"schedule": "@daily", "operation": {"type": "backup.capture", "inputs": {"repository": "main"}}},
            "status": {"lastScheduledFor": last, "active": active}});
        api.record("backupschedules", "nightly", schedule);
        api
    };
    let api = scheduled(tick, json!([{"name": "another", "uid": "another"}]));
    let failure = fence::pass(&api.client(), &identity).await.unwrap_err();
    assert_eq!(failure.exit_code(), 49, "{failure:?}");
    assert!(failure.message.contains("schedule nightly had started another run"), "{}", failure.message);
    // An account that an operation type names may lack the right to look.
    api.fail(|uri, _| uri.path().ends_with("/backupschedules/nightly").then(|| refusal(403, "Forbidden")));
    fence::pass(&api.client(), &identity).await.unwrap();
    for (last, active) in [(tick, json!([{"name": RUN, "uid": RUN_UID}])), (before, json!([]))] {
        fence::pass(&scheduled(last, active).client(), &identity).await.unwrap();
    }
}
