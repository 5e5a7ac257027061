//! Takes a snapshot, and reports it only after its trees were read back.

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

/// The command that snapshots record.
const COMMAND: &str = "tenantatlas";

/// How to record a capture.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// UID of the run. There is at most one snapshot per run: a second capture returns the snapshot
    /// of the first.
    pub run_uid: String,
    /// Host to record: the origin, such as the cluster's name.
    pub host: String,
    /// Additional tags, without commas. Captures with the same host and tags are compared with each
    /// other.
    pub tags: Vec<String>,
    /// The end of the tenant's audit chain, so that truncating or altering the chain later is
    /// detected. It is a tag that does not count when captures are compared.
    pub audit: Option<String>,
    /// The snapshot's time.
    pub time: Timestamp,
    /// The write permit, which must still be held when the snapshot is recorded.
    pub permit: WriterPermit,
}

/// The result of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptureSummary {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Whether all content equals that of the latest earlier snapshot with the same host and tags.
    pub unchanged: bool,
    /// Whether an earlier attempt of the same run had already recorded the snapshot.
    pub earlier_attempt: bool,
    /// Number of packs that the index names and that are missing or incomplete. What this capture
    /// needed of them was stored again, but older snapshots are damaged: a check lists them.
    pub lost_packs: usize,
}

/// Captures the offered items, and reads the snapshot back.
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

    // The last moment to refuse: a reader takes any snapshot for complete.
    if !options.permit.is_held() {
        return Err(Error::PermitLost { location: store.description().to_owned() });
    }
    record(&mut file, &archived);
    file.id = store_file(store, &mut Sealer::new(key, level)?, FileType::Snapshot, &file)?.into();
    let snapshot = Snapshot::from_file(&file);
    confirm(store, key, &opened.repository, &file, |tally| tally.equals(&archived.tally))?;
    Ok(summarize(snapshot, &earlier, false, stored.lost_packs))
}

/// Records in the snapshot what it holds.
fn record(file: &mut SnapshotFile, archived: &Archived) {
    let (data, trees) = (archived.data, archived.trees);
    file.tree = archived.root;
    let mut summary = SnapshotSummary::default();
    // No parent is used, so everything is new to the format.
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
    // The duration is in the run's status: no clock is read here.
    summary.backup_start = file.time.clone();
    summary.backup_end = file.time.clone();
    file.summary = Some(summary);
}

fn snapshots(opened: &engine::Opened<rustic_core::OpenStatus>) -> Result<Vec<SnapshotFile>> {
    let mut snapshots = opened.repository.get_all_snapshots().map_err(|error| opened.explain(&error))?;
    snapshots.sort_by_key(|snapshot| (snapshot.time.timestamp(), snapshot.id));
    Ok(snapshots)
}

/// Returns the snapshot of an earlier attempt that died before it could report. That attempt may
/// also have died before it read the snapshot back, so this is done now.
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
            // The snapshot was never reported and is deleted by now; this attempt makes another.
            Err(Error::Damaged { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Opens the repository again and walks the snapshot's trees: everything that they name must be
/// indexed and present. A damaged snapshot is deleted: it was never reported, and must not be
/// found.
fn confirm<S: Open>(
    store: &BlockingStore,
    key: &MasterKey,
    repository: &Repository<S>,
    file: &SnapshotFile,
    expected: impl FnOnce(&Tally) -> bool,
) -> Result<()> {
    let walked = engine::open(store, key).and_then(engine::Opened::for_reading).and_then(|fresh| {
        // The snapshot file itself, as stored.
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
        // If the deletion fails too, the next attempt repeats it.
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
        // Replaces the worker's command line, which the engine would record.
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
