//! The operator's and the workers' processes, and how they are ended: by the kernel, without a word.

use super::cluster::{Cluster, environment};
use super::wait::{SOON, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

#[path = "../../shared/processes.rs"]
mod processes;

impl Cluster {
    /// The operator's pods that are not going away.
    pub(crate) async fn operator_pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"));
        let selector = ListParams::default().labels("app.kubernetes.io/name=tenantatlas");
        let listed = pods.list(&selector).await.expect("the operator's pods can be listed").items;
        listed.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// The operator's user name.
    pub(crate) async fn operator_account(&self) -> String {
        let pods = self.operator_pods().await;
        let account = pods.first().and_then(|pod| pod.spec.as_ref()?.service_account_name.clone());
        let namespace = environment("ATLAS_OPERATOR_NAMESPACE");
        format!("system:serviceaccount:{namespace}:{}", account.expect("a pod of the operator with an account"))
    }

    /// The pod that holds the operator's Lease.
    pub(crate) async fn leader(&self) -> Pod {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"));
        wait_for("a leader among the operator's pods", SOON, async || {
            let leases = leases.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let holders: Vec<String> =
                leases.items.into_iter().filter_map(|lease| lease.spec?.holder_identity).collect();
            let pods = self.operator_pods().await;
            let leads = |pod: &Pod| {
                let name = pod.metadata.name.as_deref().unwrap_or_default();
                holders.iter().any(|holder| holder.starts_with(name))
            };
            pods.into_iter().find(leads).ok_or(format!("holders: {holders:?}"))
        })
        .await
    }

    /// SIGKILL to the leader's process. Its pod is deleted too, or the kubelet's growing delay between restarts would
    /// make each story slower than the one before.
    pub(crate) async fn kill_leader(&self) {
        let leader = self.leader().await;
        kill(&leader);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"));
        let name = leader.metadata.name.expect("a name");
        let deleted = pods.delete(&name, &DeleteParams::default().grace_period(0)).await;
        deleted.unwrap_or_else(|error| panic!("pod {name} cannot be deleted: {error}"));
    }
}

impl Cluster {
    /// The same, and the Lease is freed: the next process does not wait until it has expired. `alone/leader.rs` has that wait.
    pub(crate) async fn kill_leader_and_free_its_lease(&self) {
        self.kill_leader().await;
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &environment("ATLAS_OPERATOR_NAMESPACE"));
        let free = Patch::Merge(json!({ "spec": { "holderIdentity": "", "leaseDurationSeconds": 1 } }));
        let freed = leases.patch("tenantatlas-controller", &PatchParams::default(), &free).await;
        freed.unwrap_or_else(|error| panic!("the operator's Lease cannot be freed: {error}"));
    }
}

/// SIGKILL to every process in a pod's containers. Returns how many there were.
pub(crate) fn kill(pod: &Pod) -> usize {
    let processes = processes::of_pod(pod);
    processes::signal("KILL", &processes);
    processes.len()
}
