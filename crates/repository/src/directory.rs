//! What a snapshot holds, by the ids of its content: directories, and the files in them. No content
//! of an item is read.
//!
//! A repository is content-addressed: directories with the same id are equal, and so are files with
//! the same [`ContentId`]. Two snapshots are compared by reading only directories whose ids differ.
//! In memory are the directories of each snapshot, and the files of one directory on each side: a
//! few hundred bytes for each file.
//!
//! Must not: read content, or decide what a difference means.

use std::borrow::Cow;
use std::collections::BTreeSet;

use itertools::{EitherOrBoth, Itertools as _};
use rustic_core::repofile::Node;
use rustic_core::{DataId, IndexedFullStatus, TreeId};
use serde::Deserialize;
use serde_json::value::RawValue;

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
    let unreadable = |_| opened.damaged(format!("a node of `{}` cannot be read", directory.path));
    StoredTree::read(opened, opener, directory.tree)?.each_unread(opener, &mut |json| {
        count.one_more()?;
        let node = Lean::read(json).map_err(unreadable)?;
        let path = format!("{}/{}", directory.path, node.name);
        if node.node_type == DIRECTORY {
            return Err(opened.damaged(format!("`{path}` is nested too deeply")));
        } else if node.node_type == FILE {
            let content = ContentId(node.content.unwrap_or_default().into());
            files.push(File { path: ItemPath::parse(&path)?, size: node.size, content });
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
    let file = |node: Node| {
        let content = ContentId(node.content.unwrap_or_default().into());
        File { path: path.clone(), size: node.meta.size, content }
    };
    let tree = StoredTree::read(opened, opener, directory.tree)?;
    if let Some(content) = tree.whole(opener)?
        && let Sought::Clear(node) = sought(&content, path.file_name())
    {
        return Ok(node.map(|node| file(*node)));
    }
    let (mut found, mut count) = (None, Count::of(opened));
    tree.each_unread(opener, &mut |json| {
        count.one_more()?;
        // Of thousands of nodes only those are parsed that may be the file's. A name is in the JSON as
        // it is, unless something in it is escaped.
        if !json.get().contains(path.file_name()) && !json.get().contains('\\') {
            return Ok(());
        }
        let unreadable = |_| opened.damaged(format!("a node of `{}` cannot be read", directory.path));
        let node: Node = serde_json::from_str(json.get()).map_err(unreadable)?;
        if is_file(&node, path.file_name()) && found.replace(file(node)).is_some() {
            return Err(opened.damaged(format!("`{path}` is there twice")));
        }
        Ok(())
    })?;
    Ok(found)
}

fn is_file(node: &Node, name: &str) -> bool {
    node.is_file() && *node.name() == *name
}

/// What a search in the bytes of a tree tells.
#[derive(Debug)]
enum Sought {
    /// The node of the file, or that there is none.
    Clear(Option<Box<Node>>),
    /// Nothing: the nodes have to be looked at one after the other.
    Unclear,
}

/// Looks for the node of a file in the JSON of a tree, of which only this node is parsed: hundreds of
/// directories of thousands of files are searched for one item.
///
/// A string without escapes is in valid JSON as it is, between two quotes. If no string of a tree has
/// an escape, the name is where its bytes are, and nowhere else. In a tree that is not as writers of
/// the format make it, or that has the name twice, nothing is clear.
fn sought(tree: &[u8], name: &str) -> Sought {
    const BEGINS: &[u8] = br#"{"name":"#;
    if name.contains(['"', '\\']) || memchr::memchr(b'\\', tree).is_some() {
        return Sought::Unclear;
    }
    let quoted = format!("\"{name}\"");
    let mut places = memchr::memmem::find_iter(tree, quoted.as_bytes());
    let place = match (places.next(), places.next()) {
        (None, _) => return Sought::Clear(None),
        (Some(place), None) if tree[..place].ends_with(BEGINS) => place - BEGINS.len(),
        _ => return Sought::Unclear,
    };
    match serde_json::Deserializer::from_slice(&tree[place..]).into_iter::<Node>().next() {
        Some(Ok(node)) if is_file(&node, name) => Sought::Clear(Some(node.into())),
        _ => Sought::Unclear,
    }
}

/// What is read of a node to list a directory. The engine's type takes several times as long, and has
/// more than twice the size.
#[derive(Deserialize)]
struct Lean<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    node_type: Cow<'a, str>,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    content: Option<Vec<DataId>>,
}

/// Types of nodes.
const FILE: &str = "file";
const DIRECTORY: &str = "dir";

impl<'a> Lean<'a> {
    fn read(json: &'a RawValue) -> serde_json::Result<Self> {
        let mut lean: Self = serde_json::from_str(json.get())?;
        // In the JSON is the quoted name, in which the format escapes what is not plain.
        if lean.name.contains('\\') {
            let node: Node = serde_json::from_str(json.get())?;
            lean.name = node.name().to_string_lossy().into_owned().into();
        }
        Ok(lean)
    }
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
    use std::ffi::OsStr;

    use proptest::prelude::*;
    use rustic_core::Id;
    use rustic_core::repofile::{Metadata, NodeType};

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

    fn node(name: &str, content: u8) -> String {
        let mut node = Node::new_node(OsStr::new(name), NodeType::File, Metadata::default());
        node.content = Some(vec![DataId::from(Id::new([content; 32]))]);
        serde_json::to_string(&node).expect("JSON")
    }

    fn tree(nodes: &[String]) -> Vec<u8> {
        format!("{{\"nodes\":[{}]}}\n", nodes.join(",")).into_bytes()
    }

    #[test]
    fn a_tree_that_may_hold_a_name_elsewhere_or_in_another_form_is_not_searched_by_its_bytes() {
        let (other, node) = (node("b.json", 1), node("a.json", 1));
        assert!(matches!(sought(&tree(&[other.clone(), node.clone()]), "a.json"), Sought::Clear(Some(_))));
        assert!(matches!(sought(&tree(std::slice::from_ref(&other)), "a.json"), Sought::Clear(None)));
        let escaped = node.replace("a.json", "\\u0061.json");
        let reordered = node.replace("{\"name\":\"a.json\",", "{").replace('}', ",\"name\":\"a.json\"}");
        let directory = node.replace("\"file\"", "\"dir\"");
        let nested = other.replacen('{', "{\"generic_attributes\":[{\"name\":\"a.json\"}],", 1);
        let target = other.replacen('{', "{\"linktarget\":\"a.json\",", 1);
        for nodes in [
            vec![node.clone(), node.clone()],
            vec![node.clone(), escaped.clone()],
            vec![node.clone(), target.clone()],
            vec![escaped],
            vec![reordered],
            vec![directory],
            vec![nested],
            vec![target],
        ] {
            let told = sought(&tree(&nodes), "a.json");
            assert!(matches!(told, Sought::Unclear), "{nodes:?}: {told:?}");
        }
        assert!(matches!(sought(&tree(&[node]), "\\u0061.json"), Sought::Unclear));
    }

    proptest! {
        #[test]
        fn the_node_that_the_bytes_show_is_the_one_that_parsing_finds(held in held(), name in "[a-d.]{1,3}") {
            let nodes: Vec<String> = held.iter().map(|(name, content)| node(name, *content)).collect();
            let Sought::Clear(found) = sought(&tree(&nodes), &name) else {
                return Err(TestCaseError::fail("such a tree is clear"));
            };
            let expected = held.get(&name).map(|content| vec![DataId::from(Id::new([*content; 32]))]);
            prop_assert_eq!(found.and_then(|node| node.content), expected);
        }

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
