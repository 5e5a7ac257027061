//! The cluster, as everybody here reaches it: patient where it is away, bounded where it does not answer.

use crate::log::Log;
use crate::settings::Settings;
use crate::{Result, api};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the API server may be away.
const AWAY: Duration = Duration::from_mins(3);

/// The name of the operator's Lease.
const LEASE: &str = "tenantatlas-controller";

/// See the module's text.
pub struct Bed {
    pub settings: Settings,
    pub client: Client,
    pub log: Log,
    /// What previews said they would change: by namespace and name of the RestoreRun, the ids of the items.
    pub planned: Mutex<BTreeMap<(String, String), BTreeSet<String>>>,
}

impl Bed {
    pub async fn connect(settings: Settings) -> Result<Self> {
        let file = Kubeconfig::read_from(&settings.kubeconfig)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        let log = Log::create(&settings.output.join("soak.log"))?;
        Ok(Self { client: Client::try_from(config)?, settings, log, planned: Mutex::default() })
    }

    /// Objects of a kind of ours in a namespace, or all of them below the path of one.
    pub fn ours(namespace: &str, path: &str) -> String {
        format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/{path}")
    }

    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        in_time(api::create(&self.client, path, object)).await
    }

    pub async fn merge(&self, path: &str, patch: &Value) -> Result<()> {
        in_time(api::merge(&self.client, path, patch)).await
    }

    pub async fn get(&self, path: &str) -> Result<Value> {
        in_time(api::get(&self.client, path)).await
    }

    /// The same, asked until the API server answers.
    pub async fn get_at_last(&self, path: &str) -> Result<Value> {
        let started = Instant::now();
        loop {
            match self.get(path).await {
                Err(_) if started.elapsed() < AWAY => tokio::time::sleep(Duration::from_secs(1)).await,
                answered => return answered,
            }
        }
    }

    pub async fn delete(&self, path: &str) -> Result<()> {
        in_time(api::delete(&self.client, path)).await
    }

    /// The operator's pods that are not going away.
    pub async fn replicas(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.settings.operator_namespace);
        let selector = ListParams::default().labels("app.kubernetes.io/name=tenantatlas");
        let listed = in_time(async { Ok(pods.list(&selector).await?) }).await?.items;
        Ok(listed.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect())
    }

    /// The pod that holds the operator's Lease; none while it is free, or its holder gone.
    pub async fn leader(&self) -> Result<Option<Pod>> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.settings.operator_namespace);
        let lease = in_time(async { Ok(leases.get(LEASE).await?) }).await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        Ok(self.replicas().await?.into_iter().find(|pod| holder.starts_with(&pod.name_any())))
    }

    /// A command on the cluster's components; what it said, if it failed.
    pub async fn component(&self, arguments: &[&str]) -> Result<()> {
        let mut xtask = tokio::process::Command::new(&self.settings.xtask);
        xtask.args(["cluster", "--name", &self.settings.cluster]).args(arguments).stdin(Stdio::null());
        let output = xtask.kill_on_drop(true).output().await?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("xtask cluster {}: {}", arguments.join(" "), said.trim()).into())
    }

    /// Looks until there is a value; what was seen last, if there is none in time. Refused and unanswered requests are
    /// asked again.
    pub async fn until<T>(
        &self,
        what: &str,
        deadline: Duration,
        look: impl AsyncFn() -> Result<std::result::Result<T, String>>,
    ) -> Result<T> {
        let started = Instant::now();
        loop {
            let seen = match look().await {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(seen)) => seen,
                Err(error) => error.to_string(),
            };
            if started.elapsed() > deadline {
                return Err(format!("{what}: not within {} s. Last seen: {seen}", deadline.as_secs()).into());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Tries until the API server has answered.
    pub async fn insist<T>(&self, what: &str, attempt: impl AsyncFn() -> Result<T>) -> Result<T> {
        self.until(what, AWAY, async || Ok(Ok(attempt().await?))).await
    }
}

/// A request within its time.
pub async fn in_time<T>(request: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(PATIENCE, request).await.map_err(|_| "no answer in time")?
}
