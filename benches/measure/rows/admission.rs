//! Runs a second, beside a client that makes the same writes without an operator.

use super::shape::{Shape, inputs};
use super::{Plan, at_once};
use crate::bed::{Bed, run};
use crate::report::{Report, Target, count, median, ratios};
use crate::stub::Stub;
use crate::{Result, api, audit};
use std::time::{Duration, Instant};

/// Tenants that the runs are spread over.
const TENANTS: usize = 10;

/// Requests at once: of the authors on our side, of everybody on the bare side.
const AUTHORS: usize = 32;
const BARE: usize = 64;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let runs = plan.size(5_000, 200);
    let operation_type = bed.stub_type("admission").await?;
    let shape = Shape::record(bed, &operation_type).await?;
    let [job, running, completed] = shape.sizes();
    let mut report = Report::new(
        "Admission",
        format!(
            "{runs} distinct runs in {TENANTS} tenants, created {AUTHORS} at once, their Jobs completed by a stub; from the arrival of the first create to the answer to the \
             last status write of a run, by the audit log. Bare: the operator is stopped, and a client makes the same creates and status writes with the same bodies (recorded \
             from a run: a Job of {job} bytes, status writes of {running} and {completed} bytes) and the label patch, the stub's included, {BARE} runs at once, under the same admission policies."
        ),
        plan.quick,
    );
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        bed.stop_operator().await?;
        let namespaces = bed.tenants("admission", TENANTS, false).await?;
        at_once(runs, BARE, async |number| {
            shape
                .write(
                    [&bed.client, &bed.as_operator, &bed.as_job_controller],
                    &namespaces[number % TENANTS],
                    number,
                    true,
                )
                .await
        })
        .await?;
        bare.push(rate(bed, &namespaces, runs)?);

        bed.start_operator().await?;
        let namespaces = bed.tenants("admission", TENANTS, true).await?;
        // A type of its own, so that the stub meets no Jobs of an earlier repetition.
        let operation_type = bed.stub_type("admission").await?;
        let stub = Stub::start(&bed.as_job_controller, &operation_type, Duration::ZERO);
        let begun = Instant::now();
        at_once(runs, AUTHORS, async |number| {
            let run = run(&format!("r{number}"), &operation_type, &inputs(number));
            api::create(&bed.client, &api::runs(&namespaces[number % TENANTS]), &run).await.map(drop)
        })
        .await?;
        let created = begun.elapsed();
        // Only then is the API server asked how far it is: the questions are not to be what is measured.
        while stub.done() < runs && begun.elapsed() < Duration::from_mins(10) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let finished = begun.elapsed();
        bed.all_completed(&namespaces, Duration::from_mins(5)).await?;
        ours.push(rate(bed, &namespaces, runs)?);
        eprintln!(
            "   {}: bare {:.0} runs/s, ours {:.0} runs/s (created in {:.1} s, Jobs done in {:.1} s)",
            repetition + 1,
            bare[repetition],
            ours[repetition],
            created.as_secs_f64(),
            finished.as_secs_f64()
        );
    }
    report.against("share of the bare rate", 100.0 * median(&ratios(&ours, &bare)), "%", Target::AtLeast(85.0));
    report.figure("ours", median(&ours), "runs/s");
    report.figure("bare", median(&bare), "runs/s");
    report.samples("ours", "runs/s", &ours);
    report.samples("bare", "runs/s", &bare);
    Ok(report)
}

/// Runs a second, as the API server saw them.
fn rate(bed: &Bed, namespaces: &[String], runs: usize) -> Result<f64> {
    let (mut first, mut last, mut ends) = (None, None, 0);
    let requests = audit::requests(&bed.audit_log, &["admission", "operationruns"])?;
    for request in requests.iter().filter(|request| namespaces.contains(&request.object_ref.namespace)) {
        match (request.verb.as_str(), request.what().as_str()) {
            ("create", "operationruns") => {
                let at = request.arrived;
                first = Some(first.map_or(at, |first: jiff::Timestamp| first.min(at)));
            }
            ("patch", "operationruns/status") if request.wrote() => {
                last = Some(request.answered);
                ends += 1;
            }
            _ => {}
        }
    }
    let (Some(first), Some(last)) = (first, last) else { return Err("the audit log shows no run".into()) };
    if ends < 2 * runs {
        return Err(format!("the audit log shows {ends} status writes for {runs} runs: was it rotated away?").into());
    }
    Ok(count(runs) / (last - first).total(jiff::Unit::Second)?)
}
