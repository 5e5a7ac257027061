//! What a capture knows before it reads anything: the marks that the last capture of the same scope
//! recorded, and the files of its snapshot.
//!
//! An object whose mark is known ([`crate::items::mark`]) is not read: the snapshot takes the file of
//! the earlier one. The marks are a document of the repository beside its snapshots. Without it, or
//! without its snapshot, everything is read. Maintenance removes it, and every tenth capture ignores
//! it, so that what a mark cannot show does not last.
//!
//! The marks also serve a comparison with that snapshot ([`crate::operations::drift`]): an object whose
//! mark is known is as it was.
//!
//! Must not: decide what is captured.

use crate::{
    items::{
        mark::{Known, Mark},
        semantic::DigestKey,
        served::ServedKind,
    },
    repository::{Directory, Error, File, ItemPath, Repository, SnapshotReader},
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Purpose of the derived key for marks.
const MARKS: &str = "tenantatlas/capture/marks";

/// Stands for a run in the names of the documents. It is the uid of no run, so maintenance removes
/// them.
const DOCUMENTS: &str = "marks";

/// One in so many captures of a scope reads everything.
const READ_ALL_EVERY: u32 = 10;

/// The document, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    /// Id of the snapshot that has the objects.
    snapshot: String,
    /// Number of captures in a row that did not read everything.
    unread: u32,
    /// Marks by directory, each as 16 hex digits.
    marks: BTreeMap<String, String>,
}

/// The last capture of a scope.
pub struct Earlier {
    snapshot: String,
    reader: SnapshotReader,
    directories: BTreeMap<String, Directory>,
    marks: BTreeMap<String, Vec<Mark>>,
    unread: u32,
}

/// Everything about marks that one capture needs.
pub struct Marks {
    /// The key of all marks of a repository.
    pub key: DigestKey,
    /// `None` if everything is read.
    pub earlier: Option<Earlier>,
}

/// Marks of what a capture stored, by directory.
pub type Recorded = BTreeMap<String, Vec<Mark>>;

impl Marks {
    /// Looks for the last capture of a scope (`Selection::scope_key`), unless everything is to be read.
    /// That there is none, or that it cannot be read, is no failure.
    pub async fn find(repository: &impl Repository, scope_key: &str, read_all: bool) -> Self {
        let found = if read_all { None } else { Earlier::find(repository, scope_key).await };
        let earlier = found.filter(|earlier| earlier.unread + 1 < READ_ALL_EVERY);
        Self { key: DigestKey::new(repository.derived_key(MARKS)), earlier }
    }

    /// The marks of a snapshot, if it is that of the last capture of its scope.
    pub async fn of_snapshot(repository: &impl Repository, scope_key: &str, snapshot: &str) -> Option<Self> {
        let earlier = Earlier::find(repository, scope_key).await.filter(|earlier| earlier.snapshot == snapshot)?;
        Some(Self { key: DigestKey::new(repository.derived_key(MARKS)), earlier: Some(earlier) })
    }

    /// The same, to read everything.
    #[must_use]
    pub fn without_earlier(&self) -> Self {
        Self { key: self.key.clone(), earlier: None }
    }

    /// Records the marks of a capture, for the next one. `kept` is how many items were not read.
    pub async fn record(
        &self,
        repository: &impl Repository,
        (scope_key, snapshot): (&str, &str),
        marks: &Recorded,
        kept: i64,
    ) {
        let before = self.earlier.as_ref().map_or(0, |earlier| earlier.unread);
        let unread = if kept > 0 { before + 1 } else { 0 };
        let marks = marks.iter().map(|(directory, marks)| (directory.clone(), to_text(marks))).collect();
        let document = Document { snapshot: snapshot.to_owned(), unread, marks };
        // A map of texts can be written.
        let content = serde_json::to_vec(&document).unwrap_or_default();
        let recorded = repository.put_document(DOCUMENTS, scope_key, content).await;
        // The snapshot is recorded, and the next capture reads everything.
        if let Err(error) = recorded {
            tracing::info!(%error, "the marks of this capture were not recorded: the next one reads everything");
        }
    }
}

impl Earlier {
    async fn find(repository: &impl Repository, scope_key: &str) -> Option<Self> {
        let read = Self::read(repository, scope_key).await;
        read.inspect_err(|error| {
            tracing::info!(%error, "the marks of the last capture cannot be read: everything is read");
        })
        .unwrap_or_default()
    }

    async fn read(repository: &impl Repository, scope_key: &str) -> Result<Option<Self>, Error> {
        let Some(document) = repository.find_document(DOCUMENTS, scope_key).await? else { return Ok(None) };
        let Ok(Document { snapshot, unread, marks }) = serde_json::from_slice(&document) else { return Ok(None) };
        let marks = marks.into_iter().map(|(directory, text)| (directory, from_text(&text))).collect();
        let reader = repository.reader(&snapshot).await?;
        let directories = reader.directories().await?;
        let directories = directories.into_iter().map(|one| (one.path().to_owned(), one)).collect();
        Ok(Some(Self { snapshot, reader, directories, marks, unread }))
    }

    /// What is known of the objects of a kind, except those of some names.
    pub async fn of_kind(&self, kind: &ServedKind, except: BTreeSet<String>) -> Result<OfKind, Error> {
        let path = kind.directory("").join("/");
        let marks = self.marks.get(&path).cloned().unwrap_or_default();
        let files = match self.directories.get(&path) {
            Some(directory) if !marks.is_empty() => self.reader.files(directory).await?,
            _ => return Ok(OfKind::default()),
        };
        Ok(OfKind { known: Known::new(marks, except), files })
    }
}

/// What is known of the objects of one kind.
#[derive(Default)]
pub struct OfKind {
    /// Their marks.
    pub known: Known,
    /// Their files, by path.
    files: Vec<File>,
}

impl OfKind {
    /// The file of an object.
    #[must_use]
    pub fn file(&self, path: &ItemPath) -> Option<&File> {
        let place = self.files.binary_search_by(|file| file.path.cmp(path)).ok()?;
        self.files.get(place)
    }
}

fn to_text(marks: &[Mark]) -> String {
    hex::encode(marks.iter().flat_map(|Mark(mark)| mark.to_be_bytes()).collect::<Vec<_>>())
}

/// A repository is untrusted: what are no marks are none.
fn from_text(text: &str) -> Vec<Mark> {
    let bytes = hex::decode(text).unwrap_or_default();
    bytes.as_chunks().0.iter().map(|mark| Mark(u64::from_be_bytes(*mark))).collect()
}
