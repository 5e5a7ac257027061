//! A copy of the key that opens the repository, for the day on which its Secret is lost.
//!
//! The copy is stored at `tenantatlas/recovery/<digits>.age`, encrypted for public keys in the format
//! of [age](https://age-encryption.org/v1). Each of their owners opens it with a stock program.
//! Whoever reads the store without such a key learns how many there are, and nothing else.

use std::io::Write as _;

use age::x25519::Recipient;
use rustic_core::repofile::MasterKey;

use super::error::{Error, Result};
use super::key::{self, RepositoryKey};
use super::store::BlockingStore;

const DIRECTORY: &str = "tenantatlas/recovery";

/// How a file in age's format begins.
const FORMAT: &[u8] = b"age-encryption.org/v1\n";

/// Digits in the name of a copy.
const DIGITS: usize = 20;

/// Public keys of those who can open the copy; at least one.
#[derive(Clone, Debug)]
pub struct Recipients(Vec<Recipient>);

impl Recipients {
    /// Parses public keys such as `age1…`.
    ///
    /// # Errors
    /// The number of the first one that is not a key, counted from 0.
    pub fn parse(keys: &[String]) -> std::result::Result<Self, usize> {
        let parsed = keys.iter().enumerate().map(|(number, key)| key.parse().map_err(|_| number));
        let parsed: Vec<Recipient> = parsed.collect::<std::result::Result<_, _>>()?;
        if parsed.is_empty() { Err(0) } else { Ok(Self(parsed)) }
    }
}

/// Writes the copy, unless there is one of this very key for these recipients.
pub(super) fn put(
    store: &BlockingStore,
    master: &MasterKey,
    key: &RepositoryKey,
    recipients: &Recipients,
) -> Result<()> {
    let secret = key.secret()?;
    let path = path(master, &secret, recipients);
    // Whoever can write to the store may have replaced it.
    if store.find(&path, MAX_COPY)?.is_some_and(|found| found.starts_with(FORMAT)) {
        return Ok(());
    }
    let failed = |cause: String| Error::Internal { doing: "encrypting a copy of the key", cause };
    let all = recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
    let encryptor = age::Encryptor::with_recipients(all).map_err(|error| failed(error.to_string()))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(|error| failed(error.to_string()))?;
    writer.write_all(secret.as_bytes()).map_err(|error| failed(error.to_string()))?;
    writer.finish().map_err(|error| failed(error.to_string()))?;
    store.put(&path, sealed.into())
}

/// Largest copy that is read to see that it exists, in bytes.
const MAX_COPY: u64 = 64 * 1024;

/// The name changes with the key and with the recipients, and tells nothing of either.
fn path(master: &MasterKey, secret: &str, recipients: &Recipients) -> String {
    let mut keys: Vec<String> = recipients.0.iter().map(ToString::to_string).collect();
    keys.sort_unstable();
    let digits = hex::encode(key::derive(master, &format!("recovery {} {secret}", keys.join(" "))));
    format!("{DIRECTORY}/{}.age", digits.get(..DIGITS).unwrap_or(&digits))
}
