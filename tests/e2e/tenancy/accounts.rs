//! The accounts of a tenant: for the pods of operations, and for nobody else, though stock `edit` can mint tokens.

use super::{assert_refused, call};
use crate::support::{SOON, Tenant, wait_for};
use serde_json::{Value, json};
use tenantatlas::api::execution::{ACCOUNTS, PREVIEW_ACCOUNT};

fn token() -> Value {
    json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} })
}

#[tokio::test]
async fn nobody_but_a_kubelet_gets_a_token_of_a_tenants_account() {
    let tenant = Tenant::new("tokens").await;
    let eve = tenant.person("eve", &["edit"]).await;
    for account in ACCOUNTS {
        let path = tenant.path("v1", &format!("serviceaccounts/{account}/token"));
        for client in [&eve, &tenant.cluster.client] {
            assert_refused(call(client, "POST", &path, &token()).await, 403, &["tenantatlas-tokens", account]);
        }
    }
    // Other accounts of the tenant are its own.
    let path = tenant.path("v1", "serviceaccounts/default/token");
    call(&eve, "POST", &path, &token()).await.expect("stock edit mints tokens of other accounts");
}

/// All that a token's request can say of a pod, and what else is a way to one: an account of the tenant's own in an operation's pod.
#[tokio::test]
async fn nobody_but_a_kubelet_gets_a_token_that_is_bound_to_the_pod_of_an_operation_whosever_account_it_is() {
    let tenant = Tenant::new("pod-tokens").await;
    let own = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"own"}}"#;
    tenant.apply(own);
    let (_, pod) = tenant.operation_with_pod_as("mine", "own").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let (name, uid) = (pod.metadata.name.clone().expect("a name"), pod.metadata.uid.clone().expect("a uid"));
    let path = tenant.path("v1", "serviceaccounts/own/token");
    let bound = |reference: &Value, spec: Value| {
        let mut token = token();
        token["spec"] = spec;
        token["spec"]["boundObjectRef"] = reference.clone();
        token
    };
    let references = [
        json!({ "apiVersion": "v1", "kind": "Pod", "name": name }),
        json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid }),
        // The API server looks at the group alone, and at no uid that is not sent.
        json!({ "apiVersion": "v2", "kind": "Pod", "name": name }),
        json!({ "kind": "Pod", "name": name }),
        json!({ "apiVersion": "v1", "kind": "Pod", "name": "op-0123456789abcdef0123-restore-x7k2p" }),
    ];
    for client in [&eve, &tenant.cluster.client, &tenant.cluster.as_operator()] {
        for reference in &references {
            for spec in
                [json!({}), json!({ "audiences": ["https://kubernetes.default.svc"], "expirationSeconds": 600 })]
            {
                match call(client, "POST", &path, &bound(reference, spec)).await {
                    // The operator has no right to begin with.
                    Err(kube::Error::Api(status)) if status.message.contains("cannot create resource") => {
                        assert!(status.message.contains("tenantatlas-controller"), "{}", status.message);
                    }
                    answer => assert_refused(answer, 403, &["tenantatlas-tokens", "boundObjectRef"]),
                }
            }
            let dry = format!("{path}?dryRun=All");
            assert!(
                call(client, "POST", &dry, &bound(reference, json!({}))).await.is_err(),
                "a dry run hands out a token: {reference}"
            );
        }
    }
    // A Secret's token names no pod; one that is bound to a pod of its own is the tenant's business.
    call(&eve, "POST", &tenant.path("v1", "pods"), &own_pod()).await.expect("a pod of one's own");
    let plain = json!({ "apiVersion": "v1", "kind": "Pod", "name": "plain" });
    call(&eve, "POST", &path, &bound(&plain, json!({}))).await.expect("a token of its own pod");
    // Stock `edit` may be an account, and not claim that a pod stands behind it: that takes `impersonate` on `userextras`.
    for user in ["eve", &format!("system:serviceaccount:{}:own", tenant.name)] {
        let extra =
            ["auth", "can-i", "impersonate", "userextras.authentication.k8s.io/authentication.kubernetes.io/pod-name"];
        let said = tenant.cluster.kubectl(&[&extra[..], &["--all-namespaces", "--as", user]].concat());
        assert!(String::from_utf8_lossy(&said.stdout).trim() == "no", "{said:?}");
    }
    // The kubelet's own works, as ever.
    tenant.cluster.as_pod(&pod).await;
}

/// A pod that has nothing to do with us.
fn own_pod() -> Value {
    let mut spec = super::pods::pod_spec();
    spec["serviceAccountName"] = "own".into();
    json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "plain" }, "spec": spec })
}

#[tokio::test]
async fn no_secret_is_filled_with_a_token_of_a_tenants_account() {
    let tenant = Tenant::new("token-secrets").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let secret = |name: &str, account: &str| {
        json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": { "name": name, "annotations": { "kubernetes.io/service-account.name": account } } })
    };
    let path = tenant.path("v1", "secrets");
    for account in ACCOUNTS {
        let answer = call(&eve, "POST", &path, &secret("stolen", account)).await;
        assert_refused(answer, 403, &["tenantatlas-token-secrets", account]);
    }
    call(&eve, "POST", &path, &secret("own", "default")).await.expect("other accounts are the tenant's own");
    // Nor may one be turned to it, before or after the token controller has filled it.
    let turn = json!({ "metadata": { "annotations": { "kubernetes.io/service-account.name": ACCOUNTS[0] } } });
    let path = tenant.path("v1", "secrets/own");
    assert_refused(call(&eve, "PATCH", &path, &turn).await, 403, &["tenantatlas-token-secrets"]);
    wait_for("the token controller fills the other one", SOON, async || {
        let secret = call(&eve, "GET", &path, &Value::Null).await.expect("a Secret");
        if secret["data"]["token"].is_string() { Ok(()) } else { Err(secret.to_string()) }
    })
    .await;
}

#[tokio::test]
async fn accounts_and_bindings_that_operations_have_nothing_to_do_with_are_the_tenants_own() {
    let tenant = Tenant::new("own-accounts").await;
    let eve = tenant.person("eve", &["admin"]).await;
    let rbac = "rbac.authorization.k8s.io/v1";
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "own" } });
    let binding = json!({ "apiVersion": rbac, "kind": "RoleBinding", "metadata": { "name": "own" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view" },
        "subjects": [{ "kind": "ServiceAccount", "name": "own" }] });
    for (version, plural, object) in [("v1", "serviceaccounts", account), (rbac, "rolebindings", binding)] {
        call(&eve, "POST", &tenant.path(version, plural), &object).await.expect("hers to make");
        let path = tenant.path(version, &format!("{plural}/own"));
        let label = json!({ "metadata": { "labels": { "team": "blue" } } });
        call(&eve, "PATCH", &path, &label).await.expect("hers to change");
        call(&eve, "DELETE", &path, &Value::Null).await.expect("hers to delete");
    }
}

#[tokio::test]
async fn an_account_writes_nothing_but_from_the_pod_of_an_operation() {
    let tenant = Tenant::new("no-pod").await;
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "mine" } });
    for account in ACCOUNTS {
        // What is no dry run is refused to a preview in any case, and either policy may be the one that is heard.
        let dry = if account == PREVIEW_ACCOUNT { "?dryRun=All" } else { "" };
        let path = tenant.path("coordination.k8s.io/v1", &format!("leases{dry}"));
        let user = format!("system:serviceaccount:{}:{account}", tenant.name);
        // Stock `edit` impersonates accounts: it can claim to be one, and not that a pod stands behind it.
        let bare = tenant.cluster.as_user(&user, &[]);
        assert_refused(call(&bare, "POST", &path, &lease).await, 403, &["tenantatlas-accounts", account]);
        let elsewhere = tenant.cluster.as_user_in_pod(&user, "web-0");
        assert_refused(call(&elsewhere, "POST", &path, &lease).await, 403, &["tenantatlas-accounts"]);
    }
    let eve = tenant.person("eve", &["edit"]).await;
    assert_refused(
        call(&eve, "GET", &tenant.path("tenantatlas.io/v1alpha1", "operationtypes"), &Value::Null).await,
        404,
        &[],
    );
}

#[tokio::test]
async fn a_worker_in_its_pod_reads_its_tenant_takes_leases_and_goes_no_further() {
    let tenant = Tenant::new("worker").await;
    let other = tenant.beside("worker").await;
    let operation =
        tenant.script_type("reads", crate::support::types::FOREVER, |spec| spec["readOnly"] = true.into()).await;
    tenant.start("reads", json!({ "type": operation })).await;
    let pod = wait_for("a pod on a node", SOON, async || {
        let pods = tenant.operation_pods().await;
        pods.into_iter().find(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some())).ok_or("none")
    })
    .await;
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    assert_eq!(
        account.as_deref(),
        Some("tenantatlas-worker"),
        "a type that only reads runs as the account that only reads"
    );
    let worker = tenant.worker(&pod).await;
    for (group, kind) in [
        ("v1", "secrets"),
        ("v1", "configmaps"),
        ("apps/v1", "deployments"),
        ("rbac.authorization.k8s.io/v1", "roles"),
        ("tenantatlas.io/v1alpha1", "operationruns"),
    ] {
        call(&worker, "GET", &tenant.path(group, kind), &Value::Null).await.expect("it reads its tenant");
        assert_refused(
            call(&worker, "GET", &other.path(group, kind), &Value::Null).await,
            403,
            &["cannot list resource"],
        );
    }
    let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": { "name": "mine" } });
    let leases = tenant.path("coordination.k8s.io/v1", "leases");
    call(&worker, "POST", &leases, &lease).await.expect("a Lease on a repository");
    // It speaks for no other pod of an operation.
    let other_pod = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": { "name": "op-0123456789abcdef0123-x7k2p" } });
    let answer = call(&worker, "POST", &leases, &other_pod).await;
    assert_refused(answer, 403, &["tenantatlas-leases", "another pod"]);
    let mine = format!("{leases}/mine");
    call(&worker, "PATCH", &mine, &json!({ "spec": { "holderIdentity": "me" } })).await.expect("renewed");
    assert_eq!(call(&worker, "GET", &mine, &Value::Null).await.expect("looked at")["spec"]["holderIdentity"], "me");
    call(&worker, "DELETE", &mine, &Value::Null).await.expect("given back");
    for (group, kind, object) in [
        ("v1", "configmaps", json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "a" } })),
        (
            "v1",
            "pods",
            json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "a" }, "spec": { "containers": [] } }),
        ),
    ] {
        assert_refused(
            call(&worker, "POST", &tenant.path(group, kind), &object).await,
            403,
            &["cannot create resource"],
        );
    }
}

mod alone {
    use super::*;

    #[tokio::test]
    async fn a_token_secret_from_before_the_policies_can_be_labelled_and_is_turned_to_no_other_account() {
        // Alone: the policy that keeps such Secrets out is off for a moment.
        let tenant = Tenant::alone("old-secret").await;
        let eve = tenant.person("eve", &["edit"]).await;
        let old = json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": { "name": "old", "annotations": { "kubernetes.io/service-account.name": ACCOUNTS[0] } } });
        let secrets = tenant.path("v1", "secrets");
        let create = async || match call(&eve, "POST", &secrets, &old).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        tenant.cluster.while_unbound("tenantatlas-token-secrets", create).await;
        let new = json!({ "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
            "metadata": { "name": "new", "annotations": { "kubernetes.io/service-account.name": ACCOUNTS[0] } } });
        wait_for("the policy is on again", SOON, async || {
            match call(&eve, "POST", &format!("{secrets}?dryRun=All"), &new).await {
                Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let path = tenant.path("v1", "secrets/old");
        let label = json!({ "metadata": { "labels": { "team": "blue" } } });
        call(&eve, "PATCH", &path, &label).await.expect("nothing of what the policy is about is new");
        let turn = json!({ "metadata": { "annotations": { "kubernetes.io/service-account.name": ACCOUNTS[1] } } });
        assert_refused(call(&eve, "PATCH", &path, &turn).await, 403, &["tenantatlas-token-secrets"]);
    }
}
