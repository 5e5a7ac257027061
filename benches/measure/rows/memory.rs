//! The controller's memory with a full history, at rest and while it lists everything afresh, and how long it takes until
//! its first decision.

use super::shape::Shape;
use super::{Plan, at_once};
use crate::bed::{Bed, run};
use crate::report::{Report, Target, median};
use crate::{Result, api, audit};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Tenants that the runs are spread over.
const TENANTS: usize = 1_000;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (completed, active) = (plan.size(100_000, 200), plan.size(1_000, 20));
    let mut report = Report::new("The controller's memory", "", plan.quick);
    let history = fill(bed, completed, active).await?;
    report.how = format!(
        "{completed} completed and {active} active runs in {TENANTS} tenants, each with the Job it had or has. A completed run has {} bytes as JSON with 5 failures, an \
         active one {}, a Job {}. The operator is started anew, lists all of it, and idles: its pod's process, by /proc: peak (VmHWM) from its start, \
         and what it holds 30 s later. To its first decision, by the audit log: from its first request after it leads to its first create of a Job, for a run that waits for it. Bare: a client \
         that lists the same runs and Jobs at the same time, in pages of 500, and reads the bytes.",
        history.completed, history.active, history.job
    );
    let (mut peaks, mut resting) = (Vec::new(), Vec::new());
    let (mut first, mut bare) = (Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        bed.stop_operator().await?;
        bare.push(list(bed).await?);
        let waiting = run(&format!("first-{repetition}"), &history.operation_type, &json!({ "first": repetition }));
        api::create(&bed.client, &api::runs(&history.namespace), &waiting).await?;
        let stopped = Timestamp::now();
        let process = bed.start_operator().await?;
        first.push(first_decision(bed, stopped)?);
        tokio::time::sleep(Duration::from_secs(plan.size(30, 3) as u64)).await;
        peaks.push(process.peak_memory()?);
        resting.push(process.memory()?);
        eprintln!("   peak {:.1} MiB, at rest {:.1} MiB", peaks[peaks.len() - 1], resting[resting.len() - 1]);
    }
    let most = peaks.iter().copied().fold(0.0, f64::max);
    report.against(
        "peak, the list at its start included, the most of all repetitions",
        most,
        "MiB",
        Target::AtMost(128.0),
    );
    report.against(
        "to the first decision, times a bare list",
        median(&first) / median(&bare),
        "×",
        Target::AtMost(1.3),
    );
    report.figure("at rest, median", median(&resting), "MiB");
    report.samples("peak", "MiB", &peaks);
    report.samples("at rest", "MiB", &resting);
    report.samples("to the first decision", "ms", &first);
    report.samples("bare list", "ms", &bare);
    Ok(report)
}

/// Milliseconds from a new leader's first request about what it works on to its first Job.
fn first_decision(bed: &Bed, since: Timestamp) -> Result<f64> {
    let mut requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
    requests.retain(|request| request.arrived > since);
    let list = |request: &&audit::Request| request.what() == "operationruns" && request.read();
    let begun = requests.iter().filter(list).map(|request| request.arrived).min().ok_or("no list of runs")?;
    let create = |request: &&audit::Request| request.what() == "jobs" && request.wrote();
    let made = requests.iter().filter(create).map(|request| request.arrived).min().ok_or("no Job was made")?;
    Ok((made - begun).total(jiff::Unit::Millisecond)?)
}

/// Milliseconds that a bare client takes to list all runs and Jobs.
async fn list(bed: &Bed) -> Result<f64> {
    let begun = Instant::now();
    let pages = async |path: &str| {
        let mut next = String::new();
        loop {
            let uri = format!("{path}?limit=500&continue={next}");
            let page = bed.client.request_text(http::Request::get(uri).body(Vec::new())?).await?;
            match api::continue_token(&page) {
                Some(token) => next = token,
                None => return Ok::<_, Box<dyn std::error::Error + Send + Sync>>(()),
            }
        }
    };
    let (runs, jobs) = tokio::join!(pages("/apis/tenantatlas.io/v1alpha1/operationruns"), pages("/apis/batch/v1/jobs"));
    runs.and(jobs)?;
    Ok(begun.elapsed().as_secs_f64() * 1000.0)
}

/// How large the objects of a history are, in bytes as JSON.
pub struct History {
    operation_type: String,
    namespace: String,
    completed: usize,
    active: usize,
    job: usize,
}

/// Makes a history, unless an earlier row left it: the writes of that many runs, without the operator.
pub async fn fill(bed: &Bed, completed: usize, active: usize) -> Result<History> {
    let operation_type = bed.stub_type("history").await?;
    let shape = Shape::record(bed, &operation_type).await?.with_failures();
    bed.stop_operator().await?;
    let namespaces = bed.tenants("history", TENANTS, false).await?;
    eprintln!("   making {completed} completed and {active} active runs");
    at_once(completed + active, 64, async |number| {
        let namespace = &namespaces[number % TENANTS];
        shape
            .write([&bed.client, &bed.as_operator, &bed.as_job_controller], namespace, number, number < completed)
            .await
    })
    .await?;
    let size = async |path: String| api::get(&bed.client, &path).await.map(|object: Value| object.to_string().len());
    let last = completed + active - 1;
    let of = |number: usize| &namespaces[number % TENANTS];
    Ok(History {
        operation_type,
        namespace: namespaces[0].clone(),
        completed: size(format!("{}/r0", api::runs(of(0)))).await?,
        active: size(format!("{}/r{last}", api::runs(of(last)))).await?,
        job: size(format!("{}/op-{:020x}", api::jobs(of(0)), 0)).await?,
    })
}
