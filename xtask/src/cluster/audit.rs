//! The API server's audit log: what is recorded, and where it is.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::Cluster;

/// How much a cluster's audit log tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audit {
    /// Who asked for what.
    Requests,
    /// The same, and the bodies by which the life of each run can be told: of runs, restores and Jobs as they are created,
    /// of runs as their statuses are written.
    Runs,
}

impl Cluster {
    /// The same with another audit log. A cluster that runs keeps the one it was started with.
    pub(crate) fn audited(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Who asked the API server for what, one JSON object a line.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.logs().join("audit.log")
    }

    /// The files of that log, the oldest first: rotated ones carry the time in their names.
    pub(crate) fn audit_logs(&self) -> Result<Vec<PathBuf>> {
        let folder = self.logs();
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("audit")) {
                files.push(path);
            }
        }
        files.sort();
        Ok(files)
    }
}

/// Who asked for what; without the cluster's own Leases and Events, which are most of an idle cluster's writes.
pub(super) fn policy(audit: Audit) -> Value {
    let quiet = |who: &str, names: &[&str]| {
        json!({"level": "None", who: names, "resources": [
            {"group": "coordination.k8s.io", "resources": ["leases"]},
            {"group": "", "resources": ["events"]},
            {"group": "events.k8s.io", "resources": ["events"]},
        ]})
    };
    let mut rules = vec![
        quiet("userGroups", &["system:nodes", "system:serviceaccounts:kube-system"]),
        quiet("users", &["system:apiserver", "system:kube-scheduler", "system:kube-controller-manager"]),
    ];
    if audit == Audit::Runs {
        rules.extend(bodies());
    }
    rules.push(json!({"level": "Metadata"}));
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": rules,
    })
}

/// Which bodies are recorded where the life of each run is to be told.
fn bodies() -> [Value; 4] {
    let rule = |level: &str, verbs: &[&str], group: &str, resources: &[&str]| {
        let resources = json!([{"group": group, "resources": resources}]);
        json!({"level": level, "verbs": verbs, "resources": resources})
    };
    [
        // The answer has the uid.
        rule("RequestResponse", &["create"], "tenantatlas.io", &["operationruns", "restoreruns", "bulkoperationruns"]),
        rule("Request", &["patch", "update"], "tenantatlas.io", &["operationruns/status"]),
        rule("Request", &["create"], "batch", &["jobs"]),
        // The body of a deletion says whether it is a dry run.
        json!({"level": "Request", "verbs": ["delete"], "userGroups": ["system:serviceaccounts"]}),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_recorded_where_they_are_asked_for() {
        let levels = |audit| {
            let policy = policy(audit);
            let rules = policy["rules"].as_array().cloned().unwrap_or_default();
            rules.iter().map(|rule| rule["level"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(levels(Audit::Requests), ["None", "None", "Metadata"]);
        let runs = ["None", "None", "RequestResponse", "Request", "Request", "Request", "Metadata"];
        assert_eq!(levels(Audit::Runs), runs);
    }
}
