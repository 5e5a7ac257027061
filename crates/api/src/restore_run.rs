//! `RestoreRun`: restores the objects of a backup set. A restore can be previewed first, and undone
//! afterwards.
//!
//! Each field has one writer: the author writes `spec`, admission writes `spec.requestedBy`, and
//! the controller writes `status`.

#![allow(clippy::struct_excessive_bools, reason = "each is a field of its own in manifests, with its own default")]

use crate::{
    LocalReference, ObjectReference, PreviewReference,
    approval::ApprovalTerms,
    item::KIND_PATTERN,
    operation_run::ScheduledBy,
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

/// What to restore, from which set, and what may happen to existing objects. Immutable except for
/// `cancel`.
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
    doc = "Restores objects of a backup set. With `dryRun: true` it only reports what it would do, item by item; a RestoreRun with `preview` then does exactly that. It is deleted when its OperationRun exceeds the history limit of the type. The backup set that undoes it and its audit entries are kept.",
    selectable = ".spec.backupSet.name",
    selectable = ".spec.scheduledBy.uid",
    selectable = ".status.phase",
    selectable = ".status.outcome",
    printcolumn(name = "BackupSet", type_ = "string", json_path = ".spec.backupSet.name"),
    printcolumn(name = "DryRun", type_ = "boolean", json_path = ".spec.dryRun"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "RequestedBy", type_ = "string", json_path = ".spec.requestedBy.username"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Preview", type_ = "string", json_path = ".spec.preview.name", priority = "1"),
    printcolumn(name = "Finding", type_ = "string", json_path = ".spec.finding.name", priority = "1"),
    printcolumn(name = "Undo", type_ = "string", json_path = ".status.undoBackupSet", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.failureReason", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 180").message("the name of a restore is at most 180 characters: shorten it, or use a shorter generateName").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || (has(self.status) && has(self.status.phase) && has(self.status.outcome) && self.status.phase == oldSelf.status.phase && self.status.outcome == oldSelf.status.outcome)").message("a completed restore never changes its phase or outcome: create a new one, with spec.rerunOf if it is to be the same again"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || self.spec.cancel == oldSelf.spec.cancel").message("the restore is completed: there is nothing left to cancel; restore status.undoBackupSet with prune to undo it"),
)]
#[x_kube(
    validation = Rule::new("has(self.backupSet) == has(oldSelf.backupSet) && (!has(self.backupSet) || self.backupSet == oldSelf.backupSet)").message("backupSet is immutable: create a new restore"),
    validation = Rule::new("has(self.finding) == has(oldSelf.finding) && (!has(self.finding) || self.finding == oldSelf.finding)").message("finding is immutable: create a new restore"),
    validation = Rule::new("has(self.backupSet) != has(self.finding)").message("name what to restore from: either backupSet, or finding, whose baseline is the backup set"),
    validation = Rule::new("!has(self.finding) || (!has(self.items) && !has(self.excludeItems) && !has(self.only) && !has(self.transforms) && !has(self.rerunOf))").message("a restore of a finding is of its item, as the baseline has it: leave out items, excludeItems, only, transforms and rerunOf"),
    validation = Rule::new("!has(self.finding) || !has(self.finding.path) || (!self.prune && self.existingResourcePolicy != 'recreate')").message("finding.path is put back into the object that is there: leave out prune, and existingResourcePolicy recreate"),
    validation = Rule::new("self.dryRun == oldSelf.dryRun && self.existingResourcePolicy == oldSelf.existingResourcePolicy && self.prune == oldSelf.prune && self.allowDataLoss == oldSelf.allowDataLoss && self.safetyCapture == oldSelf.safetyCapture").message("the spec of a restore is immutable but for cancel: create a new one"),
    validation = Rule::new("has(self.items) == has(oldSelf.items) && (!has(self.items) || self.items == oldSelf.items)").message("items is immutable: create a new restore"),
    validation = Rule::new("has(self.excludeItems) == has(oldSelf.excludeItems) && (!has(self.excludeItems) || self.excludeItems == oldSelf.excludeItems)").message("excludeItems is immutable: create a new restore"),
    validation = Rule::new("has(self.transforms) == has(oldSelf.transforms) && (!has(self.transforms) || self.transforms == oldSelf.transforms)").message("transforms is immutable: create a new restore"),
    validation = Rule::new("has(self.only) == has(oldSelf.only) && (!has(self.only) || self.only == oldSelf.only)").message("only is immutable: create a new restore"),
    validation = Rule::new("has(self.preview) == has(oldSelf.preview) && (!has(self.preview) || self.preview == oldSelf.preview)").message("preview is immutable: create a new restore"),
    validation = Rule::new("has(self.approval) == has(oldSelf.approval) && (!has(self.approval) || self.approval == oldSelf.approval)").message("approval is immutable: create a new restore"),
    validation = Rule::new("has(self.rerunOf) == has(oldSelf.rerunOf) && (!has(self.rerunOf) || self.rerunOf == oldSelf.rerunOf)").message("rerunOf is immutable: create a new restore"),
    validation = Rule::new("has(self.serviceAccountName) == has(oldSelf.serviceAccountName) && (!has(self.serviceAccountName) || self.serviceAccountName == oldSelf.serviceAccountName)").message("serviceAccountName is immutable: create a new restore"),
    validation = Rule::new("has(self.queueTimeoutSeconds) == has(oldSelf.queueTimeoutSeconds) && (!has(self.queueTimeoutSeconds) || self.queueTimeoutSeconds == oldSelf.queueTimeoutSeconds)").message("queueTimeoutSeconds is immutable: create a new restore"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)").message("requestedBy is set by the API server when the restore is created and never changes"),
    validation = Rule::new("has(self.scheduledBy) == has(oldSelf.scheduledBy) && (!has(self.scheduledBy) || self.scheduledBy == oldSelf.scheduledBy)").message("scheduledBy is set by the operator when it creates the restore and never changes"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("a cancellation cannot be withdrawn: create a new restore"),
    validation = Rule::new("!self.dryRun || !has(self.preview)").message("a preview is applied for good: leave out dryRun or preview"),
    validation = Rule::new("!has(self.approval) || has(self.preview)").message("what is approved is the plan of a preview: make one with dryRun: true, then name it in preview; or leave out approval"),
    validation = Rule::new("!self.prune || self.dryRun").message("prune deletes, so it is looked at first: set it in a run with dryRun: true, then create one whose preview names that run"),
    validation = Rule::new("!has(self.preview) || (!has(self.items) && !has(self.excludeItems) && !has(self.transforms) && !has(self.only) && !has(self.rerunOf) && self.existingResourcePolicy == 'none' && !self.allowDataLoss)").message("a run with preview does exactly what that run showed: leave out items, excludeItems, transforms, only, rerunOf, existingResourcePolicy and allowDataLoss"),
)]
#[serde(rename_all = "camelCase")]
pub struct RestoreRunSpec {
    /// Backup set to restore from. Exactly one of `backupSet` and `finding` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// Finding whose item is put back as its baseline has it. The policy for an object that exists
    /// is then `update` unless it is `recreate`. An item that was added is put back by deleting it,
    /// with `prune`. When the item is back, the finding is resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<FindingReference>,
    /// Whether to only report what would be done, item by item. Nothing is written. Defaults to
    /// false.
    #[serde(default)]
    pub dry_run: bool,
    /// A completed RestoreRun with `dryRun: true`. This restore does exactly what that preview
    /// showed. If any object changed since, the restore is `blocked` (PreviewStale) and writes
    /// nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewReference>,
    /// Whether somebody else must approve the plan of `preview` before anything is written. Accepted
    /// only with `preview`. Until then the restore is `queued` (AwaitingApproval). A rule of the
    /// workspace can require the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
    /// Items to restore. If unset, all items of the set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub items: Vec<ItemSelector>,
    /// Items not to restore. Takes precedence over `items`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub exclude_items: Vec<ItemSelector>,
    /// Restores only items that are `missing` in the namespace, or only those that exist and are
    /// `different`. If unset, both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Only>,
    /// What to do with an object that exists and differs: leave it (`none`, the default), replace
    /// it as a whole (`update`), or delete and recreate it (`recreate`).
    #[serde(default)]
    pub existing_resource_policy: ExistingResourcePolicy,
    /// Whether to delete objects that a full set does not hold, or that a partial set lists as
    /// absent. Accepted only with `dryRun: true`: the objects are deleted when that preview is
    /// applied. Defaults to false.
    #[serde(default)]
    pub prune: bool,
    /// Whether to allow actions that lose data for good: deleting or recreating a volume claim, or
    /// an object with finalizers. If false, the default, such an item is a `conflict`.
    #[serde(default)]
    pub allow_data_loss: bool,
    /// Changes to make to the objects before they are written, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub transforms: Vec<Transform>,
    /// ServiceAccount in this namespace that writes. The author must be allowed to impersonate it.
    /// Defaults to `tenantatlas-restore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub service_account_name: Option<String>,
    /// Whether to first capture the objects that are about to change or be deleted, as a backup set
    /// that undoes this restore. Defaults to true.
    #[serde(default = "yes")]
    pub safety_capture: bool,
    /// `queueTimeoutSeconds` of the run. The wait for an approval comes before and does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub queue_timeout_seconds: Option<i64>,
    /// Workspace run that the restore was created for. Only the operator sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_by: Option<ScheduledBy>,
    /// Authenticated user who requested the restore. Admission sets it, whatever the author writes.
    /// On Kubernetes before 1.36 the author writes it, and admission rejects any other user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Initiator>,
    /// A completed restore of the same set. Only the items that failed there are restored again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rerun_of: Option<LocalReference>,
    /// Set to true to stop the restore. It cannot be set back to false, and is rejected once the
    /// restore is completed.
    #[serde(default)]
    pub cancel: bool,
}

impl RestoreRunSpec {
    /// Creates a restore of a whole set, with the defaults of a manifest for all other fields.
    #[must_use]
    pub fn of(backup_set: LocalReference) -> Self {
        Self {
            backup_set: Some(backup_set),
            finding: None,
            dry_run: false,
            preview: None,
            approval: None,
            items: Vec::new(),
            exclude_items: Vec::new(),
            only: None,
            existing_resource_policy: ExistingResourcePolicy::default(),
            prune: false,
            allow_data_loss: false,
            transforms: Vec::new(),
            service_account_name: None,
            safety_capture: yes(),
            queue_timeout_seconds: None,
            scheduled_by: None,
            requested_by: None,
            rerun_of: None,
            cancel: false,
        }
    }
}

fn yes() -> bool {
    true
}

/// A finding in the same namespace, and how much of its item is put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FindingReference {
    /// Name of the finding.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// The path to put back, as in `spec.evidence` of the finding. The rest of the object stays as
    /// it is. If unset, the whole object is put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub path: Option<String>,
}

/// Selects some items of a set. An unset field matches any item.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ItemSelector {
    /// Provider of the items.
    #[serde(default, skip_serializing_if = "Provider::is_default")]
    pub provider: Provider,
    /// API group: empty for the core group, unset for any group. For other providers: the group of
    /// the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub group: Option<String>,
    /// Kind, such as `Deployment`; unset for any kind. For other providers: the collection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND_PATTERN))]
    pub kind: Option<String>,
    /// Name; unset for any name. `*` matches any characters, so `web-*` matches all names that
    /// start with `web-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub name: Option<String>,
    /// Selector for the labels of the object in the set, in the syntax of `kubectl -l`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub label_selector: Option<String>,
}

/// Which of the selected items to restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// Items that do not exist in the namespace.
    Missing,
    /// Items that exist in the namespace and differ.
    Different,
}

/// What to do with an object that exists and differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExistingResourcePolicy {
    /// Leave it as it is.
    #[default]
    None,
    /// Replace it as a whole. Fields that others added are lost.
    Update,
    /// Delete and recreate it.
    Recreate,
}

/// A JSON patch (RFC 6902) for some items.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transform {
    /// Items that the patch applies to.
    pub select: ItemSelector,
    /// Operations of the patch, in this order. If one does not apply, the item fails. Use `test` to
    /// assert an existing value.
    #[schemars(length(min = 1, max = 100))]
    pub patch: Vec<PatchOperation>,
}

/// One operation of a JSON patch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchOperation {
    /// What the operation does.
    pub op: PatchVerb,
    /// Target, as a JSON pointer such as `/spec/replicas`.
    #[schemars(length(max = 1024))]
    pub path: String,
    /// Source, as a JSON pointer, for `move` and `copy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub from: Option<String>,
    /// Value, for `add`, `replace` and `test`.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "some_value")]
    #[schemars(schema_with = "any_value")]
    pub value: Option<Value>,
}

/// An explicit null is a value. Only an omitted field is `None`.
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
    /// Adds a value, or replaces an existing one.
    Add,
    /// Removes a value, which must exist.
    Remove,
    /// Replaces a value, which must exist.
    Replace,
    /// Moves a value.
    Move,
    /// Copies a value.
    Copy,
    /// Fails unless the existing value equals the given one.
    Test,
}

/// State of the restore, and its outcome. Written by the controller.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RestoreRunStatus {
    /// `queued`, `running` or `completed`.
    pub phase: Phase,
    /// `pending` until the restore is completed, then its outcome.
    pub outcome: Outcome,
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// restore.
    pub observed_generation: i64,
    /// With `dryRun: true`: number of items by the action that would be taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<PlanSummary>,
    /// Number of items by result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<SummaryCounts>,
    /// SHA-256 (64 hex digits) over the plan: the snapshot, the selection, and for each item its
    /// action and the state that the decision was based on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// With `spec.finding`: the baseline of the finding when the restore started, which is the
    /// backup set that is restored from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backup_set: Option<LocalReference>,
    /// Backup set that undoes this restore, if it is restored with `prune`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub undo_backup_set: Option<String>,
    /// OperationRun that does the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_run: Option<ObjectReference>,
    /// Stable code for why the restore failed, partially failed, or was blocked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub failure_reason: Option<String>,
    /// Human-readable explanation of the state, with what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Entries of the audit chain: the intent, and the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
    /// When the restore was recorded as completed.
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
            backup_set: None,
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
    /// Returns the status, or that of a restore which the controller has not seen.
    #[must_use]
    pub fn status_or_default(&self) -> RestoreRunStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether the restore is completed.
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

    /// Every field of the spec except `cancel` is in a rule that compares it with its old value.
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

    #[test]
    fn a_restore_is_completed_once_its_phase_says_so() {
        let mut restore = RestoreRun::new("r", RestoreRunSpec::of(LocalReference::new("nightly")));
        assert!(!restore.is_completed());
        assert_eq!(restore.status_or_default(), RestoreRunStatus::default());
        for (phase, completed) in [(Phase::Queued, false), (Phase::Running, false), (Phase::Completed, true)] {
            let status =
                RestoreRunStatus { phase, undo_backup_set: Some("undo".into()), ..RestoreRunStatus::default() };
            restore.status = Some(status.clone());
            assert_eq!((restore.is_completed(), restore.status_or_default()), (completed, status));
        }
    }

    #[test]
    fn a_value_of_a_patch_is_the_one_that_was_given_and_one_that_was_not_is_none() {
        let read = |patch: Value| serde_json::from_value::<PatchOperation>(patch).expect("an operation").value;
        assert_eq!(read(json!({"op": "add", "path": "/a", "value": {"b": 1}})), Some(json!({"b": 1})));
        assert_eq!(read(json!({"op": "remove", "path": "/a"})), None);
    }
}
