//! The path of an item in a snapshot: `group/version/kind/name.json`.
//!
//! A path holds no secret, and this program never creates a file from one. Users may still restore
//! a snapshot with the stock `restic`, which does create files, so every segment is safe as a file
//! name.

use std::cmp::Ordering;
use std::fmt;

use sha2::{Digest as _, Sha256};

use super::error::{Error, Result};

/// Directory of the API group whose name is empty.
const CORE_GROUP: &str = "core";
const SUFFIX: &str = ".json";
/// File systems allow 255 bytes in a file name. Kubernetes allows 253 in most names, and has no
/// limit for some.
const MAX_STEM: usize = 255 - SUFFIX.len();
/// Bytes kept of a longer name, before [`SHORTENED`] and a digest of the whole name.
const KEPT_STEM: usize = 200;
/// In an escaped name, `%` is always followed by two digits, so this cannot be part of one.
const SHORTENED: &str = "%~";
/// A code point or an escape may straddle [`KEPT_STEM`]; at least this many bytes are kept.
const BOUND: usize = KEPT_STEM - 4;

/// The path of one item. Paths are ordered as in a depth-first walk of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ItemPath(String);

impl ItemPath {
    /// The path of an object: its API group (empty for core), version, kind and name.
    ///
    /// Control characters, space, `!`, `"`, `#`, `$` and `%` in a name become `%XX`, which keeps
    /// the order of names. A name that is too long for a file name keeps its first 200 bytes at
    /// most, and gets a digest. Different objects never share a path.
    pub fn new(group: &str, version: &str, kind: &str, name: &str) -> Result<Self> {
        let group = Self::group(group);
        for segment in [group, version, kind] {
            check_segment(segment)?;
        }
        Ok(Self(format!("{group}/{version}/{kind}/{}{SUFFIX}", stem(name)?)))
    }

    /// The directory of an API group.
    pub(super) fn group(group: &str) -> &str {
        if group.is_empty() { CORE_GROUP } else { group }
    }

    /// Parses a path that [`ItemPath::new`] made, such as one from a snapshot, which is untrusted
    /// input.
    pub fn parse(path: &str) -> Result<Self> {
        let segments: Vec<&str> = path.split('/').collect();
        let [group, version, kind, file] = segments.as_slice() else {
            return Err(unsafe_segment(path, "a path is group/version/kind/name.json"));
        };
        for segment in [group, version, kind] {
            check_segment(segment)?;
        }
        match file.strip_suffix(SUFFIX) {
            Some(stem) if !stem.is_empty() && stem.len() <= MAX_STEM && stem.bytes().all(|byte| byte > b'$') => {
                Ok(Self(path.to_owned()))
            }
            _ => Err(unsafe_segment(file, "a file name is an escaped name and .json")),
        }
    }

    /// The whole path, without a leading slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The kind's directory: `group/version/kind`.
    #[must_use]
    pub fn directory(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(directory, _)| directory)
    }

    /// The last segment: `name.json`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit_once('/').map_or(self.0.as_str(), |(_, file)| file)
    }

    /// The name that the path was made of, unless the name was too long to be kept.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        let file = self.file_name();
        let stem = file.strip_suffix(SUFFIX).unwrap_or(file);
        let mut parts = stem.split('%');
        let mut name = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let code = part.get(..2).and_then(|code| u8::from_str_radix(code, 16).ok())?;
            name.push(char::from(code));
            name.push_str(&part[2..]);
        }
        Some(name)
    }

    /// A lower bound on the file names of this item and of every item of the same kind whose *name*
    /// sorts after this one's. It is the position of a listing by name, in terms of file names.
    pub(super) fn bound(&self) -> &[u8] {
        let file = self.file_name();
        let stem = file.strip_suffix(SUFFIX).unwrap_or(file).as_bytes();
        &stem[..stem.len().min(BOUND)]
    }
}

impl fmt::Display for ItemPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Ord for ItemPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.split('/').cmp(other.0.split('/'))
    }
}

impl PartialOrd for ItemPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn check_segment(segment: &str) -> Result<()> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if segment.is_empty() || segment == "." || segment == ".." {
        Err(unsafe_segment(segment, "it is empty or a relative directory"))
    } else if segment.len() > 253 || !segment.bytes().all(safe) {
        Err(unsafe_segment(segment, "a group, version or kind holds letters, digits, `.`, `-` and `_` only"))
    } else {
        Ok(())
    }
}

fn unsafe_segment(segment: &str, problem: &'static str) -> Error {
    Error::UnsafePath { segment: segment.escape_debug().take(100).collect(), problem }
}

fn hex_digit(value: u32) -> char {
    char::from_digit(value, 16).map_or('0', |digit| digit.to_ascii_uppercase())
}

/// The escaped file name of an object name, without the suffix.
fn stem(name: &str) -> Result<String> {
    if name.is_empty() || name.contains('/') {
        return Err(unsafe_segment(name, "a name is not empty and holds no `/`"));
    }
    let mut stem = String::with_capacity(name.len());
    let mut kept = 0;
    for character in name.chars() {
        // Everything up to and including `%` is escaped. The escapes start with `%` and end in
        // digits that sort like the characters, so escaped names sort like the names.
        if character <= '%' {
            let code = u32::from(character);
            stem.extend(['%', hex_digit(code >> 4), hex_digit(code & 0xF)]);
        } else {
            stem.push(character);
        }
        if stem.len() <= KEPT_STEM {
            kept = stem.len();
        }
    }
    if stem.len() > MAX_STEM {
        stem.truncate(kept);
        stem.push_str(SHORTENED);
        stem.push_str(&hex::encode(&Sha256::digest(name.as_bytes())[..16]));
    }
    Ok(stem)
}
