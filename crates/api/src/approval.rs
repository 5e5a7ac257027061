//! `Approval`: a second person's consent to one plan, and who needs one.
//!
//! Each field has one writer: the approver writes `spec`, and admission writes `spec.approvedBy`. An
//! approval has no status: what waits for it says whether it counts.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// How long an approval counts if nothing says otherwise, in seconds.
pub const DEFAULT_VALID_SECONDS: i64 = 24 * 60 * 60;

/// Consent to the plan of one restore, bulk operation or workspace run. Immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "Approval",
    plural = "approvals",
    shortname = "appr",
    category = "atlas",
    namespaced,
    derive = "PartialEq",
    doc = "A second person's consent to the plan of one RestoreRun, BulkOperationRun or WorkspaceRun that waits with the reason AwaitingApproval. Its name is that of what it approves, after `restorerun-`, `bulkoperationrun-` or `workspacerun-`. It takes the verb `approve` on the operation type; for a WorkspaceRun, on the workspace, and the approval is in the namespace of the operator. To approve another plan, or to withdraw, delete it.",
    printcolumn(name = "Kind", type_ = "string", json_path = ".spec.for.kind"),
    printcolumn(name = "For", type_ = "string", json_path = ".spec.for.name"),
    printcolumn(name = "ApprovedBy", type_ = "string", json_path = ".spec.approvedBy.username"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Plan", type_ = "string", json_path = ".spec.planDigest", priority = "1"),
    printcolumn(name = "Note", type_ = "string", json_path = ".spec.note", priority = "1"),
    validation = Rule::new("self.metadata.name == (self.spec.__for__.kind == 'RestoreRun' ? 'restorerun-' : self.spec.__for__.kind == 'WorkspaceRun' ? 'workspacerun-' : 'bulkoperationrun-') + self.spec.__for__.name").message("the name of an approval is that of what it approves, after restorerun-, bulkoperationrun- or workspacerun-: there is at most one for each").reason(Reason::FieldValueInvalid),
)]
#[x_kube(
    validation = Rule::new("self == oldSelf").message("an approval is immutable: delete it, and create another one"),
)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalSpec {
    /// What is approved.
    #[serde(rename = "for")]
    pub approves: Approved,
    /// Digest of the plan that is approved: `status.planDigest` of what waits. If what would be done
    /// changes, so does the digest, and the approval no longer counts.
    #[schemars(length(min = 64, max = 64), regex(pattern = r"^[0-9a-f]{64}$"))]
    pub plan_digest: String,
    /// Why it is approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000))]
    pub note: Option<String>,
    /// Authenticated user who approves. Admission sets it, whatever the author writes. On Kubernetes
    /// before 1.36 the author writes it, and admission rejects any other user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved_by: Option<Approver>,
}

/// The one object that an approval is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(self.kind == 'WorkspaceRun') == has(self.workspace)").message("name the workspace of a WorkspaceRun in workspace, and leave it out for other kinds"))]
pub struct Approved {
    /// Its kind.
    pub kind: ApprovedKind,
    /// Its name.
    #[schemars(length(min = 1, max = 180), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: String,
    /// Its uid: another object of the same name is not approved.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// The workspace in whose tenants a WorkspaceRun does its work. Who approves needs the verb
    /// `approve` on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub workspace: Option<String>,
}

/// A kind that can need an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantArray)]
pub enum ApprovedKind {
    /// A restore.
    RestoreRun,
    /// A bulk operation.
    BulkOperationRun,
    /// Bulk operations or restores in all tenants of a workspace.
    WorkspaceRun,
}

impl ApprovedKind {
    /// Returns the value as written in manifests.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// Resource and name of the object on which the verb `approve` allows to approve an object of this
    /// kind. Admission does not know what the object does. `workspace` is that of a workspace run.
    #[must_use]
    pub fn approved_on(self, workspace: &str) -> String {
        let of_type = |operation: ApprovedType| format!("operationtypes.tenantatlas.io/{}", operation.as_str());
        match self {
            Self::RestoreRun => of_type(ApprovedType::Restore),
            Self::BulkOperationRun => of_type(ApprovedType::Bulk),
            Self::WorkspaceRun => format!("workspaces.tenantatlas.io/{workspace}"),
        }
    }

    /// Name of the approval for an object of this kind.
    #[must_use]
    pub fn approval_of(self, name: &str) -> String {
        format!("{}-{name}", self.as_str().to_ascii_lowercase())
    }
}

/// An authenticated user who approves. The audit chain names them, so the lengths are bounded more
/// tightly than those of a requester.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approver {
    /// Name of the user.
    #[schemars(length(min = 1, max = 340))]
    pub username: String,
    /// Uid of the user, if the authenticator provides one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,
}

/// An approval that was given, as the run and the audit chain name it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Consent {
    /// Name of the Approval.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Uid of the Approval.
    #[schemars(length(min = 1, max = 64))]
    pub uid: String,
    /// Digest of the plan that was approved.
    #[schemars(length(min = 64, max = 64))]
    pub plan_digest: String,
    /// Who approved.
    pub approved_by: Approver,
    /// Name of the WorkspaceRun that was approved as a whole, if so: the Approval is then in the
    /// namespace of the operator, and is of the plans of all tenants. `planDigest` is this tenant's
    /// part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub workspace_run: Option<String>,
}

/// Whether a restore, a bulk operation or a workspace run needs an approval by its own field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalTerms {
    /// Whether somebody else must approve the plan before anything is written. Defaults to true.
    #[serde(default = "yes")]
    pub required: bool,
    /// Seconds for which an approval counts, from its creation. Defaults to 86400. A rule of the
    /// workspace can only shorten this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub valid_seconds: Option<i64>,
}

fn yes() -> bool {
    true
}

/// A rule of a workspace: which restores and bulk operations of its tenants need an approval, alone
/// or by a workspace run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ApprovalRule {
    /// Operation types that the rule applies to.
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub types: Vec<ApprovedType>,
    /// The rule applies only to plans that change at least so many items; of a workspace run, in all
    /// tenants together. Defaults to 1, which is every plan that changes anything.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_items: i64,
    /// Seconds for which an approval counts, from its creation. Defaults to 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 2_592_000))]
    pub valid_seconds: Option<i64>,
}

fn one() -> i64 {
    1
}

/// An operation type whose runs can need an approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, VariantArray)]
pub enum ApprovedType {
    /// Restores that are not dry runs.
    #[serde(rename = "restore.apply")]
    Restore,
    /// Bulk operations that are not dry runs, those that delete included.
    #[serde(rename = "bulk.apply")]
    Bulk,
    /// Bulk operations that delete.
    #[serde(rename = "bulk.delete")]
    BulkDelete,
}

impl ApprovedType {
    /// Name of the operation type.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Restore => crate::operations::APPLY,
            Self::Bulk => crate::operations::BULK,
            Self::BulkDelete => crate::operations::BULK_DELETE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::CustomResourceExt;
    use serde_json::{Value, json};

    #[test]
    fn the_name_is_that_of_what_is_approved_after_its_kind_as_the_rule_of_the_kind_says() {
        let definition = serde_json::to_value(Approval::crd()).expect("JSON");
        let rules = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["x-kubernetes-validations"].clone();
        let rule = rules[0]["rule"].as_str().expect("a rule");
        for kind in ApprovedKind::VARIANTS {
            let prefix = kind.approval_of("");
            assert!(rule.contains(&format!("'{prefix}'")), "{rule}");
            assert_eq!(kind.approval_of("put-back"), format!("{prefix}put-back"));
        }
    }

    #[test]
    fn a_type_is_spelled_as_in_the_catalog() {
        for known in ApprovedType::VARIANTS {
            assert_eq!(serde_json::to_value(known).expect("JSON"), json!(known.as_str()));
        }
    }

    #[test]
    fn an_approval_is_required_by_the_field_alone_and_a_rule_applies_to_any_change() {
        let terms: ApprovalTerms = serde_json::from_value(json!({})).expect("terms");
        assert_eq!(terms, ApprovalTerms { required: true, valid_seconds: None });
        let rule: ApprovalRule = serde_json::from_value(json!({"types": ["bulk.apply"]})).expect("a rule");
        assert_eq!((rule.types, rule.min_items, rule.valid_seconds), (vec![ApprovedType::Bulk], 1, None));
        assert!(serde_json::from_value::<ApprovalRule>(json!({"types": ["backup.capture"]})).is_err());
    }

    #[test]
    fn an_approval_reads_and_is_written_with_the_fields_of_its_manifest() {
        let manifest = json!({"for": {"kind": "RestoreRun", "name": "put-back", "uid": "u"}, "planDigest": "0".repeat(64),
            "approvedBy": {"username": "bob", "groups": ["devs"]}});
        let spec: ApprovalSpec = serde_json::from_value(manifest).expect("a spec");
        assert_eq!(spec.approves.kind, ApprovedKind::RestoreRun);
        let written: Value = serde_json::to_value(&spec).expect("JSON");
        assert_eq!(written["for"]["name"], "put-back");
        assert_eq!(written["approvedBy"], json!({"username": "bob"}), "no groups are kept");
    }
}
