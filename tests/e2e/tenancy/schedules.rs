//! Who may have a schedule start what, and in whose name its runs are.

use super::initiator::{fills_in, without_mutation};
use super::{assert_refused, call};
use crate::support::Tenant;
use serde_json::{Value, json};
use tenantatlas::api::BackupSchedule;

const GROUP: &str = "tenantatlas.io/v1alpha1";
const POLICY: &str = "tenantatlas-schedule-requester";

fn schedule(name: &str, operation: &str) -> Value {
    json!({ "metadata": { "name": name }, "spec": { "schedule": "@yearly", "operation": { "type": operation } } })
}

/// May write schedules, and start runs of these types.
fn rules(types: &[&str]) -> Value {
    json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["backupschedules"], "verbs": ["get", "create", "patch"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": types, "verbs": ["run"] },
    ])
}

#[tokio::test]
async fn who_says_what_a_schedule_starts_needs_the_verb_run_on_it() {
    let tenant = Tenant::new("schedule-start").await;
    let ada = tenant.person_with("ada", rules(&["backup.capture"])).await;
    let eve = tenant.person_with("eve", rules(&["other"])).await;
    let refused = tenant.create_as::<BackupSchedule>(eve.clone(), schedule("eves", "backup.capture")).await;
    assert_refused(refused, 403, &["eve may not have a schedule start backup.capture", "verb run"]);
    tenant.create_as::<BackupSchedule>(ada.clone(), schedule("nightly", "backup.capture")).await.expect("ada may");

    let path = tenant.path(GROUP, "backupschedules/nightly");
    let now = json!({ "metadata": { "annotations": { "tenantatlas.io/run-now": "one" } } });
    let inputs = json!({ "spec": { "operation": { "inputs": { "repository": "other" } } } });
    for change in [&now, &inputs] {
        assert_refused(call(&eve, "PATCH", &path, change).await, 403, &["eve may not have a schedule start"]);
    }
    // Ada may start captures, and nothing else.
    let other = json!({ "spec": { "operation": { "type": "repository.check" } } });
    assert_refused(call(&ada, "PATCH", &path, &other).await, 403, &["repository.check"]);
    call(&eve, "PATCH", &path, &json!({ "spec": { "suspend": true } }))
        .await
        .expect("to have nothing started takes nothing more");
    let kept: BackupSchedule = tenant.api().get("nightly").await.expect("it is there");
    assert_eq!(kept.status.and_then(|status| status.last_run_now), None);
}

#[tokio::test]
async fn who_has_backup_sets_expire_must_be_allowed_to_delete_them() {
    let tenant = Tenant::new("schedule-retention").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let admin = tenant.person("root", &["tenantatlas-tenant-admin"]).await;
    let mut with = schedule("kept", "backup.capture");
    with["spec"]["retention"] = json!({ "keepDaily": 3 });
    let refused = tenant.create_as::<BackupSchedule>(ada.clone(), with.clone()).await;
    assert_refused(refused, 403, &["ada would have backup sets expire", "verb delete"]);
    tenant.create_as::<BackupSchedule>(admin, with).await.expect("an administrator of the tenant may");
    let path = tenant.path(GROUP, "backupschedules/kept");
    let fewer = json!({ "spec": { "retention": { "keepDaily": 1 } } });
    assert_refused(call(&ada, "PATCH", &path, &fewer).await, 403, &["ada would have backup sets expire"]);
    call(&ada, "PATCH", &path, &json!({ "spec": { "suspend": true } })).await.expect("the rest is hers to change");
}

#[tokio::test]
async fn another_tenants_people_neither_see_nor_make_schedules() {
    let tenant = Tenant::new("schedule-own").await;
    let other = tenant.beside("schedule-other").await;
    let bob = other.person("bob", &["tenantatlas-tenant-admin"]).await;
    other.create_as::<BackupSchedule>(bob.clone(), schedule("nightly", "backup.capture")).await.expect("in his own");
    let refused = tenant.create_as::<BackupSchedule>(bob.clone(), schedule("nightly", "backup.capture")).await;
    assert_refused(refused, 403, &["cannot create resource"]);
    let list = tenant.path(GROUP, "backupschedules");
    assert_refused(call(&bob, "GET", &list, &Value::Null).await, 403, &["cannot list resource"]);
}

#[tokio::test]
async fn where_the_api_server_cannot_write_it_who_says_what_a_schedule_starts_says_so_truthfully() {
    let tenant = Tenant::new("stated-schedule").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let with = |asked: Value| {
        let mut schedule = schedule("one", "backup.capture");
        schedule["spec"]["requestedBy"] = asked;
        schedule
    };
    without_mutation(&tenant, POLICY, "backupschedules", schedule("probe", "backup.capture")).await;
    for (asked, word) in [
        (Value::Null, "spec.requestedBy.username"),
        (json!({ "username": "root" }), "spec.requestedBy.username"),
        (json!({ "username": "ada", "uid": "0" }), "spec.requestedBy.uid"),
        (json!({ "username": "ada", "groups": ["system:authenticated", "system:masters"] }), "spec.requestedBy.groups"),
    ] {
        assert_refused(tenant.create_as::<BackupSchedule>(ada.clone(), with(asked)).await, 403, &[POLICY, word]);
    }
    let truth = json!({ "username": "ada", "groups": ["system:authenticated"] });
    tenant.create_as::<BackupSchedule>(ada.clone(), with(truth)).await.expect("the truth is taken");
    // Who says nothing of what it starts does not take it over.
    let path = tenant.path(GROUP, "backupschedules/one");
    let root = tenant.person("root", &["tenantatlas-tenant-admin"]).await;
    let taken = json!({ "spec": { "suspend": true, "requestedBy": { "username": "root", "groups": null } } });
    assert_refused(call(&root, "PATCH", &path, &taken).await, 403, &[POLICY, "leave it as it is"]);
    call(&root, "PATCH", &path, &json!({ "spec": { "suspend": true } })).await.expect("the rest is anybody's who may");
}

#[tokio::test]
async fn a_schedule_names_who_last_said_what_it_starts_whatever_is_written() {
    let tenant = Tenant::new("schedule-requester").await;
    if !fills_in(&tenant, POLICY).await {
        return;
    }
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let bob = tenant.person("bob", &["tenantatlas-tenant-operator"]).await;
    let mut forged = schedule("nightly", "backup.capture");
    forged["spec"]["requestedBy"] = json!({ "username": "root", "groups": ["system:masters"] });
    tenant.create_as::<BackupSchedule>(ada.clone(), forged).await.expect("ada may");
    let path = tenant.path(GROUP, "backupschedules/nightly");
    let requester = async || {
        let schedule: BackupSchedule = tenant.api().get("nightly").await.expect("it is there");
        schedule.spec.requested_by.expect("somebody").username
    };
    assert_eq!(requester().await, "ada");
    for change in [
        json!({ "spec": { "schedule": "@monthly" } }),
        json!({ "spec": { "requestedBy": { "username": "root" } } }),
        json!({ "spec": { "requestedBy": null } }),
    ] {
        call(&bob, "PATCH", &path, &change).await.expect("bob may change when");
        assert_eq!(requester().await, "ada", "{change}");
    }
    let now = json!({ "metadata": { "annotations": { "tenantatlas.io/run-now": "one" } } });
    call(&bob, "PATCH", &path, &now).await.expect("bob may start captures");
    assert_eq!(requester().await, "bob");
}

#[tokio::test]
async fn the_status_of_a_schedule_is_the_operators() {
    let tenant = Tenant::new("schedule-status").await;
    let made: BackupSchedule = tenant.create(schedule("nightly", "backup.capture")).await.expect("a schedule");
    let path = tenant.path(GROUP, "backupschedules/nightly/status");
    let forged =
        json!({ "metadata": { "uid": made.metadata.uid }, "status": { "lastScheduledFor": "2030-01-01T00:00:00Z" } });
    let answer = call(&tenant.cluster.client, "PATCH", &path, &forged).await;
    assert_refused(answer, 403, &["tenantatlas-status", "operator alone"]);
}
