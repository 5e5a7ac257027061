//! A process is killed in the middle of the main job. Nothing is lost and nothing is done twice: one Job for the
//! identity (the API server counts), one snapshot for the run (restic counts), one backup set, one outcome.

use crate::support::operator::kill;
use crate::support::repository::Restic;
use crate::support::run::assert_ended;
use crate::support::{SOON, Tenant, wait_for};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use serde_json::{Value, json};
use std::time::Duration;
use tenantatlas::api::{BackupSet, OperationRun, OperationRunStatus, Outcome, Phase, Reason};

/// A new leader waits until the dead one's Lease has run out.
const TAKEN_OVER: Duration = Duration::from_secs(150);

/// A tenant with enough in it that a capture takes a moment.
async fn tenant(story: &str) -> (Tenant, Restic) {
    let tenant = Tenant::alone(story).await;
    let restic = tenant.repository("main").await;
    (tenant, restic)
}

/// Fills the tenant, so that a capture can be met in its middle.
fn fill(tenant: &Tenant, objects: usize) {
    let maps: Vec<Value> = (0..objects)
        .map(|number| {
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": format!("map-{number:04}") },
                "data": { "text": format!("{number} of many, ").repeat(300) } })
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": maps });
    tenant.cluster.kubectl_reads(&["create", "--namespace", &tenant.name, "--filename", "-"], &list.to_string());
}

impl Tenant {
    async fn start_capture(&self) {
        self.start("backup", json!({ "type": "backup.capture", "inputs": { "repository": "main" } })).await;
    }

    /// The Job of the run, as soon as it is there; whether or not the run says so.
    async fn job_of_run(&self) -> Job {
        let uid = self.run("backup").await.metadata.uid;
        wait_for("the Job of the run", SOON, async || {
            let jobs = self.jobs().await;
            let owned = |job: &Job| {
                let owner = job.metadata.owner_references.iter().flatten().next();
                owner.map(|owner| &owner.uid) == uid.as_ref()
            };
            jobs.into_iter().find(owned).ok_or_else(|| self.look())
        })
        .await
    }

    /// The end of the story: done once, whatever was killed.
    async fn done_once(&self, restic: &Restic) -> OperationRunStatus {
        let status = self.completed("backup", TAKEN_OVER).await;
        assert_ended(&status, Outcome::Succeeded, Reason::Succeeded);
        let run = self.run("backup").await;
        let snapshots = restic.snapshots_of(&run);
        assert_eq!(snapshots.len(), 1, "one snapshot for the run: {snapshots:#?}");
        restic.prints(&["check", "--read-data"]);
        let sets = self.api::<BackupSet>().list(&ListParams::default()).await.expect("sets can be listed").items;
        assert_eq!(sets.len(), 1, "one backup set");
        assert_eq!(snapshots[0]["id"], sets[0].spec.snapshot.as_str());
        assert_eq!(status.context.backup_set, sets[0].metadata.name);
        let job = status.job.as_ref().expect("a Job");
        let created = self.audit().into_iter().filter(|request| {
            request.resource == "jobs" && request.verb == "create" && request.wrote() && request.name == job.name
        });
        assert_eq!(created.count(), 1, "one Job for the identity");
        let phases: Vec<Phase> = status.transitions.iter().map(|transition| transition.phase).collect();
        assert_eq!(phases, [Phase::Running, Phase::Completed], "each change recorded once");
        status
    }

    /// The running pod of the run.
    async fn worker_pod(&self) -> Pod {
        wait_for("the worker runs", SOON, async || {
            let running = |pod: &Pod| {
                let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
                statuses.into_iter().any(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()))
            };
            let uid = self.run("backup").await.metadata.uid.expect("a uid");
            let of_run = |pod: &Pod| {
                let labels = pod.metadata.labels.as_ref();
                labels.and_then(|labels| labels.get(tenantatlas::api::labels::RUN_UID)) == Some(&uid)
            };
            self.operation_pods().await.into_iter().find(|pod| of_run(pod) && running(pod)).ok_or_else(|| self.look())
        })
        .await
    }
}

#[tokio::test]
async fn the_operator_is_dead_when_the_run_is_created() {
    let (tenant, restic) = tenant("crash-created").await;
    tenant.cluster.kill_leader().await;
    tenant.start_capture().await;
    tenant.done_once(&restic).await;
}

#[tokio::test]
async fn the_operator_dies_between_the_job_and_the_status_that_records_it() {
    let (tenant, restic) = tenant("crash-job").await;
    // A run that is already there proves the blockade; it never starts.
    tenant.start("probe", json!({ "type": "no.such.type" })).await;
    tenant.completed("probe", SOON).await;
    let blockade = tenant.blockade_statuses("probe").await;
    tenant.start_capture().await;
    let job = tenant.job_of_run().await;
    assert_eq!(tenant.status("backup").await.phase, Phase::Queued, "the Job is there, and nobody has said so");
    tenant.cluster.kill_leader_and_free_its_lease().await;
    blockade.lift();
    let status = tenant.done_once(&restic).await;
    assert_eq!(status.job.map(|job| job.uid), job.metadata.uid, "the Job was found again, not made anew");
}

#[tokio::test]
async fn the_worker_dies_while_it_lists() {
    let (tenant, restic) = tenant("crash-list").await;
    fill(&tenant, 1200);
    tenant.start_capture().await;
    let worker = tenant.worker_pod().await;
    assert!(kill(&worker) > 0, "there was a process to kill");
    let status = tenant.done_once(&restic).await;
    assert!(status.attempts >= Some(2), "it was tried again: {:?}", status.attempts);
    let files = restic.files(&snapshot(&tenant).await);
    assert_eq!(files.iter().filter(|file| file.contains("/ConfigMap/map-")).count(), 1200, "whole");
}

#[tokio::test]
async fn the_worker_dies_after_its_snapshot_is_stored_and_before_it_reports() {
    let (tenant, restic) = tenant("crash-stored").await;
    fill(&tenant, 1200);
    let folder = restic.folder().join("snapshots");
    // The first snapshot makes the folder. A file under another name than its hash is still being written.
    let stored = move || {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        files.filter(|file| file.file_name().len() == 64).count()
    };
    let before = stored();
    tenant.start_capture().await;
    let worker = tenant.worker_pod().await;
    // As fast as can be: after the file is there, the worker reads it back, and then it is too late.
    let watch = std::thread::spawn(move || {
        let started = std::time::Instant::now();
        while stored() == before && started.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(1));
        }
        kill(&worker)
    });
    let killed = tokio::task::spawn_blocking(move || watch.join()).await.expect("a thread").expect("a count");
    let status = tenant.done_once(&restic).await;
    if killed > 0 && status.attempts >= Some(2) {
        assert!(status.message.unwrap_or_default().contains("earlier attempt"), "it says what it found");
    }
}

#[tokio::test]
async fn the_operator_dies_after_the_snapshot_and_before_the_backup_set() {
    let (tenant, restic) = tenant("crash-snapshot").await;
    let blockade = tenant.blockade_backup_sets().await;
    tenant.start_capture().await;
    let job = tenant.running("backup", SOON).await.job.expect("a Job");
    tenant.job_complete(&job.name).await;
    assert_eq!(tenant.status("backup").await.phase, Phase::Running, "not completed without its backup set");
    tenant.cluster.kill_leader_and_free_its_lease().await;
    blockade.lift();
    tenant.done_once(&restic).await;
}

#[tokio::test]
async fn the_operator_dies_between_the_backup_set_and_the_status_that_completes_the_run() {
    let (tenant, restic) = tenant("crash-set").await;
    tenant.start_capture().await;
    tenant.running("backup", SOON).await;
    let blockade = tenant.blockade_statuses("backup").await;
    wait_for("the backup set", SOON, async || {
        let sets = tenant.api::<BackupSet>().list(&ListParams::default()).await.expect("sets can be listed").items;
        if sets.is_empty() { Err(tenant.look()) } else { Ok(()) }
    })
    .await;
    let was_in_time = !tenant.run("backup").await.is_completed();
    tenant.cluster.kill_leader_and_free_its_lease().await;
    blockade.lift();
    tenant.done_once(&restic).await;
    assert!(was_in_time, "the capture was over before the blockade stood: nothing was tested");
}

/// The snapshot of the tenant's one backup set.
async fn snapshot(tenant: &Tenant) -> String {
    let sets = tenant.api::<BackupSet>().list(&ListParams::default()).await.expect("sets can be listed").items;
    sets.into_iter().next().expect("a set").spec.snapshot
}

impl Tenant {
    async fn job_complete(&self, name: &str) {
        let jobs: kube::Api<Job> = self.api();
        wait_for("the Job is complete", SOON, async || {
            let job = jobs.get(name).await.map_err(|error| error.to_string())?;
            let conditions = job.status.and_then(|status| status.conditions).unwrap_or_default();
            if conditions.iter().any(|condition| condition.type_ == "Complete") { Ok(()) } else { Err(self.look()) }
        })
        .await;
    }
}

/// A run that nobody looked at while the operator was down is found by its successor, and so is one whose time is up.
#[tokio::test]
async fn what_happened_while_no_operator_lived_is_caught_up_with() {
    let tenant = Tenant::alone("crash-backlog").await;
    let operation = tenant.script_type("quick", "true", |_| {}).await;
    let slow = tenant.script_type("slow", "sleep 3", |_| {}).await;
    tenant.start("ends", json!({ "type": slow })).await;
    tenant.running("ends", SOON).await;
    tenant.cluster.kill_leader().await;
    tenant.start("new", json!({ "type": operation })).await;
    tenant.start("cancelled", json!({ "type": operation, "inputs": { "n": 1 } })).await;
    tenant.merge::<OperationRun>("cancelled", json!({ "spec": { "cancel": true } })).await;
    for (name, outcome, reason) in [
        ("ends", Outcome::Succeeded, Reason::Succeeded),
        ("new", Outcome::Succeeded, Reason::Succeeded),
        ("cancelled", Outcome::Failed, Reason::Cancelled),
    ] {
        assert_ended(&tenant.completed(name, TAKEN_OVER).await, outcome, reason);
    }
    assert_eq!(tenant.jobs().await.len(), 2);
}
