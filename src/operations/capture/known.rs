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

/// What the last capture of a scope recorded.
pub struct Earlier {
    snapshot: String,
    marks: Recorded,
    unread: u32,
}

/// Marks of what a capture stored, by directory.
pub type Recorded = BTreeMap<String, Vec<Mark>>;

/// The marks that a capture or a comparison needs.
pub struct Marks {
    /// The key of all marks of a repository.
    pub key: DigestKey,
    /// `None` if everything is read.
    earlier: Option<Earlier>,
}

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

    /// The snapshot that has the objects with these marks.
    #[must_use]
    pub fn snapshot(&self) -> Option<&str> {
        self.earlier.as_ref().map(|earlier| earlier.snapshot.as_str())
    }

    /// The objects of a kind that are known, except those of some names.
    #[must_use]
    pub fn known(&self, kind: &ServedKind, except: BTreeSet<String>) -> Known {
        let marks = self.earlier.as_ref().and_then(|earlier| earlier.marks.get(&directory(kind)));
        Known::new(marks.cloned().unwrap_or_default(), except)
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
        let document = repository.find_document(DOCUMENTS, scope_key).await;
        let document = document.inspect_err(|error| {
            tracing::info!(%error, "the marks of the last capture cannot be read: everything is read");
        });
        let Document { snapshot, unread, marks } = serde_json::from_slice(&document.ok()??).ok()?;
        let marks = marks.into_iter().map(|(directory, text)| (directory, from_text(&text))).collect();
        Some(Self { snapshot, marks, unread })
    }
}

/// The snapshot of the last capture.
pub struct Held {
    reader: SnapshotReader,
    directories: BTreeMap<String, Directory>,
}

impl Held {
    /// Opens a snapshot.
    pub async fn open(repository: &impl Repository, snapshot: &str) -> Result<Self, Error> {
        let reader = repository.reader(snapshot).await?;
        let directories = reader.directories().await?;
        let directories = directories.into_iter().map(|one| (one.path().to_owned(), one)).collect();
        Ok(Self { reader, directories })
    }

    /// The files of the objects of a kind.
    pub async fn files(&self, kind: &ServedKind) -> Result<Files, Error> {
        Ok(Files(match self.directories.get(&directory(kind)) {
            Some(directory) => self.reader.files(directory).await?,
            None => Vec::new(),
        }))
    }
}

/// The files of the objects of a kind, by path.
#[derive(Default)]
pub struct Files(Vec<File>);

impl Files {
    /// The file of an object.
    #[must_use]
    pub fn find(&self, path: &ItemPath) -> Option<&File> {
        let place = self.0.binary_search_by(|file| file.path.cmp(path)).ok()?;
        self.0.get(place)
    }
}

/// The directory of a kind in a snapshot.
#[must_use]
pub fn directory(kind: &ServedKind) -> String {
    kind.directory("").join("/")
}

fn to_text(marks: &[Mark]) -> String {
    hex::encode(marks.iter().flat_map(|Mark(mark)| mark.to_be_bytes()).collect::<Vec<_>>())
}

/// A repository is untrusted: what are no marks are none.
fn from_text(text: &str) -> Vec<Mark> {
    let bytes = hex::decode(text).unwrap_or_default();
    bytes.as_chunks().0.iter().map(|mark| Mark(u64::from_be_bytes(*mark))).collect()
}
