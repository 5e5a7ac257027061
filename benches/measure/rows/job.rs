//! A run beside a bare Job of the same image, one at a time.

use super::Plan;
use crate::bed::{Bed, run};
use crate::report::{Report, Target, median};
use crate::{Result, api};
use futures::{AsyncBufReadExt as _, TryStreamExt as _};
use http::Request;
use serde_json::{Value, json};
use std::pin::pin;
use std::time::{Duration, Instant};

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    // One is not enough for a median of something that depends on the kubelet's own periods.
    let each = plan.size(6, 1);
    let mut report = Report::new(
        "A run beside a bare Job",
        format!(
            "One at a time, in turns, {each} of each a repetition: a run of a type whose Job ends at once; a bare Job of the same pod; and one with our image as an init \
             container that only prints its version, which is what the fence's container costs before it asks anything. From the create to the watch event that shows the end."
        ),
        plan.quick,
    );
    let operation_type = bed.operation_type("job", &bed.shell_job("true")).await?;
    let namespace = bed.tenant("job", true).await?;
    let (mut ours, mut plain, mut fenced) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..plan.repetitions * each {
        let manifest = run(&format!("r{number}"), &operation_type, &json!({ "n": number }));
        ours.push(
            until_ended(bed, &api::runs(&namespace), &manifest, |run| run["status"]["phase"] == "completed").await?,
        );
        for with_init in [true, false] {
            let job = bare(bed, &format!("bare-{number}-{with_init}"), with_init);
            let took = until_ended(bed, &api::jobs(&namespace), &job, complete).await?;
            if with_init { fenced.push(took) } else { plain.push(took) }
        }
    }
    report.against(
        "more than a bare Job with an init container of our image, median",
        median(&ours) - median(&fenced),
        "ms",
        Target::AtMost(50.0),
    );
    report.figure("the fence's container, median", median(&fenced) - median(&plain), "ms");
    report.figure("a run, median", median(&ours), "ms");
    report.figure("a bare Job, median", median(&plain), "ms");
    report.samples("a run", "ms", &ours);
    report.samples("a bare Job with an init container", "ms", &fenced);
    report.samples("a bare Job", "ms", &plain);
    Ok(report)
}

fn bare(bed: &Bed, name: &str, with_init: bool) -> Value {
    let mut job = bed.shell_job("true");
    job["apiVersion"] = "batch/v1".into();
    job["kind"] = "Job".into();
    job["metadata"] = json!({ "name": name });
    if with_init {
        job["spec"]["template"]["spec"]["initContainers"] = json!([{
            "name": "init", "image": bed.image, "imagePullPolicy": "Never", "args": ["--version"],
            "resources": { "requests": { "cpu": "1m", "memory": "8Mi" } },
        }]);
    }
    job
}

fn complete(job: &Value) -> bool {
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
