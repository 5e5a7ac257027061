//! Maintenance: what backup sets gave up goes, by itself where that is asked for; and damage is told where it matters.

use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tenantatlas::api::{BackupRepository, BackupSet, OperationRunStatus, Outcome, Reason};

/// A minute, and what a slow machine takes more.
const A_TICK: Duration = Duration::from_mins(2);

impl Tenant {
    fn settings(&self, value: &str) {
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "a": value } });
        self.apply(&map.to_string());
    }

    async fn on_main(&self, name: &str, operation: &str, mut inputs: Value) -> OperationRunStatus {
        inputs["repository"] = "main".into();
        self.start(name, json!({ "type": operation, "inputs": inputs })).await;
        self.completed(name, SOON * 2).await
    }

    /// A set's Ready condition: its status and reason.
    async fn set_when(&self, name: &str, status: &str, reason: &str) {
        let sets: Api<BackupSet> = self.api();
        wait_for(&format!("backup set {name} has Ready={status}, {reason}"), SOON, async || {
            let set = sets.get(name).await.map_err(|error| error.to_string())?;
            let conditions = set.status.map(|status| status.conditions).unwrap_or_default();
            let is_so = conditions.iter().any(|condition| {
                condition.type_ == "Ready" && condition.status == status && condition.reason == reason
            });
            if is_so { Ok(()) } else { Err(format!("{conditions:#?}")) }
        })
        .await;
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[tokio::test]
async fn what_a_deleted_backup_set_gave_up_goes_and_what_another_names_stays() {
    let tenant = Tenant::new("maintain").await;
    let restic = tenant.repository("main").await;
    for value in ["one", "two"] {
        tenant.settings(value);
        let status = tenant.on_main(value, "backup.capture", json!({})).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    }
    tenant.api::<BackupSet>().delete("one", &DeleteParams::default()).await.expect("deleted");

    // The snapshot is younger than a day.
    let status = tenant.on_main("careful", "repository.maintain", json!({})).await;
    assert_ended(&status, Outcome::Succeeded, Reason::CheckPassed);
    assert_eq!(restic.snapshots().len(), 2);
    // Now it goes; its content is marked, and goes the next time.
    for name in ["now", "again"] {
        let status = tenant.on_main(name, "repository.maintain", json!({ "graceHours": 0 })).await;
        assert_ended(&status, Outcome::Succeeded, Reason::CheckPassed);
    }
    let run = tenant.run("two").await;
    assert_eq!((restic.snapshots().len(), restic.snapshots_of(&run).len()), (1, 1));
    let path = "/core/v1/ConfigMap/settings.json";
    assert_eq!(restic.dump("latest", path)["data"]["a"], "two");
    restic.prints(&["check", "--read-data"]);

    let repository: BackupRepository = tenant.api().get("main").await.expect("the repository");
    let status = repository.status.expect("a status");
    assert_eq!(status.snapshots, Some(1));
    assert!(status.last_prune.is_some() && status.last_prune == status.last_check, "{status:#?}");
    let leases: Api<Lease> = tenant.api();
    let left: Vec<_> = leases.list(&ListParams::default()).await.expect("a list").items;
    assert!(
        left.is_empty(),
        "every Lease was given back: {:?}",
        left.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn maintenance_runs_at_its_times() {
    let tenant = Tenant::new("maintained").await;
    tenant.repository("main").await;
    let maintenance = json!({ "spec": { "maintenance": { "schedule": "* * * * *", "check": "* * * * *" } } });
    tenant.merge::<BackupRepository>("main", maintenance).await;
    let repositories: Api<BackupRepository> = tenant.api();
    let until = wait_for("a tick is dealt with", A_TICK, async || {
        let repository = repositories.get("main").await.map_err(|error| error.to_string())?;
        let status = repository.status.unwrap_or_default();
        let pruned = status.last_prune;
        let ticked = status.maintenance.and_then(|maintenance| maintenance.schedule);
        pruned.and(ticked.clone()).map(|ticked| ticked.until).ok_or_else(|| format!("{ticked:?}"))
    })
    .await;
    assert_eq!(until.as_second() % 60, 0, "it names the tick");
    let stop = json!({ "spec": { "maintenance": null } });
    tenant.merge::<BackupRepository>("main", stop).await;
    let runs: Api<tenantatlas::api::OperationRun> = tenant.api();
    let runs = runs.list(&ListParams::default()).await.expect("a list").items;
    let names: Vec<_> = runs.iter().map(ResourceExt::name_any).filter(|name| name.ends_with("-maintain")).collect();
    assert!(!names.is_empty() && names.iter().all(|name| name.starts_with("main-2")), "{names:?}");
}

#[tokio::test]
async fn damage_makes_the_repository_unready_and_marks_the_sets_it_concerns_until_it_is_mended() {
    let tenant = Tenant::new("damage").await;
    let restic = tenant.repository("main").await;
    tenant.settings("one");
    assert_ended(&tenant.on_main("one", "backup.capture", json!({})).await, Outcome::Succeeded, Reason::Succeeded);
    let before = files(&restic.folder().join("data"));
    tenant.settings("two");
    assert_ended(&tenant.on_main("two", "backup.capture", json!({})).await, Outcome::Succeeded, Reason::Succeeded);
    let lost = files(&restic.folder().join("data")).into_iter().find(|file| !before.contains(file)).expect("a pack");
    let content = std::fs::read(&lost).expect("its content");
    std::fs::remove_file(&lost).expect("removed");

    let status = tenant.on_main("finds-it", "repository.maintain", json!({})).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("Damaged")));
    assert!(status.message.unwrap_or_default().contains("affected backup sets: two"), "it is named");
    tenant.not_ready("main", "Damaged", &["two"]).await;
    tenant.set_when("two", "False", "Damaged").await;
    tenant.set_when("one", "True", "ReadBack").await;

    std::fs::write(&lost, content).expect("brought back");
    // Whoever owns it, the worker reads it.
    let path = lost.to_str().expect("text");
    assert!(std::process::Command::new("chmod").args(["0644", path]).status().expect("chmod").success());
    let status = tenant.on_main("mended", "repository.check", json!({})).await;
    assert_ended(&status, Outcome::Succeeded, Reason::CheckPassed);
    assert!(status.message.unwrap_or_default().contains("100 %"), "all of it was read back");
    tenant.ready("main").await;
    tenant.set_when("two", "True", "CheckPassed").await;
}
