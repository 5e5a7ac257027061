//! Who may say how things stand.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant};
use serde_json::{Value, json};
use tenantatlas::api::{Outcome, RestoreRun};

const GROUP: &str = "tenantatlas.io/v1alpha1";

fn progress(text: &str) -> Value {
    let counts = json!({ "total": 9, "processed": 4, "succeeded": 4, "failed": 0, "skipped": 0 });
    json!({ "status": { "progress": text, "summaryCounts": counts } })
}

#[tokio::test]
async fn nobody_in_a_tenant_writes_a_status_not_even_with_the_right_to() {
    let tenant = Tenant::new("forged-status").await;
    tenant.start("one", json!({ "type": "backup.capture", "inputs": { "repository": "none" } })).await;
    tenant.completed("one", SOON).await;
    let kinds = ["operationruns", "backuprepositories", "backupsets", "restoreruns"];
    let resources: Vec<_> = kinds.iter().map(|kind| format!("{kind}/status")).collect();
    let rules = json!([{ "apiGroups": ["tenantatlas.io"], "resources": resources, "verbs": ["patch", "update"] }]);
    let eve = tenant.person_with("eve", rules).await;
    let path = tenant.path(GROUP, "operationruns/one/status");
    for client in [&eve, &tenant.cluster.client] {
        let answer = call(client, "PATCH", &path, &json!({ "status": { "message": "all is well" } })).await;
        assert_refused(answer, 403, &["tenantatlas-run-status"]);
        assert_refused(call(client, "PATCH", &path, &progress("9/9")).await, 403, &["tenantatlas-run-status"]);
    }
    let status = tenant.status("one").await;
    assert_eq!((status.progress, status.summary_counts), (None, None));

    tenant.apply(
        &json!({ "apiVersion": GROUP, "kind": "BackupRepository", "metadata": { "name": "main" }, "spec": {
        "storage": { "persistentVolumeClaim": { "claimName": "none" } }, "passwordSecret": { "name": "none" } } })
        .to_string(),
    );
    let path = tenant.path(GROUP, "backuprepositories/main/status");
    let ready = json!({ "status": { "snapshots": 1 } });
    for client in [&eve, &tenant.cluster.client] {
        assert_refused(call(client, "PATCH", &path, &ready).await, 403, &["tenantatlas-status", "operator alone"]);
    }

    // Completed first: what it says then of its phase is refused by the schema, before anybody asks who says it.
    tenant.ask("look", json!({ "backupSet": { "name": "none" }, "dryRun": true })).await;
    tenant.restored("look").await;
    let path = tenant.path(GROUP, "restoreruns/look/status");
    let forged = json!({ "status": { "planDigest": "0".repeat(64) } });
    for client in [&eve, &tenant.cluster.client] {
        assert_refused(call(client, "PATCH", &path, &forged).await, 403, &["tenantatlas-status", "operator alone"]);
    }
    let restore = tenant.api::<RestoreRun>().get("look").await.expect("a read");
    assert_eq!(restore.status.and_then(|status| status.plan_digest), None);
}

#[tokio::test]
async fn a_worker_reports_progress_and_result_of_its_own_run_and_nothing_else() {
    let tenant = Tenant::new("progress").await;
    let (_, pod) = tenant.operation_with_pod("mine").await;
    let (_, foreign) = tenant.operation_with_pod("other").await;
    let worker = tenant.worker(&pod).await;
    let mine = tenant.path(GROUP, "operationruns/mine/status");
    let other = tenant.path(GROUP, "operationruns/other/status");

    call(&worker, "PATCH", &mine, &progress("4/9")).await.expect("its own progress");
    assert_eq!(tenant.status("mine").await.progress.as_deref(), Some("4/9"));
    let stranger = tenant.worker(&foreign).await;
    for (client, path) in [(&worker, &other), (&stranger, &mine)] {
        assert_refused(
            call(client, "PATCH", path, &progress("9/9")).await,
            403,
            &["tenantatlas-run-status", "status.job"],
        );
    }
    // A type may name an account of the tenant's own: its pods bear the right name, and it is no worker.
    let rules = json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["operationruns/status"], "verbs": ["patch"] }]);
    let own = format!("system:serviceaccount:{}:own", tenant.name);
    tenant.person_with(&own, rules).await;
    let own = tenant.cluster.as_user_in_pod(&own, pod.metadata.name.as_deref().expect("a name"));
    assert_refused(call(&own, "PATCH", &mine, &progress("9/9")).await, 403, &["tenantatlas-run-status", "own worker"]);
    for field in [
        json!({ "outcome": "succeeded" }),
        json!({ "phase": "completed" }),
        json!({ "message": "all is well" }),
        json!({ "job": { "name": "op-00000000000000000000", "uid": "0" } }),
        json!({ "waiting": { "reason": "Ever", "since": "2026-01-01T00:00:00Z" } }),
        json!({ "transitions": null }),
    ] {
        let answer = call(&worker, "PATCH", &mine, &json!({ "status": field })).await;
        assert_refused(answer, 403, &["tenantatlas-run-status", "status.progress"]);
    }
    // A result is reported in its own name: a pod of an earlier Job of the same name has the same prefix.
    let job_uid = tenant.status("mine").await.job.expect("a Job").uid;
    let name_of = |pod: &k8s_openapi::api::core::v1::Pod| pod.metadata.name.clone().expect("a name");
    let result = |job_uid: &str, pod: &str| json!({ "status": { "workerResult": { "jobUid": job_uid, "pod": pod, "exitCode": 0, "message": "{}" } } });
    for forged in [result("0", &name_of(&pod)), result(&job_uid, &name_of(&foreign))] {
        let answer = call(&worker, "PATCH", &mine, &forged).await;
        assert_refused(answer, 403, &["tenantatlas-run-status", "in its own name"]);
    }
    call(&worker, "PATCH", &mine, &result(&job_uid, &name_of(&pod))).await.expect("its own result");
    // The status is all that it may write of a run.
    let run = tenant.path(GROUP, "operationruns/mine");
    assert_refused(
        call(&worker, "PATCH", &run, &json!({ "spec": { "cancel": true } })).await,
        403,
        &["cannot patch resource"],
    );

    tenant.merge::<tenantatlas::api::OperationRun>("mine", json!({ "spec": { "cancel": true } })).await;
    // This pod runs another image than ours under our account: what it reports is not taken for a worker's word.
    let ended = tenant.completed("mine", SOON).await;
    assert_eq!((ended.outcome, ended.reason.as_deref()), (Outcome::Failed, Some("Cancelled")));
    assert_eq!(ended.worker_result, None);
    // Its pod is gone and with it its token; one that lingers is stopped all the same.
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).expect("an account");
    let user = format!("system:serviceaccount:{}:{account}", tenant.name);
    let late = tenant.cluster.as_user_in_pod(&user, pod.metadata.name.as_deref().expect("a name"));
    assert_refused(call(&late, "PATCH", &mine, &progress("9/9")).await, 403, &["tenantatlas-run-status", "completed"]);
    assert_eq!(tenant.status("mine").await.progress.as_deref(), Some("4/9"));
}
