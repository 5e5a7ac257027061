//! What a loud tenant costs a quiet one: the wait of one run beside ten thousand of another tenant, in slots.

use super::waiting::rest;
use super::{Plan, at_once};
use crate::bed::{Bed, run, until};
use crate::report::{Report, Target, count, median, percentile};
use crate::stub::{MANAGER, Stub};
use crate::{Result, api, audit};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// How long each Job takes: much longer than the operator takes to see a run.
const JOB: Duration = Duration::from_millis(400);

/// Setting of the operator: the most active runs of all tenants.
const MOST: &str = "ATLAS_MAX_ACTIVE_RUNS";

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let (few, many) = (plan.size(500, 40), plan.size(10_000, 100));
    // Few enough that the loud tenant still has runs that wait at the end.
    let runs = plan.size((10 * plan.repetitions).min(100), 5);
    let mut report = Report::new(
        "A quiet tenant beside a loud one",
        format!(
            "{few} and {many} runs of one tenant wait for a slot; a stub ends each Job after {} ms. Meanwhile {runs} runs of another tenant, one after the other, each created at another moment of a \
             slot's time. Its wait in slots is the number of Jobs of the loud tenant whose creates arrive after that of the run and before that of its Job, by the audit log. Once under a limit \
             of one for a type that both use, once under a limit of one for all runs, where the loud tenant's are of two types and the quiet one's of a third. The two limits of a tenant hold its own \
             runs alone. First in, first out would be {few} and {many} slots.",
            JOB.as_millis()
        ),
        plan.quick,
    );
    for limit in [Limit::Type, Limit::All] {
        for waiting in [few, many] {
            let waits = beside(bed, limit, waiting, runs).await?;
            let name = format!("{waiting} wait, {}", limit.words());
            eprintln!("   {name}: at most {} first, {:.0} ms", most(&waits.slots), median(&waits.milliseconds));
            report.against(
                format!("{name}: runs that start first, the most"),
                most(&waits.slots),
                "",
                Target::AtMost(1.0),
            );
            report.figure(format!("{name}: the time of a slot"), waits.slot, "ms");
            report.samples(format!("{name}: until the quiet tenant's run has its Job"), "ms", &waits.milliseconds);
        }
    }
    Ok(report)
}

/// The limit that is one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Type,
    All,
}

impl Limit {
    fn words(self) -> &'static str {
        match self {
            Self::Type => "one slot of the type",
            Self::All => "one slot of all types",
        }
    }
}

/// What the quiet tenant's runs waited.
struct Waits {
    /// Runs of the loud tenant that started first.
    slots: Vec<f64>,
    /// From the create of the run to that of its Job.
    milliseconds: Vec<f64>,
    /// How long a slot is taken, the median.
    slot: f64,
}

async fn beside(bed: &Bed, limit: Limit, waiting: usize, runs: usize) -> Result<Waits> {
    let before = if limit == Limit::All { Some(bed.set(MOST, "1").await?) } else { None };
    bed.start_operator().await?;
    let waits = waits(bed, limit, waiting, runs).await;
    if let Some(before) = before {
        bed.set(MOST, &before).await?;
        bed.start_operator().await?;
    }
    waits
}

fn most(values: &[f64]) -> f64 {
    percentile(values, 1.0)
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    (to - from).total(jiff::Unit::Millisecond).unwrap_or_default()
}

async fn waits(bed: &Bed, limit: Limit, waiting: usize, runs: usize) -> Result<Waits> {
    let mut template = bed.shell_job("true");
    template["spec"]["managedBy"] = MANAGER.into();
    let concurrency = match limit {
        Limit::Type => json!({ "concurrency": { "total": 1 } }),
        Limit::All => json!({}),
    };
    let mut types = Vec::new();
    for stem in ["loud", "louder", "quiet"] {
        types.push(bed.limited_type(stem, &template, &concurrency).await?);
    }
    let loud_types = if limit == Limit::Type { &types[2..] } else { &types[..2] };
    let (loud, quiet) = (bed.tenant("loud", true).await?, bed.tenant("quiet", true).await?);
    let (of_loud, of_quiet) = (api::runs(&loud), api::runs(&quiet));
    at_once(waiting + 1, 64, async |number| {
        let operation_type = &loud_types[number % loud_types.len()];
        api::create(&bed.client, &of_loud, &run(&format!("r{number}"), operation_type, &json!({ "n": number })))
            .await
            .map(drop)
    })
    .await?;
    rest(bed).await?;

    let begun = Timestamp::now();
    let stubs: Vec<Stub> = types.iter().map(|of| Stub::start(&bed.as_job_controller, of, JOB)).collect();
    for number in 0..runs {
        // Other moments of the time of a slot each time.
        tokio::time::sleep(JOB * u32::try_from(number * 7 % 10)? / 10).await;
        let manifest = run(&format!("r{number}"), &types[2], &json!({ "n": number }));
        api::create(&bed.client, &of_quiet, &manifest).await?;
        let path = format!("{of_quiet}/r{number}");
        let ended = async || Ok((api::get(&bed.client, &path).await?["status"]["phase"] == "completed").then_some(()));
        until("the end of the quiet tenant's run", Duration::from_mins(2), ended).await?;
    }
    drop(stubs);
    let left = api::get(&bed.client, &format!("{of_loud}?fieldSelector=status.phase!=completed&limit=1")).await?;
    if left["items"].as_array().is_none_or(Vec::is_empty) {
        return Err("the loud tenant's runs have all ended: more of them are needed".into());
    }
    let waits = from_the_log(bed, &loud, &quiet, begun)?;
    if waits.slots.len() != runs {
        return Err(format!("{} of {runs} runs have a Job in the audit log", waits.slots.len()).into());
    }
    // The operator would start what is left during the next measurement.
    for namespace in [&loud, &quiet] {
        api::delete(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
    }
    for of in &types {
        let path = format!("/apis/tenantatlas.io/v1alpha1/operationtypes/{of}");
        api::merge(&bed.client, &path, &json!({ "spec": { "suspend": true } })).await?;
    }
    rest(bed).await?;
    Ok(waits)
}

/// The quiet tenant's runs were created one after the other, so the n-th has the n-th Job.
fn from_the_log(bed: &Bed, loud: &str, quiet: &str, since: Timestamp) -> Result<Waits> {
    let jobs = |namespace: &str| -> Result<Vec<Timestamp>> {
        let mut requests = audit::requests_of(&bed.operator(), &bed.audit_log, Some(namespace))?;
        requests.retain(|request| {
            let object = &request.object_ref;
            request.wrote() && request.verb == "create" && request.what() == "jobs" && object.namespace == namespace
        });
        let mut arrived: Vec<_> = requests.iter().map(|request| request.arrived).filter(|at| *at > since).collect();
        arrived.sort_unstable();
        Ok(arrived)
    };
    let mut created = audit::requests(&bed.audit_log, &[quiet, "operationruns"])?;
    created.retain(|request| {
        let is_create = request.wrote() && request.verb == "create" && request.what() == "operationruns";
        is_create && request.object_ref.namespace == quiet
    });
    let mut created: Vec<_> = created.iter().map(|request| request.arrived).collect();
    created.sort_unstable();
    let (loud, quiet) = (jobs(loud)?, jobs(quiet)?);
    let mut waits = Waits { slots: Vec::new(), milliseconds: Vec::new(), slot: 0.0 };
    for (created, job) in created.iter().zip(&quiet) {
        let first = loud.iter().filter(|start| (created..job).contains(start)).count();
        waits.slots.push(count(first));
        waits.milliseconds.push(milliseconds(*created, *job));
    }
    let mut all = [loud, quiet].concat();
    all.sort_unstable();
    let gaps: Vec<f64> = all.windows(2).map(|pair| milliseconds(pair[0], pair[1])).collect();
    waits.slot = median(&gaps);
    Ok(waits)
}
