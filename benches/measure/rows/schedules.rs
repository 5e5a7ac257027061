//! Thousands of schedules: due at once, and at rest.

use super::idle::{Rest, at_rest, length};
use super::{Plan, at_once};
use crate::bed::{Bed, until};
use crate::report::{Report, Target, count, median, ratios};
use crate::{Result, api, audit};
use jiff::{Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Tenants that the schedules are spread over.
const TENANTS: usize = 10;

/// Creates at once on the bare side: as many as the operator's passes.
const BARE: usize = 32;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let schedules = plan.size(5_000, 100);
    let mut report = Report::new("Schedules that are due at once", "", plan.quick);
    // Its runs end as blocked: what becomes of runs is measured elsewhere, and their status writes are made all the same.
    let operation_type = suspended_type(bed).await?;
    bed.start_operator().await?;
    let example = example(bed, &operation_type).await?;
    report.how = format!(
        "{schedules} schedules in {TENANTS} tenants with one tick at the same minute, of a suspended type: its runs are created, looked at and end as blocked. From the arrival of the \
         first create of a run to the answer to the last, by the audit log. Bare: the operator is stopped, and a client with its account creates runs of the same {} bytes, {BARE} at once. \
         Then once more with the operator stopped and started again in the middle of the minute: lost are ticks without a run, doubled those with more than one.",
        example.to_string().len()
    );
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for repetition in 0..plan.repetitions {
        bed.stop_operator().await?;
        let namespaces = bed.tenants("schedules", TENANTS, false).await?;
        at_once(schedules, BARE, async |number| {
            let mut run = example.clone();
            run["metadata"]["name"] = format!("s{number}-29384720").into();
            api::create(&bed.as_operator, &api::runs(&namespaces[number % TENANTS]), &run).await.map(drop)
        })
        .await?;
        bare.push(made(bed, &namespaces)?.seconds);
        remove(bed, &namespaces).await?;

        bed.start_operator().await?;
        let namespaces = due(bed, &operation_type, schedules).await?;
        all_made(bed, &namespaces, schedules).await?;
        let made = made(bed, &namespaces)?;
        made.expect(schedules)?;
        ours.push(made.seconds);
        eprintln!("   {}: bare {:.1} s, ours {:.1} s", repetition + 1, bare[repetition], ours[repetition]);
        remove(bed, &namespaces).await?;
    }
    report.against(
        "until all runs exist: times a bare client's time",
        median(&ratios(&ours, &bare)),
        "×",
        Target::AtMost(1.2),
    );
    let namespaces = due(bed, &operation_type, schedules).await?;
    bed.stop_operator().await?;
    let begun = made(bed, &namespaces)?.runs.len();
    bed.start_operator().await?;
    all_made(bed, &namespaces, schedules).await?;
    let made = made(bed, &namespaces)?;
    let doubled = made.runs.values().filter(|times| **times > 1).count();
    report.figure("runs made before the restart", count(begun), "");
    report.against(
        "ticks lost, with a restart in the middle",
        count(schedules - made.runs.len()),
        "",
        Target::AtMost(0.0),
    );
    report.against("ticks doubled, with a restart in the middle", count(doubled), "", Target::AtMost(0.0));

    report.samples("ours", "s", &ours);
    report.samples("bare", "s", &bare);
    Ok(report)
}

/// The operator with as many schedules and nothing to do.
pub async fn rest(bed: &Bed, plan: Plan) -> Result<Report> {
    let schedules = plan.size(5_000, 100);
    let mut report = Report::new(
        "Schedules at rest",
        format!(
            "{schedules} schedules in {TENANTS} tenants, each of which has made a run that ended, and whose next tick is months away; once for {} s after the operator has come to rest. \
             Processor time of its process from /proc; its requests from the audit log.",
            length(plan).as_secs()
        ),
        plan.quick,
    );
    let operation_type = suspended_type(bed).await?;
    let process = bed.start_operator().await?;
    let namespaces = bed.tenants("rest", TENANTS, true).await?;
    at_once(schedules, BARE, async |number| {
        let schedule = schedule(&format!("s{number}"), "@yearly", true, &operation_type);
        api::create(&bed.client, &schedules_of(&namespaces[number % TENANTS]), &schedule).await.map(drop)
    })
    .await?;
    all_made(bed, &namespaces, schedules).await?;
    bed.all_completed(&namespaces, Duration::from_mins(5)).await?;
    let Rest { writes, percent, reads, about_the_lease } = at_rest(bed, &process, length(plan)).await?;
    report.against("writes but the Lease", count(writes), "", Target::AtMost(0.0));
    report.against("of one core", percent, "%", Target::AtMost(0.5));
    report.figure("reads", count(reads), "");
    report.figure("requests about the Lease", count(about_the_lease), "");
    report.figure("memory", process.memory()?, "MiB");
    Ok(report)
}

async fn suspended_type(bed: &Bed) -> Result<String> {
    let name = bed.stub_type("schedules").await?;
    let path = format!("/apis/tenantatlas.io/v1alpha1/operationtypes/{name}");
    api::merge(&bed.client, &path, &json!({ "spec": { "suspend": true } })).await?;
    Ok(name)
}

async fn remove(bed: &Bed, namespaces: &[String]) -> Result<()> {
    for namespace in namespaces {
        for plural in ["backupschedules", "operationruns"] {
            let path = format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/{plural}");
            api::delete(&bed.client, &path).await?;
        }
    }
    Ok(())
}

fn schedules_of(namespace: &str) -> String {
    format!("/apis/tenantatlas.io/v1alpha1/namespaces/{namespace}/backupschedules")
}

fn schedule(name: &str, expression: &str, immediate: bool, operation_type: &str) -> Value {
    json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule", "metadata": { "name": name },
        "spec": { "schedule": expression, "immediate": immediate,
            "operation": { "type": operation_type, "inputs": { "repository": "main", "selection": { "labelSelector": "tier!=scratch" } } } } })
}

/// A run as the operator makes it for a schedule, without what the API server added.
async fn example(bed: &Bed, operation_type: &str) -> Result<Value> {
    let namespace = bed.tenant("example", true).await?;
    api::create(&bed.client, &schedules_of(&namespace), &schedule("example", "@yearly", true, operation_type)).await?;
    let made = async || {
        let runs = api::get(&bed.client, &api::runs(&namespace)).await?;
        Ok(runs["items"].as_array().and_then(|runs| runs.first().cloned()))
    };
    let run = until("the run of a schedule", Duration::from_secs(30), made).await?;
    api::delete(&bed.client, &format!("/api/v1/namespaces/{namespace}")).await?;
    Ok(json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
        "metadata": { "labels": run["metadata"]["labels"] }, "spec": run["spec"] }))
}

/// Makes the schedules, and waits until they are due. Returns their namespaces.
async fn due(bed: &Bed, operation_type: &str, schedules: usize) -> Result<Vec<String>> {
    let namespaces = bed.tenants("schedules", TENANTS, true).await?;
    // Time to make them all, and for the operator to look at each.
    let lead = 45 + i64::try_from(schedules)? / 50;
    let minute = (Timestamp::now().as_second() + lead).div_euclid(60) + 1;
    let tick = Timestamp::from_second(minute * 60)?;
    let expression = tick.to_zoned(TimeZone::UTC).strftime("%M %H %d %m *").to_string();
    at_once(schedules, BARE, async |number| {
        let schedule = schedule(&format!("s{number}"), &expression, false, operation_type);
        api::create(&bed.client, &schedules_of(&namespaces[number % TENANTS]), &schedule).await.map(drop)
    })
    .await?;
    let left = tick - Timestamp::now();
    let left = Duration::try_from(left.to_duration(jiff::SpanRelativeTo::days_are_24_hours())?)
        .map_err(|_| "the schedules were not made before they were due")?;
    tokio::time::sleep(left + Duration::from_secs(1)).await;
    Ok(namespaces)
}

/// Waits until there are so many runs, asking little.
async fn all_made(bed: &Bed, namespaces: &[String], schedules: usize) -> Result<()> {
    let there = async || {
        let mut runs = 0;
        for namespace in namespaces {
            let page = api::get(&bed.client, &format!("{}?limit=1", api::runs(namespace))).await?;
            let listed = page["items"].as_array().map_or(0, Vec::len) as u64;
            runs += listed + page["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok((runs >= schedules as u64).then_some(()))
    };
    until("the runs of all schedules", Duration::from_mins(5), there).await
}

/// Runs made in some namespaces, by the audit log.
struct Made {
    /// How often each was made.
    runs: BTreeMap<(String, String), usize>,
    /// From the arrival of the first create to the answer to the last.
    seconds: f64,
}

impl Made {
    fn expect(&self, schedules: usize) -> Result<()> {
        if self.runs.len() == schedules {
            return Ok(());
        }
        Err(format!("the audit log shows {} runs for {schedules} schedules: was it rotated away?", self.runs.len())
            .into())
    }
}

fn made(bed: &Bed, namespaces: &[String]) -> Result<Made> {
    let (mut runs, mut span) = (BTreeMap::new(), None);
    for request in audit::requests_of(&bed.operator(), &bed.audit_log, None)? {
        let of_these = namespaces.contains(&request.object_ref.namespace);
        if !of_these || request.verb != "create" || request.what() != "operationruns" || !request.wrote() {
            continue;
        }
        let (first, last) = span.unwrap_or((request.arrived, request.answered));
        span = Some((first.min(request.arrived), last.max(request.answered)));
        *runs.entry((request.object_ref.namespace, request.object_ref.name)).or_insert(0) += 1;
    }
    let seconds = span.map(|(first, last)| (last - first).total(jiff::Unit::Second)).transpose()?.unwrap_or_default();
    Ok(Made { runs, seconds })
}
