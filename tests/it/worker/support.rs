//! What the tests of the worker share: an environment as the controller gives it, and a repository in a directory.

use super::api::{Api, JOB_UID, NAMESPACE, POD, RUN, RUN_UID};
use crate::repository::support::{
    faults::{Fault, FaultyStore, Request},
    owned_by,
};
use object_store::local::LocalFileSystem;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tenantatlas::{
    api::{OperationRun, execution, result::TerminationResult},
    clock::SystemClock,
    operations::{capture, inventory},
    repository::{Repository as _, RepositoryKey, RusticRepository, Store, WriterPermit},
    worker::{
        environment::{Environment, Mounts},
        failure::Failure,
        open,
    },
};
use tokio::sync::OnceCell;

/// The inputs of a run in the repository `main`, with these.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
pub fn inputs_with(more: Value) -> Value {
    let mut inputs = json!({"repository": "main"});
    inputs.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    inputs
}

/// The files of a worker's pod.
pub struct Pod {
    root: TempDir,
    checked: OnceCell<()>,
}

impl Pod {
    /// With an empty volume and a master key, which opens in a millisecond.
    pub fn new() -> Self {
        let pod = Self::with_password();
        let key = RepositoryKey::generate_master_key().unwrap();
        std::fs::write(pod.mounts().password.join("master-key"), key).unwrap();
        pod
    }

    /// With an empty volume and a password.
    pub fn with_password() -> Self {
        let pod = Self { root: TempDir::new().unwrap(), checked: OnceCell::new() };
        let mounts = pod.mounts();
        for directory in [&mounts.password, &mounts.volume, &pod.root().join("dev")] {
            std::fs::create_dir_all(directory).unwrap();
        }
        pod.set_password("correct horse battery staple");
        pod
    }

    /// Another pod with the same files.
    pub fn copied(&self) -> Self {
        let root = TempDir::new().unwrap();
        copy(self.root(), root.path());
        Self { root, checked: self.checked.clone() }
    }

    /// A pod with the files of one that has worked before, in another process.
    pub fn with_files_of(root: &Path) -> Self {
        let pod = Self { root: TempDir::new().unwrap(), checked: OnceCell::new_with(Some(())) };
        copy(root, pod.root());
        pod
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }

    pub fn mounts(&self) -> Mounts {
        Mounts::below(self.root())
    }

    pub fn set_password(&self, password: &str) {
        std::fs::write(self.mounts().password.join("password"), password).unwrap();
    }

    /// As after the first check, which has created the repository; from then on nothing creates it any more.
    pub async fn checked(&self) {
        let environment = environment(json!({"repository": "main"}), None);
        let check = async || {
            open::open_or_create(&Api::new().client(), &environment, &self.mounts()).await.unwrap();
        };
        self.checked.get_or_init(check).await;
    }

    /// The repository as a capture opens it.
    pub async fn repository(&self) -> Result<RusticRepository, Failure> {
        self.checked().await;
        open::open(&environment(json!({"repository": "main"}), None), &self.mounts()).await
    }

    /// The same in a store that fails on demand.
    pub async fn repository_behind(
        &self,
        hook: impl Fn(Request, &str) -> Option<Fault> + Send + Sync + 'static,
    ) -> RusticRepository {
        self.checked().await;
        let inner = LocalFileSystem::new_with_prefix(self.mounts().volume).unwrap();
        let store =
            Store::new(FaultyStore::new(Arc::new(inner), hook), "", "the test's store", Duration::from_secs(10));
        let key = std::fs::read(self.mounts().password.join("master-key")).unwrap();
        let key = RepositoryKey::from_secret(&key).unwrap();
        RusticRepository::open_in(store, &key, &owned_by("cluster-uid", "namespace-uid")).await.unwrap()
    }

    /// One capture from beginning to end.
    pub async fn capture(&self, api: &Api, inputs: Value, target: Option<Value>) -> Result<TerminationResult, Failure> {
        self.capture_in(api, environment(inputs, target)).await
    }

    /// The same as the operator gave it to the pod.
    pub async fn capture_in(&self, api: &Api, environment: Environment) -> Result<TerminationResult, Failure> {
        self.checked().await;
        let repository = open::open(&environment, &self.mounts()).await?;
        let run: OperationRun = serde_json::from_value(api.run()).unwrap();
        let permit = WriterPermit::without_maintenance();
        capture::capture(&api.client(), &environment, &repository, &run, &SystemClock, permit).await
    }

    /// One inventory from beginning to end, of another run for each uid.
    pub async fn inventory(&self, api: &Api, run_uid: &str, inputs: Value) -> Result<TerminationResult, Failure> {
        self.checked().await;
        let mut environment = environment(inputs, None);
        run_uid.clone_into(&mut environment.identity.run_uid);
        let repository = open::open(&environment, &self.mounts()).await?;
        let run: OperationRun = serde_json::from_value(api.run()).unwrap();
        let permit = WriterPermit::without_maintenance();
        inventory::sync(&api.client(), &environment, &repository, &run, &SystemClock, permit).await
    }

    pub async fn capture_all(&self, api: &Api) -> Result<TerminationResult, Failure> {
        self.capture(api, json!({"repository": "main"}), None).await
    }

    /// The paths in the only snapshot.
    pub async fn paths(&self) -> Vec<String> {
        let repository = self.repository().await.unwrap();
        let snapshots = repository.snapshots().await.unwrap();
        assert_eq!(snapshots.len(), 1, "one snapshot");
        let items = repository.list(&snapshots[0].id).await.unwrap();
        items.iter().map(|item| item.path.to_string()).collect()
    }

    /// The content of one path in the only snapshot.
    pub async fn content(&self, path: &str) -> String {
        let repository = self.repository().await.unwrap();
        let snapshot = repository.snapshots().await.unwrap().remove(0);
        let items = repository.list(&snapshot.id).await.unwrap();
        let item = items.into_iter().find(|item| item.path.as_str() == path).unwrap();
        String::from_utf8(repository.read(&snapshot.id, vec![item.path]).await.unwrap().remove(0)).unwrap()
    }

    /// Removes all that is in the volume.
    pub fn empty_volume(&self) {
        let volume = self.mounts().volume;
        std::fs::remove_dir_all(&volume).unwrap();
        std::fs::create_dir(volume).unwrap();
    }

    /// The packs in the repository.
    pub fn packs(&self) -> Vec<PathBuf> {
        let folders = std::fs::read_dir(self.mounts().volume.join("data")).into_iter().flatten();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        files.map(|file| file.unwrap().path()).collect()
    }

    /// All files in the volume, with their content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let (mut files, mut todo) = (BTreeMap::new(), vec![self.mounts().volume]);
        while let Some(folder) = todo.pop() {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    todo.push(path);
                } else {
                    files.insert(path.clone(), std::fs::read(path).unwrap());
                }
            }
        }
        files
    }

    pub async fn snapshots(&self) -> usize {
        self.repository().await.unwrap().snapshots().await.unwrap().len()
    }
}

pub fn variables(inputs: &Value, target: Option<&Value>) -> BTreeMap<&'static str, String> {
    let spec = json!({"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "backup-password"}});
    BTreeMap::from([
        (execution::RUN, RUN.to_owned()),
        (execution::RUN_UID, RUN_UID.to_owned()),
        (execution::NAMESPACE, NAMESPACE.to_owned()),
        (execution::NAMESPACE_UID, "namespace-uid".to_owned()),
        (execution::CLUSTER_UID, "cluster-uid".to_owned()),
        (execution::JOB_UID, JOB_UID.to_owned()),
        (execution::POD_NAME, POD.to_owned()),
        (execution::INPUTS, inputs.to_string()),
        (execution::TARGET, target.map(Value::to_string).unwrap_or_default()),
        (execution::REPOSITORY, "main".to_owned()),
        (execution::REPOSITORY_SPEC, spec.to_string()),
    ])
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
pub fn environment(inputs: Value, target: Option<Value>) -> Environment {
    let variables = variables(&inputs, target.as_ref());
    Environment::read(&|name| variables.get(name).cloned()).unwrap()
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
