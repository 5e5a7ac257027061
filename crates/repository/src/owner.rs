//! Whose repository it is: a marker beside the repository's own files.
//!
//! Leases keep the writers of one cluster apart, but two clusters that were pointed at one bucket know nothing of each
//! other's. So the first one leaves its name, and nobody else writes, or prunes, without consent.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::store::{BlockingStore, Created};

const MARKER: &str = "tenantatlas/owner.json";

/// The most bytes of a marker.
const MAX_MARKER: u64 = 64 * 1024;

/// The content of the owner marker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerMarker {
    /// The uid of the cluster (of its system namespace).
    pub cluster_uid: String,
    /// The uid of the tenant's namespace.
    pub namespace_uid: String,
    /// The program that wrote the marker, for people.
    #[serde(default)]
    pub created_by: String,
}

/// Who opens a repository, and whom it may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The one who opens it.
    pub owner: OwnerMarker,
    /// Namespace uids whose repository may be taken over.
    pub adopt: Vec<String>,
}

/// Leaves the owner's marker, or makes sure that the marker is the owner's.
pub(super) fn claim(store: &BlockingStore, ownership: &Ownership) -> Result<()> {
    let owner = &ownership.owner;
    let marker = serde_json::to_vec_pretty(owner)
        .map_err(|error| Error::Internal { doing: "writing the owner marker", cause: error.to_string() })?;
    let found = match store.find(MARKER, MAX_MARKER)? {
        Some(found) => found,
        // Of two first captures at once, one creates the marker and the other reads it.
        None => match store.create(MARKER, marker.clone().into())? {
            Created::Written => return Ok(()),
            Created::Existed => store.get(MARKER, MAX_MARKER)?,
        },
    };
    if same_owner(&read(store, &found)?, owner) {
        return Ok(());
    }
    let found = read(store, &found)?;
    if !ownership.adopt.contains(&found.namespace_uid) {
        return Err(owned_by(store, found));
    }
    // Of two adopting at once, the one whose marker stays has it.
    store.put(MARKER, marker.into())?;
    let stayed = read(store, &store.get(MARKER, MAX_MARKER)?)?;
    if same_owner(&stayed, owner) { Ok(()) } else { Err(owned_by(store, stayed)) }
}

fn same_owner(one: &OwnerMarker, other: &OwnerMarker) -> bool {
    one.cluster_uid == other.cluster_uid && one.namespace_uid == other.namespace_uid
}

fn read(store: &BlockingStore, content: &[u8]) -> Result<OwnerMarker> {
    serde_json::from_slice(content).map_err(|_| Error::Damaged {
        location: store.description().to_owned(),
        what: format!("the owner marker `{MARKER}` cannot be read"),
    })
}

fn owned_by(store: &BlockingStore, marker: OwnerMarker) -> Error {
    Error::OwnedByAnother {
        location: store.description().to_owned(),
        cluster_uid: marker.cluster_uid,
        namespace_uid: marker.namespace_uid,
    }
}
