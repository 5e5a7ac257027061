//! `BackupSchedule`: starts runs of one operation at the ticks of a cron expression.
//!
//! Each field has one writer: the author writes `spec`, admission writes `spec.requestedBy`, and
//! the controller writes `status`.
//!
//! `spec.scheduledBy` of a run records which schedule created it, and for which tick. The field is
//! immutable, and only the operator may set it.

#![allow(clippy::struct_field_names, reason = "keepLast and its like are the words that users of restic know")]

use crate::{
    Inputs, ObjectReference, OperationRun,
    cron_rules::{cron_rule, day_rule},
    operation_run::SchedulerKind,
    operations,
    subject::Initiator,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Maximum length of a schedule's name, as for a CronJob: run names append the minute to it.
pub const MAX_NAME_LENGTH: usize = 52;

/// What to start, and when. All fields are mutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "BackupSchedule",
    plural = "backupschedules",
    shortname = "bsched",
    category = "atlas",
    namespaced,
    status = "BackupScheduleStatus",
    derive = "PartialEq",
    doc = "Starts runs of an operation, usually backups, at the ticks of a cron expression. `status.nextScheduledFor` shows the next tick. Deleting a schedule keeps its runs and backups.",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Last", type_ = "date", json_path = ".status.lastScheduledFor"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextScheduledFor"),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSuccessful.completedAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Zone", type_ = "string", json_path = ".spec.timeZone", priority = "1"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.operation.type", priority = "1"),
    printcolumn(name = "Missed", type_ = "integer", json_path = ".status.missed.count", priority = "1"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        priority = "1"
    ),
    validation = Rule::new("self.metadata.name.size() <= 52").message("the name of a schedule is at most 52 characters: its runs bear it with the minute behind").reason(Reason::FieldValueInvalid),
)]
#[x_kube(
    validation = Rule::new(cron_rule!("self.schedule")).message("schedule takes five fields (minute 0-59, hour 0-23, day of month 1-31, month 1-12 or JAN-DEC, day of week 0-7 or SUN-SAT) such as '15 2 * * *', or an alias such as @daily; the time zone goes into timeZone"),
    validation = Rule::new(day_rule!("self.schedule")).message("schedule names a day that its month never has"),
    validation = Rule::new("!self.schedule.contains('@') || self.schedule.trim() in ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly']").message("schedule knows the aliases @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly"),
    validation = Rule::new("timestamp('2020-01-01T00:00:00Z').getHours(self.timeZone) >= 0 && !(self.timeZone in ['Local', 'localtime', 'posixrules']) && !self.timeZone.startsWith('right/') && !self.timeZone.startsWith('posix/')").message("timeZone is none of the IANA database: names are such as UTC or Europe/Berlin"),
    validation = Rule::new("!(self.operation.type in ['restore.preview', 'restore.apply', 'bulk.preview', 'bulk.apply', 'bulk.delete.preview', 'bulk.delete', 'bulk.capture', 'bulk.export'])").message("operation.type: restores and bulk operations are not run by schedules; restore.rehearse checks a backup set without writing"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupScheduleSpec {
    /// Cron expression with five fields (minute, hour, day of month, month, day of week), or one of
    /// `@yearly`, `@annually`, `@monthly`, `@weekly`, `@daily`, `@midnight`, `@hourly`.
    #[schemars(length(min = 1, max = 200))]
    pub schedule: String,
    /// IANA time zone in which `schedule` is evaluated, such as `Europe/Berlin`. Defaults to `UTC`.
    #[serde(default = "utc")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: String,
    /// Delays each tick by up to this many seconds, so that schedules with the same minute do not
    /// all start at once. The delay is constant for a schedule. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 86_400))]
    pub jitter_seconds: i64,
    /// Whether to skip ticks. Skipped ticks do not count as missed, and none is caught up
    /// afterwards. Defaults to false.
    #[serde(default)]
    pub suspend: bool,
    /// Seconds after which a tick that could not start in time, because the operator was down for
    /// example, is given up and counts as missed. If unset, the last such tick is caught up however
    /// late it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<i64>,
    /// `queueTimeoutSeconds` of each run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub queue_timeout_seconds: Option<i64>,
    /// What a tick does while an earlier run of the schedule is not completed. `Forbid`, the
    /// default, skips the tick and counts it as missed. `Allow` starts a second run. `Replace`
    /// starts a run and then cancels the earlier one.
    #[serde(default)]
    pub concurrency_policy: ConcurrencyPolicy,
    /// Whether to start one run as soon as the schedule is created. Defaults to false.
    #[serde(default)]
    pub immediate: bool,
    /// Operation to start. Defaults to `backup.capture`.
    #[serde(default)]
    pub operation: ScheduledOperation,
    /// Which backup sets of the schedule to keep, by the clock of `timeZone`. A set is kept if any
    /// rule selects it. The last good set and sets with `hold` are always kept. If unset, all sets
    /// are kept. Setting it requires the verb `delete` on `backupsets`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retention>,
    /// Number of succeeded runs to keep; older ones are deleted. Defaults to 10.
    #[serde(default = "history")]
    #[schemars(range(min = 1, max = 1000))]
    pub successful_runs_history_limit: i32,
    /// Number of other completed runs to keep; older ones are deleted. Defaults to 10.
    #[serde(default = "history")]
    #[schemars(range(min = 1, max = 1000))]
    pub failed_runs_history_limit: i32,
    /// Authenticated user who last decided what the schedule starts: who created it, changed
    /// `operation`, or requested a run now. The schedule's runs name this user as initiator.
    /// Admission sets it, whatever the author writes. On Kubernetes before 1.36 the author writes
    /// it, and admission rejects any other user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Initiator>,
}

pub(crate) fn utc() -> String {
    "UTC".to_owned()
}

/// How many runs of a schedule are kept, succeeded and others, if the spec does not say.
pub const DEFAULT_HISTORY_LIMIT: i32 = 10;

fn history() -> i32 {
    DEFAULT_HISTORY_LIMIT
}

/// What a tick does while an earlier run is not completed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// Start a second run. The same work is joined, not done twice.
    Allow,
    /// Skip the tick, and count it as missed.
    #[default]
    Forbid,
    /// Start a run, then cancel the earlier one.
    Replace,
}

/// Which backup sets to keep, by the clock of the schedule's zone. Each rule by the clock keeps the
/// last set of each of the newest hours (days, …) that have one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.keepLast) || has(self.keepHourly) || has(self.keepDaily) || has(self.keepWeekly) || has(self.keepMonthly) || has(self.keepYearly) || has(self.keepWithin)").message("retention keeps nothing: give at least one of keepLast, keepHourly, keepDaily, keepWeekly, keepMonthly, keepYearly and keepWithin, or leave retention out to keep all"),
    validation = Rule::new("!has(self.keepWithin) || self.keepWithin.matches('[1-9]')").message("keepWithin is no time at all: give at least one year, month, day or hour, such as 30d"),
)]
pub struct Retention {
    /// Keep this many of the newest sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_last: Option<i32>,
    /// Keep one set for each of this many of the newest hours that have a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_hourly: Option<i32>,
    /// Keep one set for each of this many of the newest days that have a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_daily: Option<i32>,
    /// Keep one set for each of this many of the newest weeks, Monday to Sunday, that have a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_weekly: Option<i32>,
    /// Keep one set for each of this many of the newest months that have a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_monthly: Option<i32>,
    /// Keep one set for each of this many of the newest years that have a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub keep_yearly: Option<i32>,
    /// Keep all sets that are at most this much older than the newest, in years, months, days and
    /// hours, such as `30d` or `1y6m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 20),
        regex(pattern = r"^([0-9]{1,4}y)?([0-9]{1,4}m)?([0-9]{1,4}d)?([0-9]{1,4}h)?$")
    )]
    pub keep_within: Option<String>,
    /// Whether to list expired sets in `status.retention.wouldExpire` instead of deleting them.
    /// Defaults to false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// Maximum number of active runs that a status lists.
pub const MAX_ACTIVE: usize = 100;

/// Maximum number of backup sets that a status lists as about to expire.
pub const MAX_WOULD_EXPIRE: usize = 100;

/// An operation with its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ScheduledOperation {
    /// Name of the OperationType.
    #[serde(rename = "type")]
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub operation_type: String,
    /// Inputs of the type, as in a run. They are checked when a run starts.
    #[schemars(schema_with = "crate::schema::any_object")]
    pub inputs: Inputs,
}

impl Default for ScheduledOperation {
    fn default() -> Self {
        Self { operation_type: operations::CAPTURE.to_owned(), inputs: Inputs::default() }
    }
}

/// What the schedule has started, and what comes next. Written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupScheduleStatus {
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Last tick that is handled: started or skipped. Its minute, without jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last_scheduled_for: Option<Timestamp>,
    /// Next tick. Its minute, without jitter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub next_scheduled_for: Option<Timestamp>,
    /// Last run that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_successful: Option<LastSuccessful>,
    /// Runs of the schedule that are not completed; at most 100 are listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub active: Vec<ObjectReference>,
    /// Ticks that were due and were not started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<Missed>,
    /// Last value of the annotation `tenantatlas.io/run-now` that was answered with a run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run_now: Option<LastRunNow>,
    /// Result of the last pass of retention.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<Retained>,
    /// Expression, zone and pause by which ticks are counted, and since when. A change of any of
    /// them restarts the count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timetable: Option<Counted>,
    /// Conditions for kstatus, Flux, Argo CD and `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// A run that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastSuccessful {
    /// Name of the run.
    #[schemars(length(max = 253))]
    pub run: String,
    /// When the run was recorded as completed.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Timestamp,
}

/// Ticks that were not started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Missed {
    /// Number of missed ticks since the schedule was created.
    #[schemars(range(min = 0))]
    pub count: i64,
    /// Last missed tick.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub last: Timestamp,
}

/// Answer to the annotation `tenantatlas.io/run-now`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastRunNow {
    /// Value of the annotation, cut at 250 bytes.
    #[schemars(length(max = 253))]
    pub token: String,
    /// Name of the run that was started for it.
    #[schemars(length(max = 253))]
    pub run: String,
}

/// Result of one pass of retention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// Generation of the spec and last completed run at the time of the pass. Retention runs again
    /// when either changes.
    #[schemars(length(max = 300))]
    pub after: String,
    /// Number of backup sets that remain.
    #[schemars(range(min = 0))]
    pub kept: i64,
    /// Number of backup sets that this pass deleted. Sets deleted by an interrupted pass are not
    /// counted in the next one. Events name all of them.
    #[schemars(range(min = 0))]
    pub expired: i64,
    /// Number of backup sets of earlier schedules of this name. They are kept until a user deletes
    /// them.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    #[schemars(range(min = 0))]
    pub of_earlier_schedules: i64,
    /// Dry run only: names of the backup sets that would be deleted, oldest first, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub would_expire: Vec<String>,
}

/// How ticks are counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counted {
    /// Cron expression.
    #[schemars(length(max = 200))]
    pub schedule: String,
    /// Time zone.
    #[schemars(length(max = 64))]
    pub time_zone: String,
    /// Whether no ticks are counted, because the schedule is suspended or the namespace is not a
    /// tenant.
    pub paused: bool,
    /// Start of the count. Earlier ticks are ignored.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub since: Timestamp,
}

/// Schedule and tick that a run was created for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Name of the schedule.
    pub schedule: String,
    /// Uid of the schedule.
    pub uid: String,
    /// The tick; `None` for a run requested by annotation.
    pub scheduled_for: Option<Timestamp>,
}

const NOW: &str = "-now-";

/// Name of the run for a tick. A second create for the same tick conflicts with the first.
#[must_use]
pub fn tick_run_name(schedule: &str, tick: Timestamp) -> String {
    format!("{schedule}-{}", tick.as_second().div_euclid(60))
}

/// Name of the run for a token of the annotation `run-now`.
#[must_use]
pub fn run_now_name(schedule: &str, token: &str) -> String {
    format!("{schedule}{NOW}{}", &hex::encode(Sha256::digest(token))[..16])
}

/// Names that a run of a schedule may have. The second is used if another owner's run has the
/// first.
#[must_use]
pub fn run_names(name: &str, uid: &str) -> [String; 2] {
    [name.to_owned(), format!("{name}-{}", uid.get(..8).unwrap_or(uid))]
}

impl BackupSchedule {
    /// Whether a run was created for a tick, or for a `run-now` token, that the schedule had
    /// already handled.
    ///
    /// A leader can stall between its decision and its create request. Meanwhile its successor may
    /// have run the tick, and that run may already be deleted. The stalled request then creates the
    /// tick's run again. A single status write records a tick together with the uid of its run, and
    /// the uid stays until the run is completed. A run whose tick is on record and whose uid is not
    /// is therefore a repetition. A status that lists the maximum number of runs proves nothing, so
    /// the answer is then no.
    #[must_use]
    pub fn is_repeated_by(&self, run: &OperationRun) -> bool {
        let Some(origin) = origin(run).filter(|origin| Some(&origin.uid) == self.metadata.uid.as_ref()) else {
            return false;
        };
        let Some(status) = &self.status else { return false };
        let is_dealt_with = match origin.scheduled_for {
            Some(tick) => Some(tick) <= status.last_scheduled_for,
            None => status.last_run_now.as_ref().map(|answer| &answer.run) == run.metadata.name.as_ref(),
        };
        let is_on_record = || status.active.iter().any(|active| Some(&active.uid) == run.metadata.uid.as_ref());
        is_dealt_with && status.active.len() < MAX_ACTIVE && !is_on_record()
    }
}

impl Origin {
    /// Name and uid of the schedule.
    #[must_use]
    pub fn reference(self) -> ObjectReference {
        ObjectReference { name: self.schedule, uid: self.uid }
    }
}

/// Returns the schedule that created a run, or `None` if no schedule did.
#[must_use]
pub fn origin(run: &OperationRun) -> Option<Origin> {
    let by = run.spec.scheduled_by.as_ref().filter(|by| by.kind == SchedulerKind::BackupSchedule)?;
    Some(Origin { schedule: by.name.clone(), uid: by.uid.clone(), scheduled_for: by.tick })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn run(name: &str, scheduled_by: &serde_json::Value) -> OperationRun {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun", "metadata": {"name": name},
            "spec": {"type": "backup.capture", "trigger": "scheduled", "scheduledBy": scheduled_by}
        }))
        .expect("a run")
    }

    #[test]
    fn a_run_is_of_the_schedule_that_it_was_made_for_whatever_its_name() {
        let tick: Timestamp = "2026-01-01T02:15:00Z".parse().expect("a time");
        let by = |kind| json!({"kind": kind, "name": "nightly", "uid": "u", "tick": tick});
        let nightly = Origin { schedule: "nightly".into(), uid: "u".into(), scheduled_for: Some(tick) };
        assert_eq!(origin(&run("any", &by("BackupSchedule"))), Some(nightly));
        assert_eq!(origin(&run(&tick_run_name("nightly", tick), &json!(null))), None);
        assert_eq!(origin(&run("any", &by("BackupRepository"))), None);
        assert_eq!(tick_run_name("nightly", tick), "nightly-29453895");
        let longest = "n".repeat(MAX_NAME_LENGTH);
        assert!(run_now_name(&longest, &"t".repeat(300)).len() <= 100);
    }

    #[test]
    fn a_run_whose_tick_is_on_record_with_another_run_repeats_it() {
        let schedule = |status: serde_json::Value| -> BackupSchedule {
            serde_json::from_value(json!({
                "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule",
                "metadata": {"name": "nightly", "uid": "u"}, "spec": {"schedule": "@daily"}, "status": status
            }))
            .expect("a schedule")
        };
        let of = |uid: &str, of: &str, tick: serde_json::Value| {
            let mut run =
                run("nightly-1", &json!({"kind": "BackupSchedule", "name": "nightly", "uid": of, "tick": tick}));
            run.metadata.uid = Some(uid.to_owned());
            run
        };
        let (earlier, last) = (json!("2026-01-01T01:00:00Z"), json!("2026-01-01T02:00:00Z"));
        let next = json!("2026-01-01T03:00:00Z");
        let recorded = |active: &[&str]| {
            let active: Vec<_> = active.iter().map(|uid| json!({"name": "any", "uid": uid})).collect();
            schedule(
                json!({"lastScheduledFor": last, "active": active, "lastRunNow": {"token": "a", "run": "nightly-1"}}),
            )
        };
        for tick in [&earlier, &last, &json!(null)] {
            assert!(recorded(&[]).is_repeated_by(&of("late", "u", tick.clone())), "{tick}");
            assert!(recorded(&["first"]).is_repeated_by(&of("late", "u", tick.clone())), "{tick}");
            assert!(!recorded(&["first", "second"]).is_repeated_by(&of("first", "u", tick.clone())), "it is that run");
            assert!(!recorded(&[]).is_repeated_by(&of("late", "another", tick.clone())), "another schedule's");
            assert!(!schedule(json!({})).is_repeated_by(&of("late", "u", tick.clone())), "nothing is on record");
        }
        assert!(!recorded(&[]).is_repeated_by(&of("new", "u", next)), "its record follows");
        let all: Vec<_> = (0..MAX_ACTIVE).map(|number| number.to_string()).collect();
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        assert!(!recorded(&all).is_repeated_by(&of("late", "u", last)), "more may be active than the status names");
    }

    #[test]
    fn a_schedule_captures_in_utc_and_forbids_overlap_unless_told_otherwise() {
        let spec: BackupScheduleSpec = serde_json::from_value(json!({"schedule": "@daily"})).expect("a spec");
        assert_eq!((spec.time_zone.as_str(), spec.operation.operation_type.as_str()), ("UTC", "backup.capture"));
        assert_eq!(spec.concurrency_policy, ConcurrencyPolicy::Forbid);
        assert_eq!((spec.successful_runs_history_limit, spec.failed_runs_history_limit), (10, 10));
        assert!(!spec.suspend && !spec.immediate && spec.jitter_seconds == 0);
    }

    #[test]
    fn a_run_on_request_is_named_by_schedule_and_token_and_a_name_that_is_taken_gets_the_uid() {
        // The name is what a second controller finds the run by.
        assert_eq!(run_now_name("nightly", "now"), "nightly-now-ed5eb9a37e2d8231");
        assert_eq!(run_names("a", "0123456789"), ["a", "a-01234567"]);
        assert_eq!(run_names("a", "0123"), ["a", "a-0123"]);
        let origin = Origin { schedule: "nightly".into(), uid: "u".into(), scheduled_for: None };
        assert_eq!(origin.reference(), ObjectReference { name: "nightly".into(), uid: "u".into() });
    }

    #[test]
    fn sets_of_earlier_schedules_are_counted_where_there_are_any() {
        let mut retained =
            Retained { after: "r".into(), kept: 1, expired: 0, of_earlier_schedules: 0, would_expire: Vec::new() };
        let said = |retained: &Retained| serde_json::to_value(retained).expect("JSON")["ofEarlierSchedules"].clone();
        assert_eq!(said(&retained), json!(null));
        retained.of_earlier_schedules = 2;
        assert_eq!(said(&retained), 2);
    }
}
