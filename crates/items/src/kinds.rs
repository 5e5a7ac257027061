//! Kinds that hold no state of a tenant: not captured unless requested by name, and never restored.
//!
//! The guides `what-is-captured.md` and `what-is-restored.md` contain the same tables (checked by
//! tests).

use crate::api::item::GroupKind;

/// Group, kind (`*`: all kinds of the group) and reason.
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

/// Why a kind holds no state, or `None` if it may hold some.
#[must_use]
pub fn without_state(kind: &GroupKind) -> Option<&'static str> {
    let mut rows = WITHOUT_STATE.iter();
    rows.find(|(group, name, _)| *group == kind.group && (*name == "*" || *name == kind.kind)).map(|(_, _, why)| *why)
}

/// Whether all kinds of a group hold no state. A failed discovery of such a group does not matter.
#[must_use]
pub fn group_without_state(group: &str) -> bool {
    WITHOUT_STATE.iter().any(|(of, kind, _)| *of == group && *kind == "*")
}

/// A kind of the table as the guides name it.
#[cfg(test)]
pub(crate) fn shown(group: &str, kind: &str) -> String {
    if kind == "*" { group.to_owned() } else { GroupKind::new(group, kind).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_no_state_if_none_of_its_kinds_has() {
        assert!(group_without_state("metrics.k8s.io") && group_without_state("custom.metrics.k8s.io"));
        assert!(!group_without_state("") && !group_without_state("apps") && !group_without_state("example.com"));
    }
}
