//! Compresses and encrypts content as the format requires, and opens sealed content. New content is
//! opened right away, before anything relies on it.
//!
//! Large content is hashed and compressed as it is written ([`Writing`]), and known by its digest
//! from then on: a directory of 100,000 items is one blob of 25 MB.
//!
//! The engine does the same, but creates tables and buffers for each item. That took most of the
//! time of a first capture, and most of the time to read an item. Here, tables and buffers are kept
//! from item to item. The ciphers and the compression are the engine's own crates.

use std::io::{Read as _, Write as _};

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use rand::Rng as _;
use rustic_core::repofile::MasterKey;
use sha2::{Digest as _, Sha256};
use zstd::bulk::{Compressor, Decompressor};

use super::error::{Error, Result};

/// Bytes before the ciphertext.
const NONCE: usize = 16;
/// Bytes after the ciphertext.
const TAG: usize = 16;
/// First byte of a compressed file (not of a blob).
const COMPRESSED: u8 = 2;

/// Maximum size of a blob's content, in bytes: many times what any writer of the format makes. A
/// repository is untrusted.
pub(super) const MAX_BLOB: usize = 64 * 1024 * 1024;

/// Content that is larger is compressed and compared in pieces, and its buffers are not kept.
pub(super) const LARGE: usize = 1024 * 1024;

/// Size of such a piece.
const PIECE: usize = 64 * 1024;

/// Opens sealed content, one piece after the other. Each thread has its own opener.
pub(super) struct Opener {
    cipher: Aes256CtrPoly1305Aes,
    decompressor: Decompressor<'static>,
    /// The decrypted bytes.
    plain: Vec<u8>,
}

/// The bytes read are not what was sealed with the key.
#[derive(Debug)]
pub(super) struct Unsealed;

impl Opener {
    pub(super) fn new(key: &MasterKey) -> Result<Self> {
        let bytes = [key.encrypt.as_slice(), &key.mac.k, &key.mac.r].concat();
        if bytes.len() != Key::default().len() {
            return Err(failed(&"the master key has another length"));
        }
        Ok(Self {
            cipher: Aes256CtrPoly1305Aes::new(Key::from_slice(&bytes)),
            decompressor: Decompressor::new().map_err(|error| failed(&error))?,
            plain: Vec::new(),
        })
    }

    /// Returns the content of a sealed blob. `length` is the length of the content, if it was
    /// compressed.
    pub(super) fn blob(&mut self, sealed: &[u8], length: Option<usize>) -> std::result::Result<Vec<u8>, Unsealed> {
        let mut content = Vec::new();
        self.open(sealed, 0, length, &mut content)?;
        Ok(content)
    }

    /// Returns the decrypted bytes, which may be compressed.
    pub(super) fn decrypted(&mut self, sealed: &[u8]) -> std::result::Result<Vec<u8>, Unsealed> {
        self.decrypt(sealed)?;
        Ok(std::mem::take(&mut self.plain))
    }

    /// Returns the content of decrypted bytes that are compressed.
    pub(super) fn decompressed(&mut self, plain: &[u8], length: usize) -> std::result::Result<Vec<u8>, Unsealed> {
        self.decompressor.decompress(plain, length).map_err(|_| Unsealed)
    }

    /// Returns the size of sealed content in bytes, or `None` if it is more than `most`. The engine
    /// allocates as much memory as the content needs, and a few bytes can be crafted to need any
    /// amount. The first `before` decrypted bytes are a marker and do not count. If decompression
    /// fails, the bytes up to the failure count.
    pub(super) fn measure(
        &mut self,
        sealed: &[u8],
        before: usize,
        most: usize,
    ) -> std::result::Result<Option<usize>, Unsealed> {
        self.decrypt(sealed)?;
        let plain = self.plain.get(before..).unwrap_or_default();
        if !is_compressed(plain) {
            return Ok(Some(plain.len()).filter(|size| *size <= most));
        }
        let (mut size, mut piece) = (0, vec![0; PIECE]);
        let mut content = zstd::stream::read::Decoder::new(plain).map_err(|_| Unsealed)?;
        loop {
            match content.read(&mut piece) {
                Ok(0) | Err(_) => return Ok(Some(size)),
                Ok(read) => size += read,
            }
            if size > most {
                return Ok(None);
            }
        }
    }

    /// Offset and length of the blobs of a pack, from its header.
    pub(super) fn blobs_of(&mut self, pack: &[u8]) -> std::result::Result<Vec<(usize, usize)>, Unsealed> {
        let (rest, length) = pack.split_last_chunk().ok_or(Unsealed)?;
        let length = u32::from_le_bytes(*length) as usize;
        let header = rest.len().checked_sub(length).and_then(|start| rest.get(start..)).ok_or(Unsealed)?;
        self.decrypt(header)?;
        let (mut blobs, mut offset, mut header) = (Vec::new(), 0_usize, self.plain.as_slice());
        while let Some((kind, rest)) = header.split_first() {
            // For a compressed blob, the length of its content follows; then the id.
            let more = if *kind & 2 == 0 { 32 } else { 36 };
            let (length, rest) = rest.split_first_chunk().ok_or(Unsealed)?;
            let length = u32::from_le_bytes(*length) as usize;
            blobs.push((offset, length));
            offset = offset.checked_add(length).ok_or(Unsealed)?;
            header = rest.get(more..).ok_or(Unsealed)?;
        }
        Ok(blobs)
    }

    /// Decrypts into `plain`.
    fn decrypt(&mut self, sealed: &[u8]) -> std::result::Result<(), Unsealed> {
        let (nonce, rest) = sealed.split_at_checked(NONCE).ok_or(Unsealed)?;
        let (ciphertext, tag) = rest.split_at_checked(rest.len().wrapping_sub(TAG)).ok_or(Unsealed)?;
        self.plain.clear();
        self.plain.extend_from_slice(ciphertext);
        self.cipher
            .decrypt_in_place_detached(Nonce::from_slice(nonce), &[], &mut self.plain, Tag::from_slice(tag))
            .map_err(|_| Unsealed)
    }

    /// Whether sealed bytes open as content with this digest. The content is never whole in memory.
    fn opens_as(&mut self, sealed: &[u8], before: usize, compressed: bool, digest: &[u8; 32]) -> bool {
        if self.decrypt(sealed).is_err() {
            return false;
        }
        let Some(plain) = self.plain.get(before..) else { return false };
        let mut hash = Sha256::new();
        if compressed {
            let Ok(mut content) = zstd::stream::read::Decoder::new(plain) else { return false };
            let mut piece = vec![0; PIECE];
            loop {
                match content.read(&mut piece) {
                    Ok(0) => break,
                    Ok(read) => hash.update(&piece[..read]),
                    Err(_) => return false,
                }
            }
        } else {
            hash.update(plain);
        }
        *digest == <[u8; 32]>::from(hash.finalize())
    }

    /// Puts the content of sealed bytes into a buffer, without the first `before` decrypted bytes.
    fn open(
        &mut self,
        sealed: &[u8],
        before: usize,
        length: Option<usize>,
        content: &mut Vec<u8>,
    ) -> std::result::Result<(), Unsealed> {
        self.decrypt(sealed)?;
        let plain = self.plain.get(before..).ok_or(Unsealed)?;
        content.clear();
        match length {
            None => content.extend_from_slice(plain),
            Some(length) if length > MAX_BLOB => return Err(Unsealed),
            Some(length) => {
                content.reserve(length);
                self.decompressor.decompress_to_buffer(plain, content).map_err(|_| Unsealed)?;
            }
        }
        Ok(())
    }
}

/// Whether bytes start with a zstd frame, or with a frame that zstd decoders skip.
fn is_compressed(plain: &[u8]) -> bool {
    let magic = plain.first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    magic.is_some_and(|magic| magic == 0xFD2F_B528 || magic & 0xFFFF_FFF0 == 0x184D_2A50)
}

/// Content that is hashed and compressed as it is written. Only what is compressed is in memory.
pub(super) struct Writing {
    hash: Sha256,
    length: usize,
    /// Bytes before the content that do not count as content.
    before: usize,
    compressed: Compressed,
}

enum Compressed {
    Yes(zstd::stream::write::Encoder<'static, Vec<u8>>),
    No(Vec<u8>),
}

impl Writing {
    /// Appends content.
    pub(super) fn write(&mut self, content: &[u8]) -> Result<()> {
        self.hash.update(content);
        self.length += content.len();
        match &mut self.compressed {
            Compressed::Yes(encoder) => encoder.write_all(content).map_err(|error| failed(&error)),
            Compressed::No(plain) => {
                plain.extend_from_slice(content);
                Ok(())
            }
        }
    }

    /// Ends the content.
    pub(super) fn finish(self) -> Result<Written> {
        let (plain, compressed) = match self.compressed {
            Compressed::Yes(encoder) => (encoder.finish().map_err(|error| failed(&error))?, true),
            Compressed::No(plain) => (plain, false),
        };
        let (digest, length) = (self.hash.finalize().into(), self.length);
        Ok(Written { digest, length, before: self.before, plain, compressed })
    }
}

/// Content that was written, and is to be sealed.
pub(super) struct Written {
    /// SHA-256 of the content.
    pub(super) digest: [u8; 32],
    /// Length of the content in bytes.
    pub(super) length: usize,
    before: usize,
    /// The bytes to encrypt.
    plain: Vec<u8>,
    compressed: bool,
}

/// Seals content, one piece after the other. Each thread has its own sealer.
pub(super) struct Sealer {
    opener: Opener,
    level: Option<i32>,
    compressor: Option<Compressor<'static>>,
    /// The bytes to encrypt; `content` is what opening them again results in.
    plain: Vec<u8>,
    content: Vec<u8>,
}

impl Sealer {
    /// `level` is the repository's compression level; `None` if its format has no compression.
    pub(super) fn new(key: &MasterKey, level: Option<i32>) -> Result<Self> {
        let compressor = level.map(Compressor::new).transpose().map_err(|error| failed(&error))?;
        Ok(Self { opener: Opener::new(key)?, level, compressor, plain: Vec::new(), content: Vec::new() })
    }

    /// Appends a sealed blob. Returns the length of its content, if the content was compressed.
    pub(super) fn blob(&mut self, content: &[u8], sealed: &mut Vec<u8>) -> Result<Option<u32>> {
        if content.len() > LARGE {
            let mut writing = self.begin()?;
            writing.write(content)?;
            return self.written(writing.finish()?, sealed);
        }
        self.plain.clear();
        self.compress(content)?;
        self.encrypt(content, sealed, 0)?;
        self.uncompressed_length(content.len())
    }

    /// Begins a blob whose content is written piece by piece.
    pub(super) fn begin(&self) -> Result<Writing> {
        self.begin_after(Vec::new())
    }

    /// Appends a blob that was written piece by piece. Returns the length of its content, if the
    /// content was compressed.
    pub(super) fn written(&mut self, written: Written, sealed: &mut Vec<u8>) -> Result<Option<u32>> {
        let Written { digest, length, before, plain, compressed } = written;
        // The bytes are in memory twice from here: sealed, and either before or after that.
        sealed.reserve_exact(plain.len() + NONCE + TAG);
        self.plain = plain;
        let start = self.encrypt_only(sealed)?;
        self.plain = Vec::new();
        let is_whole = self.opener.opens_as(&sealed[start..], before, compressed, &digest);
        self.opener.plain = Vec::new();
        if is_whole { self.uncompressed_length(length) } else { Err(faulty()) }
    }

    /// Seals a file of the repository itself, such as an index.
    pub(super) fn file(&mut self, content: &[u8]) -> Result<Vec<u8>> {
        let marker: &[u8] = if self.compressor.is_some() { &[COMPRESSED] } else { &[] };
        if content.len() > LARGE {
            let mut writing = self.begin_after(marker.to_vec())?;
            writing.write(content)?;
            let mut sealed = Vec::new();
            self.written(writing.finish()?, &mut sealed)?;
            return Ok(sealed);
        }
        self.plain.clear();
        self.plain.extend_from_slice(marker);
        self.compress(content)?;
        let mut sealed = Vec::with_capacity(self.plain.len() + NONCE + TAG);
        self.encrypt(content, &mut sealed, marker.len())?;
        Ok(sealed)
    }

    /// Appends content that is only encrypted: a pack's header, or the master key in a key file.
    pub(super) fn uncompressed(&mut self, content: &[u8], sealed: &mut Vec<u8>) -> Result<()> {
        self.plain.clear();
        self.plain.extend_from_slice(content);
        self.encrypt_only(sealed).map(drop)
    }

    fn begin_after(&self, marker: Vec<u8>) -> Result<Writing> {
        let before = marker.len();
        let compressed = match self.level {
            Some(level) => {
                Compressed::Yes(zstd::stream::write::Encoder::new(marker, level).map_err(|error| failed(&error))?)
            }
            None => Compressed::No(marker),
        };
        Ok(Writing { hash: Sha256::new(), length: 0, before, compressed })
    }

    fn uncompressed_length(&self, length: usize) -> Result<Option<u32>> {
        match self.level {
            Some(_) => u32::try_from(length).map(Some).map_err(|error| failed(&error)),
            None => Ok(None),
        }
    }

    /// Appends content to the bytes to encrypt, compressed if the format has compression.
    fn compress(&mut self, content: &[u8]) -> Result<()> {
        let Some(compressor) = &mut self.compressor else {
            self.plain.extend_from_slice(content);
            return Ok(());
        };
        let before = self.plain.len();
        self.plain.resize(before + zstd::zstd_safe::compress_bound(content.len()), 0);
        let compressed = compressor.compress_to_buffer(content, &mut self.plain[before..]);
        self.plain.truncate(before + compressed.map_err(|error| failed(&error))?);
        Ok(())
    }

    /// Encrypts content, opens the result, and compares it with the content: a bit flip in memory
    /// must not be detected only during a restore.
    fn encrypt(&mut self, content: &[u8], sealed: &mut Vec<u8>, before: usize) -> Result<()> {
        let start = self.encrypt_only(sealed)?;
        let length = self.compressor.as_ref().map(|_| content.len());
        let opened = self.opener.open(&sealed[start..], before, length, &mut self.content);
        if opened.is_ok() && self.content == content { Ok(()) } else { Err(faulty()) }
    }

    /// Encrypts `plain`. Returns the offset of the sealed bytes.
    fn encrypt_only(&mut self, sealed: &mut Vec<u8>) -> Result<usize> {
        let start = sealed.len();
        let mut nonce = Nonce::default();
        rand::rng().fill_bytes(&mut nonce);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&self.plain);
        let tag = self
            .opener
            .cipher
            .encrypt_in_place_detached(&nonce, &[], &mut sealed[start + NONCE..])
            .map_err(|error| failed(&error))?;
        sealed.extend_from_slice(&tag);
        Ok(start)
    }
}

fn faulty() -> Error {
    failed(&"what was sealed opens as something else: the memory may be faulty")
}

fn failed(cause: &dyn std::fmt::Display) -> Error {
    Error::internal("sealing content", cause.to_string())
}
