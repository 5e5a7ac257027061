//! Several snapshots, opened together, to follow single items through them.
//!
//! A repository is content-addressed: what a tree holds is the same in every snapshot with that
//! tree. So each tree is read once, however many snapshots have it, and of a tree with thousands of
//! files one answer is kept. In memory are these answers: some hundred bytes for each tree in which
//! an item was looked for.
//!
//! Must not: parse an item, or decide what it means that a snapshot does not hold one.

use std::collections::{HashMap, HashSet};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustic_core::repofile::SnapshotFile;
use rustic_core::{IndexedFullStatus, TreeId};

use super::directory::{self, Directory, File};
use super::engine::Opened;
use super::error::{Error, Result};
use super::path::ItemPath;
use super::read;
use super::seal::Opener;
use super::snapshot::Snapshot;

/// Maximum number of trees that are searched at once: each is in memory meanwhile.
const MAX_THREADS: usize = 4;

/// Several open snapshots. Clones share them.
#[derive(Clone)]
pub struct Series {
    inner: Arc<Inner>,
}

struct Inner {
    opened: Opened<IndexedFullStatus>,
    snapshots: Vec<Result<SnapshotFile>>,
    state: Mutex<State>,
}

/// What was found so far, by the tree in which it was looked for.
struct State {
    opener: Opener,
    /// Groups with their trees, by the root.
    groups: HashMap<TreeId, Arc<[(String, TreeId)]>>,
    /// Directories of groups.
    directories: HashMap<(TreeId, String), Arc<[Directory]>>,
    /// Files of directories.
    files: HashMap<(TreeId, ItemPath), Option<File>>,
}

impl State {
    /// The groups of a snapshot.
    fn groups(
        &mut self,
        opened: &Opened<IndexedFullStatus>,
        snapshots: &[Result<SnapshotFile>],
        place: usize,
    ) -> Result<Arc<[(String, TreeId)]>> {
        let root = match snapshots.get(place) {
            Some(Ok(file)) => file.tree,
            Some(Err(error)) => return Err(error.clone()),
            None => return Ok([].into()),
        };
        if let Some(groups) = self.groups.get(&root) {
            return Ok(groups.clone());
        }
        let groups: Arc<[(String, TreeId)]> = directory::groups(opened, &mut self.opener, root)?.into();
        self.groups.insert(root, groups.clone());
        Ok(groups)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_ahead(&self, mut wanted: Vec<(Directory, ItemPath)>) {
        let mut asked = HashSet::new();
        {
            let state = self.state();
            wanted.retain(|(directory, path)| {
                let key = (directory.tree(), path.clone());
                !state.files.contains_key(&key) && asked.insert(key)
            });
        }
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(MAX_THREADS);
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads.min(wanted.len()) {
                scope.spawn(|| {
                    let Ok(mut opener) = Opener::new(&self.opened.repository.key()) else { return };
                    while let Some((directory, path)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Ok(found) = directory::find(&self.opened, &mut opener, directory, path) {
                            self.state().files.insert((directory.tree(), path.clone()), found);
                        }
                    }
                });
            }
        });
    }
}

impl Series {
    pub(super) fn new(opened: Opened<IndexedFullStatus>, snapshots: Vec<Result<SnapshotFile>>) -> Result<Self> {
        let state = State {
            opener: Opener::new(&opened.repository.key())?,
            groups: HashMap::new(),
            directories: HashMap::new(),
            files: HashMap::new(),
        };
        Ok(Self { inner: Arc::new(Inner { opened, snapshots, state: state.into() }) })
    }

    /// What is known of each snapshot without reading its trees, in the requested order. One that
    /// does not exist fails alone.
    pub fn snapshots(&self) -> impl Iterator<Item = Result<Snapshot>> {
        self.inner.snapshots.iter().map(|file| file.as_ref().map(Snapshot::from_file).map_err(Clone::clone))
    }

    /// Lists the API groups of a snapshot: the names of their directories, `core` for the core group.
    pub async fn groups(&self, place: usize) -> Result<Vec<String>> {
        self.ask("listing a snapshot", move |opened, snapshots, state| {
            let groups = state.groups(opened, snapshots, place)?;
            Ok(groups.iter().map(|(group, _)| group.clone()).collect())
        })
        .await
    }

    /// Lists the directories with items of one API group (empty for the core group) in a snapshot,
    /// in order. `place` is the snapshot's place in the requested order.
    pub async fn directories(&self, place: usize, group: &str) -> Result<Arc<[Directory]>> {
        let group = ItemPath::group(group).to_owned();
        self.ask("listing a group", move |opened, snapshots, state| {
            let groups = state.groups(opened, snapshots, place)?;
            let Some((_, tree)) = groups.iter().rev().find(|(name, _)| *name == group) else { return Ok([].into()) };
            let State { opener, directories, .. } = state;
            let key = (*tree, group);
            if let Some(found) = directories.get(&key) {
                return Ok(found.clone());
            }
            let found: Arc<[Directory]> = directory::directories_of_group(opened, opener, &key.1, *tree)?.into();
            directories.insert(key, found.clone());
            Ok(found)
        })
        .await
    }

    /// Finds the file of an item in its directory.
    pub async fn find(&self, directory: &Directory, path: &ItemPath) -> Result<Option<File>> {
        let (directory, path) = (directory.clone(), path.clone());
        self.ask("looking for an item", move |opened, _, state| {
            let key = (directory.tree(), path);
            if let Some(found) = state.files.get(&key) {
                return Ok(found.clone());
            }
            let found = directory::find(opened, &mut state.opener, &directory, &key.1)?;
            state.files.insert(key, found.clone());
            Ok(found)
        })
        .await
    }

    /// Looks for items in directories on all processors, so that [`Self::find`] has the answers. What
    /// fails is left to it.
    pub async fn look_ahead(&self, wanted: Vec<(Directory, ItemPath)>) -> Result<()> {
        let inner = self.inner.clone();
        super::blocking("looking for an item", move || {
            inner.look_ahead(wanted);
            Ok(())
        })
        .await
    }

    /// Lists the files of a directory, in order. Nothing of them is kept.
    pub async fn files(&self, directory: &Directory) -> Result<Vec<File>> {
        let directory = directory.clone();
        self.ask("listing a directory", move |opened, _, state| directory::files(opened, &mut state.opener, &directory))
            .await
    }

    /// Returns the content of a file.
    pub async fn read(&self, file: &File) -> Result<Vec<u8>> {
        let file = file.clone();
        self.ask("reading an item", move |opened, _, state| {
            read::of_blobs(opened, &mut state.opener, &file.path, file.content.blobs())
        })
        .await
    }

    /// The first fault of the store since the snapshots were opened, if any. After a fault, what
    /// could not be read is not necessarily damaged.
    #[must_use]
    pub fn fault(&self) -> Option<Error> {
        self.inner.opened.fault()
    }

    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        question: impl FnOnce(&Opened<IndexedFullStatus>, &[Result<SnapshotFile>], &mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = self.inner.clone();
        super::blocking(doing, move || {
            let mut state = inner.state();
            question(&inner.opened, &inner.snapshots, &mut state)
        })
        .await
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Series").field("snapshots", &self.inner.snapshots.len()).finish_non_exhaustive()
    }
}
