//! Who may preview, who may restore, and in whose name.

use super::initiator::{fills_in, without_mutation};
use super::{assert_refused, call};
use crate::support::Tenant;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use serde_json::{Value, json};
use tenantatlas::api::{OperationRun, Outcome, RestoreRun};

const GROUP: &str = "tenantatlas.io/v1alpha1";

/// A restore as ada writes it; the set is not there, so that nothing comes of it.
fn restore(name: &str, dry_run: bool) -> Value {
    json!({
        "metadata": { "name": name },
        // Stated for clusters that do not fill it in.
        "spec": { "backupSet": { "name": "none" }, "dryRun": dry_run, "requestedBy": { "username": "ada" } },
    })
}

/// Restores may be created and changed, and these types be run.
fn rules(types: &[&str]) -> Value {
    json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["restoreruns"], "verbs": ["create", "get", "list", "patch"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": types, "verbs": ["run"] },
    ])
}

impl Tenant {
    /// Creates a RestoreRun, as the administrator.
    pub(super) async fn ask(&self, name: &str, spec: Value) -> RestoreRun {
        let created = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        created.unwrap_or_else(|error| panic!("restore {name} is refused: {error}"))
    }

    async fn restores(&self) -> Vec<RestoreRun> {
        self.api::<RestoreRun>().list(&ListParams::default()).await.expect("a list").items
    }
}

#[tokio::test]
async fn to_preview_and_to_restore_are_two_rights() {
    let tenant = Tenant::new("two-rights").await;
    // Neither stock `edit` nor the other right will do.
    let editor = tenant.person("ada", &["edit"]).await;
    for (dry_run, other, wanted) in
        [(true, "restore.apply", "restore.preview"), (false, "restore.preview", "restore.apply")]
    {
        let words = ["tenantatlas-restore", "ada", "verb run", wanted, tenant.name.as_str()];
        assert_refused(tenant.create_as::<RestoreRun>(editor.clone(), restore("one", dry_run)).await, 403, &words);
        let with = tenant.beside("two-rights").await;
        let ada = with.person_with("ada", rules(&[other])).await;
        let words = ["tenantatlas-restore", wanted];
        assert_refused(with.create_as::<RestoreRun>(ada.clone(), restore("one", dry_run)).await, 403, &words);
        // A preview that is applied is a restore like any other.
        with.create_as::<RestoreRun>(ada.clone(), restore("other", !dry_run)).await.expect("the right she has");
        let mut applied = restore("applied", false);
        applied["spec"]["preview"] = json!({ "name": "other" });
        let answer = with.create_as::<RestoreRun>(ada, applied).await;
        assert_eq!(answer.is_ok(), other == "restore.apply", "{answer:?}");
        // The right that she has there does not count here.
        let here = tenant.create_as::<RestoreRun>(with.cluster.as_user("ada", &[]), restore("one", dry_run)).await;
        assert_refused(here, 403, &["tenantatlas-restore", wanted]);
    }
    assert!(tenant.restores().await.is_empty());
}

#[tokio::test]
async fn a_restore_is_cancelled_without_the_right_to_start_one() {
    let tenant = Tenant::new("stop-restore").await;
    tenant.ask("one", json!({ "backupSet": { "name": "none" } })).await;
    let ada = tenant.person_with("ada", rules(&["none"])).await;
    assert_refused(tenant.create_as::<RestoreRun>(ada.clone(), restore("two", true)).await, 403, &["verb run"]);
    let path = tenant.path(GROUP, "restoreruns/one");
    call(&ada, "PATCH", &path, &json!({ "metadata": { "labels": { "team": "blue" } } })).await.expect("a label");
    match call(&ada, "PATCH", &path, &json!({ "spec": { "cancel": true } })).await {
        Ok(restore) => assert_eq!(restore["spec"]["cancel"], true),
        // It has ended before, there being no such set.
        ended => assert_refused(ended, 422, &["nothing left to cancel"]),
    }
}

#[tokio::test]
async fn another_tenants_people_neither_list_nor_look_at_nor_start_restores() {
    let tenant = Tenant::new("foreign-restore").await;
    let other = tenant.beside("foreign-restore").await;
    tenant.ask("one", json!({ "backupSet": { "name": "none" }, "dryRun": true })).await;
    let eve = other.person("eve", &["tenantatlas-tenant-admin"]).await;
    call(&eve, "GET", &other.path(GROUP, "restoreruns"), &Value::Null).await.expect("her own tenant's");
    let (all, one) = (tenant.path(GROUP, "restoreruns"), tenant.path(GROUP, "restoreruns/one"));
    assert_refused(call(&eve, "GET", &all, &Value::Null).await, 403, &["cannot list resource"]);
    assert_refused(call(&eve, "GET", &one, &Value::Null).await, 403, &["cannot get resource"]);
    let cancel = json!({ "spec": { "cancel": true } });
    assert_refused(call(&eve, "PATCH", &one, &cancel).await, 403, &["cannot patch resource"]);
    assert_refused(call(&eve, "DELETE", &one, &Value::Null).await, 403, &["cannot delete resource"]);
    for dry_run in [true, false] {
        let answer = tenant.create_as::<RestoreRun>(eve.clone(), restore("two", dry_run)).await;
        assert_refused(answer, 403, &["cannot create resource"]);
    }
    // To look on is not to start.
    let vera = tenant.person("vera", &["tenantatlas-tenant-viewer"]).await;
    call(&vera, "GET", &one, &Value::Null).await.expect("a viewer looks");
    let answer = tenant.create_as::<RestoreRun>(vera, restore("two", true)).await;
    assert_refused(answer, 403, &["cannot create resource"]);
    assert_eq!(tenant.restores().await.len(), 1);
}

#[tokio::test]
async fn runs_that_restore_are_made_by_the_operator_alone() {
    let tenant = Tenant::new("by-hand").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let run = |kind: &str| {
        let inputs = json!({ "repository": "none", "restoreRun": { "name": "one", "uid": "0" } });
        json!({ "metadata": { "name": kind }, "spec": { "type": kind, "inputs": inputs, "initiator": { "username": "ada" } } })
    };
    for client in [&ada, &tenant.cluster.client] {
        let answer = tenant.create_as::<OperationRun>(client.clone(), run("restore.apply")).await;
        assert_refused(answer, 403, &["tenantatlas-start", "restore.apply", "create a RestoreRun"]);
        let answer = tenant.create_as::<OperationRun>(client.clone(), run("restore.preview")).await;
        assert_refused(answer, 403, &["tenantatlas-start", "create a RestoreRun with dryRun: true"]);
    }
    assert!(tenant.api::<OperationRun>().list(&ListParams::default()).await.expect("a list").items.is_empty());
    let made = tenant.create_as::<OperationRun>(tenant.cluster.as_operator(), run("restore.preview")).await;
    assert_eq!(made.expect("the operator may").spec.initiator.expect("passed on").username, "ada");
}

#[tokio::test]
async fn a_restore_runs_as_an_account_that_its_author_may_be() {
    let tenant = Tenant::new("restore-as").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let with = |name: &str, account: &str| {
        let mut restore = restore(name, false);
        restore["spec"]["serviceAccountName"] = account.into();
        restore
    };
    tenant.create_as::<RestoreRun>(ada.clone(), with("stated", "tenantatlas-restore")).await.expect("as if left out");
    let answer = tenant.create_as::<RestoreRun>(ada, with("one", "deployer")).await;
    assert_refused(answer, 403, &["tenantatlas-restore", "ada", "deployer", "verb impersonate"]);
    // The others of ours are for nobody to name, whatever he may be.
    for account in ["tenantatlas-worker", "tenantatlas-preview"] {
        let answer = tenant.create::<RestoreRun>(with("one", account)).await;
        assert_refused(answer, 403, &["tenantatlas-restore", "serviceAccountName", account]);
    }
    let impersonates = json!([
        { "apiGroups": [""], "resources": ["serviceaccounts"], "resourceNames": ["deployer"], "verbs": ["impersonate"] },
    ]);
    let ada = tenant.person_with("ada", impersonates).await;
    tenant.create_as::<RestoreRun>(ada.clone(), with("one", "deployer")).await.expect("ada may be this account");
    let answer = tenant.create_as::<RestoreRun>(ada, with("two", "default")).await;
    assert_refused(answer, 403, &["default", "verb impersonate"]);
}

#[tokio::test]
async fn an_account_that_is_not_there_or_could_not_keep_its_records_blocks_the_restore_which_says_what_to_bind() {
    let tenant = Tenant::new("account").await;
    let made: Result<ConfigMap, _> = tenant.create(json!({ "metadata": { "name": "there" } })).await;
    made.expect("a ConfigMap");
    tenant.repository("main").await;
    tenant.captured_whole("nightly").await;
    tenant.cluster.kubectl_prints(&["delete", "configmap/there", "--namespace", &tenant.name]);
    let spec = json!({ "serviceAccountName": "deployer", "items": [{ "kind": "ConfigMap", "name": "there" }] });
    let blocked = async |name: &str, reason: &str| {
        tenant.restore(name, "nightly", spec.clone()).await;
        let status = tenant.restored(name).await;
        let ended = (status.outcome, status.failure_reason.as_deref());
        assert_eq!(ended, (Outcome::Blocked, Some(reason)), "{status:#?}");
        assert_eq!(status.operation_run, None, "there is no run, and so no Job");
        status.message.unwrap_or_default()
    };
    let message = blocked("as-nobody", "AccountNotFound").await;
    assert!(message.contains("ServiceAccount deployer does not exist"), "{message}");

    tenant.apply(r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"deployer"}}"#);
    let message = blocked("bare", "AccountLacksRights").await;
    assert!(message.contains("create auditentries.tenantatlas.io"), "{message}");
    // What it says is what helps; what the items take is the tenant's to give.
    let bind = message.split('`').filter_map(|words| words.strip_prefix("kubectl "));
    let bind: Vec<Vec<&str>> = bind.map(|words| words.split(' ').collect()).collect();
    assert_eq!(bind.len(), 3, "{message}");
    for words in &bind {
        tenant.cluster.kubectl_prints(words);
    }
    let user = format!("system:serviceaccount:{}:deployer", tenant.name);
    tenant.person(&user, &["edit"]).await;
    let right = tenant.right("create tenantatlas.io/auditentries");
    tenant.until_allowed(&tenant.cluster.as_user(&user, &[]), right).await;
    tenant.restore("bound", "nightly", spec.clone()).await;
    let status = tenant.restored("bound").await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    tenant.api::<ConfigMap>().get("there").await.expect("it is back");
}

#[tokio::test]
async fn the_api_server_writes_who_asked_for_a_restore() {
    let tenant = Tenant::new("requested-by").await;
    if !fills_in(&tenant, "tenantatlas-requester").await {
        // An older cluster: the story for it is below.
        return;
    }
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let mut forged = restore("forged", true);
    forged["spec"]["requestedBy"] = json!({ "username": "root", "uid": "0", "groups": ["system:masters"] });
    let mut plain = restore("plain", true);
    plain["spec"]["requestedBy"] = Value::Null;
    for manifest in [forged, plain] {
        let made: RestoreRun = tenant.create_as(ada.clone(), manifest).await.expect("ada may look");
        let asked = made.spec.requested_by.expect("who asked");
        assert_eq!(
            (asked.username.as_str(), asked.uid, asked.groups),
            ("ada", None, vec!["system:authenticated".to_owned()])
        );
    }
    let path = tenant.path(GROUP, "restoreruns/plain");
    let other = json!({ "spec": { "requestedBy": { "username": "root" } } });
    assert_refused(call(&ada, "PATCH", &path, &other).await, 422, &["requestedBy", "never changes"]);
}

#[tokio::test]
async fn where_the_api_server_cannot_write_it_who_asks_for_a_restore_says_so_truthfully() {
    let tenant = Tenant::new("stated-restore").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let with = |name: &str, asked: Value| {
        let mut restore = restore(name, true);
        restore["spec"]["requestedBy"] = asked;
        restore
    };
    without_mutation(&tenant, "tenantatlas-requester", "restoreruns", with("probe", Value::Null)).await;
    let policy = "tenantatlas-requester";
    for (asked, word) in [
        (Value::Null, "spec.requestedBy.username"),
        (json!({ "username": "root" }), "spec.requestedBy.username"),
        (json!({ "username": "ada", "uid": "0" }), "spec.requestedBy.uid"),
        (json!({ "username": "ada", "groups": ["system:authenticated", "system:masters"] }), "spec.requestedBy.groups"),
    ] {
        assert_refused(tenant.create_as::<RestoreRun>(ada.clone(), with("one", asked)).await, 403, &[policy, word]);
    }
    assert!(tenant.restores().await.is_empty());
    let truth = json!({ "username": "ada", "groups": ["system:authenticated"] });
    tenant.create_as::<RestoreRun>(ada, with("one", truth)).await.expect("the truth is taken");
}
