//! The pure parts of a run's reconcile together: what is refused, what the Job looks like, what is
//! decided.

// `run(json!({…}))` reads better than a borrow of it.
#![allow(clippy::needless_pass_by_value)]

use super::{
    decide::{Action, Decision, decide},
    fairness::Limits,
    job::{JobSettings, build},
    observed::{JobView, JoinedView, Observed, Parent, RepositoryView, RerunView, Sibling, Slot, Tenant},
    prepare::{Prepared, effective_inputs, named_account, prepare},
    registry::Registry,
};
use crate::{
    api::{
        BackupRepository, BackupRepositoryStatus, ObjectReference, OperationRun, OperationType, Outcome, Phase, Reason,
        operation_run::{MAX_INPUTS_BYTES, Transition, WorkerResult},
    },
    kernel::{refusal::Refusal, status::difference},
    operations::{MadeFor, record::Record},
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};
use std::sync::Arc;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn tenant() -> Tenant {
    Tenant { uid: "tenant-uid".into(), workspace: "team".into(), terminating: false }
}

fn run(spec: Value) -> OperationRun {
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
        "metadata": {"name": "one", "namespace": "acme", "uid": "run-uid", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec
    }))
    .expect("a run")
}

fn operation_type(spec: &Value) -> OperationType {
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType", "metadata": {"name": "work"}, "spec": spec
    }))
    .expect("a type")
}

fn capture_type() -> OperationType {
    operation_type(&json!({
        "executor": {"worker": {"command": ["capture"]}}, "readOnly": true, "retries": 2, "timeout": 600,
        "inputsSchema": {"type": "object", "required": ["repository"], "additionalProperties": false,
            "properties": {"repository": {"type": "string"}, "note": {"type": "string"}}}
    }))
}

fn template_type() -> OperationType {
    operation_type(&json!({"executor": {"jobTemplate": {
        "metadata": {"labels": {"kueue.x-k8s.io/queue-name": "team"}},
        "spec": {"suspend": true, "backoffLimit": 77, "template": {"spec": {"restartPolicy": "OnFailure", "containers": [
            {"name": "main", "image": "dump", "env": [{"name": "ATLAS_RUN", "value": "forged"}, {"name": "MINE", "value": "1"}]}]}}}
    }}}))
}

fn repository() -> Arc<BackupRepository> {
    Arc::new(
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": "acme", "uid": "repository-uid", "generation": 3},
            "spec": {"storage": {"s3": {"bucket": "backups", "region": "eu-1"}}, "passwordSecret": {"name": "password", "key": "password"},
                "credentialsSecret": {"name": "credentials"}}
        }))
        .expect("a repository"),
    )
}

fn prepared_with(
    run: &OperationRun,
    operation_type: &OperationType,
    repository: &RepositoryView,
) -> Result<Prepared, Refusal> {
    prepare(run, Some(&tenant()), Some(&Arc::new(operation_type.clone())), repository, &RerunView::NotAsked, |_| true)
}

fn refused(result: Result<Prepared, Refusal>) -> Refusal {
    let refusal = result.expect_err("a refusal");
    assert!(refusal.message.len() > 40, "a refusal says what to do: {}", refusal.message);
    refusal
}

/// Gives a run the status that it has while the Job of [`ended_job`] is at work.
fn runs_its_job(run: &mut OperationRun) {
    let mut status = run.status_or_default();
    status.phase = Phase::Running;
    status.job = Some(ObjectReference { name: "op".into(), uid: "job-uid".into() });
    run.status = Some(status);
}

#[test]
fn what_can_be_known_beforehand_is_refused_with_a_code_and_a_remedy() {
    let good = run(json!({"type": "work", "inputs": {"repository": "main"}}));
    let ready = RepositoryView::Ready(repository());
    let types = capture_type();
    let ask = |tenant: Option<&Tenant>, types: Option<&OperationType>, repository: &RepositoryView, account: bool| {
        let types = types.map(|found| Arc::new(found.clone()));
        prepare(&good, tenant, types.as_ref(), repository, &RerunView::NotAsked, |_| account)
            .map(|_| ())
            .map_err(|refusal| refusal.reason)
    };
    assert_eq!(ask(Some(&tenant()), Some(&types), &ready, true), Ok(()));
    assert_eq!(ask(None, Some(&types), &ready, true), Err(Reason::NotATenant));
    assert_eq!(ask(Some(&tenant()), None, &ready, true), Err(Reason::UnknownType));
    assert_eq!(ask(Some(&tenant()), Some(&types), &ready, false), Err(Reason::AccountNotFound));
    assert_eq!(
        ask(Some(&tenant()), Some(&types), &RepositoryView::Missing("main".into()), true),
        Err(Reason::RepositoryNotFound)
    );
    assert_eq!(
        ask(Some(&tenant()), Some(&types), &RepositoryView::NotReady(repository()), true),
        Err(Reason::RepositoryNotReady)
    );
    let mut suspended = capture_type();
    suspended.spec.suspend = true;
    assert_eq!(ask(Some(&tenant()), Some(&suspended), &ready, true), Err(Reason::TypeSuspended));
    let mut workspace = capture_type();
    workspace.spec.scope = crate::api::operation_type::Scope::Workspace;
    assert_eq!(ask(Some(&tenant()), Some(&workspace), &ready, true), Err(Reason::WrongScope));
    let mut broken = capture_type();
    broken.spec.inputs_schema = json!({"type": 7}).as_object().cloned();
    assert_eq!(ask(Some(&tenant()), Some(&broken), &ready, true), Err(Reason::InvalidType));
    let mut empty = template_type();
    empty.spec.executor.job_template = Some(k8s_openapi::api::batch::v1::JobTemplateSpec::default());
    assert_eq!(ask(Some(&tenant()), Some(&empty), &ready, true), Err(Reason::InvalidType));
}

#[test]
fn runs_of_two_users_are_the_same_work_unless_the_result_depends_on_who_asks() {
    let ready = RepositoryView::Ready(repository());
    let job = |command: &str, user: &str| {
        let asked = run(json!({"type": "work", "initiator": {"username": user, "groups": ["team"]},
            "inputs": {"repository": "main"}}));
        let of_type = operation_type(&json!({"readOnly": true, "executor": {"worker": {"command": [command]}}}));
        prepared_with(&asked, &of_type, &ready).expect("prepared").identity.job_name()
    };
    for operation in crate::operations::TABLE.into_iter().filter(|operation| operation.made_for().is_none()) {
        let shared = job(operation.command(), "ada") == job(operation.command(), "eve");
        assert_eq!(shared, !operation.depends_on_requester(), "{}", operation.name());
    }
    assert_eq!(job("history", "ada"), job("history", "ada"), "one user's runs join");
    assert_ne!(job("history", "ada"), job("history", "eve"));
}

#[test]
fn bad_inputs_are_refused_with_the_place_of_the_mistake() {
    let ready = RepositoryView::Ready(repository());
    let refusal =
        refused(prepared_with(&run(json!({"type": "work", "inputs": {"repository": 7}})), &capture_type(), &ready));
    assert_eq!(refusal.reason, Reason::InvalidInputs);
    assert!(refusal.message.contains("inputs/repository"), "{}", refusal.message);
    let large = run(json!({"type": "work", "inputs": {"repository": "main", "note": "x".repeat(70_000)}}));
    assert_eq!(refused(prepared_with(&large, &capture_type(), &ready)).reason, Reason::InputsTooLarge);
    let not_read = |part: &str| Some([("tenantatlas.io/left-out".to_owned(), part.to_owned())].into());
    for (part, reason) in [("spec.inputs", Reason::InputsTooLarge), ("metadata.ownerReferences", Reason::TooLarge)] {
        let mut large = run(json!({"type": "work", "inputs": {"repository": "main"}}));
        large.metadata.annotations = not_read(part);
        assert_eq!(refused(prepared_with(&large, &capture_type(), &ready)).reason, reason, "{part}");
    }
    let mut half_read = (*repository()).clone();
    half_read.metadata.annotations = not_read("spec.adopt");
    let half_read = RepositoryView::Ready(Arc::new(half_read));
    let asks = run(json!({"type": "work", "inputs": {"repository": "main"}}));
    let refusal = refused(prepared_with(&asks, &capture_type(), &half_read));
    assert_eq!(refusal.reason, Reason::TooLarge);
    assert!(refusal.message.starts_with("BackupRepository main: make spec.adopt smaller"), "{}", refusal.message);
}

#[test]
fn a_check_is_let_through_to_a_repository_that_is_not_ready() {
    let check = operation_type(&json!({"executor": {"worker": {"command": ["check"]}}, "readOnly": true}));
    let asked = run(json!({"type": "work", "inputs": {"repository": "main"}}));
    assert!(prepared_with(&asked, &check, &RepositoryView::NotReady(repository())).is_ok());
}

#[test]
fn a_rerun_takes_the_inputs_of_a_completed_run_of_the_same_type() {
    let ready = RepositoryView::Ready(repository());
    let again = run(json!({"type": "work", "rerunOf": {"name": "earlier"}}));
    let ask =
        |view: RerunView| prepare(&again, Some(&tenant()), Some(&Arc::new(capture_type())), &ready, &view, |_| true);
    let mut earlier = run(json!({"type": "work", "inputs": {"repository": "main"}}));
    assert_eq!(refused(ask(RerunView::Missing("earlier".into()))).reason, Reason::RerunNotPossible);
    assert_eq!(refused(ask(RerunView::Found(Arc::new(earlier.clone())))).reason, Reason::RerunNotPossible);
    let mut status = earlier.status_or_default();
    status.phase = Phase::Completed;
    earlier.status = Some(status);
    let prepared = ask(RerunView::Found(Arc::new(earlier.clone()))).expect("possible");
    assert_eq!(prepared.inputs.get("repository"), Some(json!("main")));
    earlier.spec.operation_type = "other".into();
    assert_eq!(refused(ask(RerunView::Found(Arc::new(earlier)))).reason, Reason::RerunNotPossible);
}

#[test]
fn maintenance_without_grace_is_asked_for_in_so_many_words() {
    let maintain = operation_type(&json!({"executor": {"worker": {"command": ["maintain"]}}, "readOnly": true}));
    let ready = RepositoryView::Ready(repository());
    let completed = |inputs: Value| {
        let mut earlier = run(json!({"type": "work", "inputs": inputs}));
        let mut status = earlier.status_or_default();
        status.phase = Phase::Completed;
        earlier.status = Some(status);
        RerunView::Found(Arc::new(earlier))
    };
    let ask = |inputs: Value, earlier: Value| {
        let again = run(json!({"type": "work", "rerunOf": {"name": "earlier"}, "inputs": inputs}));
        prepare(&again, Some(&tenant()), Some(&Arc::new(maintain.clone())), &ready, &completed(earlier), |_| true)
    };
    let with = |hours: Value| json!({"repository": "main", "graceHours": hours});
    for hours in [json!(0), json!(23), json!(-1), json!(0.5), json!("0"), Value::Null] {
        assert_eq!(refused(ask(json!({}), with(hours))).reason, Reason::RerunNotPossible);
    }
    assert!(ask(json!({}), with(json!(24))).is_ok());
    assert!(ask(json!({}), json!({"repository": "main"})).is_ok());
    // Admission has checked this run.
    assert!(ask(with(json!(0)), with(json!(0))).is_ok());
}

#[test]
fn a_run_may_take_no_longer_than_its_type_allows() {
    let ready = RepositoryView::Ready(repository());
    let ask = |seconds: i64, types: &OperationType| {
        let long = run(json!({"type": "work", "inputs": {"repository": "main"}, "timeoutSeconds": seconds}));
        prepared_with(&long, types, &ready)
    };
    let mut types = capture_type();
    for (timeout, most) in [(Some(60), 60), (None, 3600)] {
        types.spec.timeout_seconds = timeout;
        assert!(ask(most, &types).is_ok());
        let refusal = refused(ask(most + 1, &types));
        assert_eq!(refusal.reason, Reason::TimeoutTooLong);
        assert!(refusal.message.contains(&format!("at most {most}")), "{}", refusal.message);
    }
}

fn settings() -> JobSettings {
    JobSettings {
        image: "tenantatlas:1".into(),
        image_pull_policy: "IfNotPresent".into(),
        image_pull_secrets: vec!["pull".into()],
        worker_resources: json!({"limits": {"memory": "512Mi"}}),
        cluster_uid: "cluster-uid".into(),
    }
}

fn job_of(spec: Value, operation_type: &OperationType) -> Job {
    let run = run(spec);
    let prepared = prepared_with(&run, operation_type, &RepositoryView::Ready(repository())).expect("prepared");
    build(&run, &prepared, &settings()).expect("a Job")
}

#[test]
fn the_job_of_our_worker_is_as_written() {
    let job = job_of(
        json!({"type": "work", "inputs": {"repository": "main", "note": "$(HOME)"}, "timeoutSeconds": 30}),
        &capture_type(),
    );
    insta::assert_json_snapshot!(job);
}

#[test]
fn the_job_of_another_image_is_fenced_and_what_is_ours_cannot_be_set_by_a_template() {
    let job = job_of(
        json!({"type": "work", "target": {"apiVersion": "v1", "kind": "ConfigMap", "name": "x"}}),
        &template_type(),
    );
    let spec = job.spec.clone().expect("a spec");
    assert_eq!(spec.suspend, Some(true), "a queue's suspend passes through");
    assert_eq!(spec.backoff_limit, Some(0), "retries come from the type");
    let pod = spec.template.spec.expect("a pod");
    assert_eq!(pod.automount_service_account_token, Some(false), "another's code gets no token");
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let variables = pod.containers[0].env.clone().expect("variables");
    let of_run: Vec<_> = variables.iter().filter(|variable| variable.name == "ATLAS_RUN").collect();
    assert_eq!(of_run.len(), 1);
    assert_eq!(of_run[0].value.as_deref(), Some("one"));
    assert_eq!(
        job.metadata.labels.as_ref().and_then(|labels| labels.get("kueue.x-k8s.io/queue-name")).map(String::as_str),
        Some("team")
    );
    insta::assert_json_snapshot!(job);
}

fn observed(run: OperationRun, job: JobView) -> Observed {
    let operation_type = capture_type();
    let prepared = prepared_with(&run, &operation_type, &RepositoryView::Ready(repository()));
    Observed {
        run: Arc::new(run),
        tenant: Some(tenant()),
        operation_type: Some(Arc::new(operation_type)),
        prepared,
        job,
        job_asked: true,
        pods: Vec::new(),
        joined: JoinedView::None,
        older: Vec::new(),
        slot: Slot::Free,
        waiting_since: None,
        beyond_history: false,
        awaited: false,
        parent: None,
    }
}

fn capture(extra: Value) -> OperationRun {
    let mut spec = json!({"type": "work", "inputs": {"repository": "main"}});
    spec.as_object_mut().expect("an object").extend(extra.as_object().cloned().unwrap_or_default());
    run(spec)
}

fn others_job() -> JobView {
    JobView::Others {
        job: Arc::new(Job::default()),
        owner: Sibling { name: "first".into(), uid: "first-uid".into(), leaving: false },
    }
}

fn written(observed: &Observed) -> crate::api::OperationRunStatus {
    let decision = decide(observed, now());
    match decision.actions.last() {
        Some(Action::WriteStatus(status)) => (**status).clone(),
        other => panic!("no status is written but {other:?}"),
    }
}

#[test]
fn a_duplicate_joins_or_is_rejected_as_it_asks() {
    let joins = written(&observed(capture(json!({})), others_job()));
    assert_eq!(joins.joined, Some(ObjectReference { name: "first".into(), uid: "first-uid".into() }));
    assert_eq!((joins.phase, joins.outcome), (Phase::Running, Outcome::Pending));
    let rejected = written(&observed(capture(json!({"onDuplicate": "Reject"})), others_job()));
    assert_eq!((rejected.outcome, rejected.reason.as_deref()), (Outcome::Blocked, Some("DuplicateRun")));
}

/// A run whose Job failed with this termination message, by our worker or by another image.
fn failed_job(ours: bool, message: &str) -> crate::api::OperationRunStatus {
    let mut run = capture(json!({}));
    runs_its_job(&mut run);
    let (job, pod) = ended_job(ours, "Failed", 49, message);
    let mut observed = observed(run, JobView::Own(Arc::new(job)));
    observed.pods = vec![Arc::new(pod)];
    written(&observed)
}

/// A finished Job of our worker or of another image, and its pod.
fn ended_job(ours: bool, condition: &str, exit_code: i32, message: &str) -> (Job, k8s_openapi::api::core::v1::Pod) {
    let fence = if ours { json!([]) } else { json!([{"name": "atlas-fence"}]) };
    let job: Job = serde_json::from_value(json!({
        "metadata": {"name": "op", "uid": "job-uid"},
        "spec": {"template": {"spec": {"containers": [{"name": "main"}], "initContainers": fence}}},
        "status": {"conditions": [{"type": condition, "status": "True", "reason": "PodFailurePolicy"}]}
    }))
    .expect("a Job");
    let pod = serde_json::from_value(json!({
        "metadata": {"name": "op-1", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": "job-uid", "controller": true}]},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": {"terminated": {"exitCode": exit_code, "message": message}}}]}
    }))
    .expect("a pod");
    (job, pod)
}

/// A run whose Job still runs, and whose pod or worker may have said that its work has ended.
fn still_running(ours: bool, change: impl FnOnce(&mut OperationRun, &mut k8s_openapi::api::core::v1::Pod)) -> Observed {
    let mut run = capture(json!({}));
    runs_its_job(&mut run);
    let (mut job, mut pod) = ended_job(ours, "Complete", 0, r#"{"message": "by the pod"}"#);
    job.status = None;
    change(&mut run, &mut pod);
    let mut observed = observed(run, JobView::Own(Arc::new(job)));
    observed.pods = vec![Arc::new(pod)];
    observed
}

fn report(run: &mut OperationRun, job_uid: &str, exit_code: i32) {
    let result = WorkerResult {
        job_uid: job_uid.into(),
        pod: "op-1".into(),
        exit_code,
        message: r#"{"message": "by the worker"}"#.into(),
    };
    run.status.get_or_insert_default().worker_result = Some(result);
}

fn runs_on(pod: &mut k8s_openapi::api::core::v1::Pod) {
    pod.status = None;
}

#[test]
fn a_run_ends_by_the_result_that_its_worker_reports_while_its_job_still_runs() {
    for (exit_code, outcome, reason) in
        [(0, Outcome::Succeeded, "Succeeded"), (40, Outcome::Failed, "PermanentFailure")]
    {
        let ended = written(&still_running(true, |run, pod| {
            report(run, "job-uid", exit_code);
            runs_on(pod);
        }));
        assert_eq!((ended.phase, ended.outcome, ended.reason.as_deref()), (Phase::Completed, outcome, Some(reason)));
        assert_eq!((ended.message.as_deref(), ended.attempts), (Some("by the worker"), Some(1)));
        assert_eq!(ended.worker_result, None, "it is in the fields around it");
    }
}

#[test]
fn a_reported_result_counts_before_a_cancellation_and_before_the_jobs_own_failure() {
    let mut cancelled = still_running(true, |run, pod| {
        report(run, "job-uid", 0);
        run.spec.cancel = true;
        runs_on(pod);
    });
    assert_eq!(written(&cancelled).outcome, Outcome::Succeeded);
    // The container died after its report, so its Job failed.
    let (job, pod) = ended_job(true, "Failed", 137, "");
    (cancelled.job, cancelled.pods) = (JobView::Own(Arc::new(job)), vec![Arc::new(pod)]);
    assert_eq!(written(&cancelled).outcome, Outcome::Succeeded);
}

#[test]
fn a_result_of_another_job_of_another_image_or_of_a_failure_that_is_retried_does_not_count() {
    for (ours, job_uid, exit_code) in [(true, "earlier", 0), (false, "job-uid", 0), (true, "job-uid", 1)] {
        let running = still_running(ours, |run, pod| {
            report(run, job_uid, exit_code);
            runs_on(pod);
        });
        let ends = decide(&running, now()).actions.iter().any(is_an_end);
        assert!(!ends, "ours {ours}, Job {job_uid}, exit code {exit_code}");
    }
}

fn is_an_end(action: &Action) -> bool {
    matches!(action, Action::WriteStatus(status) if status.phase == Phase::Completed)
}

#[test]
fn a_run_ends_when_all_containers_of_its_pod_have_exited_well_before_its_job_is_complete() {
    for ours in [true, false] {
        let ended = written(&still_running(ours, |_, _| {}));
        assert_eq!((ended.phase, ended.outcome), (Phase::Completed, Outcome::Succeeded));
        assert_eq!((ended.message.as_deref(), ended.attempts), (Some("by the pod"), Some(1)));
    }
}

#[test]
fn a_pod_whose_job_may_still_end_in_another_way_does_not_end_its_run() {
    let changed = |path: &str, value: serde_json::Value| {
        still_running(false, |_, pod| {
            let mut changed = serde_json::to_value(&*pod).expect("JSON");
            *changed.pointer_mut(path).expect("a parent") = value;
            *pod = serde_json::from_value(changed).expect("a pod");
        })
    };
    let terminated = |exit_code: i32| json!({"name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": exit_code}}});
    for (why, path, value) in [
        ("its container failed", "/status/containerStatuses/0", terminated(3)),
        ("its container failed for good", "/status/containerStatuses/0", terminated(40)),
        ("another container still runs", "/spec/containers", json!([{"name": "main"}, {"name": "proxy"}])),
        (
            "it was told to stop",
            "/metadata",
            json!({"name": "op-1", "deletionTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": "job-uid", "controller": true}]}),
        ),
        (
            "it is an earlier Job's",
            "/metadata",
            json!({"name": "op-1", "ownerReferences": [
                {"apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": "earlier", "controller": true}]}),
        ),
        ("it was evicted", "/status", json!({"reason": "Evicted", "containerStatuses": [terminated(0)]})),
        ("it failed as a whole", "/status", json!({"phase": "Failed", "containerStatuses": [terminated(0)]})),
        (
            "it was preempted",
            "/status",
            json!({"conditions": [{"type": "DisruptionTarget", "status": "True"}], "containerStatuses": [terminated(0)]}),
        ),
    ] {
        let running = changed(path, value);
        assert!(!decide(&running, now()).actions.iter().any(is_an_end), "{why}");
    }
}

#[test]
fn a_run_whose_worker_found_it_cancelled_is_cancelled_though_the_operator_has_not_seen_it_yet() {
    let cancelled = r#"{"outcome": "failed", "reason": "Cancelled", "message": "nothing was done"}"#;
    assert_eq!(failed_job(true, cancelled).reason.as_deref(), Some("Cancelled"));
}

#[test]
fn a_job_that_is_managed_elsewhere_has_no_pods_to_wait_for() {
    let mut run = capture(json!({}));
    runs_its_job(&mut run);
    let job = |managed_by: &str| -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "op", "uid": "job-uid"},
            "spec": {"managedBy": managed_by, "template": {"spec": {"containers": [], "initContainers": [{"name": "atlas-fence"}]}}},
            "status": {"conditions": [{"type": "Complete", "status": "True"}]}
        }))
        .expect("a Job")
    };
    let elsewhere = observed(run.clone(), JobView::Own(Arc::new(job("kueue.x-k8s.io/multikueue"))));
    assert_eq!(written(&elsewhere).outcome, Outcome::Succeeded);
    let mut here = observed(run, JobView::Own(Arc::new(job("kubernetes.io/job-controller"))));
    here.waiting_since = Some(now());
    assert!(decide(&here, now()).actions.is_empty(), "the pod's last word is waited for");
}

#[test]
fn a_cancelled_run_whose_job_failed_and_left_no_pod_is_cancelled() {
    let end_of = |cancel: bool, reason: &str| {
        let mut run = capture(json!({ "cancel": cancel }));
        runs_its_job(&mut run);
        let job: Job = serde_json::from_value(json!({
            "metadata": {"name": "op", "uid": "job-uid"},
            "spec": {"managedBy": "kueue.x-k8s.io/multikueue", "template": {"spec": {"containers": []}}},
            "status": {"conditions": [{"type": "Failed", "status": "True", "reason": reason}]}
        }))
        .expect("a Job");
        written(&observed(run, JobView::Own(Arc::new(job)))).reason
    };
    assert_eq!(end_of(true, "PodFailurePolicy").as_deref(), Some("Cancelled"));
    assert_eq!(end_of(false, "PodFailurePolicy").as_deref(), Some("JobFailed"));
    assert_eq!(end_of(true, "DeadlineExceeded").as_deref(), Some("TimedOut"));
}

#[test]
fn another_image_cannot_say_that_its_run_was_cancelled() {
    let lie = r#"{"outcome": "failed", "reason": "Cancelled"}"#;
    assert_eq!(failed_job(false, lie).reason.as_deref(), Some("PermanentFailure"));
    let own_code = r#"{"outcome": "failed", "reason": "DiskTired"}"#;
    assert_eq!(failed_job(false, own_code).reason.as_deref(), Some("DiskTired"));
}

#[test]
fn a_foreign_job_under_our_name_blocks_the_run() {
    let blocked = written(&observed(capture(json!({})), JobView::Foreign(Arc::new(Job::default()))));
    assert_eq!((blocked.outcome, blocked.reason.as_deref()), (Outcome::Blocked, Some("JobNameTaken")));
}

#[test]
fn a_run_that_finds_its_job_after_a_crash_started_when_the_job_was_made() {
    let job: Job = serde_json::from_value(
        json!({"metadata": {"name": "op", "uid": "job-uid", "creationTimestamp": "2025-12-31T23:59:00Z"}}),
    )
    .expect("a Job");
    let status = written(&observed(capture(json!({})), JobView::Own(Arc::new(job))));
    assert_eq!(status.started_at, Some(now() - SignedDuration::from_mins(1)));
    assert_eq!(status.job.map(|job| job.uid).as_deref(), Some("job-uid"));
}

#[test]
fn a_run_that_waits_for_a_slot_says_so_once() {
    let mut waits = observed(capture(json!({})), JobView::Absent);
    waits.slot = Slot::Waiting { limit: "1 active of this type".into(), others: 3 };
    let status = written(&waits);
    assert_eq!(status.waiting.as_ref().map(|waiting| waiting.reason.as_str()), Some("ConcurrencyLimit"));
    let mut again = (*waits.run).clone();
    again.status = Some(status);
    waits.run = Arc::new(again);
    assert!(decide(&waits, now()).actions.is_empty());
    assert!(decide(&waits, now()).in_line);
}

#[test]
fn a_status_is_written_to_the_uid_and_the_version_that_were_decided_about() {
    let mut run = capture(json!({}));
    run.metadata.resource_version = Some("7".into());
    let observed = observed(run, others_job());
    let patch = difference(&*observed.run, &observed.status(), &written(&observed)).expect("JSON").expect("a change");
    assert_eq!(patch["metadata"], json!({"uid": "run-uid", "resourceVersion": "7"}));
    assert_eq!(patch["status"]["joined"]["name"], "first");
    let status = observed.status();
    assert_eq!(difference(&*observed.run, &status, &status).expect("JSON"), None, "no change, no write");
}

/// A run that has a recorded Job with the uid `job-uid` and observes this Job and these pods.
fn with_a_recorded_job(job: JobView, pods: &[(&str, &str)]) -> Observed {
    let mut run = capture(json!({}));
    runs_its_job(&mut run);
    let mut observed = observed(run, job);
    observed.pods = pods.iter().map(|(of, phase)| Arc::new(pod(of, phase))).collect();
    observed
}

fn pod(of_job: &str, phase: &str) -> k8s_openapi::api::core::v1::Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "op-1", "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": "op", "uid": of_job, "controller": true}]},
        "status": {"phase": phase}
    }))
    .expect("a pod")
}

#[test]
fn a_job_counts_only_by_its_recorded_uid() {
    let other: Job = serde_json::from_value(json!({
        "metadata": {"name": "op", "uid": "another-uid"},
        "status": {"conditions": [{"type": "Complete", "status": "True"}]}
    }))
    .expect("a Job");
    let status = written(&with_a_recorded_job(JobView::Own(Arc::new(other)), &[]));
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("JobDeleted")));
}

#[test]
fn a_run_whose_job_vanished_is_not_over_while_its_pod_runs() {
    assert!(decide(&with_a_recorded_job(JobView::Absent, &[("job-uid", "Running")]), now()).actions.is_empty());
    for pods in [&[("job-uid", "Failed")], &[("another-uid", "Running")]] {
        assert_eq!(written(&with_a_recorded_job(JobView::Absent, pods)).reason.as_deref(), Some("JobDeleted"));
    }
}

#[test]
fn no_job_starts_beside_a_pod_of_the_one_before() {
    let mut waits = observed(capture(json!({})), JobView::Absent);
    waits.pods = vec![Arc::new(pod("another-uid", "Running"))];
    assert_eq!(written(&waits).reason.as_deref(), Some("PreviousJobTerminating"));
    waits.pods = vec![Arc::new(pod("another-uid", "Failed"))];
    assert!(matches!(decide(&waits, now()).actions.as_slice(), [Action::Start(_)]));
}

#[test]
fn a_repository_counts_as_checked_only_at_the_generation_that_was_checked() {
    let mut repository = (*repository()).clone();
    let status = |generation: i64| {
        serde_json::from_value(json!({"observedGeneration": generation, "conditions": [
            {"type": "Ready", "status": "True", "reason": "CheckPassed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}))
        .expect("a status")
    };
    repository.status = Some(status(3));
    assert!(repository.is_ready());
    repository.status = Some(status(2));
    assert!(!repository.is_ready());
}

#[test]
fn a_rehearsal_is_recorded_on_its_set_if_it_came_to_its_end_or_found_damage() {
    let rehearsal = operation_type(&json!({"executor": {"worker": {"command": ["rehearse"]}}, "readOnly": true}));
    let mut run = capture(json!({"inputs": {"repository": "main", "backupSet": "nightly"}}));
    let prepared = prepared_with(&run, &rehearsal, &RepositoryView::Ready(repository()));
    assert_eq!(prepared.map(|prepared| prepared.account), Ok("tenantatlas-preview".to_owned()));
    let recorded = |decision: Decision| {
        decision.actions.into_iter().find(|action| matches!(action, Action::Record(Record::Verified { .. })))
    };
    let of_type = |run: OperationRun, job: JobView| {
        let operation_type = Some(Arc::new(rehearsal.clone()));
        Observed { operation_type, ..observed(run, job) }
    };
    let queued = of_type(run.clone(), JobView::Absent);
    let refusal = Refusal::new(Reason::QuotaExceeded, "full");
    assert_eq!(recorded(super::decide::refused(&queued, &refusal, now())), None);
    runs_its_job(&mut run);
    let ended = |condition: &str, exit_code: i32, message: &Value| {
        let (job, pod) = ended_job(true, condition, exit_code, &message.to_string());
        let ended = Observed { pods: vec![Arc::new(pod)], ..of_type(run.clone(), JobView::Own(Arc::new(job))) };
        recorded(decide(&ended, now()))
    };
    let record = |outcome: Outcome| Some(Action::Record(Record::Verified { set: "nightly".into(), outcome }));
    let another = json!({"outcome": "succeeded", "context": {"backupSet": "of-another-run", "plan": {"digest": "d"}}});
    assert_eq!(ended("Complete", 0, &another), record(Outcome::Succeeded), "the inputs name it");
    let tried = json!({"outcome": "partially_succeeded", "context": {"plan": {"digest": "d", "summary": {"create": 1, "invalid": 1}}}});
    assert_eq!(ended("Complete", 0, &tried), record(Outcome::PartiallySucceeded));
    let refused = |failures: Value| {
        json!({"outcome": "partially_succeeded", "failures": failures, "summaryCounts": {"total": 2, "processed": 2, "succeeded": 1, "failed": 1},
            "context": {"plan": {"digest": "d", "summary": {"create": 1, "forbidden": 1}}}})
    };
    let item = |code: &str| json!([{"itemId": "core/Secret/a", "reasonCode": code, "message": "", "type": "failure"}]);
    assert_eq!(
        ended("Complete", 0, &refused(item("Forbidden"))),
        None,
        "what who asked may not do is not the set's fault"
    );
    assert_eq!(ended("Complete", 0, &refused(item("Damaged"))), record(Outcome::PartiallySucceeded));
    for code in ["Damaged", "SnapshotNotFound"] {
        assert_eq!(
            ended("Failed", 40, &json!({"outcome": "failed", "reason": code})),
            record(Outcome::Failed),
            "{code}"
        );
    }
    for code in [
        "WrongPassword",
        "StoreUnreachable",
        "AccessDenied",
        "BucketNotFound",
        "ApiUnreachable",
        "Interrupted",
        "Cancelled",
    ] {
        assert_eq!(ended("Failed", 40, &json!({"outcome": "failed", "reason": code})), None, "{code}");
    }
    assert_eq!(ended("Complete", 0, &json!({})), None, "no result: it is not known what was tried");
}

#[test]
fn a_rehearsal_that_names_no_set_is_recorded_on_the_one_its_worker_found() {
    let rehearsal = operation_type(&json!({"executor": {"worker": {"command": ["rehearse"]}}, "readOnly": true}));
    let mut run = capture(json!({"inputs": {"repository": "main"}}));
    runs_its_job(&mut run);
    let recorded = |found: &str| {
        let message = json!({"outcome": "succeeded", "context": {"backupSet": found, "plan": {"digest": "d"}}});
        let (job, pod) = ended_job(true, "Complete", 0, &message.to_string());
        let operation_type = Some(Arc::new(rehearsal.clone()));
        let pods = vec![Arc::new(pod)];
        let ended = Observed { operation_type, pods, ..observed(run.clone(), JobView::Own(Arc::new(job))) };
        decide(&ended, now()).actions.into_iter().find_map(|action| match action {
            Action::Record(Record::Verified { set, .. }) => Some(set),
            _ => None,
        })
    };
    assert_eq!(recorded("nightly").as_deref(), Some("nightly"));
    assert_eq!(recorded("../nightly"), None, "a tenant's pod may say anything");
}

#[test]
fn maintenance_is_recorded_on_its_repository_if_it_was_done_or_found_damage() {
    let maintenance = operation_type(&json!({"executor": {"worker": {"command": ["maintain"]}}, "readOnly": true}));
    let mut run = capture(json!({}));
    let unready = prepared_with(&run, &maintenance, &RepositoryView::NotReady(repository()));
    assert_eq!(refused(unready).reason, Reason::RepositoryNotReady);
    runs_its_job(&mut run);
    let ended = |condition: &str, exit_code: i32, message: &Value| {
        let (job, pod) = ended_job(true, condition, exit_code, &message.to_string());
        let operation_type = Some(Arc::new(maintenance.clone()));
        let pods = vec![Arc::new(pod)];
        let ended = Observed { operation_type, pods, ..observed(run.clone(), JobView::Own(Arc::new(job))) };
        decide(&ended, now()).actions.into_iter().find_map(|action| match action {
            Action::Record(Record::Checked(check)) => {
                Some((check.passed, check.maintained.map(|figures| figures.deleted_bytes), check.damaged))
            }
            _ => None,
        })
    };
    let done = json!({"outcome": "succeeded", "reason": "CheckPassed", "context": {"maintained": {"forgotten": 1, "deletedBytes": 7}}});
    assert_eq!(ended("Complete", 0, &done), Some((true, Some(7), Vec::new())));
    let damaged = json!({"outcome": "failed", "reason": "Damaged", "context": {"damagedSnapshots": ["0123"]}});
    assert_eq!(ended("Failed", 40, &damaged), Some((false, None, vec!["0123".to_owned()])));
    let vanished = json!({"outcome": "failed", "reason": "RepositoryVanished"});
    assert_eq!(ended("Failed", 40, &vanished), Some((false, None, Vec::new())));
    for code in ["RepositoryBusy", "PermitLost", "StoreUnreachable", "AccessDenied", "Interrupted", "Cancelled"] {
        let message = json!({"outcome": "failed", "reason": code});
        assert_eq!(ended("Failed", 40, &message), None, "{code} says nothing of what is stored");
    }
}

#[test]
fn what_a_run_made_is_recorded_before_its_end() {
    let mut run = capture(json!({}));
    runs_its_job(&mut run);
    let made = r#"{"context": {"snapshot": {"id": "abc", "items": 1, "bytes": 1, "addedBytes": 1}}}"#;
    let (job, pod) = ended_job(true, "Complete", 0, made);
    let mut observed = observed(run, JobView::Own(Arc::new(job)));
    observed.pods = vec![Arc::new(pod)];
    let actions = decide(&observed, now()).actions;
    assert!(
        matches!(actions.as_slice(), [Action::Record(Record::NewSet { complete: true, .. }), Action::WriteStatus(_)]),
        "a crash in between must not lose the backup set: {actions:?}"
    );
}

#[test]
fn what_backup_sets_hold_of_a_tenant_is_recorded_on_the_run_and_on_its_repository_but_not_that_of_a_selection() {
    let recorded = |coverage: Value| {
        let mut run = capture(json!({}));
        runs_its_job(&mut run);
        let snapshot = json!({"id": "abc", "content": "Inventory", "items": 1, "bytes": 1, "addedBytes": 1});
        let made = json!({"context": {"snapshot": snapshot, "coverage": coverage}}).to_string();
        let (job, pod) = ended_job(true, "Complete", 0, &made);
        let mut observed = observed(run, JobView::Own(Arc::new(job)));
        observed.pods = vec![Arc::new(pod)];
        let actions = decide(&observed, now()).actions;
        let on_repository = actions.iter().find_map(|action| match action {
            Action::Record(Record::Covered { repository, coverage }) => Some((repository.clone(), coverage.uncovered)),
            _ => None,
        });
        let on_run = actions.iter().find_map(|action| match action {
            Action::WriteStatus(status) => status.context.coverage.as_ref().map(|coverage| coverage.uncovered),
            _ => None,
        });
        (on_run, on_repository)
    };
    let time = "2026-01-01T00:00:00Z";
    let all = json!({"takenAt": time, "days": 7, "objects": 9, "uncovered": 3});
    assert_eq!(recorded(all), (Some(3), Some(("main".to_owned(), 3))));
    let some = json!({"takenAt": time, "days": 7, "objects": 9, "uncovered": 3, "selected": true});
    assert_eq!(recorded(some), (Some(3), None));
    assert_eq!(recorded(json!(null)), (None, None));
}

#[test]
fn a_finished_job_that_is_on_its_way_out_is_worth_a_word_only_when_it_lingers() {
    let leaving: Job = serde_json::from_value(
        json!({"metadata": {"name": "op", "uid": "old", "deletionTimestamp": "2026-01-01T00:00:00Z"}}),
    )
    .expect("a Job");
    let mut waits = observed(capture(json!({})), JobView::Orphan(Arc::new(leaving)));
    waits.waiting_since = Some(now());
    assert!(decide(&waits, now()).actions.is_empty());
    let later = now() + decide(&waits, now()).requeue.expect("another look");
    match decide(&waits, later).actions.as_slice() {
        [Action::WriteStatus(status)] => assert_eq!(status.reason.as_deref(), Some("PreviousJobTerminating")),
        other => panic!("{other:?}"),
    }
}

/// Puts a run into the registry. Returns the names of the runs that this wakes.
fn registered(registry: &Registry, uid: &str, tenant: &str, status: Value) -> Vec<String> {
    let mut run = run(json!({"type": "work"}));
    run.metadata.uid = Some(uid.to_owned());
    run.metadata.name = Some(uid.to_owned());
    run.metadata.namespace = Some(tenant.to_owned());
    run.status = Some(serde_json::from_value(status).expect("a status"));
    let mut woken: Vec<String> =
        registry.apply(&run).into_iter().map(|reference| reference.name().to_owned()).collect();
    woken.sort();
    woken
}

#[test]
fn the_registry_counts_a_run_as_active_from_its_claim_to_its_end_and_once() {
    let registry = Registry::default();
    let limits = Limits { total: Some(2), ..Limits::default() };
    let has_job = json!({"job": {"name": "op", "uid": "job"}});
    for uid in ["a", "b", "c"] {
        registered(&registry, uid, "acme", json!({}));
    }
    assert!(registry.claim("a", &limits));
    assert!(registry.claim("b", &limits));
    assert!(!registry.claim("c", &limits), "two are claimed");
    // Seen twice with its Job, the run still counts once.
    registered(&registry, "a", "acme", has_job.clone());
    registered(&registry, "a", "acme", has_job.clone());
    assert!(!registry.claim("c", &limits));
    registry.release("b");
    assert!(registry.claim("c", &limits), "the slot was given back");
    assert!(!registry.claim("b", &limits));
    registered(&registry, "a", "acme", json!({"phase": "completed", "outcome": "succeeded"}));
    assert!(registry.claim("b", &limits), "a is at its end");
}

#[test]
fn the_registry_wakes_those_of_the_same_identity_and_tenant_and_those_that_joined() {
    let registry = Registry::default();
    let identity = "0123456789abcdef0123456789abcdef";
    let same = json!({"identityHash": identity});
    registered(&registry, "winner", "acme", same.clone());
    registered(&registry, "elsewhere", "globex", same.clone());
    registered(&registry, "other", "acme", json!({"identityHash": "ffff"}));
    registered(&registry, "twin", "acme", json!({}));
    registry.identify("twin", identity);
    registered(&registry, "joiner", "acme", json!({"joined": {"name": "winner", "uid": "winner"}}));
    let job = format!("op-{}", &identity[..20]);
    let mut named: Vec<_> =
        registry.by_job_name("acme", &job).into_iter().map(|reference| reference.name().to_owned()).collect();
    named.sort();
    assert_eq!(named, ["twin", "winner"]);
    let running = json!({"identityHash": identity, "phase": "running", "job": {"name": job, "uid": "job"}});
    assert_eq!(registered(&registry, "winner", "acme", running), ["joiner", "twin"]);
    let ended = json!({"identityHash": identity, "phase": "completed", "outcome": "succeeded"});
    let woken = registered(&registry, "winner", "acme", ended);
    assert!(woken.contains(&"joiner".to_owned()) && woken.contains(&"twin".to_owned()), "{woken:?}");
    assert!(registry.is_awaited("winner") && !registry.is_awaited("twin"));
    registered(&registry, "joiner", "acme", json!({"phase": "completed", "outcome": "succeeded"}));
    assert!(!registry.is_awaited("winner"), "its end was copied");
    assert!(registry.by_job_name("acme", &job).iter().all(|reference| reference.name() == "twin"));
}

#[test]
fn a_joiner_whose_winner_ended_goes_before_a_younger_one_even_if_its_status_still_says_that_it_joined() {
    let registry = Registry::default();
    let identity = "0123456789abcdef0123456789abcdef";
    let older = |registry: &Registry| -> Vec<String> {
        registry.older("c", identity).into_iter().map(|sibling| sibling.name).collect()
    };
    registered(&registry, "a", "acme", json!({"identityHash": identity, "phase": "running"}));
    registered(&registry, "b", "acme", json!({"identityHash": identity, "joined": {"name": "a", "uid": "a"}}));
    registered(&registry, "c", "acme", json!({"identityHash": identity}));
    assert_eq!(older(&registry), ["a"], "b waits for a's end");
    registered(&registry, "a", "acme", json!({"phase": "completed", "outcome": "failed"}));
    assert_eq!(older(&registry), ["b"]);
    registered(&registry, "b", "acme", json!({"phase": "completed", "outcome": "failed"}));
    assert!(older(&registry).is_empty());
}

#[test]
fn in_a_namespace_that_is_going_nothing_is_written() {
    let mut going = observed(capture(json!({})), JobView::Absent);
    going.tenant = Some(Tenant { terminating: true, ..tenant() });
    assert!(decide(&going, now()).actions.is_empty());
}

#[test]
fn a_clock_that_stepped_back_gives_no_negative_duration() {
    let mut run = capture(json!({"cancel": true}));
    let mut status = run.status_or_default();
    status.started_at = Some(now() + SignedDuration::from_mins(10));
    run.status = Some(status);
    assert_eq!(written(&observed(run, JobView::Absent)).duration.as_deref(), Some("0ms"));
}

#[test]
fn a_completed_run_goes_when_its_time_to_live_is_over_or_newer_ones_fill_the_history() {
    let mut run = capture(json!({}));
    let mut status = run.status_or_default();
    status.phase = Phase::Completed;
    status.outcome = Outcome::Succeeded;
    status.completed_at = Some(now());
    run.status = Some(status);
    let mut ended = observed(run, JobView::Absent);
    let mut operation_type = capture_type();
    operation_type.spec.ttl_seconds_after_finished = Some(60);
    ended.operation_type = Some(Arc::new(operation_type));
    assert!(!decide(&ended, now()).actions.contains(&Action::DeleteRun));
    assert_eq!(decide(&ended, now()).requeue, Some(SignedDuration::from_secs(60)));
    assert_eq!(decide(&ended, now() + SignedDuration::from_secs(60)).actions, [Action::DeleteRun]);
    ended.beyond_history = true;
    assert_eq!(decide(&ended, now()).actions, [Action::DeleteRun]);
    ended.awaited = true;
    let awaited = decide(&ended, now());
    assert!(
        !awaited.actions.contains(&Action::DeleteRun) && awaited.requeue.is_some(),
        "others would do its work again"
    );
}

#[test]
fn who_joined_the_capture_of_another_schedule_gets_a_set_of_its_own() {
    let run_of = |name: &str, trigger: &str| {
        let schedule = name.split('-').next().unwrap_or_default();
        let by = (trigger == "scheduled").then(|| json!({"name": schedule, "uid": schedule}));
        let mut run = run(json!({"type": "backup.capture", "trigger": trigger, "scheduledBy": by}));
        run.metadata.name = Some(name.to_owned());
        run
    };
    let kept = |joiner: &OperationRun, winner: &OperationRun, set: Option<&str>| {
        let (mut joiner, mut winner) = (joiner.clone(), winner.clone());
        winner.metadata.uid = Some("winner".to_owned());
        winner.status =
            serde_json::from_value(json!({"phase": "completed", "outcome": "succeeded", "reason": "Succeeded",
            "observedGeneration": 1, "completedAt": now(), "context": {"backupSet": set}}))
            .expect("a status");
        joiner.status =
            serde_json::from_value(json!({"phase": "running", "outcome": "pending", "observedGeneration": 1,
            "joined": {"name": winner.metadata.name, "uid": "winner"}}))
            .expect("a status");
        let mut seen = observed(joiner, JobView::Absent);
        seen.joined = JoinedView::Completed(Arc::new(winner));
        decide(&seen, now()).actions
    };
    let (hourly, daily) = (run_of("hourly-29384720", "scheduled"), run_of("daily-29384720", "scheduled"));
    let (again, by_hand) = (run_of("hourly-29384780", "scheduled"), run_of("by-hand", "manual"));
    for (joiner, winner) in [(&daily, &hourly), (&by_hand, &hourly), (&hourly, &by_hand)] {
        let actions = kept(joiner, winner, Some("made"));
        let wanted = Action::Record(Record::SharedSet { set: "made".to_owned(), captured_by: "winner".to_owned() });
        assert_eq!(actions[0], wanted, "{:?}", joiner.metadata.name);
        assert!(matches!(actions[1..], [Action::WriteStatus(_)]), "before its end is recorded");
        assert_eq!(kept(joiner, winner, None).len(), 1, "nothing was captured");
    }
    assert_eq!(kept(&again, &hourly, Some("made")).len(), 1, "of one schedule they share the set");
    assert_eq!(kept(&run_of("another", "manual"), &by_hand, Some("made")).len(), 1);
}

#[test]
fn a_restore_goes_in_the_place_of_its_run_unless_another_still_needs_it() {
    let mut run = capture(json!({}));
    let mut status = run.status_or_default();
    status.phase = Phase::Completed;
    status.outcome = Outcome::Succeeded;
    status.completed_at = Some(now());
    run.status = Some(status);
    let mut ended = observed(run, JobView::Absent);
    let reference = ObjectReference { name: "look".into(), uid: "restore-uid".into() };
    let kind = MadeFor::RestoreRun;
    ended.parent = Some(Parent { kind, reference: reference.clone(), needed: false });
    let deletes = |action: &Action| matches!(action, Action::DeleteRun | Action::DeleteParent(..));
    assert!(!decide(&ended, now()).actions.iter().any(deletes), "its time has not come");
    ended.beyond_history = true;
    assert_eq!(decide(&ended, now()).actions, [Action::DeleteParent(kind, reference.clone())]);
    ended.parent = Some(Parent { kind, reference, needed: true });
    let decision = decide(&ended, now());
    assert!(!decision.actions.iter().any(deletes), "{decision:?}");
    assert!(decision.requeue.is_some(), "nobody says when it is not needed any more");
}

/// A run that ended this many seconds after the Unix epoch.
fn ended(second: i64, outcome: Outcome) -> OperationRun {
    let mut run = run(json!({"type": "work"}));
    run.metadata.name = Some(format!("run-{second}"));
    run.metadata.uid = Some(format!("uid-{second}"));
    let mut status = run.status_or_default();
    status.phase = Phase::Completed;
    status.outcome = outcome;
    status.completed_at = Timestamp::from_second(second).ok();
    run.status = Some(status);
    run
}

#[test]
fn history_keeps_the_newest_and_the_last_of_each_outcome() {
    let registry = Registry::default();
    for (second, outcome) in
        [(1, Outcome::Succeeded), (2, Outcome::Failed), (3, Outcome::Succeeded), (4, Outcome::Succeeded)]
    {
        registry.apply(&ended(second, outcome));
    }
    let goes: Vec<i64> =
        (1..=4).filter(|second| registry.beyond_history("acme", "work", &format!("run-{second}"), 2)).collect();
    assert_eq!(goes, [1], "2 is the last failure, 3 and 4 are the newest");
}

#[test]
fn a_run_that_must_stay_does_not_keep_those_behind_it_from_going() {
    let registry = Registry::default();
    let names = |woken: Vec<crate::kernel::name::Name<OperationRun>>| {
        woken.iter().map(|run| run.name().to_owned()).collect::<Vec<_>>()
    };
    registry.apply(&ended(1, Outcome::Failed));
    registry.apply(&ended(2, Outcome::Succeeded));
    registry.apply(&ended(3, Outcome::Succeeded));
    assert_eq!(names(registry.apply(&ended(4, Outcome::Succeeded))), ["run-1", "run-2"], "the last failure stays");
    assert_eq!(
        names(registry.remove(&ended(2, Outcome::Succeeded), true)),
        ["run-1", "run-3"],
        "more than one may have to go"
    );
}

#[test]
fn a_run_waits_until_the_job_of_another_is_gone_and_says_of_which() {
    let JobView::Others { job, mut owner } = others_job() else { panic!("another run's") };
    owner.leaving = true;
    let waits = written(&observed(capture(json!({})), JobView::Others { job, owner }));
    assert_eq!((waits.phase, waits.reason.as_deref()), (Phase::Queued, Some("PreviousJobTerminating")));
    assert_eq!(waits.message.as_deref(), Some("waits until the Job of first is gone"));
    assert_eq!(waits.joined, None, "its end is not that of this run's work");
}

#[test]
fn the_job_of_an_earlier_run_is_deleted_or_waited_for_before_another_is_made() {
    let orphan = |going: Value| -> Arc<Job> {
        let job = json!({"metadata": {"name": "op", "uid": "old", "deletionTimestamp": going}});
        Arc::new(serde_json::from_value(job).expect("a Job"))
    };
    let decision = decide(&observed(capture(json!({})), JobView::Orphan(orphan(json!(null)))), now());
    assert_eq!(decision.actions, [Action::DeleteJob(ObjectReference { name: "op".into(), uid: "old".into() })]);
    assert_eq!(decision.requeue, Some(SignedDuration::from_secs(10)));
    let mut waits = observed(capture(json!({})), JobView::Orphan(orphan(json!("2026-01-01T00:00:00Z"))));
    waits.waiting_since = Some(now());
    let decision = decide(&waits, now());
    assert_eq!((decision.actions.len(), decision.requeue), (0, Some(SignedDuration::from_secs(7))));
    waits.waiting_since = Some(now() - crate::runs::waiting::PATIENCE);
    let decision = decide(&waits, now());
    assert_eq!((decision.actions.len(), decision.requeue), (1, Some(SignedDuration::from_secs(2))));
}

#[test]
fn the_oldest_that_stays_starts_and_holds_its_place_in_line() {
    let older = |leaving| Sibling { name: "older".into(), uid: "older-uid".into(), leaving };
    let mut waits = observed(capture(json!({})), JobView::Absent);
    waits.older = vec![older(true), older(false)];
    let decision = decide(&waits, now());
    assert_eq!((decision.actions.len(), decision.requeue), (0, Some(SignedDuration::from_secs(30))));
    waits.older = vec![older(true)];
    let decision = decide(&waits, now());
    assert!(matches!(decision.actions.as_slice(), [Action::Start(_)]) && decision.in_line);
    let Some(Action::Start(start)) = decision.actions.first() else { panic!("a start") };
    assert_eq!(
        (start.status.phase, start.status.message.as_deref().map(|text| text.starts_with("Job op-"))),
        (Phase::Running, Some(true))
    );
    assert_eq!(start.status.identity_hash.as_deref(), Some(start.prepared.identity.as_str()));
    waits.slot = Slot::Waiting { limit: "1 active of this type".into(), others: 3 };
    assert_eq!(decide(&waits, now()).requeue, Some(SignedDuration::from_mins(1)));
}

#[test]
fn a_run_that_is_cancelled_while_its_job_runs_has_it_deleted_and_waits_for_its_pod() {
    let seen = still_running(true, |run, pod| {
        run.spec.cancel = true;
        runs_on(pod);
    });
    let decision = decide(&seen, now());
    let [Action::DeleteJob(job), Action::WriteStatus(status)] = decision.actions.as_slice() else {
        panic!("{decision:?}")
    };
    assert_eq!((job.uid.as_str(), status.reason.as_deref()), ("job-uid", Some("Cancelling")));
    assert_eq!((status.outcome, decision.requeue), (Outcome::Pending, Some(SignedDuration::from_secs(2))));
}

#[test]
fn what_holds_a_job_is_reported_once_with_its_beginning_and_taken_back_when_it_goes_on() {
    let state = |state: Value| {
        serde_json::from_value(json!({"phase": "Pending", "containerStatuses": [
            {"name": "main", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}))
        .expect("a status")
    };
    let held = |reason: &str| state(json!({"waiting": {"reason": reason}}));
    let mut seen = still_running(true, |_, pod| pod.status = Some(held("ErrImagePull")));
    let first = written(&seen);
    let waiting = first.waiting.clone().expect("it waits");
    assert_eq!((waiting.reason.as_str(), waiting.since), ("ImagePull", now()));
    let with = |seen: &mut Observed, status: crate::api::OperationRunStatus| {
        let mut run = (*seen.run).clone();
        run.status = Some(status);
        seen.run = Arc::new(run);
    };
    with(&mut seen, first.clone());
    let later = now() + SignedDuration::from_secs(90);
    assert_eq!(decide(&seen, later).actions, [], "it is said already");
    let change = |seen: &mut Observed, status| {
        let mut pod = (*seen.pods[0]).clone();
        pod.status = Some(status);
        seen.pods = vec![Arc::new(pod)];
    };
    change(&mut seen, held("CreateContainerError"));
    match decide(&seen, later).actions.as_slice() {
        [Action::WriteStatus(status)] => {
            let waiting = status.waiting.as_ref().expect("it waits");
            assert_eq!((waiting.reason.as_str(), waiting.since), ("MissingDependency", later), "for something else");
        }
        other => panic!("{other:?}"),
    }
    change(&mut seen, held("ContainerCreating"));
    seen.waiting_since = Some(later);
    let decision = decide(&seen, later);
    assert_eq!(
        (decision.actions.len(), decision.requeue),
        (0, Some(SignedDuration::from_secs(7))),
        "most pass through it"
    );
    change(&mut seen, state(json!({"running": {}})));
    match decide(&seen, later).actions.as_slice() {
        [Action::WriteStatus(status)] => {
            assert_eq!((status.waiting.as_ref(), status.message.as_deref()), (None, Some("Job op runs")));
        }
        other => panic!("{other:?}"),
    }
    with(&mut seen, crate::api::OperationRunStatus { waiting: None, ..first });
    assert_eq!(decide(&seen, later).actions, [], "nothing has changed");
}

#[test]
fn attempts_are_written_with_what_is_worth_a_write_once_there_are_two() {
    let attempts = |failed: i32| {
        let mut seen = still_running(true, |_, pod| pod.metadata.owner_references = None);
        let JobView::Own(job) = &mut seen.job else { panic!("its own") };
        let status = json!({"failed": failed, "active": 1});
        Arc::make_mut(job).status = Some(serde_json::from_value(status).expect("a status"));
        Arc::make_mut(&mut seen.pods[0]).status = None;
        seen.waiting_since = Some(now() - SignedDuration::from_mins(1));
        written(&seen).attempts
    };
    assert_eq!((attempts(0), attempts(1), attempts(2)), (None, Some(2), Some(3)));
}

#[test]
fn the_end_of_a_job_waits_five_seconds_for_the_word_of_its_pod() {
    let mut seen = still_running(false, |_, _| {});
    let (job, _) = ended_job(false, "Complete", 0, "");
    (seen.job, seen.pods) = (JobView::Own(Arc::new(job)), Vec::new());
    seen.waiting_since = Some(now() - SignedDuration::from_secs(4));
    assert_eq!(
        (decide(&seen, now()).actions.len(), decide(&seen, now()).requeue),
        (0, Some(SignedDuration::from_secs(1)))
    );
    seen.waiting_since = Some(now() - SignedDuration::from_secs(5));
    assert_eq!(written(&seen).outcome, Outcome::Succeeded);
}

#[test]
fn a_run_whose_job_the_api_server_refuses_is_blocked_with_the_refusal() {
    let refusal = Refusal::new(Reason::InvalidType, "the API server does not take it".to_owned());
    let seen = observed(capture(json!({})), JobView::Absent);
    let decision = super::decide::refused(&seen, &refusal, now());
    match decision.actions.as_slice() {
        [Action::WriteStatus(status)] => {
            assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Blocked, Some("InvalidType")));
            assert_eq!(status.message.as_deref(), Some("the API server does not take it"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_status_describes_its_run_and_has_each_transition_once() {
    let inputs = json!({"repository": "main", "note": "x"});
    let mut scheduled = capture(json!({"inputs": inputs, "trigger": "scheduled",
        "scheduledBy": {"name": "nightly", "uid": "u", "tick": "2026-01-01T00:00:00Z"}}));
    scheduled.status = None;
    let mut seen = observed(scheduled, JobView::Absent);
    seen.slot = Slot::Waiting { limit: "1 active".into(), others: 1 };
    let waits = written(&seen);
    let context = &waits.context;
    assert_eq!((context.workspace.as_deref(), context.target_scope.as_deref()), (Some("team"), Some("Tenant")));
    assert_eq!((context.backup_schedule.as_deref(), context.scheduled_for), (Some("nightly"), Some(now())));
    assert_eq!(context.repository.as_deref(), Some("main"));
    assert!(waits.identity_hash.is_some());
    let ended = failed_job(true, "");
    let phases: Vec<_> = ended.transitions.iter().map(|transition| (transition.phase, transition.outcome)).collect();
    assert_eq!(phases, [(Phase::Completed, Outcome::Failed)]);
    let mut again = observed(capture(json!({})), JobView::Own(Arc::new(Job::default())));
    let running = written(&again);
    assert_eq!(running.transitions.len(), 1);
    let mut run = (*again.run).clone();
    run.status = Some(crate::api::OperationRunStatus { job: None, ..running });
    again.run = Arc::new(run);
    assert_eq!(written(&again).transitions.len(), 1, "it was running before");
}

#[test]
fn a_completed_run_gets_its_labels_once() {
    let mut run = capture(json!({}));
    run.status = Some(crate::api::OperationRunStatus {
        phase: Phase::Completed,
        outcome: Outcome::Succeeded,
        completed_at: Some(now()),
        ..run.status_or_default()
    });
    run.metadata.labels = Some([("tenantatlas.io/initiator".to_owned(), "forged".to_owned())].into());
    let labels = |run: &OperationRun| match decide(&observed(run.clone(), JobView::Absent), now()).actions.as_slice() {
        [Action::WriteLabels(patch)] => Some(patch.clone()),
        [] => None,
        other => panic!("{other:?}"),
    };
    let patch = labels(&run).expect("labels");
    let text = |value: &str| Some(value.to_owned());
    let expected = [
        ("tenantatlas.io/type", text("work")),
        ("tenantatlas.io/trigger", text("manual")),
        ("tenantatlas.io/workspace", text("team")),
        ("tenantatlas.io/outcome", text("succeeded")),
        ("tenantatlas.io/initiator", None),
    ];
    assert_eq!(patch, expected.map(|(label, value)| (label.to_owned(), value)).into());
    run.metadata.labels = Some(patch.into_iter().filter_map(|(label, value)| Some((label, value?))).collect());
    assert_eq!(labels(&run), None, "nothing is left to write");
}

#[test]
fn the_end_of_a_run_alone_is_not_the_end_of_those_that_joined_it() {
    let copied = |outcome: &str, reason: &str| {
        let mut joiner = capture(json!({}));
        joiner.status = Some(crate::api::OperationRunStatus {
            phase: Phase::Running,
            joined: Some(ObjectReference { name: "first".into(), uid: "first-uid".into() }),
            ..joiner.status_or_default()
        });
        let mut winner = capture(json!({}));
        winner.status = serde_json::from_value(json!({"phase": "completed", "outcome": outcome, "reason": reason,
            "message": "why", "observedGeneration": 1, "context": {"workspace": "theirs", "targetScope": "theirs"}}))
        .expect("a status");
        let mut seen = observed(joiner, JobView::Absent);
        seen.joined = JoinedView::Completed(Arc::new(winner));
        written(&seen)
    };
    for (outcome, reason) in [("succeeded", "Succeeded"), ("failed", "JobFailed")] {
        let status = copied(outcome, reason);
        assert_eq!((status.phase, status.reason.as_deref()), (Phase::Completed, Some(reason)));
        assert_eq!(status.context.workspace.as_deref(), Some("team"), "its own");
        assert!(status.message.is_some_and(|message| message.ends_with("which it had joined: why")));
    }
    for (outcome, reason) in [("blocked", "RepositoryNotReady"), ("failed", "Cancelled")] {
        let status = copied(outcome, reason);
        assert_eq!((status.phase, status.joined), (Phase::Running, None), "{outcome} {reason}");
    }
}

#[test]
fn each_phase_is_a_transition_and_a_wait_whose_words_change_is_written_again() {
    let failed = |seen: &mut Observed, count: i32| {
        let JobView::Own(job) = &mut seen.job else { panic!("its own") };
        Arc::make_mut(job).status = Some(serde_json::from_value(json!({"failed": count})).expect("a status"));
        seen.waiting_since = Some(now() - SignedDuration::from_mins(1));
    };
    let mut seen = still_running(true, |run, _| {
        let status = run.status.as_mut().expect("a status");
        let at = now();
        status.transitions = vec![Transition { phase: Phase::Running, outcome: Outcome::Pending, at }];
    });
    let phases = |status: &crate::api::OperationRunStatus| {
        status.transitions.iter().map(|transition| transition.phase).collect::<Vec<_>>()
    };
    assert_eq!(phases(&written(&seen)), [Phase::Running, Phase::Completed]);
    seen.pods = Vec::new();
    failed(&mut seen, 1);
    let first = written(&seen);
    assert_eq!((phases(&first), first.reason.as_deref()), (vec![Phase::Running], Some("Retrying")));
    let mut run = (*seen.run).clone();
    run.status = Some(first);
    seen.run = Arc::new(run);
    assert_eq!(decide(&seen, now()).actions, []);
    failed(&mut seen, 2);
    assert!(written(&seen).message.is_some_and(|message| message.starts_with("2 pod(s) failed")));
}

#[test]
fn inputs_are_the_run_s_own_or_those_that_it_repeats_and_may_take_64_kib() {
    let with = |inputs: Value| capture(json!({"inputs": inputs}));
    let repository = |run: &OperationRun, rerun: &RerunView| effective_inputs(run, rerun).text_of("repository");
    let earlier = RerunView::Found(Arc::new(with(json!({"repository": "earlier"}))));
    let own = with(json!({"repository": "own"}));
    assert_eq!(repository(&with(json!({})), &earlier).as_deref(), Some("earlier"));
    assert_eq!(repository(&own, &earlier).as_deref(), Some("own"));
    assert_eq!(repository(&own, &RerunView::NotAsked).as_deref(), Some("own"));
    let ready = RepositoryView::Ready(self::repository());
    let empty = json!({"note": "", "repository": "main"}).to_string().len();
    let of_size = |size: usize| with(json!({"note": "x".repeat(size - empty), "repository": "main"}));
    assert!(prepared_with(&of_size(MAX_INPUTS_BYTES), &capture_type(), &ready).is_ok());
    let refusal = refused(prepared_with(&of_size(MAX_INPUTS_BYTES + 1), &capture_type(), &ready));
    assert_eq!(refusal.reason, Reason::InputsTooLarge);
}

/// A repository whose password is to be generated, with the status of the last check that passed, if any.
fn repository_without_password(bytes: Option<i64>) -> Arc<BackupRepository> {
    let mut repository = (*repository()).clone();
    repository.spec.password_secret.generate = true;
    let checked_spec = Some(repository.spec.checked_hash());
    repository.status = bytes.map(|bytes| BackupRepositoryStatus {
        bytes: Some(bytes),
        checked_spec,
        ..BackupRepositoryStatus::default()
    });
    Arc::new(repository)
}

#[test]
fn a_check_creates_the_password_under_the_account_of_restores_until_one_has_passed() {
    let check = run(json!({"type": "work", "inputs": {"repository": "main"}}));
    let mut types = capture_type();
    types.spec.read_only = true;
    types.spec.executor.worker.as_mut().expect("a worker").command = vec!["check".to_owned()];
    let given = |repository: Arc<BackupRepository>| {
        let prepared = prepared_with(&check, &types, &RepositoryView::NotReady(repository)).expect("prepared");
        let job = serde_json::to_value(build(&check, &prepared, &settings()).expect("a Job")).expect("JSON");
        let pod = &job["spec"]["template"]["spec"];
        let volumes = pod["volumes"].as_array().expect("volumes");
        let password = volumes.iter().find(|volume| volume["name"] == "password").expect("the password");
        (prepared.account, password["secret"]["optional"].as_bool(), pod["serviceAccountName"].clone())
    };
    let worker = ("tenantatlas-worker".to_owned(), None, json!("tenantatlas-worker"));
    let creator = ("tenantatlas-restore".to_owned(), Some(true), json!("tenantatlas-restore"));
    assert_eq!(given(repository()), worker);
    assert_eq!(given(repository_without_password(None)), creator);
    assert_eq!(given(repository_without_password(Some(0))), worker, "the Secret is there");
    let mut moved = (*repository_without_password(Some(0))).clone();
    moved.spec.password_secret.name = "another".to_owned();
    assert_eq!(given(Arc::new(moved)), creator, "no check has passed with this Secret");
    // A capture creates nothing, whatever its repository says.
    types.spec.executor.worker.as_mut().expect("a worker").command = vec!["capture".to_owned()];
    let ready = RepositoryView::Ready(repository_without_password(None));
    assert_eq!(prepared_with(&check, &types, &ready).expect("prepared").account, "tenantatlas-worker");
}

#[test]
fn only_a_worker_that_makes_changes_works_under_an_account_that_its_inputs_name() {
    let inputs = capture(json!({"inputs": {"serviceAccountName": "mine"}})).spec.inputs;
    let mut changes = capture_type();
    changes.spec.read_only = false;
    assert_eq!(named_account(&changes, &inputs).as_deref(), Some("mine"));
    assert_eq!(named_account(&changes, &capture(json!({})).spec.inputs), None);
    assert_eq!((named_account(&capture_type(), &inputs), named_account(&template_type(), &inputs)), (None, None));
}

/// A run that was created at [`now`] with this limit for waiting, and finds no slot.
fn queued(limit: Value) -> Observed {
    let mut seen = observed(capture(json!({"queueTimeoutSeconds": limit})), JobView::Absent);
    seen.slot = Slot::Waiting { limit: "1 active of this type".into(), others: 3 };
    seen
}

/// What the run is after the last write of a decision, and when it is decided about again.
fn after(seen: &Observed, seconds: i64) -> (Phase, Option<String>, Option<i64>) {
    let decision = decide(seen, now() + SignedDuration::from_secs(seconds));
    let written = decision.actions.iter().rev().find_map(|action| match action {
        Action::WriteStatus(status) => Some((**status).clone()),
        Action::Start(start) => Some(start.status.clone()),
        _ => None,
    });
    let status = written.unwrap_or_else(|| seen.status());
    (status.phase, status.reason, decision.requeue.map(|requeue| requeue.as_secs()))
}

fn with_status(seen: &mut Observed, status: Value) {
    let mut run = (*seen.run).clone();
    run.status = Some(serde_json::from_value(status).expect("a status"));
    seen.run = Arc::new(run);
}

#[test]
fn a_run_waits_until_its_queue_timeout_and_is_woken_for_it() {
    let reason = |reason: &str| Some(reason.to_owned());
    for (limit, seconds, phase, code, requeue) in [
        (json!(100), 0, Phase::Queued, "ConcurrencyLimit", Some(60)),
        (json!(100), 70, Phase::Queued, "ConcurrencyLimit", Some(30)),
        (json!(100), 99, Phase::Queued, "ConcurrencyLimit", Some(1)),
        (json!(100), 100, Phase::Completed, "QueueTimeout", None),
        (json!(100), 5000, Phase::Completed, "QueueTimeout", None),
        (json!(1), 0, Phase::Queued, "ConcurrencyLimit", Some(1)),
        // Set back, the clock says that the run is yet to be created.
        (json!(100), -3600, Phase::Queued, "ConcurrencyLimit", Some(60)),
        (json!(i64::MAX), -3600, Phase::Queued, "ConcurrencyLimit", Some(60)),
        (Value::Null, 31_536_000, Phase::Queued, "ConcurrencyLimit", Some(60)),
    ] {
        let got = after(&queued(limit.clone()), seconds);
        assert_eq!(got, (phase, reason(code), requeue), "{limit} after {seconds} s");
    }
    let mut early = queued(json!(100));
    let said = written(&early);
    with_status(&mut early, serde_json::to_value(&said).expect("JSON"));
    let decision = decide(&early, now() + SignedDuration::from_secs(98));
    assert_eq!((decision.actions, decision.requeue), (Vec::new(), Some(SignedDuration::from_secs(2))));
}

#[test]
fn a_run_that_waited_too_long_is_blocked_though_it_could_start_now_and_leaves_the_line() {
    let mut free = queued(json!(100));
    free.slot = Slot::Free;
    let start = decide(&free, now() + SignedDuration::from_secs(99));
    assert!(matches!(start.actions.as_slice(), [Action::Start(_)]), "{start:?}");
    assert_eq!(start.requeue, None);
    let late = decide(&free, now() + SignedDuration::from_secs(100));
    let [Action::WriteStatus(status)] = late.actions.as_slice() else { panic!("{late:?}") };
    assert_eq!((status.phase, status.outcome), (Phase::Completed, Outcome::Blocked));
    assert_eq!((status.reason.as_deref(), &status.job, status.started_at), (Some("QueueTimeout"), &None, None));
    assert_eq!((late.in_line, late.requeue), (false, None));
    // An earlier run's finished Job is left alone: nothing will take its name.
    free.job = JobView::Orphan(Arc::new(Job::default()));
    assert_eq!(after(&free, 100).1.as_deref(), Some("QueueTimeout"));
    assert!(matches!(
        decide(&free, now() + SignedDuration::from_secs(95)),
        Decision { requeue: Some(requeue), .. } if requeue == SignedDuration::from_secs(5)
    ));
    // Another run's Job would be joined.
    free.job = others_job();
    assert_eq!((after(&free, 99).0, after(&free, 100).1.as_deref()), (Phase::Running, Some("QueueTimeout")));
}

#[test]
fn a_run_that_waited_too_long_says_how_long_and_for_what() {
    let message = |seen: &Observed| {
        let decision = decide(seen, now() + SignedDuration::from_secs(190));
        let [Action::WriteStatus(status)] = decision.actions.as_slice() else { panic!("{decision:?}") };
        assert_eq!((status.reason.as_deref(), &status.waiting), (Some("QueueTimeout"), &None));
        status.message.clone().unwrap_or_default()
    };
    let mut seen = queued(json!(180));
    assert_eq!(
        message(&seen),
        "nothing was started: the run waited 3m10s, and its queueTimeoutSeconds is 180; last reason: ConcurrencyLimit, waits for a slot (1 active of this type); others that wait: 3. Create a new run when that is over, or one with a higher queueTimeoutSeconds or none"
    );
    // What it said last counts, if it would not wait any more.
    with_status(
        &mut seen,
        json!({"message": "waits until the Job of first is gone",
        "waiting": {"reason": "PreviousJobTerminating", "since": "2026-01-01T00:00:00Z"}}),
    );
    seen.slot = Slot::Free;
    assert!(message(&seen).contains("PreviousJobTerminating, waits until the Job of first is gone. Create"));
    with_status(&mut seen, json!({}));
    assert!(message(&seen).contains("last reason: the operator was away"));
    seen.older = vec![Sibling { name: "older".into(), uid: "older-uid".into(), leaving: false }];
    assert!(message(&seen).contains("run older does the same work"));
    with_status(
        &mut seen,
        json!({"message": "x".repeat(4096), "waiting": {"reason": "ConcurrencyLimit", "since": "2026-01-01T00:00:00Z"}}),
    );
    assert!(message(&seen).len() < 2000, "the API server takes 4096");
}

#[test]
fn a_run_that_has_its_job_has_not_waited_too_long() {
    let job = |deleted: Value| -> Arc<Job> {
        let metadata = json!({"name": "op", "uid": "job-uid", "creationTimestamp": "2026-01-01T00:00:02Z",
            "deletionTimestamp": deleted});
        Arc::new(serde_json::from_value(json!({ "metadata": metadata })).expect("a Job"))
    };
    // Created before a crash, and not recorded.
    let mut made = queued(json!(3));
    made.job = JobView::Own(job(json!(null)));
    let decision = decide(&made, now() + SignedDuration::from_secs(500));
    let [Action::WriteStatus(status)] = decision.actions.as_slice() else { panic!("{decision:?}") };
    assert_eq!((status.phase, status.reason.as_deref()), (Phase::Running, Some("Running")));
    assert_eq!(status.started_at, Some(now() + SignedDuration::from_secs(2)));
    // Recorded: however long its pod waits.
    with_status(&mut made, json!({"phase": "running", "job": {"name": "op", "uid": "job-uid"}}));
    assert_ne!(after(&made, 500).0, Phase::Completed);
    // Created and deleted: it may have done something.
    let mut going = queued(json!(3));
    going.job = JobView::Own(job(json!("2026-01-01T00:00:03Z")));
    assert_eq!(after(&going, 500), (Phase::Queued, Some("PreviousJobTerminating".to_owned()), Some(2)));
}

#[test]
fn no_run_is_blocked_for_waiting_before_the_api_server_was_asked_for_its_job() {
    let mut seen = queued(json!(3));
    seen.job_asked = false;
    let decision = decide(&seen, now() + SignedDuration::from_secs(3));
    assert_eq!((decision.actions, decision.requeue), (Vec::new(), Some(SignedDuration::ZERO)));
    assert!(decision.in_line, "it keeps its place until then");
    assert!(super::queue::has_passed(&seen.run, now() + SignedDuration::from_secs(3)));
    assert!(!super::queue::has_passed(&seen.run, now() + SignedDuration::from_secs(2)));
}

#[test]
fn a_run_that_joined_has_left_the_queue_for_good() {
    let mut seen = queued(json!(3));
    let joined = json!({"phase": "running", "joined": {"name": "first", "uid": "first-uid"}, "startedAt": "2026-01-01T00:00:01Z"});
    with_status(&mut seen, joined);
    seen.joined = JoinedView::Active;
    assert_eq!(decide(&seen, now() + SignedDuration::from_secs(500)), Decision::none());
    seen.joined = JoinedView::Gone;
    assert_eq!(after(&seen, 500), (Phase::Running, Some("Running".to_owned()), None));
    // It goes on by itself, and waits for as long as it takes.
    with_status(&mut seen, json!({"phase": "running", "startedAt": "2026-01-01T00:00:01Z"}));
    assert_eq!(after(&seen, 500), (Phase::Running, Some("ConcurrencyLimit".to_owned()), Some(60)));
}

#[test]
fn a_cancellation_a_refusal_and_an_end_go_before_the_queue_timeout() {
    let mut cancelled = observed(capture(json!({"queueTimeoutSeconds": 3, "cancel": true})), JobView::Absent);
    assert_eq!(after(&cancelled, 500).1.as_deref(), Some("Cancelled"));
    cancelled.job_asked = false;
    assert_eq!(after(&cancelled, 500).1.as_deref(), Some("Cancelled"), "it ends as it did");
    let mut refused = queued(json!(3));
    refused.prepared = Err(Refusal::new(Reason::TypeSuspended, "ask who suspended it"));
    assert_eq!(after(&refused, 500).1.as_deref(), Some("TypeSuspended"));
    let mut ended = queued(json!(3));
    with_status(
        &mut ended,
        json!({"phase": "completed", "outcome": "succeeded", "reason": "Succeeded", "observedGeneration": 1}),
    );
    assert!(!decide(&ended, now() + SignedDuration::from_secs(500)).actions.iter().any(is_an_end));
    assert_eq!(after(&ended, 500).1.as_deref(), Some("Succeeded"));
}
