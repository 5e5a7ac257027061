//! `BackupSet`: one snapshot of a tenant in its repository. Only the operator creates them.

use crate::{
    LocalReference, ObjectReference, conditions, inventory::IncompleteKind, operation_run::Trigger,
    selection::Selection,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One snapshot. Immutable except for `hold`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "BackupSet",
    plural = "backupsets",
    shortname = "bset",
    category = "atlas",
    namespaced,
    status = "BackupSetStatus",
    derive = "PartialEq",
    doc = "One snapshot of a tenant in its repository. Deleting the set releases the snapshot; maintenance deletes its data later.",
    selectable = ".spec.repository.name",
    selectable = ".spec.backupSchedule.name",
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repository.name"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".status.shortSnapshot"),
    printcolumn(name = "Content", type_ = "string", json_path = ".spec.content"),
    printcolumn(name = "Coverage", type_ = "string", json_path = ".spec.coverage"),
    printcolumn(name = "Items", type_ = "integer", json_path = ".status.items"),
    printcolumn(name = "Bytes", type_ = "integer", json_path = ".status.bytes"),
    printcolumn(name = "Added", type_ = "integer", json_path = ".status.addedBytes"),
    printcolumn(name = "Verified", type_ = "string", json_path = ".status.verified.outcome"),
    printcolumn(name = "Last Verified", type_ = "date", json_path = ".status.verified.at"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        priority = "1"
    ),
    printcolumn(name = "Hold", type_ = "boolean", json_path = ".spec.hold", priority = "1"),
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run.name", priority = "1")
)]
#[x_kube(
    validation = Rule::new("self.repository == oldSelf.repository && self.snapshot == oldSelf.snapshot && self.run == oldSelf.run && self.namespaceUid == oldSelf.namespaceUid && self.coverage == oldSelf.coverage && self.content == oldSelf.content && self.selection == oldSelf.selection && self.trigger == oldSelf.trigger").message("a backup set is immutable but for hold"),
    validation = Rule::new("has(self.absent) == has(oldSelf.absent) && (!has(self.absent) || self.absent == oldSelf.absent)").message("absent is immutable"),
    validation = Rule::new("has(self.absentInSnapshot) == has(oldSelf.absentInSnapshot) && (!has(self.absentInSnapshot) || self.absentInSnapshot == oldSelf.absentInSnapshot)").message("absentInSnapshot is immutable"),
    validation = Rule::new("has(self.backupSchedule) == has(oldSelf.backupSchedule) && (!has(self.backupSchedule) || self.backupSchedule == oldSelf.backupSchedule)").message("backupSchedule is immutable: use hold to keep a set"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupSetSpec {
    /// Repository that holds the snapshot.
    pub repository: LocalReference,
    /// Id of the snapshot, 64 hex digits. `restic` accepts it unchanged.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub snapshot: String,
    /// Run that recorded this set: the run that captured the snapshot, or a run of another schedule
    /// that joined it. For a snapshot found while adopting a repository: `uid` of the original run,
    /// `name` of the check that found it.
    pub run: ObjectReference,
    /// What was selected for capture. Empty: everything that can be captured.
    #[serde(default)]
    pub selection: Selection,
    /// Uid of the namespace that was captured.
    #[schemars(length(min = 1, max = 64))]
    pub namespace_uid: String,
    /// Whether the set holds the whole tenant (`full`) or not (`partial`).
    #[serde(default)]
    pub coverage: Coverage,
    /// Whether the snapshot holds the objects, or only an inventory of them. An inventory cannot be
    /// restored.
    #[serde(default)]
    pub content: Content,
    /// Items that did not exist when the snapshot was taken, as `group/kind/name`. Restoring the
    /// set with `prune` deletes them. Empty if there are more than 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 600)))]
    pub absent: Vec<String>,
    /// Number of items that did not exist when the snapshot was taken, if there are more than 500.
    /// The snapshot then names them, by kind, in `group/version/Kind.absent/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub absent_in_snapshot: Option<i64>,
    /// Schedule whose run recorded this set, and whose retention may delete it. The retention of a
    /// later schedule of the same name does not delete it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_schedule: Option<ObjectReference>,
    /// What started that run. Retention judges the sets of a schedule's ticks separately from those
    /// that were requested with `run_now`.
    #[serde(default)]
    pub trigger: Trigger,
    /// Whether the set is kept regardless of retention. Defaults to false.
    #[serde(default)]
    pub hold: bool,
}

/// Maximum number of absent items that a set lists itself. If there are more, the snapshot lists
/// them.
pub const MAX_ABSENT: usize = 500;

/// Names that the set of a run may have: the name of the run, or a second one if another run's set
/// has the first.
#[must_use]
pub fn names_for(run: &str, run_uid: &str) -> [String; 2] {
    [run.to_owned(), format!("{run}-{}", run_uid.get(..8).unwrap_or(run_uid))]
}

/// Name of the set for a snapshot that was found in an adopted repository.
#[must_use]
pub fn adopted_name(snapshot: &str) -> String {
    format!("adopted-{}", snapshot.get(..16).unwrap_or(snapshot))
}

impl BackupSet {
    /// Whether the set is for a snapshot found in an adopted repository, according to its immutable
    /// spec and its name.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.metadata.name.as_deref() == Some(adopted_name(&self.spec.snapshot).as_str())
    }
}

/// Annotation: when the snapshot was taken, as an RFC 3339 time.
pub const TAKEN_AT: &str = "tenantatlas.io/taken-at";
/// Annotation: number of items in the snapshot.
pub const ITEMS: &str = "tenantatlas.io/items";
/// Annotation: size of these items, in bytes.
pub const BYTES: &str = "tenantatlas.io/bytes";
/// Annotation: number of bytes that the snapshot added to the repository.
pub const ADDED_BYTES: &str = "tenantatlas.io/added-bytes";

/// Annotations with the figures that a snapshot records about itself. The worker that finds the
/// snapshot may not write a status.
#[must_use]
pub fn figures(taken_at: Timestamp, items: u64, bytes: u64, added_bytes: u64) -> BTreeMap<String, String> {
    BTreeMap::from([
        (TAKEN_AT.to_owned(), taken_at.to_string()),
        (ITEMS.to_owned(), items.to_string()),
        (BYTES.to_owned(), bytes.to_string()),
        (ADDED_BYTES.to_owned(), added_bytes.to_string()),
    ])
}

/// Status of a set whose annotations hold the figures of its snapshot.
#[must_use]
pub fn status_of_adopted(set: &BackupSet) -> BackupSetStatus {
    let annotations = set.metadata.annotations.as_ref();
    let number = |key: &str| annotations.and_then(|annotations| annotations.get(key)?.parse().ok());
    BackupSetStatus {
        items: number(ITEMS),
        bytes: number(BYTES),
        added_bytes: number(ADDED_BYTES),
        ..set.status.clone().unwrap_or_default()
    }
}

/// Reason of a set whose snapshot a check found damaged: the code of the repository error
/// `Damaged`.
pub const DAMAGED: &str = "Damaged";

/// Whether a check found that part of the set cannot be restored.
#[must_use]
pub fn is_damaged(set: &BackupSet) -> bool {
    let mut told = set.status.iter().flat_map(|status| &status.conditions);
    told.any(|condition| {
        condition.type_ == conditions::READY && condition.status == "False" && condition.reason == DAMAGED
    })
}

/// How much of a tenant a set holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Coverage {
    /// Everything that can be captured, with no failed item.
    Full,
    /// A selection, or some items failed.
    #[default]
    Partial,
}

/// What the snapshot of a set holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Content {
    /// The objects.
    #[default]
    Objects,
    /// Identity and digest of each object.
    Inventory,
}

/// Content and state of the set. Written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupSetStatus {
    /// Number of items in the set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<i64>,
    /// Number of items by kind, as `Kind` or `Kind.group`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 5000))]
    pub items_by_kind: BTreeMap<String, i64>,
    /// Kinds of which not all items are recorded, with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub incomplete: Vec<IncompleteKind>,
    /// Whether there are more such kinds. The snapshot itself names all.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub incomplete_truncated: bool,
    /// Size of the items as JSON, in bytes. Of an inventory, the size of its records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Number of bytes that the snapshot added to the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_bytes: Option<i64>,
    /// First digits of the snapshot's id, as `restic` prints them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub short_snapshot: Option<String>,
    /// Last rehearsal of a restore from this set that ran to its end, or was ended by damage. A
    /// rehearsal in which an item was `forbidden` counts only if it found damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// `Ready` is True once the snapshot was read back after it was written. For a set found in an
    /// adopted repository, it is True once the check passed. It is False with reason `Damaged`
    /// after a check found damage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// A rehearsal of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// When the rehearsal ended.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub at: Timestamp,
    /// How the rehearsal ended.
    pub outcome: crate::Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn set(name: &str, annotations: &BTreeMap<String, String>, status: &Value) -> BackupSet {
        serde_json::from_value(json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "BackupSet",
            "metadata": {"name": name, "annotations": annotations},
            "spec": {"repository": {"name": "main"}, "snapshot": "0123456789abcdef0123", "namespaceUid": "n",
                "run": {"name": "r", "uid": "u"}, "trigger": "manual", "coverage": "full"},
            "status": status
        }))
        .expect("a set")
    }

    #[test]
    fn a_set_is_named_after_its_run_or_its_run_s_uid_and_an_adopted_one_after_its_snapshot() {
        assert_eq!(names_for("nightly-1", "0123456789"), ["nightly-1", "nightly-1-01234567"]);
        assert_eq!(names_for("nightly-1", "0123"), ["nightly-1", "nightly-1-0123"]);
        assert_eq!(adopted_name("0123456789abcdef0123"), "adopted-0123456789abcdef");
        let is_adopted = |name: &str| set(name, &BTreeMap::new(), &json!(null)).is_adopted();
        assert!(is_adopted("adopted-0123456789abcdef"));
        assert!(!is_adopted("nightly-1") && !is_adopted("adopted-fedcba9876543210"), "the name is not its snapshot's");
    }

    #[test]
    fn the_figures_that_an_adopted_set_was_written_with_are_its_status() {
        let figures = figures(Timestamp::UNIX_EPOCH, 3, 2000, 100);
        assert_eq!(figures[TAKEN_AT], "1970-01-01T00:00:00Z");
        let status = status_of_adopted(&set("a", &figures, &json!({"shortSnapshot": "01234567", "items": 1})));
        assert_eq!((status.items, status.bytes, status.added_bytes), (Some(3), Some(2000), Some(100)));
        assert_eq!(status.short_snapshot.as_deref(), Some("01234567"), "the rest stays as it is");
        let none = status_of_adopted(&set("a", &BTreeMap::new(), &json!(null)));
        assert_eq!((none.items, none.bytes, none.added_bytes), (None, None, None));
    }

    #[test]
    fn a_set_is_damaged_if_its_ready_condition_says_so_and_not_otherwise() {
        let damaged = |type_: &str, status: &str, reason: &str| {
            let condition = json!({"type": type_, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z"});
            is_damaged(&set("a", &BTreeMap::new(), &json!({"conditions": [condition]})))
        };
        assert!(damaged("Ready", "False", "Damaged"));
        assert!(!damaged("Ready", "True", "Damaged"));
        assert!(!damaged("Ready", "False", "Incomplete"));
        assert!(!damaged("Verified", "False", "Damaged"));
        assert!(!is_damaged(&set("a", &BTreeMap::new(), &json!(null))));
    }
}
