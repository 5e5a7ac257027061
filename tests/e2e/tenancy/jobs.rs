//! The Jobs of operations are the operator's.

use super::{assert_refused, call, pods::pod_spec};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use tenantatlas::api::execution::ACCOUNTS;

const NAME: &str = "op-0123456789abcdef0123";

fn job(name: &str) -> Value {
    let mut spec = pod_spec();
    spec["restartPolicy"] = "Never".into();
    json!({ "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": name }, "spec": { "template": { "spec": spec } } })
}

#[tokio::test]
async fn nobody_makes_a_job_that_looks_like_an_operations() {
    let tenant = Tenant::new("forged-jobs").await;
    tenant.start("run", json!({ "type": "backup.capture", "inputs": { "repository": "none" } })).await;
    let uid = tenant.run("run").await.metadata.uid;
    let eve = tenant.person("eve", &["edit"]).await;
    // The second would give its pods names that begin like those of the first.
    let mut forged = vec![job(NAME), job(&format!("{NAME}-x"))];
    for account in ACCOUNTS {
        let mut with = job("plain");
        with["spec"]["template"]["spec"]["serviceAccountName"] = account.into();
        forged.push(with);
    }
    for label in ["tenantatlas.io/run-uid", "tenantatlas.io/identity"] {
        let mut labelled = job("plain");
        labelled["metadata"]["labels"] = json!({ label: "0" });
        forged.push(labelled);
        let mut labelled = job("plain");
        labelled["spec"]["template"]["metadata"] = json!({ "labels": { label: "0" } });
        forged.push(labelled);
    }
    let mut owned = job("plain");
    owned["metadata"]["ownerReferences"] = json!([{ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "name": "run", "uid": uid, "controller": true }]);
    forged.push(owned);
    // Its pods would bear the uid of an operation's Job, and be adopted once they are orphans.
    let mut manual = job("plain");
    manual["spec"]["manualSelector"] = true.into();
    manual["spec"]["selector"] = json!({ "matchLabels": { "batch.kubernetes.io/controller-uid": "0" } });
    manual["spec"]["template"]["metadata"] = json!({ "labels": { "batch.kubernetes.io/controller-uid": "0" } });
    forged.push(manual);
    let path = tenant.path("batch/v1", "jobs");
    for client in [&eve, &tenant.cluster.client] {
        for job in &forged {
            assert_refused(call(client, "POST", &path, job).await, 403, &["tenantatlas-jobs", "op-"]);
        }
    }
    assert!(tenant.jobs().await.is_empty());
    for name in ["plain", "op-import", "op-0123456789abcdef0123x"] {
        call(&eve, "POST", &path, &job(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let turn = json!({ "metadata": { "labels": { "tenantatlas.io/run-uid": "0" } } });
    assert_refused(call(&eve, "PATCH", &format!("{path}/plain"), &turn).await, 403, &["tenantatlas-jobs"]);
}

#[tokio::test]
async fn a_cron_job_gets_no_job_under_a_tenants_account() {
    let tenant = Tenant::new("cron").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let mut template = job("unused")["spec"].clone();
    template["template"]["spec"]["serviceAccountName"] = ACCOUNTS[0].into();
    let cron = json!({ "apiVersion": "batch/v1", "kind": "CronJob", "metadata": { "name": "cron" },
        "spec": { "schedule": "* * * * *", "jobTemplate": { "spec": template } } });
    call(&eve, "POST", &tenant.path("batch/v1", "cronjobs"), &cron).await.expect("the CronJob itself runs nothing");
    // What its controller would send at the next full minute.
    let controller =
        tenant.cluster.as_user("system:serviceaccount:kube-system:cronjob-controller", &["system:serviceaccounts"]);
    let mut made = job("cron-1");
    made["spec"] = template;
    assert_refused(
        call(&controller, "POST", &tenant.path("batch/v1", "jobs"), &made).await,
        403,
        &["tenantatlas-jobs"],
    );
}

#[tokio::test]
async fn the_job_of_an_operation_cannot_be_changed_and_its_deletion_is_seen() {
    let tenant = Tenant::new("frozen-jobs").await;
    let (name, _) = tenant.operation_with_pod("mine").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let path = tenant.path("batch/v1", &format!("jobs/{name}"));
    let before = tenant.api::<Job>().get(&name).await.expect("the Job").spec;
    for change in [
        json!({ "spec": { "suspend": true } }),
        json!({ "spec": { "parallelism": 5 } }),
        json!({ "spec": { "backoffLimit": 20 } }),
        json!({ "spec": { "ttlSecondsAfterFinished": 0 } }),
        json!({ "metadata": { "labels": { "tenantatlas.io/run-uid": null } } }),
        json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } }),
        json!({ "metadata": { "annotations": { "tenantatlas.io/repository-generation": "9" } } }),
        json!({ "metadata": { "ownerReferences": null } }),
        json!({ "metadata": { "finalizers": null } }),
    ] {
        for client in [&eve, &tenant.cluster.client] {
            assert_refused(call(client, "PATCH", &path, &change).await, 403, &["tenantatlas-jobs", "spec.cancel"]);
        }
    }
    assert_eq!(tenant.api::<Job>().get(&name).await.expect("the Job").spec, before);
    // A write that changes nothing is nobody's harm: storage migration does it.
    call(&tenant.cluster.client, "PATCH", &path, &json!({})).await.expect("nothing changed");

    call(&eve, "DELETE", &path, &Value::Null).await.expect("a tenant may end its own operation the hard way");
    let status = tenant.completed("mine", SOON).await;
    assert_eq!(status.reason.as_deref(), Some("JobDeleted"));
    // The garbage collector takes finalizer and pods away: no policy is in its way.
    wait_for("the Job is gone", SOON, async || {
        let left = tenant.api::<Job>().get_opt(&name).await.expect("a read");
        left.map_or(Ok(()), |job| Err(format!("{:?}", job.metadata)))
    })
    .await;
}
