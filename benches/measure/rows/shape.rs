//! What a run of a type writes, byte for byte: recorded from one run, for the bare side to write the same.

use crate::bed::{Bed, run, until};
use crate::stub::{self, Stub};
use crate::{Result, api};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::kernel::patch;

/// The bodies of a run's writes, without what names the one run they were taken from.
pub struct Shape {
    operation_type: String,
    job: Value,
    running: Value,
    completed: Value,
    labels: Value,
}

impl Shape {
    /// Lets the operator carry out one run of the type, slowly, and records what it wrote.
    pub async fn record(bed: &Bed, operation_type: &str) -> Result<Self> {
        let namespace = bed.tenant("shape", true).await?;
        let stub = Stub::start(&bed.as_job_controller, operation_type, Duration::from_secs(3));
        let born = api::create(&bed.client, &api::runs(&namespace), &run("shape", operation_type, &inputs(0))).await?;
        let path = format!("{}/shape", api::runs(&namespace));
        let running = async || {
            let run = api::get(&bed.client, &path).await?;
            Ok((run["status"]["phase"] == "running").then_some(run))
        };
        let running = until("the recorded run to run", Duration::from_secs(20), running).await?;
        let ended = async || {
            let run = api::get(&bed.client, &path).await?;
            Ok(run["metadata"]["labels"]["tenantatlas.io/outcome"].is_string().then_some(run))
        };
        let ended = until("the recorded run to end", Duration::from_secs(20), ended).await?;
        drop(stub);
        let job = running["status"]["job"]["name"].as_str().ok_or("the recorded run has no Job")?;
        let mut job = api::get(&bed.client, &format!("{}/{job}", api::jobs(&namespace))).await?;
        as_made(&mut job);
        let between = |before: &Value, after: &Value| patch::merge(before, after).unwrap_or_else(|| json!({}));
        let shape = Self {
            operation_type: operation_type.to_owned(),
            job,
            running: between(&born["status"], &running["status"]),
            completed: between(&running["status"], &ended["status"]),
            labels: between(&running["metadata"]["labels"], &ended["metadata"]["labels"]),
        };
        api::delete(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
        Ok(shape)
    }

    /// The same with an end as a capture has it that missed five items.
    pub fn with_failures(mut self) -> Self {
        let failure = |number: usize| {
            json!({ "itemId": format!("apps/Deployment/service-{number}"), "type": "failure", "reasonCode": "Forbidden",
                "message": "the worker's account may not read it: let a ClusterRole with the label tenantatlas.io/aggregate-to-worker allow it" })
        };
        self.completed["failures"] = (0..5).map(failure).collect();
        self.completed["summaryCounts"] =
            json!({ "total": 214, "processed": 214, "succeeded": 209, "failed": 5, "skipped": 0 });
        self.completed["progress"] = "214/214".into();
        self.completed["context"] =
            json!({ "workspace": "bench", "backupSet": "nightly-29384720", "repository": "main" });
        self
    }

    /// Bytes of the Job and of the two status writes, for the document.
    pub fn sizes(&self) -> [usize; 3] {
        [&self.job, &self.running, &self.completed].map(|body| body.to_string().len())
    }

    /// Does a run's writes, in their order, as whoever does them: author, operator, stub. All, or those up to `running`.
    pub async fn write(
        &self,
        [author, operator, job_controller]: [&Client; 3],
        namespace: &str,
        number: usize,
        to_its_end: bool,
    ) -> Result<()> {
        let name = run_name(number);
        let made = run(&name, &self.operation_type, &inputs(number));
        let made = api::create(author, &api::runs(namespace), &made).await?;
        let uid = &made["metadata"]["uid"];
        let mut job = self.job.clone();
        let job_name = job_name(number);
        job["metadata"]["name"] = job_name.as_str().into();
        job["metadata"]["namespace"] = namespace.into();
        job["metadata"]["ownerReferences"][0]["name"] = name.as_str().into();
        job["metadata"]["ownerReferences"][0]["uid"] = uid.clone();
        let job = api::create(operator, &api::jobs(namespace), &job).await?;
        let mut running = self.running.clone();
        running["job"] = json!({ "name": job_name, "uid": job["metadata"]["uid"] });
        let status = format!("{}/{name}/status", api::runs(namespace));
        let of = |status: &Value| json!({ "metadata": { "uid": uid }, "status": status });
        api::merge(operator, &status, &of(&running)).await?;
        if !to_its_end {
            return Ok(());
        }
        api::merge(job_controller, &format!("{}/{job_name}/status", api::jobs(namespace)), &stub::completed()).await?;
        api::merge(operator, &status, &of(&self.completed)).await?;
        let labels = json!({ "metadata": { "uid": uid, "labels": self.labels } });
        api::merge(operator, &format!("{}/{name}", api::runs(namespace)), &labels).await
    }

    /// The Job alone, under another name and nobody's: what somebody without an operator would create.
    pub fn bare_job(&self, name: &str) -> Value {
        let mut job = self.job.clone();
        job["metadata"] = json!({ "name": name });
        job["spec"]["template"]["metadata"] = json!({});
        if let Some(pod) = job["spec"]["template"]["spec"].as_object_mut() {
            pod.remove("serviceAccountName");
            pod.remove("serviceAccount");
        }
        job
    }
}

/// Name of a run; as long for every number.
pub fn run_name(number: usize) -> String {
    format!("r{number:07}")
}

/// Name of the Job of a run; as long for every number.
pub fn job_name(number: usize) -> String {
    format!("op-{number:020x}")
}

/// What stands for the number in a run's inputs.
pub fn number(number: usize) -> String {
    format!("{number:08}")
}

/// Inputs that make each run another one's work.
pub fn inputs(number: usize) -> Value {
    json!({ "number": self::number(number), "note": "as many words as a person would give a run as its inputs" })
}

/// A Job as it was sent: without what the API server added.
fn as_made(job: &mut Value) {
    job.as_object_mut().map(|job| job.remove("status"));
    if let Some(metadata) = job["metadata"].as_object_mut() {
        metadata.retain(|key, _| {
            matches!(key.as_str(), "name" | "labels" | "annotations" | "finalizers" | "ownerReferences")
        });
    }
    job["spec"].as_object_mut().map(|spec| spec.remove("selector"));
    for metadata in ["/metadata/labels", "/spec/template/metadata/labels"] {
        if let Some(labels) = job.pointer_mut(metadata).and_then(Value::as_object_mut) {
            labels.retain(|key, _| !key.contains("controller-uid") && !key.contains("job-name"));
        }
    }
}
