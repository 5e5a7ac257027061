//! The worker of `drift.generate` as a process that dies at its calls to the API server ([`crate::stand_in`]): many trials in one
//! tenant, one after the other.
//!
//! The ConfigMaps change before each trial, each in its own way, so that the worker has to create a finding, to change one, to
//! resolve one, to open one again, to see one again after an hour, and to leave one alone. Whatever it dies of, the next one
//! leaves just that; and a run after it writes to no finding.

use crate::fault::Variant;
use crate::scenario::IN_TIME;
use crate::stand_in::{StandIn, hold_pods, let_pods_start};
use crate::support::Tenant;
use crate::support::run::assert_ended;
use crate::trial::{Bench, Key};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use tenantatlas::api::execution::WORKER_ACCOUNT;
use tenantatlas::api::finding::{Change, Observed};
use tenantatlas::api::{Finding, OperationReport, OperationRun, OperationType, Outcome, Reason};

/// Of the baseline, and gone since. Its finding is deleted before each trial.
const GONE: &str = "gone";

/// Has another value in each trial.
const EDITED: &str = "edited";

/// Created after the baseline; nothing happens to it.
const KEPT: &str = "kept";

/// Changed once. Its finding was last seen two hours before each trial.
const SEEN: &str = "seen";

/// One differs in every other trial, the other one in the others.
const BY_TURNS: [&str; 2] = ["even", "odd"];

/// How many items differ in each trial.
const DIFFERENT: usize = 5;

/// A tenant for the trials of one series.
pub(crate) struct Drifts {
    tenant: Tenant,
    /// `drift.generate` without its limit.
    operation: String,
    folder: PathBuf,
    stand_in: StandIn,
    /// How often the tenant has changed.
    rounds: AtomicUsize,
}

impl Drifts {
    /// A tenant with a baseline, and a finding of each item; from now on no pod starts.
    pub(crate) async fn prepare() -> Self {
        let tenant = Tenant::new("drift-calls").await;
        let folder = tenant.repository("main").await.folder();
        for name in [GONE, EDITED, SEEN].into_iter().chain(BY_TURNS) {
            create(&tenant, name).await;
        }
        tenant.start("base", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
        assert_ended(&tenant.completed("base", IN_TIME).await, Outcome::Succeeded, Reason::Succeeded);
        let types: Api<OperationType> = Api::all(tenant.cluster.client.clone());
        let built_in = types.get("drift.generate").await.expect("the built-in type");
        let mut spec = serde_json::to_value(built_in.spec).expect("JSON");
        spec.as_object_mut().expect("fields").remove("concurrency");
        let operation = tenant.operation_type("drift", spec).await;
        hold_pods(&tenant);
        tenant.api::<ConfigMap>().delete(GONE, &DeleteParams::default()).await.expect("it can be deleted");
        create(&tenant, KEPT).await;
        set(&tenant, SEEN, "changed").await;
        let drifts = Self { tenant, operation, folder, stand_in: StandIn::new(), rounds: AtomicUsize::default() };
        // Each of the two that change by turns has a finding after two rounds.
        for name in ["first", "second"] {
            drifts.change().await;
            drifts.found(name).await;
            drifts.forget(name).await;
        }
        drifts
    }

    /// A run whose first worker has the fault, and a run after it. Returns the call that was made to fail.
    pub(crate) async fn play(&self, bench: &Bench, key: Key) -> Option<String> {
        let tenant = &self.tenant;
        let differs = self.change().await;
        self.prepare_findings().await;
        let before = self.findings().await;
        let begun = Timestamp::now();
        let name = format!("n{}", key.index);
        let run = self.start(&name).await;
        let waiting = self.stand_in.take(tenant, &name).await;
        let (fired, ended) = self.stand_in.twice(tenant, key, &name, &waiting, &self.folder).await;
        let again = format!("{name}-again");
        if ended.outcome == Outcome::PartiallySucceeded && is_refusal(key.variant) {
            // Its list was refused, which no attempt changes: nothing is known, and nothing written.
            assert_eq!(versions(&self.findings().await), versions(&before), "{key}");
            let run = self.found(&again).await;
            compare(key, differs, &run, begun, (&before, &self.findings().await));
        } else {
            assert_ended(&ended, Outcome::Succeeded, Reason::Succeeded);
            let found = ended.context.drift.expect("status.context.drift");
            let counts =
                (found.added, found.removed, found.modified, found.replaced, found.not_shown, found.unreadable);
            assert_eq!(counts, (1, 1, 3, 0, 0, 0), "{key}: {found:#?}");
            let after = self.findings().await;
            compare(key, differs, &run, begun, (&before, &after));
            // One that is said to be there already is not written.
            if !is_refusal(key.variant) {
                self.reports(key, &run).await;
            }

            self.found(&again).await;
            let found = tenant.status(&again).await.context.drift.expect("status.context.drift");
            assert_eq!((found.new, found.reopened, found.resolved), (0, 0, 0), "{key}: a second run: {found:#?}");
            assert_eq!(versions(&self.findings().await), versions(&after), "{key}: a second run has written");
        }

        let place = bench.witness.place(&tenant.name);
        assert_eq!(place.faults, Vec::<String>::new(), "{key}");
        let jobs = place.jobs.values().filter(|(of, _)| Some(of) == run.uid().as_ref()).count();
        assert_eq!(jobs, 1, "{key}: Jobs of {name}: {:#?}", place.jobs);
        for run in [&name, &again] {
            self.forget(run).await;
        }
        fired
    }

    /// The last look: a new process of the controller finds everything as it should be.
    pub(crate) async fn settle(&self, bench: &Bench) -> Result<(), String> {
        let_pods_start(&self.tenant);
        let mark = bench.operator.restart(None);
        bench.operator.settled(mark).await;
        let late = bench.operator.writes_in(mark, &self.tenant.name);
        if late.is_empty() { Ok(()) } else { Err(format!("written after all was settled:\n{}", late.join("\n"))) }
    }

    /// Changes the tenant; returns which of those that change by turns now differs.
    async fn change(&self) -> &'static str {
        let round = self.rounds.fetch_add(1, Ordering::Relaxed);
        set(&self.tenant, EDITED, &format!("round {round}")).await;
        let (differs, other) = (BY_TURNS[round % 2], BY_TURNS[(round + 1) % 2]);
        set(&self.tenant, differs, "changed").await;
        set(&self.tenant, other, BASE).await;
        differs
    }

    /// Takes one finding away, and lets another one age.
    async fn prepare_findings(&self) {
        let findings = self.findings().await;
        let worker: Api<Finding> = Api::namespaced(self.worker(), &self.tenant.name);
        // A trial that failed may have left none.
        if let Some(gone) = findings.get(&id(GONE)) {
            let deleted = worker.delete(&gone.name_any(), &DeleteParams::default()).await;
            deleted.expect("a worker may delete a finding");
        }
        let long_ago = Timestamp::now() - SignedDuration::from_hours(2);
        let observed = json!({ "status": { "observed": { "firstSeen": long_ago, "lastSeen": long_ago } } });
        let seen = findings[&id(SEEN)].name_any();
        let aged = worker.patch_status(&seen, &PatchParams::default(), &Patch::Merge(observed)).await;
        aged.expect("a worker says what it saw");
    }

    /// Who may write findings: the worker's account in the pod of an operation.
    fn worker(&self) -> Client {
        let account = format!("system:serviceaccount:{}:{WORKER_ACCOUNT}", self.tenant.name);
        self.tenant.cluster.as_user_in_pod(&account, "op-0123456789abcdef0123-x7k2p")
    }

    async fn start(&self, name: &str) -> OperationRun {
        // Each run is another work than the others, and finds the same.
        let inputs = json!({ "repository": "main", "selection": { "includeKinds": ["ConfigMap"] },
            "ignore": [{ "namePattern": name }] });
        self.tenant.start(name, json!({ "type": self.operation, "inputs": inputs })).await
    }

    /// A run whose worker has no fault.
    async fn found(&self, name: &str) -> OperationRun {
        let run = self.start(name).await;
        let waiting = self.stand_in.take(&self.tenant, name).await;
        let attempt = self.stand_in.attempt(&waiting, &self.folder, None).await;
        assert!(attempt.ended_well, "{name}:\n{}", attempt.said.join("\n"));
        assert_ended(&self.tenant.completed(name, IN_TIME).await, Outcome::Succeeded, Reason::Succeeded);
        run
    }

    /// Deletes a run, and with it the pod that waits.
    async fn forget(&self, name: &str) {
        let deleted = self.tenant.api::<OperationRun>().delete(name, &DeleteParams::default()).await;
        deleted.expect("the run can be deleted");
    }

    /// The findings by item, once the operator has judged each of them: one for each item.
    async fn findings(&self) -> BTreeMap<String, Finding> {
        let by_item = self.tenant.judged_findings(&self.tenant.cluster.client).await;
        let all =
            self.tenant.api::<Finding>().list(&ListParams::default()).await.expect("findings can be listed").items;
        assert_eq!(by_item.len(), all.len(), "an item has two findings: {all:#?}");
        by_item
    }

    /// The reports of a run name each item that differs once.
    async fn reports(&self, key: Key, run: &OperationRun) {
        let of_run = ListParams::default().fields(&format!("spec.run.name={}", run.name_any()));
        let reports = self.tenant.api::<OperationReport>().list(&of_run).await.expect("reports can be listed").items;
        let rows = reports.iter().flat_map(|report| &report.spec.differences).map(|row| row.item_id.as_str());
        let mut rows: Vec<&str> = rows.collect();
        let all = rows.len();
        rows.sort_unstable();
        rows.dedup();
        assert_eq!((rows.len(), all), (DIFFERENT, DIFFERENT), "{key}: {rows:#?}");
    }
}

/// The value of each ConfigMap in the baseline.
const BASE: &str = "base";

async fn create(tenant: &Tenant, name: &str) {
    let map = json!({ "metadata": { "name": name }, "data": { "value": BASE } });
    let map = serde_json::from_value(map).expect("a ConfigMap");
    let created = tenant.api::<ConfigMap>().create(&PostParams::default(), &map).await;
    created.unwrap_or_else(|error| panic!("ConfigMap {name} cannot be created: {error}"));
}

async fn set(tenant: &Tenant, name: &str, value: &str) {
    let patch = Patch::Merge(json!({ "data": { "value": value } }));
    let patched = tenant.api::<ConfigMap>().patch(name, &PatchParams::default(), &patch).await;
    patched.unwrap_or_else(|error| panic!("ConfigMap {name} cannot be changed: {error}"));
}

/// Whether a worker takes the faulty answer for a refusal, which it does not ask about again.
fn is_refusal(variant: Variant) -> bool {
    matches!(variant, Variant::Answer(409) | Variant::AnswerDies(409))
}

fn id(name: &str) -> String {
    format!("core/ConfigMap/{name}")
}

fn versions(findings: &BTreeMap<String, Finding>) -> Vec<(&String, Option<String>)> {
    findings.iter().map(|(item, finding)| (item, finding.metadata.resource_version.clone())).collect()
}

/// Each item has one finding, which says what it should.
fn compare(
    key: Key,
    differs: &str,
    run: &OperationRun,
    begun: Timestamp,
    (before, after): (&BTreeMap<String, Finding>, &BTreeMap<String, Finding>),
) {
    let observed = |findings: &BTreeMap<String, Finding>, name: &str| -> Observed {
        let status = findings[&id(name)].status.as_ref().and_then(|status| status.observed.clone());
        status.unwrap_or_else(|| panic!("{key}: nobody has observed {name}: {findings:#?}"))
    };
    let told = |name: &str| {
        let finding = &after[&id(name)];
        let value = finding.spec.evidence.first().and_then(|evidence| evidence.after.clone());
        (finding.spec.change, value, observed(after, name).resolved_at.is_some())
    };
    let all: Vec<&String> = after.keys().collect();
    let [even, odd] = BY_TURNS;
    assert_eq!(all, [EDITED, even, GONE, KEPT, odd, SEEN].map(id).iter().collect::<Vec<_>>(), "{key}");
    let changed = Some("\"changed\"".to_owned());
    assert_eq!(told(GONE), (Change::Removed, None, false), "{key}");
    assert_eq!(told(KEPT), (Change::Added, None, false), "{key}");
    assert_eq!(told(SEEN), (Change::Modified, changed.clone(), false), "{key}");
    for name in BY_TURNS {
        assert_eq!(told(name), (Change::Modified, changed.clone(), name != differs), "{key}: {name}");
    }
    assert_ne!(after[&id(EDITED)].spec.evidence, before[&id(EDITED)].spec.evidence, "{key}: what was edited");
    assert_ne!(after[&id(EDITED)].spec.digest, before[&id(EDITED)].spec.digest, "{key}: what was edited");
    assert!(observed(after, EDITED).resolved_at.is_none(), "{key}: what was edited");

    let by = |name: &str| observed(after, name).run.uid;
    let uid = run.uid().expect("a uid");
    for name in [GONE, EDITED, SEEN, even, odd] {
        assert_eq!(by(name), uid, "{key}: {name}");
    }
    assert_eq!(after[&id(KEPT)].resource_version(), before[&id(KEPT)].resource_version(), "{key}: nothing to say");
    for name in [EDITED, SEEN, even, odd] {
        let (was, is) = (observed(before, name), observed(after, name));
        assert_eq!(was.first_seen, is.first_seen, "{key}: {name}");
        let is_seen = name != even && name != odd || name == differs;
        assert_eq!(is.last_seen >= begun, is_seen, "{key}: {name} was seen {is:?}");
        assert!(is_seen || is.last_seen == was.last_seen, "{key}: {name} was seen {is:?}, before {was:?}");
        assert!(is.resolved_at.is_none_or(|at| at >= begun), "{key}: {name} was resolved {is:?}");
    }
    let gone = observed(after, GONE);
    assert!(gone.first_seen >= begun && gone.last_seen >= gone.first_seen, "{key}: {gone:?}");
}
