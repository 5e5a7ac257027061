//! A run beside a bare Job of the same image, one at a time.

use super::Plan;
use crate::bed::{Bed, run, until};
use crate::report::{Report, Target, median};
use crate::{Result, api, audit};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http::Request;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::pin::pin;
use std::time::{Duration, Instant};

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    // One is not enough for a median of something that depends on the kubelet's own periods.
    let each = plan.size(6, 1);
    let mut report = Report::new(
        "A run beside a bare Job",
        format!(
            "One at a time, in turns, {each} of each a repetition: a capture of a namespace of few objects, by our worker; a run of another image whose container ends at once; and bare Jobs: of \
             our image, which only prints its version; of the other image; and of that with our image as an init container. From the create to the watch event that shows the end."
        ),
        plan.quick,
    );
    let operation_type = bed.operation_type("job", &bed.shell_job("true")).await?;
    let namespace = bed.tenant("job", true).await?;
    let _volume = repository(bed, &namespace).await?;
    let (mut captures, mut others) = (Vec::new(), Vec::new());
    let (mut version, mut plain, mut fenced) = (Vec::new(), Vec::new(), Vec::new());
    let completed = |run: &Value| run["status"]["phase"] == "completed";
    for number in 0..plan.repetitions * each {
        // Each is another work than the others, and takes the same.
        let inputs = json!({ "repository": REPOSITORY, "selection": { "labelSelector": format!("bench!=n{number}") } });
        let capture = run(&format!("c{number}"), "backup.capture", &inputs);
        captures.push(until_ended(bed, &api::runs(&namespace), &capture, completed).await?);
        let other = run(&format!("r{number}"), &operation_type, &json!({ "n": number }));
        others.push(until_ended(bed, &api::runs(&namespace), &other, completed).await?);
        for (kind, times) in [(Bare::Version, &mut version), (Bare::Plain, &mut plain), (Bare::Fenced, &mut fenced)] {
            let job = bare(bed, &format!("bare-{number}-{kind:?}").to_lowercase(), kind);
            times.push(until_ended(bed, &api::jobs(&namespace), &job, complete).await?);
        }
    }
    let ended = api::get(&bed.client, &api::runs(&namespace)).await?;
    let good = |run: &&Value| run["status"]["outcome"] == "succeeded";
    let runs = ended["items"].as_array().map_or(0, |runs| runs.iter().filter(good).count());
    if runs < captures.len() + others.len() {
        return Err(format!("only {runs} runs succeeded").into());
    }
    let ratio = |ours: &[f64], bare: &[f64]| median(ours) / median(bare);
    report.against(
        "by our worker, times a bare Job of our image",
        ratio(&captures, &version),
        "×",
        Target::AtMost(0.6),
    );
    report.against("of another image, times a bare Job of it", ratio(&others, &plain), "×", Target::AtMost(1.25));
    report.figure("the fence's container, median", median(&fenced) - median(&plain), "ms");
    report.samples("a capture, by our worker", "ms", &captures);
    report.samples("a bare Job of our image", "ms", &version);
    report.samples("a run of another image", "ms", &others);
    report.samples("a bare Job of it", "ms", &plain);
    report.samples("a bare Job of it with an init container", "ms", &fenced);
    stages(bed, &namespace, &mut report)?;
    Ok(report)
}

/// Where the time of the bare Jobs of our image goes, by the audit log. One Job runs at a time, so a
/// request belongs to the Job that was created last.
fn stages(bed: &Bed, namespace: &str, report: &mut Report) -> Result<()> {
    let requests = audit::requests(&bed.audit_log, &[namespace])?;
    let is = |request: &audit::Request, what: &str, verb: &str| request.what() == what && request.verb == verb;
    let is_bare = |name: &str| name.starts_with("bare-") && name.ends_with("-version");
    let mut stages: [Vec<f64>; 5] = Default::default();
    let begins: Vec<usize> = (0..requests.len()).filter(|place| is(&requests[*place], "jobs", "create")).collect();
    for (number, begin) in begins.iter().enumerate() {
        if !is_bare(&requests[*begin].object_ref.name) {
            continue;
        }
        let end = begins.get(number + 1).copied().unwrap_or(requests.len());
        let of_job = &requests[*begin..end];
        let of_pod = |request: &&audit::Request| request.object_ref.resource == "pods";
        let last = |found: &mut dyn Iterator<Item = &audit::Request>| found.last().map(|request| request.answered);
        let marks: [Option<Timestamp>; 6] = [
            Some(of_job[0].answered),
            last(&mut of_job.iter().filter(|request| is(request, "pods", "create")).take(1)),
            last(&mut of_job.iter().filter(|request| is(request, "pods/binding", "create")).take(1)),
            last(&mut of_job.iter().filter(|request| is(request, "pods/status", "patch")).take(1)),
            last(&mut of_job.iter().filter(of_pod).filter(|request| is(request, "pods/status", "patch"))),
            last(&mut of_job.iter().filter(|request| is(request, "jobs/status", "update"))),
        ];
        for (stage, pair) in stages.iter_mut().zip(marks.windows(2)) {
            if let [Some(from), Some(to)] = pair {
                stage.push((*to - *from).total(jiff::Unit::Millisecond)?);
            }
        }
    }
    let names = [
        "its pod is created",
        "its pod is bound to a node",
        "the kubelet's first status of the pod",
        "the kubelet's last status of the pod",
        "the Job controller's last status of the Job",
    ];
    for (name, stage) in names.iter().zip(&stages) {
        if !stage.is_empty() {
            report.samples(format!("a bare Job of our image, further until: {name}"), "ms", stage);
        }
    }
    Ok(())
}

const REPOSITORY: &str = "main";

/// A repository on a folder of the node, ready. The folder lives as long as what is returned.
pub(super) async fn repository(bed: &Bed, namespace: &str) -> Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let nodes = api::get(&bed.client, "/api/v1/nodes").await?;
    let node = &nodes["items"][0]["metadata"]["name"];
    let volume = format!("{namespace}-{REPOSITORY}");
    let storage = json!({ "storage": "1Gi" });
    let modes = json!(["ReadWriteOnce"]);
    let affinity = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": "kubernetes.io/hostname", "operator": "In", "values": [node] }] }] } });
    let manifest = json!({ "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": volume }, "spec": {
        "accessModes": modes, "capacity": storage, "local": { "path": folder.path() }, "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "bench", "claimRef": { "namespace": namespace, "name": REPOSITORY }, "nodeAffinity": affinity } });
    api::create(&bed.client, "/api/v1/persistentvolumes", &manifest).await?;
    let claim = json!({ "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": REPOSITORY }, "spec": {
        "accessModes": modes, "resources": { "requests": storage }, "storageClassName": "bench", "volumeName": volume } });
    let core = format!("/api/v1/namespaces/{namespace}");
    api::create(&bed.client, &format!("{core}/persistentvolumeclaims"), &claim).await?;
    let secret = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": REPOSITORY }, "stringData": { "password": crate::worker::PASSWORD } });
    api::create(&bed.client, &format!("{core}/secrets"), &secret).await?;
    let repository = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository", "metadata": { "name": REPOSITORY }, "spec": {
        "storage": { "persistentVolumeClaim": { "claimName": REPOSITORY } }, "passwordSecret": { "name": REPOSITORY } } });
    let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/backuprepositories");
    api::create(&bed.client, &path, &repository).await?;
    let path = format!("{path}/{REPOSITORY}");
    let ready = async || {
        let repository = api::get(&bed.client, &path).await?;
        let conditions = repository["status"]["conditions"].as_array().cloned().unwrap_or_default();
        Ok(conditions.iter().any(|told| told["type"] == "Ready" && told["status"] == "True").then_some(()))
    };
    until("the repository to be Ready", Duration::from_mins(2), ready).await?;
    Ok(folder)
}

/// A Job that is not ours.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bare {
    /// Our image prints its version.
    Version,
    /// The other image does nothing.
    Plain,
    /// The same after an init container of our image.
    Fenced,
}

pub(super) fn bare(bed: &Bed, name: &str, kind: Bare) -> Value {
    let mut job = bed.shell_job("true");
    let ours = |name: &str| {
        json!({
            "name": name, "image": bed.image, "imagePullPolicy": "Never", "args": ["--version"],
            "resources": { "requests": { "cpu": "1m", "memory": "8Mi" } },
        })
    };
    job["apiVersion"] = "batch/v1".into();
    job["kind"] = "Job".into();
    job["metadata"] = json!({ "name": name });
    let pod = &mut job["spec"]["template"]["spec"];
    match kind {
        Bare::Version => pod["containers"] = json!([ours("main")]),
        Bare::Plain => {}
        Bare::Fenced => pod["initContainers"] = json!([ours("init")]),
    }
    job
}

pub(super) fn complete(job: &Value) -> bool {
    let conditions = job["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Complete" && condition["status"] == "True")
}

/// Milliseconds from the create of an object to the watch event that shows it ended.
async fn until_ended(bed: &Bed, path: &str, object: &Value, ended: impl Fn(&Value) -> bool) -> Result<f64> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let version = api::get(&bed.client, &format!("{path}?limit=1")).await?;
    let version = version["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    let uri = format!("{path}?watch=true&resourceVersion={version}&fieldSelector=metadata.name={name}");
    let mut events = pin!(bed.client.request_stream(Request::get(uri).body(Vec::new())?).await?.lines());
    let begun = Instant::now();
    api::create(&bed.client, path, object).await?;
    let watch = async {
        while let Some(line) = events.try_next().await? {
            let event: Value = serde_json::from_str(&line)?;
            if ended(&event["object"]) {
                return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(begun.elapsed().as_secs_f64() * 1000.0);
            }
        }
        Err(format!("the watch of {name} ended before it").into())
    };
    let watched = tokio::time::timeout(Duration::from_mins(2), watch).await;
    watched.map_err(|_| format!("{path}/{name} has not ended within 2 minutes"))?
}
