//! How a run ended, from its Job and its pods. Pure.
//!
//! Three sources say so, the fastest first: the result that our worker reports on its run, the end
//! of a pod's containers, and the finished Job. They never disagree: the first two count only where
//! the Job can end in no other way.
//!
//! The result in the termination message comes from any image: it is checked, never trusted. The
//! exit code (the Job's own verdict) decides success; a result can only downgrade it.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::waiting::is_pod_of;
use crate::{
    api::{
        Outcome, Reason,
        execution::{FENCE_CONTAINER, WORKER_CONTAINER},
        operation_run::WorkerResult,
        outcome::{FailureType, ItemFailure, MAX_FAILURES, SummaryCounts},
        result::{EXIT_PERMANENT, PERMANENT_EXIT_CODES, ResultContext, TerminationResult, truncate},
    },
    items::redact::redact,
};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{ContainerStateTerminated, Pod, PodCondition},
};
use std::sync::Arc;

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The outcome; never `Pending`.
    pub outcome: Outcome,
    /// One of our codes, or a code from the worker.
    pub reason: String,
    /// Message for people.
    pub message: String,
    /// Item counts, if reported.
    pub counts: Option<SummaryCounts>,
    /// Items that failed or were skipped.
    pub failures: Vec<ItemFailure>,
    /// Whether there were more failures than listed.
    pub failures_truncated: bool,
    /// What our worker created. Empty for any other image.
    pub made: ResultContext,
}

impl Finish {
    /// Creates an end without a result.
    pub fn plain(outcome: Outcome, reason: Reason, message: impl Into<String>) -> Self {
        Self {
            outcome,
            reason: reason.as_str().to_owned(),
            message: message.into(),
            counts: None,
            failures: Vec::new(),
            failures_truncated: false,
            made: ResultContext::default(),
        }
    }
}

/// Ends of a run that are not the end of the work: a run that joined such a run continues alone.
pub const OF_THE_RUN_ALONE: [Reason; 2] = [Reason::Cancelled, Reason::JobDeleted];

/// `spec.managedBy` of the Jobs that the built-in Job controller runs; the same as an unset field.
const JOB_CONTROLLER: &str = "kubernetes.io/job-controller";

/// How a Job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobEnd {
    /// The Job's pod exited with 0.
    Complete,
    /// The Job failed, with the Job controller's reason.
    Failed {
        /// Reason, such as `BackoffLimitExceeded`, `DeadlineExceeded`, `PodFailurePolicy`.
        reason: String,
        /// Message for people.
        message: String,
    },
}

/// How a Job ended; `None` while it runs.
#[must_use]
pub fn job_end(job: &Job) -> Option<JobEnd> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().filter(|condition| condition.status == "True").find_map(|condition| {
        match condition.type_.as_str() {
            "Complete" => Some(JobEnd::Complete),
            "Failed" => Some(JobEnd::Failed {
                reason: condition.reason.clone().unwrap_or_default(),
                message: condition.message.clone().unwrap_or_default(),
            }),
            _ => None,
        }
    })
}

/// Number of pods that a Job has started.
#[must_use]
pub fn attempts(job: &Job) -> i32 {
    job.status
        .as_ref()
        .map_or(0, |status| status.failed.unwrap_or(0) + status.succeeded.unwrap_or(0) + status.active.unwrap_or(0))
}

/// How a run ended, according to its finished Job. `trusted` means that the container is our own
/// worker.
#[must_use]
pub fn finish(job: &Job, end: &JobEnd, pods: &[Arc<Pod>], trusted: bool, timeout_seconds: Option<i64>) -> Finish {
    let ended = last_ended(job, pods);
    let finish = match end {
        JobEnd::Complete => complete(ended, trusted),
        JobEnd::Failed { reason, .. } if reason == "DeadlineExceeded" => Finish::plain(
            Outcome::Failed,
            Reason::TimedOut,
            format!(
                "took longer than its timeout{}: find out what holds it, or have spec.timeoutSeconds or, if it is less, the type's timeout raised",
                timeout_seconds.map_or_else(String::new, |seconds| format!(" of {seconds} s"))
            ),
        ),
        JobEnd::Failed { reason, message } => failed(ended, reason, message, trusted),
    };
    bounded(finish)
}

/// How a run ended, according to the result that our worker reported on it. `None` if no worker
/// reports such a result: a retry could change it.
#[must_use]
pub fn reported(result: &WorkerResult) -> Option<Finish> {
    let ended = ContainerStateTerminated {
        exit_code: result.exit_code,
        message: Some(result.message.clone()),
        ..ContainerStateTerminated::default()
    };
    let finish = match result.exit_code {
        0 => complete(Some((false, &ended)), true),
        EXIT_PERMANENT => failed(Some((false, &ended)), "PodFailurePolicy", "", true),
        _ => return None,
    };
    Some(bounded(finish))
}

/// How a run ended, according to a pod whose containers have all exited with 0. Its Job can only
/// complete then, a second or two later.
///
/// A container that is stopped may exit with 0, too. Its pod then has a deletion timestamp, or a
/// reason in its status (eviction, shutdown of the node, the pod's own deadline).
#[must_use]
pub fn succeeded(job: &Job, pods: &[Arc<Pod>], trusted: bool) -> Option<Finish> {
    let pod = pods.iter().find(|pod| is_pod_of(pod, job) && has_succeeded(pod))?;
    Some(bounded(complete(ended_container(pod), trusted)))
}

fn has_succeeded(pod: &Pod) -> bool {
    let (Some(spec), Some(status)) = (&pod.spec, &pod.status) else { return false };
    let ended = status.container_statuses.as_deref().unwrap_or_default();
    let exited_well = |name: &str| {
        let container = ended.iter().find(|container| container.name == name);
        let state = container.and_then(|container| container.state.as_ref()?.terminated.as_ref());
        state.is_some_and(|state| state.exit_code == 0)
    };
    let is_disrupted = |condition: &PodCondition| condition.type_ == "DisruptionTarget" && condition.status == "True";
    pod.metadata.deletion_timestamp.is_none()
        && status.reason.is_none()
        && status.phase.as_deref() != Some("Failed")
        && !status.conditions.iter().flatten().any(is_disrupted)
        && !spec.containers.is_empty()
        && spec.containers.iter().all(|container| exited_well(&container.name))
}

fn bounded(mut finish: Finish) -> Finish {
    finish.message = truncate(&redact(&finish.message), 2000);
    for failure in &mut finish.failures {
        failure.message = truncate(&redact(&failure.message), 500);
        failure.item_id = truncate(&failure.item_id, 500);
        failure.reason_code = code(Some(&failure.reason_code)).unwrap_or_else(|| "Unknown".to_owned());
    }
    finish
}

/// The container whose exit counts: the worker's, or else the first. If that container has not
/// ended, a failed fence counts.
fn ended_container(pod: &Pod) -> Option<(bool, &ContainerStateTerminated)> {
    let status = pod.status.as_ref()?;
    let containers = status.container_statuses.as_deref().unwrap_or_default();
    let first = pod.spec.as_ref().and_then(|spec| spec.containers.first()).map(|container| container.name.as_str());
    let main = containers
        .iter()
        .find(|container| container.name == WORKER_CONTAINER)
        .or_else(|| containers.iter().find(|container| Some(container.name.as_str()) == first));
    let terminated = |container: &k8s_openapi::api::core::v1::ContainerStatus| {
        container.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some()
    };
    if let Some(main) = main.filter(|container| terminated(container)) {
        return main.state.as_ref().and_then(|state| state.terminated.as_ref()).map(|ended| (false, ended));
    }
    let fence = status.init_container_statuses.iter().flatten().find(|container| container.name == FENCE_CONTAINER)?;
    let ended = fence.state.as_ref()?.terminated.as_ref()?;
    (ended.exit_code != 0).then_some((true, ended))
}

fn last_ended<'a>(job: &Job, pods: &'a [Arc<Pod>]) -> Option<(bool, &'a ContainerStateTerminated)> {
    let succeeded = |ended: &ContainerStateTerminated| ended.exit_code == 0;
    pods.iter()
        .filter(|pod| is_pod_of(pod, job))
        .filter_map(|pod| ended_container(pod))
        .max_by_key(|(_, ended)| (succeeded(ended), ended.finished_at.as_ref().map(|time| time.0)))
}

/// Whether the pods that show how a finished Job ended are known. If another controller manages the
/// Job (`spec.managedBy`, as set by Kueue's `MultiKueue`), its pods are in another cluster, and
/// nothing more will be reported.
#[must_use]
pub fn is_told(job: &Job, pods: &[Arc<Pod>]) -> bool {
    let manager = job.spec.as_ref().and_then(|spec| spec.managed_by.as_deref());
    manager.is_some_and(|manager| manager != JOB_CONTROLLER) || last_ended(job, pods).is_some()
}

/// Whether a Job failed, other than by its deadline, and no pod shows why.
#[must_use]
pub fn is_unexplained(job: &Job, end: &JobEnd, pods: &[Arc<Pod>]) -> bool {
    matches!(end, JobEnd::Failed { reason, .. } if reason != "DeadlineExceeded") && last_ended(job, pods).is_none()
}

fn complete(ended: Option<(bool, &ContainerStateTerminated)>, trusted: bool) -> Finish {
    let Some((_, ended)) = ended else {
        if trusted {
            return Finish::plain(
                Outcome::Failed,
                Reason::ResultLost,
                "the Job completed, but its pod was deleted before its result was read: run it again; what it stored is found again and not stored twice",
            );
        }
        return Finish::plain(
            Outcome::Succeeded,
            Reason::Succeeded,
            "done; there was no pod here whose result could be read",
        );
    };
    let text = ended.message.as_deref().unwrap_or_default().trim();
    if text.is_empty() {
        return Finish::plain(Outcome::Succeeded, Reason::Succeeded, "done");
    }
    let Ok(result) = serde_json::from_str::<TerminationResult>(text) else {
        return Finish::plain(
            Outcome::Succeeded,
            Reason::ResultUnreadable,
            format!(
                "exit code 0, but the termination message is not a result: write JSON such as {{\"summaryCounts\": …}} to /dev/termination-log, or nothing; it reads {:?}",
                truncate(text, 200)
            ),
        );
    };
    if let Some(why) = inconsistency(&result) {
        return inconsistent(&why);
    }
    let outcome = match (result.outcome, failures_in(&result)) {
        (Some(Outcome::Failed | Outcome::Blocked), _) => Outcome::Failed,
        (Some(Outcome::PartiallySucceeded), _) | (_, true) => Outcome::PartiallySucceeded,
        _ => Outcome::Succeeded,
    };
    let default = match outcome {
        Outcome::Succeeded => Reason::Succeeded,
        Outcome::PartiallySucceeded => Reason::PartiallySucceeded,
        _ => Reason::JobFailed,
    };
    told(result, outcome, default, trusted)
}

fn failed(
    ended: Option<(bool, &ContainerStateTerminated)>,
    job_reason: &str,
    job_message: &str,
    trusted: bool,
) -> Finish {
    let Some((in_fence, ended)) = ended else {
        return Finish::plain(
            Outcome::Failed,
            Reason::JobFailed,
            format!("the Job failed ({job_reason}: {job_message}) and no pod is left to tell why"),
        );
    };
    let permanent = PERMANENT_EXIT_CODES.contains(&ended.exit_code);
    let default = if permanent { Reason::PermanentFailure } else { Reason::JobFailed };
    let text = ended.message.as_deref().unwrap_or_default().trim();
    match serde_json::from_str::<TerminationResult>(text) {
        Ok(result) if inconsistency(&result).is_none() => {
            // Only our own worker knows whether nothing was done because of something that could
            // have been known beforehand.
            let blocked = trusted && permanent && result.outcome == Some(Outcome::Blocked);
            let outcome = if blocked { Outcome::Blocked } else { Outcome::Failed };
            told(result, outcome, default, trusted || in_fence)
        }
        _ => {
            let why = if text.is_empty() { ended.reason.clone().unwrap_or_default() } else { truncate(text, 1000) };
            Finish::plain(
                Outcome::Failed,
                default,
                format!(
                    "exit code {}{}: {why}",
                    ended.exit_code,
                    if permanent { " (permanent, not tried again)" } else { "" }
                ),
            )
        }
    }
}

/// Turns a consistent result into an end.
fn told(result: TerminationResult, outcome: Outcome, default: Reason, trusted: bool) -> Finish {
    let mut failures = result.failures;
    let failures_truncated = result.failures_truncated || failures.len() > MAX_FAILURES;
    failures.truncate(MAX_FAILURES);
    let counts = result.summary_counts;
    // Only who is ours may say of a run that its work is still to be done.
    let reason = code(result.reason.as_deref())
        .filter(|code| trusted || OF_THE_RUN_ALONE.iter().all(|reserved| reserved.as_str() != code));
    let message = result.message.unwrap_or_else(|| match (&counts, outcome) {
        (Some(counts), _) => format!(
            "{} of {} items done, {} failed, {} skipped",
            counts.succeeded, counts.total, counts.failed, counts.skipped
        ),
        (None, Outcome::Succeeded) => "done".to_owned(),
        (None, _) => "see the pod's log".to_owned(),
    });
    Finish {
        outcome,
        reason: reason.unwrap_or_else(|| default.as_str().to_owned()),
        message,
        counts,
        failures,
        failures_truncated,
        made: if trusted { result.context } else { ResultContext::default() },
    }
}

fn failures_in(result: &TerminationResult) -> bool {
    result.summary_counts.is_some_and(|counts| counts.failed > 0)
        || result.failures.iter().any(|failure| failure.failure_type == FailureType::Failure)
}

fn inconsistency(result: &TerminationResult) -> Option<String> {
    let counts = result.summary_counts?;
    if !counts.add_up() {
        return Some(format!(
            "summaryCounts do not add up: processed {} must be succeeded {} + failed {} + skipped {}, and at most total {}",
            counts.processed, counts.succeeded, counts.failed, counts.skipped, counts.total
        ));
    }
    let failures = result.failures.iter().filter(|failure| failure.failure_type == FailureType::Failure).count();
    if i64::try_from(failures).unwrap_or(i64::MAX) > counts.failed {
        return Some(format!("{failures} failures are listed, but summaryCounts.failed is {}", counts.failed));
    }
    None
}

fn inconsistent(why: &str) -> Finish {
    Finish::plain(
        Outcome::Failed,
        Reason::ResultInconsistent,
        format!("the result on the termination message cannot be true: {why}; fix the image, and check what it did"),
    )
}

/// A CamelCase code of at most 128 characters; `None` for any other text.
fn code(text: Option<&str>) -> Option<String> {
    text.filter(|text| {
        text.len() <= 128
            && text.starts_with(|first: char| first.is_ascii_uppercase())
            && text.chars().all(|character| character.is_ascii_alphanumeric())
    })
    .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn job(condition: &str, reason: &str) -> Job {
        serde_json::from_value(json!({
            "metadata": {"name": "op-x", "uid": "job-uid"},
            "status": {"conditions": [{"type": condition, "status": "True", "reason": reason, "message": "m"}], "failed": 1}
        }))
        .expect("a Job")
    }

    fn pod(exit: i32, message: &str) -> Arc<Pod> {
        Arc::new(
            serde_json::from_value(json!({
                "metadata": {"name": "op-x-1", "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": "op-x", "uid": "job-uid", "controller": true}]},
                "spec": {"containers": [{"name": "main"}]},
                "status": {"phase": "Succeeded", "containerStatuses": [{"name": "main", "image": "i", "imageID": "i", "ready": false, "restartCount": 0,
                    "state": {"terminated": {"exitCode": exit, "message": message, "finishedAt": "2026-01-01T00:00:00Z"}}}]}
            }))
            .expect("a pod"),
        )
    }

    fn finished(condition: &str, reason: &str, exit: i32, message: &str, trusted: bool) -> Finish {
        let job = job(condition, reason);
        finish(&job, &job_end(&job).expect("an end"), &[pod(exit, message)], trusted, Some(5))
    }

    proptest! {
        /// Reporting a result early never changes an outcome.
        #[test]
        fn a_reported_result_and_the_same_on_the_termination_message_end_a_run_in_the_same_way(
            permanent in any::<bool>(),
            outcome in proptest::option::of(prop_oneof![Just("succeeded"), Just("partially_succeeded"), Just("failed"), Just("blocked"), Just("odd")]),
            reason in proptest::option::of("[A-Za-z]{0,12}"),
            processed in 0_i64..4, succeeded in 0_i64..4, failed in 0_i64..4,
            failures in 0_usize..30,
            text in any::<bool>(),
        ) {
            let failure = |at: usize| json!({"itemId": format!("core/ConfigMap/{at}"), "reasonCode": "Refused", "message": "m", "type": "failure"});
            let message = if text { "no JSON".to_owned() } else {
                json!({"outcome": outcome, "reason": reason,
                    "summaryCounts": {"total": 4, "processed": processed, "succeeded": succeeded, "failed": failed, "skipped": 0},
                    "failures": (0..failures).map(failure).collect::<Vec<_>>()}).to_string()
            };
            let (exit_code, condition, why) = if permanent { (40, "Failed", "PodFailurePolicy") } else { (0, "Complete", "") };
            let told = WorkerResult { job_uid: "job-uid".into(), pod: "op-x-1".into(), exit_code, message: message.clone() };
            prop_assert_eq!(reported(&told), Some(finished(condition, why, exit_code, &message, true)));
        }
    }

    #[test]
    fn without_a_result_the_exit_code_decides() {
        assert_eq!(finished("Complete", "", 0, "", false).outcome, Outcome::Succeeded);
        let failed = finished("Failed", "BackoffLimitExceeded", 3, "disk on fire", false);
        assert_eq!((failed.outcome, failed.reason.as_str()), (Outcome::Failed, "JobFailed"));
        assert!(
            failed.message.contains("exit code 3") && failed.message.contains("disk on fire"),
            "{}",
            failed.message
        );
        assert_eq!(finished("Failed", "PodFailurePolicy", 42, "", false).reason, "PermanentFailure");
        assert_eq!(finished("Failed", "DeadlineExceeded", 137, "", false).reason, "TimedOut");
    }

    #[test]
    fn one_failed_item_is_never_called_success() {
        let message =
            r#"{"outcome":"succeeded","summaryCounts":{"total":2,"processed":2,"succeeded":1,"failed":1,"skipped":0}}"#;
        assert_eq!(finished("Complete", "", 0, message, false).outcome, Outcome::PartiallySucceeded);
    }

    #[test]
    fn a_result_that_lies_fails_the_run() {
        let message =
            r#"{"outcome":"succeeded","summaryCounts":{"total":2,"processed":2,"succeeded":5,"failed":0,"skipped":0}}"#;
        let end = finished("Complete", "", 0, message, false);
        assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Failed, "ResultInconsistent"));
    }

    #[test]
    fn a_message_that_is_no_result_is_said_so() {
        let end = finished("Complete", "", 0, "all good", false);
        assert_eq!((end.outcome, end.reason.as_str()), (Outcome::Succeeded, "ResultUnreadable"));
    }

    #[test]
    fn only_our_worker_may_say_what_it_made() {
        let message = r#"{"context":{"snapshot":{"id":"abc","items":1,"bytes":1,"addedBytes":1}}}"#;
        assert!(finished("Complete", "", 0, message, false).made.is_empty());
        assert!(!finished("Complete", "", 0, message, true).made.is_empty());
    }

    #[test]
    fn a_pod_that_forges_its_owner_by_name_does_not_count() {
        let job = job("Complete", "");
        let mut forged = (*pod(0, r#"{"outcome":"failed"}"#)).clone();
        forged.metadata.owner_references.as_mut().expect("owners")[0].uid = "other".into();
        assert_eq!(finish(&job, &JobEnd::Complete, &[Arc::new(forged)], true, None).reason, "ResultLost");
    }

    proptest! {
        #[test]
        fn any_termination_message_gives_an_end_without_panic(text in ".{0,300}", exit in 0_i32..256) {
            let condition = if exit == 0 { "Complete" } else { "Failed" };
            let end = finished(condition, "BackoffLimitExceeded", exit, &text, true);
            prop_assert_ne!(end.outcome, Outcome::Pending);
            prop_assert!(end.message.len() <= 2000);
            if exit != 0 { prop_assert_eq!(end.outcome, Outcome::Failed); }
        }
    }

    #[test]
    fn the_pods_of_a_job_are_all_that_it_started() {
        let status = json!({"failed": 1, "succeeded": 2, "active": 4});
        let of = |status: Value| {
            attempts(&serde_json::from_value(json!({"metadata": {}, "status": status})).expect("a Job"))
        };
        assert_eq!((of(status), of(json!({})), of(Value::Null)), (7, 0, 0));
    }

    #[test]
    fn a_condition_ends_no_pod_in_another_way_unless_it_is_a_disruption() {
        let with = |conditions: Value| {
            let mut ended = (*pod(0, "")).clone();
            ended.status.as_mut().expect("a status").conditions =
                serde_json::from_value(conditions).expect("conditions");
            succeeded(&job("Suspended", ""), &[Arc::new(ended)], false).is_some()
        };
        assert!(with(json!([{"type": "Ready", "status": "True"}, {"type": "DisruptionTarget", "status": "False"}])));
        assert!(!with(json!([{"type": "DisruptionTarget", "status": "True"}])));
    }

    #[test]
    fn the_worker_s_exit_counts_and_else_the_first_container_s_and_else_that_of_a_fence_that_failed() {
        let state = |name: &str, exit: Option<i32>| {
            let state = exit.map_or(json!({"waiting": {}}), |code| json!({"terminated": {"exitCode": code}}));
            json!({"name": name, "image": "i", "imageID": "i", "ready": false, "restartCount": 0, "state": state})
        };
        let exit = |init: &[Value], containers: &[Value]| {
            let pod: Pod = serde_json::from_value(json!({"metadata": {}, "spec": {"containers": [{"name": "first"}]},
                "status": {"initContainerStatuses": init, "containerStatuses": containers}}))
            .expect("a pod");
            ended_container(&pod).map(|(in_fence, ended)| (in_fence, ended.exit_code))
        };
        let first = state("first", Some(1));
        assert_eq!(exit(&[], &[state("other", Some(2)), first.clone()]), Some((false, 1)));
        assert_eq!(exit(&[], &[first.clone(), state(WORKER_CONTAINER, Some(3))]), Some((false, 3)));
        let waits = state("first", None);
        let fence = |code| state(FENCE_CONTAINER, Some(code));
        assert_eq!(exit(&[state("other", Some(5)), fence(49)], std::slice::from_ref(&waits)), Some((true, 49)));
        assert_eq!(exit(&[fence(0)], std::slice::from_ref(&waits)), None, "the fence let it pass");
        assert_eq!(exit(&[state("other", Some(5))], std::slice::from_ref(&waits)), None);
        assert_eq!(exit(&[fence(49)], &[first]), Some((false, 1)));
    }

    #[test]
    fn of_several_pods_the_one_that_succeeded_counts_and_else_the_last() {
        let at = |exit: i32, second: i64| {
            let mut one = (*pod(exit, "")).clone();
            let state = one.status.as_mut().and_then(|status| status.container_statuses.as_mut()).expect("containers");
            let ended = state[0].state.as_mut().and_then(|state| state.terminated.as_mut()).expect("an end");
            let time = jiff::Timestamp::from_second(second).expect("a time");
            ended.finished_at = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
            Arc::new(one)
        };
        let exit = |pods: &[Arc<Pod>]| last_ended(&job("Complete", ""), pods).map(|(_, ended)| ended.exit_code);
        assert_eq!(exit(&[at(0, 1), at(3, 2)]), Some(0));
        assert_eq!(exit(&[at(4, 1), at(3, 2), at(5, 0)]), Some(3));
        assert_eq!(exit(&[]), None);
    }

    #[test]
    fn an_outcome_follows_from_what_the_result_says_and_what_failed() {
        let end = |message: Value| {
            let end = finished("Complete", "", 0, &message.to_string(), false);
            (end.outcome, end.reason)
        };
        let counts =
            |failed: i64| json!({"total": 2, "processed": 2, "succeeded": 1, "failed": failed, "skipped": 1 - failed});
        let item = |of: &str| json!([{"itemId": "a", "reasonCode": "X", "type": of}]);
        assert_eq!(end(json!({"outcome": "failed"})), (Outcome::Failed, "JobFailed".to_owned()));
        assert_eq!(end(json!({"outcome": "blocked"})), (Outcome::Failed, "JobFailed".to_owned()));
        let partial = (Outcome::PartiallySucceeded, "PartiallySucceeded".to_owned());
        assert_eq!(end(json!({"outcome": "partially_succeeded"})), partial);
        assert_eq!(end(json!({"summaryCounts": counts(1)})), partial);
        assert_eq!(end(json!({"failures": item("failure")})), partial);
        let succeeded = (Outcome::Succeeded, "Succeeded".to_owned());
        assert_eq!(end(json!({"summaryCounts": counts(0), "failures": item("skipped")})), succeeded);
        let lies = (Outcome::Failed, "ResultInconsistent".to_owned());
        assert_eq!(end(json!({"summaryCounts": counts(0), "failures": item("failure")})), lies);
    }

    #[test]
    fn a_failure_whose_result_cannot_be_true_is_told_by_its_exit_code() {
        let lies = json!({"message": "all is well", "summaryCounts": {"total": 1, "processed": 5}}).to_string();
        let end = finished("Failed", "BackoffLimitExceeded", 3, &lies, true);
        assert!(end.counts.is_none() && end.message.starts_with("exit code 3: "), "{}", end.message);
    }

    #[test]
    fn twenty_failures_are_kept_and_that_there_were_more_is_said() {
        let told = |count: usize, more: bool| {
            let failures: Vec<_> = (0..count).map(|at| json!({"itemId": at.to_string(), "reasonCode": "X"})).collect();
            let message = json!({"failures": failures, "failuresTruncated": more}).to_string();
            let end = finished("Complete", "", 0, &message, false);
            (end.failures.len(), end.failures_truncated)
        };
        assert_eq!([told(3, false), told(MAX_FAILURES, false)], [(3, false), (MAX_FAILURES, false)]);
        assert_eq!([told(3, true), told(MAX_FAILURES + 1, false)], [(3, true), (MAX_FAILURES, true)]);
    }

    #[test]
    fn a_code_is_one_word_that_begins_with_a_capital() {
        let longest = "C".repeat(128);
        for good in ["Good", "B2", longest.as_str()] {
            assert_eq!(code(Some(good)).as_deref(), Some(good));
        }
        for bad in ["", "small", "Two Words", "Sub-code", &"C".repeat(129)] {
            assert_eq!(code(Some(bad)), None, "{bad}");
        }
    }
}
