//! From a run's create to its Job, at a steady rate.

use super::Plan;
use super::shape::{Shape, inputs};
use crate::bed::{Bed, run};
use crate::report::{Report, Target, count, median, percentile};
use crate::stub::Stub;
use crate::{Result, api, audit};
use std::collections::HashMap;
use std::time::Duration;

/// Runs a second.
const RATE: u32 = 20;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let seconds = plan.size(30, 5);
    let recorded = bed.stub_type("latency").await?;
    let shape = Shape::record(bed, &recorded).await?;
    let mut report = Report::new(
        "From a run to its Job",
        format!(
            "{RATE} runs a second for {seconds} s, and half-way between two of them a bare create of the same Job. By the audit log: from the arrival of the run's create to the \
             answer to its Job's create; bare: from the arrival of a Job's create to its answer. The stub completes the Jobs meanwhile."
        ),
        plan.quick,
    );
    let (mut p50s, mut p99s, mut bare_p50s, mut bare_p99s) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut factors = (Vec::new(), Vec::new());
    for _ in 0..plan.repetitions {
        let namespace = bed.tenant("latency", true).await?;
        let operation_type = bed.stub_type("latency").await?;
        let _stub = Stub::start(&bed.as_job_controller, &operation_type, Duration::ZERO);
        let mut clock = tokio::time::interval(Duration::from_secs(1) / (2 * RATE));
        let mut sent = tokio::task::JoinSet::new();
        for tick in 0..2 * seconds * usize::try_from(RATE)? {
            clock.tick().await;
            let (path, body) = if tick % 2 == 0 {
                (api::runs(&namespace), run(&format!("r{tick}"), &operation_type, &inputs(tick)))
            } else {
                (api::jobs(&namespace), shape.bare_job(&format!("bare-{tick}")))
            };
            let client = bed.client.clone();
            sent.spawn(async move { api::create(&client, &path, &body).await.map(drop) });
        }
        while let Some(done) = sent.join_next().await {
            done??;
        }
        bed.all_completed(std::slice::from_ref(&namespace), Duration::from_mins(2)).await?;
        let (ours, bare) = latencies(bed, &namespace).await?;
        let (p50, p99) = (median(&ours), percentile(&ours, 0.99));
        let (bare_p50, bare_p99) = (median(&bare), percentile(&bare, 0.99));
        eprintln!(
            "   p50 {p50:.1} ms (bare {bare_p50:.1}), p99 {p99:.1} ms (bare {bare_p99:.1}), {} runs",
            count(ours.len())
        );
        factors.0.push(p50 / bare_p50);
        factors.1.push(p99 / bare_p99);
        p50s.push(p50);
        p99s.push(p99);
        bare_p50s.push(bare_p50);
        bare_p99s.push(bare_p99);
    }
    report.against("p50, times a bare create's", median(&factors.0), "×", Target::AtMost(4.0));
    report.against("p99, times a bare create's", median(&factors.1), "×", Target::AtMost(6.0));
    report.samples("ours p50", "ms", &p50s);
    report.samples("bare p50", "ms", &bare_p50s);
    report.samples("ours p99", "ms", &p99s);
    report.samples("bare p99", "ms", &bare_p99s);
    Ok(report)
}

/// Milliseconds from a run's create to its Job, and of bare creates.
async fn latencies(bed: &Bed, namespace: &str) -> Result<(Vec<f64>, Vec<f64>)> {
    let runs = api::get(&bed.client, &api::runs(namespace)).await?;
    let jobs: HashMap<&str, &str> = runs["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|run| Some((run["status"]["job"]["name"].as_str()?, run["metadata"]["name"].as_str()?)))
        .collect();
    let requests = audit::requests(&bed.audit_log, &[namespace, "\"verb\":\"create\""])?;
    let arrived: HashMap<&str, jiff::Timestamp> = requests
        .iter()
        .filter(|request| request.what() == "operationruns")
        .map(|request| (request.object_ref.name.as_str(), request.arrived))
        .collect();
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for request in requests.iter().filter(|request| request.what() == "jobs" && request.wrote()) {
        let name = request.object_ref.name.as_str();
        if name.starts_with("bare-") {
            bare.push(request.took());
        } else if let Some(arrived) = jobs.get(name).and_then(|run| arrived.get(run)) {
            ours.push((request.answered - *arrived).total(jiff::Unit::Millisecond)?);
        }
    }
    if ours.is_empty() || bare.is_empty() {
        return Err(format!("the audit log names {} runs' Jobs and {} bare ones", ours.len(), bare.len()).into());
    }
    Ok((ours, bare))
}
