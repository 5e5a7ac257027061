//! The selected contents of a snapshot, and the owners of its items.
//!
//! Contents are read once and not kept. Only the name, size and owners of each item are. An entry
//! that is not the object that its path names is reported and left out: a repository is untrusted.

use crate::{
    api::item::{GroupKind, ItemId},
    items::{owners, selection::ItemSelection},
    operations::{capture::omission::is_note, restore::absence::is_absence},
    repository::{Item as SnapshotEntry, ItemPath, SnapshotReader},
    worker::failure::Failure,
};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A kind in its version in the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredKind {
    /// Group and kind.
    pub kind: GroupKind,
    /// Version in the snapshot.
    pub version: String,
}

impl StoredKind {
    /// The kind of the items in a directory `group/version/kind`, with `core` for the core group.
    #[must_use]
    pub fn of_directory(directory: &str) -> Self {
        let mut segments = directory.split('/');
        let group = segments.next().filter(|group| *group != "core").unwrap_or_default();
        let version = segments.next().unwrap_or_default().to_owned();
        Self { kind: GroupKind::new(group, segments.next().unwrap_or_default()), version }
    }

    /// `group/version`, or the version alone for the core group.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.kind.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.kind.group, self.version) }
    }
}

/// An item of the snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Size in bytes.
    pub size: u64,
    /// Owners of the item.
    pub owners: Box<[ItemId]>,
}

/// An item with invalid content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The item, as named by its path.
    pub item: ItemId,
    /// The `apiVersion`, as named by its path.
    pub api_version: String,
    /// What is wrong.
    pub problem: String,
}

/// The selected contents of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Selected items by kind and name.
    pub kinds: BTreeMap<StoredKind, BTreeMap<String, Entry>>,
    /// Items that cannot be restored.
    pub broken: Vec<Broken>,
    /// Indexes of those entries of `items` that match nothing.
    pub unmatched: Vec<usize>,
    /// All other items in the snapshot, by kind. None of them was absent.
    pub held: BTreeMap<GroupKind, Vec<String>>,
    /// Paths of the notes in which the capture recorded what it left out.
    pub notes: Vec<ItemPath>,
}

impl Inventory {
    /// All selected items.
    pub fn items(&self) -> impl Iterator<Item = (ItemId, &Entry)> {
        self.kinds.iter().flat_map(|(kind, entries)| {
            entries.iter().map(move |(name, entry)| (ItemId::new(kind.kind.clone(), name), entry))
        })
    }

    /// Whether an item is selected.
    #[must_use]
    pub fn selects(&self, item: &ItemId) -> bool {
        let mut of_kind = self.kinds.iter().filter(|(kind, _)| kind.kind == item.kind);
        of_kind.any(|(_, entries)| entries.contains_key(&item.name))
    }

    /// Whether the snapshot holds an item, selected or not.
    #[must_use]
    pub fn holds(&self, item: &ItemId) -> bool {
        self.selects(item) || self.held.get(&item.kind).is_some_and(|names| names.binary_search(&item.name).is_ok())
    }
}

/// Maximum total size of the items in memory at once, unless a single item is larger.
pub const BATCH_BYTES: u64 = 4 * 1024 * 1024;
/// Maximum number of items in memory at once.
pub const BATCH_ITEMS: usize = 128;

/// Kinds of the items in a snapshot, derived from its paths alone.
#[must_use]
pub fn kinds(items: &[SnapshotEntry]) -> BTreeSet<GroupKind> {
    items.iter().filter(|item| is_item(&item.path)).map(|item| place(&item.path).kind).collect()
}

/// Whether a path is neither a note of what was left out nor a file with names of absent items.
fn is_item(path: &ItemPath) -> bool {
    !is_note(path) && !is_absence(path)
}

/// Reads a snapshot. Of kinds that are not `visible` to the requester, only names are used: labels
/// select none of their items, and their owners are unknown.
pub async fn read(
    reader: &SnapshotReader,
    items: Vec<SnapshotEntry>,
    selection: &ItemSelection,
    visible: impl Fn(&GroupKind) -> bool,
) -> Result<Inventory, Failure> {
    let mut inventory = Inventory::default();
    let mut matched = vec![false; selection.entries()];
    inventory.notes = items.iter().filter(|item| is_note(&item.path)).map(|item| item.path.clone()).collect();
    let mut wanted = Vec::with_capacity(items.len());
    for item in items.into_iter().filter(|item| is_item(&item.path)) {
        let named = ItemId::new(place(&item.path).kind, stem(&item.path));
        // An unescaped name is enough to leave an item unread.
        if !named.name.contains('%') && !selection.may_take(&named) {
            inventory.held.entry(named.kind).or_default().push(named.name);
        } else {
            wanted.push(item);
        }
    }
    for batch in batches(wanted.into_iter(), |item| item.size) {
        let paths = batch.iter().map(|item| item.path.clone()).collect();
        for (item, content) in batch.into_iter().zip(reader.read(paths).await?) {
            let place = place(&item.path);
            let named = ItemId::new(place.kind.clone(), stem(&item.path));
            let object =
                match content.map_err(|error| error.to_string()).and_then(|content| parse(&item.path, &content)) {
                    Ok(object) => object,
                    Err(problem) => {
                        inventory.held.entry(place.kind.clone()).or_default().push(named.name.clone());
                        if selection.may_take(&named) {
                            inventory.broken.push(Broken { item: named, api_version: place.api_version(), problem });
                        }
                        continue;
                    }
                };
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let id = ItemId::new(place.kind.clone(), name);
            let visible = visible(&id.kind);
            let (matching, takes): (Vec<usize>, bool) = if visible {
                (selection.matching(&id, &object).collect(), selection.takes(&id, &object))
            } else {
                (selection.may_match(&id).collect(), selection.may_take(&id))
            };
            for place in matching {
                matched[place] = true;
            }
            if !takes {
                inventory.held.entry(id.kind).or_default().push(id.name);
                continue;
            }
            let twice = inventory.kinds.iter().any(|(kind, entries)| {
                kind.kind == id.kind && kind.version != place.version && entries.contains_key(&id.name)
            });
            if twice {
                let problem = "the snapshot holds it in two versions".to_owned();
                inventory.broken.push(Broken { item: id, api_version: place.api_version(), problem });
                continue;
            }
            let owners = if visible { owners::owners(&object).into() } else { Box::default() };
            let entry = Entry { size: item.size, owners };
            inventory.kinds.entry(place).or_default().insert(id.name, entry);
        }
    }
    for names in inventory.held.values_mut() {
        names.sort();
    }
    inventory.unmatched = (0..matched.len()).filter(|place| !matched[*place]).collect();
    Ok(inventory)
}

/// Groups items so that a group fits into memory.
pub fn batches<T>(items: impl Iterator<Item = T>, size: impl Fn(&T) -> u64) -> impl Iterator<Item = Vec<T>> {
    let mut items = items.peekable();
    std::iter::from_fn(move || {
        let mut batch = vec![items.next()?];
        let mut bytes = size(&batch[0]);
        while batch.len() < BATCH_ITEMS {
            match items.next_if(|item| bytes.saturating_add(size(item)) <= BATCH_BYTES) {
                Some(item) => {
                    bytes = bytes.saturating_add(size(&item));
                    batch.push(item);
                }
                None => break,
            }
        }
        Some(batch)
    })
}

/// Path of an item in the snapshot.
pub fn path(kind: &StoredKind, name: &str) -> Result<ItemPath, Failure> {
    Ok(ItemPath::new(&kind.kind.group, &kind.version, &kind.kind.kind, name)?)
}

/// Parses the content at a path. Fails if it is not the object that the path names.
pub fn parse(path: &ItemPath, content: &[u8]) -> Result<Value, String> {
    // The parser's message is not used: it may quote the content.
    let object: Value = serde_json::from_slice(content).map_err(|_| "what is stored is not JSON".to_owned())?;
    let place = place(path);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let says = ItemPath::new(&place.kind.group, &place.version, &place.kind.kind, name);
    let is_itself = object["apiVersion"] == place.api_version() && object["kind"] == place.kind.kind;
    if is_itself && says.is_ok_and(|says| says == *path) {
        Ok(object)
    } else {
        Err("what is stored is another object than its path says".to_owned())
    }
}

/// Kind and version in a path.
#[must_use]
pub fn place(path: &ItemPath) -> StoredKind {
    StoredKind::of_directory(path.directory())
}

/// The name in a path, if it is not escaped.
#[must_use]
pub fn stem(path: &ItemPath) -> &str {
    path.file_name().strip_suffix(".json").unwrap_or(path.file_name())
}
