//! A tenant that queues many runs delays another one's by no more than a slot, under each of the four limits and across
//! types.
//!
//! Runs of these stories end only when the story ends them. Who took the slot of such a run is then on record, however fast
//! the machine is.

use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use futures::{StreamExt as _, stream};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use tenantatlas::api::{OperationRun, Phase, Reason};

/// Runs of the loud tenant, of each of two types.
const MANY: usize = 60;

/// Starts many runs of a type.
async fn start_many(tenant: &Tenant, operation: &str) {
    let start = async |number: usize| {
        let name = format!("{}-{number}", operation.split('.').next().unwrap_or_default());
        tenant.start(&name, json!({ "type": operation, "inputs": { "number": number } })).await;
    };
    stream::iter(0..MANY).map(start).buffer_unordered(16).collect::<()>().await;
}

/// The names of the runs that have started, with their types, once all others say that a limit holds them.
async fn settled(tenant: &Tenant) -> BTreeMap<String, String> {
    wait_for(&format!("each run of {} has started or waits for a slot", tenant.name), SOON, async || {
        let runs =
            tenant.api::<OperationRun>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let (started, others): (Vec<_>, Vec<_>) =
            runs.items.into_iter().partition(|run| run.status_or_default().started_at.is_some());
        let is_silent = |run: &&OperationRun| {
            let waiting = run.status_or_default().waiting;
            waiting.is_none_or(|waiting| waiting.reason != Reason::ConcurrencyLimit.as_str())
        };
        let silent: Vec<_> = others.iter().filter(is_silent).map(ResourceExt::name_any).collect();
        if silent.is_empty() {
            Ok(started.into_iter().map(|run| (run.name_any(), run.spec.operation_type)).collect())
        } else {
            Err(format!("{} do not say so: {silent:?}", silent.len()))
        }
    })
    .await
}

/// The names of the runs that have started.
async fn started(tenant: &Tenant) -> BTreeSet<String> {
    let runs = tenant.api::<OperationRun>().list(&ListParams::default()).await.expect("runs can be listed");
    let started = runs.items.iter().filter(|run| run.status_or_default().started_at.is_some());
    started.map(ResourceExt::name_any).collect()
}

async fn cancel(tenant: &Tenant, name: &str) {
    tenant.merge::<OperationRun>(name, json!({ "spec": { "cancel": true } })).await;
}

/// The quiet tenant's run waits for this limit. When that run of the loud tenant ends, the quiet one's is the next that
/// starts; when it has ended too, it is the loud tenant's turn again.
async fn take_turns(loud: &Tenant, ended: &str, quiet: &Tenant, limit: &str) {
    let status = quiet.waiting("only", Reason::ConcurrencyLimit, SOON).await;
    let message = status.message.unwrap_or_default();
    assert!(message.contains(limit), "{limit:?} is not in: {message}");
    let before = started(loud).await;
    cancel(loud, ended).await;
    wait_for("the slot is taken", SOON, async || {
        let more: Vec<_> = started(loud).await.difference(&before).cloned().collect();
        assert!(more.is_empty(), "before the only run of another tenant, this one started {more:?}");
        let phase = quiet.status("only").await.phase;
        if phase == Phase::Running { Ok(()) } else { Err(format!("{phase:?}")) }
    })
    .await;
    cancel(quiet, "only").await;
    wait_for("the loud tenant goes on", SOON, async || {
        let more = started(loud).await.difference(&before).count();
        if more == 1 { Ok(()) } else { Err(format!("{more} more have started")) }
    })
    .await;
}

#[tokio::test]
async fn the_next_slot_of_a_type_is_the_quiet_tenant_s_however_many_runs_of_two_types_wait() {
    let loud = Tenant::new("loud-type").await;
    let quiet = loud.beside("quiet-type").await;
    let mut types = Vec::new();
    for name in ["one", "other"] {
        types.push(loud.script_type(name, FOREVER, |spec| spec["concurrency"] = json!({ "total": 1 })).await);
        start_many(&loud, &types[types.len() - 1]).await;
    }
    let active = settled(&loud).await;
    assert_eq!(active.values().collect::<BTreeSet<_>>(), types.iter().collect(), "one of each type: {active:?}");
    assert_eq!(active.len(), 2, "{active:?}");
    quiet.start("only", json!({ "type": types[1] })).await;
    let (ended, _) = active.iter().find(|(_, of)| **of == types[1]).expect("one of this type");
    take_turns(&loud, ended, &quiet, "1 active of this type").await;
}

#[tokio::test]
async fn the_limits_of_a_tenant_hold_its_own_runs_and_none_of_another() {
    let loud = Tenant::new("loud-tenant").await;
    let quiet = loud.beside("quiet-tenant").await;
    let two = loud.script_type("two", FOREVER, |spec| spec["concurrency"] = json!({ "perTenant": 2 })).await;
    let any = loud.script_type("any", FOREVER, |_| {}).await;
    for operation in [&two, &any] {
        start_many(&loud, operation).await;
        settled(&loud).await;
    }
    // `limits.maxActiveRunsPerTenant` of the chart is 5.
    let active = settled(&loud).await;
    let of_two = active.values().filter(|of| **of == two).count();
    assert_eq!((active.len(), of_two), (5, 2), "{active:?}");
    for (name, operation, limit) in
        [("late-two", &two, "2 active of this type in this tenant"), ("late-any", &any, "5 active in this tenant")]
    {
        loud.start(name, json!({ "type": operation })).await;
        let status = loud.waiting(name, Reason::ConcurrencyLimit, SOON).await;
        let message = status.message.unwrap_or_default();
        assert!(message.contains(limit), "{limit:?} is not in: {message}");
    }
    for operation in [&two, &any] {
        let name = if operation == &two { "two" } else { "any" };
        quiet.start(name, json!({ "type": operation })).await;
        quiet.running(name, SOON).await;
    }
    assert_eq!(started(&loud).await, active.into_keys().collect(), "no slot of the loud tenant has come free");
}

#[tokio::test]
async fn a_tenant_with_many_queued_runs_does_not_delay_anothers_first() {
    let tenant = Tenant::new("many").await;
    let other = tenant.beside("few").await;
    let operation = tenant.script_type("two", "sleep 1", |spec| spec["concurrency"] = json!({ "total": 2 })).await;
    for number in 0..10 {
        tenant.start(&format!("run-{number}"), json!({ "type": operation, "inputs": { "number": number } })).await;
    }
    tenant.running("run-0", SOON).await;
    other.start("only", json!({ "type": operation })).await;
    let only = other.completed("only", SOON).await.started_at.expect("startedAt");
    let mut before = BTreeMap::new();
    for number in 0..10 {
        let name = format!("run-{number}");
        let status = tenant.status(&name).await;
        if status.started_at.is_some_and(|started| started < only) {
            before.insert(name, status.started_at);
        }
    }
    // Those that had started when it came, and the one that may take a slot in the same moment.
    assert!(before.len() <= 4, "its turn came after {before:#?}");
}

/// No other story runs beside these: the limit is the operator's, for all tenants.
mod alone {
    use super::*;
    use crate::support::cluster::environment;
    use kube::api::Api;
    use std::time::{Duration, Instant};

    const SETTING: &str = "ATLAS_MAX_ACTIVE_RUNS";

    /// The operator lets this many runs be active at once, for as long as this lives.
    struct MostActive<'a> {
        tenant: &'a Tenant,
        before: String,
    }

    impl<'a> MostActive<'a> {
        async fn of(tenant: &'a Tenant, runs: usize) -> Self {
            let value = format!(
                "--output=jsonpath={{.items[0].spec.template.spec.containers[0].env[?(@.name==\"{SETTING}\")].value}}"
            );
            let before = tenant.cluster.kubectl_prints(&deployment(&["get"], &[&value]));
            assert!(before.parse::<usize>().is_ok(), "{SETTING} of the operator is {before:?}");
            let set = Self { tenant, before };
            set.to(&runs.to_string()).expect("the operator can be given another limit");
            // The process with the old limit may still have been the leader.
            tenant.cluster.leader().await;
            set
        }

        /// What `limits.maxActiveRuns` of the chart does.
        fn to(&self, runs: &str) -> Result<(), String> {
            let setting = format!("{SETTING}={runs}");
            for arguments in
                [deployment(&["set", "env"], &[&setting]), deployment(&["rollout", "status"], &["--timeout=3m"])]
            {
                let output = self.tenant.cluster.kubectl(&arguments);
                if !output.status.success() {
                    return Err(String::from_utf8_lossy(&output.stderr).into_owned());
                }
            }
            Ok(())
        }
    }

    impl Drop for MostActive<'_> {
        fn drop(&mut self) {
            if let Err(error) = self.to(&self.before) {
                eprintln!("the operator's {SETTING} is not {} again: {error}", self.before);
            }
        }
    }

    /// Arguments of kubectl about the operator's Deployment.
    fn deployment<'a>(action: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
        let selector = ["deployment", "--selector=app.kubernetes.io/name=tenantatlas", "--namespace"];
        [action, &selector, &[OPERATOR.get_or_init(|| environment("ATLAS_OPERATOR_NAMESPACE"))], rest].concat()
    }

    static OPERATOR: std::sync::OnceLock<String> = std::sync::OnceLock::new();

    /// How many runs have a Job that stories before this one have left. Those that end soon are waited for.
    async fn left_active(tenant: &Tenant) -> usize {
        let runs: Api<OperationRun> = Api::all(tenant.cluster.client.clone());
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            let listed = runs.list(&ListParams::default()).await.expect("runs can be listed").items;
            let active =
                listed.iter().filter(|run| !run.is_completed() && run.status_or_default().job.is_some()).count();
            if active == 0 || Instant::now() > until {
                return active;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test]
    async fn the_next_slot_of_the_cluster_is_the_quiet_tenant_s_whatever_types_wait() {
        let loud = Tenant::alone("loud-cluster").await;
        let quiet = loud.beside("quiet-cluster").await;
        let most = 2 + left_active(&loud).await;
        let _limit = MostActive::of(&loud, most).await;
        for name in ["one", "other"] {
            let operation = loud.script_type(name, FOREVER, |_| {}).await;
            start_many(&loud, &operation).await;
        }
        let active = settled(&loud).await;
        assert_eq!(active.len(), 2, "{active:?}");
        let operation = quiet.script_type("own", FOREVER, |_| {}).await;
        quiet.start("only", json!({ "type": operation })).await;
        let (ended, _) = active.iter().next().expect("one that is active");
        take_turns(&loud, ended, &quiet, &format!("{most} active in the cluster")).await;
    }
}
