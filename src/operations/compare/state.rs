//! A backup set, opened for a comparison: what it holds, and what it does not say.

use super::absence::Absence;
use crate::{
    api::{BackupSet, reason::compare as reason},
    items::eligible::holds_objects,
    operations::{
        capture::omission::{Note, is_note},
        restore::{
            absence::{self, is_absence},
            inventory::{StoredKind, batches, parse, stem},
            order::{expect_own, no_set},
        },
    },
    repository::{self, Directory, File, Item, ItemPath, Repository, SnapshotReader},
    worker::{environment::Environment, failure::Failure, sets},
};
use kube::{Client, ResourceExt};

/// An open backup set.
pub struct State {
    /// Name of the set.
    pub set: String,
    /// Directories with items.
    pub directories: Vec<Directory>,
    /// What it means that an item is not among them.
    pub absence: Absence,
    /// Number of items.
    pub items: u64,
    reader: SnapshotReader,
}

/// Content of an item, or what is wrong with it.
pub type Content = Result<Vec<u8>, String>;

/// An item of a set: its name, or what is wrong with the item.
pub struct Named {
    /// Name of the object. If it cannot be read, as its path has it.
    pub name: String,
    /// What is wrong.
    pub problem: Option<String>,
    /// Where it is stored.
    pub path: ItemPath,
}

/// Finds a set that may be compared here.
pub async fn find(client: &Client, environment: &Environment, name: &str) -> Result<BackupSet, Failure> {
    let set = sets::find(client, environment, name).await?.ok_or_else(|| no_set(name))?;
    if set.metadata.deletion_timestamp.is_some() {
        let message = format!("the backup set {name} is being deleted: name another one in a new run");
        return Err(Failure::blocked(reason::BACKUP_SET_TERMINATING, message));
    }
    expect_own(environment, &set)?;
    holds_objects(&set).map_err(|inventory| Failure::blocked(inventory.reason.as_str(), inventory.message))?;
    Ok(set)
}

impl State {
    /// Opens sets of one repository.
    pub async fn open(repository: &impl Repository, sets: &[BackupSet]) -> Result<Vec<Self>, Failure> {
        let snapshots = sets.iter().map(|set| set.spec.snapshot.clone()).collect();
        let mut states = Vec::with_capacity(sets.len());
        for (set, reader) in sets.iter().zip(repository.readers(snapshots).await?) {
            let name = set.name_any();
            let reader = reader.map_err(|error| of_set(&name, error))?;
            states.push(Self::read(set, reader).await.map_err(|error| of_set(&name, error))?);
        }
        Ok(states)
    }

    async fn read(set: &BackupSet, reader: SnapshotReader) -> Result<Self, repository::Error> {
        let (notes, directories): (Vec<_>, Vec<_>) = reader.directories().await?.into_iter().partition(holds_notes);
        let mut of_notes = Vec::new();
        for directory in &notes {
            of_notes.extend(reader.files(directory).await?);
        }
        // The snapshot counts all files.
        let items = reader.snapshot().items.saturating_sub(of_notes.len() as u64);
        let mut state = Self { set: set.name_any(), directories, absence: Absence::of(set), items, reader };
        state.read_notes(set, of_notes).await?;
        Ok(state)
    }

    async fn read_notes(&mut self, set: &BackupSet, files: Vec<File>) -> Result<(), repository::Error> {
        let paths: Vec<ItemPath> = files.into_iter().map(|file| file.path).collect();
        for path in paths.iter().filter(|path| is_note(path)) {
            let content = self.reader.read(vec![path.clone()]).await?.remove(0)?;
            let StoredKind { mut kind, .. } = StoredKind::of_directory(path.directory());
            kind.kind.truncate(kind.kind.find('.').unwrap_or(kind.kind.len()));
            self.absence.add_note(&kind, &Note::from_content(&content));
        }
        if let Some(count) = set.spec.absent_in_snapshot {
            let items: Vec<Item> = paths.into_iter().filter(is_absence).map(|path| Item { path, size: 0 }).collect();
            // Of names that are incomplete, none is believed.
            let named = absence::read(&self.reader, &items, count).await.ok().flatten();
            self.absence.add_absent(named.unwrap_or_default());
        }
        Ok(())
    }

    /// The files of a directory of this set.
    pub async fn files(&self, directory: Option<&Directory>) -> Result<Vec<File>, Failure> {
        let Some(directory) = directory else { return Ok(Vec::new()) };
        self.reader.files(directory).await.map_err(|error| of_set(&self.set, error))
    }

    /// The content of files, in the requested order. Fails if the store fails: such an item is not
    /// damaged.
    pub async fn contents(&self, files: Vec<File>) -> Result<Vec<Content>, Failure> {
        let contents = self.reader.contents(files).await.map_err(|error| of_set(&self.set, error))?;
        if let Some(fault) = self.reader.fault().filter(|fault| !fault.is_of_the_content()) {
            return Err(of_set(&self.set, fault));
        }
        Ok(contents.into_iter().map(|content| content.map_err(|error| error.to_string())).collect())
    }

    /// The names of items. Only an item whose path does not show its name is read.
    pub async fn names(&self, files: Vec<File>) -> Result<Vec<Named>, Failure> {
        let (escaped, plain): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| stem(&file.path).contains('%'));
        let plain =
            plain.into_iter().map(|File { path, .. }| Named { name: stem(&path).to_owned(), problem: None, path });
        let mut names: Vec<Named> = plain.collect();
        for batch in batches(escaped.into_iter(), |file| file.size) {
            let paths: Vec<ItemPath> = batch.iter().map(|file| file.path.clone()).collect();
            for (path, content) in paths.iter().zip(self.contents(batch).await?) {
                names.push(match content.and_then(|content| parse(path, &content)) {
                    Ok(object) => {
                        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                        Named { name, problem: None, path: path.clone() }
                    }
                    Err(problem) => Named { name: stem(path).to_owned(), problem: Some(problem), path: path.clone() },
                });
            }
        }
        Ok(names)
    }
}

/// Whether a directory holds what a capture noted about a kind instead of items: no kind's name
/// contains a dot.
fn holds_notes(directory: &Directory) -> bool {
    directory.path().rsplit('/').next().is_some_and(|kind| kind.contains('.'))
}

/// Failure of reading a set, with its name.
#[must_use]
pub fn of_set(set: &str, error: repository::Error) -> Failure {
    let failure = Failure::from(error);
    Failure { message: format!("backup set {set}: {}", failure.message), ..failure }
}
