//! Taking a snapshot, and believing it only after it was read back.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use rustic_core::repofile::{MasterKey, SnapshotFile, SnapshotSummary};
use rustic_core::{FileType, Open, Repository, SnapshotOptions};

use super::archive::{Archived, Target, archive};
use super::backend::about;
use super::engine;
use super::entry::Offered;
use super::error::{Error, Result};
use super::pack::store_file;
use super::permit::WriterPermit;
use super::read;
use super::seal::Sealer;
use super::snapshot::{AUDIT_TAG, RUN_TAG, Snapshot};
use super::store::BlockingStore;
use super::stored::Stored;
use super::tally::Tally;

/// What snapshots say they were made by.
const COMMAND: &str = "tenantatlas";

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
pub(super) fn capture(
    store: &BlockingStore,
    key: &MasterKey,
    offers: impl Iterator<Item = Offered>,
    options: &CaptureOptions,
) -> Result<CaptureSummary> {
    let opened = engine::open(store, key)?;
    let mut earlier = snapshots(&opened)?;
    if let Some(summary) = earlier_attempt(store, key, &opened.repository, &earlier, options)? {
        return Ok(summary);
    }
    earlier.retain(|file| Snapshot::from_file(file).run_uid.as_ref() != Some(&options.run_uid));
    let mut file = template(options)?;
    let level = opened.repository.config().zstd().map_err(|error| opened.explain(&error))?;
    let stored = Stored::load(&opened)?;
    let archived = archive(offers, &Target { store, key, level, stored: &stored, time: options.time })?;

    // The last moment to refuse: who finds a snapshot takes it for whole.
    if !options.permit.is_held() {
        return Err(Error::PermitLost { location: store.description().to_owned() });
    }
    record(&mut file, &archived);
    file.id = store_file(store, &mut Sealer::new(key, level)?, FileType::Snapshot, &file)?.into();
    let snapshot = Snapshot::from_file(&file);
    confirm(store, key, &opened.repository, &file, |tally| tally.equals(&archived.tally))?;
    Ok(summarize(snapshot, &earlier, false, stored.lost_packs))
}

/// Says in the snapshot what it holds.
fn record(file: &mut SnapshotFile, archived: &Archived) {
    let (data, trees) = (archived.data, archived.trees);
    file.tree = archived.root;
    let mut summary = SnapshotSummary::default();
    // No parent is used: to the format, all of it is new.
    summary.files_new = archived.tally.items;
    summary.total_files_processed = archived.tally.items;
    summary.total_bytes_processed = archived.tally.bytes;
    summary.dirs_new = archived.directories;
    summary.total_dirs_processed = archived.directories;
    summary.data_blobs = data.blobs;
    summary.tree_blobs = trees.blobs;
    summary.data_added = data.bytes + trees.bytes;
    summary.data_added_packed = data.packed + trees.packed;
    summary.data_added_files = data.bytes;
    summary.data_added_files_packed = data.packed;
    summary.data_added_trees = trees.bytes;
    summary.data_added_trees_packed = trees.packed;
    COMMAND.clone_into(&mut summary.command);
    // How long it took is in the run's status: no clock is read here.
    summary.backup_start = file.time.clone();
    summary.backup_end = file.time.clone();
    file.summary = Some(summary);
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
    let walked = engine::open(store, key).and_then(engine::Opened::for_reading).and_then(|fresh| {
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
        .command(COMMAND.to_owned());
    for tag in options.tags.iter().chain(&ours) {
        if tag.is_empty() || tag.contains(',') || taken(tag) {
            return Err(Error::internal("tagging a snapshot", format!("`{tag}` is not a tag")));
        }
        snapshot = snapshot.add_tags(tag).map_err(|error| Error::internal("tagging a snapshot", about(&error)))?;
    }
    let mut file = snapshot.to_snapshot().map_err(|error| Error::internal("preparing a snapshot", about(&error)))?;
    concat!("tenantatlas ", env!("CARGO_PKG_VERSION")).clone_into(&mut file.program_version);
    Ok(file)
}
