//! `OperationType`: an entry of the catalog of what can be run.
//!
//! Writers, one for each field: the administrator writes `spec`; the controller writes `status`.

use k8s_openapi::{api::batch::v1::JobTemplateSpec, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Seconds a run of a type may take where neither says.
pub const DEFAULT_TIMEOUT_SECONDS: i64 = 3600;

/// Completed runs kept for each tenant and type where the type does not say.
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
    doc = "An entry of the catalog: what can be run on a tenant, by which executor, with which inputs. Who may start it is RBAC: the verb `run` on `operationtypes/<name>`.",
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
    /// A short name for people.
    #[serde(default)]
    #[schemars(length(max = 100))]
    pub label: String,
    /// What it does, in a sentence or two.
    #[serde(default)]
    #[schemars(length(max = 2000))]
    pub description: String,
    /// Whether a run is about one tenant or a whole workspace.
    #[serde(default)]
    pub scope: Scope,
    /// Seconds a run usually takes; for display and for alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub expected_duration_seconds: Option<i64>,
    /// Seconds a run may take from the start of its Job; 3600 where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 31_536_000))]
    pub timeout_seconds: Option<i64>,
    /// How often a failed pod is tried again. Exit codes 40-49 are never tried again.
    #[serde(default)]
    #[schemars(range(min = 0, max = 20))]
    pub retries: i32,
    /// Whether a run changes nothing in the tenant. A worker of such a type runs under the account that may only read.
    #[serde(default)]
    pub read_only: bool,
    /// JSON schema (draft 2020-12) that a run's inputs must fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_any_object")]
    pub inputs_schema: Option<Map<String, Value>>,
    /// Which inputs make two runs the same work; all of them where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<IdentityInputs>,
    /// How many runs of the type may be active at once.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Completed runs kept for each tenant; 100 where left out. The newest run of each outcome always stays. A run that was
    /// made for a RestoreRun goes together with it, and not while another that is not completed names that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub history_limit: Option<i32>,
    /// Seconds after its end at which a completed run and its Job are deleted; kept by `historyLimit` alone where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 31_536_000))]
    pub ttl_seconds_after_finished: Option<i32>,
    /// Who does the work: exactly one of `worker` and `jobTemplate`.
    pub executor: Executor,
    /// Whether new runs are refused (`blocked`, TypeSuspended). Active ones go on.
    #[serde(default)]
    pub suspend: bool,
}

/// Whether runs of the type can be started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OperationTypeStatus {
    /// Generation of the spec this status speaks of; -1 before the controller has seen the type.
    pub observed_generation: i64,
    /// `Ready`: `inputsSchema` compiles, and the executor can be made a Job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub conditions: Vec<Condition>,
}

impl Default for OperationTypeStatus {
    fn default() -> Self {
        Self { observed_generation: -1, conditions: Vec::new() }
    }
}

/// What a run of a type is about.
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
    /// JSON pointers into the inputs, such as `/repository`. Empty: no input counts.
    #[schemars(length(max = 64), inner(length(max = 256), regex(pattern = r"^/")))]
    pub inputs: Vec<String>,
}

/// How many runs of a type may be active at once; left out: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Concurrency {
    /// In one tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub per_tenant: Option<i32>,
    /// In the whole cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub total: Option<i32>,
}

/// Who does the work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.worker), has(self.jobTemplate)].filter(given, given).size() == 1").message("executor takes exactly one of worker and jobTemplate"))]
pub struct Executor {
    /// Our own worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerExecutor>,
    /// Any image: the first container gets `ATLAS_*` and may write a result to its termination message.
    /// Labels pass through to the Job (a Kueue queue name, say).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::optional_any_object")]
    pub job_template: Option<JobTemplateSpec>,
}

/// A command of our own worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkerExecutor {
    /// Arguments after `tenantatlas worker`, such as `["capture"]`.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 253)))]
    pub command: Vec<String>,
}
