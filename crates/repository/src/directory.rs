//! What a snapshot holds, by the ids of its content: directories, and the files in them. No content
//! of an item is read.
//!
//! A repository is content-addressed: directories with the same id are equal, and so are files with
//! the same [`ContentId`]. Two snapshots are compared by reading only directories whose ids differ.
//! In memory are the directories of each snapshot, and the files of one directory on each side: a
//! few hundred bytes for each file.
//!
//! Must not: read content, or decide what a difference means.

use std::collections::BTreeSet;

use itertools::{EitherOrBoth, Itertools as _};
use rustic_core::repofile::Node;
use rustic_core::{DataId, IndexedFullStatus, TreeId};

use super::engine::Opened;
use super::error::Result;
use super::nodes::StoredTree;
use super::path::ItemPath;
use super::seal::Opener;

/// Directories above a file: group, version, kind.
const LEVELS: usize = 3;

/// A directory with the items of one kind in one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    path: String,
    tree: TreeId,
}

impl Directory {
    /// `group/version/kind`, with `core` for the core group.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn tree(&self) -> TreeId {
        self.tree
    }

    /// The identity of what the directory holds, wherever it is.
    #[must_use]
    pub fn id(&self) -> DirectoryId {
        DirectoryId(self.tree)
    }

    /// Whether both directories hold the same files with the same content, wherever they are.
    #[must_use]
    pub fn holds_the_same(&self, other: &Self) -> bool {
        self.tree == other.tree
    }
}

/// The identity of what a directory holds. Directories with the same one hold the same files with the
/// same content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryId(TreeId);

/// The identity of some content. Equal content has equal ids, if it was stored in equal parts, as
/// all captures do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentId(Box<[DataId]>);

impl ContentId {
    pub(super) fn blobs(&self) -> &[DataId] {
        &self.0
    }
}

/// A file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path of the item.
    pub path: ItemPath,
    /// Size of the item in bytes, as recorded.
    pub size: u64,
    /// Identity of its content.
    pub content: ContentId,
}

/// A file in which two directories differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Differing {
    /// It is in the first directory alone.
    First(File),
    /// It is in the second directory alone.
    Second(File),
    /// It is in both, with different content.
    Both(File, File),
}

/// The files in which two directories differ, in order. Both lists are in order, as
/// [`SnapshotReader::files`](super::SnapshotReader::files) returns them.
pub fn differing(first: Vec<File>, second: Vec<File>) -> impl Iterator<Item = Differing> {
    first.into_iter().merge_join_by(second, |one, other| one.path.cmp(&other.path)).filter_map(|pair| match pair {
        EitherOrBoth::Left(file) => Some(Differing::First(file)),
        EitherOrBoth::Right(file) => Some(Differing::Second(file)),
        EitherOrBoth::Both(one, other) if one.content == other.content => None,
        EitherOrBoth::Both(one, other) => Some(Differing::Both(one, other)),
    })
}

/// Lists all directories with items, in order.
pub(super) fn directories(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    root: TreeId,
) -> Result<Vec<Directory>> {
    below(opened, opener, Directory { path: String::new(), tree: root }, LEVELS)
}

/// Lists the API groups of a snapshot, with their trees.
pub(super) fn groups(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    root: TreeId,
) -> Result<Vec<(String, TreeId)>> {
    let (mut found, mut count) = (Vec::new(), Count::of(opened));
    StoredTree::read(opened, opener, root)?.each(&mut |node| {
        count.one_more()?;
        if let Some(tree) = node.subtree.filter(|_| node.is_dir()) {
            found.push((node.name().to_string_lossy().into_owned(), tree));
        }
        Ok(())
    })?;
    Ok(found)
}

/// Lists the directories with items of an API group, in order.
pub(super) fn directories_of_group(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    group: &str,
    tree: TreeId,
) -> Result<Vec<Directory>> {
    below(opened, opener, Directory { path: group.to_owned(), tree }, LEVELS - 1)
}

/// Lists all directories this many levels below one, in order.
fn below(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    top: Directory,
    levels: usize,
) -> Result<Vec<Directory>> {
    let mut level = vec![top];
    let mut count = Count::of(opened);
    for _ in 0..levels {
        let mut below = Vec::new();
        for directory in level {
            StoredTree::read(opened, opener, directory.tree)?.each(&mut |node| {
                count.one_more()?;
                let name = node.name().to_string_lossy().into_owned();
                let path = if directory.path.is_empty() { name } else { format!("{}/{name}", directory.path) };
                if node.is_dir() {
                    let tree = node.subtree.ok_or_else(|| opened.damaged(format!("`{path}` has no tree")))?;
                    below.push(Directory { path, tree });
                } else if node.is_file() {
                    // Fails: the path of an item is longer.
                    ItemPath::parse(&path)?;
                }
                Ok(())
            })?;
        }
        level = below;
    }
    let unique = level.iter().map(|directory| directory.path.as_str()).collect::<BTreeSet<_>>().len();
    if unique < level.len() {
        return Err(opened.damaged("a directory is there twice".to_owned()));
    }
    level.sort_by(|one, other| one.path.split('/').cmp(other.path.split('/')));
    Ok(level)
}

/// Lists the files of a directory, in order.
pub(super) fn files(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    directory: &Directory,
) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut count = Count::of(opened);
    StoredTree::read(opened, opener, directory.tree)?.each(&mut |node| {
        count.one_more()?;
        let path = format!("{}/{}", directory.path, node.name().to_string_lossy());
        if node.is_dir() {
            return Err(opened.damaged(format!("`{path}` is nested too deeply")));
        } else if node.is_file() {
            let content = ContentId(node.content.unwrap_or_default().into());
            files.push(File { path: ItemPath::parse(&path)?, size: node.meta.size, content });
        }
        Ok(())
    })?;
    files.sort_by(|one, other| one.path.cmp(&other.path));
    if files.windows(2).any(|two| two[0].path == two[1].path) {
        return Err(opened.damaged(format!("a file of `{}` is there twice", directory.path)));
    }
    Ok(files)
}

/// Finds the file of an item in its directory. Nothing is kept of the others.
pub(super) fn find(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    directory: &Directory,
    path: &ItemPath,
) -> Result<Option<File>> {
    let (mut found, mut count) = (None, Count::of(opened));
    StoredTree::read(opened, opener, directory.tree)?.each_unread(&mut |json| {
        count.one_more()?;
        // Of thousands of nodes only those are parsed that may be the file's. A name is in the JSON as
        // it is, unless something in it is escaped.
        if !json.get().contains(path.file_name()) && !json.get().contains('\\') {
            return Ok(());
        }
        let unreadable = |_| opened.damaged(format!("a node of `{}` cannot be read", directory.path));
        let node: Node = serde_json::from_str(json.get()).map_err(unreadable)?;
        if node.is_file() && *node.name() == *path.file_name() {
            let content = ContentId(node.content.unwrap_or_default().into());
            if found.replace(File { path: path.clone(), size: node.meta.size, content }).is_some() {
                return Err(opened.damaged(format!("`{path}` is there twice")));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

/// Counts nodes, up to as many as a snapshot may have.
struct Count<'a> {
    opened: &'a Opened<IndexedFullStatus>,
    nodes: u64,
}

impl<'a> Count<'a> {
    fn of(opened: &'a Opened<IndexedFullStatus>) -> Self {
        Self { opened, nodes: 0 }
    }

    fn one_more(&mut self) -> Result<()> {
        self.nodes += 1;
        let most = self.opened.most_nodes();
        if self.nodes <= most {
            return Ok(());
        }
        Err(self.opened.too_large(format!("a snapshot has more than {most} items and directories")))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use rustic_core::Id;

    use super::*;

    type Held = BTreeMap<String, u8>;

    fn held() -> impl Strategy<Value = Held> {
        prop::collection::btree_map("[a-d.]{1,3}", 0_u8..3, 0..12)
    }

    fn listed(held: &Held) -> Vec<File> {
        let file = |(name, content): (&String, &u8)| File {
            path: ItemPath::new("apps", "v1", "Deployment", name).expect("a path"),
            size: u64::from(*content),
            content: ContentId([DataId::from(Id::new([*content; 32]))].into()),
        };
        let mut files: Vec<File> = held.iter().map(file).collect();
        files.sort_by(|one, other| one.path.cmp(&other.path));
        files
    }

    fn mirrored(differing: Differing) -> Differing {
        match differing {
            Differing::First(file) => Differing::Second(file),
            Differing::Second(file) => Differing::First(file),
            Differing::Both(one, other) => Differing::Both(other, one),
        }
    }

    proptest! {
        #[test]
        fn exactly_the_files_of_which_the_content_differs_or_is_on_one_side_are_found(one in held(), other in held()) {
            let found: Vec<Differing> = differing(listed(&one), listed(&other)).collect();
            let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let expected = names.into_iter().filter(|name| one.get(*name) != other.get(*name)).count();
            prop_assert_eq!(found.len(), expected);
            let back: Vec<Differing> = differing(listed(&other), listed(&one)).map(mirrored).collect();
            prop_assert_eq!(found, back);
            prop_assert_eq!(differing(listed(&one), listed(&one)).count(), 0);
        }
    }
}
