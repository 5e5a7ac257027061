//! What is read of an object, and how much of it at most.

use crate::api::{backup_set, labels};
use kube::{Resource, ResourceExt};

/// Annotation that exists only on an object as it was read: the paths that were left out because of
/// their size.
pub const LEFT_OUT: &str = "tenantatlas.io/left-out";

pub(super) const METADATA: [&str; 10] = [
    "name",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "ownerReferences",
    "labels",
    "annotations",
];

pub(super) const LABELS: [&str; 12] = [
    labels::WORKSPACE,
    labels::TEMPLATE,
    labels::IDENTITY,
    labels::TYPE,
    labels::TRIGGER,
    labels::INITIATOR,
    labels::OUTCOME,
    labels::RUN_UID,
    labels::LEASED,
    labels::MANAGED_BY,
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/controller-uid",
];

pub(super) const ANNOTATIONS: [&str; 9] = [
    labels::OPERATION_RUN,
    labels::RUN_NOW,
    labels::REPOSITORY_GENERATION,
    labels::REPOSITORY_CHECKED,
    labels::MOUNTABLE_SECRETS,
    backup_set::TAKEN_AT,
    backup_set::ITEMS,
    backup_set::BYTES,
    backup_set::ADDED_BYTES,
];

/// Paths within an object that no code reads, by resource.
pub(super) const UNREAD: [(&str, &[&[&str]]); 13] = [
    (
        "pods",
        &[
            &["spec", "containers", "[]", "env", "[]", "value"],
            &["spec", "initContainers", "[]", "env", "[]", "value"],
            &["spec", "affinity"],
            &["spec", "tolerations"],
        ],
    ),
    (
        "jobs.batch",
        &[
            &["spec", "template", "metadata"],
            &["spec", "template", "spec", "containers"],
            &["spec", "template", "spec", "volumes"],
            &["spec", "template", "spec", "initContainers", "[]", "env"],
            &["spec", "template", "spec", "initContainers", "[]", "command"],
            &["spec", "template", "spec", "initContainers", "[]", "args"],
        ],
    ),
    // The groups are for the worker, which reviews permissions. A user may be in a hundred.
    ("operationruns.tenantatlas.io", &[&["metadata", "annotations"], &["spec", "initiator", "groups"]]),
    ("restoreruns.tenantatlas.io", &[&["metadata", "annotations"]]),
    ("bulkoperationruns.tenantatlas.io", &[&["metadata", "annotations"]]),
    ("approvals.tenantatlas.io", &[&["metadata", "annotations"], &["spec", "note"]]),
    // What an event tells of the evidence is its first path.
    (
        "findings.tenantatlas.io",
        &[
            &["metadata", "annotations"],
            &["spec", "evidence", "[]", "before"],
            &["spec", "evidence", "[]", "after"],
            &["spec", "evidence", "[]", "manager"],
            &["spec", "evidence", "[]", "operation"],
            &["spec", "evidence", "[]", "at"],
            &["spec", "evidence", "[]", "run"],
            &["spec", "evidence", "[]", "initiator"],
            &["spec", "acknowledged", "note"],
            &["spec", "acknowledged", "by"],
        ],
    ),
    ("importedruns.tenantatlas.io", &[&["metadata", "annotations"]]),
    // Of other systems' records: how something is backed up, and which objects of a namespace.
    ("backups.velero.io", &OF_VELERO_RUNS),
    ("restores.velero.io", &OF_VELERO_RUNS),
    (
        "schedules.velero.io",
        &[
            &["spec", "template", "hooks"],
            &["spec", "template", "labelSelector"],
            &["spec", "template", "orLabelSelectors"],
            &["spec", "template", "metadata"],
            &["spec", "template", "includedResources"],
            &["spec", "template", "excludedResources"],
            &["spec", "template", "includedClusterScopedResources"],
            &["spec", "template", "excludedClusterScopedResources"],
            &["spec", "template", "includedNamespaceScopedResources"],
            &["spec", "template", "excludedNamespaceScopedResources"],
            &["spec", "template", "orderedResources"],
        ],
    ),
    ("backups.k8up.io", &[&["spec"]]),
    ("schedules.k8up.io", &[&["spec"]]),
];

const OF_VELERO_RUNS: [&[&str]; 14] = [
    &["spec", "hooks"],
    &["spec", "labelSelector"],
    &["spec", "orLabelSelectors"],
    &["spec", "metadata"],
    &["spec", "includedResources"],
    &["spec", "excludedResources"],
    &["spec", "includedClusterScopedResources"],
    &["spec", "excludedClusterScopedResources"],
    &["spec", "includedNamespaceScopedResources"],
    &["spec", "excludedNamespaceScopedResources"],
    &["spec", "orderedResources"],
    &["spec", "restoreStatus"],
    &["status", "progress"],
    &["status", "hookStatus"],
];

/// Maximum sizes in bytes of JSON: of an object, and of values at each depth in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of the whole object.
    pub object: usize,
    /// Of a member of the object, such as `spec`.
    pub section: usize,
    /// Of a member of that, such as `spec.inputs`.
    pub field: usize,
    /// Of any deeper value.
    pub value: usize,
}

const KIB: usize = 1024;

/// Limits of cached objects, of which there may be tens of thousands: ten thousand of the largest
/// leave room in the memory that the chart gives the operator. A section has room for as many
/// fields as any kind has, so that no author can push out `status.phase` with what precedes it.
pub const HELD: Limits = Limits { object: 32 * KIB, section: 16 * KIB, field: 3 * KIB, value: 2 * KIB };

/// Limits of restores, bulk operations and schedules, which have many fields that may be large, and which few passes
/// read again.
pub(super) const OF_ORDERS: Limits =
    Limits { object: 32 * KIB, section: 16 * KIB, field: 3 * KIB / 2, value: 3 * KIB / 2 };

/// Limits of other systems' records, of which a few fields are read and nothing is held. A list of a
/// hundred namespaces has room.
pub(super) const OF_RECORDS: Limits = Limits { object: 32 * KIB, section: 16 * KIB, field: 8 * KIB, value: 7 * KIB };

/// Limits of Jobs and pods, which only the operator creates. A pod's messages may need some room.
pub(super) const OF_WORK: Limits = Limits { object: 192 * KIB, section: 128 * KIB, field: 96 * KIB, value: 96 * KIB };

/// Limits of operation types and workspaces.
pub const OF_TYPES: Limits = Limits { object: 160 * KIB, section: 128 * KIB, field: 64 * KIB, value: 64 * KIB };

/// Limits of one object that is fetched.
pub const READ: Limits = Limits { object: 640 * KIB, section: 512 * KIB, field: 256 * KIB, value: 256 * KIB };

/// Limit of everything around objects, such as a list's own metadata or the API server's refusal.
pub(super) const AROUND: usize = 32 * KIB;

/// What was left out of an object because of its size, as paths separated by commas.
pub fn left_out<K: Resource>(object: &K) -> Option<&str> {
    object.annotations().get(LEFT_OUT).map(String::as_str)
}
