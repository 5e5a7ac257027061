//! The key of a repository: a password, or the master key itself.
//!
//! A password opens one of the key files in the repository ([`super::key_file`]), which costs a third of a second and 32 MiB for a
//! moment (scrypt, which makes guessing expensive; 128 MiB where the stock programs made the file). A master key opens the repository in a millisecond, but the stock `restic` needs a
//! password: see [`super::Repository::add_key`].

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use rustic_core::repofile::MasterKey;
use sha2::Sha256;

use super::error::{Error, Result};

/// What opens a repository. Never shown, not even by `{:?}`.
#[derive(Clone)]
pub enum RepositoryKey {
    /// Opens with one of the repository's key files.
    Password(String),
    /// Opens directly.
    MasterKey(MasterKey),
}

impl RepositoryKey {
    /// Reads the value of a Secret's key: restic's master key as JSON, or else a password. One line end at its
    /// end does not count, as with `restic --password-file`.
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

    /// A new random master key, as the JSON that [`RepositoryKey::from_secret`] reads.
    pub fn generate_master_key() -> Result<String> {
        serde_json::to_string(&MasterKey::new())
            .map_err(|error| Error::Internal { doing: "writing a master key", cause: error.to_string() })
    }

    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::Password(_) => "password",
            Self::MasterKey(_) => "master key",
        }
    }
}

/// A key for a purpose of our own, from which nothing of the master key follows.
pub(super) fn derive(master: &MasterKey, purpose: &str) -> [u8; 32] {
    let mut mac = [0; 32];
    // HMAC takes a key of any length.
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
