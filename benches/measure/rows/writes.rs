//! Operator writes and reads for one successful run.

use super::{Plan, at_once};
use crate::bed::{Bed, run};
use crate::report::{Report, Target, count};
use crate::stub::Stub;
use crate::{Result, api, audit};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

pub async fn measure(bed: &Bed, plan: Plan) -> Result<Report> {
    let runs = plan.size(200, 20);
    let mut report = Report::new(
        "Operator writes for a successful run",
        format!(
            "{runs} distinct runs, then the same {runs} again, so that each finds a finished Job of its identity. All requests of the operator's \
             account in that namespace, from the audit log, events excepted. Every run has one label patch at its end, also one whose author wrote \
             labels: the outcome is a label, too (ADR 5)."
        ),
        plan.quick,
    );
    let namespace = bed.tenant("writes", true).await?;
    let operation_type = bed.stub_type("writes").await?;
    let _stub = Stub::start(&bed.as_job_controller, &operation_type, Duration::from_millis(100));
    let mut before = (0, 0, 0);
    for (round, name) in ["distinct", "where a finished Job of the identity is kept"].into_iter().enumerate() {
        at_once(runs, 8, async |number| {
            let run = run(&format!("r{round}-{number}"), &operation_type, &json!({ "n": number }));
            api::create(&bed.client, &api::runs(&namespace), &run).await.map(drop)
        })
        .await?;
        bed.all_completed(std::slice::from_ref(&namespace), Duration::from_mins(3)).await?;
        // The label patch follows the last status.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let requests = audit::requests_of(&bed.operator(), &bed.audit_log, Some(&namespace))?;
        // Onboarding's own requests are about accounts and bindings.
        let hot = requests.iter().filter(|request| {
            !matches!(request.object_ref.resource.as_str(), "serviceaccounts" | "rolebindings" | "events")
        });
        let (mut writes, mut reads, mut kinds) = (0, 0, BTreeMap::<String, usize>::new());
        for request in hot {
            writes += usize::from(request.wrote());
            reads += usize::from(request.read());
            *kinds.entry(format!("{} {}", request.verb, request.what())).or_default() += 1;
        }
        let each = count(writes - before.0) / count(runs);
        let labelled = kinds.get("patch operationruns").copied().unwrap_or_default();
        eprintln!("   {name}: {kinds:?}");
        let most = if round == 0 { 3.0 } else { 4.0 };
        let patches = count(labelled - before.2) / count(runs);
        report.against(format!("writes but the label patch, {name}"), each - patches, "", Target::AtMost(most));
        report.against(format!("label patches, {name}"), patches, "", Target::AtMost(1.0));
        report.against(format!("reads, {name}"), count(reads - before.1) / count(runs), "", Target::AtMost(0.0));
        before = (writes, reads, labelled);
    }
    Ok(report)
}
