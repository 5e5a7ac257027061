//! Repositories that do not open, and how each is told apart from the others.

use crate::support::repository::{PASSWORD, Restic};
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use std::path::PathBuf;
use tenantatlas::api::{BackupRepository, BackupSet, OperationRunStatus, Outcome, Reason};

/// The Ready condition of a repository: status, reason and message.
fn ready_condition(repository: &BackupRepository) -> (String, String, String) {
    let conditions = repository.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    conditions.iter().find(|condition| condition.type_ == "Ready").map_or_else(Default::default, |condition| {
        (condition.status.clone(), condition.reason.clone(), condition.message.clone())
    })
}

impl Tenant {
    /// Waits until a repository is found not Ready for this reason; the message names each word. A capture into it is
    /// blocked, and repeats why.
    pub(crate) async fn not_ready(&self, name: &str, reason: &str, words: &[&str]) {
        let described = format!("is not Ready, {reason}");
        let repository = self
            .repository_when(name, &described, |repository| {
                let (status, why, _) = ready_condition(repository);
                status == "False" && why == reason
            })
            .await;
        let (_, _, message) = ready_condition(&repository);
        for word in words {
            assert!(message.contains(word), "{word:?} is not in: {message}");
        }
        let run = format!("into-{name}");
        self.start(&run, json!({ "type": "backup.capture", "inputs": { "repository": name } })).await;
        self.blocked(&run, Reason::RepositoryNotReady, &[name, reason]).await;
    }

    /// Checks a repository and waits for the end.
    pub(crate) async fn check(&self, run: &str, mut inputs: Value) -> OperationRunStatus {
        inputs["repository"] = "main".into();
        self.start(run, json!({ "type": "repository.check", "inputs": inputs })).await;
        self.completed(run, SOON).await
    }

    async fn capture(&self, run: &str) -> OperationRunStatus {
        self.start(run, json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
        self.completed(run, SOON * 2).await
    }

    /// A ConfigMap that does not compress.
    fn noise(&self, name: &str, bytes: usize) {
        let mut state = u64::from(std::process::id()) + name.len() as u64 + name.bytes().map(u64::from).sum::<u64>();
        let mut digit = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-"[(state >> 58) as usize])
        };
        let text: String = (0..bytes).map(|_| digit()).collect();
        let map =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name }, "data": { "noise": text } });
        self.apply(&map.to_string());
    }
}

#[tokio::test]
async fn a_new_repository_is_made_and_becomes_ready_by_itself() {
    let tenant = Tenant::new("repo-new").await;
    let restic = tenant.repository("main").await;
    let repository = tenant.ready("main").await;
    let status = repository.status.expect("a status");
    assert_eq!(status.snapshots, Some(0));
    assert!(status.last_check.is_some() && status.last_check_run.is_some());
    assert!(restic.folder().join("config").is_file());
    assert_eq!(restic.snapshots().len(), 0, "stock restic opens it");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_the_right_one_mends_it() {
    let tenant = Tenant::new("repo-password").await;
    tenant.repository("main").await;
    tenant.password("main", "not the password");
    let status = tenant.check("check-1", json!({})).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("WrongPassword")));
    tenant.not_ready("main", "WrongPassword", &["password", "Secret"]).await;
    tenant.password("main", PASSWORD);
    assert_eq!(tenant.check("check-2", json!({})).await.outcome, Outcome::Succeeded);
    tenant.ready("main").await;
    assert_ended(&tenant.capture("backup").await, Outcome::Succeeded, Reason::Succeeded);
}

#[tokio::test]
async fn a_missing_password_secret_is_named_and_the_check_goes_on_once_it_is_there() {
    let tenant = Tenant::new("repo-secret").await;
    tenant.volume("main").await;
    let repository: Result<BackupRepository, _> = tenant
        .create(json!({ "metadata": { "name": "main" }, "spec": {
            "storage": { "persistentVolumeClaim": { "claimName": "main" } },
            "passwordSecret": { "name": "not-yet" },
        }}))
        .await;
    let repository = repository.expect("a repository");
    let check = tenantatlas::kinds::backup_repository::decide::check_name(&repository);
    let status = tenant.waiting(&check, Reason::MissingDependency, SOON).await;
    assert!(status.message.unwrap_or_default().contains("not-yet"));
    tenant.password("not-yet", PASSWORD);
    tenant.ready("main").await;
}

#[tokio::test]
async fn a_password_is_generated_once_and_a_lost_one_is_not_replaced() {
    let tenant = Tenant::new("repo-generate").await;
    let folder = tenant.volume("main").await;
    let repository = json!({ "metadata": { "name": "main" }, "spec": {
        "storage": { "persistentVolumeClaim": { "claimName": "main" } },
        "passwordSecret": { "name": "made", "generate": true },
    }});
    tenant.create::<BackupRepository>(repository.clone()).await.expect("a repository");
    tenant.ready("main").await;
    let secrets: Api<Secret> = tenant.api();
    let secret = secrets.get("made").await.expect("the Secret is there");
    let password = String::from_utf8(secret.data.expect("data")["password"].0.clone()).expect("text");
    assert_eq!(Restic::with_password(folder.clone(), password).snapshots().len(), 0, "stock restic opens it");
    assert_ended(&tenant.capture("backup").await, Outcome::Succeeded, Reason::Succeeded);
    // The check of a new BackupRepository cannot open the store without the Secret, and does not change the store.
    tenant.api::<BackupRepository>().delete("main", &Default::default()).await.expect("it is deleted");
    tenant.api::<BackupSet>().delete_collection(&Default::default(), &Default::default()).await.expect("no sets");
    secrets.delete("made", &Default::default()).await.expect("it is deleted");
    tenant.create::<BackupRepository>(repository).await.expect("a repository");
    tenant.not_ready("main", "WrongPassword", &["no new password is generated", "Secret made"]).await;
    assert!(secrets.get_opt("made").await.expect("a read").is_none(), "no Secret is made for it");
    assert!(folder.join("config").is_file());
}

#[tokio::test]
async fn a_missing_claim_is_named_and_the_check_goes_on_once_it_is_there() {
    let tenant = Tenant::new("repo-claim").await;
    tenant.password("main", PASSWORD);
    let repository: Result<BackupRepository, _> = tenant
        .create(json!({ "metadata": { "name": "main" }, "spec": {
            "storage": { "persistentVolumeClaim": { "claimName": "main" } },
            "passwordSecret": { "name": "main" },
        }}))
        .await;
    let repository = repository.expect("a repository");
    let check = tenantatlas::kinds::backup_repository::decide::check_name(&repository);
    let status = tenant.waiting(&check, Reason::Unschedulable, SOON).await;
    assert!(status.message.unwrap_or_default().contains("main"), "the scheduler's own words name the claim");
    tenant.volume("main").await;
    tenant.ready("main").await;
}

#[tokio::test]
async fn a_volume_with_other_things_on_it_is_not_touched() {
    let tenant = Tenant::new("repo-foreign").await;
    let folder = tenant.volume("main").await;
    std::fs::write(folder.join("holiday.jpg"), "not a repository").expect("a file on the volume");
    tenant.password("main", PASSWORD);
    let repository: Result<BackupRepository, _> = tenant
        .create(json!({ "metadata": { "name": "main" }, "spec": {
            "storage": { "persistentVolumeClaim": { "claimName": "main" } },
            "passwordSecret": { "name": "main" },
        }}))
        .await;
    repository.expect("a repository");
    tenant.not_ready("main", "NotARepository", &["holiday.jpg"]).await;
    let left: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the volume").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [folder.join("holiday.jpg")], "nothing was written beside it");
}

#[tokio::test]
async fn another_tenants_repository_is_refused_even_with_its_password() {
    let tenant = Tenant::new("repo-owner").await;
    let restic = tenant.repository("main").await;
    let other = tenant.beside("repo-thief").await;
    other.volume_at("main", restic.volume()).await;
    other.password("main", PASSWORD);
    let repository: Result<BackupRepository, _> = other
        .create(json!({ "metadata": { "name": "main" }, "spec": {
            "storage": { "persistentVolumeClaim": { "claimName": "main" } },
            "passwordSecret": { "name": "main" },
        }}))
        .await;
    repository.expect("a repository");
    other.not_ready("main", "OwnedByAnother", &[&tenant.uid, "adopt"]).await;
}

#[tokio::test]
async fn a_flipped_bit_is_found_when_data_are_read_and_a_lost_pack_at_once() {
    let tenant = Tenant::new("repo-damaged").await;
    let restic = tenant.repository("main").await;
    tenant.noise("noise", 100_000);
    assert_ended(&tenant.capture("backup").await, Outcome::Succeeded, Reason::Succeeded);
    let pack = largest(&restic.folder().join("data"));
    let mut bytes = std::fs::read(&pack).expect("a pack");
    let good = bytes.clone();
    bytes[1000] ^= 1;
    std::fs::write(&pack, &bytes).expect("the pack can be written");
    assert_eq!(tenant.check("structure", json!({})).await.outcome, Outcome::Succeeded, "it is not looked at");
    let status = tenant.check("data", json!({ "readDataPercent": 100 })).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("Damaged")));
    tenant.not_ready("main", "Damaged", &[]).await;

    std::fs::remove_file(&pack).expect("the pack can be removed");
    let status = tenant.check("lost", json!({})).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("Damaged")));
    std::fs::write(&pack, &good).expect("the pack can be put back");
    assert_eq!(tenant.check("mended", json!({ "readDataPercent": 100 })).await.outcome, Outcome::Succeeded);
    tenant.ready("main").await;
}

#[tokio::test]
async fn an_emptied_store_is_told_and_not_made_anew_while_backup_sets_name_it() {
    let tenant = Tenant::new("repo-emptied").await;
    let restic = tenant.repository("main").await;
    assert_ended(&tenant.capture("backup").await, Outcome::Succeeded, Reason::Succeeded);
    let folder = restic.folder();
    for entry in std::fs::read_dir(&folder).expect("the repository").flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("it can be removed");
    }
    let status = tenant.capture("into-nothing").await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("RepositoryVanished")));
    let status = tenant.check("finds-nothing", json!({})).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("RepositoryVanished")));
    tenant.not_ready("main", "RepositoryVanished", &["backup", "bring back"]).await;
    assert_eq!(std::fs::read_dir(&folder).expect("the volume").count(), 0, "nothing was made");

    let sets: Api<BackupSet> = tenant.api();
    sets.delete("backup", &DeleteParams::default()).await.expect("it can be deleted");
    assert_eq!(tenant.check("begins-anew", json!({})).await.outcome, Outcome::Succeeded);
    tenant.ready("main").await;
    assert_ended(&tenant.capture("backup-2").await, Outcome::Succeeded, Reason::Succeeded);
}

pub(crate) fn largest(folder: &std::path::Path) -> PathBuf {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the repository").flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files.into_iter().max_by_key(|file| file.metadata().map_or(0, |metadata| metadata.len())).expect("a pack")
}

#[tokio::test]
async fn a_full_volume_is_told_and_what_was_stored_before_stays_readable() {
    let tenant = Tenant::new("repo-full").await;
    // A few megabytes, made by `cargo xtask test` inside the cluster: this machine does not see what is on it.
    let small = PathBuf::from(crate::support::cluster::environment("ATLAS_SMALL_VOLUME"));
    tenant.volume_at("main", &small).await;
    tenant.password("main", PASSWORD);
    let repository: Result<BackupRepository, _> = tenant
        .create(json!({ "metadata": { "name": "main" }, "spec": {
            "storage": { "persistentVolumeClaim": { "claimName": "main" } },
            "passwordSecret": { "name": "main" },
        }}))
        .await;
    repository.expect("a repository");
    tenant.ready("main").await;
    assert_ended(&tenant.capture("fits").await, Outcome::Succeeded, Reason::Succeeded);
    for number in 0..10 {
        tenant.noise(&format!("noise-{number}"), 800_000);
    }
    let status = tenant.capture("too-much").await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("StoreFull")));
    assert!(status.message.unwrap_or_default().contains("enlarge"));
    assert_eq!(status.attempts, Some(1), "trying again would not help");
    assert_eq!(status.context.backup_set, None);
    let status = tenant.check("still-whole", json!({ "readDataPercent": 100 })).await;
    assert_eq!(status.outcome, Outcome::Succeeded, "{:?}", status.message);
}

#[tokio::test]
async fn a_store_that_nobody_answers_at_is_unreachable_and_says_what_to_check() {
    let tenant = Tenant::new("repo-unreachable").await;
    tenant.password("main", PASSWORD);
    // A Service without a backend: the cluster itself refuses the connection.
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "store" },
        "spec": { "ports": [{ "port": 9000 }] } });
    tenant.apply(&service.to_string());
    let path = "jsonpath={.spec.clusterIP}";
    let address =
        tenant.cluster.kubectl_prints(&["get", "service", "store", "--namespace", &tenant.name, "--output", path]);
    let keys = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" },
        "stringData": { "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b" } });
    tenant.apply(&keys.to_string());
    let repository: Result<BackupRepository, _> = tenant
        .create(json!({ "metadata": { "name": "main" }, "spec": {
            "storage": { "s3": { "bucket": "backups", "endpoint": format!("http://{address}:9000") } },
            "credentialsSecret": { "name": "keys" },
            "passwordSecret": { "name": "main" },
        }}))
        .await;
    let repository = repository.expect("a repository");
    let check = tenantatlas::kinds::backup_repository::decide::check_name(&repository);
    // It is tried again with a growing delay before it is given up: a store may come back.
    let status = tenant.completed(&check, SOON * 4).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("StoreUnreachable")));
    tenant.not_ready("main", "StoreUnreachable", &[&address, "endpoint"]).await;
}
