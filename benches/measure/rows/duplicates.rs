//! Many copies of one run, created at once.

use super::{Plan, at_once};
use crate::bed::{Bed, run, until};
use crate::report::{Report, Target, count};
use crate::stub::Stub;
use crate::{Result, api, audit};
use serde_json::json;
use std::time::{Duration, Instant};

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let copies = plan.size(1_000, 50);
    let mut report = Report::new(
        "Concurrent creates of one identity",
        format!(
            "{copies} runs of one identity, created 64 at once; the stub completes the Job when every run is accounted for. Jobs and the operator's writes from the audit \
             log; a duplicate's writes are the status writes of all but the one that has the Job; label patches have their own line. Bare: as many creates of one \
             Job's name, of which the API server refuses all but one."
        ),
        plan.quick,
    );
    let (mut jobs, mut each, mut labels, mut seconds, mut bare) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.repetitions {
        let operation_type = bed.stub_type("duplicates").await?;
        let namespace = bed.tenant("duplicates", true).await?;
        let begun = Instant::now();
        at_once(copies, 64, async |number| {
            let run = run(&format!("r{number}"), &operation_type, &json!({ "same": true }));
            api::create(&bed.client, &api::runs(&namespace), &run).await.map(drop)
        })
        .await?;
        let path = format!("{}?fieldSelector=status.phase!=running&limit=1", api::runs(&namespace));
        let running = async || {
            let others = api::get(&bed.client, &path).await?;
            Ok(others["items"].as_array().is_some_and(Vec::is_empty).then_some(()))
        };
        until("every copy to run or to have joined", Duration::from_mins(3), running).await?;
        let stub = Stub::start(&bed.as_job_controller, &operation_type, Duration::ZERO);
        bed.all_completed(std::slice::from_ref(&namespace), Duration::from_mins(3)).await?;
        seconds.push(begun.elapsed().as_secs_f64());
        drop(stub);
        tokio::time::sleep(Duration::from_secs(2)).await;

        let requests = audit::requests_of(&bed.operator(), &bed.audit_log, Some(&namespace))?;
        let wrote = |verb: &str, what: &str| {
            requests.iter().filter(|request| request.wrote() && request.verb == verb && request.what() == what).count()
        };
        let made = wrote("create", "jobs");
        jobs.push(count(made));
        // The winner's own writes are another row's; one more of them says that its Job has no pod yet.
        let runs = api::get(&bed.client, &api::runs(&namespace)).await?;
        let winners: Vec<&str> = runs["items"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|run| run["status"]["joined"].is_null())
            .filter_map(|run| run["metadata"]["name"].as_str())
            .collect();
        let of_duplicates = requests.iter().filter(|request| {
            request.wrote()
                && request.what() == "operationruns/status"
                && !winners.contains(&request.object_ref.name.as_str())
        });
        each.push(count(of_duplicates.count()) / count(copies - 1));
        labels.push(count(wrote("patch", "operationruns")) / count(copies));

        let begun = Instant::now();
        let mut job = bed.shell_job("true");
        job["apiVersion"] = "batch/v1".into();
        job["kind"] = "Job".into();
        job["metadata"] = json!({ "name": "one" });
        job["spec"]["managedBy"] = crate::stub::MANAGER.into();
        at_once(copies, 64, async |_| api::try_create(&bed.client, &api::jobs(&namespace), &job).await.map(drop))
            .await?;
        bare.push(begun.elapsed().as_secs_f64());
    }
    let most = |values: &[f64]| values.iter().copied().fold(0.0, f64::max);
    report.against("Jobs made, the most of all repetitions", most(&jobs), "", Target::AtMost(1.0));
    report.against(
        "status writes for each duplicate, the most of all repetitions",
        most(&each),
        "",
        Target::AtMost(2.0),
    );
    report.figure("label patches for each run", most(&labels), "");
    report.samples("ours: from the first create to the last end", "s", &seconds);
    report.samples("bare: creates of one Job's name", "s", &bare);
    Ok(report)
}
