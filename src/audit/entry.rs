//! One entry: its place, its hash, and what the next one is.

use crate::api::{audit_entry::AuditEntrySpec, canonical};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{fmt, str::FromStr};

/// Digits of a place.
const DIGITS: usize = 12;

/// A place in a chain, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(u64);

impl Place {
    /// The first.
    pub const FIRST: Self = Self(1);

    /// The place of this number; none for 0 and for what has more than 12 digits.
    #[must_use]
    pub fn new(number: u64) -> Option<Self> {
        (1..10_u64.pow(12)).contains(&number).then_some(Self(number))
    }

    /// Its number, from 1.
    #[must_use]
    pub fn number(self) -> u64 {
        self.0
    }

    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Place {
    /// The name of the entry at this place.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:0width$}", self.0, width = DIGITS)
    }
}

/// A text that is no place, or no tip.
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

/// An entry as the API server has it. All of its spec counts, also fields that a newer version wrote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its name and namespace.
    pub metadata: Metadata,
    /// What it says.
    pub spec: Value,
}

/// What counts of an entry's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
}

impl Entry {
    /// Its place; none if its name is no place.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        self.metadata.name.parse().ok()
    }

    /// The hash that it holds of the one before; empty in the first.
    #[must_use]
    pub fn previous(&self) -> &str {
        self.spec["previous"].as_str().unwrap_or_default()
    }

    /// SHA-256 (64 hex digits) over `{"name":…,"namespace":…,"spec":…}` as canonical JSON: keys sorted, no white space.
    #[must_use]
    pub fn hash(&self) -> String {
        let Metadata { name, namespace } = &self.metadata;
        canonical::digest(&json!({ "name": name, "namespace": namespace, "spec": self.spec }))
    }
}

/// The place and hash of an entry that was once the last one. As text `<name>:<hash>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tip {
    /// Its place.
    pub place: Place,
    /// Its hash.
    pub hash: String,
}

impl Tip {
    /// That of an entry; none if its name is no place.
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

/// The place of what is to follow the last entry, and what it says: `spec` with the hash of that one.
#[must_use]
pub fn successor(tip: Option<&Tip>, spec: AuditEntrySpec) -> (Place, AuditEntrySpec) {
    let place = tip.map_or(Place::FIRST, |tip| tip.place.next());
    let previous = tip.map(|tip| tip.hash.clone()).unwrap_or_default();
    (place, AuditEntrySpec { previous, ..spec })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_place_and_nothing_else_is() {
        assert_eq!(Place::FIRST.to_string(), "000000000001");
        assert_eq!("000000000001".parse(), Ok(Place::FIRST));
        assert_eq!(Place::FIRST.next().to_string(), "000000000002");
        for wrong in ["", "1", "000000000000", "0000000000001", "00000000000a", "+00000000001", "１00000000001"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }

    /// What `kubectl get audit 000000000001 -o json | jq -cjS '{name: .metadata.name, namespace: .metadata.namespace, spec}' |
    /// sha256sum` prints: whoever does not trust this program needs none.
    #[test]
    fn the_hash_is_that_of_the_sorted_json_and_the_rest_of_the_metadata_does_not_count() {
        let object = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "AuditEntry",
            "metadata": { "name": "000000000001", "namespace": "acme", "uid": "u", "managedFields": [] },
            "spec": { "previous": "", "event": "intent", "a field of a newer version": 1 },
        });
        let entry: Entry = serde_json::from_value(object).expect("an entry");
        let text = r#"{"name":"000000000001","namespace":"acme","spec":{"a field of a newer version":1,"event":"intent","previous":""}}"#;
        assert_eq!(canonical::to_vec(&serde_json::from_str(text).expect("JSON")), text.as_bytes());
        assert_eq!(entry.hash(), canonical::digest(&serde_json::from_str(text).expect("JSON")));
        assert_eq!(entry.hash(), "174ce043cf4fdeb4f08e6b0907e43d243700bd2fb4eeb260cc2652feb11b3174");
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
