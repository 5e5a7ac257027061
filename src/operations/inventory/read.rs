//! Reads what a backup set holds, as identities and digests, kind by kind. A set of objects and an
//! inventory are read in the same way.
//!
//! In memory are the paths of the snapshot, and one chunk of records or one batch of objects.
//!
//! Must not: compare anything, or ask the API server.

#![deny(clippy::disallowed_types)]

use super::layout;
use crate::{
    api::{
        BackupSet,
        backup_set::{Content, Coverage},
        inventory::Completeness,
        item::GroupKind,
    },
    items::{
        inventory::{self as records, FORM, Record, chunk_from_bytes},
        semantic::{DigestKey, Status},
    },
    operations::{
        capture::{
            omission::{self, Note, UNKNOWN, is_note},
            scope::Scope,
        },
        restore::{
            absence::is_absence,
            inventory::{BATCH_BYTES, BATCH_ITEMS, StoredKind, parse, place},
        },
    },
    repository::{Item as SnapshotEntry, ItemPath, Repository, SnapshotReader},
    worker::{environment::UNDO_TAG, failure::Failure},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    iter::Peekable,
    slice::Iter,
};

/// Purpose of the derived key for digests of items.
const DIGESTS: &str = "tenantatlas/inventory/digests";

/// Reason code of a collection whose digests cannot be compared with those of this version.
const ANOTHER_FORM: &str = "AnotherForm";

/// Reason code of a collection whose records are not what was stored.
const DAMAGED: &str = "Damaged";

/// The key of the digests of all inventories of a repository. A live object is compared with a
/// recorded one by [`Record::of`] with this key.
#[must_use]
pub fn digest_key(repository: &impl Repository) -> DigestKey {
    DigestKey::new(repository.derived_key(DIGESTS))
}

/// What a backup set holds of one kind.
#[derive(Clone, Debug)]
pub struct Collection {
    /// The kind, in the version in which it was read.
    pub kind: StoredKind,
    /// Whether the items are all that there were. Only then an item that is not among them did not
    /// exist.
    pub completeness: Completeness,
    /// Why it is not complete: a reason code.
    pub reason: Option<String>,
    /// Which fields count in the digests of its items. The digest of a live item has to be made in
    /// the same way.
    pub status: Status,
    /// The entries of the snapshot, in its order.
    entries: Vec<SnapshotEntry>,
    /// Number of items, as far as it is recorded.
    items: Option<u64>,
}

impl Collection {
    fn new(kind: StoredKind) -> Self {
        let (completeness, status) = (Completeness::Complete, Status::Observed);
        Self { kind, completeness, reason: None, status, entries: Vec::new(), items: None }
    }

    /// Number of items, as the snapshot says.
    #[must_use]
    pub fn items(&self) -> u64 {
        self.items.unwrap_or(self.entries.len() as u64)
    }

    /// The paths of the items, if the set holds objects.
    pub fn paths(&self) -> impl Iterator<Item = &ItemPath> {
        self.entries.iter().map(|entry| &entry.path)
    }

    fn incomplete(&mut self, completeness: Completeness, reason: &str) {
        (self.completeness, self.reason) = (completeness, Some(reason.to_owned()));
    }
}

/// An item, or what is known of one that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// The item. Its id is that of the collection's kind and this name.
    Item(Record),
    /// Something that cannot be read: neither there nor absent.
    Unreadable {
        /// Name of the item; `None` if there may be several, of any name.
        name: Option<String>,
        /// What is wrong.
        problem: String,
    },
}

/// An open backup set.
pub struct Holdings {
    reader: SnapshotReader,
    content: Content,
    key: DigestKey,
    scope: Option<Scope>,
    scope_key: Option<String>,
    collections: Vec<Collection>,
}

impl Holdings {
    /// Opens a backup set. `without_status` are the kinds whose status is a field like others
    /// (`Catalog::without_status`); an inventory knows by itself.
    pub async fn open(
        repository: &impl Repository,
        set: &BackupSet,
        without_status: &BTreeSet<GroupKind>,
    ) -> Result<Self, Failure> {
        let reader = repository.reader(&set.spec.snapshot).await?;
        let (content, key) = (set.spec.content, digest_key(repository));
        let tags = reader.snapshot().tags;
        let scope = scope_of(set, &tags);
        let tagged = tags.iter().find_map(|tag| tag.strip_prefix(layout::SCOPE_TAG)).map(str::to_owned);
        let scope_key = scope.as_ref().map(|_| set.spec.selection.scope_key()).or(tagged);
        let mut found = BTreeMap::new();
        let mut described = Vec::new();
        for entry in reader.items().await? {
            if is_absence(&entry.path) {
                continue;
            }
            let is_description = match content {
                Content::Inventory => layout::is_collection(&entry.path),
                Content::Objects => is_note(&entry.path),
            };
            if is_description {
                described.push(entry);
            } else if layout::is_record(&entry.path) == (content == Content::Inventory) && !is_note(&entry.path) {
                let kind = kind_of(&entry.path);
                let collection = found.entry(kind.clone()).or_insert_with(|| Collection::new(kind));
                collection.entries.push(entry);
            }
        }
        for collection in found.values_mut() {
            if without_status.contains(&collection.kind.kind) {
                collection.status = Status::Data;
            }
        }
        let mut holdings = Self { reader, content, key, scope, scope_key, collections: Vec::new() };
        holdings.describe(&mut found, described).await?;
        holdings.collections = found.into_values().collect();
        Ok(holdings)
    }

    /// Reads what the snapshot says of its kinds.
    async fn describe(
        &self,
        found: &mut BTreeMap<StoredKind, Collection>,
        described: Vec<SnapshotEntry>,
    ) -> Result<(), Failure> {
        if self.content == Content::Inventory {
            // Chunks without a description are of nothing that is known.
            for collection in found.values_mut() {
                collection.incomplete(Completeness::Partial, DAMAGED);
            }
        }
        for entry in described {
            let kind = kind_of(&entry.path);
            let collection = found.entry(kind.clone()).or_insert_with(|| Collection::new(kind));
            let content = self.reader.read(vec![entry.path]).await?.pop();
            let content = match (content, self.fault()) {
                (_, Some(fault)) => return Err(fault),
                (Some(Ok(content)), None) => content,
                (_, None) => {
                    collection.incomplete(Completeness::Partial, DAMAGED);
                    continue;
                }
            };
            match self.content {
                Content::Objects => {
                    let (completeness, reason) = omission::completeness(&Note::from_content(&content));
                    (collection.completeness, collection.reason) = (completeness, reason);
                }
                Content::Inventory => described_by(collection, records::Collection::from_bytes(&content)),
            }
        }
        Ok(())
    }

    /// What the set holds.
    #[must_use]
    pub fn content(&self) -> Content {
        self.content
    }

    /// Key of what was selected, if it is known: `Selection::scope_key`.
    #[must_use]
    pub fn scope_key(&self) -> Option<&str> {
        self.scope_key.as_deref()
    }

    /// What was selected, if it is known.
    #[must_use]
    pub fn scope(&self) -> Option<&Scope> {
        self.scope.as_ref()
    }

    /// The kinds that are recorded, in the order of their paths. A group that could not be discovered
    /// is one with the kind `-`.
    #[must_use]
    pub fn collections(&self) -> &[Collection] {
        &self.collections
    }

    /// The collection of a kind, if it is recorded.
    #[must_use]
    pub fn find(&self, kind: &GroupKind) -> Option<&Collection> {
        self.collections.iter().find(|collection| collection.kind.kind == *kind)
    }

    /// How much is known of a kind; `None` if it was not asked for, or if it is not known what was.
    /// A kind that was asked for and is not recorded was complete, and had no items.
    #[must_use]
    pub fn completeness(&self, kind: &GroupKind) -> Option<Completeness> {
        let of_kind = self.collections.iter().filter(|collection| collection.kind.kind == *kind);
        if let Some(worst) = of_kind.map(|collection| collection.completeness).max() {
            return Some(worst);
        }
        if self.find(&GroupKind::new(kind.group.clone(), UNKNOWN)).is_some() {
            return Some(Completeness::Undiscovered);
        }
        self.scope.as_ref().filter(|scope| scope.lists(kind)).map(|_| Completeness::Complete)
    }

    /// When the snapshot was taken.
    #[must_use]
    pub fn taken_at(&self) -> jiff::Timestamp {
        self.reader.snapshot().time
    }

    /// The object of an item, or what is wrong with it. An inventory holds none.
    pub async fn object(&self, collection: &Collection, name: &str) -> Result<Result<Value, String>, Failure> {
        let StoredKind { kind, version } = &collection.kind;
        let path = match ItemPath::new(&kind.group, version, &kind.kind, name) {
            Ok(path) => path,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let content = self.reader.read(vec![path.clone()]).await?.pop();
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let content = content
            .map_or_else(|| Err("nothing is stored".to_owned()), |content| content.map_err(|error| error.to_string()));
        Ok(content.and_then(|content| parse(&path, &content)))
    }

    /// Reads some items of a kind, all of objects.
    pub async fn read_some(&self, collection: &Collection, paths: Vec<ItemPath>) -> Result<Vec<Recorded>, Failure> {
        let contents = self.reader.read(paths.clone()).await?;
        if let Some(fault) = self.fault() {
            return Err(fault);
        }
        let contents = paths.iter().zip(contents);
        Ok(contents
            .map(|(path, content)| self.recorded(collection, path, content.map_err(|error| error.to_string())))
            .collect())
    }

    /// An object as what is recorded of it.
    fn recorded(&self, collection: &Collection, path: &ItemPath, content: Result<Vec<u8>, String>) -> Recorded {
        let Collection { kind, status, .. } = collection;
        match content.and_then(|content| parse(path, &content)) {
            Ok(Value::Object(object)) => {
                Recorded::Item(Record::of(&self.key, object, &kind.api_version(), &kind.kind.kind, *status))
            }
            Ok(_) => Recorded::Unreadable { name: path.name(), problem: "what is stored is no object".to_owned() },
            Err(problem) => Recorded::Unreadable { name: path.name(), problem },
        }
    }

    /// Starts to read the items of a kind.
    #[must_use]
    pub fn read<'a>(&'a self, collection: &'a Collection) -> Reading<'a> {
        Reading { holdings: self, collection, entries: collection.entries.iter().peekable(), read: 0, last: None }
    }

    /// The fault of the store, if there was one that says nothing about the snapshot.
    fn fault(&self) -> Option<Failure> {
        self.reader.fault().filter(|fault| !fault.is_of_the_content()).map(Failure::from)
    }
}

/// What was selected, if the set says it. The set of a found or undone snapshot does not, nor does
/// that of an incomplete capture: it has the selection of one that was made for a single object.
fn scope_of(set: &BackupSet, tags: &[String]) -> Option<Scope> {
    let spec = &set.spec;
    let is_known =
        !spec.selection.is_everything() || spec.coverage == Coverage::Full || spec.content == Content::Inventory;
    if set.is_adopted() || tags.iter().any(|tag| tag == UNDO_TAG) || !is_known {
        return None;
    }
    Scope::new(spec.selection.clone(), None).ok()
}

fn described_by(collection: &mut Collection, description: Option<records::Collection>) {
    let Some(description) = description else {
        collection.incomplete(Completeness::Partial, DAMAGED);
        return;
    };
    collection.status = description.status();
    collection.items = Some(description.items);
    if description.form != FORM {
        collection.entries.clear();
        collection.incomplete(Completeness::Partial, ANOTHER_FORM);
    } else if description.chunks != collection.entries.len() as u64 {
        collection.incomplete(Completeness::Partial, DAMAGED);
    } else {
        (collection.completeness, collection.reason) = (description.completeness, description.reason);
    }
}

/// The kind of a path, whatever the directory beside the kind's own is for.
fn kind_of(path: &ItemPath) -> StoredKind {
    let mut kind = place(path);
    if let Some((plain, _)) = kind.kind.kind.split_once('.') {
        kind.kind.kind = plain.to_owned();
    }
    kind
}

/// The items of a kind, as they are read. Their order is that of the snapshot: by name in an
/// inventory, by file name among objects.
pub struct Reading<'a> {
    holdings: &'a Holdings,
    collection: &'a Collection,
    entries: Peekable<Iter<'a, SnapshotEntry>>,
    /// Number of records so far.
    read: u64,
    /// The greatest name so far.
    last: Option<String>,
}

impl Reading<'_> {
    /// The next items, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Recorded>>, Failure> {
        let Some(first) = self.entries.next() else { return Ok(self.missing()) };
        let mut batch = vec![first.path.clone()];
        let mut bytes = first.size;
        // A chunk is a batch by itself.
        while self.holdings.content == Content::Objects && batch.len() < BATCH_ITEMS {
            let Some(next) = self.entries.next_if(|entry| bytes.saturating_add(entry.size) <= BATCH_BYTES) else {
                break;
            };
            bytes = bytes.saturating_add(next.size);
            batch.push(next.path.clone());
        }
        let contents = self.holdings.reader.read(batch.clone()).await?;
        if let Some(fault) = self.holdings.fault() {
            return Err(fault);
        }
        let mut found = Vec::new();
        for (path, content) in batch.iter().zip(contents) {
            let content = content.map_err(|error| error.to_string());
            match self.holdings.content {
                Content::Objects => found.push(self.holdings.recorded(self.collection, path, content)),
                Content::Inventory => self.chunk(content, &mut found),
            }
        }
        Ok(Some(found))
    }

    fn chunk(&mut self, content: Result<Vec<u8>, String>, found: &mut Vec<Recorded>) {
        let read = content.and_then(|content| {
            chunk_from_bytes(&content).ok_or_else(|| "what is stored is no chunk of an inventory".to_owned())
        });
        match read {
            Ok(chunk)
                if self.last.as_ref().is_none_or(|last| chunk.first().is_some_and(|first| first.name > *last)) =>
            {
                self.last = chunk.last().map(|record| record.name.clone());
                self.read += chunk.len() as u64;
                found.extend(chunk.into_iter().map(Recorded::Item));
            }
            Ok(_) => found.push(unknown("a chunk of the inventory is out of order".to_owned())),
            Err(problem) => found.push(unknown(problem)),
        }
    }

    /// At the end: whether there were fewer items than the kind has.
    fn missing(&mut self) -> Option<Vec<Recorded>> {
        let expected = self.collection.items.filter(|_| self.holdings.content == Content::Inventory)?;
        let read = std::mem::replace(&mut self.read, expected);
        let problem = format!("the inventory has {read} items, and should have {expected}");
        (read != expected).then(|| vec![unknown(problem)])
    }
}

fn unknown(problem: String) -> Recorded {
    Recorded::Unreadable { name: None, problem }
}
