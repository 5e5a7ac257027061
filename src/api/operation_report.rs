//! `OperationReport`: per-item results too large for a status, in chunks, owned by their run.

use crate::api::{ObjectReference, operation_run::ItemFailure};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// The most items in one report.
pub const MAX_ITEMS: usize = 500;

/// The most bytes of one report as JSON.
pub const MAX_BYTES: usize = 256 * 1024;

/// One chunk of a run's per-item results. Immutable.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "OperationReport",
    plural = "operationreports",
    shortname = "oprep",
    category = "atlas",
    namespaced,
    derive = "PartialEq",
    doc = "One chunk of a run's per-item results: at most 500 items and 256 KiB. It belongs to its run and goes with it.",
    selectable = ".spec.run.name",
    printcolumn(name = "Run", type_ = "string", json_path = ".spec.run.name"),
    printcolumn(name = "Chunk", type_ = "integer", json_path = ".spec.chunk"),
    printcolumn(name = "Chunks", type_ = "integer", json_path = ".spec.chunks"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a report is immutable"))]
#[serde(rename_all = "camelCase")]
pub struct OperationReportSpec {
    /// The run it belongs to.
    pub run: ObjectReference,
    /// Its place in the run's reports, from 0.
    #[schemars(range(min = 0))]
    pub chunk: i32,
    /// How many reports the run has.
    #[schemars(range(min = 1))]
    pub chunks: i32,
    /// The items, in the order of their ids.
    #[schemars(length(max = 500))]
    pub items: Vec<ItemFailure>,
}
