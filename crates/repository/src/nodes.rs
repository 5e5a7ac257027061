//! The nodes of a tree, one after the other.
//!
//! A tree is one directory, which holds all objects of one kind of a tenant. The engine reads a
//! tree as a whole, at about two kilobytes per node. Here only the compressed tree is held, at most
//! a third of a kilobyte per node.
//!
//! Must not know of items and paths; that is [`super::read`].

use std::fmt;
use std::io::{self, BufReader, Read};

use rustic_core::repofile::Node;
use rustic_core::{Id, IndexedFullStatus, TreeId};
use serde::de::{
    Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::engine::Opened;
use super::error::{Error, Result};
use super::format::id_of;
use super::seal::{MAX_BLOB, Opener, Unsealed};

/// A tree as stored.
pub(super) struct StoredTree<'a> {
    opened: &'a Opened<IndexedFullStatus>,
    id: TreeId,
    /// The decrypted tree, possibly compressed.
    plain: Vec<u8>,
    /// Length of the content, if it is compressed.
    length: Option<usize>,
}

/// A tree is searched as a whole up to this size, in bytes: that of some 20,000 nodes. A larger one is
/// read in pieces.
const MAX_WHOLE: usize = 4 * 1024 * 1024;

impl<'a> StoredTree<'a> {
    pub(super) fn read(opened: &'a Opened<IndexedFullStatus>, opener: &mut Opener, id: TreeId) -> Result<Self> {
        let entry = opened.repository.get_index_entry(&id).map_err(|error| opened.explain(&error))?;
        let place = entry.location;
        let sealed = opened.backend.sealed(&entry.pack, place.offset, place.length)?;
        let plain = opener.decrypted(&sealed).map_err(|Unsealed| damaged(opened, id))?;
        Ok(Self { opened, id, plain, length: place.uncompressed_length.map(|length| length.get() as usize) })
    }

    /// The content as a whole, unless it is large. It matches its id.
    pub(super) fn whole(&self, opener: &mut Opener) -> Result<Option<Vec<u8>>> {
        if self.length.unwrap_or(self.plain.len()) > MAX_WHOLE {
            return Ok(None);
        }
        let content = match self.length {
            None => self.plain.clone(),
            Some(length) => {
                opener.decompressed(&self.plain, length).map_err(|Unsealed| damaged(self.opened, self.id))?
            }
        };
        if id_of(&content) == *self.id { Ok(Some(content)) } else { Err(damaged(self.opened, self.id)) }
    }

    /// Visits each node. Whether the tree matches its id is only known at the end.
    pub(super) fn each(&self, visit: &mut dyn FnMut(Node) -> Result<()>) -> Result<()> {
        self.each_as(visit)
    }

    /// Visits each node as its JSON, which takes a fraction of the time. Of a large tree it is only
    /// known at the end whether it matches its id.
    pub(super) fn each_unread(
        &self,
        opener: &mut Opener,
        visit: &mut dyn FnMut(&RawValue) -> Result<()>,
    ) -> Result<()> {
        let Some(content) = self.whole(opener)? else {
            return self.each_as(&mut |node: Box<RawValue>| visit(&node));
        };
        let mut failed = None;
        let tree = Tree { visit: &mut |node: &RawValue| visit(node), failed: &mut failed };
        let mut json = serde_json::Deserializer::from_slice(&content);
        let parsed = tree.deserialize(&mut json).and_then(|()| json.end());
        match failed {
            Some(error) => Err(error),
            None => parsed.map_err(|_| damaged(self.opened, self.id)),
        }
    }

    fn each_as<N: DeserializeOwned>(&self, visit: &mut dyn FnMut(N) -> Result<()>) -> Result<()> {
        let content: Box<dyn Read + '_> = if self.length.is_some() {
            let decoder = zstd::stream::read::Decoder::new(self.plain.as_slice());
            Box::new(decoder.map_err(|_| damaged(self.opened, self.id))?)
        } else {
            Box::new(self.plain.as_slice())
        };
        let mut measured = Measured { content, hash: Sha256::new(), read: 0 };
        let mut failed = None;
        let mut reader = BufReader::new(&mut measured);
        let tree = Tree { visit, failed: &mut failed };
        let parsed = tree.deserialize(&mut serde_json::Deserializer::from_reader(&mut reader));
        let parsed = parsed.is_ok() && io::copy(&mut reader, &mut io::sink()).is_ok();
        if let Some(error) = failed {
            return Err(error);
        }
        if measured.read > MAX_BLOB {
            let what = format!("the content of the tree {} has more than {MAX_BLOB} bytes", self.id.to_hex().as_str());
            return Err(self.opened.too_large(what));
        }
        let id: [u8; 32] = measured.hash.finalize().into();
        if parsed && *self.id == Id::new(id) { Ok(()) } else { Err(damaged(self.opened, self.id)) }
    }
}

fn damaged(opened: &Opened<IndexedFullStatus>, id: TreeId) -> Error {
    opened.damaged(format!("the tree {} is not what was stored", id.to_hex().as_str()))
}

/// Content that is hashed as it is read. Reading fails once there is too much of it.
struct Measured<'a> {
    content: Box<dyn Read + 'a>,
    hash: Sha256,
    read: usize,
}

impl Read for Measured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.content.read(buffer)?;
        self.read += read;
        if self.read > MAX_BLOB {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

/// A tree: an object with a list of nodes, or `null` for no nodes.
struct Tree<'a, N> {
    visit: &'a mut dyn FnMut(N) -> Result<()>,
    failed: &'a mut Option<Error>,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Tree<'_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Tree<'_, N> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a tree")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let Self { visit, failed } = self;
        let mut found = false;
        while let Some(field) = map.next_key::<String>()? {
            if field == "nodes" {
                found = true;
                map.next_value_seed(Nodes { visit: &mut *visit, failed: &mut *failed })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if found { Ok(()) } else { Err(A::Error::missing_field("nodes")) }
    }
}

struct Nodes<'a, N> {
    visit: &'a mut dyn FnMut(N) -> Result<()>,
    failed: &'a mut Option<Error>,
}

impl<'de, N: Deserialize<'de>> DeserializeSeed<'de> for Nodes<'_, N> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de, N: Deserialize<'de>> Visitor<'de> for Nodes<'_, N> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of nodes")
    }

    fn visit_none<E>(self) -> std::result::Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut nodes: A) -> std::result::Result<(), A::Error> {
        while let Some(node) = nodes.next_element::<N>()? {
            if let Err(error) = (self.visit)(node) {
                *self.failed = Some(error);
                return Err(A::Error::custom("what visits it has failed"));
            }
        }
        Ok(())
    }
}
