//! Who writes which part of a finding, by every way to send it, and of its status.

use super::{
    assert_refused, call,
    initiator::fills_in,
    ways::{self, WAYS, Way},
};
use crate::findings::{GROUP, digest, finding};
use crate::support::Tenant;
use kube::Client;
use serde_json::{Value, json};
use tenantatlas::api::Finding;
use tenantatlas::api::execution::{PREVIEW_ACCOUNT, RESTORE_ACCOUNT, WORKER_ACCOUNT};

const POD: &str = "op-0123456789abcdef0123-x7k2p";

/// An object with a value at a path.
fn with(object: &Value, pointer: &str, value: &Value) -> Value {
    let mut changed = object.clone();
    let (parent, key) = pointer.rsplit_once('/').expect("a path");
    changed.pointer_mut(parent).expect("the parent is there")[key] = value.clone();
    changed
}

/// What is a worker's to say of a finding, and another value of each.
fn forged() -> Vec<(&'static str, Value)> {
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "0" }]);
    vec![
        ("/spec/severity", json!("low")),
        ("/spec/change", json!("removed")),
        ("/spec/digest", json!(digest(2))),
        ("/spec/evidence", json!([])),
        ("/spec/evidenceLeftOut", json!(7)),
        ("/spec/subject/uid", json!("another")),
        ("/spec/baseline/snapshot", json!("c".repeat(64))),
        ("/spec/current/run/name", json!("another")),
        ("/metadata/labels", json!({ "team": "blue" })),
        ("/metadata/annotations", json!({ "note": "mine" })),
        ("/metadata/finalizers", json!(["example.com/never"])),
        ("/metadata/ownerReferences", owner),
    ]
}

/// Those whom roles let write findings, and admission does not, each as the API server knows them.
async fn strangers(tenant: &Tenant, other: &Tenant) -> Vec<(&'static str, Client)> {
    let rules =
        json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["findings", "findings/status"], "verbs": ["*"] }]);
    let account = |account: &str, of: &Tenant| format!("system:serviceaccount:{}:{account}", of.name);
    let mut clients = vec![("an administrator", tenant.cluster.client.clone())];
    for (who, user, pod) in [
        ("who may everything by roles", "mallory".to_owned(), None),
        ("who says to be in a pod", "mallory".to_owned(), Some(POD)),
        ("the account without a run", account(WORKER_ACCOUNT, tenant), None),
        ("the account in another pod", account(WORKER_ACCOUNT, tenant), Some("web-0")),
        ("a preview", account(PREVIEW_ACCOUNT, tenant), Some(POD)),
        ("a restore", account(RESTORE_ACCOUNT, tenant), Some("op-0123456789abcdef0123-restore-x7k2p")),
        ("the worker of another tenant", account(WORKER_ACCOUNT, other), Some(POD)),
    ] {
        let plain = tenant.person_with(&user, rules.clone()).await;
        clients.push((who, pod.map_or(plain, |pod| tenant.cluster.as_user_in_pod(&user, pod))));
    }
    clients
}

#[tokio::test]
async fn a_finding_is_a_workers_to_write_but_for_its_acknowledgement_and_nobody_forges_one() {
    let tenant = Tenant::new("finding-writers").await;
    let other = tenant.beside("finding-others").await;
    let worker = tenant.finder();
    let baseline = tenant.baseline("nightly").await;
    tenant.create_as::<Finding>(worker.clone(), finding("drift-1", &baseline)).await.expect("a worker finds");
    let (all, path) = (tenant.path(GROUP, "findings"), tenant.path(GROUP, "findings/drift-1"));
    let root = &tenant.cluster.client;
    let get = async || call(root, "GET", &path, &Value::Null).await.expect("it is there");
    let before = get().await;
    let strangers = strangers(&tenant, &other).await;
    for (who, client) in &strangers {
        let answer = call(client, "POST", &all, &finding("forged", &baseline)).await;
        assert_refused(answer, 403, &["tenantatlas-"]);
        for (field, value) in forged() {
            for way in WAYS {
                let answer = way.send(client, &path, &before, &with(&before, field, &value)).await;
                assert!(
                    matches!(&answer, Err(kube::Error::Api(status)) if status.code == 403),
                    "{who}: {field} {way:?}: {answer:?}"
                );
            }
        }
        for status in [json!({ "state": "acknowledged" }), json!({ "observed": null }), json!({ "stale": true })] {
            let answer = call(client, "PATCH", &format!("{path}/status"), &json!({ "status": status })).await;
            assert_refused(answer, 403, &["tenantatlas-"]);
        }
    }
    // Those who have no role for it do not come that far: of the stock roles all, of ours all but two.
    for (user, roles) in [
        ("eve", &["edit", "admin"][..]),
        ("val", &["view", "tenantatlas-tenant-viewer"]),
        ("ada", &["tenantatlas-tenant-admin"]),
    ] {
        let client = tenant.person(user, roles).await;
        call(&client, "GET", &path, &Value::Null).await.expect("who views a tenant reads its findings");
        assert_refused(call(&client, "POST", &all, &finding("forged", &baseline)).await, 403, &["cannot create"]);
        for at in [&path, &all] {
            assert_refused(call(&client, "DELETE", at, &Value::Null).await, 403, &["cannot delete"]);
        }
        for (field, value) in forged() {
            for way in WAYS {
                let answer = way.send(&client, &path, &before, &with(&before, field, &value)).await;
                assert_refused(answer, 403, &[]);
            }
        }
        let status = json!({ "status": { "state": "resolved" } });
        assert_refused(call(&client, "PATCH", &format!("{path}/status"), &status).await, 403, &["cannot patch"]);
        if user != "ada" {
            let accept = json!({ "spec": { "acknowledged": { "note": "mine", "digest": digest(1) } } });
            assert_refused(call(&client, "PATCH", &path, &accept).await, 403, &["cannot patch"]);
        }
    }
    let outsider = other.person("olga", &["tenantatlas-tenant-admin", "admin"]).await;
    assert_refused(call(&outsider, "GET", &path, &Value::Null).await, 403, &["cannot get"]);
    assert_eq!((&get().await["spec"], &get().await["metadata"]["labels"]), (&before["spec"], &Value::Null));
}

#[tokio::test]
async fn a_worker_leaves_what_identifies_a_finding_who_owns_it_and_what_others_say_of_it() {
    let tenant = Tenant::new("finding-worker").await;
    let root = &tenant.cluster.client;
    let worker = tenant.finder();
    let baseline = tenant.baseline("nightly").await;
    tenant.create_as::<Finding>(worker.clone(), finding("drift-1", &baseline)).await.expect("a worker finds");
    let (all, path) = (tenant.path(GROUP, "findings"), tenant.path(GROUP, "findings/drift-1"));
    let before = call(root, "GET", &path, &Value::Null).await.expect("it is there");
    for (field, value) in [
        ("/spec/scopeKey", json!("f".repeat(64))),
        ("/spec/subject/name", json!("other")),
        ("/spec/subject/kind", json!("Secret")),
        ("/spec/subject/group", json!("apps")),
    ] {
        for way in WAYS {
            let answer = way.send(&worker, &path, &before, &with(&before, field, &value)).await;
            // Roles give a worker no PUT.
            let (code, word) = if way == Way::Put { (403, "cannot update") } else { (422, "immutable") };
            assert_refused(answer, code, &[word]);
        }
    }
    // What is not a worker's, and what the operator may not say of a run.
    let accept = json!({ "spec": { "acknowledged": { "note": "mine", "digest": digest(1) } } });
    assert_refused(call(&worker, "PATCH", &path, &accept).await, 403, &["tenantatlas-findings", "spec.acknowledged"]);
    for metadata in [
        json!({ "finalizers": ["example.com/never"] }),
        json!({ "ownerReferences": [{ "apiVersion": "v1",
        "kind": "ConfigMap", "name": "gone", "uid": "0" }] }),
    ] {
        let answer = call(&worker, "PATCH", &path, &json!({ "metadata": metadata })).await;
        assert_refused(answer, 403, &["tenantatlas-findings", "no owner and no finalizer"]);
        let mut owned = finding("owned", &baseline);
        owned["metadata"].as_object_mut().expect("metadata").extend(metadata.as_object().expect("fields").clone());
        assert_refused(call(&worker, "POST", &all, &owned).await, 403, &["tenantatlas-findings"]);
    }
    let mut born = finding("born", &baseline);
    born["spec"]["acknowledged"] = json!({ "note": "mine", "digest": digest(1) });
    assert_refused(call(&worker, "POST", &all, &born).await, 403, &["tenantatlas-findings", "spec.acknowledged"]);
    let status = format!("{path}/status");
    let state = json!({ "status": { "state": "acknowledged" } });
    assert_refused(
        call(&worker, "PATCH", &status, &state).await,
        403,
        &["tenantatlas-finding-status", "observed alone"],
    );
    let observed = json!({ "status": { "observed": { "firstSeen": "2026-01-01T00:00:00Z", "lastSeen": "2026-01-01T00:00:00Z",
        "run": { "name": "drift", "uid": "u" } } } });
    let operator = tenant.cluster.as_operator();
    assert_refused(
        call(&operator, "PATCH", &status, &observed).await,
        403,
        &["tenantatlas-finding-status", "leaves it"],
    );
    call(&worker, "PATCH", &status, &observed).await.expect("a worker says what it saw");

    // The worker's own way through all that, and the end.
    let there = call(&worker, "GET", &all, &Value::Null).await.expect("a worker reads what is known");
    assert_eq!(there["items"].as_array().map(Vec::len), Some(1));
    let changed = json!({ "metadata": { "labels": { "tenantatlas.io/run-uid": "u" } }, "spec": { "digest": digest(3),
        "severity": "low", "subject": { "uid": "another" } } });
    call(&worker, "PATCH", &path, &changed).await.expect("a worker finds something else");
    call(&worker, "DELETE", &path, &Value::Null).await.expect("a worker may delete one");
    tenant.create_as::<Finding>(worker, finding("drift-2", &baseline)).await.expect("a worker finds");
    let second = tenant.path(GROUP, "findings/drift-2");
    let foreground = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Foreground" });
    call(root, "DELETE", &second, &foreground).await.expect("an administrator may delete one");
    tenant.ends().await;
}

#[tokio::test]
async fn who_operates_a_tenant_accepts_a_finding_in_their_own_name_in_every_way_and_takes_it_back() {
    let tenant = Tenant::new("accept").await;
    let worker = tenant.finder();
    let baseline = tenant.baseline("nightly").await;
    tenant.create_as::<Finding>(worker.clone(), finding("drift-1", &baseline)).await.expect("a worker finds");
    let path = tenant.path(GROUP, "findings/drift-1");
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let bob = tenant.person("bob", &["tenantatlas-tenant-operator"]).await;
    let before = call(&ada, "GET", &path, &Value::Null).await.expect("it is there");
    let accepted = |by: &Value| {
        let mut acknowledged = json!({ "note": "planned", "digest": digest(1) });
        if !by.is_null() {
            acknowledged["by"] = by.clone();
        }
        with(&before, "/spec/acknowledged", &acknowledged)
    };
    let own = json!({ "username": "ada" });
    let fills_in = fills_in(&tenant, "tenantatlas-acknowledged").await;
    for way in WAYS {
        let made =
            way.send(&ada, &path, &before, &accepted(&own)).await.unwrap_or_else(|error| panic!("{way:?}: {error}"));
        assert_eq!(made["spec"]["acknowledged"]["by"]["username"], "ada", "{way:?}");
        for forged in [
            json!({ "username": "bob" }),
            json!({ "username": "ada", "uid": "0" }),
            json!({ "username": "ada", "groups": ["system:masters"] }),
            Value::Null,
        ] {
            let answer = way.send(&ada, &path, &before, &accepted(&forged)).await;
            if fills_in {
                let by = &answer.unwrap_or_else(|error| panic!("{way:?}: {error}"))["spec"]["acknowledged"]["by"];
                assert_eq!((&by["username"], &by["uid"]), (&json!("ada"), &Value::Null), "{way:?} {forged}");
                assert_eq!(by["groups"], json!(["system:authenticated"]), "{way:?} {forged}");
            } else {
                assert_refused(answer, 403, &["tenantatlas-findings", "spec.acknowledged.by"]);
            }
        }
        // With another digest, and with anything beside it.
        let other = with(&accepted(&own), "/spec/acknowledged/digest", &json!(digest(2)));
        assert_refused(
            way.send(&ada, &path, &before, &other).await,
            422,
            &["tenantatlas-findings", "changed meanwhile"],
        );
        let both = with(&accepted(&own), "/spec/severity", &json!("low"));
        assert_refused(way.send(&ada, &path, &before, &both).await, 403, &["tenantatlas-findings", "spec.severity"]);
    }
    let accept = json!({ "spec": accepted(&own)["spec"] });
    call(&ada, "PATCH", &path, &accept).await.expect("ada accepts");
    // Another person's note is in that person's name, and one that is stale cannot be edited.
    let note = |by: &str, note: &str| json!({ "spec": { "acknowledged": { "note": note, "by": { "username": by, "groups": null } } } });
    if !fills_in {
        assert_refused(
            call(&bob, "PATCH", &path, &note("ada", "indeed")).await,
            403,
            &["spec.acknowledged.by.username"],
        );
    }
    let theirs = call(&bob, "PATCH", &path, &note("bob", "indeed")).await.expect("bob accepts");
    assert_eq!(theirs["spec"]["acknowledged"]["by"]["username"], "bob");
    call(&worker, "PATCH", &path, &json!({ "spec": { "digest": digest(2) } })).await.expect("a worker finds");
    assert_refused(call(&bob, "PATCH", &path, &note("bob", "still")).await, 422, &["changed meanwhile"]);
    let taken = call(&ada, "PATCH", &path, &json!({ "spec": { "acknowledged": null } })).await.expect("taken back");
    assert_eq!(taken["spec"]["acknowledged"], Value::Null);
    let none =
        ways::patch(&ada, &format!("{path}/status"), "merge-patch", &json!({ "status": { "stale": true } })).await;
    assert_refused(none, 403, &["cannot patch"]);
}
