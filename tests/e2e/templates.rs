//! A platform team says once what the tenants of a workspace get: a namespace with the label has a repository with a
//! password of its own, schedules and a first backup by itself.

use crate::bucket::Bucket;
use crate::support::repository::Restic;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tenantatlas::api::{BackupRepository, BackupSchedule, BackupSet, OperationRun, Outcome, Reason};

fn templates(bucket: &Bucket) -> Value {
    json!({
        "repository": { "storage": bucket.storage("shop"), "credentialsSecret": { "name": "keys" } },
        "schedules": [{ "name": "nightly", "schedule": "@yearly", "jitterSeconds": 0 }],
    })
}

impl Tenant {
    async fn schedule_when(&self, what: &str, is_so: impl Fn(&BackupSchedule) -> bool) -> BackupSchedule {
        let schedules: Api<BackupSchedule> = self.api();
        wait_for(&format!("schedule nightly of {} {what}", self.name), SOON * 2, async || {
            let schedule = schedules.get("nightly").await.map_err(|error| error.to_string())?;
            if is_so(&schedule) { Ok(schedule) } else { Err(format!("{schedule:#?}")) }
        })
        .await
    }

    async fn has_backup(&self) {
        let has_backup =
            |schedule: &BackupSchedule| schedule.status.as_ref().is_some_and(|status| status.last_successful.is_some());
        self.schedule_when("has a backup", has_backup).await;
    }

    async fn password_of(&self, secret: &str) -> (String, Secret) {
        let secret = self.api::<Secret>().get(secret).await.expect("the Secret");
        let password = secret.data.as_ref().expect("data")["password"].0.clone();
        (String::from_utf8(password).expect("text"), secret)
    }
}

#[tokio::test]
async fn a_namespace_with_the_label_has_a_repository_a_schedule_and_a_first_backup_by_itself() {
    let bucket = Bucket::new().await;
    let one = Tenant::new("template").await;
    let other = one.beside("template-new").await;
    for tenant in [&one, &other] {
        Bucket::keys(tenant);
    }
    one.join_workspace(templates(&bucket)).await;
    other.move_to(&json!(one.name)).await;
    let mut passwords = Vec::new();
    for tenant in [&one, &other] {
        tenant.has_backup().await;
        let (password, secret) = tenant.password_of("main-password").await;
        assert_eq!(secret.metadata.owner_references, None, "it outlives whatever it was made for");
        // The password alone opens the store, with stock programs.
        let restic = Restic::with_password(bucket.below(&format!("shop/{}", tenant.name)), password.clone());
        assert_eq!(restic.snapshots().len(), 1);
        passwords.push(password);
    }
    assert_ne!(passwords[0], passwords[1], "each tenant has its own");
    let protected = |status: &tenantatlas::api::WorkspaceStatus| {
        (status.tenants.total, status.tenants.with_backup, status.attention.len()) == (2, 2, 0)
    };
    one.workspace_when("has two protected tenants", protected).await;

    // A namespace that loses the label keeps all it has, and starts nothing more.
    other.move_to(&Value::Null).await;
    let paused =
        |schedule: &BackupSchedule| schedule.status.as_ref().is_some_and(|status| status.next_scheduled_for.is_none());
    other.schedule_when("has no next tick", paused).await;
    let says_so = |repository: &BackupRepository| {
        let conditions = repository.status.iter().flat_map(|status| &status.conditions);
        conditions.into_iter().any(|of| of.type_ == "Stalled" && of.reason == "NotATenant")
    };
    let left = other.repository_when("main", "says that nothing is started", says_so).await;
    assert!(left.is_ready(), "its backups can be restored as soon as it is a tenant again: {left:#?}");
    assert_eq!(other.api::<BackupSet>().list(&Default::default()).await.expect("sets").items.len(), 1);
    assert_eq!(other.password_of("main-password").await.0, passwords[1]);
    // So does one whose workspace is deleted, and it goes on by itself.
    one.workspaces().delete(&one.name, &DeleteParams::default()).await.expect("it is deleted");
    one.start("more", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    assert_ended(&one.completed("more", SOON * 2).await, Outcome::Succeeded, Reason::Succeeded);
    // A new BackupRepository uses the existing Secret.
    one.api::<BackupRepository>().delete("main", &DeleteParams::default()).await.expect("it is deleted");
    let again = json!({ "metadata": { "name": "main" }, "spec": {
        "storage": bucket.storage(&format!("shop/{}", one.name)), "credentialsSecret": { "name": "keys" },
        "passwordSecret": { "name": "main-password", "generate": true } } });
    one.create::<BackupRepository>(again).await.expect("a repository");
    one.ready("main").await;
    assert_eq!(one.password_of("main-password").await.0, passwords[0]);
}

#[tokio::test]
async fn what_a_template_gives_is_kept_as_it_says_and_a_change_of_it_reaches_the_tenants() {
    let bucket = Bucket::new().await;
    let tenant = Tenant::new("template-kept").await;
    Bucket::keys(&tenant);
    tenant.join_workspace(templates(&bucket)).await;
    tenant.ready("main").await;
    tenant.has_backup().await;
    let ada = tenant.person("ada", &["tenantatlas-tenant-admin"]).await;
    let path = |of: &str| tenant.path("tenantatlas.io/v1alpha1", of);
    let (schedule, repository) = (path("backupschedules/nightly"), path("backuprepositories/main"));
    let narrow =
        json!({ "spec": { "suspend": true, "operation": { "inputs": { "selection": { "includeKinds": ["Pod"] } } } } });
    crate::tenancy::call(&ada, "PATCH", &schedule, &narrow).await.expect("ada may change schedules");
    let is_back =
        |schedule: &BackupSchedule| !schedule.spec.suspend && schedule.spec.operation.inputs.get("selection").is_none();
    tenant.schedule_when("is as the template says", is_back).await;
    // So is what a cache leaves out because of its size.
    let large = json!({ "spec": { "suspend": true, "operation": { "inputs": { "junk": "x".repeat(3000) } } } });
    crate::tenancy::call(&ada, "PATCH", &schedule, &large).await.expect("ada may change schedules");
    let is_small =
        |schedule: &BackupSchedule| !schedule.spec.suspend && schedule.spec.operation.inputs.get("junk").is_none();
    tenant.schedule_when("is as the template says, though it was large", is_small).await;
    crate::tenancy::call(&ada, "DELETE", &schedule, &Value::Null).await.expect("ada may delete schedules");
    tenant.schedule_when("is there again", is_back).await;

    // Where backups are is never changed by a template, nor back.
    let moved = json!({ "spec": { "storage": { "s3": { "prefix": "elsewhere" } } } });
    crate::tenancy::call(&ada, "PATCH", &repository, &moved).await.expect("ada administers the tenant");
    let told = |reason: &'static str| {
        move |status: &tenantatlas::api::WorkspaceStatus| status.attention.iter().any(|of| of.reason == reason)
    };
    let status = tenant.workspace_when("says so", told("LocationDiffers")).await;
    assert!(status.attention.iter().any(|of| of.message.contains("another storage")), "{status:#?}");
    let back = json!({ "spec": { "storage": { "s3": { "prefix": format!("shop/{}", tenant.name) } } } });
    crate::tenancy::call(&ada, "PATCH", &repository, &back).await.expect("ada sets it back");

    let maintained = json!({ "repository": { "maintenance": { "schedule": "@weekly" } } });
    tenant.change_workspace(maintained).await;
    let is_maintained = |repository: &BackupRepository| repository.spec.maintenance.is_some();
    tenant.repository_when("main", "is maintained", is_maintained).await;
    tenant.change_workspace(json!({ "schedules": null })).await;
    tenant.schedule_when("is suspended", |schedule| schedule.spec.suspend).await;
    let runs = tenant.api::<OperationRun>().list(&Default::default()).await.expect("runs").items;
    assert!(runs.iter().all(|run| run.spec.operation_type != "restore.apply"), "nothing but checks and captures ran");
}

#[tokio::test]
async fn a_template_that_cannot_be_applied_touches_nothing_and_is_told() {
    let bucket = Bucket::new().await;
    let tenant = Tenant::new("template-taken").await;
    let mine = tenant.repository("main").await;
    let own = json!({ "metadata": { "name": "nightly" }, "spec": { "schedule": "@daily", "suspend": true } });
    tenant.create::<BackupSchedule>(own).await.expect("a schedule");
    tenant.join_workspace(templates(&bucket)).await;
    let taken = |status: &tenantatlas::api::WorkspaceStatus| {
        status.attention.iter().any(|of| of.reason == "NameTaken" && of.message.contains("BackupRepository main"))
    };
    tenant.workspace_when("names what is in the way", taken).await;
    let kept = tenant.ready("main").await;
    assert!(kept.spec.storage.persistent_volume_claim.is_some() && mine.folder().join("config").is_file());
    assert!(tenant.schedule_when("is there", |_| true).await.spec.suspend);
    // A quota of the namespace: it says so, and the repository comes once there is room.
    let fresh = tenant.beside("template-quota").await;
    Bucket::keys(&fresh);
    let quota = json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" },
        "spec": { "hard": { "count/backuprepositories.tenantatlas.io": "0" } } });
    fresh.apply(&quota.to_string());
    wait_for("the quota counts", SOON, async || {
        let path = fresh.path("v1", "resourcequotas/none");
        let quota = crate::tenancy::call(&fresh.cluster.client, "GET", &path, &Value::Null).await;
        let quota = quota.map_err(|error| error.to_string())?;
        if quota["status"]["hard"].is_object() { Ok(()) } else { Err(quota.to_string()) }
    })
    .await;
    fresh.join_workspace(templates(&bucket)).await;
    wait_for("an event says why", SOON, async || {
        let events = fresh.cluster.kubectl_prints(&["get", "events", "-n", "default", "-o", "json"]);
        let said = events.contains("TemplateRefused") && events.contains(&format!("tenant {}", fresh.name));
        if said { Ok(()) } else { Err("no event") }
    })
    .await;
    let path = fresh.path("v1", "resourcequotas/none");
    crate::tenancy::call(&fresh.cluster.client, "DELETE", &path, &Value::Null).await.expect("it is deleted");
    wait_for("the repository comes", SOON * 3, async || match fresh.api::<BackupRepository>().get_opt("main").await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}
