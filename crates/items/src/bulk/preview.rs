//! Whether a preview can be applied. Pure; decided by the controller before there is a run, and again
//! by the worker.

use crate::{
    api::{BulkOperationRun, BulkOperationRunSpec, Outcome, Phase, Reason},
    eligible::{Ineligible, PreviewedPlan},
};

/// Returns what the preview made that a bulk operation names, if it names one. `preview` is the
/// object of that name.
pub fn previewed(
    spec: &BulkOperationRunSpec,
    preview: Option<&BulkOperationRun>,
) -> Result<Option<PreviewedPlan>, Ineligible> {
    let Some(named) = &spec.preview else { return Ok(None) };
    let name = &named.name;
    let no = |why: &str| {
        Err(Ineligible {
            reason: Reason::PreviewNotUsable,
            message: format!(
                "spec.preview: bulk operation {name} cannot be applied: {why}: name a completed one with dryRun: true, of the same kind and action"
            ),
        })
    };
    let Some(preview) = preview else { return no("it does not exist (the history limit may have deleted it)") };
    let status = preview.status_or_default();
    let made = matches!(status.outcome, Outcome::Succeeded | Outcome::PartiallySucceeded);
    if !preview.spec.dry_run {
        no("it is not a preview")
    } else if preview.spec.resource != spec.resource {
        no("it is of another kind")
    } else if preview.spec.action != spec.action {
        no("it is of another action")
    } else if status.phase != Phase::Completed {
        no("it is not completed")
    } else if let (true, Some(run), Some(digest)) = (made, status.operation_run, status.plan_digest) {
        named.rejects(&digest).map_or(Ok(Some(PreviewedPlan { run, digest })), |why| no(&why))
    } else {
        no("it made no plan")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ObjectReference;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn preview(change: impl FnOnce(&mut Value)) -> BulkOperationRun {
        let mut whole = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun", "metadata": {"name": "look"},
            "spec": {"resource": {"group": "apps", "kind": "Deployment"}, "action": "restart", "dryRun": true, "items": ["web"]},
            "status": {"phase": "completed", "outcome": "succeeded", "planDigest": "d",
                "operationRun": {"name": "look-bulk", "uid": "u"}},
        });
        change(&mut whole);
        serde_json::from_value(whole).expect("a BulkOperationRun")
    }

    #[test]
    fn a_completed_preview_of_the_same_kind_and_action_is_applied_and_no_other() {
        let apply: BulkOperationRunSpec = serde_json::from_value(json!({
            "resource": {"group": "apps", "kind": "Deployment"}, "action": "restart", "preview": {"name": "look"}}))
        .expect("a spec");
        let made =
            PreviewedPlan { run: ObjectReference { name: "look-bulk".into(), uid: "u".into() }, digest: "d".into() };
        let partial = preview(|preview| preview["status"]["outcome"] = json!("partially_succeeded"));
        for usable in [preview(|_| ()), partial] {
            assert_eq!(previewed(&apply, Some(&usable)), Ok(Some(made.clone())));
        }
        for (why, preview) in [
            ("it does not exist", None),
            ("not a preview", Some(preview(|preview| preview["spec"]["dryRun"] = json!(false)))),
            ("another kind", Some(preview(|preview| preview["spec"]["resource"]["kind"] = json!("DaemonSet")))),
            ("another kind", Some(preview(|preview| preview["spec"]["resource"]["group"] = json!("")))),
            ("another action", Some(preview(|preview| preview["spec"]["action"] = json!("scale")))),
            ("not completed", Some(preview(|preview| preview["status"]["phase"] = json!("running")))),
            ("made no plan", Some(preview(|preview| preview["status"]["outcome"] = json!("failed")))),
            ("made no plan", Some(preview(|preview| preview["status"]["planDigest"] = Value::Null))),
        ] {
            let refused = previewed(&apply, preview.as_ref()).expect_err(why);
            assert_eq!(refused.reason, Reason::PreviewNotUsable);
            assert!(refused.message.contains(why), "{} is not {why}", refused.message);
        }
    }
}
