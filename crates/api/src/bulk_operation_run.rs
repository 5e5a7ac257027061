//! `BulkOperationRun`: one action on many objects of a tenant.
//!
//! Each field has one writer: the author writes `spec`, admission writes `spec.requestedBy`, and
//! the controller writes `status`.

use crate::{
    ObjectReference, PreviewReference,
    approval::ApprovalTerms,
    item::{GroupKind, KIND_PATTERN},
    operation_run::ScheduledBy,
    operations,
    outcome::{ItemFailure, Outcome, Phase, SummaryCounts},
    provenance::{AuditReferences, PlanSummary},
    provider::Provider,
    subject::Initiator,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use strum::{IntoStaticStr, VariantArray};

/// Maximum number of objects that one bulk operation works on.
pub const MAX_SELECTED: usize = 5000;

/// What to do, and with which objects. Immutable except for `cancel`.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "BulkOperationRun",
    plural = "bulkoperationruns",
    shortname = "bulk",
    category = "atlas",
    namespaced,
    status = "BulkOperationRunStatus",
    derive = "PartialEq",
    doc = "One action on many objects of one kind: sets labels or annotations, scales, restarts, suspends, resumes, deletes, captures or exports. The objects are selected once, and each is written at most once. With `dryRun: true` it only reports what it would do to each; a BulkOperationRun with `preview` then does exactly that. It is deleted when its OperationRun exceeds the history limit of the type. The backup set with what it deleted or captured and its audit entries are kept.",
    selectable = ".spec.action",
    selectable = ".spec.scheduledBy.uid",
    selectable = ".status.phase",
    selectable = ".status.outcome",
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.resource.kind"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Outcome", type_ = "string", json_path = ".status.outcome"),
    printcolumn(name = "RequestedBy", type_ = "string", json_path = ".spec.requestedBy.username"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Group", type_ = "string", json_path = ".spec.resource.group", priority = "1"),
    printcolumn(name = "Succeeded", type_ = "integer", json_path = ".status.counts.succeeded", priority = "1"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.counts.failed", priority = "1"),
    printcolumn(name = "Run", type_ = "string", json_path = ".status.operationRun.name", priority = "1"),
    printcolumn(name = "DryRun", type_ = "boolean", json_path = ".spec.dryRun", priority = "1"),
    printcolumn(name = "Preview", type_ = "string", json_path = ".spec.preview.name", priority = "1"),
    printcolumn(name = "Undo", type_ = "string", json_path = ".status.undoBackupSet", priority = "1"),
    printcolumn(name = "Set", type_ = "string", json_path = ".status.backupSet", priority = "1"),
    printcolumn(name = "ConfigMap", type_ = "string", json_path = ".status.configMap", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 180").message("the name of a bulk operation is at most 180 characters: shorten it, or use a shorter generateName").reason(Reason::FieldValueInvalid),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || (has(self.status) && has(self.status.phase) && has(self.status.outcome) && self.status.phase == oldSelf.status.phase && self.status.outcome == oldSelf.status.outcome)").message("a completed bulk operation never changes its phase or outcome: create a new one"),
    validation = Rule::new("!has(oldSelf.status) || !has(oldSelf.status.phase) || oldSelf.status.phase != 'completed' || self.spec.cancel == oldSelf.spec.cancel").message("the bulk operation is completed: there is nothing left to cancel"),
)]
#[x_kube(
    validation = Rule::new("self.resource == oldSelf.resource && self.action == oldSelf.action && self.parallelism == oldSelf.parallelism && self.dryRun == oldSelf.dryRun").message("the spec of a bulk operation is immutable but for cancel: create a new one"),
    validation = Rule::new("has(self.items) == has(oldSelf.items) && (!has(self.items) || self.items == oldSelf.items)").message("items is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.labelSelector) == has(oldSelf.labelSelector) && (!has(self.labelSelector) || self.labelSelector == oldSelf.labelSelector)").message("labelSelector is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.preview) == has(oldSelf.preview) && (!has(self.preview) || self.preview == oldSelf.preview)").message("preview is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.approval) == has(oldSelf.approval) && (!has(self.approval) || self.approval == oldSelf.approval)").message("approval is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.options) == has(oldSelf.options) && (!has(self.options) || self.options == oldSelf.options)").message("options is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.stopAfterFailures) == has(oldSelf.stopAfterFailures) && (!has(self.stopAfterFailures) || self.stopAfterFailures == oldSelf.stopAfterFailures)").message("stopAfterFailures is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.queueTimeoutSeconds) == has(oldSelf.queueTimeoutSeconds) && (!has(self.queueTimeoutSeconds) || self.queueTimeoutSeconds == oldSelf.queueTimeoutSeconds)").message("queueTimeoutSeconds is immutable: create a new bulk operation"),
    validation = Rule::new("has(self.requestedBy) == has(oldSelf.requestedBy) && (!has(self.requestedBy) || self.requestedBy == oldSelf.requestedBy)").message("requestedBy is set by the API server when the bulk operation is created and never changes"),
    validation = Rule::new("has(self.scheduledBy) == has(oldSelf.scheduledBy) && (!has(self.scheduledBy) || self.scheduledBy == oldSelf.scheduledBy)").message("scheduledBy is set by the operator when it creates the bulk operation and never changes"),
    validation = Rule::new("self.cancel || !oldSelf.cancel").message("a cancellation cannot be withdrawn: create a new bulk operation"),
    validation = Rule::new("[has(self.items), has(self.labelSelector), has(self.preview)].exists_one(one, one)").message("say which objects: either items, by name, or labelSelector, or the preview that selected them"),
    validation = Rule::new("!has(self.preview) || (!self.dryRun && !has(self.options))").message("a bulk operation with preview does exactly what that preview showed: leave out dryRun and options"),
    validation = Rule::new("!has(self.approval) || has(self.preview)").message("what is approved is the plan of a preview: make one with dryRun: true, then name it in preview; or leave out approval"),
    validation = Rule::new("!self.dryRun || !has(self.stopAfterFailures)").message("a dry run looks at all objects: leave out stopAfterFailures"),
    validation = Rule::new("has(self.preview) || !(self.action in ['label', 'annotate']) || (has(self.options) && (has(self.options.set) || has(self.options.remove)) && !has(self.options.replicas) && !has(self.options.repository) && !has(self.options.allowDataLoss))").message("label and annotate take options.set, options.remove, or both, and nothing else"),
    validation = Rule::new("has(self.preview) || self.action != 'scale' || (has(self.options) && has(self.options.replicas) && !has(self.options.set) && !has(self.options.remove) && !has(self.options.repository) && !has(self.options.allowDataLoss))").message("scale takes options.replicas and nothing else"),
    validation = Rule::new("has(self.preview) || self.action != 'delete' || (has(self.options) && has(self.options.repository) && !has(self.options.set) && !has(self.options.remove) && !has(self.options.replicas))").message("delete takes options.repository, which keeps what is deleted, and options.allowDataLoss, and nothing else"),
    validation = Rule::new("self.action != 'delete' || self.dryRun || has(self.preview)").message("objects are deleted as a preview showed and no other way: make one with dryRun: true, then name it in preview"),
    validation = Rule::new("self.action != 'delete' || !has(self.stopAfterFailures)").message("delete takes no stopAfterFailures: its preview shows what would fail"),
    validation = Rule::new("!(self.action in ['capture', 'export']) || (!self.dryRun && !has(self.preview) && !has(self.stopAfterFailures))").message("capture and export change nothing: leave out dryRun, preview and stopAfterFailures"),
    validation = Rule::new("self.action != 'capture' || self.parallelism == 8").message("capture reads the objects one by one: leave out parallelism"),
    validation = Rule::new("self.action != 'export' || self.resource.kind != 'Secret' || self.resource.group != ''").message("Secrets are not exported, because whoever reads ConfigMaps would read them: use action: capture, whose repository is encrypted"),
    validation = Rule::new("self.action != 'capture' || (has(self.options) && has(self.options.repository) && !has(self.options.set) && !has(self.options.remove) && !has(self.options.replicas) && !has(self.options.allowDataLoss))").message("capture takes options.repository, which stores the objects, and nothing else"),
    validation = Rule::new("self.action != 'export' || !has(self.options)").message("export takes no options"),
    validation = Rule::new("!(self.action in ['restart', 'suspend', 'resume']) || !has(self.options)").message("restart, suspend and resume take no options"),
)]
#[serde(rename_all = "camelCase")]
pub struct BulkOperationRunSpec {
    /// Kind of the objects.
    pub resource: BulkResource,
    /// What is done with each object.
    pub action: BulkAction,
    /// Names of the objects, each once. Exactly one of `items`, `labelSelector` and `preview` is set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 500),
        inner(length(min = 1, max = 253), regex(pattern = r"^[^/%]*[^./%][^/%]*$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub items: Vec<String>,
    /// Selects all objects of the kind whose labels match when the operation starts, in the syntax
    /// of `kubectl -l`: at most 5,000, but any number for `capture`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub label_selector: Option<String>,
    /// Changes nothing, and reports what it would do to each object. A bulk operation with `preview`
    /// then does exactly that.
    #[serde(default)]
    pub dry_run: bool,
    /// A completed BulkOperationRun with `dryRun: true`, of the same kind and action. This one does
    /// exactly what that preview showed, or nothing if a part of an object on which it depends has
    /// changed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewReference>,
    /// Whether somebody else must approve the plan of `preview` before anything is changed. Accepted
    /// only with `preview`. Until then the bulk operation is `queued` (AwaitingApproval). A rule of
    /// the workspace can require the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalTerms>,
    /// What the action needs to know. `restart`, `suspend`, `resume` and `export` take no options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BulkOptions>,
    /// How many objects are worked on at once. Defaults to 8. Not accepted with `capture`.
    #[serde(default = "parallelism")]
    #[schemars(range(min = 1, max = 16))]
    pub parallelism: i32,
    /// Stops when so many objects have failed; the rest is skipped. If unset, all objects are
    /// tried. Not accepted with `delete`, `capture` and `export`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 5000))]
    pub stop_after_failures: Option<i32>,
    /// `queueTimeoutSeconds` of the run. The wait for an approval comes before and does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub queue_timeout_seconds: Option<i64>,
    /// Workspace run that the bulk operation was created for. Only the operator sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_by: Option<ScheduledBy>,
    /// Authenticated user who requested the operation. Admission sets it, whatever the author
    /// writes. On Kubernetes before 1.36 the author writes it, and admission rejects any other
    /// user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_by: Option<Initiator>,
    /// Set to true to stop the operation. What is done stays done. It cannot be set back to false,
    /// and is rejected once the operation is completed.
    #[serde(default)]
    pub cancel: bool,
}

fn parallelism() -> i32 {
    8
}

/// A kind of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkResource {
    /// Provider of the objects.
    #[serde(default, skip_serializing_if = "Provider::is_default")]
    pub provider: Provider,
    /// API group, empty for the core group.
    #[serde(default)]
    #[schemars(length(max = 253), regex(pattern = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$"))]
    pub group: String,
    /// Kind, such as `Deployment`.
    #[schemars(length(min = 1, max = 63), regex(pattern = KIND_PATTERN))]
    pub kind: String,
}

impl BulkResource {
    /// The kind without a version.
    #[must_use]
    pub fn group_kind(&self) -> GroupKind {
        GroupKind::new(self.group.clone(), self.kind.clone())
    }
}

/// What is done with each object.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum BulkAction {
    /// Sets and removes labels, with `options.set` and `options.remove`.
    #[default]
    Label,
    /// Sets and removes annotations, in the same way.
    Annotate,
    /// Sets `spec.replicas` of Deployments, StatefulSets, ReplicaSets and ReplicationControllers.
    Scale,
    /// Replaces the pods of Deployments, StatefulSets and DaemonSets, as `kubectl rollout restart`
    /// does.
    Restart,
    /// Suspends CronJobs and Jobs.
    Suspend,
    /// Lets suspended CronJobs and Jobs continue.
    Resume,
    /// Deletes the objects, after a preview. What is about to be deleted is captured before, as a
    /// backup set whose restore brings it back.
    Delete,
    /// Captures the objects, as a backup set that holds them and nothing else. Changes nothing.
    Capture,
    /// Writes the objects into a ConfigMap as clean YAML, at most 500 KiB. Changes nothing.
    Export,
}

impl BulkAction {
    /// Whether the action only reads, so that there is nothing to preview, to approve or to audit.
    #[must_use]
    pub fn only_reads(self) -> bool {
        matches!(self, Self::Capture | Self::Export)
    }

    /// Returns the value as written in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Type of the runs that take the action, or preview it.
    #[must_use]
    pub fn operation_type(self, dry_run: bool) -> &'static str {
        match (self, dry_run) {
            (Self::Capture, _) => operations::BULK_CAPTURE,
            (Self::Export, _) => operations::BULK_EXPORT,
            (Self::Delete, true) => operations::BULK_DELETE_PREVIEW,
            (Self::Delete, false) => operations::BULK_DELETE,
            (_, true) => operations::BULK_PREVIEW,
            (_, false) => operations::BULK,
        }
    }
}

/// What an action needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BulkOptions {
    /// Labels or annotations to set: key and value. A value of an annotation takes at most 4,096
    /// characters here, that of a label 63.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "metadata_values")]
    pub set: BTreeMap<String, String>,
    /// Keys of labels or annotations to remove.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 20), inner(length(min = 1, max = 317)), extend("x-kubernetes-list-type" = "set"))]
    pub remove: Vec<String>,
    /// Number of replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub replicas: Option<i32>,
    /// BackupRepository that keeps what is deleted, or stores what is captured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub repository: Option<String>,
    /// Whether objects are deleted whose data no backup set brings back, such as a bound
    /// PersistentVolumeClaim. Defaults to false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_data_loss: Option<bool>,
}

fn metadata_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "type": "object", "minProperties": 1, "maxProperties": 20,
        "additionalProperties": { "type": "string", "maxLength": 4096 }
    })
}

/// State of the bulk operation, and its outcome. Written by the controller. Everything but the phase
/// is that of the OperationRun, which is the record that counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BulkOperationRunStatus {
    /// `queued`, `running` or `completed`.
    pub phase: Phase,
    /// `pending` until the operation is completed, then its outcome.
    pub outcome: Outcome,
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// bulk operation.
    pub observed_generation: i64,
    /// Stable code for the current state.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub reason: Option<String>,
    /// Human-readable explanation of `reason`, with what to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub message: Option<String>,
    /// Number of objects by result, once the operation is completed. Until then, the OperationRun
    /// has its progress. An object that was as wanted already is one that succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub counts: Option<SummaryCounts>,
    /// Dry runs only: number of objects by what would be done with them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<PlanSummary>,
    /// SHA-256 over what is done and with which objects, 64 hex digits. For a dry run, and what
    /// applies it, also over what each object was like.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub plan_digest: Option<String>,
    /// Objects that failed or were skipped; at most 20. The OperationReports of the run have more.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub failures: Vec<ItemFailure>,
    /// Whether there are more failures than `failures` holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failures_truncated: bool,
    /// Backup set with what was deleted: a restore of it brings that back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub undo_backup_set: Option<String>,
    /// Backup set with what was captured, of the action `capture`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub backup_set: Option<String>,
    /// ConfigMap with what was exported, of the action `export`. It goes with the bulk operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub config_map: Option<String>,
    /// SHA-256 of `objects.yaml` in that ConfigMap, 64 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub config_map_digest: Option<String>,
    /// OperationRun that does the work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_run: Option<ObjectReference>,
    /// Entries of the audit chain: the intent, and the outcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditReferences>,
    /// When the operation was recorded as completed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::date_time")]
    pub completed_at: Option<Timestamp>,
    /// Conditions for kstatus, Flux, Argo CD and `kubectl wait`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for BulkOperationRunStatus {
    fn default() -> Self {
        Self {
            phase: Phase::Queued,
            outcome: Outcome::Pending,
            observed_generation: -1,
            reason: None,
            message: None,
            counts: None,
            preview: None,
            plan_digest: None,
            failures: Vec::new(),
            failures_truncated: false,
            undo_backup_set: None,
            backup_set: None,
            config_map: None,
            config_map_digest: None,
            operation_run: None,
            audit: None,
            completed_at: None,
            conditions: Vec::new(),
        }
    }
}

impl BulkOperationRun {
    /// Returns the status, or that of a bulk operation which the controller has not seen.
    #[must_use]
    pub fn status_or_default(&self) -> BulkOperationRunStatus {
        self.status.clone().unwrap_or_default()
    }

    /// Whether it still has to apply the preview of this name.
    #[must_use]
    pub fn needs_preview(&self, name: &str) -> bool {
        !self.is_completed() && self.spec.preview.as_ref().is_some_and(|preview| preview.name == name)
    }

    /// Whether the bulk operation is completed.
    #[must_use]
    pub fn is_completed(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.phase == Phase::Completed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::CustomResourceExt;
    use serde_json::{Value, json};

    fn schema() -> Value {
        let definition = serde_json::to_value(BulkOperationRun::crd()).expect("JSON");
        definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn a_preview_is_needed_until_what_applies_it_is_completed() {
        let of = |phase: &str| -> BulkOperationRun {
            let spec = json!({"resource": {"kind": "Pod"}, "action": "label", "preview": {"name": "look"}});
            serde_json::from_value(json!({"apiVersion": "tenantatlas.io/v1alpha1", "kind": "BulkOperationRun",
                "metadata": {"name": "a"}, "spec": spec, "status": {"phase": phase}}))
            .expect("a bulk operation")
        };
        assert!(of("queued").needs_preview("look") && of("running").needs_preview("look"));
        assert!(!of("running").needs_preview("other") && !of("completed").needs_preview("look"));
    }

    /// Every field of the spec except `cancel` is in a rule that compares it with its old value.
    #[test]
    fn every_field_of_the_spec_but_cancel_is_immutable() {
        let schema = schema();
        let rules = schema["x-kubernetes-validations"].as_array().expect("rules");
        let rules: Vec<&str> = rules.iter().filter_map(|rule| rule["rule"].as_str()).collect();
        for field in schema["properties"].as_object().expect("properties").keys().filter(|field| *field != "cancel") {
            let compared = format!("self.{field} == oldSelf.{field}");
            assert!(rules.iter().any(|rule| rule.contains(&compared)), "nothing keeps {field} as it was");
        }
    }

    #[test]
    fn names_and_keys_are_sets_and_the_schema_says_what_is_the_default() {
        let properties = &schema()["properties"];
        assert_eq!(properties["items"]["x-kubernetes-list-type"], "set");
        assert_eq!(properties["options"]["properties"]["remove"]["x-kubernetes-list-type"], "set");
        assert_eq!(
            (&properties["parallelism"]["default"], &properties["cancel"]["default"]),
            (&json!(8), &json!(false))
        );
        let actions: Vec<&str> = BulkAction::VARIANTS.iter().map(|action| action.as_str()).collect();
        assert_eq!(properties["action"]["enum"], json!(actions));
    }

    #[test]
    fn a_manifest_reads_with_its_defaults_and_a_misspelt_option_is_refused() {
        let manifest =
            json!({"resource": {"group": "apps", "kind": "Deployment"}, "action": "restart", "items": ["web"]});
        let spec: BulkOperationRunSpec = serde_json::from_value(manifest).expect("a spec");
        assert_eq!((spec.parallelism, spec.stop_after_failures, spec.options, spec.cancel), (8, None, None, false));
        assert_eq!(spec.resource.group_kind(), GroupKind::new("apps", "Deployment"));
        assert!(serde_json::from_value::<BulkOptions>(json!({"replica": 3})).is_err());
        assert!(serde_json::from_value::<BulkResource>(json!({"kind": "Pod", "name": "a"})).is_err());
    }
}
