//! Which backup sets count, and which of them say why they lack an object.

#![deny(clippy::disallowed_methods)]

use crate::{
    api::{
        BackupSet,
        backup_set::{Content, is_damaged},
        selection::Selection,
    },
    operations::capture::scope::Scope,
    repository::{self, Snapshot},
    worker::{
        environment::{Environment, UNDO_TAG},
        failure::Failure,
        sets,
    },
};
use jiff::{SignedDuration, Timestamp};
use kube::{Client, ResourceExt};
use std::{cmp::Reverse, collections::BTreeSet};

/// How many selections are asked why they lack an object, those of the newest sets first.
const MAX_SELECTIONS: usize = 16;

/// A backup set of this tenant.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Name of the set.
    pub name: String,
    /// Id of its snapshot.
    pub snapshot: String,
    /// When the set was recorded.
    at: Option<Timestamp>,
    selection: Selection,
}

/// The days that count.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// When the inventory was taken.
    pub end: Timestamp,
    /// How many days before that.
    pub days: u16,
}

/// A set that says why it lacks an object: what it selects, and the notes of its capture.
#[derive(Clone, Debug)]
pub struct Witness {
    /// Its place among the snapshots that are open.
    pub place: usize,
    /// When its capture began.
    pub began: Timestamp,
    /// What it selects.
    pub scope: Scope,
}

/// The sets that count, the newest first.
#[derive(Debug, Default)]
pub struct Backups {
    /// Their places among the snapshots that are open.
    pub sets: Vec<usize>,
    /// Those that say why they lack an object: the newest of each selection.
    pub witnesses: Vec<Witness>,
}

/// Lists the sets of this tenant in this repository that hold objects.
pub async fn list(client: &Client, environment: &Environment) -> Result<Vec<Recorded>, Failure> {
    sets::gather(client, environment, |set| counts(&set, environment).then(|| Recorded::of(set))).await
}

fn counts(set: &BackupSet, environment: &Environment) -> bool {
    set.spec.content == Content::Objects
        && set.spec.repository.name == environment.repository
        && set.spec.namespace_uid == environment.namespace_uid
        && set.metadata.deletion_timestamp.is_none()
        && !is_damaged(set)
}

impl Recorded {
    fn of(set: BackupSet) -> Self {
        let at = set.metadata.creation_timestamp.as_ref().map(|time| time.0);
        Self { name: set.name_any(), at, snapshot: set.spec.snapshot, selection: set.spec.selection }
    }
}

impl Window {
    /// Whether a set counts whose snapshot was taken at a time. A set that was recorded later than the
    /// inventory was taken does not: an earlier attempt has not seen it.
    fn takes(self, taken: Timestamp, recorded: Option<Timestamp>) -> bool {
        let age = self.end.duration_since(taken);
        recorded.is_none_or(|at| at <= self.end) && age <= SignedDuration::from_hours(i64::from(self.days) * 24)
    }
}

impl Backups {
    /// Chooses from sets with their snapshots, which are open after the inventory, in this order. A
    /// set whose snapshot is lost does not count.
    pub fn new(opened: impl Iterator<Item = (Recorded, repository::Result<Snapshot>)>, window: Window) -> Self {
        let mut taken = Vec::new();
        for (place, (set, snapshot)) in (1..).zip(opened) {
            match snapshot {
                Ok(snapshot) if window.takes(snapshot.time, set.at) => {
                    let undoes = snapshot.tags.iter().any(|tag| tag == UNDO_TAG);
                    taken.push((Reverse(snapshot.time), place, set, undoes));
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(set = set.name, %error, "the backup set does not count"),
            }
        }
        taken.sort_by(|one, other| (one.0, &one.2.name).cmp(&(other.0, &other.2.name)));
        let (mut backups, mut selections) = (Self::default(), BTreeSet::new());
        for (Reverse(began), place, set, undoes) in taken {
            backups.sets.push(place);
            // A set of single objects, or of what a restore was about to change, says nothing of others.
            if undoes || !set.selection.include_names.is_empty() || selections.len() == MAX_SELECTIONS {
                continue;
            }
            let key = set.selection.scope_key();
            if let Ok(scope) = Scope::new(set.selection, None)
                && selections.insert(key)
            {
                backups.witnesses.push(Witness { place, began, scope });
            }
        }
        backups
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::environment::tests::variables;
    use serde_json::{Value, json};

    #[allow(clippy::needless_pass_by_value, reason = "called with literals")]
    fn set(name: &str, spec: Value) -> BackupSet {
        let mut set = json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
            "metadata": {"name": name, "creationTimestamp": "2026-01-08T00:00:00Z"},
            "spec": {"repository": {"name": "main"}, "snapshot": name, "run": {"name": "r", "uid": "u"},
                "namespaceUid": "namespace-uid"}});
        for (field, value) in spec.as_object().cloned().unwrap_or_default() {
            set["spec"][field] = value;
        }
        serde_json::from_value(set).expect("a set")
    }

    fn lost() -> repository::Error {
        repository::Error::SnapshotNotFound { location: "the store".to_owned(), snapshot: "a".to_owned() }
    }

    fn snapshot(time: &str, tags: &[&str]) -> Snapshot {
        Snapshot {
            id: String::new(),
            tree: String::new(),
            time: time.parse().expect("a time"),
            run_uid: None,
            audit: None,
            host: String::new(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            items: 0,
            bytes: 0,
            added_bytes: 0,
        }
    }

    #[test]
    fn sets_with_objects_of_this_tenant_in_this_repository_count_unless_they_go_or_are_damaged() {
        let variables = variables();
        let environment = Environment::read(&|name| variables.get(name).cloned()).expect("whole");
        let counts = |set: &BackupSet| counts(set, &environment);
        assert!(counts(&set("a", json!({}))) && counts(&set("a", json!({"coverage": "partial"}))));
        for other in [
            json!({"content": "Inventory"}),
            json!({"repository": {"name": "other"}}),
            json!({"namespaceUid": "other"}),
        ] {
            assert!(!counts(&set("a", other.clone())), "{other}");
        }
        let mut going = set("a", json!({}));
        going.metadata.deletion_timestamp.clone_from(&going.metadata.creation_timestamp);
        let mut damaged = set("a", json!({}));
        let condition = json!({"conditions": [{"type": "Ready", "status": "False", "reason": "Damaged", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        damaged.status = serde_json::from_value(condition).expect("a status");
        assert!(!counts(&going) && !counts(&damaged));
    }

    #[test]
    fn what_was_taken_in_the_days_before_the_inventory_and_recorded_before_it_counts_the_newest_first() {
        let window = Window { end: "2026-01-08T12:00:00Z".parse().expect("a time"), days: 7 };
        let recorded = |name: &str| Recorded::of(set(name, json!({})));
        let later = Recorded { at: "2026-01-08T12:00:01Z".parse().ok(), ..recorded("later") };
        let sets = [
            (recorded("edge"), Ok(snapshot("2026-01-01T12:00:00Z", &[]))),
            (recorded("old"), Ok(snapshot("2026-01-01T11:59:59Z", &[]))),
            (recorded("new"), Ok(snapshot("2026-01-07T12:00:00Z", &[]))),
            (later, Ok(snapshot("2026-01-08T11:00:00Z", &[]))),
            (recorded("lost"), Err(lost())),
            (recorded("middle"), Ok(snapshot("2026-01-04T12:00:00Z", &[]))),
        ];
        let backups = Backups::new(sets.into_iter(), window);
        assert_eq!(backups.sets, [3, 6, 1]);
        assert_eq!(backups.witnesses.len(), 1, "they select the same");
        assert_eq!(backups.witnesses[0].place, 3);
    }

    #[test]
    fn the_newest_set_of_each_selection_says_why_it_lacks_an_object_and_one_of_single_objects_does_not() {
        let window = Window { end: "2026-01-08T12:00:00Z".parse().expect("a time"), days: 7 };
        let sets = [
            ("nightly-1", json!({}), 1, &[][..]),
            ("nightly-2", json!({}), 2, &[]),
            ("maps-1", json!({"selection": {"includeKinds": ["ConfigMap"]}}), 3, &[]),
            ("maps-2", json!({"selection": {"includeKinds": ["ConfigMap"]}}), 4, &[]),
            ("one", json!({"selection": {"includeKinds": ["ConfigMap"], "includeNames": ["a"]}}), 5, &[]),
            ("undo", json!({}), 6, &[UNDO_TAG]),
            ("another", json!({"selection": {"provider": "graph"}}), 7, &[]),
        ];
        let opened = sets.map(|(name, spec, day, tags)| {
            (Recorded::of(set(name, spec)), Ok(snapshot(&format!("2026-01-0{day}T13:00:00Z"), tags)))
        });
        let backups = Backups::new(opened.into_iter(), window);
        assert_eq!(backups.sets, [7, 6, 5, 4, 3, 2, 1], "all hold what they hold");
        assert_eq!(backups.witnesses.iter().map(|witness| witness.place).collect::<Vec<_>>(), [4, 2]);
        let many = (0..50).map(|number| {
            let spec = json!({"selection": {"includeKinds": [format!("Kind{number}")]}});
            (Recorded::of(set("many", spec)), Ok(snapshot("2026-01-07T12:00:00Z", &[])))
        });
        let backups = Backups::new(many, window);
        assert_eq!((backups.sets.len(), backups.witnesses.len()), (50, MAX_SELECTIONS));
    }
}
