//! What is decided about a restore, case by case.

use super::account::{AccountView, needed};
use super::decide::{Action, Observed, awaits_approval, decide, is_of, refused, run_names, started};
use super::finding::backup_set;
use crate::api::{
    Approval, BackupRepository, BackupSet, Finding, ObjectReference, OperationRun, Outcome, Phase, RestoreRun,
    RestoreRunStatus, audit_entry::AuditRecord, backup_set::Content, identity::Identity, operation_run::Trigger,
    provenance::AuditReferences,
};
use crate::kinds::approval::Known;
use crate::kinds::made_for::{RunView, over_quota, run_refused};
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
fn restore(spec: Value, status: Value) -> RestoreRun {
    let mut whole = json!({"backupSet": {"name": "nightly"}, "requestedBy": {"username": "ada"}});
    let fields = spec.as_object().expect("an object").clone();
    whole.as_object_mut().expect("an object").extend(fields);
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "RestoreRun",
        "metadata": {"name": "put-back", "namespace": "acme", "uid": "0123456789", "generation": 1},
        "spec": whole, "status": status
    }))
}

fn set(namespace_uid: &str) -> BackupSet {
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "metadata": {"name": "nightly", "namespace": "acme"},
        "spec": {"repository": {"name": "main"}, "snapshot": "a".repeat(64), "run": {"name": "nightly", "uid": "run"},
            "namespaceUid": namespace_uid, "coverage": "full"}
    }))
}

fn repository(adopted: &[&str]) -> BackupRepository {
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository", "metadata": {"name": "main", "namespace": "acme"},
        "spec": {"storage": {"persistentVolumeClaim": {"claimName": "c"}}, "passwordSecret": {"name": "p"},
            "adopt": {"namespaceUids": adopted}}
    }))
}

fn observed(restore: RestoreRun) -> Observed {
    let name = run_names(&restore)[0].clone();
    Observed {
        restore: Arc::new(restore),
        tenant_uid: Some("tenant".into()),
        terminating: false,
        run: RunView::None(name),
        late: None,
        finding: None,
        approval: Known::default(),
        set: Some(set("tenant")),
        repository: Some(Arc::new(repository(&[]))),
        preview: None,
        rerun_of: None,
        account: AccountView::NotAsked,
        undo: None,
        audit: Vec::new(),
    }
}

fn entry(place: &str, event: &str) -> AuditRecord {
    read(json!({
        "name": place, "namespace": "acme", "previous": "", "event": event, "at": "2026-01-01T00:00:00Z",
        "who": {"username": "ada"}, "operationType": "restore.apply", "pod": "op-1-restore-x",
        "run": {"name": "put-back-restore", "uid": "run-uid"}, "planDigest": "e".repeat(64),
    }))
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn run(spec: Value, status: Value) -> OperationRun {
    let mut whole = json!({"type": "restore.apply"});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
        "metadata": {"name": "put-back-restore", "namespace": "acme", "uid": "run-uid"}, "spec": whole, "status": status
    }))
}

fn written(actions: &[Action]) -> RestoreRunStatus {
    match actions.last() {
        Some(Action::WriteStatus(status)) => (**status).clone(),
        other => panic!("no status is written: {other:?}"),
    }
}

fn refusal(observed: &Observed) -> (Outcome, String, String) {
    let status = written(&decide(observed, now()));
    assert_eq!(status.phase, Phase::Completed);
    (status.outcome, status.failure_reason.unwrap_or_default(), status.message.unwrap_or_default())
}

#[test]
fn its_run_waits_in_the_queue_as_long_as_the_restore_says() {
    for dry_run in [true, false] {
        let spec = json!({"queueTimeoutSeconds": 60, "dryRun": dry_run});
        let actions = decide(&observed(restore(spec, json!({}))), now());
        let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
        assert_eq!(run.spec.queue_timeout_seconds, Some(60));
    }
}

#[test]
fn a_restore_starts_one_run_in_the_name_of_who_asked_and_owns_it() {
    let actions = decide(&observed(restore(json!({"serviceAccountName": "deployer"}), json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.metadata.name.as_deref(), Some("put-back-restore"));
    assert_eq!(run.spec.operation_type, "restore.apply");
    assert_eq!(run.spec.initiator.as_ref().map(|initiator| initiator.username.as_str()), Some("ada"));
    let inputs = json!({"repository": "main", "restoreRun": {"name": "put-back", "uid": "0123456789"}, "serviceAccountName": "deployer"});
    assert_eq!(Value::Object(run.spec.inputs.parse()), inputs);
    let owner = &run.metadata.owner_references.as_ref().expect("an owner")[0];
    assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("RestoreRun", "0123456789"));
}

#[test]
fn restores_and_previews_of_the_same_terms_are_works_of_their_own() {
    for dry_run in [true, false] {
        let job_name = |name: &str, uid: &str| {
            let mut asked = restore(json!({"dryRun": dry_run}), json!({}));
            (asked.metadata.name, asked.metadata.uid) = (Some(name.to_owned()), Some(uid.to_owned()));
            let actions = decide(&observed(asked), now());
            let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
            let inputs = run.spec.inputs.parse();
            Identity::new("tenant", &run.spec.operation_type, None, "account", &inputs, None).job_name()
        };
        let one = job_name("one", "1");
        assert_eq!(one, job_name("one", "1"));
        assert_ne!(one, job_name("other", "2"));
        assert_ne!(one, job_name("one", "2"), "one that was deleted and created again");
    }
}

#[test]
fn a_run_is_a_restores_by_its_type_and_the_uid_in_its_inputs_and_by_nothing_that_others_may_write() {
    let own = restore(json!({}), json!({}));
    let inputs =
        |name: &str, uid: &str| json!({"inputs": {"repository": "main", "restoreRun": {"name": name, "uid": uid}}});
    let mut theirs = run(inputs("put-back", "0123456789"), json!({}));
    assert!(is_of(&theirs, &own));
    assert!(!is_of(&run(inputs("put-back", "another"), json!({})), &own));
    assert!(!is_of(&run(inputs("another", "0123456789"), json!({})), &own));
    assert!(!is_of(&theirs, &restore(json!({"dryRun": true}), json!({}))));
    theirs.spec.operation_type = "backup.capture".into();
    theirs.metadata.owner_references = kube::Resource::owner_ref(&own, &()).map(|owner| vec![owner]);
    assert!(!is_of(&theirs, &own), "whatever its name and its owner");
}

#[test]
fn a_restore_says_what_its_run_waits_for() {
    let waits = json!({"phase": "running", "outcome": "pending", "message": "no node has room",
        "waiting": {"reason": "Unschedulable", "since": "2026-01-01T00:00:00Z"}});
    let mut seen = observed(restore(json!({}), json!({})));
    seen.run = RunView::Found(Box::new(run(json!({}), waits)));
    let status = written(&decide(&seen, now()));
    assert_eq!(status.message.as_deref(), Some("run put-back-restore waits: no node has room"));
    assert!(status.conditions.iter().all(|condition| condition.reason == "Unschedulable"));
}

#[test]
fn a_restore_that_is_too_large_to_read_is_refused() {
    let mut large = restore(json!({}), json!({}));
    large.metadata.annotations = Some([("tenantatlas.io/left-out".to_owned(), "spec.items".to_owned())].into());
    let (outcome, reason, message) = refusal(&observed(large));
    assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, "TooLarge"));
    assert!(message.starts_with("make spec.items smaller"), "{message}");
}

#[test]
fn a_preview_is_another_type_and_takes_no_account_but_its_own() {
    let spec = json!({"dryRun": true, "serviceAccountName": "deployer"});
    let actions = decide(&observed(restore(spec, json!({}))), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(
        (run.spec.operation_type.as_str(), run.metadata.name.as_deref()),
        ("restore.preview", Some("put-back-preview"))
    );
    assert!(run.spec.inputs.get("serviceAccountName").is_none());
}

#[test]
fn what_can_be_known_beforehand_blocks_with_a_code_and_a_remedy() {
    let sound = || observed(restore(json!({}), json!({})));
    let no_tenant = Observed { tenant_uid: None, ..sound() };
    let no_set = Observed { set: None, ..sound() };
    let foreign = Observed { set: Some(set("another")), ..sound() };
    let mut listed = set("tenant");
    listed.spec.content = Content::Inventory;
    let inventory = Observed { set: Some(listed), ..sound() };
    let mut nobody = restore(json!({}), json!({}));
    nobody.spec.requested_by = None;
    let selector = json!({"items": [{"kind": "Deployment", "labelSelector": "a in ("}]});
    let transform =
        json!({"transforms": [{"select": {}, "patch": [{"op": "replace", "path": "no-pointer", "value": 1}]}]});
    let cases = vec![
        (no_tenant, "NotATenant", "kubectl label namespace acme"),
        (no_set, "BackupSetNotFound", "kubectl get backupsets"),
        (foreign, "ForeignBackupSet", "spec.adopt.namespaceUids"),
        (inventory, "BackupSetIsInventory", "spec.content Objects"),
        (observed(nobody), "NoRequester", "requestedBy"),
        (observed(restore(selector, json!({}))), "InvalidRestore", "items[0]"),
        (observed(restore(transform, json!({}))), "InvalidRestore", "transforms[0]"),
        (observed(restore(json!({"preview": {"name": "look"}}), json!({}))), "PreviewNotUsable", "it does not exist"),
        (observed(restore(json!({"rerunOf": {"name": "first"}}), json!({}))), "RerunNotPossible", "it does not exist"),
    ];
    for (observed, code, words) in cases {
        let (outcome, reason, message) = refusal(&observed);
        assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, code), "{message}");
        assert!(message.contains(words), "{code}: {message}");
    }
}

#[test]
fn a_restore_whose_run_can_have_no_name_is_blocked_and_says_which_names_are_taken() {
    let taken = |spec: Value| Observed { run: RunView::Taken, ..observed(restore(spec, json!({}))) };
    let (outcome, reason, message) = refusal(&taken(json!({})));
    assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, "RunNameTaken"));
    for words in
        ["put-back-restore and put-back-restore-01234567", "kubectl delete operationrun put-back-restore -n acme"]
    {
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(refusal(&taken(json!({"cancel": true}))).1, "Cancelled");
}

#[test]
fn a_restore_whose_run_the_api_server_refuses_is_blocked_with_its_words() {
    let waits = observed(restore(json!({}), json!({})));
    for (why, reason) in [
        (over_quota::<OperationRun>("no room", "acme", "restore"), "QuotaExceeded"),
        (run_refused::<OperationRun>("no room", "restore"), "RunRefused"),
    ] {
        let status = written(&[refused(&waits, &why, now())]);
        assert_eq!((status.phase, status.outcome), (Phase::Completed, Outcome::Blocked));
        assert_eq!(status.failure_reason.as_deref(), Some(reason));
        let message = status.message.unwrap_or_default();
        assert!(message.contains("no room") && message.contains("create a new restore"), "{message}");
    }
}

#[test]
fn an_account_that_could_not_do_the_work_blocks_and_one_that_could_does_not() {
    let of_account = |account: AccountView| Observed {
        account,
        ..observed(restore(json!({"serviceAccountName": "deployer"}), json!({})))
    };
    let (outcome, reason, message) = refusal(&of_account(AccountView::Missing));
    assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, "AccountNotFound"));
    assert!(message.contains("ServiceAccount deployer does not exist"), "{message}");
    let (outcome, reason, message) = refusal(&of_account(AccountView::Found { lacks: needed(true).collect() }));
    assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, "AccountLacksRights"));
    assert!(message.contains("kubectl create rolebinding deployer-"), "{message}");
    let sound = of_account(AccountView::Found { lacks: Vec::new() });
    assert!(matches!(decide(&sound, now()).as_slice(), [Action::Start(_)]));
}

#[test]
fn an_adopted_set_of_another_namespace_is_restored() {
    let repository = Some(Arc::new(repository(&["another"])));
    let adopted = Observed { set: Some(set("another")), repository, ..observed(restore(json!({}), json!({}))) };
    assert!(matches!(decide(&adopted, now()).as_slice(), [Action::Start(_)]));
}

#[test]
fn a_preview_with_another_plan_than_the_expected_one_is_not_restored() {
    let made = json!({"phase": "completed", "outcome": "succeeded", "planDigest": "d".repeat(64),
        "operationRun": {"name": "look-preview", "uid": "u"}});
    let expects = |digest: &str| {
        let preview = json!({"name": "look", "planDigest": digest.repeat(64)});
        let look = Some(Arc::new(restore(json!({"dryRun": true}), made.clone())));
        Observed { preview: look, ..observed(restore(json!({"preview": preview}), json!({}))) }
    };
    let other = written(&decide(&expects("e"), now()));
    assert_eq!(other.failure_reason.as_deref(), Some("PreviewNotUsable"));
    assert!(other.message.expect("a message").contains("spec.preview.planDigest"));
    let mut same = expects("d");
    assert!(matches!(decide(&same, now()).as_slice(), [Action::Start(_)]));
    same.late = Some("all".to_owned());
    assert_eq!(written(&decide(&same, now())).failure_reason.as_deref(), Some("CreatedLate"));
}

#[test]
fn a_preview_is_applied_only_if_it_is_one_is_of_the_same_set_and_made_a_plan() {
    let digest = "d".repeat(64);
    let done = json!({"phase": "completed", "outcome": "succeeded", "planDigest": digest, "operationRun": {"name": "r", "uid": "u"}});
    let try_with = |spec: Value, status: Value| {
        let preview = Some(Arc::new(restore(spec, status)));
        let own = restore(json!({"preview": {"name": "look"}}), json!({}));
        decide(&Observed { preview, ..observed(own) }, now())
    };
    assert!(matches!(try_with(json!({"dryRun": true}), done.clone()).as_slice(), [Action::Start(_)]));
    let unusable = [
        (json!({}), done.clone()),
        (json!({"dryRun": true, "backupSet": {"name": "other"}}), done),
        (json!({"dryRun": true}), json!({"phase": "running"})),
        (json!({"dryRun": true}), json!({"phase": "completed", "outcome": "failed"})),
    ];
    for (spec, status) in unusable {
        assert_eq!(written(&try_with(spec, status)).failure_reason.as_deref(), Some("PreviewNotUsable"));
    }
}

/// A finding about a ConfigMap, and the set that is its baseline.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn finding(spec: Value) -> Finding {
    let mut whole = json!({"scopeKey": "0".repeat(64), "digest": "1".repeat(64), "change": "modified", "severity": "medium",
        "baseline": {"backupSet": {"name": "nightly", "uid": "set-uid"}, "snapshot": "a".repeat(64)},
        "current": {"run": {"name": "drift", "uid": "u"}}, "subject": {"kind": "ConfigMap", "name": "web"},
        "evidence": [{"path": "data.a"}]});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Finding",
        "metadata": {"name": "drift-0", "namespace": "acme", "uid": "finding-uid"}, "spec": whole,
        "status": {"observed": {"firstSeen": "2026-01-01T00:00:00Z", "lastSeen": "2026-01-01T00:00:00Z",
            "run": {"name": "drift", "uid": "u"}}}}))
}

/// What is seen of a restore of a finding.
#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn of_finding(spec: Value, found: Value) -> Observed {
    let mut whole = json!({"finding": {"name": "drift-0"}});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    let mut asked = restore(whole, json!({}));
    asked.spec.backup_set = None;
    let mut baseline = set("tenant");
    baseline.metadata.uid = Some("set-uid".into());
    Observed { finding: Some(finding(found)), set: Some(baseline), ..observed(asked) }
}

#[test]
fn a_restore_of_a_finding_starts_a_run_that_has_the_item_and_the_set_of_the_baseline() {
    let actions = decide(&of_finding(json!({}), json!({})), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    let item = json!({"backupSet": "nightly", "item": "core/ConfigMap/web"});
    assert_eq!(run.spec.inputs.get("finding"), Some(item));
    let asked = restore(json!({"finding": {"name": "drift-0"}}), json!({}));
    let set = started(&asked, run, now()).backup_set.map(|set| set.name);
    assert_eq!(set.as_deref(), Some("nightly"), "recorded with the run");
    // An addition is undone by a preview with prune alone; a restore with that preview needs none.
    let added = json!({"change": "added", "evidence": []});
    let look = of_finding(json!({"dryRun": true, "prune": true}), added.clone());
    assert!(matches!(decide(&look, now()).as_slice(), [Action::Start(_)]));
    let mut apply = of_finding(json!({"preview": {"name": "look"}}), added);
    let mut previewed = restore(
        json!({"dryRun": true, "prune": true, "finding": {"name": "drift-0"}}),
        json!({
        "phase": "completed", "outcome": "succeeded", "planDigest": "d", "operationRun": {"name": "r", "uid": "u"},
        "backupSet": {"name": "before"}}),
    );
    previewed.spec.backup_set = None;
    apply.preview = Some(Arc::new(previewed));
    let pinned = backup_set(&apply.restore.spec, apply.finding.as_ref(), apply.preview.as_deref());
    assert_eq!(pinned, Some("before"), "the set of the preview, whatever the finding says by now");
    apply.set.as_mut().expect("a set").metadata.uid = Some("another".into());
    assert!(matches!(decide(&apply, now()).as_slice(), [Action::Start(_)]));
    let mut other = apply.preview.take().expect("a preview");
    Arc::make_mut(&mut other).spec.finding.as_mut().expect("a finding").path = Some("data.a".into());
    apply.preview = Some(other);
    assert_eq!(refusal(&apply).1, "PreviewNotUsable", "of another path");
}

#[test]
fn a_finding_that_cannot_be_put_back_blocks_the_restore_and_the_message_says_what_to_do() {
    let sound = || of_finding(json!({}), json!({}));
    let path = |found: Value| of_finding(json!({"finding": {"name": "drift-0", "path": "data.a"}}), found);
    let mut replaced = sound();
    replaced.set.as_mut().expect("a set").metadata.uid = Some("another".into());
    let mut inventory = sound();
    inventory.set.as_mut().expect("a set").spec.content = Content::Inventory;
    let subject = |kind: &str, provider: &str| json!({"subject": {"kind": kind, "name": "web", "provider": provider}});
    let cases = vec![
        (Observed { finding: None, set: None, ..sound() }, "FindingNotFound", "kubectl get findings -n acme"),
        (Observed { set: None, ..sound() }, "BackupSetNotFound", "find drift again"),
        (replaced, "BackupSetNotFound", "is gone"),
        (inventory, "BackupSetIsInventory", "spec.content Objects"),
        (of_finding(json!({}), subject("A/B", "kubernetes")), "FindingNotRestorable", "names no object"),
        (of_finding(json!({}), subject("ConfigMap", "graph")), "FindingNotRestorable", "names no object"),
        (of_finding(json!({}), json!({"change": "added"})), "FindingNotRestorable", "dryRun: true and prune: true"),
        (path(json!({"change": "added"})), "FindingNotRestorable", "leave out path"),
        (path(json!({"change": "removed"})), "FindingNotRestorable", "leave out path"),
        (path(json!({"evidence": [{"path": "data.b"}]})), "FindingNotRestorable", "data.b"),
        (path(json!({"evidence": []})), "FindingNotRestorable", "shows no paths: leave out path"),
    ];
    for (observed, code, words) in cases {
        let (outcome, reason, message) = refusal(&observed);
        assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, code), "{message}");
        assert!(message.contains(words), "{words} is not in {message:?}");
    }
    // The path may be one of those that did not fit.
    assert!(matches!(
        decide(&path(json!({"evidence": [], "evidenceLeftOut": 3})), now()).as_slice(),
        [Action::Start(_)]
    ));
    // A worker wrote the name of the set.
    let hostile = finding(json!({"baseline": {"backupSet": {"name": "../secrets", "uid": "u"}, "snapshot": ""}}));
    assert_eq!(backup_set(&sound().restore.spec, Some(&hostile), None), None);
}

#[test]
fn a_finding_is_resolved_by_a_restore_that_has_put_all_of_it_back_and_by_no_other() {
    let counts = json!({"total": 1, "processed": 1, "succeeded": 1, "failed": 0, "skipped": 0});
    let ended = |spec: Value, found: Value, status: Value| {
        let mut whole = json!({"phase": "completed", "outcome": "succeeded", "startedAt": "2026-01-01T01:00:00Z",
            "summaryCounts": counts});
        whole.as_object_mut().expect("an object").extend(status.as_object().expect("an object").clone());
        let inputs = json!({"inputs": {"finding": {"backupSet": "nightly", "item": "core/ConfigMap/web"}}});
        Observed { run: RunView::Found(Box::new(run(inputs, whole))), ..of_finding(spec, found) }
    };
    let resolved = |observed: &Observed| {
        let actions = decide(observed, now());
        assert!(matches!(actions.last(), Some(Action::WriteStatus(_))), "the restore ends after the finding is told");
        actions.into_iter().find_map(|action| if let Action::Resolve(status) = action { Some(*status) } else { None })
    };
    let path = json!({"finding": {"name": "drift-0", "path": "data.a"}});
    for spec in [json!({}), path.clone()] {
        let mut observed = ended(spec, json!({}), json!({}));
        let status = resolved(&observed).expect("it is put back");
        let restored = status.restored.clone().expect("status.restored");
        assert_eq!(
            (restored.restore_run.name.as_str(), restored.at.to_string().as_str()),
            ("put-back", "2026-01-01T01:00:00Z")
        );
        assert_eq!(status.resolved_at(), Some(restored.at));
        observed.finding.as_mut().expect("a finding").status = Some(status);
        assert_eq!(resolved(&observed), None, "told once");
    }
    let none = json!({"summaryCounts": {"total": 1, "processed": 1, "succeeded": 0, "failed": 0, "skipped": 1}});
    let evidence = json!({"evidence": [{"path": "data.a"}, {"path": "data.b"}]});
    let cases = vec![
        ("a preview writes nothing", ended(json!({"dryRun": true}), json!({}), json!({}))),
        (
            "the finding has another baseline than the preview had",
            ended(
                json!({}),
                json!({"baseline": {"backupSet": {"name": "later", "uid": "u"}, "snapshot": ""}}),
                json!({}),
            ),
        ),
        ("it failed", ended(json!({}), json!({}), json!({"outcome": "failed"}))),
        ("nothing was done", ended(json!({}), json!({}), none)),
        ("another path differs", ended(path.clone(), evidence, json!({}))),
        ("more paths differ", ended(path.clone(), json!({"evidenceLeftOut": 1}), json!({}))),
        ("it was created again", ended(path, json!({"change": "replaced"}), json!({}))),
    ];
    for (why, observed) in cases {
        assert_eq!(resolved(&observed), None, "{why}");
    }
}

#[test]
fn a_restore_says_what_its_run_says_and_a_second_pass_changes_nothing() {
    let plan = json!({"digest": "d".repeat(64), "summary": {"create": 3}});
    let status = json!({"phase": "completed", "outcome": "partially_succeeded", "reason": "PartiallySucceeded", "message": "2 of 3",
        "summaryCounts": {"total": 3, "processed": 3, "succeeded": 2, "failed": 1, "skipped": 0}, "context": {"plan": plan, "audit": {"intent": "000000000001", "outcome": "000000000002"}}});
    let mut applied = observed(restore(json!({}), json!({"phase": "running"})));
    applied.run = RunView::Found(Box::new(run(json!({}), status)));
    let mut undo = set("tenant");
    undo.metadata.name = Some("put-back-restore".into());
    applied.undo = Some(undo.clone());
    let actions = decide(&applied, now());
    assert_eq!(actions[0], Action::SettleUndo(Box::new(undo)), "a set without a status looks unfinished");
    let status = written(&actions);
    assert_eq!((status.phase, status.outcome), (Phase::Completed, Outcome::PartiallySucceeded));
    assert_eq!(status.results.map(|counts| counts.failed), Some(1));
    assert_eq!(status.failure_reason.as_deref(), Some("PartiallySucceeded"));
    assert_eq!(status.undo_backup_set.as_deref(), Some("put-back-restore"));
    assert_eq!(status.plan_digest, Some("d".repeat(64)));
    assert_eq!(status.audit.as_ref().map(|audit| audit.intent.as_str()), Some("000000000001"));
    let after = restore(json!({}), serde_json::to_value(status).expect("JSON"));
    assert!(decide(&Observed { restore: Arc::new(after), ..applied }, now()).is_empty());
}

#[test]
fn a_going_restore_is_written_once_for_each_phase_of_its_run() {
    let mut going = observed(restore(json!({}), json!({})));
    going.run = RunView::Found(Box::new(run(json!({}), json!({"phase": "running", "message": "Job runs"}))));
    let first = written(&decide(&going, now()));
    going.restore = Arc::new(restore(json!({}), serde_json::to_value(&first).expect("JSON")));
    going.run = RunView::Found(Box::new(run(json!({}), json!({"phase": "running", "message": "waits for its image"}))));
    let later = "2026-01-01T01:00:00Z".parse().expect("a time");
    assert_eq!(written(&decide(&going, later)), first);
}

#[test]
fn a_cancellation_is_passed_on_to_the_run_once() {
    let mut going = observed(restore(json!({"cancel": true}), json!({"phase": "running"})));
    going.run = RunView::Found(Box::new(run(json!({}), json!({"phase": "running"}))));
    assert!(matches!(decide(&going, now())[0], Action::Cancel(_)));
    going.run = RunView::Found(Box::new(run(json!({"cancel": true}), json!({"phase": "running"}))));
    assert!(matches!(decide(&going, now()).as_slice(), [Action::WriteStatus(_)]));
    let early = refusal(&observed(restore(json!({"cancel": true}), json!({}))));
    assert_eq!((early.0, early.1.as_str()), (Outcome::Failed, "Cancelled"));
}

#[test]
fn a_restore_whose_run_was_deleted_ends_and_names_what_undoes_it() {
    let mut lost = observed(restore(json!({}), json!({"phase": "running"})));
    lost.run = RunView::Gone;
    lost.undo = Some(set("tenant"));
    let status = written(&decide(&lost, now()));
    assert_eq!(status.failure_reason.as_deref(), Some("RunDeleted"));
    assert_eq!(status.undo_backup_set.as_deref(), Some("nightly"));
}

#[test]
fn a_restore_that_ended_before_its_run_could_say_so_names_what_stands_in_the_audit_chain() {
    let mut stopped = observed(restore(json!({"cancel": true}), json!({"phase": "running"})));
    let ended = json!({"phase": "completed", "outcome": "failed", "reason": "Cancelled", "message": "cancelled"});
    stopped.run = RunView::Found(Box::new(run(json!({"cancel": true}), ended)));
    let mut lost = stopped.clone();
    lost.run = RunView::Gone;
    assert_eq!(written(&decide(&stopped, now())).audit, None, "it had not begun");
    for observed in [&mut stopped, &mut lost] {
        observed.audit = vec![entry("000000000003", "intent")];
        let status = written(&decide(observed, now()));
        let intent = AuditReferences { intent: "000000000003".into(), outcome: None };
        assert_eq!((status.audit, status.plan_digest), (Some(intent), Some("e".repeat(64))));
        observed.audit.extend([entry("000000000004", "outcome"), entry("000000000007", "outcome")]);
        let outcome = written(&decide(observed, now())).audit.and_then(|audit| audit.outcome);
        assert_eq!(outcome.as_deref(), Some("000000000007"));
    }
}

#[test]
fn in_a_namespace_that_is_going_nothing_is_written() {
    let going = Observed { terminating: true, ..observed(restore(json!({}), json!({}))) };
    assert!(decide(&going, now()).is_empty());
}

#[test]
fn only_a_completed_restore_of_the_same_set_is_done_again_and_as_a_retry() {
    let completed = json!({"phase": "completed", "outcome": "failed"});
    let again = |spec: Value, status: Value| {
        let rerun_of = Some(Arc::new(restore(spec, status)));
        let own = restore(json!({"rerunOf": {"name": "first"}}), json!({}));
        Observed { rerun_of, ..observed(own) }
    };
    let actions = decide(&again(json!({}), completed.clone()), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.trigger, Trigger::Retry);
    for (why, observed) in [
        ("another backup set", again(json!({"backupSet": {"name": "weekly"}}), completed.clone())),
        ("is a preview", again(json!({"dryRun": true}), completed)),
        ("is not completed", again(json!({}), json!({"phase": "running", "outcome": "pending"}))),
    ] {
        let (outcome, reason, message) = refusal(&observed);
        assert_eq!((outcome, reason.as_str()), (Outcome::Blocked, "RerunNotPossible"));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_restore_names_its_run_as_soon_as_it_is_made() {
    let status = started(&restore(json!({}), json!({})), &run(json!({}), json!({})), now());
    let named = ObjectReference { name: "put-back-restore".into(), uid: "run-uid".into() };
    assert_eq!((status.operation_run, status.phase, status.observed_generation), (Some(named), Phase::Queued, 1));
    assert_eq!(status.message.as_deref(), Some("see run put-back-restore"));
}

/// A restore of ada's that applies a preview of seven changes, with this own field.
fn previewed(approval: Value) -> Observed {
    let mut asked = json!({"preview": {"name": "look"}});
    if !approval.is_null() {
        asked["approval"] = approval;
    }
    let mut look = restore(
        json!({"dryRun": true}),
        json!({"phase": "completed", "outcome": "succeeded", "planDigest": "d".repeat(64), "preview": {"create": 3, "delete": 4},
            "operationRun": {"name": "look-preview", "uid": "u"}}),
    );
    // As it is cached.
    crate::kernel::slim::Slim::slim(&mut look);
    Observed { preview: Some(Arc::new(look)), ..observed(restore(asked, json!({}))) }
}

fn rule(min_items: i64) -> Known {
    let rules = json!([{"types": ["restore.apply"], "minItems": min_items}]);
    let workspace = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
        "metadata": {"name": "shop"}, "spec": {"approvals": rules}}));
    Known { workspace: Some(Arc::new(workspace)), approval: None, of_all: None }
}

#[test]
fn a_restore_that_needs_an_approval_waits_for_it_without_a_run_and_names_it_then() {
    let mut waits = previewed(json!({}));
    let actions = decide(&waits, now());
    let status = written(&actions);
    assert_eq!((actions.len(), status.phase, status.outcome), (1, Phase::Queued, Outcome::Pending));
    assert!(awaits_approval(&status) && !awaits_approval(&RestoreRunStatus::default()));
    assert_eq!((status.plan_digest, status.operation_run, status.completed_at), (Some("d".repeat(64)), None, None));
    // Once it says so, nothing more is written.
    let mut said = (*waits.restore).clone();
    said.status = Some(written(&actions));
    let again = Observed { restore: Arc::new(said), ..waits.clone() };
    assert_eq!(Some(written(&decide(&again, now()))), again.restore.status);
    let approval: Approval = read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Approval",
        "metadata": {"name": "restorerun-put-back", "namespace": "acme", "uid": "a", "creationTimestamp": now()},
        "spec": {"for": {"kind": "RestoreRun", "name": "put-back", "uid": "0123456789"}, "planDigest": "d".repeat(64),
            "approvedBy": {"username": "bob"}}}));
    waits.approval.approval = Some(Arc::new(approval));
    let actions = decide(&waits, now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    let named = json!({"name": "restorerun-put-back", "uid": "a", "planDigest": "d".repeat(64), "approvedBy": {"username": "bob"}});
    assert_eq!(run.spec.inputs.get("approval"), Some(named));
    let cancelled = restore(json!({"preview": {"name": "look"}, "approval": {}, "cancel": true}), json!({}));
    assert_eq!(refusal(&Observed { restore: Arc::new(cancelled), ..again }).1, "Cancelled");
}

#[test]
fn a_rule_of_the_workspace_holds_restores_of_its_size_and_blocks_those_without_a_preview() {
    let with = |approval, observed: Observed| Observed { approval, ..observed };
    assert!(awaits_approval(&written(&decide(&with(rule(7), previewed(Value::Null)), now()))));
    let actions = decide(&with(rule(8), previewed(Value::Null)), now());
    let [Action::Start(run)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(run.spec.inputs.get("planDigest"), Some(json!("d".repeat(64))), "the rule was asked about that plan");
    let (outcome, code, message) = refusal(&with(rule(8), observed(restore(json!({}), json!({})))));
    assert_eq!((outcome, code.as_str()), (Outcome::Blocked, "ApprovalNeedsPreview"), "{message}");
    let actions = decide(&with(rule(1), observed(restore(json!({"dryRun": true}), json!({})))), now());
    assert!(matches!(actions.as_slice(), [Action::Start(_)]), "a dry run writes nothing: {actions:?}");
}
