//! A bulk operation in all tenants of a workspace, by the real kubelet and worker: looked at, and
//! done as it was shown. Many trials in two tenants, one after the other.
//!
//! Each trial gives the ConfigMaps of both tenants another label. Whatever the controller dies of,
//! each tenant has one preview and one bulk operation with the same plan, and the digest over all
//! plans is the same before and after.

use crate::bulk::entries;
use crate::over_all::{gather, start, when};
use crate::scenario::{IN_TIME, Scenario};
use crate::support::Tenant;
use crate::trial::{Bench, Key, order, tenants};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use tenantatlas::api::{BulkOperationRun, Outcome, Phase, WorkspaceRunStatus};

/// The objects of each tenant.
const NAMES: [&str; 2] = ["a", "b"];

/// How many there are in all.
const OBJECTS: i64 = 4;

/// The tenants of one series.
pub(crate) struct Orders {
    tenants: Vec<Tenant>,
    /// Where the last trial ended in what the controller said.
    mark: AtomicUsize,
}

impl Orders {
    /// Two tenants of one workspace, with objects.
    pub(crate) async fn prepare(scenario: Scenario) -> Self {
        let tenants = tenants(scenario).await;
        gather(&tenants).await;
        for (tenant, name) in tenants.iter().flat_map(|tenant| NAMES.map(|name| (tenant, name))) {
            let metadata = json!({ "name": name, "labels": { "app": "many" } });
            tenant.apply(&json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata }).to_string());
        }
        Self { tenants, mark: AtomicUsize::default() }
    }

    /// Plays a trial; returns the call that was made to fail. Panics where something is lost, wrong or stuck.
    pub(crate) async fn play(&self, bench: &Bench, key: Key) -> Option<String> {
        let mark = bench.operator.mark();
        bench.operator.arm(Some(&order(key, &self.tenants))).await;
        let tier = format!("n{}", key.index);
        let (name, look) = (self.named(&tier), self.named(&format!("{tier}-look")));

        let terms = json!({ "labelSelector": "app=many", "options": { "set": { "tier": tier } } });
        let (shown, shown_by, seen) = self.done(&look, terms, json!({ "dryRun": true })).await;
        assert_eq!(seen.preview.map(|sum| sum.update), Some(OBJECTS), "{key}: {seen:#?}");
        assert!(seen.plan_digest.is_some(), "{key}: {seen:#?}");
        for tenant in &self.tenants {
            assert_eq!(labelled(tenant, &tier).await, Vec::<String>::new(), "{key}: a preview changes nothing");
        }
        let preview = json!({ "preview": { "name": look, "planDigest": seen.plan_digest } });
        let (applied, applied_by, done) = self.done(&name, json!({}), preview).await;
        bench.operator.arm(None).await;

        assert_eq!(done.plan_digest, seen.plan_digest, "{key}");
        assert_eq!(done.items.map(|items| (items.total, items.succeeded)), Some((OBJECTS, OBJECTS)), "{key}");
        for tenant in &self.tenants {
            let shown = self.only_child(bench, key, tenant, (&shown, &shown_by)).await;
            let applied = self.only_child(bench, key, tenant, (&applied, &applied_by)).await;
            let (shown, applied) = (shown.status_or_default(), applied.status_or_default());
            assert!(shown.plan_digest.is_some(), "{key}: {shown:#?}");
            assert_eq!(applied.plan_digest, shown.plan_digest, "{key}: {}", tenant.name);
            assert_eq!(labelled(tenant, &tier).await, NAMES, "{key}: {}", tenant.name);
            assert_eq!(bench.witness.place(&tenant.name).faults, Vec::<String>::new(), "{key}");
        }
        self.mark.store(bench.operator.mark(), Ordering::Relaxed);
        bench.operator.fired(mark)
    }

    /// The last look: a new process writes nothing, and nothing was written since the last trial.
    pub(crate) async fn settle(&self, bench: &Bench) -> Result<(), String> {
        let mark = bench.operator.restart(None);
        bench.operator.settled(mark).await;
        let from = self.mark.load(Ordering::Relaxed);
        let writes = |tenant: &Tenant| bench.operator.writes_in(from, &tenant.name);
        let late: Vec<String> = self.tenants.iter().flat_map(writes).collect();
        if late.is_empty() { Ok(()) } else { Err(format!("written after all was settled:\n{}", late.join("\n"))) }
    }

    fn named(&self, name: &str) -> String {
        format!("{}-{name}", self.tenants[0].name)
    }

    /// A workspace run from its start to its end. Returns the name of what it created in each tenant,
    /// its uid, and how it ended.
    async fn done(&self, name: &str, terms: Value, more: Value) -> (String, String, WorkspaceRunStatus) {
        let first = &self.tenants[0];
        let mut bulk = json!({ "resource": { "kind": "ConfigMap" }, "action": "label" });
        bulk.as_object_mut().expect("fields").extend(terms.as_object().expect("fields").clone());
        let mut spec = json!({ "workspace": { "name": first.name }, "bulk": bulk });
        spec.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        let (child, uid) = start(first, name, &spec).await;
        let status = when(first, name, IN_TIME, "is completed", |status| status.phase == Phase::Completed).await;
        assert_eq!(status.outcome, Outcome::Succeeded, "{name}: {status:#?}");
        assert_eq!((status.counts.total, status.counts.succeeded), (2, 2), "{name}: {status:#?}");
        (child, uid, status)
    }

    /// What a workspace run created in a tenant: one bulk operation with one run, which had one Job.
    async fn only_child(&self, bench: &Bench, key: Key, tenant: &Tenant, (name, by): (&str, &str)) -> BulkOperationRun {
        let of = ListParams::default().fields(&format!("spec.scheduledBy.uid={by}"));
        let mut bulks = tenant.api::<BulkOperationRun>().list(&of).await.expect("a list").items;
        let names: Vec<String> = bulks.iter().map(BulkOperationRun::name_any).collect();
        assert_eq!(names, [name], "{key}: {}", tenant.name);
        let run = format!("{name}-bulk");
        // Its label is the last that is written of it.
        tenant.completed(&run, IN_TIME).await;
        let uid = tenant.run(&run).await.uid().expect("a uid");
        let place = bench.witness.place(&tenant.name);
        let jobs = place.jobs.values().filter(|(of, _)| *of == uid).count();
        assert_eq!(jobs, 1, "{key}: Jobs of {run}: {:#?}", place.jobs);
        let bulk = bulks.pop().expect("one");
        if !bulk.spec.dry_run {
            entries(tenant, key, &uid).await;
        }
        bulk
    }
}

/// The objects with a label of this value, by name.
async fn labelled(tenant: &Tenant, tier: &str) -> Vec<String> {
    let labelled = ListParams::default().labels(&format!("tier={tier}"));
    let maps = tenant.api::<ConfigMap>().list(&labelled).await.expect("a list").items;
    maps.iter().map(ConfigMap::name_any).collect()
}
