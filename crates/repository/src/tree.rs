//! Trees: turns items in order into directories that name their content.

use std::ffi::OsStr;

use jiff::Timestamp;
use rustic_core::repofile::{Metadata, Node, NodeType};
use rustic_core::{DataId, Id, TreeId};

use super::error::{Error, Result};
use super::pack::Packer;
use super::path::ItemPath;
use super::seal::{LARGE, Sealer, Writing};

/// The open directories, from the root to the directory of the last item.
pub(super) struct Trees<'a> {
    packer: Packer<'a>,
    open: Vec<Directory>,
    /// Number of complete directories.
    closed: u64,
}

/// A tree as it will be stored, without its end. Nodes are written as they arrive, because a kind
/// may have many items.
struct Directory {
    name: String,
    /// The beginning of a large tree.
    begun: Option<Writing>,
    /// The tree, or what follows its beginning.
    json: Vec<u8>,
    is_empty: bool,
}

impl Directory {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), begun: None, json: br#"{"nodes":["#.to_vec(), is_empty: true }
    }

    fn add(&mut self, node: &Node, sealer: &Sealer) -> Result<()> {
        if !self.is_empty {
            self.json.push(b',');
        }
        self.is_empty = false;
        serde_json::to_writer(&mut self.json, node)
            .map_err(|error| Error::internal("writing a tree", error.to_string()))?;
        if self.json.len() > LARGE {
            let mut begun = self.begun.take().map_or_else(|| sealer.begin(), Ok)?;
            begun.write(&self.json)?;
            self.json.clear();
            self.begun = Some(begun);
        }
        Ok(())
    }
}

impl<'a> Trees<'a> {
    pub(super) fn new(packer: Packer<'a>) -> Self {
        Self { packer, open: vec![Directory::new("")], closed: 0 }
    }

    /// Adds an item, which must sort after all earlier items.
    pub(super) fn add(
        &mut self,
        path: &ItemPath,
        size: u64,
        mtime: Timestamp,
        content: Vec<DataId>,
        sealer: &mut Sealer,
    ) -> Result<()> {
        let metadata = Metadata {
            mode: Some(0o600),
            // Without it, `restic restore` creates files dated 1901.
            mtime: Some(mtime),
            size,
            links: 1,
            ..Metadata::default()
        };
        let mut node = Node::new_node(OsStr::new(path.file_name()), NodeType::File, metadata);
        node.content = Some(content);
        self.enter(path.directory(), sealer)?;
        self.open.last_mut().map_or(Ok(()), |directory| directory.add(&node, sealer))
    }

    /// Closes all directories. Returns the root, the number of directories and the packer.
    pub(super) fn finish(mut self, sealer: &mut Sealer) -> Result<(TreeId, u64, Packer<'a>)> {
        while self.open.len() > 1 {
            self.close(sealer)?;
        }
        let root = self.store(sealer)?;
        Ok((root.into(), self.closed, self.packer))
    }

    fn enter(&mut self, path: &str, sealer: &mut Sealer) -> Result<()> {
        let same = self.open.iter().skip(1).zip(path.split('/')).take_while(|(open, name)| open.name == *name).count();
        while self.open.len() > same + 1 {
            self.close(sealer)?;
        }
        self.open.extend(path.split('/').skip(same).map(Directory::new));
        Ok(())
    }

    fn close(&mut self, sealer: &mut Sealer) -> Result<()> {
        let name = self.open.last().map(|directory| directory.name.clone()).unwrap_or_default();
        let metadata = Metadata { mode: Some(0o755), ..Metadata::default() };
        let mut node = Node::new_node(OsStr::new(&name), NodeType::Dir, metadata);
        node.subtree = Some(self.store(sealer)?.into());
        self.open.last_mut().map_or(Ok(()), |parent| parent.add(&node, sealer))
    }

    /// Stores the innermost directory.
    fn store(&mut self, sealer: &mut Sealer) -> Result<Id> {
        let mut directory = self.open.pop().unwrap_or_else(|| Directory::new(""));
        // `restic` ends a tree with a line end, so the id is computed over it too.
        directory.json.extend_from_slice(b"]}\n");
        self.closed += 1;
        match directory.begun {
            None => self.packer.add(&directory.json, sealer),
            Some(mut begun) => {
                begun.write(&directory.json)?;
                self.packer.add_written(begun.finish()?, sealer)
            }
        }
    }
}
