//! A tenant's administrator may bind roles to groups, and the accounts of operations are in some. They gain rights by it, and nobody
//! gains anything by them: docs/adr/0030-bindings-to-groups.md.

use super::restore_rights::may_also;
use super::{assert_refused, call, pods::pod_spec};
use crate::support::Tenant;
use kube::Client;
use serde_json::{Value, json};
use tenantatlas::api::execution::{ACCOUNTS, PREVIEW_ACCOUNT, RESTORE_ACCOUNT, WORKER_ACCOUNT};
use tenantatlas::api::{Outcome, RestoreRun};

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// What stock `admin` holds and no account of ours.
const TOKENS: &str = "create core/serviceaccounts/token";

/// Every group that an account of the tenant is in.
fn groups(tenant: &Tenant) -> [String; 3] {
    let own = format!("system:serviceaccounts:{}", tenant.name);
    [own, "system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]
}

fn config_map(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "a": "b" } })
}

impl Tenant {
    /// Gives a ClusterRole to a group, as somebody.
    async fn give(&self, client: &Client, group: &str, role: &str) -> Result<Value, kube::Error> {
        let name = format!("{role}-to-{}", group.replace(':', "-"));
        let binding = json!({ "apiVersion": RBAC, "kind": "RoleBinding", "metadata": { "name": name },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group }] });
        call(client, "POST", &self.path(RBAC, "rolebindings"), &binding).await
    }

    /// An account as the API server knows it from a token of its own, without a pod.
    async fn account_without_pod(&self, account: &str) -> Client {
        let user = format!("system:serviceaccount:{}:{account}", self.name);
        let groups = groups(self);
        let client = self.cluster.as_user(&user, &[&groups[0], &groups[1]]);
        // What its own roles give none of the three: the binding to the group is known.
        self.until_allowed(&client, self.right(TOKENS)).await;
        client
    }
}

#[tokio::test]
async fn a_binding_to_a_group_of_our_accounts_lets_no_person_and_no_preview_write_as_one() {
    let tenant = Tenant::new("groups").await;
    let mallory = tenant.person("mallory", &["edit", "admin"]).await;
    for group in groups(&tenant) {
        tenant.give(&mallory, &group, "admin").await.expect("a tenant's own accounts may be given rights");
        // What is held by none but our accounts stays theirs.
        for role in ["tenantatlas-worker", "tenantatlas-restore"] {
            let answer = tenant.give(&mallory, &group, role).await;
            assert_refused(answer, 403, &["attempting to grant RBAC permissions"]);
        }
    }
    let maps = tenant.path("v1", "configmaps");
    for account in ACCOUNTS {
        let client = tenant.account_without_pod(account).await;
        let answer = call(&client, "POST", &maps, &config_map("forged")).await;
        assert_refused(answer, 403, &["tenantatlas-"]);
        let token = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        for other in ACCOUNTS {
            let path = tenant.path("v1", &format!("serviceaccounts/{other}/token"));
            for client in [&mallory, &client] {
                assert_refused(call(client, "POST", &path, &token).await, 403, &["tenantatlas-"]);
            }
        }
        let mut spec = pod_spec();
        spec["serviceAccountName"] = account.into();
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "forged" }, "spec": spec });
        let answer = call(&mallory, "POST", &tenant.path("v1", "pods"), &pod).await;
        assert_refused(answer, 403, &["tenantatlas-pods"]);
    }
    // In the pods of operations runs nothing but what the operator put there: workers and restores have more rights than before, and a
    // preview still writes nothing.
    for (account, writes) in [(PREVIEW_ACCOUNT, false), (WORKER_ACCOUNT, true), (RESTORE_ACCOUNT, true)] {
        let user = format!("system:serviceaccount:{}:{account}", tenant.name);
        let client = tenant.cluster.as_user_in_pod(&user, "op-0123456789abcdef0123-x7k2p");
        let answer = call(&client, "POST", &maps, &config_map(account)).await;
        if writes {
            answer.unwrap_or_else(|error| panic!("{account}: {error}"));
            continue;
        }
        assert_refused(answer, 403, &["a preview writes nothing"]);
        call(&client, "POST", &format!("{maps}?dryRun=All"), &config_map(account)).await.expect("a dry run");
        let token = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
        let path = tenant.path("v1", "serviceaccounts/default/token?dryRun=All");
        assert_refused(call(&client, "POST", &path, &token).await, 403, &["a preview writes nothing"]);
    }
}

#[tokio::test]
async fn what_a_restore_s_account_gains_by_a_group_changes_nothing_for_who_asked() {
    let tenant = Tenant::new("group-restore").await;
    let role = json!({ "apiVersion": RBAC, "kind": "Role", "metadata": { "name": "reads" },
        "rules": [{ "apiGroups": [""], "resources": ["secrets"], "verbs": ["get"] }] });
    let binding = json!({ "apiVersion": RBAC, "kind": "RoleBinding", "metadata": { "name": "reads" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "mallory" }] });
    let secret =
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "vault" }, "stringData": { "p": "x" } });
    for object in [&config_map("plain"), &secret, &role, &binding] {
        tenant.apply(&object.to_string());
    }
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    for (kind, name) in [("configmap", "plain"), ("secret", "vault"), ("role", "reads"), ("rolebinding", "reads")] {
        tenant.cluster.kubectl_prints(&["delete", kind, name, "--namespace", &tenant.name]);
    }
    let mine = json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create", "update"] }]);
    let ada = tenant.person_with("ada", may_also(&mine)).await;
    let items = json!([{ "kind": "ConfigMap", "name": "plain" }, { "kind": "Secret", "name": "vault" },
        { "group": "rbac.authorization.k8s.io", "name": "reads" }]);
    let spec = json!({ "backupSet": { "name": "nightly" }, "items": items });
    let before = tenant.planned_for(&ada, "ada", "before", spec.clone()).await;
    let actions: Vec<&str> = before.values().map(|(action, _)| action.as_str()).collect();
    assert_eq!(actions, ["create", "forbidden", "forbidden", "forbidden"], "{before:#?}");

    // Ada is in the last of the groups herself, and that is given by nobody here.
    let groups = groups(&tenant);
    for group in &groups[..2] {
        tenant.give(&tenant.cluster.client, group, "admin").await.expect("a binding");
    }
    let account = format!("system:serviceaccount:{}:{RESTORE_ACCOUNT}", tenant.name);
    let account = tenant.cluster.as_user(&account, &[&groups[0], &groups[1]]);
    tenant.until_allowed(&account, tenant.right(TOKENS)).await;
    let after = tenant.planned_for(&ada, "ada", "after", spec.clone()).await;
    assert_eq!(after, before);
    let restore = json!({ "metadata": { "name": "done" }, "spec": { "backupSet": { "name": "nightly" }, "items": items,
        "requestedBy": { "username": "ada" } } });
    tenant.create_as::<RestoreRun>(ada, restore).await.expect("ada may restore");
    let done = tenant.restored("done").await;
    assert_eq!(done.outcome, Outcome::PartiallySucceeded, "{done:#?}");
    for path in
        [tenant.path("v1", "secrets/vault"), tenant.path(RBAC, "roles/reads"), tenant.path(RBAC, "rolebindings/reads")]
    {
        assert_refused(call(&tenant.cluster.client, "GET", &path, &Value::Null).await, 404, &["not found"]);
    }
}
