//! What an inventory records: identity and digest of each item, without its content.
//!
//! The digest of an item is a keyed hash of the fields that count ([`crate::semantic`]) of its
//! stored form ([`crate::canonical`]). So it is the same whether it is made of a live object, or of
//! one that was stored in a backup and read back.
//!
//! The items of a kind are recorded by name, in chunks. A chunk ends after an item whose name
//! hashes to a certain value, and never depends on what is in other chunks. So an item that changes,
//! comes or goes changes one chunk (or splits it, or joins it with the next), and all others keep
//! their bytes, which a repository stores once.
//!
//! Records are read back from a repository, which is untrusted.

use crate::{
    api::{canonical, inventory::Completeness},
    canonical::stored,
    semantic::{DigestKey, Status, into_semantic},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fmt;

/// The form of digests. It has to change with everything that changes the digest of an object.
/// Digests of two forms cannot be compared.
pub const FORM: u32 = 1;

/// On average, so many items are in a chunk: a change writes one chunk, and a list of all chunks.
const CHUNK: u16 = 128;

/// The most items of a chunk, however they are named.
pub const MAX_CHUNK: usize = 1024;

/// Digest of an item: half of a keyed hash. Without the key it cannot be made, so it does not tell
/// whether a Secret has a certain value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(#[serde(with = "hex")] [u8; 16]);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Digest({self})")
    }
}

/// What is recorded of an item. Its kind and version are those of its collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its uid, which tells it from a later item of the same name. Empty if it has none.
    pub uid: String,
    /// When it was created, as it says itself. Empty if it does not.
    pub created: String,
    /// Digest of its content.
    pub digest: Digest,
}

impl Record {
    /// Records an object, live or stored. `status` is that of its kind.
    #[must_use]
    pub fn of(key: &DigestKey, object: Map<String, Value>, api_version: &str, kind: &str, status: Status) -> Self {
        let text = |field: &str| {
            let text = object.get("metadata").and_then(|metadata| metadata.get(field)?.as_str());
            text.unwrap_or_default().to_owned()
        };
        let (name, uid, created) = (text("name"), text("uid"), text("creationTimestamp"));
        let counts = into_semantic(stored(object, api_version, kind), status);
        let mac = key.mac(&canonical::to_vec(&Value::Object(counts)));
        let mut digest = [0; 16];
        // A MAC has 32 bytes.
        digest.iter_mut().zip(mac).for_each(|(to, from)| *to = from);
        Self { name, uid, created, digest: Digest(digest) }
    }
}

/// What is recorded of a kind, beside its items.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Collection {
    /// Whether the items are all that there were.
    pub completeness: Completeness,
    /// Reason code of the first item that is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The [form](FORM) of the digests.
    pub form: u32,
    /// Whether the status of an item counts as content ([`Status::Data`]).
    pub status_counts: bool,
    /// Number of items.
    pub items: u64,
    /// Number of chunks.
    pub chunks: u64,
}

impl Collection {
    /// Which fields count in the digests of its items.
    #[must_use]
    pub fn status(&self) -> Status {
        if self.status_counts { Status::Data } else { Status::Observed }
    }

    /// The bytes that are stored.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        bytes(self)
    }

    /// Reads stored bytes, or `None` if they are not what was stored.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    // A value of these types is always JSON.
    serde_json::to_value(value).map(|value| canonical::to_vec(&value)).unwrap_or_default()
}

/// The bytes of a chunk: a JSON list.
#[must_use]
pub fn chunk_to_bytes(records: &[Record]) -> Vec<u8> {
    bytes(&records)
}

/// Reads a chunk, or `None` if it is not one: something else, too long, or out of order.
#[must_use]
pub fn chunk_from_bytes(bytes: &[u8]) -> Option<Vec<Record>> {
    let records: Vec<Record> = serde_json::from_slice(bytes).ok()?;
    let ascends = records.is_sorted_by(|one, other| one.name < other.name);
    (ascends && !records.is_empty() && records.len() <= MAX_CHUNK).then_some(records)
}

/// Makes chunks of the records of a kind, which come by name.
#[derive(Debug, Default)]
pub struct Chunker {
    open: Vec<Record>,
}

impl Chunker {
    /// Takes the next record. Returns the chunk that it completes, if it does.
    pub fn push(&mut self, record: Record) -> Option<Vec<Record>> {
        let ends = ends_chunk(&record.name);
        self.open.push(record);
        (ends || self.open.len() == MAX_CHUNK).then(|| std::mem::take(&mut self.open))
    }

    /// The last chunk, unless it is empty.
    #[must_use]
    pub fn finish(&mut self) -> Option<Vec<Record>> {
        Some(std::mem::take(&mut self.open)).filter(|last| !last.is_empty())
    }
}

/// Whether a chunk ends after an item of this name.
fn ends_chunk(name: &str) -> bool {
    let hash = Sha256::digest(name.as_bytes());
    u16::from_be_bytes([hash[0], hash[1]]) % CHUNK == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canonical::stored_bytes;
    use proptest::{prelude::*, sample::Index};
    use serde_json::json;
    use std::collections::{BTreeMap, BTreeSet};

    fn key() -> DigestKey {
        DigestKey::new(*b"0123456789abcdef")
    }

    fn record(object: &Value, status: Status) -> Record {
        Record::of(&key(), object.as_object().cloned().expect("an object"), "apps/v1", "Deployment", status)
    }

    fn object() -> Value {
        json!({"spec": {"replicas": 3}, "status": {"replicas": 3}, "metadata": {"name": "web", "uid": "u",
            "creationTimestamp": "2026-01-02T03:04:05Z", "resourceVersion": "7", "generation": 2,
            "managedFields": [{"manager": "helm", "operation": "Apply", "time": "t"}]}})
    }

    #[test]
    fn a_record_has_the_identity_and_a_digest_of_what_counts() {
        let of = record(&object(), Status::Observed);
        assert_eq!((of.name.as_str(), of.uid.as_str(), of.created.as_str()), ("web", "u", "2026-01-02T03:04:05Z"));
        for (pointer, counts) in [
            ("/metadata/resourceVersion", false),
            ("/metadata/managedFields/0/manager", false),
            ("/metadata/generation", false),
            ("/status/replicas", false),
            ("/spec/replicas", true),
            ("/metadata/uid", true),
        ] {
            let mut changed = object();
            *changed.pointer_mut(pointer).expect("there") = json!("another");
            assert_eq!(record(&changed, Status::Observed).digest != of.digest, counts, "{pointer}");
        }
        let mut changed = object();
        changed["status"]["replicas"] = json!(4);
        assert_ne!(record(&changed, Status::Data).digest, record(&object(), Status::Data).digest);
        assert_eq!(record(&json!({}), Status::Observed).name, "", "an object of any shape has a record");
    }

    /// If this fails, digests that are stored are of another form now: raise [`FORM`].
    #[test]
    fn the_digest_of_an_object_stays_what_it_was() {
        assert_eq!((FORM, record(&object(), Status::Observed).digest.to_string()), (1, PINNED.to_owned()));
    }

    const PINNED: &str = "160c63a2fdde6ffd2348c79dbb719e2e";

    #[test]
    fn a_digest_cannot_be_made_without_the_key_and_reads_back() {
        let of = record(&object(), Status::Observed);
        let other = DigestKey::new(*b"fedcba9876543210");
        let other =
            Record::of(&other, object().as_object().cloned().expect("one"), "apps/v1", "Deployment", Status::Observed);
        assert_ne!(other.digest, of.digest);
        assert_eq!(format!("{:?}", of.digest), format!("Digest({})", of.digest));
        assert_eq!(chunk_from_bytes(&chunk_to_bytes(std::slice::from_ref(&of))), Some(vec![of]));
    }

    #[test]
    fn what_is_no_chunk_and_no_collection_is_not_read_as_one() {
        let one = |name: &str| json!({"name": name, "uid": "", "created": "", "digest": "0".repeat(32)});
        let read = |records: Value| chunk_from_bytes(records.to_string().as_bytes()).map(|records| records.len());
        assert_eq!(read(json!([one("a"), one("b")])), Some(2));
        assert_eq!(read(json!([one("b"), one("a")])), None, "out of order");
        assert_eq!(read(json!([one("a"), one("a")])), None, "twice");
        assert_eq!(read(json!([])), None);
        let many = |count: usize| Value::from((0..count).map(|at| one(&format!("{at:06}"))).collect::<Vec<_>>());
        assert_eq!((read(many(MAX_CHUNK)), read(many(MAX_CHUNK + 1))), (Some(MAX_CHUNK), None));
        let mut more = one("a");
        more["data"] = json!("a secret");
        assert_eq!(read(json!([more])), None, "payloads are not stored");
        assert_eq!(chunk_from_bytes(b"{]"), None);
        let collection = Collection {
            completeness: Completeness::Forbidden,
            reason: Some("Forbidden".into()),
            form: FORM,
            status_counts: true,
            items: 0,
            chunks: 0,
        };
        assert_eq!(Collection::from_bytes(&collection.to_bytes()), Some(collection.clone()));
        assert_eq!(collection.status(), Status::Data);
        assert_eq!(Collection::from_bytes(b"7"), None);
    }

    fn chunks(records: impl IntoIterator<Item = Record>) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::default();
        let mut chunks: Vec<Vec<Record>> = records.into_iter().filter_map(|record| chunker.push(record)).collect();
        chunks.extend(chunker.finish());
        chunks.iter().map(|chunk| chunk_to_bytes(chunk)).collect()
    }

    fn records(names: impl IntoIterator<Item = String>) -> BTreeMap<String, Record> {
        let record = |name: String| {
            let digest = Digest([7; 16]);
            (name.clone(), Record { name, uid: "u".into(), created: "2026-01-02T03:04:05Z".into(), digest })
        };
        names.into_iter().map(record).collect()
    }

    #[test]
    fn chunks_have_a_hundred_items_or_so_and_a_thousand_at_most() {
        let all = chunks(records((0..20_000).map(|at| format!("item-{at}"))).into_values());
        assert!((120..220).contains(&all.len()), "{}", all.len());
        assert!(all.iter().all(|chunk| chunk.len() < 128 * 1024));
        // However somebody names them.
        let never = (0..).map(|at| format!("{at:08}")).filter(|name| !ends_chunk(name)).take(3 * MAX_CHUNK);
        let sizes: Vec<usize> = chunks(records(never).into_values())
            .iter()
            .map(|chunk| chunk_from_bytes(chunk).expect("a chunk").len())
            .collect();
        assert_eq!(sizes, [MAX_CHUNK; 3]);
    }

    proptest! {
        #[test]
        fn a_live_object_and_the_same_one_read_back_from_a_backup_have_one_digest(
            label in ".{0,12}", number in any::<i64>(), text in ".{0,12}", token in any::<bool>(), status in any::<bool>(),
        ) {
            let status = if status { Status::Data } else { Status::Observed };
            let mut live = object();
            live["metadata"]["labels"] = json!({ "a": label });
            live["data"] = json!({"token": text, "n": number});
            let kind = if token { "Secret" } else { "ConfigMap" };
            if token {
                live["type"] = json!(crate::canonical::TOKEN_SECRET);
            }
            let live = live.as_object().cloned().expect("an object");
            let stored: Map<String, Value> = serde_json::from_slice(&stored_bytes(live.clone(), "v1", kind)).expect("JSON");
            prop_assert_eq!(Record::of(&key(), live, "v1", kind, status), Record::of(&key(), stored, "v1", kind, status));
        }

        #[test]
        fn chunks_hold_all_records_once_in_order(names in prop::collection::btree_set("[a-z]{1,6}", 0..600)) {
            let all = records(names);
            let back: Vec<Record> = chunks(all.values().cloned()).iter()
                .flat_map(|chunk| chunk_from_bytes(chunk).expect("a chunk")).collect();
            prop_assert_eq!(back, all.into_values().collect::<Vec<_>>());
        }

        #[test]
        fn an_item_that_changes_comes_or_goes_leaves_all_chunks_but_two(
            count in 1_usize..3000, which in any::<Index>(), what in 0..3,
        ) {
            let before = records((0..count).map(|at| format!("{:x}", at * 7919)));
            let mut after = before.clone();
            let name = which.get(&before.keys().cloned().collect::<Vec<_>>()).clone();
            match what {
                0 => { after.remove(&name); }
                1 => after.get_mut(&name).expect("one").digest = Digest([8; 16]),
                _ => after.extend(records([format!("{name}-new")])),
            }
            let of = |records: BTreeMap<String, Record>| chunks(records.into_values()).into_iter().collect::<BTreeSet<_>>();
            let (before, after) = (of(before), of(after));
            prop_assert!(after.difference(&before).count() <= 2, "{} of {}", after.difference(&before).count(), after.len());
            prop_assert!(before.difference(&after).count() <= 2);
        }
    }
}
