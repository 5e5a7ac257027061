//! Capturing and reading back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tenantatlas::repository::{
    CaptureEnded, CaptureOptions, Entry, Error, ItemPath, ReadData, Repository as _, RetryClass, RusticRepository,
    WriterPermit, entries,
};

use super::support::{Volume, capture, capture_with, entry, items, master_key, noise, open, options, time};

async fn assert_holds(repository: &RusticRepository, snapshot: &str, offered: &[Entry]) {
    let mut paths: Vec<_> = offered.iter().map(|entry| entry.path.clone()).collect();
    let contents = repository.read(snapshot, paths.clone()).await.unwrap();
    for (entry, content) in offered.iter().zip(contents) {
        assert_eq!(entry.content, content, "{}", entry.path);
    }
    paths.sort();
    let listed: Vec<_> = repository.list(snapshot).await.unwrap().into_iter().map(|item| item.path).collect();
    assert_eq!(listed, paths);
}

#[tokio::test]
async fn what_was_captured_is_read_back_byte_by_byte() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let summary = capture(&repository, "run-1", items()).await.unwrap();
    assert_eq!(summary.snapshot.items, 4);
    assert_eq!(summary.snapshot.bytes, items().iter().map(|entry| entry.content.len() as u64).sum::<u64>());
    assert_eq!(summary.lost_packs, 0);
    assert!(!summary.unchanged && !summary.earlier_attempt);
    assert_holds(&repository, &summary.snapshot.id, &items()).await;
    let report = repository.check(ReadData::All).await.unwrap();
    assert!(report.is_ok() && report.warnings == 0, "{report:?}");
}

#[tokio::test]
async fn an_open_snapshot_gives_items_in_any_order_and_one_that_is_not_there_fails_alone() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let summary = capture(&repository, "run-1", items()).await.unwrap();
    let reader = repository.reader(&summary.snapshot.id).await.unwrap();
    let offered = items();
    let mut paths: Vec<_> = reader.items().await.unwrap().into_iter().map(|item| item.path).collect();
    paths.reverse();
    let absent = entry("Secret", "nobody", "").path;
    paths.insert(1, absent);
    let contents = reader.read(paths.clone()).await.unwrap();
    for (path, content) in paths.iter().zip(contents) {
        match offered.iter().find(|entry| entry.path == *path) {
            Some(entry) => assert_eq!(entry.content, content.unwrap(), "{path}"),
            None => assert!(matches!(content, Err(Error::ItemNotFound { .. })), "{content:?}"),
        }
    }
    let missing = repository.reader(&"0".repeat(64)).await.map(|_| ());
    assert!(matches!(missing, Err(Error::SnapshotNotFound { .. })), "{missing:?}");
}

#[tokio::test]
async fn a_derived_key_follows_from_the_repository_and_the_purpose() {
    let (volume, key) = (Volume::new(), master_key());
    let repository = open(&volume.location(), &key).await.unwrap();
    let again = open(&volume.location(), &key).await.unwrap();
    assert_eq!(repository.derived_key("a"), again.derived_key("a"));
    assert_ne!(repository.derived_key("a"), repository.derived_key("b"));
    let (volume, key) = (Volume::new(), master_key());
    let other = open(&volume.location(), &key).await.unwrap();
    assert_ne!(repository.derived_key("a"), other.derived_key("a"));
}

#[tokio::test]
async fn a_change_of_equal_size_is_a_change() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let web = |replicas: u8| vec![entry("Deployment", "web", &format!("{{\"replicas\":{replicas}}}"))];
    capture(&repository, "run-1", web(3)).await.unwrap();
    let changed = capture(&repository, "run-2", web(5)).await.unwrap();
    assert!(!changed.unchanged);
    assert_holds(&repository, &changed.snapshot.id, &web(5)).await;
    let same = capture(&repository, "run-3", web(5)).await.unwrap();
    assert!(same.unchanged);
    assert_eq!(same.snapshot.added_bytes, 0, "{same:?}");
}

#[tokio::test]
async fn a_run_has_one_snapshot_however_often_it_is_tried() {
    let volume = Volume::new();
    let key = master_key();
    let repository = open(&volume.location(), &key).await.unwrap();
    let first = capture(&repository, "run-1", items()).await.unwrap();
    // Another process, and by now other items.
    let repository = open(&volume.location(), &key).await.unwrap();
    let again = capture(&repository, "run-1", vec![entry("Secret", "new", "{}")]).await.unwrap();
    assert!(again.earlier_attempt);
    assert_eq!(again.snapshot, first.snapshot);
    assert_eq!(repository.find_snapshot("run-1").await.unwrap(), Some(first.snapshot.clone()));
    assert_eq!(repository.find_snapshot("run-2").await.unwrap(), None);
    assert_eq!(repository.snapshots().await.unwrap(), [first.snapshot]);
}

#[tokio::test]
async fn the_offering_side_is_told_when_nothing_more_is_wanted() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    capture(&repository, "run-1", items()).await.unwrap();
    let (mut sender, receiver) = entries();
    // Whoever archives would wait for items, and nothing is offered before it is over.
    let over = tokio::time::timeout(Duration::from_mins(1), repository.capture(receiver, options("run-1"))).await;
    over.expect("the snapshot is there: nothing to wait for").unwrap();
    assert_eq!(sender.offer(entry("ConfigMap", "a", "{}")).await, Err(CaptureEnded));
}

#[tokio::test]
async fn a_worker_that_dies_halfway_leaves_no_snapshot() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let (mut sender, receiver) = entries();
    let dying = async move {
        for item in items() {
            sender.offer(item).await.unwrap();
        }
        drop(sender);
    };
    let error = tokio::join!(repository.capture(receiver, options("run-1")), dying).0.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("Interrupted", RetryClass::Transient));
    assert_eq!(repository.snapshots().await.unwrap(), []);

    let retried = capture(&repository, "run-1", items()).await.unwrap();
    assert!(!retried.earlier_attempt);
    assert_holds(&repository, &retried.snapshot.id, &items()).await;
}

#[tokio::test]
async fn kinds_out_of_order_are_refused_by_name_and_leave_no_snapshot() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let unordered = vec![entry("Secret", "z", "{}"), entry("ConfigMap", "a", "{}"), entry("Secret", "y", "{}")];
    let error = capture(&repository, "run-1", unordered).await.unwrap_err();
    assert_eq!(
        error,
        Error::OutOfOrder { earlier: "apps/v1/Secret/z.json".to_owned(), later: "apps/v1/ConfigMap/a.json".to_owned() }
    );
    let twice = vec![entry("Secret", "z", "{}"), entry("Secret", "z", "{}")];
    assert_eq!(capture(&repository, "run-1", twice).await.unwrap_err().reason(), "OutOfOrder");
    assert_eq!(repository.snapshots().await.unwrap(), []);
}

#[tokio::test]
async fn no_snapshot_is_recorded_once_the_permit_is_lost() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let held = Arc::new(AtomicBool::new(true));
    let permit = WriterPermit::new({
        let held = held.clone();
        move || held.load(Ordering::SeqCst)
    });
    let (mut sender, receiver) = entries();
    let offering = async move {
        for item in items() {
            sender.offer(item).await.unwrap();
        }
        held.store(false, Ordering::SeqCst);
        sender.finish().await.unwrap();
    };
    let options = CaptureOptions { permit, ..options("run-1") };
    let error = tokio::join!(repository.capture(receiver, options), offering).0.unwrap_err();
    assert_eq!((error.reason(), error.retry_class()), ("PermitLost", RetryClass::Transient));
    assert_eq!(repository.snapshots().await.unwrap(), []);
}

#[tokio::test]
async fn an_empty_namespace_is_a_snapshot_too() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let summary = capture(&repository, "run-1", Vec::new()).await.unwrap();
    assert_eq!((summary.snapshot.items, summary.snapshot.bytes), (0, 0));
    assert_eq!(repository.list(&summary.snapshot.id).await.unwrap(), []);
    assert!(repository.check(ReadData::All).await.unwrap().is_ok());
}

#[tokio::test]
async fn odd_names_and_sizes_come_back_as_they_were() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let named = |name: &str| entry("Role", name, &format!("{{\"name\":{name:?}}}"));
    let sized = |name: &str, size: usize| Entry { content: noise(size).into(), ..entry("Secret", name, "") };
    let mut offered: Vec<_> = ["system:a b", "\u{1}", "\"quoted\\", "%", &"n".repeat(253), &"n".repeat(252), "ü", "~"]
        .into_iter()
        .map(named)
        .collect();
    offered.sort_by_key(|entry| String::from_utf8(entry.content.to_vec()).unwrap());
    offered.sort_by(|one, other| one.path.cmp(&other.path));
    // A chunk is 4 MiB, and 8 MiB may be in flight.
    let chunk = 4 * 1024 * 1024;
    offered.extend([
        sized("a-empty", 0),
        sized("b-chunk", chunk),
        sized("c-over", chunk + 1),
        sized("d-large", 3 * chunk),
    ]);
    let summary = capture(&repository, "run-1", offered.clone()).await.unwrap();
    assert_eq!(summary.snapshot.items, offered.len() as u64);
    assert_holds(&repository, &summary.snapshot.id, &offered).await;
    assert!(repository.check(ReadData::All).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn captures_beside_each_other_are_all_whole() {
    let volume = Volume::new();
    let key = master_key();
    let repository = open(&volume.location(), &key).await.unwrap();
    let mut captures = tokio::task::JoinSet::new();
    for number in 0..4 {
        let repository = repository.clone();
        captures.spawn(async move {
            let mut offered = items();
            offered.push(entry("Secret", "own", &number.to_string()));
            (capture(&repository, &format!("run-{number}"), offered.clone()).await.unwrap(), offered)
        });
    }
    for (summary, offered) in captures.join_all().await {
        assert_holds(&repository, &summary.snapshot.id, &offered).await;
    }
    assert!(repository.check(ReadData::All).await.unwrap().is_ok());
}

#[tokio::test]
async fn unchanged_is_told_against_captures_of_the_same_kind() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    capture(&repository, "full-1", items()).await.unwrap();
    let partial = CaptureOptions { tags: vec!["coverage=partial".to_owned()], ..options("partial-1") };
    let first = capture_with(&repository, items()[..1].to_vec(), partial).await.unwrap();
    assert!(!first.unchanged);
    let later = CaptureOptions { audit: Some("000000000002:0a".to_owned()), ..options("full-2") };
    let full = capture_with(&repository, items(), later).await.unwrap();
    assert!(full.unchanged, "neither the partial snapshot between them counts, nor the audit chain that has grown");
}

#[tokio::test]
async fn a_snapshot_records_what_it_was_told() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let given = CaptureOptions {
        host: "blue".to_owned(),
        tags: vec!["coverage=full".to_owned(), "type=backup.capture".to_owned()],
        audit: Some("000000000001:0a".to_owned()),
        time: time(77),
        ..options("5f0c")
    };
    capture_with(&repository, items(), given).await.unwrap();
    let snapshots = repository.snapshots().await.unwrap();
    let [snapshot] = snapshots.as_slice() else { panic!("{snapshots:?}") };
    assert_eq!(snapshot.host, "blue");
    assert_eq!(snapshot.tags, ["coverage=full", "type=backup.capture"]);
    assert_eq!(snapshot.audit.as_deref(), Some("000000000001:0a"));
    assert_eq!(snapshot.time, time(77));
    assert_eq!(snapshot.run_uid.as_deref(), Some("5f0c"));
    assert_eq!(snapshot.id.len(), 64);

    for tag in ["", "a,b", "run=other", "audit=other"] {
        let options = CaptureOptions { tags: vec![tag.to_owned()], ..options("run-9") };
        assert!(capture_with(&repository, items(), options).await.is_err(), "{tag:?}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let summary = capture(&repository, "run-1", items()).await.unwrap();
    let absent = ItemPath::new("apps", "v1", "Deployment", "absent").unwrap();
    let error = repository.read(&summary.snapshot.id, vec![absent]).await.unwrap_err();
    assert_eq!(error.reason(), "ItemNotFound");
    assert_eq!(repository.list("0123").await.unwrap_err().reason(), "SnapshotNotFound");
}

#[tokio::test]
async fn sizes_are_measured() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    assert_eq!(repository.stats().await.unwrap().dedup_ratio(), None);
    for run in 0..10 {
        let large = entry("Secret", "large", &"same in every snapshot ".repeat(2000));
        capture(&repository, &format!("run-{run}"), vec![large]).await.unwrap();
    }
    let stats = repository.stats().await.unwrap();
    assert_eq!((stats.snapshots, stats.unique_bytes), (10, 46_000));
    assert_eq!(stats.restorable_bytes, 460_000);
    let on_disk: u64 = ["data", "index", "snapshots", "keys"]
        .iter()
        .flat_map(|directory| volume.files(directory))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(stats.stored_bytes, on_disk);
    assert!(stats.dedup_ratio().unwrap() > 10.0, "{stats:?}");
}

/// Snapshots of earlier versions are deduplicated against, and so are those that the engine itself would make: this id
/// is from a version in which the engine wrote the trees.
#[tokio::test]
async fn the_same_items_make_the_same_tree_in_every_version() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &master_key()).await.unwrap();
    let item = |group: &str, kind: &str, name: &str, content: String| Entry {
        path: ItemPath::new(group, "v1", kind, name).unwrap(),
        content: content.into(),
        mtime: time(-1000),
    };
    let offered = vec![
        item("apps", "Deployment", "web", "{\"replicas\":3}".to_owned()),
        item("apps", "StatefulSet", "\"quoted\\ü", "{}".to_owned()),
        item("", "ConfigMap", "empty", String::new()),
        item("", "Secret", "large", "0123456789".repeat(900_000)),
        item("", "Secret", "small", "{}".to_owned()),
        item("example.com", "Widget", &"n".repeat(253), "{}".to_owned()),
    ];
    let captured = capture(&repository, "run-1", offered).await.unwrap();
    assert_eq!(captured.snapshot.tree, "87ad5881c90878b667d9aafc62c48159f0acd7c558d311356ab65d54bbbd8141");
}
