//! Looks the objects of an inventory up in backup sets, kind by kind, the newest set first.
//!
//! Of older sets only directories are read that no newer set has, and only while something is
//! missing. In memory are the objects of one kind, and the files of one directory.

use super::{
    backups::Backups,
    found::Found,
    judge::{LeftOut, Testimony, Wanted, selects, why},
};
use crate::{
    api::{
        item::{GroupKind, ItemId},
        reason::{coverage as reason, worker},
    },
    items::inventory::chunk_from_bytes,
    operations::{
        capture::omission::{Note, UNKNOWN, path_of_note},
        inventory::layout,
        restore::inventory::StoredKind,
    },
    repository::{self, Directory, File, ItemPath, Series},
    worker::failure::Failure,
};
use std::collections::{BTreeMap, HashSet};

/// Place of the inventory among the open snapshots.
const INVENTORY: usize = 0;

/// Where an inventory has something of a kind.
#[derive(Default)]
struct OfKind {
    records: Vec<Directory>,
    notes: Vec<(Directory, ItemPath)>,
}

/// An object, by the file that would hold it: `None` if its name cannot be part of a path.
type Missing = (Option<String>, Wanted);

/// A walk of open snapshots.
pub struct Walk<'a> {
    series: &'a Series,
    backups: &'a Backups,
}

impl<'a> Walk<'a> {
    /// Of an inventory and sets that are open.
    pub fn new(series: &'a Series, backups: &'a Backups) -> Self {
        Self { series, backups }
    }

    /// Looks all objects of the inventory up.
    pub async fn follow(&self, found: &mut Found) -> Result<(), Failure> {
        let mut kinds: BTreeMap<GroupKind, OfKind> = BTreeMap::new();
        for group in self.series.groups(INVENTORY).await? {
            let group = if group == "core" { "" } else { group.as_str() };
            for directory in self.series.directories(INVENTORY, group).await?.iter() {
                let StoredKind { kind, .. } = StoredKind::of_directory(directory.path());
                let Some((plain, _)) = kind.kind.split_once('.') else { continue };
                let of_kind = kinds.entry(GroupKind::new(&kind.group, plain)).or_default();
                if let Some(path) = path_of_note(directory.path()) {
                    of_kind.notes.push((directory.clone(), path));
                } else if directory.path().ends_with(layout::SUFFIX) {
                    of_kind.records.push(directory.clone());
                }
            }
        }
        for (kind, of_kind) in &kinds {
            let wanted = self.wanted(kind, of_kind).await?;
            found.looked_for(wanted.len());
            let missing = self.missing(kind, wanted, found).await?;
            if missing.is_empty() {
                continue;
            }
            let said = self.said(kind).await?;
            for (_, wanted) in &missing {
                let code = why(wanted, &said, self.backups.witnesses.len(), self.backups.sets.len());
                found.add(&ItemId::new(kind.clone(), &wanted.name), code);
            }
        }
        Ok(())
    }

    /// The objects of a kind, by file name: those that the inventory records, and those that it left
    /// out because of their labels.
    async fn wanted(&self, kind: &GroupKind, OfKind { records, notes }: &OfKind) -> Result<Vec<Missing>, Failure> {
        let mut wanted = Vec::new();
        for directory in records {
            for file in self.series.files(directory).await?.iter().filter(|file| !layout::is_collection(&file.path)) {
                let chunk = chunk_from_bytes(&self.series.read(file).await?);
                let chunk = chunk.ok_or_else(|| no_inventory(&format!("{} is no chunk", file.path)))?;
                wanted.extend(chunk.into_iter().map(|record| {
                    let created = record.created.parse().ok();
                    placed(kind, Wanted { name: record.name, created, is_excluded: false })
                }));
            }
        }
        for (directory, path) in notes {
            let Some(note) = self.note(directory, path).await? else { continue };
            let excluded = note.items.iter().filter(|item| item.reason_code == reason::EXCLUDED_BY_LABEL);
            let excluded = excluded.filter_map(|item| ItemId::of_object(&item.item_id).ok());
            wanted.extend(
                excluded
                    .filter(|item| item.kind == *kind)
                    .map(|item| placed(kind, Wanted { name: item.name, created: None, is_excluded: true })),
            );
        }
        wanted.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(wanted)
    }

    /// Those objects of a kind that no set holds.
    async fn missing(
        &self,
        kind: &GroupKind,
        mut missing: Vec<Missing>,
        found: &mut Found,
    ) -> Result<Vec<Missing>, Failure> {
        let mut seen = HashSet::new();
        for place in &self.backups.sets {
            if missing.is_empty() {
                break;
            }
            for directory in self.directories(*place, &kind.group).await? {
                if StoredKind::of_directory(directory.path()).kind == *kind && seen.insert(directory.id()) {
                    found.read_directory();
                    let files = self.unless_damaged(self.series.files(&directory).await)?.unwrap_or_default();
                    drop_held(&mut missing, &files);
                }
            }
        }
        Ok(missing)
    }

    /// What the sets say that select a kind, the newest first.
    async fn said(&self, kind: &GroupKind) -> Result<Vec<Testimony<'a>>, Failure> {
        let mut said = Vec::new();
        for witness in self.backups.witnesses.iter().filter(|witness| selects(witness, kind)) {
            let mut left_out = LeftOut::default();
            for directory in self.directories(witness.place, &kind.group).await? {
                let Some(path) = path_of_note(directory.path()) else { continue };
                let StoredKind { kind: of_note, .. } = StoredKind::of_directory(directory.path());
                let (of_note, _) = of_note.kind.split_once('.').unwrap_or_default();
                if (of_note == kind.kind || of_note == UNKNOWN)
                    && let Some(note) = self.note(&directory, &path).await?
                {
                    left_out.add(kind, &note);
                }
            }
            said.push(Testimony { witness, left_out });
        }
        Ok(said)
    }

    async fn directories(&self, place: usize, group: &str) -> Result<Vec<Directory>, Failure> {
        let directories = self.unless_damaged(self.series.directories(place, group).await)?;
        Ok(directories.map(|directories| directories.to_vec()).unwrap_or_default())
    }

    async fn note(&self, directory: &Directory, path: &ItemPath) -> Result<Option<Note>, Failure> {
        let Some(file) = self.unless_damaged(self.series.find(directory, path).await)?.flatten() else {
            return Ok(None);
        };
        let content = self.unless_damaged(self.series.read(&file).await)?;
        Ok(content.map(|content| Note::from_content(&content)))
    }

    /// What is damaged in a set holds nothing. A fault of the store proves nothing.
    fn unless_damaged<T>(&self, read: repository::Result<T>) -> Result<Option<T>, Failure> {
        let error = match read {
            Ok(read) => return Ok(Some(read)),
            Err(error) => error,
        };
        let of_the_store = |error: &repository::Error| !error.is_of_the_content();
        if let Some(fault) = Some(error.clone()).into_iter().chain(self.series.fault()).find(of_the_store) {
            return Err(fault.into());
        }
        tracing::warn!(%error, "what a backup set holds cannot be read");
        Ok(None)
    }
}

/// Failure of an inventory that is not what was stored.
pub fn no_inventory(problem: &str) -> Failure {
    let message = format!(
        "the inventory of this run is not what was stored ({problem}): run repository.check, then create a new run"
    );
    Failure::permanent(worker::INTERNAL, message)
}

/// An object with the name of the file that would hold it, which is the same in all versions of a
/// kind.
fn placed(kind: &GroupKind, wanted: Wanted) -> Missing {
    let path = ItemPath::new(&kind.group, "v1", &kind.kind, &wanted.name);
    (path.ok().map(|path| path.file_name().to_owned()), wanted)
}

/// Drops the objects that a directory holds. Both are in the order of their files.
fn drop_held(missing: &mut Vec<Missing>, files: &[File]) {
    let mut files = files.iter().map(|file| file.path.file_name()).peekable();
    missing.retain(|(wanted, _)| {
        let Some(wanted) = wanted.as_deref() else { return true };
        while files.next_if(|file| *file < wanted).is_some() {}
        files.peek() != Some(&wanted)
    });
}
