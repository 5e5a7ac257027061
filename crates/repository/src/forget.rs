//! Which snapshots are no longer needed. Pure.
//!
//! A snapshot is only forgotten if it is known to be ours, and known to be unneeded. Snapshots of
//! other programs and other namespaces stay. So do snapshots that their run may still report, and
//! snapshots that are too young to judge.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use super::snapshot::Snapshot;

/// What snapshots may be needed for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needed {
    /// IDs of the snapshots that are referenced.
    pub named: BTreeSet<String>,
    /// UIDs of the runs that may still report their snapshot.
    pub running: BTreeSet<String>,
    /// UIDs of all existing runs, whose documents stay.
    pub runs: BTreeSet<String>,
    /// A snapshot is ours if it has one of these tags.
    pub own_tags: BTreeSet<String>,
    /// Minimum age of a snapshot before it is judged at all.
    pub grace: SignedDuration,
}

/// Returns the snapshots that can be forgotten, in their order.
#[must_use]
pub fn forgettable<'a>(snapshots: &'a [Snapshot], needed: &Needed, now: Timestamp) -> Vec<&'a Snapshot> {
    snapshots.iter().filter(|snapshot| is_forgettable(snapshot, needed, now)).collect()
}

fn is_forgettable(snapshot: &Snapshot, needed: &Needed, now: Timestamp) -> bool {
    let Some(run) = &snapshot.run_uid else { return false };
    snapshot.tags.iter().any(|tag| needed.own_tags.contains(tag))
        && !needed.running.contains(run)
        && !needed.named.contains(&snapshot.id)
        // One of the future is not old: clocks differ.
        && now.duration_since(snapshot.time) >= needed.grace.max(SignedDuration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OWN: &str = "namespace=own";

    fn snapshot(id: &str, run: Option<&str>, tags: &[&str], second: i64) -> Snapshot {
        Snapshot {
            id: id.to_owned(),
            tree: String::new(),
            time: Timestamp::from_second(second).unwrap(),
            run_uid: run.map(str::to_owned),
            audit: None,
            host: String::new(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            items: 0,
            bytes: 0,
            added_bytes: 0,
        }
    }

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn needed() -> Needed {
        Needed {
            named: set(&["named"]),
            running: set(&["running"]),
            runs: BTreeSet::new(),
            own_tags: set(&[OWN, "namespace=adopted"]),
            grace: SignedDuration::from_secs(100),
        }
    }

    fn is_kept(snapshot: &Snapshot) -> bool {
        forgettable(std::slice::from_ref(snapshot), &needed(), Timestamp::from_second(1000).unwrap()).is_empty()
    }

    #[test]
    fn what_nobody_names_goes_and_what_somebody_names_stays() {
        assert!(!is_kept(&snapshot("a", Some("ended"), &[OWN], 0)));
        assert!(!is_kept(&snapshot("a", Some("ended"), &["namespace=adopted", "undo"], 0)));
        assert!(is_kept(&snapshot("named", Some("ended"), &[OWN], 0)));
    }

    #[test]
    fn what_a_run_may_yet_report_stays() {
        assert!(is_kept(&snapshot("a", Some("running"), &[OWN], 0)));
    }

    #[test]
    fn what_is_not_ours_stays() {
        assert!(is_kept(&snapshot("a", None, &[OWN], 0)), "of another program");
        assert!(is_kept(&snapshot("a", Some("ended"), &["namespace=another"], 0)));
        assert!(is_kept(&snapshot("a", Some("ended"), &[], 0)));
    }

    #[test]
    fn what_is_young_or_of_the_future_stays() {
        assert!(is_kept(&snapshot("a", Some("ended"), &[OWN], 901)));
        assert!(!is_kept(&snapshot("a", Some("ended"), &[OWN], 900)));
        assert!(is_kept(&snapshot("a", Some("ended"), &[OWN], 2000)));
        let no_grace = Needed { grace: SignedDuration::from_secs(-5000), ..needed() };
        let future = [snapshot("a", Some("ended"), &[OWN], 2000)];
        assert!(forgettable(&future, &no_grace, Timestamp::from_second(1000).unwrap()).is_empty());
    }

    proptest! {
        /// For any input: no snapshot that may be needed is forgotten, and every snapshot that
        /// stays has a reason.
        #[test]
        fn nothing_that_somebody_may_need_is_ever_forgotten(
            pool in proptest::collection::vec((0_u8..12, proptest::option::of(0_u8..6), 0_u8..4, -50_i64..250), 0..40),
            named in proptest::collection::btree_set(0_u8..12, 0..8),
            running in proptest::collection::btree_set(0_u8..6, 0..4),
            grace in 0_i64..200,
        ) {
            let text = |kind: &str, number: u8| format!("{kind}-{number}");
            let snapshots: Vec<_> = pool.iter().map(|(id, run, owner, second)| {
                let run = run.map(|run| text("run", run));
                snapshot(&text("id", *id), run.as_deref(), &[&text("namespace", *owner)], *second)
            }).collect();
            let needed = Needed {
                named: named.iter().map(|id| text("id", *id)).collect(),
                running: running.iter().map(|run| text("run", *run)).collect(),
                runs: BTreeSet::new(),
                own_tags: set(&["namespace-0", "namespace-1"]),
                grace: SignedDuration::from_secs(grace),
            };
            let now = Timestamp::from_second(200).unwrap();
            let gone = forgettable(&snapshots, &needed, now);
            for snapshot in &snapshots {
                let goes = gone.iter().any(|gone| std::ptr::eq(*gone, snapshot));
                let run = snapshot.run_uid.clone();
                let reasons = [
                    needed.named.contains(&snapshot.id),
                    run.as_ref().is_none_or(|run| needed.running.contains(run)),
                    !["namespace-0", "namespace-1"].contains(&snapshot.tags[0].as_str()),
                    now.as_second() - snapshot.time.as_second() < grace,
                ];
                prop_assert_eq!(goes, reasons.iter().all(|reason| !reason), "{:?}", snapshot);
            }
        }
    }
}
