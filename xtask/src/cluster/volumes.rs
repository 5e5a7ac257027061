//! Volumes without a driver: a folder of the cluster and a `PersistentVolume` of type `local` for it.
//!
//! A non-root pod with an `fsGroup` can write to these; to hostPath volumes, which ignore it, it cannot.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::processes::{self, Processes};
use super::{Cluster, components};
use crate::shell;

/// The storage class that claims name, or get by naming none.
pub(super) const STORAGE_CLASS: &str = "local";

impl Cluster {
    /// Makes a volume of the given name. The first claim that fits binds to it; a second call with the name does nothing.
    pub(crate) fn create_volume(&self, name: &str, size: &str) -> Result<()> {
        // The name becomes a path.
        ensure!(
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "{name:?} cannot name a volume: use lower-case letters, digits and dashes"
        );
        let folder = self.volumes().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        self.apply(&volume(name, size, &folder.to_string_lossy()))?;
        shell::say(format!("The volume {name} ({size}) is there; claims of the class `{STORAGE_CLASS}` bind to it"));
        Ok(())
    }

    /// A folder with room for a few megabytes only, empty: what a full disk does can be tried there. It is mounted inside
    /// the cluster's namespaces, so this machine does not see what is on it. Each process gets one of its own.
    pub(crate) fn small_volume(&self) -> Result<PathBuf> {
        let folder = self.volumes().join(format!("small-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let holder = Processes::of(self)?.holder.context("the cluster's namespaces are gone")?;
        let mut mount = processes::enter(holder);
        mount.args(["mount", "-t", "tmpfs", "-o", "size=4m,mode=0777", "tmpfs"]);
        shell::run(mount.arg(&folder))?;
        Ok(folder)
    }
}

/// Nothing is provisioned; binding waits for a pod, as it does with most real classes. It is the default.
pub(super) fn storage_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "reclaimPolicy": "Retain",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn volume(name: &str, size: &str, path: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
            "capacity": {"storage": size},
            "local": {"path": path},
            // Local volumes cannot be deleted by the cluster, only kept.
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [components::NODE]},
            ]}]}},
        },
    })
}
