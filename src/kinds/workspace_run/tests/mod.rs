//! What is decided about a workspace run, case by case, and a simulation of ten thousand tenants.

mod approvals;
mod crashes;
mod previews;

use super::decide::{Decision, Earlier, Observed, decide};
use super::orders::Order;
use super::plan::Tenant;
use super::source::{Source, digest_of};
use crate::{
    api::{
        ObjectReference, OperationRun, Outcome, Phase, Workspace, WorkspaceRun, WorkspaceRunStatus,
        workspace_run::TenantRunCounts,
    },
    kinds::approval::Known,
    runs::children::Child,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object")
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn workspace_run(spec: Value) -> WorkspaceRun {
    let of_other = ["bulk", "restore", "undoOf"].iter().any(|field| spec.get(field).is_some());
    let mut whole = json!({"workspace": {"name": "shop"}, "requestedBy": {"username": "ada", "groups": ["platform"]}});
    if !of_other {
        whole["operation"] = json!({"type": "backup.capture"});
    }
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    read(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "WorkspaceRun",
        "metadata": {"name": "all", "uid": "0123456789", "generation": 1, "creationTimestamp": "2025-12-31T00:00:00Z"},
        "spec": whole,
    }))
}

fn workspace() -> Workspace {
    let storage = json!({"persistentVolumeClaim": {"claimName": "backups"}});
    read(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace", "metadata": {"name": "shop"},
        "spec": {"allowedTypes": ["backup.*", "bulk.*", "restore.*"], "repository": {"storage": storage}}}))
}

fn tenant(namespace: &str, labels: &[(&str, &str)]) -> Tenant {
    let created = "2025-01-01T00:00:00Z".parse().ok();
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Tenant { namespace: namespace.to_owned(), labels, created }
}

fn tenants(count: usize) -> Vec<Tenant> {
    (0..count).map(|number| tenant(&format!("t-{number:05}"), &[])).collect()
}

#[allow(clippy::needless_pass_by_value, reason = "called with literals")]
fn observed(spec: Value, tenants: Vec<Tenant>) -> Observed {
    let operation_type = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType",
        "metadata": {"name": "backup.capture"}, "spec": {"executor": {"worker": {"command": ["capture"]}}}});
    Observed {
        run: Arc::new(workspace_run(spec)),
        operation_type: Some(Arc::new(read(operation_type))),
        workspace: Some(Arc::new(workspace())),
        tenants,
        children: BTreeMap::new(),
        earlier: Earlier::NotAsked,
        source: Source::NotAsked,
        duplicate: None,
        approval: Known::default(),
        operator_namespace: "tenantatlas-system".to_owned(),
    }
}

/// Carries out what was decided, as the API server would.
fn carry_out(observed: &mut Observed, decision: &Decision) {
    for order in &decision.start {
        let metadata = metadata(order);
        let namespace = metadata.namespace.clone().expect("a namespace");
        let reference =
            ObjectReference { name: metadata.name.clone().expect("a name"), uid: format!("uid-{namespace}") };
        let child = Child {
            run: reference,
            phase: Phase::Queued,
            outcome: Outcome::Pending,
            cancelled: false,
            reason: None,
            counts: None,
            detail: None,
        };
        assert_eq!(observed.children.insert(namespace, child), None, "started twice");
    }
    for (namespace, _) in &decision.cancel {
        observed.children.get_mut(namespace).expect("a run").cancelled = true;
    }
    if let Some(status) = &decision.status {
        let mut run = (*observed.run).clone();
        run.status = Some((**status).clone());
        observed.run = Arc::new(run);
    }
}

/// One pass, or two if the first one records the start: that creates nothing.
fn pass(observed: &mut Observed, now: Timestamp) -> Decision {
    let begins = status(observed).started_at.is_none();
    let decision = decide(observed, now);
    carry_out(observed, &decision);
    if begins && status(observed).phase == Phase::Running {
        assert_eq!((&decision.start[..], &decision.cancel[..]), (&[][..], &[][..]), "the start is recorded first");
        return pass(observed, now);
    }
    decision
}

fn started(decision: &Decision) -> Vec<&str> {
    decision.start.iter().filter_map(|order| metadata(order).namespace.as_deref()).collect()
}

fn metadata(order: &Order) -> &ObjectMeta {
    match order {
        Order::Run(run) => &run.metadata,
        Order::Bulk(bulk) => &bulk.metadata,
        Order::Restore(restore) => &restore.metadata,
    }
}

fn the_run(order: &Order) -> &OperationRun {
    match order {
        Order::Run(run) => run,
        other => panic!("{other:?}"),
    }
}

fn end(observed: &mut Observed, namespace: &str, outcome: Outcome) {
    let child = observed.children.get_mut(namespace).expect("a run");
    let counts = json!({"total": 3, "processed": 3, "succeeded": 2, "failed": 0, "skipped": 1});
    (child.phase, child.outcome) = (Phase::Completed, outcome);
    (child.reason, child.counts) = (Some("Why".to_owned()), Some(read(counts)));
}

fn status(observed: &Observed) -> WorkspaceRunStatus {
    observed.run.status_or_default()
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

#[test]
fn each_tenant_gets_one_run_of_the_requester_and_so_many_at_a_time() {
    let mut observed = observed(json!({"parallelism": 2, "timeoutSeconds": 60, "queueTimeoutSeconds": 30}), tenants(3));
    let first = pass(&mut observed, now());
    assert_eq!(started(&first), ["t-00000", "t-00001"]);
    let run = the_run(&first.start[0]);
    assert_eq!(run.metadata.name.as_deref(), Some("all-01234567"));
    assert_eq!(run.metadata.owner_references, None, "records of tenants outlive the workspace run");
    let spec = serde_json::to_value(&run.spec).expect("JSON");
    assert_eq!(
        spec,
        json!({"type": "backup.capture", "trigger": "workspace_run", "inputs": {"repository": "main"}, "onDuplicate": "Join",
            "initiator": {"username": "ada", "groups": ["platform"]}, "timeoutSeconds": 60, "queueTimeoutSeconds": 30, "cancel": false,
            "scheduledBy": {"kind": "WorkspaceRun", "name": "all", "uid": "0123456789"}})
    );
    let said = status(&observed);
    assert_eq!((said.phase, said.progress.as_deref(), said.wave), (Phase::Running, Some("0/3"), None));
    assert_eq!(said.counts, TenantRunCounts { total: 3, waiting: 1, active: 2, ..TenantRunCounts::default() });
    assert_eq!(started(&pass(&mut observed, now())), [] as [&str; 0], "nothing is free");
    end(&mut observed, "t-00001", Outcome::Succeeded);
    assert_eq!(started(&pass(&mut observed, later(9))), ["t-00002"]);
    end(&mut observed, "t-00000", Outcome::Succeeded);
    end(&mut observed, "t-00002", Outcome::Succeeded);
    let last = pass(&mut observed, later(10));
    assert_eq!((status(&observed).outcome, last.requeue), (Outcome::Succeeded, None));
    assert_eq!(status(&observed).items.map(|items| (items.total, items.skipped)), Some((9, 3)));
    assert_eq!(pass(&mut observed, later(11)).status, None, "a completed one is written no more");
}

#[test]
fn a_pass_over_what_has_not_changed_writes_nothing_and_counts_are_written_at_intervals() {
    let mut observed = observed(json!({"parallelism": 300}), tenants(100));
    assert_eq!(pass(&mut observed, now()).start.len(), 50, "the status is written in between");
    assert_eq!(pass(&mut observed, later(1)).start.len(), 50);
    assert_eq!(pass(&mut observed, later(8)).status.map(|status| status.counts.active), Some(100));
    assert_eq!(pass(&mut observed, later(60)).status, None, "nothing has changed");
    end(&mut observed, "t-00003", Outcome::Failed);
    end(&mut observed, "t-00004", Outcome::Succeeded);
    let soon = pass(&mut observed, later(9));
    assert_eq!((soon.status, soon.requeue), (None, Some(SignedDuration::from_secs(6))), "2 s, and 1 s for 20 tenants");
    let then = pass(&mut observed, later(15)).status.expect("a status");
    assert_eq!((then.counts.failed, then.counts.succeeded, then.counts.active), (1, 1, 98));
    assert_eq!((then.tenants[0].namespace.as_str(), then.tenants[0].reason.as_deref()), ("t-00003", Some("Why")));
}

#[test]
fn waves_go_one_after_the_other_and_wait_in_between() {
    let waves = json!({"waves": [{"tenantSelector": "stage=canary"}, {"tenants": 1, "waitSeconds": 60}, {"percent": 50}],
        "parallelism": 10});
    let mut all = tenants(5);
    all.push(tenant("z-canary", &[("stage", "canary")]));
    let mut observed = observed(waves, all);
    assert_eq!(started(&pass(&mut observed, now())), ["z-canary"]);
    assert_eq!(started(&pass(&mut observed, later(5))), [] as [&str; 0]);
    end(&mut observed, "z-canary", Outcome::Succeeded);
    assert_eq!(started(&pass(&mut observed, later(10))), ["t-00000"]);
    end(&mut observed, "t-00000", Outcome::Succeeded);
    let waiting = pass(&mut observed, later(20));
    let said = status(&observed);
    assert_eq!((started(&waiting).len(), said.reason.as_deref(), said.wave), (0, Some("NextWaveWaits"), Some(2)));
    assert_eq!(waiting.requeue, Some(SignedDuration::from_secs(30)), "60 s are left, and tenants may go meanwhile");
    assert_eq!(pass(&mut observed, later(79)).requeue, Some(SignedDuration::from_secs(1)));
    // Half of six, rounded up.
    assert_eq!(started(&pass(&mut observed, later(80))), ["t-00001", "t-00002", "t-00003"]);
    for namespace in ["t-00001", "t-00002", "t-00003"] {
        end(&mut observed, namespace, Outcome::Succeeded);
    }
    assert_eq!(started(&pass(&mut observed, later(90))), ["t-00004"], "the rest is the last wave");
    end(&mut observed, "t-00004", Outcome::Succeeded);
    pass(&mut observed, later(100));
    assert_eq!((status(&observed).outcome, status(&observed).waves.len()), (Outcome::Succeeded, 4));
}

#[test]
fn a_wave_with_a_tenant_that_did_not_succeed_is_the_last_one() {
    for (outcome, expected) in
        [(Outcome::Failed, Outcome::Failed), (Outcome::PartiallySucceeded, Outcome::PartiallySucceeded)]
    {
        let mut observed = observed(json!({"waves": [{"tenants": 1}]}), tenants(4));
        pass(&mut observed, now());
        end(&mut observed, "t-00000", outcome);
        let decision = pass(&mut observed, later(10));
        let said = status(&observed);
        assert_eq!((started(&decision).len(), said.outcome), (0, expected));
        assert_eq!((said.reason.as_deref(), said.counts.skipped), (Some("StoppedAfterFailures"), 3));
        let reasons: Vec<_> = said.tenants.iter().map(|row| row.reason.as_deref().unwrap_or_default()).collect();
        assert_eq!(reasons, ["Why", "StoppedAfterFailures", "StoppedAfterFailures", "StoppedAfterFailures"]);
    }
    let mut lenient = observed(json!({"waves": [{"tenants": 1}], "stopAfterFailures": 2}), tenants(4));
    pass(&mut lenient, now());
    end(&mut lenient, "t-00000", Outcome::Failed);
    assert_eq!(started(&pass(&mut lenient, later(10))).len(), 3);
}

#[test]
fn without_a_limit_all_are_tried_and_with_one_those_under_way_go_on() {
    let mut observed = observed(json!({"parallelism": 2}), tenants(3));
    pass(&mut observed, now());
    end(&mut observed, "t-00000", Outcome::Blocked);
    assert_eq!(started(&pass(&mut observed, later(10))), ["t-00002"]);
    end(&mut observed, "t-00001", Outcome::Succeeded);
    end(&mut observed, "t-00002", Outcome::Failed);
    pass(&mut observed, later(20));
    assert_eq!(status(&observed).outcome, Outcome::PartiallySucceeded);
    let mut limited = self::observed(json!({"parallelism": 2, "stopAfterFailures": 1}), tenants(3));
    pass(&mut limited, now());
    end(&mut limited, "t-00000", Outcome::Blocked);
    let decision = pass(&mut limited, later(10));
    assert_eq!((started(&decision).len(), decision.cancel.len()), (0, 0));
    assert_eq!(
        (status(&limited).phase, status(&limited).reason.as_deref()),
        (Phase::Running, Some("StoppedAfterFailures"))
    );
    end(&mut limited, "t-00001", Outcome::Failed);
    pass(&mut limited, later(20));
    assert_eq!((status(&limited).outcome, status(&limited).counts.skipped), (Outcome::Failed, 1));
}

#[test]
fn a_cancelled_one_cancels_what_is_under_way_once_and_starts_no_more() {
    let mut observed = observed(json!({"parallelism": 2}), tenants(3));
    pass(&mut observed, now());
    let mut cancelled = (*observed.run).clone();
    cancelled.spec.cancel = true;
    observed.run = Arc::new(cancelled);
    let decision = pass(&mut observed, later(1));
    assert_eq!((started(&decision).len(), decision.cancel.len()), (0, 2));
    assert_eq!(status(&observed).reason.as_deref(), Some("Cancelling"));
    assert_eq!(pass(&mut observed, later(2)).cancel, []);
    end(&mut observed, "t-00000", Outcome::Succeeded);
    end(&mut observed, "t-00001", Outcome::Failed);
    pass(&mut observed, later(3));
    let said = status(&observed);
    assert_eq!((said.outcome, said.reason.as_deref()), (Outcome::Failed, Some("Cancelled")));
    let mut early = self::observed(json!({"cancel": true}), tenants(3));
    assert_eq!(pass(&mut early, now()).start, []);
    assert_eq!((status(&early).phase, status(&early).reason.as_deref()), (Phase::Completed, Some("Cancelled")));
}

#[test]
fn a_tenant_whose_run_was_deleted_counts_as_failed_and_is_not_started_again() {
    let mut observed = observed(json!({"parallelism": 2}), tenants(3));
    pass(&mut observed, now());
    observed.children.remove("t-00000");
    assert_eq!(started(&pass(&mut observed, later(10))), ["t-00002"]);
    let row = status(&observed).tenants[0].clone();
    assert_eq!((row.namespace.as_str(), row.reason.as_deref(), row.run), ("t-00000", Some("RunDeleted"), None));
    end(&mut observed, "t-00001", Outcome::Succeeded);
    end(&mut observed, "t-00002", Outcome::Succeeded);
    pass(&mut observed, later(20));
    assert_eq!(status(&observed).outcome, Outcome::PartiallySucceeded);
}

#[test]
fn a_tenant_keeps_its_wave_when_another_one_goes_and_one_that_comes_later_is_not_taken() {
    let mut observed = observed(json!({"waves": [{"tenants": 2}, {"tenants": 2}]}), tenants(6));
    assert_eq!(started(&pass(&mut observed, now())), ["t-00000", "t-00001"]);
    for namespace in ["t-00000", "t-00001"] {
        end(&mut observed, namespace, Outcome::Succeeded);
    }
    // The namespace and its run are gone; the third tenant must not slip into the wave that has passed.
    observed.tenants.remove(0);
    observed.children.remove("t-00000");
    let mut new = tenant("a-new", &[]);
    new.created = Some(now());
    observed.tenants.push(new);
    assert_eq!(started(&pass(&mut observed, later(10))), ["t-00002", "t-00003"]);
    end(&mut observed, "t-00002", Outcome::Succeeded);
    end(&mut observed, "t-00003", Outcome::Succeeded);
    assert_eq!(started(&pass(&mut observed, later(20))), ["t-00004", "t-00005"]);
    assert_eq!(status(&observed).counts.total, 5);
}

#[test]
fn what_was_refused_is_a_failed_tenant_that_is_not_tried_again() {
    let mut observed = observed(json!({"parallelism": 1}), tenants(2));
    let decision = decide(&observed, now());
    let mut run = (*observed.run).clone();
    let mut refused = *decision.status.expect("a status");
    refused.refused = vec![read(json!({"namespace": "t-00000", "reason": "QuotaExceeded", "message": "full"}))];
    run.status = Some(refused);
    observed.run = Arc::new(run);
    assert_eq!(started(&pass(&mut observed, later(10))), ["t-00001"]);
    end(&mut observed, "t-00001", Outcome::Succeeded);
    pass(&mut observed, later(20));
    let said = status(&observed);
    assert_eq!((said.outcome, said.counts.failed), (Outcome::PartiallySucceeded, 1));
    assert_eq!(said.tenants[0].reason.as_deref(), Some("QuotaExceeded"));
}

#[test]
fn what_cannot_be_done_is_blocked_before_the_first_run() {
    let reason = |change: &dyn Fn(&mut Observed), spec: Value| {
        let mut observed = observed(spec, tenants(2));
        change(&mut observed);
        let decision = pass(&mut observed, now());
        assert_eq!(decision.start, []);
        let status = status(&observed);
        assert_eq!((status.phase, status.outcome), (Phase::Completed, Outcome::Blocked));
        (status.reason.unwrap_or_default(), status.message.unwrap_or_default())
    };
    let same = |_: &mut Observed| {};
    let altered = |change: fn(&mut WorkspaceRun)| {
        move |observed: &mut Observed| {
            let mut run = (*observed.run).clone();
            change(&mut run);
            observed.run = Arc::new(run);
        }
    };
    let (code, message) = reason(&same, json!({"tenantSelector": "a in (b"}));
    assert!(code == "InvalidWorkspaceRun" && message.contains("spec.tenantSelector"), "{message}");
    let (code, message) = reason(&same, json!({"waves": [{"tenants": 1}, {"tenantSelector": "=b"}]}));
    assert!(code == "InvalidWorkspaceRun" && message.contains("spec.waves[1].tenantSelector"), "{message}");
    assert_eq!(reason(&same, json!({"tenantSelector": "tier=gold"})).0, "NoTenants");
    assert_eq!(reason(&|observed| observed.tenants.clear(), json!({})).0, "NoTenants");
    assert_eq!(reason(&altered(|run| run.spec.requested_by = None), json!({})).0, "NoRequester");
    assert_eq!(reason(&|observed| observed.operation_type = None, json!({})).0, "UnknownType");
    let with_type = |field: &'static str, value: Value| {
        move |observed: &mut Observed| {
            let mut whole = serde_json::to_value(observed.operation_type.as_deref()).expect("JSON");
            whole["spec"][field] = value.clone();
            observed.operation_type = Some(Arc::new(read(whole)));
        }
    };
    assert_eq!(reason(&with_type("scope", json!("Workspace")), json!({})).0, "WrongScope");
    assert_eq!(reason(&with_type("suspend", json!(true)), json!({})).0, "TypeSuspended");
    assert_eq!(reason(&with_type("timeoutSeconds", json!(5)), json!({"timeoutSeconds": 6})).0, "TimeoutTooLong");
    let inputs = json!({"type": "object", "properties": {"repository": {"const": "other"}}});
    let (code, message) = reason(&with_type("inputsSchema", inputs), json!({}));
    assert!(code == "InvalidInputs" && message.contains("inputs/repository"), "{message}");
    let (code, message) = reason(&same, json!({"operation": {"type": "team.migrate"}}));
    assert!(code == "NotAllowedByWorkspace" && message.contains("of workspace shop"), "{message}");
    let (code, message) = reason(&|observed| observed.duplicate = Some("first".to_owned()), json!({}));
    assert!(code == "DuplicateRun" && message.contains("workspace run first"), "{message}");
}

#[test]
fn a_rerun_takes_those_that_did_not_succeed_in_one_that_is_completed_and_like_it() {
    let again = json!({"rerunOf": {"name": "before"}});
    let with = |earlier: Earlier| Observed { earlier, ..observed(again.clone(), tenants(3)) };
    let before = |spec: Value, phase: &str| {
        let mut run = workspace_run(spec);
        run.status = Some(read(json!({"phase": phase})));
        Arc::new(run)
    };
    let found = |named: Arc<WorkspaceRun>, succeeded: BTreeSet<String>| {
        let repeats = vec!["before-uid".to_owned(), "first-uid".to_owned()];
        Earlier::Found { named: Some(named), repeats, succeeded }
    };
    let succeeded: BTreeSet<String> = ["t-00000".to_owned(), "t-00002".to_owned()].into();
    let mut usable = with(found(before(json!({}), "completed"), succeeded.clone()));
    assert_eq!(started(&pass(&mut usable, now())), ["t-00001"]);
    assert_eq!(status(&usable).counts.total, 1);
    assert_eq!(status(&usable).repeats, ["before-uid", "first-uid"], "so that these may be deleted");
    usable.earlier = Earlier::Found { named: None, repeats: status(&usable).repeats, succeeded: succeeded.clone() };
    end(&mut usable, "t-00001", Outcome::Succeeded);
    pass(&mut usable, later(10));
    assert_eq!((status(&usable).outcome, status(&usable).progress.as_deref()), (Outcome::Succeeded, Some("1/1")));
    for earlier in [
        Earlier::Missing,
        found(before(json!({}), "running"), succeeded.clone()),
        found(before(json!({"workspace": {"name": "other"}}), "completed"), succeeded.clone()),
        found(before(json!({"operation": {"type": "other"}}), "completed"), succeeded.clone()),
    ] {
        let mut unusable = with(earlier);
        pass(&mut unusable, now());
        assert_eq!(status(&unusable).reason.as_deref(), Some("RerunNotPossible"));
    }
    let all = (0..3).map(|number| format!("t-{number:05}")).collect();
    let mut nobody = with(found(before(json!({}), "completed"), all));
    pass(&mut nobody, now());
    assert!(status(&nobody).message.is_some_and(|message| message.contains("did not succeed in before")));
}

#[test]
fn one_that_stopped_stays_so_although_the_tenant_that_failed_is_gone() {
    let mut observed = observed(json!({"waves": [{"tenants": 2}]}), tenants(4));
    pass(&mut observed, now());
    end(&mut observed, "t-00000", Outcome::Failed);
    pass(&mut observed, later(10));
    assert_eq!(status(&observed).reason.as_deref(), Some("StoppedAfterFailures"));
    observed.tenants.remove(0);
    observed.children.remove("t-00000");
    end(&mut observed, "t-00001", Outcome::Succeeded);
    assert_eq!(started(&pass(&mut observed, later(20))), [] as [&str; 0]);
    let said = status(&observed);
    assert_eq!((said.outcome, said.counts.skipped), (Outcome::PartiallySucceeded, 2));
    assert!(said.message.is_some_and(|message| message.contains("1 are left out: they are no tenants any more")));
}

#[test]
fn one_whose_tenants_are_all_gone_has_not_succeeded() {
    let mut observed = observed(json!({"parallelism": 1}), tenants(2));
    pass(&mut observed, now());
    observed.tenants.clear();
    observed.children.clear();
    pass(&mut observed, later(10));
    assert_eq!((status(&observed).outcome, status(&observed).reason.as_deref()), (Outcome::Failed, Some("NoTenants")));
}

#[test]
fn some_work_is_a_partial_success_however_many_failed() {
    let mut observed = observed(json!({"parallelism": 200}), tenants(120));
    for second in 0..4 {
        pass(&mut observed, later(second));
    }
    for number in 0..120 {
        let outcome = if number == 119 { Outcome::PartiallySucceeded } else { Outcome::Failed };
        end(&mut observed, &format!("t-{number:05}"), outcome);
    }
    pass(&mut observed, later(60));
    assert_eq!(status(&observed).outcome, Outcome::PartiallySucceeded);
}

#[test]
fn a_completed_one_is_deleted_after_its_time() {
    let mut observed = observed(json!({"cancel": true, "ttlSecondsAfterFinished": 60}), Vec::new());
    pass(&mut observed, now());
    let before = decide(&observed, later(59));
    assert_eq!((before.delete, before.requeue), (false, Some(SignedDuration::from_secs(1))));
    assert!(decide(&observed, later(60)).delete);
}

/// Tenants end in an order of their own, and the operator dies after any pass without its status
/// having been written.
#[test]
fn of_ten_thousand_tenants_each_is_started_once_and_the_status_is_written_rarely() {
    const TENANTS: usize = 10_000;
    let spec = json!({"parallelism": 500, "waves": [{"tenants": 1}, {"percent": 10}], "stopAfterFailures": 1000});
    let mut observed = observed(spec, tenants(TENANTS));
    let (mut writes, mut passes, mut at) = (0, 0, now());
    while !observed.run.is_completed() {
        passes += 1;
        assert!(passes < 3000, "it does not end: {:?}", status(&observed).counts);
        at += SignedDuration::from_secs(5);
        let mut decision = decide(&observed, at);
        if passes % 7 == 0
            && observed.run.status.is_some()
            && decision.status.as_ref().is_some_and(|next| next.phase != Phase::Completed)
        {
            decision.status = None;
        }
        writes += usize::from(decision.status.is_some());
        carry_out(&mut observed, &decision);
        let active: Vec<String> = observed
            .children
            .iter()
            .filter(|(_, child)| child.phase != Phase::Completed)
            .map(|(namespace, _)| namespace.clone())
            .collect();
        assert!(active.len() <= 500);
        for (number, namespace) in active.iter().enumerate().filter(|(number, _)| (number + passes) % 3 != 0) {
            let outcome = if (number + passes) % 97 == 0 { Outcome::Failed } else { Outcome::Succeeded };
            end(&mut observed, namespace, outcome);
        }
    }
    let said = status(&observed);
    assert_eq!((observed.children.len(), said.outcome), (TENANTS, Outcome::PartiallySucceeded));
    let counts = said.counts;
    assert_eq!((counts.total, counts.succeeded + counts.failed), (10_000, 10_000));
    assert_eq!((said.tenants.len(), said.tenants_left_out), (100, 9_900));
    assert!(said.tenants.iter().all(|row| row.outcome == Outcome::Failed), "those that failed come first");
    assert!(writes <= TENANTS / 10 + 10, "{writes} writes");
    let size = serde_json::to_vec(&said).expect("JSON").len();
    assert!(size < 48 * 1024, "{size} bytes");
    println!("{passes} passes, {writes} writes of the status, {size} bytes");
}
