//! The same work asked for twice is done once, visibly.

use crate::support::run::assert_ended;
use crate::support::types::FOREVER;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};
use tenantatlas::api::{OperationRun, Outcome, Phase, Reason};

impl Tenant {
    /// How many Jobs were ever created in the tenant, by the API server's own account.
    pub(crate) fn jobs_created(&self) -> usize {
        let created = |request: &crate::support::audit::Request| {
            request.resource == "jobs" && request.verb == "create" && request.subresource.is_empty() && request.wrote()
        };
        self.audit().iter().filter(|request| created(request)).count()
    }
}

/// A type whose Job ends as soon as the file `go` lies in its volume.
async fn gated(tenant: &Tenant, change: impl FnOnce(&mut Value)) -> (String, std::path::PathBuf) {
    let folder = tenant.volume("gate").await;
    let script = "trap 'exit 143' TERM; until [ -e /gate/go ]; do sleep 0.2 & wait $!; done";
    let operation = tenant
        .script_type("gated", script, |spec| {
            let pod = &mut spec["executor"]["jobTemplate"]["spec"]["template"]["spec"];
            pod["containers"][0]["volumeMounts"] = json!([{ "name": "gate", "mountPath": "/gate" }]);
            pod["volumes"] = json!([{ "name": "gate", "persistentVolumeClaim": { "claimName": "gate" } }]);
            change(spec);
        })
        .await;
    (operation, folder.join("go"))
}

#[tokio::test]
async fn a_second_identical_run_joins_the_first_and_ends_as_it_ends() {
    let tenant = Tenant::new("join").await;
    let (operation, go) = gated(&tenant, |_| {}).await;
    tenant.start("first", json!({ "type": operation })).await;
    let first = tenant.running("first", SOON).await;
    tenant.start("second", json!({ "type": operation })).await;
    let second = tenant.running("second", SOON).await;
    let joined = second.joined.expect("status.joined");
    assert_eq!((joined.name.as_str(), second.job), ("first", None), "one Job, and it is the first run's");
    assert_eq!(Some(joined.uid), tenant.run("first").await.metadata.uid);
    assert_eq!(second.reason.as_deref(), Some("Joined"));

    std::fs::write(&go, "").expect("the gate opens");
    let (first_end, second_end) = (tenant.completed("first", SOON).await, tenant.completed("second", SOON).await);
    assert_ended(&first_end, Outcome::Succeeded, Reason::Succeeded);
    assert_eq!(second_end.outcome, Outcome::Succeeded);
    assert_eq!(second_end.identity_hash, first.identity_hash);
    assert_eq!(tenant.jobs_created(), 1);
    let writes: Vec<_> =
        tenant.audit().into_iter().filter(|request| request.by_operator() && request.wrote()).collect();
    let of_second: Vec<_> =
        writes.iter().filter(|request| request.name == "second" && request.subresource == "status").collect();
    assert_eq!(of_second.len(), 2, "one write joins, one copies the end: {of_second:#?}");
}

#[tokio::test]
async fn a_duplicate_that_asks_for_it_is_refused_and_names_the_run_in_its_way() {
    let tenant = Tenant::new("reject").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("first", json!({ "type": operation })).await;
    tenant.running("first", SOON).await;
    tenant.start("second", json!({ "type": operation, "onDuplicate": "Reject" })).await;
    tenant.blocked("second", Reason::DuplicateRun, &["first", "Join"]).await;
    assert_eq!(tenant.status("first").await.phase, Phase::Running, "the first goes on");
}

#[tokio::test]
async fn only_inputs_that_count_make_another_identity() {
    let tenant = Tenant::new("identity").await;
    let operation = tenant.script_type("slow", FOREVER, |spec| spec["identity"] = json!({ "inputs": ["/shop"] })).await;
    let inputs = |shop: &str, note: &str| json!({ "type": operation, "inputs": { "shop": shop, "note": note } });
    tenant.start("first", inputs("berlin", "monday")).await;
    let first = tenant.running("first", SOON).await;
    tenant.start("same", inputs("berlin", "tuesday")).await;
    tenant.start("other", inputs("paris", "monday")).await;
    let same = tenant.running("same", SOON).await;
    let other = tenant.running("other", SOON).await;
    assert_eq!(same.joined.map(|joined| joined.name).as_deref(), Some("first"));
    assert_eq!(other.joined, None);
    assert_ne!(other.identity_hash, first.identity_hash);
    assert_ne!(other.job.map(|job| job.name), first.job.map(|job| job.name));
}

#[tokio::test]
async fn the_same_work_in_two_tenants_is_two_jobs() {
    let tenant = Tenant::new("mine").await;
    let other = tenant.beside("theirs").await;
    let operation = tenant.script_type("slow", FOREVER, |_| {}).await;
    tenant.start("run", json!({ "type": operation })).await;
    other.start("run", json!({ "type": operation })).await;
    let (mine, theirs) = (tenant.running("run", SOON).await, other.running("run", SOON).await);
    assert!(mine.joined.is_none() && theirs.joined.is_none());
    assert_ne!(mine.identity_hash, theirs.identity_hash);
}

#[tokio::test]
async fn when_the_winner_is_cancelled_the_oldest_joiner_starts_a_job_of_its_own() {
    let tenant = Tenant::new("succession").await;
    let (operation, go) = gated(&tenant, |_| {}).await;
    for name in ["first", "second", "third"] {
        tenant.start(name, json!({ "type": operation })).await;
        tenant.running(name, SOON).await;
    }
    let old_job = tenant.status("first").await.job.expect("a Job");
    tenant.merge::<OperationRun>("first", json!({ "spec": { "cancel": true } })).await;
    assert_ended(&tenant.completed("first", SOON).await, Outcome::Failed, Reason::Cancelled);
    // Creation times have whole seconds; within one, the smaller uid counts as the older.
    let mut joiners = [tenant.run("second").await, tenant.run("third").await];
    joiners.sort_by_key(|run| (run.metadata.creation_timestamp.clone().map(|time| time.0), run.metadata.uid.clone()));
    let [oldest, other] = joiners.map(|run| run.metadata.name.expect("a name"));
    let heir = tenant
        .run_when(&oldest, "the owner of a new Job", SOON, |run| run.status_or_default().job.is_some())
        .await
        .status_or_default();
    assert_eq!((heir.phase, heir.joined), (Phase::Running, None), "it never left running");
    let job = heir.job.expect("a Job");
    assert_eq!(job.name, old_job.name, "the identity's one name");
    assert_ne!(job.uid, old_job.uid);
    let joins_heir = |run: &OperationRun| run.status_or_default().joined.is_some_and(|joined| joined.name == oldest);
    tenant.run_when(&other, "joined to the oldest", SOON, joins_heir).await;
    std::fs::write(&go, "").expect("the gate opens");
    for name in ["second", "third"] {
        assert_eq!(tenant.completed(name, SOON).await.outcome, Outcome::Succeeded, "{name}");
    }
    assert_eq!(tenant.jobs_created(), 2);
}

#[tokio::test]
async fn when_the_winner_is_deleted_the_joiner_takes_over() {
    let tenant = Tenant::new("heir").await;
    let (operation, go) = gated(&tenant, |_| {}).await;
    for name in ["first", "second"] {
        tenant.start(name, json!({ "type": operation })).await;
        tenant.running(name, SOON).await;
    }
    let runs: Api<OperationRun> = tenant.api();
    runs.delete("first", &DeleteParams::default()).await.expect("a run can be deleted");
    tenant.run_when("second", "the owner of a Job", SOON, |run| run.status_or_default().job.is_some()).await;
    std::fs::write(&go, "").expect("the gate opens");
    assert_eq!(tenant.completed("second", SOON).await.outcome, Outcome::Succeeded);
}

#[tokio::test]
async fn a_later_identical_run_replaces_the_finished_job_and_only_once_its_pods_are_gone() {
    let tenant = Tenant::new("replaces").await;
    let operation = tenant.script_type("greet", "echo $ATLAS_RUN", |_| {}).await;
    tenant.start("first", json!({ "type": operation })).await;
    let first = tenant.completed("first", SOON).await.job.expect("a Job");
    let jobs: Api<Job> = tenant.api();
    assert!(jobs.get_opt(&first.name).await.expect("Jobs can be read").is_some(), "kept for its log");
    tenant.start("second", json!({ "type": operation })).await;
    let second = tenant.completed("second", SOON).await;
    assert_ended(&second, Outcome::Succeeded, Reason::Succeeded);
    let job = second.job.expect("a Job");
    assert_eq!(job.name, first.name);
    assert_ne!(job.uid, first.uid);
    let log = tenant.cluster.kubectl_prints(&["logs", "--namespace", &tenant.name, &format!("job/{}", job.name)]);
    assert_eq!(log.trim(), "second");
    wait_for("no pod of the first Job is left", SOON, async || {
        let pods = tenant.operation_pods().await;
        let old = pods
            .iter()
            .filter(|pod| pod.metadata.owner_references.iter().flatten().any(|owner| owner.uid == first.uid));
        if old.count() == 0 { Ok(()) } else { Err("a pod of the deleted Job") }
    })
    .await;
    assert_eq!(tenant.jobs_created(), 2);
}
