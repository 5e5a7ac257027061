//! Which namespaces are tenants.

use super::{assert_refused, call, right};
use crate::support::{SOON, Tenant, cluster::environment, wait_for};
use serde_json::{Value, json};

fn label(workspace: &Value) -> Value {
    json!({ "metadata": { "labels": { "tenantatlas.io/workspace": workspace } } })
}

#[tokio::test]
async fn a_namespace_moves_between_workspaces_only_for_who_may_onboard_in_both() {
    let tenant = Tenant::new("onboard").await;
    let (user, shop, bank) =
        (format!("pat.{}", tenant.name), format!("{}-shop", tenant.name), format!("{}-bank", tenant.name));
    // Namespaces are pat's to change, and the workspace shop is.
    let role = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": user }, "rules": [
        { "apiGroups": [""], "resources": ["namespaces"], "verbs": ["get", "create", "patch", "delete"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["workspaces"], "resourceNames": [shop], "verbs": ["onboard"] },
    ]});
    let binding = json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": { "name": user },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": user },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }] });
    tenant.apply(&role.to_string());
    tenant.apply(&binding.to_string());
    let pat = tenant.cluster.as_user(&user, &[]);
    tenant.until_allowed(&pat, right("patch core/namespaces")).await;

    let namespace = format!("{}-own", tenant.name);
    let create = |workspace: &str| {
        json!({ "apiVersion": "v1", "kind": "Namespace",
            "metadata": { "name": namespace, "labels": { "tenantatlas.io/workspace": workspace } } })
    };
    let words = ["tenantatlas-onboarding", user.as_str(), "verb onboard"];
    assert_refused(call(&pat, "POST", "/api/v1/namespaces", &create(&bank)).await, 403, &words);
    call(&pat, "POST", "/api/v1/namespaces", &create(&shop)).await.expect("pat onboards for shop");
    let path = format!("/api/v1/namespaces/{namespace}");
    assert_refused(call(&pat, "PATCH", &path, &label(&json!(bank))).await, 403, &words);
    assert_refused(call(&pat, "PATCH", &path, &label(&json!(""))).await, 422, &["cannot be empty"]);
    call(&pat, "PATCH", &path, &json!({ "metadata": { "labels": { "team": "blue" } } })).await.expect("another label");
    call(&pat, "PATCH", &path, &label(&Value::Null)).await.expect("out of shop");

    // Of a workspace that is not pat's, a namespace is neither taken in nor let go.
    call(&tenant.cluster.client, "PATCH", &path, &label(&json!(bank))).await.expect("an administrator may all");
    for workspace in [json!(shop), Value::Null] {
        assert_refused(call(&pat, "PATCH", &path, &label(&workspace)).await, 403, &words);
    }
    call(&pat, "PATCH", &path, &json!({ "metadata": { "labels": { "team": "red" } } }))
        .await
        .expect("another label, there too");
    call(&pat, "DELETE", &path, &Value::Null).await.expect("deleting is another right");
    for kind in ["clusterroles", "clusterrolebindings"] {
        let path = format!("/apis/rbac.authorization.k8s.io/v1/{kind}/{user}");
        call(&tenant.cluster.client, "DELETE", &path, &Value::Null).await.expect("cleared up");
    }
    wait_for("the namespace is gone", SOON, async || {
        match call(&tenant.cluster.client, "GET", &path, &Value::Null).await {
            Err(_) => Ok(()),
            Ok(left) => Err(left.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn the_clusters_own_namespaces_never_become_tenants() {
    let tenant = Tenant::new("system").await;
    let operator = environment("ATLAS_OPERATOR_NAMESPACE");
    for namespace in ["kube-system", "kube-public", "default", operator.as_str()] {
        let path = format!("/api/v1/namespaces/{namespace}?dryRun=All");
        let answer = call(&tenant.cluster.client, "PATCH", &path, &label(&json!("shop"))).await;
        assert_refused(answer, 403, &["tenantatlas-onboarding", namespace, "cannot become a tenant"]);
    }
}
