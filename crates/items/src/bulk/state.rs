//! What a preview depended on in one object, in 64 bits: its uid, whether it is being deleted, and the
//! fields that the action reads or sets. Pure.
//!
//! Fields that the action does not look at do not count: a Deployment that was scaled since may still
//! get the label that its preview showed.

use super::{Change, Values, step::RESTARTED_AT};
use crate::{api::canonical, decide::is_being_deleted, excluded::has_controller};
use serde_json::{Value, json};

/// What a preview found of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What it depended on ([`seen`]).
    pub seen: u64,
    /// Whether it would write the object.
    pub writes: bool,
}

/// Length of a state as text: 16 hex digits, and `w` or `-`.
const LENGTH: usize = 17;

/// What a preview depends on in an object; `None` is one that does not exist. `shown` is whether every
/// reader of reports may read objects of its kind. If not, the resourceVersion stands for the content,
/// which could be guessed from a hash of it.
#[must_use]
pub fn seen(change: &Change, live: Option<&Value>, shown: bool) -> u64 {
    let of = live.map(|live| {
        let metadata = &live["metadata"];
        let looked_at = if shown { looked_at(change, live) } else { metadata["resourceVersion"].clone() };
        json!([metadata["uid"], is_being_deleted(live), looked_at])
    });
    let digest = canonical::digest(&json!(of));
    digest.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or_default()
}

fn looked_at(change: &Change, live: &Value) -> Value {
    let spec = &live["spec"];
    match change {
        Change::Labels(values) => of_keys(&live["metadata"]["labels"], values),
        Change::Annotations(values) => of_keys(&live["metadata"]["annotations"], values),
        Change::Scale(_) => json!([spec["replicas"], has_controller(live.get("metadata"))]),
        Change::Suspend(_) => spec["suspend"].clone(),
        Change::Restart(_) => json!([spec["paused"], spec["template"]["metadata"]["annotations"][RESTARTED_AT]]),
    }
}

fn of_keys(map: &Value, Values { set, remove }: &Values) -> Value {
    set.keys().chain(remove).map(|key| map[key.as_str()].clone()).collect()
}

/// Writes states one after the other, without a separator.
#[must_use]
pub fn write_states(states: &[State]) -> String {
    let text = |State { seen, writes }: &State| format!("{seen:016x}{}", if *writes { 'w' } else { '-' });
    states.iter().map(text).collect()
}

/// Reads states as [`write_states`] writes them.
#[must_use]
pub fn read_states(text: &str) -> Option<Vec<State>> {
    let read = |chunk: &[u8]| {
        let (digits, writes) = std::str::from_utf8(chunk).ok()?.split_at_checked(LENGTH - 1)?;
        let writes = match writes {
            "w" => true,
            "-" => false,
            _ => return None,
        };
        Some(State { seen: u64::from_str_radix(digits, 16).ok()?, writes })
    };
    text.as_bytes().chunks(LENGTH).map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use std::collections::{BTreeMap, BTreeSet};

    fn object() -> Value {
        json!({
            "metadata": {"name": "web", "uid": "u", "resourceVersion": "7", "labels": {"team": "red", "app": "web"},
                "annotations": {"note": "old"}},
            "spec": {"replicas": 2, "suspend": false, "paused": false,
                "template": {"metadata": {"annotations": {RESTARTED_AT: "2026-01-01T00:00:00Z"}}, "spec": {"image": "a"}}},
            "status": {"replicas": 2},
        })
    }

    fn values(set: &str, remove: &str) -> Values {
        Values { set: BTreeMap::from([(set.to_owned(), "x".to_owned())]), remove: BTreeSet::from([remove.to_owned()]) }
    }

    /// Each field, and the actions that look at it.
    #[test]
    fn a_preview_depends_on_the_fields_of_its_action_and_on_which_object_it_is() {
        let changes = [
            ("label", Change::Labels(values("team", "old"))),
            ("annotate", Change::Annotations(values("note", "old"))),
            ("scale", Change::Scale(3)),
            ("suspend", Change::Suspend(true)),
            ("restart", Change::Restart(Timestamp::UNIX_EPOCH)),
        ];
        let all = ["label", "annotate", "scale", "suspend", "restart"];
        let restarted = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
        let cases: [(&str, Value, &[&str]); 11] = [
            ("/metadata/uid", json!("other"), &all),
            ("/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"), &all),
            ("/metadata/labels/team", json!("green"), &["label"]),
            ("/metadata/labels/old", json!(""), &["label"]),
            ("/metadata/labels/app", json!("api"), &[]),
            ("/metadata/annotations/note", json!("new"), &["annotate"]),
            ("/metadata/resourceVersion", json!("8"), &[]),
            ("/spec/replicas", json!(4), &["scale"]),
            ("/spec/suspend", json!(true), &["suspend"]),
            (restarted, json!("2026-02-01T00:00:00Z"), &["restart"]),
            ("/spec/template/spec/image", json!("b"), &[]),
        ];
        for (pointer, value, depend) in cases {
            let mut changed = object();
            let (parent, field) = pointer.rsplit_once('/').expect("a field");
            let field = field.replace("~1", "/");
            changed.pointer_mut(parent).expect("its parent")[field] = value;
            for (action, change) in &changes {
                let same = seen(change, Some(&object()), true) == seen(change, Some(&changed), true);
                assert_eq!(!same, depend.contains(action), "{action} and {pointer}");
            }
        }
        let gone = seen(&changes[0].1, None, true);
        assert_ne!(gone, seen(&changes[0].1, Some(&object()), true));
        assert_eq!(gone, seen(&changes[2].1, None, false));
    }

    #[test]
    fn of_what_not_all_may_read_the_version_stands_for_the_content() {
        let change = Change::Labels(values("team", "old"));
        let of = |field: &str, value: Value| {
            let mut changed = object();
            changed["metadata"][field] = value;
            seen(&change, Some(&changed), false)
        };
        let before = seen(&change, Some(&object()), false);
        assert_eq!(of("labels", json!({"team": "green"})), before);
        assert_ne!(of("resourceVersion", json!("8")), before);
    }

    #[test]
    fn states_read_back_as_written_and_nothing_else_reads() {
        let states = [State { seen: u64::MAX, writes: true }, State { seen: 3, writes: false }];
        let text = write_states(&states);
        assert_eq!(text, "ffffffffffffffffw0000000000000003-");
        assert_eq!(read_states(&text).as_deref(), Some(states.as_slice()));
        assert_eq!(read_states(""), Some(Vec::new()));
        for wrong in [
            "f",
            "ffffffffffffffff",
            "fffffffffffffffff",
            "gfffffffffffffffw",
            "ffffffffffffffffww",
            "fffffffffffffffé",
        ] {
            assert_eq!(read_states(wrong), None, "{wrong}");
        }
    }
}
