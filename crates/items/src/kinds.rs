//! Kinds that hold no state of a tenant's: not captured unless asked for by name, and never restored.
//!
//! The guides `what-is-captured.md` and `what-is-restored.md` have the same tables (tests compare).

use crate::api::item::GroupKind;

/// Group, kind (`*`: all of the group), why.
pub const WITHOUT_STATE: [(&str, &str, &str); 8] = [
    ("", "Event", "a log of what happened; it expires within hours"),
    ("events.k8s.io", "Event", "the same events under their newer name"),
    ("coordination.k8s.io", "Lease", "says who holds a lock at this moment"),
    ("apps", "ControllerRevision", "the history that a StatefulSet or DaemonSet keeps of itself"),
    ("storage.k8s.io", "CSIStorageCapacity", "reported by storage drivers"),
    ("metrics.k8s.io", "*", "measurements of this moment"),
    ("custom.metrics.k8s.io", "*", "measurements of this moment"),
    ("external.metrics.k8s.io", "*", "measurements of this moment"),
];

/// Why a kind holds no state, if it holds none.
#[must_use]
pub fn without_state(kind: &GroupKind) -> Option<&'static str> {
    let mut rows = WITHOUT_STATE.iter();
    rows.find(|(group, name, _)| *group == kind.group && (*name == "*" || *name == kind.kind)).map(|(_, _, why)| *why)
}

/// Whether all kinds of a group hold no state, so that it does not matter whether the group can be discovered.
#[must_use]
pub fn group_without_state(group: &str) -> bool {
    WITHOUT_STATE.iter().any(|(of, kind, _)| *of == group && *kind == "*")
}

/// A kind of the table as a guide names it.
#[cfg(test)]
pub(crate) fn shown(group: &str, kind: &str) -> String {
    if kind == "*" { group.to_owned() } else { GroupKind::new(group, kind).to_string() }
}
