//! Metrics, in OpenMetrics text.

use crate::{
    api::{Outcome, operation_run::Trigger},
    cluster::client::CallCounts,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{fmt::Write, sync::Arc};

/// Counters of the controller.
#[derive(Clone)]
pub struct Metrics {
    completed: Family<RunLabels, Counter>,
    missed_ticks: Family<ScheduleLabels, Counter>,
    failed_passes: Counter,
    leader: Gauge,
    calls: CallCounts,
    registry: Arc<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    r#type: String,
    trigger: String,
    outcome: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ScheduleLabels {
    namespace: String,
    schedule: String,
}

impl ScheduleLabels {
    fn of(namespace: &str, schedule: &str) -> Self {
        Self { namespace: namespace.to_owned(), schedule: schedule.to_owned() }
    }
}

impl Metrics {
    /// Metrics, with the counts of API calls beside them.
    #[must_use]
    pub fn new(calls: CallCounts) -> Self {
        let (completed, failed_passes, leader) = (Family::default(), Counter::default(), Gauge::default());
        let mut registry = Registry::with_prefix("tenantatlas");
        registry.register(
            "operation_runs_completed",
            "Runs recorded completed, by type, trigger and outcome",
            completed.clone(),
        );
        let missed_ticks = Family::default();
        registry.register(
            "schedule_missed_ticks",
            "Ticks of a schedule that came and were not started",
            missed_ticks.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Passes that ended in an error and are tried again",
            failed_passes.clone(),
        );
        registry.register("leader", "Whether this replica leads", leader.clone());
        Self { completed, missed_ticks, failed_passes, leader, calls, registry: Arc::new(registry) }
    }

    /// Counts a run's end.
    pub fn completed(&self, operation_type: &str, trigger: Trigger, outcome: Outcome) {
        let (r#type, trigger) = (operation_type.to_owned(), trigger.as_str().to_owned());
        let labels = RunLabels { r#type, trigger, outcome: outcome.as_str().to_owned() };
        self.completed.get_or_create(&labels).inc();
    }

    /// Counts ticks that were not started.
    pub fn missed(&self, namespace: &str, schedule: &str, ticks: u64) {
        self.missed_ticks.get_or_create(&ScheduleLabels::of(namespace, schedule)).inc_by(ticks);
    }

    /// A schedule that is gone is told of no more.
    pub fn forget_schedule(&self, namespace: &str, schedule: &str) {
        self.missed_ticks.remove(&ScheduleLabels::of(namespace, schedule));
    }

    /// Counts a pass that failed.
    pub fn pass_failed(&self) {
        self.failed_passes.inc();
    }

    /// Says whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.registry);
        if let Some(body) = text.strip_suffix("# EOF\n").map(str::to_owned) {
            text = body;
        }
        let _ = writeln!(
            text,
            "# HELP tenantatlas_api_calls Calls to the API server.\n# TYPE tenantatlas_api_calls counter"
        );
        for (key, count) in self.calls.snapshot() {
            let _ = writeln!(
                text,
                "tenantatlas_api_calls_total{{verb=\"{}\",resource=\"{}\",answer=\"{:?}\"}} {count}",
                key.verb, key.resource, key.answer
            );
        }
        text.push_str("# EOF\n");
        text
    }
}
