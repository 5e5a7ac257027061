//! `AuditEntry`: who meant to change a tenant's objects, and what became of it: a chain that nobody changes.
//!
//! Writer of all of it: the pod of the operation, once. The rules of the chain are in [`crate::audit`].
//!
//! No field may be added with a default, here or in what these fields hold: the API server would fill it into the entries
//! that are there, and their hashes would not be those they had. A test holds the list of defaults.

use crate::api::{
    LocalReference, ObjectReference, Outcome,
    operation_run::{Initiator, SummaryCounts},
    restore_run::PlanSummary,
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of a tenant's audit chain. Immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "AuditEntry",
    plural = "auditentries",
    shortname = "audit",
    category = "atlas",
    namespaced,
    derive = "PartialEq",
    doc = "One entry of a tenant's audit chain: who meant to change what, written before the first write, or what became of it. Its name is its place in the chain; it holds the hash of the one before, and nobody changes or deletes it.",
    printcolumn(name = "Event", type_ = "string", json_path = ".spec.event"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.operationType"),
    printcolumn(name = "Who", type_ = "string", json_path = ".spec.who.username"),
    printcolumn(name = "Restore", type_ = "string", json_path = ".spec.restoreRun.name"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".spec.outcome"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run.name", priority = "1"),
    printcolumn(name = "BackupSet", type_ = "string", json_path = ".spec.backupSet.name", priority = "1"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.planDigest", priority = "1"),
    printcolumn(name = "Previous", type_ = "string", json_path = ".spec.previous", priority = "1"),
    validation = Rule::new("self.metadata.name.matches('^[0-9]{12}$') && self.metadata.name != '000000000000'").message("the name of an audit entry is its place in the chain: 12 digits, from 000000000001").reason(Reason::FieldValueInvalid),
    validation = Rule::new("(self.metadata.name == '000000000001') == (self.spec.previous == '')").message("spec.previous is the hash of the entry before; the first entry alone has none"),
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an audit entry is immutable"),
    validation = Rule::new("self.event == 'intent' ? has(self.summary) && !has(self.outcome) && !has(self.counts) : !has(self.summary) && has(self.outcome) && has(self.counts)").message("an intent has a summary; an outcome has outcome and counts"),
)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntrySpec {
    /// `intent`: written before the first write. `outcome`: written after the last.
    pub event: AuditEvent,
    /// When, by the clock of the pod that wrote it.
    #[schemars(schema_with = "crate::api::schema::date_time")]
    pub at: Timestamp,
    /// Who asked, as the API server knew them.
    pub who: Initiator,
    /// Name of the OperationType.
    #[schemars(length(min = 1, max = 63))]
    pub operation_type: String,
    /// The run that did it.
    pub run: ObjectReference,
    /// The restore it was done for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_run: Option<ObjectReference>,
    /// The backup set it restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// SHA-256 (64 hex digits) over the plan; its items are in the run's OperationReports.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub plan_digest: String,
    /// Of an intent: items of the plan by action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<PlanSummary>,
    /// Of an outcome: how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Of an outcome: items by what became of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<SummaryCounts>,
    /// Hash of the entry before (SHA-256, 64 hex digits, over its canonical JSON); empty in the first.
    #[schemars(length(max = 64), regex(pattern = r"^([0-9a-f]{64})?$"))]
    pub previous: String,
}

/// What an entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    /// Something is about to be written.
    Intent,
    /// It was written, as far as it was.
    Outcome,
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::CustomResourceExt;
    use serde_json::Value;

    /// The fields with a default, below a schema.
    fn defaults(schema: &Value, path: &str, found: &mut Vec<String>) {
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if !schema["default"].is_null() {
                found.push(path.clone());
            }
            defaults(schema, &path, found);
        }
    }

    #[test]
    fn the_fields_with_a_default_are_those_that_every_entry_was_written_with() {
        let definition = serde_json::to_value(AuditEntry::crd()).expect("JSON");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let mut found = Vec::new();
        defaults(schema, "", &mut found);
        let counts = ["failed", "processed", "skipped", "succeeded", "total"].map(|count| format!(".counts.{count}"));
        let actions =
            ["conflict", "create", "delete", "forbidden", "invalid", "recreate", "skip", "unchanged", "update"];
        assert_eq!(found, [&counts[..], &actions.map(|action| format!(".summary.{action}"))].concat());
        assert_eq!(
            serde_json::to_value(PlanSummary::default()).expect("JSON").as_object().expect("an object").len(),
            9
        );
        assert_eq!(
            serde_json::to_value(SummaryCounts::default()).expect("JSON").as_object().expect("an object").len(),
            5
        );
    }
}
