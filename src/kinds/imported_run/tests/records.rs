//! What is held of the records, what is listed of them, and when something is said about them.

use super::{foreign, imported, velero};
use crate::{
    api::{ImportedRun, imported_run::MAX_LISTED},
    kernel::name::Name,
    kinds::imported_run::{
        foreign::{Foreign, Kind},
        records::{Records, Wanted, Watch},
        shelf::{HELD, Newest},
    },
};
use serde_json::json;
use std::collections::{BTreeSet, HashSet};

fn of_velero(kind: Kind) -> Watch {
    Watch { kind, namespace: Some("velero".to_owned()) }
}

fn backups() -> Watch {
    of_velero(Kind::VeleroBackup)
}

fn restores() -> Watch {
    of_velero(Kind::VeleroRestore)
}

fn k8up() -> Watch {
    Watch { kind: Kind::K8upBackup, namespace: None }
}

/// An index of these watches, each with a list that was complete and empty.
fn listed_by(watches: &[Watch]) -> Records {
    let records = Records::new(watches.iter().cloned());
    for watch in watches {
        records.absent(watch);
    }
    records
}

fn at(second: usize) -> String {
    format!("2026-01-01T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

fn named(number: usize) -> String {
    format!("backup-{number:04}")
}

fn numbered(number: usize) -> Foreign {
    foreign(&velero(&named(number), &at(number), &json!({"phase": "Completed"})))
}

/// A Backup of K8up in the namespace acme.
fn of_k8up(number: usize) -> Foreign {
    let mut object = velero(&named(number), &at(number), &json!({}));
    object["metadata"]["namespace"] = json!("acme");
    foreign(&object)
}

fn copy(kind: Kind, of: &Foreign) -> ImportedRun {
    imported(&of.record(kind).expect("a record").0)
}

fn name(of: &ImportedRun) -> String {
    of.metadata.name.clone().unwrap_or_default()
}

fn wakes(woken: &HashSet<Name<ImportedRun>>, copy: &ImportedRun) -> bool {
    woken.contains(&Name::new("acme", &name(copy)))
}

fn listed(records: &Records) -> BTreeSet<String> {
    records
        .of_namespace("acme")
        .iter()
        .map(|name| match records.wanted("acme", name.name(), None) {
            Wanted::Record(record) => record.source.name.clone(),
            other => panic!("{name}: {other:?}"),
        })
        .collect()
}

fn expected(numbers: impl Iterator<Item = usize>) -> BTreeSet<String> {
    numbers.map(named).collect()
}

#[test]
fn the_newest_of_each_system_are_listed_and_what_is_held_has_a_bound() {
    let records = listed_by(&[backups()]);
    let most = 3 * HELD;
    // In an order of no meaning.
    for number in (0..most).map(|number| number * 7 % most) {
        assert!(records.apply(&backups(), &numbered(number)).len() <= 3, "a change wakes a few");
    }
    assert_eq!(listed(&records), expected(most - MAX_LISTED..most));
    assert_eq!(records.len(), HELD);
    // Again and again, as it is.
    assert!(records.apply(&backups(), &numbered(most - 1)).is_empty(), "what is as it was wakes nothing");
    assert!(records.apply(&backups(), &numbered(0)).is_empty(), "what is not held wakes nothing");
    // One of the newest goes: the next one moves up, and is woken.
    let woken = records.remove(&backups(), "velero", &named(most - 1));
    assert_eq!(listed(&records), expected(most - 1 - MAX_LISTED..most - 1));
    assert_eq!(woken.len(), 3, "{woken:?}");
    let next = records.of_namespace("acme").pop().expect("one");
    assert!(woken.contains(&next), "{woken:?}");
}

#[test]
fn schedules_and_runs_do_not_displace_each_other() {
    let schedules = of_velero(Kind::VeleroSchedule);
    let records = listed_by(&[backups(), schedules.clone()]);
    // The oldest schedules, and some that are newer than all runs.
    for number in (0..10).chain(5000..5000 + MAX_LISTED) {
        let schedule = velero(&format!("schedule-{number:04}"), &at(number), &json!({}));
        records.apply(&schedules, &foreign(&schedule));
    }
    for number in 1000..1000 + 3 * HELD {
        records.apply(&backups(), &numbered(number));
    }
    let listed = listed(&records);
    let of = |what: &str| listed.iter().filter(|name| name.starts_with(what)).count();
    assert_eq!((of("schedule"), of("backup")), (MAX_LISTED, MAX_LISTED));
    for number in 5000..5000 + MAX_LISTED {
        records.remove(&schedules, "velero", &format!("schedule-{number:04}"));
    }
    assert!(records.of_namespace("acme").len() == MAX_LISTED + 10, "ten schedules are older than every run");
}

#[test]
fn records_that_were_dropped_are_listed_again_once_they_are_among_the_newest() {
    let records = listed_by(&[backups(), restores()]);
    for number in 0..=HELD {
        records.apply(&backups(), &numbered(number));
    }
    for number in (MAX_LISTED + 1..=HELD).rev() {
        records.remove(&backups(), "velero", &named(number));
    }
    // As many as are listed are left. One that changes is not one that is gone.
    records.apply(&backups(), &foreign(&velero(&named(MAX_LISTED), &at(MAX_LISTED), &json!({"phase": "Failed"}))));
    assert!(records.short(&backups()).is_empty(), "the reserve is enough");
    records.remove(&backups(), "velero", &named(MAX_LISTED));
    for watch in [backups(), restores()] {
        let again = records.again(&watch).expect("a watch");
        assert!(futures::FutureExt::now_or_never(again.notified()).is_some(), "{watch:?}");
        assert_eq!(records.short(&watch), BTreeSet::from(["velero".to_owned()]), "any of both may have been dropped");
        assert!(records.short(&watch).is_empty(), "it is said once");
    }
}

#[test]
fn of_what_is_in_the_namespace_of_its_tenant_that_one_alone_is_listed_again() {
    let records = listed_by(&[k8up()]);
    for number in 0..3 * HELD {
        records.apply(&k8up(), &of_k8up(number));
    }
    let left = 3 * HELD - 70;
    for number in (left..3 * HELD).rev() {
        records.remove(&k8up(), "acme", &named(number));
    }
    assert_eq!(records.short(&k8up()), BTreeSet::from(["acme".to_owned()]));
    let mut newest = Newest::of(Kind::K8upBackup);
    for number in (0..left).map(|number| number * 7 % left) {
        newest.add(of_k8up(number));
    }
    let woken = records.fill(&k8up(), &newest);
    assert_eq!(listed(&records), expected(left - MAX_LISTED..left));
    assert_eq!(records.len(), HELD);
    assert!(wakes(&woken, &copy(Kind::K8upBackup, &of_k8up(left - MAX_LISTED))), "{woken:?}");
    assert!(!wakes(&woken, &copy(Kind::K8upBackup, &of_k8up(0))), "what is not held wakes nothing");
    // The list said that there are more, and so it goes on.
    for number in (left - 70..left).rev() {
        records.remove(&k8up(), "acme", &named(number));
    }
    assert_eq!(records.short(&k8up()), BTreeSet::from(["acme".to_owned()]));
}

#[test]
fn an_old_record_that_changes_does_not_move_up_before_newer_ones_that_were_dropped() {
    let records = listed_by(&[backups()]);
    for number in 0..3 * HELD {
        records.apply(&backups(), &numbered(number));
    }
    for number in (3 * HELD - 40..3 * HELD).rev() {
        records.remove(&backups(), "velero", &named(number));
    }
    // There is room in the reserve.
    records.apply(&backups(), &foreign(&velero(&named(7), &at(7), &json!({"phase": "Failed"}))));
    for number in (3 * HELD - 51..3 * HELD - 40).rev() {
        records.remove(&backups(), "velero", &named(number));
    }
    assert!(!records.short(&backups()).is_empty());
    assert!(!listed(&records).contains(&named(7)), "{:?}", listed(&records));
}

#[test]
fn what_a_list_does_not_name_is_gone_and_nothing_is_known_before_the_first_list() {
    let records = Records::new([backups()]);
    let [one, two] = [1, 2].map(|number| copy(Kind::VeleroBackup, &numbered(number)));
    assert_eq!(records.wanted("acme", &name(&one), Some(&one)), Wanted::Unknown);
    records.absent(&backups());
    assert_eq!(records.wanted("acme", &name(&one), Some(&one)), Wanted::None);
    records.begin(&backups());
    records.apply(&backups(), &numbered(1));
    records.apply(&backups(), &numbered(2));
    records.end(&backups());
    records.begin(&backups());
    records.apply(&backups(), &numbered(2));
    let woken = records.end(&backups());
    assert!(wakes(&woken, &one), "{woken:?}");
    assert_eq!(records.wanted("acme", &name(&one), Some(&one)), Wanted::None);
    assert!(matches!(records.wanted("acme", &name(&two), Some(&two)), Wanted::Record(_)));
    assert_eq!(records.wanted("beta", &name(&two), None), Wanted::None, "another tenant's");
    records.absent(&backups());
    assert!(records.is_empty() && records.of_namespace("acme").is_empty());
    assert_eq!(Records::new([]).wanted("acme", &name(&two), Some(&two)), Wanted::None, "it was switched off");
}

#[test]
fn a_copy_whose_record_was_deleted_while_nobody_watched_is_woken_by_the_first_list() {
    for is_served in [true, false] {
        let records = Records::new([backups()]);
        let copy = copy(Kind::VeleroBackup, &numbered(1));
        assert_eq!(records.wanted("acme", &name(&copy), Some(&copy)), Wanted::Unknown);
        let woken = if is_served {
            records.begin(&backups());
            records.end(&backups())
        } else {
            records.absent(&backups())
        };
        assert!(wakes(&woken, &copy), "{woken:?}");
        assert_eq!(records.wanted("acme", &name(&copy), Some(&copy)), Wanted::None);
        assert!(records.absent(&backups()).is_empty(), "it is woken once");
    }
}

#[test]
fn nothing_is_said_while_a_list_is_not_complete() {
    let records = listed_by(&[backups()]);
    let [old, new, gone] = [1, 2, 3].map(|number| copy(Kind::VeleroBackup, &numbered(number)));
    assert!(wakes(&records.apply(&backups(), &numbered(1)), &old));
    assert!(wakes(&records.apply(&backups(), &numbered(3)), &gone));
    // A later list: what it has not named yet may be gone, and what it names is not woken for.
    records.begin(&backups());
    assert!(records.apply(&backups(), &numbered(2)).is_empty());
    for copy in [&old, &new, &gone] {
        assert_eq!(records.wanted("acme", &name(copy), None), Wanted::Unknown);
        assert_eq!(records.wanted("acme", &name(copy), Some(copy)), Wanted::Unknown);
    }
    assert!(records.apply(&backups(), &numbered(1)).is_empty());
    let woken = records.end(&backups());
    assert!(wakes(&woken, &old) && wakes(&woken, &new) && wakes(&woken, &gone), "{woken:?}");
    assert_eq!(listed(&records), expected(1..3));
}

#[test]
fn the_kinds_of_a_system_wait_for_each_other_but_not_for_one_that_cannot_be_listed() {
    let records = Records::new([backups(), restores()]);
    let [new, other] = [copy(Kind::VeleroBackup, &numbered(1)), copy(Kind::VeleroRestore, &numbered(2))];
    records.begin(&restores());
    records.begin(&backups());
    records.apply(&backups(), &numbered(1));
    assert!(records.end(&backups()).is_empty(), "the newest of both are listed, and one is not known");
    assert_eq!(records.wanted("acme", &name(&new), None), Wanted::Unknown);
    assert_eq!(records.wanted("acme", &name(&other), Some(&other)), Wanted::Unknown);
    assert!(wakes(&records.fail(&restores()), &new));
    assert!(matches!(records.wanted("acme", &name(&new), None), Wanted::Record(_)));
    assert_eq!(records.wanted("acme", &name(&other), Some(&other)), Wanted::Unknown, "its own stay as they are");
    // It is tried again and again: nothing waits, and nothing is woken for that.
    records.begin(&restores());
    assert!(wakes(&records.remove(&backups(), "velero", &named(1)), &new));
    assert!(records.apply(&restores(), &numbered(3)).is_empty(), "half a list");
    assert!(records.fail(&restores()).is_empty());
    records.begin(&restores());
    assert!(wakes(&records.end(&restores()), &other));
    assert_eq!(records.wanted("acme", &name(&other), Some(&other)), Wanted::None);
    // Another system does not wait.
    let records = Records::new([backups(), k8up()]);
    records.absent(&k8up());
    assert_eq!(records.apply(&k8up(), &of_k8up(1)).len(), 1);
}

#[test]
fn a_record_that_names_other_namespaces_leaves_the_ones_before() {
    let records = listed_by(&[backups()]);
    records.apply(&backups(), &numbered(1));
    let mut moved = velero(&named(1), &at(1), &json!({"phase": "Completed"}));
    moved["spec"]["includedNamespaces"] = json!(["beta"]);
    let woken = records.apply(&backups(), &foreign(&moved));
    let namespaces: BTreeSet<&str> = woken.iter().map(Name::namespace).collect();
    assert_eq!(namespaces, BTreeSet::from(["acme", "beta"]));
    assert_eq!((records.of_namespace("acme").len(), records.of_namespace("beta").len()), (0, 1));
    moved["spec"]["includedNamespaces"] = json!(["*"]);
    records.apply(&backups(), &foreign(&moved));
    assert!(records.is_empty());
}

#[test]
fn a_run_wakes_the_records_of_its_tenant_that_name_it() {
    let records = listed_by(&[backups()]);
    let mut object = velero(&named(1), &at(1), &json!({"phase": "InProgress"}));
    object["metadata"]["annotations"] = json!({"tenantatlas.io/operation-run": "nightly"});
    records.apply(&backups(), &foreign(&object));
    assert_eq!(records.claiming("acme", "nightly").len(), 1);
    assert!(records.claiming("acme", "other").is_empty() && records.claiming("beta", "nightly").is_empty());
    object["metadata"]["annotations"] = json!({"tenantatlas.io/operation-run": "../nightly"});
    records.apply(&backups(), &foreign(&object));
    assert!(records.claiming("acme", "../nightly").is_empty(), "no name of an object");
}
