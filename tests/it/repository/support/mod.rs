//! What the tests of the repository share.

pub mod faults;
#[path = "../../../shared/s3.rs"]
#[allow(dead_code, reason = "shared with the tests on a cluster")]
pub mod s3;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tempfile::TempDir;
use tenantatlas::repository::{
    CaptureOptions, CaptureSummary, Entry, ItemPath, Location, OwnerMarker, Ownership, Repository as _, RepositoryKey,
    Result, RusticRepository, Timeouts, WriterPermit, entries,
};

static CLOCK: AtomicI64 = AtomicI64::new(0);

pub const PASSWORD: &str = "correct horse battery staple";

/// A directory to keep a repository in, removed with the value.
pub struct Volume {
    directory: TempDir,
}

impl Volume {
    pub fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn location(&self) -> Location {
        Location::FileSystem { path: self.path().to_owned() }
    }

    /// All files below a directory of the repository.
    pub fn files(&self, directory: &str) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut todo = vec![self.path().join(directory)];
        while let Some(directory) = todo.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }
}

pub fn owner() -> Ownership {
    owned_by("cluster-1", "namespace-1")
}

pub fn owned_by(cluster_uid: &str, namespace_uid: &str) -> Ownership {
    Ownership {
        owner: OwnerMarker {
            cluster_uid: cluster_uid.to_owned(),
            namespace_uid: namespace_uid.to_owned(),
            created_by: "test".to_owned(),
        },
        adopt: Vec::new(),
    }
}

pub fn password() -> RepositoryKey {
    RepositoryKey::Password(PASSWORD.to_owned())
}

/// A master key, which opens in a millisecond; tests that are not about keys use it.
pub fn master_key() -> RepositoryKey {
    RepositoryKey::from_secret(RepositoryKey::generate_master_key().unwrap().as_bytes()).unwrap()
}

/// Short enough for tests, long enough for a busy machine.
pub fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(2),
        request: Duration::from_secs(5),
        retries: 2,
        total: Duration::from_secs(10),
    }
}

pub async fn open(location: &Location, key: &RepositoryKey) -> Result<RusticRepository> {
    RusticRepository::open_or_init(location, &timeouts(), key, &owner()).await
}

pub fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

pub fn options(run: &str) -> CaptureOptions {
    CaptureOptions {
        audit: None,
        run_uid: run.to_owned(),
        host: "cluster-1".to_owned(),
        tags: vec!["coverage=full".to_owned()],
        // Each later than the one before.
        time: time(CLOCK.fetch_add(1, Ordering::Relaxed)),
        permit: WriterPermit::without_maintenance(),
    }
}

pub fn entry(kind: &str, name: &str, content: &str) -> Entry {
    Entry {
        path: ItemPath::new("apps", "v1", kind, name).unwrap(),
        content: content.to_owned().into(),
        mtime: time(-1000),
    }
}

/// Offers everything and finishes, beside the capture.
pub async fn capture_with(
    repository: &RusticRepository,
    items: Vec<Entry>,
    options: CaptureOptions,
) -> Result<CaptureSummary> {
    let (mut sender, receiver) = entries();
    let offering = async move {
        for item in items {
            if sender.offer(item).await.is_err() {
                return;
            }
        }
        let _ = sender.finish().await;
    };
    tokio::join!(repository.capture(receiver, options), offering).0
}

pub async fn capture(repository: &RusticRepository, run: &str, items: Vec<Entry>) -> Result<CaptureSummary> {
    capture_with(repository, items, options(run)).await
}

/// A few items of several kinds, in listing order.
pub fn items() -> Vec<Entry> {
    vec![
        entry("ConfigMap", "a", "{\"data\":{\"one\":\"1\"}}"),
        entry("ConfigMap", "a-b", "{\"data\":{\"two\":\"2\"}}"),
        entry("ConfigMap", "a.b", "{}"),
        entry("Deployment", "web", "{\"spec\":{\"replicas\":3}}"),
    ]
}

/// Content that does not compress.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}
