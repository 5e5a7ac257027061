//! Key files: a master key that a password opens, in the format that the stock `restic` reads.
//!
//! Guessing a password costs what opening costs every worker. scrypt's work for `N = 2^15`,
//! `r = 8`, `p = 3` is considered equal to that for the engine's own choice, `N = 2^17` and `p = 1`
//! (OWASP, Password Storage Cheat Sheet). The engine's choice takes four times the memory: 128 MiB,
//! three times everything else that a worker needs. The file is therefore written here.
//!
//! A file names its own parameters. Files of other programs open too, unless they ask for more than
//! [`MAX_MEMORY`] or [`MAX_WORK`]: anyone who can write to the store can create such a file.

use rand::Rng as _;
use rustic_core::repofile::{KeyFile, MasterKey};
use scrypt::Params;

use super::engine::damaged;
use super::error::{Error, Result};
use super::format::id_of;
use super::seal::{Opener, Sealer};
use super::store::BlockingStore;

/// Binary logarithm of scrypt's N; with [`R`], 32 MiB.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 3;

/// Maximum size of a key file, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// Maximum number of key files that are tried.
const MAX_FILES: usize = 100;

/// Maximum memory that a key file may ask for, in bytes: twice that of the stock programs.
const MAX_MEMORY: u64 = 256 * 1024 * 1024;

/// Maximum work that a key file may ask for, as the product of scrypt's parameters: forty times
/// ours.
const MAX_WORK: u64 = 1 << 25;

/// Returns the master key that a password opens, if it opens any key file in the store.
pub(super) fn find(store: &BlockingStore, password: &str) -> Result<Option<MasterKey>> {
    let files = store.list("keys")?;
    if files.is_empty() {
        return Err(Error::NotARepository {
            location: store.description().to_owned(),
            found: "a `config`, but no keys".to_owned(),
        });
    }
    let mut refused = None;
    for (name, _) in files.iter().take(MAX_FILES) {
        let name = format!("keys/{name}");
        // Anyone who can write there can put other files next to the right one.
        let content = match store.get(&name, MAX_FILE) {
            Err(error @ Error::TooLarge { .. }) => {
                refused.get_or_insert(error);
                continue;
            }
            content => content?,
        };
        let Ok(file) = serde_json::from_slice::<KeyFile>(&content) else {
            refused.get_or_insert_with(|| damaged(store, format!("`{name}` cannot be read")));
            continue;
        };
        if !is_bounded(&file) {
            refused.get_or_insert_with(|| store.too_large(format!("the memory or work that `{name}` asks for")));
            continue;
        }
        if let Some(master) = open(&file, password) {
            return Ok(Some(master));
        }
    }
    refused.map_or(Ok(None), Err)
}

fn is_bounded(file: &KeyFile) -> bool {
    let (n, r, p) = (u64::from(file.n), u64::from(file.r), u64::from(file.p));
    let block = n.saturating_mul(r);
    block.saturating_mul(128) <= MAX_MEMORY && block.saturating_mul(p) <= MAX_WORK
}

/// The master key in a file, if the password opens the file.
fn open(file: &KeyFile, password: &str) -> Option<MasterKey> {
    let log_n = u8::try_from(file.n.checked_ilog2().filter(|_| file.n.is_power_of_two())?).ok()?;
    let parameters = Params::new(log_n, file.r, file.p).ok()?;
    let sealed_by = derive(password, &file.salt, &parameters).ok()?;
    let plain = Opener::new(&sealed_by).ok()?.blob(&file.data, None).ok()?;
    serde_json::from_slice(&plain).ok()
}

/// Creates a file that opens a master key with a password. Returns its id and its content.
pub(super) fn key_file(master: &MasterKey, password: &str) -> Result<(String, Vec<u8>)> {
    let mut salt = vec![0; 64];
    rand::rng().fill_bytes(&mut salt);
    let parameters = Params::new(LOG_N, R, P).map_err(|error| failed(&error))?;
    let mut sealer = Sealer::new(&derive(password, &salt, &parameters)?, None)?;
    let mut data = Vec::new();
    sealer.uncompressed(&json(master)?, &mut data)?;
    let file = KeyFile {
        hostname: None,
        username: None,
        created: None,
        kdf: "scrypt".to_owned(),
        n: 1 << LOG_N,
        r: R,
        p: P,
        data,
        salt,
    };
    let content = json(&file)?;
    Ok((id_of(&content).to_hex().as_str().to_owned(), content))
}

/// Derives the key that seals the master key.
fn derive(password: &str, salt: &[u8], parameters: &Params) -> Result<MasterKey> {
    let mut bytes = [0; 64];
    scrypt::scrypt(password.as_bytes(), salt, parameters, &mut bytes).map_err(|error| failed(&error))?;
    // The type of the second part is not exported, but a random key already contains one.
    let mut key = MasterKey::new();
    key.encrypt = bytes[..32].to_vec();
    key.mac.k = bytes[32..48].to_vec();
    key.mac.r = bytes[48..].to_vec();
    Ok(key)
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| failed(&error))
}

fn failed(cause: &dyn std::fmt::Display) -> Error {
    Error::internal("making a key file", cause.to_string())
}
