//! Certificates and kubeconfigs. The certificates are made by our Go program, whose standard library can; nothing else is
//! needed on the machine for them.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::Cluster;
use crate::{shell, tools};

/// The port of the API server, in the cluster's own network namespace.
pub(super) const API_PORT: u16 = 6443;

/// Who gets a kubeconfig; the certificate has the same name.
const USERS: [&str; 5] = ["admin", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet"];

pub(super) fn folder(cluster: &Cluster) -> PathBuf {
    cluster.folder.join("pki")
}

pub(super) fn kubeconfig(cluster: &Cluster, user: &str) -> PathBuf {
    cluster.folder.join(format!("{user}.kubeconfig"))
}

/// Makes a certificate authority, everyone's certificate, and everyone's kubeconfig.
pub(super) fn write(cluster: &Cluster, address: Ipv4Addr) -> Result<()> {
    let folder = folder(cluster);
    let mut make = shell::command(tools::kube()?);
    shell::run(make.arg("pki").arg(&folder).arg(address.to_string()))?;
    for user in USERS {
        let config = self::config(&folder, user, address)?;
        // The file holds a private key.
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(kubeconfig(cluster, user))?;
        serde_json::to_writer_pretty(file, &config)?;
    }
    Ok(())
}

/// A kubeconfig that holds the certificates themselves, so that it can be copied elsewhere. (JSON is YAML.)
fn config(folder: &Path, user: &str, address: Ipv4Addr) -> Result<serde_json::Value> {
    let read = |name: String| {
        let file = folder.join(name);
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        anyhow::Ok(STANDARD.encode(bytes))
    };
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {
            "server": format!("https://{address}:{API_PORT}"),
            "certificate-authority-data": read("ca.crt".to_owned())?,
        }}],
        "users": [{"name": user, "user": {
            "client-certificate-data": read(format!("{user}.crt"))?,
            "client-key-data": read(format!("{user}.key"))?,
        }}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user}}],
        "current-context": "local",
    }))
}
