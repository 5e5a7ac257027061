//! OCI image archives, packed without Docker: the same input gives the same bytes.
//!
//! One image, one uncompressed layer, no time stamps: a registry client compresses when it pushes, and a cluster on
//! this machine only loses time by unpacking. Knows nothing of what is packed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Where containerd (and so kind) looks for the image's whole name.
const NAME: &str = "io.containerd.image.name";
/// Where the OCI image layout itself puts the tag.
const TAG: &str = "org.opencontainers.image.ref.name";

/// The content of an image: absolute paths in the image, each owned by root. Folders above an entry need no entry.
#[derive(Debug, Default)]
pub(crate) struct Content(BTreeMap<String, Entry>);

#[derive(Debug)]
struct Entry {
    /// Permission bits, such as 0o755.
    mode: u32,
    /// The bytes of a file; none for a folder.
    file: Option<Vec<u8>>,
}

impl Content {
    /// Adds a folder.
    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> &mut Self {
        self.entry(path, Entry { mode, file: None })
    }

    /// Adds a file with the given bytes.
    pub(crate) fn file(&mut self, path: &str, mode: u32, bytes: impl Into<Vec<u8>>) -> &mut Self {
        let file = Some(bytes.into());
        self.entry(path, Entry { mode, file })
    }

    /// Adds a copy of a file of this machine (following links).
    pub(crate) fn copy(&mut self, path: &str, mode: u32, source: &Path) -> Result<&mut Self> {
        let bytes = fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        Ok(self.file(path, mode, bytes))
    }

    fn entry(&mut self, path: &str, entry: Entry) -> &mut Self {
        let path = path.trim_matches('/');
        for (slash, _) in path.match_indices('/') {
            let folder = Entry { mode: 0o755, file: None };
            self.0.entry(path[..slash].to_owned()).or_insert(folder);
        }
        self.0.insert(path.to_owned(), entry);
        self
    }

    /// The layer. Sorted by path, so a folder comes before what is in it.
    fn layer(&self) -> Result<Vec<u8>> {
        let mut layer = tar::Builder::new(Vec::new());
        for (path, entry) in &self.0 {
            let bytes = entry.file.as_deref().unwrap_or_default();
            let kind = if entry.file.is_some() { tar::EntryType::Regular } else { tar::EntryType::Directory };
            append(&mut layer, path, kind, entry.mode, bytes)?;
        }
        Ok(layer.into_inner()?)
    }
}

/// How a container of the image runs.
#[derive(Debug, Default)]
pub(crate) struct Config {
    pub(crate) entrypoint: Vec<String>,
    /// `uid:gid`
    pub(crate) user: String,
    /// `NAME=value`
    pub(crate) env: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// A packed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Archive {
    pub(crate) file: PathBuf,
    /// The full name with its tag, as a pod names it.
    pub(crate) reference: String,
    /// `sha256:…` of the manifest.
    pub(crate) digest: String,
}

/// Packs an image and writes its archive. A reference without a tag gets the first 12 hexadecimal digits of the digest as
/// one: changed content then has a changed name, which is what makes a Deployment roll.
pub(crate) fn pack(output: &Path, reference: &str, content: &Content, config: &Config) -> Result<Archive> {
    let layer = content.layer()?;
    let image = serde_json::to_vec(&json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": config.entrypoint,
            "Env": config.env,
            "Labels": config.labels,
            "User": config.user,
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, &image),
        "layers": [descriptor(LAYER, &layer)],
    }))?;
    let digest = digest(&manifest);
    let reference = match tag(reference) {
        Some(_) => reference.to_owned(),
        None => format!("{reference}:{}", &digest["sha256:".len()..][..12]),
    };
    let mut entry = descriptor(MANIFEST, &manifest);
    entry["annotations"] = json!({NAME: reference, TAG: tag(&reference)});
    entry["platform"] = json!({"architecture": architecture(), "os": "linux"});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;

    if let Some(folder) = output.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    // Under another name first: whoever reads the archive never sees half of it.
    let unfinished = output.with_extension(format!("tar.{}", std::process::id()));
    let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
    let mut archive = tar::Builder::new(file);
    let mut add = |path: &str, bytes: &[u8]| append(&mut archive, path, tar::EntryType::Regular, 0o644, bytes);
    add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    add("index.json", &index)?;
    for blob in [&manifest, &image, &layer] {
        add(&format!("blobs/{}", self::digest(blob).replace(':', "/")), blob)?;
    }
    archive.into_inner()?.sync_all()?;
    fs::rename(&unfinished, output)?;
    Ok(Archive { file: output.to_owned(), reference, digest })
}

/// Reads the name and the digest of a packed image.
pub(crate) fn inspect(file: &Path) -> Result<Archive> {
    let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    for entry in tar::Archive::new(open).entries()? {
        let mut entry = entry?;
        if entry.path()? != Path::new("index.json") {
            continue;
        }
        let mut text = String::new();
        entry.read_to_string(&mut text)?;
        let index: Value = serde_json::from_str(&text)?;
        let manifest = &index["manifests"][0];
        if let (Some(reference), Some(digest)) = (manifest["annotations"][NAME].as_str(), manifest["digest"].as_str()) {
            return Ok(Archive { file: file.to_owned(), reference: reference.to_owned(), digest: digest.to_owned() });
        }
    }
    bail!("{} is not an OCI image archive with a name in it; `cargo xtask image` writes one", file.display())
}

/// Appends an entry that carries nothing of this machine: no times, no owners.
fn append<W: std::io::Write>(
    archive: &mut tar::Builder<W>,
    path: &str,
    kind: tar::EntryType,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(u64::try_from(bytes.len())?);
    archive.append_data(&mut header, path, bytes)?;
    Ok(())
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": digest(bytes), "size": bytes.len()})
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The tag of a reference. A colon before the last slash belongs to a port.
fn tag(reference: &str) -> Option<&str> {
    let name = reference.rsplit('/').next()?;
    name.split_once(':').map(|(_, tag)| tag)
}

/// The architecture's name in the image specification.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tenantatlas-oci-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn content() -> Content {
        let mut content = Content::default();
        content.file("/etc/passwd", 0o644, "root:x:0:0::/:\n").folder("/tmp", 0o1777);
        content
    }

    #[test]
    fn the_same_content_gives_the_same_bytes() {
        let folder = folder("same");
        let config = Config { entrypoint: vec!["/a".into()], user: "65532:65532".into(), ..Config::default() };
        let first = pack(&folder.join("1.tar"), "localhost/a", &content(), &config).unwrap();
        // Later, elsewhere, and built up in another order.
        let mut other = Content::default();
        other.folder("/tmp/", 0o1777).file("etc/passwd", 0o644, "root:x:0:0::/:\n");
        let second = pack(&folder.join("deep/2.tar"), "localhost/a", &other, &config).unwrap();
        assert_eq!(first.digest, second.digest);
        assert_eq!(fs::read(&first.file).unwrap(), fs::read(&second.file).unwrap());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn changed_content_has_another_digest_and_another_tag() {
        let folder = folder("changed");
        let before = pack(&folder.join("1.tar"), "localhost/a", &content(), &Config::default()).unwrap();
        let mut changed = content();
        changed.folder("/tmp", 0o755);
        let after = pack(&folder.join("2.tar"), "localhost/a", &changed, &Config::default()).unwrap();
        assert_ne!(before.digest, after.digest);
        assert_ne!(before.reference, after.reference);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn an_archive_tells_its_name_and_digest() {
        let folder = folder("inspect");
        let packed = pack(&folder.join("1.tar"), "localhost:5000/a:v1", &content(), &Config::default()).unwrap();
        assert_eq!(packed.reference, "localhost:5000/a:v1");
        assert_eq!(inspect(&packed.file).unwrap(), packed);
        let text = folder.join("text");
        fs::write(&text, "no archive").unwrap();
        assert!(inspect(&text).is_err());
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn folders_come_before_what_is_in_them() {
        let layer = content().layer().unwrap();
        let mut archive = tar::Archive::new(layer.as_slice());
        let paths: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                assert_eq!(entry.header().mtime().unwrap(), 0);
                entry.path().unwrap().to_string_lossy().into_owned()
            })
            .collect();
        assert_eq!(paths, ["etc", "etc/passwd", "tmp"]);
    }

    #[test]
    fn a_port_is_not_a_tag() {
        assert_eq!(tag("localhost:5000/a"), None);
        assert_eq!(tag("localhost:5000/a:v1"), Some("v1"));
        assert_eq!(tag("localhost/tenantatlas"), None);
    }
}
