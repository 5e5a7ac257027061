//! A ledger that holds, and each way to break it: every rule must notice.

use super::ledger::{Entry, Job, Pod, Records, Restore, Run, Schedule, Set, Snapshot, Verdict, Write, check};
use jiff::Timestamp;
use std::collections::BTreeSet;

fn at(minute: i64, second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + minute * 60 + second).expect("a time")
}

fn text(text: &str) -> String {
    text.to_owned()
}

fn run(name: &str, operation: &str) -> Run {
    Run {
        namespace: text("acme"),
        name: text(name),
        uid: format!("uid-of-{name}"),
        operation: text(operation),
        ends: BTreeSet::from([(text("succeeded"), text("Succeeded"))]),
        ends_written: 1,
        completed_at: Some(at(5, 0)),
        is_there: true,
        ..Run::default()
    }
}

fn pod(name: &str, of: &str, started: i64, until: i64) -> Pod {
    Pod {
        namespace: text("acme"),
        name: text(name),
        run: format!("uid-of-{of}"),
        identity: format!("identity-of-{of}"),
        started: Some(at(4, started)),
        ran_until: Some(at(4, until)),
    }
}

fn write(account: &str, item: &str, second: i64) -> Write {
    let (namespace, account, pod, item) = (text("acme"), text(account), text("op-2-restore-x"), text(item));
    Write { namespace, account, pod, item, at: at(4, second) }
}

fn entry(is_intent: bool, second: i64) -> Entry {
    Entry { namespace: text("acme"), run: text("uid-of-restore"), is_intent, at: Some(at(4, second)) }
}

/// A capture at a tick, another that joined it, a restore of what it made by a preview.
fn good() -> Records {
    let mut capture = run("ticks-1", "backup.capture");
    capture.tick = Some((text("uid-of-ticks"), at(2, 0)));
    capture.set = Some(text("ticks-1"));
    let mut joined = run("joined", "backup.capture");
    joined.set = Some(text("joined"));
    joined.joined = Some(capture.uid.clone());
    let set = |of: &Run| Set {
        namespace: text("acme"),
        name: of.name.clone(),
        run: of.uid.clone(),
        snapshot: text("snapshot-1"),
    };
    let restore = |name: &str, preview: Option<&str>| Restore {
        namespace: text("acme"),
        name: text(name),
        is_preview: preview.is_none(),
        preview: preview.map(text),
        outcome: Some(text("succeeded")),
        digest: Some(text("digest")),
        run: preview.map(|_| text("uid-of-restore")),
        completed_at: Some(at(5, 0)),
        ..Restore::default()
    };
    let job =
        |of: &str| Job { namespace: text("acme"), name: format!("op-{of}"), run: format!("uid-of-{of}"), at: at(4, 0) };
    let name = |name: &str| (text("acme"), text(name));
    Records {
        sets: vec![set(&capture), set(&joined)],
        runs: vec![capture, joined, run("restore", "restore.apply")],
        jobs: vec![job("ticks-1"), job("restore")],
        pods: vec![pod("op-1-x", "ticks-1", 0, 10), pod("op-2-restore-x", "restore", 0, 30)],
        sets_made: [(name("ticks-1"), 1), (name("joined"), 1)].into(),
        snapshots: vec![Snapshot {
            namespace: text("acme"),
            id: text("snapshot-1"),
            run: Some(text("uid-of-ticks-1")),
        }],
        schedules: vec![Schedule {
            namespace: text("acme"),
            name: text("ticks"),
            uid: text("uid-of-ticks"),
            every: 2,
            rest: at(0, 0).as_second() / 60 % 2,
            created: at(0, 30),
            last: Some(at(4, 0)),
            missed: 1,
        }],
        restores: vec![restore("look", None), restore("apply", Some("look"))],
        planned: [(name("look"), BTreeSet::from([text("core/ConfigMap/a")]))].into(),
        writes: vec![write("tenantatlas-restore", "core/ConfigMap/a", 10)],
        entries: vec![entry(true, 5), entry(false, 20)],
        repositories: [(text("acme"), Vec::new())].into(),
        ..Records::default()
    }
}

/// The rules that are broken.
fn broken(records: &Records) -> Vec<&'static str> {
    let is_broken = |verdict: &Verdict| !verdict.violations.is_empty();
    check(records).iter().filter(|verdict| is_broken(verdict)).map(|verdict| verdict.rule).collect()
}

/// One change of a good ledger breaks exactly the rule whose text begins so.
#[track_caller]
fn breaks(rule: &str, change: impl FnOnce(&mut Records)) {
    let mut records = good();
    change(&mut records);
    let broken = broken(&records);
    assert!(matches!(broken[..], [one] if one.starts_with(rule)), "{rule}: {broken:?}");
}

/// The API server was killed about then: its log may lack lines.
fn outage(records: &mut Records) {
    records.outages.push((at(4, 0), at(5, 0)));
}

#[test]
fn a_good_ledger_holds() {
    assert_eq!(broken(&good()), Vec::<&str>::new());
}

#[test]
fn a_run_that_ends_never_twice_or_in_two_ways_is_told() {
    let rule = "every run ended once";
    breaks(rule, |records| {
        records.runs[2].ends.clear();
        records.writes.clear();
        records.restores.clear();
    });
    breaks(rule, |records| records.runs[2].ends_written = 2);
    breaks(rule, |records| records.runs[2].ends_written = 0);
    breaks(rule, |records| _ = records.runs[2].ends.insert((text("failed"), text("TimedOut"))));
}

#[test]
fn a_run_that_vanished_is_told_and_one_that_somebody_deleted_is_not() {
    breaks("every run ended once", |records| records.runs[2].is_there = false);
    let mut records = good();
    records.runs[2].is_there = false;
    records.runs[2].deleted_by = Some(text("ada"));
    assert_eq!(broken(&records), Vec::<&str>::new());
}

#[test]
fn a_line_that_the_log_cannot_have_is_no_violation_and_a_second_line_is() {
    let mut records = good();
    records.runs[2].ends_written = 0;
    outage(&mut records);
    assert_eq!(broken(&records), Vec::<&str>::new());
    records.runs[2].ends_written = 2;
    assert_eq!(broken(&records).len(), 1);
}

#[test]
fn two_jobs_of_a_run_and_a_job_of_none_are_told() {
    let rule = "every Job is of one run";
    breaks(rule, |records| records.jobs.push(records.jobs[0].clone()));
    breaks(rule, |records| records.jobs[0].run = text("nobody"));
}

#[test]
fn two_pods_of_an_identity_at_once_are_told_and_one_after_the_other_are_not() {
    breaks("no identity had two pods", |records| records.pods.push(pod("op-1-y", "ticks-1", 9, 20)));
    let mut records = good();
    records.pods.push(pod("op-1-y", "ticks-1", 10, 20));
    records.pods.push(Pod { ran_until: None, ..pod("op-1-z", "ticks-1", 30, 40) });
    assert_eq!(broken(&records), Vec::<&str>::new());
}

#[test]
fn a_capture_without_its_set_is_told_unless_somebody_deleted_that() {
    let rule = "every capture that succeeded has one";
    breaks(rule, |records| records.runs[1].set = None);
    breaks(rule, |records| _ = records.sets.pop());
    breaks(rule, |records| _ = records.sets_made.insert((text("acme"), text("joined")), 2));
    breaks(rule, |records| _ = records.sets_made.remove(&(text("acme"), text("joined"))));
    let mut records = good();
    records.sets.pop();
    records.sets_deleted.insert((text("acme"), text("joined")));
    assert_eq!(broken(&records), Vec::<&str>::new());
}

#[test]
fn two_snapshots_of_a_run_and_one_of_none_are_told() {
    let rule = "every snapshot bears";
    breaks(rule, |records| {
        let second = Snapshot { id: text("snapshot-2"), ..records.snapshots[0].clone() };
        records.snapshots.push(second);
    });
    breaks(rule, |records| {
        let of_nobody = Snapshot { id: text("snapshot-2"), run: None, ..records.snapshots[0].clone() };
        records.snapshots.push(of_nobody);
    });
}

#[test]
fn a_set_without_its_snapshot_or_with_another_run_s_is_told() {
    let rule = "every backup set has its snapshot";
    breaks(rule, |records| records.sets[0].snapshot = text("snapshot-2"));
    breaks(rule, |records| records.runs[1].joined = None);
}

#[test]
fn a_tick_that_is_lost_counted_twice_or_made_twice_is_told() {
    let rule = "every tick has one run";
    breaks(rule, |records| records.schedules[0].missed = 0);
    breaks(rule, |records| records.schedules[0].missed = 2);
    let again = |records: &mut Records| {
        let mut again = run("ticks-1-again", "backup.check");
        again.tick.clone_from(&records.runs[0].tick);
        records.runs.push(again);
    };
    breaks(rule, again);
    // What was refused before it had a Job did nothing.
    let mut records = good();
    again(&mut records);
    records.runs[3].ends = BTreeSet::from([(text("blocked"), text("TickRepeated"))]);
    assert_eq!(broken(&records), Vec::<&str>::new());
}

#[test]
fn a_write_without_an_intent_before_it_or_an_outcome_after_is_told() {
    let rule = "every write of a restore follows";
    breaks(rule, |records| records.entries[0].at = Some(at(4, 11)));
    breaks(rule, |records| _ = records.entries.pop());
    breaks(rule, |records| {
        records.writes.clear();
        records
            .writes
            .push(Write { pod: text("op-of-nobody"), ..write("tenantatlas-restore", "core/ConfigMap/a", 10) });
        outage(records);
    });
}

#[test]
fn a_restore_that_writes_more_less_or_another_plan_than_its_preview_showed_is_told() {
    let rule = "what was applied";
    breaks(rule, |records| records.writes.push(write("tenantatlas-restore", "core/ConfigMap/b", 11)));
    breaks(rule, |records| records.writes.clear());
    breaks(rule, |records| records.restores[1].digest = Some(text("another")));
    breaks(rule, |records| records.restores[1].outcome = Some(text("blocked")));
    let mut records = good();
    records.writes.clear();
    outage(&mut records);
    assert_eq!(broken(&records), Vec::<&str>::new(), "the log may lack that write");
}

#[test]
fn what_a_preview_wrote_is_told() {
    let mut records = good();
    records.writes.push(write("tenantatlas-preview", "core/ConfigMap/a", 9));
    assert!(broken(&records).contains(&"no preview wrote to a tenant's objects"));
}

#[test]
fn what_is_found_at_the_end_is_told() {
    breaks("every audit chain", |records| records.chain_faults.push(text("acme: altered")));
    breaks("no Lease of a worker", |records| records.leases.push(text("acme: op-1-x")));
    breaks("every repository", |records| {
        records.repositories.insert(text("acme"), vec![text("a pack is gone")]);
    });
    breaks("the idle operator", |records| records.idle_writes.push(text("patch operationruns")));
    breaks("the records are whole", |records| records.gaps.push(text("a part of the log")));
}

#[test]
fn ticks_are_counted_from_the_minute_after_the_creation_to_the_last_that_was_dealt_with() {
    let schedule = |created, last| Schedule { every: 2, rest: 1, created, last, ..Schedule::default() };
    let minute = |minute: i64, second: i64| Timestamp::from_second(minute * 60 + second).expect("a time");
    assert_eq!(schedule(minute(10, 5), Some(minute(11, 0))).ticks(), 1);
    assert_eq!(schedule(minute(11, 5), Some(minute(17, 0))).ticks(), 3);
    assert_eq!(schedule(minute(11, 5), None).ticks(), 0);
}
