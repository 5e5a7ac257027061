//! A tenant's repository in a bucket: an S3 server of this machine, asked by the tenant's pods.

#[path = "../shared/s3.rs"]
#[allow(dead_code, reason = "shared with the tests that need no cluster")]
mod s3;

use crate::support::cluster::environment;
use crate::support::repository::{PASSWORD, Restic};
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant};
use s3::{ACCESS_KEY, SECRET_KEY, Server};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use tempfile::TempDir;
use tenantatlas::api::{BackupRepository, Outcome, Reason};

/// A bucket on a server that speaks TLS with a certificate of its own. It ends with the value.
pub(crate) struct Bucket {
    server: Server,
    root: TempDir,
}

impl Bucket {
    pub(crate) async fn new() -> Self {
        let (root, _) = s3::root();
        let server = Server::store_at(&environment("ATLAS_HOST_ADDRESS"), root.path(), true).await;
        Self { server, root }
    }

    /// Where the repository's files are: below the prefix.
    pub(crate) fn folder(&self) -> PathBuf {
        self.below("teams/acme")
    }

    /// The bucket as the storage of a repository, at this prefix.
    pub(crate) fn storage(&self, prefix: &str) -> Value {
        json!({ "s3": { "bucket": "backups", "prefix": prefix, "endpoint": self.server.endpoint(),
            "region": "eu-1", "caBundle": self.server.certificate } })
    }

    /// A folder of the bucket on this machine.
    pub(crate) fn below(&self, path: &str) -> PathBuf {
        self.root.path().join("backups").join(path)
    }

    /// The Secret `keys` with what the server wants to see.
    pub(crate) fn keys(tenant: &Tenant) {
        let keys = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "keys" },
            "stringData": { "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY } });
        tenant.apply(&keys.to_string());
    }

    /// What a person has who knows where the bucket is and what opens it: a tenant's repository `main` in it, with its Secrets.
    /// Nobody has looked at it yet.
    pub(crate) async fn opened_by(&self, tenant: &Tenant) {
        tenant.password("main", PASSWORD);
        Self::keys(tenant);
        let repository: Result<BackupRepository, _> = tenant
            .create(json!({ "metadata": { "name": "main" }, "spec": {
                "storage": self.storage("teams/acme"),
                "credentialsSecret": { "name": "keys" },
                "passwordSecret": { "name": "main" },
            }}))
            .await;
        repository.expect("a repository");
    }
}

/// A bucket with the tenant's repository in it.
async fn bucket(tenant: &Tenant) -> Bucket {
    let bucket = Bucket::new().await;
    bucket.opened_by(tenant).await;
    tenant.ready("main").await;
    bucket
}

#[tokio::test]
async fn a_tenant_is_captured_into_a_bucket_and_the_stock_restic_reads_it() {
    let tenant = Tenant::new("bucket").await;
    let kept =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "kept" }, "data": { "text": "hello" } });
    tenant.apply(&kept.to_string());
    let bucket = bucket(&tenant).await;
    tenant.start("backup", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    let status = tenant.completed("backup", SOON * 2).await;
    assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
    let folder = bucket.folder();
    assert!(folder.join("config").is_file(), "in the bucket, below the prefix");
    let restic = Restic::on(folder);
    let snapshots = restic.snapshots_of(&tenant.run("backup").await);
    assert_eq!(snapshots.len(), 1);
    let snapshot = snapshots[0]["id"].as_str().expect("an id");
    assert_eq!(restic.dump(snapshot, "/core/v1/ConfigMap/kept.json")["data"]["text"], "hello");
    restic.prints(&["check", "--read-data"]);
}

#[tokio::test]
async fn a_run_whose_store_falls_silent_ends_at_its_timeout_and_says_so() {
    let tenant = Tenant::new("bucket-silent").await;
    let bucket = bucket(&tenant).await;
    bucket.server.silent.store(true, SeqCst);
    let run = json!({ "type": "backup.capture", "inputs": { "repository": "main" }, "timeoutSeconds": 15 });
    tenant.start("backup", run).await;
    let status = tenant.completed("backup", SOON * 2).await;
    assert_ended(&status, Outcome::Failed, Reason::TimedOut);
    assert!(status.message.unwrap_or_default().contains("15 s"));
    assert_eq!(Restic::on(bucket.below("")).snapshots().len(), 0);
    bucket.server.silent.store(false, SeqCst);
    tenant.start("again", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    assert_ended(&tenant.completed("again", SOON * 2).await, Outcome::Succeeded, Reason::Succeeded);
}
