//! Reading snapshots: walking, listing, single items.
//!
//! What comes out of a repository is untrusted: a tenant holds its key, and may put there whatever it likes.

use std::collections::BTreeMap;

use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{DataId, FileType, IndexedFullStatus, ReadBackend as _, RusticError, TreeId};

use super::engine::Opened;
use super::error::{Error, Result};
use super::pack::id_of;
use super::path::ItemPath;
use super::seal::Opener;
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
            if !opened.has(blob) {
                return Err(opened.damaged(format!("content of `{path}` is in no pack")));
            }
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

/// What is kept from item to item.
pub(super) struct Reading {
    opener: Opener,
    /// The files of one directory, by name: a directory with thousands of items takes longer to read than any of them.
    last: Option<(String, BTreeMap<String, Node>)>,
}

impl Reading {
    pub(super) fn of(opened: &Opened<IndexedFullStatus>) -> Result<Self> {
        Ok(Self { opener: Opener::new(&opened.repository.key())?, last: None })
    }
}

/// The content of one item.
pub(super) fn content(
    opened: &Opened<IndexedFullStatus>,
    snapshot: &SnapshotFile,
    path: &ItemPath,
    Reading { opener, last }: &mut Reading,
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
        let damaged = || opened.damaged(format!("content of `{path}` is not what was stored"));
        let bytes = self::blob(opened, opener, blob)?.ok_or_else(damaged)?;
        // Most items are one blob.
        if content.is_empty() {
            content = bytes;
        } else {
            content.extend_from_slice(&bytes);
        }
    }
    Ok(content)
}

/// The content of a blob. Not by the engine, which makes a decompressor anew for each one and does not compare the content with its
/// id. None where it is damaged.
fn blob(opened: &Opened<IndexedFullStatus>, opener: &mut Opener, id: &DataId) -> Result<Option<Vec<u8>>> {
    let explain = |error: Box<RusticError>| opened.explain(&error);
    let entry = opened.repository.get_index_entry(id).map_err(explain)?;
    let (place, pack) = (entry.location, &entry.pack);
    let sealed = opened.backend.read_partial(FileType::Pack, pack, false, place.offset, place.length);
    let length = place.uncompressed_length.map(|length| length.get() as usize);
    let content = opener.blob(&sealed.map_err(explain)?, length);
    Ok(content.ok().filter(|content| id_of(content) == **id))
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
