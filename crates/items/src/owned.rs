//! Fields that the server owns: a restore does not take them from a backup, except in the cases of
//! [`Kept`].
//!
//! These fields have no meaning elsewhere (a uid), are allocated by the cluster (an address), or
//! are maintained by a controller. The guide `docs/guides/what-is-restored.md` contains the same
//! table (checked by a test in [`super::sanitize`]).

use crate::{canonical::TOKEN_SECRET, semantic::Status};
use serde_json::Value;

/// A field that the server owns.
#[derive(Clone, Copy, Debug)]
pub struct OwnedField {
    /// API group of the kind; `*` for every kind.
    pub group: &'static str,
    /// Kind; `*` for every kind.
    pub kind: &'static str,
    /// The field: `a.b`, `a.list[]` for each element, `a.map[key]`, `a.list[name=prefix*]` for the
    /// elements whose name starts with the prefix.
    pub field: &'static str,
    /// When the value from the backup is used after all.
    pub kept: Kept,
    /// Who fills in the field if the object exists.
    pub existing: Existing,
    /// Why the server owns the field.
    pub why: &'static str,
}

/// When a field is restored from the backup after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Never.
    Never,
    /// The Service is headless: its address is `None`.
    Headless,
    /// A user chose the value: it is in the annotation that `kubectl apply` writes, or in the
    /// managed fields.
    Applied,
    /// The author chose the volume: the claim is not marked as bound by a controller.
    ChosenVolume,
    /// The author chose the selector, with `manualSelector: true`.
    ManualSelector,
    /// The Secret is of a type into which the cluster puts no ServiceAccount token.
    NoToken,
    /// The kind has no `status` subresource, so the status is a field like any other.
    Data,
}

impl OwnedField {
    /// Whether objects of a kind have the field.
    pub(super) fn is_of(&self, group: &str, kind: &str) -> bool {
        self.kind == "*" || (self.group == group && self.kind == kind)
    }
}

impl Kept {
    /// Description for people; empty for [`Self::Never`].
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Never => "",
            Self::Headless => "where it is `None`",
            Self::Applied => "where somebody chose it",
            Self::ChosenVolume => "where the author named the volume",
            Self::ManualSelector => "with `manualSelector: true`",
            Self::NoToken => "in a Secret of another type than `kubernetes.io/service-account-token`",
            Self::Data => "where the kind has no subresource `status`",
        }
    }

    pub(super) fn holds(self, object: &Value, status: Status) -> bool {
        match self {
            Self::Data => status == Status::Data,
            // Node ports are decided one by one: see `ChosenPorts`.
            Self::Never | Self::Applied => false,
            Self::Headless => object["spec"]["clusterIP"] == "None",
            Self::ChosenVolume => object["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"].is_null(),
            Self::ManualSelector => object["spec"]["manualSelector"] == true,
            Self::NoToken => object["type"] != TOKEN_SECRET,
        }
    }
}

/// Who fills in a field of an object that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// The API server fills it in by itself.
    Server,
    /// The restore writes back the live value. Without it, the API server would refuse the update,
    /// or a controller would start over.
    Live,
}

const fn server(
    group: &'static str,
    kind: &'static str,
    field: &'static str,
    kept: Kept,
    why: &'static str,
) -> OwnedField {
    OwnedField { group, kind, field, kept, existing: Existing::Server, why }
}

const fn live(
    group: &'static str,
    kind: &'static str,
    field: &'static str,
    kept: Kept,
    why: &'static str,
) -> OwnedField {
    OwnedField { group, kind, field, kept, existing: Existing::Live, why }
}

const IDENTITY: &str = "of one object in one cluster";
const DELETION: &str = "a deletion under way";
const BINDING: &str = "made when the claim was bound to a volume";
const GENERATED: &str = "generated with the uid of the Job";
const TOKEN: &str = "filled in by the cluster, with a token of the ServiceAccount";
const INJECTED: &str = "put in by admission when the Pod was made";

/// All fields that the server owns, in no particular order.
pub const OWNED_FIELDS: &[OwnedField] = &[
    server("*", "*", "metadata.uid", Kept::Never, IDENTITY),
    server("*", "*", "metadata.resourceVersion", Kept::Never, IDENTITY),
    server("*", "*", "metadata.generation", Kept::Never, IDENTITY),
    server("*", "*", "metadata.creationTimestamp", Kept::Never, IDENTITY),
    server("*", "*", "metadata.selfLink", Kept::Never, IDENTITY),
    server("*", "*", "metadata.managedFields", Kept::Never, "who last set which field"),
    server("*", "*", "metadata.deletionTimestamp", Kept::Never, DELETION),
    server("*", "*", "metadata.deletionGracePeriodSeconds", Kept::Never, DELETION),
    live(
        "*",
        "*",
        "metadata.finalizers",
        Kept::Never,
        "the promise of a controller that may not be there; it puts it back",
    ),
    server("*", "*", "status", Kept::Data, "observed, not wished for"),
    server("", "Service", "spec.clusterIP", Kept::Headless, "handed out by the cluster"),
    server("", "Service", "spec.clusterIPs", Kept::Headless, "handed out by the cluster"),
    server("", "Service", "spec.ports[].nodePort", Kept::Applied, "handed out by the cluster"),
    server("", "Service", "spec.healthCheckNodePort", Kept::Applied, "handed out by the cluster"),
    live("", "PersistentVolumeClaim", "spec.volumeName", Kept::ChosenVolume, BINDING),
    live("", "PersistentVolumeClaim", "metadata.annotations[pv.kubernetes.io/bind-completed]", Kept::Never, BINDING),
    live(
        "",
        "PersistentVolumeClaim",
        "metadata.annotations[pv.kubernetes.io/bound-by-controller]",
        Kept::Never,
        BINDING,
    ),
    live(
        "",
        "PersistentVolumeClaim",
        "metadata.annotations[volume.kubernetes.io/storage-provisioner]",
        Kept::Never,
        BINDING,
    ),
    live(
        "",
        "PersistentVolumeClaim",
        "metadata.annotations[volume.beta.kubernetes.io/storage-provisioner]",
        Kept::Never,
        BINDING,
    ),
    live("", "PersistentVolumeClaim", "metadata.annotations[volume.kubernetes.io/selected-node]", Kept::Never, BINDING),
    live("", "Secret", "data[token]", Kept::NoToken, TOKEN),
    live("", "Secret", "data[ca.crt]", Kept::NoToken, TOKEN),
    live("", "Secret", "data[namespace]", Kept::NoToken, TOKEN),
    live("", "Secret", "metadata.annotations[kubernetes.io/service-account.uid]", Kept::NoToken, TOKEN),
    live("", "Secret", "metadata.labels[kubernetes.io/legacy-token-last-used]", Kept::NoToken, TOKEN),
    live("", "ServiceAccount", "secrets[name=<name>-token-*]", Kept::Never, "tokens made by the cluster"),
    live("batch", "Job", "spec.selector", Kept::ManualSelector, GENERATED),
    live("batch", "Job", "metadata.labels[controller-uid]", Kept::ManualSelector, GENERATED),
    live("batch", "Job", "metadata.labels[batch.kubernetes.io/controller-uid]", Kept::ManualSelector, GENERATED),
    live("batch", "Job", "spec.template.metadata.labels[controller-uid]", Kept::ManualSelector, GENERATED),
    live(
        "batch",
        "Job",
        "spec.template.metadata.labels[batch.kubernetes.io/controller-uid]",
        Kept::ManualSelector,
        GENERATED,
    ),
    live(
        "batch",
        "Job",
        "metadata.annotations[batch.kubernetes.io/job-tracking]",
        Kept::Never,
        "kept by the Job controller",
    ),
    live("", "Pod", "spec.nodeName", Kept::Never, "chosen by the scheduler"),
    live("", "Pod", "spec.priority", Kept::Never, "follows from the priority class"),
    live("", "Pod", "spec.preemptionPolicy", Kept::Never, "follows from the priority class"),
    live("", "Pod", "spec.overhead", Kept::Never, "follows from the runtime class"),
    live("", "Pod", "spec.ephemeralContainers", Kept::Never, "added for debugging; refused in a new Pod"),
    live("", "Pod", "spec.volumes[name=kube-api-access-*]", Kept::Never, INJECTED),
    live("", "Pod", "spec.containers[].volumeMounts[name=kube-api-access-*]", Kept::Never, INJECTED),
    live("", "Pod", "spec.initContainers[].volumeMounts[name=kube-api-access-*]", Kept::Never, INJECTED),
    live(
        "apps",
        "Deployment",
        "metadata.annotations[deployment.kubernetes.io/revision]",
        Kept::Never,
        "counted by the Deployment controller",
    ),
    live(
        "apps",
        "DaemonSet",
        "metadata.annotations[deprecated.daemonset.template.generation]",
        Kept::Never,
        "counted by the API server",
    ),
];
