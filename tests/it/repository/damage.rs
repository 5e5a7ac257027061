//! Damage: found, told, and never made worse.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use object_store::local::LocalFileSystem;
use tenantatlas::repository::{
    Error, ReadData, Repository as _, RepositoryKey, RetryClass, RusticRepository, Snapshot, Store,
};

use super::support::faults::{Fault, FaultyStore, Request};
use super::support::{Volume, capture, entry, items, master_key, open, owner};

struct Captured {
    volume: Volume,
    key: RepositoryKey,
    repository: RusticRepository,
    snapshot: Snapshot,
}

async fn captured() -> Captured {
    let (volume, key) = (Volume::new(), master_key());
    let repository = open(&volume.location(), &key).await.unwrap();
    let snapshot = capture(&repository, "run-1", items()).await.unwrap().snapshot;
    Captured { volume, key, repository, snapshot }
}

impl Captured {
    async fn read_all(&self, snapshot: &str) -> Result<Vec<Vec<u8>>, Error> {
        let paths = items().into_iter().map(|entry| entry.path).collect();
        self.repository.read(snapshot, paths).await
    }

    async fn assert_whole(&self, snapshot: &str) {
        let contents = self.read_all(snapshot).await.unwrap();
        assert!(items().iter().map(|entry| entry.content.to_vec()).eq(contents));
    }

    fn remove(&self, directory: &str) {
        let files = self.volume.files(directory);
        assert!(!files.is_empty());
        for file in files {
            std::fs::remove_file(file).unwrap();
        }
    }
}

fn flip(file: &Path) {
    let mut content = std::fs::read(file).unwrap();
    // Within the content of a pack, not in the header at its end.
    let at = content.len() / 4;
    content[at] ^= 0x40;
    std::fs::write(file, content).unwrap();
}

fn assert_damaged(error: &Error) {
    assert_eq!((error.reason(), error.retry_class()), ("Damaged", RetryClass::Permanent), "{error}");
}

#[tokio::test]
async fn content_of_a_lost_pack_is_stored_again_and_not_taken_for_stored() {
    let captured = captured().await;
    captured.remove("data");
    assert_damaged(&captured.read_all(&captured.snapshot.id).await.unwrap_err());
    let report = captured.repository.check(ReadData::No).await.unwrap();
    assert!(report.errors > 0 && !report.findings.is_empty(), "{report:?}");

    let again = capture(&captured.repository, "run-2", items()).await.unwrap();
    assert_eq!(again.lost_packs, 2, "one of content, one of trees");
    assert!(again.unchanged, "the tree is the same");
    captured.assert_whole(&again.snapshot.id).await;
    captured.assert_whole(&captured.snapshot.id).await;
}

#[tokio::test]
async fn content_of_a_truncated_pack_is_stored_again() {
    let captured = captured().await;
    for file in captured.volume.files("data") {
        let length = file.metadata().unwrap().len();
        std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(length - 10).unwrap();
    }
    assert!(!captured.repository.check(ReadData::No).await.unwrap().is_ok());
    let again = capture(&captured.repository, "run-2", items()).await.unwrap();
    assert_eq!(again.lost_packs, 2);
    captured.assert_whole(&again.snapshot.id).await;
}

#[tokio::test]
async fn flipped_bits_are_found_by_reading_and_by_a_check_of_the_data() {
    let captured = captured().await;
    for file in captured.volume.files("data") {
        flip(&file);
    }
    assert_damaged(&captured.read_all(&captured.snapshot.id).await.unwrap_err());
    let report = captured.repository.check(ReadData::All).await.unwrap();
    assert!(!report.is_ok(), "{report:?}");
}

#[tokio::test]
async fn checks_in_a_row_read_all_content_part_by_part() {
    let captured = captured().await;
    for number in 0..6 {
        let extra = vec![entry("Secret", &format!("s-{number}"), &format!("content {number}"))];
        capture(&captured.repository, &format!("extra-{number}"), extra).await.unwrap();
    }
    let mut damaged = 0;
    for file in captured.volume.files("data") {
        flip(&file);
        if captured.repository.check(ReadData::No).await.unwrap().is_ok() {
            damaged += 1;
        } else {
            // A pack of trees, which every check reads.
            flip(&file);
        }
    }
    assert_eq!(damaged, 7);
    let mut found = 0;
    for part in 0..4 {
        let report = captured.repository.check(ReadData::Part { part, of: 4 }).await.unwrap();
        assert!(report.errors < damaged, "only a part of it");
        found += report.errors;
    }
    assert_eq!(found, damaged);
    assert!(captured.repository.check(ReadData::percent(0, 0)).await.unwrap().is_ok());
    assert!(captured.repository.check(ReadData::percent(100, 0)).await.unwrap().errors == damaged);
}

#[tokio::test]
async fn a_lost_index_damages_what_was_and_not_what_comes() {
    let captured = captured().await;
    captured.remove("index");
    assert_damaged(&captured.read_all(&captured.snapshot.id).await.unwrap_err());
    assert!(!captured.repository.check(ReadData::No).await.unwrap().is_ok());
    let again = capture(&captured.repository, "run-2", items()).await.unwrap();
    captured.assert_whole(&again.snapshot.id).await;
}

#[tokio::test]
async fn a_flipped_index_or_snapshot_is_damage() {
    for directory in ["index", "snapshots"] {
        let captured = captured().await;
        flip(&captured.volume.files(directory)[0]);
        assert_damaged(&captured.read_all(&captured.snapshot.id).await.unwrap_err());
        match captured.repository.check(ReadData::No).await {
            Ok(report) => assert!(!report.is_ok(), "{report:?}"),
            Err(error) => assert_damaged(&error),
        }
        assert_damaged(&capture(&captured.repository, "run-2", items()).await.unwrap_err());
    }
}

#[tokio::test]
async fn a_flipped_config_or_key_is_told() {
    let captured = captured().await;
    captured.repository.add_key(super::support::PASSWORD).await.unwrap();
    let config = captured.volume.path().join("config");
    flip(&config);
    assert_damaged(&open(&captured.volume.location(), &super::support::password()).await.unwrap_err());
    assert_eq!(open(&captured.volume.location(), &captured.key).await.unwrap_err().reason(), "WrongPassword");
    flip(&config);
    std::fs::write(&captured.volume.files("keys")[0], "{}").unwrap();
    assert_damaged(&open(&captured.volume.location(), &super::support::password()).await.unwrap_err());
}

/// A store that does something right when the snapshot file is written.
async fn with_hook(
    volume: &Volume,
    key: &RepositoryKey,
    hook: impl Fn(Request, &str) -> Option<Fault> + Send + Sync + 'static,
) -> RusticRepository {
    let inner = LocalFileSystem::new_with_prefix(volume.path()).unwrap();
    let store = Store::new(FaultyStore::new(Arc::new(inner), hook), "", "the test's store", Duration::from_secs(10));
    RusticRepository::open_or_init_in(store, key, &owner()).await.unwrap()
}

#[tokio::test]
async fn a_snapshot_that_a_prune_made_unreadable_is_not_reported() {
    let (volume, key) = (Volume::new(), master_key());
    open(&volume.location(), &key).await.unwrap();
    let data = volume.path().join("data");
    let pruned = with_hook(&volume, &key, move |request, path| {
        // All packs go away between the writing of the last one and of the snapshot.
        if request == Request::Put && path.starts_with("snapshots/") {
            std::fs::remove_dir_all(&data).unwrap();
        }
        None
    })
    .await;
    let error = capture(&pruned, "run-1", items()).await.unwrap_err();
    assert_damaged(&error);

    let repository = open(&volume.location(), &key).await.unwrap();
    assert_eq!(repository.snapshots().await.unwrap(), [], "nobody shall find it");
    let retried = capture(&repository, "run-1", items()).await.unwrap();
    assert!(!retried.earlier_attempt);
    Captured { snapshot: retried.snapshot.clone(), volume, key, repository }.assert_whole(&retried.snapshot.id).await;
}

#[tokio::test]
async fn an_earlier_attempts_snapshot_is_believed_only_if_it_is_whole() {
    let captured = captured().await;
    // Died after the snapshot was written, before it was read back; then its content went.
    captured.remove("data");
    let retried = capture(&captured.repository, "run-1", items()).await.unwrap();
    assert!(!retried.earlier_attempt);
    captured.assert_whole(&retried.snapshot.id).await;
    assert_eq!(captured.repository.snapshots().await.unwrap(), [retried.snapshot]);
}

#[tokio::test]
async fn a_writer_killed_at_any_request_leaves_a_good_repository() {
    // Packs of content and of trees, the index, the snapshot.
    for survived in 0..4 {
        let (volume, key) = (Volume::new(), master_key());
        open(&volume.location(), &key).await.unwrap();
        let puts = AtomicUsize::new(0);
        let killed = with_hook(&volume, &key, move |request, _| {
            let dies = request == Request::Put && puts.fetch_add(1, SeqCst) == survived;
            dies.then_some(Fault::Die)
        })
        .await;
        let error = capture(&killed, "run-1", items()).await.unwrap_err();
        assert_eq!(error.retry_class(), RetryClass::Transient, "{error}");

        let repository = open(&volume.location(), &key).await.unwrap();
        assert_eq!(repository.snapshots().await.unwrap(), []);
        let snapshot = capture(&repository, "run-1", items()).await.unwrap().snapshot;
        let report = repository.check(ReadData::All).await.unwrap();
        assert!(report.is_ok(), "killed after {survived}: {report:?}");
        let id = snapshot.id.clone();
        Captured { volume, key, repository, snapshot }.assert_whole(&id).await;
    }
}

#[tokio::test]
async fn what_the_store_acknowledges_and_loses_of_a_capture_is_told_and_harms_no_earlier_snapshot() {
    // Packs of content and of trees, the index, the snapshot.
    for lost_at in 0.. {
        let captured = captured().await;
        let (repository, earlier) = (&captured.repository, &captured.snapshot.id);
        let puts = AtomicUsize::new(0);
        let losing = with_hook(&captured.volume, &captured.key, move |request, _| {
            (request == Request::Put && puts.fetch_add(1, SeqCst) == lost_at).then_some(Fault::Lose)
        })
        .await;
        let more = || vec![entry("ConfigMap", "another", "{\"data\":{}}")];
        let ended = capture(&losing, "run-2", more()).await;
        captured.assert_whole(earlier).await;
        if ended.is_ok() {
            assert_eq!(lost_at, 4, "each of the writes is needed");
            return;
        }
        assert_damaged(&ended.unwrap_err());
        let left: Vec<_> = repository.snapshots().await.unwrap().into_iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(left, std::slice::from_ref(earlier), "nobody shall find it");
        // With a store that keeps what it takes.
        let again = capture(repository, "run-2", more()).await.unwrap().snapshot;
        assert_eq!(repository.list(&again.id).await.unwrap().len(), 1);
        assert_eq!(repository.read(&again.id, vec![more().remove(0).path]).await.unwrap(), [more().remove(0).content]);
    }
}

#[tokio::test]
async fn packs_that_no_index_names_are_not_relied_on() {
    // The engine alone would, and `restic`, which reads indexes only, could not read the snapshot.
    let captured = captured().await;
    captured.remove("index");
    captured.remove("snapshots");
    let again = capture(&captured.repository, "run-2", items()).await.unwrap();
    assert!(again.snapshot.added_bytes > 0);
    assert!(captured.repository.check(ReadData::All).await.unwrap().is_ok());
}
