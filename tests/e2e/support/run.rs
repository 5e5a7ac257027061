//! Runs: starting them, following them to a state, and what every run must satisfy on its way.

use super::tenant::Tenant;
use super::wait::wait_for;
use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::Api;
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{OperationRun, OperationRunStatus, Outcome, Phase, Reason, labels};

impl Tenant {
    /// Starts a run, as the administrator.
    pub(crate) async fn start(&self, name: &str, spec: Value) -> OperationRun {
        let created = self.create(json!({ "metadata": { "name": name }, "spec": spec })).await;
        created.unwrap_or_else(|error| panic!("run {name} is refused: {error}"))
    }

    /// The run as it is.
    pub(crate) async fn run(&self, name: &str) -> OperationRun {
        let runs: Api<OperationRun> = self.api();
        runs.get(name).await.unwrap_or_else(|error| panic!("run {name} cannot be read: {error}"))
    }

    /// Its status as it is.
    pub(crate) async fn status(&self, name: &str) -> OperationRunStatus {
        self.run(name).await.status_or_default()
    }

    /// Waits until the run is as described.
    pub(crate) async fn run_when(
        &self,
        name: &str,
        described: &str,
        deadline: Duration,
        condition: impl Fn(&OperationRun) -> bool,
    ) -> OperationRun {
        let runs: Api<OperationRun> = self.api();
        wait_for(&format!("run {}/{name} {described}", self.name), deadline, async || {
            match runs.get(name).await {
                Ok(run) if condition(&run) => Ok(run),
                Ok(run) if run.is_completed() => {
                    // It will never be otherwise: say so now.
                    panic!("run {}/{name} is completed and not {described}:\n{}", self.name, yaml(&run.status))
                }
                Ok(run) => Err(yaml(&run.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// Waits until the run is completed, and labelled so: that is the write after it.
    pub(crate) async fn completed(&self, name: &str, deadline: Duration) -> OperationRunStatus {
        self.run_when(name, "completed", deadline, OperationRun::is_completed).await;
        let labelled = |run: &OperationRun| run.labels().contains_key(labels::OUTCOME);
        let runs: Api<OperationRun> = self.api();
        let run = wait_for(&format!("run {}/{name} bears its outcome as a label", self.name), deadline, async || {
            let run = runs.get(name).await.map_err(|error| error.to_string())?;
            if labelled(&run) { Ok(run) } else { Err(yaml(&run.metadata.labels)) }
        })
        .await;
        assert_well_ended(&run);
        run.status_or_default()
    }

    /// Waits until the run's Job runs.
    pub(crate) async fn running(&self, name: &str, deadline: Duration) -> OperationRunStatus {
        let running = |run: &OperationRun| run.status_or_default().phase == Phase::Running;
        self.run_when(name, "running", deadline, running).await.status_or_default()
    }

    /// Waits until the run says what it waits for.
    pub(crate) async fn waiting(&self, name: &str, reason: Reason, deadline: Duration) -> OperationRunStatus {
        let waits = |run: &OperationRun| {
            run.status_or_default().waiting.is_some_and(|waiting| waiting.reason == reason.as_str())
        };
        self.run_when(name, &format!("waiting for {reason}"), deadline, waits).await.status_or_default()
    }

    /// Waits until the run is blocked, for this reason; the message names each of these words. No Job may come of it.
    pub(crate) async fn blocked(&self, name: &str, reason: Reason, words: &[&str]) -> OperationRunStatus {
        let status = self.completed(name, super::SOON).await;
        assert_ended(&status, Outcome::Blocked, reason);
        let message = status.message.clone().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "the message of {name} does not name {word:?}: {message}");
        }
        assert_eq!(status.job, None, "a blocked run has no Job");
        status
    }

    /// The tenant's Jobs.
    pub(crate) async fn jobs(&self) -> Vec<Job> {
        let jobs: Api<Job> = self.api();
        jobs.list(&kube::api::ListParams::default()).await.expect("Jobs can be listed").items
    }
}

/// How a run ended.
#[track_caller]
pub(crate) fn assert_ended(status: &OperationRunStatus, outcome: Outcome, reason: Reason) {
    assert_eq!(
        (status.outcome, status.reason.as_deref()),
        (outcome, Some(reason.as_str())),
        "message: {}",
        status.message.as_deref().unwrap_or("none")
    );
}

/// The status of a condition; `absent` where there is none.
pub(crate) fn condition<'a>(status: &'a OperationRunStatus, type_: &str) -> &'a str {
    status.conditions.iter().find(|condition| condition.type_ == type_).map_or("absent", |condition| &condition.status)
}

/// What holds for each completed run, however it ended.
fn assert_well_ended(run: &OperationRun) {
    let status = run.status_or_default();
    let name = run.metadata.name.as_deref().unwrap_or_default();
    assert_ne!(status.outcome, Outcome::Pending, "{name}: a completed run has an outcome");
    assert!(status.completed_at.is_some(), "{name}: completedAt");
    assert!(status.waiting.is_none(), "{name}: waits for nothing any more");
    assert_eq!(status.observed_generation, run.metadata.generation.unwrap_or_default(), "{name}: observedGeneration");
    assert!(status.reason.is_some() && status.message.is_some(), "{name}: says why, to machines and people");
    let phases: Vec<Phase> = status.transitions.iter().map(|transition| transition.phase).collect();
    assert!(phases.is_sorted(), "{name}: phases only go forward: {phases:?}");
    assert_eq!(phases.last(), Some(&Phase::Completed), "{name}: the last transition");
    let (good, partial) = (status.outcome == Outcome::Succeeded, status.outcome == Outcome::PartiallySucceeded);
    for (type_, expected) in [
        ("Finished", "True"),
        ("Ready", if good { "True" } else { "False" }),
        ("Complete", if good { "True" } else { "absent" }),
        ("Partial", if partial { "True" } else { "absent" }),
        ("Failed", if good || partial { "absent" } else { "True" }),
        ("Stalled", if good { "absent" } else { "True" }),
        ("Reconciling", "absent"),
    ] {
        assert_eq!(condition(&status, type_), expected, "{name}: condition {type_}");
    }
    if let Some(counts) = status.summary_counts {
        assert!(counts.add_up(), "{name}: {counts:?}");
    }
    // Readers select by it.
    assert_eq!(
        run.labels().get(labels::OUTCOME).map(String::as_str),
        Some(status.outcome.as_str()),
        "{name}: outcome label"
    );
}

fn yaml(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}
