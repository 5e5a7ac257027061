//! One operation over the tenants of a workspace: each has one run, whatever the controller dies of,
//! and the record sums up just what they came to.

use crate::scenario::{Expected, Stage, expect};
use crate::support::run::assert_ended;
use crate::support::tenant::of_story;
use crate::support::{Tenant, wait_for};
use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{
    OperationRun, OperationRunStatus, Outcome, Phase, Reason, WorkspaceRun, WorkspaceRunStatus, labels,
    workspace_run::{TenantRunCounts, run_names},
};

impl Stage<'_> {
    /// Two tenants at once, and then the third.
    pub(crate) async fn over_all(&self) -> Vec<Expected> {
        let [one, two, three] = self.tenants else { panic!("three tenants") };
        let name = self.run_over_all(json!({ "parallelism": 2, "waves": [{ "tenants": 2 }] })).await;
        for tenant in [one, three] {
            self.witness.open(&tenant.name);
        }
        // The second tenant of the wave still works.
        assert_ended(&one.completed(name, self.patience).await, Outcome::Succeeded, Reason::Succeeded);
        self.over_all_when("counts the first", |status| status.counts.succeeded == 1).await;
        self.witness.open(&two.name);
        let mut ends = Vec::new();
        for tenant in self.tenants {
            let end = tenant.completed(name, self.patience).await;
            assert_ended(&end, Outcome::Succeeded, Reason::Succeeded);
            ends.push(end);
        }
        let status = self.over_all_ends(Outcome::Succeeded, Reason::Succeeded).await;
        let counts = TenantRunCounts { total: 3, succeeded: 3, ..TenantRunCounts::default() };
        assert_eq!((status.counts, status.progress.as_deref()), (counts, Some("3/3")), "{status:#?}");
        self.sums_are_exact(&status, name, &ends).await;
        let [first, second] = &status.waves[..] else { panic!("two waves: {status:#?}") };
        assert_eq!(first.through.as_ref(), Some(&two.name), "{status:#?}");
        let first_ended = first.completed_at.expect("the end of the first wave");
        assert!(first_ended <= second.started_at && second.completed_at.is_some(), "{status:#?}");
        self.second_wave_waited_for([one, two], three).await;
        let each = || Expected { runs: Some(1), ..expect(1..=1, &[(name, 1..=1)]) };
        vec![each(), each(), each()]
    }

    /// Two of the tenants are at work, and the third waits for its turn.
    pub(crate) async fn over_all_cancel(&self) -> Vec<Expected> {
        let [one, two, _] = self.tenants else { panic!("three tenants") };
        let name = self.run_over_all(json!({ "parallelism": 2 })).await;
        for tenant in [one, two] {
            tenant.running(name, self.patience).await;
        }
        let cancel = Patch::Merge(json!({ "spec": { "cancel": true } }));
        let patched = all(self.tenant).patch(&self.tenant.name, &PatchParams::default(), &cancel).await;
        patched.expect("a workspace run can be cancelled");
        let mut ends = Vec::new();
        for tenant in [one, two] {
            let end = tenant.completed(name, self.patience).await;
            assert_ended(&end, Outcome::Failed, Reason::Cancelled);
            ends.push(end);
            self.no_jobs_in(tenant).await;
        }
        let status = self.over_all_ends(Outcome::Failed, Reason::Cancelled).await;
        let counts = TenantRunCounts { total: 3, failed: 2, skipped: 1, ..TenantRunCounts::default() };
        assert_eq!(status.counts, counts, "{status:#?}");
        self.sums_are_exact(&status, name, &ends).await;
        let begun = || Expected { runs: Some(1), ..expect(1..=1, &[(name, 0..=1)]) };
        vec![begun(), begun(), Expected { runs: Some(0), ..expect(0..=0, &[]) }]
    }

    /// The tenants come into one workspace, and an operation over it is started. Returns the name of
    /// its runs.
    async fn run_over_all(&self, more: Value) -> &'static str {
        gather(self.tenants).await;
        let first = &self.tenant.name;
        let mut spec = json!({ "workspace": { "name": first }, "operation": { "type": self.operation } });
        spec.as_object_mut().expect("fields").extend(more.as_object().expect("fields").clone());
        // A trial's names last as long as the program.
        start(self.tenant, first, &spec).await.0.leak()
    }

    async fn over_all_when(&self, what: &str, is_so: impl Fn(&WorkspaceRunStatus) -> bool) -> WorkspaceRunStatus {
        when(self.tenant, &self.tenant.name, self.patience, what, is_so).await
    }

    async fn over_all_ends(&self, outcome: Outcome, reason: Reason) -> WorkspaceRunStatus {
        let status = self.over_all_when("is completed", |status| status.phase == Phase::Completed).await;
        assert_eq!((status.outcome, status.reason.as_deref()), (outcome, Some(reason.as_str())), "{status:#?}");
        status
    }

    /// Each tenant has its row, which names its run; what the runs counted is summed up. `ends` are
    /// those of the first tenants; the others have no run.
    async fn sums_are_exact(&self, status: &WorkspaceRunStatus, name: &str, ends: &[OperationRunStatus]) {
        let items = ends.iter().filter_map(|end| end.summary_counts);
        let items = items.fold((0, 0), |sum, counts| (sum.0 + counts.total, sum.1 + counts.succeeded));
        let said = status.items.map_or((0, 0), |counts| (counts.total, counts.succeeded));
        assert_eq!(said, items, "{status:#?}");
        assert_eq!((status.tenants.len(), status.tenants_left_out), (self.tenants.len(), 0), "{status:#?}");
        for (number, tenant) in self.tenants.iter().enumerate() {
            let row = status.tenants.iter().find(|row| row.namespace == tenant.name).expect("its row");
            let run = tenant.api::<OperationRun>().get_opt(name).await.expect("runs can be read");
            assert_eq!(run.is_some(), number < ends.len(), "{}: {run:#?}", tenant.name);
            let uid = row.run.as_ref().map(|run| &run.uid);
            assert_eq!(uid, run.as_ref().and_then(|run| run.metadata.uid.as_ref()), "{row:#?}");
            let outcome = ends.get(number).map_or(Outcome::Pending, |end| end.outcome);
            assert_eq!(row.outcome, outcome, "{row:#?}");
        }
    }

    /// The run of the last tenant came after the ends of the others, by the sequence of the API
    /// server's own versions.
    async fn second_wave_waited_for(&self, wave: [&Tenant; 2], last: &Tenant) {
        let lives = |tenant: &Tenant| self.witness.place(&tenant.name).runs.into_values();
        wait_for("all ends were seen", self.patience, async || {
            let ended: Vec<u64> = wave.into_iter().flat_map(lives).filter_map(|life| life.ended).collect();
            let begun: Vec<u64> = lives(last).map(|life| life.begun).collect();
            if ended.len() < 2 || begun.is_empty() {
                return Err(format!("ended {ended:?}, begun {begun:?}"));
            }
            let first = begun.iter().min();
            assert!(first > ended.iter().max(), "the second wave began at {begun:?}, the first ended at {ended:?}");
            Ok(())
        })
        .await;
    }
}

fn all(tenant: &Tenant) -> Api<WorkspaceRun> {
    Api::all(tenant.cluster.client.clone())
}

/// The tenants come into one workspace, with the name of the first.
pub(crate) async fn gather(tenants: &[Tenant]) {
    let (first, namespaces) = (&tenants[0], Api::<Namespace>::all(tenants[0].cluster.client.clone()));
    let label = Patch::Merge(json!({ "metadata": { "labels": { (labels::WORKSPACE): first.name } } }));
    for tenant in tenants {
        namespaces.patch(&tenant.name, &PatchParams::default(), &label).await.expect("the namespace is moved");
    }
}

/// Starts a workspace run. Returns the name of what it creates in each tenant, and its uid.
pub(crate) async fn start(first: &Tenant, name: &str, spec: &Value) -> (String, String) {
    let run = json!({ "metadata": { "name": name, "labels": of_story(first) }, "spec": spec });
    let run = serde_json::from_value(run).expect("a workspace run");
    let made = all(first).create(&PostParams::default(), &run).await.expect("it is created");
    let uid = made.uid().expect("a uid");
    let [child, _] = run_names(name, &uid);
    (child, uid)
}

/// Waits until a workspace run is as described.
pub(crate) async fn when(
    first: &Tenant,
    name: &str,
    patience: Duration,
    what: &str,
    is_so: impl Fn(&WorkspaceRunStatus) -> bool,
) -> WorkspaceRunStatus {
    wait_for(&format!("workspace run {name} {what}"), patience, async || {
        let run = all(first).get(name).await.map_err(|error| error.to_string())?;
        let status = run.status.unwrap_or_default();
        match status.phase {
            _ if is_so(&status) => Ok(status),
            // It will never be otherwise: say so now.
            Phase::Completed => panic!("workspace run {name} is completed, and not: {what}: {status:#?}"),
            _ => Err(format!("{status:#?}")),
        }
    })
    .await
}
