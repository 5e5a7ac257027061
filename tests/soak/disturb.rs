//! Carries out the plan of disturbances. Only processes of this cluster and of this program's store are meant: pods by
//! their containers' control groups, components by the cluster's own process namespace.

use crate::bed::{Bed, in_time};
use crate::dice::Dice;
use crate::plan::{self, Disturbance};
use crate::store::{Mode, Store};
use crate::{Result, processes};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tenantatlas::api::labels;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;

/// What the kubelet waits before it starts a container again grows with each restart: a pod that was killed so often is
/// replaced.
const RESTARTS: i32 = 2;

/// How often a worker is looked for: most live for two seconds.
const LOOKS: usize = 60;

/// See the module's text.
pub struct Disturber {
    bed: Arc<Bed>,
    store: Arc<Store>,
    /// One disturbance of a part at a time.
    parts: HashMap<&'static str, Mutex<()>>,
    /// The worker to disturb is chosen in the order in which they come.
    choices: Mutex<Dice>,
}

impl Disturber {
    pub fn new(bed: &Arc<Bed>, store: &Arc<Store>) -> Self {
        Self {
            bed: Arc::clone(bed),
            store: Arc::clone(store),
            parts: plan::PARTS.into_iter().map(|part| (part, Mutex::new(()))).collect(),
            choices: Mutex::new(Dice::new(bed.settings.seed, "which worker")),
        }
    }

    /// Disturbs until it is stopped, and returns when every disturbance is over.
    pub async fn disturb(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> Result<()> {
        let mut dice = Dice::new(self.bed.settings.seed, "disturbances");
        let mut running = JoinSet::new();
        loop {
            let (pause, disturbance) = plan::disturbance(&mut dice);
            if tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok() {
                break;
            }
            let this = Arc::clone(&self);
            running.spawn(async move { this.one(disturbance).await });
        }
        while running.join_next().await.is_some() {}
        Ok(())
    }

    async fn one(&self, disturbance: Disturbance) {
        let log = &self.bed.log;
        let Some(Ok(_alone)) = self.parts.get(disturbance.part()).map(Mutex::try_lock) else {
            log.count("disturbances passed over", disturbance.kind());
            return;
        };
        match self.perform(disturbance).await {
            Ok(Some(whom)) => {
                log.count("disturbances", disturbance.kind());
                log.note(&format!("{disturbance}: {whom}"));
            }
            Ok(None) => log.count("disturbances passed over", disturbance.kind()),
            Err(error) => {
                log.count("disturbances that failed", disturbance.kind());
                log.note(&format!("{disturbance} failed: {error}"));
            }
        }
    }

    /// The process or pod that was disturbed; none if there was none.
    async fn perform(&self, disturbance: Disturbance) -> Result<Option<String>> {
        let pause = |time| tokio::time::sleep(Duration::from_millis(time));
        match disturbance {
            Disturbance::LeaderKilled => match self.bed.leader().await? {
                Some(leader) => self.kill_replica(&leader).await,
                None => Ok(None),
            },
            Disturbance::ReplicasKilled => {
                let mut killed = Vec::new();
                for replica in self.bed.replicas().await? {
                    killed.extend(self.kill_replica(&replica).await?);
                }
                Ok((!killed.is_empty()).then(|| killed.join(", ")))
            }
            Disturbance::LeaderStopped(time) => match self.bed.leader().await? {
                Some(leader) => Ok(stop(&leader, time).await),
                None => Ok(None),
            },
            Disturbance::LeaderDeleted => match self.bed.leader().await? {
                Some(leader) => self.delete(&leader).await.map(Some),
                None => Ok(None),
            },
            Disturbance::WorkerKilled => Ok(self.worker().await?.and_then(|pod| kill(&pod))),
            Disturbance::WorkerStopped(time) => match self.worker().await? {
                Some(worker) => Ok(stop(&worker, time).await),
                None => Ok(None),
            },
            Disturbance::WorkerDeleted => match self.worker().await? {
                Some(worker) => self.delete(&worker).await.map(Some),
                None => Ok(None),
            },
            Disturbance::ApiServerKilled(time) => self.component_killed("kube-apiserver", time).await,
            Disturbance::EtcdKilled(time) => self.component_killed("etcd", time).await,
            Disturbance::ApiServerStopped(time) => {
                self.bed.component(&["signal", "kube-apiserver", "STOP"]).await?;
                pause(time).await;
                self.bed.component(&["signal", "kube-apiserver", "CONT"]).await?;
                Ok(Some("kube-apiserver".to_owned()))
            }
            Disturbance::StoreKilled(time) => {
                self.store.kill().await;
                pause(time).await;
                self.store.revive().await?;
                Ok(Some("the store".to_owned()))
            }
            Disturbance::StoreRefuses(time) => self.store_is(Mode::Refuses, time).await,
            Disturbance::StoreSilent(time) => self.store_is(Mode::Silent, time).await,
            Disturbance::StoreSlow(time, delay) => self.store_is(Mode::Slow(Duration::from_millis(delay)), time).await,
        }
    }

    async fn store_is(&self, mode: Mode, time: u64) -> Result<Option<String>> {
        self.store.set(mode);
        tokio::time::sleep(Duration::from_millis(time)).await;
        self.store.set(Mode::Through);
        Ok(Some("the store".to_owned()))
    }

    /// Kills a component and brings back all that has ended.
    async fn component_killed(&self, component: &str, time: u64) -> Result<Option<String>> {
        let from = Timestamp::now();
        let killed = self.bed.component(&["signal", component, "KILL"]).await;
        tokio::time::sleep(Duration::from_millis(time)).await;
        let revived = self.bed.component(&["up"]).await;
        self.bed.log.outage(from);
        killed.and(revived)?;
        Ok(Some(component.to_owned()))
    }

    /// None if the worker has no process, because its container waits for a restart.
    async fn kill_replica(&self, pod: &Pod) -> Result<Option<String>> {
        let Some(killed) = kill(pod) else { return Ok(None) };
        let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
        if statuses.map(|status| status.restart_count).max() >= Some(RESTARTS) {
            self.delete(pod).await?;
        }
        Ok(Some(killed))
    }

    async fn delete(&self, pod: &Pod) -> Result<String> {
        let pods: Api<Pod> = Api::namespaced(self.bed.client.clone(), &pod.namespace().unwrap_or_default());
        in_time(async { Ok(pods.delete(&pod.name_any(), &DeleteParams::default()).await?) }).await?;
        Ok(named(pod))
    }

    /// One of the pods of operations that run now, or soon.
    async fn worker(&self) -> Result<Option<Pod>> {
        let pods: Api<Pod> = Api::all(self.bed.client.clone());
        let running = ListParams::default().labels(labels::RUN_UID).fields("status.phase=Running");
        for _ in 0..LOOKS {
            let mut pods = in_time(async { Ok(pods.list(&running).await?) }).await?.items;
            pods.sort_by_key(named);
            if let Some(pod) = self.choices.lock().await.one_of(&pods) {
                return Ok(Some(pod.clone()));
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        Ok(None)
    }
}

fn named(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// Whom it met, if there was a process.
fn kill(pod: &Pod) -> Option<String> {
    let processes = processes::of_pod(pod);
    processes::signal("KILL", &processes);
    (!processes.is_empty()).then(|| named(pod))
}

/// The same; they go on after so many milliseconds.
async fn stop(pod: &Pod, time: u64) -> Option<String> {
    let stopped = processes::of_pod(pod);
    processes::signal("STOP", &stopped);
    tokio::time::sleep(Duration::from_millis(time)).await;
    // Only those that are still the pod's.
    let there = processes::of_pod(pod);
    let still: Vec<u32> = stopped.iter().copied().filter(|process| there.contains(process)).collect();
    processes::signal("CONT", &still);
    (!stopped.is_empty()).then(|| format!("{}, {} of {} processes went on", named(pod), still.len(), stopped.len()))
}
