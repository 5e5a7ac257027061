//! A user of one tenant, who does one thing after another as the plan says.
//!
//! A request that is refused or not answered is no fault of the soak: it is counted, and the user goes on. What came of it
//! is in the ledger either way.

use crate::Result;
use crate::bed::Bed;
use crate::dice::Dice;
use crate::log::lock;
use crate::plan::{self, Act};
use crate::tenant::{self, Tenant};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tenantatlas::api::labels;
use tokio::sync::watch;

/// How long a user waits for a restore before doing something else.
const RESTORED: Duration = Duration::from_mins(4);

/// See the module's text.
pub struct User {
    bed: Arc<Bed>,
    tenant: Tenant,
    dice: Dice,
    pace: u64,
    stop: watch::Receiver<bool>,
    /// Names that this user has given so far.
    named: u64,
    /// Runs that this user has made and not deleted.
    runs: Vec<String>,
}

impl User {
    pub fn new(bed: &Arc<Bed>, tenant: &Tenant, stop: watch::Receiver<bool>) -> Self {
        Self {
            bed: Arc::clone(bed),
            tenant: tenant.clone(),
            dice: Dice::new(bed.settings.seed, &tenant.namespace),
            pace: tenant::pace(bed.settings.tenants),
            stop,
            named: 0,
            runs: Vec::new(),
        }
    }

    /// Acts until it is stopped.
    pub async fn live(mut self) {
        loop {
            let (pause, act) = plan::act(&mut self.dice, self.pace);
            if self.rests(pause).await {
                return;
            }
            let kind = format!("{act:?}");
            let kind = kind.split([' ', '(', '{']).next().unwrap_or_default();
            self.bed.log.count("acts", kind);
            if let Err(error) = self.perform(act).await {
                self.bed.log.count("acts that failed", kind);
                self.bed.log.note(&format!("{} {act:?}: {error}", self.tenant.namespace));
            }
        }
    }

    /// Waits; whether it is time to stop.
    async fn rests(&mut self, pause: Duration) -> bool {
        tokio::time::timeout(pause, self.stop.wait_for(|stop| *stop)).await.is_ok()
    }

    async fn perform(&mut self, act: Act) -> Result<()> {
        match act {
            Act::Change => self.change().await,
            Act::Capture => self.run("backup.capture", json!({}), json!({})).await.map(drop),
            Act::Duplicate => self.duplicate().await,
            Act::Cancel(after) => {
                let name = self.run("backup.capture", json!({}), json!({})).await?;
                tokio::time::sleep(Duration::from_millis(after)).await;
                self.bed.merge(&self.ours("operationruns", &name), &json!({ "spec": { "cancel": true } })).await
            }
            Act::DeleteRun => {
                let Some(name) = self.dice.one_of(&self.runs).cloned() else { return Ok(()) };
                self.runs.retain(|run| *run != name);
                self.bed.delete(&self.ours("operationruns", &name)).await
            }
            Act::Restore { undo } => self.restore(undo).await,
            Act::RestoreAtOnce => {
                let Some(set) = self.sets().await?.pop() else { return Ok(()) };
                let map = format!("settings-{}", self.dice.between(0, tenant::MAPS - 1));
                let spec = json!({ "backupSet": { "name": set }, "existingResourcePolicy": "update",
                    "items": [{ "kind": "ConfigMap", "name": map }] });
                let name = self.name("at-once");
                self.create("RestoreRun", "restoreruns", &name, spec).await
            }
            Act::RunNow => {
                let token = self.name("token");
                let annotations = json!({ "metadata": { "annotations": { (labels::RUN_NOW): token } } });
                self.bed.merge(&self.ours("backupschedules", "ticks"), &annotations).await
            }
            Act::Maintain => self.run("repository.maintain", json!({ "graceHours": 0 }), json!({})).await.map(drop),
            Act::Check => self.run("repository.check", json!({}), json!({})).await.map(drop),
            Act::Rehearse => self.run("restore.rehearse", json!({}), json!({})).await.map(drop),
            Act::DeleteSet => {
                let mut sets = self.sets().await?;
                // Not the newest ones: there shall be something to restore from.
                sets.truncate(sets.len().saturating_sub(2));
                let Some(set) = self.dice.one_of(&sets) else { return Ok(()) };
                self.bed.delete(&self.ours("backupsets", set)).await
            }
        }
    }

    /// Another value somewhere; an object more or less.
    async fn change(&mut self) -> Result<()> {
        let namespace = &self.tenant.namespace;
        let (value, number) = (self.dice.between(0, 1_000_000).to_string(), self.dice.between(0, tenant::MAPS - 1));
        match self.dice.between(0, 4) {
            0 => {
                let data = json!({ "stringData": { "token": value } });
                self.bed.merge(&format!("/api/v1/namespaces/{namespace}/secrets/token"), &data).await
            }
            1 => {
                let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
                // Where it is there already, it goes.
                let name = format!("extra-{number}");
                match self.bed.create(&maps, &tenant::map(&name, &value)).await {
                    Ok(_) => Ok(()),
                    Err(_) => self.bed.delete(&format!("{maps}/{name}")).await,
                }
            }
            _ => {
                let map = format!("/api/v1/namespaces/{namespace}/configmaps/settings-{number}");
                self.bed.merge(&map, &json!({ "data": { "value": value } })).await
            }
        }
    }

    async fn duplicate(&mut self) -> Result<()> {
        // Another identity than that of the schedule, half of the time.
        let selection = if self.dice.between(0, 1) == 0 {
            json!({})
        } else {
            json!({ "selection": { "excludeKinds": ["Service"] } })
        };
        let second = if self.dice.between(0, 2) == 0 { json!({ "onDuplicate": "Reject" }) } else { json!({}) };
        let first = self.run("backup.capture", selection.clone(), json!({})).await;
        self.run("backup.capture", selection, second).await?;
        first.map(drop)
    }

    /// A preview of a set, the restore of exactly that, and its undo in the same way.
    async fn restore(&mut self, undo: bool) -> Result<()> {
        let sets = self.sets().await?;
        let Some(set) = self.dice.one_of(&sets).cloned() else { return Ok(()) };
        let Some(restored) = self.look_and_apply(&set, self.named.is_multiple_of(3)).await? else { return Ok(()) };
        let undo_set = restored["status"]["undoBackupSet"].as_str().filter(|_| undo);
        if let Some(set) = undo_set {
            self.look_and_apply(set, true).await?;
        }
        Ok(())
    }

    /// Returns the restore if it has succeeded.
    async fn look_and_apply(&mut self, set: &str, prune: bool) -> Result<Option<Value>> {
        let look = self.name("look");
        let set = json!({ "name": set });
        let spec = json!({ "backupSet": set, "dryRun": true, "existingResourcePolicy": "update", "prune": prune });
        self.create("RestoreRun", "restoreruns", &look, spec).await?;
        let Some(looked) = self.restored(&look).await else { return Ok(None) };
        let outcome = &looked["status"]["outcome"];
        if *outcome != "succeeded" && *outcome != "partially_succeeded" {
            return Ok(None);
        }
        let run = looked["status"]["operationRun"]["name"].as_str().ok_or("a preview without a run")?;
        let planned = self.planned(run).await?;
        lock(&self.bed.planned).insert((self.tenant.namespace.clone(), look.clone()), planned);
        let name = self.name("restore");
        let spec = json!({ "backupSet": set, "preview": { "name": look } });
        self.create("RestoreRun", "restoreruns", &name, spec).await?;
        let restored = self.restored(&name).await;
        Ok(restored.filter(|restored| restored["status"]["outcome"] == "succeeded"))
    }

    /// The items that a preview said it would write, from its reports.
    async fn planned(&self, run: &str) -> Result<BTreeSet<String>> {
        let path =
            format!("{}?fieldSelector=spec.run.name={run}", Bed::ours(&self.tenant.namespace, "operationreports"));
        let reports = self.bed.get_at_last(&path).await?;
        let reports = reports["items"].as_array().cloned().unwrap_or_default();
        let items = reports.iter().flat_map(|report| report["spec"]["plan"].as_array().cloned().unwrap_or_default());
        let writes =
            |item: &Value| matches!(item["action"].as_str(), Some("create" | "update" | "recreate" | "delete"));
        Ok(items.filter(writes).filter_map(|item| item["itemId"].as_str().map(str::to_owned)).collect())
    }

    /// A restore once it is completed; none if that takes too long, or it is gone, or it is time to stop.
    async fn restored(&mut self, name: &str) -> Option<Value> {
        let (path, started) = (self.ours("restoreruns", name), Instant::now());
        while started.elapsed() < RESTORED {
            if self.rests(Duration::from_secs(2)).await {
                return None;
            }
            match self.bed.get(&path).await {
                Ok(restore) if restore["status"]["phase"] == "completed" => return Some(restore),
                Ok(_) | Err(_) => {}
            }
        }
        None
    }

    /// The backup sets of the whole tenant, the oldest first.
    async fn sets(&self) -> Result<Vec<String>> {
        let sets = self.bed.get(&Bed::ours(&self.tenant.namespace, "backupsets")).await?;
        let mut sets = sets["items"].as_array().cloned().unwrap_or_default();
        sets.retain(|set| set["spec"]["coverage"] == "full");
        sets.sort_by_key(|set| set["metadata"]["creationTimestamp"].as_str().map(str::to_owned));
        Ok(sets.iter().filter_map(|set| set["metadata"]["name"].as_str().map(str::to_owned)).collect())
    }

    /// Starts a run; its name.
    async fn run(&mut self, operation: &str, mut inputs: Value, mut spec: Value) -> Result<String> {
        let name = self.name(operation.rsplit('.').next().unwrap_or(operation));
        inputs["repository"] = "main".into();
        spec["type"] = operation.into();
        spec["inputs"] = inputs;
        // The object may exist although the response was lost.
        self.runs.push(name.clone());
        self.create("OperationRun", "operationruns", &name, spec).await?;
        Ok(name)
    }

    async fn create(&self, kind: &str, plural: &str, name: &str, spec: Value) -> Result<()> {
        let object = json!({ "apiVersion": "tenantatlas.io/v1alpha1", "kind": kind, "metadata": { "name": name }, "spec": spec });
        self.bed.create(&Bed::ours(&self.tenant.namespace, plural), &object).await.map(drop)
    }

    fn ours(&self, plural: &str, name: &str) -> String {
        Bed::ours(&self.tenant.namespace, &format!("{plural}/{name}"))
    }

    /// A name that nothing of the tenant has had.
    fn name(&mut self, stem: &str) -> String {
        self.named += 1;
        format!("{stem}-{}", self.named)
    }
}
