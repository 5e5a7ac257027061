//! Runs that wait for a slot: how soon one that comes free is taken, and what a run costs then.

use super::{Plan, at_once};
use crate::bed::{Bed, run, until};
use crate::process::Process;
use crate::report::{Report, Target, percentile};
use crate::stub::{MANAGER, Stub};
use crate::{Result, api, audit};
use jiff::Timestamp;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;

const TENANTS: usize = 100;

/// Slots of the type.
const SLOTS: usize = 8;

/// How long each Job takes: long enough that its worker is not what is measured.
const JOB: Duration = Duration::from_millis(200);

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (few, many, taken) = (plan.size(500, 40), plan.size(10_000, 100), plan.size(400, 30));
    let mut report = Report::new(
        "Runs that wait for a slot",
        format!(
            "{few} and {many} runs in {TENANTS} tenants wait for one of {SLOTS} slots of their type. A stub ends each Job after {} ms, until {taken} slots have come free. By the audit log: from the answer \\
             to the write that ends a run to the arrival of the create of the Job that takes its slot. Processor time of the operator's process, by /proc, for each of these runs.",
            JOB.as_millis()
        ),
        plan.quick,
    );
    let process = bed.start_operator().await?;
    let mut costs = Vec::new();
    for waiting in [few, many] {
        let measured = take(bed, &process, waiting, taken).await?;
        eprintln!(
            "   {waiting} wait: p99 {:.1} ms, {:.2} ms of a core a run",
            percentile(&measured.gaps, 0.99),
            measured.cost
        );
        let name = format!("{waiting} wait: until a slot is taken, p99");
        report.against(name, percentile(&measured.gaps, 0.99), "ms", Target::AtMost(50.0));
        report.samples(format!("{waiting} wait: until a slot is taken"), "ms", &measured.gaps);
        costs.push(measured.cost);
    }
    report.against(
        format!("processor time of a run with {many} waiting, times that with {few}"),
        costs[1] / costs[0],
        "×",
        Target::AtMost(1.25),
    );
    report.samples("processor time of a run", "ms", &costs);
    Ok(report)
}

struct Measured {
    /// Milliseconds from each end to the start that takes its slot.
    gaps: Vec<f64>,
    /// Milliseconds of a core for each run.
    cost: f64,
}

async fn take(bed: &Bed, process: &Process, waiting: usize, taken: usize) -> Result<Measured> {
    let mut template = bed.shell_job("true");
    template["spec"]["managedBy"] = MANAGER.into();
    let limited = json!({ "concurrency": { "total": SLOTS } });
    let operation_type = bed.limited_type("waiting", &template, &limited).await?;
    let namespaces = bed.tenants("waiting", TENANTS, true).await?;
    at_once(waiting + SLOTS, 64, async |number| {
        let manifest = run(&format!("r{number}"), &operation_type, &json!({ "n": number }));
        api::create(&bed.client, &api::runs(&namespaces[number % TENANTS]), &manifest).await.map(drop)
    })
    .await?;
    rest(bed).await?;
    let (begun, before) = (Timestamp::now(), process.processor_seconds()?);
    let stub = Stub::start(&bed.as_job_controller, &operation_type, JOB);
    let enough = async || Ok((stub.done() >= taken).then_some(()));
    until("so many Jobs to end", Duration::from_mins(5), enough).await?;
    let used = process.processor_seconds()? - before;
    let ended = stub.done();
    drop(stub);
    let gaps = gaps(bed, begun)?;
    // The operator would start the remaining runs during the next measurement.
    for namespace in &namespaces {
        api::delete(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
    }
    let path = format!("/apis/tenantatlas.io/v1alpha1/operationtypes/{operation_type}");
    api::merge(&bed.client, &path, &json!({ "spec": { "suspend": true } })).await?;
    rest(bed).await?;
    #[allow(clippy::cast_precision_loss)]
    Ok(Measured { gaps, cost: used * 1000.0 / ended as f64 })
}

/// Waits until the operator has written nothing for some seconds.
pub(super) async fn rest(bed: &Bed) -> Result<()> {
    let quiet = async || {
        let since = Timestamp::now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
        let mut new = requests.iter().filter(|request| request.arrived > since && request.wrote());
        Ok(new.all(|request| request.what() == "leases").then_some(()))
    };
    until("the operator to come to rest", Duration::from_mins(10), quiet).await
}

/// The n-th slot that comes free is taken by the n-th Job that is made.
fn gaps(bed: &Bed, since: Timestamp) -> Result<Vec<f64>> {
    let mut requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
    requests.retain(|request| request.arrived > since && request.wrote());
    // The label patch follows the write that ends a run.
    let mut statuses: HashMap<(String, String), Timestamp> = HashMap::new();
    let mut ends = Vec::new();
    for request in &requests {
        let run = (request.object_ref.namespace.clone(), request.object_ref.name.clone());
        match request.what().as_str() {
            "operationruns/status" => _ = statuses.insert(run, request.answered),
            "operationruns" => ends.extend(statuses.remove(&run)),
            _ => {}
        }
    }
    let mut starts: Vec<Timestamp> = Vec::new();
    starts.extend(requests.iter().filter(|request| request.what() == "jobs").map(|request| request.arrived));
    ends.sort_unstable();
    starts.sort_unstable();
    let gap = |(end, start): (&Timestamp, &Timestamp)| (*start - *end).total(jiff::Unit::Millisecond);
    let gaps: Vec<f64> = ends.iter().zip(&starts).map(gap).collect::<std::result::Result<_, _>>()?;
    if gaps.is_empty() { Err("no slot was taken".into()) } else { Ok(gaps) }
}
