//! One trial: a tenant, a fault, a story; and what must hold afterwards.

use crate::fault::{Counted, Order, Variant};
use crate::operator::Operator;
use crate::scenario::{Expected, IN_TIME, Scenario, Stage};
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

/// A part of a trial's name: one trial, or all whose names begin so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Selector {
    pub(crate) scenario: Scenario,
    pub(crate) variant: Option<Variant>,
    pub(crate) index: Option<usize>,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split(':');
        let scenario = words.next().unwrap_or_default().parse()?;
        let variant = words.next().map(str::parse).transpose()?;
        let index = words.next().map(str::parse).transpose();
        let index = index.map_err(|error| format!("{text:?} is not scenario:variant:index: {error}"))?;
        Ok(Self { scenario, variant, index })
    }
}

impl Selector {
    pub(crate) fn selects(&self, scenario: Scenario, variant: Variant) -> bool {
        self.scenario == scenario && self.variant.is_none_or(|own| own == variant)
    }
}

/// What all trials share.
pub(crate) struct Bench {
    pub(crate) operator: Operator,
    pub(crate) witness: Arc<Witness>,
    pub(crate) cluster: Cluster,
    pub(crate) operation: String,
}

/// A trial whose story is over, until its last look.
pub(crate) struct Played {
    pub(crate) key: Key,
    pub(crate) tenants: Vec<Tenant>,
    /// Of each tenant.
    pub(crate) expected: Vec<Expected>,
    /// What the controller had said by then.
    pub(crate) mark: usize,
    /// The call that was made to fail; none: the story has fewer calls.
    pub(crate) fired: Option<String>,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::connect().await;
        let operator = Operator::start(&cluster, "proof", None).await;
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
        let controller = cluster.as_user("system:kube-controller-manager", &["system:masters"]);
        Self { operator, witness: Witness::start(cluster.client.clone(), controller), cluster, operation }
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
    pub(crate) async fn play(&self, key: Key) -> Vec<Played> {
        if Variant::OF_A_LEADER.contains(&key.variant) {
            vec![self.play_with_two_leaders(key).await]
        } else if Variant::OF_THE_SERVER.contains(&key.variant) {
            self.play_without_server(key).await
        } else if Variant::OF_A_VIEW.contains(&key.variant) {
            vec![self.play_in_the_past(key).await]
        } else {
            vec![self.play_with_a_fault(key).await]
        }
    }

    async fn play_with_a_fault(&self, key: Key) -> Played {
        let order = |tenants: &[Tenant]| Order { counted: key.scenario.counted(), ..order(key, tenants) };
        let mark;
        let tenants = match key.scenario.counted() {
            Counted::Work | Counted::Events => {
                let tenants = tenants(key.scenario).await;
                mark = self.operator.mark();
                self.operator.arm(Some(&order(&tenants))).await;
                tenants
            }
            Counted::Accounts => {
                // Held, so that the order is there before the controller sees the namespace.
                self.operator.hold();
                let tenants = vec![Tenant::fresh(&key.scenario.to_string()).await];
                mark = self.operator.mark();
                self.operator.resume(Some(&order(&tenants)));
                tenants
            }
            Counted::Worker | Counted::Store => panic!("{key} is not about the controller"),
            Counted::Process => {
                let tenants = tenants(key.scenario).await;
                mark = self.operator.restart(Some(&order(&tenants)));
                tenants
            }
        };
        let expected = self.stage(&tenants, IN_TIME).play(key.scenario).await;
        self.operator.arm(None).await;
        let fired = self.operator.fired(mark);
        self.agrees(key, &tenants, &expected).await;
        Played { key, tenants, expected, mark: self.operator.mark(), fired }
    }

    pub(crate) fn stage<'a>(&'a self, tenants: &'a [Tenant], patience: Duration) -> Stage<'a> {
        Stage { tenant: &tenants[0], tenants, witness: &self.witness, operation: &self.operation, patience }
    }

    /// What was seen is what was expected; what comes late is found by the last look.
    pub(crate) async fn agrees(&self, key: Key, tenants: &[Tenant], expected: &[Expected]) {
        assert_eq!(tenants.len(), expected.len(), "{key}: what is expected of each tenant");
        for (tenant, expected) in tenants.iter().zip(expected) {
            wait_for(&format!("{key}: Jobs and work as expected"), Duration::from_secs(5), async || {
                self.compare(tenant, expected)
            })
            .await;
        }
    }

    fn compare(&self, tenant: &Tenant, expected: &Expected) -> Result<(), String> {
        let place = self.witness.place(&tenant.name);
        let mut faults = place.faults.clone();
        if !expected.jobs.contains(&place.jobs.len()) {
            faults.push(format!("{} Jobs, expected {:?}: {:#?}", place.jobs.len(), expected.jobs, place.jobs));
        }
        if expected.runs.is_some_and(|runs| runs != place.runs.len()) {
            faults.push(format!("expected {:?} runs, there were {:#?}", expected.runs, place.runs));
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
            for (tenant, expected) in trial.tenants.iter().zip(&trial.expected) {
                let late = self.operator.writes_in(trial.mark, &tenant.name);
                if !late.is_empty() {
                    return Err((trial.key, format!("written after all was settled:\n{}", late.join("\n"))));
                }
                self.compare(tenant, expected).map_err(|faults| (trial.key, faults))?;
            }
        }
        Ok(())
    }
}

/// The tenants of a trial, by name.
pub(crate) async fn tenants(scenario: Scenario) -> Vec<Tenant> {
    let story = scenario.to_string();
    let first = Tenant::new(&story).await;
    let others = futures::future::join_all((1..scenario.tenants()).map(|_| first.beside(&story))).await;
    let mut tenants: Vec<Tenant> = std::iter::once(first).chain(others).collect();
    tenants.sort_by(|one, other| one.name.cmp(&other.name));
    tenants
}

/// The fault of a trial, at the calls about its work.
pub(crate) fn order(key: Key, tenants: &[Tenant]) -> Order {
    let namespaces = tenants.iter().map(|tenant| tenant.name.clone()).collect();
    Order { namespaces, counted: Counted::Work, variant: key.variant, index: key.index }
}
