//! The controller at rest with a full history.

use super::{Plan, memory};
use crate::bed::{Bed, until};
use crate::process::Process;
use crate::report::{Report, Target, count, median};
use crate::{Result, audit};
use std::time::{Duration, Instant};

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let runs = plan.size(10_000, 200);
    let length = length(plan);
    let mut report = Report::new(
        "The controller at rest",
        format!(
            "{runs} completed runs and nothing to do, once for {} s (not repeated: it is an average already). Processor time of the operator's process from /proc; its \
             requests from the audit log, those about the Lease counted apart.",
            length.as_secs()
        ),
        plan.quick,
    );
    memory::fill(bed, runs, 0).await?;
    let process = bed.start_operator().await?;
    let rest = at_rest(bed, &process, length).await?;
    report.against("writes but the Lease", count(rest.writes), "", Target::AtMost(0.0));
    report.against("of one core", rest.percent, "%", Target::AtMost(0.5));
    report.figure("reads", count(rest.reads), "");
    report.figure("requests about the Lease", count(rest.about_the_lease), "");
    report.figure("memory", median(&[process.memory()?]), "MiB");
    Ok(report)
}

/// How long it is looked at.
pub fn length(plan: Plan) -> Duration {
    Duration::from_secs(plan.size(600, 10) as u64)
}

/// What an operator does that has nothing to do.
pub struct Rest {
    /// Writes but those of the Lease.
    pub writes: usize,
    /// Reads but those of the Lease.
    pub reads: usize,
    /// Requests about the Lease.
    pub about_the_lease: usize,
    /// Processor time, of one core.
    pub percent: f64,
}

/// Lets it rest for so long, once it has come to rest: what was begun before (labels, statuses, events) is written first.
pub async fn at_rest(bed: &Bed, process: &Process, length: Duration) -> Result<Rest> {
    // The probe's namespace goes, and accounts are made in the tenants.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let quiet = async || {
        let since = jiff::Timestamp::now();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
        let mut new = requests.iter().filter(|request| request.arrived > since && request.wrote());
        Ok(new.all(|request| request.what() == "leases").then_some(()))
    };
    until("the operator to come to rest", Duration::from_mins(5), quiet).await?;
    let begun = (Instant::now(), jiff::Timestamp::now(), process.processor_seconds()?);
    tokio::time::sleep(length).await;
    let used = process.processor_seconds()? - begun.2;
    let percent = 100.0 * used / begun.0.elapsed().as_secs_f64();
    let requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
    let since = requests.iter().filter(|request| request.arrived > begun.1);
    let (lease, since): (Vec<_>, Vec<_>) = since.partition(|request| request.what() == "leases");
    Ok(Rest {
        writes: since.iter().filter(|request| request.wrote()).count(),
        reads: since.iter().filter(|request| request.read()).count(),
        about_the_lease: lease.len(),
        percent,
    })
}
