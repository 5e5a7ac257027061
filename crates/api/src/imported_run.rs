//! `ImportedRun`: one record of another system, such as a Backup of Velero, as a tenant's own list
//! shows it.
//!
//! The operator alone writes it, spec and status. Nothing is decided from it, and nothing of the
//! other system is ever written: the record there stays what counts.

use crate::{
    ObjectReference,
    outcome::{Outcome, Phase},
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strum::IntoStaticStr;

/// Maximum number of records of a system that are listed in a tenant: the newest. Schedules are counted
/// apart.
pub const MAX_LISTED: usize = 50;

/// Maximum number of namespaces that a record may name to be listed in them.
pub const MAX_NAMESPACES: usize = 100;

/// Maximum size of `status.sourcePhase` in bytes.
pub const MAX_WORD: usize = 100;

/// Maximum size of `status.message` in bytes.
pub const MAX_MESSAGE: usize = 1000;

/// A record of another system.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "ImportedRun",
    plural = "importedruns",
    shortname = "irun",
    category = "atlas",
    namespaced,
    status = "ImportedRunStatus",
    derive = "PartialEq",
    doc = "A record of another system that is about this tenant: a Backup, Restore or Schedule of Velero, a Backup or Schedule of K8up, or a Job of a CronJob. The operator writes it and never the record itself, and deletes it when that one is gone.",
    printcolumn(name = "System", type_ = "string", json_path = ".spec.system"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.source.kind"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "Source", type_ = "string", json_path = ".spec.source.name"),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".status.createdAt",
        description = "Age of the record in the other system"
    ),
    printcolumn(
        name = "Theirs",
        type_ = "string",
        json_path = ".status.sourcePhase",
        description = "The other system's own word",
        priority = "1"
    ),
    printcolumn(name = "Namespace", type_ = "string", json_path = ".spec.source.namespace", priority = "1"),
    printcolumn(name = "Run", type_ = "string", json_path = ".status.run.name", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = "1")
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("the spec of an imported run is immutable: another record has one of its own"),
)]
#[serde(rename_all = "camelCase")]
pub struct ImportedRunSpec {
    /// The system that keeps the record.
    pub system: System,
    /// The record.
    pub source: Source,
}

/// A system whose records are listed.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "lowercase")]
#[strum(serialize_all = "lowercase")]
pub enum System {
    /// Velero: Backups, Restores and Schedules.
    #[default]
    Velero,
    /// K8up: Backups and Schedules.
    K8up,
    /// Kubernetes: Jobs that a CronJob made.
    Cronjob,
}

/// An object of another system. Nothing follows the reference: it tells readers where to look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// API group and version.
    #[schemars(length(min = 1, max = 100))]
    pub api_version: String,
    /// Kind, as in manifests.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Namespace of the object. It need not be that of the tenant.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Uid of the object.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
}

/// What the other system says of its record, in our words and in its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ImportedRunStatus {
    /// Where it is. Absent for a schedule, which has no end, and for a word that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// How it ended; `pending` until then. Absent where `phase` is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The other system's own word, unchanged. Absent if it says none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100))]
    pub source_phase: Option<String>,
    /// What the other system says about it, cut to 1,000 bytes; or why it is not told here.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub message: Option<String>,
    /// When the record was created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub created_at: Option<Timestamp>,
    /// When the other system began, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub started_at: Option<Timestamp>,
    /// When the other system ended, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// The OperationRun of this tenant that belongs to it: the record names it in the annotation
    /// `tenantatlas.io/operation-run`, it exists, and both were under way at the same time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<ObjectReference>,
}

/// Name of the imported run of a record. The same record has the same name, so it is never listed
/// twice.
#[must_use]
pub fn name(system: System, kind: &str, uid: &str) -> String {
    let is_uid = uid.len() == 36 && uid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    let uid = if is_uid { uid.to_owned() } else { hex::encode(Sha256::digest(uid))[..32].to_owned() };
    format!("{}-{}-{uid}", <&str>::from(system), kind.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_follows_from_system_kind_and_uid_and_is_one_whatever_the_uid() {
        let uid = "3b241101-e2bb-4255-8caf-4136c566a962";
        assert_eq!(name(System::Velero, "Backup", uid), format!("velero-backup-{uid}"));
        assert_eq!(name(System::Cronjob, "Job", uid), format!("cronjob-job-{uid}"));
        for odd in ["", "A/../b", "x\n", &"9".repeat(5000)] {
            let name = name(System::K8up, "Schedule", odd);
            assert!(name.len() < 64 && crate::reference::is_object_name(&name), "{name}");
        }
        assert_ne!(name(System::K8up, "Backup", "a"), name(System::K8up, "Backup", "b"));
    }

    #[test]
    fn a_system_is_spelled_as_in_its_json() {
        for system in [System::Velero, System::K8up, System::Cronjob] {
            assert_eq!(json!(system), <&str>::from(system));
        }
    }
}
