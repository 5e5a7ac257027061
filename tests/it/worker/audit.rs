//! The audit chain of a tenant, told by restores that race, die and are tried again.

use super::{
    api::{AUDIT, Api, NAMESPACE, POD, RUN, objects, refusal},
    restore::Tenant,
};
use serde_json::{Value, json};
use tenantatlas::{
    api::{
        ObjectReference, Outcome,
        audit_entry::{AuditEvent, AuditRecord},
        provenance::PlanSummary,
        result::TerminationResult,
        subject::Initiator,
    },
    audit::{Entry, Fault, Foreign, Tip, verify},
    repository::Repository as _,
    worker::{audit, environment::RunIdentity},
};

fn entries(api: &Api) -> Vec<Entry> {
    api.audit().into_iter().map(|entry| serde_json::from_value(entry).unwrap()).collect()
}

/// `name event outcome` of each entry.
fn said(api: &Api) -> Vec<String> {
    let text = |entry: Value| {
        let outcome = entry["spec"]["outcome"].as_str().map(|outcome| format!(" {outcome}")).unwrap_or_default();
        format!("{} {}{outcome}", entry["metadata"]["name"].as_str().unwrap(), entry["spec"]["event"].as_str().unwrap())
    };
    api.audit().into_iter().map(text).collect()
}

fn names(result: &TerminationResult) -> (String, Option<String>) {
    let audit = result.context.audit.clone().unwrap();
    (audit.intent, audit.outcome)
}

fn run(number: usize) -> RunIdentity {
    RunIdentity {
        run: format!("run-{number}"),
        run_uid: format!("uid-{number}"),
        namespace: NAMESPACE.into(),
        job_uid: "job".into(),
        pod: POD.into(),
    }
}

fn intent(run: &RunIdentity) -> AuditRecord {
    AuditRecord {
        name: String::new(),
        namespace: String::new(),
        previous: String::new(),
        groups_left_out: 0,
        approval: None,
        pod: run.pod.clone(),
        event: AuditEvent::Intent,
        at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
        who: Initiator { username: "ada".into(), ..Initiator::default() },
        operation_type: "restore.apply".into(),
        run: ObjectReference { name: run.run.clone(), uid: run.run_uid.clone() },
        restore_run: None,
        bulk_operation_run: None,
        change: None,
        backup_set: None,
        plan_digest: "0".repeat(64),
        summary: Some(PlanSummary::default()),
        outcome: None,
        counts: None,
    }
}

/// So many entries, each of a run of its own.
async fn chain_of(length: usize) -> Api {
    let api = Api::new();
    for number in 0..length {
        audit::append(&api.client(), &run(number), intent(&run(number))).await.unwrap();
    }
    api
}

#[tokio::test]
async fn a_restore_says_what_it_intends_before_its_first_write_and_what_became_of_it_after_the_last() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(said(&tenant.api), ["000000000001 intent", "000000000002 outcome succeeded"]);
    assert_eq!(names(&result), ("000000000001".to_owned(), Some("000000000002".to_owned())));
    let requests = tenant.api.requests();
    let places = |wanted: &str| -> Vec<usize> {
        (0..).zip(&requests).filter(|(_, request)| *request == wanted).map(|(place, _)| place).collect()
    };
    let told = places(&format!("POST {AUDIT}"));
    let written = places("POST /api/v1/namespaces/acme/configmaps");
    assert_eq!((told.len(), written.len()), (2, 3));
    assert!(told[0] < written[0] && written[2] < told[1], "{requests:#?}");

    let [intent, outcome] = &tenant.api.audit()[..] else { panic!("two entries") };
    let text = |entry: &Value| serde_json::from_str::<Value>(entry["spec"]["entry"].as_str().unwrap()).unwrap();
    for entry in [intent, outcome] {
        let said = text(entry);
        assert_eq!((&said["name"], &said["namespace"]), (&entry["metadata"]["name"], &json!(NAMESPACE)));
        assert_eq!(said["who"], json!({"username": "ada", "groups": ["devs"]}));
        assert_eq!(said["operationType"], "backup.capture", "what the run says it is");
        assert_eq!(said["run"], json!({"name": RUN, "uid": tenant.run_uid()}));
        assert_eq!(said["restoreRun"], json!({"name": "put-back", "uid": "restore-uid"}));
        assert_eq!(said["backupSet"], json!({"name": "nightly"}));
        assert_eq!(said["planDigest"], json!(result.context.plan.as_ref().unwrap().digest));
        assert_eq!((&said["pod"], &entry["spec"]["pod"]), (&json!(POD), &json!(POD)));
        assert_eq!(entry["metadata"]["labels"], json!({"tenantatlas.io/run-uid": tenant.run_uid()}));
        assert!(entry["metadata"]["ownerReferences"].is_null(), "it outlives its run");
    }
    let (intent, outcome) = (text(intent), text(outcome));
    assert_eq!((&intent["summary"]["create"], &intent["summary"]["unchanged"]), (&json!(3), &json!(3)));
    assert_eq!(outcome["counts"]["succeeded"], 6);
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &[]), []);
}

#[tokio::test]
async fn a_preview_says_nothing() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    tenant.preview(json!({})).await.unwrap();
    assert_eq!(said(&tenant.api), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_told_is_not_begun() {
    for (status, reason, exit_code) in [(403, "Forbidden", 40), (503, "ServiceUnavailable", 1)] {
        // The first to ask is the undo's snapshot, which holds the end of the chain; the intent; or whether an earlier
        // attempt has begun, where something has moved since the preview.
        let preview = json!({"dryRun": false, "preview": {"name": "look"}});
        for spec in [json!({"dryRun": false}), json!({"dryRun": false, "safetyCapture": false}), preview] {
            let mut tenant = Tenant::usual().await;
            tenant.api.serve_config_maps(vec![]);
            tenant.previewed(json!({})).await;
            tenant.api.change("Secret", "b", |object| object["metadata"]["labels"] = json!({"moved": "since"}));
            tenant.api.fail(move |uri, _| (uri.path() == AUDIT).then(|| refusal(status, reason)));
            let failure = tenant.apply(spec.clone()).await.unwrap_err();
            assert_eq!((failure.reason.as_str(), failure.exit_code()), ("AuditNotWritten", exit_code), "{spec}");
            assert!(failure.message.starts_with("nothing was written"), "{}", failure.message);
            assert_eq!(tenant.api.writes(), Vec::<String>::new(), "{spec} {reason}");
        }
    }
}

#[tokio::test]
async fn an_outcome_that_cannot_be_told_is_a_failure_that_says_what_was_done_and_the_next_attempt_tells_it() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    // Four more are answered: that of the undo's snapshot, which holds the end of the chain, and those of the intent: what
    // the run said, the chain, and the entry.
    let asked = tenant.api.requests().iter().filter(|request| request.ends_with(AUDIT)).count();
    tenant.api.fail(move |uri, before| (uri.path() == AUDIT && before >= asked + 4).then(|| refusal(403, "Forbidden")));
    let failure = tenant.apply(json!({"dryRun": false})).await.unwrap_err();
    assert_eq!(failure.reason, "AuditNotWritten");
    assert!(failure.message.contains("the work was carried out (3 items written"), "{}", failure.message);
    assert_eq!((tenant.api.writes().len(), said(&tenant.api)), (3, vec!["000000000001 intent".to_owned()]));
    tenant.api.heal();
    let result = tenant.apply_again().await.unwrap();
    assert_eq!(said(&tenant.api), ["000000000001 intent", "000000000002 outcome succeeded"]);
    assert_eq!((result.outcome, tenant.api.writes().len()), (Some(Outcome::Succeeded), 3));
}

#[tokio::test(start_paused = true)]
async fn attempts_of_one_run_say_what_they_intend_once_and_those_of_another_run_again() {
    let mut tenant = Tenant::usual().await;
    for writes in 0..3 {
        tenant.api.serve_config_maps(vec![]);
        tenant.api.break_after_writes(writes);
        tenant.apply(json!({"dryRun": false})).await.unwrap_err();
        tenant.api.heal();
        let first = tenant.apply_again().await.unwrap();
        // A worker that died between its last entry and its result.
        let second = tenant.apply_again().await.unwrap();
        assert_eq!(names(&first), names(&second));
        assert_eq!(said(&tenant.api).len(), 2 * (writes + 1), "{:?}", said(&tenant.api));
        tenant.next_run();
    }
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &[]), []);
}

#[tokio::test]
async fn an_entry_whose_answer_was_lost_is_taken_for_what_it_is() {
    let api = chain_of(2).await;
    api.lose_answer();
    assert_eq!(audit::append(&api.client(), &run(7), intent(&run(7))).await.unwrap(), "000000000003");
    assert_eq!(said(&api).len(), 3);
}

#[tokio::test]
async fn of_writers_that_race_for_a_place_all_get_into_the_chain() {
    let api = chain_of(3).await;
    let before = api.requests().len();
    let runs: Vec<_> = (10..18).map(run).collect();
    let client = api.client();
    let told = runs.iter().map(|run| audit::append(&client, run, intent(run)));
    let mut names = futures::future::try_join_all(told).await.unwrap();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 8, "each has a place of its own");
    let tried = api.requests()[before..].iter().filter(|request| request.starts_with("POST")).count();
    assert!(tried > 8, "nobody raced");
    assert_eq!((entries(&api).len(), verify(NAMESPACE, &entries(&api), &[])), (11, vec![]));
}

/// An entry that somebody else wrote.
fn foreign(api: &Api, name: &str, text: &Value) {
    let entry = json!({"metadata": {"name": name, "namespace": NAMESPACE, "labels": {"tenantatlas.io/run-uid": "uid-7"}},
        "spec": {"entry": text.to_string(), "event": "intent", "who": "eve", "operationType": "restore.apply",
            "run": {"name": "run-7", "uid": "uid-7"}, "pod": "op-of-another-x", "planDigest": "0".repeat(64)}});
    api.add_audit(entry);
}

#[tokio::test]
async fn the_end_of_a_chain_is_found_a_page_at_a_time() {
    assert_eq!(audit::tip(&Api::new().client(), NAMESPACE).await.unwrap(), None);
    let api = chain_of(250).await;
    let before = api.requests().len();
    let tip = audit::tip(&api.client(), NAMESPACE).await.unwrap();
    assert_eq!(tip.as_ref(), Tip::of(entries(&api).last().unwrap()).as_ref());
    assert_eq!(api.requests().split_off(before).len(), 3, "a hundred at a time");
}

#[tokio::test]
async fn forged_entries_at_all_powers_of_two_end_nothing_and_are_called_foreign() {
    let api = chain_of(3).await;
    let mut expected = Vec::new();
    for power in 2..40 {
        let name = format!("{:012}", 1_u64 << power);
        // Each says that it follows the one before it, and that it is what run 7 intends.
        let record = intent(&run(7));
        let text = AuditRecord { name: name.clone(), namespace: NAMESPACE.into(), previous: "f".repeat(64), ..record };
        foreign(&api, &name, &serde_json::to_value(text).unwrap());
        expected.push(Fault::Foreign { name, why: Foreign::Unlinked });
    }
    foreign(&api, "999999999999", &json!({}));
    expected.push(Fault::Foreign { name: "999999999999".into(), why: Foreign::Unreadable });
    assert!(!audit::has_intent(&api.client(), &run(7)).await.unwrap(), "a pod of another Job said so");
    for (number, place) in [(7, "000000000005"), (8, "000000000006"), (9, "000000000007"), (10, "000000000009")] {
        assert_eq!(audit::append(&api.client(), &run(number), intent(&run(number))).await.unwrap(), place);
    }
    assert_eq!(verify(NAMESPACE, &entries(&api), &[]), expected);
}

#[tokio::test]
async fn a_restore_goes_on_beside_entries_that_somebody_else_wrote() {
    let tenant = Tenant::usual().await;
    tenant.api.serve_config_maps(vec![]);
    for name in ["000000000001", "000000000002", "000000000004", "999999999999"] {
        foreign(&tenant.api, name, &json!({"name": name}));
    }
    let result = tenant.apply(json!({"dryRun": false})).await.unwrap();
    assert_eq!(names(&result), ("000000000003".to_owned(), Some("000000000005".to_owned())));
    assert_eq!(result.outcome, Some(Outcome::Succeeded));
}

#[tokio::test]
async fn whatever_stands_beside_the_text_of_an_entry_its_hash_stays() {
    let api = chain_of(1).await;
    let before = audit::tip(&api.client(), NAMESPACE).await.unwrap();
    // A default, a field that was pruned, and a list that was converted.
    api.change_audit("000000000001", |entry| {
        entry["spec"]["approvedBy"] = json!("grace");
        entry["spec"]["restoreRun"] = json!({"uid": "u", "name": "converted"});
    });
    assert_eq!(audit::tip(&api.client(), NAMESPACE).await.unwrap(), before);
    audit::append(&api.client(), &run(7), intent(&run(7))).await.unwrap();
    let at = "000000000001".parse().unwrap();
    let said = verify(NAMESPACE, &entries(&api), &[]);
    assert_eq!(said, [Fault::Disagrees { at, field: "restoreRun" }], "and what does not agree is named");
}

/// Changes what the text of an entry says.
fn alter(api: &Api, name: &str, said: &str, now: &str) {
    api.change_audit(name, |entry| {
        let text = entry["spec"]["entry"].as_str().unwrap();
        assert!(text.contains(said), "{text}");
        entry["spec"]["entry"] = text.replace(said, now).into();
    });
}

#[tokio::test]
async fn an_entry_that_was_altered_is_found() {
    let tenant = Tenant::usual().await;
    tenant.apply(json!({"dryRun": false})).await.unwrap();
    let tip = audit::tip(&tenant.api.client(), NAMESPACE).await.unwrap().unwrap();
    let at = |name: &str| name.parse().unwrap();
    let devs = (r#""devs""#, r#""devi""#);
    alter(&tenant.api, "000000000001", devs.0, devs.1);
    let faults = verify(NAMESPACE, &entries(&tenant.api), std::slice::from_ref(&tip));
    assert_eq!(faults, [Fault::MissingBefore { at: at("000000000002") }]);
    alter(&tenant.api, "000000000001", devs.1, devs.0);
    alter(&tenant.api, "000000000002", devs.0, devs.1);
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &[]), []);
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &[tip]), [Fault::Altered { at: at("000000000002") }]);
}

#[tokio::test]
async fn every_snapshot_holds_the_end_of_the_chain_so_that_a_cut_one_is_found() {
    let api = chain_of(2).await;
    api.serve_config_maps(objects(3));
    let tenant = Tenant::captured(api).await;
    tenant.api.change("ConfigMap", "item-00000", |object| object["data"] = json!({"of": "another"}));
    tenant.apply(json!({"dryRun": false})).await.unwrap();
    let snapshots = tenant.pod.repository().await.unwrap().snapshots().await.unwrap();
    let known: Vec<Tip> = snapshots.iter().map(|snapshot| snapshot.audit.clone().unwrap().parse().unwrap()).collect();
    let second = Tip::of(&entries(&tenant.api)[1]).unwrap();
    assert_eq!(known, [second.clone(), second.clone()], "the capture, and what undoes the restore");
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &known), []);
    for _ in 0..3 {
        tenant.api.cut_audit();
    }
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &[]), []);
    let missing = Fault::Missing { at: second.place };
    assert_eq!(verify(NAMESPACE, &entries(&tenant.api), &known), [missing]);
}
