//! Metrics, in OpenMetrics text.

use crate::{api::Outcome, cluster::client::CallCounts};
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
    failed_passes: Counter,
    leader: Gauge,
    calls: CallCounts,
    registry: Arc<Registry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    r#type: String,
    outcome: String,
}

impl Metrics {
    /// Metrics, with the counts of API calls beside them.
    #[must_use]
    pub fn new(calls: CallCounts) -> Self {
        let (completed, failed_passes, leader) = (Family::default(), Counter::default(), Gauge::default());
        let mut registry = Registry::with_prefix("tenantatlas");
        registry.register(
            "operation_runs_completed",
            "Runs recorded completed, by type and outcome",
            completed.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Passes that ended in an error and are tried again",
            failed_passes.clone(),
        );
        registry.register("leader", "Whether this replica leads", leader.clone());
        Self { completed, failed_passes, leader, calls, registry: Arc::new(registry) }
    }

    /// Counts a run's end.
    pub fn completed(&self, operation_type: &str, outcome: Outcome) {
        let labels = RunLabels { r#type: operation_type.to_owned(), outcome: outcome.as_str().to_owned() };
        self.completed.get_or_create(&labels).inc();
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
