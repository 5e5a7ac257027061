//! The controller at rest with a full history.

use super::{Plan, memory};
use crate::bed::Bed;
use crate::report::{Report, Target, count, median};
use crate::{Result, audit};
use std::time::{Duration, Instant};

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let runs = plan.size(10_000, 200);
    let minutes = plan.size(10, 0);
    let length = if plan.quick { Duration::from_secs(10) } else { Duration::from_mins(minutes as u64) };
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
    // The probe's namespace goes, and accounts are made in the tenants.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let begun = (Instant::now(), jiff::Timestamp::now(), process.processor_seconds()?);
    tokio::time::sleep(length).await;
    let used = process.processor_seconds()? - begun.2;
    let percent = 100.0 * used / begun.0.elapsed().as_secs_f64();
    let requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
    let since = requests.iter().filter(|request| request.arrived > begun.1);
    let (lease, since): (Vec<_>, Vec<_>) = since.partition(|request| request.what() == "leases");
    let writes = since.iter().filter(|request| request.wrote()).count();
    let reads = since.iter().filter(|request| request.read()).count();
    report.against("writes but the Lease", count(writes), "", Target::AtMost(0.0));
    report.against("of one core", percent, "%", Target::AtMost(0.5));
    report.figure("reads", count(reads), "");
    report.figure("requests about the Lease", count(lease.len()), "");
    report.figure("memory", median(&[process.memory()?]), "MiB");
    Ok(report)
}
