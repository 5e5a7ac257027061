//! The worker of a bulk operation as a process that dies at its calls to the API server ([`crate::stand_in`]): many trials in one
//! tenant, one after the other.
//!
//! Each trial restarts the Deployments of the tenant, or deletes its ConfigMaps as a preview showed, which are made anew for the
//! next. Whatever the worker dies of, the next one leaves each Deployment restarted once; or no ConfigMap, and a backup set with
//! all of them, recorded before the first was deleted. The audit chain has one intent and one outcome.

use crate::scenario::{IN_TIME, Scenario};
use crate::stand_in::{StandIn, hold_pods, let_pods_start};
use crate::support::run::assert_ended;
use crate::support::{Tenant, wait_for};
use crate::trial::{Bench, Key};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;
use tenantatlas::api::audit_entry::AuditEvent;
use tenantatlas::api::{
    AuditEntry, BackupSet, BulkOperationRun, BulkOperationRunStatus, OperationRun, Outcome, Phase, Reason,
};

/// The objects of each trial.
const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A tenant for the trials of one series.
pub(crate) struct Bulks {
    tenant: Tenant,
    deletes: bool,
    folder: PathBuf,
    stand_in: StandIn,
}

impl Bulks {
    /// A tenant with a repository, and with Deployments to restart; from now on no pod starts.
    pub(crate) async fn prepare(scenario: Scenario) -> Self {
        let deletes = scenario == Scenario::BulkDeleteCalls;
        let tenant = Tenant::new(if deletes { "bulk-delete-calls" } else { "bulk-calls" }).await;
        let folder = tenant.repository("main").await.folder();
        if !deletes {
            for name in NAMES {
                deploy(&tenant, name).await;
            }
        }
        hold_pods(&tenant);
        Self { tenant, deletes, folder, stand_in: StandIn::new() }
    }

    /// A bulk operation whose first worker has the fault. Returns the call that was made to fail.
    pub(crate) async fn play(&self, bench: &Bench, key: Key) -> Option<String> {
        let (tenant, name) = (&self.tenant, format!("n{}", key.index));
        let before = generations(tenant).await;
        let look = format!("{name}-look");
        if self.deletes {
            make(tenant).await;
            self.look(&look).await;
            self.order(&name, &json!({ "action": "delete", "preview": { "name": look } })).await;
        } else {
            // What restarts is the time at which the bulk operation was created, in whole seconds: two in one
            // second are one restart.
            let since = jiff::Timestamp::now().subsec_millisecond().unsigned_abs();
            tokio::time::sleep(Duration::from_millis(u64::from(1000 - since))).await;
            self.order(&name, &json!({ "action": "restart", "items": NAMES })).await;
        }
        let run = format!("{name}-bulk");
        let waiting = self.stand_in.take(tenant, &run).await;
        let (fired, ended) = self.stand_in.twice(tenant, key, &run, &waiting, &self.folder).await;
        assert_ended(&ended, Outcome::Succeeded, Reason::Succeeded);
        let status = self.end(&name).await;
        let counts = status.counts.expect("status.counts");
        assert_eq!((counts.succeeded, counts.failed, counts.skipped), (4, 0, 0), "{key}: {status:#?}");
        let uid = tenant.run(&run).await.uid().expect("a uid");
        entries(tenant, key, &uid).await;
        if self.deletes {
            assert!(maps(tenant).await.is_empty(), "{key}");
            let undo = status.undo_backup_set.expect("status.undoBackupSet");
            let set = tenant.api::<BackupSet>().get(&undo).await.expect("the backup set");
            assert_eq!(set.spec.run.uid, uid, "{key}");
            let items = set.status.and_then(|status| status.items);
            assert_eq!(items, Some(4), "{key}: it holds all that was deleted");
        } else {
            let once: Vec<i64> = before.into_iter().map(|generation| generation + 1).collect();
            assert_eq!(generations(tenant).await, once, "{key}: each is restarted once");
        }
        let place = bench.witness.place(&tenant.name);
        assert_eq!(place.faults, Vec::<String>::new(), "{key}");
        let jobs = place.jobs.values().filter(|(of, _)| *of == uid).count();
        assert_eq!(jobs, 1, "{key}: Jobs of {run}: {:#?}", place.jobs);
        for bulk in [name, look] {
            self.forget(&bulk).await;
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

    async fn order(&self, name: &str, fields: &Value) {
        let (group, kind) = if self.deletes { ("", "ConfigMap") } else { ("apps", "Deployment") };
        let mut spec = json!({ "resource": { "group": group, "kind": kind }, "parallelism": 2 });
        spec.as_object_mut().expect("fields").extend(fields.as_object().expect("fields").clone());
        let bulk = json!({ "metadata": { "name": name }, "spec": spec });
        let made: Result<BulkOperationRun, _> = self.tenant.create(bulk).await;
        made.unwrap_or_else(|error| panic!("bulk operation {name} is refused: {error}"));
    }

    /// A preview of the deletion, whose worker has no fault.
    async fn look(&self, name: &str) {
        let options = json!({ "repository": "main" });
        self.order(name, &json!({ "action": "delete", "items": NAMES, "dryRun": true, "options": options })).await;
        let waiting = self.stand_in.take(&self.tenant, &format!("{name}-bulk")).await;
        let attempt = self.stand_in.attempt(&waiting, &self.folder, None).await;
        assert!(attempt.ended_well, "{name}:\n{}", attempt.said.join("\n"));
        assert_eq!(self.end(name).await.outcome, Outcome::Succeeded);
    }

    async fn end(&self, name: &str) -> BulkOperationRunStatus {
        wait_for(&format!("the end of bulk operation {name}"), IN_TIME, async || {
            let bulk = self.tenant.api::<BulkOperationRun>().get(name).await.map_err(|error| error.to_string())?;
            let status = bulk.status_or_default();
            if status.phase == Phase::Completed { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    /// Deletes a bulk operation, and with it its run and the pod that waits.
    async fn forget(&self, name: &str) {
        let bulks = self.tenant.api::<BulkOperationRun>();
        if bulks.get_opt(name).await.expect("a read").is_none() {
            return;
        }
        bulks.delete(name, &DeleteParams::default()).await.expect("it can be deleted");
        let run = format!("{name}-bulk");
        wait_for(&format!("the garbage collector takes run {run}"), IN_TIME, async || {
            let left = self.tenant.api::<OperationRun>().get_opt(&run).await.map_err(|error| error.to_string())?;
            if left.is_none() { Ok(()) } else { Err("it is there".to_owned()) }
        })
        .await;
    }
}

/// One intent and one outcome are in the audit chain.
pub(crate) async fn entries(tenant: &Tenant, key: Key, run_uid: &str) {
    let entries = tenant.api::<AuditEntry>().list(&ListParams::default()).await.expect("a list").items;
    let records = entries.iter().filter_map(|entry| entry.spec.record());
    let events: Vec<AuditEvent> =
        records.filter(|record| record.run.uid == run_uid).map(|record| record.event).collect();
    assert_eq!(events, [AuditEvent::Intent, AuditEvent::Outcome], "{key}");
}

/// Makes the ConfigMaps that are not there.
async fn make(tenant: &Tenant) {
    let there = maps(tenant).await;
    for name in NAMES.into_iter().filter(|name| !there.iter().any(|map| map == name)) {
        let map = json!({ "metadata": { "name": name, "labels": { "app": "many" } }, "data": { "value": name } });
        let map = serde_json::from_value(map).expect("a ConfigMap");
        tenant.api::<ConfigMap>().create(&PostParams::default(), &map).await.expect("a ConfigMap can be created");
    }
}

async fn maps(tenant: &Tenant) -> Vec<String> {
    let listed = tenant.api::<ConfigMap>().list(&ListParams::default().labels("app=many")).await.expect("a list");
    listed.items.iter().map(ConfigMap::name_any).collect()
}

async fn deploy(tenant: &Tenant, name: &str) {
    let labels = json!({ "app": name });
    let template =
        json!({ "metadata": { "labels": labels }, "spec": { "containers": [{ "name": "a", "image": "none" }] } });
    let deployment = json!({ "metadata": { "name": name },
        "spec": { "replicas": 0, "selector": { "matchLabels": labels }, "template": template } });
    let deployment = serde_json::from_value(deployment).expect("a Deployment");
    tenant.api::<Deployment>().create(&PostParams::default(), &deployment).await.expect("a Deployment can be created");
}

/// How often the spec of each Deployment was written.
async fn generations(tenant: &Tenant) -> Vec<i64> {
    let listed = tenant.api::<Deployment>().list(&ListParams::default()).await.expect("a list");
    listed.items.iter().map(|deployment| deployment.metadata.generation.unwrap_or_default()).collect()
}
