//! Captures, by the real kubelet and worker: many in one tenant, one after the other. A run has one snapshot (stock
//! restic counts) and one backup set, whatever its controller died of.

use crate::fault::{Counted, Order};
use crate::scenario::{IN_TIME, Scenario};
use crate::support::Tenant;
use crate::support::repository::Restic;
use crate::support::run::assert_ended;
use crate::trial::{Bench, Key};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tenantatlas::api::{BackupRepository, BackupSet, OperationRun, Outcome, Reason};

/// A tenant for the trials of one series.
pub(crate) struct Captures {
    pub(crate) tenant: Tenant,
    /// The one repository of captures; none where each trial makes its own.
    restic: Option<Restic>,
    state: Mutex<Played>,
}

#[derive(Default)]
struct Played {
    /// Where the last trial ended in what the controller said.
    mark: usize,
    /// Captures that must be there, by name: the run's uid.
    runs: BTreeMap<String, String>,
}

impl Captures {
    pub(crate) async fn prepare(scenario: Scenario) -> Self {
        let tenant = Tenant::new(&scenario.to_string()).await;
        let map = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "settings" }, "data": { "a": "1" } });
        tenant.apply(&map.to_string());
        let restic = if scenario == Scenario::Check { None } else { Some(tenant.repository("main").await) };
        Self { tenant, restic, state: Mutex::default() }
    }

    /// Plays a trial; returns the call that was made to fail. Panics where something is lost, wrong or stuck.
    pub(crate) async fn play(&self, bench: &Bench, key: Key) -> Option<String> {
        let namespaces = vec![self.tenant.name.clone()];
        let mark = bench.operator.mark();
        let order = Order { namespaces, counted: Counted::Work, variant: key.variant, index: key.index };
        bench.operator.arm(Some(&order)).await;
        let name = format!("n{}", key.index);
        let run = if self.restic.is_some() { self.capture(&name).await } else { self.check(&name).await };
        bench.operator.arm(None).await;
        let uid = run.uid().expect("a uid");
        let place = bench.witness.place(&self.tenant.name);
        assert_eq!(place.faults, Vec::<String>::new());
        let jobs = place.jobs.values().filter(|(run, _)| *run == uid).count();
        assert_eq!(jobs, 1, "Jobs of {}: {:#?}", run.name_any(), place.jobs);
        self.mark(bench);
        if self.restic.is_some() {
            self.expect(&name, &run);
        }
        bench.operator.fired(mark)
    }

    /// The repository, as stock restic sees it.
    pub(crate) fn restic(&self) -> &Restic {
        self.restic.as_ref().expect("a repository")
    }

    /// A capture that must be there in the end.
    pub(crate) fn expect(&self, name: &str, run: &OperationRun) {
        self.state().runs.insert(name.to_owned(), run.uid().expect("a uid"));
    }

    /// From here on nothing may be written.
    pub(crate) fn mark(&self, bench: &Bench) {
        self.state().mark = bench.operator.mark();
    }

    fn state(&self) -> MutexGuard<'_, Played> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn capture(&self, name: &str) -> OperationRun {
        self.tenant.start(name, json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
        assert_ended(&self.tenant.completed(name, IN_TIME).await, Outcome::Succeeded, Reason::Succeeded);
        self.tenant.run(name).await
    }

    /// A new repository is checked by one run, once.
    async fn check(&self, name: &str) -> OperationRun {
        self.tenant.unchecked_repository(name).await;
        let repository: BackupRepository = self.tenant.ready(name).await;
        let run = repository.status.and_then(|status| status.last_check_run).expect("the run that checked it");
        assert_ended(&self.tenant.completed(&run.name, IN_TIME).await, Outcome::Succeeded, Reason::CheckPassed);
        let runs = self.tenant.api::<OperationRun>().list(&ListParams::default()).await.expect("runs can be listed");
        let prefix = format!("{name}-check-");
        let checks = runs.items.into_iter().filter(|run| run.name_any().starts_with(&prefix)).collect::<Vec<_>>();
        assert_eq!(checks.len(), 1, "one check for the one generation: {checks:#?}");
        checks.into_iter().next().expect("one")
    }

    /// The last look: a new process writes nothing; one snapshot and one backup set for each capture, all readable.
    pub(crate) async fn settle(&self, bench: &Bench) -> Result<(), String> {
        let mark = bench.operator.restart(None);
        bench.operator.settled(mark).await;
        let state = std::mem::take(&mut *self.state());
        let late = bench.operator.writes_in(state.mark, &self.tenant.name);
        if !late.is_empty() {
            return Err(format!("written after all was settled:\n{}", late.join("\n")));
        }
        let Some(restic) = &self.restic else { return Ok(()) };
        let mut snapshots: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for snapshot in restic.snapshots() {
            let tags = snapshot["tags"].as_array().into_iter().flatten().filter_map(|tag| tag.as_str());
            let run = tags.into_iter().find_map(|tag| tag.strip_prefix("run=")).unwrap_or_default();
            snapshots.entry(run.to_owned()).or_default().push(snapshot["id"].as_str().unwrap_or_default().to_owned());
        }
        let sets = self.tenant.api::<BackupSet>().list(&ListParams::default()).await.expect("sets can be listed").items;
        for (name, uid) in &state.runs {
            let of_run = sets.iter().filter(|set| set.spec.run.uid == *uid);
            let recorded: Vec<String> = of_run.map(|set| set.spec.snapshot.clone()).collect();
            let stored = snapshots.remove(uid).unwrap_or_default();
            if stored.len() != 1 || stored != recorded {
                return Err(format!("run {name} has the snapshots {stored:?} and backup sets of {recorded:?}"));
            }
        }
        if !snapshots.is_empty() || sets.len() != state.runs.len() {
            return Err(format!("snapshots of nobody: {snapshots:?}; {} backup sets", sets.len()));
        }
        restic.prints(&["check", "--read-data"]);
        Ok(())
    }
}
