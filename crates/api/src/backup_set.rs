//! `BackupSet`: one snapshot of a tenant in its repository. Only the operator creates them.

use crate::{LocalReference, ObjectReference, conditions, operation_run::Trigger, selection::Selection};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One snapshot. Immutable but for `hold`.
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
    doc = "One snapshot of a tenant in its repository. Deleting it gives the snapshot up; maintenance removes its data later.",
    selectable = ".spec.repository.name",
    selectable = ".spec.backupSchedule.name",
    printcolumn(name = "Repository", type_ = "string", json_path = ".spec.repository.name"),
    printcolumn(name = "Snapshot", type_ = "string", json_path = ".status.shortSnapshot"),
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
    validation = Rule::new("self.repository == oldSelf.repository && self.snapshot == oldSelf.snapshot && self.run == oldSelf.run && self.namespaceUid == oldSelf.namespaceUid && self.coverage == oldSelf.coverage && self.selection == oldSelf.selection && self.trigger == oldSelf.trigger").message("a backup set is immutable but for hold"),
    validation = Rule::new("has(self.absent) == has(oldSelf.absent) && (!has(self.absent) || self.absent == oldSelf.absent)").message("absent is immutable"),
    validation = Rule::new("has(self.absentInSnapshot) == has(oldSelf.absentInSnapshot) && (!has(self.absentInSnapshot) || self.absentInSnapshot == oldSelf.absentInSnapshot)").message("absentInSnapshot is immutable"),
    validation = Rule::new("has(self.backupSchedule) == has(oldSelf.backupSchedule) && (!has(self.backupSchedule) || self.backupSchedule == oldSelf.backupSchedule)").message("backupSchedule is immutable: use hold to keep a set"),
)]
#[serde(rename_all = "camelCase")]
pub struct BackupSetSpec {
    /// The repository that holds it.
    pub repository: LocalReference,
    /// Id of the snapshot, 64 hex digits; `restic` takes it as it is.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub snapshot: String,
    /// Run that recorded this set: the run that captured the snapshot, or a run of another schedule that joined it. For a
    /// snapshot found while adopting a repository: `uid` of the original run, `name` of the check that found it.
    pub run: ObjectReference,
    /// What was selected.
    #[serde(default)]
    pub selection: Selection,
    /// Uid of the namespace it was taken of.
    #[schemars(length(min = 1, max = 64))]
    pub namespace_uid: String,
    /// Whether it holds the whole tenant.
    #[serde(default)]
    pub coverage: Coverage,
    /// Items that did not exist when it was taken, `group/kind/name`: undoing removes them. Empty where they are more than 500.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500), inner(length(max = 600)))]
    pub absent: Vec<String>,
    /// How many items did not exist when it was taken, where they are more than 500: the snapshot names them, by kind, in
    /// `group/version/Kind.absent/`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub absent_in_snapshot: Option<i64>,
    /// The schedule whose run captured it, and whose retention may delete it. Retention of a later schedule of the same name
    /// leaves the set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_schedule: Option<ObjectReference>,
    /// What started that run. Of a schedule's sets those of its ticks are kept apart from those that were asked for (`run_now`).
    #[serde(default)]
    pub trigger: Trigger,
    /// Whether it is kept, whatever retention says.
    #[serde(default)]
    pub hold: bool,
}

/// The most items that a set itself names as absent; of more, the list is in its snapshot.
pub const MAX_ABSENT: usize = 500;

/// The names of the set that a run makes: its own, and one for where another's set has that.
#[must_use]
pub fn names_for(run: &str, run_uid: &str) -> [String; 2] {
    [run.to_owned(), format!("{run}-{}", run_uid.get(..8).unwrap_or(run_uid))]
}

/// The name of the set of a snapshot that was found in an adopted repository.
#[must_use]
pub fn adopted_name(snapshot: &str) -> String {
    format!("adopted-{}", snapshot.get(..16).unwrap_or(snapshot))
}

impl BackupSet {
    /// Whether it is the set of a snapshot that was found in an adopted repository, as its immutable spec and its name say.
    #[must_use]
    pub fn is_adopted(&self) -> bool {
        self.metadata.name.as_deref() == Some(adopted_name(&self.spec.snapshot).as_str())
    }
}

/// Annotation: when its snapshot was taken, as a time of RFC 3339.
pub const TAKEN_AT: &str = "tenantatlas.io/taken-at";
/// How many items it holds.
pub const ITEMS: &str = "tenantatlas.io/items";
/// How many bytes they have.
pub const BYTES: &str = "tenantatlas.io/bytes";
/// How many bytes the repository grew by.
pub const ADDED_BYTES: &str = "tenantatlas.io/added-bytes";

/// Annotations with what a snapshot says of itself: a worker that finds it may write no status.
#[must_use]
pub fn figures(taken_at: Timestamp, items: u64, bytes: u64, added_bytes: u64) -> BTreeMap<String, String> {
    BTreeMap::from([
        (TAKEN_AT.to_owned(), taken_at.to_string()),
        (ITEMS.to_owned(), items.to_string()),
        (BYTES.to_owned(), bytes.to_string()),
        (ADDED_BYTES.to_owned(), added_bytes.to_string()),
    ])
}

/// The status of a set whose annotations say what its snapshot holds.
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

/// The reason of a set whose snapshot a check has found damaged: the code of the repository's error `Damaged`.
pub const DAMAGED: &str = "Damaged";

/// Whether a check has found that something of a set cannot be restored.
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
    /// Everything that can be captured, without a failed item.
    Full,
    /// A selection, or some items failed.
    #[default]
    Partial,
}

/// What the set holds. Written by the controller.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BackupSetStatus {
    /// Items in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub items: Option<i64>,
    /// Items by kind, `Kind` or `Kind.group`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 5000))]
    pub items_by_kind: BTreeMap<String, i64>,
    /// Bytes of its items as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<i64>,
    /// Bytes it added to the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added_bytes: Option<i64>,
    /// The first digits of the snapshot's id, as `restic` prints it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8))]
    pub short_snapshot: Option<String>,
    /// The last rehearsal of a restore from it that came to its end, or was ended by damage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified: Option<Verified>,
    /// `Ready`: the snapshot was read back after it was written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

/// A rehearsal of a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// When it ended.
    #[schemars(schema_with = "crate::schema::date_time")]
    pub at: Timestamp,
    /// How it ended.
    pub outcome: crate::Outcome,
}
