//! What a tenant, or whoever runs its store, may put into a repository: whatever it is, a worker ends in bounded memory and time, and says what it was.
//!
//! Who holds the key can make anything that opens; who can write to the store can put anything there.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aes256ctr_poly1305aes::aead::AeadInPlace as _;
use aes256ctr_poly1305aes::{Aes256CtrPoly1305Aes, Key, Nonce, Tag};
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::local::LocalFileSystem;
use object_store::path::Path as StorePath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use rustic_core::repofile::MasterKey;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenantatlas::repository::{
    Error, ItemPath, ReadData, Repository as _, RepositoryKey, RusticRepository, Snapshot, Store,
};

use super::support::s3::{self, SECRET_KEY, Server};
use super::support::{PASSWORD, Volume, capture, items, master_key, open, owner, password, timeouts};

const MIB: usize = 1024 * 1024;

/// A repository in a directory, and its key in the hands of a tenant.
struct Forger {
    volume: Volume,
    key: RepositoryKey,
    snapshot: Snapshot,
    cipher: Aes256CtrPoly1305Aes,
}

impl Forger {
    async fn new() -> Self {
        let (volume, key) = (Volume::new(), master_key());
        let repository = open(&volume.location(), &key).await.unwrap();
        let snapshot = capture(&repository, "run-1", items()).await.unwrap().snapshot;
        let RepositoryKey::MasterKey(master) = &key else { unreachable!("a master key") };
        let cipher = cipher(master);
        Self { volume, key, snapshot, cipher }
    }

    async fn open(&self) -> Result<RusticRepository, Error> {
        RusticRepository::open(&self.volume.location(), &timeouts(), &self.key, &owner()).await
    }

    fn seal(&self, plain: &[u8]) -> Vec<u8> {
        let nonce = [7_u8; 16];
        let mut content = plain.to_vec();
        let tag = self.cipher.encrypt_in_place_detached(Nonce::from_slice(&nonce), &[], &mut content).unwrap();
        [nonce.as_slice(), &content, tag.as_slice()].concat()
    }

    fn unseal(&self, sealed: &[u8]) -> Vec<u8> {
        let (nonce, rest) = sealed.split_at(16);
        let (content, tag) = rest.split_at(rest.len() - 16);
        let mut plain = content.to_vec();
        self.cipher.decrypt_in_place_detached(Nonce::from_slice(nonce), &[], &mut plain, Tag::from_slice(tag)).unwrap();
        plain
    }

    /// Puts a file of the repository's own beside the others. Returns its id.
    fn put(&self, directory: &str, content: &[u8]) -> String {
        let id = id(content);
        std::fs::write(self.volume.path().join(directory).join(&id), content).unwrap();
        id
    }

    /// Puts blobs into a pack, and an index beside the others that names them: type, content as it is sealed, length of the content.
    fn pack(&self, blobs: &[(&str, String, Vec<u8>, usize)]) {
        let (mut pack, mut header, mut indexed) = (Vec::new(), Vec::new(), Vec::new());
        for (kind, id, plain, length) in blobs {
            let sealed = self.seal(plain);
            indexed.push(json!({"id": id, "type": kind, "offset": pack.len(), "length": sealed.len(), "uncompressed_length": length}));
            header.push(if *kind == "tree" { 3 } else { 2 });
            header.extend(u32::try_from(sealed.len()).unwrap().to_le_bytes());
            header.extend(u32::try_from(*length).unwrap().to_le_bytes());
            header.extend(hex::decode(id).unwrap());
            pack.extend(sealed);
        }
        let header = self.seal(&header);
        pack.extend(&header);
        pack.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
        let pack_id = id(&pack);
        let directory = self.volume.path().join("data").join(&pack_id[..2]);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join(&pack_id), &pack).unwrap();
        let index = json!({"packs": [{"id": pack_id, "blobs": indexed}]});
        self.put("index", &self.seal(index.to_string().as_bytes()));
    }

    /// Puts trees, each by its JSON.
    fn trees(&self, trees: &[String]) {
        let blobs: Vec<_> =
            trees.iter().map(|tree| ("tree", id(tree.as_bytes()), compressed(tree.as_bytes()), tree.len())).collect();
        self.pack(&blobs);
    }

    /// Records a snapshot of a tree. Returns its id.
    fn snapshot_of(&self, tree: &str) -> String {
        let file = self.volume.path().join("snapshots").join(&self.snapshot.id);
        let plain = self.unseal(&std::fs::read(file).unwrap());
        let mut snapshot: Value = serde_json::from_slice(&zstd::decode_all(&plain[1..]).unwrap()).unwrap();
        snapshot["tree"] = json!(tree);
        self.put("snapshots", &self.seal(snapshot.to_string().as_bytes()))
    }
}

fn cipher(key: &MasterKey) -> Aes256CtrPoly1305Aes {
    let bytes = [key.encrypt.as_slice(), &key.mac.k, &key.mac.r].concat();
    Aes256CtrPoly1305Aes::new(Key::from_slice(&bytes))
}

fn id(content: &[u8]) -> String {
    hex::encode(Sha256::digest(content))
}

fn compressed(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 1).unwrap()
}

/// A few kilobytes that decompress to a gigabyte.
fn bomb() -> Vec<u8> {
    zstd::encode_all(std::io::repeat(b' ').take(1 << 30), 1).unwrap()
}

fn directory(name: &str, subtree: &str) -> Value {
    json!({"name": name, "type": "dir", "mode": 493, "uid": 0, "gid": 0, "inode": 0, "links": 1, "subtree": subtree})
}

fn file(name: &str, content: &[&str]) -> Value {
    json!({"name": name, "type": "file", "mode": 384, "uid": 0, "gid": 0, "inode": 0, "links": 1, "size": 1_u64 << 62, "content": content})
}

fn tree(nodes: &[Value]) -> String {
    json!({"nodes": nodes}).to_string() + "\n"
}

/// The trees of one item at `apps/v1/ConfigMap/a.json` of this content; the root last.
fn trees_of(content: &[&str]) -> Vec<String> {
    let kind = tree(&[file("a.json", content)]);
    let version = tree(&[directory("ConfigMap", &id(kind.as_bytes()))]);
    let group = tree(&[directory("v1", &id(version.as_bytes()))]);
    let root = tree(&[directory("apps", &id(group.as_bytes()))]);
    vec![kind, version, group, root]
}

/// Everything that a worker does with a repository, up to the first error.
async fn work(forger: &Forger) -> Result<(), Error> {
    let repository = forger.open().await?;
    for snapshot in repository.snapshots().await? {
        let items = repository.list(&snapshot.id).await?;
        let reader = repository.reader(&snapshot.id).await?;
        for content in reader.read(items.into_iter().map(|item| item.path).collect()).await? {
            content?;
        }
    }
    capture(&repository, "run-2", items()).await?;
    if !repository.check(ReadData::All).await?.is_ok() {
        return Err(Error::Damaged { location: String::new(), what: "a check".to_owned() });
    }
    repository.stats().await.map(drop)
}

/// The largest this process ever was, in MiB.
fn peak_mib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() / 1024
}

async fn assert_too_large(forger: &Forger, what: &str) {
    let before = peak_mib();
    let error = work(forger).await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge", "{what}: {error}");
    let said = error.to_string();
    assert!(said.starts_with("remove what no capture wrote"), "{said}");
    // Tests beside this one need some, too.
    assert!(peak_mib() < before + 600, "{what} took {} MiB", peak_mib() - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_object_in_the_place_of_any_file_is_named_and_not_read() {
    for directory in ["config", "index", "snapshots", "data", "tenantatlas/owner.json"] {
        let forger = Forger::new().await;
        let place = forger.volume.path().join(directory);
        let files = if place.is_dir() { forger.volume.files(directory) } else { vec![place] };
        for file in files {
            // Sparse: it takes no room on the disk.
            std::fs::OpenOptions::new().write(true).open(file).unwrap().set_len(1 << 30).unwrap();
        }
        let error = work(&forger).await.unwrap_err();
        // A pack that has not the size of its index counts as lost.
        let expected = if directory == "data" { "Damaged" } else { "TooLarge" };
        assert_eq!(error.reason(), expected, "{directory}: {error}");
    }
    // What nobody reads does no harm.
    let forger = Forger::new().await;
    for unread in ["locks", "tenantatlas"] {
        std::fs::create_dir_all(forger.volume.path().join(unread)).unwrap();
        let file = std::fs::File::create(forger.volume.path().join(unread).join(id(b"x"))).unwrap();
        file.set_len(1 << 30).unwrap();
    }
    work(&forger).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_decompresses_without_end_is_named_whatever_it_is() {
    let bomb = bomb();
    assert!(bomb.len() < MIB);
    for directory in ["config", "index", "snapshots"] {
        let forger = Forger::new().await;
        let sealed = forger.seal(&[&[2], bomb.as_slice()].concat());
        if directory == "config" {
            std::fs::write(forger.volume.path().join("config"), sealed).unwrap();
        } else {
            forger.put(directory, &sealed);
        }
        assert_too_large(&forger, directory).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_decompresses_without_end_is_named_by_who_lists_reads_and_checks() {
    let bomb = bomb();
    for length in [1, 32 * MIB, 1 << 30] {
        // A tree: whoever lists or checks reads it.
        let forger = Forger::new().await;
        forger.pack(&[("tree", id(b"root"), bomb.clone(), length)]);
        forger.snapshot_of(&id(b"root"));
        assert_too_large(&forger, "a tree").await;
        // Data beside what a snapshot needs: a check reads all of a pack that is needed.
        let forger = Forger::new().await;
        let needed = id(b"x");
        forger.pack(&[("data", needed.clone(), compressed(b"x"), 1), ("data", id(b"data"), bomb.clone(), length)]);
        let trees = trees_of(&[&needed]);
        forger.trees(&trees);
        forger.snapshot_of(&id(trees[3].as_bytes()));
        assert_too_large(&forger, "data that a check reads").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_of_700_megabytes_is_named_and_the_others_are_read() {
    let forger = Forger::new().await;
    let chunk = vec![b' '; 4 * MIB];
    forger.pack(&[("data", id(&chunk), compressed(&chunk), chunk.len())]);
    let chunk = id(&chunk);
    let trees = trees_of(&vec![chunk.as_str(); 175]);
    forger.trees(&trees);
    let snapshot = forger.snapshot_of(&id(trees[3].as_bytes()));
    let repository = forger.open().await.unwrap();
    let listed = repository.list(&snapshot).await.unwrap();
    assert!(listed[0].size <= 16 * MIB as u64, "a size that nothing is reserved for: {}", listed[0].size);
    let error = repository.read(&snapshot, vec![listed[0].path.clone()]).await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge");
    assert!(error.to_string().contains("apps/v1/ConfigMap/a.json"), "{error}");
    // As many parts of next to nothing.
    let byte = id(b"x");
    forger.pack(&[("data", byte.clone(), compressed(b"x"), 1)]);
    let trees = trees_of(&vec![byte.as_str(); 100_000]);
    forger.trees(&trees);
    let snapshot = forger.snapshot_of(&id(trees[3].as_bytes()));
    let path = ItemPath::parse("apps/v1/ConfigMap/a.json").unwrap();
    let reader = forger.open().await.unwrap().reader(&snapshot).await.unwrap();
    assert_eq!(reader.read(vec![path]).await.unwrap()[0].as_ref().unwrap_err().reason(), "TooLarge");
    let good: Vec<_> = items().into_iter().map(|entry| entry.path).collect();
    assert_eq!(repository.read(&forger.snapshot.id, good).await.unwrap().len(), items().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_that_name_each_other_twice_are_not_walked_for_ever() {
    let forger = Forger::new().await;
    let mut trees = vec![tree(&[])];
    for _ in 0..25 {
        let below = id(trees.last().unwrap().as_bytes());
        trees.push(tree(&[directory("a", &below), directory("b", &below)]));
    }
    forger.trees(&trees);
    let snapshot = forger.snapshot_of(&id(trees.last().unwrap().as_bytes()));
    // A hundredth of the bound: the walk that comes to it takes as much less.
    let store = LocalFileSystem::new_with_prefix(forger.volume.path()).unwrap();
    let store = Store::new(Arc::new(store), "", "the test's store", Duration::from_mins(2));
    let store = store.with_most_nodes(Store::MOST_NODES / 100);
    let repository = RusticRepository::open_in(store, &forger.key, &owner()).await.unwrap();
    let begun = Instant::now();
    let error = repository.list(&snapshot).await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge");
    assert!(error.to_string().contains("more than 10000 items and directories"), "{error}");
    assert!(begun.elapsed() < Duration::from_mins(1), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_file_that_asks_for_all_memory_is_passed_over() {
    let volume = Volume::new();
    let repository = open(&volume.location(), &password()).await.unwrap();
    capture(&repository, "run-1", items()).await.unwrap();
    let good = volume.files("keys")[0].clone();
    let mut file: Value = serde_json::from_slice(&std::fs::read(&good).unwrap()).unwrap();
    let greedy = [(1_u32 << 31, 8, 1), (1 << 15, 1 << 20, 1), (1 << 15, 8, 1 << 24), (0, 0, 0), (3, 8, 1)];
    for (number, (n, r, p)) in greedy.into_iter().enumerate() {
        for (field, value) in [("N", n), ("r", r), ("p", p)] {
            file[field] = json!(value);
        }
        let place = volume.path().join("keys").join(format!("{number:064x}"));
        std::fs::write(place, file.to_string()).unwrap();
    }
    std::fs::write(volume.path().join("keys").join("9".repeat(64)), vec![b' '; MIB]).unwrap();
    RusticRepository::open(&volume.location(), &timeouts(), &password(), &owner()).await.unwrap();
    // With no other it is said.
    std::fs::remove_file(good).unwrap();
    let error = RusticRepository::open(&volume.location(), &timeouts(), &password(), &owner()).await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge", "{error}");
    assert!(!error.to_string().contains(PASSWORD));
}

/// A store whose listings do not end.
#[derive(Debug)]
struct Endless(LocalFileSystem);

impl std::fmt::Display for Endless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Endless")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Endless {
    async fn put_opts(
        &self,
        location: &StorePath,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        self.0.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &StorePath,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &StorePath, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<StorePath>>,
    ) -> BoxStream<'static, object_store::Result<StorePath>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&StorePath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        let location: StorePath = prefix.cloned().unwrap_or_default().parts().chain(["x".into()]).collect();
        let object = ObjectMeta {
            location,
            last_modified: std::time::SystemTime::UNIX_EPOCH.into(),
            size: 1,
            e_tag: None,
            version: None,
        };
        stream::repeat_with(move || Ok(object.clone())).boxed()
    }

    async fn list_with_delimiter(&self, prefix: Option<&StorePath>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &StorePath, to: &StorePath, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_without_end_is_given_up_and_named() {
    let forger = Forger::new().await;
    let inner = LocalFileSystem::new_with_prefix(forger.volume.path()).unwrap();
    let store = Store::new(Arc::new(Endless(inner)), "", "the test's store", Duration::from_mins(2));
    let repository = RusticRepository::open_in(store, &forger.key, &owner()).await.unwrap();
    let error = repository.snapshots().await.unwrap_err();
    assert_eq!(error.reason(), "TooLarge", "{error}");
    assert!(error.to_string().contains("`snapshots` has more than 1000000 objects"), "{error}");
}

async fn opening(server: &Server) -> Error {
    let keys = s3::keys(SECRET_KEY);
    open(&s3::bucket(server, "acme", keys.path()), &master_key()).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed_and_said() {
    let elsewhere = Server::answering(false, |_| Some(s3::error("403 Forbidden", "AccessDenied"))).await;
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let place = format!("{}/latest/meta-data/", elsewhere.endpoint());
        let redirect =
            format!("HTTP/1.1 {status}\r\nLocation: {place}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let server = Server::answering(false, move |_| Some(redirect.clone())).await;
        let error = opening(&server).await;
        assert_eq!(error.reason(), "InvalidLocation", "{status}: {error}");
        assert!(error.to_string().contains("redirects elsewhere, which is not followed"), "{status}: {error}");
    }
    assert_eq!(elsewhere.recorded(), Vec::<String>::new(), "nobody came");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_without_end_is_given_up_and_named() {
    for status in ["200 OK", "403 Forbidden"] {
        let body = " ".repeat(17 * MIB);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        let server = Server::answering(false, move |_| Some(answer.clone())).await;
        let error = opening(&server).await;
        assert_eq!(error.reason(), "TooLarge", "{status}: {error}");
        assert!(error.to_string().contains("an answer of the store has more than 16 MiB"), "{status}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_answers_trickle_is_given_up_in_time() {
    let server = Server::trickling(Duration::from_millis(50)).await;
    let begun = Instant::now();
    let error = opening(&server).await;
    assert_eq!(error.reason(), "StoreUnreachable", "{error}");
    assert!(begun.elapsed() < timeouts().total + Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[test]
fn the_bounds_are_stated_where_users_look() {
    let guide = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides/maintenance.md"));
    let guide = guide.unwrap();
    assert_eq!(Store::MOST_NODES, 1_000_000);
    for bound in ["16 MiB", "1,000,000", "64 MiB", "128 MiB", "144 MiB", "256 MiB"] {
        assert!(guide.contains(bound), "the guide does not say {bound}");
    }
}
