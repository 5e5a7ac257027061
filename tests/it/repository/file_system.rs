//! Volumes that fail.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use object_store::local::LocalFileSystem;
use tenantatlas::repository::{Entry, Repository as _, RetryClass, RusticRepository, Store, entries};

use super::support::faults::{Fault, FaultyStore, Request};
use super::support::{Volume, capture, entry, items, master_key, noise, open, options, owner};

/// A repository on a volume that begins to fail on the given request.
async fn failing(volume: &Volume, on: Request, fault: fn() -> Fault) -> RusticRepository {
    let key = master_key();
    let repository = open(&volume.location(), &key).await.unwrap();
    capture(&repository, "before", items()).await.unwrap();
    let inner = Arc::new(LocalFileSystem::new_with_prefix(volume.path()).unwrap());
    let failing = FaultyStore::new(inner, move |request, path| {
        // Opening succeeds; what a capture reads and writes does not.
        (request == on && !path.starts_with("tenantatlas") && path != "config" && !path.is_empty()).then(fault)
    });
    let store = Store::new(failing, "", "the volume", Duration::from_millis(300));
    RusticRepository::open_or_init_in(store, &key, &owner()).await.unwrap()
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_no_snapshot() {
    for kind in [|| Fault::Io(std::io::ErrorKind::StorageFull), || Fault::Io(std::io::ErrorKind::QuotaExceeded)] {
        let volume = Volume::new();
        let repository = failing(&volume, Request::Put, kind).await;
        let error = capture(&repository, "run-1", items()).await.unwrap_err();
        assert_eq!((error.reason(), error.retry_class()), ("StoreFull", RetryClass::Permanent));
        assert!(error.to_string().contains("enlarge"), "{error}");
        assert_eq!(volume.files("snapshots").len(), 1, "only the one from before");
    }
}

#[tokio::test]
async fn once_the_disk_is_full_nothing_more_is_read() {
    let volume = Volume::new();
    let repository = failing(&volume, Request::Put, || Fault::Io(std::io::ErrorKind::StorageFull)).await;
    let (mut sender, receiver) = entries();
    let offering = async move {
        let mut content = noise(128 * 1024);
        // Half a gigabyte: packs are of 8 MiB.
        for number in 0..4000_u16 {
            content[..2].copy_from_slice(&number.to_le_bytes());
            let item = Entry { content: content.clone().into(), ..entry("ConfigMap", &format!("c-{number:04}"), "{}") };
            if sender.offer(item).await.is_err() {
                return number;
            }
        }
        4000
    };
    let (captured, offered) = tokio::join!(repository.capture(receiver, options("run-1")), offering);
    assert_eq!(captured.unwrap_err().reason(), "StoreFull");
    assert!(offered < 2000, "{offered} items were read for nothing");
}

#[tokio::test]
async fn reading_a_snapshot_costs_a_request_a_pack_and_not_one_an_item() {
    let (volume, key) = (Volume::new(), master_key());
    let repository = open(&volume.location(), &key).await.unwrap();
    let offered: Vec<_> = (0..500).map(|number| entry("ConfigMap", &format!("c-{number:03}"), "{}")).collect();
    let snapshot = capture(&repository, "run-1", offered.clone()).await.unwrap().snapshot;
    let requests = Arc::new(AtomicUsize::new(0));
    let inner = Arc::new(LocalFileSystem::new_with_prefix(volume.path()).unwrap());
    let counted = requests.clone();
    let counting = FaultyStore::new(inner, move |request, path| {
        if request == Request::Get && path.starts_with("data/") {
            counted.fetch_add(1, SeqCst);
        }
        None
    });
    let store = Store::new(counting, "", "the volume", Duration::from_secs(10));
    let repository = RusticRepository::open_or_init_in(store, &key, &owner()).await.unwrap();
    let paths = offered.iter().map(|entry| entry.path.clone()).collect();
    assert_eq!(repository.read(&snapshot.id, paths).await.unwrap().len(), 500);
    assert_eq!(requests.load(SeqCst), volume.files("data").len());
}

/// A real one, where the test may mount one.
struct SmallVolume(Volume);

impl SmallVolume {
    fn mount() -> Option<Self> {
        let volume = Volume::new();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(volume.path())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(volume))
    }
}

impl Drop for SmallVolume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_is_usable_again_once_there_is_space() {
    let Some(small) = SmallVolume::mount() else {
        eprintln!("no right to mount: only the injected fault above was tried, not a real full disk");
        return;
    };
    let (volume, key) = (&small.0, master_key());
    let repository = open(&volume.location(), &key).await.unwrap();
    let before = capture(&repository, "run-1", items()).await.unwrap();
    let large = Entry { content: noise(3_000_000).into(), ..entry("Secret", "large", "") };
    let large = vec![large];
    let error = capture(&repository, "run-2", large).await.unwrap_err();
    assert_eq!(error.reason(), "StoreFull", "{error}");
    assert_eq!(repository.snapshots().await.unwrap(), [before.snapshot]);
    let after = capture(&repository, "run-2", items()).await.unwrap();
    assert!(after.unchanged);
}

#[tokio::test]
async fn a_volume_that_may_not_be_written_is_told() {
    for kind in
        [|| Fault::Io(std::io::ErrorKind::PermissionDenied), || Fault::Io(std::io::ErrorKind::ReadOnlyFilesystem)]
    {
        let volume = Volume::new();
        let repository = failing(&volume, Request::Put, kind).await;
        let error = capture(&repository, "run-1", items()).await.unwrap_err();
        assert_eq!((error.reason(), error.retry_class()), ("AccessDenied", RetryClass::Permanent));
    }
}

#[tokio::test]
async fn a_volume_that_hangs_is_unreachable_within_the_bound() {
    for request in [Request::Put, Request::Get, Request::List] {
        let volume = Volume::new();
        let repository = failing(&volume, request, || Fault::Hang).await;
        let began = Instant::now();
        let error = capture(&repository, "run-1", items()).await.unwrap_err();
        assert_eq!((error.reason(), error.retry_class()), ("StoreUnreachable", RetryClass::Transient), "{request:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }
}
