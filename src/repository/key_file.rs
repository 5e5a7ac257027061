//! Key files: a master key that a password opens, as the stock `restic` reads it.
//!
//! What guessing a password costs is what opening costs every worker. scrypt's work for N = 2^15, r = 8, p = 3 is held equal to that for
//! the engine's own choice, N = 2^17 and p = 1 (OWASP, Password Storage Cheat Sheet), which takes four times the memory: 128 MiB, three
//! times all else that a worker needs. So the file is written here. Which parameters a file has is said in it: older ones open as before.

use rand::Rng as _;
use rustic_core::repofile::{KeyFile, MasterKey};
use scrypt::Params;

use super::engine::internal;
use super::error::{Error, Result};
use super::pack::id_of;
use super::seal::Sealer;

/// Binary logarithm of scrypt's N; with [`R`], 32 MiB.
const LOG_N: u8 = 15;
const R: u32 = 8;
const P: u32 = 3;

/// A file that opens a master key by a password: its id and its content.
pub(super) fn key_file(master: &MasterKey, password: &str) -> Result<(String, Vec<u8>)> {
    let mut salt = vec![0; 64];
    rand::rng().fill_bytes(&mut salt);
    let mut sealer = Sealer::new(&derive(password, &salt)?, None)?;
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

/// The key that seals the master key.
fn derive(password: &str, salt: &[u8]) -> Result<MasterKey> {
    let parameters = Params::new(LOG_N, R, P).map_err(|error| failed(&error))?;
    let mut bytes = [0; 64];
    scrypt::scrypt(password.as_bytes(), salt, &parameters, &mut bytes).map_err(|error| failed(&error))?;
    // Its type for the second part is not exported, but a random one has it already.
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
    internal("making a key file", cause.to_string())
}
