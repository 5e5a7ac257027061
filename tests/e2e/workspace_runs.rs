//! One operation over the tenants of a workspace: one run in each, in waves if asked for, with one record that sums
//! them up.

use crate::bucket::Bucket;
use crate::support::run::assert_ended;
use crate::support::tenant::of_story;
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tenantatlas::api::{
    OperationRun, Outcome, Phase, Reason, WorkspaceRun, WorkspaceRunStatus,
    operation_run::SchedulerKind,
    workspace_run::{TenantRunCounts, run_names},
};

impl Tenant {
    fn workspace_runs(&self) -> Api<WorkspaceRun> {
        Api::all(self.cluster.client.clone())
    }

    /// Starts an operation over a workspace.
    pub(crate) async fn run_over_all(&self, name: &str, spec: Value) -> WorkspaceRun {
        let object = json!({ "metadata": { "name": name, "labels": of_story(self) }, "spec": spec });
        let run = serde_json::from_value(object).expect("a workspace run");
        self.workspace_runs().create(&PostParams::default(), &run).await.expect("it is created")
    }

    /// The end of a workspace run.
    pub(crate) async fn over_all(&self, name: &str) -> WorkspaceRunStatus {
        self.over_all_when(name, "is completed", |status| status.phase == Phase::Completed).await
    }

    pub(crate) async fn over_all_when(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&WorkspaceRunStatus) -> bool,
    ) -> WorkspaceRunStatus {
        wait_for(&format!("workspace run {name} {what}"), SOON * 3, async || {
            let run = self.workspace_runs().get(name).await.map_err(|error| error.to_string())?;
            let status = run.status.unwrap_or_default();
            if is_so(&status) { Ok(status) } else { Err(format!("{status:#?}")) }
        })
        .await
    }

    pub(crate) async fn change_over_all(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        self.workspace_runs().patch(name, &PatchParams::default(), &patch).await.expect("it is changed");
    }

    async fn label(&self, key: &str, value: &str) {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        let label = Patch::Merge(json!({ "metadata": { "labels": { (key): value } } }));
        namespaces.patch(&self.name, &PatchParams::default(), &label).await.expect("it is labelled");
    }

    /// The run of a workspace run in this tenant, whatever it is called.
    async fn run_of(&self, parent: &WorkspaceRun) -> Option<OperationRun> {
        let of = ListParams::default()
            .fields(&format!("spec.scheduledBy.uid={}", parent.metadata.uid.as_deref().unwrap_or_default()));
        let mut found = self.api::<OperationRun>().list(&of).await.expect("runs are listed").items;
        assert!(found.len() <= 1, "{found:#?}");
        found.pop()
    }

    async fn forget_over_all(&self, name: &str) {
        self.workspace_runs().delete(name, &DeleteParams::default()).await.expect("it is deleted");
    }
}

/// Tenants of a workspace of the first one's name.
pub(crate) async fn tenants(story: &str, count: usize) -> Vec<Tenant> {
    let mut tenants = vec![Tenant::new(story).await];
    for number in 1..count {
        let next = tenants[0].beside(&format!("{story}-{number}")).await;
        tenants.push(next);
    }
    for tenant in &tenants {
        tenant.move_to(&json!(tenants[0].name)).await;
    }
    tenants
}

#[tokio::test]
async fn all_tenants_of_a_workspace_are_captured_by_one_record_that_sums_them_up() {
    let bucket = Bucket::new().await;
    let one = Tenant::new("over-all").await;
    let two = one.beside("over-all-2").await;
    let broken = one.beside("over-all-3").await;
    // The repository of the workspace's template is where they are captured; the third has no credentials for it.
    for tenant in [&one, &two] {
        Bucket::keys(tenant);
    }
    let storage = bucket.storage("shop");
    one.join_workspace(json!({ "repository": { "storage": storage, "credentialsSecret": { "name": "keys" } } })).await;
    for tenant in [&two, &broken] {
        tenant.move_to(&json!(one.name)).await;
    }
    for tenant in [&one, &two] {
        tenant.ready("main").await;
    }
    let name = one.name.as_str();
    let spec = json!({ "workspace": { "name": name }, "operation": { "type": "backup.capture" } });
    let run = one.run_over_all(name, spec.clone()).await;
    let requester = run.spec.requested_by.clone().expect("who asked");
    let status = one.over_all(name).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::PartiallySucceeded, Some("PartiallySucceeded")));
    assert_eq!(
        status.counts,
        TenantRunCounts { total: 3, succeeded: 2, failed: 1, ..TenantRunCounts::default() },
        "{status:#?}"
    );
    let first = &status.tenants[0];
    assert_eq!((first.namespace.as_str(), first.outcome), (broken.name.as_str(), Outcome::Blocked));
    assert_eq!(first.reason.as_deref(), Some(Reason::RepositoryNotReady.as_str()));
    let mut items = 0;
    for tenant in [&one, &two] {
        let child = tenant.run_of(&run).await.expect("its run");
        assert_ended(&child.status_or_default(), Outcome::Succeeded, Reason::Succeeded);
        assert_eq!(child.spec.initiator.as_ref(), Some(&requester));
        let by = child.spec.scheduled_by.as_ref().expect("what it is of");
        assert_eq!((by.kind, by.name.as_str()), (SchedulerKind::WorkspaceRun, name));
        items += child.status_or_default().summary_counts.expect("counts").total;
    }
    assert_eq!(status.items.map(|items| items.total), Some(items));
    // For those that did not succeed, again: now with credentials.
    Bucket::keys(&broken);
    broken.ready("main").await;
    let again = format!("{name}-again");
    let mut repeated = spec;
    repeated["rerunOf"] = json!({ "name": name });
    let second = one.run_over_all(&again, repeated).await;
    let status = one.over_all(&again).await;
    assert_eq!((status.outcome, status.progress.as_deref()), (Outcome::Succeeded, Some("1/1")), "{status:#?}");
    assert!(one.run_of(&second).await.is_none(), "it had succeeded");
    // The records of the tenants stay when the workspace run goes.
    one.forget_over_all(name).await;
    one.forget_over_all(&again).await;
    assert!(one.run_of(&run).await.is_some());
    one.workspaces().delete(name, &DeleteParams::default()).await.expect("cleared up");
}

#[tokio::test]
async fn waves_stop_at_the_first_tenant_that_does_not_succeed() {
    let tenants = tenants("waves", 3).await;
    let [one, two, three] = tenants.as_slice() else { panic!("three") };
    let name = one.name.as_str();
    two.label("stage", "canary").await;
    let operation = one.script_type("roll", "true", |_| {}).await;
    let failing = one.script_type("fail", "exit 1", |_| {}).await;
    let waves = json!([{ "tenantSelector": "stage=canary", "waitSeconds": 5 }, { "tenants": 1 }]);
    let spec =
        |operation: &str| json!({ "workspace": { "name": name }, "operation": { "type": operation }, "waves": waves });
    let bad = format!("{name}-bad");
    let run = one.run_over_all(&bad, spec(&failing)).await;
    let status = one.over_all(&bad).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some("StoppedAfterFailures")));
    assert_eq!((status.counts.failed, status.counts.skipped, status.wave), (1, 2, Some(1)), "{status:#?}");
    assert!(two.run_of(&run).await.is_some() && one.run_of(&run).await.is_none() && three.run_of(&run).await.is_none());
    let good = format!("{name}-good");
    one.run_over_all(&good, spec(&operation)).await;
    let waits = |status: &WorkspaceRunStatus| status.reason.as_deref() == Some(Reason::NextWaveWaits.as_str());
    let waiting = one.over_all_when(&good, "waits for its second wave", waits).await;
    assert_eq!((waiting.counts.succeeded, waiting.counts.waiting), (1, 2));
    let status = one.over_all(&good).await;
    assert_eq!((status.outcome, status.waves.len()), (Outcome::Succeeded, 3), "{status:#?}");
    let [first, second, third] = status.waves.as_slice() else { panic!("three waves") };
    assert!(first.completed_at.expect("its end") + std::time::Duration::from_secs(5) <= second.started_at);
    assert!(second.completed_at.expect("its end") <= third.started_at);
    for name in [bad, good] {
        one.forget_over_all(&name).await;
    }
}

#[tokio::test]
async fn a_cancelled_one_stops_its_runs_and_a_second_one_of_the_same_work_is_blocked_by_name() {
    let tenants = tenants("stop-all", 3).await;
    let one = &tenants[0];
    let name = one.name.as_str();
    let operation = one.script_type("long", FOREVER, |_| {}).await;
    let spec = json!({ "workspace": { "name": name }, "operation": { "type": operation }, "parallelism": 2 });
    let run = one.run_over_all(name, spec.clone()).await;
    one.over_all_when(name, "has two active", |status| status.counts.active == 2).await;
    let second = format!("{name}-second");
    one.run_over_all(&second, spec.clone()).await;
    let status = one.over_all(&second).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Blocked, Some(Reason::DuplicateRun.as_str())));
    assert!(status.message.is_some_and(|message| message.contains(&format!("workspace run {name} "))));
    one.change_over_all(name, json!({ "cancel": true })).await;
    let status = one.over_all(name).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some(Reason::Cancelled.as_str())));
    assert_eq!((status.counts.failed, status.counts.skipped), (2, 1), "{status:#?}");
    let mut started = 0;
    for tenant in &tenants {
        if let Some(child) = tenant.run_of(&run).await {
            assert_ended(&child.status_or_default(), Outcome::Failed, Reason::Cancelled);
            started += 1;
        }
    }
    assert_eq!(started, 2);
    for name in [name, &second] {
        one.forget_over_all(name).await;
    }
}

#[tokio::test]
async fn a_tenant_whose_run_cannot_be_cancelled_keeps_no_other_from_being_cancelled() {
    let tenants = tenants("stop-one", 2).await;
    let [first, second] = tenants.as_slice() else { panic!("two tenants") };
    let name = first.name.as_str();
    let operation = first.script_type("long", FOREVER, |_| {}).await;
    let run =
        first.run_over_all(name, json!({ "workspace": { "name": name }, "operation": { "type": operation } })).await;
    first.over_all_when(name, "has two active", |status| status.counts.active == 2).await;
    let kept = first.run_of(&run).await.expect("its run").name_any();
    let blockade = first.blockade_cancels(&kept).await;
    first.change_over_all(name, json!({ "cancel": true })).await;
    // By name, the first one comes first.
    let of_second = second.run_of(&run).await.expect("its run").name_any();
    assert_ended(&second.completed(&of_second, SOON).await, Outcome::Failed, Reason::Cancelled);
    let status =
        first.over_all_when(name, "counts it", |status| status.counts.failed == 1 && status.counts.active == 1).await;
    assert_eq!((status.phase, status.reason.as_deref()), (Phase::Running, Some(Reason::Cancelling.as_str())));
    blockade.lift();
    let status = first.over_all(name).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Failed, Some(Reason::Cancelled.as_str())));
    assert_eq!(status.counts.failed, 2, "{status:#?}");
    first.forget_over_all(name).await;
}

/// What a tenant can write: runs with the names that the operator will choose, a quota, and the deletion of what was
/// made.
#[tokio::test]
async fn a_tenant_can_neither_forge_a_result_nor_have_its_turn_twice() {
    let mut tenants = tenants("forge", 5).await;
    let name = tenants[0].name.clone();
    let operation = tenants[0].script_type("gate", FOREVER, |_| {}).await;
    // Tenants take their turns in the order of their names.
    tenants.sort_by(|one, other| one.name.cmp(&other.name));
    let [gone, held, named, full, last] = tenants.as_slice() else { panic!("five") };
    full.apply(
        &json!({ "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "none" },
            "spec": { "hard": { "count/operationruns.tenantatlas.io": "0" } } })
        .to_string(),
    );
    wait_for("the quota is counted", SOON, async || {
        let counted = full.api::<ResourceQuota>().get("none").await.map_err(|error| error.to_string())?;
        let used = counted.status.and_then(|status| status.used).unwrap_or_default();
        if used.is_empty() { Err("not yet".to_owned()) } else { Ok(()) }
    })
    .await;
    // One at a time, so that the others wait while the first of them is looked at.
    let spec = json!({ "workspace": { "name": name }, "operation": { "type": operation }, "parallelism": 1 });
    let run = gone.run_over_all(&name, spec).await;
    gone.over_all_when(&name, "has one active", |status| status.counts.active == 1).await;
    for taken in run_names(&name, run.metadata.uid.as_deref().expect("a uid")) {
        named.start(&taken, json!({ "type": operation })).await;
    }
    let child = gone.run_of(&run).await.expect("its run").metadata.name.expect("a name");
    gone.api::<OperationRun>().delete(&child, &DeleteParams::default()).await.expect("it is deleted");
    // A finalizer of the tenant keeps the run that it deletes.
    let child = wait_for("the run of the next tenant", SOON * 2, async || {
        held.run_of(&run).await.and_then(|child| child.metadata.name).ok_or_else(|| "none".to_owned())
    })
    .await;
    let stays = |finalizers: Value| json!({ "metadata": { "finalizers": finalizers } });
    held.merge::<OperationRun>(&child, stays(json!(["example.com/stays"]))).await;
    held.api::<OperationRun>().delete(&child, &DeleteParams::default()).await.expect("it is being deleted");
    let kept = child;
    let child = wait_for("the run of the last tenant", SOON * 2, async || {
        last.run_of(&run).await.and_then(|child| child.metadata.name).ok_or_else(|| "none".to_owned())
    })
    .await;
    last.cancel(&child).await;
    let status = gone.over_all(&name).await;
    assert_eq!((status.outcome, status.counts.total, status.counts.failed), (Outcome::Failed, 5, 5), "{status:#?}");
    for (tenant, expected) in [
        (gone, Reason::RunDeleted),
        (held, Reason::RunDeleted),
        (named, Reason::RunNameTaken),
        (full, Reason::QuotaExceeded),
        (last, Reason::Cancelled),
    ] {
        let row = status.tenants.iter().find(|row| row.namespace == tenant.name).expect("its row");
        assert_eq!(row.reason.as_deref(), Some(expected.as_str()), "{row:#?}");
    }
    assert!(gone.run_of(&run).await.is_none(), "it is not done a second time");
    held.merge::<OperationRun>(&kept, stays(Value::Null)).await;
    gone.forget_over_all(&name).await;
}

#[tokio::test]
async fn a_completed_one_is_deleted_after_its_time_and_no_tenant_is_a_clear_refusal() {
    let tenant = Tenant::new("ttl-all").await;
    let name = tenant.name.as_str();
    let spec = json!({ "workspace": { "name": name }, "ttlSecondsAfterFinished": 60,
        "operation": { "type": "backup.capture", "inputs": { "repository": "main" } } });
    let run = tenant.run_over_all(name, spec).await;
    let status = tenant.over_all(name).await;
    assert_eq!((status.outcome, status.reason.as_deref()), (Outcome::Blocked, Some(Reason::NoTenants.as_str())));
    // What a leader creates that had stalled before its request.
    let by = json!({ "kind": "WorkspaceRun", "name": name, "uid": run.metadata.uid });
    let late = json!({ "metadata": { "name": "late" }, "spec": { "type": "backup.capture", "trigger": "workspace_run",
        "inputs": { "repository": "main" }, "scheduledBy": by } });
    tenant.create_as::<OperationRun>(tenant.cluster.as_operator(), late).await.expect("a late run");
    assert_ended(&tenant.completed("late", SOON).await, Outcome::Blocked, Reason::CreatedLate);
    assert!(status.message.is_some_and(|message| message.contains("has no tenant")));
    wait_for("the workspace run is deleted", SOON * 3, async || {
        match tenant.workspace_runs().get_opt(name).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(_) => Err("it is there".to_owned()),
        }
    })
    .await;
}
