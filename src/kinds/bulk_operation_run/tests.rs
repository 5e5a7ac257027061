//! What is decided about a bulk operation, case by case.

use super::decide::{Action, Observed, decide, is_of, refused, run_names, started};
use crate::{
    api::{
        Approval, BackupSet, BulkOperationRun, BulkOperationRunStatus, ObjectReference, OperationRun, Outcome, Phase,
        Workspace,
        identity::Identity,
        operations::{BulkCaptureInputs, BulkDeleteInputs, BulkDeletePreviewInputs, BulkInputs},
        provenance::AuditReferences,
    },
    kinds::approval::Known,
    kinds::made_for::{RunView, over_quota, run_refused},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn bulk(spec: Value, status: Value) -> BulkOperationRun {
    let mut whole = json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "restart",
        "items": ["web"], "requestedBy": {"username": "ada"}});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun",
        "metadata": {"name": "again", "namespace": "acme", "uid": "0123456789", "generation": 1},
        "spec": whole, "status": status
    }))
}

fn observed(bulk: BulkOperationRun) -> Observed {
    let name = run_names(&bulk)[0].clone();
    Observed {
        bulk: Arc::new(bulk),
        is_tenant: true,
        terminating: false,
        run: RunView::None(name),
        late: None,
        preview: None,
        approval: Known::default(),
        undo: None,
        audit: Vec::new(),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn run(status: Value) -> OperationRun {
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
        "metadata": {"name": "again-bulk", "namespace": "acme", "uid": "run-uid"},
        "spec": {"type": "bulk.apply", "inputs": {"bulkOperationRun": {"name": "again", "uid": "0123456789"}}},
        "status": status
    }))
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn following(spec: Value, status: Value) -> Observed {
    Observed { run: RunView::Found(Box::new(run(status))), ..observed(bulk(spec, json!({}))) }
}

fn written(actions: &[Action]) -> BulkOperationRunStatus {
    match actions.last() {
        Some(Action::WriteStatus(status)) => (**status).clone(),
        other => panic!("no status is written: {other:?}"),
    }
}

fn end(observed: &Observed) -> (Outcome, String, String) {
    let status = written(&decide(observed, now()));
    assert_eq!((status.phase, status.completed_at), (Phase::Completed, Some(now())));
    (status.outcome, status.reason.unwrap_or_default(), status.message.unwrap_or_default())
}

#[test]
fn a_bulk_operation_starts_one_run_in_the_name_of_who_asked_and_owns_it() {
    let actions = decide(&observed(bulk(json!({}), json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!((run.metadata.name.as_deref(), run.spec.operation_type.as_str()), (Some("again-bulk"), "bulk.apply"));
    assert_eq!(run.spec.initiator.as_ref().map(|initiator| initiator.username.as_str()), Some("ada"));
    let inputs = run.spec.inputs.parse();
    assert_eq!(Value::Object(inputs.clone()), json!({"bulkOperationRun": {"name": "again", "uid": "0123456789"}}));
    let owner = &run.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("BulkOperationRun", "0123456789"));
    let job = Identity::new("tenant", &run.spec.operation_type, None, "account", &inputs, None).job_name();
    assert!(job.ends_with("-bulk"), "its pod may write audit entries: {job}");
    let status = started(&bulk(json!({}), json!({})), run, now());
    assert_eq!((status.phase, status.outcome), (Phase::Queued, Outcome::Pending));
}

#[test]
fn its_run_waits_in_the_queue_as_long_as_the_bulk_operation_says() {
    let actions = decide(&observed(bulk(json!({"queueTimeoutSeconds": 60}), json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.queue_timeout_seconds, Some(60));
}

#[test]
fn a_run_is_its_own_by_its_type_and_the_uid_in_its_inputs() {
    let own = bulk(json!({}), json!({}));
    assert!(is_of(&run(json!({})), &own));
    let mut other = run(json!({}));
    other.spec.operation_type = "backup.capture".to_owned();
    assert!(!is_of(&other, &own));
    let mut reborn = own.clone();
    reborn.metadata.uid = Some("9".to_owned());
    assert!(!is_of(&run(json!({})), &reborn));
    assert_eq!(run_names(&own), ["again-bulk", "again-bulk-01234567"]);
}

#[test]
fn what_cannot_be_done_is_blocked_before_there_is_a_run() {
    let mut foreign = observed(bulk(json!({}), json!({})));
    foreign.is_tenant = false;
    assert_eq!(end(&foreign).1, "NotATenant");
    for (spec, reason, words) in [
        (json!({"requestedBy": null}), "NoRequester", "spec.requestedBy"),
        (json!({"action": "suspend"}), "InvalidBulkOperation", "not for Deployment.apps"),
        (
            json!({"action": "label", "options": {"set": {"tenantatlas.io/a": "b"}}}),
            "InvalidBulkOperation",
            "tenantatlas.io",
        ),
        (
            json!({"action": "label", "options": {"remove": ["kubernetes.io/a"]}}),
            "InvalidBulkOperation",
            "kubernetes.io",
        ),
        (
            json!({"resource": {"group": "tenantatlas.io", "kind": "BackupSet"}}),
            "InvalidBulkOperation",
            "no bulk operation works on",
        ),
    ] {
        let (outcome, code, message) = end(&observed(bulk(spec.clone(), json!({}))));
        assert_eq!((outcome, code.as_str()), (Outcome::Blocked, reason), "{spec}");
        assert!(message.contains(words), "{message}");
    }
    let taken = Observed { run: RunView::Taken, ..observed(bulk(json!({}), json!({}))) };
    assert_eq!(end(&taken).1, "RunNameTaken");
    let refusals = [
        over_quota::<OperationRun>("says no", "acme", "bulk operation"),
        run_refused::<OperationRun>("says no", "bulk operation"),
    ];
    for (refusal, reason) in refusals.iter().zip(["QuotaExceeded", "RunRefused"]) {
        let Action::WriteStatus(status) = refused(&taken, refusal, now()) else { panic!("no status") };
        assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Blocked, Some(reason)));
        assert!(status.message.is_some_and(|message| message.contains("says no")));
    }
}

#[test]
fn a_cancelled_one_never_starts_and_a_running_one_is_cancelled_once() {
    let cancel = json!({"cancel": true});
    assert_eq!(end(&observed(bulk(cancel.clone(), json!({})))).1, "Cancelled");
    let running = following(cancel, json!({"phase": "running", "outcome": "pending"}));
    let actions = decide(&running, now());
    let reference = ObjectReference { name: "again-bulk".into(), uid: "run-uid".into() };
    assert_eq!(actions[0], Action::Cancel(reference));
    assert_eq!(written(&actions).phase, Phase::Running);
    let RunView::Found(mut run) = running.run.clone() else { panic!("a run") };
    run.spec.cancel = true;
    let passed_on = Observed { run: RunView::Found(run), ..running };
    assert_eq!(decide(&passed_on, now()).len(), 1, "the cancellation is passed on already");
}

#[test]
fn the_end_is_that_of_the_run_with_its_counts_failures_and_audit_entries() {
    let failure = json!({"itemId": "apps/Deployment/web", "reasonCode": "Moved", "message": "why", "type": "failure"});
    let status = written(&decide(
        &following(
            json!({}),
            json!({"phase": "completed", "outcome": "partially_succeeded", "reason": "PartiallySucceeded", "message": "some",
                "summaryCounts": {"total": 3, "processed": 3, "succeeded": 2, "failed": 1, "skipped": 0},
                "failures": [failure], "failuresTruncated": true,
                "context": {"audit": {"intent": "000000000001", "outcome": "000000000002"}}}),
        ),
        now(),
    ));
    assert_eq!((status.phase, status.outcome), (Phase::Completed, Outcome::PartiallySucceeded));
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("PartiallySucceeded"), Some("some")));
    assert_eq!(status.counts.map(|counts| (counts.succeeded, counts.failed)), Some((2, 1)));
    assert_eq!((status.failures[0].item_id.as_str(), status.failures_truncated), ("apps/Deployment/web", true));
    let audit = AuditReferences { intent: "000000000001".into(), outcome: Some("000000000002".into()) };
    assert_eq!(status.audit, Some(audit));
    assert!(status.conditions.iter().any(|condition| condition.type_ == "Partial" && condition.status == "True"));
}

#[test]
fn a_run_that_is_gone_ends_it_with_what_the_audit_chain_says() {
    let mut gone = Observed { run: RunView::Gone, ..observed(bulk(json!({}), json!({}))) };
    gone.audit = vec![read(json!({
        "name": "000000000007", "namespace": "acme", "previous": "", "event": "intent", "at": "2026-01-01T00:00:00Z",
        "who": {"username": "ada"}, "operationType": "bulk.apply", "pod": "op-1-bulk-x",
        "run": {"name": "again-bulk", "uid": "run-uid"}, "planDigest": "e".repeat(64),
    }))];
    let status = written(&decide(&gone, now()));
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("RunDeleted")));
    assert_eq!(status.audit, Some(AuditReferences { intent: "000000000007".into(), outcome: None }));
}

#[test]
fn nothing_is_written_once_it_is_completed_or_its_namespace_goes() {
    let done = following(json!({}), json!({"phase": "completed", "outcome": "succeeded", "reason": "Succeeded"}));
    let status = written(&decide(&done, now()));
    let mut completed = (*done.bulk).clone();
    completed.status = Some(status);
    assert_eq!(decide(&Observed { bulk: Arc::new(completed), ..done.clone() }, now()), []);
    assert_eq!(decide(&Observed { terminating: true, ..done }, now()), []);
}

#[test]
fn a_second_pass_over_a_run_that_goes_on_changes_nothing() {
    let running = following(json!({}), json!({"phase": "running", "outcome": "pending"}));
    let status = written(&decide(&running, now()));
    let mut seen = (*running.bulk).clone();
    seen.status = Some(status.clone());
    let later = now() + jiff::SignedDuration::from_mins(1);
    assert_eq!(written(&decide(&Observed { bulk: Arc::new(seen), ..running }, later)), status);
}

#[test]
fn a_dry_run_starts_a_preview_and_what_it_made_is_in_the_status() {
    let look = json!({"dryRun": true});
    let actions = decide(&observed(bulk(look.clone(), json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.operation_type, "bulk.preview");
    let plan = json!({"digest": "d".repeat(64), "summary": {"update": 3}});
    let ended = json!({"phase": "completed", "outcome": "succeeded", "context": {"plan": plan}});
    let status = written(&decide(&following(look, ended.clone()), now()));
    assert_eq!(status.preview.map(|summary| summary.update), Some(3));
    assert_eq!(status.plan_digest, Some("d".repeat(64)));
    let status = written(&decide(&following(json!({}), ended), now()));
    assert_eq!((status.preview, status.plan_digest), (None, Some("d".repeat(64))));
}

#[test]
fn only_a_completed_preview_is_applied() {
    let apply = json!({"items": [], "preview": {"name": "look"}});
    let mut observed = observed(bulk(apply, json!({})));
    assert_eq!(end(&observed).1, "PreviewNotUsable");
    let made = json!({"phase": "completed", "outcome": "succeeded", "planDigest": "d",
        "operationRun": {"name": "look-bulk", "uid": "u"}});
    observed.preview = Some(Arc::new(bulk(json!({"dryRun": true}), made)));
    let actions = decide(&observed, now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.operation_type, "bulk.apply");
}

#[test]
fn a_preview_with_another_plan_than_the_expected_one_is_not_applied() {
    let made = json!({"phase": "completed", "outcome": "succeeded", "planDigest": "d".repeat(64),
        "operationRun": {"name": "look-bulk", "uid": "u"}});
    let expects = |digest: &str| {
        let preview = json!({"name": "look", "planDigest": digest.repeat(64)});
        let mut look = bulk(json!({"dryRun": true}), made.clone());
        // As it is cached.
        crate::kernel::slim::Slim::slim(&mut look);
        let apply = bulk(json!({"items": [], "preview": preview}), json!({}));
        Observed { preview: Some(Arc::new(look)), ..observed(apply) }
    };
    let (_, reason, message) = end(&expects("e"));
    assert_eq!(reason, "PreviewNotUsable");
    assert!(message.contains("spec.preview.planDigest"), "{message}");
    let mut same = expects("d");
    assert!(matches!(decide(&same, now()).as_slice(), [Action::Start(_)]));
    same.late = Some("all".to_owned());
    assert_eq!(end(&same).1, "CreatedLate");
}

#[test]
fn a_bulk_operation_that_needs_an_approval_waits_for_it_and_a_rule_blocks_one_without_a_preview() {
    let mut look = bulk(
        json!({"dryRun": true}),
        json!({"phase": "completed", "outcome": "succeeded", "planDigest": "d".repeat(64), "preview": {"update": 7},
            "operationRun": {"name": "look-bulk", "uid": "u"}}),
    );
    // As it is cached.
    crate::kernel::slim::Slim::slim(&mut look);
    let look = Some(Arc::new(look));
    let rule = |least: i64| -> Known {
        let rules = json!([{"types": ["bulk.apply"], "minItems": least}]);
        let workspace: Workspace = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
            "metadata": {"name": "shop"}, "spec": {"approvals": rules}}));
        Known { workspace: Some(Arc::new(workspace)), approval: None, of_all: None }
    };
    let applies =
        || Observed { preview: look.clone(), ..observed(bulk(json!({"preview": {"name": "look"}}), json!({}))) };
    let own = bulk(json!({"preview": {"name": "look"}, "approval": {"required": true}}), json!({}));
    let own = Observed { bulk: Arc::new(own), ..applies() };
    for waits in [&own, &Observed { approval: rule(7), ..applies() }] {
        let status = written(&decide(waits, now()));
        assert_eq!((status.phase, status.reason.as_deref()), (Phase::Queued, Some("AwaitingApproval")));
        assert_eq!((status.plan_digest, status.operation_run), (Some("d".repeat(64)), None));
    }
    let actions = decide(&Observed { approval: rule(8), ..applies() }, now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.inputs.get("planDigest"), Some(json!("d".repeat(64))), "the rule was asked about that plan");
    let (outcome, code, _) = end(&Observed { approval: rule(8), ..observed(bulk(json!({}), json!({}))) });
    assert_eq!((outcome, code.as_str()), (Outcome::Blocked, "ApprovalNeedsPreview"));

    let mut approved = own;
    let approval: Approval = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Approval",
        "metadata": {"name": "bulkoperationrun-again", "namespace": "acme", "uid": "a", "creationTimestamp": now()},
        "spec": {"for": {"kind": "BulkOperationRun", "name": "again", "uid": "0123456789"}, "planDigest": "d".repeat(64),
            "approvedBy": {"username": "bob"}}}));
    approved.approval.approval = Some(Arc::new(approval));
    let actions = decide(&approved, now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    let inputs: BulkInputs = serde_json::from_value(Value::Object(run.spec.inputs.parse())).expect("inputs");
    assert_eq!(inputs.approval.map(|approval| approval.approved_by.username).as_deref(), Some("bob"));
}

/// A preview of a deletion, as it is cached.
fn previewed_deletion() -> BulkOperationRun {
    let mut look = bulk(
        json!({"action": "delete", "dryRun": true, "options": {"repository": "main", "allowDataLoss": true}}),
        json!({"phase": "completed", "outcome": "succeeded", "planDigest": "d".repeat(64), "preview": {"delete": 7},
            "operationRun": {"name": "look-bulk", "uid": "u"}}),
    );
    crate::kernel::slim::Slim::slim(&mut look);
    look
}

#[test]
fn a_deletion_is_previewed_and_done_in_the_repository_that_the_preview_names() {
    let fields = json!({"action": "delete", "dryRun": true, "options": {"repository": "main"}});
    let actions = decide(&observed(bulk(fields, json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.operation_type, "bulk.delete.preview");
    let inputs: Result<BulkDeletePreviewInputs, _> = serde_json::from_value(Value::Object(run.spec.inputs.parse()));
    assert_eq!(inputs.expect("inputs").repository, "main");

    let apply = bulk(json!({"action": "delete", "preview": {"name": "look"}}), json!({}));
    let applies = Observed { preview: Some(Arc::new(previewed_deletion())), ..observed(apply) };
    let actions = decide(&applies, now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.operation_type, "bulk.delete");
    let inputs = run.spec.inputs.parse();
    let read: BulkDeleteInputs = serde_json::from_value(Value::Object(inputs.clone())).expect("inputs");
    assert_eq!((read.repository.as_str(), read.plan_digest), ("main", Some("d".repeat(64))));
    let job = Identity::new("tenant", "bulk.delete", None, "account", &inputs, None).job_name();
    assert!(job.ends_with("-delete"), "its pod may record what undoes it: {job}");

    let without = bulk(json!({"action": "delete", "dryRun": true}), json!({}));
    let (outcome, code, message) = end(&observed(without));
    assert_eq!((outcome, code.as_str()), (Outcome::Blocked, "InvalidBulkOperation"));
    assert!(message.contains("spec.options.repository"), "{message}");
}

#[test]
fn a_capture_starts_a_run_that_names_the_objects_and_takes_no_approval() {
    let rule: Workspace = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "shop"}, "spec": {"approvals": [{"types": ["bulk.apply"]}]}}));
    let fields = json!({"action": "capture", "items": ["web", "api"], "options": {"repository": "main"}});
    let wanted = Observed {
        approval: Known { workspace: Some(Arc::new(rule)), approval: None, of_all: None },
        ..observed(bulk(fields, json!({})))
    };
    let actions = decide(&wanted, now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.operation_type, "bulk.capture");
    assert!(is_of(run, &wanted.bulk));
    let inputs: BulkCaptureInputs = serde_json::from_value(Value::Object(run.spec.inputs.parse())).expect("inputs");
    assert_eq!((inputs.repository.as_str(), inputs.bulk_operation_run.uid.as_str()), ("main", "0123456789"));
    assert_eq!(inputs.selection.include_kinds, ["Deployment.apps"]);
    assert_eq!(inputs.selection.include_names, ["web", "api"]);
    let without = observed(bulk(json!({"action": "capture"}), json!({})));
    let (outcome, code, message) = end(&without);
    assert_eq!((outcome, code.as_str()), (Outcome::Blocked, "InvalidBulkOperation"));
    assert!(message.contains("spec.options.repository"), "{message}");
}

#[test]
fn the_backup_set_of_a_capture_is_named_in_its_status() {
    let ended = json!({"phase": "completed", "outcome": "succeeded", "reason": "Succeeded",
        "context": {"backupSet": "again-bulk"}});
    let capture = json!({"action": "capture", "options": {"repository": "main"}});
    let status = written(&decide(&following(capture, ended.clone()), now()));
    assert_eq!((status.backup_set.as_deref(), status.undo_backup_set), (Some("again-bulk"), None));
    assert_eq!(written(&decide(&following(json!({}), ended), now())).backup_set, None, "of a capture alone");
}

#[test]
fn an_export_starts_a_run_whose_pod_may_write_one_config_map_which_is_named_in_the_status() {
    let spec = json!({"action": "export", "resource": {"kind": "ConfigMap"}});
    let actions = decide(&observed(bulk(spec.clone(), json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.operation_type, "bulk.export");
    let inputs = run.spec.inputs.parse();
    assert_eq!(Value::Object(inputs.clone()), json!({"bulkOperationRun": {"name": "again", "uid": "0123456789"}}));
    let job = Identity::new("tenant", "bulk.export", None, "account", &inputs, None).job_name();
    assert!(job.ends_with("-export"), "{job}");
    let ended = json!({"phase": "completed", "outcome": "succeeded", "reason": "Succeeded",
        "context": {"configMap": "again-bulk", "configMapDigest": "d".repeat(64)}});
    let status = written(&decide(&following(spec, ended.clone()), now()));
    assert_eq!((status.config_map.as_deref(), status.backup_set), (Some("again-bulk"), None));
    assert_eq!(status.config_map_digest, Some("d".repeat(64)));
    let status = written(&decide(&following(json!({}), ended), now()));
    assert_eq!((status.config_map, status.config_map_digest), (None, None), "of an export alone");
    let secrets = observed(bulk(json!({"action": "export", "resource": {"kind": "Secret"}}), json!({})));
    let (outcome, code, message) = end(&secrets);
    assert_eq!((outcome, code.as_str()), (Outcome::Blocked, "InvalidBulkOperation"));
    assert!(message.contains("Secrets are not exported"), "{message}");
}

#[test]
fn a_rule_about_deletions_is_about_no_other_action_and_one_about_bulk_operations_is_about_deletions_too() {
    let known = |rule: &str| -> Known {
        let workspace: Workspace = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
            "metadata": {"name": "shop"}, "spec": {"approvals": [{"types": [rule]}]}}));
        Known { workspace: Some(Arc::new(workspace)), approval: None, of_all: None }
    };
    let apply = |rule: &str| {
        let spec = json!({"action": "delete", "preview": {"name": "look"}});
        Observed {
            preview: Some(Arc::new(previewed_deletion())),
            approval: known(rule),
            ..observed(bulk(spec, json!({})))
        }
    };
    for rule in ["bulk.delete", "bulk.apply"] {
        let status = written(&decide(&apply(rule), now()));
        assert_eq!((status.phase, status.reason.as_deref()), (Phase::Queued, Some("AwaitingApproval")), "{rule}");
    }
    assert!(matches!(decide(&apply("restore.apply"), now()).as_slice(), [Action::Start(_)]));
    let label = Observed { approval: known("bulk.delete"), ..observed(bulk(json!({}), json!({}))) };
    assert!(matches!(decide(&label, now()).as_slice(), [Action::Start(_)]));
}

#[test]
fn the_set_that_brings_the_objects_back_is_named_and_settled_though_the_run_is_gone() {
    let set: BackupSet = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
        "metadata": {"name": "again-bulk", "namespace": "acme"},
        "spec": {"repository": {"name": "main"}, "snapshot": "a", "run": {"name": "again-bulk", "uid": "run-uid"},
            "namespaceUid": "n", "coverage": "partial"}}));
    let spec = json!({"action": "delete", "preview": {"name": "look"}});
    let ended = json!({"phase": "completed", "outcome": "succeeded", "reason": "Succeeded"});
    let gone = Observed { run: RunView::Gone, ..observed(bulk(spec.clone(), json!({}))) };
    for mut seen in [gone, following(spec, ended)] {
        seen.undo = Some(set.clone());
        let actions = decide(&seen, now());
        assert!(matches!(&actions[0], Action::SettleUndo(settled) if settled.metadata == set.metadata), "{actions:?}");
        assert_eq!(written(&actions).undo_backup_set.as_deref(), Some("again-bulk"));
    }
}
