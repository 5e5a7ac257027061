//! `AuditEntry`: who intended to change a tenant's objects, and the outcome. Entries form a chain
//! and never change.
//!
//! Only the pod of the operation writes an entry, once. The content of an entry is one string,
//! `spec.entry`. The other fields repeat parts of it for tables and selectors, and prove nothing.
//! The rules of the chain are next to the code that checks it.

use crate::{
    LocalReference, ObjectReference, Outcome, approval::Consent, outcome::SummaryCounts, provenance::PlanSummary,
    subject::Initiator,
};
use jiff::Timestamp;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum size of an entry's text, in bytes. It bounds how much of a chain is read at a time.
pub const MAX_ENTRY_BYTES: usize = 32 * 1024;

/// Maximum size of the requester's groups within that text, in bytes.
const MAX_GROUPS_BYTES: usize = 8 * 1024;

/// One entry of a tenant's audit chain. Immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "AuditEntry",
    plural = "auditentries",
    shortname = "audit",
    category = "atlas",
    namespaced,
    derive = "PartialEq",
    doc = "One entry of a tenant's audit chain: who intended to change what, written before the first write, or the outcome, written after the last. The content is the text in spec.entry, which includes the hash of the previous entry. Entries never change.",
    printcolumn(name = "Event", type_ = "string", json_path = ".spec.event"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.operationType"),
    printcolumn(name = "Who", type_ = "string", json_path = ".spec.who"),
    printcolumn(name = "Restore", type_ = "string", json_path = ".spec.restoreRun.name"),
    printcolumn(name = "Bulk", type_ = "string", json_path = ".spec.bulkOperationRun.name"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".spec.outcome"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run.name", priority = "1"),
    printcolumn(name = "BackupSet", type_ = "string", json_path = ".spec.backupSet.name", priority = "1"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.planDigest", priority = "1"),
    validation = Rule::new("self.metadata.name.matches('^[0-9]{12}$') && self.metadata.name != '000000000000'").message("the name of an audit entry is its place: 12 digits, from 000000000001").reason(Reason::FieldValueInvalid),
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an audit entry is immutable"),
    validation = Rule::new("(self.event == 'outcome') == has(self.outcome)").message("an outcome has an outcome, an intent has none"),
)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntrySpec {
    /// Content of the entry: JSON with sorted keys and no white space. The hash of an entry is the
    /// SHA-256 over exactly these bytes. All other fields repeat parts of this text.
    #[schemars(length(min = 2, max = 32768))]
    pub entry: String,
    /// `intent`: written before the first write of the operation. `outcome`: written after the
    /// last.
    pub event: AuditEvent,
    /// Name of the user who requested the operation.
    #[schemars(length(min = 1, max = 1024))]
    pub who: String,
    /// Name of the OperationType.
    #[schemars(length(min = 1, max = 63))]
    pub operation_type: String,
    /// Run that performed the operation.
    pub run: ObjectReference,
    /// Name of the pod that wrote the entry, as the API server knows it.
    #[schemars(length(min = 1, max = 253))]
    pub pod: String,
    /// RestoreRun that the operation was performed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_run: Option<ObjectReference>,
    /// BulkOperationRun that the operation was performed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk_operation_run: Option<ObjectReference>,
    /// Backup set that the operation restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// SHA-256 (64 hex digits) over the plan. The OperationReports with the same `planDigest` show
    /// its items.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub plan_digest: String,
    /// How the operation ended. Set only if `event` is `outcome`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Event that an entry records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditEvent {
    /// The operation is about to write.
    Intent,
    /// The operation has written what it could.
    Outcome,
}

/// Parsed text of an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Name of the entry.
    pub name: String,
    /// Namespace of the entry.
    pub namespace: String,
    /// Hash of the previous entry; empty in the first.
    pub previous: String,
    /// Event that the entry records.
    pub event: AuditEvent,
    /// Time of the entry, by the clock of the pod that wrote it.
    pub at: Timestamp,
    /// The requester, as the API server knew them.
    pub who: Initiator,
    /// Number of the requester's groups that were left out because there are too many.
    #[serde(default, skip_serializing_if = "crate::is_default")]
    pub groups_left_out: usize,
    /// The approval of the plan, and who gave it, if the operation needed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Consent>,
    /// Name of the `OperationType`.
    pub operation_type: String,
    /// Run that performed the operation.
    pub run: ObjectReference,
    /// Name of the pod that wrote the entry.
    pub pod: String,
    /// Restore that the operation was performed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_run: Option<ObjectReference>,
    /// Bulk operation that the operation was performed for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulk_operation_run: Option<ObjectReference>,
    /// Bulk operations only: what is done with the objects, in words, at most 1,000 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// Backup set that the operation restored from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// SHA-256 (64 hex digits) over the plan.
    pub plan_digest: String,
    /// Intents only: items of the plan by action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<PlanSummary>,
    /// Outcomes only: how the operation ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Outcomes only: items by result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<SummaryCounts>,
}

impl AuditRecord {
    /// Drops groups from the end of the list if the groups would take too much of the entry.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let mut size = 0;
        let fit = self
            .who
            .groups
            .iter()
            .take_while(|group| {
                // A character takes at most six bytes in JSON.
                size += group.len() * 6 + 3;
                size <= MAX_GROUPS_BYTES
            })
            .count();
        self.groups_left_out += self.who.groups.len() - fit;
        self.who.groups.truncate(fit);
        self
    }
}

impl AuditEntrySpec {
    /// Builds an entry from its text and the fields that repeat parts of it.
    #[must_use]
    pub fn of(record: &AuditRecord, entry: String) -> Self {
        Self {
            entry,
            event: record.event,
            who: record.who.username.clone(),
            operation_type: record.operation_type.clone(),
            run: record.run.clone(),
            pod: record.pod.clone(),
            restore_run: record.restore_run.clone(),
            bulk_operation_run: record.bulk_operation_run.clone(),
            backup_set: record.backup_set.clone(),
            plan_digest: record.plan_digest.clone(),
            outcome: record.outcome,
        }
    }

    /// Parses the text of the entry. Returns `None` if it is not the text of an audit entry.
    #[must_use]
    pub fn record(&self) -> Option<AuditRecord> {
        serde_json::from_str(&self.entry).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::approval::Approver;
    use kube::core::CustomResourceExt;
    use serde_json::Value;

    fn record(groups: Vec<String>) -> AuditRecord {
        AuditRecord {
            name: "000000000001".into(),
            namespace: "acme".into(),
            previous: String::new(),
            event: AuditEvent::Intent,
            at: Timestamp::UNIX_EPOCH,
            who: Initiator { username: "ada".into(), uid: None, groups },
            groups_left_out: 0,
            approval: None,
            operation_type: "restore.apply".into(),
            run: ObjectReference::default(),
            pod: "op-0123456789abcdef0123-restore-x7k2p".into(),
            restore_run: None,
            bulk_operation_run: None,
            change: None,
            backup_set: None,
            plan_digest: "0".repeat(64),
            summary: None,
            outcome: None,
            counts: None,
        }
    }

    #[test]
    fn an_entry_is_no_longer_than_the_api_server_takes_whoever_asked() {
        let most = vec!["\u{1}".repeat(1024); 1000];
        let mut longest = record(most);
        longest.who.username = "\u{1}".repeat(1024);
        longest.who.uid = Some("\u{1}".repeat(1024));
        longest.run = ObjectReference { name: "r".repeat(253), uid: "u".repeat(64) };
        longest.restore_run = Some(longest.run.clone());
        longest.bulk_operation_run = Some(longest.run.clone());
        longest.change = Some("\u{1}".repeat(1000));
        longest.backup_set = Some(LocalReference::new("s".repeat(253)));
        longest.pod = "p".repeat(253);
        longest.approval = Some(Consent {
            name: "a".repeat(253),
            uid: "u".repeat(64),
            plan_digest: "0".repeat(64),
            approved_by: Approver { username: "\u{1}".repeat(340), uid: Some("\u{1}".repeat(128)) },
            workspace_run: Some("w".repeat(253)),
        });
        longest.summary = Some(PlanSummary { create: i64::MAX, ..PlanSummary::default() });
        longest.counts = Some(SummaryCounts::default());
        let bounded = longest.bounded();
        assert_eq!((bounded.who.groups.len() + bounded.groups_left_out, bounded.groups_left_out > 0), (1000, true));
        let text = serde_json::to_string(&bounded).expect("JSON");
        assert!(text.len() <= MAX_ENTRY_BYTES, "{}", text.len());
        let few = record(vec!["devs".into(), "ops".into()]).bounded();
        assert_eq!((few.who.groups.len(), few.groups_left_out), (2, 0));
    }

    #[test]
    fn the_schema_and_the_bound_say_the_same_and_nothing_in_an_entry_has_a_default() {
        let definition = serde_json::to_value(AuditEntry::crd()).expect("JSON");
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        assert_eq!(spec["properties"]["entry"]["maxLength"], MAX_ENTRY_BYTES);
        assert!(!has_default(spec), "an entry would not stay as it was written");
    }

    fn has_default(schema: &Value) -> bool {
        match schema {
            Value::Object(fields) => fields.contains_key("default") || fields.values().any(has_default),
            Value::Array(values) => values.iter().any(has_default),
            _ => false,
        }
    }

    #[test]
    fn groups_are_named_in_their_order_while_they_fit_and_the_others_are_counted() {
        // Each takes 603 bytes at most, and 8 KiB are for all.
        let groups: Vec<String> = (0..20).map(|number| format!("{number:0100}")).collect();
        let mut asked = record(groups.clone());
        asked.groups_left_out = 2;
        let bounded = asked.bounded();
        assert_eq!((bounded.who.groups.as_slice(), bounded.groups_left_out), (&groups[..13], 9));
    }

    #[test]
    fn a_group_is_named_if_it_fits_at_six_bytes_a_character() {
        let fits = |letters: usize| record(vec!["g".repeat(letters), String::new()]).bounded().who.groups.len();
        assert_eq!((fits(1364), fits(1365)), (2, 0));
    }

    #[test]
    fn the_fields_beside_the_text_repeat_it_and_the_text_is_read_back() {
        let mut written = record(vec!["devs".into()]);
        written.event = AuditEvent::Outcome;
        written.outcome = Some(Outcome::Failed);
        written.run = ObjectReference { name: "run".into(), uid: "u".into() };
        written.restore_run = Some(ObjectReference { name: "restore".into(), uid: "r".into() });
        written.backup_set = Some(LocalReference::new("nightly"));
        let text = serde_json::to_string(&written).expect("JSON");
        assert!(!text.contains("groupsLeftOut"), "none is left out, and nothing is said of it: {text}");
        let entry = AuditEntrySpec::of(&written, text.clone());
        assert_eq!((&entry.entry, entry.event, entry.outcome), (&text, AuditEvent::Outcome, Some(Outcome::Failed)));
        assert_eq!((entry.who.as_str(), &entry.run, &entry.pod), ("ada", &written.run, &written.pod));
        assert_eq!((&entry.restore_run, &entry.backup_set), (&written.restore_run, &written.backup_set));
        assert_eq!(entry.record(), Some(written.clone()));
        written.groups_left_out = 3;
        assert_eq!(serde_json::to_value(&written).expect("JSON")["groupsLeftOut"], 3);
        assert_eq!(AuditEntrySpec { entry: "no entry".into(), ..entry }.record(), None);
    }
}
