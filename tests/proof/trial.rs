//! One trial: a tenant, a fault, a story; and what must hold afterwards.

use crate::fault::{Counted, Order, Variant};
use crate::operator::Operator;
use crate::scenario::{Expected, Scenario, Stage};
use crate::support::cluster::{Cluster, environment};
use crate::support::{Tenant, wait_for};
use crate::witness::{MANAGER, Witness};
use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::ApiResource;
use serde_json::json;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tenantatlas::api::OperationType;

/// A trial's name, by which it can be repeated: `scenario:variant:index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) scenario: Scenario,
    pub(crate) variant: Variant,
    pub(crate) index: usize,
}

impl fmt::Display for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.scenario, self.variant, self.index)
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let [scenario, variant, index] = text.split(':').collect::<Vec<_>>()[..] else {
            return Err(format!("{text:?} is not scenario:variant:index, such as submit:lost-dies:2"));
        };
        let index = index.parse().map_err(|error| format!("{index:?} is no number: {error}"))?;
        Ok(Self { scenario: scenario.parse()?, variant: variant.parse()?, index })
    }
}

/// What all trials share.
pub(crate) struct Bench {
    pub(crate) operator: Operator,
    pub(crate) witness: Arc<Witness>,
    cluster: Cluster,
    operation: String,
}

/// A trial whose story is over, until its last look.
pub(crate) struct Played {
    key: Key,
    tenant: Tenant,
    expected: Expected,
    /// What the controller had said by then.
    mark: usize,
    /// The call that was made to fail; none: the story has fewer calls.
    pub(crate) fired: Option<String>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::connect().await;
        let operation = format!("proof.p{:x}", std::process::id());
        let types = Self::types(&cluster);
        let container = json!({ "name": "stub", "image": environment("ATLAS_SHELL_IMAGE") });
        let manifest = json!({
            "apiVersion": "tenantatlas.io/v1alpha1", "kind": "OperationType", "metadata": { "name": operation },
            "spec": { "executor": { "jobTemplate": { "spec": {
                "managedBy": MANAGER, "template": { "spec": { "containers": [container] } },
            }}}},
        });
        let manifest = serde_json::from_value(manifest).expect("a manifest");
        types.create(&PostParams::default(), &manifest).await.expect("an operation type");
        let operator = Operator::start(&cluster).await;
        Self { operator, witness: Witness::start(cluster.client.clone()), cluster, operation }
    }

    fn types(cluster: &Cluster) -> Api<DynamicObject> {
        Api::all_with(cluster.client.clone(), &ApiResource::erase::<OperationType>(&()))
    }

    /// Removes what no tenant holds.
    pub(crate) async fn finish(&self) {
        let deleted = Self::types(&self.cluster).delete(&self.operation, &DeleteParams::default()).await;
        deleted.expect("the operation type can be deleted");
    }

    /// Plays a trial. Panics where something is lost, wrong or stuck.
    pub(crate) async fn play(&self, key: Key) -> Played {
        let story = key.scenario.to_string();
        let order = |tenant: &Tenant| Order {
            namespace: tenant.name.clone(),
            counted: key.scenario.counted(),
            variant: key.variant,
            index: key.index,
        };
        let mark;
        let tenant = match key.scenario.counted() {
            Counted::Work | Counted::Events => {
                let tenant = Tenant::new(&story).await;
                mark = self.operator.mark();
                self.operator.arm(Some(&order(&tenant))).await;
                tenant
            }
            Counted::Accounts => {
                // Held, so that the order is there before the controller sees the namespace.
                self.operator.hold();
                let tenant = Tenant::fresh(&story).await;
                mark = self.operator.mark();
                self.operator.resume(Some(&order(&tenant)));
                tenant
            }
            Counted::Process => {
                let tenant = Tenant::new(&story).await;
                mark = self.operator.restart(Some(&order(&tenant)));
                tenant
            }
        };
        let stage = Stage { tenant: &tenant, witness: &self.witness, operation: &self.operation };
        let expected = stage.play(key.scenario).await;
        self.operator.arm(None).await;
        let fired = self.operator.fired(mark);
        self.agrees(key, &tenant, &expected).await;
        Played { key, tenant, expected, mark: self.operator.mark(), fired }
    }

    /// What was seen is what was expected; what comes late is found by the last look.
    async fn agrees(&self, key: Key, tenant: &Tenant, expected: &Expected) {
        wait_for(&format!("{key}: Jobs and work as expected"), Duration::from_secs(5), async || {
            self.compare(tenant, expected)
        })
        .await;
    }

    fn compare(&self, tenant: &Tenant, expected: &Expected) -> Result<(), String> {
        let place = self.witness.place(&tenant.name);
        let mut faults = place.faults.clone();
        if !expected.jobs.contains(&place.jobs.len()) {
            faults.push(format!("{} Jobs, expected {:?}: {:#?}", place.jobs.len(), expected.jobs, place.jobs));
        }
        let done = |run: &str| place.ledger.iter().filter(|entry| entry.run == run).count();
        for (run, times) in &expected.work {
            if !times.contains(&done(run)) {
                faults.push(format!("the work of {run} was done {} times, expected {times:?}", done(run)));
            }
        }
        for entry in place.ledger.iter().filter(|entry| !expected.work.contains_key(entry.run.as_str())) {
            faults.push(format!("work of nobody: {entry:?}"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }

    /// The last look at trials that were played: a new process looks at everything afresh, and writes nothing; nor did
    /// anybody since each of them ended. Their tenants go.
    pub(crate) async fn settle(&self, played: Vec<Played>) -> Result<(), (Key, String)> {
        let mark = self.operator.restart(None);
        self.operator.settled(mark).await;
        for trial in played {
            let of_trial = format!(" {}/", trial.tenant.name);
            let inside = format!(" in {}", trial.tenant.name);
            let writes = self.operator.writes(trial.mark).into_iter();
            let late: Vec<_> = writes.filter(|line| line.contains(&of_trial) || line.ends_with(&inside)).collect();
            if !late.is_empty() {
                return Err((trial.key, format!("written after all was settled:\n{}", late.join("\n"))));
            }
            self.compare(&trial.tenant, &trial.expected).map_err(|faults| (trial.key, faults))?;
        }
        Ok(())
    }
}
