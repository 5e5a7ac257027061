//! A repository of ours in the hands of the stock `restic`, which must read it when we are gone.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use object_store::local::LocalFileSystem;
use tenantatlas::repository::{Entry, ReadData, Repository as _, RepositoryKey, RusticRepository, Store};

use super::support::faults::{Fault, FaultyStore, Request};
use super::support::s3::{self, SECRET_KEY, Server};
use super::support::{PASSWORD, Volume, capture, entry, items, master_key, open, owner, password};

/// Runs `restic` on a repository, and returns what it printed; it must succeed.
pub fn restic(repository: impl AsRef<Path>, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("restic")
        .args(["--no-cache", "--quiet"])
        .args(arguments)
        .env("RESTIC_REPOSITORY", repository.as_ref().as_os_str())
        .env("RESTIC_PASSWORD", PASSWORD)
        .output()
        .expect("restic is needed by this test: apt-get install restic");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "restic {arguments:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    output.stdout
}

fn offered() -> Vec<Entry> {
    let mut offered = items();
    offered.push(entry("Role", "system:a b", "{\"odd\":true}"));
    offered.push(entry("Role", &"n".repeat(253), "{\"long\":true}"));
    offered.sort_by(|one, other| one.path.cmp(&other.path));
    offered
}

/// Everything restic can do to read, with every byte compared.
fn assert_reads(repository: impl AsRef<Path>, snapshot: &str, offered: &[Entry]) {
    let repository = repository.as_ref();
    assert_restores(repository, snapshot, offered);

    let listed = String::from_utf8(restic(repository, &["ls", snapshot])).unwrap();
    let expected: Vec<_> = offered.iter().map(|entry| format!("/{}", entry.path)).collect();
    // Directories are four levels up to the kind's.
    let files: Vec<_> = listed.lines().filter(|line| line.matches('/').count() == 4).collect();
    assert_eq!(files, expected);

    for entry in offered {
        let dumped = restic(repository, &["dump", snapshot, &format!("/{}", entry.path)]);
        assert_eq!(entry.content, dumped, "{}", entry.path);
    }
}

fn assert_restores(repository: impl AsRef<Path>, snapshot: &str, offered: &[Entry]) {
    let repository = repository.as_ref();
    restic(repository, &["check", "--read-data"]);
    let target = tempfile::TempDir::new().unwrap();
    restic(repository, &["restore", snapshot, "--verify", "--target", target.path().to_str().unwrap()]);
    for entry in offered {
        let file = target.path().join(entry.path.as_str());
        assert_eq!(entry.content, std::fs::read(&file).unwrap(), "{}", entry.path);
        let restored = file.metadata().unwrap().modified().unwrap();
        assert_eq!(restored, std::time::SystemTime::from(entry.mtime), "{}", entry.path);
    }
}

#[tokio::test]
async fn restic_reads_a_repository_made_with_a_password() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &password()).await.unwrap();
    let first = capture(&repository, "5f0c-11", offered()).await.unwrap();
    let mut changed = offered();
    changed[0].content = "{\"changed\":1}".into();
    let second = capture(&repository, "5f0c-12", changed.clone()).await.unwrap();
    assert_reads(volume.path(), &first.snapshot.id, &offered());
    assert_restores(volume.path(), &second.snapshot.id, &changed);

    let snapshots = restic(volume.path(), &["snapshots", "--json", "--tag", "run=5f0c-12"]);
    let snapshots: serde_json::Value = serde_json::from_slice(&snapshots).unwrap();
    assert_eq!(snapshots[0]["id"], second.snapshot.id.as_str());
    assert_eq!(snapshots[0]["hostname"], "cluster-1");
    assert_eq!(snapshots.as_array().unwrap().len(), 1);
    // The owner marker is in nobody's way, and stays.
    assert!(volume.path().join("tenantatlas/owner.json").exists());
    open(&volume.location(), &password()).await.unwrap();
}

#[tokio::test]
async fn restic_reads_a_repository_made_with_a_master_key_once_a_password_was_added() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let captured = capture(&repository, "run-1", offered()).await.unwrap();
    repository.add_key(PASSWORD).await.unwrap();
    assert_restores(volume.path(), &captured.snapshot.id, &offered());
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_reads_a_repository_that_two_created_at_once() {
    let volume = Volume::new();
    let (location, key) = (volume.location(), password());
    let (one, other) = tokio::join!(open(&location, &key), open(&location, &key));
    other.unwrap();
    let captured = capture(&one.unwrap(), "run-1", offered()).await.unwrap();
    assert_restores(volume.path(), &captured.snapshot.id, &offered());
}

#[tokio::test]
async fn restic_reads_what_was_captured_after_a_writer_was_killed() {
    let volume = Volume::new();
    let key = password();
    open(&volume.location(), &key).await.unwrap();
    // Its packs are there, their index is not.
    let puts = AtomicUsize::new(0);
    let inner = Arc::new(LocalFileSystem::new_with_prefix(volume.path()).unwrap());
    let killed = FaultyStore::new(inner, move |request, path| {
        let dies = request == Request::Put && (path.starts_with("index") || puts.fetch_add(1, SeqCst) > 9);
        dies.then_some(Fault::Die)
    });
    let store = Store::new(killed, "", "the volume", Duration::from_secs(10));
    let dying = RusticRepository::open_or_init_in(store, &key, &owner()).await.unwrap();
    capture(&dying, "run-1", offered()).await.unwrap_err();
    let left = volume.files("data");
    assert_eq!(left.len(), 2, "{left:?}");
    // And in the middle of writing a file.
    std::fs::write(format!("{}#1", left[0].display()), "half a pack").unwrap();
    std::fs::write(volume.path().join("snapshots").join("x#1"), "half a snapshot")
        .or_else(|_| {
            std::fs::create_dir(volume.path().join("snapshots"))?;
            std::fs::write(volume.path().join("snapshots").join("x#1"), "half a snapshot")
        })
        .unwrap();

    let repository = open(&volume.location(), &key).await.unwrap();
    let captured = capture(&repository, "run-1", offered()).await.unwrap();
    assert!(!captured.earlier_attempt);
    assert!(repository.check(ReadData::All).await.unwrap().is_ok());
    assert_restores(volume.path(), &captured.snapshot.id, &offered());
}

#[tokio::test(flavor = "multi_thread")]
async fn restic_reads_a_repository_in_a_bucket() {
    let ((root, bucket), keys) = (s3::root(), s3::keys(SECRET_KEY));
    let server = Server::store(root.path(), false).await;
    let repository = open(&s3::bucket(&server, "tenants/acme", keys.path()), &password()).await.unwrap();
    let captured = capture(&repository, "run-1", offered()).await.unwrap();
    // The test's server keeps objects as files. It does not understand the empty delimiter that restic lists with, so
    // restic reads the files.
    assert_restores(bucket.join("tenants/acme"), &captured.snapshot.id, &offered());
}

#[tokio::test]
async fn a_repository_that_restic_made_is_taken_over() {
    // The first version of the format knows no compression.
    for version in ["1", "2"] {
        let volume = Volume::new();
        let path: &Path = volume.path();
        restic(path, &["init", "--repository-version", version]);
        let repository = open(&volume.location(), &password()).await.unwrap();
        let captured = capture(&repository, "run-1", offered()).await.unwrap();
        assert_restores(path, &captured.snapshot.id, &offered());
        assert!(repository.check(ReadData::All).await.unwrap().is_ok());
        let again = capture(&repository, "run-2", offered()).await.unwrap();
        assert!(again.unchanged);
        assert_eq!(again.snapshot.added_bytes, 0);
        let wrong = RepositoryKey::Password("another".to_owned());
        assert_eq!(open(&volume.location(), &wrong).await.unwrap_err().reason(), "WrongPassword");
    }
}

/// A tenant can put anything into its own repository.
#[tokio::test]
async fn a_snapshot_of_another_kind_is_listed_and_not_trusted() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &password()).await.unwrap();
    let other = tempfile::TempDir::new().unwrap();
    std::fs::write(other.path().join("notes.txt"), "x").unwrap();
    restic(volume.path(), &["backup", other.path().to_str().unwrap()]);
    let snapshots = repository.snapshots().await.unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0].run_uid, None);
    assert_eq!(repository.list(&snapshots[0].id).await.unwrap_err().reason(), "UnsafePath");
    capture(&repository, "run-1", items()).await.unwrap();
}
