//! Reading snapshots: walking, listing, single items.
//!
//! What comes out of a repository is untrusted: a tenant holds its key, and may put there whatever it likes.

use std::collections::BTreeMap;

use rustic_core::repofile::{BlobType, Node, SnapshotFile};
use rustic_core::{IndexedFullStatus, TreeId};

use super::engine::Opened;
use super::error::{Error, Result};
use super::path::ItemPath;
use super::tally::Tally;

/// Our trees are four levels deep.
const MAX_DEPTH: usize = 32;

/// One item of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its path.
    pub path: ItemPath,
    /// Its size in bytes.
    pub size: u64,
}

/// Walks all trees, and makes sure that all content they name is indexed in a pack that is there.
pub(super) fn tally(opened: &Opened<IndexedFullStatus>, root: TreeId) -> Result<Tally> {
    let mut tally = Tally::default();
    walk(opened, root, "", 0, &mut |path, node| {
        for blob in node.content.iter().flatten() {
            opened
                .repository
                .get_index_entry(blob)
                .map_err(|_| opened.damaged(format!("content of `{path}` is in no pack")))?;
        }
        tally.add(path, node.meta.size);
        Ok(())
    })?;
    Ok(tally)
}

/// All items, in order.
pub(super) fn list(opened: &Opened<IndexedFullStatus>, snapshot: &SnapshotFile) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    walk(opened, snapshot.tree, "", 0, &mut |path, node| {
        items.push(Item { path: ItemPath::parse(path)?, size: node.meta.size });
        Ok(())
    })?;
    Ok(items)
}

/// The content of one item.
pub(super) fn item(opened: &Opened<IndexedFullStatus>, snapshot: &SnapshotFile, path: &ItemPath) -> Result<Vec<u8>> {
    content(opened, snapshot, path, &mut None)
}

/// The files of one directory, by name, kept while items of it are read one after the other: a directory with thousands
/// of items takes longer to read than any of them.
pub(super) type Directory = Option<(String, BTreeMap<String, Node>)>;

/// The content of one item, with the directory that was read last.
pub(super) fn content(
    opened: &Opened<IndexedFullStatus>,
    snapshot: &SnapshotFile,
    path: &ItemPath,
    last: &mut Directory,
) -> Result<Vec<u8>> {
    let absent = || Error::ItemNotFound { snapshot: snapshot.id.to_hex().as_str().to_owned(), path: path.to_string() };
    if last.as_ref().is_none_or(|(directory, _)| directory != path.directory()) {
        *last = None;
        let mut tree = snapshot.tree;
        for segment in path.directory().split('/') {
            let node = nodes(opened, tree)?.into_iter().find(|node| *node.name() == *segment).ok_or_else(absent)?;
            tree = node.subtree.ok_or_else(absent)?;
        }
        let named = |node: Node| (node.name().to_string_lossy().into_owned(), node);
        *last = Some((path.directory().to_owned(), nodes(opened, tree)?.into_iter().map(named).collect()));
    }
    let files = last.as_ref().map(|(_, files)| files);
    let node = files.and_then(|files| files.get(path.file_name())).filter(|node| node.is_file()).ok_or_else(absent)?;
    let mut content = Vec::new();
    for blob in node.content.iter().flatten() {
        // Not the engine's own way to dump a file, which keeps 32 MB of what it has read: an item is not read again soon.
        let bytes = opened.repository.cat_blob(BlobType::Data, blob.to_hex().as_str());
        content.extend_from_slice(&bytes.map_err(|error| opened.explain(&error))?);
    }
    Ok(content)
}

fn walk(
    opened: &Opened<IndexedFullStatus>,
    tree: TreeId,
    directory: &str,
    depth: usize,
    visit: &mut dyn FnMut(&str, &Node) -> Result<()>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(opened.damaged(format!("`{directory}` is nested too deeply")));
    }
    for node in nodes(opened, tree)? {
        let name = node.name().to_string_lossy().into_owned();
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        if node.is_dir() {
            let subtree = node.subtree.ok_or_else(|| opened.damaged(format!("`{path}` has no tree")))?;
            walk(opened, subtree, &path, depth + 1, visit)?;
        } else if node.is_file() {
            visit(&path, &node)?;
        }
    }
    Ok(())
}

fn nodes(opened: &Opened<IndexedFullStatus>, tree: TreeId) -> Result<Vec<Node>> {
    opened.repository.get_tree(&tree).map(|tree| tree.nodes).map_err(|error| opened.explain(&error))
}
