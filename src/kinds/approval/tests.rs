//! What is decided about approvals, case by case.

use super::*;
use serde_json::{Value, json};

const DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

fn now() -> Timestamp {
    "2026-01-02T00:00:00Z".parse().expect("a time")
}

fn ada() -> Initiator {
    Initiator { username: "ada".into(), uid: Some("1".into()), groups: vec!["devs".into()] }
}

/// A workspace with these rules.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn workspace(rules: Value) -> Known {
    let workspace = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "shop"}, "spec": {"approvals": rules}}));
    Known { workspace: Some(Arc::new(workspace)), approval: None, of_all: None }
}

/// An approval that counts, but for this change.
fn approval(change: impl FnOnce(&mut Value)) -> Known {
    let mut whole = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Approval",
        "metadata": {"name": "restorerun-put-back", "namespace": "acme", "uid": "a-uid", "creationTimestamp": "2026-01-01T12:00:00Z"},
        "spec": {"for": {"kind": "RestoreRun", "name": "put-back", "uid": "r-uid"}, "planDigest": DIGEST,
            "approvedBy": {"username": "bob"}}});
    change(&mut whole);
    Known { workspace: None, approval: Some(Arc::new(read(whole))), of_all: None }
}

fn both(rules: Value) -> Known {
    Known { approval: approval(|_| {}).approval, ..workspace(rules) }
}

#[allow(clippy::unnecessary_wraps, reason = "as it is asked about")]
fn plan(changes: Option<i64>) -> Option<Plan> {
    Some(Plan { digest: DIGEST.into(), changes })
}

/// Decides about the restore `put-back` of ada.
fn verdict(terms: Option<Value>, plan: Option<Plan>, known: &Known) -> Verdict {
    let (terms, ada) = (terms.map(read::<ApprovalTerms>), ada());
    let asked = Asked {
        kind: ApprovedKind::RestoreRun,
        operation: ApprovedType::Restore,
        object: ObjectReference { name: "put-back".into(), uid: "r-uid".into() },
        namespace: "acme",
        workspace: None,
        requester: &ada,
        terms: terms.as_ref(),
        plan,
    };
    decide(&asked, known, now())
}

/// Decides about one that needs an approval by its own field.
fn with(known: &Known) -> Verdict {
    verdict(Some(json!({})), plan(Some(7)), known)
}

fn message(verdict: Verdict) -> String {
    match verdict {
        Verdict::Awaited { digest, message } if digest == DIGEST => message,
        other => panic!("it does not wait: {other:?}"),
    }
}

#[test]
fn what_needs_no_approval_starts_whatever_approval_there_is() {
    for known in [Known::default(), both(json!([]))] {
        for plan in [None, plan(Some(7))] {
            assert_eq!(verdict(None, plan.clone(), &known), Verdict::Free);
            assert_eq!(verdict(Some(json!({"required": false})), plan, &known), Verdict::Free);
        }
    }
}

#[test]
fn what_waits_says_for_which_plan_and_gives_a_command_that_approves_it() {
    let message = message(with(&Known::default()));
    for words in
        ["somebody else than ada", DIGEST, "spec.approval requires", "operationtypes.tenantatlas.io/restore.apply"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    let manifest = message.split_once("echo '").and_then(|(_, rest)| rest.split_once("' | kubectl create -n acme"));
    let made: Approval = serde_json::from_str(manifest.expect("a command").0).expect("a manifest");
    assert_eq!(made.name_any(), "restorerun-put-back");
    assert_eq!((made.spec.approves.uid.as_str(), made.spec.plan_digest.as_str()), ("r-uid", DIGEST));
}

#[test]
fn somebody_elses_approval_of_this_plan_lets_it_start_and_is_named() {
    let consent = Consent {
        name: "restorerun-put-back".into(),
        uid: "a-uid".into(),
        plan_digest: DIGEST.into(),
        approved_by: Approver { username: "bob".into(), uid: None },
        workspace_run: None,
    };
    assert_eq!(with(&approval(|_| {})), Verdict::Given(consent));
    let other = approval(|approval| approval["spec"]["approvedBy"]["uid"] = json!("2"));
    assert!(matches!(with(&other), Verdict::Given(_)), "another uid");
}

#[test]
fn what_an_approved_workspace_run_created_needs_no_other_approval_and_names_that_one_with_its_own_plan() {
    let of_all = Consent {
        name: "workspacerun-all".into(),
        uid: "a-uid".into(),
        plan_digest: "f".repeat(64),
        approved_by: Approver { username: "bob".into(), uid: None },
        workspace_run: Some("all".into()),
    };
    let known = Known { of_all: Some(of_all.clone()), ..workspace(json!([{"types": ["restore.apply"]}])) };
    let wanted = Consent { plan_digest: DIGEST.into(), ..of_all };
    assert_eq!(verdict(None, plan(Some(7)), &known), Verdict::Given(wanted));
    assert!(matches!(verdict(None, None, &known), Verdict::Refused(_)), "without a preview nothing was approved");
}

#[test]
fn no_other_approval_counts_and_the_message_says_why() {
    type Change = fn(&mut Value);
    let cases: [(Change, &str); 11] = [
        (|approval| approval["spec"]["for"]["kind"] = json!("BulkOperationRun"), "another object"),
        (|approval| approval["spec"]["for"]["name"] = json!("other"), "another object"),
        (|approval| approval["spec"]["for"]["uid"] = json!("old"), "an earlier RestoreRun of this name"),
        (|approval| approval["metadata"]["deletionTimestamp"] = json!("2026-01-01T13:00:00Z"), "being deleted"),
        (|approval| approval["spec"]["approvedBy"] = Value::Null, "does not say who"),
        (|approval| approval["spec"]["approvedBy"]["username"] = json!(""), "does not say who"),
        (|approval| approval["spec"]["approvedBy"]["username"] = json!("ada"), "by the requester, ada"),
        // The same person under another name.
        (|approval| approval["spec"]["approvedBy"]["uid"] = json!("1"), "by the requester, bob"),
        (
            |approval| approval["spec"]["approvedBy"]["username"] = json!("system:serviceaccount:acme:ci"),
            "an account of this namespace",
        ),
        (|approval| approval["spec"]["planDigest"] = json!("0".repeat(64)), "another plan, 0000"),
        (
            |approval| approval["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z"),
            "older than 86400 seconds",
        ),
    ];
    for (change, words) in cases {
        let message = message(with(&approval(change)));
        assert!(message.contains(words), "{words}: {message}");
        assert!(message.contains("kubectl delete approval restorerun-put-back -n acme"), "{message}");
    }
    let foreign =
        approval(|approval| approval["spec"]["approvedBy"]["username"] = json!("system:serviceaccount:acme-2:ci"));
    assert!(matches!(with(&foreign), Verdict::Given(_)), "an account of another namespace");
}

#[test]
fn the_shortest_validity_of_all_that_require_it_counts() {
    // The approval is twelve hours old.

    let rule = |seconds: Value| json!([{"types": ["restore.apply"], "validSeconds": seconds}]);
    let given =
        |terms: Value, rules: Value| matches!(verdict(Some(terms), plan(Some(7)), &both(rules)), Verdict::Given(_));
    assert!(given(json!({}), json!([])));
    assert!(!given(json!({"validSeconds": 43_200}), json!([])));
    assert!(given(json!({"validSeconds": 43_201}), json!([])));
    assert!(!given(json!({"validSeconds": 90_000}), rule(json!(3600))));
    assert!(!given(json!({"validSeconds": 3600}), rule(Value::Null)));
}

#[test]
fn a_rule_of_the_workspace_applies_by_type_and_size_and_the_message_names_it() {
    let bulk = json!({"types": ["bulk.apply"]});
    let many = json!({"types": ["bulk.apply", "restore.apply"], "minItems": 8});
    assert_eq!(verdict(None, plan(Some(9)), &workspace(json!([bulk]))), Verdict::Free);
    assert_eq!(verdict(None, plan(Some(7)), &workspace(json!([bulk, many]))), Verdict::Free);
    for changes in [Some(8), None] {
        let message = message(verdict(None, plan(changes), &workspace(json!([bulk, many]))));
        assert!(message.contains("spec.approvals[1] of workspace shop requires"), "{message}");
    }
    let any = workspace(json!([{"types": ["restore.apply"]}]));
    assert_eq!(verdict(None, plan(Some(0)), &any), Verdict::Free, "it changes nothing");
    let two = message(verdict(Some(json!({})), plan(Some(1)), &any));
    assert!(two.contains("spec.approval and spec.approvals[0] of workspace shop"), "{two}");
}

#[test]
fn without_a_preview_there_is_nothing_to_approve() {
    let many = both(json!([{"types": ["restore.apply"], "minItems": 500}]));
    let Verdict::Refused(refusal) = verdict(None, None, &many) else { panic!("not refused") };
    assert_eq!(refusal.reason, Reason::ApprovalNeedsPreview);
    for words in ["make a dry run first", "RestoreRun whose preview", "spec.approvals[0] of workspace shop"] {
        assert!(refusal.message.contains(words), "{words}: {}", refusal.message);
    }
}
