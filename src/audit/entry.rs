//! One entry: its place, its text, its hash, and the entry that follows.

use crate::api::{AuditEntrySpec, audit_entry::AuditRecord, canonical};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Number of digits of a place.
const DIGITS: usize = 12;

/// A place in a chain, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// The first place.
    pub const FIRST: Self = Self(1);

    /// The place with this number. `None` for 0 and for numbers with more than 12 digits.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (1..10_u64.pow(12)).contains(&number).then_some(Self(number))
    }

    /// The number of the place, counted from 1.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The next place, if there is one.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Self::new(self.0 + 1)
    }
}

impl fmt::Display for Place {
    /// The name of the entry at this place.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:0width$}", self.0, width = DIGITS)
    }
}

/// A text that is not a place or not a tip.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not {1}")]
pub struct ParseError(String, &'static str);

impl FromStr for Place {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let place = digits.then(|| text.parse().ok()).flatten().and_then(Self::new);
        place.ok_or_else(|| ParseError(text.to_owned(), "a place in an audit chain: 12 digits, from 000000000001"))
    }
}

/// An entry as stored in the API server, including one written by another version or by a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Name and namespace of the entry.
    pub metadata: Metadata,
    /// Its text, and the fields that repeat parts of it.
    pub spec: Value,
}

/// The parts of an entry's metadata that count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Name of the entry.
    pub name: String,
    /// Namespace of the entry.
    pub namespace: String,
}

/// What every version writes into the text of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Said {
    name: String,
    namespace: String,
    previous: String,
}

impl Entry {
    /// The place of the entry. `None` if its name is not a place.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.metadata.name.parse().ok()
    }

    /// The text of the entry, empty if it has none.
    #[must_use]
    pub fn text(&self) -> &str {
        self.spec["entry"].as_str().unwrap_or_default()
    }

    /// SHA-256 of its text (64 hex digits).
    #[must_use]
    pub fn hash(&self) -> String {
        hash_of(self.text())
    }

    /// The hash of the previous entry, empty in the first one. `None` if the text is not that of an
    /// entry.
    #[must_use]
    pub fn previous(&self) -> Option<String> {
        self.said().map(|said| said.previous)
    }

    /// Whether the text belongs to an entry of this name in this namespace.
    #[must_use]
    pub fn is_in_its_place(&self) -> bool {
        self.said().is_some_and(|said| {
            (said.name.as_str(), said.namespace.as_str())
                == (self.metadata.name.as_str(), self.metadata.namespace.as_str())
        })
    }

    /// The fields that do not repeat what the text contains.
    #[must_use]
    pub fn disagreements(&self) -> Vec<&'static str> {
        const REPEATED: [&str; 10] = [
            "backupSet",
            "bulkOperationRun",
            "event",
            "operationType",
            "outcome",
            "planDigest",
            "pod",
            "restoreRun",
            "run",
            "who",
        ];
        // This version may be unable to read an entry of a newer one.
        let Ok(record) = serde_json::from_str::<AuditRecord>(self.text()) else { return Vec::new() };
        let repeated = serde_json::to_value(AuditEntrySpec::of(&record, String::new())).unwrap_or_default();
        REPEATED.into_iter().filter(|field| self.spec.get(field) != repeated.get(field)).collect()
    }

    fn said(&self) -> Option<Said> {
        serde_json::from_str(self.text()).ok()
    }
}

/// SHA-256 of the text of an entry (64 hex digits).
fn hash_of(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// The place and hash of an entry that was once the last one. Its text form is `<name>:<hash>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tip {
    /// Place of the entry.
    pub place: Place,
    /// Hash of the entry.
    pub hash: String,
}

impl Tip {
    /// The tip for an entry. `None` if the entry's name is not a place.
    #[must_use]
    pub fn of(entry: &Entry) -> Option<Self> {
        Some(Self { place: entry.place()?, hash: entry.hash() })
    }
}

impl fmt::Display for Tip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.place, self.hash)
    }
}

impl FromStr for Tip {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseError(text.to_owned(), "a tip: the name of an entry, a colon, and its hash");
        let (place, hash) = text.split_once(':').ok_or_else(error)?;
        let is_hash = hash.len() == 64 && hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_hash {
            return Err(error());
        }
        Ok(Self { place: place.parse().map_err(|_| error())?, hash: hash.to_owned() })
    }
}

/// The entry at `place` that follows the last one: `record` with its place and the hash of the last
/// entry, as one string.
#[must_use]
pub fn successor(tip: Option<&Tip>, place: Place, namespace: &str, record: AuditRecord) -> AuditEntrySpec {
    let previous = tip.map(|tip| tip.hash.clone()).unwrap_or_default();
    let record = AuditRecord { name: place.to_string(), namespace: namespace.to_owned(), previous, ..record }.bounded();
    let text = canonical::to_vec(&serde_json::to_value(&record).unwrap_or_default());
    AuditEntrySpec::of(&record, String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::schema::custom_resource_definitions;
    use serde_json::json;

    #[test]
    fn a_name_is_a_place_and_nothing_else_is() {
        assert_eq!(Place::FIRST.to_string(), "000000000001");
        assert_eq!("000000000001".parse(), Ok(Place::FIRST));
        assert_eq!(Place::FIRST.next().map(|place| place.to_string()).as_deref(), Some("000000000002"));
        assert_eq!("999999999999".parse::<Place>().map(Place::next), Ok(None));
        for wrong in ["", "1", "000000000000", "0000000000001", "00000000000a", "+00000000001", "１00000000001"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    /// The output of `kubectl get audit 000000000001 -o json | jq -j .spec.entry | sha256sum`: the
    /// hash can be verified without this program.
    #[test]
    fn the_hash_is_that_of_the_text_and_nothing_else_counts() {
        let text = r#"{"a field of a newer version":1.50,"name":"000000000001","namespace":"acme","previous":""}"#;
        let object = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "AuditEntry",
            "metadata": { "name": "000000000001", "namespace": "acme", "uid": "u", "managedFields": [] },
            "spec": { "entry": text, "event": "intent", "a default of a newer version": 1 },
        });
        let entry: Entry = serde_json::from_value(object).expect("an entry");
        assert_eq!(entry.hash(), "ad6fb4b67a29aee57234054678f8f94a62bbb0c98b056f9ae1bd00688cb21902");
        assert_eq!(entry.previous().as_deref(), Some(""));
        assert!(entry.is_in_its_place());
    }

    #[test]
    fn what_is_repeated_of_the_text_is_every_field_of_the_schema() {
        let definitions = custom_resource_definitions();
        let definition = definitions.iter().find(|definition| definition.spec.names.kind == "AuditEntry");
        let definition = serde_json::to_value(definition.expect("the kind")).expect("JSON");
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        let fields: Vec<&String> = spec.as_object().expect("fields").keys().filter(|field| *field != "entry").collect();
        let mut entry: Entry = serde_json::from_value(json!({
            "metadata": { "name": "000000000001", "namespace": "acme" }, "spec": {},
        }))
        .expect("an entry");
        let record = json!({
            "name": "000000000001", "namespace": "acme", "previous": "", "event": "outcome", "at": "2026-01-01T00:00:00Z",
            "who": { "username": "ada" }, "operationType": "restore.apply", "run": { "name": "r", "uid": "u" },
            "pod": "op-1", "restoreRun": { "name": "r", "uid": "u" }, "bulkOperationRun": { "name": "b", "uid": "u" }, "backupSet": { "name": "s" }, "planDigest": "0",
            "outcome": "succeeded",
        });
        entry.spec["entry"] = record.to_string().into();
        assert_eq!(entry.disagreements(), fields, "each is missing");
        let parsed: AuditRecord = serde_json::from_value(record).expect("a record");
        entry.spec = serde_json::to_value(AuditEntrySpec::of(&parsed, entry.text().to_owned())).expect("JSON");
        assert_eq!(entry.disagreements(), Vec::<&str>::new());
        entry.spec["who"] = "eve".into();
        assert_eq!(entry.disagreements(), ["who"]);
    }

    #[test]
    fn a_tip_reads_as_it_is_written() {
        let tip = Tip { place: Place::FIRST, hash: "0a".repeat(32) };
        assert_eq!(tip.to_string().parse(), Ok(tip));
        for wrong in ["", "000000000001", "000000000001:", "1:00", &format!("000000000001:{}", "0A".repeat(32))] {
            assert!(wrong.parse::<Tip>().is_err(), "{wrong}");
        }
    }
}
