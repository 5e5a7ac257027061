//! Metrics in OpenMetrics text format.

use super::findings::Findings;
use crate::{
    api::{
        BackupRepository, BackupSchedule, Finding, OperationType, Outcome, Workspace, conditions::READY,
        operation_run::Trigger, reason::coverage, result::Maintained, workspace::TenantCounts,
    },
    cluster::client::CallCounts,
    schedule::jitter,
};
use jiff::Timestamp;
use kube::ResourceExt;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use std::{
    fmt::Write,
    sync::{Arc, atomic::Ordering},
};

/// Metrics of the controller.
#[derive(Clone)]
pub struct Metrics {
    completed: Family<RunLabels, Counter>,
    missed_ticks: Family<ScheduleLabels, Counter>,
    last_successful: Family<ScheduleLabels, Gauge>,
    next_start: Family<ScheduleLabels, Gauge>,
    repository_ready: Family<RepositoryLabels, Gauge>,
    repository_times: Family<RepositoryWorkLabels, Gauge>,
    uncovered_objects: Family<UncoveredLabels, Gauge>,
    forgotten_snapshots: Family<RepositoryLabels, Counter>,
    deleted_bytes: Family<RepositoryLabels, Counter>,
    workspace_tenants: Family<WorkspaceLabels, Gauge>,
    type_ready: Family<TypeLabels, Gauge>,
    expected_duration: Family<TypeLabels, Gauge>,
    findings: Findings,
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
struct TypeLabels {
    r#type: String,
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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryLabels {
    namespace: String,
    repository: String,
}

impl RepositoryLabels {
    fn of(repository: &BackupRepository) -> Self {
        Self { namespace: repository.namespace().unwrap_or_default(), repository: repository.name_any() }
    }
}

/// Labels for objects that no backup set holds, by why.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UncoveredLabels {
    namespace: String,
    repository: String,
    reason: &'static str,
}

impl UncoveredLabels {
    fn of(repository: &BackupRepository, reason: &'static str) -> Self {
        let RepositoryLabels { namespace, repository } = RepositoryLabels::of(repository);
        Self { namespace, repository, reason }
    }
}

/// Labels for work on a repository: `check`, `prune` or `coverage`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RepositoryWorkLabels {
    namespace: String,
    repository: String,
    work: &'static str,
}

impl RepositoryWorkLabels {
    fn of(repository: &BackupRepository, work: &'static str) -> Self {
        let RepositoryLabels { namespace, repository } = RepositoryLabels::of(repository);
        Self { namespace, repository, work }
    }
}

/// States by which the tenants of a workspace are counted.
const TENANT_STATES: [&str; 4] = ["all", "with_backup", "backup_too_old", "over_quota"];

/// Labels for the tenants of a workspace, by one of [`TENANT_STATES`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkspaceLabels {
    workspace: String,
    state: &'static str,
}

/// Sets a gauge to a time. Without a time the gauge is removed: 1970 would be a false alarm.
fn tell<L: Clone + std::hash::Hash + Eq>(gauges: &Family<L, Gauge>, labels: &L, time: Option<Timestamp>) {
    match time {
        Some(time) => {
            gauges.get_or_create(labels).set(time.as_second());
        }
        None => {
            gauges.remove(labels);
        }
    }
}

impl Metrics {
    /// Creates the metrics, which include these counts of API calls.
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
        let (last_successful, next_start) = (Family::default(), Family::default());
        registry.register(
            "schedule_last_successful_timestamp_seconds",
            "When the run of a schedule that succeeded last was recorded completed",
            last_successful.clone(),
        );
        registry.register(
            "schedule_next_start_timestamp_seconds",
            "When the next tick of a schedule starts, its jitter included",
            next_start.clone(),
        );
        let (repository_ready, repository_times) = (Family::default(), Family::default());
        registry.register(
            "repository_ready",
            "Whether a repository passed its last check with its spec as it is now",
            repository_ready.clone(),
        );
        registry.register(
            "repository_last_timestamp_seconds",
            "When a repository was last checked, cleaned of what no backup set needs, or compared with its tenant",
            repository_times.clone(),
        );
        let uncovered_objects = Family::default();
        registry.register(
            "repository_uncovered_objects",
            "Objects of a tenant that no backup set of a repository holds, by why, as the newest inventory that looked found it",
            uncovered_objects.clone(),
        );
        let (forgotten_snapshots, deleted_bytes) = (Family::default(), Family::default());
        registry.register(
            "repository_forgotten_snapshots",
            "Snapshots that maintenance removed from a repository because no backup set named them",
            forgotten_snapshots.clone(),
        );
        registry.register(
            "repository_deleted_bytes",
            "Bytes that maintenance deleted from a repository because nothing needed them",
            deleted_bytes.clone(),
        );
        let workspace_tenants = Family::default();
        registry.register(
            "workspace_tenants",
            "Tenants of a workspace by state, as counted at least once a minute",
            workspace_tenants.clone(),
        );
        let (type_ready, expected_duration) = (Family::default(), Family::default());
        registry.register(
            "operation_type_ready",
            "Whether runs of an operation type can be started",
            type_ready.clone(),
        );
        registry.register(
            "operation_type_expected_duration_seconds",
            "How long a run of an operation type usually takes, where the type says so",
            expected_duration.clone(),
        );
        let findings = Findings::new(&mut registry);
        registry.register(
            "reconcile_errors",
            "Passes that ended in an error and are tried again",
            failed_passes.clone(),
        );
        registry.register("leader", "Whether this replica leads", leader.clone());
        Self {
            completed,
            missed_ticks,
            last_successful,
            next_start,
            repository_ready,
            repository_times,
            uncovered_objects,
            forgotten_snapshots,
            deleted_bytes,
            workspace_tenants,
            type_ready,
            expected_duration,
            findings,
            failed_passes,
            leader,
            calls,
            registry: Arc::new(registry),
        }
    }

    /// Counts a completed run.
    pub fn completed(&self, operation_type: &str, trigger: Trigger, outcome: Outcome) {
        let (r#type, trigger) = (operation_type.to_owned(), trigger.as_str().to_owned());
        let labels = RunLabels { r#type, trigger, outcome: outcome.as_str().to_owned() };
        self.completed.get_or_create(&labels).inc();
    }

    /// Sets the metrics of an operation type.
    pub fn operation_type(&self, operation_type: &OperationType) {
        let labels = TypeLabels { r#type: operation_type.name_any() };
        let conditions = operation_type.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.into_iter().any(|condition| condition.type_ == READY && condition.status == "True");
        self.type_ready.get_or_create(&labels).set(i64::from(ready));
        match operation_type.spec.expected_duration_seconds {
            Some(seconds) => {
                self.expected_duration.get_or_create(&labels).set(seconds);
            }
            None => {
                self.expected_duration.remove(&labels);
            }
        }
    }

    /// Removes the metrics of a deleted operation type.
    pub fn forget_operation_type(&self, operation_type: &OperationType) {
        let labels = TypeLabels { r#type: operation_type.name_any() };
        self.type_ready.remove(&labels);
        self.expected_duration.remove(&labels);
    }

    /// Sets the metrics of a schedule from its status.
    pub fn schedule(&self, schedule: &BackupSchedule) {
        let labels = ScheduleLabels::of(&schedule.namespace().unwrap_or_default(), &schedule.name_any());
        let status = schedule.status.as_ref();
        // Use the persisted count, not what this process saw: a new process must not start at zero
        // right after a downtime.
        let missed = status.and_then(|status| status.missed.as_ref()).map_or(0, |missed| missed.count);
        let counter = self.missed_ticks.get_or_create_owned(&labels);
        counter.inner().store(u64::try_from(missed).unwrap_or_default(), Ordering::Relaxed);
        let next = status.and_then(|status| status.next_scheduled_for);
        let shift = jitter(&schedule.uid().unwrap_or_default(), schedule.spec.jitter_seconds);
        tell(&self.next_start, &labels, next.and_then(|next| next.checked_add(shift).ok()));
        let last = status.and_then(|status| status.last_successful.as_ref());
        tell(&self.last_successful, &labels, last.map(|last| last.completed_at));
    }

    /// Removes the metrics of a deleted schedule.
    pub fn forget_schedule(&self, schedule: &BackupSchedule) {
        let labels = ScheduleLabels::of(&schedule.namespace().unwrap_or_default(), &schedule.name_any());
        self.missed_ticks.remove(&labels);
        self.next_start.remove(&labels);
        self.last_successful.remove(&labels);
    }

    /// Sets the metrics of a repository from its status.
    pub fn repository(&self, repository: &BackupRepository) {
        self.repository_ready.get_or_create(&RepositoryLabels::of(repository)).set(i64::from(repository.is_ready()));
        let status = repository.status.as_ref();
        let coverage = status.and_then(|status| status.coverage.as_ref()).map(|coverage| &coverage.found);
        let times = [
            ("check", status.and_then(|status| status.last_check)),
            ("prune", status.and_then(|status| status.last_prune)),
            ("coverage", coverage.map(|coverage| coverage.taken_at)),
        ];
        for (work, time) in times {
            tell(&self.repository_times, &RepositoryWorkLabels::of(repository, work), time);
        }
        for reason in coverage::ALL {
            let labels = UncoveredLabels::of(repository, reason);
            match coverage.and_then(|coverage| coverage.reasons.iter().find(|counted| counted.reason == *reason)) {
                Some(counted) => {
                    self.uncovered_objects.get_or_create(&labels).set(counted.count);
                }
                None => {
                    self.uncovered_objects.remove(&labels);
                }
            }
        }
    }

    /// Sets the metrics of a workspace, once its tenants are counted.
    pub fn workspace(&self, workspace: &Workspace) {
        let Some(TenantCounts { total, with_backup, backup_too_old, over_quota }) =
            workspace.status.as_ref().map(|status| status.tenants)
        else {
            return;
        };
        let counts = [total, with_backup, backup_too_old, over_quota];
        for (state, count) in TENANT_STATES.into_iter().zip(counts) {
            let labels = WorkspaceLabels { workspace: workspace.name_any(), state };
            self.workspace_tenants.get_or_create(&labels).set(count);
        }
    }

    /// Removes the metrics of a deleted workspace.
    pub fn forget_workspace(&self, workspace: &Workspace) {
        for state in TENANT_STATES {
            self.workspace_tenants.remove(&WorkspaceLabels { workspace: workspace.name_any(), state });
        }
    }

    /// Counts what a maintenance removed.
    pub fn maintained(&self, repository: &BackupRepository, figures: Maintained) {
        let labels = RepositoryLabels::of(repository);
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        self.forgotten_snapshots.get_or_create(&labels).inc_by(count(figures.forgotten));
        self.deleted_bytes.get_or_create(&labels).inc_by(count(figures.deleted_bytes));
    }

    /// Removes the metrics of a deleted repository.
    pub fn forget_repository(&self, repository: &BackupRepository) {
        let labels = RepositoryLabels::of(repository);
        self.repository_ready.remove(&labels);
        self.forgotten_snapshots.remove(&labels);
        self.deleted_bytes.remove(&labels);
        for work in ["check", "prune", "coverage"] {
            self.repository_times.remove(&RepositoryWorkLabels::of(repository, work));
        }
        for reason in coverage::ALL {
            self.uncovered_objects.remove(&UncoveredLabels::of(repository, reason));
        }
    }

    /// Counts a finding as it is now.
    pub fn finding(&self, finding: &Finding) {
        self.findings.put(finding);
    }

    /// Counts a deleted finding no more.
    pub fn forget_finding(&self, finding: &Finding) {
        self.findings.forget(finding);
    }

    /// Counts a pass that failed.
    pub fn pass_failed(&self) {
        self.failed_passes.inc();
    }

    /// Sets whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// All metrics as text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn lines_of(metrics: &Metrics, what: &str) -> Vec<String> {
        metrics.text().lines().filter(|line| line.starts_with(what)).map(str::to_owned).collect()
    }

    /// The names of the metrics in a text, each once.
    fn names_in(text: &str) -> std::collections::BTreeSet<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.filter(|word| word.starts_with("tenantatlas_")).map(str::to_owned).collect()
    }

    #[test]
    fn the_guide_lists_all_metrics_and_alerts_are_about_such_as_there_are() {
        let metrics = Metrics::new(CallCounts::default());
        let object = |kind: &str, spec: serde_json::Value, status: serde_json::Value| json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": kind, "metadata": {"name": "n", "namespace": "acme"}, "spec": spec, "status": status});
        let (spec, time) = (json!({"schedule": "@daily"}), "2026-01-02T00:00:00Z");
        let ran = json!({"nextScheduledFor": time, "missed": {"count": 1, "last": time}, "lastSuccessful": {"run": "r", "completedAt": time}});
        metrics.schedule(&serde_json::from_value(object("BackupSchedule", spec, ran)).expect("a schedule"));
        let spec =
            json!({"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p"}});
        let counted = json!({"tenants": {"total": 4, "withBackup": 3, "backupTooOld": 2, "overQuota": 1}});
        let workspace = serde_json::from_value(object("Workspace", json!({}), counted)).expect("a workspace");
        metrics.workspace(&workspace);
        let tenants = |state: &str, count: u8| {
            format!("tenantatlas_workspace_tenants{{workspace=\"n\",state=\"{state}\"}} {count}")
        };
        let lines = lines_of(&metrics, "tenantatlas_workspace_tenants");
        let expected =
            [tenants("all", 4), tenants("with_backup", 3), tenants("backup_too_old", 2), tenants("over_quota", 1)];
        assert!(lines.len() == 4 && expected.iter().all(|line| lines.contains(line)), "{lines:?}");
        let coverage = json!({"run": {"name": "r", "uid": "u"}, "takenAt": time, "days": 7, "reasons": [{"reason": "NoBackup", "count": 1}]});
        let repository = object("BackupRepository", spec, json!({"lastCheck": time, "coverage": coverage}));
        let repository = serde_json::from_value(repository).expect("a repository");
        metrics.repository(&repository);
        metrics.maintained(&repository, Maintained::default());
        metrics.completed("backup.capture", Trigger::Manual, Outcome::Succeeded);
        let spec = json!({"executor": {"worker": {"command": ["capture"]}}, "expectedDurationSeconds": 60});
        let operation_type = serde_json::from_value(object("OperationType", spec, json!({}))).expect("a type");
        metrics.operation_type(&operation_type);
        let mut finding = Finding::new("drift-0", crate::api::FindingSpec::default());
        let seen = json!({"observed": {"firstSeen": time, "lastSeen": time, "run": {"name": "r", "uid": "u"}}});
        finding.status = serde_json::from_value(seen).expect("a status");
        metrics.finding(&finding);
        let there = metrics.text();
        let described = there.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
        let named = |(name, kind): (&str, &str)| format!("{name}{}", if kind == "counter" { "_total" } else { "" });
        let there: std::collections::BTreeSet<_> = described.map(named).collect();
        let guide = include_str!("../../docs/guides/operations.md");
        assert_eq!(names_in(guide), there);
        let alerts = include_str!("../../charts/tenantatlas/templates/controller/alerts.yaml");
        let used = names_in(alerts);
        assert!(used.len() > 3 && used.is_subset(&there), "{used:?}");
    }

    #[test]
    fn every_alert_leads_to_a_heading_of_a_guide_and_the_guide_names_it() {
        let alerts = include_str!("../../charts/tenantatlas/templates/controller/alerts.yaml");
        let told = include_str!("../../docs/guides/maintenance.md");
        let value_of = |key: &'static str| alerts.lines().filter_map(move |line| Some(line.split_once(key)?.1.trim()));
        for name in value_of("- alert: ") {
            assert!(told.contains(&format!("| `{name}` |")), "the guide does not say when {name} fires");
        }
        let links: Vec<_> = value_of("runbook_url: {{ $guides }}/").collect();
        assert_eq!(links.len(), value_of("- alert: ").count());
        for link in links {
            let (file, anchor) = link.split_once('#').expect("an anchor");
            let guide = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides").join(file);
            let guide = std::fs::read_to_string(guide).expect("a guide");
            let headings = guide.lines().filter_map(|line| line.strip_prefix("## "));
            let mut anchors = headings.map(|heading| heading.to_lowercase().replace(' ', "-"));
            assert!(anchors.any(|found| found == anchor), "{link}");
        }
    }

    #[test]
    fn what_a_schedule_says_is_told_with_its_jitter_until_it_is_gone() {
        let metrics = Metrics::new(CallCounts::default());
        let mut schedule: BackupSchedule = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule",
            "metadata": {"name": "nightly", "namespace": "acme", "uid": "u"}, "spec": {"schedule": "@daily", "jitterSeconds": 600},
            "status": {"nextScheduledFor": "2026-01-02T00:00:00Z", "missed": {"count": 2, "last": "2026-01-01T00:00:00Z"},
                "lastSuccessful": {"run": "nightly-1", "completedAt": "2026-01-01T00:01:00Z"}}
        }))
        .expect("a schedule");
        metrics.schedule(&schedule);
        let labels = "{namespace=\"acme\",schedule=\"nightly\"}";
        let second = "2026-01-02T00:00:00Z".parse::<Timestamp>().expect("a time").as_second();
        let start = second + jitter("u", 600).as_secs();
        assert_ne!(start, second);
        assert_eq!(
            lines_of(&metrics, "tenantatlas_schedule_"),
            [
                format!("tenantatlas_schedule_missed_ticks_total{labels} 2"),
                format!("tenantatlas_schedule_last_successful_timestamp_seconds{labels} {}", second - 86_400 + 60),
                format!("tenantatlas_schedule_next_start_timestamp_seconds{labels} {start}"),
            ]
        );
        // Suspended: nothing is overdue.
        schedule.status.as_mut().expect("a status").next_scheduled_for = None;
        metrics.schedule(&schedule);
        assert_eq!(lines_of(&metrics, "tenantatlas_schedule_next"), Vec::<String>::new());
        metrics.forget_schedule(&schedule);
        assert_eq!(lines_of(&metrics, "tenantatlas_schedule_"), Vec::<String>::new());
    }

    #[test]
    fn an_operation_type_says_whether_it_is_ready_and_how_long_a_run_takes_until_it_is_deleted() {
        let metrics = Metrics::new(CallCounts::default());
        let mut operation_type: OperationType = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType", "metadata": {"name": "database.dump"},
            "spec": {"executor": {"worker": {"command": ["capture"]}}, "expectedDurationSeconds": 60},
        }))
        .expect("a type");
        let lines = |ready: u8, seconds: &[u8]| -> Vec<String> {
            let labels = "{type=\"database.dump\"}";
            let ready = std::iter::once(format!("tenantatlas_operation_type_ready{labels} {ready}"));
            let name = "tenantatlas_operation_type_expected_duration_seconds";
            ready.chain(seconds.iter().map(|seconds| format!("{name}{labels} {seconds}"))).collect()
        };
        metrics.operation_type(&operation_type);
        assert_eq!(lines_of(&metrics, "tenantatlas_operation_type_"), lines(0, &[60]));
        let ready = crate::kinds::operation_type::decide::status(&operation_type, Timestamp::UNIX_EPOCH);
        (operation_type.status, operation_type.spec.expected_duration_seconds) = (Some(ready), None);
        metrics.operation_type(&operation_type);
        assert_eq!(lines_of(&metrics, "tenantatlas_operation_type_"), lines(1, &[]));
        metrics.forget_operation_type(&operation_type);
        assert_eq!(lines_of(&metrics, "tenantatlas_operation_type_"), Vec::<String>::new());
    }

    #[test]
    fn a_repository_that_is_not_ready_is_told_as_such_until_it_is_gone() {
        let metrics = Metrics::new(CallCounts::default());
        let mut repository: BackupRepository = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": "acme", "generation": 1},
            "spec": {"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p"}},
            "status": {"observedGeneration": 1, "lastCheck": "2026-01-01T00:00:00Z", "conditions": [{"type": "Ready", "status": "True",
                "reason": "CheckPassed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        }))
        .expect("a repository");
        let ready =
            |value: u8| [format!("tenantatlas_repository_ready{{namespace=\"acme\",repository=\"main\"}} {value}")];
        metrics.repository(&repository);
        assert_eq!(lines_of(&metrics, "tenantatlas_repository_ready"), ready(1));
        let times = lines_of(&metrics, "tenantatlas_repository_last_timestamp_seconds");
        assert!(matches!(times.as_slice(), [check] if check.contains("work=\"check\"")), "{times:?}");
        repository.status.as_mut().expect("a status").conditions[0].status = "False".to_owned();
        metrics.repository(&repository);
        assert_eq!(lines_of(&metrics, "tenantatlas_repository_ready"), ready(0));
        for _ in 0..2 {
            metrics.maintained(&repository, Maintained { forgotten: 3, deleted_bytes: 1000, marked_bytes: 1 });
        }
        let labels = "{namespace=\"acme\",repository=\"main\"}";
        for (what, count) in [("forgotten_snapshots", 6), ("deleted_bytes", 2000)] {
            let name = format!("tenantatlas_repository_{what}_total");
            assert_eq!(lines_of(&metrics, &name), [format!("{name}{labels} {count}")]);
        }
        metrics.forget_repository(&repository);
        assert_eq!(lines_of(&metrics, "tenantatlas_repository"), Vec::<String>::new());
    }

    #[test]
    fn a_workspace_that_is_gone_has_no_metrics_and_one_that_is_not_counted_yet_has_none() {
        let metrics = Metrics::new(CallCounts::default());
        let whole = |status: serde_json::Value| {
            let whole = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "Workspace",
                "metadata": {"name": "shop"}, "spec": {}, "status": status});
            serde_json::from_value::<Workspace>(whole).expect("a workspace")
        };
        metrics.workspace(&whole(json!(null)));
        assert_eq!(lines_of(&metrics, "tenantatlas_workspace"), Vec::<String>::new());
        metrics.workspace(&whole(json!({"tenants": {"total": 1}})));
        assert_eq!(lines_of(&metrics, "tenantatlas_workspace").len(), 4);
        metrics.forget_workspace(&whole(json!(null)));
        assert_eq!(lines_of(&metrics, "tenantatlas_workspace"), Vec::<String>::new());
    }

    #[test]
    fn objects_that_no_backup_set_holds_are_counted_by_reason_as_the_newest_inventory_found_it() {
        let metrics = Metrics::new(CallCounts::default());
        let mut repository: BackupRepository = serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupRepository",
            "metadata": {"name": "main", "namespace": "acme"},
            "spec": {"storage": {"persistentVolumeClaim": {"claimName": "backups"}}, "passwordSecret": {"name": "p"}},
        }))
        .expect("a repository");
        let mut told = |mut coverage: serde_json::Value| {
            if coverage.is_object() {
                (coverage["run"], coverage["days"]) = (json!({"name": "r", "uid": "u"}), json!(7));
            }
            repository.status = serde_json::from_value(json!({ "coverage": coverage })).expect("a status");
            metrics.repository(&repository);
            let lines = [
                lines_of(&metrics, "tenantatlas_repository_uncovered_objects"),
                lines_of(&metrics, "tenantatlas_repository_last_timestamp_seconds"),
            ];
            let mut lines: Vec<String> = lines.concat();
            lines.sort();
            lines
        };
        let labels = "namespace=\"acme\",repository=\"main\"";
        let count = |reason: &str, count: u8| {
            format!("tenantatlas_repository_uncovered_objects{{{labels},reason=\"{reason}\"}} {count}")
        };
        let looked =
            |at: u8| format!("tenantatlas_repository_last_timestamp_seconds{{{labels},work=\"coverage\"}} {at}");
        assert_eq!(told(json!(null)), Vec::<String>::new());
        // A code that this version does not know is no label.
        let reasons = json!([{"reason": "ExcludedKind", "count": 3}, {"reason": "NewerThanLastBackup", "count": 2}, {"reason": "x", "count": 1}]);
        assert_eq!(
            told(json!({"takenAt": "1970-01-01T00:00:07Z", "reasons": reasons})),
            [looked(7), count("ExcludedKind", 3), count("NewerThanLastBackup", 2)]
        );
        assert_eq!(
            told(json!({"takenAt": "1970-01-01T00:00:08Z", "reasons": [{"reason": "ExcludedKind", "count": 1}]})),
            [looked(8), count("ExcludedKind", 1)]
        );
        assert_eq!(told(json!({"takenAt": "1970-01-01T00:00:09Z"})), [looked(9)], "all are covered");
        metrics.forget_repository(&repository);
        assert_eq!(lines_of(&metrics, "tenantatlas_repository"), Vec::<String>::new());
    }
}
