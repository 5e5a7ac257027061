//! Copies of objects, written into etcd as the API server wrote their originals. It makes a history
//! of a hundred thousand runs in about a minute; by the API server it takes more than half an hour.
//!
//! Must not: make what the API server did not make first.

use crate::{Result, bed};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::ByteString;
use serde_json::{Value, json};
use std::process::Stdio;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Operations of a transaction: as many as etcd allows.
const BATCH: usize = 128;

/// Transactions at once.
const AT_ONCE: usize = 2;

/// The etcd of the cluster. It listens only inside the cluster's network.
pub struct Etcd {
    network: String,
}

impl Etcd {
    pub fn from_environment() -> Result<Self> {
        Ok(Self { network: bed::environment("ATLAS_NETWORK")? })
    }

    /// The value of a key.
    pub async fn get(&self, key: &str) -> Result<Vec<u8>> {
        let answer = self.post("range", &json!({ "key": ByteString(key.into()) })).await?;
        let value = answer["kvs"][0]["value"].clone();
        let ByteString(value) = serde_json::from_value(value).map_err(|_| format!("etcd has no {key}"))?;
        Ok(value)
    }

    /// Writes keys with their values.
    pub async fn put(&self, objects: impl Iterator<Item = Result<(String, Vec<u8>)>>) -> Result<()> {
        let put = |(key, value): (String, Vec<u8>)| json!({ "requestPut": { "key": ByteString(key.into_bytes()), "value": ByteString(value) } });
        futures::stream::iter(objects.map(|object| object.map(put)))
            .chunks(BATCH)
            .map(|puts| async move {
                let puts = puts.into_iter().collect::<Result<Vec<Value>>>()?;
                self.post("txn", &json!({ "success": puts })).await.map(drop)
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn post(&self, method: &str, body: &Value) -> Result<Value> {
        let mut curl = Command::new("nsenter")
            .arg(format!("--net={}", self.network))
            .args(["curl", "--silent", "--show-error", "--fail-with-body", "--noproxy", "*", "--data-binary", "@-"])
            .arg(format!("http://127.0.0.1:2379/v3/kv/{method}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = curl.stdin.take().ok_or("curl has no input")?;
        input.write_all(&serde_json::to_vec(body)?).await?;
        drop(input);
        let answer = curl.wait_with_output().await?;
        if !answer.status.success() {
            let said = [answer.stderr, answer.stdout].concat();
            return Err(format!("etcd refuses a {method}: {}", String::from_utf8_lossy(&said)).into());
        }
        Ok(serde_json::from_slice(&answer.stdout)?)
    }
}

/// A stored object with other words in the place of some of its own. Each has as many bytes as the
/// one that it replaces: lengths are a part of what is stored.
pub fn copy(original: &[u8], words: &[(String, String)]) -> Result<Vec<u8>> {
    let mut copy = original.to_vec();
    for (from, to) in words {
        if from.len() != to.len() || from.is_empty() {
            return Err(format!("{to} has another length than {from}").into());
        }
        let mut place = 0;
        while place + from.len() <= copy.len() {
            if copy[place..].starts_with(from.as_bytes()) {
                copy[place..place + to.len()].copy_from_slice(to.as_bytes());
                place += from.len();
            } else {
                place += 1;
            }
        }
    }
    Ok(copy)
}
