//! Reads snapshots: walks, lists, and reads single items.
//!
//! Data from a repository is untrusted: a tenant holds the key, and can put anything there.

use rustic_core::repofile::{Node, SnapshotFile};
use rustic_core::{DataId, IndexedFullStatus, RusticError, TreeId};

use super::engine::Opened;
use super::error::{Error, Result};
use super::format::id_of;
use super::nodes::StoredTree;
use super::path::ItemPath;
use super::seal::Opener;
use super::tally::Tally;

/// Maximum depth of a tree. Our own trees are four levels deep.
const MAX_DEPTH: usize = 32;

/// Maximum size of an item, in bytes: ten times what etcd keeps.
const MAX_ITEM: u64 = 16 * 1024 * 1024;

/// Maximum number of blobs of an item.
const MAX_BLOBS: usize = 4096;

/// One item of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Path of the item.
    pub path: ItemPath,
    /// Size of the item in bytes.
    pub size: u64,
}

/// Walks all trees, and checks that all content they name is indexed in a pack that exists.
pub(super) fn tally(opened: &Opened<IndexedFullStatus>, root: TreeId) -> Result<Tally> {
    let mut tally = Tally::default();
    walk(opened, root, &mut |path, node| {
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

/// Lists all items, in order.
pub(super) fn list(opened: &Opened<IndexedFullStatus>, snapshot: &SnapshotFile) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    walk(opened, snapshot.tree, &mut |path, node| {
        // Never more than this is read of one item.
        items.push(Item { path: ItemPath::parse(path)?, size: node.meta.size.min(MAX_ITEM) });
        Ok(())
    })?;
    Ok(items)
}

/// State that is kept from item to item.
pub(super) struct Reading {
    opener: Opener,
    /// The files of the last directory: a directory with thousands of items takes longer to read
    /// than any of its items.
    last: Option<(String, Files)>,
}

/// The files of a directory by name, with the blobs of each.
struct Files(Vec<(Box<str>, Blobs)>);

/// The blobs of a file; most files have one.
enum Blobs {
    One(DataId),
    Many(Box<[DataId]>),
}

impl Files {
    fn read(tree: &StoredTree<'_>) -> Result<Self> {
        let mut files: Vec<(Box<str>, Blobs)> = Vec::new();
        tree.each(&mut |node| {
            if node.is_file() {
                let blobs = match node.content.as_deref() {
                    Some([one]) => Blobs::One(*one),
                    blobs => Blobs::Many(blobs.unwrap_or_default().into()),
                };
                files.push((node.name().to_string_lossy().into(), blobs));
            }
            Ok(())
        })?;
        files.sort_by(|(one, _), (other, _)| one.cmp(other));
        files.shrink_to_fit();
        Ok(Self(files))
    }

    fn find(&self, name: &str) -> Option<&[DataId]> {
        let place = self.0.binary_search_by(|(file, _)| (**file).cmp(name)).ok()?;
        Some(match &self.0[place].1 {
            Blobs::One(blob) => std::slice::from_ref(blob),
            Blobs::Many(blobs) => blobs,
        })
    }
}

impl Reading {
    pub(super) fn of(opened: &Opened<IndexedFullStatus>) -> Result<Self> {
        Ok(Self { opener: Opener::new(&opened.repository.key())?, last: None })
    }

    pub(super) fn opener(&mut self) -> &mut Opener {
        &mut self.opener
    }
}

/// Reads the content of one item.
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
            let mut subtree = None;
            StoredTree::read(opened, opener, tree)?.each(&mut |node| {
                if subtree.is_none() && *node.name() == *segment {
                    subtree = Some(node.subtree);
                }
                Ok(())
            })?;
            tree = subtree.flatten().ok_or_else(absent)?;
        }
        let files = Files::read(&StoredTree::read(opened, opener, tree)?)?;
        *last = Some((path.directory().to_owned(), files));
    }
    let files = last.as_ref().map(|(_, files)| files);
    let blobs = files.and_then(|files| files.find(path.file_name())).ok_or_else(absent)?;
    of_blobs(opened, opener, path, blobs)
}

/// Reads the content of an item that consists of these blobs.
pub(super) fn of_blobs(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    path: &ItemPath,
    blobs: &[DataId],
) -> Result<Vec<u8>> {
    let too_large = || opened.too_large(format!("`{path}` has more than {MAX_ITEM} bytes, or {MAX_BLOBS} parts"));
    if blobs.len() > MAX_BLOBS {
        return Err(too_large());
    }
    let mut content = Vec::new();
    for blob in blobs {
        let damaged = || opened.damaged(format!("content of `{path}` is not what was stored"));
        let room = MAX_ITEM - content.len() as u64;
        let bytes = match self::blob(opened, opener, blob, room)? {
            Blob::Content(bytes) => bytes,
            Blob::Damaged => return Err(damaged()),
            Blob::TooLarge => return Err(too_large()),
        };
        // Most items have a single blob.
        if content.is_empty() {
            content = bytes;
        } else {
            content.extend_from_slice(&bytes);
        }
    }
    Ok(content)
}

enum Blob {
    Content(Vec<u8>),
    Damaged,
    TooLarge,
}

/// Returns the content of a blob, if it has at most `most` bytes. The engine is not used, because
/// it creates a decompressor for each blob, and does not compare the content with its id.
fn blob(opened: &Opened<IndexedFullStatus>, opener: &mut Opener, id: &DataId, most: u64) -> Result<Blob> {
    let explain = |error: Box<RusticError>| opened.explain(&error);
    let entry = opened.repository.get_index_entry(id).map_err(explain)?;
    let place = entry.location;
    let length = place.uncompressed_length.map(|length| length.get() as usize);
    if length.unwrap_or(0).max(place.length as usize / 2) as u64 > most {
        return Ok(Blob::TooLarge);
    }
    let sealed = opened.backend.sealed(&entry.pack, place.offset, place.length)?;
    Ok(match opener.blob(&sealed, length) {
        Ok(content) if content.len() as u64 > most => Blob::TooLarge,
        Ok(content) if id_of(&content) == **id => Blob::Content(content),
        _ => Blob::Damaged,
    })
}

fn walk(
    opened: &Opened<IndexedFullStatus>,
    root: TreeId,
    visit: &mut dyn FnMut(&str, &Node) -> Result<()>,
) -> Result<()> {
    let mut opener = Opener::new(&opened.repository.key())?;
    walk_from(opened, &mut opener, root, "", 0, &mut 0, visit)
}

fn walk_from(
    opened: &Opened<IndexedFullStatus>,
    opener: &mut Opener,
    tree: TreeId,
    directory: &str,
    depth: usize,
    visited: &mut u64,
    visit: &mut dyn FnMut(&str, &Node) -> Result<()>,
) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(opened.damaged(format!("`{directory}` is nested too deeply")));
    }
    StoredTree::read(opened, opener, tree)?.each(&mut |node| {
        *visited += 1;
        let most = opened.most_nodes();
        if *visited > most {
            return Err(opened.too_large(format!("a snapshot has more than {most} items and directories")));
        }
        let name = node.name().to_string_lossy().into_owned();
        let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
        if node.is_dir() {
            let subtree = node.subtree.ok_or_else(|| opened.damaged(format!("`{path}` has no tree")))?;
            walk_from(opened, opener, subtree, &path, depth + 1, visited, visit)?;
        } else if node.is_file() {
            visit(&path, &node)?;
        }
        Ok(())
    })
}
