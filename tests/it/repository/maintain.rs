//! Forgetting and pruning, alone and killed anywhere. Against captures: `worker/maintain.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use jiff::SignedDuration;
use object_store::local::LocalFileSystem;
use tenantatlas::repository::{
    Entry, Error, Pruned, Pruning, ReadData, Repository as _, RepositoryKey, RetryClass, RusticRepository, Snapshot,
    Store, WriterPermit,
};

use super::restic::restic;
use super::support::faults::{Fault, FaultyStore, Request};
use super::support::{PASSWORD, Volume, capture, entry, master_key, noise, open, owner};

fn free() -> WriterPermit {
    WriterPermit::without_maintenance()
}

async fn forget(repository: &RusticRepository, snapshot: &str) {
    repository.forget(vec![snapshot.to_owned()], free()).await.unwrap();
}

async fn prune(repository: &RusticRepository, keep_marked: SignedDuration) -> Result<Pruned, Error> {
    repository.prune(Pruning { keep_marked, permit: free() }).await
}

const AT_ONCE: SignedDuration = SignedDuration::ZERO;
const IN_AN_HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Items that share one among all generations, and hold one of their own of some kilobytes.
fn generation(number: usize) -> Vec<Entry> {
    let noise = hex::encode(noise(4096 + number));
    vec![
        entry("ConfigMap", "own", &format!("{{\"generation\":{number},\"noise\":\"{noise}\"}}")),
        entry("ConfigMap", "shared", "{\"the\":\"same\"}"),
    ]
}

async fn assert_whole(repository: &RusticRepository, snapshot: &str, number: usize) {
    let offered = generation(number);
    let paths = offered.iter().map(|entry| entry.path.clone()).collect();
    let contents = repository.read(snapshot, paths).await.unwrap();
    assert!(offered.iter().map(|entry| entry.content.to_vec()).eq(contents), "generation {number}");
}

async fn assert_sound(repository: &RusticRepository) {
    let report = repository.check(ReadData::All).await.unwrap();
    assert!(report.is_ok() && report.damaged.is_empty(), "{report:?}");
}

/// A repository on a volume, of which each process may have a view that fails.
struct Place {
    volume: Volume,
    key: RepositoryKey,
}

impl Place {
    fn new() -> Self {
        Self { volume: Volume::new(), key: master_key() }
    }

    async fn open(&self) -> RusticRepository {
        open(&self.volume.location(), &self.key).await.unwrap()
    }

    /// A process that dies at the write of this number, after it has opened.
    async fn dying(&self, at: usize) -> RusticRepository {
        self.failing(at, |request| matches!(request, Request::Put | Request::Delete).then_some(Fault::Die)).await
    }

    /// A process whose store loses the object of this number that is written, after it has opened.
    async fn losing(&self, at: usize) -> RusticRepository {
        self.failing(at, |request| (request == Request::Put).then_some(Fault::Lose)).await
    }

    /// What happens to the request of this number, of those to which something may happen.
    async fn failing(&self, at: usize, fault: fn(Request) -> Option<Fault>) -> RusticRepository {
        let inner = Arc::new(LocalFileSystem::new_with_prefix(self.volume.path()).unwrap());
        let requests = AtomicUsize::new(0);
        let store = FaultyStore::new(inner, move |request, path| {
            // Of opening there are tests elsewhere.
            let fault = fault(request).filter(|_| !path.starts_with("tenantatlas"))?;
            (requests.fetch_add(1, SeqCst) == at).then_some(fault)
        });
        let store = Store::new(store, "", "the test's store", Duration::from_secs(10));
        RusticRepository::open_or_init_in(store, &self.key, &owner()).await.unwrap()
    }

    fn packs(&self) -> usize {
        self.volume.files("data").len()
    }
}

#[tokio::test]
async fn what_no_snapshot_needs_is_marked_first_and_deleted_once_that_was_long_enough_ago() {
    let place = Place::new();
    let repository = place.open().await;
    let old = capture(&repository, "old", generation(1)).await.unwrap().snapshot;
    let new = capture(&repository, "new", generation(2)).await.unwrap().snapshot;
    let bytes = repository.stats().await.unwrap().stored_bytes;

    assert_eq!(prune(&repository, AT_ONCE).await.unwrap().deleted, 0, "all of it is needed");
    forget(&repository, &old.id).await;
    assert_eq!(repository.snapshots().await.unwrap(), std::slice::from_ref(&new));
    let packs = place.packs();
    let marked = prune(&repository, IN_AN_HOUR).await.unwrap();
    assert!(marked.marked > 4096 && marked.deleted == 0, "{marked:?}");
    let again = prune(&repository, IN_AN_HOUR).await.unwrap();
    assert!(again.deleted == 0 && place.packs() >= packs, "{again:?}");
    assert_sound(&repository).await;

    let deleted = prune(&repository, AT_ONCE).await.unwrap();
    assert!(deleted.deleted > 4096, "{deleted:?}");
    assert!(repository.stats().await.unwrap().stored_bytes < bytes);
    assert_whole(&repository, &new.id, 2).await;
    assert_sound(&repository).await;
}

#[tokio::test]
async fn restic_reads_what_maintenance_has_left() {
    let place = Place::new();
    let repository = place.open().await;
    let mut snapshots = Vec::new();
    for number in 0..4 {
        snapshots.push(capture(&repository, &format!("run-{number}"), generation(number)).await.unwrap().snapshot.id);
    }
    repository.add_key(PASSWORD).await.unwrap();
    for keep in [IN_AN_HOUR, AT_ONCE] {
        forget(&repository, &snapshots.remove(0)).await;
        prune(&repository, keep).await.unwrap();
        restic(place.volume.path(), &["check", "--read-data"]);
        let dumped = restic(place.volume.path(), &["dump", &snapshots[0], "/apps/v1/ConfigMap/shared.json"]);
        assert_eq!(dumped, b"{\"the\":\"same\"}");
    }
}

#[tokio::test]
async fn a_capture_does_not_rely_on_what_is_marked() {
    let place = Place::new();
    let repository = place.open().await;
    let first = capture(&repository, "first", generation(1)).await.unwrap().snapshot;
    forget(&repository, &first.id).await;
    prune(&repository, IN_AN_HOUR).await.unwrap();
    let second = capture(&repository, "second", generation(1)).await.unwrap().snapshot;
    assert!(second.added_bytes > 4096, "it is stored again");
    prune(&repository, AT_ONCE).await.unwrap();
    assert_whole(&repository, &second.id, 1).await;
    assert_sound(&repository).await;
}

#[tokio::test]
async fn what_a_late_writer_came_to_need_is_taken_back_before_it_is_deleted() {
    let place = Place::new();
    let repository = place.open().await;
    let snapshot = capture(&repository, "late", generation(1)).await.unwrap().snapshot;
    let file = place.volume.files("snapshots").remove(0);
    let content = std::fs::read(&file).unwrap();
    forget(&repository, &snapshot.id).await;
    prune(&repository, IN_AN_HOUR).await.unwrap();
    // As if its snapshot had been on its way all the while.
    std::fs::write(&file, content).unwrap();
    let report = repository.check(ReadData::No).await.unwrap();
    assert_eq!(report.damaged, [snapshot.id.as_str()], "it cannot be read for now");
    prune(&repository, AT_ONCE).await.unwrap();
    assert_whole(&repository, &snapshot.id, 1).await;
    assert_sound(&repository).await;
}

#[tokio::test]
async fn what_a_killed_writer_left_goes_and_marks_that_are_carried_over_are_no_damage() {
    let place = Place::new();
    let repository = place.open().await;
    let snapshots = [
        capture(&repository, "run-0", generation(0)).await.unwrap().snapshot.id,
        capture(&repository, "run-1", generation(1)).await.unwrap().snapshot.id,
    ];
    let folder = place.volume.path().join("data/ab");
    std::fs::create_dir_all(&folder).unwrap();
    let left = folder.join(format!("ab{}", "0".repeat(62)));
    std::fs::write(&left, noise(5000)).unwrap();
    for number in 2..5 {
        prune(&repository, IN_AN_HOUR).await.unwrap();
        assert_sound(&repository).await;
        capture(&repository, &format!("run-{number}"), generation(number)).await.unwrap();
    }
    forget(&repository, &snapshots[0]).await;
    prune(&repository, AT_ONCE).await.unwrap();
    assert!(!left.exists(), "nothing names it");
    assert_whole(&repository, &snapshots[1], 1).await;
    assert_sound(&repository).await;
}

/// A repository of generations 1 and 2 whose pruning was killed before it removed the index files that it had replaced: packs are both
/// indexed and marked. The first snapshot had been forgotten, and is there again.
async fn half_pruned(place: &Place, repository: &RusticRepository) -> [Snapshot; 2] {
    let first = capture(repository, "first", generation(1)).await.unwrap().snapshot;
    let kept = capture(repository, "kept", generation(2)).await.unwrap().snapshot;
    let indexes: Vec<_> = place.volume.files("index").into_iter().map(|file| (std::fs::read(&file), file)).collect();
    let snapshot = place.volume.path().join("snapshots").join(&first.id);
    let content = std::fs::read(&snapshot).unwrap();
    forget(repository, &first.id).await;
    prune(repository, IN_AN_HOUR).await.unwrap();
    for (content, file) in indexes {
        std::fs::write(file, content.unwrap()).unwrap();
    }
    std::fs::write(&snapshot, content).unwrap();
    [first, kept]
}

#[tokio::test]
async fn in_a_half_pruned_repository_a_lost_pack_is_found_all_the_same() {
    // Packs of content and of trees, the index, the snapshot.
    for lost_at in 0..4 {
        let place = Place::new();
        let repository = place.open().await;
        let [first, kept] = half_pruned(&place, &repository).await;
        let losing = place.losing(lost_at).await;
        let error = capture(&losing, "new", generation(3)).await.unwrap_err();
        assert_eq!(error.reason(), "Damaged", "without write {lost_at}: {error}");
        let left: Vec<_> = repository.snapshots().await.unwrap().into_iter().map(|snapshot| snapshot.id).collect();
        assert_eq!(left, [first.id.clone(), kept.id.clone()], "nobody shall find it");
        assert_whole(&repository, &kept.id, 2).await;
    }
    let place = Place::new();
    let repository = place.open().await;
    half_pruned(&place, &repository).await;
    let before = place.volume.files("data");
    let new = capture(&repository, "new", generation(3)).await.unwrap().snapshot;
    let largest = |file: &PathBuf| file.metadata().unwrap().len();
    let packs = place.volume.files("data").into_iter().filter(|file| !before.contains(file));
    std::fs::remove_file(packs.max_by_key(largest).unwrap()).unwrap();
    let report = repository.check(ReadData::No).await.unwrap();
    assert_eq!(report.damaged, [new.id], "{report:?}");
}

#[tokio::test]
async fn a_pack_that_is_both_indexed_and_marked_is_read_and_not_relied_on() {
    let place = Place::new();
    let repository = place.open().await;
    let [first, kept] = half_pruned(&place, &repository).await;
    let snapshot = place.volume.path().join("snapshots").join(&first.id);
    // Index files are read in any order: whatever depends on it fails now and then.
    for round in 0..10 {
        assert_whole(&repository, &first.id, 1).await;
        assert_whole(&repository, &kept.id, 2).await;
        let again = capture(&repository, &format!("again-{round}"), generation(1)).await.unwrap().snapshot;
        assert_eq!(again.added_bytes > 4096, round == 0, "it is stored again, once");
    }
    std::fs::remove_file(&snapshot).unwrap();
    prune(&repository, AT_ONCE).await.unwrap();
    prune(&repository, AT_ONCE).await.unwrap();
    assert_whole(&repository, &kept.id, 2).await;
    assert_sound(&repository).await;
}

#[tokio::test]
async fn nothing_is_removed_from_a_repository_in_which_something_is_missing() {
    let place = Place::new();
    let repository = place.open().await;
    let old = capture(&repository, "old", generation(1)).await.unwrap().snapshot;
    let lost = place.volume.files("data");
    capture(&repository, "new", generation(2)).await.unwrap();
    // The shared item lies there, and the new snapshot needs it.
    for file in &lost {
        std::fs::remove_file(file).unwrap();
    }
    forget(&repository, &old.id).await;
    let left = (place.volume.files("data"), place.volume.files("index"));
    let error = prune(&repository, AT_ONCE).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("Damaged", RetryClass::Permanent), "{error}");
    assert_eq!((place.volume.files("data"), place.volume.files("index")), left);
}

#[tokio::test]
async fn a_check_names_the_snapshots_that_are_damaged_and_no_others() {
    for (reads, at) in [(ReadData::No, 0), (ReadData::No, 1), (ReadData::All, 0), (ReadData::All, 1)] {
        let place = Place::new();
        let repository = place.open().await;
        let mut snapshots = BTreeMap::new();
        let mut packs = BTreeMap::new();
        for number in 0..3 {
            let before: BTreeSet<_> = place.volume.files("data").into_iter().collect();
            let items = vec![entry("ConfigMap", "own", &format!("{{\"generation\":{number}}}"))];
            let id = capture(&repository, &format!("run-{number}"), items).await.unwrap().snapshot.id;
            snapshots.insert(number, id);
            let new: Vec<_> = place.volume.files("data").into_iter().filter(|file| !before.contains(file)).collect();
            packs.insert(number, new);
        }
        // One of content, one of trees.
        assert_eq!(packs[&1].len(), 2);
        let pack = &packs[&1][at];
        if reads == ReadData::No {
            std::fs::remove_file(pack).unwrap();
        } else {
            let mut content = std::fs::read(pack).unwrap();
            content[3] ^= 1;
            std::fs::write(pack, content).unwrap();
        }
        let report = repository.check(reads).await.unwrap();
        assert!(!report.is_ok());
        assert_eq!(report.damaged, [snapshots[&1].clone()], "{report:?}");
    }
}

#[tokio::test]
async fn without_its_permit_maintenance_writes_nothing_more_and_leaves_a_whole_repository() {
    // Lost before the first write, then before the second, and so on, until all of them were allowed.
    for allowed in 0.. {
        let place = Place::new();
        let repository = place.open().await;
        let old = capture(&repository, "old", generation(1)).await.unwrap().snapshot;
        let new = capture(&repository, "new", generation(2)).await.unwrap().snapshot;
        let asked = Arc::new(AtomicUsize::new(0));
        let permit = WriterPermit::new({
            let asked = asked.clone();
            move || asked.fetch_add(1, SeqCst) < allowed
        });
        let mut ended = repository.forget(vec![old.id.clone()], permit.clone()).await;
        if ended.is_ok() {
            ended = repository.prune(Pruning { keep_marked: AT_ONCE, permit }).await.map(|_| ());
        }
        assert_whole(&repository, &new.id, 2).await;
        assert_sound(&repository).await;
        match ended {
            Ok(()) => {
                assert!(allowed > 2, "more than one write needs the permit");
                return;
            }
            Err(error) => assert_eq!((error.reason(), error.retry_class()), ("PermitLost", RetryClass::Transient)),
        }
    }
}

/// A snapshot of each; their ids.
async fn four_generations(repository: &RusticRepository) -> Vec<String> {
    let mut snapshots = Vec::new();
    for number in 0..4 {
        let run = format!("run-{number}");
        snapshots.push(capture(repository, &run, generation(number)).await.unwrap().snapshot.id);
    }
    snapshots
}

#[tokio::test]
async fn killed_at_any_write_maintenance_leaves_all_that_is_needed_and_the_next_one_ends_it() {
    for died_at in 0.. {
        let place = Place::new();
        let repository = place.open().await;
        let snapshots = four_generations(&repository).await;
        // There are marks to carry over, and some that are due.
        forget(&repository, &snapshots[0]).await;
        prune(&repository, IN_AN_HOUR).await.unwrap();
        let dying = place.dying(died_at).await;
        let mut ended = dying.forget(vec![snapshots[1].clone()], free()).await;
        if ended.is_ok() {
            ended = prune(&dying, AT_ONCE).await.map(|_| ());
        }
        for (number, snapshot) in snapshots.iter().enumerate().skip(2) {
            assert_whole(&repository, snapshot, number).await;
        }
        assert_sound(&repository).await;
        // A capture goes on with what was left, and so does the next maintenance.
        let after = capture(&repository, "after", generation(1)).await.unwrap().snapshot;
        let is_there = repository.snapshots().await.unwrap().iter().any(|snapshot| snapshot.id == snapshots[1]);
        if is_there {
            forget(&repository, &snapshots[1]).await;
        }
        prune(&repository, AT_ONCE).await.unwrap();
        prune(&repository, AT_ONCE).await.unwrap();
        assert_whole(&repository, &after.id, 1).await;
        assert_sound(&repository).await;
        if ended.is_ok() {
            assert!(died_at >= 5, "there are more writes than {died_at}");
            return;
        }
    }
}

#[tokio::test]
async fn what_the_store_acknowledges_and_loses_ends_maintenance_before_anything_is_removed() {
    for lost_at in 0.. {
        let place = Place::new();
        let repository = place.open().await;
        let snapshots = four_generations(&repository).await;
        forget(&repository, &snapshots[1]).await;
        prune(&repository, IN_AN_HOUR).await.unwrap();
        let losing = place.losing(lost_at).await;
        // Beside what it alone needed lies what all share, which moves into a new pack.
        losing.forget(vec![snapshots[0].clone()], free()).await.unwrap();
        let (packs, indexes) = (place.volume.files("data"), place.volume.files("index"));
        let ended = prune(&losing, AT_ONCE).await;
        for (number, snapshot) in snapshots.iter().enumerate().skip(2) {
            assert_whole(&repository, snapshot, number).await;
        }
        assert_sound(&repository).await;
        let Err(error) = ended else {
            assert!(lost_at >= 2, "there are more writes than {lost_at}");
            return;
        };
        assert_eq!((error.reason(), error.retry_class()), ("StoreFailed", RetryClass::Transient), "{error}");
        assert!(error.to_string().contains("which it had acknowledged"), "{error}");
        let left = (place.volume.files("data"), place.volume.files("index"));
        assert!(packs.iter().all(|pack| left.0.contains(pack)) && indexes.iter().all(|index| left.1.contains(index)));
        // With a store that keeps what it takes, the next one ends it.
        prune(&repository, AT_ONCE).await.unwrap();
        prune(&repository, AT_ONCE).await.unwrap();
        assert_whole(&repository, &snapshots[3], 3).await;
        assert_sound(&repository).await;
    }
}
