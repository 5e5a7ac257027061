//! A tenant's repository on a volume of the node, and the stock restic on the same files.

use super::tenant::{Tenant, of_story, volume_root};
use super::wait::{SOON, wait_for};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tenantatlas::api::{BackupRepository, OperationRun};

/// The password of every repository of the tests.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A repository's volume as the node sees it, opened with the stock client.
pub(crate) struct Restic {
    volume: PathBuf,
    password: String,
}

impl Tenant {
    /// A repository that has passed its check.
    pub(crate) async fn repository(&self, name: &str) -> Restic {
        let folder = self.unchecked_repository(name).await;
        self.ready(name).await;
        Restic::on(folder)
    }

    /// Waits until a repository is Ready.
    pub(crate) async fn ready(&self, name: &str) -> BackupRepository {
        self.repository_when(name, "is Ready", BackupRepository::is_ready).await
    }

    /// Waits until a repository is as described.
    pub(crate) async fn repository_when(
        &self,
        name: &str,
        described: &str,
        condition: impl Fn(&BackupRepository) -> bool,
    ) -> BackupRepository {
        let repositories: Api<BackupRepository> = self.api();
        wait_for(&format!("repository {}/{name} {described}", self.name), SOON, async || {
            let repository = repositories.get(name).await.map_err(|error| error.to_string())?;
            if condition(&repository) {
                Ok(repository)
            } else {
                Err(serde_json::to_string_pretty(&repository.status).unwrap_or_default())
            }
        })
        .await
    }

    /// Secret, volume, claim and repository, all of one name; nobody has looked at it yet. Returns the volume's folder.
    pub(crate) async fn unchecked_repository(&self, name: &str) -> PathBuf {
        let folder = self.volume(name).await;
        self.password(name, PASSWORD);
        let created: Result<BackupRepository, _> = self
            .create(json!({ "metadata": { "name": name }, "spec": {
                "storage": { "persistentVolumeClaim": { "claimName": name } },
                "passwordSecret": { "name": name },
            }}))
            .await;
        created.unwrap_or_else(|error| panic!("repository {name} is refused: {error}"));
        folder
    }

    /// A Secret with a repository's password.
    pub(crate) fn password(&self, name: &str, password: &str) {
        let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
            "stringData": { "password": password } });
        self.apply(&secret.to_string());
    }

    /// A claim and a volume of the node for it. Returns the volume's folder.
    pub(crate) async fn volume(&self, name: &str) -> PathBuf {
        let folder = volume_root().join(format!("{}-{name}", self.name));
        std::fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("ATLAS_VOLUME_ROOT: {} cannot be made: {error}", folder.display()));
        self.volume_at(name, &folder).await;
        folder
    }

    /// A claim, and a volume for it at a folder or block device of the node.
    pub(crate) async fn volume_at(&self, name: &str, path: &Path) {
        let volume = format!("{}-{name}", self.name);
        let nodes: Api<Node> = Api::all(self.cluster.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.expect("nodes can be listed");
        let node = nodes.items.into_iter().next().and_then(|node| node.metadata.name).expect("a node");
        let manifest = json!({
            "metadata": { "name": volume, "labels": of_story(self) },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "capacity": { "storage": "1Gi" },
                "local": { "path": path },
                "persistentVolumeReclaimPolicy": "Retain",
                "storageClassName": "e2e",
                "claimRef": { "namespace": self.name, "name": name },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": "kubernetes.io/hostname", "operator": "In", "values": [node] },
                ]}]}},
            },
        });
        let volumes: Api<PersistentVolume> = Api::all(self.cluster.client.clone());
        let manifest = serde_json::from_value(manifest).expect("a PersistentVolume");
        let created = volumes.create(&PostParams::default(), &manifest).await;
        created.unwrap_or_else(|error| panic!("PersistentVolume {volume} is refused: {error}"));
        let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": name }, "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "1Gi" } },
            "storageClassName": "e2e",
            "volumeName": volume,
        }});
        self.apply(&claim.to_string());
    }
}

impl Restic {
    pub(crate) fn on(volume: PathBuf) -> Self {
        Self::with_password(volume, PASSWORD.to_owned())
    }

    pub(crate) fn with_password(volume: PathBuf, password: String) -> Self {
        Self { volume, password }
    }

    /// The volume's own folder.
    pub(crate) fn volume(&self) -> &Path {
        &self.volume
    }

    /// The repository's files: below the volume's own folder, where `config` lies.
    pub(crate) fn folder(&self) -> PathBuf {
        fn find(folder: &Path, depth: usize) -> Option<PathBuf> {
            if folder.join("config").is_file() && folder.join("keys").is_dir() {
                return Some(folder.to_owned());
            }
            let entries = std::fs::read_dir(folder).ok().filter(|_| depth > 0)?;
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| path.is_dir())
                .find_map(|path| find(&path, depth - 1))
        }
        find(&self.volume, 3).unwrap_or_else(|| panic!("no repository below {}", self.volume.display()))
    }

    /// What stock restic prints; it must succeed.
    pub(crate) fn prints(&self, arguments: &[&str]) -> Vec<u8> {
        let output = Command::new("restic")
            .env("RESTIC_PASSWORD", &self.password)
            .arg("--repo")
            .arg(self.folder())
            .args(["--no-cache", "--no-lock"])
            .args(arguments)
            .output()
            .unwrap_or_else(|error| panic!("restic cannot be started ({error}): Debian's package restic has it"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "restic {} failed: {said}", arguments.join(" "));
        output.stdout
    }

    /// The snapshots, as restic tells them.
    pub(crate) fn snapshots(&self) -> Vec<Value> {
        serde_json::from_slice(&self.prints(&["snapshots", "--json"])).expect("restic prints a JSON array")
    }

    /// Those of one run, by the tag that the guide tells users to look for.
    pub(crate) fn snapshots_of(&self, run: &OperationRun) -> Vec<Value> {
        let tag = format!("run={}", run.metadata.uid.as_deref().unwrap_or_default());
        let printed = self.prints(&["snapshots", "--json", "--tag", &tag]);
        serde_json::from_slice(&printed).expect("restic prints a JSON array")
    }

    /// The paths of the items in a snapshot.
    pub(crate) fn files(&self, snapshot: &str) -> Vec<String> {
        self.all_files(snapshot).into_iter().filter(|path| !path.contains(".not-captured/")).collect()
    }

    /// The paths of the items, and of the notes on what was left out.
    pub(crate) fn all_files(&self, snapshot: &str) -> Vec<String> {
        let printed = String::from_utf8(self.prints(&["ls", "--json", snapshot])).expect("restic prints text");
        let nodes = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let files = nodes.filter(|node| node["type"] == "file");
        files.filter_map(|node| node["path"].as_str().map(str::to_owned)).collect()
    }

    /// One file of a snapshot, as JSON.
    pub(crate) fn dump(&self, snapshot: &str, path: &str) -> Value {
        let bytes = self.prints(&["dump", snapshot, path]);
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{path} of {snapshot} is not JSON: {error}"))
    }
}
