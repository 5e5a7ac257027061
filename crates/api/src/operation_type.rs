//! `OperationType`: an entry of the operation catalog.
//!
//! Each field has one writer: the administrator writes `spec`, and the controller writes `status`.

use k8s_openapi::{api::batch::v1::JobTemplateSpec, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Seconds that a run may take if neither the run nor its type sets a timeout.
pub const DEFAULT_TIMEOUT_SECONDS: i64 = 3600;

/// Completed runs to keep per tenant and type, if the type does not set a limit.
pub const DEFAULT_HISTORY_LIMIT: i32 = 100;

/// What can be run, how, with which inputs, and how much of it at once.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "tenantatlas.io",
    version = "v1alpha1",
    kind = "OperationType",
    plural = "operationtypes",
    shortname = "optype",
    category = "atlas",
    status = "OperationTypeStatus",
    derive = "PartialEq",
    doc = "An entry of the operation catalog: what can be run on a tenant, by which executor, with which inputs. RBAC decides who may start it: the verb `run` on `operationtypes/<name>`.",
    printcolumn(name = "Label", type_ = "string", json_path = ".spec.label"),
    printcolumn(name = "Scope", type_ = "string", json_path = ".spec.scope"),
    printcolumn(name = "Read-Only", type_ = "boolean", json_path = ".spec.readOnly"),
    printcolumn(name = "Expected", type_ = "integer", json_path = ".spec.expectedDurationSeconds", description = "Seconds a run usually takes"),
    printcolumn(name = "Suspended", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description", priority = "1"),
    validation = Rule::new("self.metadata.name.size() <= 63").message("the name of an operation type is at most 63 characters").reason(Reason::FieldValueInvalid),
)]
#[serde(rename_all = "camelCase")]
pub struct OperationTypeSpec {
    /// Short, human-readable name.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub label: String,
    /// What the operation does, in one or two sentences.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub description: String,
    /// Whether a run is about one tenant (`Tenant`, the default) or a whole workspace.
    #[serde(default)]
    pub scope: Scope,
    /// Seconds that a run usually takes, for display and for alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub expected_duration_seconds: Option<i64>,
    /// Seconds that a run may take from the start of its Job. Defaults to 3600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub timeout_seconds: Option<i64>,
    /// Number of times a failed pod is retried. Exit codes 40-49 are never retried. Defaults to 0.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub retries: i32,
    /// Whether a run changes nothing in the tenant. The built-in worker then runs as
    /// `tenantatlas-worker`, or as `tenantatlas-preview` for dry runs, and not as
    /// `tenantatlas-restore`. Defaults to false.
    #[serde(default)]
    pub read_only: bool,
    /// JSON schema (draft 2020-12) for the inputs of a run. A run whose inputs do not match is
    /// `blocked` (InvalidInputs).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_any_object")]
    pub inputs_schema: Option<Map<String, Value>>,
    /// Which inputs make two runs the same work. Defaults to all inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityInputs>,
    /// Maximum number of active runs of the type. Runs beyond a limit wait.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Completed runs to keep per tenant. Defaults to 100. The newest run of each outcome is exempt
    /// from this limit. A run that was created for a RestoreRun or a BulkOperationRun is deleted
    /// together with it. Both are kept while another one that is not completed names it in `preview`
    /// or `rerunOf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub history_limit: Option<i32>,
    /// Seconds after completion at which a run and its Job are deleted. If unset, only
    /// `historyLimit` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// What does the work: exactly one of `worker` and `jobTemplate`.
    pub executor: Executor,
    /// Whether new runs are rejected (`blocked`, TypeSuspended). Active runs continue. Defaults to
    /// false.
    #[serde(default)]
    pub suspend: bool,
}

/// Whether runs of the type can be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationTypeStatus {
    /// Generation of the spec that this status describes; -1 before the controller has seen the
    /// type.
    pub observed_generation: i64,
    /// `Ready` is True if `inputsSchema` compiles and a Job can be built from the executor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for OperationTypeStatus {
    fn default() -> Self {
        Self { observed_generation: -1, conditions: Vec::new() }
    }
}

/// Scope of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Scope {
    /// One tenant.
    #[default]
    Tenant,
    /// All tenants of a workspace.
    Workspace,
}

/// Which inputs make two runs the same work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IdentityInputs {
    /// JSON pointers into the inputs, such as `/repository`. If empty, no input counts.
    #[schemars(length(max = 64), inner(length(max = 256), regex(pattern = r"^/")))]
    pub inputs: Vec<String>,
}

/// Maximum number of active runs of a type. If unset, there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// Limit per tenant. If unset, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_tenant: Option<i32>,
    /// Limit for the whole cluster. If unset, there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub total: Option<i32>,
}

/// What does the work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.worker), has(self.jobTemplate)].filter(given, given).size() == 1").message("executor takes exactly one of worker and jobTemplate"))]
pub struct Executor {
    /// The built-in worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerExecutor>,
    /// Job template with any image. Each container of the pod gets the `ATLAS_*` variables. The
    /// container named `worker`, or else the first, may write a result to its termination message.
    /// Labels pass through to the Job (a Kueue queue name, for example).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_any_object")]
    pub job_template: Option<JobTemplateSpec>,
}

/// A command of the built-in worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerExecutor {
    /// Arguments after `tenantatlas worker`, such as `["capture"]`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub command: Vec<String>,
}
