//! The owner of a repository: a marker next to the repository's own files.
//!
//! Leases coordinate the writers of one cluster, but two clusters that use one bucket do not know
//! each other's Leases. The first cluster therefore leaves its name, and no other one writes or
//! prunes without consent.

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};
use super::store::{BlockingStore, Created};

const MARKER: &str = "tenantatlas/owner.json";

/// Maximum size of a marker, in bytes.
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

/// The owner that opens a repository, and the namespaces whose repository it may take over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ownership {
    /// The owner that opens the repository.
    pub owner: OwnerMarker,
    /// UIDs of the namespaces whose repository may be taken over.
    pub adopt: Vec<String>,
}

/// Writes the owner's marker, or checks that the existing marker is the owner's. Replaces the
/// marker of a namespace that may be taken over.
pub(super) fn claim(store: &BlockingStore, ownership: &Ownership) -> Result<()> {
    let owner = &ownership.owner;
    let marker = serde_json::to_vec_pretty(owner)
        .map_err(|error| Error::Internal { doing: "writing the owner marker", cause: error.to_string() })?;
    let found = match store.find(MARKER, MAX_MARKER)? {
        Some(found) => found,
        // If two first captures race, one creates the marker and the other reads it.
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
    // If two adoptions race, the one whose marker stays is the owner.
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
