//! The versions of an item, as its backup sets show them one after the other. Pure.
//!
//! What a set shows is compared with what the latest set before it showed that could tell. A set
//! that cannot tell changes nothing: it is neither a version nor a deletion.
//!
//! In memory are one object, and a row with its diff for each version.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use super::pointer::Pointer;
use crate::{
    api::{
        history::{ItemChange, ItemHistory, ItemVersion, Sighting},
        operation_report::{MAX_OF_ALL, Remark},
    },
    items::{
        redact::redact,
        sanitize::sanitized,
        semantic::{DigestKey, Status},
    },
    operations::compare::judge::{Judged, judge},
};
use serde_json::Value;

/// Maximum size of all diffs together, in bytes. The rest of the reports is for the rows.
const MAX_DIFFS: usize = MAX_OF_ALL / 2;

/// What of the item is followed, and how it is shown.
#[derive(Clone, Debug)]
pub struct Focus {
    /// The field that is followed alone.
    pub path: Option<Pointer>,
    /// Whether the status of the kind is a field like any other.
    pub status: Status,
    /// Whether every reader of reports may read objects of the kind.
    pub shown: bool,
    /// Key of the stand-ins for secret values.
    pub key: DigestKey,
}

/// What is known of the item at a time.
#[derive(Debug, Default)]
enum Known {
    /// No set could tell yet.
    #[default]
    Nothing,
    There,
    Gone,
}

/// The item as a set holds it.
#[derive(Debug)]
struct Stored {
    api_version: String,
    uid: String,
    /// What counts in the object.
    object: Value,
    /// Whether it has the field that is followed.
    has_field: bool,
}

/// What the sets so far show.
#[derive(Debug)]
pub struct Timeline {
    focus: Focus,
    known: Known,
    /// The latest version, also if the item is gone by now.
    latest: Option<Stored>,
    /// The latest set that could tell.
    told: Option<String>,
    rows: Vec<ItemVersion>,
    history: ItemHistory,
    any_field: bool,
}

impl Timeline {
    /// Starts before the earliest set.
    #[must_use]
    pub fn new(item: String, focus: Focus) -> Self {
        let path = focus.path.as_ref().map(ToString::to_string);
        Self {
            focus,
            known: Known::Nothing,
            latest: None,
            told: None,
            rows: Vec::new(),
            history: ItemHistory { item, path, ..ItemHistory::default() },
            any_field: false,
        }
    }

    /// Whether the latest set that could tell holds the item. Only then a set with the same content
    /// is [`Self::same`].
    #[must_use]
    pub fn is_there(&self) -> bool {
        matches!(self.known, Known::There)
    }

    /// Adds a set that holds the item with the same content as the latest one that could tell.
    pub fn same(&mut self, seen: Sighting) {
        self.extend();
        self.see(seen);
    }

    /// Adds a set that holds the item.
    pub fn object(&mut self, seen: Sighting, object: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let counts = sanitized(object, self.focus.status);
        let (counts, has_field) = match &self.focus.path {
            None => (counts, true),
            Some(path) => path.reduce(&counts),
        };
        self.any_field |= has_field;
        let next = Stored {
            api_version: text(&object["apiVersion"]),
            uid: text(&object["metadata"]["uid"]),
            object: counts,
            has_field,
        };
        let diff = self.latest.as_ref().and_then(|latest| self.diff(latest, &next));
        let change = match (&self.known, &self.latest) {
            (Known::There, Some(latest)) if is_another(latest, &next) => Some(ItemChange::Recreated),
            (Known::There, Some(latest)) if latest.api_version != next.api_version => Some(ItemChange::Converted),
            (Known::There, Some(_)) => diff.is_some().then_some(ItemChange::Changed),
            (Known::Nothing, _) => Some(ItemChange::Earliest),
            (Known::Gone | Known::There, _) => Some(ItemChange::Created),
        };
        let is_converted = change == Some(ItemChange::Converted);
        match change {
            None => self.extend(),
            Some(change) => {
                let keeps_value = change == ItemChange::Recreated && self.focus.path.is_some() && diff.is_none();
                if !is_converted && !keeps_value {
                    self.history.since = Some(seen.clone());
                }
                self.history.versions += i64::from(!is_converted);
                self.put(change, &seen, Some(next.api_version.clone()), None, diff);
            }
        }
        if !next.has_field {
            self.history.since = None;
        } else if self.latest.as_ref().is_some_and(|latest| !latest.has_field) {
            // It came with another form of the object, or the object came back.
            self.history.since.get_or_insert_with(|| seen.clone());
        }
        self.latest = Some(next);
        self.known = Known::There;
        self.history.first.get_or_insert_with(|| seen.clone());
        self.see(seen);
    }

    /// Adds a set that says that the item did not exist.
    pub fn absent(&mut self, seen: Sighting) {
        match self.known {
            Known::There => {
                self.history.deletions += 1;
                self.history.since = None;
                self.put(ItemChange::Deleted, &seen, None, None, None);
            }
            Known::Gone => self.extend(),
            Known::Nothing => {}
        }
        self.known = Known::Gone;
        self.told = Some(seen.set);
        self.history.sets += 1;
    }

    /// Adds a set that cannot tell.
    pub fn unknown(&mut self, seen: &Sighting, code: &str, message: &str) {
        self.history.sets += 1;
        self.history.unknown += 1;
        let is_same = |row: &&mut ItemVersion| row.reason.as_ref().is_some_and(|reason| reason.code == code);
        if let Some(row) = self.rows.last_mut().filter(is_same) {
            row.sets += 1;
        } else {
            let reason = Remark::new(code, redact(message));
            self.put(ItemChange::Unknown, seen, None, Some(reason), None);
        }
    }

    /// What was found, and the rows for the reports, latest first.
    #[must_use]
    pub fn finish(mut self) -> Found {
        self.rows.reverse();
        let mut bytes = 0;
        for row in &mut self.rows {
            bytes += row.diff.as_ref().map_or(0, String::len);
            if bytes > MAX_DIFFS {
                row.diff = None;
            }
        }
        Found {
            history: self.history,
            rows: self.rows,
            is_there: matches!(self.known, Known::There),
            has_field: self.any_field,
        }
    }

    /// The diff between two versions, if they differ and can be compared.
    fn diff(&self, from: &Stored, to: &Stored) -> Option<String> {
        let Focus { status, shown, key, .. } = &self.focus;
        if from.api_version != to.api_version {
            return None;
        }
        match judge(&from.object, &to.object, *status, *shown, key) {
            Judged::Changed(diff) => Some(diff),
            Judged::StatusOnly => None,
        }
    }

    fn see(&mut self, seen: Sighting) {
        self.told = Some(seen.set.clone());
        self.history.last = Some(seen);
        self.history.sets += 1;
    }

    /// Counts one more set that shows what the one before showed.
    fn extend(&mut self) {
        if let Some(row) = self.rows.iter_mut().rev().find(|row| row.change != ItemChange::Unknown) {
            row.sets += 1;
        }
    }

    fn put(
        &mut self,
        change: ItemChange,
        seen: &Sighting,
        api_version: Option<String>,
        reason: Option<Remark>,
        diff: Option<String>,
    ) {
        let (seen, after) = (seen.clone(), self.told.clone());
        self.rows.push(ItemVersion { change, seen, after, sets: 1, api_version, reason, diff });
    }
}

/// Whether two objects of one name are not the same object.
fn is_another(one: &Stored, other: &Stored) -> bool {
    one.uid != other.uid && !one.uid.is_empty() && !other.uid.is_empty()
}

/// What the sets show.
#[derive(Clone, Debug)]
pub struct Found {
    /// The counts.
    pub history: ItemHistory,
    /// The versions, latest first.
    pub rows: Vec<ItemVersion>,
    /// Whether the item is in the latest set that could tell.
    pub is_there: bool,
    /// Whether any version has the field that was followed.
    pub has_field: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn focus(path: Option<&str>) -> Focus {
        let path = path.map(|path| Pointer::parse(path).expect("a pointer"));
        Focus { path, status: Status::Observed, shown: true, key: DigestKey::new(*b"0123456789abcdef") }
    }

    fn seen(number: usize) -> Sighting {
        let time = jiff::Timestamp::from_second(i64::try_from(number).expect("a time") * 86400).expect("a time");
        Sighting { set: format!("set-{number}"), time, run: format!("run-{number}"), initiator: None }
    }

    /// What a set shows.
    #[derive(Clone, Debug)]
    enum Shows {
        /// Uid, version of the kind, the two fields, and a status.
        Object(u8, u8, u8, u8, u8),
        Absent,
        Unknown,
    }
    use Shows::{Absent, Object, Unknown};

    fn told(path: Option<&str>, shows: &[Shows]) -> Found {
        let mut timeline = Timeline::new("example.com/Widget/a".to_owned(), focus(path));
        for (number, shows) in shows.iter().enumerate() {
            match shows {
                Object(uid, version, one, other, status) => timeline.object(
                    seen(number),
                    &json!({"apiVersion": format!("example.com/v{version}"), "kind": "Widget", "metadata": {"name": "a", "uid": format!("u{uid}")},
                        "spec": {"one": one, "other": other}, "status": {"seen": status}}),
                ),
                Absent => timeline.absent(seen(number)),
                Unknown => timeline.unknown(&seen(number), "OutsideSelection", "partial"),
            }
        }
        timeline.finish()
    }

    /// `set change sets`, earliest first.
    fn rows(found: &Found) -> Vec<String> {
        let text = |row: &ItemVersion| {
            format!("{} {} {}", row.seen.set, json!(row.change).as_str().unwrap_or_default(), row.sets)
        };
        found.rows.iter().rev().map(text).collect()
    }

    #[test]
    fn each_version_has_a_row_with_the_set_that_first_had_it() {
        let shows = [
            Absent,
            Object(1, 1, 1, 1, 1),
            Object(1, 1, 1, 1, 2),
            Unknown,
            Object(1, 1, 2, 1, 2),
            Absent,
            Absent,
            Object(2, 1, 2, 1, 1),
            Object(3, 1, 2, 1, 1),
            Object(3, 2, 2, 1, 1),
        ];
        let found = told(None, &shows);
        assert_eq!(
            rows(&found),
            [
                "set-1 created 2",
                "set-3 unknown 1",
                "set-4 changed 1",
                "set-5 deleted 2",
                "set-7 created 1",
                "set-8 recreated 1",
                "set-9 converted 1",
            ]
        );
        let history = &found.history;
        assert_eq!((history.versions, history.deletions, history.sets, history.unknown), (4, 1, 10, 1));
        let name = |sighting: &Option<Sighting>| sighting.as_ref().map(|sighting| sighting.set.clone());
        assert_eq!(name(&history.first).as_deref(), Some("set-1"));
        assert_eq!(name(&history.last).as_deref(), Some("set-9"));
        assert_eq!(name(&history.since).as_deref(), Some("set-8"));
        let changed = &found.rows[4];
        assert_eq!(changed.after.as_deref(), Some("set-2"), "the latest set before that could tell");
        assert_eq!(changed.diff.as_deref(), Some("~ spec.one: 1 -> 2\n"));
        assert!(found.rows[2].diff.is_none(), "what came back is as it was");
        assert!(found.is_there);
    }

    #[test]
    fn what_is_in_the_earliest_set_may_be_older_and_what_cannot_be_told_is_no_deletion() {
        let found = told(None, &[Object(1, 1, 1, 1, 1), Unknown, Unknown]);
        assert_eq!(rows(&found), ["set-0 earliest 1", "set-1 unknown 2"]);
        assert_eq!((found.history.deletions, found.is_there), (0, true));
        let found = told(None, &[Unknown, Absent]);
        assert_eq!((rows(&found), found.history.versions), (vec!["set-0 unknown 1".to_owned()], 0));
        assert!(found.history.first.is_none() && !found.is_there);
    }

    #[test]
    fn of_a_followed_field_only_its_own_changes_are_versions_and_since_is_when_it_got_its_value() {
        let shows = [
            Object(1, 1, 1, 1, 1),
            Object(1, 1, 2, 1, 1),
            Object(1, 1, 2, 2, 1),
            Object(1, 1, 2, 3, 1),
            Object(2, 1, 2, 4, 1),
        ];
        let found = told(Some("/spec/one"), &shows);
        assert_eq!(rows(&found), ["set-0 earliest 1", "set-1 changed 3", "set-4 recreated 1"]);
        let since = found.history.since.clone().expect("a set");
        assert_eq!((since.set.as_str(), found.history.path.as_deref()), ("set-1", Some("/spec/one")));
        let found = told(Some("/spec/none"), &shows);
        assert_eq!((found.has_field, found.history.since.clone()), (false, None));
        let all = told(None, &shows);
        assert_eq!((all.history.versions, all.history.since.expect("a set").set.as_str()), (5, "set-4"));
    }

    #[test]
    fn diffs_take_half_of_the_room_and_the_latest_ones_are_kept() {
        let mut timeline = Timeline::new("core/ConfigMap/a".to_owned(), focus(None));
        for number in 0..100 {
            let data = json!({"key": format!("{number}{}", "x".repeat(3000)), "other": format!("{number}{}", "y".repeat(3000)),
                "third": number.to_string().repeat(500), "fourth": number.to_string().repeat(400), "lines": "a\n".repeat(number)});
            let mut data = data;
            for field in 0..20 {
                data[format!("f{field}")] = json!(format!("{number}{}", "z".repeat(300)));
            }
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
            timeline.object(seen(number), &object);
        }
        let found = timeline.finish();
        let kept = found.rows.iter().take_while(|row| row.diff.is_some()).count();
        let bytes: usize = found.rows.iter().filter_map(|row| row.diff.as_ref()).map(String::len).sum();
        assert!(bytes <= MAX_DIFFS && kept > 10 && kept < 99, "{bytes} bytes of {kept}");
        assert!(found.rows[kept..].iter().all(|row| row.diff.is_none()) && found.rows.len() == 100);
    }

    fn shows() -> impl Strategy<Value = Shows> {
        prop_oneof![
            4 => (1_u8..3, 1_u8..3, 0_u8..2, 0_u8..2, 0_u8..3)
                .prop_map(|(uid, version, one, other, status)| Object(uid, version, one, other, status)),
            1 => Just(Absent),
            1 => Just(Unknown),
        ]
    }

    proptest! {
        #[test]
        fn sets_that_cannot_tell_change_nothing_but_their_own_count(shows in prop::collection::vec(shows(), 0..12)) {
            let found = told(None, &shows);
            let telling: Vec<Shows> = shows.iter().filter(|shows| !matches!(shows, Unknown)).cloned().collect();
            let without = told(None, &telling);
            let known = |found: &Found| {
                let known = found.rows.iter().filter(|row| row.change != ItemChange::Unknown);
                known.map(|row| (row.change, row.sets, row.diff.clone())).collect::<Vec<_>>()
            };
            prop_assert_eq!(known(&found), known(&without));
            prop_assert_eq!((found.history.versions, found.history.deletions), (without.history.versions, without.history.deletions));
            prop_assert_eq!(usize::try_from(found.history.unknown).ok(), Some(shows.len() - telling.len()));
        }

        #[test]
        fn versions_and_deletions_are_what_a_plain_count_finds(shows in prop::collection::vec(shows(), 0..12)) {
            let found = told(None, &shows);
            let (mut versions, mut deletions) = (0, 0);
            let mut before: Option<Option<(u8, u8, u8, u8)>> = None;
            for shows in &shows {
                let now = match shows {
                    Object(uid, version, one, other, _) => Some((*uid, *version, *one, *other)),
                    Absent => None,
                    Unknown => continue,
                };
                match (before.flatten(), now) {
                    (None, Some(_)) => versions += 1,
                    (Some(_), None) => deletions += 1,
                    (Some(one), Some(other)) if one.0 != other.0 => versions += 1,
                    (Some(one), Some(other)) if one.1 == other.1 && one != other => versions += 1,
                    _ => {}
                }
                before = Some(now);
            }
            prop_assert_eq!((found.history.versions, found.history.deletions), (versions, deletions));
        }

        #[test]
        fn the_rows_cover_all_sets_from_the_first_that_holds_the_item(shows in prop::collection::vec(shows(), 0..12)) {
            let found = told(None, &shows);
            let first = shows.iter().position(|shows| matches!(shows, Object(..))).unwrap_or(shows.len());
            let unknown_before = shows[..first].iter().filter(|shows| matches!(shows, Unknown)).count();
            let covered: i64 = found.rows.iter().map(|row| row.sets).sum();
            prop_assert_eq!(usize::try_from(covered).ok(), Some(shows.len() - first + unknown_before));
            prop_assert_eq!(found.history.sets, i64::try_from(shows.len()).expect("a count"));
        }
    }
}
