//! One workspace run over many tenants, compared with a client that runs the same number of bare Jobs.

use super::job::{Bare, bare, complete, repository};
use super::{Plan, at_once};
use crate::bed::{Bed, unique, until};
use crate::report::{Report, Target, count, median, ratios};
use crate::{Result, api, audit};
use serde_json::json;
use std::time::{Duration, Instant};
use tenantatlas::api::labels;

/// Tenants that are worked on at once, on both sides.
const AT_ONCE: usize = 16;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let size = plan.size(200, 8);
    let repetitions = plan.repetitions.min(2);
    let mut report = Report::new(
        "One workspace run over many tenants",
        format!(
            "{size} tenants with a repository and few objects each. Ours: one WorkspaceRun that captures each, {AT_ONCE} at a time, from its create to its end. Bare: a client that creates a Job \
             of our image, which only prints its version, in each of the namespaces, {AT_ONCE} at a time, until all are complete. Writes are all requests of the operator's account that write, \
             from the create of the WorkspaceRun to 2 s after its end, events, Leases and the label patch at the end of each run excepted."
        ),
        plan.quick,
    );
    let workspace = format!("bench-{}", unique());
    let tenants = bed.tenants("over", size, true).await?;
    let mut volumes = Vec::new();
    for tenant in &tenants {
        let label = json!({ "metadata": { "labels": { (labels::WORKSPACE): workspace } } });
        api::merge(&bed.client, &format!("/api/v1/namespaces/{tenant}"), &label).await?;
        volumes.push(repository(bed, tenant).await?);
    }
    let (mut ours, mut bares, mut writes) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..repetitions {
        let before = written(bed)?;
        ours.push(over_all(bed, &workspace, number).await?);
        tokio::time::sleep(Duration::from_secs(2)).await;
        writes.push(count(written(bed)? - before));
        bares.push(all_bare(bed, &tenants, number).await?);
        eprintln!("   {:.0} s (bare {:.0} s), {} writes", ours[number], bares[number], writes[number]);
    }
    report.against("times the bare Jobs", median(&ratios(&ours, &bares)), "×", Target::AtMost(1.15));
    let most = 3.0 + 0.1 + 10.0 / count(size);
    report.against("operator writes a tenant", median(&writes) / count(size), "", Target::AtMost(most));
    report.samples("the workspace run", "s", &ours);
    report.samples("the bare Jobs", "s", &bares);
    Ok(report)
}

/// Seconds from the create of a workspace run to its end.
async fn over_all(bed: &Bed, workspace: &str, number: usize) -> Result<f64> {
    let path = "/apis/tenantatlas.io/v1alpha1/workspaceruns";
    // Each captures something else, so that none is the same work as the one before.
    let inputs = json!({ "repository": "main", "selection": { "labelSelector": format!("bench!=n{number}") } });
    let name = format!("{workspace}-{number}");
    let run = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": "WorkspaceRun", "metadata": { "name": name },
        "spec": { "workspace": { "name": workspace }, "parallelism": AT_ONCE,
            "operation": { "type": "backup.capture", "inputs": inputs } } });
    let begun = Instant::now();
    api::create(&bed.client, path, &run).await?;
    let path = format!("{path}/{name}");
    let ended = async || {
        let run = api::get(&bed.client, &path).await?;
        Ok((run["status"]["phase"] == "completed").then(|| run["status"]["outcome"].clone()))
    };
    let outcome = until("the workspace run to end", Duration::from_mins(20), ended).await?;
    if outcome != "succeeded" {
        return Err(format!("the workspace run {name} ended {outcome}").into());
    }
    Ok(begun.elapsed().as_secs_f64())
}

/// Seconds for one bare Job in each namespace.
async fn all_bare(bed: &Bed, tenants: &[String], number: usize) -> Result<f64> {
    let begun = Instant::now();
    at_once(tenants.len(), AT_ONCE, async |tenant| {
        let (path, name) = (api::jobs(&tenants[tenant]), format!("bare-{number}"));
        api::create(&bed.client, &path, &bare(bed, &name, Bare::Version)).await?;
        let path = format!("{path}/{name}");
        let ended = async || Ok(complete(&api::get(&bed.client, &path).await?).then_some(()));
        until("a bare Job to end", Duration::from_mins(5), ended).await
    })
    .await?;
    Ok(begun.elapsed().as_secs_f64())
}

/// Writes of the operator so far.
fn written(bed: &Bed) -> Result<usize> {
    let requests = audit::requests_of(&bed.operator(), &bed.audit_log, None)?;
    let counts = |request: &&audit::Request| {
        let is_label = request.verb == "patch" && request.what() == "operationruns";
        request.wrote() && !is_label && !matches!(request.object_ref.resource.as_str(), "events" | "leases")
    };
    Ok(requests.iter().filter(counts).count())
}
