//! `RestoreRun`: put a backup set's objects back: first to look at, then for good, and so that it can be undone.
//!
//! Writers, one for each field: the author writes `spec`; admission writes `spec.requestedBy`; the controller writes
//! `status`.

#![allow(clippy::struct_excessive_bools, reason = "each is a field of its own in manifests, with its own default")]

use crate::{
    LocalReference, ObjectReference,
    item::KIND_PATTERN,
    outcome::{Outcome, Phase, SummaryCounts},
    provenance::{AuditReferences, PlanSummary},
    provider::Provider,
    subject::Initiator,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What to restore, from what, and what may happen to what is there. Immutable but for `cancel`.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "RestoreRun",
    plural = "restoreruns",
    shortname = "rrun",
    category = "atlas",
    namespaced,
    status = "RestoreRunStatus",
    derive = "PartialEq",
    doc = "Puts objects of a backup set back. With `dryRun: true` it only says what it would do, item by item; a run with `preview` then does exactly that. It is deleted when its OperationRun falls out of the type's history; what undoes it and its audit entries stay.",
    selectable = ".spec.backupSet.name",
    selectable = ".status.phase",
    selectable = ".status.outcome",
    printcolumn(name = "BackupSet", type_ = "string", json_path = ".spec.backupSet.name"),
    printcolumn(name = "DryRun", type_ = "boolean", json_path = ".spec.dryRun"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "RequestedBy", type_ = "string", json_path = ".spec.requestedBy.username"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Preview", type_ = "string", json_path = ".spec.preview.name", priority = "1"),
    printcolumn(name = "Undo", type_ = "string", json_path = ".status.undoBackupSet", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.failureReason", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 180").message("the name of a restore is at most 180 characters: shorten it, or use a shorter generateName").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || (has(self.status) && has(self.status.phase) && has(self.status.outcome) && self.status.phase == oldSelf.status.phase && self.status.outcome == oldSelf.status.outcome)").message("a completed restore never changes its phase or outcome: create a new one, with spec.rerunOf if it is to be the same again"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || self.spec.cancel == oldSelf.spec.cancel").message("the restore is completed: there is nothing left to cancel; restore status.undoBackupSet with prune to undo it"),
)]
#[x_kube(
    validation = Rule::new("self.backupSet == oldSelf.backupSet && self.dryRun == oldSelf.dryRun && self.existingResourcePolicy == oldSelf.existingResourcePolicy && self.prune == oldSelf.prune && self.allowDataLoss == oldSelf.allowDataLoss && self.safetyCapture == oldSelf.safetyCapture").message("the spec of a restore is immutable but for cancel: create a new one"),
    validation = Rule::new("has(self.items) == has(oldSelf.items) && (!has(self.items) || self.items == oldSelf.items)").message("items is immutable: create a new restore"),
    validation = Rule::new("has(self.excludeItems) == has(oldSelf.excludeItems) && (!has(self.excludeItems) || self.excludeItems == oldSelf.excludeItems)").message("excludeItems is immutable: create a new restore"),
    validation = Rule::new("has(self.transforms) == has(oldSelf.transforms) && (!has(self.transforms) || self.transforms == oldSelf.transforms)").message("transforms is immutable: create a new restore"),
    validation = Rule::new("has(self.only) == has(oldSelf.only) && (!has(self.only) || self.only == oldSelf.only)").message("only is immutable: create a new restore"),
    validation = Rule::new("has(self.preview) == has(oldSelf.preview) && (!has(self.preview) || self.preview == oldSelf.preview)").message("preview is immutable: create a new restore"),
    validation = Rule::new("has(self.rerunOf) == has(oldSelf.rerunOf) && (!has(self.rerunOf) || self.rerunOf == oldSelf.rerunOf)").message("rerunOf is immutable: create a new restore"),
    validation = Rule::new("has(self.serviceAccountName) == has(oldSelf.serviceAccountName) && (!has(self.serviceAccountName) || self.serviceAccountName == oldSelf.serviceAccountName)").message("serviceAccountName is immutable: create a new restore"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)").message("requestedBy is set by the API server when the restore is created and never changes"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("a cancellation cannot be withdrawn: create a new restore"),
    validation = Rule::new("!self.dryRun || !has(self.preview)").message("a preview is applied for good: leave out dryRun or preview"),
    validation = Rule::new("!self.prune || self.dryRun").message("prune deletes, so it is looked at first: set it in a run with dryRun: true, then create one whose preview names that run"),
    validation = Rule::new("!has(self.preview) || (!has(self.items) && !has(self.excludeItems) && !has(self.transforms) && !has(self.only) && !has(self.rerunOf) && self.existingResourcePolicy == 'none' && !self.allowDataLoss)").message("a run with preview does exactly what that run showed: leave out items, excludeItems, transforms, only, rerunOf, existingResourcePolicy and allowDataLoss"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRunSpec {
    /// The set to restore from.
    pub backup_set: LocalReference,
    /// Only say what would be done, item by item. Nothing is written.
    #[serde(default)]
    pub dry_run: bool,
    /// A completed run with `dryRun: true`: do exactly what it showed, or nothing if anything has moved since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<LocalReference>,
    /// Only these items; left out: all of the set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub items: Vec<ItemSelector>,
    /// Not these items; wins over `items`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub exclude_items: Vec<ItemSelector>,
    /// Only items that are `missing` in the namespace, or only those that are there and `different`. Left out: both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
    /// What to do with an object that is there and differs: leave it (`none`), replace it whole (`update`), or delete
    /// it and make it anew (`recreate`).
    #[serde(default)]
    pub existing_resource_policy: ExistingResourcePolicy,
    /// Delete what a full set does not hold, or what a partial set lists as absent. Only from a preview.
    #[serde(default)]
    pub prune: bool,
    /// Allow what loses data for good: to delete or recreate a volume claim, or an object with finalizers.
    #[serde(default)]
    pub allow_data_loss: bool,
    /// Changes to the objects on their way back, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub transforms: Vec<Transform>,
    /// The account that writes, in this namespace; its author must be allowed to use it. Left out: `tenantatlas-restore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// First capture what is about to change or vanish, as a backup set that undoes this restore.
    #[serde(default = "yes")]
    pub safety_capture: bool,
    /// The authenticated user who asked. Set by the API server's admission, whatever the author writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Initiator>,
    /// A completed restore of the same set: only its items that failed are done again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalReference>,
    /// Set to true to stop the restore. Refused once it is completed.
    #[serde(default)]
    pub cancel: bool,
}

impl RestoreRunSpec {
    /// All of a set, with everything else as it is where a manifest does not say.
    #[must_use]
    pub fn of(backup_set: LocalReference) -> Self {
        Self {
            backup_set,
            dry_run: false,
            preview: None,
            items: Vec::new(),
            exclude_items: Vec::new(),
            only: None,
            existing_resource_policy: ExistingResourcePolicy::default(),
            prune: false,
            allow_data_loss: false,
            transforms: Vec::new(),
            service_account_name: None,
            safety_capture: yes(),
            requested_by: None,
            rerun_of: None,
            cancel: false,
        }
    }
}

fn yes() -> bool {
    true
}

/// Some of a set's items. What is left out does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ItemSelector {
    /// Where the items live.
    #[serde(default, skip_serializing_if = "Provider::is_default")]
    pub provider: Provider,
    /// API group; empty for the core group, left out for any. Of another provider the group of the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub group: Option<String>,
    /// Kind, such as `Deployment`; left out for any. Of another provider the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND_PATTERN))]
    pub kind: Option<String>,
    /// Name; `*` stands for any characters, so `web-*` for all that begin so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Labels of the object in the set, in the syntax of `kubectl -l`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub label_selector: Option<String>,
}

/// Which items of those selected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Those that the namespace does not have.
    Missing,
    /// Those that the namespace has, and that differ.
    Different,
}

/// What to do with an object that is there and differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExistingResourcePolicy {
    /// Leave it as it is.
    #[default]
    None,
    /// Replace it whole: what others added to it goes.
    Update,
    /// Delete it and make it anew.
    Recreate,
}

/// A JSON patch (RFC 6902) for some items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transform {
    /// The items it is for.
    pub select: ItemSelector,
    /// The operations, in this order. If one does not apply, the item fails; a `test` makes sure of what is there.
    #[schemars(length(min = 1, max = 100))]
    pub patch: Vec<PatchOperation>,
}

/// One operation of a JSON patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOperation {
    /// What to do.
    pub op: PatchVerb,
    /// Where, as a JSON pointer such as `/spec/replicas`.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// From where, for `move` and `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,
    /// The value, for `add`, `replace` and `test`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_value")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<Value>,
}

/// A null that is written is a value; one that is left out is none.
fn some_value<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

fn any_value(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

/// What an operation of a JSON patch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PatchVerb {
    /// Adds a value, or replaces the one there.
    Add,
    /// Removes a value that must be there.
    Remove,
    /// Replaces a value that must be there.
    Replace,
    /// Moves a value.
    Move,
    /// Copies a value.
    Copy,
    /// Fails unless the value is the one given.
    Test,
}

/// Where the restore is, and how it ended. Written by the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreRunStatus {
    /// `queued`, `running` or `completed`.
    pub phase: Phase,
    /// `pending` until completed, then how it ended.
    pub outcome: Outcome,
    /// Generation of the spec this status speaks of; -1 before the controller has seen the restore.
    pub observed_generation: i64,
    /// What would be done, of a run with `dryRun: true`: items by action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<PlanSummary>,
    /// What was done: items by what became of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<SummaryCounts>,
    /// SHA-256 (64 hex digits) over the plan: the snapshot, what was selected, each item's action and what it was decided from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// The backup set that undoes this restore, restored with `prune`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub undo_backup_set: Option<String>,
    /// The run that did the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_run: Option<ObjectReference>,
    /// A stable code that says why it failed or was blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub failure_reason: Option<String>,
    /// The same for people, with what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// The entries of the audit chain: what was intended, and what became of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
    /// When the run was recorded completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// Conditions for kstatus, Flux, Argo CD and `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for RestoreRunStatus {
    fn default() -> Self {
        Self {
            phase: Phase::Queued,
            outcome: Outcome::Pending,
            observed_generation: -1,
            preview: None,
            results: None,
            plan_digest: None,
            undo_backup_set: None,
            operation_run: None,
            failure_reason: None,
            message: None,
            audit: None,
            completed_at: None,
            conditions: Vec::new(),
        }
    }
}

impl RestoreRun {
    /// The status, or that of a restore that nobody has looked at.
    #[must_use]
    pub fn status_or_default(&self) -> RestoreRunStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether it is at its end.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase == Phase::Completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::CustomResourceExt;
    use serde_json::json;

    fn spec(value: Value) -> RestoreRunSpec {
        serde_json::from_value(value).expect("a spec")
    }

    #[test]
    fn a_restore_changes_nothing_that_exists_and_can_be_undone_unless_told_otherwise() {
        let spec = spec(json!({"backupSet": {"name": "nightly"}}));
        assert_eq!(spec, RestoreRunSpec::of(LocalReference::new("nightly")));
        assert_eq!(spec.existing_resource_policy, ExistingResourcePolicy::None);
        assert!(spec.safety_capture && !spec.prune && !spec.allow_data_loss && !spec.dry_run && !spec.cancel);
    }

    #[test]
    fn a_misspelt_field_of_a_selector_or_a_patch_is_refused() {
        assert!(serde_json::from_value::<ItemSelector>(json!({"kinds": "Deployment"})).is_err());
        let patch = json!({"op": "replace", "path": "/spec/replicas", "val": 1});
        assert!(serde_json::from_value::<PatchOperation>(patch).is_err());
    }

    #[test]
    fn a_value_of_null_is_a_value_and_survives() {
        let written = json!({"op": "add", "path": "/a", "value": null});
        let operation: PatchOperation = serde_json::from_value(written.clone()).expect("an operation");
        assert_eq!(operation.value, Some(Value::Null));
        assert_eq!(serde_json::to_value(operation).expect("JSON"), written);
    }

    /// Every field of the spec but `cancel` stands in a rule that compares it with what it was.
    #[test]
    fn every_field_of_the_spec_but_cancel_is_immutable() {
        let definition = serde_json::to_value(RestoreRun::crd()).expect("JSON");
        let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
        let rules: Vec<&str> = schema["x-kubernetes-validations"]
            .as_array()
            .expect("rules")
            .iter()
            .filter_map(|rule| rule["rule"].as_str())
            .collect();
        for field in schema["properties"].as_object().expect("properties").keys().filter(|field| *field != "cancel") {
            let compared = format!("self.{field} == oldSelf.{field}");
            assert!(rules.iter().any(|rule| rule.contains(&compared)), "nothing keeps {field} as it was");
        }
    }

    #[test]
    fn the_schema_says_what_is_the_default() {
        let definition = serde_json::to_value(RestoreRun::crd()).expect("JSON");
        let properties =
            &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        assert_eq!(properties["existingResourcePolicy"]["default"], "none");
        assert_eq!(properties["safetyCapture"]["default"], true);
        for field in ["dryRun", "prune", "allowDataLoss", "cancel"] {
            assert_eq!(properties[field]["default"], false, "{field}");
        }
        assert_eq!(properties["existingResourcePolicy"]["enum"], json!(["none", "update", "recreate"]));
    }
}
