//! Approvals of workspace runs: one, of the plans of all tenants.

use super::previews::{after, apply, deletion, preview_of_deletion};
use super::*;
use crate::api::Approval;

/// The workspace with a rule about deletions of at least so many objects, and an approval if one is given.
fn known(min_items: i64, approval: Option<Value>) -> Known {
    let mut workspace = workspace();
    workspace.spec.approvals = read(json!([{"types": ["bulk.delete"], "minItems": min_items}]));
    Known {
        workspace: Some(Arc::new(workspace)),
        approval: approval.map(|approval| Arc::new(read::<Approval>(approval))),
        of_all: None,
    }
}

/// Bob's approval.
fn approval(digest: &str, workspace: &str) -> Value {
    json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Approval",
        "metadata": {"name": "workspacerun-then", "namespace": "tenantatlas-system", "uid": "a-uid",
            "creationTimestamp": "2025-12-31T23:00:00Z"},
        "spec": {"for": {"kind": "WorkspaceRun", "name": "then", "uid": "abcdefghijk", "workspace": workspace},
            "planDigest": digest, "approvedBy": {"username": "bob"}}})
}

#[test]
fn one_that_needs_an_approval_waits_for_one_of_all_plans_and_then_names_it() {
    let preview = preview_of_deletion();
    let digest = status(&preview).plan_digest.expect("a digest");
    let mut own = after(apply(json!({"approval": {"required": true}})), &preview);
    let mut by_rule = Observed { approval: known(5, None), ..after(apply(json!({})), &preview) };
    for waits in [&mut own, &mut by_rule] {
        let first = decide(waits, now());
        assert!(first.start.is_empty() && first.requeue.is_none(), "{first:?}");
        carry_out(waits, &first);
        let said = status(waits);
        assert_eq!((said.phase, said.reason.as_deref()), (Phase::Queued, Some("AwaitingApproval")));
        assert_eq!((said.plan_digest.as_deref(), said.started_at), (Some(digest.as_str()), None));
        let message = said.message.expect("a message");
        let words = ["somebody else than ada", "the verb approve on workspaces.tenantatlas.io/shop"];
        assert!(words.iter().all(|words| message.contains(words)), "{message}");
        let manifest = message.split_once("echo '").and_then(|(_, rest)| rest.split_once("' | kubectl create"));
        let (manifest, rest) = manifest.expect("a command");
        assert!(rest.starts_with(" -n tenantatlas-system"), "{rest}");
        let mut made: Value = serde_json::from_str(manifest).expect("a manifest");
        made["metadata"]["creationTimestamp"] = json!("2025-12-31T23:00:00Z");
        made["spec"]["approvedBy"] = json!({"username": "bob"});
        assert_eq!(decide(waits, later(60)), Decision::default(), "nothing has changed");
        waits.approval = Known { approval: Some(Arc::new(read::<Approval>(made))), ..waits.approval.clone() };
        let second = pass(waits, later(90));
        assert_eq!(started(&second), ["t-00000", "t-00001"]);
        let given = status(waits).approval.expect("the approval");
        assert_eq!((given.approved_by.username.as_str(), given.plan_digest.as_str()), ("bob", digest.as_str()));
        assert_eq!(given.workspace_run.as_deref(), Some("then"));
    }
}

#[test]
fn what_a_rule_applies_to_is_counted_over_all_tenants_and_is_blocked_without_a_preview() {
    let preview = preview_of_deletion();
    let mut small = Observed { approval: known(6, None), ..after(apply(json!({})), &preview) };
    assert_eq!(started(&pass(&mut small, now())).len(), 2, "five objects are deleted");
    assert_eq!(status(&small).approval, None);
    let mut look =
        Observed { approval: known(1, None), ..observed(json!({"bulk": deletion(), "dryRun": true}), tenants(2)) };
    assert_eq!(started(&pass(&mut look, now())).len(), 2, "a dry run needs none");
    let label = json!({"bulk": {"resource": {"kind": "Pod"}, "action": "label", "labelSelector": "a=b",
        "options": {"set": {"a": "b"}}}});
    let mut rules = known(1, None);
    let mut workspace = workspace();
    workspace.spec.approvals = read(json!([{"types": ["bulk.apply"], "minItems": 100}]));
    rules.workspace = Some(Arc::new(workspace));
    let mut blind = Observed { approval: rules, ..observed(label, tenants(2)) };
    assert!(pass(&mut blind, now()).start.is_empty());
    let said = status(&blind);
    assert_eq!((said.outcome, said.reason.as_deref()), (Outcome::Blocked, Some("ApprovalNeedsPreview")));
}

#[test]
fn an_approval_of_another_preview_or_for_another_workspace_does_not_count() {
    let preview = preview_of_deletion();
    let digest = status(&preview).plan_digest.expect("a digest");
    for (approval, why) in [
        (approval(&"0".repeat(64), "shop"), "is of another plan"),
        (approval(&digest, "other"), "is for another workspace"),
    ] {
        let mut waits = Observed { approval: known(1, Some(approval)), ..after(apply(json!({})), &preview) };
        assert!(pass(&mut waits, now()).start.is_empty());
        let message = status(&waits).message.expect("a message");
        assert!(message.contains(why), "{message}");
    }
    let mut good =
        Observed { approval: known(1, Some(approval(&digest, "shop"))), ..after(apply(json!({})), &preview) };
    assert_eq!(started(&pass(&mut good, now())).len(), 2);
}

#[test]
fn one_that_waits_for_an_approval_is_cancelled_before_it_starts() {
    let preview = preview_of_deletion();
    let mut waits = Observed { approval: known(1, None), ..after(apply(json!({})), &preview) };
    pass(&mut waits, now());
    let mut run = (*waits.run).clone();
    run.spec.cancel = true;
    waits.run = Arc::new(run);
    pass(&mut waits, later(60));
    let said = status(&waits);
    assert_eq!((said.phase, said.reason.as_deref()), (Phase::Completed, Some("Cancelled")));
}
