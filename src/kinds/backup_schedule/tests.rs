//! What is decided about a schedule, case by case.

// `schedule(json!({…}))` reads better than a borrow of it.
#![allow(clippy::needless_pass_by_value)]

use super::{
    decide::{decide, refused, retry_after},
    decision::{Decision, Miss, Observed},
    limits::OverQuota,
    retain::retention_mark,
};
use crate::api::{
    BackupSchedule, BackupScheduleStatus, BackupSet, ObjectReference, OperationRun, Reason, backup_schedule::Retention,
    operation_run::Trigger,
};
use crate::kernel::refusal::Refusal;
use jiff::Timestamp;
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

/// The schedules in these tests are hourly, created at 05:30.
const CREATED: &str = "2026-01-01T05:30:00Z";

fn at(text: &str) -> Timestamp {
    format!("2026-01-01T{text}Z").parse().expect("a time")
}

fn schedule(spec: Value, status: Value) -> BackupSchedule {
    let mut whole = json!({"schedule": "@hourly", "operation": {"inputs": {"repository": "main"}}, "requestedBy": {"username": "ada"}});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSchedule",
        "metadata": {"name": "nightly", "namespace": "acme", "uid": "schedule", "generation": 1, "creationTimestamp": CREATED},
        "spec": whole, "status": status
    }))
    .expect("a schedule")
}

/// A run of the schedule for the tick at this hour.
fn run(hour: i64, phase: &str, outcome: &str) -> Arc<OperationRun> {
    let minute = at("00:00:00").as_second() / 60 + hour * 60;
    let tick = Timestamp::from_second(minute * 60).expect("a time");
    let completed = (phase == "completed").then(|| format!("2026-01-01T{hour:02}:01:00Z"));
    let run = json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationRun",
        "metadata": {"name": format!("nightly-{minute}"), "namespace": "acme", "uid": format!("run-{hour}")},
        "spec": {"type": "backup.capture", "trigger": "scheduled",
            "scheduledBy": {"name": "nightly", "uid": "schedule", "tick": tick}},
        "status": {"phase": phase, "outcome": outcome, "observedGeneration": 1, "completedAt": completed}
    });
    Arc::new(serde_json::from_value(run).expect("a run"))
}

fn observed(schedule: BackupSchedule) -> Observed {
    Observed {
        schedule: Arc::new(schedule),
        workspace: Some("team".into()),
        over_quota: None,
        retention_floor: None,
        terminating: false,
        runs: Vec::new(),
        awaited: std::collections::BTreeSet::new(),
        sets: None,
        retention_waits: false,
    }
}

fn with(spec: Value, status: Value, runs: Vec<Arc<OperationRun>>) -> Observed {
    Observed { runs, ..observed(schedule(spec, status)) }
}

fn status(decision: &Decision) -> BackupScheduleStatus {
    decision.status.clone().expect("a status is written")
}

fn started(decision: &Decision) -> Vec<String> {
    decision.start.iter().map(ResourceExt::name_any).collect()
}

/// The same schedule after the decision was carried out.
fn after(before: &Observed, decision: &Decision) -> Observed {
    let mut schedule = (*before.schedule).clone();
    schedule.status = decision.status.clone().or(schedule.status);
    let made = decision.start.iter().map(|made| {
        let mut made = made.clone();
        made.metadata.uid = Some(format!("uid of {}", made.name_any()));
        Arc::new(made)
    });
    let made: Vec<_> = made.collect();
    if let Some(status) = &mut schedule.status {
        let uid = |run: &OperationRun| run.uid().expect("a uid");
        status.active.extend(made.iter().map(|run| ObjectReference { name: run.name_any(), uid: uid(run) }));
    }
    Observed { runs: before.runs.iter().cloned().chain(made).collect(), schedule: Arc::new(schedule), ..before.clone() }
}

fn tick(hour: i64) -> String {
    run(hour, "queued", "pending").name_any()
}

#[test]
fn its_runs_wait_in_the_queue_as_long_as_the_schedule_says() {
    let decision = decide(&with(json!({"queueTimeoutSeconds": 60}), json!({}), vec![]), at("06:00:00"));
    assert_eq!(decision.start.iter().map(|run| run.spec.queue_timeout_seconds).collect::<Vec<_>>(), [Some(60)]);
}

#[test]
fn a_tick_starts_one_run_that_says_what_made_it_and_belongs_to_nobody() {
    let new = observed(schedule(json!({}), json!({})));
    let early = decide(&new, at("05:59:59"));
    assert!(early.start.is_empty(), "nothing is caught up from before it was made");
    assert_eq!(status(&early).next_scheduled_for, Some(at("06:00:00")));
    assert_eq!(early.requeue.map(|after| after.as_secs()), Some(1));

    let due = decide(&after(&new, &early), at("06:00:00"));
    let [run] = due.start.as_slice() else { panic!("{due:?}") };
    assert_eq!(run.name_any(), tick(6));
    assert_eq!((run.spec.trigger, run.spec.operation_type.as_str()), (Trigger::Scheduled, "backup.capture"));
    assert_eq!(run.spec.initiator.as_ref().map(|initiator| initiator.username.as_str()), Some("ada"));
    assert_eq!(Value::Object(run.spec.inputs.parse()), json!({"repository": "main"}));
    assert_eq!(run.metadata.owner_references, None);
    assert_eq!(run.labels()["tenantatlas.io/trigger"], "scheduled");
    assert_eq!((status(&due).last_scheduled_for, due.missed_ticks()), (Some(at("06:00:00")), 0));
}

#[test]
fn a_pass_after_a_pass_changes_nothing() {
    let due = observed(schedule(json!({}), json!({})));
    let first = decide(&due, at("06:00:00"));
    let second_view = after(&due, &first);
    let second = decide(&second_view, at("06:00:01"));
    assert!(!second.writes(), "{second:?}");
    assert_eq!(second_view.schedule.status.as_ref().map(|status| status.active.len()), Some(1));
}

#[test]
fn a_run_made_before_a_crash_is_neither_made_again_nor_missed() {
    let crashed = with(json!({}), json!({}), vec![run(6, "running", "pending")]);
    let decision = decide(&crashed, at("06:00:30"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0));
    assert_eq!(status(&decision).last_scheduled_for, Some(at("06:00:00")));
    // The same if the next tick has passed since: five were due, the first was started, the last
    // is.
    let later = with(json!({"concurrencyPolicy": "Allow"}), json!({}), vec![run(6, "running", "pending")]);
    let decision = decide(&later, at("10:00:30"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![tick(10)], 3));
}

#[test]
fn a_run_that_repeats_a_tick_on_record_holds_no_tick_and_is_none_of_the_active_ones() {
    let recorded = json!({"lastScheduledFor": at("06:00:00")});
    for policy in ["Forbid", "Replace"] {
        let late = with(json!({"concurrencyPolicy": policy}), recorded.clone(), vec![run(6, "queued", "pending")]);
        let decision = decide(&late, at("07:00:00"));
        assert_eq!((started(&decision), decision.missed_ticks()), (vec![tick(7)], 0), "{policy}");
        assert_eq!((status(&decision).active, decision.cancel), (vec![], vec![]), "{policy}");
    }
}

#[test]
fn after_downtime_one_is_caught_up_within_the_deadline_and_every_miss_is_counted() {
    let status_before = json!({"missed": {"count": 2, "last": "2025-12-31T00:00:00Z"}});
    for (deadline, now, names, missed) in [
        (json!(null), "10:59:59", vec![tick(10)], 4),
        (json!(600), "10:10:00", vec![tick(10)], 4),
        (json!(600), "10:10:01", vec![], 5),
    ] {
        let down = with(json!({"startingDeadlineSeconds": deadline}), status_before.clone(), vec![]);
        let decision = decide(&down, at(now));
        assert_eq!((started(&decision), decision.missed_ticks()), (names, missed), "{now}");
        let written = status(&decision);
        assert_eq!(written.missed.as_ref().map(|missed| missed.count), Some(2 + i64::try_from(missed).expect("few")));
        assert_eq!(written.last_scheduled_for, Some(at("10:00:00")));
        assert_eq!(decide(&after(&down, &decision), at(now)).missed_ticks(), 0, "a miss is counted once");
    }
}

#[test]
fn the_policy_looks_at_every_state_that_is_not_the_end() {
    for phase in ["queued", "running"] {
        let active = || vec![run(5, phase, "pending")];
        let forbid = decide(&with(json!({}), json!({}), active()), at("06:00:00"));
        assert_eq!((started(&forbid), forbid.missed_ticks()), (vec![], 1), "{phase}");
        assert_eq!(status(&forbid).missed.map(|missed| missed.last), Some(at("06:00:00")));
        assert_eq!(status(&forbid).last_scheduled_for, Some(at("06:00:00")), "it does not start when the other ends");
        let allow = decide(&with(json!({"concurrencyPolicy": "Allow"}), json!({}), active()), at("06:00:00"));
        assert_eq!((started(&allow), allow.cancel.len()), (vec![tick(6)], 0), "{phase}");
        let replace = decide(&with(json!({"concurrencyPolicy": "Replace"}), json!({}), active()), at("06:00:00"));
        assert_eq!((started(&replace), replace.cancel[0].uid.as_str()), (vec![tick(6)], "run-5"), "{phase}");
    }
    for outcome in ["succeeded", "partially_succeeded", "failed", "blocked"] {
        let ended = with(json!({}), json!({}), vec![run(5, "completed", outcome)]);
        assert_eq!(started(&decide(&ended, at("06:00:00"))), [tick(6)], "{outcome}");
    }
}

#[test]
fn a_suspended_schedule_starts_nothing_and_catches_nothing_up() {
    let suspended = with(json!({"suspend": true}), json!({}), vec![]);
    let decision = decide(&suspended, at("09:00:00"));
    assert_eq!((started(&decision), decision.missed_ticks(), decision.requeue), (vec![], 0, None));
    let written = status(&decision);
    assert_eq!((written.next_scheduled_for, written.conditions[0].reason.as_str()), (None, "ScheduleSuspended"));

    let resumed = with(json!({}), serde_json::to_value(written).expect("JSON"), vec![]);
    let decision = decide(&resumed, at("09:20:00"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0));
    assert_eq!(status(&decision).next_scheduled_for, Some(at("10:00:00")));
}

#[test]
fn a_schedule_beyond_the_quota_of_the_workspace_starts_nothing_until_there_is_room_and_catches_nothing_up() {
    let refusal = Refusal::new(Reason::WorkspaceQuota, "suspend one");
    let over_quota = OverQuota { refusal, again: jiff::SignedDuration::from_mins(1) };
    let beyond = Observed { over_quota: Some(over_quota), ..with(json!({"immediate": true}), json!({}), vec![]) };
    let decision = decide(&beyond, at("09:00:00"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0));
    assert_eq!(decision.requeue, Some(jiff::SignedDuration::from_mins(1)), "others do not wake it");
    let written = status(&decision);
    let said: Vec<_> = written.conditions.iter().map(|one| (one.type_.as_str(), one.reason.as_str())).collect();
    assert_eq!(said, [("Ready", "WorkspaceQuota"), ("Stalled", "WorkspaceQuota")]);
    assert_eq!(decide(&after(&beyond, &decision), at("09:01:00")).status, None, "the second pass writes nothing");
    let room = with(json!({}), serde_json::to_value(written).expect("JSON"), vec![]);
    let decision = decide(&room, at("09:20:00"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0));
    assert_eq!(status(&decision).next_scheduled_for, Some(at("10:00:00")));
    assert_eq!(status(&decision).conditions.len(), 1, "it is no longer stalled");
}

#[test]
fn an_edited_expression_or_zone_counts_from_the_edit() {
    let first = decide(&observed(schedule(json!({}), json!({}))), at("06:00:00"));
    let before = serde_json::to_value(status(&first)).expect("JSON");
    for edit in [json!({"schedule": "10 * * * *"}), json!({"timeZone": "Asia/Kathmandu"}), json!({"suspend": true})] {
        let seen = |now: &str| decide(&with(edit.clone(), before.clone(), vec![]), at(now));
        let at_once = seen("06:30:00");
        assert_eq!((started(&at_once), at_once.missed_ticks()), (vec![], 0), "{edit}");
        // Ticks before the edit that the operator was not there to start are missed all the same.
        let after_downtime = seen("08:30:00");
        assert_eq!((started(&after_downtime), after_downtime.missed_ticks()), (vec![], 2), "{edit}");
        let written = status(&after_downtime);
        assert_eq!(written.missed.as_ref().map(|missed| missed.last), Some(at("08:00:00")), "{edit}");
        assert!(written.next_scheduled_for.is_none_or(|next| next > at("08:30:00")), "{edit}");
        let again = with(edit.clone(), serde_json::to_value(&written).expect("JSON"), vec![]);
        assert!(!decide(&again, at("08:30:01")).writes(), "{edit}");
    }
}

#[test]
fn an_edit_of_jitter_deadline_or_policy_loses_no_tick() {
    let first = decide(&observed(schedule(json!({}), json!({}))), at("06:00:00"));
    let before = serde_json::to_value(status(&first)).expect("JSON");
    for edit in
        [json!({"jitterSeconds": 60}), json!({"startingDeadlineSeconds": 60}), json!({"concurrencyPolicy": "Allow"})]
    {
        let edited = with(edit.clone(), before.clone(), vec![]);
        let seen = after(&edited, &decide(&edited, at("06:30:00")));
        let due = decide(&seen, at("07:00:59"));
        assert_eq!((started(&due), due.missed_ticks()), (vec![tick(7)], 0), "{edit}");
    }
}

#[test]
fn an_immediate_schedule_starts_one_run_for_the_minute_it_was_made_in() {
    let immediate = observed(schedule(json!({"immediate": true}), json!({})));
    let first = decide(&immediate, at("05:30:02"));
    let minute = at("05:30:00").as_second() / 60;
    assert_eq!(started(&first), [format!("nightly-{minute}")]);
    let next = after(&immediate, &first);
    assert!(decide(&next, at("05:30:03")).start.is_empty());
    // After a crash between the run and the status, the name is the same, and nothing is created.
    let crashed = Observed { schedule: immediate.schedule.clone(), ..next };
    assert!(decide(&crashed, at("05:45:00")).start.is_empty());
}

#[test]
fn an_immediate_schedule_that_was_suspended_or_is_too_late_waits_for_its_tick() {
    let suspended = with(json!({"immediate": true, "suspend": true, "schedule": "@yearly"}), json!({}), vec![]);
    let before = serde_json::to_value(status(&decide(&suspended, at("05:30:02")))).expect("JSON");
    let resumed = with(json!({"immediate": true, "schedule": "@yearly"}), before, vec![]);
    assert_eq!(started(&decide(&resumed, at("08:00:00"))), Vec::<String>::new());
    let late = json!({"immediate": true, "schedule": "@yearly", "startingDeadlineSeconds": 60});
    assert_eq!(started(&decide(&with(late.clone(), json!({}), vec![]), at("05:31:01"))), Vec::<String>::new());
    assert_eq!(started(&decide(&with(late, json!({}), vec![]), at("05:31:00"))).len(), 1);
}

#[test]
fn run_now_answers_each_token_once_whatever_policy_and_suspension_say() {
    let asked = |token: &str, status: Value| {
        let mut schedule = schedule(json!({"suspend": true}), status);
        schedule.annotations_mut().insert("tenantatlas.io/run-now".into(), token.into());
        Observed { runs: vec![run(5, "running", "pending")], ..observed(schedule) }
    };
    let first = asked("one", json!({}));
    let decision = decide(&first, at("05:40:00"));
    let [made] = decision.start.as_slice() else { panic!("{decision:?}") };
    assert_eq!(made.spec.trigger, Trigger::RunNow);
    assert!(made.name_any().starts_with("nightly-now-"));
    assert_eq!(status(&decision).last_run_now.map(|answer| answer.token).as_deref(), Some("one"));
    assert!(decide(&after(&first, &decision), at("05:41:00")).start.is_empty());
    let before = serde_json::to_value(status(&decision)).expect("JSON");
    assert_eq!(decide(&asked("two", before.clone()), at("05:42:00")).start.len(), 1);
    assert!(decide(&asked("", before), at("05:43:00")).start.is_empty());
}

#[test]
fn a_run_that_was_asked_for_now_counts_for_the_tick_of_the_same_moment() {
    let asked = |policy: &str| {
        let mut schedule = schedule(json!({"concurrencyPolicy": policy}), json!({}));
        schedule.annotations_mut().insert("tenantatlas.io/run-now".into(), "one".into());
        decide(&observed(schedule), at("06:00:00"))
    };
    let forbid = asked("Forbid");
    assert_eq!((forbid.start.len(), forbid.start[0].spec.trigger, forbid.missed_ticks()), (1, Trigger::RunNow, 1));
    assert_eq!(asked("Allow").start.len(), 2);
}

#[test]
fn what_is_replaced_after_a_crash_is_cancelled_and_its_replacement_is_not() {
    let replace = json!({"concurrencyPolicy": "Replace"});
    let crashed = with(replace, json!({}), vec![run(5, "running", "pending"), run(6, "queued", "pending")]);
    let decision = decide(&crashed, at("06:00:30"));
    let cancelled: Vec<&str> = decision.cancel.iter().map(|run| run.uid.as_str()).collect();
    assert_eq!((started(&decision), cancelled), (vec![], vec!["run-5"]));
    assert_eq!(decide(&after(&crashed, &decision), at("06:00:31")).cancel, [], "it is on record");
}

#[test]
fn each_miss_is_told_with_its_own_cause() {
    let down = with(json!({}), json!({}), vec![run(5, "running", "pending")]);
    let notes: Vec<_> = decide(&down, at("08:00:00")).missed.iter().map(Miss::note).collect();
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].starts_with("2 ticks were not started: they were due while the operator"), "{notes:?}");
    assert!(notes[1].starts_with("1 tick was not started: an earlier run is not completed"), "{notes:?}");
}

#[test]
fn a_refused_run_leaves_its_tick_due_until_the_deadline_and_the_refusal_stands_until_one_is_made() {
    let short = || json!({"startingDeadlineSeconds": 20});
    let due = with(short(), json!({"lastScheduledFor": at("05:00:00")}), vec![]);
    assert_eq!(retry_after(&due.schedule).as_secs(), 5, "several times before it is too late");
    let decision = decide(&due, at("06:00:00"));
    let why = Refusal::new(Reason::QuotaExceeded, "a quota".to_owned());
    let not_made: Vec<_> = decision.start.iter().collect();
    let written = refused(&due.schedule, status(&decision), &not_made, &why, at("06:00:00"));
    let reason = |status: &BackupScheduleStatus| status.conditions[0].reason.clone();
    assert_eq!((written.last_scheduled_for, reason(&written).as_str()), (Some(at("05:00:00")), "QuotaExceeded"));
    let refused = with(short(), serde_json::to_value(&written).expect("JSON"), vec![]);
    assert_eq!(started(&decide(&refused, at("06:00:05"))), [tick(6)], "it is tried again");
    let given_up = decide(&refused, at("06:00:21"));
    assert_eq!((started(&given_up), given_up.missed_ticks()), (vec![], 1));
    assert_eq!(reason(&status(&given_up)), "QuotaExceeded", "the next one may fare no better");
    let next = decide(&after(&refused, &given_up), at("07:00:00"));
    assert_eq!((started(&next), reason(&status(&next)).as_str()), (vec![tick(7)], "Scheduled"));
}

#[test]
fn a_refused_run_now_is_asked_for_again_and_keeps_no_tick_from_being_dealt_with() {
    let mut schedule = schedule(json!({"concurrencyPolicy": "Allow"}), json!({}));
    schedule.annotations_mut().insert("tenantatlas.io/run-now".into(), "one".into());
    let due = observed(schedule);
    let decision = decide(&due, at("06:00:00"));
    let why = Refusal::new(Reason::RunRefused, "a policy".to_owned());
    let now_run: Vec<_> = decision.start.iter().filter(|run| run.spec.trigger == Trigger::RunNow).collect();
    let written = refused(&due.schedule, status(&decision), &now_run, &why, at("06:00:00"));
    assert_eq!((written.last_run_now, written.last_scheduled_for), (None, Some(at("06:00:00"))));
}

#[test]
fn what_cannot_be_read_stalls_and_says_where_it_is_wrong() {
    let stalled = |observed: &Observed, reason: Reason, words: &str| {
        let decision = decide(observed, at("06:00:00"));
        assert!(decision.start.is_empty() && decision.requeue.is_none());
        let written = status(&decision);
        let stall = written.conditions.iter().find(|condition| condition.type_ == "Stalled").expect("Stalled");
        assert_eq!((stall.status.as_str(), stall.reason.as_str()), ("True", reason.as_str()));
        assert!(stall.message.contains(words), "{}", stall.message);
    };
    let bad = |spec: Value| observed(schedule(spec, json!({})));
    stalled(&bad(json!({"schedule": "0 25 * * *"})), Reason::InvalidSchedule, "position 3");
    stalled(&bad(json!({"schedule": "0 0 30 2 *"})), Reason::InvalidSchedule, "never comes");
    stalled(&bad(json!({"timeZone": "Europe/Berln"})), Reason::UnknownTimeZone, "Europe/Berln");
    let outside = Observed { workspace: None, ..bad(json!({})) };
    stalled(&outside, Reason::NotATenant, "kubectl label namespace acme");
}

#[test]
fn succeeded_and_other_runs_have_limits_of_their_own_and_active_ones_none() {
    let spec = json!({"successfulRunsHistoryLimit": 2, "failedRunsHistoryLimit": 1, "suspend": true});
    let ends = ["succeeded", "failed", "succeeded", "succeeded", "blocked", "partially_succeeded"];
    let mut runs: Vec<_> = (0..).zip(ends).map(|(hour, outcome)| run(hour, "completed", outcome)).collect();
    runs.push(run(7, "running", "pending"));
    let decision = decide(&with(spec, json!({}), runs), at("08:00:00"));
    let mut deleted: Vec<&str> = decision.delete.iter().map(|run| run.uid.as_str()).collect();
    deleted.sort_unstable();
    assert_eq!(deleted, ["run-0", "run-1", "run-4"]);
    assert_eq!(status(&decision).last_successful.map(|last| last.completed_at), Some(at("03:01:00")));
}

#[test]
fn a_run_stays_while_its_tick_is_not_on_record_or_others_wait_for_its_end() {
    let spec = json!({"successfulRunsHistoryLimit": 1, "suspend": true});
    let runs =
        || vec![run(6, "completed", "succeeded"), run(7, "completed", "succeeded"), run(8, "completed", "succeeded")];
    let deleted = |status: Value, awaited: &[&str]| {
        let awaited = awaited.iter().map(|uid| (*uid).to_owned()).collect();
        let seen = Observed { awaited, ..with(spec.clone(), status, runs()) };
        let decision = decide(&seen, at("08:30:00"));
        decision.delete.into_iter().map(|run| run.uid).collect::<Vec<_>>()
    };
    assert_eq!(deleted(json!({"lastScheduledFor": at("08:00:00")}), &[]), ["run-7", "run-6"]);
    assert_eq!(deleted(json!({"lastScheduledFor": at("08:00:00")}), &["run-7"]), ["run-6"]);
    assert_eq!(deleted(json!({"lastScheduledFor": at("06:00:00")}), &[]), ["run-6"]);
}

#[test]
fn what_succeeded_last_is_remembered_when_its_run_is_gone() {
    let before = json!({"lastSuccessful": {"run": "nightly-1", "completedAt": "2026-01-01T05:00:00Z"}});
    let decision = decide(&with(json!({}), before, vec![run(4, "completed", "succeeded")]), at("05:40:00"));
    assert_eq!(status(&decision).last_successful.map(|last| last.run).as_deref(), Some("nightly-1"));
}

#[test]
fn in_a_namespace_that_is_going_nothing_is_written() {
    let going = Observed { terminating: true, ..observed(schedule(json!({}), json!({}))) };
    assert_eq!(decide(&going, at("06:00:00")), Decision::default());
}

#[test]
fn a_clock_that_was_ahead_neither_silences_a_schedule_nor_doubles_a_tick() {
    let ahead = json!({"lastScheduledFor": "2027-01-01T00:00:00Z",
        "timetable": {"schedule": "@hourly", "timeZone": "UTC", "paused": false, "since": CREATED}});
    let back = with(json!({}), ahead.clone(), vec![]);
    let forgets = decide(&back, at("07:00:00"));
    assert_eq!(started(&forgets), [""; 0], "a run of a tick that is on record would be refused");
    assert_eq!(forgets.requeue.map(|after| after.as_millis()), Some(1));
    assert_eq!(started(&decide(&after(&back, &forgets), at("07:00:00"))), [tick(7)]);
    let made = with(json!({}), ahead, vec![run(7, "completed", "succeeded")]);
    let decision = decide(&made, at("06:59:59"));
    let decision = decide(&after(&made, &decision), at("07:00:00"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0), "it is known by its name");
}

#[test]
fn over_a_step_back_of_the_clock_ticks_that_were_dealt_with_stay_so_though_their_runs_are_gone() {
    let dealt = json!({"lastScheduledFor": at("12:00:00"),
        "timetable": {"schedule": "@hourly", "timeZone": "UTC", "paused": false, "since": CREATED}});
    let mut view = with(json!({}), dealt, vec![]);
    for now in ["08:00:00", "09:00:30", "12:00:00"] {
        let decision = decide(&view, at(now));
        assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0), "{now}");
        assert_eq!(decision.requeue.map(|again| again.as_secs() <= 3600), Some(true), "{now}");
        view = after(&view, &decision);
    }
    assert_eq!(started(&decide(&view, at("13:00:00"))), [tick(13)]);
}

#[test]
fn a_schedule_that_is_deleted_and_made_anew_does_not_make_a_tick_twice() {
    let old = run(6, "completed", "succeeded");
    let mut anew = schedule(json!({"immediate": true, "schedule": "0 6 * * *"}), json!({}));
    anew.metadata.uid = Some("another".to_owned());
    anew.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at("06:00:20")));
    let decision = decide(&Observed { runs: vec![old], ..observed(anew) }, at("06:00:21"));
    assert_eq!((started(&decision), decision.missed_ticks()), (vec![], 0), "the minute it was made in has its run");
}

fn set(hour: u32, schedule: &str, spec: Value) -> crate::api::BackupSet {
    let mut whole = json!({"repository": {"name": "main"}, "snapshot": "a".repeat(64), "run": {"name": "r", "uid": "u"},
        "namespaceUid": "tenant", "coverage": "full", "backupSchedule": {"name": schedule, "uid": "schedule"}});
    whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
    serde_json::from_value(json!({
        "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet", "spec": whole,
        "metadata": {"name": format!("{schedule}-{hour}"), "namespace": "acme", "uid": format!("set-{hour}"),
            "creationTimestamp": format!("2026-01-01T{hour:02}:00:00Z")},
        "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "ReadBack", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    }))
    .expect("a set")
}

#[test]
fn retention_deletes_what_no_rule_keeps_of_the_schedules_own_sets_and_looks_again_after_the_next_run() {
    let sets = vec![
        set(1, "nightly", json!({})),
        set(2, "nightly", json!({"hold": true})),
        set(3, "nightly", json!({})),
        set(0, "other", json!({})),
        set(5, "nightly", json!({"backupSchedule": {"name": "nightly", "uid": "one before"}})),
        set(6, "nightly", json!({"backupSchedule": {"name": "nightly", "uid": ""}})),
        set(4, "nightly", json!({})),
    ];
    let spec = json!({"retention": {"keepLast": 1}, "suspend": true});
    let looked = Observed { sets: Some(sets), ..with(spec, json!({}), vec![run(4, "completed", "succeeded")]) };
    let decision = decide(&looked, at("06:30:00"));
    let gone: Vec<_> = decision.expire.iter().map(ResourceExt::name_any).collect();
    assert_eq!(gone, ["nightly-1", "nightly-3"]);
    let retained = status(&decision).retention.expect("it was looked at");
    assert_eq!((retained.kept, retained.expired, retained.of_earlier_schedules), (2, 2, 2));
    assert_eq!(retained.after, retention_mark(&looked.schedule, &looked.runs));
    let later = [run(4, "completed", "succeeded"), run(5, "completed", "failed"), run(6, "running", "pending")];
    assert_ne!(retained.after, retention_mark(&looked.schedule, &later));
    // If no sets were listed, nothing is decided; without a retention, nothing expires.
    assert!(decide(&Observed { sets: None, ..looked.clone() }, at("06:30:00")).expire.is_empty());
    let without = Observed { sets: looked.sets, ..with(json!({}), json!({}), vec![]) };
    assert!(decide(&without, at("06:30:00")).expire.is_empty());
}

#[test]
fn nothing_expires_that_the_floor_of_the_workspace_keeps_and_one_that_goes_counts_from_the_next_run() {
    let sets: Vec<BackupSet> = (1..=5).map(|hour| set(hour, "nightly", json!({}))).collect();
    let floor = |rules: Value| Some(serde_json::from_value(rules).expect("a retention"));
    let gone = |retention: Value, rules: Option<Retention>| {
        let spec = json!({"retention": retention, "suspend": true});
        let looked = Observed { sets: Some(sets.clone()), retention_floor: rules, ..with(spec, json!({}), vec![]) };
        let decision = decide(&looked, at("06:30:00"));
        let retained = status(&decision).retention.expect("it was looked at");
        (decision.expire.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), retained)
    };
    let (names, without) = gone(json!({"keepLast": 1}), None);
    assert_eq!(names, ["nightly-1", "nightly-2", "nightly-3", "nightly-4"]);
    let (names, with_floor) = gone(json!({"keepLast": 1}), floor(json!({"keepLast": 3})));
    assert_eq!((names, with_floor.kept), (vec!["nightly-1".to_owned(), "nightly-2".to_owned()], 3));
    assert_eq!(gone(json!({"keepLast": 4}), floor(json!({"keepLast": 3}))).0, ["nightly-1"], "it only adds");
    assert_eq!(without.after, with_floor.after, "a floor that goes makes nothing due by itself");
    assert!(gone(json!({"keepLast": 1, "dryRun": true}), floor(json!({"keepLast": 3}))).1.would_expire.len() == 2);
}

#[test]
fn a_dry_run_of_retention_names_what_would_go_and_deletes_nothing() {
    let sets = (1..=4).rev().map(|hour| set(hour, "nightly", json!({}))).collect();
    let spec = json!({"retention": {"keepLast": 2, "dryRun": true}});
    let looked = Observed { sets: Some(sets), ..with(spec, json!({}), vec![]) };
    let decision = decide(&looked, at("05:45:00"));
    assert_eq!(decision.expire, []);
    let retained = status(&decision).retention.expect("it was looked at");
    assert_eq!((retained.kept, retained.expired), (4, 0));
    assert_eq!(retained.would_expire, ["nightly-1", "nightly-2"]);
}

#[test]
fn retention_goes_by_the_clock_of_the_schedules_zone() {
    // In Kathmandu (+05:45) these are on the same day, in UTC on two days.
    let sets = || Some(vec![set(18, "nightly", json!({})), set(19, "nightly", json!({}))]);
    let later = |zone: &str| {
        let spec = json!({"retention": {"keepDaily": 2}, "timeZone": zone, "suspend": true});
        let mut sets = sets().expect("sets");
        let time = "2026-01-02T01:00:00Z".parse().expect("a time");
        sets[1].metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
        sets[0].metadata.creation_timestamp.as_mut().expect("a time").0 = at("19:00:00");
        decide(&Observed { sets: Some(sets), ..with(spec, json!({}), vec![]) }, at("20:00:00")).expire.len()
    };
    assert_eq!((later("UTC"), later("Asia/Kathmandu")), (0, 1));
}

#[test]
fn thousands_of_sets_go_in_several_passes_and_a_plan_names_the_oldest() {
    let many = |count: i64| {
        let sets = (0..count).map(|number| {
            let mut set = set(1, "nightly", json!({}));
            set.metadata.name = Some(format!("nightly-{number:04}"));
            let time = at("00:00:00") - jiff::SignedDuration::from_hours(number);
            set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
            set
        });
        Some(sets.collect::<Vec<_>>())
    };
    let spec = |dry_run: bool| json!({"retention": {"keepLast": 1, "dryRun": dry_run}, "suspend": true});
    let mut view = Observed { sets: many(251), ..with(spec(false), json!({}), vec![]) };
    let mut passes = Vec::new();
    loop {
        let decision = decide(&view, at("05:45:00"));
        let unfinished =
            status(&decision).retention.is_some_and(|kept| kept.after != retention_mark(&view.schedule, &view.runs));
        passes.push((decision.expire.len(), unfinished));
        let gone: Vec<_> = decision.expire.iter().map(ResourceExt::name_any).collect();
        view = Observed {
            sets: view
                .sets
                .as_ref()
                .map(|sets| sets.iter().filter(|set| !gone.contains(&set.name_any())).cloned().collect()),
            ..after(&view, &decision)
        };
        if !unfinished {
            break;
        }
    }
    assert_eq!(passes, [(100, true), (100, true), (50, false)]);
    assert_eq!(view.sets.map(|sets| sets.len()), Some(1));
    let plan = decide(&Observed { sets: many(251), ..with(spec(true), json!({}), vec![]) }, at("05:45:00"));
    let named = status(&plan).retention.expect("a plan").would_expire;
    assert_eq!((named.len(), named[0].as_str()), (100, "nightly-0250"));
}

#[test]
fn every_rule_of_retention_counts() {
    for rule in ["keepLast", "keepHourly", "keepDaily", "keepWeekly", "keepMonthly", "keepYearly"] {
        let sets = (0..6).map(|month| {
            let mut set = set(month, "nightly", json!({}));
            let time = format!("{}-01-01T00:00:00Z", 2020 + month).parse().expect("a time");
            set.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(time));
            set
        });
        let looked =
            Observed { sets: Some(sets.collect()), ..with(json!({"retention": {rule: 4}}), json!({}), vec![]) };
        assert_eq!(decide(&looked, at("05:45:00")).expire.len(), 2, "{rule}");
    }
    let sets = Some((1..5).map(|hour| set(hour, "nightly", json!({}))).collect());
    let looked = Observed { sets, ..with(json!({"retention": {"keepWithin": "2h"}}), json!({}), vec![]) };
    assert_eq!(decide(&looked, at("05:45:00")).expire.len(), 1);
}

proptest! {
    /// Reconciles at any times, with crashes after the runs were created: no tick is started twice,
    /// and each is started or missed.
    #[test]
    fn whatever_happens_between_passes_each_tick_is_made_or_missed_once(
        steps in proptest::collection::vec((1_i64..20_000, any::<bool>(), 0_u8..3), 1..20),
        policy in prop_oneof![Just("Allow"), Just("Forbid"), Just("Replace")],
        jitter in prop_oneof![Just(0), Just(1000)],
    ) {
        let spec = json!({"concurrencyPolicy": policy, "jitterSeconds": jitter});
        let mut view = observed(schedule(spec, json!({})));
        let mut now = at("05:30:00");
        let mut made = std::collections::BTreeSet::new();
        for (seconds, crash, ends) in steps {
            now = now.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time");
            let decision = decide(&view, now);
            prop_assert!(decision.start.len() <= 1);
            for name in started(&decision) {
                prop_assert!(made.insert(name), "made twice");
            }
            if policy == "Forbid" && !decision.start.is_empty() {
                prop_assert!(view.runs.iter().all(|run| run.is_completed()));
            }
            let mut next = after(&view, &decision);
            if crash && !decision.start.is_empty() {
                next.schedule = view.schedule.clone();
            }
            if ends == 0 {
                for run in &mut next.runs {
                    let mut ended = (**run).clone();
                    ended.status = serde_json::from_value(json!({"phase": "completed", "outcome": "succeeded",
                        "observedGeneration": 1, "completedAt": now})).expect("a status");
                    *run = Arc::new(ended);
                }
            }
            view = next;
        }
        let last = decide(&view, now);
        for name in started(&last) {
            made.insert(name);
        }
        let written = last.status.or_else(|| view.schedule.status.clone()).unwrap_or_default();
        let missed = written.missed.map_or(0, |missed| missed.count);
        let hourly = crate::schedule::Timetable::read("@hourly", "UTC").expect("a timetable");
        let come = written.last_scheduled_for.map_or(0, |last| hourly.count(at("05:30:00"), last));
        prop_assert_eq!(u64::try_from(missed).expect("not negative") + made.len() as u64, come);
    }
}

fn said(decision: &Decision, type_: &str) -> Option<(String, String)> {
    let conditions = status(decision).conditions;
    let said = conditions.into_iter().find(|condition| condition.type_ == type_)?;
    Some((said.reason, said.message))
}

#[test]
fn a_schedule_says_what_the_oldest_of_its_runs_waits_for_unless_it_is_a_slot() {
    let waits = |hour: i64, reason: &str| {
        let mut waiting = (*run(hour, "running", "pending")).clone();
        let status = waiting.status.as_mut().expect("a status");
        status.waiting = Some(crate::api::operation_run::Waiting { reason: reason.to_owned(), since: at("06:00:30") });
        status.message = Some(format!("lacks {hour}"));
        let created = Timestamp::from_second(at("00:00:00").as_second() + hour * 3600).expect("a time");
        waiting.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(created));
        Arc::new(waiting)
    };
    let message = |runs: Vec<Arc<OperationRun>>| {
        let decision = decide(&with(json!({}), Value::Null, runs), at("06:30:00"));
        said(&decision, "Ready").expect("a condition").1
    };
    let (one, other) = (waits(5, "ImagePull"), waits(6, "Unschedulable"));
    let name = one.name_any();
    let says = format!("starts a run at each tick; run {name} waits: lacks 5");
    assert_eq!(message(vec![other.clone(), one.clone()]), says);
    assert_eq!(message(vec![waits(6, "ConcurrencyLimit")]), "starts a run at each tick");
    let schedule = schedule(
        json!({}),
        json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Scheduled",
        "message": says, "lastTransitionTime": "2026-01-01T06:00:00Z"}]}),
    );
    assert!(super::decide::says_of(&schedule, &one) && !super::decide::says_of(&schedule, &other));
}

#[test]
fn a_refusal_stands_while_it_is_of_this_generation_and_nothing_else_does() {
    let stands = |type_: &str, status: &str, reason: &str, generation: i64| {
        let condition = json!({"type": type_, "status": status, "reason": reason, "message": "m",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T06:00:00Z"});
        let before =
            json!({"observedGeneration": 1, "lastScheduledFor": "2026-01-01T06:00:00Z", "conditions": [condition]});
        let decision = decide(&with(json!({}), before, Vec::new()), at("06:10:00"));
        let ready = decision
            .status
            .and_then(|status| status.conditions.into_iter().find(|condition| condition.reason == "Scheduled"));
        ready.is_none()
    };
    assert!(stands("Stalled", "True", "RunRefused", 1) && stands("Stalled", "True", "QuotaExceeded", 1));
    assert!(!stands("Stalled", "True", "RunRefused", 0), "the schedule was edited since");
    assert!(!stands("Stalled", "True", "InvalidSchedule", 1), "it can be read now");
    assert!(!stands("Stalled", "False", "RunRefused", 1) && !stands("Ready", "True", "RunRefused", 1));
}

#[test]
fn a_decision_writes_if_it_says_anything_but_when_to_look_again() {
    let nothing = || Decision { requeue: Some(jiff::SignedDuration::from_secs(1)), ..Decision::default() };
    assert!(!nothing().writes());
    let one = || (*run(6, "running", "pending")).clone();
    for decision in [
        Decision { cancel: vec![ObjectReference::default()], ..nothing() },
        Decision { start: vec![one()], ..nothing() },
        Decision { expire: vec![set(1, "nightly", json!({}))], ..nothing() },
        Decision { delete: vec![ObjectReference::default()], ..nothing() },
        Decision { status: Some(BackupScheduleStatus::default()), ..nothing() },
        Decision { missed: vec![Miss { count: 1, why: "" }], ..nothing() },
    ] {
        assert!(decision.writes(), "{decision:?}");
    }
}

#[test]
fn a_schedule_with_jitter_starts_that_much_later() {
    let shift = crate::schedule::jitter("schedule", 600);
    assert!(!shift.is_zero());
    let jittered = with(json!({"jitterSeconds": 600}), json!({}), vec![]);
    let due = at("06:00:00") + shift;
    assert_eq!(started(&decide(&jittered, due - jiff::SignedDuration::from_secs(1))), [""; 0]);
    assert_eq!(started(&decide(&jittered, due)), [tick(6)]);
}

#[test]
fn a_request_that_was_answered_is_not_answered_again_though_its_run_is_gone_and_another_of_the_same_beginning_is() {
    let asked = |token: &str, status: Value| {
        let mut schedule = schedule(json!({"suspend": true}), status);
        schedule.annotations_mut().insert("tenantatlas.io/run-now".into(), token.into());
        decide(&observed(schedule), at("05:40:00"))
    };
    let long = "t".repeat(300);
    let first = asked(&long, json!({}));
    let answered = serde_json::to_value(status(&first)).expect("JSON");
    assert_eq!(asked(&long, answered.clone()).start.len(), 0);
    let other = asked(&format!("{long}x"), answered);
    assert_eq!(other.start.len(), 1);
    assert_ne!(started(&first), started(&other));
}

#[test]
fn a_timetable_that_a_clock_ahead_wrote_counts_from_now() {
    let since = |since: Value| {
        let before = json!({"timetable": {"schedule": "@hourly", "timeZone": "UTC", "paused": false, "since": since}});
        let decision = decide(&with(json!({}), before, vec![]), at("05:40:00"));
        status(&decision).timetable.expect("a timetable").since
    };
    assert_eq!(since(json!("2027-01-01T00:00:00Z")), at("05:40:00"));
    assert_eq!(since(json!(CREATED)), CREATED.parse().expect("a time"));
}
