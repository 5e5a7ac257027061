//! Compressing and encrypting, as the format has it; and opening again what was sealed before anybody relies on it.
//!
//! The engine does the same, with tables and buffers that it makes anew for each item and from which most of a first
//! capture's time went; here they are kept from item to item. The ciphers and the compression are the engine's own crates.

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use rand::Rng as _;
use rustic_core::repofile::MasterKey;
use zstd::bulk::{Compressor, Decompressor};

use super::engine::internal;
use super::error::{Error, Result};

/// Bytes before the ciphertext.
const NONCE: usize = 16;
/// Bytes after it.
const TAG: usize = 16;
/// Begins a file (not a blob) that is compressed.
const COMPRESSED: u8 = 2;

/// Seals one piece of content after the other. Each thread has its own.
pub(super) struct Sealer {
    cipher: Aes256CtrPoly1305Aes,
    compression: Option<Compression>,
    /// What is to be encrypted, and what came of opening it again.
    plain: Vec<u8>,
    opened: Vec<u8>,
    content: Vec<u8>,
}

struct Compression {
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl Sealer {
    /// `level` is the repository's, none where its format knows no compression.
    pub(super) fn new(key: &MasterKey, level: Option<i32>) -> Result<Self> {
        let bytes = [key.encrypt.as_slice(), &key.mac.k, &key.mac.r].concat();
        if bytes.len() != Key::default().len() {
            return Err(failed(&"the master key has another length"));
        }
        let compression = match level {
            Some(level) => Some(Compression {
                compressor: Compressor::new(level).map_err(|error| failed(&error))?,
                decompressor: Decompressor::new().map_err(|error| failed(&error))?,
            }),
            None => None,
        };
        Ok(Self {
            cipher: Aes256CtrPoly1305Aes::new(Key::from_slice(&bytes)),
            compression,
            plain: Vec::new(),
            opened: Vec::new(),
            content: Vec::new(),
        })
    }

    /// Appends a sealed blob. Returns its content's length if that was compressed.
    pub(super) fn blob(&mut self, content: &[u8], sealed: &mut Vec<u8>) -> Result<Option<u32>> {
        self.plain.clear();
        self.compress(content)?;
        self.encrypt(content, sealed, 0)?;
        match self.compression {
            Some(_) => u32::try_from(content.len()).map(Some).map_err(|error| failed(&error)),
            None => Ok(None),
        }
    }

    /// A sealed file of the repository's own, such as an index.
    pub(super) fn file(&mut self, content: &[u8]) -> Result<Vec<u8>> {
        self.plain.clear();
        if self.compression.is_some() {
            self.plain.push(COMPRESSED);
        }
        let before = self.plain.len();
        self.compress(content)?;
        let mut sealed = Vec::with_capacity(self.plain.len() + NONCE + TAG);
        self.encrypt(content, &mut sealed, before)?;
        Ok(sealed)
    }

    /// Appends content that is encrypted only: a pack's header.
    pub(super) fn header(&mut self, content: &[u8], sealed: &mut Vec<u8>) -> Result<()> {
        self.plain.clear();
        self.plain.extend_from_slice(content);
        self.encrypt_only(sealed).map(drop)
    }

    /// Appends to what is to be encrypted.
    fn compress(&mut self, content: &[u8]) -> Result<()> {
        let Some(compression) = &mut self.compression else {
            self.plain.extend_from_slice(content);
            return Ok(());
        };
        let before = self.plain.len();
        self.plain.resize(before + zstd::zstd_safe::compress_bound(content.len()), 0);
        let compressed = compression.compressor.compress_to_buffer(content, &mut self.plain[before..]);
        self.plain.truncate(before + compressed.map_err(|error| failed(&error))?);
        Ok(())
    }

    /// Encrypts, opens what came of it, and compares that with the content: a bit that falls over in memory must not be
    /// found out when somebody restores.
    fn encrypt(&mut self, content: &[u8], sealed: &mut Vec<u8>, before: usize) -> Result<()> {
        let start = self.encrypt_only(sealed)?;
        let (nonce, rest) = sealed[start..].split_at(NONCE);
        let (ciphertext, tag) = rest.split_at(rest.len() - TAG);
        self.opened.clear();
        self.opened.extend_from_slice(ciphertext);
        self.cipher
            .decrypt_in_place_detached(Nonce::from_slice(nonce), &[], &mut self.opened, Tag::from_slice(tag))
            .map_err(|error| failed(&error))?;
        let same = match &mut self.compression {
            None => self.opened[before..] == *content,
            Some(compression) => {
                self.content.clear();
                self.content.reserve(content.len());
                let read = compression.decompressor.decompress_to_buffer(&self.opened[before..], &mut self.content);
                read.map_err(|error| failed(&error))?;
                self.content == content
            }
        };
        if same { Ok(()) } else { Err(failed(&"what was sealed opens as something else: the memory may be faulty")) }
    }

    /// Returns where the sealed bytes begin.
    fn encrypt_only(&mut self, sealed: &mut Vec<u8>) -> Result<usize> {
        let start = sealed.len();
        let mut nonce = Nonce::default();
        rand::rng().fill_bytes(&mut nonce);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&self.plain);
        let tag = self
            .cipher
            .encrypt_in_place_detached(&nonce, &[], &mut sealed[start + NONCE..])
            .map_err(|error| failed(&error))?;
        sealed.extend_from_slice(&tag);
        Ok(start)
    }
}

fn failed(cause: &dyn std::fmt::Display) -> Error {
    internal("sealing content", cause.to_string())
}
