//! The built-in operations: their names, the worker commands that execute them, and their inputs.
//!
//! This table is the only place that spells them. `inputsSchema` of the chart's operation types is
//! generated from the types here, and the worker reads its inputs into the same types.

use crate::{ObjectReference, approval::Consent, finding::Severity, selection::Selection};
use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Captures a tenant's objects.
pub const CAPTURE: &str = "backup.capture";
/// Does one thing with many objects.
pub const BULK: &str = "bulk.apply";
/// Captures many objects.
pub const BULK_CAPTURE: &str = "bulk.capture";
/// Writes many objects into a ConfigMap.
pub const BULK_EXPORT: &str = "bulk.export";
/// Reports what a bulk operation would do.
pub const BULK_PREVIEW: &str = "bulk.preview";
/// Deletes many objects, and keeps what brings them back.
pub const BULK_DELETE: &str = "bulk.delete";
/// Reports what a deletion of many objects would do.
pub const BULK_DELETE_PREVIEW: &str = "bulk.delete.preview";
/// Checks a repository.
pub const CHECK: &str = "repository.check";
/// Captures one object.
pub const CAPTURE_ITEM: &str = "item.capture";
/// Tells the history of one item.
pub const HISTORY: &str = "item.history";
/// Records what a tenant holds, without content.
pub const INVENTORY: &str = "inventory.sync";
/// Removes from a repository what no backup set needs.
pub const MAINTAIN: &str = "repository.maintain";
/// Plans a restore.
pub const PREVIEW: &str = "restore.preview";
/// Carries a restore out.
pub const APPLY: &str = "restore.apply";
/// Tries whether a backup set could be restored.
pub const REHEARSE: &str = "restore.rehearse";
/// Finds what differs from a baseline.
pub const DRIFT: &str = "drift.generate";
/// Compares two backup sets, or lists one.
pub const COMPARE: &str = "sets.compare";

/// A built-in operation.
#[derive(Clone, Copy, Debug)]
pub struct Operation {
    /// Name of its operation type. An administrator may install the command under other names.
    pub name: &'static str,
    /// First argument after `tenantatlas worker`.
    pub command: &'static str,
    inputs: fn() -> Value,
}

impl Operation {
    /// The JSON schema of its inputs.
    #[must_use]
    pub fn inputs_schema(&self) -> Value {
        (self.inputs)()
    }
}

/// The worker's command for [`CAPTURE`].
pub const CAPTURE_COMMAND: &str = "capture";
/// The worker's command for [`BULK`].
pub const BULK_COMMAND: &str = "bulk";
/// The worker's command for [`BULK_CAPTURE`].
pub const BULK_CAPTURE_COMMAND: &str = "bulk-capture";
/// The worker's command for [`BULK_EXPORT`].
pub const BULK_EXPORT_COMMAND: &str = "bulk-export";
/// The worker's command for [`BULK_PREVIEW`].
pub const BULK_PREVIEW_COMMAND: &str = "bulk-preview";
/// The worker's command for [`BULK_DELETE`].
pub const BULK_DELETE_COMMAND: &str = "bulk-delete";
/// The worker's command for [`BULK_DELETE_PREVIEW`].
pub const BULK_DELETE_PREVIEW_COMMAND: &str = "bulk-delete-preview";
/// The worker's command for [`CHECK`].
pub const CHECK_COMMAND: &str = "check";
/// The worker's command for [`CAPTURE_ITEM`].
pub const CAPTURE_ITEM_COMMAND: &str = "capture-item";
/// The worker's command for [`HISTORY`].
pub const HISTORY_COMMAND: &str = "history";
/// The worker's command for [`DRIFT`].
pub const DRIFT_COMMAND: &str = "drift";
/// The worker's command for [`INVENTORY`].
pub const INVENTORY_COMMAND: &str = "inventory";
/// The worker's command for [`MAINTAIN`].
pub const MAINTAIN_COMMAND: &str = "maintain";
/// The worker's command for [`PREVIEW`].
pub const PREVIEW_COMMAND: &str = "preview";
/// The worker's command for [`APPLY`].
pub const APPLY_COMMAND: &str = "restore";
/// The worker's command for [`REHEARSE`].
pub const REHEARSE_COMMAND: &str = "rehearse";
/// The worker's command for [`COMPARE`].
pub const COMPARE_COMMAND: &str = "compare";

/// All built-in operations, by name.
pub const BUILT_IN: [Operation; 17] = [
    Operation { name: BULK, command: BULK_COMMAND, inputs: schema_of::<BulkInputs> },
    Operation { name: BULK_CAPTURE, command: BULK_CAPTURE_COMMAND, inputs: schema_of::<BulkCaptureInputs> },
    Operation { name: BULK_EXPORT, command: BULK_EXPORT_COMMAND, inputs: schema_of::<BulkReadInputs> },
    Operation { name: BULK_PREVIEW, command: BULK_PREVIEW_COMMAND, inputs: schema_of::<BulkReadInputs> },
    Operation { name: BULK_DELETE, command: BULK_DELETE_COMMAND, inputs: schema_of::<BulkDeleteInputs> },
    Operation {
        name: BULK_DELETE_PREVIEW,
        command: BULK_DELETE_PREVIEW_COMMAND,
        inputs: schema_of::<BulkDeletePreviewInputs>,
    },
    Operation { name: CAPTURE, command: CAPTURE_COMMAND, inputs: schema_of::<CaptureInputs> },
    Operation { name: CAPTURE_ITEM, command: CAPTURE_ITEM_COMMAND, inputs: schema_of::<CaptureItemInputs> },
    Operation { name: HISTORY, command: HISTORY_COMMAND, inputs: schema_of::<HistoryInputs> },
    Operation { name: DRIFT, command: DRIFT_COMMAND, inputs: schema_of::<DriftInputs> },
    Operation { name: INVENTORY, command: INVENTORY_COMMAND, inputs: schema_of::<InventoryInputs> },
    Operation { name: CHECK, command: CHECK_COMMAND, inputs: schema_of::<CheckInputs> },
    Operation { name: MAINTAIN, command: MAINTAIN_COMMAND, inputs: schema_of::<MaintainInputs> },
    Operation { name: APPLY, command: APPLY_COMMAND, inputs: schema_of::<RestoreInputs> },
    Operation { name: PREVIEW, command: PREVIEW_COMMAND, inputs: schema_of::<PreviewInputs> },
    Operation { name: REHEARSE, command: REHEARSE_COMMAND, inputs: schema_of::<RehearseInputs> },
    Operation { name: COMPARE, command: COMPARE_COMMAND, inputs: schema_of::<CompareInputs> },
];

/// Inputs of `backup.capture`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptureInputs {
    /// Name of the BackupRepository that stores the snapshot.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// What to capture. Default: the whole tenant.
    #[serde(default)]
    pub selection: Selection,
    /// Whether to read every object. By default an object is not read if its metadata shows that it
    /// has not changed since the last capture of the same selection. One in ten captures, and the
    /// first one after maintenance, reads every object anyway.
    #[serde(default)]
    pub read_all: bool,
}

/// Inputs of `item.capture`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CaptureItemInputs {
    /// Name of the BackupRepository that stores the snapshot.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The object, as `group/kind/name` with `core` for the core group, such as
    /// `apps/Deployment/web`.
    #[schemars(length(min = 1, max = 600))]
    pub item: String,
}

/// Inputs of `item.history`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HistoryInputs {
    /// Name of the BackupRepository that holds the backup sets.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The item, as `group/kind/name` with `core` for the core group, such as
    /// `apps/Deployment/web`.
    #[schemars(length(min = 1, max = 600))]
    pub item: String,
    /// Sets whose snapshots were taken earlier are left out, as an RFC 3339 time.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub from: Option<String>,
    /// Sets whose snapshots were taken later are left out, as an RFC 3339 time.
    #[serde(default)]
    #[schemars(length(min = 1, max = 64))]
    pub to: Option<String>,
    /// JSON pointer of a field to follow alone, such as `/spec/replicas`. Default: all fields that a
    /// restore would write.
    #[serde(default)]
    #[schemars(length(min = 1, max = 256))]
    pub path: Option<String>,
}

/// Inputs of `inventory.sync`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InventoryInputs {
    /// Name of the BackupRepository that stores the inventory.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// What to record. Default: the whole tenant.
    #[serde(default)]
    pub selection: Selection,
    /// Looks which of the recorded objects are in no backup set of the last so many days, and why. If
    /// left out, no backup set is looked at.
    #[serde(default)]
    #[schemars(range(min = 1, max = 365))]
    pub coverage_days: Option<u16>,
}

/// Inputs of `bulk.apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkInputs {
    /// The BulkOperationRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub bulk_operation_run: ObjectReference,
    /// Digest of the plan that it applies, if that is one of a preview. Another preview may have the
    /// name by the time the run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// The approval of the plan that the BulkOperationRun applies, if it needed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Consent>,
}

/// Inputs of `bulk.preview` and `bulk.export`, which apply no plan and need no approval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkReadInputs {
    /// The BulkOperationRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub bulk_operation_run: ObjectReference,
}

/// Inputs of `bulk.capture`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkCaptureInputs {
    /// Name of the BackupRepository that stores the snapshot.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The BulkOperationRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub bulk_operation_run: ObjectReference,
    /// The objects that the BulkOperationRun names.
    pub selection: Selection,
}

/// Inputs of `bulk.delete`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkDeleteInputs {
    /// Name of the BackupRepository that keeps what is deleted.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The BulkOperationRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub bulk_operation_run: ObjectReference,
    /// Digest of the plan that it applies. Another preview may have the name by the time the run
    /// starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// The approval of the plan that the BulkOperationRun applies, if it needed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Consent>,
}

/// Inputs of `bulk.delete.preview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkDeletePreviewInputs {
    /// Name of the BackupRepository that stores the plan.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The BulkOperationRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub bulk_operation_run: ObjectReference,
}

/// Inputs of `repository.check`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckInputs {
    /// Name of the BackupRepository to check.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Percentage of the data to read back; 0 checks the structure alone. Default: the repository's
    /// `spec.maintenance.readDataPercent`, else 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub read_data_percent: Option<u8>,
}

/// Inputs of `repository.maintain`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaintainInputs {
    /// Name of the BackupRepository to maintain.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Percentage of the data that the check reads back; 0 checks the structure alone. Default: the
    /// repository's `spec.maintenance.readDataPercent`, else 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 100))]
    pub read_data_percent: Option<u8>,
    /// Age in hours at which a snapshot that no backup set names is forgotten. Data that no
    /// snapshot needs are kept for one hour less. Default: 24.
    #[serde(default)]
    #[schemars(range(min = 0, max = 8760))]
    pub grace_hours: Option<u16>,
}

/// Inputs of `restore.apply`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RestoreInputs {
    /// Name of the BackupRepository that holds the backup set.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The RestoreRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub restore_run: ObjectReference,
    /// The item that the RestoreRun puts back, if it names a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<BaselineItem>,
    /// Digest of the plan that it applies, if that is one of a preview. Another preview may have the
    /// name by the time the run starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// The approval of the plan that the RestoreRun applies, if it needed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Consent>,
    /// ServiceAccount that writes. Default: `tenantatlas-restore`.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub service_account_name: Option<String>,
}

/// Inputs of `restore.preview`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreviewInputs {
    /// Name of the BackupRepository that holds the backup set.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// The RestoreRun that the run was created for.
    #[schemars(schema_with = "made_for")]
    pub restore_run: ObjectReference,
    /// The item that the RestoreRun puts back, if it names a finding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<BaselineItem>,
}

/// An item that is put back, as the finding named it when the run was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineItem {
    /// Name of the BackupSet that the finding has as its baseline.
    #[schemars(length(min = 1, max = 253))]
    pub backup_set: String,
    /// The object, as `group/kind/name` with `core` for the core group.
    #[schemars(length(min = 1, max = 600))]
    pub item: String,
}

/// Inputs of `restore.rehearse`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RehearseInputs {
    /// Name of the BackupRepository that holds the backup set.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Name of the BackupSet to rehearse. Default: the newest that holds the whole tenant, else the
    /// newest.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub backup_set: Option<String>,
}

/// Inputs of `sets.compare`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CompareInputs {
    /// Name of the BackupRepository that holds the backup sets.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// Name of the BackupSet to compare from: what it holds and the other set does not is removed.
    #[schemars(length(min = 1, max = 253))]
    pub from: String,
    /// Name of the BackupSet to compare with. If left out, the items of `from` are listed.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub to: Option<String>,
}

/// Inputs of `drift.generate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DriftInputs {
    /// Name of the BackupRepository that holds the baseline.
    #[schemars(length(min = 1, max = 253))]
    pub repository: String,
    /// What the tenant is compared with. Default: the newest backup set of the repository that holds
    /// the whole tenant.
    #[serde(default)]
    pub baseline: Option<BaselineInput>,
    /// What is compared with the baseline. Default: the live objects.
    #[serde(default)]
    pub current: Option<CurrentInput>,
    /// Which items are compared. Default: the whole tenant.
    #[serde(default)]
    pub selection: Selection,
    /// Differences that do not count. Each is still counted as ignored.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub ignore: Vec<IgnoreInput>,
    /// How much differences matter, where it is not as by default. The first that fits counts.
    #[serde(default)]
    #[schemars(length(max = 50))]
    pub severities: Vec<SeverityInput>,
    /// Whether to read every object of both sides. By default an object is not read if its metadata
    /// shows that it has not changed since the capture that made the baseline. That is known of the
    /// last capture of a selection.
    #[serde(default)]
    pub read_all: bool,
}

/// A baseline: one of its fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BaselineInput {
    /// Name of a BackupSet, with objects or an inventory of them.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub backup_set: Option<String>,
    /// Name of a BackupSchedule: its newest backup set that holds the whole tenant.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub schedule: Option<String>,
}

/// A recorded state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CurrentInput {
    /// Name of a BackupSet, with objects or an inventory of them.
    #[schemars(length(min = 1, max = 253))]
    pub backup_set: String,
}

/// Differences that do not count: of the items that fit all of the first three fields, those at the
/// paths, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IgnoreInput {
    /// Kinds as `Kind` or `Kind.group`, in which `*` stands for any letters. If empty, all kinds.
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(min = 1, max = 317)))]
    pub kinds: Vec<String>,
    /// Pattern of names, in which `*` stands for any letters. If left out, all names.
    #[serde(default)]
    #[schemars(length(min = 1, max = 253))]
    pub name_pattern: Option<String>,
    /// Labels, in the syntax of `kubectl -l`, of the item in the baseline, or of an item that was
    /// added.
    #[serde(default)]
    #[schemars(length(min = 1, max = 4096))]
    pub label_selector: Option<String>,
    /// JSON pointers such as `/spec/replicas`, in which a segment `*` stands for any field or
    /// element. If empty, the whole item.
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(min = 1, max = 1024)))]
    pub paths: Vec<String>,
}

/// How much differences matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SeverityInput {
    /// The severity.
    #[schemars(schema_with = "severity")]
    pub severity: Severity,
    /// Kinds as `Kind` or `Kind.group`, in which `*` stands for any letters. If empty, all kinds.
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(min = 1, max = 317)))]
    pub kinds: Vec<String>,
    /// JSON pointers as in `ignore`, of which one has changed. If empty, whatever has changed.
    #[serde(default)]
    #[schemars(length(max = 50), inner(length(min = 1, max = 1024)))]
    pub paths: Vec<String>,
}

fn severity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "enum": ["low", "medium", "high"] })
}

fn made_for(_: &mut SchemaGenerator) -> Schema {
    let text = |most: u16| json_schema!({ "type": "string", "minLength": 1, "maxLength": most });
    json_schema!({
        "type": "object", "required": ["name", "uid"], "additionalProperties": false,
        "properties": { "name": text(253), "uid": text(64) }
    })
}

/// The schema of some inputs, without what only a Rust reader needs.
fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    if let Some(root) = schema.as_object_mut() {
        // The operation type describes itself.
        root.remove("description");
    }
    tidy(&mut schema);
    schema
}

/// Drops titles, formats and defaults, and the null of a field that may be left out.
fn tidy(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    for key in ["title", "format", "default"] {
        fields.remove(key);
    }
    if let Some(types) = fields.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|one| one != "null");
        if let [one] = types.as_slice() {
            fields["type"] = one.clone();
        }
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(tidy);
    }
    if let Some(items) = fields.get_mut("items") {
        tidy(items);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_operation_and_each_command_is_there_once() {
        let mut names: Vec<&str> = BUILT_IN.iter().map(|operation| operation.name).collect();
        let mut commands: Vec<&str> = BUILT_IN.iter().map(|operation| operation.command).collect();
        for words in [&mut names, &mut commands] {
            words.sort_unstable();
            words.dedup();
            assert_eq!(words.len(), BUILT_IN.len());
        }
    }

    #[test]
    fn a_schema_of_inputs_refuses_other_fields_and_says_no_null() {
        for operation in BUILT_IN {
            let schema = operation.inputs_schema();
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)));
            let first = if [BULK, BULK_EXPORT, BULK_PREVIEW].contains(&operation.name) {
                "bulkOperationRun"
            } else {
                "repository"
            };
            assert!(schema["required"].as_array().is_some_and(|required| required.contains(&json!(first))));
            for (name, property) in schema["properties"].as_object().expect("properties") {
                assert!(property["description"].is_string() || name.ends_with("Run"), "{}: {name}", operation.name);
                assert!(property["type"].is_string(), "{}: {name}: {property}", operation.name);
            }
        }
    }

    #[test]
    fn what_applies_a_plan_names_it_and_its_approval_and_nothing_else_does() {
        for operation in BUILT_IN {
            let schema = operation.inputs_schema();
            let of_plan = ["approval", "planDigest"].map(|field| !schema["properties"][field].is_null());
            assert_eq!(of_plan, [[BULK, BULK_DELETE, APPLY].contains(&operation.name); 2], "{}", operation.name);
        }
    }

    #[test]
    fn the_schema_of_an_input_says_its_type_its_bounds_and_what_it_is_in_one_line() {
        let schema =
            |name| BUILT_IN.iter().find(|operation| operation.name == name).expect("an operation").inputs_schema();
        let check = schema(CHECK);
        let percent = &check["properties"]["readDataPercent"];
        assert_eq!((&percent["type"], &percent["maximum"]), (&json!("integer"), &json!(100)));
        assert_eq!(
            (&check["title"], &percent["format"], &percent["default"]),
            (&json!(null), &json!(null), &json!(null))
        );
        for property in check["properties"].as_object().expect("properties").values() {
            assert!(!property["description"].as_str().expect("a description").contains('\n'));
        }
        let restore = &schema(APPLY)["properties"]["restoreRun"];
        assert_eq!((&restore["required"], &restore["additionalProperties"]), (&json!(["name", "uid"]), &json!(false)));
        assert_eq!(restore["properties"]["uid"], json!({"type": "string", "minLength": 1, "maxLength": 64}));
    }
}
