//! Who may start what.

use super::{assert_refused, call};
use crate::support::{Tenant, repository::PASSWORD};
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, OperationRun};

fn backup(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        // Stated for clusters that do not fill it in.
        "spec": { "type": "backup.capture", "inputs": { "repository": "none" }, "initiator": { "username": "ada" } },
    })
}

fn repository(adopt: &[&str]) -> Value {
    let mut spec = json!({
        "storage": { "persistentVolumeClaim": { "claimName": "none" } },
        "passwordSecret": { "name": "none" },
    });
    if !adopt.is_empty() {
        spec["adopt"] = json!({ "namespaceUids": adopt });
    }
    json!({ "metadata": { "name": "main" }, "spec": spec })
}

#[tokio::test]
async fn a_run_starts_only_for_who_has_the_verb_of_its_type_in_its_tenant() {
    let tenant = Tenant::new("start").await;
    let other = tenant.beside("start").await;
    // Stock `edit` may create runs; it may start nothing by that.
    let ada = tenant.person("ada", &["edit"]).await;
    let answer = tenant.create_as::<OperationRun>(ada.clone(), backup("one")).await;
    assert_refused(answer, 403, &["tenantatlas-start", "ada", "backup.capture", &tenant.name, "verb run"]);
    // Elsewhere she has it: that does not count here.
    let there = other.person("ada", &["tenantatlas-tenant-operator"]).await;
    assert_refused(tenant.create_as::<OperationRun>(there.clone(), backup("one")).await, 403, &["tenantatlas-start"]);
    // A type that does not exist can be run by nobody who has not all.
    let mut unknown = backup("one");
    unknown["spec"]["type"] = "no.such".into();
    assert_refused(
        other.create_as::<OperationRun>(there.clone(), unknown).await,
        403,
        &["tenantatlas-start", "no.such"],
    );
    assert!(tenant.api::<OperationRun>().list(&Default::default()).await.expect("a list").items.is_empty());

    other.create_as::<OperationRun>(there, backup("one")).await.expect("ada is an operator there");
    // Another tenant is RBAC's own refusal.
    let eve = other.person("eve", &["tenantatlas-tenant-admin"]).await;
    assert_refused(tenant.create_as::<OperationRun>(eve, backup("two")).await, 403, &["cannot create resource"]);
    // To look is not to start.
    let vera = tenant.person("vera", &["tenantatlas-tenant-viewer"]).await;
    assert_refused(tenant.create_as::<OperationRun>(vera, backup("two")).await, 403, &["cannot create resource"]);
}

#[tokio::test]
async fn a_type_of_ones_own_is_started_by_who_was_given_the_verb() {
    let tenant = Tenant::new("own-type").await;
    let operation = tenant.script_type("own", "true", |_| {}).await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-operator"]).await;
    let run =
        json!({ "metadata": { "name": "own" }, "spec": { "type": operation, "initiator": { "username": "ada" } } });
    assert_refused(tenant.create_as::<OperationRun>(ada, run.clone()).await, 403, &["tenantatlas-start", &operation]);
    let rules = json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": [operation], "verbs": ["run"] },
    ]);
    let ada = tenant.person_with("ada", rules).await;
    tenant.create_as::<OperationRun>(ada, run).await.expect("ada has the verb now");
}

#[tokio::test]
async fn setting_up_a_repository_needs_the_verb_of_its_check() {
    let tenant = Tenant::new("setup").await;
    let eve = tenant.person("eve", &["edit"]).await;
    let answer = tenant.create_as::<BackupRepository>(eve.clone(), repository(&[])).await;
    assert_refused(answer, 403, &["tenantatlas-repository", "eve", "repository.check"]);
    assert!(tenant.api::<BackupRepository>().get_opt("main").await.expect("a read").is_none());

    tenant.password("none", PASSWORD);
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    tenant.create_as::<BackupRepository>(ada.clone(), repository(&[])).await.expect("ada administers the tenant");
    let path = tenant.path("tenantatlas.io/v1alpha1", "backuprepositories/main");
    let move_it = json!({ "spec": { "storage": { "persistentVolumeClaim": { "claimName": "hers" } } } });
    assert_refused(call(&eve, "PATCH", &path, &move_it).await, 403, &["tenantatlas-repository", "repository.check"]);
    let label = json!({ "metadata": { "labels": { "team": "blue" } } });
    call(&eve, "PATCH", &path, &label).await.expect("a label starts nothing");
    call(&ada, "PATCH", &path, &move_it).await.expect("ada may");
    // Whoever says when it is maintained starts that: the check's verb is not enough.
    let rules = json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["backuprepositories"], "verbs": ["patch"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": ["repository.check"], "verbs": ["run"] },
    ]);
    let bob = tenant.person_with("bob", rules).await;
    let nightly = json!({ "spec": { "maintenance": { "schedule": "0 3 * * *", "readDataPercent": 5 } } });
    assert_refused(
        call(&bob, "PATCH", &path, &nightly).await,
        403,
        &["spec.maintenance.schedule", "repository.maintain"],
    );
    call(&ada, "PATCH", &path, &nightly).await.expect("ada may");
    let more = json!({ "spec": { "maintenance": { "readDataPercent": 6 } } });
    call(&bob, "PATCH", &path, &more).await.expect("when it runs stays as it was");
}

#[tokio::test]
async fn having_a_password_generated_needs_the_verb_create_on_secrets() {
    let tenant = Tenant::new("generate").await;
    let rules = json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["backuprepositories"], "verbs": ["create", "patch"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": ["repository.check"], "verbs": ["run"] },
    ]);
    let bob = tenant.person_with("bob", rules).await;
    let mut generated = repository(&[]);
    generated["spec"]["passwordSecret"] = json!({ "name": "made", "generate": true });
    let words = ["tenantatlas-repository", "Secret made", "verb create on secrets"];
    assert_refused(tenant.create_as::<BackupRepository>(bob.clone(), generated.clone()).await, 403, &words);
    tenant.create_as::<BackupRepository>(bob.clone(), repository(&[])).await.expect("without it");
    let path = tenant.path("tenantatlas.io/v1alpha1", "backuprepositories/main");
    let change = json!({ "spec": { "passwordSecret": { "name": "made", "generate": true } } });
    assert_refused(call(&bob, "PATCH", &path, &change).await, 403, &words);
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    call(&ada, "PATCH", &path, &change).await.expect("ada creates Secrets");
    // What she asked for stays hers: another field is bob's to change, and another Secret is not.
    let other = json!({ "spec": { "maintenance": { "readDataPercent": 5 } } });
    call(&bob, "PATCH", &path, &other).await.expect("another field");
    let renamed = json!({ "spec": { "passwordSecret": { "name": "other" } } });
    assert_refused(call(&bob, "PATCH", &path, &renamed).await, 403, &["Secret other", "verb create on secrets"]);
}

#[tokio::test]
async fn giving_the_password_to_others_needs_the_verb_get_on_its_secret() {
    let tenant = Tenant::new("recovery").await;
    let rules = json!([
        { "apiGroups": ["tenantatlas.io"], "resources": ["backuprepositories"], "verbs": ["create", "patch"] },
        { "apiGroups": ["tenantatlas.io"], "resources": ["operationtypes"], "resourceNames": ["repository.check"], "verbs": ["run"] },
        { "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["another"], "verbs": ["get"] },
    ]);
    let bob = tenant.person_with("bob", rules).await;
    let recovery = json!({ "recipients": [age::x25519::Identity::generate().to_public().to_string()] });
    let mut told = repository(&[]);
    told["spec"]["recovery"] = recovery.clone();
    let words = ["tenantatlas-repository", "Secret none", "verb get"];
    assert_refused(tenant.create_as::<BackupRepository>(bob.clone(), told).await, 403, &words);
    tenant.create_as::<BackupRepository>(bob.clone(), repository(&[])).await.expect("without it");
    let path = tenant.path("tenantatlas.io/v1alpha1", "backuprepositories/main");
    let change = json!({ "spec": { "recovery": recovery } });
    assert_refused(call(&bob, "PATCH", &path, &change).await, 403, &words);
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    call(&ada, "PATCH", &path, &change).await.expect("ada reads Secrets");
    let other = json!({ "spec": { "maintenance": { "readDataPercent": 5 } } });
    call(&bob, "PATCH", &path, &other).await.expect("another field");
    let renamed = json!({ "spec": { "passwordSecret": { "name": "third" } } });
    assert_refused(call(&bob, "PATCH", &path, &renamed).await, 403, &["Secret third", "verb get"]);
    call(&ada, "PATCH", &path, &json!({ "spec": { "recovery": null } })).await.expect("given up");
}

#[tokio::test]
async fn taking_over_others_backups_needs_a_verb_that_no_tenant_has() {
    let tenant = Tenant::new("adopt").await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let answer = tenant.create_as::<BackupRepository>(ada.clone(), repository(&["a"])).await;
    assert_refused(answer, 403, &["tenantatlas-repository", "spec.adopt", "verb adopt"]);
    tenant.create_as::<BackupRepository>(ada.clone(), repository(&[])).await.expect("without it");
    let path = tenant.path("tenantatlas.io/v1alpha1", "backuprepositories/main");
    let adopt = json!({ "spec": { "adopt": { "namespaceUids": ["a"] } } });
    assert_refused(call(&ada, "PATCH", &path, &adopt).await, 403, &["spec.adopt"]);

    let rules = json!([{ "apiGroups": ["tenantatlas.io"], "resources": ["backuprepositories"], "verbs": ["adopt"] }]);
    let pat = tenant.person_with("pat", rules).await;
    tenant.person("pat", &["tenantatlas-tenant-admin"]).await;
    call(&pat, "PATCH", &path, &adopt).await.expect("pat was given the verb");
    // What was granted stays; it can be given up, and not be widened.
    let other = json!({ "spec": { "maintenance": { "readDataPercent": 5 } } });
    call(&ada, "PATCH", &path, &other).await.expect("another field");
    let wider = json!({ "spec": { "adopt": { "namespaceUids": ["a", "b"] } } });
    assert_refused(call(&ada, "PATCH", &path, &wider).await, 403, &["spec.adopt"]);
    call(&ada, "PATCH", &path, &json!({ "spec": { "adopt": null } })).await.expect("given up");
}
