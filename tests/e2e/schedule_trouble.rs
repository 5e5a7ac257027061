//! A schedule whose repository cannot be used for a while: each run says why, and nothing that was kept is lost by it.

use crate::support::repository::PASSWORD;
use crate::support::{SOON, Tenant, wait_for};
use kube::api::{Api, ListParams};
use serde_json::json;
use std::path::Path;
use tenantatlas::api::{BackupSet, Outcome};

impl Tenant {
    async fn sets(&self) -> usize {
        let sets: Api<BackupSet> = self.api();
        sets.list(&ListParams::default()).await.expect("sets can be listed").items.len()
    }

    /// Runs the schedule and expects that nothing is captured, for this reason.
    async fn fails(&self, token: &str, reason: &str, remedy: &str) {
        let before = self.sets().await;
        let status = self.ran_now("nightly", token).await;
        assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some(reason)), "{status:#?}");
        assert!(status.message.as_deref().is_some_and(|message| message.contains(remedy)), "{status:#?}");
        assert_eq!(status.attempts, Some(1), "it is not tried again: nothing would change by itself");
        assert_eq!(self.sets().await, before);
    }

    async fn captures(&self, token: &str) {
        let status = self.ran_now("nightly", token).await;
        assert_eq!(status.outcome, Outcome::Succeeded, "{status:#?}");
    }
}

fn move_all(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::rename(&path, to.join(path.file_name().expect("a name"))).expect("moved");
    }
}

#[tokio::test]
async fn a_repository_that_changes_its_password_or_vanishes_under_a_schedule_is_told_and_loses_nothing() {
    let tenant = Tenant::new("trouble").await;
    let restic = tenant.repository("main").await;
    let capture = json!({ "type": "backup.capture", "inputs": { "repository": "main" } });
    tenant
        .schedule("nightly", json!({ "schedule": "@yearly", "operation": capture, "retention": { "keepLast": 2 } }))
        .await;
    tenant.captures("good").await;

    tenant.password("main", "another one");
    tenant.fails("wrong-password", "WrongPassword", "password").await;
    tenant.password("main", PASSWORD);
    tenant.captures("right-again").await;

    // The volume was emptied, or another one is mounted. A new repository in its place would look like success.
    let aside = restic.volume().with_extension("aside");
    move_all(restic.volume(), &aside);
    tenant.fails("vanished", "RepositoryVanished", "backup sets").await;
    assert_eq!(std::fs::read_dir(restic.volume()).expect("the volume").count(), 0, "nothing is made in its place");
    move_all(&aside, restic.volume());
    std::fs::remove_dir(&aside).expect("empty");
    tenant.captures("back").await;
    restic.prints(&["check", "--read-data"]);

    // Retention goes on, and what failed counts for nothing.
    wait_for("the oldest set has expired", SOON, async || {
        let left = tenant.sets().await;
        if left == 2 { Ok(()) } else { Err(format!("{left} sets")) }
    })
    .await;
    tenant
        .scheduled_when("nightly", "names the last success", |status| {
            let answered = status.last_run_now.as_ref().map(|answer| &answer.run);
            status.last_successful.as_ref().map(|success| &success.run) == answered
        })
        .await;
}
