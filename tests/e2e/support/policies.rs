//! Admission policies, as a story meets them on a cluster where they came later.

use super::cluster::Cluster;
use super::{SOON, wait_for};
use serde_json::Value;

impl Cluster {
    /// Does something while a policy is not bound: what it would refuse then is there when it is bound again. For stories that run
    /// alone. What is done is tried until the API server has noticed.
    pub(crate) async fn while_unbound(&self, policy: &str, act: impl AsyncFnMut() -> Result<(), String>) {
        let binding = ["validatingadmissionpolicybinding", policy];
        let saved = self.kubectl_prints(&["get", binding[0], binding[1], "--output=json"]);
        let mut saved: Value = serde_json::from_str(&saved).expect("kubectl prints JSON");
        for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
            saved["metadata"].as_object_mut().expect("metadata").remove(field);
        }
        self.kubectl_prints(&["delete", binding[0], binding[1]]);
        wait_for("the policy is off", SOON, act).await;
        self.kubectl_reads(&["create", "--filename", "-"], &saved.to_string());
    }
}
