//! The pods of operations: nobody makes one, goes in or changes one.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tenantatlas::api::execution::ACCOUNTS;

/// A name that an operation's pod could have.
const NAME: &str = "op-0123456789abcdef0123-x7k2p";

pub(super) fn pod_spec() -> Value {
    json!({
        "securityContext": { "runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": { "type": "RuntimeDefault" } },
        "containers": [{
            "name": "main", "image": "tenantatlas.invalid/none:1", "imagePullPolicy": "Never",
            "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
        }],
    })
}

fn pod(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": pod_spec() })
}

#[tokio::test]
async fn nobody_makes_a_pod_that_looks_like_an_operations() {
    let tenant = Tenant::new("forged-pods").await;
    let (job, _) = tenant.operation_with_pod("mine").await;
    let uid = tenant.status("mine").await.job.expect("a Job").uid;
    let eve = tenant.person("eve", &["edit"]).await;
    let path = tenant.path("v1", "pods");
    let mut forged = vec![pod(NAME), pod(&format!("{job}-00000"))];
    let mut generated = pod("");
    generated["metadata"] = json!({ "generateName": "op-0123456789abcdef0123-" });
    forged.push(generated);
    for account in ACCOUNTS {
        let mut with = pod("plain");
        with["spec"]["serviceAccountName"] = account.into();
        forged.push(with);
    }
    let mut labelled = pod("plain");
    labelled["metadata"]["labels"] = json!({ "tenantatlas.io/run-uid": "0" });
    forged.push(labelled);
    let mut owned = pod("plain");
    owned["metadata"]["ownerReferences"] =
        json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid, "controller": true }]);
    forged.push(owned);
    for client in [&eve, &tenant.cluster.client] {
        for pod in &forged {
            assert_refused(call(client, "POST", &path, pod).await, 403, &["tenantatlas-pods", "op-"]);
        }
        // The Job controller would adopt it, and read its termination message as the operation's result.
        let mut adopted = pod("plain");
        adopted["metadata"]["labels"] = json!({ "batch.kubernetes.io/controller-uid": uid });
        assert_refused(
            call(client, "POST", &path, &adopted).await,
            403,
            &["tenantatlas-pod-adoption", "controller-uid"],
        );
    }

    // A pod of one's own cannot be made into one afterwards; and names that only begin alike are free.
    for name in ["plain", "op-server", "op-0123456789abcdef0123x"] {
        call(&eve, "POST", &path, &pod(name)).await.unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let plain = tenant.path("v1", "pods/plain");
    let turn = json!({ "metadata": { "labels": { "tenantatlas.io/run-uid": "0" } } });
    assert_refused(call(&eve, "PATCH", &plain, &turn).await, 403, &["tenantatlas-pods", "run-uid"]);
    let turn = json!({ "metadata": { "labels": { "batch.kubernetes.io/controller-uid": uid } } });
    assert_refused(call(&eve, "PATCH", &plain, &turn).await, 403, &["tenantatlas-pod-adoption"]);
    let owner = json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": uid, "controller": true }]);
    let turn = json!({ "metadata": { "ownerReferences": owner } });
    assert_refused(call(&eve, "PATCH", &plain, &turn).await, 403, &["tenantatlas-pods", "cannot be given"]);
    call(&eve, "PATCH", &plain, &json!({ "metadata": { "labels": { "team": "blue" } } })).await.expect("its own label");
    let pods = tenant.operation_pods().await;
    assert_eq!(pods.len(), 1, "the operation's own alone");
}

#[tokio::test]
async fn workloads_get_no_pod_under_a_tenants_account() {
    let tenant = Tenant::new("workloads").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let mut spec = pod_spec();
    spec["serviceAccountName"] = ACCOUNTS[0].into();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
        "spec": { "selector": { "matchLabels": { "app": "web" } },
            "template": { "metadata": { "labels": { "app": "web" } }, "spec": spec } },
    });
    call(&eve, "POST", &tenant.path("apps/v1", "deployments"), &deployment)
        .await
        .expect("the Deployment itself runs nothing");
    wait_for("the ReplicaSet is refused a pod", SOON, async || {
        let sets = call(&eve, "GET", &tenant.path("apps/v1", "replicasets"), &Value::Null).await.expect("ReplicaSets");
        let failure = sets["items"][0]["status"]["conditions"][0]["message"].as_str().unwrap_or_default().to_owned();
        if failure.contains("tenantatlas-pods") { Ok(()) } else { Err(sets.to_string()) }
    })
    .await;
    assert!(tenant.api::<Pod>().list(&Default::default()).await.expect("a list").items.is_empty());
}

#[tokio::test]
async fn nobody_goes_into_the_pod_of_an_operation() {
    let tenant = Tenant::new("go-in").await;
    let (_, pod) = tenant.operation_with_pod("mine").await;
    let pod = pod.metadata.name.expect("a name");
    let eve = tenant.person("eve", &["edit"]).await;
    call(&eve, "POST", &tenant.path("v1", "pods"), &self::pod("plain")).await.expect("a pod of one's own");
    let ways = [
        ("POST", "exec?command=sh&stdin=true"),
        ("GET", "exec?command=sh&stdin=true"),
        ("POST", "attach?stdin=true"),
        ("POST", "portforward"),
        ("GET", "proxy/"),
    ];
    for client in [&eve, &tenant.cluster.client] {
        for (method, way) in ways {
            let path = tenant.path("v1", &format!("pods/{pod}/{way}"));
            assert_refused(
                call(client, method, &path, &Value::Null).await,
                403,
                &["tenantatlas-pod-access", "nobody may go in"],
            );
            // The same of one's own pod fails for another reason: it does not run, or no stream was asked for.
            let path = tenant.path("v1", &format!("pods/plain/{way}"));
            let own = call(client, method, &path, &Value::Null).await.expect_err("nothing runs there").to_string();
            assert!(!own.contains("tenantatlas"), "{own}");
        }
    }
    let mut container = pod_spec()["containers"][0].clone();
    container["name"] = "debug".into();
    let containers = json!({ "spec": { "ephemeralContainers": [container] } });
    let path = tenant.path("v1", &format!("pods/{pod}/ephemeralcontainers"));
    assert_refused(call(&tenant.cluster.client, "PATCH", &path, &containers).await, 403, &["tenantatlas-pod-access"]);
    // A copy would carry the account and the Secrets.
    let copy =
        ["debug", &pod, "--namespace", &tenant.name, "--copy-to", "copy", "--profile", "restricted", "--image", "none"];
    let copied = tenant.cluster.kubectl(&copy);
    assert!(String::from_utf8_lossy(&copied.stderr).contains("tenantatlas-pods"), "{copied:?}");
}

#[tokio::test]
async fn the_pod_of_an_operation_stays_as_it_was_made_and_can_be_deleted() {
    let tenant = Tenant::new("frozen-pods").await;
    let (_, pod) = tenant.operation_with_pod("mine").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let path = tenant.path("v1", &format!("pods/{}", pod.metadata.name.expect("a name")));
    let container = pod.spec.expect("a spec").containers.remove(0).name;
    // Strategic merge would be kubectl's way; what counts is what arrives.
    let image = json!({ "spec": { "containers": [{ "name": container, "image": "tenantatlas.invalid/mine:1" }] } });
    let image = tenant.cluster.kubectl(&[
        "patch",
        "pod",
        path.rsplit('/').next().expect("a name"),
        "--namespace",
        &tenant.name,
        "--as",
        "eve",
        "--patch",
        &image.to_string(),
    ]);
    assert!(String::from_utf8_lossy(&image.stderr).contains("images of a pod of an operation"), "{image:?}");
    for (change, word) in [
        (json!({ "labels": { "tenantatlas.io/run-uid": "0" } }), "labels that tie"),
        (json!({ "labels": { "tenantatlas.io/run-uid": null } }), "labels that tie"),
        (json!({ "labels": { "tenantatlas.io/identity": "0" } }), "labels that tie"),
        // Two policies speak of this one; either may be the one that is heard.
        (json!({ "labels": { "batch.kubernetes.io/controller-uid": "0" } }), "label"),
        (json!({ "labels": { "batch.kubernetes.io/job-name": "other" } }), "labels that tie"),
        (json!({ "ownerReferences": null }), "owners"),
    ] {
        for client in [&eve, &tenant.cluster.client] {
            let answer = call(client, "PATCH", &path, &json!({ "metadata": change })).await;
            assert_refused(answer, 403, &["tenantatlas-pod", word]);
        }
    }
    call(&eve, "PATCH", &path, &json!({ "metadata": { "annotations": { "note": "seen" } } })).await.expect("a note");
    call(&eve, "DELETE", &path, &Value::Null).await.expect("deleting it ends a try, and the next begins");
}
