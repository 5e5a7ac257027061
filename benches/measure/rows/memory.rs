//! The controller's memory with a full history, at rest and while it lists everything afresh.

use super::shape::Shape;
use super::{Plan, at_once};
use crate::bed::Bed;
use crate::process::Process;
use crate::report::{Report, Target, median};
use crate::{Result, api};
use serde_json::Value;
use std::time::Duration;

/// Tenants that the runs are spread over.
pub const TENANTS: usize = 20;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (completed, active) = (plan.size(10_000, 200), plan.size(1_000, 20));
    let mut report = Report::new("The controller's memory", "", plan.quick);
    let history = fill(bed, completed, active).await?;
    report.how = format!(
        "{completed} completed and {active} active runs in {TENANTS} tenants, each with the Job it had or has. A completed run has {} bytes as JSON with 5 failures, an \
         active one {}, a Job {}. The operator is started anew, lists all of it, and idles: its pod's process, by /proc: peak (VmHWM) from its start, \
         and what it holds 30 s later.",
        history.completed, history.active, history.job
    );
    let (mut peaks, mut resting) = (Vec::new(), Vec::new());
    for _ in 0..plan.repetitions {
        let process = restart(bed).await?;
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
        Target::AtMost(64.0),
    );
    report.figure("at rest, median", median(&resting), "MiB");
    report.samples("peak", "MiB", &peaks);
    report.samples("at rest", "MiB", &resting);
    Ok(report)
}

/// The operator's process, started anew.
async fn restart(bed: &Bed) -> Result<Process> {
    bed.stop_operator().await?;
    bed.start_operator().await
}

/// How large the objects of a history are, in bytes as JSON.
pub struct History {
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
        shape.write([&bed.client, &bed.as_operator], namespace, number, number < completed).await
    })
    .await?;
    let size = async |path: String| api::get(&bed.client, &path).await.map(|object: Value| object.to_string().len());
    let last = completed + active - 1;
    let of = |number: usize| &namespaces[number % TENANTS];
    Ok(History {
        completed: size(format!("{}/r0", api::runs(of(0)))).await?,
        active: size(format!("{}/r{last}", api::runs(of(last)))).await?,
        job: size(format!("{}/op-{:020x}", api::jobs(of(0)), 0)).await?,
    })
}
