//! Taking a snapshot, and believing it only after it was read back.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_core::repofile::{MasterKey, SnapshotFile};
use rustic_core::{BackupOptions, Open, Repository, SnapshotOptions};

use super::engine;
use super::entry::Offered;
use super::error::{Error, Result};
use super::read;
use super::snapshot::{AUDIT_TAG, RUN_TAG, Snapshot};
use super::source::{Intake, Source, Tally};
use super::store::BlockingStore;

/// What a capture is to be recorded as.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// The uid of the run. There is at most one snapshot a run: a second capture returns the first one's snapshot.
    pub run_uid: String,
    /// The host to record: where it came from, such as the cluster's name.
    pub host: String,
    /// More tags, without commas. Captures with the same tags are compared with each other.
    pub tags: Vec<String>,
    /// The end of the tenant's audit chain, so that whoever cuts or alters it later is found: a tag that does not count
    /// when captures are compared.
    pub audit: Option<String>,
    /// The snapshot's time.
    pub time: Timestamp,
    /// The permit to write, which must still be held when the snapshot is recorded.
    pub permit: WriterPermit,
}

/// The permit to write to a repository, held beside other writers, but never beside maintenance.
///
/// Pruning while a snapshot is written can delete what that snapshot relies on, though both report success. Who hands out
/// permits keeps the two apart; here, no snapshot is recorded once the permit is lost.
#[derive(Clone)]
pub struct WriterPermit(Arc<dyn Fn() -> bool + Send + Sync>);

impl WriterPermit {
    /// A permit that is held as long as `held` says so. It is asked from any thread and must not block.
    pub fn new(held: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(held))
    }

    /// A permit for a repository that nothing ever prunes.
    #[must_use]
    pub fn without_maintenance() -> Self {
        Self::new(|| true)
    }

    pub(super) fn is_held(&self) -> bool {
        (self.0)()
    }
}

impl fmt::Debug for WriterPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WriterPermit(held: {})", self.is_held())
    }
}

/// What a capture recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSummary {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether everything is as in the latest snapshot before it with the same tags.
    pub unchanged: bool,
    /// Whether an earlier attempt of the same run had recorded it already.
    pub earlier_attempt: bool,
    /// How many packs the index names that are not there, or not in full. What this capture needed of them was
    /// stored again, but older snapshots are damaged: a check says which.
    pub lost_packs: usize,
}

/// Captures what is offered, and reads it back.
pub(super) fn capture<R: Read + Send + 'static>(
    store: &BlockingStore,
    key: &MasterKey,
    offers: impl Iterator<Item = Offered<R>> + Send + 'static,
    options: &CaptureOptions,
) -> Result<CaptureSummary> {
    let intake = Arc::new(Intake::default());
    let opened = engine::open(store, key, Some(gate(store, &intake, &options.permit)))?;
    let mut earlier = snapshots(&opened)?;
    if let Some(summary) = earlier_attempt(store, key, &opened.repository, &earlier, options)? {
        return Ok(summary);
    }
    earlier.retain(|file| Snapshot::from_file(file).run_uid.as_ref() != Some(&options.run_uid));
    let template = template(options)?;
    let (opened, lost_packs) = opened.for_writing()?;

    let mut backup = BackupOptions::default();
    // Without it a change of equal size counts as none wherever the times are equal, and is lost without any error.
    backup.parent_opts.force = true;
    backup.no_scan = true;
    let source = Source::new(offers, intake.clone(), opened.backend.clone());
    let written = opened
        .repository
        .archive(&backup, &source, template, &[PathBuf::from("/")])
        .map_err(|error| opened.backend.explain(&error, |cause| engine::internal("capturing", cause)))?;
    let snapshot = Snapshot::from_file(&written);

    confirm(store, key, &opened.repository, &written, |tally| {
        tally.equals(&intake.offered()) && tally.items == snapshot.items
    })?;
    Ok(summarize(snapshot, &earlier, false, lost_packs))
}

/// The last word before the snapshot file is written: incomplete, disordered or unpermitted captures leave none, which
/// a later attempt would take for the run's snapshot.
fn gate(store: &BlockingStore, intake: &Arc<Intake>, permit: &WriterPermit) -> super::backend::SnapshotGate {
    let (intake, permit, location) = (intake.clone(), permit.clone(), store.description().to_owned());
    Box::new(move || {
        intake.verdict()?;
        if permit.is_held() { Ok(()) } else { Err(Error::PermitLost { location: location.clone() }) }
    })
}

fn snapshots(opened: &engine::Opened<rustic_core::OpenStatus>) -> Result<Vec<SnapshotFile>> {
    let mut snapshots = opened.repository.get_all_snapshots().map_err(|error| opened.explain(&error))?;
    snapshots.sort_by_key(|snapshot| (snapshot.time.timestamp(), snapshot.id));
    Ok(snapshots)
}

/// The snapshot of an earlier attempt that died before it could report. It may also have died before it
/// read its snapshot back, so that is done now.
fn earlier_attempt<S: Open>(
    store: &BlockingStore,
    key: &MasterKey,
    repository: &Repository<S>,
    earlier: &[SnapshotFile],
    options: &CaptureOptions,
) -> Result<Option<CaptureSummary>> {
    for file in earlier {
        let snapshot = Snapshot::from_file(file);
        if snapshot.run_uid.as_ref() != Some(&options.run_uid) {
            continue;
        }
        match confirm(store, key, repository, file, |tally| {
            (tally.items, tally.bytes) == (snapshot.items, snapshot.bytes)
        }) {
            Ok(()) => return Ok(Some(summarize(snapshot, earlier, true, 0))),
            // It was never reported and is gone now; this attempt makes another.
            Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Opens the repository afresh and walks the snapshot's trees; all they name must be indexed and there. A snapshot that fails
/// is removed: nobody was told of it, and nobody shall find it.
fn confirm<S: Open>(
    store: &BlockingStore,
    key: &MasterKey,
    repository: &Repository<S>,
    file: &SnapshotFile,
    expected: impl FnOnce(&Tally) -> bool,
) -> Result<()> {
    let walked = engine::open(store, key, None).and_then(engine::Opened::for_reading).and_then(|fresh| {
        // The file itself, as it lies in the store.
        let stored: SnapshotFile = fresh.repository.get_file(&file.id).map_err(|error| fresh.explain(&error))?;
        read::tally(&fresh, stored.tree)
    });
    let failure = match walked {
        Ok(tally) if expected(&tally) => return Ok(()),
        Ok(tally) => engine::damaged(
            store,
            format!("the new snapshot holds {} items, which are not those that were offered", tally.items),
        ),
        Err(error) => error,
    };
    if let Error::Damaged { .. } = failure {
        // If this fails too, the next attempt comes here again.
        let _ = repository.delete_snapshots(&[file.id]);
    }
    Err(failure)
}

fn summarize(snapshot: Snapshot, earlier: &[SnapshotFile], earlier_attempt: bool, lost_packs: usize) -> CaptureSummary {
    let tags = |snapshot: &Snapshot| snapshot.tags.iter().cloned().collect::<BTreeSet<_>>();
    let before = earlier
        .iter()
        .rev()
        .map(Snapshot::from_file)
        .find(|other| other.id != snapshot.id && other.host == snapshot.host && tags(other) == tags(&snapshot));
    CaptureSummary {
        unchanged: before.is_some_and(|before| before.tree == snapshot.tree),
        snapshot,
        earlier_attempt,
        lost_packs,
    }
}

fn template(options: &CaptureOptions) -> Result<SnapshotFile> {
    let run = format!("{RUN_TAG}{}", options.run_uid);
    let audit = options.audit.as_ref().map(|audit| format!("{AUDIT_TAG}{audit}"));
    let ours: Vec<String> = [run].into_iter().chain(audit).collect();
    let taken = |tag: &String| [RUN_TAG, AUDIT_TAG].iter().any(|begin| tag.starts_with(begin)) && !ours.contains(tag);
    let mut snapshot = SnapshotOptions::default()
        .host(options.host.clone())
        .time(options.time.to_zoned(TimeZone::UTC))
        // Not the worker's command line, which the engine would record.
        .command("tenantatlas".to_owned());
    for tag in options.tags.iter().chain(&ours) {
        if tag.is_empty() || tag.contains(',') || taken(tag) {
            return Err(engine::internal("tagging a snapshot", format!("`{tag}` is not a tag")));
        }
        snapshot =
            snapshot.add_tags(tag).map_err(|error| engine::internal("tagging a snapshot", error.display_log()))?;
    }
    let mut file =
        snapshot.to_snapshot().map_err(|error| engine::internal("preparing a snapshot", error.display_log()))?;
    concat!("tenantatlas ", env!("CARGO_PKG_VERSION")).clone_into(&mut file.program_version);
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use object_store::memory::InMemory;
    use rustic_core::repofile::MasterKey;

    use super::super::entry::Offer;
    use super::super::key::RepositoryKey;
    use super::super::path::ItemPath;
    use super::super::store::Store;
    use super::*;

    /// Content that breaks off, for the names that say so.
    struct Content {
        breaks: bool,
        rest: &'static [u8],
    }

    impl Read for Content {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            if self.breaks && self.rest.is_empty() {
                return Err(std::io::Error::other("broken off"));
            }
            self.rest.read(buffer)
        }
    }

    fn offers(names: &[&str]) -> Vec<Offered<Content>> {
        let mut offers: Vec<_> = names
            .iter()
            .map(|name| {
                Offered::Item(Offer {
                    path: ItemPath::new("", "v1", "ConfigMap", name).unwrap(),
                    size: 2,
                    mtime: Timestamp::UNIX_EPOCH,
                    reader: Content { breaks: name.starts_with("broken"), rest: b"{}" },
                })
            })
            .collect();
        offers.push(Offered::End);
        offers
    }

    fn attempt(store: &BlockingStore, key: &MasterKey, names: &[&str]) -> Result<CaptureSummary> {
        let options = CaptureOptions {
            run_uid: "run-1".to_owned(),
            host: "host".to_owned(),
            tags: Vec::new(),
            audit: None,
            time: Timestamp::UNIX_EPOCH,
            permit: WriterPermit::without_maintenance(),
        };
        capture(store, key, offers(names).into_iter(), &options)
    }

    /// The engine would leave out what it cannot read, and report success.
    #[test]
    fn an_item_that_cannot_be_read_is_named_and_leaves_no_snapshot() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = Store::new(Arc::new(InMemory::new()), "", "memory", Duration::from_secs(10));
        let store = store.blocking(runtime.handle().clone());
        let key = RepositoryKey::from_secret(RepositoryKey::generate_master_key().unwrap().as_bytes()).unwrap();
        let key = engine::create(&store, &key).unwrap();

        let error = attempt(&store, &key, &["a", "broken-1", "broken-2", "c"]).unwrap_err();
        let items = "core/v1/ConfigMap/broken-1.json, core/v1/ConfigMap/broken-2.json".to_owned();
        assert_eq!(error, Error::ItemUnreadable { missing: 2, offered: 4, items });
        assert!(store.list("snapshots").unwrap().is_empty());

        let whole = attempt(&store, &key, &["a", "c"]).unwrap();
        assert_eq!((whole.snapshot.items, whole.earlier_attempt), (2, false));
    }
}
