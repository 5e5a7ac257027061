//! From a location to an opened repository: looks first, then claims, then creates or opens.
//!
//! Creating a repository takes two objects (a key file and `config`). Any number of workers may try
//! at once, and each may die between any two requests. If each worker wrote its own key, a loser's
//! key would stay behind: it opens with the right password, but to a wrong master key, and the
//! stock `restic` then fails. The first worker therefore publishes a plan, which is only created if
//! there is none, and every worker carries out that plan: the same two objects, byte by byte.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use rustic_core::repofile::MasterKey;
use serde::{Deserialize, Serialize};

use super::engine;
use super::error::{Error, Result};
use super::key::RepositoryKey;
use super::owner::{self, Ownership};
use super::store::{BlockingStore, Created, Listing, Store};

const CONFIG: &str = "config";
const PLAN: &str = "tenantatlas/init.json";

/// Maximum size of a plan, and of each of its objects, in bytes.
const MAX_PLAN: u64 = 256 * 1024;

/// Opens an existing repository. A repository whose creation was interrupted does not exist yet.
pub(super) fn open(store: &BlockingStore, key: &RepositoryKey, ownership: &Ownership) -> Result<MasterKey> {
    let top = store.top()?;
    if !has_config(&top) {
        refuse_foreign(store, &top)?;
        return Err(Error::RepositoryVanished { location: store.description().to_owned() });
    }
    unlock(store, key, ownership)
}

/// Opens the repository, or creates one in an empty location. Only for a caller that knows that no
/// repository existed: an emptied store looks the same.
pub(super) fn open_or_init(store: &BlockingStore, key: &RepositoryKey, ownership: &Ownership) -> Result<MasterKey> {
    let top = store.top()?;
    if !has_config(&top) {
        refuse_foreign(store, &top)?;
        // Claimed before anything else is written, so that two tenants that use one empty location
        // do not mix.
        owner::claim(store, ownership)?;
        create(store, key)?;
    }
    unlock(store, key, ownership)
}

fn has_config(top: &Listing) -> bool {
    top.objects.iter().any(|name| name == CONFIG)
}

fn unlock(store: &BlockingStore, key: &RepositoryKey, ownership: &Ownership) -> Result<MasterKey> {
    // The key is verified before a marker is written into a repository that another program
    // created.
    let master = engine::unlock(store, key)?;
    // The creator may have died before it deleted the plan. The plan holds a key file, which must
    // not outlive its removal.
    if store.size(PLAN)?.is_some() {
        store.delete(PLAN)?;
    }
    owner::claim(store, ownership)?;
    Ok(master)
}

/// Fails unless a location without `config` is empty, or holds our own incomplete repository.
fn refuse_foreign(store: &BlockingStore, top: &Listing) -> Result<()> {
    for directory in ["data", "index", "snapshots"] {
        if top.directories.iter().any(|name| name == directory) && !store.list(directory)?.is_empty() {
            return Err(engine::damaged(store, format!("`config` is missing, but there is content in `{directory}`")));
        }
    }
    // A volume has `lost+found`, and storage systems show their own snapshots in dot directories.
    let expected = |name: &str| {
        matches!(name, "data" | "index" | "keys" | "locks" | "snapshots" | "tenantatlas" | "lost+found")
            || name.starts_with('.')
    };
    let foreign = top.objects.iter().chain(top.directories.iter().filter(|name| !expected(name))).next();
    match foreign {
        Some(name) => Err(Error::NotARepository {
            location: store.description().to_owned(),
            found: format!("`{}`", name.escape_debug().take(60).collect::<String>()),
        }),
        None => Ok(()),
    }
}

/// The objects of an empty repository, by name, hex-encoded. Holds no secret that the objects do
/// not hold.
#[derive(Serialize, Deserialize)]
struct Plan {
    keys: BTreeMap<String, String>,
    config: String,
}

/// Creates the repository, or helps another worker that is creating it.
fn create(store: &BlockingStore, key: &RepositoryKey) -> Result<()> {
    let plan = if let Some(found) = store.find(PLAN, MAX_PLAN)? {
        read(store, &found)?
    } else {
        let plan = draft(store, key)?;
        let text = serde_json::to_vec(&plan).map_err(|error| Error::internal("planning", error.to_string()))?;
        match store.create(PLAN, text.into())? {
            Created::Written => plan,
            Created::Existed => match store.find(PLAN, MAX_PLAN)? {
                Some(found) => read(store, &found)?,
                // Another worker carried out the plan and deleted it meanwhile.
                None => return Ok(()),
            },
        }
    };
    // A plan is only deleted after `config` exists. A plan published after that is therefore
    // detected here, and none of its keys is ever written.
    if store.size(CONFIG)?.is_none() {
        for (name, content) in &plan.keys {
            if name.len() != 64 || !name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(unreadable(store));
            }
            store.create(&format!("keys/{name}"), decode(store, content)?.into())?;
        }
        store.create(CONFIG, decode(store, &plan.config)?.into())?;
    }
    store.delete(PLAN)
}

/// Creates an empty repository in memory, and returns its objects.
fn draft(store: &BlockingStore, key: &RepositoryKey) -> Result<Plan> {
    let memory = Store::new(Arc::new(InMemory::new()), "", "memory", Duration::from_mins(1));
    let memory = store.beside(memory);
    engine::create(&memory, key)?;
    let mut keys = BTreeMap::new();
    for (name, _) in memory.list("keys")? {
        let content = hex::encode(memory.get(&format!("keys/{name}"), MAX_PLAN)?);
        keys.insert(name, content);
    }
    Ok(Plan { keys, config: hex::encode(memory.get(CONFIG, MAX_PLAN)?) })
}

fn read(store: &BlockingStore, content: &[u8]) -> Result<Plan> {
    serde_json::from_slice(content).map_err(|_| unreadable(store))
}

fn decode(store: &BlockingStore, text: &str) -> Result<Vec<u8>> {
    hex::decode(text).map_err(|_| unreadable(store))
}

fn unreadable(store: &BlockingStore) -> Error {
    engine::damaged(store, format!("`{PLAN}` cannot be read: delete it if nothing was captured yet"))
}
