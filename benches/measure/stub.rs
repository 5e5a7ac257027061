//! A stand-in for the Job controller and the kubelet: completes every Job of a type that names it in `spec.managedBy`.
//!
//! What it costs the API server, a watch of names and one status write a Job, is part of what is measured; the bare
//! side makes the same writes.

use crate::api;
use futures::StreamExt as _;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Who carries out the Jobs.
pub const MANAGER: &str = "tenantatlas.io/stub";

/// Writes at once.
const CONCURRENCY: usize = 32;

/// The running stand-in; it ends when this is dropped.
pub struct Stub {
    done: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Stub {
    /// Starts with the Jobs of a type, each completed `after` it was seen.
    pub fn start(client: &Client, operation_type: &str, after: Duration) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(serve(client.clone(), operation_type.to_owned(), after, done.clone()));
        Self { done, task }
    }

    /// Jobs completed so far.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: Client, operation_type: String, after: Duration, done: Arc<AtomicUsize>) {
    let config = watcher::Config::default().labels(&format!("tenantatlas.io/type={operation_type}"));
    let jobs: Api<PartialObjectMeta<Job>> = Api::all(client.clone());
    let mut events = pin!(watcher::watcher(jobs, config));
    let mut seen = HashSet::new();
    let slots = Arc::new(Semaphore::new(CONCURRENCY));
    while let Some(event) = events.next().await {
        let job = match event {
            Ok(Event::Apply(job) | Event::InitApply(job)) => job,
            Ok(_) => continue,
            Err(error) => {
                eprintln!("   the stub's watch failed and goes on: {error}");
                continue;
            }
        };
        if !seen.insert(job.uid()) {
            continue;
        }
        let path = format!("{}/{}/status", api::jobs(&job.namespace().unwrap_or_default()), job.name_any());
        let (client, slots, done) = (client.clone(), slots.clone(), done.clone());
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let Ok(_slot) = slots.acquire_owned().await else { return };
            match api::merge(&client, &path, &completed()).await {
                Ok(()) => _ = done.fetch_add(1, Ordering::Relaxed),
                // A Job left over from an earlier row is complete already.
                Err(error) => eprintln!("   the stub cannot complete {path}: {error}"),
            }
        });
    }
}

/// The status of a Job that is done, as the API server's validation asks for it.
pub fn completed() -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let condition = |type_: &str| {
        json!({ "type": type_, "status": "True", "reason": "CompletionsReached", "message": "Reached expected number of succeeded pods",
            "lastProbeTime": now, "lastTransitionTime": now })
    };
    json!({ "status": {
        "startTime": now, "completionTime": now, "succeeded": 1, "ready": 0, "terminating": 0, "uncountedTerminatedPods": {},
        "conditions": [condition("SuccessCriteriaMet"), condition("Complete")],
    }})
}
