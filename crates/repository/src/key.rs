//! The key of a repository: a password, or the master key itself.
//!
//! A password opens one of the key files in the repository ([`super::key_file`]). This takes a
//! third of a second, and 32 MiB for a moment: scrypt makes guessing expensive. A file written by
//! the stock programs takes 128 MiB. A master key opens the repository in a millisecond, but the
//! stock `restic` needs a password: see [`super::Repository::add_key`].

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rand::Rng as _;
use rustic_core::repofile::MasterKey;
use sha2::Sha256;

use super::error::{Error, Result};

/// The key that opens a repository. Never shown, not even by `{:?}`.
#[derive(Clone)]
pub enum RepositoryKey {
    /// Opens one of the repository's key files.
    Password(String),
    /// Opens the repository directly.
    MasterKey(MasterKey),
}

impl RepositoryKey {
    /// Parses the value of a Secret's key: restic's master key as JSON, or else a password. One
    /// line end at the end of the value is ignored, as with `restic --password-file`.
    pub fn from_secret(value: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(value).map_err(|_| invalid("it is not UTF-8"))?;
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(invalid("it is empty"));
        }
        match serde_json::from_str::<MasterKey>(text) {
            Ok(key) if (key.encrypt.len(), key.mac.k.len(), key.mac.r.len()) == (32, 16, 16) => {
                Ok(Self::MasterKey(key))
            }
            Ok(_) => Err(invalid("its master key has parts of the wrong length")),
            Err(_) => Ok(Self::Password(text.to_owned())),
        }
    }

    /// Generates a random master key, as JSON that [`RepositoryKey::from_secret`] parses.
    pub fn generate_master_key() -> Result<String> {
        master_key_text(&MasterKey::new())
    }

    /// Generates a random password of 256 bits, as 64 hex digits.
    #[must_use]
    pub fn generate_password() -> String {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        hex::encode(bytes)
    }

    /// The text that [`RepositoryKey::from_secret`] parses.
    pub(super) fn secret(&self) -> Result<String> {
        match self {
            Self::Password(password) => Ok(password.clone()),
            Self::MasterKey(key) => master_key_text(key),
        }
    }

    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::MasterKey(_) => "master key",
        }
    }
}

fn master_key_text(key: &MasterKey) -> Result<String> {
    serde_json::to_string(key)
        .map_err(|error| Error::Internal { doing: "writing a master key", cause: error.to_string() })
}

/// Derives a key for a purpose of our own. It reveals nothing about the master key.
pub(super) fn derive(master: &MasterKey, purpose: &str) -> [u8; 32] {
    let mut mac = [0; 32];
    // HMAC accepts a key of any length.
    if let Ok(hmac) = Hmac::<Sha256>::new_from_slice(&master.encrypt) {
        mac.copy_from_slice(&hmac.chain_update(purpose).finalize().into_bytes());
    }
    mac
}

impl fmt::Debug for RepositoryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RepositoryKey({})", self.describe())
    }
}

fn invalid(problem: &str) -> Error {
    Error::InvalidKey { problem: problem.to_owned() }
}
