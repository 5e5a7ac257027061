//! What users do in a trial, and what must come of it, whatever fails meanwhile.

use crate::fault::Counted;
use crate::support::run::assert_ended;
use crate::support::{Tenant, wait_for};
use crate::witness::Witness;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;
use tenantatlas::api::execution::ACCOUNTS;
use tenantatlas::api::{BackupSchedule, OperationRun, Outcome, Phase, Reason};

/// Nothing is stuck: the promise of the proof.
pub(crate) const IN_TIME: Duration = Duration::from_mins(1);

/// A story that a trial plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// One run.
    Submit,
    /// Three identical runs: one works, two join.
    Dedupe,
    /// A running run is cancelled.
    Cancel,
    /// A run is cancelled at once.
    CancelEarly,
    /// A running run is cancelled that another has joined.
    CancelJoined,
    /// A run fails; a second one repeats it.
    Retry,
    /// A run takes too long.
    Timeout,
    /// A running run is deleted that another has joined.
    Delete,
    /// A schedule makes the run of its one tick.
    Tick,
    /// The same; then somebody deletes that run.
    TickDeleted,
    /// One run in each of three tenants, in two waves ([`crate::over_all`]).
    OverAll,
    /// The same without waves, which is cancelled while two runs are under way.
    OverAllCancel,
    /// A namespace becomes a tenant.
    Onboard,
    /// One run; its events are what fails.
    Events,
    /// One run, that was there before the process; what fails is how the process starts.
    Start,
    /// A capture, by the real kubelet and worker ([`crate::capture`]).
    Capture,
    /// A new repository is checked, by the real kubelet and worker.
    Check,
    /// A bulk operation in two tenants, by the real kubelet and worker ([`crate::orders`]).
    OverAllBulk,
    /// A capture whose worker fails at its calls to the API server ([`crate::worker`]).
    WorkerCalls,
    /// The same, to its store.
    WorkerStore,
    /// A comparison with a baseline, whose worker fails at its calls to the API server ([`crate::drift`]).
    DriftCalls,
    /// A restart of many objects, whose worker fails at its calls to the API server ([`crate::bulk`]).
    BulkCalls,
    /// The same, of a deletion of many objects.
    BulkDeleteCalls,
    /// All that the stub works for, at once, each in a tenant of its own.
    Together,
}

impl Scenario {
    pub(crate) const ALL: [Self; 24] = [
        Self::Submit,
        Self::Dedupe,
        Self::Cancel,
        Self::Delete,
        Self::CancelEarly,
        Self::CancelJoined,
        Self::Retry,
        Self::Timeout,
        Self::Tick,
        Self::TickDeleted,
        Self::OverAll,
        Self::OverAllCancel,
        Self::Onboard,
        Self::Events,
        Self::Start,
        Self::Capture,
        Self::Check,
        Self::OverAllBulk,
        Self::WorkerCalls,
        Self::WorkerStore,
        Self::DriftCalls,
        Self::BulkCalls,
        Self::BulkDeleteCalls,
        Self::Together,
    ];

    /// The stories about runs whose work the stub does.
    pub(crate) const OF_RUNS: [Self; 12] = [
        Self::Submit,
        Self::Dedupe,
        Self::Cancel,
        Self::Delete,
        Self::CancelEarly,
        Self::CancelJoined,
        Self::Retry,
        Self::Timeout,
        Self::Tick,
        Self::TickDeleted,
        Self::OverAll,
        Self::OverAllCancel,
    ];

    /// How many tenants it needs.
    pub(crate) fn tenants(self) -> usize {
        match self {
            Self::OverAll | Self::OverAllCancel => 3,
            Self::OverAllBulk => 2,
            _ => 1,
        }
    }

    /// Whether the Job of a run that is over is deleted, so that its name is free again.
    pub(crate) fn leaves_no_job(self) -> bool {
        matches!(self, Self::Cancel | Self::CancelEarly | Self::TickDeleted | Self::OverAllCancel)
    }

    /// Which calls fail in it.
    pub(crate) fn counted(self) -> Counted {
        match self {
            Self::Onboard => Counted::Accounts,
            Self::Events => Counted::Events,
            Self::Start => Counted::Process,
            Self::WorkerCalls | Self::DriftCalls | Self::BulkCalls | Self::BulkDeleteCalls => Counted::Worker,
            Self::WorkerStore => Counted::Store,
            _ => Counted::Work,
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Submit => "submit",
            Self::Dedupe => "dedupe",
            Self::Cancel => "cancel",
            Self::CancelEarly => "cancel-early",
            Self::CancelJoined => "cancel-joined",
            Self::Retry => "retry",
            Self::Timeout => "timeout",
            Self::Delete => "delete",
            Self::Tick => "tick",
            Self::TickDeleted => "tick-deleted",
            Self::OverAll => "over-all",
            Self::OverAllCancel => "over-all-cancel",
            Self::Onboard => "onboard",
            Self::Events => "events",
            Self::Start => "start",
            Self::Capture => "capture",
            Self::Check => "check",
            Self::OverAllBulk => "over-all-bulk",
            Self::WorkerCalls => "worker-calls",
            Self::WorkerStore => "worker-store",
            Self::DriftCalls => "drift-calls",
            Self::BulkCalls => "bulk-calls",
            Self::BulkDeleteCalls => "bulk-delete-calls",
            Self::Together => "together",
        })
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|scenario| scenario.to_string() == text);
        let all = || Self::ALL.map(|scenario| scenario.to_string()).join(", ");
        known.ok_or_else(|| format!("no scenario {text:?}: one of {}", all()))
    }
}

/// What must be so in a tenant in the end, beside what holds always.
#[derive(Clone, Debug)]
pub(crate) struct Expected {
    /// How many runs there ever were, if that is always the same.
    pub(crate) runs: Option<usize>,
    /// How many Jobs there ever were.
    pub(crate) jobs: RangeInclusive<usize>,
    /// How often each run's work was done; of runs not named here, never.
    pub(crate) work: BTreeMap<&'static str, RangeInclusive<usize>>,
}

/// Where a story is played.
pub(crate) struct Stage<'a> {
    pub(crate) tenant: &'a Tenant,
    /// All tenants, by name; `tenant` is the first.
    pub(crate) tenants: &'a [Tenant],
    pub(crate) witness: &'a Witness,
    pub(crate) operation: &'a str,
    /// How long anything may take: [`IN_TIME`], and as long as there is no API server.
    pub(crate) patience: Duration,
}

impl Stage<'_> {
    /// Plays a story to its end. Returns what is expected in each tenant.
    pub(crate) async fn play(&self, scenario: Scenario) -> Vec<Expected> {
        match scenario {
            Scenario::OverAll => self.over_all().await,
            Scenario::OverAllCancel => self.over_all_cancel().await,
            _ => vec![self.play_alone(scenario).await],
        }
    }

    async fn play_alone(&self, scenario: Scenario) -> Expected {
        match scenario {
            Scenario::Submit | Scenario::Events | Scenario::Start => self.submit().await,
            Scenario::Onboard => self.onboard().await,
            Scenario::Dedupe => self.dedupe().await,
            Scenario::Cancel => self.cancel().await,
            Scenario::CancelEarly => self.cancel_early().await,
            Scenario::CancelJoined => self.cancel_joined().await,
            Scenario::Retry => self.retry().await,
            Scenario::Timeout => self.timeout().await,
            Scenario::Delete => self.delete().await,
            Scenario::Tick => self.tick().await,
            Scenario::TickDeleted => self.tick_deleted().await,
            Scenario::Capture
            | Scenario::Check
            | Scenario::WorkerCalls
            | Scenario::WorkerStore
            | Scenario::DriftCalls
            | Scenario::BulkCalls
            | Scenario::BulkDeleteCalls
            | Scenario::OverAll
            | Scenario::OverAllCancel
            | Scenario::OverAllBulk
            | Scenario::Together => panic!("{scenario} is not played on this stage"),
        }
    }

    async fn submit(&self) -> Expected {
        self.start("only", json!({})).await;
        self.open();
        self.ends("only", Outcome::Succeeded, Reason::Succeeded).await;
        expect(1..=1, &[("only", 1..=1)])
    }

    /// The run need not wait for the accounts of other Jobs.
    async fn onboard(&self) -> Expected {
        let expected = self.submit().await;
        let bindings: Api<RoleBinding> = self.tenant.api();
        wait_for("every account and its binding", self.patience, async || {
            let listed = bindings.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let bound = listed.iter().filter(|binding| ACCOUNTS.contains(&binding.name_any().as_str())).count();
            if bound == ACCOUNTS.len() { Ok(()) } else { Err(format!("{bound} bindings")) }
        })
        .await;
        expected
    }

    async fn dedupe(&self) -> Expected {
        let runs = ["first", "second", "third"];
        for run in runs {
            self.start(run, json!({})).await;
        }
        let mut with_job = 0;
        for run in runs {
            let status = self.tenant.running(run, self.patience).await;
            with_job += usize::from(status.job.is_some());
            assert_ne!(status.job.is_some(), status.joined.is_some(), "{run} has a Job or has joined: {status:#?}");
        }
        assert_eq!(with_job, 1, "one of them has the Job");
        self.open();
        for run in runs {
            self.ends(run, Outcome::Succeeded, Reason::Succeeded).await;
        }
        // The oldest does it: all are of one second, so by uid, and any may be it.
        expect(1..=1, &[("first", 0..=1), ("second", 0..=1), ("third", 0..=1)])
    }

    async fn cancel(&self) -> Expected {
        self.start("only", json!({})).await;
        self.tenant.running("only", self.patience).await;
        self.cancels("only").await;
        self.ends("only", Outcome::Failed, Reason::Cancelled).await;
        self.no_jobs().await;
        expect(1..=1, &[("only", 0..=1)])
    }

    async fn cancel_early(&self) -> Expected {
        self.start("only", json!({})).await;
        self.cancels("only").await;
        self.ends("only", Outcome::Failed, Reason::Cancelled).await;
        self.no_jobs().await;
        expect(0..=1, &[("only", 0..=1)])
    }

    async fn cancel_joined(&self) -> Expected {
        let (winner, joiner) = self.joined().await;
        self.cancels(winner).await;
        self.ends(winner, Outcome::Failed, Reason::Cancelled).await;
        self.open();
        self.ends(joiner, Outcome::Succeeded, Reason::Succeeded).await;
        expect(2..=2, &[(winner, 0..=1), (joiner, 1..=1)])
    }

    async fn delete(&self) -> Expected {
        let (winner, joiner) = self.joined().await;
        let runs: Api<OperationRun> = self.tenant.api();
        runs.delete(winner, &DeleteParams::default()).await.expect("a run can be deleted");
        wait_for("the deleted run is gone", self.patience, async || match runs.get_opt(winner).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        self.open();
        self.ends(joiner, Outcome::Succeeded, Reason::Succeeded).await;
        expect(2..=2, &[(winner, 0..=1), (joiner, 1..=1)])
    }

    async fn retry(&self) -> Expected {
        self.open();
        self.start("first", json!({ "inputs": { "work": "fail_once" } })).await;
        self.completed("first", Outcome::Failed).await;
        self.start("again", json!({ "rerunOf": { "name": "first" } })).await;
        self.ends("again", Outcome::Succeeded, Reason::Succeeded).await;
        expect(2..=2, &[("first", 1..=1), ("again", 1..=1)])
    }

    async fn timeout(&self) -> Expected {
        self.open();
        self.start("only", json!({ "inputs": { "work": "time_out" }, "timeoutSeconds": 30 })).await;
        self.ends("only", Outcome::Failed, Reason::TimedOut).await;
        expect(1..=1, &[("only", 1..=1)])
    }

    /// One run for one tick, whoever makes it how often.
    async fn tick(&self) -> Expected {
        self.open();
        let spec = json!({ "schedule": "@yearly", "immediate": true, "operation": { "type": self.operation } });
        let made = self.tenant.create(json!({ "metadata": { "name": "yearly" }, "spec": spec })).await;
        let made: BackupSchedule = made.expect("a schedule");
        let created = made.metadata.creation_timestamp.expect("a time").0.as_second();
        // A trial's names last as long as the program.
        let run: &str = format!("yearly-{}", created / 60).leak();
        self.ends(run, Outcome::Succeeded, Reason::Succeeded).await;
        let schedules: Api<BackupSchedule> = self.tenant.api();
        wait_for("the schedule knows its run's end", self.patience, async || {
            let schedule = schedules.get("yearly").await.map_err(|error| error.to_string())?;
            let status = schedule.status.unwrap_or_default();
            let knows = status.last_successful.as_ref().is_some_and(|last| last.run == run);
            let is_settled = knows && status.active.is_empty() && status.last_scheduled_for.is_some();
            if is_settled { Ok(()) } else { Err(format!("{status:#?}")) }
        })
        .await;
        let runs = self.tenant.api::<OperationRun>().list(&ListParams::default()).await.expect("runs can be listed");
        let names: Vec<_> = runs.items.iter().map(kube::ResourceExt::name_any).collect();
        assert_eq!(names, [run], "one for its one tick");
        expect(1..=1, &[(run, 1..=1)])
    }

    /// The name of the run is free again: a leader that wakes now creates it a second time, and nothing comes of it.
    async fn tick_deleted(&self) -> Expected {
        let expected = self.tick().await;
        let runs: Api<OperationRun> = self.tenant.api();
        let run = expected.work.keys().next().expect("one run");
        runs.delete(run, &DeleteParams::default()).await.expect("a run can be deleted");
        wait_for("the deleted run is gone", self.patience, async || match runs.get_opt(run).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
        expected
    }

    /// Two identical runs; the one that works, and the one that has joined it.
    async fn joined(&self) -> (&'static str, &'static str) {
        self.start("first", json!({})).await;
        self.tenant.running("first", self.patience).await;
        self.start("second", json!({})).await;
        let second = self.tenant.running("second", self.patience).await;
        assert!(second.joined.is_some(), "{second:#?}");
        ("first", "second")
    }

    async fn start(&self, name: &str, more: Value) {
        let mut spec = json!({ "type": self.operation });
        for (key, value) in more.as_object().expect("fields") {
            spec[key] = value.clone();
        }
        self.tenant.start(name, spec).await;
    }

    async fn cancels(&self, run: &str) {
        self.tenant.merge::<OperationRun>(run, json!({ "spec": { "cancel": true } })).await;
    }

    fn open(&self) {
        self.witness.open(&self.tenant.name);
    }

    async fn ends(&self, run: &str, outcome: Outcome, reason: Reason) {
        assert_ended(&self.tenant.completed(run, self.patience).await, outcome, reason);
    }

    async fn completed(&self, run: &str, outcome: Outcome) {
        let status = self.tenant.completed(run, self.patience).await;
        assert_eq!((status.phase, status.outcome), (Phase::Completed, outcome), "{run}: {status:#?}");
    }

    async fn no_jobs(&self) {
        self.no_jobs_in(self.tenant).await;
    }

    pub(crate) async fn no_jobs_in(&self, tenant: &Tenant) {
        let jobs: Api<Job> = tenant.api();
        wait_for("no Job is left", self.patience, async || {
            let left = jobs.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            if left.is_empty() { Ok(()) } else { Err(format!("{} Jobs", left.len())) }
        })
        .await;
    }
}

pub(crate) fn expect(jobs: RangeInclusive<usize>, work: &[(&'static str, RangeInclusive<usize>)]) -> Expected {
    Expected { runs: None, jobs, work: work.iter().cloned().collect() }
}
